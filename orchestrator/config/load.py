"""Configuration and roles as a process finds them: in their files, or in the last good copy.

Every tick needs both, and they seldom change, so the copy is used as long as each file's stamp is
the same. The copy includes the base branch, so a process that reads only the copy (every
supervisor) needs no YAML and no git.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import errno
import os
import time
from collections.abc import Mapping

from orchestrator import __version__
from orchestrator.config import last_good as saved
from orchestrator.config import roles
from orchestrator.layout import Layout
from orchestrator.model.config import Config, Role
from orchestrator.model.errors import ConfigError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Problem
from orchestrator.project import mark
from orchestrator.system import files

#: A copy made within this time (nanoseconds) after a file's change may have missed another change
#: in the same step of the file system's clock, which is at most 10 ms.
_SETTLED = 50_000_000


class Settings(NamedTuple):
    """The configuration, the roles, and their problems."""

    config: Config
    roles: Mapping[str, Role]
    problems: tuple[Problem, ...]
    #: False if `agents.yaml` is broken or missing; `config` is then the last good configuration.
    good: bool


def settings(layout: Layout, *, write_cache: bool) -> Settings:
    """Return configuration and roles; if the file is broken, the last good configuration.

    `write_cache` is for ticks and for commands that change things: reading commands write nothing.
    """
    seal, settled = _seal(layout)
    kept = _cached(layout)
    if kept is not None and kept[0] == seal:
        return Settings(kept[1], kept[2], (), good=True)
    from orchestrator.config.keys import parse
    from orchestrator.text.yaml_nodes import MAX_BYTES

    known, problems = roles.load(layout.roles)
    try:
        parsed = parse(source(layout, MAX_BYTES + 1), roles=known)
    except ConfigError as error:
        problems += [Problem("config_error", text, error.hint) for text in error.problems]
    else:
        config = _with_base_branch(layout, parsed)
        # Roles with problems are read again each time, but a good configuration is still kept.
        fresh = (seal if settled and not problems else mark.key(layout), config, known)
        if write_cache and fresh != kept:
            _keep(layout, fresh[0].encode() + b"\n" + saved.dump(config, known))
        return Settings(config, known, tuple(problems), good=True)
    return Settings(kept[1] if kept else Config(), known, tuple(problems), good=False)


def source(layout: Layout, most: int) -> bytes:
    """Return `most` bytes of agents.yaml. Raises ConfigError."""
    try:
        return files.read_inside(layout.config, layout.root, most)
    except FileNotFoundError:
        raise ConfigError([f"{layout.config} is missing"], mark.way_in(layout)) from None
    except OSError as error:
        hint = "put a regular file there"
        if error.errno == errno.EACCES:
            from orchestrator.system import disk

            hint = disk.opening(layout.config)
        raise ConfigError([f"{layout.config}: {error.strerror}"], hint) from None


def _keep(layout: Layout, data: bytes) -> None:
    """Keep a good configuration. Raises OSError, but not for a disk that takes nothing.

    What such a disk stops is told by those who cannot work, and the next tick keeps it.
    """
    try:
        files.make_folder(layout.cache)
        files.write_atomic(layout.last_good_config, data)
    except OSError as error:
        from orchestrator.system import disk

        if error.errno not in disk.ERRORS:
            raise


def _seal(layout: Layout) -> tuple[str, bool]:
    """Return a line that changes with each file, and whether all files changed long enough ago."""
    try:
        found = roles.paths(layout.roles)
        found[layout.config] = os.stat(layout.config)
    except OSError:
        return "", False
    # The copy names programs to run. The clone's key ensures that it did not come with a commit.
    words = [mark.key(layout), __version__]
    for path, each in found.items():
        words.append(f"{path!a}:{each.st_mtime_ns}:{each.st_ctime_ns}:{each.st_size}:{each.st_ino}")
    newest = max(max(each.st_mtime_ns, each.st_ctime_ns) for each in found.values())
    return "|".join(words), time.time_ns() - newest > _SETTLED


def last_good(layout: Layout) -> Config | None:
    """Return the last good configuration; None if no good configuration was ever read."""
    cached = _cached(layout)
    return cached[1] if cached else None


def read_again(layout: Layout) -> None:
    """Have the next process read the files again, and ask git again for the base branch."""
    if (kept := files.content(layout.last_good_config)) is not None:
        data = mark.key(layout).encode() + b"\n" + kept.partition(b"\n")[2]
        files.write_atomic(layout.last_good_config, data)


def usable(layout: Layout) -> Config | None:
    """Return the last good configuration, else that of `agents.yaml`; None if both are unusable.

    This is for processes that continue work. The copy may be lost, or may have been written by
    another version that still runs; finished work must be delivered in both cases.
    """
    config = last_good(layout)
    if config is not None:
        return config
    loaded = settings(layout, write_cache=False)
    return loaded.config if loaded.good else None


def _cached(layout: Layout) -> tuple[str, Config, Mapping[str, Role]] | None:
    """Return the copy's seal, configuration and roles; None if there is no usable copy."""
    head, _, data = (files.content(layout.last_good_config) or b"").partition(b"\n")
    seal = head.decode(errors="replace")
    if seal.partition("|")[0] != mark.key(layout):
        return None
    found = saved.load(data)
    return (seal, *found) if found else None


def _with_base_branch(layout: Layout, config: Config) -> Config:
    """Fill in the base branch: the remote's HEAD branch, else that of `init` (reference 4).

    The current branch is used only where `init` has not run. Otherwise a person who checks out
    another branch would redirect the agents' work to it.
    """
    if config.base_branch is not None:
        return config
    from orchestrator.git import remotes, repository

    root = layout.root
    found = remotes.head(root, config.remote) or mark.first_branch(layout)
    return config._replace(base_branch=found or repository.current_branch(root))
