"""The time of `pr merge`, beside the git commands that make the same merge.

The yardstick is `git merge-tree --write-tree`, `git commit-tree` and `git push`, in a repository of
the same size, to a remote on the same disk. Each pull request changes a file of its own, and the
base has moved since its branch was cut. With checks, the landing worktree is made by a landing
before the first measurement.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from benchmarks.delivered import Delivered
from benchmarks.report import Aim, Broken, Row, milliseconds, spread
from benchmarks.scratch import LAUNCHER, Project, Scratch, git

#: Files of the repository.
SIZES = (10_000, 50_000)
ROUNDS = 10
#: Against the bare commands, and the larger repository against the smaller one.
AIM, GROWTH_AIM = Aim(3.0), Aim(1.2)


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of landings without and with checks, for each size of the repository."""
    # Short of the whole measurement, small repositories are enough.
    sizes = SIZES if scratch.scaled(SIZES[0]) == SIZES[0] else (100, 500)
    plain = {size: _Side(scratch, size, "[]") for size in sizes}
    checked = {size: _Side(scratch, size, "['true']") for size in sizes}
    samples: dict[tuple[str, int], list[_Spent]] = {}
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
            f"{what} of `pr merge` {name}, {size:,} files",
            [each[place] for each in samples[name, size]],
            [each[place] for each in samples["git", size]],
            "git merge-tree, commit-tree, push",
            aim,
        )
        for place, what in enumerate(("time", "CPU"))
        for name, aim in (("without checks", AIM), ("with a check", None))
        for size in sizes
    ]
    return [*rows, *_growth(samples, sizes)]


def _growth(samples: dict[tuple[str, int], list[_Spent]], sizes: Sequence[int]) -> list[Row]:
    """Return the CPU of the larger repository against the smaller: of git alone, and of landings.

    The note says how much that is in ms: what a landing takes more, git's commands take more.
    """
    rows = []
    for name, what, aim in (
        ("git", "git's commands", None),
        ("without checks", "`pr merge`", GROWTH_AIM),
    ):
        small, large = ([each.cpu * 1e3 for each in samples[name, size]] for size in sizes)
        more = statistics.median(b - a for a, b in zip(small, large, strict=True))
        measure, against = f"CPU of {what}, {sizes[1]:,} files", f"{sizes[0]:,} files"
        note = f"{spread(large, scale=1)}; {more:.0f} ms more in the same round"
        figure, beside = map(statistics.median, (large, small))
        rows.append(Row(measure, figure, "ms", beside, against, aim, note))
    return rows


class _Spent(NamedTuple):
    """Seconds of a landing: of the clock, and of the processor, in all its processes."""

    clock: float
    cpu: float


def _spent(act: Callable[[], object]) -> _Spent:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    act()
    clock, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return _Spent(clock, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


class _Side:
    """A project with pull requests that wait, each with a branch at the remote."""

    def __init__(self, scratch: Scratch, size: int, checks: str) -> None:
        config = f"checks: {checks}\nagents:\n  - {{name: impl-1, role: implementer}}\n"
        self._project: Project = scratch.new_project(10, remote=True, config=config)
        self._root = self._project.root
        self._grow(size)
        self._work = Delivered(self._project)
        #: The tip of the branch that git alone merges into.
        self._bare = self._work.cut

    def _grow(self, size: int) -> None:
        """Add files to the base branch. The person's checkout, which nothing reads, has none."""
        files = "".join(
            f"M 100644 inline part{number // 10}/file{number}.py\n"
            f"data {len(text := f'def f() -> int: return {number}')}\n{text}\n"
            for number in range(size)
        )
        commit = (
            "commit refs/heads/main\ncommitter b <b@localhost> 1767225600 +0000\ndata 4\nmany\n"
        )
        stream = f"{commit}from refs/heads/main^0\n{files}\n"
        words = ("git", "fast-import", "--quiet", "--force")
        if subprocess.run(words, cwd=self._root, input=stream.encode()).returncode:
            raise Broken("the files of a repository could not be made")
        git(self._root, "push", "--quiet", "origin", "main")

    def prepare(self, scratch: Scratch) -> None:
        """Have what a project at work has: a tick's copy of the configuration, merges before."""
        os.chdir(self._root)
        scratch.timed(scratch.launcher_tick)
        self.land(scratch)
        self.land_by_git()  # the first push to a branch compares with less than the later ones

    def land(self, scratch: Scratch) -> _Spent:
        """Land one pull request with the product."""
        head = self._work.open()
        os.chdir(self._root)
        words = [LAUNCHER, "pr", "merge", str(self._work.number)]
        spent = _spent(partial(scratch.timed, words))
        tip = git(self._root, "ls-remote", "origin", "refs/heads/main").split()[0]
        if git(self._root, "rev-parse", f"{tip}^2") != head:
            raise Broken(f"pull request {self._work.number} was not merged")
        return spent

    def land_by_git(self) -> _Spent:
        """Land one branch with git's own commands."""
        _, head = self._work.push()
        return _spent(partial(self._merge, head))

    def _merge(self, head: str) -> None:
        tree = self._git("merge-tree", "--write-tree", self._bare, head)
        self._bare = self._git("commit-tree", tree, "-p", self._bare, "-p", head, "-m", "Merge")
        self._git("push", "--quiet", "origin", f"{self._bare}:refs/heads/bare")

    def _git(self, *words: str) -> str:
        done = subprocess.run(("git", *words), cwd=self._root, capture_output=True, text=True)
        if done.returncode:
            raise Broken(f"git {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()
