"""Temporary files (`files.write_atomic`) of writers that were killed."""

import contextlib
import os
import re

#: The names of temporary files, also that of `idle.write_stamp`.
_TEMPORARY = r"\..+\.[0-9]+\.tmp"


def in_folder(folder: str, before: float) -> list[str]:
    """Return the temporary files that have not changed since `before` (epoch seconds)."""
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in (each for each in entries if each.name[0] == "."):
            if re.fullmatch(_TEMPORARY, entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        found.append(entry.path)
    return found


def beside(path: str) -> list[str]:
    """Return the temporary files for `path` whose writers are gone."""
    folder, name = os.path.split(os.path.realpath(path))
    pattern, found = re.compile(rf"\.{re.escape(name)}\.([1-9][0-9]*)\.tmp"), []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if match and entry.is_file(follow_symlinks=False) and not _is_process(int(match[1])):
                found.append(entry.path)
    return found


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        pass
    return True
