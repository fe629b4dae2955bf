"""The name of this host, in this clone: two clones on one machine are two hosts."""

import os
import re

from orchestrator.database import address as addresses
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files

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


def write(layout: Layout, name: str) -> ThisHost:
    """Give this clone a name among the hosts. Raises OrchestratorError for an unusable name."""
    if re.fullmatch(NAME, name) is None:
        hint = "use a-z, 0-9, '.', '_' and '-', at most 63 characters, a letter or digit first"
        raise OrchestratorError(f"{name!r} cannot be the name of a host", hint, code="usage")
    host = ThisHost(name, read(layout).clone or os.urandom(8).hex())
    files.make_folder(os.path.dirname(layout.host))
    files.write_json(layout.host, {**(files.read_json(layout.host) or {}), **host._asdict()})
    return host


def remember(layout: Layout, address: str) -> None:
    """Note the address in use: it counts while agents.yaml is gone (`address.of_project`)."""
    found = files.read_json(layout.host) or {}
    if found.get("store") != address and addresses.wrong(address) is None:
        files.write_json(layout.host, {**found, "store": address})
