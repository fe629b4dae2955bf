"""The time of `pr merge`, beside the git commands that make the same merge.

The yardstick is `git merge-tree --write-tree`, `git commit-tree` and `git push`, in a repository of
the same size, to a remote on the same disk. Each pull request changes a file of its own, and the
base has moved since its branch was cut. With checks, the landing worktree is made by a landing
before the first measurement.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path

from benchmarks.report import Aim, Broken, Row, milliseconds, spread
from benchmarks.scratch import LAUNCHER, Project, Scratch, git
from orchestrator.model import PullRequest
from orchestrator.system import files, records

#: Files of the repository.
SIZES = (10_000, 50_000)
ROUNDS = 10
#: Against the bare commands, and the larger repository against the smaller one.
AIM, GROWTH_AIM = Aim(3.0), Aim(1.2)
_AGAINST = "git merge-tree, commit-tree, push"
_TASK = """# [{task}] Finished task

ROLE: implement
CREATED: 2026-01-01T00:00:00Z

<!-- orchestrator:history -->
## History
- 2026-01-01T00:01:00Z claimed {{"agent": "impl-1", "run": "{run}", "branch": "{branch}"}}
- 2026-01-01T00:02:00Z done {{"run": "{run}", "summary": "measured", "pr": "{number}"}}
"""
#: A commit with one more file, for `git fast-import`.
_WORK = """commit refs/heads/{branch}
committer bench <bench@localhost> 1767225600 +0000
data 4
work
from {cut}
M 100644 inline part0/added{number}.txt
data 5
work

"""


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of landings without and with checks, for each size of the repository."""
    sizes = [max(scratch.scaled(size), 100) for size in SIZES]
    plain = {size: _Side(scratch, size, "[]") for size in sizes}
    checked = {size: _Side(scratch, size, "['true']") for size in sizes}
    samples: dict[tuple[str, int], list[float]] = {}
    for side in (*plain.values(), *checked.values()):
        side.prepare(scratch)
    for _ in scratch.rounds(ROUNDS):
        for size in sizes:
            for name, act in (
                ("git", plain[size].land_by_git),
                ("without checks", partial(plain[size].land, scratch)),
                ("with a check", partial(checked[size].land, scratch)),
            ):
                samples.setdefault((name, size), []).append(act())
    rows = [
        milliseconds(
            f"`pr merge` {name}, {size:,} files",
            samples[name, size],
            samples["git", size],
            _AGAINST,
            aim,
        )
        for name, aim in (("without checks", AIM), ("with a check", None))
        for size in sizes
    ]
    small, large = (samples["without checks", size] for size in sizes)
    figure, beside = (statistics.median(each) * 1e3 for each in (large, small))
    measure, against = f"`pr merge`, {sizes[1]:,} files", f"`pr merge`, {sizes[0]:,} files"
    return [*rows, Row(measure, figure, "ms", beside, against, GROWTH_AIM, spread(large))]


class _Side:
    """A project with pull requests that wait, each with a branch at the remote."""

    def __init__(self, scratch: Scratch, size: int, checks: str) -> None:
        config = f"checks: {checks}\nagents:\n  - {{name: impl-1, role: implementer}}\n"
        self._project: Project = scratch.new_project(size, remote=True, config=config)
        self._root = self._project.root
        self._cut = git(self._root, "rev-parse", "HEAD")
        #: The branch that git alone merges into.
        self._bare = self._cut
        self._number = 0

    def prepare(self, scratch: Scratch) -> None:
        """Have what a project at work has: a tick's copy of the configuration, a merge before."""
        os.chdir(self._root)
        scratch.timed(scratch.launcher_tick)
        self.land(scratch)

    def land(self, scratch: Scratch) -> float:
        """Land one pull request with the product; return the seconds."""
        head = self._deliver()
        os.chdir(self._root)
        seconds = scratch.timed([LAUNCHER, "pr", "merge", str(self._number)])
        tip = git(self._root, "ls-remote", "origin", "refs/heads/main").split()[0]
        if git(self._root, "rev-parse", f"{tip}^2") != head:
            raise Broken(f"pull request {self._number} was not merged")
        return seconds

    def land_by_git(self) -> float:
        """Land one pull request with git's own commands; return the seconds."""
        head, base = self._deliver(), self._bare
        began = time.perf_counter()
        tree = self._git("merge-tree", "--write-tree", base, head)
        merged = self._git("commit-tree", tree, "-p", base, "-p", head, "-m", "Merge")
        self._git("push", "--quiet", "origin", f"{merged}:refs/heads/bare")
        self._bare = merged
        return time.perf_counter() - began

    def _git(self, *words: str) -> str:
        done = subprocess.run(("git", *words), cwd=self._root, capture_output=True, text=True)
        if done.returncode:
            raise Broken(f"git {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _deliver(self) -> str:
        """Have one more pull request, as a run leaves it; return its head."""
        self._number += 1
        number, layout = self._number, self._project.layout
        task, branch = f"TASK-{number:08x}", f"agent/TASK-{number:08x}-measured"
        run = f"20260101T{number:06}Z-{number:06x}"
        stream = _WORK.format(branch=branch, cut=self._cut, number=number)
        subprocess.run(("git", "fast-import", "--quiet"), cwd=self._root, input=stream.encode())
        git(self._root, "push", "--quiet", "origin", branch)
        head = git(self._root, "rev-parse", branch)
        text = _TASK.format(task=task, run=run, branch=branch, number=number)
        Path(layout.state("done"), f"{task}.md").write_text(text)
        row = records.plain(
            PullRequest(str(number), task, branch, "main", head, "Measured", "open")
        )
        assert isinstance(row, dict)
        files.make_folder(layout.prs)
        Path(layout.prs, f"{number}.json").write_text(json.dumps({**row, "body": "measured"}))
        return head
