"""What settled runs leave on the disk: all of them kept, and as `retention` does by default."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from unittest import mock

from benchmarks.report import Aim, Broken, Row, milliseconds
from benchmarks.scratch import Project, Scratch
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.config import Retention
from orchestrator.model.snapshot import Action, Outcome
from orchestrator.model.work import Entry
from orchestrator.project import agent_memory, mark, run_record
from orchestrator.system import files
from orchestrator.tasks import stores
from orchestrator.tick.settle import Settler
from orchestrator.upkeep import retention

AGENT = "impl-agent-1"
RUNS = 1_000
#: Bytes of a stream: about what the client writes in twenty turns.
STREAM = 50_000
ROUNDS = 10
#: A tenth of the folders, and the tasks and the history of all.
AIM = Aim(0.25)
AT = "2026-01-01T00:01:00Z"
_WORDS = Path(__file__).read_text().split()


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of disk use, and of the tick that removes as many folders as one may."""
    config = f"agents:\n  - {{name: {AGENT}, role: implementer, interval_seconds: 86400}}\n"
    few, many = (scratch.new_project(1, remote=False, config=config) for _ in range(2))
    count = scratch.scaled(RUNS)
    # Flushed or not a file takes the same room, and thousands of flushes take far longer.
    with mock.patch.object(os, "fsync"):
        _settle_runs(many, count)
    kept = disk_use(many.layout.home)
    runs = disk_use(many.layout.runs(AGENT))
    pruning, plain = _ticks(scratch, few, many, count)
    _prune_the_rest(many)
    left = disk_use(many.layout.home)
    megabyte, written = 1e6, count * STREAM / 1e6
    note = f"{runs / count / 1e3:.0f} kB a folder, {(kept - runs) / count / 1e3:.1f} kB besides"
    return [
        Row(
            f"disk, {count:,} runs, all kept",
            kept / megabyte,
            "MB",
            written,
            "what their clients wrote",
            None,
            note,
        ),
        Row(
            f"disk, {count:,} runs, retention at its default",
            left / megabyte,
            "MB",
            kept / megabyte,
            "all of them kept",
            AIM if count == RUNS else None,
            f"{Retention().runs} folders an agent",
        ),
        milliseconds(
            f"tick that settles a run and removes {retention.MOST_AT_ONCE}",
            pruning,
            plain,
            "the tick that settles a run and removes none",
        ),
    ]


def disk_use(folder: str) -> int:
    """Return the bytes that a folder takes on its disk, itself included."""
    total = os.lstat(folder).st_blocks
    for where, folders, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(where, name)).st_blocks for name in (*folders, *names))
    return total * 512  # st_blocks are of that size, whatever the disk's are: stat(2)


def _settle_runs(project: Project, count: int) -> None:
    """Make and settle runs as ticks do, but keep all of them."""
    loaded = load.settings(project.layout, write_cache=True)
    for number in range(count):
        action = _end_run(project, number)
        Settler(project.layout, loaded, time.time()).settle(action)


def _end_run(project: Project, number: int) -> Action:
    """Make a run that has ended and is not settled; return what a tick will decide about it."""
    layout = project.layout
    task_id = project.add_task()
    run_id = f"20260101T{number:06}Z-{number:06x}"
    store = stores.of_project(layout)
    fields: dict[str, object] = {"agent": AGENT, "run": run_id, "branch": f"agent/{task_id}-x"}
    if store.claim(store.find(task_id), Entry(AT, "claimed", fields), 5) is None:
        raise Broken(f"{task_id} could not be claimed")
    folder = layout.run(AGENT, run_id)
    files.make_folder(folder)
    _fill(folder, number)
    outcome = Outcome("done", summary="Measured, and nothing else.", cost_usd=0.25)
    loaded = load.settings(layout, write_cache=False)
    record = run_record.RunRecord(
        id=run_id,
        key=mark.key(layout),
        agent=AGENT,
        role="implementer",
        settings=loaded.config.agents[0],
        task=task_id,
        title=f"Benchmark number {number}",
        attempt=1,
        project=layout.root,
        created=time.time() - 600,
        finished=time.time(),
        status="finished",
        outcome=outcome,
    )
    run_record.write(folder, record)
    state = agent_memory.read(layout, AGENT)._replace(run=run_id, last_started=time.time())
    agent_memory.write(layout, AGENT, state)
    return Action("finish", AGENT, task_id, run_id)


def _fill(folder: str, number: int) -> None:
    """Write what a run's processes leave in its folder, in their sizes."""
    some = random.Random(number)
    lines, size = [], 0
    while size < STREAM:
        text = " ".join(some.choices(_WORDS, k=150))
        event = {"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}}
        lines.append(json.dumps(event) + "\n")
        size += len(lines[-1])
    for name, text in (
        (run_record.STREAM, "".join(lines)),
        (run_record.INSTRUCTIONS, " ".join(some.choices(_WORDS, k=800))),
        (run_record.PROMPT, " ".join(some.choices(_WORDS, k=100))),
        (run_record.LAUNCH, " ".join(some.choices(_WORDS, k=300))),
        (run_record.STDERR, ""),
        (run_record.SUPERVISOR_LOG, ""),
    ):
        Path(folder, name).write_text(text)


def _ticks(
    scratch: Scratch, few: Project, many: Project, count: int
) -> tuple[list[float], list[float]]:
    """Time ticks that settle one run: with very many older folders, and with none too many."""
    times: dict[str, list[float]] = {few.layout.root: [], many.layout.root: []}
    for number in scratch.rounds(ROUNDS):
        for project in (few, many):
            _end_run(project, count + number)
            before = _folders(project.layout)
            os.chdir(project.root)
            times[project.layout.root].append(scratch.timed(scratch.tick))
            removed = before - _folders(project.layout)
            too_many = max(before - Retention().runs, 0)
            if removed != min(too_many, retention.MOST_AT_ONCE):
                raise Broken(f"a tick removed {removed} folders of {too_many} too many")
    return times[many.layout.root], times[few.layout.root]


def _folders(layout: Layout) -> int:
    return len(os.listdir(layout.runs(AGENT))) if os.path.isdir(layout.runs(AGENT)) else 0


def _prune_the_rest(project: Project) -> None:
    """Let further ticks' pruning come to its end, without the ticks."""
    config = load.settings(project.layout, write_cache=False).config
    before = -1
    while before != (left := _folders(project.layout)):
        before = left
        if failures := retention.prune(project.layout, config, [AGENT]):
            raise Broken(f"retention: {failures[0]}")
    if left > config.retention.runs:
        raise Broken(f"{left} folders are left of {config.retention.runs} that may be kept")
