"""The name of this host, in this clone: two clones on one machine are two hosts."""

import os
import re
from collections.abc import Sequence

from orchestrator.database import address as addresses
from orchestrator.layout import Layout
from orchestrator.model.errors import UsageError
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files

#: The key of the project's first commits.
_PROJECT = "project"
NAME = r"[a-z0-9][a-z0-9._-]{0,62}"


class ThisHost(NamedTuple):
    """This clone among the hosts that share the queue."""

    name: str
    #: A random word of this clone, by which two clones with one name are noticed.
    clone: str


def read(layout: Layout) -> ThisHost:
    """Return the name that `init --host` gave this clone, else that of the machine."""
    found = files.read_json(layout.host) or {}
    name, clone = found.get("name"), found.get("clone")
    good = isinstance(name, str) and re.fullmatch(NAME, name)
    machine = re.sub(r"[^a-z0-9._-]+", "-", os.uname().nodename.partition(".")[0].lower())
    return ThisHost(
        str(name) if good else machine.lstrip("-._")[:63] or "host",
        clone if isinstance(clone, str) else "",
    )


def known(layout: Layout) -> ThisHost:
    """Return this clone's name; it is written down if it was not yet."""
    found = read(layout)
    return found if found.clone else write(layout, found.name)


def project(layout: Layout, theirs: Sequence[str], *, again: bool = False) -> tuple[str, ...]:
    """Return the first commits of this repository; () if they are not known.

    `theirs` are those that the queue has. If this repository begins with others, but has one of
    them, that is returned, too: one of the two is of a shallow clone. The first commits are read
    from what `note_project` wrote, unless `again`: git looks through the whole history for them.
    """
    kept = (files.read_json(layout.host) or {}).get(_PROJECT)
    is_kept = isinstance(kept, list) and all(isinstance(each, str) for each in kept)
    found = tuple(kept) if isinstance(kept, list) and is_kept and not again else ()
    if found and not (theirs and set(theirs).isdisjoint(found)):
        return found
    from orchestrator.git import beginnings

    found = found or beginnings.first_commits(layout.root)
    if not theirs or not found or not set(theirs).isdisjoint(found):
        return found
    both = beginnings.shared(layout.root, theirs)
    return () if both is None else (*found, *both)


def note_project(layout: Layout, theirs: Sequence[str] = ()) -> tuple[str, ...]:
    """Ask git for the commits that `project` returns, write them down, and return them."""
    found = project(layout, theirs, again=True)
    files.make_folder(os.path.dirname(layout.host))
    files.write_json(layout.host, {**(files.read_json(layout.host) or {}), _PROJECT: [*found]})
    return found


def write(layout: Layout, name: str) -> ThisHost:
    """Give this clone a name among the hosts. Raises as `require_name`."""
    require_name(name)
    host = ThisHost(name, read(layout).clone or os.urandom(8).hex())
    files.make_folder(os.path.dirname(layout.host))
    files.write_json(layout.host, {**(files.read_json(layout.host) or {}), **host._asdict()})
    return host


def require_name(name: str) -> None:
    """Raise UsageError for a text that cannot be the name of a host."""
    if re.fullmatch(NAME, name) is None:
        hint = "use a-z, 0-9, '.', '_' and '-', at most 63 characters, a letter or digit first"
        raise UsageError(f"{name!r} cannot be the name of a host", hint)


def remember(layout: Layout, address: str) -> None:
    """Note the address in use: it counts while agents.yaml is gone (`address.of_project`)."""
    found = files.read_json(layout.host) or {}
    if found.get("store") != address and addresses.wrong(address) is None:
        files.write_json(layout.host, {**found, "store": address})
    if _PROJECT not in found:  # an earlier version set this clone up
        note_project(layout)
