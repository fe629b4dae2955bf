"""Programs that git's configuration names for files: filters and merge drivers.

Git starts them at the top of the worktree, with which an agent can put its own program where a
relative path, or `python -m`, finds it; and an agent can name a program in the configuration of its
worktree. In worktrees that an agent could write, only those run that the person's checkout has, and
they run there. Git LFS runs as it is configured: it needs the worktree and runs nothing from it.
"""

import re
import shlex
from collections.abc import Mapping

from orchestrator.git import settings
from orchestrator.guard import client_environment

Settings = dict[str, str]

#: The settings that name programs (gitattributes(5)); `required` makes git fail without a filter.
_PATTERN = r"filter\..*\.(clean|smudge|process|required)|merge\..*\.driver"
_LFS = re.compile(r"(/\S*/)?git-lfs\s|git\s+lfs\s")
#: Git's own merge of text, as a driver: an empty command would take one side in silence.
_TEXT_MERGE = "git merge-file %A %O %B"
#: A path that needs no quotes, however the command that contains it is quoted.
_PLAIN = re.compile(r"[\w@+=:,./-]+")


def variables(root: str, told: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that set the drivers for a git that works where `told` says.

    `told` are the variables of `place`. Raises GitError when git cannot read the configuration.
    """
    top, trusted = told["GIT_WORK_TREE"], _read(root, {})
    seen = trusted if settings.are_the_same(root, told) else _read(top, told)
    if not seen:
        return {}
    return client_environment.as_git_config(overrides(seen, trusted, root, top))


def for_new(root: str, top: str) -> dict[str, str]:
    """Return the same variables for a git that works in the project, and fills a new worktree."""
    known = _read(root, {})
    return client_environment.as_git_config(overrides(known, known, root, top)) if known else {}


def _read(cwd: str, told: Mapping[str, str]) -> Settings:
    """Return the drivers that git sees; without variables, those of the person's checkout."""
    known = settings.seen(cwd, told)
    return {name: values[-1] for name, values in known.items() if re.fullmatch(_PATTERN, name)}


def overrides(seen: Settings, trusted: Settings, root: str, top: str) -> Settings:
    """Return the settings that replace those which git sees in a worktree.

    `seen` is what git sees in the worktree `top`, `trusted` what it sees in the person's checkout
    `root`.
    """
    wanted = {name: _safe(name, trusted.get(name), root, top) for name in seen}
    return {name: value for name, value in wanted.items() if value != seen[name]}


def _safe(name: str, trusted: str | None, root: str, top: str) -> str:
    if name.endswith(".required"):
        return trusted or "false"
    if name.endswith(".driver"):
        return _merge(trusted, root, top) if trusted else _TEXT_MERGE
    if not trusted or _LFS.match(trusted):
        return trusted or ""
    return f"cd {shlex.quote(root)} && {trusted}"


def _merge(command: str, root: str, top: str) -> str:
    """Return a merge driver that works in the person's checkout on the files of a worktree."""
    if not _PLAIN.fullmatch(top):
        return _TEXT_MERGE
    # Git names its temporary files relative to the worktree's top.
    absolute = re.sub(r"%%|%[OAB]", lambda m: m[0] if m[0] == "%%" else f"{top}/{m[0]}", command)
    return f"cd {shlex.quote(root)} && {absolute}"
