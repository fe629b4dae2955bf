"""Finished tasks per second, beside two other queues for Claude Code, each with clients at once.

Each side works through tasks that are queued before, in queues of several lengths: a task of
`claude-code-queue` takes longer with each task that waits, because it reads and writes the files of
all tasks whenever it starts one. The product's tasks have a worktree, a commit,
a push and a pull request; the peers' have nothing of that. `claude-code-queue` has one processor,
whose client does nothing; of `fleetq`, four loops claim a task and say that it is done, without any
client. A peer that cannot be installed is left out by name.
"""

from __future__ import annotations

import os
import subprocess
import time
import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.finished_task import AGENTS, new_project, wait_for_children
from benchmarks.report import Aim, Broken, Row
from benchmarks.scratch import Project, Scratch, git, wait_for
from orchestrator.system import process

#: Tasks in a queue, and how often such a queue is worked through.
LENGTHS = {24: 2, 100: 1, 200: 1}
#: Seconds for the installation of one peer.
INSTALLING = 120
_CLIENT = """#!/bin/sh
[ "$1" = --version ] && echo "2.1.50 (Claude Code)" && exit
echo done
"""
#: Tasks are added by one process: the start of the peer's program takes longer than the rest.
_REPEATED = """
import sys
from importlib.metadata import entry_points
number, name, *words = sys.argv[1:]
[found] = entry_points(group="console_scripts", name=name)
program = found.load()
for each in range(int(number)):
    sys.argv = [name, *(word.format(each) for word in words)]
    try:
        program()
    except SystemExit as ended:
        assert not ended.code, ended.code
"""
_WORKER = """#!/bin/sh
while id=$({fleet} claim "$1" | sed -n 's/^  "id": "\\(.*\\)",$/\\1/p') && [ -n "$id" ]; do
    {fleet} done "$id" --result measured >/dev/null || exit
done
"""


def measure(scratch: Scratch) -> list[Row]:
    """Return a row for each peer. Raises Broken if a task was not finished."""
    process.adopt_orphans()
    project = new_project(scratch, reviews=False, lands=False)
    sides: dict[str, Callable[[int], float]] = {"": lambda number: _own(scratch, project, number)}
    missing = []
    for peer, (make, _) in _PEERS.items():
        programs = None if scratch.is_smoke else _install(scratch, peer)
        if programs is None:
            missing.append(peer)
        else:
            sides[peer] = make(scratch, programs)
    rows = []
    for length, rounds in LENGTHS.items():
        tasks = max(scratch.scaled(length), AGENTS)
        best = dict.fromkeys(sides, 0.0)
        for _ in range(1 if scratch.is_smoke else rounds):
            for name, work in sides.items():
                best[name] = max(best[name], tasks / work(tasks))
        rows += [
            Row(
                f"finished tasks, {tasks} queued",
                best[""],
                "per s",
                best.get(peer),
                f"{peer} ({'left out: not installed' if peer in missing else 'no delivery'})",
                aim,
                f"the best of {rounds}" if rounds > 1 else "one round",
            )
            for peer, (_, aim) in _PEERS.items()
        ]
    return rows


def _install(scratch: Scratch, peer: str) -> Path | None:
    """Return the folder with the programs of a peer; None if it cannot be installed."""
    folder = scratch.new_folder("peer")
    venv.EnvBuilder(symlinks=True, with_pip=True).create(folder)
    pip = [folder / "bin" / "pip", "install", "--quiet", "--no-input", "--retries", "1", peer]
    try:
        done = subprocess.run(pip, capture_output=True, timeout=INSTALLING, check=False)
    except subprocess.TimeoutExpired:
        return None
    return folder / "bin" if done.returncode == 0 else None


def _repeat(scratch: Scratch, programs: Path, number: int, name: str, *words: str) -> None:
    """Run a program of a peer some times in one process; `{}` in its words is the number."""
    log = scratch.output
    scratch.timed([str(programs / "python"), "-c", _REPEATED, str(number), name, *words])
    if "Traceback" in (said := Path(log).read_text()):
        raise Broken(said[-500:])


def _own(scratch: Scratch, project: Project, number: int) -> float:
    """Return the seconds in which the agents finish some tasks."""
    done = project.layout.state("done")
    before = len(os.listdir(done))
    for _ in range(number):
        project.add_task()
    os.chdir(project.root)
    began = time.perf_counter()
    scratch.timed(scratch.launcher_tick)
    wait_for("the tasks are done", lambda: len(os.listdir(done)) == before + number, 300)
    seconds = time.perf_counter() - began
    wait_for_children()
    return seconds


def _claude_code_queue(scratch: Scratch, programs: Path) -> Callable[[int], float]:
    client = scratch.new_folder("client") / "claude"
    client.write_text(_CLIENT)
    client.chmod(0o755)

    def work(number: int) -> float:
        home, inside = scratch.new_folder("queue"), scratch.new_folder("inside")
        program = [str(programs / "claude-queue"), "--storage-dir", str(home)]
        words = (*program[1:], "add", "Task {}", "--working-dir", str(inside))
        _repeat(scratch, programs, number, "claude-queue", *words)
        start = [*program, "--claude-command", str(client), "--check-interval", "1", "start"]
        began = time.perf_counter()
        with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as queue:
            finished = home / "completed"
            wait_for("its tasks are done", lambda: len(os.listdir(finished)) == number, 300)
            seconds = time.perf_counter() - began
            queue.terminate()
        return seconds

    return work


def _fleetq(scratch: Scratch, programs: Path) -> Callable[[int], float]:
    worker = scratch.new_folder("worker") / "worker"
    worker.write_text(_WORKER.format(fleet=programs / "fleet"))
    worker.chmod(0o755)

    def work(number: int) -> float:
        folder = scratch.new_folder("fleet")
        git(folder, "init", "--quiet")
        os.chdir(folder)
        scratch.timed([str(programs / "fleet"), "init", "--max-workers", str(AGENTS)])
        for each in range(number):
            scratch.timed([str(programs / "fleet"), "add", f"task {each}"])
        began = time.perf_counter()
        workers = [
            subprocess.Popen([worker, f"agent-{each}"], stderr=subprocess.DEVNULL)
            for each in range(AGENTS)
        ]
        codes = [each.wait() for each in workers]
        seconds = time.perf_counter() - began
        scratch.timed([str(programs / "fleet"), "list", "done"])
        if any(codes) or Path(scratch.output).read_text().count("task ") < number:
            raise Broken("fleetq did not finish its tasks")
        return seconds

    return work


#: By what pip installs: how a round of it is made, and the aim of the product's rate against it.
_PEERS: dict[str, tuple[Callable[[Scratch, Path], Callable[[int], float]], Aim]] = {
    "claude-code-queue==0.4.3": (_claude_code_queue, Aim(0.7, at_most=False)),
    "fleetq==0.2.1": (_fleetq, Aim(1.5, at_most=False)),
}
