"""The CPU time of a finished task, beside the git commands that no delivery can do without.

Four agents work through a queue, each task with a commit, a push and a pull request. The yardstick
is one loop in the same kind of repository: `git ls-remote`, `git checkout`, the client, `git push`.
This process adopts every orphan of the product, so the time of each process is counted once.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import Aim, Broken, Row, milliseconds
from benchmarks.scratch import PATIENCE, Project, Scratch, git, wait_for
from orchestrator.system import process

FILES = 100
AGENTS = 4
TASKS = 12
ROUNDS = 5
#: CPU time against the bare commands: without reviews, and with a review per task.
AIM, REVIEWED_AIM = Aim(3.0), Aim(5.5)
#: Connections to the remote for a task's implementation, review and landing.
CONNECTIONS = Aim(3.0, of_ratio=False)
_CONNECTING = ("ls-remote", "fetch", "push")

CLIENT = """#!/bin/sh
outcome=approved
if [ "$ORCHESTRATOR_ROLE" != reviewer ]; then
    outcome=done
    echo work >"$ORCHESTRATOR_TASK_ID.txt"
    git add --all
    git commit --quiet --message=work
fi
echo '{"type": "result", "subtype": "success", "is_error": false, "result": "", \
"structured_output": {"outcome": "'$outcome'", "summary": "measured"}}'
"""

#: Writes down the command of each git process: the first word that is no option of git itself.
_RECORDER = """#!/bin/sh
[ "$1" = -c ] || exec {git} "$@"  # the client's own
for word; do
    case "$word" in
        -c) ;;
        *=*) ;;
        *) echo "$word" >>{log}; break ;;
    esac
done
exec {git} "$@"
"""


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of tasks without and with a review, and the counts of their processes."""
    # From here on, every process that the product leaves is a child of this process.
    process.adopt_orphans()
    bare = _Bare(scratch)
    cases = {
        "CPU per finished task": (new_project(scratch, reviews=False, lands=False), AIM),
        "CPU per reviewed task": (new_project(scratch, reviews=True, lands=False), REVIEWED_AIM),
    }
    tasks = max(scratch.scaled(TASKS), 2)
    samples: dict[str, list[float]] = {name: [] for name in cases}
    yardstick: list[float] = []
    for _ in scratch.rounds(ROUNDS):
        yardstick.append(bare.seconds(tasks))
        for name, (project, _) in cases.items():
            samples[name].append(_seconds(scratch, project, tasks))
    against = "git ls-remote, checkout, client, git push"
    rows = [
        milliseconds(name, samples[name], yardstick, against, aim)
        for name, (_, aim) in cases.items()
    ]
    return [*rows, *_counts(scratch)]


def new_project(scratch: Scratch, *, reviews: bool, lands: bool) -> Project:
    roles = ["implementer"] * AGENTS + ["reviewer"] * (AGENTS if reviews else 0)
    agents = "".join(
        f"  - {{name: agent-{number}, role: {role}}}\n" for number, role in enumerate(roles)
    )
    limits = "queue_limits: {max_incoming: 1000, max_claimed: 1000, max_open_prs: 1000}\n"
    landing = f"review: {{auto_merge: {str(lands).lower()}}}\n"
    project = scratch.new_project(FILES, remote=True, config=f"{limits}{landing}agents:\n{agents}")
    Path(project.client).write_text(CLIENT)
    _seconds(scratch, project, AGENTS)  # the agents' worktrees exist from now on
    return project


def _seconds(scratch: Scratch, project: Project, tasks: int) -> float:
    """Have the agents finish some tasks; return the seconds of CPU time per task."""
    ids = [project.add_task() for _ in range(tasks)]
    os.chdir(project.root)
    with counted() as seconds:
        scratch.timed(scratch.launcher_tick)
        wait_for_children()
    for task in ids:
        if not os.path.exists(os.path.join(project.layout.state("done"), f"{task}.md")):
            raise Broken(f"{task} is not finished")
    if left := os.listdir(project.layout.state("incoming")):
        raise Broken(f"tasks are left: {', '.join(left)}")
    return seconds[0] / tasks


@contextlib.contextmanager
def counted() -> Iterator[list[float]]:
    """Count the CPU seconds of the child processes that end meanwhile, and of theirs."""
    seconds: list[float] = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield seconds
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def wait_for_children(patience: float = PATIENCE) -> None:
    """Wait until no process of the product is left: each run ends as a tick that starts the next.

    Raises Broken when that takes more than `patience` seconds.
    """

    def ended() -> bool:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        return False

    wait_for("the end of all runs", ended, patience)


class _Bare:
    """The same work by git alone: one clone with a worktree, and a loop."""

    def __init__(self, scratch: Scratch) -> None:
        self._project = scratch.new_project(FILES, remote=True, config="agents: []\n")
        Path(self._project.client).write_text(CLIENT)
        self._tree = str(self._project.folder / "tree")
        git(self._project.root, "worktree", "add", "--quiet", "--detach", self._tree, "main")
        self._number = 0

    def seconds(self, tasks: int) -> float:
        """Return the seconds of CPU time per task."""
        with counted() as seconds:
            for _ in range(tasks):
                self._number += 1
                self._one(f"agent/bare-{self._number}")
        return seconds[0] / tasks

    def _one(self, branch: str) -> None:
        variables = {**os.environ, "ORCHESTRATOR_ROLE": "", "ORCHESTRATOR_TASK_ID": str(branch[6:])}
        commands = (
            ("git", "ls-remote", "--quiet", "origin", "refs/heads/main"),
            ("git", "checkout", "--quiet", "--force", "--no-track", "-b", branch, "main"),
            (self._project.client,),
            ("git", "push", "--quiet", "origin", branch),
        )
        for words in commands:
            done = subprocess.run(words, cwd=self._tree, env=variables, capture_output=True)
            if done.returncode != 0:
                said = done.stderr.decode(errors="replace").strip()
                raise Broken(f"{shlex.join(words)}: {said}")


def _counts(scratch: Scratch) -> list[Row]:
    """Return how many git processes, and connections, a reviewed and landed task needs."""
    project = new_project(scratch, reviews=True, lands=True)
    tasks = max(scratch.scaled(TASKS), 2)
    with _recorded(scratch) as log:
        _seconds(scratch, project, tasks)
    commands = log.read_text().split()
    connections = [word for word in commands if word in _CONNECTING]
    note = "the product's own git commands, for its implementation, review and landing"
    unit, against = "per task", "nothing"
    return [
        Row("git processes", len(commands) / tasks, unit, None, against, None, note),
        Row("connections", len(connections) / tasks, unit, None, against, CONNECTIONS, note),
    ]


@contextlib.contextmanager
def _recorded(scratch: Scratch) -> Iterator[Path]:
    """Put a git that writes its commands down first on PATH; provide the file."""
    folder = scratch.new_folder("recorder")
    log, real = folder / "log", shutil.which("git")
    if real is None:
        raise Broken("git is not on PATH")
    text = _RECORDER.format(git=shlex.quote(real), log=shlex.quote(str(log)))
    (folder / "git").write_text(text)
    (folder / "git").chmod(0o755)
    log.touch()
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield log
    finally:
        os.environ["PATH"] = before
