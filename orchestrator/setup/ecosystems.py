"""Which package managers a repository uses, and how its dependencies and tests are run with them.

Pure: `facts` says what a folder has; `ecosystem_table` says what follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orchestrator.model.fields import NamedTuple
from orchestrator.setup import facts
from orchestrator.setup.ecosystem_table import BARE, TABLE, Choice
from orchestrator.setup.facts import Facts


class Found(NamedTuple):
    """An ecosystem in a folder, with its commands there."""

    name: str
    family: str
    #: The file by which it was recognised.
    by: str
    setup: str | None
    check: str | None
    when_changed: tuple[str, ...]
    creates: tuple[str, ...]
    #: Lock files of other ecosystems of the family.
    instead_of: tuple[str, ...] = ()


def detect(names: Iterable[str], texts: Mapping[str, str]) -> list[Found]:
    """Return the ecosystems of one folder, at most one per family, in the order of `TABLE`.

    `names` are the paths of the files below the folder; `texts` are the contents of the files in
    the folder that `facts.READ` names, as far as they are known.
    """
    paths = set(names)
    known = facts.of(paths, texts)
    found: dict[str, Found] = {}
    for each in TABLE:
        mark = next((mark for mark in each.marks if mark in known.sources), None)
        if mark is None or not known.sources.keys() >= set(each.needs):
            continue
        by, first = known.sources[mark], found.get(each.family)
        if first is None:
            changed = tuple(name for name in each.when_changed if name in paths)
            setup, check = _chosen(each.setup, known), _chosen(each.checks, known)
            found[each.family] = Found(
                each.name, each.family, by, setup, check, changed, each.creates
            )
        elif "lock" in by:
            found[each.family] = first._replace(instead_of=(*first.instead_of, by))
    if "make" in found and "python" in found and found["python"].name == BARE:
        found.pop("python")  # the project's own way to run the tests
    if len(found) > 1 and any(each.check for each in found.values() if each.family != "make"):
        found.pop("make", None)
    return list(found.values())


def _chosen(choices: Iterable[Choice], known: Facts) -> str | None:
    fit = (command for needs, command in choices if known.sources.keys() >= set(needs))
    return next((command.format(**known.words) for command in fit), None)


#: A word in the place of a program: first, or after `cd FOLDER &&` and the like, and variables.
_PROGRAM = re.compile(r"(?:^|&&|\|\||[;|(])\s*(?:\w+=\S*\s+)*([\w.-]+)(?=\s|$|[;)])")
#: The programs that the commands of the table start, without those that a worktree brings.
_KNOWN = {
    word
    for each in TABLE
    for _, command in (*each.setup, *each.checks)
    for word in _PROGRAM.findall(command)
}


def programs(commands: Iterable[str]) -> list[str]:
    """Return the package managers and build tools that shell commands start, each once."""
    found = (word for command in commands for word in _PROGRAM.findall(command))
    return [word for word in dict.fromkeys(found) if word in _KNOWN]
