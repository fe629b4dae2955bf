"""The hosts of a shared queue as a person sees them: which are there, and which are no longer."""

from collections.abc import Mapping, Sequence

from orchestrator.database import hosts, schema
from orchestrator.database.session import Session
from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.fields import NamedTuple

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
        return self.heartbeat_age is not None and self.heartbeat_age <= hosts.DEAD_AFTER


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
        at_work = [lease.agent for lease in hosts.leases(session) if lease.host == name]
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
