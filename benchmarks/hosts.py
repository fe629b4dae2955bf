"""Several machines: how soon another host starts, 1,000 hosts, and a million finished tasks.

Run it against a database that you can spare: it makes the schemas `t_hosts` and `t_many`, and drops
them. Give a part (`start`, `fleet`, `million`) to measure only that.

    ORCHESTRATOR_TEST_DSN=postgresql://localhost/test .venv/bin/python -m benchmarks.hosts
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from benchmarks.fleet import Fleet, wait
from orchestrator.database import session, this_host
from orchestrator.database.session import Session
from orchestrator.layout import Layout
from orchestrator.model.work import Entry
from orchestrator.system import files
from orchestrator.tasks import task_file
from orchestrator.tasks.postgresql_store import PostgresqlStore

#: Hosts that could take a task, and tasks per number of hosts.
HOSTS, ROUNDS = (1, 4, 16), 7
FLEET, FINISHED = 1000, 1_000_000
#: Seconds for which heartbeats are sent as fast as possible, and connections that send them.
SECONDS, CONNECTIONS = 8.0, 4
AT = "2026-01-01T00:00:00Z"


def main(parts: list[str]) -> int:
    """Measure, and print one line per figure."""
    base = os.environ.get("ORCHESTRATOR_TEST_DSN")
    if base is None:
        print("set ORCHESTRATOR_TEST_DSN to the address of a database", file=sys.stderr)
        return 2
    works = {"start": _start, "fleet": _fleet, "million": _million}
    for name, work in works.items():
        if name in (parts or works):
            work(base)
            print(f"load: {', '.join(f'{each:.1f}' for each in os.getloadavg())}", flush=True)
    return 0


def _address(base: str, schema: str) -> str:
    return f"{base}{'&' if '?' in base else '?'}options={quote(f'-csearch_path={schema}')}"


@contextlib.contextmanager
def _schema(base: str, name: str) -> Iterator[Session]:
    known = session.of(_address(base, name))
    drop = f"DROP SCHEMA IF EXISTS {name} CASCADE".encode()
    known.connection.execute(drop)
    try:
        yield known
    finally:
        # A host that was killed may have left a transaction, which would hold up the end.
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name"
        known.rows(f"{ended} SIMILAR TO 'orchestrator (h-[0-9]+|adder)'")
        known.connection.execute(b"SET statement_timeout = 0")
        known.connection.execute(drop)
        known.close()  # it keeps statements, which name the types of these tables


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _spread(seconds: list[float]) -> str:
    least, middle, most = (1000 * of(seconds) for of in (min, statistics.median, max))
    return f"median {middle:.1f} ms, {least:.1f} to {most:.1f} ({len(seconds)} samples)"


# --- from `task add` on a host to the client on another ------------------------------------------


def _start(base: str) -> None:
    bare = [sys.executable, "-c", "pass"]
    for number in HOSTS:
        with _schema(base, "t_hosts") as known, tempfile.TemporaryDirectory() as folder:
            fleet = Fleet(Path(folder), _address(base, "t_hosts"), number)
            try:
                commands, seconds, yardstick = [], [], []
                for each in range(ROUNDS):
                    yardstick.append(_timed(lambda: subprocess.run(bare, check=True)))
                    command, found = fleet.add(each)
                    commands.append(command)
                    seconds.append(found)
                    wait("the end of the work", lambda each=each: _done(known) == each + 1)  # type: ignore[misc]
                after = [whole - own for whole, own in zip(seconds, commands, strict=True)]
                print(f"{number} hosts: task add to the client's start: {_spread(seconds)}")
                print(f"{number} hosts: of this, task add itself: {_spread(commands)}")
                print(f"{number} hosts: from its end to the client: {_spread(after)}")
                print(f"{number} hosts: python -c pass meanwhile: {_spread(yardstick)}", flush=True)
            finally:
                fleet.close()


def _done(known: Session) -> int:
    query = "SELECT count(*) FROM orchestrator_tasks WHERE state = 'done'"
    agents = "SELECT count(*) FROM orchestrator_agents"
    [(done, busy)] = known.rows(f"SELECT ({query}), ({agents})")
    return int(done) if not busy else -1


# --- a fleet -------------------------------------------------------------------------------------


def _store(folder: str, known: Session, name: str = "one") -> PostgresqlStore:
    layout = Layout(folder)
    os.makedirs(layout.cache, exist_ok=True)
    this_host.write(layout, name)
    store = PostgresqlStore(layout, known)
    store.prepare()
    return store


def _fleet(base: str) -> None:
    with _schema(base, "t_many") as known, tempfile.TemporaryDirectory() as folder:
        store = _store(folder, known)
        store.attend(())
        store.add(_task(1))
        alone = [_timed(store.number) for _ in range(200)]
        known.rows(
            "WITH made AS (INSERT INTO procrastinate_workers (last_heartbeat)"
            " SELECT now() FROM generate_series(1, %s) RETURNING id)"
            " INSERT INTO orchestrator_hosts (name, clone, worker, version, last_tick)"
            " SELECT 'host-' || row_number() OVER (), 'c', id, '0', now() FROM made RETURNING 1",
            FLEET,
        )
        sent: list[int] = []

        def beat(first: int) -> None:
            own = Session(known.address, f"fleet {first}")
            stores = [_of_host(folder, own, n) for n in range(first, FLEET, CONNECTIONS)]
            end, count = time.monotonic() + SECONDS, 0
            while time.monotonic() < end:
                assert stores[count % len(stores)].pulse(1.0) is not None
                count += 1
            sent.append(count)
            own.close()

        threads = [threading.Thread(target=beat, args=(n,)) for n in range(CONNECTIONS)]
        for each in threads:
            each.start()
        busy = []
        while any(each.is_alive() for each in threads):
            busy.append(_timed(lambda: store.list("incoming")))
            time.sleep(0.05)
        for each in threads:
            each.join()
        rate = sum(sent) / SECONDS
        print(f"{FLEET} hosts: heartbeats: {rate:.0f} per second ({FLEET / 10:.0f} are needed)")
        print(f"{FLEET} hosts: one statement without them: {_spread(alone)}")
        print(f"{FLEET} hosts: listing the waiting tasks meanwhile: {_spread(busy)}")
        ticks = [_timed(lambda: store.attend(())) for _ in range(50)]
        print(f"{FLEET} hosts: what a tick says of its host: {_spread(ticks)}")
        print(f"{FLEET} hosts: claim and completion: {_spread(_pairs(store, 50))}", flush=True)


def _of_host(folder: str, known: Session, number: int) -> PostgresqlStore:
    """Return the store of a host of the fleet, which is in the tables already."""
    layout = Layout(os.path.join(folder, f"host-{number + 1}"))
    files.make_folder(os.path.dirname(layout.host))
    files.write_json(layout.host, {"name": f"host-{number + 1}", "clone": "c"})
    return PostgresqlStore(layout, known)


# --- a million finished tasks --------------------------------------------------------------------

_TRIGGERS = "ALTER TABLE {} {} TRIGGER USER"
#: Jobs with the events that the engine's triggers would write, and tasks with a history.
_FILL = """
WITH jobs AS (
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, status, attempts)
    SELECT 'F' || n, 'implement', 1, '{"title": "Finished"}', 'succeeded', 1
    FROM generate_series(%s::int, %s::int) AS n RETURNING id, queue_name),
events AS (
    INSERT INTO procrastinate_events (job_id, type, at)
    SELECT id, type::procrastinate_job_event_type, now() - interval '9 d'
    FROM jobs, unnest(ARRAY['deferred', 'started', 'succeeded']) AS type)
INSERT INTO orchestrator_tasks (id, state, job, file, role, title_key, added, changed)
SELECT queue_name, 'done', id, convert_to(replace(%s, 'T-0', queue_name), 'UTF8'), 'implement',
    'finished ' || queue_name, now() - interval '9 d', now() - interval '9 d' FROM jobs
RETURNING 1
"""


def _task(number: int) -> task_file.TaskFile:
    title, text = f"Benchmark number {number}", "## Context\n" + "Some words of text. " * 20
    return task_file.new(f"T{number}", title, "implement", "P1", None, AT, None, (), f"{text}\n")


def _pairs(store: PostgresqlStore, number: int) -> list[float]:
    """Return the seconds of claims, each with its completion."""

    def pair() -> None:
        task = store.list("incoming").tasks[0]
        fields: dict[str, object] = {"agent": "a", "run": f"R{task.id}", "branch": "agent/x"}
        claimed = store.claim(task, Entry(AT, "claimed", fields), 5)
        assert claimed is not None
        store.move(claimed, "done", Entry(AT, "done", {"run": f"R{task.id}"}))
        store.end("a", f"R{task.id}", {})

    first = int(time.time() * 1000)
    for each in range(number):
        store.add(_task(first + each))
    return [_timed(pair) for _ in range(number)]


def _million(base: str) -> None:
    with (
        _schema(base, "t_many") as known,
        tempfile.TemporaryDirectory() as shared,
        tempfile.TemporaryDirectory() as folder,
    ):
        fleet = Fleet(Path(folder), _address(base, "t_many"), 0)
        try:
            store = _store(shared, known)
            store.attend(())
            _million_measured("a few tasks", fleet, store)
            _fill(known, store)
            [(size,)] = known.rows("SELECT pg_database_size(current_database())")
            print(f"{FINISHED:,} finished tasks: database {size / 1e9:.2f} GB")
            _million_measured(f"{FINISHED:,} finished tasks", fleet, store)
        finally:
            fleet.close()


def _fill(known: Session, store: PostgresqlStore) -> None:
    known.connection.execute(b"SET statement_timeout = 0")
    history = "".join(
        f'- {{"at": "{AT}", "event": "{event}", "run": "20260101T000000Z-000000"}}\n'
        for event in ("claimed", "done")
    )
    text = _task(0).raw.decode().replace("T0", "T-0") + f"\n## History\n{history}"
    tables = ("procrastinate_jobs", "procrastinate_events", "orchestrator_tasks")
    for each in tables:
        known.connection.execute(_TRIGGERS.format(each, "DISABLE").encode())
    step = 50_000
    for first in range(1, FINISHED + 1, step):
        known.connection.execute(_FILL.encode(), (first, min(first + step - 1, FINISHED), text))
    for each in tables:
        known.connection.execute(_TRIGGERS.format(each, "ENABLE").encode())
        known.connection.execute(f"VACUUM ANALYZE {each}".encode())


def _million_measured(what: str, fleet: Fleet, store: PostgresqlStore) -> None:
    fleet.end()  # an attendant would start a tick for each task that is added here
    print(f"{what}: claim and completion: {_spread(_pairs(store, 50))}")
    listing = [_timed(lambda: [store.list(s) for s in ("incoming", "claimed")]) for _ in range(50)]
    print(f"{what}: listing the unfinished tasks: {_spread(listing)}")
    bare = [sys.executable, "-c", "pass"]
    commands = {
        "python -c pass": lambda: subprocess.run(bare, check=True),
        "tick": lambda: fleet.run("adder", "tick"),
        "status": lambda: fleet.run("adder", "status", "--json"),
        "task add": lambda: fleet.run("adder", "task", "add", f"At {time.time()}", "--no-tick"),
        "task list": lambda: fleet.run("adder", "task", "list", "--json"),
        "a page of done tasks": lambda: fleet.run(
            *("adder", "task", "list", "--state", "done", "--limit", "21", "--json")
        ),
        "hosts": lambda: fleet.run("adder", "hosts"),
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, work in commands.items():
            found[name].append(_timed(work))
    for name, seconds in found.items():
        print(f"{what}: {name}: {_spread(seconds)}", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(sys.argv[1:]))
