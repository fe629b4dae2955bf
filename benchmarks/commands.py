"""What commands that read the project, `task add` and the session hook cost, in several projects.

The yardstick is `python -c pass` with the interpreter of a plain virtual environment, in the same
rounds. The figures are processor time, with that of every process that a command started: on a
busy machine it says more than the clock.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import growth
from benchmarks.growth import cpu_seconds
from benchmarks.report import Aim, Broken, Row, spread
from benchmarks.scratch import Project, Scratch, git
from orchestrator.model.times import iso
from orchestrator.system import files

#: Names some of the commands, with commas: `BENCH_COMMANDS="status --json,costs"`.
VARIABLE = "BENCH_COMMANDS"
ROUNDS = 9
MANY, FEW = 10_000, 3
EVENTS = 40_000
#: Seconds after a change in which a tick leaves no stamp (`idle.write_stamp`).
SETTLED = 0.15
#: The finished tasks' events begin this long ago (seconds).
PERIOD = 100 * 86_400
#: Reading at 10,000 finished tasks against the bare interpreter.
READ = Aim(4.0)
#: A command beside 10,000 waiting and finished tasks, against the small project.
GROWTH = Aim(1.5)
_CONFIG = """queue_limits: {max_incoming: 1000000, max_open_prs: 1000000}
agents:
"""
#: One implementer, so that it is not due after the warm-up; no reviewer, so that no review waits.
_AGENTS = ("implementer", "tester", "tester", "tester")
_TASK = """# [{name}] A task that waits

ROLE: implement
PRIORITY: P2
CREATED: 2026-02-01T00:00:00Z

## Context
Nothing is to be changed.
"""
_ADD = ("task", "add", "Measured", "--force", "--no-tick")
_PAGE = ("task", "list", "--json", "--limit", "100")
#: The commands whose growth with the waiting tasks has an aim.
_GROWING = (("status", "--json"), _ADD, ("_news",))
#: The message of the delivered commit.
_SUBJECT = "work"
#: Each command, and what it should reach where aims differ from that of reading.
COMMANDS: dict[tuple[str, ...], Aim] = {
    ("--version",): READ,
    ("status", "--json"): Aim(3.0),
    ("status",): READ,
    _ADD: Aim(2.0),
    ("_news",): Aim(2.0),
    ("explain", "agent-0"): READ,
    ("agent", "list"): READ,
    ("task", "list", "--json"): Aim(6.0),
    _PAGE: Aim(6.0),
    ("inbox",): READ,
    ("pr", "list"): READ,
    ("runs",): READ,
    ("costs",): READ,
    ("history",): READ,
    ("metrics",): READ,
    ("report", "--since", "1d"): READ,
}


def measure(scratch: Scratch) -> list[Row]:
    """Return a row for each command in each project. Raises Broken."""
    named = os.environ.get(VARIABLE)
    commands = [tuple(each.split()) for each in named.split(",")] if named else list(COMMANDS)
    if unknown := [" ".join(words) for words in commands if words not in COMMANDS]:
        raise Broken(f"no command {', '.join(unknown)} in {VARIABLE}")
    many = scratch.scaled(MANY)
    growth.be_subreaper(1)
    projects = {
        "small": _project(scratch, FEW, FEW, FEW),
        f"{many:,} finished": _project(scratch, many, scratch.scaled(EVENTS), FEW),
    }
    # Short of the whole measurement, two projects are enough.
    if many == MANY and not named:
        projects[f"{many:,} finished and waiting"] = _project(scratch, many, FEW, many)
        projects["paused"] = _project(scratch, many, FEW, FEW, is_paused=True)
    bare: list[float] = []
    samples: dict[tuple[tuple[str, ...], str], list[float]] = {}
    for _ in scratch.rounds(ROUNDS):
        for name, project in projects.items():
            os.chdir(project.root)
            files.remove(project.layout.idle_stamp)
            scratch.timed(scratch.tick)  # as the schedule does each minute: a stamp expires
            for words in commands:
                bare.append(cpu_seconds(scratch, [scratch.plain, "-c", "pass"]))
                used = cpu_seconds(scratch, [*scratch.tick[:-1], *words])
                samples.setdefault((words, name), []).append(used)
                if words == _ADD:  # the schedule's next tick sees the task
                    time.sleep(SETTLED)
                    scratch.timed(scratch.tick)
    growth.be_subreaper(0)
    return list(_rows(samples, bare))


def _rows(
    samples: dict[tuple[tuple[str, ...], str], list[float]], bare: list[float]
) -> Iterator[Row]:
    yardstick = statistics.median(bare) * 1e3
    against = "`python -c pass` of a plain virtual environment"
    for words, aim in COMMANDS.items():
        for (of, project), used in samples.items():
            if of == words:
                label, cpu = " ".join(words[:2]).removesuffix(" --since"), statistics.median(used)
                label += " by pages" if words == _PAGE else ""
                row = Row(
                    f"{label}, {project}", cpu * 1e3, "ms", yardstick, against, aim, spread(used)
                )
                yield row
                if words in _GROWING and project.endswith("waiting"):
                    small = statistics.median(samples[words, "small"]) * 1e3
                    yield replace(row, yardstick=small, against="the small project", aim=GROWTH)


def _project(
    scratch: Scratch, finished: int, told: int, waiting: int, *, is_paused: bool = False
) -> Project:
    """Make a project with its history; its agents are not due, so that ticks start no run."""
    project = growth.new_project(scratch, finished, _config(interval=0))
    _tell(project, told)
    for _ in range(max(scratch.scaled(growth.WARM), 1)):
        growth.finish(scratch, project, project.add_task())
    text = Path(project.layout.config).read_text()
    Path(project.layout.config).write_text(text.replace("_seconds: 0}", "_seconds: 86400}"))
    for number in range(waiting):
        name = f"TASK-{finished + number + 1:08x}"
        Path(project.layout.state("incoming"), f"{name}.md").write_text(_TASK.format(name=name))
    if is_paused:
        scratch.timed([*scratch.tick[:-1], "agent", "pause", "--all"])
    for _ in range(2):
        files.remove(project.layout.idle_stamp)
        scratch.timed(scratch.tick)
    if len(list(Path(project.layout.queue).glob("incoming/*.md"))) != waiting:
        raise Broken("a run was started, which would be measured too")
    return project


def _config(interval: int) -> str:
    lines = (
        f"  - {{name: agent-{number}, role: {role}, interval_seconds: {interval}}}\n"
        for number, role in enumerate(_AGENTS)
    )
    return _CONFIG + "".join(lines)


def _tell(project: Project, number: int) -> None:
    """Write the events of finished tasks, four per task, as ticks would have written them."""
    step = PERIOD / max(number, 1)
    began, base = time.time() - PERIOD, git(project.root, "rev-parse", "HEAD")
    head = git(project.root, "commit-tree", "-p", base, "-m", _SUBJECT, f"{base}^{{tree}}")
    with open(project.layout.events, "a") as stream:
        for count in range(number):
            told = {"at": iso(began + step * count), **_event(count // 4, count % 4, base, head)}
            stream.write(f"{json.dumps({**told, 'v': 1})}\n")


def _event(number: int, part: int, base: str, head: str) -> dict[str, object]:
    task, run = f"TASK-{number + 1:08x}", f"20260101T{number:06}Z-{number:06x}"
    agent = f"agent-{number % 3}"
    if part == 0:
        return {"event": "start", "agent": agent, "task": task, "run": run}
    if part == 1:
        return {
            "event": "finish",
            "agent": agent,
            "task": task,
            "run": run,
            "verdict": "done",
            "role": "implementer",
            "title": f"Finished task number {number + 1}",
            "pr": str(number + 1),
            "seconds": 312.5,
            "cost_usd": 0.4213,
            "model": "a-model",
            "input_tokens": 120_000,
            "output_tokens": 9_000,
            "base": base,
            "commits": [{"commit": head, "subject": _SUBJECT}],
            "checks": ["make test"],
            "head": head,
        }
    if part == 2:
        review = {"review": f"REVIEW-{number:08x}", "pr": str(number + 1)}
        return {"event": "review_wanted", "task": task, **review}
    return {"event": "followed", "task": task, "state": "done", "reason": "merged"}
