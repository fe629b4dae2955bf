"""The tick that has nothing to do: as cheap as a process can be.

A full tick that found nothing leaves a stamp: until when nothing can become due, and the state of
everything whose change could matter. If all of it still holds, there is nothing to decide. What is
read here is a fixed number of file states, whatever lies in the queue's folders.

Only builtins and two C modules are imported, for the interpreter's start is most of an idle tick.
"""

import fcntl
import marshal
import os
import time

#: Written into the stamp; a stamp of another version is no stamp.
VERSION = 1
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
    marks = {name: mark(name) for name in watched}
    newest = max((m[1] for m in marks.values() if m), default=0)
    if newest / 1e9 > now - 0.1:
        return False
    # As `files.beside_of` would call it.
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    with open(beside, "wb") as file:
        file.write(marshal.dumps((VERSION, now, min(wake, now + LONGEST), marks)))
    os.replace(beside, path)
    return True


def nothing_to_do() -> bool:
    """Return True when this tick is over already, its time recorded; False: run a whole one."""
    if "ORCHESTRATOR_PROJECT" in os.environ:
        return False
    home = _home(os.getcwd())
    if home is None:
        return False
    try:
        with open(home + "/cache/idle", "rb") as file:
            version, written, wake, marks = marshal.loads(file.read())
        # A clock that was moved back makes every recorded time doubtful.
        if version != VERSION or not written <= time.time() < wake:
            return False
        if any(mark(name) != known for name, known in marks.items()):
            return False
    except (OSError, ValueError, EOFError, TypeError, AttributeError):
        return False
    return _record(home + "/scheduler.lock")


def something_waits() -> bool:
    """Whether a file lies in the queue of the project that we are in, as far as is plain to see."""
    home = _home(os.getcwd())
    try:
        with os.scandir((home or "") + "/shared/queue/incoming") as entries:
            return home is not None and any(entry.name.endswith(".md") for entry in entries)
    except OSError:
        return False


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
