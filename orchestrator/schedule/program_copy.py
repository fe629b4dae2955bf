"""The program's copies that schedules start, outside every checkout and plugin cache.

`<data>/orchestrator/<version>/app-<random>` is a whole copy of this program. It never changes, and
the launcher `<data>/orchestrator/bin/orchestrator` starts the newest copy. Schedules name only the
launcher, so one `init` updates all of them, and a schedule never runs what an agent edits. A
process keeps the copy that it was started from; a copy remains until no process uses it.
"""

from __future__ import annotations

import contextlib
import filecmp
import glob
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable

from orchestrator import __version__
from orchestrator.layout import resources
from orchestrator.model.errors import OrchestratorError
from orchestrator.system import commands, files, locks, process

#: The copied files and folders, named as at a checkout's root. A wheel has them in the package.
_NAMES = (".claude-plugin", "bin", "hooks", "orchestrator", "plugin", "skills", "requirements.lock")
_MAIN = os.path.join(os.sep, "orchestrator", "__main__.py")
#: Seconds to wait for another `init`, and for the copy to answer.
_LOCK_WAIT, _START_TIMEOUT = locks.LONGEST_WAIT, 60.0


def folder() -> str:
    """Return the folder of the copies and the launcher.

    A relative XDG_DATA_HOME counts as unset (XDG base directory specification).
    """
    data = os.environ.get("XDG_DATA_HOME", "")
    data = data if os.path.isabs(data) else os.path.expanduser("~/.local/share")
    return os.path.join(data, "orchestrator")


def launcher() -> str:
    """Return the path of the program that every schedule starts."""
    return os.path.join(folder(), "bin", "orchestrator")


def changing() -> locks.Lock:
    """Return the lock for changes of copies, launcher and schedules."""
    os.makedirs(folder(), exist_ok=True)
    return locks.Lock(os.path.join(folder(), "install.lock"), _LOCK_WAIT)


def _started() -> str | None:
    """Return the copy that the launcher starts; None if that copy is not complete."""
    try:
        with open(launcher(), encoding="utf-8", errors="surrogateescape") as file:
            words = shlex.split(file.read(), comments=True)
    except (OSError, ValueError):
        return None
    mains = [w for w in words if w.startswith(folder() + os.sep) and w.endswith(_MAIN)]
    return mains[0].removesuffix(_MAIN) if mains and os.path.isfile(mains[0]) else None


def version() -> str | None:
    """Return the version that the launcher starts; None if it starts no complete copy."""
    copy = _started()
    return os.path.basename(os.path.dirname(copy)) if copy else None


def is_newer(one: str, other: str) -> bool:
    """Return whether one version is newer than another."""
    first, second = (tuple(map(int, re.findall(r"\d+", v))) for v in (one, other))
    return first > second


# --- putting it there --------------------------------------------------------------------------


def put() -> list[str]:
    """Make the launcher start a copy of this program; return the changes.

    Nothing is written if the launcher does so already, or if it starts a newer version, which
    other projects may need. Raises OrchestratorError and OSError; the launcher is then unchanged.
    """
    before = _started()
    if is_newer(version() or "", __version__):
        return []
    python, *flags, main = process.own_program()
    source = main.removesuffix(_MAIN)
    where = os.path.join(folder(), __version__)
    os.makedirs(where, exist_ok=True)
    is_same = before is not None and _is_same(source, before)
    copy = before if before and is_same else tempfile.mkdtemp(prefix="app-", dir=where)
    words = [python, *flags, copy + _MAIN]
    script = _script(words)
    if is_same and files.holds(launcher(), script):
        return []
    try:
        if not is_same:
            _fill(copy, source)
        _try([*words, "--version"])
        os.makedirs(os.path.dirname(launcher()), exist_ok=True)
        files.write_atomic(launcher(), script, 0o755)
    finally:
        # A shell that has just read the launcher still starts the previous copy.
        _remove_unused({before, _started()})
    made = [] if is_same else [f"{copy} (the program that schedules start)"]
    return [*made, f"{launcher()} (its launcher)"]


def _script(words: list[str]) -> bytes:
    """Return the text of a launcher that starts a program by these words."""
    return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'.encode(errors="surrogateescape")


def is_own(launcher: str) -> bool:
    """Return whether a launcher starts the program of this process, in the same way."""
    return files.holds(launcher, _script(process.own_program()))


def _names(root: str) -> list[str]:
    """Return the program's files in a copy or checkout, by relative path."""
    is_wheel = resources().startswith(os.path.dirname(process.own_program()[-1]))
    found = []
    for top in ("orchestrator",) if is_wheel else _NAMES:
        found.append(top)
        for where, folders, names in os.walk(os.path.join(root, top)):
            folders[:] = [name for name in folders if name != "__pycache__"]
            inside = os.path.relpath(where, root)
            found += [os.path.join(inside, name) for name in names]
    return sorted(name for name in found if os.path.isfile(os.path.join(root, name)))


def _is_same(source: str, copy: str) -> bool:
    names = _names(source)
    pairs = ((os.path.join(source, name), os.path.join(copy, name)) for name in names)
    return names == _names(copy) and all(filecmp.cmp(*pair, shallow=False) for pair in pairs)


def _fill(copy: str, source: str) -> None:
    for name in _names(source):
        target = os.path.join(copy, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        # With its time: `bin/orchestrator` compares the lock file's with the environment's.
        shutil.copy2(os.path.join(source, name), target)
    os.sync()  # a power cut must not leave a tree of empty files


def _try(words: list[str]) -> None:
    """Start the copy with a minimal environment, as a schedule does. Raises OrchestratorError."""
    bare = {"PATH": os.defpath, "HOME": os.sep}
    done = commands.run(words, cwd=os.sep, environment=bare, timeout=_START_TIMEOUT)
    if done.code != 0:
        said = (done.err.strip().splitlines() or ["it did not answer"])[-1]
        raise OrchestratorError(
            f"{shlex.join(words[:-1])} does not start outside this shell: {said}",
            "run init with bin/orchestrator, which creates its own environment",
            code="launcher_broken",
        )


# --- taking it away ----------------------------------------------------------------------------


def remove() -> tuple[list[str], list[str]]:
    """Remove launcher and copies, unless a process uses a copy; return changes and warnings.

    The environments beside the copies belong to `bin/orchestrator`, and remain.
    """
    if _used():
        again = "repeat this command when it has ended"
        return [], [f"a run, or the heartbeat of this host, still uses {folder()}: {again}"]
    gone = [path for path in (*_copies(), launcher()) if os.path.lexists(path)]
    for path in gone:
        files.remove_tree(path)
    if gone:
        files.remove(os.path.join(folder(), "install.lock"))
    for where in (*map(os.path.dirname, gone), folder()):
        with contextlib.suppress(OSError):
            os.rmdir(where)
    return gone, []


def _remove_unused(kept: Iterable[str | None]) -> None:
    used = {os.path.realpath(copy) for copy in (*kept, *_used()) if copy}
    for copy in _copies():
        if os.path.realpath(copy) not in used:
            with contextlib.suppress(OSError):  # the next `put` tries again
                files.remove_tree(copy)


def _copies() -> list[str]:
    return glob.glob(os.path.join(glob.escape(folder()), "*", "app-*"))


def _used() -> set[str]:
    """Return the copies that another process, usually a run, was started from or was given."""
    import psutil

    others = [each for each in psutil.process_iter(["cmdline"]) if each.pid != os.getpid()]
    words = {word for each in others for word in each.info["cmdline"] or ()}
    base = folder() + os.sep
    paths = [os.path.realpath(word) + os.sep for word in words if word.startswith(base)]
    roots = {copy: os.path.realpath(copy) + os.sep for copy in _copies()}
    return {copy for copy, root in roots.items() if any(path.startswith(root) for path in paths)}
