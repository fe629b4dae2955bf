"""What tests start from, made once: folders on disk for all processes, and folders in memory.

A folder in memory is written again for each test. `shutil.copytree` also reads each file and copies
its times, which takes four times as long.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

#: The variable with the folder of what the processes of one run of the tests share.
_SHARED = "SHARED_BY_TESTS"
#: How its name begins.
_PREFIX = "orch-tests-"


def share() -> None:
    """Let this process and those that it starts share what `once` makes, until this one ends."""
    if _SHARED not in os.environ:
        _sweep(Path(tempfile.gettempdir()))
        os.environ[_SHARED] = folder = tempfile.mkdtemp(prefix=_PREFIX)
        os.chmod(folder, 0o711)  # a database has a user of its own
        Path(folder, "pid").write_text(str(os.getpid()), encoding="ascii")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _sweep(around: Path) -> None:
    """Remove the folders of processes that were killed, and so did not remove them."""
    for folder in around.glob(f"{_PREFIX}*"):
        try:
            os.kill(int((folder / "pid").read_text(encoding="ascii")), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):  # another user's, or one that has just begun
            continue


def sharing() -> int:
    """Return the id of the process that shares: what is shared may be used until it ends."""
    share()
    return int(Path(os.environ[_SHARED], "pid").read_text(encoding="ascii"))


def once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the path that `make` made, once for all processes that share; it is given the path.

    It must not be changed.
    """
    share()
    path = Path(os.environ[_SHARED], name)
    with open(f"{path}.lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.getsize(lock.name):
            make(path)
            lock.write("made")
    return path


class Kept:
    """The folders, files and symbolic links below a folder, as they were when this was made.

    The hooks that git gives as samples, and never runs, are left out.
    """

    def __init__(self, folder: Path) -> None:
        self._folders: list[tuple[str, int]] = []
        self._files: list[tuple[str, int, bytes]] = []
        self._links: list[tuple[str, str]] = []
        for where, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = os.path.join(where, name)
                place, mode = os.path.relpath(path, folder), os.lstat(path).st_mode & 0o7777
                if os.path.islink(path):
                    self._links.append((place, os.readlink(path)))
                elif name in folders:
                    self._folders.append((place, mode))
                elif not name.endswith(".sample"):
                    self._files.append((place, mode, Path(path).read_bytes()))

    def write(self, folder: Path) -> Path:
        """Write everything below `folder`, which may exist; return it."""
        start = f"{folder}/"
        folder.mkdir(parents=True, exist_ok=True)
        for place, mode in self._folders:
            try:
                os.mkdir(start + place, mode)
            except FileExistsError:
                continue
        for place, mode, content in self._files:
            descriptor = os.open(start + place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            try:
                os.write(descriptor, content)
            finally:
                os.close(descriptor)
        for place, target in self._links:
            os.symlink(target, start + place)
        return folder
