"""Faults: processes, the clock, the disk, the remote, GitHub, and a new version of the program.

Each function is named after its deed, does it, and returns what was done. What lasts is entered in
`Faults.active` with the function that ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import psutil

from chaos.deeds import Deed
from chaos.project import Broken, Project

HOUR, DAY = 3600, 86_400
MOVES = (8 * HOUR, -8 * HOUR, 30 * DAY, -30 * DAY, 400 * DAY, 90)
#: Seconds for which a process is waited for; one of git lives for milliseconds.
HUNT = 1.5
#: How the real `gh` says it: see tests/test_forge.py.
GITHUB_SAYS = (
    {"fails": "HTTP 502: Bad Gateway (https://api.github.com/graphql)"},
    {"fails": "GraphQL: API rate limit exceeded for user ID 1."},
    {"signed_out": True},
    {"offline": True},
)
#: Hooks of the remote, by deed.
REFUSES = "echo 'no pushes today' >&2; exit 1"
KILLED = "kill -9 $$"
#: The locks that another process holds, below `.orchestrator/`.
LOCKS = (
    "scheduler.lock",
    "shared/queue/.lock",
    "shared/prs/.lock",
    "events.jsonl",
    "cache/fetch.lock",
    "cache/keeping.lock",
    "cache/landing.lock",
    "agents/impl-0/lock",
)
#: The program that holds a lock until its standard input ends.
HOLDS = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); sys.stdin.read()"
#: Bytes of address space that a process without memory may get at most.
MEMORY = 64 << 20
SLOW = "sleep 2"
#: The figure of kills of clients and of git: each can interrupt one run. A killed supervisor is
#: started again.
FATAL = "fatal kills"


class Lasting(NamedTuple):
    """A fault that lasts."""

    #: The number of the deed before which it ends.
    until: int
    end: Callable[[], object]


class Faults:
    """What is broken at the moment in a project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.active: dict[str, Lasting] = {}

    def play(self, deed: Deed) -> str:
        """Let a fault happen; return what was done."""
        return str(getattr(self, deed.kind)(deed))

    def end_due(self, number: int) -> None:
        """End the faults that last until this deed."""
        for name in [name for name, each in self.active.items() if each.until <= number]:
            self.active.pop(name).end()
            self.project.tell(f"      {name} has ended")

    def end_all(self) -> None:
        """End every fault."""
        self.end_due(1 << 30)

    def lasts(self, deed: Deed, end: Callable[[], object], name: str = "") -> None:
        """Let `end` end a fault; it also ends an earlier fault of this name (default: the kind)."""
        self.active[name or deed.kind] = Lasting(deed.number + deed.lasts, end)

    # --- processes ---

    def supervisors(self) -> list[psutil.Process]:
        """Return the supervisors that live: the parents of clients, and what runs records name."""
        named = {
            (run["supervisor"] or {}).get("pid")
            for run in records(self.project)
            if run["status"] != "finished"
        }
        return [p for p in self.project.world.processes() if p.pid in named]

    def clients(self) -> list[psutil.Process]:
        living = {record["pid"] for record in self.project.world.running()}
        return [p for p in self.project.world.processes() if p.pid in living]

    def living_ticks(self) -> list[psutil.Process]:
        pids = {tick.pid for tick in self.project.ticks if tick.poll() is None}
        return [p for p in self.project.world.processes() if p.pid in pids]

    def _hunt(self, find: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
        """Return what `find` finds as soon as it finds something; [] after a while."""
        deadline = time.monotonic() + HUNT
        while not (found := find()) and time.monotonic() < deadline:
            self.project.reap()
            if not self.project.ticks:
                self.project.start_tick()
            time.sleep(0.05)
        return found

    def _struck(self, *names: str) -> None:
        for name in ("kills", *names):
            self.project.figures[name] += 1

    def _kill(self, find: Callable[[], list[psutil.Process]], deed: Deed, *names: str) -> str:
        found = self._hunt(find)
        if not found:
            return "nobody is there"
        victim = deed.of(found)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
            self._struck(*names)
        return f"{victim.pid} is killed"

    def kill_tick(self, deed: Deed) -> str:
        """Kill a tick somewhere in its life: one that is started for this."""
        tick = self.project.start_tick()
        time.sleep(deed.how * 0.6)
        if tick.poll() is not None:
            return "the tick was faster"
        tick.kill()
        self._struck()
        return f"{tick.pid} is killed"

    def kill_supervisor(self, deed: Deed) -> str:
        return self._kill(self.supervisors, deed)

    def kill_client(self, deed: Deed) -> str:
        return self._kill(self.clients, deed, FATAL)

    def kill_run(self, deed: Deed) -> str:
        """Kill a client and its supervisor, as the kernel does when memory is short."""
        clients = self._hunt(self.clients)
        if not clients:
            return "nobody is there"
        victim = deed.of(clients)
        said = []
        with contextlib.suppress(psutil.NoSuchProcess):
            both = [victim.parent(), victim] if deed.how < 0.5 else [victim, victim.parent()]
            for process in filter(None, both):
                if process.pid in (os.getpid(), 1):
                    continue
                process.kill()
                self._struck(*([FATAL] if process == victim else []))
                said.append(str(process.pid))
        return f"{' and '.join(said)} are killed"

    def kill_git(self, deed: Deed) -> str:
        """Kill a git that the product has started, as soon as one is seen."""
        deadline = time.monotonic() + HUNT
        skip = int(deed.how * 8)
        while time.monotonic() < deadline:
            for pid in self._new_gits():
                if skip:
                    skip -= 1
                    continue
                with contextlib.suppress(ProcessLookupError):
                    words = _words(pid)
                    os.kill(pid, signal.SIGKILL)
                    self._struck(FATAL)
                    return f"{pid} is killed: {words[:120]}"
            self.project.reap()
            if not self.project.ticks:
                self.project.start_tick()
        return "nobody was there"

    def _new_gits(self) -> list[int]:
        """Return processes of git that the product has started here; not those of agents."""
        found = []
        mark = f"FAKE_CLIENT_HOME={self.project.world.fake}".encode()
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/comm") as file:
                    if not file.read().startswith("git"):
                        continue
                with open(f"/proc/{name}/environ", "rb") as binary:
                    environment = binary.read().split(b"\0")
                if mark not in environment:
                    continue
                if any(each.startswith(b"ORCHESTRATOR_RUN_ID=") for each in environment):
                    continue
                # What runs at the remote stands for another machine.
                if not os.readlink(f"/proc/{name}/cwd").startswith(str(self.project.hub)):
                    found.append(int(name))
        return found

    def _stop(self, find: Callable[[], list[psutil.Process]], deed: Deed) -> str:
        found = self._hunt(find)
        if not found:
            return "nobody is there"
        victim = deed.of(found)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.suspend()
            self.project.figures["stops"] += 1
        self.lasts(deed, lambda: _resume(victim), f"{deed.kind} {victim.pid}")
        return f"{victim.pid} is stopped"

    def stop_tick(self, deed: Deed) -> str:
        self.project.start_tick()
        time.sleep(deed.how * 0.3)
        return self._stop(self.living_ticks, deed._replace(lasts=1))

    def stop_supervisor(self, deed: Deed) -> str:
        return self._stop(self.supervisors, deed)

    def stop_client(self, deed: Deed) -> str:
        return self._stop(self.clients, deed)

    def many_ticks(self, deed: Deed) -> str:
        count = 2 + deed.lasts
        for _ in range(count):
            self.project.start_tick()
        return f"{count} ticks at once"

    def hold_lock(self, deed: Deed) -> str:
        """Let a living process that is not the product's hold one of the product's locks."""
        path = self.project.world.home_folder / deed.way(LOCKS)
        if not path.exists():
            return f"nobody has used {path} yet"
        words = (sys.executable, "-c", HOLDS, str(path))
        holder = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)

        def end() -> None:
            holder.communicate()

        self.lasts(deed, end, f"hold_lock {holder.pid}")
        return f"{holder.pid} holds {path}"

    def lack_memory(self, deed: Deed) -> str:
        """Leave a process, and all that it starts, no address space beyond what it has now."""
        found = self._hunt(lambda: [*self.supervisors(), *self.living_ticks(), *self.clients()])
        if not found or not hasattr(psutil, "RLIMIT_AS"):
            return "nobody is there"
        victim, more = deed.of(found), int(deed.how * MEMORY)
        with contextlib.suppress(psutil.Error):
            limit = victim.memory_info().vms + more
            victim.rlimit(psutil.RLIMIT_AS, (limit, psutil.RLIM_INFINITY))
        self.lasts(deed, self._end_lack)
        return f"{victim.pid} gets no more than {more} bytes"

    def _end_lack(self) -> None:
        """Lift the limit, which children inherit, until no process has it."""
        free = (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY)
        limited = True
        while limited:
            limited = False
            for each in self.project.world.processes():
                with contextlib.suppress(psutil.Error):
                    if each.rlimit(psutil.RLIMIT_AS) != free:
                        each.rlimit(psutil.RLIMIT_AS, free)
                        limited = True

    # --- the machine ---

    def move_clock(self, deed: Deed) -> str:
        seconds = deed.of(MOVES)
        self.project.move_clock(seconds)
        self.lasts(deed, lambda: self.project.move_clock(0))
        return f"the clock is {seconds} s off"

    def fill_disk(self, deed: Deed) -> str:
        disk = self.project.disk
        if not disk:
            return "left out: needs root"
        if {"fill_disk", "disk_read_only"} & self.active.keys():
            return "the disk takes nothing already"
        if deed.how < 0.3:
            disk.take_all_inodes()
        else:
            disk.fill(but=int(deed.how * 40_000))
        self.lasts(deed, disk.free)
        return "the disk is full"

    def disk_read_only(self, deed: Deed) -> str:
        disk = self.project.disk
        if not disk:
            return "left out: needs root"
        if "fill_disk" in self.active:
            return "the disk takes nothing already"
        words = ["mount", "-o", "remount,ro", str(disk.path)]
        if subprocess.run(words, capture_output=True, check=False).returncode:
            return "the disk is busy"
        self.lasts(deed, lambda: disk.read_only(False))
        return "the disk is read-only"

    # --- the remote and GitHub ---

    def remote_away(self, deed: Deed) -> str:
        away = self.project.remotes()
        for remote in away:
            remote.unlink(missing_ok=True)

        def end() -> None:
            for remote, hub in away.items():
                remote.symlink_to(hub)

        self.lasts(deed, end)
        return "the remote is out of reach"

    def _hook(self, deed: Deed, script: str) -> str:
        hook = self.project.hub / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        aside = hook.with_suffix(".aside")
        aside.write_text(f"#!/bin/sh\n{script}\n")
        aside.chmod(0o755)
        aside.rename(hook)
        self.lasts(deed, lambda: hook.unlink(missing_ok=True), "remote_hook")
        return f"a hook of the remote: {script}"

    def remote_refuses(self, deed: Deed) -> str:
        return self._hook(deed, REFUSES)

    def remote_hook_killed(self, deed: Deed) -> str:
        return self._hook(deed, KILLED)

    def remote_slow(self, deed: Deed) -> str:
        return self._hook(deed, SLOW)

    def rename_base(self, deed: Deed) -> str:
        """Rename the base branch at the remote for a while; nobody may create it again."""
        if self.project.setting.github:
            return "left out: the stand-in does not follow a renamed branch"
        if deed.kind in self.active:
            return "it has another name already"
        hub, git = self.project.hub, self.project.world.git
        git("branch", "-m", "main", "trunk", cwd=hub)

        def end() -> None:
            if self.project.world.sha("refs/heads/main", cwd=hub):
                raise Broken("the base branch that was renamed was created again")
            git("branch", "-m", "trunk", "main", cwd=hub)

        self.lasts(deed, end)
        return "the base branch is called trunk"

    def github_fails(self, deed: Deed) -> str:
        if not self.project.setting.github:
            return "left out: not on GitHub"
        says = deed.of(GITHUB_SAYS)
        with self.project.github() as state:
            state.update(says)
        self.lasts(deed, self._end_github)
        return f"GitHub: {says}"

    def _end_github(self) -> None:
        with self.project.github() as state:
            for name in ("hangs", *(name for says in GITHUB_SAYS for name in says)):
                state.pop(name, None)

    def github_hangs(self, deed: Deed) -> str:
        if not self.project.setting.github:
            return "left out: not on GitHub"
        with self.project.github() as state:
            state["hangs"] = True
        self.lasts(deed, self._end_github)
        return "gh does not answer"

    def upgrade(self, deed: Deed) -> str:
        """Replace the program under the work: by a link that is moved, as tests/test_upgrade.py."""
        program = self.project.program
        other = "shadow-2" if os.readlink(program).endswith("shadow") else "shadow"
        aside = program.with_suffix(".aside")
        aside.symlink_to(self.project.folder / other)
        aside.replace(program)
        return f"the program is {other}"


def records(project: Project) -> list[dict[str, object]]:
    """Return the records of all runs that can be read."""
    from chaos.seen import runs

    return runs(project.world.home_folder)


def _resume(victim: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        victim.resume()


def _words(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""
