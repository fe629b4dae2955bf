"""Durable claim + complete through the store, beside SQLite in WAL mode with synchronous=FULL."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from pathlib import Path

from benchmarks.report import Aim, Broken, Row, spread
from benchmarks.scratch import Project, Scratch
from orchestrator.model.work import Entry
from orchestrator.tasks.file_store import FileStore

WAITING = (1_000, 10_000)
#: Pairs of claim and completion that share one listing.
PAIRS = 500
ROUNDS = 5
AIM = Aim(0.5, at_most=False)

_TASK = """# [{id}] Benchmark number {number}

ROLE: implement
PRIORITY: P{priority}
CREATED: 2026-01-01T00:{minute:02}:00Z

## Context
Nothing is to be changed, but a few words stand here as they would in a task of some worth.

## Acceptance Criteria
- [ ] Nothing is changed
"""
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE tasks (id TEXT PRIMARY KEY, state TEXT, priority INT, created TEXT, body TEXT,
                    agent TEXT, run TEXT, summary TEXT);
CREATE INDEX queue ON tasks (state, priority, created);
"""
_NEXT = "SELECT id FROM tasks WHERE state = 'incoming' ORDER BY priority, created LIMIT 1"
_CLAIM = "UPDATE tasks SET state = 'claimed', agent = ?, run = ? WHERE id = ?"
_COMPLETE = "UPDATE tasks SET state = 'done', summary = ? WHERE id = ?"


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of queues of both sizes."""
    rows = []
    pairs = scratch.scaled(PAIRS)
    for waiting in WAITING:
        project = scratch.new_project(1, remote=False, config="agents: []\n")
        path = scratch.new_folder("sqlite") / "tasks.db"
        base = sqlite3.connect(path, isolation_level=None)
        base.executescript(_SCHEMA)
        listings: list[float] = []
        ours: list[float] = []
        theirs: list[float] = []
        made = 0
        for _ in scratch.rounds(ROUNDS):
            missing = pairs if made else waiting
            _fill(project, base, range(made, made + missing))
            made += missing
            _settle_disk(project)
            listing, seconds = _with_store(project, pairs)
            listings.append(listing)
            ours.append(seconds)
            theirs.append(_with_sqlite(base, pairs))
        base.close()
        rows += _rows(waiting, pairs, listings, ours, theirs)
    return rows


def _rows(
    waiting: int, pairs: int, listings: list[float], ours: list[float], theirs: list[float]
) -> list[Row]:
    both = [listing + seconds for listing, seconds in zip(listings, ours, strict=True)]
    with_listing, without, sqlite = (pairs / statistics.median(s) for s in (both, ours, theirs))
    against = "SQLite, WAL, synchronous=FULL"
    name = f"claim + complete, {waiting:,} waiting"
    listed = statistics.median(listings) * 1e3
    note = f"one listing ({listed:.0f} ms), then {pairs} pairs; {spread(both)}"
    return [
        Row(name, with_listing, "pairs/s", sqlite, against, AIM, note),
        Row(f"{name}, listing apart", without, "pairs/s", sqlite, against, None, spread(ours)),
    ]


def _text(number: int) -> tuple[str, int, str]:
    """Return id, priority and text of a task: the same for both sides."""
    task_id = f"TASK-{number:08x}"
    priority, minute = number * 7 % 4, number * 11 % 60
    text = _TASK.format(id=task_id, number=number, priority=priority, minute=minute)
    return task_id, priority, text


def _fill(project: Project, base: sqlite3.Connection, numbers: range) -> None:
    folder = Path(project.layout.state("incoming"))
    base.execute("BEGIN")
    for number in numbers:
        task_id, priority, text = _text(number)
        (folder / f"{task_id}.md").write_text(text)
        created = f"2026-01-01T00:{number * 11 % 60:02}:00Z"
        row = (task_id, priority, created, text)
        base.execute("INSERT INTO tasks VALUES (?, 'incoming', ?, ?, ?, null, null, null)", row)
    base.execute("COMMIT")


def _settle_disk(project: Project) -> None:
    """Have the journal written out: what was just made must not be at the first pair's cost."""
    for _ in range(3):
        with open(project.folder / "settled", "wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())


def _with_store(project: Project, pairs: int) -> tuple[float, float]:
    """Return the seconds of a listing, and of the pairs: the claims and moves that ticks make."""
    store = FileStore(project.layout)
    began = time.perf_counter()
    tasks = store.list("incoming").tasks  # as a tick does
    listed = time.perf_counter()
    for task in tasks[:pairs]:
        run = f"20260101T000000Z-{task.id}"
        branch = f"agent/{task.id}-benchmark"
        fields: dict[str, object] = {"agent": "impl-agent-1", "run": run, "branch": branch}
        claimed = store.claim(task, Entry("2026-01-01T00:01:00Z", "claimed", fields), 5)
        if claimed is None:
            raise Broken(f"{task.id} could not be claimed")
        fields = {"run": run, "summary": "measured", "verdict": "no_change"}
        store.move(claimed, "done", Entry("2026-01-01T00:02:00Z", "done", fields))
    ended = time.perf_counter()
    store.change().close()
    return listed - began, ended - listed


def _with_sqlite(base: sqlite3.Connection, pairs: int) -> float:
    """Return the seconds of as many pairs, two committed transactions each."""
    began = time.perf_counter()
    for _ in range(pairs):
        base.execute("BEGIN IMMEDIATE")
        (task_id,) = base.execute(_NEXT).fetchone()
        base.execute(_CLAIM, ("impl-agent-1", f"20260101T000000Z-{task_id}", task_id))
        base.execute("COMMIT")
        base.execute("BEGIN IMMEDIATE")
        base.execute(_COMPLETE, ("measured", task_id))
        base.execute("COMMIT")
    return time.perf_counter() - began
