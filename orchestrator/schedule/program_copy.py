"""The installed copy: what schedules start, out of reach of every checkout and plugin cache.

`<data>/orchestrator/<version>/app` is a whole copy of this program, and the launcher
`<data>/orchestrator/bin/orchestrator` starts it. Schedules name the launcher only, so one `init`
moves all of them to a newer version, and nothing that an agent edits is ever run (failures 20).
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping

from orchestrator import __version__
from orchestrator.errors import OrchestratorError
from orchestrator.layout import resources
from orchestrator.system import commands, files, locks, process

#: What is copied, by its name at a checkout's root; a wheel has it all in the package.
_NAMES = (".claude-plugin", "bin", "hooks", "orchestrator", "plugin", "skills", "requirements.lock")
#: Seconds to wait for another `init`, and for the copy to answer.
_LOCK_WAIT, _START_TIMEOUT = 60.0, 60.0

#: A file's mode, time of change (ns) and contents.
_File = tuple[int, int, bytes]


class InUse(OrchestratorError):
    """A process was started from a copy that was to be removed."""

    code = "in_use"


def folder(variables: Mapping[str, str]) -> str:
    """Return where copies and launcher lie. `variables` are the environment.

    A relative XDG_DATA_HOME counts as unset (XDG base directory specification).
    """
    data = variables.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data):
        home = variables.get("HOME") or os.path.expanduser("~")
        data = os.path.join(home, ".local", "share")
    return os.path.join(data, "orchestrator")


def launcher(variables: Mapping[str, str]) -> str:
    """Return the path that every schedule starts."""
    return os.path.join(folder(variables), "bin", "orchestrator")


@contextlib.contextmanager
def changing(variables: Mapping[str, str], *, make: bool = True) -> Iterator[None]:
    """Be the only one who changes the copy, the launcher and schedules. Raises LockHeld.

    Without `make`, nobody is kept out where nothing was ever installed.
    """
    if make:
        os.makedirs(folder(variables), exist_ok=True)
    if not os.path.isdir(folder(variables)):
        yield
        return
    lock = locks.Lock(os.path.join(folder(variables), "install.lock"), _LOCK_WAIT)
    try:
        with lock:
            yield
    finally:
        lock.close()


def version(variables: Mapping[str, str]) -> str | None:
    """Return the version that the launcher starts; None when there is no whole one."""
    base = folder(variables)
    try:
        with open(launcher(variables), encoding="utf-8", errors="surrogateescape") as file:
            words = shlex.split(file.read(), comments=True)
    except (OSError, ValueError):
        return None
    mains = [w for w in words if w.startswith(base + os.sep) and w.endswith("/__main__.py")]
    if not mains or not os.path.isfile(mains[0]):
        return None
    return os.path.relpath(mains[0], base).split(os.sep)[0]


def is_newer(one: str, other: str) -> bool:
    """Return whether one version is newer than another."""
    first, second = (tuple(map(int, re.findall(r"\d+", v))) for v in (one, other))
    return first > second


# --- putting it there --------------------------------------------------------------------------


def put(variables: Mapping[str, str]) -> list[str]:
    """Make the launcher start a copy of this very program; return what was written.

    Nothing is written where that is so already. A newer version than this one stays: going back
    would take it from the other projects. Raises OrchestratorError and OSError; what was there
    before is still at work then.
    """
    known = version(variables)
    if known is not None and is_newer(known, __version__):
        return []
    written = []
    app = os.path.join(folder(variables), __version__, "app")
    python, *rest = process.own_program()
    words = [python, *rest[:-1], os.path.join(app, "orchestrator", "__main__.py")]
    contents = _contents(_source())
    seal = _digest(contents)
    copy = f"{app}-{seal[:12]}"
    if os.path.realpath(app) != os.path.realpath(copy) or _digest(_contents(copy)) != seal:
        _write(copy, contents)
        _try([*words[:-1], os.path.join(copy, "orchestrator", "__main__.py"), "--version"])
        _point(app, copy)
        written.append(f"{app} (the program that schedules start)")
    script = f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'.encode(errors="surrogateescape")
    path = launcher(variables)
    if _bytes(path) != script:
        _try([*words, "--version"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.write_atomic(path, script, 0o755)
        written.append(f"{path} (its launcher)")
    return written


def _source() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _contents(root: str) -> dict[str, _File]:
    """Return the files of a copy or checkout by their path in it; compiled ones do not count."""
    is_wheel = resources() != _source()
    found: dict[str, _File] = {}
    for name in ("orchestrator",) if is_wheel else _NAMES:
        top = os.path.join(root, name)
        paths = [top] if os.path.isfile(top) else _below(top)
        for path in paths:
            with open(path, "rb") as file:
                state = os.fstat(file.fileno())
                mode = 0o755 if state.st_mode & 0o100 else 0o644
                found[os.path.relpath(path, root)] = (mode, state.st_mtime_ns, file.read())
    return found


def _below(top: str) -> Iterator[str]:
    for where, folders, names in os.walk(top):
        folders[:] = sorted(each for each in folders if each != "__pycache__")
        paths = (os.path.join(where, name) for name in sorted(names))
        yield from (path for path in paths if os.path.isfile(path))


def _digest(contents: dict[str, _File]) -> str:
    found = hashlib.sha256()
    for name, (mode, _, data) in sorted(contents.items()):
        head = f"{name}\0{mode:o}\0{len(data)}\0".encode(errors="surrogateescape")
        found.update(head + data)
    return found.hexdigest()


def _write(copy: str, contents: dict[str, _File]) -> None:
    """Write a whole copy beside, then rename it; a damaged one in its place goes."""
    beside = f"{copy}.new"
    shutil.rmtree(beside, ignore_errors=True)
    for name, (mode, changed, data) in contents.items():
        path = os.path.join(beside, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
        # `bin/orchestrator` asks whether the lock file is newer than the environment.
        os.utime(path, ns=(changed, changed))
    os.sync()  # a power cut must not leave a whole tree of empty files
    aside = f"{copy}.old"
    shutil.rmtree(aside, ignore_errors=True)
    if os.path.lexists(copy):
        os.rename(copy, aside)
    os.rename(beside, copy)
    shutil.rmtree(aside, ignore_errors=True)


def _point(app: str, copy: str) -> None:
    """Let `app` be this copy, from one instant to the next, and drop the one before.

    A tick that is at work has loaded itself; what it loads later it finds under the same name.
    """
    beside = f"{app}.new"
    files.remove(beside)
    os.symlink(os.path.basename(copy), beside)
    os.replace(beside, app)
    where = os.path.dirname(app)
    for name in os.listdir(where):
        if name.startswith("app-") and name != os.path.basename(copy):
            shutil.rmtree(os.path.join(where, name), ignore_errors=True)


def _try(words: list[str]) -> None:
    """Start the copy with next to no environment, as a schedule does. Raises OrchestratorError."""
    clean = {"PATH": os.defpath, "HOME": os.sep}
    done = commands.run(words, cwd=os.sep, environment=clean, timeout=_START_TIMEOUT)
    if done.code != 0:
        said = (done.err.strip().splitlines() or ["it did not answer"])[-1]
        raise OrchestratorError(
            f"{shlex.join(words[:-1])} does not start outside this shell: {said}",
            "run init by bin/orchestrator, which makes an environment of its own",
            code="launcher_broken",
        )


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


# --- taking it away ----------------------------------------------------------------------------


def remove(variables: Mapping[str, str]) -> list[str]:
    """Remove launcher and copies; return what went. Raises InUse while a process runs one.

    The environments beside the copies are those of `bin/orchestrator`, and stay.
    """
    base = folder(variables)
    if not any(
        map(os.path.lexists, (launcher(variables), *glob.glob(f"{glob.escape(base)}/*/app*")))
    ):
        return []
    if _is_in_use(base):
        raise InUse(f"a run still uses {base}: when it has ended, say this again to remove that")
    gone = []
    for where in (entry.path for entry in os.scandir(base) if entry.is_dir()):
        for name in os.listdir(where):
            path = os.path.join(where, name)
            if name.startswith("app-"):
                shutil.rmtree(path, ignore_errors=True)
            elif name == "app" or path == launcher(variables):
                files.remove(path)
                gone.append(path)
        with contextlib.suppress(OSError):
            os.rmdir(where)
    files.remove(os.path.join(base, "install.lock"))
    with contextlib.suppress(OSError):
        os.rmdir(base)
    return gone


def _is_in_use(base: str) -> bool:
    """Return whether a process other than this one was started from a copy: a run, most likely."""
    import psutil

    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = each.cmdline() if each.pid != os.getpid() else []
            if any(w.startswith(base + os.sep) and w.endswith("__main__.py") for w in words):
                return True
    return False
