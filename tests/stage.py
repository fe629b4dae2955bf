"""A whole project on a stage: the product ticks for real, and its supervisors are played.

Real files, real git, the real `run_tick` and command line in this process, with the time
passed in. One thing is replaced, at the outermost edge: where a supervisor would be forked off
(`supervisor.start`), an actor takes over who writes the run's record as a supervisor would and is
alive for as long as it holds the agent's lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from orchestrator.cli import context, run
from orchestrator.cli.main import main
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Outcome
from orchestrator.model.work import STATES, PullRequest, Task
from orchestrator.project import agent_memory, run_record
from orchestrator.project.run_record import RunRecord, Status
from orchestrator.pulls.local import Local
from orchestrator.run import supervisor
from orchestrator.run.journal import Journal
from orchestrator.system import files, locks, records
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Listing
from orchestrator.tick import start, stop
from orchestrator.tick.report import Report
from orchestrator.tick.tick import run_tick

#: Central Europe, without need of a zone file: the clocks change at 01:00 UTC (POSIX TZ).
ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"
#: More than any process id there is (Linux: at most 2**22), so nobody alive ever has it.
NOBODY = 2**22 + 1
#: Commits made ahead, one for each delivery of an example.
COMMITS = 60


class Killed(BaseException):
    """kill -9, in the middle of it."""


class PowerSwitch:
    """Kills what runs in this process before, or halfway through, one of its changes of the disk.

    From that change on nothing that it does reaches the disk, not even what `finally` would do.
    """

    #: All but what a tick writes into its own lock, which only a real death lets go of.
    CHANGES = ("replace", "rename", "unlink", "write", "mkdir")

    def __init__(self, after: int) -> None:
        self.left = after

    def __enter__(self) -> PowerSwitch:
        self._patches = [
            mock.patch.object(os, name, self._counted(getattr(os, name), half=name == "write"))
            for name in self.CHANGES
        ]
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _counted(self, real: Callable[..., Any], *, half: bool) -> Callable[..., Any]:
        def change(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left >= 0:
                return real(*arguments, **named)
            if half and self.left == -1:
                descriptor, data = arguments
                real(descriptor, data[: len(data) // 2])
            raise Killed

        return change


class Stage:
    """One project, and the actors in it."""

    def __init__(self, template: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stage-"))
        self.root = self.folder / "project"
        shutil.copytree(template / "project", self.root, symlinks=True)
        self.commits = (template / "commits").read_text().split()
        self.layout = Layout(str(self.root))
        self.store = FileStore(self.layout)
        self.queue = Path(self.layout.queue)
        self.now = 0
        #: The locks that living supervisors hold, by agent.
        self.alive: dict[str, locks.Lock] = {}
        #: How many of the next supervisors die as soon as they are started.
        self.stillborn = 0
        self.spawned: list[tuple[str, bool]] = []
        #: The newest commit of each pull request.
        self.heads: dict[str, str] = {}
        #: Called for each tick; the machine puts its own in, which compares.
        self.tick: Callable[..., Report] = self.plain_tick
        #: Called while a command waits for a run to end.
        self.meanwhile: Callable[[], None] = lambda: None
        self._made = 0
        self._waited = 0.0
        self._read_events = 0
        self._undo = contextlib.ExitStack()
        self._replace_the_edges()
        self._undo.enter_context(contextlib.chdir(self.root))

    def _replace_the_edges(self) -> None:
        patch = mock.patch.object
        waiting = SimpleNamespace(
            sleep=self._sleep, monotonic=lambda: self._waited, time=lambda: float(self.now)
        )
        for edge in (
            mock.patch.dict(os.environ, {"TZ": ZONE}),
            patch(supervisor, "start", self._spawn),
            patch(context, "now", lambda: float(self.now)),
            # What a command does while it waits for a run to end, and the ticks that it makes.
            patch(stop, "time", waiting),
            patch(stop, "run_tick", lambda *_, **named: self.tick(**named)),
            patch(run, "run_tick", lambda *_, **named: self.tick(**named)),
            # Run ids order reviews of one second: the same ones in each replay.
            patch(start.os, "urandom", self._urandom),
            # kill -9 loses nothing that was written; only a machine that goes down does.
            patch(os, "fsync", lambda descriptor: None),
        ):
            self._undo.enter_context(edge)
        time.tzset()

    def end(self) -> None:
        for lock in self.alive.values():
            lock.close()
        self._undo.close()
        time.tzset()
        shutil.rmtree(self.folder)

    def _urandom(self, count: int) -> bytes:
        self._made += 1
        return self._made.to_bytes(count, "big")

    def _sleep(self, seconds: float) -> None:
        self._waited += max(seconds, 0.2)
        self.meanwhile()

    # --- the product ---

    def plain_tick(self, **named: Any) -> Report:
        return run_tick(self.layout, float(self.now), **named)

    def command(self, *words: str) -> tuple[int, str]:
        """Run a command line of the product; return its exit code and what it said."""
        said = self.folder / "said"
        with (
            said.open("w") as out,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
        ):
            code = main([*words, "--project", str(self.root)])
        return code, said.read_text()

    def configure(self, text: str | None) -> None:
        """Write agents.yaml; None deletes it."""
        if text is None:
            files.remove(self.layout.config)
        else:
            files.write_atomic(self.layout.config, text.encode())

    # --- supervisors ---

    def _spawn(self, folder: str, *_: object) -> int:
        agent = Path(folder).parents[1].name
        dies = self.stillborn > 0
        self.stillborn -= dies
        lives = not dies and self.revive(agent)
        self.spawned.append((agent, lives))
        return NOBODY

    def revive(self, agent: str) -> bool:
        """Begin a supervisor's life: it holds the agent's lock, unless another one does."""
        if agent in self.alive:
            return False
        lock = locks.Lock(self.layout.agent_lock(agent))
        lock.__enter__()
        self.alive[agent] = lock
        return True

    def kill(self, agent: str) -> None:
        self.alive.pop(agent).close()

    def write_stage(self, agent: str, run: str, stage: Status) -> None:
        folder, record = self._record(agent, run)
        run_record.write(folder, record._replace(status=stage))

    def finish(self, agent: str, run: str, outcome: dict[str, Any] | None) -> None:
        """Write a run's end; None: with an outcome that nobody can read."""
        folder, record = self._record(agent, run)
        if outcome is None:
            odd = records.plain(record._replace(status="finished"))
            assert isinstance(odd, dict)
            files.write_json(os.path.join(folder, "run.json"), {**odd, "outcome": {"odd": 1}})
        else:
            Journal(folder, record).finish(Outcome(**outcome))

    def _record(self, agent: str, run: str) -> tuple[str, RunRecord]:
        folder = self.layout.run(agent, run)
        record = run_record.read(folder)
        assert record is not None, folder
        return folder, record

    def unsettled_run(self, agent: str) -> tuple[str, str | None] | None:
        """Return the run and its task that an agent's memory names."""
        run = agent_memory.read(self.layout, agent).run
        return (run, self._record(agent, run)[1].task) if run else None

    # --- git and the forge ---

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ("git", *words), cwd=self.root, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def deliver(self, task: str, branch: str) -> str:
        """Put a commit on a branch and open its pull request, as delivery does; return its id."""
        head = self.commits.pop()
        self.git("update-ref", f"refs/heads/{branch}", head)
        wanted = PullRequest("", task, branch, "main", head, task, "open")
        where = Local(self.layout, SimpleNamespace(remote="origin"))
        pr = where.open(wanted, "").id
        self.heads[pr] = head
        return pr

    def merge(self, branch: str) -> None:
        message = ("-p", "refs/heads/main", "-p", f"refs/heads/{branch}", "-m", "merge")
        commit = self.git("commit-tree", "refs/heads/main^{tree}", *message)
        self.git("update-ref", "refs/heads/main", commit)

    def drop_branch(self, branch: str) -> None:
        self.git("update-ref", "-d", f"refs/heads/{branch}")

    # --- what lies there ---

    def listings(self) -> dict[str, Listing]:
        return {state: self.store.list(state) for state in STATES}

    def tasks(self) -> dict[str, Task]:
        return {task.id: task for found in self.listings().values() for task in found.tasks}

    def contents(self) -> dict[str, bytes]:
        """Return every file of the queue that a person could see, by `state/name`."""
        found = {}
        for state in STATES:
            for path in (self.queue / state).iterdir():
                if not path.name.startswith("."):
                    found[f"{state}/{path.name}"] = path.read_bytes() if path.is_file() else b""
        return found

    def new_event_lines(self) -> Iterator[bytes]:
        """Yield the whole lines of the project's history that came since the last call."""
        path = Path(self.layout.events)
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read_events)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_events += len(whole)
        yield from whole.splitlines()

    @staticmethod
    def as_event(line: bytes) -> dict[str, Any] | None:
        try:
            event = json.loads(line)
        except ValueError:
            return None
        return event if isinstance(event, dict) else None


def make_template(folder: Path) -> None:
    """Make the project that each stage copies: a repository, set up, with commits in store."""
    root = folder / "project"
    root.mkdir(parents=True)

    def git(*words: str, text: str | None = None) -> str:
        done = subprocess.run(
            ("git", "-c", "core.hooksPath=/dev/null", *words),
            cwd=root, input=text, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main", "--template=")
    git("config", "user.name", "A Person")
    git("config", "user.email", "person@example.org")
    (root / "README.md").write_text("# A project\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    made = []
    for number in range(COMMITS):
        blob = git("hash-object", "-w", "--stdin", text=f"{number}\n")
        tree = git("mktree", text=f"100644 blob {blob}\twork-{number}.txt\n")
        made.append(git("commit-tree", tree, "-p", "HEAD", "-m", f"work {number}"))
    # One file instead of three per commit: each stage copies them all.
    names = git("rev-list", "--objects", "HEAD", *made)
    git("pack-objects", "--quiet", ".git/objects/pack/pack", text=names)
    git("prune-packed", "--quiet")
    code = main(["init", "--schedule", "none", "--no-commands", "--start", "--project", str(root)])
    assert code == 0
    (folder / "commits").write_text("\n".join(made))
