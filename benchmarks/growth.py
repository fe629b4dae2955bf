"""What finished work costs: the same commands in an empty project and beside thousands of tasks.

The history is as the product leaves it: a task in `done/`, the record of its merged pull request,
its branch, and the ref with the commit that was pushed. The figures are processor time, with that
of every process that a command started: on a busy machine it says more than the clock.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import Aim, Broken, Row, spread
from benchmarks.scratch import Project, Scratch, git, wait_for
from orchestrator.model.work import PullRequest
from orchestrator.system import files, records

#: Finished tasks; the variable names other numbers, with commas: `BENCH_FINISHED=50000`.
FINISHED = (1_000, 6_000, 10_000)
VARIABLE = "BENCH_FINISHED"
ROUNDS = 5
#: Runs before the first measurement: the first of a day cleans up, the next ones move an old
#: project along in bounded steps.
WARM = 6
AIM = Aim(1.2)
_CONFIG = """queue_limits: {max_incoming: 1000000, max_open_prs: 1000000}
agents:
  - {name: impl-1, role: implementer}
"""
_TASK = """# [TASK-{number:08x}] Finished task number {number}

ROLE: implement
PRIORITY: P2
CREATED: 2026-01-01T00:00:00Z

## Context
Nothing is to be changed.

<!-- orchestrator:history -->
## History
- 2026-01-01T00:01:00Z claimed {{"agent": "impl-1", "run": "{run}", "branch": "{branch}"}}
- 2026-01-01T00:02:00Z done {{"run": "{run}", "summary": "measured", "pr": "{number}"}}
- 2026-01-01T00:03:00Z merged {{"pr": "{number}", "head": "{head}"}}
"""
_CLIENT = """#!/bin/sh
echo x >>"$ORCHESTRATOR_TASK_ID" && git add -A && git commit -qm work
echo '{"type": "result", "subtype": "success", "is_error": false, "result": "", \
"structured_output": {"outcome": "done", "summary": "measured"}}'
"""


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of each command, for each number of finished tasks."""
    named = os.environ.get(VARIABLE)
    # Short of the whole measurement, one number is enough: to make a history takes long.
    is_whole = scratch.scaled(FINISHED[0]) == FINISHED[0]
    default = FINISHED if is_whole else (scratch.scaled(FINISHED[0]),)
    numbers = tuple(map(int, named.split(","))) if named else default
    be_subreaper(1)
    projects = {number: new_project(scratch, number) for number in (0, *numbers)}
    samples: dict[str, dict[int, list[float]]] = {name: {} for name in _COMMANDS}
    for project in projects.values():
        for _ in range(max(scratch.scaled(WARM), 1)):
            _run(scratch, project)
    for _ in scratch.rounds(ROUNDS):
        for name, act in _COMMANDS.items():
            for number, project in projects.items():
                samples[name].setdefault(number, []).append(act(scratch, project))
    be_subreaper(0)
    return [
        Row(
            f"{name}, {number:,} finished",
            statistics.median(of[number]) * 1e3,
            "ms",
            statistics.median(of[0]) * 1e3,
            "an empty project",
            None if name == "clean" else AIM,  # it names each branch
            spread(of[number]),
        )
        for name, of in samples.items()
        for number in numbers
    ]


def new_project(scratch: Scratch, finished: int, config: str = _CONFIG) -> Project:
    """Make a project with finished tasks, the records of their pull requests, their branches."""
    project = scratch.new_project(10, remote=True, config=config)
    Path(project.client).write_text(_CLIENT)
    # The numbers of the project's own tasks follow.
    project.add_task = _adder(project, finished)  # type: ignore[method-assign]
    layout, head = project.layout, git(project.root, "rev-parse", "HEAD")
    files.make_folder(layout.prs)
    refs = []
    for number in range(1, finished + 1):
        run, branch = f"20260101T{number:06}Z-{number:06x}", f"agent/TASK-{number:08x}-finished"
        text = _TASK.format(number=number, run=run, branch=branch, head=head)
        Path(layout.state("done"), f"TASK-{number:08x}.md").write_text(text)
        task = f"TASK-{number:08x}"
        pr = PullRequest(str(number), task, branch, "main", head, f"Finished {number}", "merged")
        row = records.plain(pr._replace(followed=True))
        assert isinstance(row, dict)
        Path(layout.prs, f"{number}.json").write_text(json.dumps({**row, "body": "measured"}))
        places = ("heads", "orchestrator/pushed")
        refs += [f"create refs/{place}/{branch} {head}" for place in places]
    Path(project.folder, "refs").write_text("".join(f"{line}\n" for line in refs))
    with open(project.folder / "refs") as listed:
        actions = [(os.POSIX_SPAWN_DUP2, listed.fileno(), 0)]
        words = ("git", "-C", str(project.root), "update-ref", "--stdin")
        pid = os.posix_spawnp("git", words, os.environ, file_actions=actions)
        if os.waitpid(pid, 0)[1]:
            raise Broken("the refs could not be made")
    return project


def _adder(project: Project, finished: int) -> Callable[[], str]:
    from orchestrator.tasks import stores, task_file

    def add() -> str:
        store = stores.of_project(project.layout)
        created = "2026-02-01T00:00:00Z"
        new = task_file.new(
            store.new_id(), "Measured", "implement", None, None, created, None, (), "Text.\n"
        )
        store.add(new)
        return new.id

    return add


def be_subreaper(yes: int) -> None:
    """Let processes that were detached become ours, so that their time can be read (Linux)."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, yes, 0, 0, 0)


def cpu_seconds(scratch: Scratch, argv: Sequence[str]) -> float:
    """Run a program; return the processor time of all its processes, if orphans become ours."""
    before = _used()
    scratch.timed(argv)
    _reap()
    return _used() - before


def _used() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _command(*words: str) -> Callable[[Scratch, Project], float]:
    def act(scratch: Scratch, project: Project) -> float:
        os.chdir(project.root)
        files.remove(project.layout.idle_stamp)
        return cpu_seconds(scratch, [*scratch.tick[:-1], *words])

    return act


def _run(scratch: Scratch, project: Project) -> float:
    """Return the time of one task from the tick that starts it to the end of its last process."""
    return finish(scratch, project, project.add_task())


def finish(scratch: Scratch, project: Project, task: str) -> float:
    """Let a waiting task be finished; return the processor time of all processes (seconds)."""
    seconds = _command("tick")(scratch, project)
    wait_for("the task is done", lambda: _is_done(project, task))
    return seconds


def _is_done(project: Project, task: str) -> bool:
    return os.path.exists(os.path.join(project.layout.state("done"), f"{task}.md"))


def _reap() -> None:
    """Wait for every process that became ours."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


_COMMANDS: dict[str, Callable[[Scratch, Project], float]] = {
    "tick": _command("tick"),
    "run": _run,
    "status": _command("status", "--json"),
    "task list": _command("task", "list", "--json"),
    "explain": _command("explain", "impl-1"),
    "inbox": _command("inbox"),
    "agent list": _command("agent", "list"),
    "hook": _command("_news"),
    "pr list": _command("pr", "list"),
    "doctor": _command("doctor"),
    "clean": _command("clean", "--dry-run"),
    "task add": _command("task", "add", "Measured again", "--force"),
}
