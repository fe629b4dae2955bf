"""The configuration as a process finds it: `agents.yaml`, or its last good copy.

The copy carries the base branch that was found for it, so that whoever reads only the copy (every
supervisor) needs no YAML and no git for it.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import os
from typing import NamedTuple

from orchestrator.config import last_good as saved
from orchestrator.config import roles
from orchestrator.errors import ConfigError
from orchestrator.git import remotes, repository
from orchestrator.layout import Layout
from orchestrator.model import Config, Problem, Role
from orchestrator.project import mark
from orchestrator.system import files


class Settings(NamedTuple):
    """What is configured, and what is wrong with it."""

    config: Config
    roles: dict[str, Role]
    problems: tuple[Problem, ...]
    #: False when `agents.yaml` is broken or missing and `config` is the last good one.
    good: bool


def signature(path: str) -> str:
    """Return a word that changes whenever a file is written (mtime alone can repeat)."""
    try:
        found = os.stat(path)
    except OSError:
        return "-"
    return f"{found.st_mtime_ns}:{found.st_ino}:{found.st_size}"


def settings(layout: Layout, *, write_cache: bool) -> Settings:
    """Read configuration and roles; with a broken file, the last good configuration.

    `write_cache` is for ticks and commands that change things: reading commands write nothing.
    """
    known, role_problems = roles.load(layout.roles, layout.cache, write_cache=write_cache)
    problems = list(role_problems)
    # The clone's key: the copy says which programs run, so none that came with a commit is taken.
    seal = "|".join((mark.key(layout), signature(layout.config), *sorted(known)))
    cached = _cached(layout)
    if cached is not None and cached[0] == seal:
        return Settings(cached[1], known, tuple(problems), good=True)
    from orchestrator.config.keys import parse

    try:
        with open(layout.config, "rb") as file:
            parsed = parse(file.read(), roles=known)
    except FileNotFoundError:
        problems.append(Problem("config_error", f"{layout.config} is missing", mark.way_in(layout)))
    except ConfigError as error:
        problems += [Problem("config_error", text, error.hint) for text in error.problems]
    except OSError as error:
        problems.append(Problem("config_error", f"{layout.config}: {error.strerror}"))
    else:
        settled = _with_base_branch(layout, parsed)
        if write_cache:
            files.make_folder(layout.cache)
            data = seal.encode() + b"\n" + saved.dump(settled)
            files.write_atomic(layout.last_good_config, data)
        return Settings(settled, known, tuple(problems), good=True)
    return Settings(cached[1] if cached else Config(), known, tuple(problems), good=False)


def last_good(layout: Layout) -> Config | None:
    """Return the last good configuration; None when there never was one."""
    cached = _cached(layout)
    return cached[1] if cached else None


def usable(layout: Layout) -> Config | None:
    """Return the last good configuration, else what `agents.yaml` says; None when both are bad.

    For whoever goes on with what was begun: the copy can be lost, or another version's that is
    still at work beside this one, and neither is a reason to leave finished work undelivered.
    """
    config = last_good(layout)
    if config is not None:
        return config
    loaded = settings(layout, write_cache=False)
    return loaded.config if loaded.good else None


def _cached(layout: Layout) -> tuple[str, Config] | None:
    try:
        head, _, data = files.read_regular(layout.last_good_config).partition(b"\n")
    except OSError:
        return None
    seal = head.decode(errors="replace")
    if seal.partition("|")[0] != mark.key(layout):
        return None
    config = saved.load(data)
    return (seal, config) if config else None


def _with_base_branch(layout: Layout, config: Config) -> Config:
    """Fill in the base branch: the remote's HEAD branch, else that of `init` (reference 4).

    Not the current one, but where nobody ran `init`: a person who changes to a branch of their own
    must not turn the agents' work to it.
    """
    if config.base_branch is not None:
        return config
    root = layout.root
    found = remotes.head(root, config.remote) or mark.first_branch(layout)
    return config._replace(base_branch=found or repository.current_branch(root))
