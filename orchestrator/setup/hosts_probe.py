"""The checks of `doctor` and `init` among the hosts that share the queue: their names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.database import access, this_host
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import did_you_mean
from orchestrator.model.finding import Finding, fail, warn


def look(layout: Layout, config: Config) -> Iterator[Finding]:
    """Yield findings only about names that are wrong. Raises StoreFault."""
    session = access.of_project(layout)
    if session is None:
        return
    from orchestrator.database import hosts

    known, me = hosts.every(session), this_host.read(layout)
    if any(x.name == me.name and x.clone != me.clone and x.alive for x in known):
        taken = hosts.HostTaken(me.name)
        yield fail(taken.code, taken.message, taken.hint or "")
    names = {me.name, *(host.name for host in known)}
    for name in sorted({agent.host for agent in config.agents if agent.host} - names):
        pinned = ", ".join(agent.name for agent in config.agents if agent.host == name)
        message = f"{pinned}: `host` is {name!r}, but no host of that name has run a tick"
        there = f"on that host: orchestrator init --host {name}"
        # Hosts are often numbered: the next number is no misspelt one.
        near = [each for each in names if _without_digits(each) != _without_digits(name)]
        yield warn("unknown_host", message, did_you_mean(name, near, there))


def _without_digits(name: str) -> str:
    return re.sub(r"\d+", "", name)
