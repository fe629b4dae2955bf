"""The tick that has nothing to do: as cheap as a process can be.

A full tick that found nothing leaves a stamp: until when nothing can become due, and the state of
everything whose change could matter. If all of it still holds, there is nothing to decide. What is
read here is a fixed number of file states, whatever lies in the queue's folders.

Only builtins and one C module are imported, for the interpreter's start is most of an idle tick.

The stamp is plain text, and is believed only if it names the mark that `init` left in the git
folder as that is on this disk: a stamp that came with a commit cannot know it, and no bytes of it
are ever more than compared and read as numbers.
"""

import fcntl
import os
import time

#: Written into the stamp; a stamp of another version is no stamp.
VERSION = "2"
#: Nothing is trusted for longer (seconds), whatever the stamp says.
LONGEST = 600.0


def mark(path: str) -> "tuple[int, int, int] | None":
    """Return what changes when a file is written or a folder's entries change."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size if found.st_mode & 0o100000 else 0)


def write_stamp(path: str, now: float, wake: float, watched: "list[str]") -> bool:
    """Leave word that nothing is to be done before `wake` unless something in `watched` changes.

    Refused (False) while something was changed so recently that a second change might not show:
    file times advance by the kernel's clock tick only.
    """
    proof = _proof(path)
    marks = {name: mark(name) for name in (proof, *watched)}
    if marks[proof] is None:
        return False
    newest = max((known[1] for name in watched if (known := marks[name])), default=0)
    if newest / 1e9 > now - 0.1:
        return False
    words = [VERSION, repr(now), repr(min(wake, now + LONGEST))]
    for name, known in marks.items():
        words += [name, _shown(known)]
    # As `files.beside_of` would call it.
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(beside, flags, 0o600), "wb") as file:
        file.write(os.fsencode("\0".join(words)))
    os.replace(beside, path)
    return True


def _shown(known: "tuple[int, int, int] | None") -> str:
    return "-" if known is None else "{} {} {}".format(*known)


def _proof(stamp: str) -> str:
    """Return the path of the clone's own mark (`clone.MARK`), from that of the stamp."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(stamp)))
    return root + "/.git/orchestrator.json"


def _holds(path: str, now: float) -> bool:
    """Whether the stamp at `path` is ours, not over, and everything is still as it says."""
    # Neither a link nor a pipe: nobody may keep us waiting here.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        version, written, wake, *watched = os.fsdecode(file.read(1 << 20)).split("\0")
    names, known = watched[::2], watched[1::2]
    if version != VERSION or len(names) != len(known) or names[:1] != [_proof(path)]:
        return False
    # A clock that was moved back makes every recorded time doubtful.
    if not float(written) <= now < float(wake) <= float(written) + LONGEST:
        return False
    return known[0] != "-" and all(map(str.__eq__, map(_shown, map(mark, names)), known))


def nothing_to_do() -> bool:
    """Return True when this tick is over already, its time recorded; False: run a whole one."""
    if "ORCHESTRATOR_PROJECT" in os.environ:
        return False
    home = _home(os.getcwd())
    if home is None:
        return False
    try:
        if not _holds(home + "/cache/idle", time.time()):
            return False
    except (OSError, ValueError):
        return False
    return _record(home + "/scheduler.lock")


def _home(folder: str) -> "str | None":
    """Return the `.orchestrator` of the main worktree we are in, if that is plain to see."""
    while True:
        if os.path.lexists(folder + "/.git"):
            # A file means a linked worktree or a submodule: for those git must be asked.
            return folder + "/.orchestrator" if os.path.isdir(folder + "/.git") else None
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _record(path: str) -> bool:
    """Record the tick's time on the lock's file; False when another tick is at work."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.utime(descriptor)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
