"""The tables of the shared queue, beside those of Procrastinate, and their version."""

from importlib.metadata import version

from orchestrator.database.engine import Jobs
from orchestrator.database.session import NOT_SET_UP, NotSetUp, Session

#: Raised with each change of the tables; a program of another version refuses to work.
VERSION = 1
#: `file` is the task's markdown file with its history. `job` is null if the engine's retention
#: removed the job of a finished task. `file` can be read so: convert_from(file, 'UTF8').
_TABLES = """
CREATE TABLE orchestrator_schema (
    version integer NOT NULL, engine text NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE orchestrator_tasks (
    id text COLLATE "C" PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('incoming', 'claimed', 'blocked', 'done', 'failed')),
    job bigint REFERENCES procrastinate_jobs ON DELETE SET NULL,
    file bytea NOT NULL,
    role text NOT NULL,
    title_key text NOT NULL,
    parent text,
    added timestamptz NOT NULL DEFAULT now(),
    changed timestamptz NOT NULL DEFAULT now());
CREATE INDEX orchestrator_tasks_state ON orchestrator_tasks (state, changed DESC);
CREATE INDEX orchestrator_tasks_title ON orchestrator_tasks (md5(title_key));
CREATE INDEX orchestrator_tasks_parent ON orchestrator_tasks (parent) WHERE parent IS NOT NULL;
CREATE INDEX orchestrator_tasks_job ON orchestrator_tasks (job);
CREATE TABLE orchestrator_hosts (
    name text PRIMARY KEY,
    clone text NOT NULL,
    worker bigint REFERENCES procrastinate_workers ON DELETE SET NULL,
    version text NOT NULL,
    last_tick timestamptz,
    facts jsonb NOT NULL DEFAULT '{}');
CREATE TABLE orchestrator_agents (
    agent text PRIMARY KEY,
    worker bigint NOT NULL REFERENCES procrastinate_workers ON DELETE CASCADE,
    host text NOT NULL,
    run text NOT NULL,
    task text,
    since timestamptz NOT NULL DEFAULT now());
CREATE TABLE orchestrator_memories (
    host text NOT NULL, agent text NOT NULL, memory jsonb NOT NULL, PRIMARY KEY (host, agent));
CREATE TABLE orchestrator_pull_requests (
    forge text NOT NULL,
    number integer NOT NULL,
    record jsonb NOT NULL,
    is_away boolean NOT NULL DEFAULT false,
    PRIMARY KEY (forge, number));
"""


def is_there(session: Session) -> bool:
    """Return whether the schema has the product's tables, of whatever version."""
    return bool(session.rows("SELECT 1 WHERE to_regclass('orchestrator_schema') IS NOT NULL"))


def prepare(session: Session) -> None:
    """Create the schema and the tables that are missing. A queue that exists is not changed.

    Raises NotSetUp if the tables are of another version, SystemFault without the rights.
    """
    if not session.rows("SELECT 1 WHERE to_regnamespace(%s) IS NOT NULL", session.schema):
        with session.translated():
            text = f"CREATE SCHEMA IF NOT EXISTS {session.identifier()}"
            session.connection.execute(text.encode())
    with session.lock(), session.transaction():
        if is_there(session):
            require(session)
            return
        if not session.rows("SELECT 1 WHERE to_regclass('procrastinate_jobs') IS NOT NULL"):
            Jobs(session).set_up()
        session.rows(_TABLES)
        session.rows(
            "INSERT INTO orchestrator_schema (version, engine) VALUES (%s, %s)",
            *(VERSION, version("procrastinate")),
        )


def require(session: Session) -> None:
    """Raise NotSetUp unless the tables are there, and of this version."""
    found = session.rows("SELECT version FROM orchestrator_schema")
    if not found:
        raise NotSetUp(f"{session.shown} has no queue yet", NOT_SET_UP)
    if found[0][0] != VERSION:
        newer = found[0][0] > VERSION
        message = (
            f"the queue in {session.shown} has version {found[0][0]}; this program has {VERSION}"
        )
        hint = (
            "update this host's program"
            if newer
            else "update the other hosts, then: orchestrator init"
        )
        raise NotSetUp(message, hint)
