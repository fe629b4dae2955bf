"""Git's configuration, as git sees it in one place: one question to git answers all others.

Kept until one of the files changes that are stamped here: those that git read, and those that it
would read by itself. A file that is included (git-config(1), `include.path`) may be missing when
git looks. So what is kept lasts no longer than a stage of a run, or a tick, if the configuration
includes files, or if one of the files had just changed: a second change might not show.
"""

import functools
import os
import re
import time
from collections.abc import Mapping, Sequence

from orchestrator.git import place, start
from orchestrator.guard import client_environment
from orchestrator.model.errors import GitError, GitKilled
from orchestrator.model.fields import NamedTuple

#: All values of each setting, by `canonical` name, in git's order: the last value counts.
Settings = Mapping[str, tuple[str, ...]]

#: Seconds for a look at the configuration.
_TIMEOUT = 30.0
#: How often a git that is killed is asked again.
_TRIES = 3
#: Where most gits have the system's settings; another place is known once a file is there.
_OF_THE_SYSTEM = "/etc/gitconfig"
#: Seconds after which a second change of a file gives it another time.
_CLEAR = 0.1
#: How many answers are kept.
_MOST = 64

#: What changes with a file; None for a file that is missing.
Stamp = tuple[int, ...] | None


class _Answer(NamedTuple):
    """What git said, and the files that it read, each with its stamp."""

    settings: Settings
    #: The file of the system's configuration, if it says anything.
    system: str | None
    stamps: tuple[tuple[str, Stamp], ...]
    #: Whether these files, as they are now, prove that the answer has not changed.
    is_proved: bool = False

    def is_as_before(self) -> bool:
        return all(_stamp(path) == stamp for path, stamp in self.stamps)


#: By the place where git was asked, and what it was told.
_KEPT: dict[tuple[str, tuple[tuple[str, str], ...]], _Answer] = {}


def seen(cwd: str, told: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that git sees at the top of a repository's checkout, or of a worktree.

    `told` are the variables of `place` for it, if they are known. Raises GitError when git cannot
    read them, and SystemFault when git cannot be started.
    """
    return _look(cwd, place.variables(cwd) if told is None else told).settings


def _look(cwd: str, told: Mapping[str, str]) -> _Answer:
    own = told.get("GIT_DIR") or place.common_folder(cwd)
    files = read_files(own, told.get("GIT_COMMON_DIR") or place.shared(own))
    key = (cwd, tuple(told.items()))
    known = _KEPT.get(key)
    if known and {*files} <= dict(known.stamps).keys() and known.is_as_before():
        return known
    # Before git looks: what changes meanwhile shows.
    stamps = _stamps((*files, _OF_THE_SYSTEM))
    answer = _asked(cwd, told)
    read = [path for path, _ in answer.stamps if path not in dict(stamps)]
    stamps += _stamps(read)
    newest = max((max(stamp[2:4]) for _, stamp in stamps if stamp), default=0)
    is_clear = time.time_ns() - newest > _CLEAR * 1e9
    includes = any(name.startswith(("include.", "includeif.")) for name in answer.settings)
    answer = answer._replace(stamps=stamps, is_proved=is_clear and not includes)
    if stamps[0][1] is not None:
        if len(_KEPT) >= _MOST:
            _KEPT.clear()
        _KEPT[key] = answer
    return answer


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


def ssh_command(root: str) -> str | None:
    """Return the person's own command for ssh, which git would use in a checkout; None without one.

    The environment outranks the configuration (git-config(1), `core.sshCommand`). Raises as `seen`.
    """
    values = seen(root).get("core.sshcommand", ())
    return os.environ.get("GIT_SSH_COMMAND") or (values[-1] if values else None) or None


def system_file(cwd: str) -> str | None:
    """Return the file of the system's configuration; None if git reads no such file.

    Raises as `seen`.
    """
    if os.environ.get("GIT_CONFIG_NOSYSTEM", "").lower() not in ("", "0", "false", "no", "off"):
        return None
    named = os.environ.get("GIT_CONFIG_SYSTEM")
    if named is not None:
        return os.path.abspath(named) if named else None
    # Where it is was decided when git was built.
    return _look(cwd, {}).system


def canonical(name: str) -> str:
    """Return a setting's name as git prints it: only the middle part keeps its case."""
    section, dot, rest = name.partition(".")
    middle, last_dot, key = rest.rpartition(".")
    return f"{section.lower()}{dot}{middle}{last_dot}{key.lower()}"


def forget() -> None:
    """Ask git again, unless it is proved that it would say the same.

    Call this at the start of a tick, and before and after an agent's work.
    """
    for key in [key for key, answer in _KEPT.items() if not answer.is_proved]:
        del _KEPT[key]


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


def _stamps(paths: Sequence[str]) -> tuple[tuple[str, Stamp], ...]:
    return tuple((path, _stamp(path)) for path in paths)


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def _asked(cwd: str, told: Mapping[str, str]) -> _Answer:
    """Ask git; return what it says, and the files that it names."""
    environment = client_environment.for_git(os.environ, **told)
    words = ("config", "--null", "--list", "--show-origin", "--show-scope")
    ask = functools.partial(start.run, words, cwd, environment, _TIMEOUT)
    done, tries = ask(), 1
    while done.code is not None and done.code < 0 and tries < _TRIES:
        done, tries = ask(), tries + 1
    if done.code is not None and done.code < 0:
        raise GitKilled(f"git config was killed by signal {-done.code}")
    if done.code != 0:
        said = done.err.strip()[:300] or f"no answer within {_TIMEOUT:.0f} s"
        raise GitError(f"git config failed: {said}", start.repair(done.err))
    found: dict[str, tuple[str, ...]] = {}
    system, read, fields = None, [], done.out.split("\0")
    for scope, origin, entry in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        kind, _, path = origin.partition(":")
        if kind == "file":
            read.append(os.path.join(cwd, path))
            system = system or (path if scope == "system" else None)
        name, _, value = entry.partition("\n")
        found[name] = (*found.get(name, ()), value)
    return _Answer(found, system, tuple((path, None) for path in dict.fromkeys(read)))
