"""The hosts that share a queue: each is a worker of the engine, which lives by its heartbeat.

An agent runs on one host at a time: a row of `orchestrator_agents` says on which. The row belongs
to the host's worker; if the worker is removed because its heartbeat stopped, the row goes with it.
"""

import time
from collections.abc import Mapping, Sequence

from orchestrator import __version__
from orchestrator.database import schema
from orchestrator.database.engine import Jobs
from orchestrator.database.session import Session
from orchestrator.database.this_host import ThisHost
from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, OrchestratorError, StoreFault
from orchestrator.model.fields import NamedTuple

#: Seconds without a heartbeat, by the database's clock, after which a host counts as dead.
DEAD_AFTER = 60.0

#: Days after which a host that does not come back is forgotten. Not earlier than its events
#: (`shared_events`): it would publish them once more.
FORGOTTEN_DAYS = 70


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
    #: Seconds since it began, by the database's clock.
    age: float = 0.0


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


#: Gives an agent to this host's worker, for one run; the values are those of `lease_values`. To be
#: sent under the lock, under which the caller has looked that no other host has it.
LEASE = """
INSERT INTO orchestrator_agents AS known (agent, worker, host, run, task)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT (agent) DO UPDATE
SET worker = excluded.worker, run = excluded.run, task = excluded.task, since = now()
WHERE known.host = excluded.host
"""


def lease_values(number: int, wanted: Lease) -> tuple[object, ...]:
    """Return the values of `LEASE`, for the worker of this number."""
    return wanted.agent, number, wanted.host, wanted.run, wanted.task


#: The agents that have a run.
LEASES = (
    "SELECT agent, host, run, task, extract(epoch FROM clock_timestamp() - since)::float8"
    " FROM orchestrator_agents ORDER BY agent"
)
#: What the agents of all hosts remember, with the time of the database's clock.
MEMORIES = (
    "SELECT host, agent, memory, extract(epoch FROM clock_timestamp())::float8"
    " FROM orchestrator_memories ORDER BY host, agent"
)


def leases(session: Session) -> Sequence[Lease]:
    """Return the agents that have a run, on whatever host."""
    return [Lease(*row) for row in session.rows(LEASES)]


def memories(session: Session) -> Sequence[tuple[str, str, Mapping[str, object]]]:
    """Return host, agent and memory for every host, with times by this host's clock."""
    rows, now = session.rows(MEMORIES), time.time()
    return [(host, agent, _moved(memory, now - there)) for host, agent, memory, there in rows]


def times(memory: Mapping[str, object]) -> dict[str, float]:
    """Return the times of an agent's memory that are known."""
    found = {name: memory.get(name) for name in ("last_started", "last_finished")}
    return {name: at for name, at in found.items() if isinstance(at, int | float)}


def _moved(memory: Mapping[str, object], seconds: float) -> Mapping[str, object]:
    """Return an agent's memory with its times moved from the database's clock to this host's."""
    return {**memory, **{name: at + seconds for name, at in times(memory).items()}}


#: Days for which a host is shown that is gone.
SHOWN_DAYS = 30


class Host(NamedTuple):
    """A host as the database knows it. Times are epoch seconds of the database's clock."""

    name: str
    version: str
    last_tick: float | None
    #: Seconds since its last heartbeat; None for a host that is gone.
    heartbeat_age: float | None
    facts: Mapping[str, Any]
    #: The random word of its clone (`this_host`).
    clone: str = ""

    @property
    def alive(self) -> bool:
        return self.heartbeat_age is not None and self.heartbeat_age <= DEAD_AFTER


def every(session: Session) -> Sequence[Host]:
    """Return all hosts, by name, except those that are gone for long, or were removed."""
    rows = session.rows(
        "SELECT name, version, extract(epoch FROM last_tick)::float8,"
        " extract(epoch FROM clock_timestamp() - last_heartbeat)::float8, facts, clone"
        " FROM orchestrator_hosts LEFT JOIN procrastinate_workers w ON w.id = worker"
        " WHERE w.id IS NOT NULL OR (facts -> 'removed' IS NULL"
        " AND last_tick > now() - %s * interval '1 day') ORDER BY name",
        SHOWN_DAYS,
    )
    return [Host(*row) for row in rows]


def remove(session: Session, name: str) -> None:
    """Show a host no longer that will not come back. Raises NotFound, and OrchestratorError.

    Its row stays, with what it published: `costs` counts it. If it ticks again, it is there again.
    """
    with session.transaction():
        found = {host.name: host for host in every(session)}
        host = found.get(name)
        if host is None:
            raise NotFound("host", name, found)
        at_work = [lease.agent for lease in leases(session) if lease.host == name]
        if host.alive or at_work:
            message = f"{name} is alive" if host.alive else f"{name} still has {at_work[0]}"
            step = "its tasks return at the next tick of another host: orchestrator tick"
            if host.alive:
                step = "on that host: orchestrator init --schedule none; then wait for a minute"
            raise OrchestratorError(message, step, code="running")
        query = "DELETE FROM procrastinate_workers USING orchestrator_hosts"
        session.rows(f"{query} WHERE worker = procrastinate_workers.id AND name = %s", name)
        query = "UPDATE orchestrator_hosts SET facts = facts || %s::jsonb WHERE name = %s"
        session.rows(query, schema.REMOVED, name)
