"""Configuration and roles as a process finds them: in their files, or in the last good copy.

Every tick needs both and most change neither, so the copy is believed as long as each file's stamp
is the same. It carries the base branch that was found for it, so whoever reads only the copy (every
supervisor) needs no YAML and no git.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import os
import time
from typing import NamedTuple

from orchestrator import __version__
from orchestrator.config import last_good as saved
from orchestrator.config import roles
from orchestrator.errors import ConfigError
from orchestrator.git import remotes, repository
from orchestrator.layout import Layout
from orchestrator.model import Config, Problem, Role
from orchestrator.project import mark
from orchestrator.system import files

#: A copy made so soon (nanoseconds) after a file changed may have missed a change within the same
#: tick of the file system's clock, 10 ms at the most.
_SETTLED = 50_000_000


class Settings(NamedTuple):
    """What is configured, and what is wrong with it."""

    config: Config
    roles: dict[str, Role]
    problems: tuple[Problem, ...]
    #: False when `agents.yaml` is broken or missing and `config` is the last good one.
    good: bool


def settings(layout: Layout, *, write_cache: bool) -> Settings:
    """Read configuration and roles; with a broken file, the last good configuration.

    `write_cache` is for ticks and commands that change things: reading commands write nothing.
    Raises OrchestratorError when the shipped roles are missing.
    """
    seal, settled = _seal(layout)
    kept = _cached(layout)
    if kept is not None and kept[0] == seal:
        return Settings(kept[1], kept[2], (), good=True)
    from orchestrator.config.keys import parse

    known, problems = roles.load(layout.roles)
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
        config = _with_base_branch(layout, parsed)
        # Roles with problems are read again each time; a good configuration is kept all the same.
        fresh = (seal if settled and not problems else mark.key(layout), config, known)
        if write_cache and fresh != kept:
            files.make_folder(layout.cache)
            data = fresh[0].encode() + b"\n" + saved.dump(config, known)
            files.write_atomic(layout.last_good_config, data)
        return Settings(config, known, tuple(problems), good=True)
    return Settings(kept[1] if kept else Config(), known, tuple(problems), good=False)


def _seal(layout: Layout) -> tuple[str, bool]:
    """Return a line that changes with each file that is read, and whether all are settled."""
    try:
        found = roles.paths(layout.roles)
        found[layout.config] = os.stat(layout.config)
    except OSError:
        return "", False
    # The clone's key: the copy says which programs run, so none that came with a commit is taken.
    words = [mark.key(layout), __version__]
    for path, each in found.items():
        words.append(f"{path!a}:{each.st_mtime_ns}:{each.st_ctime_ns}:{each.st_size}:{each.st_ino}")
    newest = max(max(each.st_mtime_ns, each.st_ctime_ns) for each in found.values())
    return "|".join(words), time.time_ns() - newest > _SETTLED


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


def _cached(layout: Layout) -> tuple[str, Config, dict[str, Role]] | None:
    """Return the copy's seal and what it holds."""
    try:
        head, _, data = files.read_regular(layout.last_good_config).partition(b"\n")
    except OSError:
        return None
    seal = head.decode(errors="replace")
    if seal.partition("|")[0] != mark.key(layout):
        return None
    found = saved.load(data)
    return (seal, *found) if found else None


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
