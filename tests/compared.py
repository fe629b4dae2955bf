"""The product on its stage and the reference beside it: one step of both, and the comparison."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from reference import Expected, Memory, Reference, Run, Task
from stage import Killed, PowerSwitch, Stage

from orchestrator import idle
from orchestrator.project import agent_memory, faults
from orchestrator.pulls.local import Local
from orchestrator.tasks.history import MARKER
from orchestrator.tick.report import Report


class Compared:
    """Both worlds. Each step ends with `check`: what always holds, and that they agree."""

    def __init__(self, template: Path) -> None:
        self.stage = Stage(template)
        self.stage.tick = self.tick
        self.reference = Reference({})
        #: What agents.yaml says; None while it is broken.
        self.file_config: dict[str, Any] | None = None
        #: Whether the last tick started anything.
        self.started = False
        self.kills = 0
        self.torn_events = 0

    def tick(
        self,
        *,
        after_run: bool = False,
        forced: dict[str, str | None] | None = None,
        wait_for_lock: float = 0.0,
        fresh: bool = False,
    ) -> Report:
        """Tick, and compare what it did with what the contract says."""
        reference, now = self.reference, self.stage.now
        if self.file_config is not None:
            reference.config = self.file_config
        reference.good = self.file_config is not None
        idle_says = self.is_idle()
        expected = Expected(good=reference.good)
        reference.settle_all(now, expected)
        reference.look_at_pull_requests()
        reference.start_all(now, expected, after_run, forced)
        self.stage.spawned.clear()
        report = self.stage.plain_tick(after_run=after_run, forced=forced)
        if idle_says and forced is None:
            starts = [who for who, (word, _) in expected.decisions.items() if word == "start"]
            assert (starts, expected.others) == ([], []), "an idle tick would miss this"
        self.compare(report, expected)
        self.started = any(action.action == "start" for action in report.actions)
        self.check()
        return report

    def is_idle(self) -> bool:
        """Whether the cheap look before a tick would say that there is nothing to do."""
        if not os.path.exists(self.stage.layout.idle_stamp):
            return False
        with mock.patch.object(
            idle, "time", SimpleNamespace(time=lambda: self.stage.now, gmtime=time.gmtime)
        ):
            return idle.nothing_to_do()

    def compare(self, report: Report, expected: Expected) -> None:
        assert not report.held
        decisions: dict[str, tuple[str, str | None]] = {}
        others = []
        for action in report.actions:
            if action.action == "start":
                assert action.agent
                assert action.run
                if self.reference.of(action.agent).run is not None:
                    self.reference.named(action.agent, action.run)
            if action.action in ("start", "skip"):
                assert action.agent not in decisions, f"two decisions: {report.actions}"
                told = action.task if action.action == "start" else action.reason
                decisions[str(action.agent)] = (action.action, told)
            else:
                others.append((action.action, action.task, action.run or None))
        assert decisions == expected.decisions, (
            f"{decisions} but should: {expected.decisions}; {report.problems}"
        )
        assert sorted(others, key=str) == sorted(expected.others, key=str), (others, expected)
        assert report.good == expected.good, report.problems
        assert report.bug is None
        for agent, lives in self.stage.spawned:
            run = self.reference.of(agent).run
            assert run is not None
            assert not (lives and run.alive), "two supervisors of one run"
            run.alive = run.alive or lives

    def killed_tick(self, after: int) -> None:
        """Tick, killed after so many changes of the disk, and take over what it left."""
        self.reference.good = self.file_config is not None
        before = copy.deepcopy(self.reference)
        settled = copy.deepcopy(before)
        settled.settle_all(self.stage.now, Expected())
        over = copy.deepcopy(settled)
        over.look_at_pull_requests()
        over.start_all(self.stage.now, Expected())
        self.stage.spawned.clear()
        try:
            with PowerSwitch(after):
                self.stage.plain_tick()
        except Killed:
            self.kills += 1
        self.reference = self.adopted(before, settled, over)
        self.check()

    # --- what always holds ---

    def check(self) -> None:
        self.check_files()
        self.check_tasks()
        self.check_runs()
        for event in self.events():
            assert event["event"]
            assert event["at"].endswith("Z")
        if os.path.exists(self.stage.layout.idle_stamp):
            time.sleep(0.011)  # the stamp knows files by their times, which the kernel counts so

    def events(self) -> Iterator[dict[str, Any]]:
        """The new events. A tick that was killed may have left half a line, and nobody else."""
        for line in self.stage.new_event_lines():
            event = self.stage.as_event(line)
            if event is None:
                self.torn_events += 1
                assert self.torn_events <= self.kills, line
            else:
                yield event

    def check_files(self) -> None:
        """Each file where it belongs and nowhere else, the person's part byte for byte the same."""
        contents = self.stage.contents()
        mine = [*self.reference.tasks.values(), *self.reference.rivals]
        places = {f"{task.state}/{task.name}": task for task in mine}
        expected = {*places, *self.reference.malformed}
        assert set(contents) == expected, set(contents) ^ expected
        for path, task in places.items():
            if not task.raw:  # the scheduler wrote it: from now on it stays so
                task.raw = contents[path].partition(MARKER.encode())[0]
            assert contents[path].startswith(task.raw), path
            rest = contents[path][len(task.raw) :].lstrip(b"\r\n")
            assert not rest or rest.startswith((b"- ", MARKER.encode())), path
        for path, raw in self.reference.malformed.items():
            assert contents[path] == raw

    def check_tasks(self) -> None:
        listings = self.stage.listings()
        seen = {task.id: task for found in listings.values() for task in found.tasks}
        assert set(seen) == set(self.reference.tasks)
        malformed = {bad.where for found in listings.values() for bad in found.malformed}
        odd = [*self.reference.malformed, *(f"incoming/{t.name}" for t in self.reference.rivals)]
        assert malformed == {str(self.stage.queue / path) for path in odd}
        for task in self.reference.tasks.values():
            found = seen[task.id]
            assert found.state == task.state
            if is_torn(found):
                continue
            assert found.pr == task.pr, task
            assert found.attempts == task.attempts, task
            assert bool(found.interruptions) == bool(task.interruptions), task
            assert found.review_rounds == len(task.rounds), task
            if task.state == "claimed" and task.run:
                assert found.run == task.run
            if task.state == "failed" and task.reason:
                assert (found.reason or "").partition(":")[0] == task.reason.partition(":")[0]

    def check_runs(self) -> None:
        runs = self.reference.unsettled()
        at_work = [run.task for run in runs if run.task and run.alive]
        assert len(at_work) == len(set(at_work)), "one task has two living runs"
        assert set(self.stage.alive) == {run.agent for run in runs if run.alive}
        for name, memory in self.reference.memory.items():
            state = agent_memory.read(self.stage.layout, name)
            assert state.run == (memory.run.id if memory.run else None)
            assert state.last_started == memory.last_started
            assert bool(state.suspended) == memory.suspended
        hold = faults.read_hold(self.stage.layout)
        assert (hold and hold.code) == (self.reference.hold and self.reference.hold[0])

    # --- after a kill ---

    def adopted(self, before: Reference, settled: Reference, over: Reference) -> Reference:
        """Return where a killed tick left things: each as before, as settled or as it was to be."""
        seen = self.stage.tasks()
        found = copy.deepcopy(over)
        found.tasks = {}
        for task_id, there in seen.items():
            versions = (
                over.tasks.get(task_id),
                settled.tasks.get(task_id),
                before.tasks.get(task_id),
            )
            mine = [t for t in versions if t is not None and agrees(t, there)]
            assert mine, f"{there} is none of {versions}"
            task = found.tasks[task_id] = copy.deepcopy(mine[0])
            if task.run is not None and there.state == "claimed":
                task.run = there.run
            history = self.stage.store.read(there).history
            task.decided = bool(history) and history[-1].event in ("retried", "moved")
            noted = settled.tasks.get(task_id)
            if noted is not None and there.review_rounds == len(noted.rounds):
                task.rounds = noted.rounds
        assert set(before.tasks) <= set(seen)
        names = {*before.memory, *over.memory}
        found.memory = {name: self.remembered(name, before, settled) for name in names}
        hold = faults.read_hold(self.stage.layout)
        found.hold = (hold.code, int(hold.since), hold.until and int(hold.until)) if hold else None
        where = Local(self.stage.layout, SimpleNamespace(remote="origin"))
        prs = where.book.list()
        found.prs = {pr.id: [pr.state, pr.branch] for pr in prs}
        found.followed = {pr.id for pr in prs if pr.followed}
        return found

    def remembered(self, name: str, before: Reference, settled: Reference) -> Memory:
        state = agent_memory.read(self.stage.layout, name)
        was = before.of(name)
        still = was.run is not None and state.run == was.run.id
        memory = copy.deepcopy(was if still else settled.of(name))
        memory.last_started = None if state.last_started is None else int(state.last_started)
        if still:
            assert memory.run
            if state.restarted_in == memory.run.stage:
                memory.run.restarts[memory.run.stage] = state.restarts
        elif state.run:
            [agent] = [a for a in before.config["agents"] if a["name"] == name]
            task = self.stage.unsettled_run(name)[1]
            memory.run = Run(state.run, name, task, agent["role"], self.stage.now)
        if memory.run:
            memory.run.alive = name in self.stage.alive
        return memory


def is_torn(task: Any) -> bool:
    """Whether a kill came between a run's last word in a task's file and the move of the file."""
    return bool(task.state == "claimed" and task.claimed_by is None)


def agrees(task: Task, there: Any) -> bool:
    return task.state == there.state and (task.attempts == there.attempts or is_torn(there))
