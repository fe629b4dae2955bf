"""The fast path of a tick without work: as cheap as a process can be.

A full tick that found no work leaves a stamp: the time until which nothing becomes due, and the
state of every file whose change could matter. If all of this is unchanged, there is nothing to
decide. The number of files that are looked at does not depend on the queue.

A queue that several hosts share has a number that changes with it. The stamp holds that number, and
this host's attendant vouches for it in a file of its own while it hears from the database. If the
attendant is not there, the database is asked, in one statement.

If the forge or a remote elsewhere must be asked, the stamp says so. A tick of the schedule starts a
process that asks, and ends: a slow network keeps no tick waiting. If the answer changes something,
that process becomes a whole tick. A tick that a person starts asks before it ends.

Only builtins and one C module are imported: the interpreter's start is most of an idle tick.

The stamp is plain text. It is believed only if it names the current state of the mark that `init`
left in the git folder, which a stamp from a commit cannot know. Its bytes are only compared and
read as numbers.
"""

import fcntl
import os
import sys
import time

#: Written into the stamp; a stamp of another version is ignored.
VERSION = "7"
#: The diary of ticks, `.orchestrator/ticks/2026-01-31`: a byte per minute of that UTC day, so that
#: a report can prove when the scheduler ran. Nothing decides by it. The bytes: a tick that found no
#: work, a whole tick, a tick that met another one; zero for a minute without a tick.
IDLE, WHOLE, HELD = b"i", b"t", b"h"
#: The longest time for which a stamp is believed, in seconds.
LONGEST = 600.0
#: Set by the schedule's script.
SCHEDULED = "ORCHESTRATOR_SCHEDULED"
#: The command of the process that asks.
ASK = "_ask"
#: Seconds for which the word of the attendant is believed; it repeats its word three times as often
#: (`attendant.BEAT`).
VOUCHED = 30.0


def mark(path: str, below: "int | None" = None) -> "tuple[int, int, int] | None":
    """Return a value that changes when a file is written or a folder's entries change.

    `below` is the descriptor of the folder that a relative path begins in.
    """
    try:
        found = os.stat(path, dir_fd=below)
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size if found.st_mode & 0o100000 else 0)


def write_stamp(
    path: str,
    now: float,
    wake: float,
    watched: "list[str]",
    number: str = "",
    said: str = "",
    *,
    asks: bool = False,
) -> bool:
    """Leave a stamp: nothing is to be done before `wake` unless something in `watched` changes.

    `number` is that of a shared queue; empty for a queue of files. `said` is what a session that
    starts is told. `asks`: the forge or a remote elsewhere must be asked, too. Returns False,
    without a stamp, if a file changed so recently that a second change might not show: file times
    advance only with the kernel's clock tick.
    """
    proof = _proof(path)
    marks = {name: mark(name) for name in (proof, *watched)}
    if marks[proof] is None:
        return False
    newest = max((known[1] for name in watched if (known := marks[name])), default=0)
    if newest / 1e9 > now - 0.1:
        return False
    words = [VERSION, repr(now), repr(min(wake, now + LONGEST)), number, said, _ASKS[asks]]
    home = os.path.dirname(os.path.dirname(path)) + "/"
    for name, known in marks.items():
        # The kernel finds a short path faster: there can be a thousand.
        words += [name.removeprefix(home), _shown(known)]
    # The form that `system.left_files` knows.
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(beside, flags, 0o600), "wb") as file:
        file.write(os.fsencode("\0".join(words)))
    os.replace(beside, path)
    return True


#: Whether something elsewhere must be asked, in the stamp.
_ASKS = ("", "asks")


def _shown(known: "tuple[int, int, int] | None") -> str:
    return "-" if known is None else f"{known[0]} {known[1]} {known[2]}"


def _proof(stamp: str) -> str:
    """Return the path of the clone's own mark (`mark.MARK`), from the path of the stamp."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(stamp)))
    return root + "/.git/orchestrator.json"


def is_unchanged(path: str) -> bool:
    """Whether everything is as the last whole tick left it; False without its stamp at `path`.

    False also for a queue that several hosts share: files do not show what others change there.
    """
    try:
        found = _holds(path, time.time())
        return found is not None and found[0] == ""
    except (OSError, ValueError):
        return False


def _holds(path: str, now: float) -> "tuple[str, str, bool] | None":
    """Return what the stamp at `path` says, if it was written here and nothing has changed since.

    That is the queue's number, what a session is told, and whether something elsewhere must be
    asked. None if something has changed, or if the stamp has expired.
    """
    # Neither a link nor a pipe is opened: reading must not block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        version, written, wake, number, *more = os.fsdecode(file.read(1 << 20)).split("\0")
    said, asks, *watched = more
    names, known = watched[::2], watched[1::2]
    if version != VERSION or len(names) != len(known) or names[:1] != [_proof(path)]:
        return None
    # After a clock was moved back, no recorded time can be trusted.
    if not float(written) <= now < float(wake) <= float(written) + LONGEST:
        return None
    if known[0] == "-":
        return None
    below = os.open(os.path.dirname(os.path.dirname(path)), os.O_RDONLY | os.O_CLOEXEC)
    try:
        for name, was in zip(names, known, strict=True):
            if _shown(mark(name, below)) != was:
                return None
        return number, said, asks != _ASKS[False]
    finally:
        os.close(below)


def _is_vouched(path: str, number: str, now: float) -> bool:
    """Return whether the attendant said lately, in its file, that this is the queue's number."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "rb") as file:
        said = os.fstat(descriptor).st_mtime
        return now - VOUCHED < said <= now + 1 and file.read(100) == os.fsencode(number)


def _pulse(root: str) -> str:
    return root + "/.orchestrator/cache/pulse"


def _standing(now: float) -> "tuple[str, str, str, bool] | None":
    """Return the project's folder and what the stamp of the last tick says, if it holds."""
    if "ORCHESTRATOR_PROJECT" in os.environ:
        return None
    try:
        root = main_worktree(os.getcwd())
        if root is None:
            return None
        found = _holds(root + "/.orchestrator/cache/idle", now)
    except (OSError, ValueError):
        return None
    return None if found is None else (root, *found)


def to_be_asked() -> "tuple[str, str] | None":
    """Return the project's folder and the number of its shared queue, if only that may be old."""
    found = _standing(time.time())
    return found[:2] if found and found[1] else None


def news() -> "str | None":
    """Return what a session that starts is told (`tick.news`), if the last tick's word holds."""
    if "ORCHESTRATOR_RUN_ID" in os.environ:
        return None
    now = time.time()
    found = _standing(now)
    if found is None or (found[1] and not _is_vouched(_pulse(found[0]), found[1], now)):
        return None
    return found[2]


def nothing_to_do(known: str = "", *, by_schedule: bool = False, asked: bool = False) -> bool:
    """Return True if this tick is finished and its time is recorded; False: run a full tick.

    `known` is the number that a shared queue has now, if the database was asked. `by_schedule`: the
    schedule starts this tick. `asked`: forge and remotes have just been asked.
    """
    now = time.time()
    found = _standing(now)
    if found is None:
        return False
    home, number, asks = found[0] + "/.orchestrator", found[1], found[3] and not asked
    if number != known and not _is_vouched(_pulse(found[0]), number, now):
        return False
    if asks and not by_schedule:
        return False
    if not _record(home + "/scheduler.lock") or (asks and not _ask()):
        return False
    note_tick(home + "/ticks", now, IDLE)
    return True


def _ask() -> bool:
    """Start the process that asks; False if it cannot be started. It outlives this tick."""
    flags = ["-I", "-S"] if sys.flags.no_site else []
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    words = [sys.executable, *flags, program, ASK]
    try:
        os.posix_spawn(sys.executable, words, os.environ, setpgroup=0)
    except OSError:
        return False
    return True


def note_tick(folder: str, now: float, tick: bytes) -> None:
    """Note a tick at `now` (epoch seconds) in the diary, if its folder is there."""
    year, month, day = time.gmtime(now)[:3]
    path = f"{folder}/{year:04}-{month:02}-{day:02}"
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return  # a tick that cannot be noted must still be done: a full disk has its own report
    try:
        minute = int(now) % 86_400 // 60
        # A minute with a whole tick is no minute in which a tick was held up.
        if tick != HELD or os.pread(descriptor, 1, minute) in (b"", b"\0"):
            os.pwrite(descriptor, tick, minute)
    except OSError:
        return
    finally:
        os.close(descriptor)


def main_worktree(folder: str) -> "str | None":
    """Return the main worktree that a folder is in, if it can be found without git."""
    while True:
        if os.path.lexists(folder + "/.git"):
            # A file means a linked worktree or a submodule, for which git must be asked.
            return folder if os.path.isdir(folder + "/.git") else None
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _record(path: str) -> bool:
    """Record the tick's time on the lock's file; False if another tick is running."""
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
