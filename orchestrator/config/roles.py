"""Roles: which there are, shipped ones (`plugin/roles/`) and the user's (`.orchestrator/roles/`).

Every tick needs their policies and most change nothing, so they are kept in a cache that is
believed only as long as every file's stamp is the same.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping

from orchestrator.config import role_file, yaml_values
from orchestrator.errors import ConfigError, OrchestratorError
from orchestrator.layout import resources
from orchestrator.model import Problem, Role
from orchestrator.system import files
from orchestrator.text import yaml_nodes

#: A cache written so soon (nanoseconds) after a file changed may have missed a change within the
#: same tick of the file system's clock, 10 ms at the most.
_SETTLED = 50_000_000
#: The code that reads roles: what another version of it made is not believed.
_CODE = (__file__, role_file.__file__, yaml_values.__file__, yaml_nodes.__file__)


# --- which roles there are ---------------------------------------------------------------------


def load(
    custom_folder: str, cache_folder: str | None = None, *, write_cache: bool = False
) -> tuple[dict[str, Role], list[Problem]]:
    """Return the roles by name, shipped ones overridden or joined by the user's, and what is wrong.

    `custom_folder` may be missing. A file of the user's that is wrong takes its role away: an agent
    must not run with wider permissions than were meant. The cache in `cache_folder` is read, and
    with `write_cache` renewed; a missing, broken or stale one is nobody's problem. Raises
    OrchestratorError when the shipped roles are missing.
    """
    shipped = os.path.join(resources(), "plugin", "roles")
    try:
        stamps = _stamps(shipped)
        code = {module: _stamp(os.stat(module)) for module in _CODE}
    except OSError as error:
        message = f"the shipped roles cannot be read: {shipped}: {error.strerror}"
        raise OrchestratorError(message, "install orchestrator again") from None
    try:
        own = _stamps(custom_folder)
    except FileNotFoundError:
        own = {}
    except OSError as error:
        return {}, [_problem(custom_folder, str(error.strerror))]
    cache = os.path.join(cache_folder, "roles.json") if cache_folder else None
    everything = {**code, **stamps, **own}
    kept = _from_cache(cache, everything) if cache else None
    if kept is not None:
        return kept, []
    roles, problems = _read_all(stamps, own)
    if cache and write_cache and not problems:
        _write_cache(cache, everything, roles)
    return roles, problems


def _stamps(folder: str) -> dict[str, list[int]]:
    """Return the stamp of each role's file in `folder` by its path, in the order of names."""
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name.endswith(".md") and not e.name.startswith(".")]
        return {
            e.path: _stamp(e.stat(follow_symlinks=False))
            for e in sorted(found, key=lambda e: e.name)
            if e.name.lower() != "readme.md"
        }


def _stamp(found: os.stat_result) -> list[int]:
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino]


def _read_all(
    shipped_paths: Iterable[str], own_paths: Collection[str]
) -> tuple[dict[str, Role], list[Problem]]:
    roles: dict[str, Role] = {}
    problems: list[Problem] = []
    for path in (*shipped_paths, *own_paths):
        name = os.path.basename(path)[: -len(".md")]
        shipped = roles.pop(name, None)
        try:
            data = files.read_regular(path, role_file.MAX_BYTES + 1)
            role = role_file.parse(data, path, name, shipped)
            if path in own_paths:
                role_file.check_brief(role)
            roles[name] = role
        except ConfigError as error:
            problems += [Problem("config_error", text, error.hint) for text in error.problems]
        except OSError as error:
            linked = os.path.islink(path)
            why = "it is a symbolic link; put the file itself here" if linked else error.strerror
            problems.append(_problem(path, str(why)))
    return roles, problems


def _problem(path: str, why: str) -> Problem:
    hint = f"correct {path}; until then no agent has that role"
    return Problem("config_error", f"{path}: {why}", hint)


# --- the cache ---------------------------------------------------------------------------------


def _from_cache(path: str, stamps: dict[str, list[int]]) -> dict[str, Role] | None:
    """Return the roles kept at `path` if they are those of the files with these stamps."""
    try:
        written = os.lstat(path).st_mtime_ns
        if any(written - max(stamp[:2]) < _SETTLED for stamp in stamps.values()):
            return None
        kept = json.loads(files.read_regular(path))
        if list(kept["stamps"].items()) != list(stamps.items()):
            return None
        lists = ("tools", "allow", "deny")
        roles = [Role(**{**r, **{key: tuple(r[key]) for key in lists}}) for r in kept["roles"]]
        return {role.name: role for role in roles}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _write_cache(path: str, stamps: dict[str, list[int]], roles: Mapping[str, Role]) -> None:
    """Keep the roles. Not flushed to disk: a torn cache is not believed, and written again."""
    data = json.dumps({"stamps": stamps, "roles": [role._asdict() for role in roles.values()]})
    with contextlib.suppress(OSError):
        files.make_folder(os.path.dirname(path))
        files.write_atomic(path, data.encode("utf-8", "surrogatepass"), flush=False)
