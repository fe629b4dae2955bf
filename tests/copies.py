"""A folder that is kept in memory, to be written again for each test.

`shutil.copytree` also reads each file and copies its times, which takes four times as long.
"""

from __future__ import annotations

import os
from pathlib import Path


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
