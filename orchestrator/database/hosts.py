"""The hosts that share a queue: each is a worker of the engine, which lives by its heartbeat.

An agent runs on one host at a time: a row of `orchestrator_agents` says on which. The row belongs
to the host's worker; if the worker is removed because its heartbeat stopped, the row goes with it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator import __version__
from orchestrator.database.engine import Jobs
from orchestrator.database.session import Session
from orchestrator.database.this_host import ThisHost
from orchestrator.errors import StoreFault
from orchestrator.fields import NamedTuple
from orchestrator.layout import Layout
from orchestrator.system import files

#: Seconds without a heartbeat, by the database's clock, after which a host counts as dead.
DEAD_AFTER = 60.0

#: Days for which `hosts` shows a host that is dead.
SHOWN_DAYS = 30


class HostTaken(StoreFault):
    """Another clone uses this clone's name."""

    code = "host_taken"

    def __init__(self, name: str) -> None:
        message = f"another clone works as the host {name!r}"
        super().__init__(message, "give this clone another name: orchestrator init --host NAME")


class Lease(NamedTuple):
    """An agent with a run on some host."""

    agent: str
    host: str
    run: str
    task: str | None


class Host(NamedTuple):
    """A host as the database knows it. Times are epoch seconds of the database's clock."""

    name: str
    version: str
    last_tick: float | None
    #: Seconds since its last heartbeat; None for a host that is gone.
    heartbeat_age: float | None
    facts: Mapping[str, Any]

    @property
    def alive(self) -> bool:
        return self.heartbeat_age is not None and self.heartbeat_age <= DEAD_AFTER


def worker(session: Session, jobs: Jobs, me: ThisHost) -> int:
    """Return the number of this host's worker, with a heartbeat of now; register it if needed.

    To be called in a transaction. Raises HostTaken.
    """
    query = "SELECT worker, clone FROM orchestrator_hosts WHERE name = %s FOR UPDATE"
    for number, clone in session.rows(query, me.name):
        if number is not None and clone != me.clone:
            raise HostTaken(me.name)
        if number is not None:
            jobs.beat(number)
            return int(number)
    number = jobs.register()
    session.rows(
        "INSERT INTO orchestrator_hosts (name, clone, worker, version) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (name) DO UPDATE"
        " SET worker = excluded.worker, clone = excluded.clone, version = excluded.version",
        *(me.name, me.clone, number, __version__),
    )
    return number


def attend(session: Session, jobs: Jobs, me: ThisHost, runs: Iterable[str]) -> None:
    """Note a tick of this host, which has these runs, and remove the hosts that are dead.

    To be called in a transaction. Raises HostTaken.
    """
    number = worker(session, jobs, me)
    session.rows(
        "UPDATE orchestrator_hosts SET last_tick = now(), version = %s WHERE name = %s",
        *(__version__, me.name),
    )
    session.rows(
        "DELETE FROM orchestrator_agents WHERE worker = %s AND run <> ALL(%s)", number, [*runs]
    )
    jobs.prune(DEAD_AFTER)
    session.rows(
        "DELETE FROM orchestrator_hosts WHERE worker IS NULL"
        " AND last_tick < now() - %s * interval '1 day'",
        SHOWN_DAYS,
    )


def lease(session: Session, number: int, wanted: Lease) -> bool:
    """Give an agent to a host's worker, for one run; return False if another host has the agent."""
    rows = session.rows(
        "INSERT INTO orchestrator_agents AS known (agent, worker, host, run, task)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (agent) DO UPDATE"
        " SET worker = excluded.worker, run = excluded.run, task = excluded.task, since = now()"
        " WHERE known.host = excluded.host RETURNING 1",
        *(wanted.agent, number, wanted.host, wanted.run, wanted.task),
    )
    return bool(rows)


def release(session: Session, wanted: Lease, memory: Mapping[str, object]) -> None:
    """End an agent's run, and keep what the agent remembers for the other hosts."""
    session.rows(
        "DELETE FROM orchestrator_agents WHERE agent = %s AND host = %s AND run = %s",
        *(wanted.agent, wanted.host, wanted.run),
    )
    session.rows(
        "INSERT INTO orchestrator_memories (host, agent, memory) VALUES (%s, %s, %s)"
        " ON CONFLICT (host, agent) DO UPDATE SET memory = excluded.memory",
        *(wanted.host, wanted.agent, json.dumps(memory)),
    )


def leases(session: Session) -> Sequence[Lease]:
    """Return the agents that have a run, on whatever host."""
    rows = session.rows("SELECT agent, host, run, task FROM orchestrator_agents ORDER BY agent")
    return [Lease(*row) for row in rows]


def memories(session: Session, but: str) -> Sequence[tuple[str, Mapping[str, object]]]:
    """Return the agents' memories on every host but one."""
    query = "SELECT agent, memory FROM orchestrator_memories WHERE host <> %s"
    return [(agent, memory) for agent, memory in session.rows(query, but)]


def every(session: Session) -> Sequence[Host]:
    """Return all hosts, by name."""
    rows = session.rows(
        "SELECT name, version, extract(epoch FROM last_tick)::float8,"
        " extract(epoch FROM clock_timestamp() - last_heartbeat)::float8, facts"
        " FROM orchestrator_hosts LEFT JOIN procrastinate_workers w ON w.id = worker ORDER BY name"
    )
    return [Host(*row) for row in rows]


def config_seal(layout: Layout) -> str:
    """Return a word that is the same on hosts with the same agents.yaml."""
    try:
        return hashlib.sha256(files.read_inside(layout.config, layout.root)).hexdigest()[:12]
    except OSError:
        return "missing"


def note(session: Session, me: ThisHost, facts: Mapping[str, object]) -> None:
    """Keep what `hosts` shows of this host."""
    text = json.dumps(facts)
    session.rows(
        "UPDATE orchestrator_hosts SET facts = %s WHERE name = %s AND facts IS DISTINCT FROM %s",
        *(text, me.name, text),
    )
