"""Roles: the shipped roles (`plugin/roles/`) and the user's roles (`.orchestrator/roles/`)."""

from __future__ import annotations

import contextlib
import os

from orchestrator.layout import resources
from orchestrator.model.config import Role
from orchestrator.model.errors import ConfigError
from orchestrator.model.snapshot import Problem
from orchestrator.system import files


def paths(custom_folder: str) -> dict[str, os.stat_result]:
    """Return the path of each role's file with its stat: shipped roles first, sorted by name.

    `custom_folder` may be missing. Raises OSError.
    """
    found = _paths(os.path.join(resources(), "plugin", "roles"))
    with contextlib.suppress(FileNotFoundError):
        found |= _paths(custom_folder)
    return found


def _paths(folder: str) -> dict[str, os.stat_result]:
    names = [name for name in sorted(os.listdir(folder)) if name.endswith(".md")]
    found = [name for name in names if not name.startswith(".") and name.lower() != "readme.md"]
    return {path: _stat(path) for path in (os.path.join(folder, name) for name in found)}


def _stat(path: str) -> os.stat_result:
    """Return the stat of a file, or of a link that leads nowhere."""
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)


def load(custom_folder: str) -> tuple[dict[str, Role], list[Problem]]:
    """Return the roles by name, and the problems. The user's roles add to or replace shipped roles.

    `custom_folder` is `.orchestrator/roles` of the project: no link is followed out of the project.
    A broken file of the user disables its role: an agent must not run with more permissions than
    intended.
    """
    from orchestrator.config import role_file

    project = os.path.dirname(os.path.dirname(custom_folder))
    roles: dict[str, Role] = {}
    problems: list[Problem] = []
    try:
        listed = paths(custom_folder)
    except OSError as error:
        return {}, [_problem(error.filename or custom_folder, error)]
    for path in listed:
        name = os.path.basename(path)[: -len(".md")]
        shipped = roles.pop(name, None)
        try:
            is_custom = os.path.dirname(path) == custom_folder
            top = project if is_custom else os.path.dirname(path)
            data = files.read_inside(path, top, role_file.MAX_BYTES + 1)
            role = role_file.parse(data, path, name, shipped)
            if is_custom:
                role_file.check_brief(role)
            roles[name] = role
        except ConfigError as error:
            problems += [Problem("config_error", text, error.hint) for text in error.problems]
        except OSError as error:
            problems.append(_problem(path, error))
    return roles, problems


def _problem(path: str, error: OSError) -> Problem:
    hint = f"correct {path}; until then no agent has that role"
    return Problem("config_error", f"{path}: {error.strerror}", hint)
