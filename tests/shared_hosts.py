"""Hosts that share one queue behind a proxy, and the checker of storms over all of them."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from both_stores import attendants
from chaos import invariants, seen
from database_proxy import Proxy
from harness import STATES, Sampler, World, wait_until
from postgresql import in_schema
from test_several_machines import Hosts

from orchestrator.database import session
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.model.work import Task
from orchestrator.tasks import stores
from orchestrator.tasks.postgresql_store import PostgresqlStore
from orchestrator.tasks.task_file import TaskFile

LIMITS = {"max_incoming": 1000, "max_claimed": 3, "max_open_prs": 1000}


def _goes_later(leftover: str) -> bool:
    """Whether the product removes what a killed process left, but not at the end of a task.

    The temporary file of a killed writer is removed after some days; a lock in the git folder of a
    worktree by the next run there. A host that is killed while `git worktree add` works has such a
    lock, and another host has the task.
    """
    return leftover.endswith(".tmp") or bool(re.search(r"/worktrees/[^/]+/[^/]+[.]lock$", leftover))


class Behind(Hosts):
    """Hosts whose connections go through a proxy; the test itself asks the server."""

    def __init__(
        self, one: World, base: str, proxy: Proxy, name: str, more: Callable[[str], World]
    ) -> None:
        super().__init__(one, in_schema(proxy.base, name), more)
        self.proxy, self._direct = proxy, in_schema(base, name)
        self._names: dict[str, World] = {}
        #: A host was suspended or cut off: its client was alive when the next one began.
        self.was_away = False
        #: How many runs the deeds of the test may interrupt.
        self.interrupts = 1

    def _join(self, host: World, name: str, config: dict[str, Any]) -> World:
        self._names[name] = super()._join(host, name, config)
        return host

    @property
    def all(self) -> list[World]:
        return [*self._names.values()]

    def named(self, name: str) -> World:
        return self._names[name]

    @property
    def _session(self) -> session.Session:
        return session.of(self._direct)

    def script(self, text: str) -> None:
        """Send statements that define something in the schema of the queue."""
        self._session.connection.execute(text.encode())

    @property
    def store(self) -> PostgresqlStore:
        return PostgresqlStore(Layout(str(self.one.root)), self._session)

    def task(self, task: str) -> tuple[Task, TaskFile]:
        return stores.whole(self.store, task)

    def events(self, task: str) -> list[str]:
        return [entry.event for entry in self.task(task)[1].history]

    def processes_of(self, host: World) -> list[psutil.Process]:
        """Return the processes of one host; all hosts share the folder of the fake client.

        Those that work in the remote are of another machine.
        """
        found = []
        for process in host.processes():
            with contextlib.suppress(psutil.Error):
                is_own = process.environ().get("HOME") == str(host.home)
                if is_own and process.cwd() != str(self.one.remote):
                    found.append(process)
        return found

    def kill(self, host: World) -> None:
        """Kill everything of a host at once, as a machine that loses its power."""
        for process in self.processes_of(host):
            with contextlib.suppress(psutil.Error):
                process.kill()

    # --- until everything is at rest, and the checker ---

    def tick(self, *hosts: World) -> None:
        """Tick once on each of these hosts, or on all."""
        for host in hosts or self.all:
            host.run("tick")

    def is_done(self, task: str) -> bool:
        return self.task(task)[0].state == "done"

    @contextmanager
    def ticking(self, every: float = 0.2) -> Iterator[None]:
        """Tick on each host, as schedules would but faster."""
        ended = threading.Event()

        def tick(host: World) -> None:
            while not ended.wait(every):
                host.run("tick")

        threads = [threading.Thread(target=tick, args=(host,)) for host in self.all]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again where the tasks are, and hold each instant against the limits."""
        own = session.Session(self._direct, "the test")
        query = "SELECT state, array_agg(id) FROM orchestrator_tasks GROUP BY state"
        known: set[str] = set()

        def look() -> list[str]:
            try:
                places = dict(own.rows(query))
            except StoreFault:  # the database is being restarted
                return []
            known.update(task for tasks in places.values() for task in tasks)
            most = LIMITS["max_claimed"]
            return invariants.at_an_instant(invariants.Moment(places, frozenset(known), most))

        with contextlib.closing(own), Sampler(look) as sampler:
            yield
        assert sampler.answers == [[]]
        assert known, "nothing was seen"

    def rest(self, *tasks: str, limit: float = 60.0) -> None:
        """Tick on every host until each task is done and each run has ended; then check all."""

        def is_over() -> bool:
            self.tick()
            open_runs = [run for host in self.all for run in seen.runs(host.home_folder)]
            ended = all(run["status"] == "finished" for run in open_runs if run.get("supervisor"))
            return ended and all(map(self.is_done, tasks))

        wait_until(is_over, lambda: self._told(*tasks), limit)
        for host in self.all:
            wait_until(lambda host=host: not host.status()["running"], "no run is left")
        # The attendants wait for their next heartbeat, and may begin ticks until then.
        wait_until(lambda: not attendants(self.one, others=True), "no tick is at work")
        for host in self.all:
            self.kill(host)
        self.check(*tasks)

    def _told(self, *tasks: str) -> str:
        """Return what keeps the tasks from their end."""
        found = []
        for task in tasks:
            last = self.task(task)[1].history[-1]
            found.append(f"{task}: {self.events(task)} {dict(last.fields)}")
        for name, host in self._names.items():
            status = host.status()
            parts = {key: status[key] for key in ("running", "retrying", "problems")}
            why = {row["name"]: row["reason"] for row in status["agents"]}
            found.append(f"{name}: {parts} {why}")
        return "\n".join(found)

    def check(self, *tasks: str) -> None:
        """Hold everything against section 8 of the reference, over all hosts."""
        for task in tasks:
            assert self.events(task).count("done") == 1, self.events(task)
        prs = self.one.json("pr", "list")
        assert sorted(pr["task"] for pr in prs) == sorted(tasks)
        for pr in prs:
            assert self.one.remote_sha(pr["branch"]) == pr["head"], pr
        wrong = [each for host in self.all for each in invariants.at_the_end(self._end(host))]
        assert not wrong, "\n".join(wrong)

    def _end(self, host: World) -> invariants.End:
        places: dict[str, list[str]] = {state: [] for state in STATES}
        histories = {}
        for task in self.store.list("done").tasks:
            places[task.state].append(task.id)
            entries = self.store.read(task).history
            histories[task.id] = [{**entry.fields, "event": entry.event} for entry in entries]
        commits = [
            invariants.Commit(record["sha"], str(record["agent"]), None)
            for record in host.ledger("commit")
        ]
        moment = invariants.Moment(places, frozenset(histories), LIMITS["max_claimed"])
        return invariants.End(
            moment=moment,
            ledger=[each for each in host.ledger() if not self._is_of_one_away(each)],
            histories=histories,
            commits=commits,
            reachable=self._kept(),
            objects=frozenset(),
            status=host.status(),
            inbox=host.json("inbox"),
            prs=host.json("pr", "list"),
            explained={},
            depends_on={},
            most_open=LIMITS["max_open_prs"],
            fatal_kills=self.interrupts,
            base_was_broken=False,
            runs=[run for each in self.all for run in seen.runs(each.home_folder)],
            leftovers=[each for each in seen.leftovers(host) if not _goes_later(each)],
            set_aside=[],
            fsck=host.git("fsck", "--no-dangling", "--no-progress", good=False).splitlines(),
        )

    def _is_of_one_away(self, record: dict[str, Any]) -> bool:
        return self.was_away and record["event"] == "rivals"

    def _kept(self) -> frozenset[str]:
        """Return the commits that a ref or a worktree of any host, or of the remote, reaches."""
        found: set[str] = set()
        for host in self.all:
            listed = host.git("worktree", "list", "--porcelain").splitlines()
            heads = [line.split()[1] for line in listed if line.startswith("HEAD ")]
            # A `git worktree add` that was cut leaves a HEAD of zeros: `--all` alone fails on it.
            heads = [head for head in heads if set(head) != {"0"}]
            found.update(host.git("rev-list", "--single-worktree", "--all", *heads).split())
        return frozenset(found)
