"""Git's configuration, as git sees it in one place: one question to git answers all others.

Kept until one of the files changes that are stamped here, or until `forget`. Git also reads files
that this module does not know (git-config(1), `include.path`), and a process can forge a file's
time. So nothing kept here lasts longer than a stage of a run or a tick.
"""

import functools
import os
import re
from collections.abc import Mapping

from orchestrator.errors import GitError, GitKilled
from orchestrator.git import place, repairs, start
from orchestrator.guard import client_environment

#: All values of each setting, by `canonical` name, in git's order: the last value counts.
Settings = Mapping[str, tuple[str, ...]]

#: Seconds for a look at the configuration.
_TIMEOUT = 30.0
#: How often a git that is killed is asked again.
_TRIES = 3


def seen(cwd: str, told: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that git sees at the top of a repository's checkout, or of a worktree.

    `told` are the variables of `place` for it, if they are known. Raises GitError when git cannot
    read them, and SystemFault when git cannot be started.
    """
    told = place.variables(cwd) if told is None else told
    own = told.get("GIT_DIR") or place.common_folder(cwd)
    files = read_files(own, told.get("GIT_COMMON_DIR") or place.shared(own))
    stamps = tuple((path, _stamp(path)) for path in files)
    words = tuple(told.items())
    return _asked(cwd, words) if stamps[0][1] is None else _kept(cwd, words, stamps)


def are_the_same(root: str, told: Mapping[str, str]) -> bool:
    """Return whether git sees in a worktree what it sees in the person's checkout.

    The two differ by a configuration of one worktree, or by a condition on the place
    (git-config(1), "Conditional includes"; git-worktree(1), "CONFIGURATION FILE"). Raises as
    `seen`.
    """
    if "GIT_COMMON_DIR" not in told or os.path.lexists(f"{told['GIT_DIR']}/config.worktree"):
        return False
    names = ("includeif.", "extensions.worktreeconfig")
    return not any(name.startswith(names) for name in seen(root, {}))


def find(cwd: str, *names: str) -> dict[str, tuple[str, ...]]:
    """Return those of the named settings that are set. Raises as `seen`."""
    known = seen(cwd)
    return {name: known[key] for name in names if (key := canonical(name)) in known}


def matching(cwd: str, pattern: str) -> list[tuple[str, str]]:
    """Return each value of the settings whose canonical names match. Raises as `seen`."""
    found = ((name, values) for name, values in seen(cwd).items() if re.fullmatch(pattern, name))
    return [(name, value) for name, values in found for value in values]


def system_file(cwd: str) -> str | None:
    """Return the file of the system's configuration; None if git reads no such file.

    Raises SystemFault when git cannot be started.
    """
    if os.environ.get("GIT_CONFIG_NOSYSTEM", "").lower() not in ("", "0", "false", "no", "off"):
        return None
    named = os.environ.get("GIT_CONFIG_SYSTEM")
    if named is not None:
        return os.path.abspath(named) if named else None
    # Where it is was decided when git was built.
    ask = ("config", "--system", "--null", "--list", "--show-origin")
    done = start.run(ask, cwd, client_environment.for_git(os.environ), _TIMEOUT)
    return done.out.partition("\0")[0].removeprefix("file:") or None


def canonical(name: str) -> str:
    """Return a setting's name as git prints it: only the middle part keeps its case."""
    section, dot, rest = name.partition(".")
    middle, last_dot, key = rest.rpartition(".")
    return f"{section.lower()}{dot}{middle}{last_dot}{key.lower()}"


def forget() -> None:
    """Ask git again: call this at the start of a tick, and before and after an agent's work."""
    _kept.cache_clear()


def read_files(own: str, common: str) -> list[str]:
    """Return the files that git reads by itself: of the repository, the worktree and the person.

    `own` is the git folder of the place, `common` that of the repository.
    """
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    named = (os.environ.get(name) for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"))
    return [
        os.path.join(common, "config"),
        *(os.path.join(folder, "config.worktree") for folder in (own, common)),
        os.path.join(home, ".gitconfig"),
        os.path.join(config, "git", "config"),
        *filter(None, named),
    ]


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


@functools.lru_cache(maxsize=64)
def _kept(cwd: str, told: tuple[tuple[str, str], ...], _stamps: object) -> Settings:
    return _asked(cwd, told)


def _asked(cwd: str, told: tuple[tuple[str, str], ...]) -> Settings:
    environment = client_environment.for_git(os.environ, **dict(told))
    ask = functools.partial(start.run, ("config", "--null", "--list"), cwd, environment, _TIMEOUT)
    done, tries = ask(), 1
    while done.code is not None and done.code < 0 and tries < _TRIES:
        done, tries = ask(), tries + 1
    if done.code is not None and done.code < 0:
        raise GitKilled(f"git config was killed by signal {-done.code}")
    if done.code != 0:
        said = done.err.strip()[:300] or f"no answer within {_TIMEOUT:.0f} s"
        raise GitError(f"git config failed: {said}", repairs.hint(done.err))
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, done.out.split("\0")):
        name, _, value = entry.partition("\n")
        found[name] = (*found.get(name, ()), value)
    return found
