"""The tick of each minute in a project where tasks or a pull request wait and nothing can start.

A figure is the CPU time of a tick with that of every process that it starts, also of those that go
on after its end. Only on GitHub, for which the tests' stand-in for `gh` answers, the process that
asks has a row of its own. The yardstick is `python -c pass` of a plain virtual environment, in
turn.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.finished_task import CLIENT, counted, wait_for_children
from benchmarks.report import Aim, Broken, Row, spread
from benchmarks.scratch import ROOT, Project, Scratch, git, spawn, task_number
from orchestrator import idle
from orchestrator.config import load
from orchestrator.project import agent_memory
from orchestrator.project.agent_memory import AgentState
from orchestrator.pulls import book, forges
from orchestrator.system import process
from orchestrator.tasks import stores

ROUNDS = 25
AIM = Aim(1.3)
#: Seconds between two ticks of a schedule. Nothing here waits so long: see `_a_minute_later`.
MINUTE = 60
#: Ticks after a change, before the measurement. As in real life they run in later minutes.
SETTLING = 4
WAITING = (1_000, 10_000)
_LIMITS = "queue_limits: {{max_incoming: 1000000, max_open_prs: {open_prs}}}\n"
_AGENTS = "agents:\n  - {name: impl-1, role: implementer, interval_seconds: %d}\n"


def measure(scratch: Scratch) -> list[Row]:
    """Return a row for each project. Raises Broken if a tick did something."""
    process.adopt_orphans()
    projects = {name: make(scratch) for name, make in _PROJECTS.items()}
    for number in WAITING:
        number = scratch.scaled(number)
        projects[f"{number:,} tasks wait"] = _crowded(scratch, number)
    on_github = _on_github(scratch)
    for project in (*projects.values(), on_github):
        for _ in range(SETTLING):
            _tick(scratch, project)
    bare: list[float] = []
    samples: dict[str, list[float]] = {name: [] for name in (*projects, *_GITHUB)}
    for _ in scratch.rounds(ROUNDS):
        for name, project in projects.items():
            with counted() as seconds:
                scratch.timed([scratch.plain, "-c", "pass"])
            bare += seconds
            samples[name].append(_tick(scratch, project, is_idle=True))
        for name, figure in zip(_GITHUB, _scheduled_tick(scratch, on_github), strict=True):
            samples[name].append(figure)
    middle = statistics.median(bare) * 1e3
    against = "`python -c pass`"
    return [
        Row(
            name,
            statistics.median(of) * 1e3,
            "ms",
            middle,
            against,
            _AIMS.get(name, AIM),
            spread(of),
        )
        for name, of in samples.items()
    ]


#: A pull request on GitHub: the tick of the schedule, and the process that asks.
_GITHUB = ("on GitHub", "the process that asks GitHub")
_AIMS = {_GITHUB[1]: None}


def _scheduled_tick(scratch: Scratch, project: Project) -> tuple[float, float]:
    """Return the seconds of CPU time of the schedule's tick, and of the process that it leaves."""
    _a_minute_later(project)
    os.chdir(project.root)
    os.environ[idle.SCHEDULED] = "1"
    with counted() as seconds:
        _, status, used = os.wait4(spawn(scratch.tick, scratch.output), 0)
        wait_for_children()
    del os.environ[idle.SCHEDULED]
    if status != 0 or not os.path.exists(project.layout.idle_stamp):
        raise Broken(f"a tick that was to find nothing ended with {status}, or did something")
    own = used.ru_utime + used.ru_stime
    return own, seconds[0] - own


_GH = """#!/bin/sh
export PYTHONPATH={tests}
exec {python} -c 'import fake_gh, sys; fake_gh.main(sys.argv[1:])' "$@"
"""


def _on_github(scratch: Scratch) -> Project:
    """Make a project in which an agent has just opened a pull request on a stand-in for GitHub."""
    project = scratch.new_project(
        100, remote=True, config=_LIMITS.format(open_prs=10) + _AGENTS % 0
    )
    state, gh = project.folder / "github.json", project.folder / "bin" / "gh"
    gh.parent.mkdir()
    gh.write_text(
        _GH.format(python=shlex.quote(scratch.plain), tests=shlex.quote(str(ROOT / "tests")))
    )
    gh.chmod(0o755)
    address, remote = (
        "https://github.com/owner/repo.git",
        git(project.root, "remote", "get-url", "origin"),
    )
    state.write_text(json.dumps({"remote": remote, "prs": []}))
    os.environ |= {
        "FAKE_GH_STATE": str(state),
        "PATH": f"{gh.parent}{os.pathsep}{os.environ['PATH']}",
    }
    git(project.root, "remote", "set-url", "origin", address)
    git(project.root, "config", f"url.{remote}.insteadOf", address)
    config = Path(project.layout.config)
    config.write_text(config.read_text().replace("forge: local", "forge: github"))
    Path(project.client).write_text(CLIENT)
    project.add_task()
    _tick_to_the_end(scratch, project)
    loaded = load.settings(project.layout, write_cache=False)
    if [pr.state for pr in forges.of_project(project.layout, loaded.config).book.list()] != [
        "open"
    ]:
        raise Broken("the agent opened no pull request on GitHub")
    return project


def _tick(scratch: Scratch, project: Project, *, is_idle: bool = False) -> float:
    """Return the seconds of CPU time of a tick, a minute after the one before.

    Raises Broken if it starts a run, or if it is to be an idle one and the stamp does not hold.
    """
    _a_minute_later(project)
    if is_idle and not idle.is_unchanged(project.layout.idle_stamp):
        raise Broken("the stamp of the tick before does not hold after a minute")
    before = len(os.listdir(project.layout.state("incoming")))
    os.chdir(project.root)
    with counted() as seconds:
        scratch.timed(scratch.tick)
        wait_for_children()
    if len(os.listdir(project.layout.state("incoming"))) != before:
        raise Broken("a tick that was to find nothing started a run")
    return seconds[0]


def _a_minute_later(project: Project) -> None:
    """Make all in `.orchestrator/cache` a minute older, except what the stamp says and names.

    A file that the stamp names does not change its time in a minute, either.
    """
    stamp = Path(project.layout.idle_stamp)
    named = stamp.read_text().split("\0") if stamp.exists() else []
    for entry in os.scandir(project.layout.cache):
        if f"cache/{entry.name}" in named:
            continue
        found = entry.stat(follow_symlinks=False)
        os.utime(entry.path, (found.st_atime, found.st_mtime - MINUTE), follow_symlinks=False)


def _pull_request(scratch: Scratch, open_prs: int = 10, more: str = "") -> Project:
    """Make a project in which an agent has just opened a pull request."""
    config = more + _LIMITS.format(open_prs=open_prs) + _AGENTS % 0
    project = scratch.new_project(100, remote=True, config=config)
    Path(project.client).write_text(CLIENT)
    project.add_task()
    _tick_to_the_end(scratch, project)
    if [pr.state for pr in book.Book(project.layout.prs).list()] != ["open"]:
        raise Broken("the agent opened no pull request")
    return project


def _tick_to_the_end(scratch: Scratch, project: Project) -> None:
    os.chdir(project.root)
    scratch.timed(scratch.tick)
    wait_for_children()


def _with_task(scratch: Scratch) -> Project:
    project = _pull_request(scratch, open_prs=1)
    project.add_task()
    return project


def _paused(scratch: Scratch) -> Project:
    project = _with_task(scratch)
    text = Path(project.layout.config).read_text()
    Path(project.layout.config).write_text(f"paused: true\n{text}")
    return project


def _crowded(scratch: Scratch, number: int) -> Project:
    """Make a project in which many tasks wait for an agent that is not due."""
    config = _LIMITS.format(open_prs=10) + _AGENTS % 86_400
    project = scratch.new_project(1, remote=False, config=config)
    agent_memory.write(project.layout, "impl-1", AgentState(last_started=time.time()))
    folder = Path(project.layout.state("incoming"))
    for each in range(number):
        file = task_number(each)
        (folder / f"{file.id}.md").write_bytes(file.raw)
    if stores.of_project(project.layout).counts()["incoming"] != number:
        raise Broken("the tasks do not wait")
    return project


_PROJECTS: dict[str, Callable[[Scratch], Project]] = {
    "an open pull request": _pull_request,
    "the same, a task waits": _with_task,
    "the same, paused": _paused,
}
