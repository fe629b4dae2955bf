"""What `init` proposes for `checks` and `setup`, from the files that git tracks.

Nothing here runs a proposed command, or writes it without the person's yes.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterable
from posixpath import join, split

from orchestrator.config import change, edit
from orchestrator.git import call
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.fields import NamedTuple
from orchestrator.setup.ecosystem_table import TABLE
from orchestrator.setup.ecosystems import Found, detect, programs
from orchestrator.setup.facts import READ, unittests, unreadable
from orchestrator.system import files

#: Folders whose projects are not this repository's own, or not what it delivers.
_NOT_OWN = {
    *("node_modules", "vendor", "third_party", "external", "deps", "testdata", "fixtures"),
    *("test", "tests", "docs", "doc", "example", "examples", "samples", "templates", "benchmarks"),
}
#: The deepest folder that is looked at, the number of folders that are looked at, and the number of
#: ecosystems that get commands.
DEEPEST, WIDEST, MOST = 3, 50, 4
#: The largest file that is read, in bytes.
_LARGEST = 1 << 20
#: Names of files by which an ecosystem can be recognised, or which are read for that.
_MARKS = {mark for each in TABLE for mark in (*each.marks, *each.needs) if " " not in mark}
_MARKS |= {*READ, "pytest.ini"} - {"setup.cfg"}


class Place(NamedTuple):
    """An ecosystem in a folder of the repository; the folder is "" for the top."""

    folder: str
    found: Found
    #: Whether the proposal has its commands: a person decides about the others.
    used: bool = True


class Proposal(NamedTuple):
    """Values for agents.yaml, and what they were derived from."""

    checks: tuple[str, ...] = ()
    command: str | None = None
    when_changed: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    #: Folders that the commands create.
    creates: tuple[str, ...] = ()
    #: Files that nothing is proposed for, because their own tools cannot read them, with reasons.
    unreadable: tuple[tuple[str, str], ...] = ()


def propose(paths: Iterable[str], read: Callable[[str], str | None]) -> Proposal:
    """Return the proposal for a repository with these files.

    `read` returns a file's text, None if the text is not known, and raises OSError if it cannot be
    read.

    In a folder below another with the same family (a workspace), the commands of the upper folder
    count. Of more than `MOST` folders, the others are only named.
    """
    tracked = sorted(paths)
    places: list[Place] = []
    broken: list[tuple[str, str]] = []
    for folder in _folders(tracked):
        prefix = f"{folder}/" if folder else ""
        below = [path.removeprefix(prefix) for path in tracked if path.startswith(prefix)]
        texts, faults = _texts(prefix, [name for name in READ if name in below], read)
        # A test that cannot be read is not known; its command is then no sure one.
        texts |= _texts(prefix, unittests(below)[1], read)[0]
        broken += [(prefix + name, why) for name, why in faults.items()]
        for found in detect(below, texts):
            above = (p for p in places if p.found.family == found.family)
            if not any(p.folder == "" or prefix.startswith(f"{p.folder}/") for p in above):
                fails = not faults.keys().isdisjoint((found.by, *found.when_changed))
                places.append(Place(folder, found, len(places) < MOST and not fails))
    used = [place for place in places if place.used]
    commands = [_there(p.folder, p.found.setup) for p in used if p.found.setup]
    if len(commands) > 1:
        commands = [f"({command})" for command in commands]
    return Proposal(
        tuple(_there(p.folder, p.found.check) for p in used if p.found.check),
        " && ".join(commands) or None,
        tuple(join(p.folder, n) for p in used if p.found.setup for n in p.found.when_changed),
        tuple(places),
        tuple(dict.fromkeys(join(p.folder, n) for p in used for n in p.found.creates)),
        tuple(broken),
    )


def _texts(
    prefix: str, names: Iterable[str], read: Callable[[str], str | None]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts of a folder's files, and the reasons why files cannot be read."""
    texts, faults = {}, {}
    for name in names:
        try:
            text = read(prefix + name)
        except OSError as error:
            faults[name] = error.strerror or str(error)
        else:
            if text is not None:
                texts[name] = text
    return texts, {**faults, **unreadable(texts)}


def _folders(tracked: Iterable[str]) -> list[str]:
    """Return the folders with a file that marks an ecosystem, upper folders first."""
    found = {""}
    for path in tracked:
        folder, name = split(path)
        parts = folder.split("/") if folder else []
        is_own = not any(p in _NOT_OWN or p.startswith(".") for p in parts)
        if name in _MARKS and len(parts) <= DEEPEST and is_own:
            found.add(folder)
    upper_first = sorted(found, key=lambda folder: (folder.count("/") + bool(folder), folder))
    return upper_first[:WIDEST]


def _there(folder: str, command: str) -> str:
    return f"cd {shlex.quote(folder)} && {command}" if folder else command


# --- the project -------------------------------------------------------------------------------


def of_project(layout: Layout, config: Config) -> Proposal:
    """Return what is proposed for a project's configuration, without what it has already."""
    listed = call.ask(layout.root, "ls-files", "-z")
    found = propose(listed.split("\0"), lambda path: _text(layout.root, path))
    if config.checks:
        found = found._replace(checks=())
    if config.setup.command:
        found = found._replace(command=None, when_changed=())
    return found


def _text(root: str, path: str) -> str | None:
    place = os.path.join(root, path)
    try:
        data = files.read_inside(place, root, _LARGEST)
    except FileNotFoundError:
        if os.path.islink(place):
            raise OSError("a symbolic link leads to no file") from None
        return None  # Git tracks files that a sparse checkout does not have.
    return data.decode(errors="replace") if len(data) < _LARGEST else None


def not_ignored(layout: Layout, proposal: Proposal) -> list[str]:
    """Return the folders that the proposed commands create and that git does not ignore."""
    wanted = [f"{folder}/" for folder in proposal.creates]
    return [f for f in wanted if call.run(layout.root, "check-ignore", "--quiet", f).code == 1]


def not_on_path(proposal: Proposal) -> list[str]:
    """Return the programs that the proposed commands start and that this shell does not find."""
    commands = (proposal.command or "", *proposal.checks)
    return [name for name in programs(commands) if shutil.which(name) is None]


def values(proposal: Proposal) -> dict[str, object]:
    """Return the keys of agents.yaml that a proposal sets."""
    found: dict[str, object] = {}
    if proposal.checks:
        found["checks"] = list(proposal.checks)
    if proposal.command:
        found["setup.command"] = proposal.command
        found["setup.when_changed"] = list(proposal.when_changed)
    return found


def accept(layout: Layout, proposal: Proposal) -> bool:
    """Write a proposal into agents.yaml; return whether that changed the file.

    Raises OrchestratorError; then nothing was written.
    """
    return change.apply(layout, lambda text: edit.set_values(text, (), values(proposal))).written
