"""The hosts that share a queue: each is a worker of the engine, which lives by its heartbeat."""

from orchestrator import __version__
from orchestrator.database.engine import Jobs
from orchestrator.database.session import Session

#: Seconds without a heartbeat, by the database's clock, after which a host counts as dead.
DEAD_AFTER = 60.0


def worker(session: Session, jobs: Jobs, host: str) -> int:
    """Return the number of a host's worker, with a heartbeat of now; register the host if needed.

    To be called in a transaction.
    """
    query = "SELECT worker FROM orchestrator_hosts WHERE name = %s AND worker IS NOT NULL"
    for (number,) in session.rows(query, host):
        jobs.beat(number)
        return int(number)
    number = jobs.register()
    session.rows(
        "INSERT INTO orchestrator_hosts (name, worker, version) VALUES (%s, %s, %s)"
        " ON CONFLICT (name) DO UPDATE SET worker = excluded.worker, version = excluded.version",
        *(host, number, __version__),
    )
    return number
