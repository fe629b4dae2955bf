"""From a tick's start to its client's first instruction, beside the same git commands run bare.

Which git commands a run makes is recorded once, by a `git` on PATH that writes them down. Then
ticks and that very list take turns in the same repository, each time on a new task's branch.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Aim, Broken, Row, milliseconds
from benchmarks.scratch import Project, Scratch
from benchmarks.scratch import git as plain_git
from orchestrator.guard import client_environment

FILES = 100
ROUNDS = 12
AIM = Aim(2.0)

_RECORDER = """#!/bin/sh
{git} "$@"
code=$?
printf '%s\\0' "$code" "$PWD" "$#" "$@" >>{log}
exit $code
"""


@dataclass(frozen=True)
class Command:
    """A git command that a run made."""

    code: int
    cwd: str
    arguments: tuple[str, ...]


@dataclass
class Recording:
    """One run's git commands up to its client's start, and the names that were its own."""

    commands: list[Command]
    worktree: str
    branch: str
    run: str

    def replayed(self, worktree: str, branch: str) -> list[Command]:
        """Return the commands for another worktree and branch."""
        own = {self.worktree: worktree, self.branch: branch, self.run: f"replay-of-{self.run}"}

        def renamed(text: str) -> str:
            for old, new in own.items():
                text = text.replace(old, new)
            return text

        return [
            Command(each.code, renamed(each.cwd), tuple(map(renamed, each.arguments)))
            for each in self.commands
        ]


class Case:
    """Runs in one project, and what is needed to replay their git commands there."""

    def __init__(
        self, scratch: Scratch, name: str, project: Project, place: Callable[[int], str]
    ) -> None:
        self._name = name
        self._project = project
        #: Returns where a replay has its worktree.
        self._place = place
        self._tick = scratch.launcher_tick
        _run(project, self._tick)
        self._recording = _record(scratch, project)
        self._ours: list[float] = []
        self._clients: list[float] = []
        self._bare: list[float] = []

    def take_turns(self, number: int) -> None:
        """Time a run, its client alone, and a replay."""
        self._ours.append(_run(self._project, self._tick))
        self._clients.append(self._project.client_start())
        commands = self._recording.replayed(self._place(number), f"agent/replay-{number}")
        self._bare.append(_replay(commands))

    def row(self) -> Row:
        own = statistics.median(self._clients)
        counted = f"{len(self._recording.commands)} git commands"
        name, against = f"tick to client, {self._name}", f"its {counted} run bare"
        note = f"less the client's own {own * 1e3:.1f} ms"
        seconds = [each - own for each in self._ours]
        return milliseconds(name, seconds, self._bare, against, AIM, note)


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of runs in a fresh and in a reused worktree."""
    cases = (_fresh(scratch), _reused(scratch))
    for number in scratch.rounds(ROUNDS):
        for case in cases:
            case.take_turns(number)
    return [case.row() for case in cases]


def _fresh(scratch: Scratch) -> Case:
    # One agent for each round and two to warm up: each starts once, and so in a new worktree.
    agents = (
        f"  - {{name: agent-{number:02}, role: implementer, interval_seconds: 86400}}\n"
        for number in range(ROUNDS + 2)
    )
    project = scratch.new_project(FILES, remote=True, config="agents:\n" + "".join(agents))

    def place(number: int) -> str:
        folder = project.folder / f"replay-{number}"
        folder.mkdir()
        return str(folder / "worktree")

    return Case(scratch, "fresh worktree", project, place)


def _reused(scratch: Scratch) -> Case:
    agents = "agents:\n  - {name: agent, role: implementer, interval_seconds: 0.001}\n"
    project = scratch.new_project(FILES, remote=True, config=agents)
    worktree = str(project.folder / "replay" / "worktree")
    plain_git(project.root, "worktree", "add", "--quiet", "--detach", worktree, "main")

    def place(number: int) -> str:
        plain_git(worktree, "checkout", "--quiet", "--detach")
        return worktree

    return Case(scratch, "reused worktree", project, place)


def _run(project: Project, argv: list[str]) -> float:
    """Make one run from its tick to its end; return the seconds to the client's start."""
    task = project.add_task()
    seconds, tick = project.start_run(argv)
    project.finish_run(task, tick)
    return seconds


def _record(scratch: Scratch, project: Project) -> Recording:
    """Make one run with a recording git; return what it recorded before the client's start."""
    folder = scratch.new_folder("recorder")
    log = folder / "log"
    real = shutil.which("git")
    if real is None:
        raise Broken("git is not on PATH")
    text = _RECORDER.format(git=shlex.quote(real), log=shlex.quote(str(log)))
    (folder / "git").write_text(text)
    (folder / "git").chmod(0o755)
    task = project.add_task()
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        _, tick = project.start_run(scratch.launcher_tick)
    finally:
        os.environ["PATH"] = before
    # The client waits for its release: nothing else has asked git for anything meanwhile.
    commands = list(_recorded(log))
    record = project.finish_run(task, tick)
    if not commands:
        raise Broken("the run made no git command that could be recorded")
    return Recording(
        commands, project.layout.worktree(record.agent), record.branch or "", record.id
    )


def _recorded(log: Path) -> Iterator[Command]:
    words = iter(log.read_text().split("\0")[:-1] if log.exists() else ())
    for code in words:
        cwd, count = next(words), int(next(words))
        yield Command(int(code), cwd, tuple(next(words) for _ in range(count)))


def _replay(commands: list[Command]) -> float:
    """Run the commands one after the other, as a tight loop would; return the seconds.

    Raises Broken when one ends otherwise than in the run: then it is not the same work.
    """
    environment = client_environment.for_git(os.environ)
    began = time.perf_counter()
    codes = [
        subprocess.run(
            ("git", *each.arguments),
            cwd=each.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        ).returncode
        for each in commands
    ]
    seconds = time.perf_counter() - began
    for code, each in zip(codes, commands, strict=True):
        if code != each.code:
            words = shlex.join(each.arguments)
            raise Broken(f"replayed, git {words} ended with {code}, not with {each.code}")
    return seconds
