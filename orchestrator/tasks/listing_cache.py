"""What a listing of a long queue remembers, so that the next one reads only what has changed.

A file is believed to be as it was when inode, time of change (ctime) and size are; a time of change
so young that another one could still get the same is not trusted. Anything odd about what was kept
means that nothing was. Short queues are read afresh each time.

What was kept is believed, and unmarshalled, only if its first line names the mark that `init` left
in the git folder as that is on this disk: a file that came with a commit cannot know it.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib

from orchestrator import idle, model
from orchestrator.model import Task
from orchestrator.system import files
from orchestrator.tasks import header, history, task_file

#: From so many files on, remembering costs less than reading.
LEAST = 200
#: Nanoseconds after which a changed file gets another time of change: file systems count by the
#: kernel's tick, 10 ms at the most.
_SETTLED = 50_000_000

Stamp = tuple[int, int, int]


def stamp(found: os.stat_result) -> Stamp:
    """Return what changes whenever a file is written, replaced or moved."""
    return (found.st_ino, found.st_ctime_ns, found.st_size)


class Summaries:
    """The tasks of one folder's files by name; in the place of a task, why a file is none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept = _read(path)
        self._now: dict[str, tuple[Stamp, tuple[object, ...] | str]] = {}
        self._missed = 0

    def find(self, entry: os.DirEntry[str]) -> Task | str | None:
        """Return what a file was when it was last read; None when it has to be read (again)."""
        kept = self._kept.get(entry.name)
        if kept is None:
            return None
        try:
            if kept[0] != stamp(entry.stat(follow_symlinks=False)):
                return None
        except OSError:
            return None
        self._now[entry.name] = kept
        return kept[1] if isinstance(kept[1], str) else Task._make(kept[1])

    def put(self, name: str, seen: Stamp, now: int, task: Task | str) -> None:
        """Remember what a file is, by its stamp of just before it was read, at `now` (ns)."""
        self._missed += 1
        if now - seen[1] > _SETTLED:
            self._now[name] = (seen, task if isinstance(task, str) else tuple(task))

    def save(self) -> None:
        """Keep what is known now, if that is worth the writing. Not flushed: it may be lost."""
        # Writing one costs a twentieth of reading one again, which every listing to come would do.
        if self._missed < max(LEAST // 2, len(self._now) // 50):
            return
        proof = _proof(self._path)
        if proof is None:
            return
        body = marshal.dumps(self._now)
        beside = files.beside_of(self._path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(beside, flags, 0o600), "wb") as file:
                file.write(_head(self._path, body, proof) + b"\n" + body)
            os.replace(beside, self._path)
        except OSError:
            # A full disk, or a folder that is gone: the next listing reads everything again.
            files.remove(beside)


def _read(path: str) -> dict[str, tuple[Stamp, tuple[object, ...] | str]]:
    proof = _proof(path)
    if proof is None:
        return {}
    try:
        head, _, body = files.read_regular(path).partition(b"\n")
    except OSError:
        return {}
    if head != _head(path, body, proof):
        return {}
    kept: dict[str, tuple[Stamp, tuple[object, ...] | str]] = marshal.loads(body)
    return kept


def _proof(path: str) -> str | None:
    """Return what only this disk knows: the state of the clone's own mark (`clone.MARK`)."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(path)))
    known = idle.mark(os.path.join(root, ".git", "orchestrator.json"))
    return None if known is None else repr(known)


def _head(path: str, body: bytes, proof: str) -> bytes:
    """Return a line that changes with the bytes, our code, Python, and the project's place."""
    modules = (header, history, model, task_file)
    code = [os.stat(each.__file__ or "").st_mtime_ns for each in modules]
    words = (sys.hexversion, code, Task._fields, zlib.crc32(body), proof, path)
    return " ".join(map(str, words)).encode("utf-8", "surrogateescape")
