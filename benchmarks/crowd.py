"""Many agents with clients of one second: how soon a free agent has its next client, and the whole.

The same in turn with an earlier build (`EARLIER`), which is taken from git's history; without that
commit (a shallow clone) it is left out. The client writes down when it starts and ends.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.finished_task import counted, wait_for_children
from benchmarks.report import Aim, Broken, Row
from benchmarks.scratch import ROOT, Project, Scratch
from orchestrator.system import process

#: The build whose figures began this benchmark (2026-11-29).
EARLIER = "e4792ae"
AGENTS, TASKS_PER_AGENT = 50, 4
AGENTS_SMOKE = 2
#: Agents, and tasks, of the first tick that is timed by itself.
MANY = 200
#: Seconds from a client's end to the next client's start of its agent; finished tasks per second,
#: against the earlier build; seconds of the first tick.
WAIT = Aim(1.0, of_ratio=False)
FINISHED = Aim(3.0, at_most=False)
FIRST_TICK = Aim(6.0, of_ratio=False)
_CLIENT = """#!/bin/sh
echo "$ORCHESTRATOR_AGENT start $(date +%s.%N)" >>{log}
sleep 1
echo work >"$ORCHESTRATOR_TASK_ID.txt"
git add --all
git commit --quiet --message=work
echo '{{"type": "result", "subtype": "success", "is_error": false, "result": "", \
"structured_output": {{"outcome": "done", "summary": "measured"}}}}'
echo "$ORCHESTRATOR_AGENT end $(date +%s.%N)" >>{log}
"""


class Seen(NamedTuple):
    """What one build did."""

    #: The median seconds from a client's end to the agent's next client.
    wait: float
    finished_per_second: float
    #: CPU seconds per task, with the client's own.
    cpu: float


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of waits, of finished tasks, and of the first tick of many agents."""
    process.adopt_orphans()
    agents = AGENTS_SMOKE if scratch.is_smoke else scratch.scaled(AGENTS)
    earlier = None if scratch.is_smoke else _earlier(scratch)
    before = _crowd(scratch, agents, earlier) if earlier else None
    now = _crowd(scratch, agents, scratch.tick)
    against = f"the build of {EARLIER}"
    note = f"{agents} agents; {now.cpu * 1e3:.0f} ms of CPU time per task"
    if before:
        note += f", before {before.cpu * 1e3:.0f} ms"
    rows = [
        Row("client's end to next start", now.wait, "s", before and before.wait, against, WAIT),
        Row(
            "finished tasks",
            now.finished_per_second,
            "per s",
            before and before.finished_per_second,
            against,
            FINISHED,
            note,
        ),
    ]
    return [*rows, _first_tick(scratch, earlier)]


def _earlier(scratch: Scratch) -> list[str] | None:
    """Return the command of a tick of the earlier build; None if git does not have the commit."""
    folder = scratch.new_folder("earlier")
    words = ("git", "-C", str(ROOT), "archive", EARLIER)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as archive:
        taken = subprocess.run(("tar", "-x", "-C", folder), stdin=archive.stdout, check=False)
    main = folder / "orchestrator" / "__main__.py"
    if archive.returncode or taken.returncode or not main.exists():
        return None
    return [*scratch.tick[:-2], str(main), "tick"]


def _project(scratch: Scratch, agents: int) -> Project:
    names = (
        f"  - {{name: agent-{number}, role: implementer, interval_seconds: 0.001}}\n"
        for number in range(agents)
    )
    limits = "{max_incoming: 100000, max_claimed: 100000, max_open_prs: 100000}"
    config = f"queue_limits: {limits}\nmax_starts: 1000\nagents:\n{''.join(names)}"
    project = scratch.new_project(100, remote=True, config=config)
    log = project.folder / "log"
    log.touch()
    Path(project.client).write_text(_CLIENT.format(log=log))
    return project


def _crowd(scratch: Scratch, agents: int, tick: list[str]) -> Seen:
    """Let the agents finish their tasks, and return how that went. Raises Broken."""
    project = _project(scratch, agents)
    each = max(scratch.scaled(TASKS_PER_AGENT), 2)
    tasks = [project.add_task() for _ in range(agents * each)]
    began = time.perf_counter()
    with counted() as cpu:
        _to_the_end(scratch, project, tick)
    seconds = time.perf_counter() - began
    if left := len(tasks) - len(os.listdir(project.layout.state("done"))):
        raise Broken(f"{left} tasks are not finished")
    times: dict[str, dict[str, list[float]]] = {}
    for line in (project.folder / "log").read_text().splitlines():
        agent, what, at = line.split()
        times.setdefault(agent, {}).setdefault(what, []).append(float(at))
    waits = [
        start - end
        for of in times.values()
        for end, start in zip(sorted(of["end"]), sorted(of["start"])[1:], strict=False)
    ]
    return Seen(statistics.median(waits), len(tasks) / seconds, cpu[0] / len(tasks))


def _to_the_end(scratch: Scratch, project: Project, tick: list[str]) -> None:
    """Run ticks as a schedule would, if something is left, until every task has ended."""
    os.chdir(project.root)
    for _ in range(10):
        scratch.timed(tick)
        wait_for_children(patience=300)
        if not os.listdir(project.layout.state("incoming")):
            return


def _first_tick(scratch: Scratch, earlier: list[str] | None) -> Row:
    """Return the row of the tick that starts the runs of many agents."""
    agents = AGENTS_SMOKE if scratch.is_smoke else scratch.scaled(MANY)
    seconds = [
        _start_many(scratch, agents, tick) for tick in (scratch.tick, earlier) if tick is not None
    ]
    now, before = seconds[0], seconds[1] if earlier else None
    against, note = f"the build of {EARLIER}", f"it starts {agents} runs"
    return Row("first tick", now, "s", before, against, FIRST_TICK, note)


def _start_many(scratch: Scratch, agents: int, tick: list[str]) -> float:
    project = _project(scratch, agents)
    for _ in range(agents):
        project.add_task()
    os.chdir(project.root)
    seconds = scratch.timed(tick)
    with contextlib.suppress(Broken):
        wait_for_children(patience=300)
    return seconds
