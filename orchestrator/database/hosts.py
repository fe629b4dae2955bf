"""The hosts that share a queue: each is a worker of the engine, which lives by its heartbeat.

An agent runs on one host at a time: a row of `orchestrator_agents` says on which. The row belongs
to the host's worker; if the worker is removed because its heartbeat stopped, the row goes with it.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence

from orchestrator import __version__
from orchestrator.database import json_text, schema
from orchestrator.database.engine import HEARTBEAT, Jobs
from orchestrator.database.session import Session
from orchestrator.database.this_host import ThisHost
from orchestrator.model.annotations import Any
from orchestrator.model.errors import StoreFault
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


#: One statement: an idle host costs the database no more. The engine's own statement is the
#: heartbeat. A tick that found nothing to do is reported with the heartbeat that follows it.
_PULSE = f"""
WITH me AS (
    UPDATE orchestrator_hosts SET last_tick = greatest(last_tick, now() - %s * interval '1 s')
    WHERE name = %s AND clone = %s AND worker IS NOT NULL RETURNING worker),
known AS (
    SELECT count(*) AS hosts, count(*) FILTER (
        WHERE last_heartbeat < now() - %s * interval '1 s' AND id NOT IN (SELECT worker FROM me)
    ) AS silent FROM procrastinate_workers)
SELECT number::text, silent, hosts, ({HEARTBEAT.format("me.worker")})::text
FROM me, known, orchestrator_changes, orchestrator_schema
WHERE version = %s AND NOT copying AND moved_to IS NULL
"""


def pulse(session: Session, me: ThisHost, tick_age: float) -> tuple[str, int] | None:
    """Send the heartbeat of this host, whose last tick was `tick_age` seconds ago.

    Returns the queue's number (empty if a host is dead whose tasks a tick has to return) and how
    many hosts are alive; None if this host has no worker, or the queue is closed, or has another
    version.
    """
    values = (tick_age, me.name, me.clone, DEAD_AFTER, schema.VERSION)
    for number, silent, alive, _ in session.rows(_PULSE, *values):
        return "" if silent else number, alive - silent
    return None


#: The first tasks that may be claimed now, and each host that is alive, with its runs.
_OFFER = """
SELECT (SELECT coalesce(jsonb_agg(jsonb_build_array(id, role)), '[]') FROM (
        SELECT known.id, role FROM orchestrator_tasks known JOIN procrastinate_jobs j ON j.id = job
        WHERE state = 'incoming' AND coalesce(scheduled_at <= now(), true)
        ORDER BY priority DESC, added, known.id LIMIT 20) AS first),
    (SELECT coalesce(jsonb_agg(jsonb_build_array(name, runs, facts->'takes')), '[]') FROM (
        SELECT name, facts, (
            SELECT count(*) FROM orchestrator_agents a WHERE a.worker = w.id) AS runs
        FROM orchestrator_hosts JOIN procrastinate_workers w ON w.id = worker
        WHERE last_heartbeat >= now() - %s * interval '1 s') AS alive)
"""


def offer(session: Session) -> Sequence[Any]:
    """Return id and role of the first tasks that may be claimed now, and the hosts.

    Of each host that is alive: its name, how many runs it has, and what it told of its agents.
    """
    return next(iter(session.rows(_OFFER, DEAD_AFTER)), ((), ()))


def attend(session: Session, jobs: Jobs, me: ThisHost, runs: Iterable[str]) -> None:
    """Note a tick of this host, which has these runs, and remove the hosts that are dead.

    To be called in a transaction. Raises HostTaken.
    """
    number = worker(session, jobs, me)
    session.later(
        "UPDATE orchestrator_hosts SET last_tick = now(), version = %s WHERE name = %s",
        (__version__, me.name),
    )
    session.later(
        "DELETE FROM orchestrator_agents WHERE worker = %s AND run <> ALL(%s)", (number, [*runs])
    )
    jobs.prune(DEAD_AFTER)
    session.later(
        "DELETE FROM orchestrator_hosts WHERE worker IS NULL"
        " AND coalesce(last_tick, '-infinity') < now() - %s * interval '1 day'",
        (FORGOTTEN_DAYS,),
    )


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


def release(session: Session, wanted: Lease, memory: Mapping[str, object]) -> None:
    """End an agent's run, and keep what the agent remembers for the other hosts.

    Its times are kept by the database's clock, because the clocks of the hosts may differ.
    """
    session.later(
        "DELETE FROM orchestrator_agents WHERE agent = %s AND host = %s AND run = %s",
        (wanted.agent, wanted.host, wanted.run),
    )
    session.later(
        "INSERT INTO orchestrator_memories (host, agent, memory) SELECT %s, %s, %s::jsonb || ("
        "SELECT coalesce(jsonb_object_agg(key, value::float8 + extract(epoch FROM"
        " clock_timestamp())::float8 - %s), '{}') FROM jsonb_each_text(%s::jsonb))"
        " ON CONFLICT (host, agent) DO UPDATE SET memory = excluded.memory",
        (
            *(wanted.host, wanted.agent, json_text.dumped(memory)),
            *(time.time(), json.dumps(_times(memory))),
        ),
    )


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


def wake(
    session: Session, agents: Iterable[str], but: str, only: str | None
) -> Sequence[tuple[str, str]]:
    """End questions and pauses in what agents remember, on the hosts other than `but`.

    `only` is the one host where this is to be done; None for all. Returns agent and host of each.
    """
    query = (
        "UPDATE orchestrator_memories SET memory = memory || %s::jsonb"
        " WHERE agent = ANY(%s) AND host <> %s AND host = coalesce(%s, host)"
        " AND coalesce(memory ->> 'suspended', memory ->> 'question') IS NOT NULL"
        " RETURNING agent, host"
    )
    awake = {"suspended": None, "question": None, "failures": 0}
    with session.transaction():
        return session.rows(query, json.dumps(awake), [*agents], but, only)


def _times(memory: Mapping[str, object]) -> dict[str, float]:
    """Return the times of an agent's memory that are known."""
    found = {name: memory.get(name) for name in ("last_started", "last_finished")}
    return {name: at for name, at in found.items() if isinstance(at, int | float)}


def _moved(memory: Mapping[str, object], seconds: float) -> Mapping[str, object]:
    """Return an agent's memory with its times moved from the database's clock to this host's."""
    return {**memory, **{name: at + seconds for name, at in _times(memory).items()}}
