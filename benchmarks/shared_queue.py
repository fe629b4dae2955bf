"""The shared queue beside its engine alone and beside the queue of files.

Run it against a database that you can spare: it makes the schema `t_benchmark`, and drops it.

    ORCHESTRATOR_TEST_DSN=postgresql://localhost/test .venv/bin/python -m benchmarks.shared_queue
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from orchestrator.database import session
from orchestrator.database.engine import Jobs
from orchestrator.layout import Layout
from orchestrator.model import Entry
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
        stores: list[tuple[str, Store]] = [
            ("shared queue", PostgresqlStore(_layout(shared), known)),
            ("queue of files", FileStore(_layout(files))),
        ]
        for name, store in stores:
            store.prepare()
            _show(f"{name}: add", PAIRS, _timed(partial(_add, store)))
            _show(f"{name}: claim + complete", PAIRS, _timed(partial(_pairs, store)))
        jobs = Jobs(known)
        with known.transaction():
            worker = jobs.register()
            for number in range(PAIRS):
                jobs.defer(f"E{number}", "implement", 1, {})
        _show("engine alone: fetch + finish", PAIRS, _timed(lambda: _engine(known, jobs, worker)))
        known.rows(
            "INSERT INTO orchestrator_tasks (id, state, file, role, title_key)"
            " SELECT 'F' || n, 'done', file, role, title_key FROM orchestrator_tasks,"
            " generate_series(1, %s) AS n WHERE id = 'T0' RETURNING 1",
            FINISHED,
        )
        listing = _timed(lambda: [stores[0][1].list(s) for s in ("incoming", "claimed", "blocked")])
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


def _pairs(store: Store) -> None:
    for number, task in enumerate(store.list("incoming").tasks):
        run = f"R{number}"
        fields: dict[str, object] = {"agent": "impl-agent-1", "run": run, "branch": "agent/x"}
        claimed = store.claim(task, Entry(AT, "claimed", fields), 5)
        assert claimed is not None
        store.move(claimed, "done", Entry(AT, "done", {"run": run, "verdict": "no_change"}))


def _engine(known: session.Session, jobs: Jobs, worker: int) -> None:
    for number in range(PAIRS):
        with known.transaction():
            job = jobs.fetch(f"E{number}", worker)
        assert job is not None
        with known.transaction():
            jobs.finish(job, "done")


if __name__ == "__main__":
    sys.exit(main())
