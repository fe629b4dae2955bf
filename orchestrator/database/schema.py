"""The tables of the shared queue, beside those of Procrastinate, and their version."""

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from orchestrator.database import one_project
from orchestrator.database.connection import NO_QUEUE, NotSetUp
from orchestrator.database.engine import Jobs
from orchestrator.database.session import Session
from orchestrator.model.annotations import Any
from orchestrator.model.errors import OrchestratorError

#: Returns the first commits of a repository, given those of the queue (`this_host.project`).
Project = Callable[[Sequence[str]], Sequence[str]]
#: Raised with each change of the tables; a program of another version refuses to work.
VERSION = 4
#: Seconds for which a session believes that the queue is open.
BELIEVED = 5.0
#: The tables of version 1. `copying`: a queue is being moved here, and is not complete. `moved_to`:
#: it was moved away. `file` is the task's markdown file with its history. `job` is null if the
#: engine's retention removed the job of a finished task. `file` can be read so:
#: convert_from(file, 'UTF8').
_TABLES = """
CREATE TABLE orchestrator_schema (
    version integer NOT NULL,
    engine text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    copying boolean NOT NULL DEFAULT false,
    moved_to text);
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
    published text,
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
CREATE TABLE orchestrator_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL,
    line text NOT NULL,
    at timestamptz NOT NULL DEFAULT now());
CREATE INDEX orchestrator_events_at ON orchestrator_events (at);
CREATE TABLE orchestrator_pull_requests (
    forge text NOT NULL,
    number integer NOT NULL,
    record jsonb NOT NULL,
    is_away boolean NOT NULL DEFAULT false,
    PRIMARY KEY (forge, number));
"""
#: One number that changes in each transaction that changes what a tick reads, and a notification of
#: the change for the attendants; `task` tells them that there may be work. The triggers run at the
#: end of a transaction: it holds the number's row for a moment, and no two wait for each other. The
#: number follows the clock, so that no other database, or one that was restored, has it too.
_CHANGES = """
CREATE TABLE orchestrator_changes (number bigint NOT NULL);
INSERT INTO orchestrator_changes VALUES (0);
CREATE FUNCTION orchestrator_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orchestrator_' || TG_TABLE_SCHEMA, TG_ARGV[0]);
    IF coalesce(current_setting('orchestrator.noted', true), '') = '' THEN
        UPDATE orchestrator_changes SET number =
            greatest(number + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
        PERFORM set_config('orchestrator.noted', 'yes', true);
    END IF;
    RETURN NULL;
END; $$;
"""
#: How the name of the channel begins on which they are told; the schema's name follows.
CHANNEL = "orchestrator_"
_TRIGGER = """
CREATE CONSTRAINT TRIGGER orchestrator_{name} AFTER {events} ON orchestrator_{table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW {when}
    EXECUTE FUNCTION orchestrator_note_change('{word}');
"""
#: What the notification of a new or returned task says, and that of every other change.
TASK, OTHER = "task", "other"
_ANY = "INSERT OR UPDATE OR DELETE"
_TRIGGERS = (
    ("added", "INSERT", "tasks", "WHEN (NEW.state = 'incoming')", TASK),
    (
        *("returned", "UPDATE OF state", "tasks"),
        *("WHEN (NEW.state = 'incoming' AND OLD.state <> 'incoming')", TASK),
    ),
    ("tasks_changed", _ANY, "tasks", "", OTHER),
    ("agents_changed", _ANY, "agents", "", OTHER),
    ("memories_changed", _ANY, "memories", "", OTHER),
    ("pull_requests_changed", _ANY, "pull_requests", "", OTHER),
    ("schema_changed", "UPDATE", "schema", "", OTHER),
    # The worker of a host that died is removed.
    ("hosts_changed", "UPDATE OF worker", "hosts", "", OTHER),
)
#: What only one host does, such as telling a person a piece of news, and the host that took it.
_TAKEN = """
CREATE TABLE orchestrator_taken (
    word text PRIMARY KEY, host text NOT NULL, at timestamptz NOT NULL DEFAULT now());
"""
#: The fact of a host that a person removed from the list, or that an earlier queue had; it ends
#: with the host's next tick.
REMOVED = '{"removed": true}'
#: Whose queue it is (`one_project`).
_PROJECT = "ALTER TABLE orchestrator_schema ADD COLUMN project text;"
#: What leads to a version from the one before it.
_STEPS = {
    1: _TABLES,
    2: _CHANGES
    + "".join(
        _TRIGGER.format(name=name, events=events, table=table, when=when, word=word)
        for name, events, table, when, word in _TRIGGERS
    ),
    3: _TAKEN,
    4: _PROJECT,
}
#: In what state the queue is, and which process of the server answers.
_STATE = (
    "SELECT version, copying, moved_to, to_jsonb(known) ->> 'project', pg_backend_pid()"
    " FROM orchestrator_schema AS known"
)


def is_there(session: Session) -> bool:
    """Return whether the schema has the product's tables, of whatever version."""
    return bool(session.rows("SELECT 1 WHERE to_regclass('orchestrator_schema') IS NOT NULL"))


def prepare(session: Session, project: Project = lambda _: ()) -> None:
    """Create the schema and the tables that are missing; bring older tables to this version.

    `project` is that of `require`. The tasks of a queue that exists are not changed. Raises
    NotSetUp if the tables are of a newer version, OtherProject, StoreFault without the rights, and
    behind a pool that cannot be used.
    """
    session.require_unshared()
    if not session.rows("SELECT 1 WHERE to_regnamespace(%s) IS NOT NULL", session.schema):
        with session.translated():
            text = f"CREATE SCHEMA IF NOT EXISTS {session.identifier()}"
            session.connection.execute(text.encode())
    # Before the lock: git may ask a remote.
    own = project(one_project.known(session) if is_there(session) else ())
    with session.lock(), session.transaction():
        if is_there(session):
            _upgrade(session)
            one_project.note(session, own)
            return
        if not session.rows("SELECT 1 WHERE to_regclass('procrastinate_jobs') IS NOT NULL"):
            Jobs(session).set_up()
        for step in _STEPS.values():
            session.script(step)
        session.rows(
            "INSERT INTO orchestrator_schema (version, engine) VALUES (%s, %s)",
            *(VERSION, version("procrastinate")),
        )
        one_project.note(session, own)


def _upgrade(session: Session) -> None:
    """Take the steps from the tables' version to this one. Raises NotSetUp for a newer version."""
    [(known,)] = session.rows("SELECT version FROM orchestrator_schema")
    for number, step in _STEPS.items():
        if number > known:
            session.script(step)
    _require_version(session, max(known, VERSION))
    if known < VERSION:
        # Last: no table can be altered after a change that its triggers have not seen.
        session.rows("UPDATE orchestrator_schema SET version = %s", VERSION)


def require(session: Session, project: Project = tuple) -> None:
    """Raise NotSetUp unless the tables are there, of this version, and hold the whole queue.

    `project` takes the first commits that the queue has, and returns those of this repository; it
    is called only if the queue has some, because git may have to be asked. Raises OtherProject if
    they are others, and Pooled if a pool lends the connection by now: other tables, or the tables
    of no queue, may be found there.
    """
    try:
        found = session.rows(_STATE)
    except NotSetUp:
        session.require_backend()  # a connection that a pool lends may look at another schema
        raise
    session.require_backend(found[0][-1] if found else None)
    _judge(session, found, project)


def _judge(session: Session, found: Sequence[Any], project: Project) -> None:
    """Raise NotSetUp or OtherProject unless this program can work with a queue in this state."""
    if not found:
        raise NotSetUp(f"{session.shown} has no queue yet", NO_QUEUE)
    version, copying, moved_to, known, _ = found[0]
    _require_version(session, version)
    if copying:
        message = f"a queue is being moved to {session.shown}, and is not complete"
        raise NotSetUp(message, f"finish it: orchestrator queue migrate --to '{session.shown}'")
    if moved_to:
        message = f"the queue in {session.shown} was moved to {moved_to}"
        raise NotSetUp(message, "pull agents.yaml, or set `store` in it to where the queue is now")
    if known:
        theirs = known.split()
        one_project.require(session, theirs, project(theirs))


def require_open(session: Session, project: Project) -> None:
    """Raise as `require` does. Asks at most once in 5 s."""
    now = time.monotonic()
    if now - session.open_at > BELIEVED:
        require(session, project)
        session.open_at = now


def _require_version(session: Session, known: int) -> None:
    if known != VERSION:
        newer = known > VERSION
        message = f"the queue in {session.shown} has version {known}; this program has {VERSION}"
        step = "update the other hosts, then: orchestrator init"
        own = "update this host's program; the versions of the other hosts: orchestrator hosts"
        raise NotSetUp(message, own if newer else step)


def begin_copy(session: Session, project: Project = lambda _: ()) -> None:
    """Make the schema ready to take the queue of a project. Raises OrchestratorError.

    What an earlier move that was interrupted left here is replaced, and so is a queue that was
    moved away.
    """
    prepare(session, project)
    with session.lock(), session.transaction():
        require_free(session)
        for table in ("tasks", "pull_requests", "memories"):
            session.rows(f"DELETE FROM orchestrator_{table}")
        # The hosts of an earlier queue: their rows say which events are published.
        session.rows("UPDATE orchestrator_hosts SET facts = facts || %s::jsonb", REMOVED)
        # A job that stays would be fetched in place of the job of a task with the same id.
        session.rows("DELETE FROM procrastinate_jobs")
        session.rows("UPDATE orchestrator_schema SET copying = true, moved_to = NULL")


def require_free(session: Session) -> None:
    """Raise OrchestratorError if the tables hold a queue with tasks that hosts work with."""
    in_use = "SELECT 1 FROM orchestrator_schema WHERE NOT copying AND moved_to IS NULL"
    if session.rows(f"{in_use} AND EXISTS (SELECT 1 FROM orchestrator_tasks)"):
        raise OrchestratorError(
            f"{session.shown} has a queue with tasks already",
            "name another schema in the address: ?options=-csearch_path%3DNAME",
            code="not_empty",
        )


def is_copying(session: Session) -> bool:
    """Return whether a move to this schema was interrupted."""
    return bool(session.rows("SELECT 1 FROM orchestrator_schema WHERE copying"))


def end_copy(session: Session) -> None:
    """Open the queue that was moved here."""
    with session.transaction():
        session.rows("UPDATE orchestrator_schema SET copying = false")


def move_away(session: Session, to: str) -> None:
    """Close the queue, which is somewhere else now. Its rows stay until another queue comes."""
    with session.transaction():
        session.rows("UPDATE orchestrator_schema SET moved_to = %s", to)
