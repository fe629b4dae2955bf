"""Entries of commits that name a commit of another repository: which of them some work changed."""

import re
from collections.abc import Sequence

from orchestrator.git import call
from orchestrator.git.submodules import LIST
from orchestrator.model.fields import NamedTuple

#: Rows of changed entries, whatever the user's settings are.
RAW = ("--raw", "-z", "--no-abbrev", "--no-renames", "--ignore-submodules=none")
_LOG = ("--diff-merges=first-parent", "--no-show-signature", *RAW)
#: The same after a byte of value 1 for each commit; of a merge, what it adds to its first parent.
LOG = ("--format=%x01", *_LOG)
#: The same after each commit's id, subject and parents, the newest commit first.
_NAMED = ("--date-order", "--format=%x01%H %s%x01%p", *_LOG)


class Work(NamedTuple):
    """Commits, and what they name."""

    #: Each commit with its subject, the newest first.
    commits: tuple[tuple[str, str], ...] = ()
    #: The paths of entries with mode 160000 that a commit added or changed, and `.gitmodules` if it
    #: changed.
    links: tuple[str, ...] = ()
    #: Whether one of the commits has no parent.
    has_root: bool = False


class Change(NamedTuple):
    """An entry of a tree that names a commit of another repository, and that changed."""

    path: str
    #: The commit before; None for a new entry.
    old: str | None
    new: str


def changed(root: str, base: str, head: str, paths: Sequence[str] = ()) -> list[Change]:
    """Return the entries below `paths` that name a commit at `head`, unlike at `base`."""
    literal = [f":(literal){path}" for path in paths]
    said = call.ask(root, "diff", *RAW, base, head, "--", *literal)
    rows = re.findall(r":(\d+) 160000 (\w+) (\w+) \w\0([^\0]+)", said)
    return [Change(path, old if mode == "160000" else None, new) for mode, old, new, path in rows]


def urls(root: str, commit: str) -> dict[str, str]:
    """Return the URLs that a commit's `.gitmodules` has for submodules, by the submodule's path."""
    words = ("--null", "--get-regexp", r"^submodule\..*\.(path|url)$")
    blob = f"{commit}:{LIST}"
    found: dict[str, dict[str, str]] = {}
    for entry in filter(None, call.run(root, "config", "--blob", blob, *words).out.split("\0")):
        key, _, value = entry.partition("\n")
        name, _, word = key.removeprefix("submodule.").rpartition(".")
        found.setdefault(name, {})[word] = value
    return {keys["path"]: keys["url"] for keys in found.values() if keys.keys() >= {"path", "url"}}


def renamed(root: str, base: str, head: str) -> list[Change]:
    """Return the entries at `head` whose URL in `.gitmodules` is another than at `base`, or gone.

    Each change has the same commit before and after: `changed` returns the other entries.
    """
    before, after = urls(root, base), urls(root, head)
    paths = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    if not paths:
        return []
    words = ("--literal-pathspecs", "ls-tree", "-z", "--full-tree", head, "--", *paths)
    rows = re.findall(r"160000 commit (\w+)\t([^\0]+)", call.ask(root, *words))
    return [Change(path, commit, commit) for commit, path in rows]


def work(root: str, since: str, until: str, *without: str) -> Work:
    """Return the commits since a commit, and the repositories that they name.

    Commits that are reachable from one of `without` do not count.
    """
    left_out = (f"^{commit}" for commit in without)
    said = call.ask(root, "log", *_NAMED, f"{since}..{until}", *left_out)
    commits, links, has_root = [], {}, False
    parts = iter(said.split("\0"))
    for part in parts:
        if part.startswith("\x01"):
            named, _, parents = part[1:].rpartition("\x01")
            commit, _, subject = named.partition(" ")
            commits.append((commit, subject))
            has_root = has_root or not parents.strip()
        elif part:  # the row of an entry: its path follows
            path = next(parts)
            if part.split(" ", 2)[1] == "160000" or path == LIST:
                links[path] = True
    return Work(tuple(commits), tuple(links), has_root)
