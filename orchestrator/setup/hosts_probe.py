"""The checks of `doctor` and `init` among the hosts that share the queue: their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from orchestrator.database import access, this_host
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.errors import did_you_mean
from orchestrator.model.finding import Finding, fail, warn

if TYPE_CHECKING:
    from orchestrator.database.hosts import Host, HostTaken


def look(layout: Layout, config: Config) -> Iterator[Finding]:
    """Yield findings only about names that are wrong. Raises StoreFault."""
    session = access.of_project(layout)
    if session is None:
        return
    from orchestrator.database import hosts

    known, me = hosts.every(session), this_host.read(layout)
    if taken := _taken(known, me):
        yield fail(taken.code, taken.message, taken.hint or "")
    names = {me.name, *(host.name for host in known)}
    for name in sorted({agent.host for agent in config.agents if agent.host} - names):
        pinned = ", ".join(agent.name for agent in config.agents if agent.host == name)
        message = f"{pinned}: `host` is {name!r}, but no host of that name has run a tick"
        there = f"on that host: orchestrator init --host {name}"
        # Hosts are often numbered: the next number is no misspelt one.
        near = [each for each in names if _without_digits(each) != _without_digits(name)]
        yield warn("unknown_host", message, did_you_mean(name, near, there))


def require_free(layout: Layout, name: str) -> None:
    """Raise HostTaken if another living host of the shared queue has this name; StoreFault."""
    session = access.of_project(layout)
    if session is None:
        return
    from orchestrator.database import hosts, schema

    known = hosts.every(session) if schema.is_there(session) else ()
    if taken := _taken(known, this_host.read(layout)._replace(name=name)):
        raise taken


def _taken(known: Iterable[Host], me: this_host.ThisHost) -> HostTaken | None:
    """Return the error that another living host has the name of this one; None if it has not."""
    from orchestrator.database import hosts

    is_taken = any(x.name == me.name and x.clone != me.clone and x.alive for x in known)
    return hosts.HostTaken(me.name) if is_taken else None


def _without_digits(name: str) -> str:
    return re.sub(r"\d+", "", name)
