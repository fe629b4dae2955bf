"""Runs inside the product's processes: counts every call that changes the world, and dies at one.

`crash.py` puts this beside a copy of the package whose `__main__.py` calls `install` first. Two
variables, which every process of ours hands on, say what to do:

    KILL_LOG   a folder: each point met is a line of the file named for the process's kind, and
               `killed` says where a process died
    KILL_AT    `<kind> <number>`: the process that meets this kind's so-manieth point (from 0) kills
               itself there with SIGKILL, before the call

A kind is what a process is at work on: `tick`, `after-run`, `landing`, the supervisor's stages
`prepare`, `watch` and `conclude`, and the forked child `client`. Nothing here knows
what the product does: only operating-system calls are watched, by audit hook (PEP 578) where they
raise events and by a wrapper where they do not. Reading is no point, nor is what the interpreter
writes for itself. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable
from typing import Any

#: Bytes of a line in a kind's file: a point's number is its place in the file.
WIDTH = 120
#: A module of the product: in the package itself, or in one of its rooms.
_PRODUCT = re.compile(r"/orchestrator/([a-z]+/)*\w+\.py$")
#: The function that forks, and what its child is.
_CHILDREN = {
    ("supervisor", "start"): "prepare",
    ("launch", "start"): "client",
}
_STAGES = {"running": "watch", "concluding": "conclude"}
_PROCESSES = {"_after_run": "after-run", "_land": "landing"}
#: Commands that only read: a kill about them leaves what a kill at the next point leaves.
_READING = {
    *("check-ignore", "config --get", "config --null", "diff", "for-each-ref", "ls-files"),
    *("ls-remote", "merge-base", "rev-list", "rev-parse", "status", "symbolic-ref"),
    *("worktree list", "gh pr list", "gh pr view"),
}
#: Those whose next word says what they do.
_WITH_A_WORD = ("config", "worktree")
_OPENS_ANEW = os.O_CREAT | os.O_TRUNC

_open, _write, _close, _lseek = os.open, os.write, os.close, os.lseek


class _Here:
    """This process."""

    kind = ""
    log = ""
    at: tuple[str, int] | None = None
    #: What we do ourselves is no point.
    busy = False
    #: What the child of the fork under way will be.
    child = ""


def install(words: list[str]) -> None:
    """Begin to count. `words` are the product's command line."""
    _Here.log = os.environ.get("KILL_LOG", "")
    if not _Here.log:
        return
    kind, _, number = os.environ.get("KILL_AT", "").rpartition(" ")
    _Here.at = (kind, int(number)) if kind else None
    _Here.kind = _kind(words)
    os.write = _before(os.write, _written, half=True)  # type: ignore[assignment]
    os.pwrite = _before(os.pwrite, _written)  # type: ignore[assignment]
    os.fsync = _before(os.fsync, lambda descriptor: f"fsync {_name_of(descriptor)}")
    os.open = _opening(os.open)  # type: ignore[assignment]
    os.register_at_fork(after_in_child=_in_child)
    sys.addaudithook(_audit)
    point("begins")


def become(words: list[str]) -> None:
    """Count as another kind from now on: the process goes on with another command line."""
    if _Here.log and _kind(words) != _Here.kind:
        _Here.kind = _kind(words)
        point("begins")


def _kind(words: list[str]) -> str:
    word = words[0] if words else "nothing"
    if word != "_run":
        return _PROCESSES.get(word, word)
    with open(os.path.join(words[1], "run.json"), encoding="utf-8") as file:
        return _STAGES.get(json.load(file)["status"], "prepare")


def _in_child() -> None:
    _Here.kind = _Here.child or f"child of {_Here.kind}"


# --- a point -----------------------------------------------------------------------------------


def point(what: str) -> None:
    """Note a point; die if it is the one to die at."""
    if _note(what):
        _die(what)


def _note(what: str) -> bool:
    """Write a point down; return whether it is the one to die at."""
    number = _append(what)
    return (_Here.kind, number) == _Here.at


def _append(what: str) -> int:
    _Here.busy, was = True, _Here.busy
    try:
        line = what.encode("ascii", "replace")[: WIDTH - 1].ljust(WIDTH - 1) + b"\n"
        path = os.path.join(_Here.log, _Here.kind)
        descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        _write(descriptor, line)
        end = _lseek(descriptor, 0, os.SEEK_CUR)
        _close(descriptor)
        return end // WIDTH - 1
    finally:
        _Here.busy = was


def _die(what: str) -> None:
    _Here.busy = True
    said = {"kind": _Here.kind, "what": what, "pid": os.getpid(), "at": time.monotonic()}
    beside = os.path.join(_Here.log, f"killed.{os.getpid()}")
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(said, file)
    os.rename(beside, os.path.join(_Here.log, "killed"))
    os.kill(os.getpid(), 9)


# --- what is watched ---------------------------------------------------------------------------


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _Here.busy or event not in _EVENTS:
        return
    _Here.busy = True
    try:
        what = _EVENTS[event](*arguments)
    finally:
        _Here.busy = False
    if what and "__pycache__" not in what:
        point(what)


def _opened(path: Any, mode: str | None, flags: int) -> str | None:
    """Opening changes the world when it makes the file or empties it."""
    if not isinstance(path, str) or not flags & _OPENS_ANEW or path.startswith("/dev/"):
        return None
    if os.path.exists(path) and not flags & os.O_TRUNC:
        return None
    return f"open {_name(path)}"


def _about(word: str, *, new: bool = False) -> Callable[..., str | None]:
    """A call on one path, which is no change if it cannot succeed."""

    def describe(path: Any, *_: Any) -> str | None:
        if isinstance(path, int):
            return f"{word} {_name_of(path)}"
        if os.path.lexists(path) == new:
            return None
        return f"{word} {_name(os.fsdecode(path))}"

    return describe


def _renamed(source: Any, target: Any, *_: Any) -> str:
    return f"rename {_name(os.fsdecode(source))} to {_name(os.fsdecode(target))}"


def _forks() -> str:
    """Remember, from the function that forks, what its child will be."""
    frame = sys._getframe(1)
    while frame.f_back and not _PRODUCT.search(frame.f_code.co_filename):
        frame = frame.f_back
    module = os.path.basename(frame.f_code.co_filename).removesuffix(".py")
    _Here.child = _CHILDREN.get((module, frame.f_code.co_name), "")
    return f"fork {_Here.child}"


def _popen(executable: Any, words: Any, *_: Any) -> str | None:
    _watch_popen()
    command = _command(words)
    return None if _only_reads(command) else f"{command} starts"


def _only_reads(command: str) -> bool:
    return command.removeprefix("git ") in _READING


_EVENTS: dict[str, Callable[..., str | None]] = {
    "open": _opened,
    "os.rename": _renamed,
    "os.remove": _about("unlink"),
    "os.rmdir": _about("rmdir"),
    "os.mkdir": _about("mkdir", new=True),
    "os.truncate": _about("truncate"),
    "os.utime": _about("utime"),
    "os.link": _about("link"),
    "os.symlink": _about("symlink"),
    "os.chmod": _about("chmod"),
    "os.fork": _forks,
    "os.exec": lambda path, words, environment: f"exec {_last_words(words)}",
    "os.kill": lambda pid, number: f"kill {number}",
    "os.killpg": lambda pid, number: f"killpg {number}",
    "subprocess.Popen": _popen,
}


def _before(
    call: Callable[..., Any], describe: Callable[..., str], *, half: bool = False
) -> Callable[..., Any]:
    """Wrap a call that raises no audit event. `half`: a kill may also let it do a part only."""

    def wrapped(*arguments: Any) -> Any:
        if not _Here.busy:
            what = describe(*arguments)
            parts = half and len(arguments[1]) > 1 and _is_file(arguments[0])
            if parts and _note(f"{what} in part"):
                _write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                _die(f"{what} in part")
            point(what)
        return call(*arguments)

    return wrapped


def _written(descriptor: int, *_: Any) -> str:
    return f"write {_name_of(descriptor)}"


def _opening(call: Callable[..., int]) -> Callable[..., int]:
    """Wrap os.open: a kill may come when the file is made and nothing is in it yet."""

    def wrapped(path: Any, flags: int, *more: Any, **named: Any) -> int:
        made = not _Here.busy and _opened(path, None, flags)
        descriptor = call(path, flags, *more, **named)
        if made and "__pycache__" not in made:
            point(f"{made}: made")
        return descriptor

    return wrapped


def _watch_popen() -> None:
    """Have points while a command runs and when it has ended."""
    from subprocess import Popen

    if getattr(Popen, "_is_watched", False):
        return
    Popen._is_watched = True  # type: ignore[attr-defined]
    for name in ("communicate", "wait"):
        setattr(Popen, name, _ending(getattr(Popen, name)))


def _ending(call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(child: Any, *arguments: Any, **named: Any) -> Any:
        command = _command(child.args)
        if getattr(child, "_is_awaited", False) or _only_reads(command):
            return call(child, *arguments, **named)
        child._is_awaited = True
        point(f"{command} runs")
        found = call(child, *arguments, **named)
        point(f"{command} ended")
        return found

    return wrapped


# --- names that are the same in every project ---------------------------------------------------


def _command(words: Any) -> str:
    words = [os.fsdecode(word) for word in words]
    if os.path.basename(words[0]) != "git":
        return " ".join(("sh", words[-1]) if words[0] == "/bin/sh" else words[:3])
    rest = iter(words[1:])
    kept = [word for word in rest if word != "-c" or not next(rest)]
    return " ".join(["git", *kept[: 2 if kept[0] in _WITH_A_WORD else 1]])


def _last_words(words: Any) -> str:
    """Of our own programs the word that says which; of the client its program."""
    found = [word for word in map(os.fsdecode, words) if re.fullmatch(r"_[a-z]+(_[a-z]+)*", word)]
    return found[0] if found else "client"


def _name(path: str) -> str:
    """A path's last two parts, without run ids, process ids and the like."""
    parts = path.rstrip("/").split("/")[-2:]
    kept = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{11}", "RUN", "/".join(parts))
    return re.sub(r"REVIEW-[0-9a-f]+", "REVIEW", re.sub(r"\.\d+\.tmp", ".tmp", kept))


def _name_of(descriptor: int) -> str:
    if not _is_file(descriptor):
        return "pipe"
    try:
        return _name(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        return "file"


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
