"""How long a tick holds its lock while the remote is slow, beside a remote that is not.

The project has an open pull request, so that the tick must ask the remote. Git reaches the remote
by a stand-in for ssh, which waits before each connection in one of two projects.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.delivered import Delivered
from benchmarks.report import Aim, Broken, Row, milliseconds
from benchmarks.scratch import Project, Scratch, git
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Problem
from orchestrator.tick import lock
from orchestrator.tick.tick import run_tick

#: Seconds that each connection takes longer.
DELAY = 0.5
ROUNDS = 12
AIM = Aim(1.2)
#: git calls it as ssh: options, the host, and the command there.
_SSH = """#!/bin/sh
echo connection >>{log}
sleep {delay}
for command; do :; done
exec sh -c "$command"
"""


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of a tick with an open pull request: time with the lock held, whole time."""
    sides = {name: _Side(scratch, delay) for name, delay in (("slow", DELAY), ("fast", 0.0))}
    for side in sides.values():
        side.tick()  # the first one finds the forge, and copies the configuration
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in scratch.rounds(ROUNDS):
        for name, side in sides.items():
            samples[name].append(side.tick())
    against = "a remote without the delay"
    return [
        milliseconds(
            f"{what}, {DELAY * 1e3:.0f} ms more per connection",
            [each[place] for each in samples["slow"]],
            [each[place] for each in samples["fast"]],
            against,
            aim,
        )
        for place, what, aim in ((0, "tick's lock held", AIM), (1, "whole tick", None))
    ]


class _Side:
    """A project with an open pull request, and a remote behind the stand-in for ssh."""

    def __init__(self, scratch: Scratch, delay: float) -> None:
        self._delay = delay
        config = "agents:\n  - {name: impl-1, role: implementer}\n"
        self._project: Project = scratch.new_project(10, remote=True, config=config)
        self._ssh, self._log = self._project.folder / "ssh", self._project.folder / "connections"
        self._ssh.write_text(_SSH.format(log=shlex.quote(str(self._log)), delay=delay))
        self._ssh.chmod(0o755)
        Delivered(self._project).open()
        remote = self._project.folder / "remote.git"
        git(self._project.root, "remote", "set-url", "origin", f"ssh://localhost{remote}")

    def tick(self) -> tuple[float, float]:
        """Run a tick; return the seconds with its lock held, and those of the whole tick."""
        os.environ["GIT_SSH_COMMAND"] = str(self._ssh)
        self._log.write_text("")
        rest = DELAY - self._delay
        began = time.perf_counter()
        with _timed(rest) as held:
            report = run_tick(Layout(str(self._project.root)), time.time())
        seconds = time.perf_counter() - began - rest
        connections = len(Path(self._log).read_text().split())
        if report.problems or len(held) != 1 or connections != 1:
            said = f"{connections} connections, the lock taken {len(held)} times"
            raise Broken(f"a tick is not as expected: {said}: {report.problems}")
        return held[0], seconds


@contextlib.contextmanager
def _timed(rest: float) -> Iterator[list[float]]:
    """Measure for how many seconds this process holds the lock of the tick, each time.

    It sleeps for `rest` seconds before it takes the lock: after half a second without work, the
    processor does the same more slowly, whatever the process waited for.
    """
    held: list[float] = []
    real = lock.taken

    @contextlib.contextmanager
    def taken(*given: Any) -> Iterator[list[Problem] | None]:
        time.sleep(rest)
        with real(*given) as problems:
            began = time.perf_counter()
            yield problems
            held.append(time.perf_counter() - began)

    lock.taken = taken
    try:
        yield held
    finally:
        lock.taken = real
