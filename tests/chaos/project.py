"""The project of one storm: a `harness.World` with its disk, its clock and a colleague."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
from full_disk import Disk
from harness import PYTHON, World

from chaos import deeds, invariants, scripts
from chaos.deeds import Setting
from orchestrator.git import stashes

#: Size of the project's disk: room for a storm, and small enough to fill at once.
DISK = ("64m", 40_000)
#: Seconds that a command of a person has: it waits 30 s for a lock, and the machine may be busy.
COMMAND_SECONDS = 300
LIMITS = {"max_incoming": 12, "max_claimed": 3, "max_open_prs": 6}
#: The largest value that a person's deed gives to `max_claimed`.
MOST_CLAIMED = 4


class Broken(Exception):
    """Something that must hold does not; the message has one sentence per line."""


class Project:
    """A project in a storm, and everything that was noted about it."""

    def __init__(self, folder: Path, seed: str, on_disk: bool) -> None:
        self.folder, self.setting = folder, deeds.setting(seed)
        self.world = World(folder, folder / "templates")
        self.disk = Disk(folder / "disk", *DISK) if on_disk else None
        self.began = time.monotonic()
        self.figures: Counter[str] = Counter()
        self.known: set[str] = set()
        #: Commits by their name, with the files that they wrote.
        self.commits: dict[str, invariants.Commit] = {}
        self.ticks: list[subprocess.Popen[bytes]] = []
        #: The remote's own folder: what the project knows as its remote is a link to it, so that
        #: the remote can be out of reach while GitHub is not.
        self.hub = folder / "hub.git"
        #: The same of the submodule, if the project has one.
        self.library_hub = folder / "library-hub.git"
        self._noted = 0
        self._tasks = 0

    def create(self) -> None:
        """Make the project, its remote, the colleague's clone, and two versions of the program."""
        world = self.world
        if self.disk:
            self.disk.path.mkdir()
            self.disk.mount()
            world.root = self.disk.path / "project"
            world.home_folder = world.root / ".orchestrator"
            world.queue = world.home_folder / "shared" / "queue"
        _, self.move_clock = harness.movable_clock(self.folder)
        shutil.copytree(self.folder / "shadow", self.folder / "shadow-2", symlinks=True)
        self.program = self.folder / "program"
        self.program.symlink_to(self.folder / "shadow")
        world.product = self.program / "orchestrator" / "__main__.py"
        world.create(kept_today=False, **self.configuration())
        world.remote.rename(self.hub)
        world.remote.symlink_to(self.hub)
        if self.setting.library:
            self._add_library()
        self.colleague = self.folder / "colleague"
        world.git("clone", "-q", str(world.remote), str(self.colleague), cwd=self.folder)
        if self.setting.github:
            world.on_github()
            with self.github() as state:
                state["remote"] = str(self.hub)
        world.script("default", *scripts.tale(0))
        world.script("pm-0", *scripts.ADDS)
        for pick in self.setting.tasks:
            self.add_task(pick)
        self.human = self.of_the_human()

    def remotes(self) -> dict[Path, Path]:
        """Return the paths that the project knows as remotes, with the folders behind them."""
        found = {self.world.remote: self.hub}
        if self.setting.library:
            found[self.folder / "library.git"] = self.library_hub
        return found

    def _add_library(self) -> None:
        """Give the project a submodule with a remote of its own."""
        git, link = self.world.git, self.folder / "library.git"
        git("clone", "-q", "--bare", str(self.hub), str(self.library_hub), cwd=self.folder)
        link.symlink_to(self.library_hub)
        git("submodule", "--quiet", "add", str(link), scripts.LIBRARY)
        git("commit", "-q", "-m", "the library", "--", ".gitmodules", scripts.LIBRARY)
        git("push", "-q", "origin", "main")

    def configuration(self, *, adds: bool = True) -> dict[str, Any]:
        """Return agents.yaml as a dictionary; `adds`: whether an agent adds tasks."""
        agents = [World.agent(f"impl-{n}") for n in range(3)]
        agents += [World.agent(f"rev-{n}", "reviewer") for n in range(2)]
        pm = {"interval_seconds": 10, "paused": not adds}
        agents += [{"name": "pm-0", "role": "product_manager", **pm}]
        return {
            "checks": [f"test ! -e {scripts.BROKEN}"],
            "forge": "github" if self.setting.github else "local",
            "agents": agents,
            "queue_limits": dict(LIMITS),
            "dependencies": self.setting.dependencies,
            "review": {
                "after": ["implement"],
                "max_rounds": 2,
                "auto_merge": self.setting.auto_merge,
                "merge_method": self.setting.merge_method,
            },
            "retention": {"runs": 5000},
            "submodules": {"unpushed": "push"},
        }

    # --- what is told ---

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        line = f"{time.monotonic() - self.began:7.2f}  {text}"
        with open(self.folder / "story.txt", "a") as file:
            file.write(line + "\n")

    # --- tasks ---

    def add_task(self, pick: float, depends_on: str = "") -> str:
        """Drop a task whose executions do what `pick` says; return its id."""
        chance = random.Random(pick)
        self._tasks += 1
        task = f"TASK-{self._tasks:08x}"
        self.world.script(task, *scripts.tale(chance.random(), library=self.setting.library))
        self.world.script(f"review-of-{task}", *scripts.reviews(chance.random()))
        depends = f"DEPENDS_ON: {depends_on}\n" if depends_on else ""
        text = f"# [{task}] Task {self._tasks}\n\nROLE: implement\n{depends}\n## Context\nText.\n"
        # A person writes a file at once, and again if the disk was full.
        with contextlib.suppress(OSError):
            self.world.drop(f"{task}.md", text)
            self.known.add(task)
        return task

    # --- the product ---

    def command(self, *words: str) -> str:
        """Run a command of a person; return how it ended. Raises Broken for a bug."""
        done = self._run(*words)
        if done.returncode == 2:
            raise Broken(f"the storm used a command wrongly: {words}: {done.stderr}")
        said = (done.stderr or done.stdout).strip().splitlines()
        return f"{' '.join(words)} -> {done.returncode} {said[0][:160] if said else ''}"

    def ask(self, *words: str) -> Any:
        """Return what a command that only reads prints as JSON. Raises Broken for a bug."""
        done = self._run(*words, "--json")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise Broken(f"no JSON from {words}: {done.stdout}{done.stderr}") from None

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the product. Raises Broken if it met a bug."""
        done = subprocess.run(
            [*PYTHON, str(self.world.product), *words],
            cwd=self.world.root,
            env=self.world.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        said = done.stdout + done.stderr
        if done.returncode == 3 or "Traceback" in said:
            raise Broken(f"a bug: {' '.join(words)} ended with {done.returncode}: {said}")
        return done

    def start_tick(self) -> subprocess.Popen[bytes]:
        """Start a tick, as the schedule does."""
        with open(self.folder / "ticks.log", "ab") as log:
            tick = subprocess.Popen(
                [*PYTHON, str(self.world.product), "tick"],
                cwd=self.world.root,
                env=self.world.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.ticks.append(tick)
        self.figures["ticks"] += 1
        return tick

    def reap(self) -> None:
        """Take note of ticks that have ended. Raises Broken for a bug."""
        for tick in list(self.ticks):
            code = tick.poll()
            if code is not None:
                self.ticks.remove(tick)
                if code == 3:
                    said = (self.folder / "ticks.log").read_text()[-2000:]
                    raise Broken(f"a bug: a tick ended with {code}: {said}")

    # --- what is looked at at every instant ---

    def moment(self) -> invariants.Moment:
        """Return where the tasks are now."""
        places = {
            state: [name.removesuffix(".md") for name in names]
            for state, names in self.world.places().items()
        }
        self.known.update(task for tasks in places.values() for task in tasks)
        return invariants.Moment(places, frozenset(self.known), MOST_CLAIMED)

    def watch(self, seconds: float, *, ticks: bool = True) -> None:
        """Look again and again for some seconds, and tick meanwhile. Raises Broken."""
        until, ticked = time.monotonic() + seconds, 0.0
        while time.monotonic() < until:
            self.figures["looks"] += 1
            if wrong := invariants.at_an_instant(self.moment()):
                raise Broken("\n".join(wrong))
            self.reap()
            if ticks and len(self.ticks) < 2 and time.monotonic() - ticked > 0.5:
                self.start_tick()
                ticked = time.monotonic()
            time.sleep(0.03)
        self.note_commits()

    def note_commits(self) -> None:
        """Keep the names of the files' contents of commits that agents made since the last time."""
        made = self.world.ledger("commit")
        for record in made[self._noted :]:
            self.note_commit(record["sha"], f"run {record['run']}", self.world.root)
        self._noted = len(made)

    def note_commit(self, sha: str, by: str, where: Path) -> None:
        """Keep a commit for the checker, with the contents of the files that it changed."""
        rows = self.world.git(
            "diff-tree", "-r", "--root", "--no-commit-id", sha, cwd=where, good=False
        )
        is_there = rows or self.world.sha(sha, cwd=where)
        written = frozenset(row.split()[3] for row in rows.splitlines() if row.split()[4] != "D")
        before = self.world.git("rev-list", "--max-count=20", sha, cwd=where, good=False)
        self.commits[sha] = invariants.Commit(
            sha, by, written if is_there else None, frozenset(before.split()) - {sha}
        )

    # --- the person's checkout ---

    def of_the_human(self, *, at_rest: bool = False) -> dict[str, str]:
        """Return everything that is the person's, but for what commands edit.

        All worktrees share one list of stashes: until its run has ended, an entry that an agent
        made on its branch is in the list. Only `at_rest` must none be left there.
        """
        from test_contract_human import of_the_human

        found = of_the_human(self.world)
        del found["agents.yaml"]
        # A clean-up of the repository by an agent packs the ref.
        del found[".git/refs/stash"], found["ref stash"]
        listed = stashes.current(str(self.world.root)).items()
        found["the stashes"] = " ".join(
            commit
            for commit, message in listed
            if at_rest or not message.startswith(("WIP on agent/", "On agent/"))
        )
        return found

    def assert_checkout_is_untouched(self, *, at_rest: bool = False) -> None:
        """Raise Broken if something of the person's changed that no deed has changed."""
        now = self.of_the_human(at_rest=at_rest)
        changed = [name for name in {*now, *self.human} if now.get(name) != self.human.get(name)]
        if changed:
            raise Broken(f"of the person's own was changed: {', '.join(sorted(changed))}")

    # --- GitHub ---

    @contextlib.contextmanager
    def github(self) -> Iterator[dict[str, Any]]:
        """Give the state of the stand-in for GitHub, and write it back."""
        path = self.folder / "github.json"
        with open(f"{path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads(path.read_text())
            yield state
            aside = path.with_suffix(".aside")
            aside.write_text(json.dumps(state))
            os.replace(aside, path)

    # --- the end ---

    def end(self) -> None:
        """End every process and give the disk back; the folder stays."""
        if self.disk:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.disk.read_only(False)
        self.world.end()
        for tick in self.ticks:
            tick.wait()
        if self.disk and os.path.ismount(self.disk.path):
            self.keep_what_is_on_the_disk()

    def keep_what_is_on_the_disk(self) -> None:
        """Copy the project from its disk into the folder, and unmount the disk."""
        assert self.disk
        self.disk.free()
        kept = self.folder / "kept"
        shutil.copytree(self.disk.path, kept, symlinks=True, dirs_exist_ok=True)
        self.disk.unmount()


__all__ = ["Broken", "Project", "Setting"]
