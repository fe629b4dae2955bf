"""From `task add` to the client's first instruction in a project with a schedule, no tick by hand.

The schedule is an entry in a crontab that nothing reads: no minute comes meanwhile. The yardstick
is `task add --no-tick`, and then a tick to the client's first instruction, in turn.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.report import Aim, Row, milliseconds
from benchmarks.scratch import LAUNCHER, Project, Scratch

FILES = 100
ROUNDS = 10
AIM = Aim(1.5)
_CRONTAB = """#!/bin/sh
[ "$1" = - ] && exec cat >{file}
[ "$1" = -l ] && exec cat {file}
exit 1
"""


def measure(scratch: Scratch) -> list[Row]:
    """Return the row of the time from the return of `task add` to the client's start."""
    project = scratch.new_project(
        FILES, remote=True, config="agents:\n  - {name: agent, role: implementer}\n"
    )
    _install(scratch, project)
    at_once, by_hand = [], []
    _with_tick(scratch, project)  # the agent's worktree exists from now on
    for _ in scratch.rounds(ROUNDS):
        at_once.append(_with_tick(scratch, project))
        by_hand.append(_by_hand(scratch, project))
    against = "`task add --no-tick`, then a tick to the client"
    return [milliseconds("task added to client", at_once, by_hand, against, AIM)]


def _install(scratch: Scratch, project: Project) -> None:
    folder = scratch.new_folder("cron")
    (folder / "file").touch()
    (folder / "crontab").write_text(_CRONTAB.format(file=folder / "file"))
    (folder / "crontab").chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    os.chdir(project.root)
    scratch.timed([LAUNCHER, "init", "--schedule", "cron", "--no-commands"])


def _add(scratch: Scratch, project: Project, *words: str) -> tuple[str, float]:
    """Add a task; return its id, and the seconds that the command took."""
    os.chdir(project.root)
    title = f"Number {time.monotonic_ns()}"
    seconds = scratch.timed([LAUNCHER, "task", "add", "--title", title, *words])
    return Path(scratch.output).read_text().split()[-1], seconds


def _with_tick(scratch: Scratch, project: Project) -> float:
    """Return the seconds from the return of `task add` to the client's start."""
    task, _ = _add(scratch, project)
    seconds = project.seconds_to_client(time.perf_counter())
    project.finish_run(task)
    return seconds


def _by_hand(scratch: Scratch, project: Project) -> float:
    task, adding = _add(scratch, project, "--no-tick")
    seconds, tick = project.start_run(scratch.launcher_tick)
    project.finish_run(task, tick)
    return adding + seconds
