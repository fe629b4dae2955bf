"""The shared queue beside its engine alone and beside the queue of files.

Run it against a database that you can spare: it makes the schema `t_benchmark`, and drops it.

    ORCHESTRATOR_TEST_DSN=postgresql://localhost/test .venv/bin/python -m benchmarks.shared_queue
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import quote

from procrastinate import App, PsycopgConnector

from orchestrator.database import session
from orchestrator.database.engine import Jobs
from orchestrator.layout import Layout
from orchestrator.model.work import Entry
from orchestrator.tasks import task_file
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.postgresql_store import PostgresqlStore
from orchestrator.tasks.store import Store

PAIRS = 300
#: Finished tasks beside which a tick lists the unfinished ones.
FINISHED = 20_000
AT = "2026-01-01T00:00:00Z"


def main() -> int:
    """Measure, and print one line per figure."""
    base = os.environ.get("ORCHESTRATOR_TEST_DSN")
    if base is None:
        print("set ORCHESTRATOR_TEST_DSN to the address of a database", file=sys.stderr)
        return 2
    separator = "&" if "?" in base else "?"
    known = session.of(f"{base}{separator}options={quote('-csearch_path=t_benchmark')}")
    drop = b"DROP SCHEMA IF EXISTS t_benchmark CASCADE"
    with tempfile.TemporaryDirectory() as shared, tempfile.TemporaryDirectory() as files:
        known.connection.execute(drop)
        shared_store, file_store = (
            PostgresqlStore(_layout(shared), known),
            FileStore(_layout(files)),
        )
        for store in (shared_store, file_store):
            store.prepare()
        _show("shared queue: add", PAIRS, _timed(partial(_add, shared_store)))
        _show("queue of files: add", PAIRS, _timed(partial(_add, file_store)))
        jobs = Jobs(known)
        with known.transaction():
            worker = jobs.register()
            for number in range(PAIRS):
                jobs.defer(f"E{number}", "implement", 1, {})
        pair = _compare(
            {
                "shared queue: claim + complete": _pairs(shared_store),
                "queue of files: claim + complete": _pairs(file_store),
                "engine's statements alone: fetch + finish": _engine(known, jobs, worker),
            }
        )
        worker_time = asyncio.run(_worker(known))
        _show("engine's own worker: jobs that do nothing", PAIRS, worker_time)
        print(f"shared queue: {worker_time / PAIRS / pair:.2f} of the engine's own worker")
        known.rows(
            "INSERT INTO orchestrator_tasks (id, state, file, role, title_key)"
            " SELECT 'F' || n, 'done', file, role, title_key FROM orchestrator_tasks,"
            " generate_series(1, %s) AS n WHERE id = 'T0' RETURNING 1",
            FINISHED,
        )
        listing = _timed(lambda: [shared_store.list(s) for s in ("incoming", "claimed", "blocked")])
        print(
            f"shared queue: listing unfinished beside {FINISHED:,} finished: {listing * 1e3:.1f} ms"
        )
        known.connection.execute(drop)
    return 0


def _layout(folder: str) -> Layout:
    found = Layout(folder)
    os.makedirs(found.cache)
    return found


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _show(what: str, number: int, seconds: float) -> None:
    print(f"{what}: {number / seconds:.0f} per second")


def _add(store: Store) -> None:
    for number in range(PAIRS):
        title = f"Benchmark number {number}"
        store.add(
            task_file.new(f"T{number}", title, "implement", "P1", None, AT, None, (), "Text.\n")
        )


def _compare(works: dict[str, Iterator[None]]) -> float:
    """Do the works in turns, so that other load on the machine meets all of them; print medians.

    Returns the seconds of a claim and its completion in the shared queue.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(PAIRS):
        for name, work in works.items():
            seconds[name].append(_timed(partial(next, work)))
    found = {name: statistics.median(each) for name, each in seconds.items()}
    for name, each in found.items():
        _show(name, 1, each)
    return found["shared queue: claim + complete"]


def _pairs(store: Store) -> Iterator[None]:
    for number, task in enumerate(store.list("incoming").tasks):
        run = f"R{number}"
        fields: dict[str, object] = {"agent": "impl-agent-1", "run": run, "branch": "agent/x"}
        claimed = store.claim(task, Entry(AT, "claimed", fields), 5)
        assert claimed is not None
        store.move(claimed, "done", Entry(AT, "done", {"run": run, "verdict": "no_change"}))
        yield


def _engine(known: session.Session, jobs: Jobs, worker: int) -> Iterator[None]:
    for number in range(PAIRS):
        with known.transaction():
            job = jobs.fetch(f"E{number}", worker)
        assert job is not None
        with known.transaction():
            jobs.finish(job, "done")
        yield


async def _worker(known: session.Session) -> float:
    """Return the seconds that Procrastinate's worker needs for as many jobs, one at a time."""
    connector = PsycopgConnector(
        conninfo=known.address,
        kwargs={"options": f"-csearch_path={known.schema}"},
        min_size=2,
        max_size=4,
    )
    app = App(connector=connector)

    @app.task(name="nothing")
    async def nothing() -> None:
        pass

    async with app.open_async():
        for _ in range(PAIRS):
            await nothing.defer_async()
        began = time.perf_counter()
        await app.run_worker_async(
            wait=False, concurrency=1, listen_notify=False, install_signal_handlers=False
        )
        return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
