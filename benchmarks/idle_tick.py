"""A tick with nothing to do, beside `python -c pass`: 50 agents, few and many tasks done."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.report import Aim, Broken, Row, milliseconds
from benchmarks.scratch import Project, Scratch
from orchestrator.project import agent_memory
from orchestrator.project.agent_memory import AgentState
from orchestrator.system import files

AGENTS = 50
ROLES = ("implementer", "tester", "reviewer", "product_manager")
FEW, MANY = 10, 10_000
#: Done tasks that share a file by hard links: made, and at the end deleted, in a tenth of the time.
LINKS = 100
ROUNDS = 60
AIM = Aim(3.0)
#: What "the same, whatever lies in done/" means when both are measured in turn.
FLAT = Aim(1.15)

_TASK = """# [{id}] Benchmark number {number}

ROLE: implement
PRIORITY: P2
CREATED: 2026-01-01T00:00:00Z

## Context
Nothing is to be changed.

<!-- orchestrator:history -->
## History
- 2026-01-01T00:01:00Z claimed {{"agent": "agent-1", "run": "run-{number}"}}
- 2026-01-01T00:02:00Z done {{"run": "run-{number}", "summary": "measured", "verdict": "done"}}
"""


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of idle ticks. Raises Broken when the ticks were whole ones."""
    few, many = (_quiet_project(scratch, done) for done in (FEW, MANY))
    bare: list[float] = []
    lean: list[float] = []
    samples: dict[tuple[str, int], list[float]] = {}
    ticks = {"idle tick": scratch.tick, "bin/orchestrator tick, idle": scratch.launcher_tick}
    for project in (few, many):
        _settle_down(scratch, project)
    for _ in scratch.rounds(ROUNDS):
        for done, project in ((FEW, few), (MANY, many)):
            for name, argv in ticks.items():
                bare.append(scratch.timed([scratch.plain, "-c", "pass"]))
                samples.setdefault((name, done), []).append(_idle(scratch, project, argv))
        lean.append(scratch.timed([scratch.plain, "-I", "-S", "-c", "pass"]))
    against = "`python -c pass` of a plain virtual environment"
    rows = [
        milliseconds(f"{name}, {done:,} done", samples[name, done], bare, against, AIM)
        for name in ticks
        for done in (FEW, MANY)
    ]
    # Of all ways to tick together: what a busy machine adds does not look like a slope.
    flat = {done: [s for name in ticks for s in samples[name, done]] for done in (FEW, MANY)}
    note = f"{MANY:,} done"
    rows.append(milliseconds("idle tick, flat", flat[MANY], flat[FEW], f"{FEW} done", FLAT, note))
    rows.append(milliseconds("python -I -S -c pass", lean, bare, against, None, "the floor"))
    rows.append(_whole_tick(scratch, many))
    return rows


def _quiet_project(scratch: Scratch, done: int) -> Project:
    """Make a project whose agents all have run lately, and whose tasks are all done."""
    names = [f"agent-{number}" for number in range(AGENTS)]
    agents = (
        f"  - {{name: {name}, role: {ROLES[number % len(ROLES)]}, interval_seconds: 86400}}\n"
        for number, name in enumerate(names)
    )
    project = scratch.new_project(1, remote=False, config="agents:\n" + "".join(agents))
    for name in names:
        agent_memory.write(project.layout, name, AgentState(last_started=time.time()))
    folder = Path(project.layout.state("done"))
    first = folder
    for number in range(done):
        path = folder / f"TASK-{number:08x}.md"
        if number % LINKS == 0:
            first = path
            first.write_text(_TASK.format(id=f"TASK-{number:08x}", number=number))
        else:
            path.hardlink_to(first)
    return project


def _settle_down(scratch: Scratch, project: Project) -> None:
    """Let ticks find that nothing is to be done, until they say so by their stamp."""
    os.chdir(project.root)
    for _ in range(5):
        time.sleep(0.3)  # what changed a moment ago is not trusted
        scratch.timed(scratch.tick)
        if os.path.exists(project.layout.idle_stamp):
            return
    raise Broken("whole ticks with nothing to do left no stamp for idle ones")


def _idle(scratch: Scratch, project: Project, argv: list[str]) -> float:
    """Time one tick, and make sure that it was an idle one: time recorded, stamp not renewed."""
    os.chdir(project.root)
    stamp, ticked = _marks(project)
    time.sleep(0.002)
    seconds = scratch.timed(argv)
    if stamp is None or _marks(project)[0] != stamp:
        raise Broken("a tick with nothing to do was a whole one: its stamp was not believed")
    if _marks(project)[1] == ticked:
        raise Broken("an idle tick did not record its time")
    return seconds


def _marks(project: Project) -> tuple[tuple[int, int] | None, int]:
    """Return the stamp's identity and the time of the last tick."""
    ticked = os.stat(project.layout.scheduler_lock).st_mtime_ns
    try:
        found = os.stat(project.layout.idle_stamp)
    except FileNotFoundError:
        return None, ticked
    return (found.st_ino, found.st_mtime_ns), ticked


def _whole_tick(scratch: Scratch, project: Project) -> Row:
    """Time the tick that looks at everything and finds nothing: what the stamp saves."""
    os.chdir(project.root)
    whole, bare = [], []
    for _ in scratch.rounds(ROUNDS // 6):
        files.remove(project.layout.idle_stamp)
        whole.append(scratch.timed(scratch.tick))
        bare.append(scratch.timed([scratch.plain, "-c", "pass"]))
    name = f"whole tick that finds nothing, {MANY:,} done"
    return milliseconds(name, whole, bare, "`python -c pass`", None, "what the idle path saves")
