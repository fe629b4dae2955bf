"""The scheduler against a model of it: any story that people, agents and accidents can write.

A story is played twice: to the product, on real files (`stage`), and to the contract's arithmetic
(`reference`). After every step both must agree about each task, each agent and each decision.

`make test` plays the same stories every time. `MODEL_SECONDS=900 make crash` plays new ones for a
quarter of an hour; a story that fails is printed, shortened, as the steps that led there.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as play
from reference import Expected, Memory, Reference, Run, Task
from stage import Killed, PowerSwitch, Stage, make_template

from orchestrator import agentstate, forge, idle, observe, runrecord, scheduler
from orchestrator.history import MARKER
from orchestrator.model import STATES

#: The last Sundays of March and October 2031 at 01:00 UTC: the clocks change. And a plain day.
SPRING, AUTUMN, PLAIN = 1_932_598_800, 1_950_742_800, 1_940_000_400
STARTS = (SPRING - 5400, AUTUMN - 5400, PLAIN)
STEPS = (0, 1, 7, 60, 300, 1800, 5400, 8 * 3600, 86_400, -1, -60, -1800, -8 * 3600)
ROLES = {
    "impl-1": "implementer",
    "impl-2": "implementer",
    "impl-3": "implementer",
    "test-1": "tester",
    "rev-1": "reviewer",
    "rev-2": "reviewer",
    "pm-1": "product_manager",
    "night-1": "implementer",
}
BROKEN = (
    None,
    "agents: [",
    "agnets: []\n",
    "agents:\n  - {name: impl-1, role: implementer, interval_seconds: often}\n",
    "agents: []\nqueue_limits: {max_claimed: -1}\n",
    "\x00",
)
MALFORMED = {
    "not UTF-8": b"\xff\xfe no UTF-8",
    "no title": b"no title at all\n",
    "no role": b"# [no-role] A title\n\nPRIORITY: P0\n\n",
    "no id": b"# [bad id!] A title\n\nROLE: implement\n\n",
    "a hidden id": b"# [.hidden] A title\n\nROLE: implement\n\n",
    "too long": b"# [big] Too long\n\nROLE: implement\n\n" + b"x" * (1 << 20),
    "torn": b"---\nROLE: [implement\n---\n# [torn] Front matter\n",
    "a folder": b"",
}
VERDICTS = {
    "implementer": ("done", "done", "done", "no_change", "failed", "failed", "needs_human"),
    "tester": ("done", "done", "no_change", "failed", "needs_human"),
    "reviewer": ("approved", "changes_requested", "changes_requested", "failed", "needs_human"),
    "product_manager": ("no_change", "failed", "failed", "needs_human"),
}
ACCIDENTS = ("usage_limit", "system_fault", "interrupted", "interrupted", "stopped", None)
#: Above this many tasks in a story, nobody adds any.
MANY = 9

picks = st.integers(0, 59)


seldom = st.sampled_from((*(False,) * 15, True))
tasks = st.tuples(
    st.sampled_from(("implement", "implement", "implement", "test", "review", "cook")),
    st.sampled_from(("P0", "P1", "P2", "P2", "P3", "urgent")),
    st.integers(0, 3),
    st.one_of(st.just([]), st.just([]), st.just([]), st.lists(picks, max_size=2)),
    st.integers(0, 2),
)
targets = st.sampled_from(("incoming", "blocked", "done", "failed"))


@st.composite
def configurations(draw: Any) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(ROLES)), min_size=3, max_size=7, unique=True))
    every = st.sampled_from((1, 1, 60, 3600))
    agents = []
    for name in names:
        agent: dict[str, Any] = {"name": name, "role": ROLES[name]}
        if name == "night-1":
            agent["schedule"] = "30 2 * * *"
        else:
            agent["interval_seconds"] = draw(every)
        agents.append({**agent, "paused": draw(seldom)})
    return {
        "paused": draw(seldom),
        "queue_limits": {
            "max_incoming": draw(st.sampled_from((2, 20))),
            "max_claimed": draw(st.sampled_from((1, 2, 5))),
            "max_open_prs": draw(st.sampled_from((0, 1, 2, 10, 10))),
        },
        "max_starts": draw(st.sampled_from((1, 2, 20, 20))),
        "base_branch": "main",
        "forge": "local",
        "claude": {"command": ["never-started"]},
        "retry": {
            "max_attempts": draw(st.sampled_from((1, 2, 3))),
            "backoff_seconds": draw(st.sampled_from((0, 10, 100))),
            "max_backoff_seconds": draw(st.sampled_from((15, 300))),
        },
        "budgets": {
            "daily_usd": draw(st.sampled_from((None, None, None, 2))),
            "task_usd": draw(st.sampled_from((None, None, 1))),
        },
        "review": {
            "after": draw(st.sampled_from((["implement", "test"], ["implement"], []))),
            "max_rounds": draw(st.sampled_from((0, 1, 3))),
        },
        "agents": agents,
    }


def written(task: Task, body: str, front_matter: bool) -> bytes:
    """Return a task's file as a person writes it."""
    fields = {"ROLE": task.role, "PRIORITY": task.priority}
    fields["CREATED"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(task.created))
    fields["X_OF_MY_OWN"] = "kept"
    if task.depends_on:
        fields["DEPENDS_ON"] = ", ".join(task.depends_on)
    lines = "\n".join(f"{key}: {value}" for key, value in fields.items())
    title = f"# [{task.id}] A title of {task.id}"
    if front_matter:
        return f"---\n{lines}\n---\n{title}\n{body}".encode()
    return f"{title}\n\n{lines}\n\n{body}".encode()


class Story(RuleBasedStateMachine):
    """One story. Whatever a rule picks, it picks by number out of what is there."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(self.template)
        self.stage.tick = self.tick
        self.stage.meanwhile = self.obey
        self.number = 0
        self.kills = 0
        self.torn_events = 0

    def teardown(self) -> None:
        self.stage.end()

    @initialize(
        at=st.sampled_from(STARTS),
        config=configurations(),
        new=st.lists(tasks, min_size=1, max_size=4),
    )
    def begin(self, at: int, config: dict[str, Any], new: list[tuple[Any, ...]]) -> None:
        self.stage.now = at
        self.reference = Reference(config)
        self.file_config: dict[str, Any] | None = None
        self.edit_configuration(config)
        self.tasks_come_in(new)
        self.tick()

    # --- the clock and the configuration ---

    @rule(step=st.sampled_from(STEPS))
    def the_clock_moves(self, step: int) -> None:
        self.stage.now += step

    @rule(
        deed=st.one_of(
            st.tuples(st.just("edit_configuration"), configurations()),
            st.tuples(st.just("edit_configuration"), configurations()),
            st.tuples(st.just("break_configuration"), st.sampled_from(BROKEN), st.booleans()),
            st.tuples(st.just("pause_or_resume_everything"), seldom),
            st.tuples(st.just("resume_agent"), picks),
        )
    )
    def a_person_at_the_configuration(self, deed: tuple[Any, ...]) -> None:
        getattr(self, deed[0])(*deed[1:])

    def edit_configuration(self, config: dict[str, Any]) -> None:
        self.file_config = config
        self.stage.configure(yaml.safe_dump(config, sort_keys=False))

    def break_configuration(self, text: str | None, stays: bool) -> None:
        good, self.file_config = self.file_config, None
        self.stage.configure(text)
        if good is not None and not stays:
            self.tick()
            self.edit_configuration(good)

    def pause_or_resume_everything(self, paused: bool) -> None:
        if self.file_config is None:
            return
        code, said = self.stage.command("agent", "pause" if paused else "resume", "--all")
        assert code == 0, said
        self.file_config = {**self.file_config, "paused": paused}
        if not paused:
            for agent in self.file_config["agents"]:
                self.wake(agent["name"])

    def resume_agent(self, pick: int) -> None:
        if self.file_config is None:
            return
        agents = [dict(agent) for agent in self.file_config["agents"]]
        agent = agents[pick % len(agents)]
        code, said = self.stage.command("agent", "resume", agent["name"])
        assert code == 0, said
        agent["paused"] = False
        self.file_config = {**self.file_config, "agents": agents}
        self.wake(agent["name"])

    def wake(self, name: str) -> None:
        memory = self.reference.of(name)
        if memory.suspended:
            memory.suspended, memory.failures = False, 0

    # --- people and the queue ---

    @rule(new=st.lists(tasks, min_size=1, max_size=3))
    def tasks_come_in(self, new: list[tuple[Any, ...]]) -> None:
        for task in new:
            self.add_task(*task)

    @precondition(lambda self: self.reference.tasks)
    @rule(
        deed=st.one_of(
            st.tuples(st.just("retry_task"), picks),
            st.tuples(st.just("cancel_task"), picks),
            st.tuples(st.just("move_task"), picks, targets),
            st.tuples(st.just("move_task_by_force"), picks, targets),
            st.tuples(st.just("move_by_hand"), picks, st.sampled_from(STATES)),
            st.tuples(st.just("edit_task"), picks, st.sampled_from(("P0", "P3")), st.booleans()),
            st.tuples(st.just("delete_task"), picks),
            st.tuples(st.just("add_rival"), picks),
            st.tuples(
                st.just("add_malformed"),
                st.sampled_from(STATES),
                st.sampled_from(sorted(MALFORMED)),
            ),
        )
    )
    def a_person_at_the_queue(self, deed: tuple[Any, ...]) -> None:
        getattr(self, deed[0])(*deed[1:])

    def add_task(self, role: str, priority: str, age: int, depends: list[int], form: int) -> None:
        if len(self.reference.tasks) >= MANY:
            return
        self.number += 1
        task_id = f"task-{self.number}"
        # Three names that nobody has, or will have only later: broken, and round in a circle.
        known = [*self.reference.tasks, task_id, f"task-{self.number + 1}", "nowhere"]
        others = tuple(dict.fromkeys(known[pick % len(known)] for pick in depends if pick < 30))
        name = f"{task_id}.md" if form else f"by hand {self.number}.md"
        task = Task(task_id, role, "incoming", name, b"", priority, self.stage.now - age, others)
        task.raw = written(task, "## Context\r\nWhy, ünd höw.\n\n  - [ ] done", form == 2)
        self.reference.tasks[task_id] = task
        (self.stage.queue / "incoming" / name).write_bytes(task.raw)

    def add_rival(self, pick: int) -> None:
        """A second file of an id that is there already, waiting in `incoming`."""
        task = self.task(pick)
        self.number += 1
        name = f"rival-{self.number:03}.md"
        rival = Task(task.id, "implement", "incoming", name, b"", "P0", self.stage.now)
        rival.raw = written(rival, "A rival.\n", False)
        self.reference.rivals.append(rival)
        (self.stage.queue / "incoming" / name).write_bytes(rival.raw)

    def add_malformed(self, state: str, kind: str) -> None:
        self.number += 1
        path = f"{state}/bad {self.number}.md"
        contents = self.reference.malformed[path] = MALFORMED[kind]
        where = self.stage.queue / path
        if contents:
            where.write_bytes(contents)
        else:
            where.mkdir()

    def edit_task(self, pick: int, priority: str, front_matter: bool) -> None:
        task = self.task(pick)
        if task.reviews is not None:  # the scheduler's own
            return
        path = self.stage.queue / task.state / task.name
        rest = path.read_bytes().removeprefix(task.raw)
        self.number += 1
        task.priority = priority
        task.raw = written(task, f"## Edited {self.number} times\n\nA line.", front_matter)
        path.write_bytes(task.raw + rest)

    def delete_task(self, pick: int) -> None:
        task = self.task(pick)
        (self.stage.queue / task.state / task.name).unlink()
        self.reference.forget(task)

    def move_by_hand(self, pick: int, state: str) -> None:
        """`mv`: nothing is written into the file, whatever is at work on it."""
        task = self.task(pick)
        at_work = next((r for r in self.reference.unsettled() if r.task == task.id), None)
        if state == "claimed" and task.run != (at_work.id if at_work else None):
            return
        source = self.stage.queue / task.state / task.name
        task.state, task.name = state, f"{task.id}.md"
        source.rename(self.stage.queue / state / task.name)

    def retry_task(self, pick: int) -> None:
        task = self.task(pick)
        code, said = self.stage.command("task", "retry", task.id)
        if task.state in ("failed", "blocked"):
            assert code == 0, said
            self.reference.retry(task)
        else:
            assert code == 1, said

    def cancel_task(self, pick: int) -> None:
        task = self.task(pick)
        good = task.state != "done"
        if good and (task.state, task.reason) != ("failed", "cancelled"):
            self.reference.cancel(task)
        code, said = self.stage.command("task", "cancel", task.id)
        assert code == (0 if good else 1), said

    def move_task(self, pick: int, state: str) -> None:
        task = self.task(pick)
        mine = self.at_work_on(task)
        code, said = self.stage.command("task", "move", task.id, state)
        if mine is not None:
            assert code == 1, said
            return
        assert code == 0, said
        if task.state != state:
            self.reference.move(task, state)

    def move_task_by_force(self, pick: int, state: str) -> None:
        task = self.task(pick)
        mine = self.at_work_on(task)
        if mine is not None and state == "incoming":
            # Its run ends first, and its end may be that of the task: see `obey`.
            code, said = self.stage.command("task", "move", task.id, state, "--force")
            if code == 0 and task.state not in ("incoming", "claimed"):
                self.reference.move(task, state)
            assert code == 0 or "is at work on" in said, said
            return
        if task.state != state:
            self.reference.move(task, state)
        code, said = self.stage.command("task", "move", task.id, state, "--force")
        assert code == 0, said

    def task(self, pick: int) -> Task:
        tasks = sorted(self.reference.tasks.values(), key=lambda task: task.id)
        return tasks[pick % len(tasks)]

    def at_work_on(self, task: Task) -> Run | None:
        return next(
            (r for r in self.reference.unsettled() if self.reference.claims(r) is task), None
        )

    # --- pull requests ---

    @precondition(lambda self: self.branches())
    @rule(pick=picks, merge=st.booleans())
    def end_pull_request(self, pick: int, merge: bool) -> None:
        branch = self.branches()[pick % len(self.branches())]
        if merge:
            self.stage.merge(branch)
            self.reference.branches[branch] = True
        else:
            self.stage.drop_branch(branch)
            del self.reference.branches[branch]

    def branches(self) -> list[str]:
        return sorted(name for name, merged in self.reference.branches.items() if not merged)

    # --- runs ---

    @precondition(lambda self: self.at_work())
    @rule(pick=picks)
    def run_goes_on(self, pick: int) -> None:
        """A supervisor's next stage. One whose task is not its own ends here (CONTRACT 8.2)."""
        run = self.pick_run(pick)
        if run.stage == "concluding":
            return
        if run.stage == "starting" and run.task and not self.reference.claims(run):
            self.finish(run, {"verdict": "interrupted", "reason": "no_result: not claimed"})
            return
        run.stage = {"starting": "running", "running": "concluding"}[run.stage]
        self.stage.write_stage(run.agent, run.id, run.stage)

    @precondition(lambda self: self.at_work())
    @rule(
        pick=picks,
        verdict=picks,
        accident=st.integers(0, 3),
        cost=st.sampled_from((None, 0.0, 0.4, 1.5)),
        until=st.sampled_from((None, 60, 3600)),
        letting_go=st.sampled_from((True, True, True, False)),
        ticks=st.booleans(),
    )
    def run_ends(
        self,
        pick: int,
        verdict: int,
        accident: int,
        cost: float | None,
        until: int | None,
        letting_go: bool,
        ticks: bool,
    ) -> None:
        run = self.pick_run(pick)
        words = ACCIDENTS if accident == 0 else VERDICTS[run.role]
        word = words[verdict % len(words)]
        self.end(run, word, cost, until, letting_go=letting_go)
        if letting_go and ticks:
            self.tick(after_run=True)

    def end(
        self,
        run: Run,
        word: str | None,
        cost: float | None,
        until: int | None,
        *,
        letting_go: bool = True,
    ) -> None:
        """Write the end of a run that told `word`; None: something that nobody can read."""
        outcome: dict[str, Any] | None = None
        if word is not None:
            outcome = {"verdict": word, "reason": f"{word}: told so", "cost_usd": cost}
            if word == "usage_limit":
                outcome["until"] = until and self.stage.now + until
            if word == "done" and self.reference.claims(run):
                outcome["pr"] = self.deliver(run.task or "")
        self.finish(run, outcome, letting_go=letting_go)

    def finish(self, run: Run, outcome: dict[str, Any] | None, *, letting_go: bool = True) -> None:
        self.stage.finish(run.agent, run.id, outcome)
        run.stage, run.outcome = "finished", outcome
        if letting_go:
            self.let_go(run)

    def let_go(self, run: Run) -> None:
        self.stage.kill(run.agent)
        run.alive = False

    def deliver(self, task_id: str) -> str:
        branch = f"agent/{task_id}"
        pr = self.stage.deliver(task_id, branch)
        self.reference.branches[branch] = False
        self.reference.prs[pr] = ["open", branch]
        return pr

    @precondition(lambda self: self.stage.alive)
    @rule(pick=picks)
    def kill_supervisor(self, pick: int) -> None:
        alive = [run for run in self.reference.unsettled() if run.alive]
        self.let_go(alive[pick % len(alive)])

    @rule(count=st.integers(1, 4))
    def supervisors_will_die_at_once(self, count: int) -> None:
        self.stage.stillborn = count

    @precondition(lambda self: self.reference.unsettled() and self.file_config)
    @rule(pick=picks)
    def stop_agent(self, pick: int) -> None:
        runs = self.reference.unsettled()
        name = runs[pick % len(runs)].agent
        assert self.file_config
        agents = [
            {**agent, "paused": agent["paused"] or agent["name"] == name}
            for agent in self.file_config["agents"]
        ]
        self.file_config = {**self.file_config, "agents": agents}
        code, said = self.stage.command("stop", name)
        assert code == 0, said
        assert self.reference.of(name).run is None

    def obey(self) -> None:
        """What supervisors do while a command waits: those that are to stop, stop."""
        for run in self.reference.unsettled():
            folder = self.stage.layout.run(run.agent, run.id)
            if run.alive and runrecord.stop_reason(folder):
                if run.stage == "finished":
                    self.let_go(run)
                else:
                    self.finish(run, {"verdict": "stopped", "reason": "stopped: by a person"})
                self.tick(after_run=True)
                return

    def at_work(self) -> list[Run]:
        return [r for r in self.reference.unsettled() if r.alive and r.stage != "finished"]

    def pick_run(self, pick: int) -> Run:
        runs = self.at_work()
        return runs[pick % len(runs)]

    # --- ticks ---

    @rule()
    def one_tick(self) -> None:
        self.tick()

    @rule(step=st.sampled_from((1, 60, 3600)), ends=st.lists(picks, min_size=1, max_size=4))
    def an_ordinary_hour(self, step: int, ends: list[int]) -> None:
        """What is at work comes to its end, and each end calls the next tick."""
        for end in ends:
            self.stage.now += step
            self.tick()
            runs = self.at_work()
            if runs:
                run = runs[end % len(runs)]
                words = VERDICTS[run.role]
                self.end(run, words[end % len(words)], 0.1, None)
                self.tick(after_run=True)

    @rule(step=st.sampled_from((1, 60, 300)))
    def ticks_in_a_row(self, step: int) -> None:
        for _ in range(3):
            self.tick()
            self.stage.now += step

    @precondition(lambda self: self.file_config)
    @rule(pick=picks, which=st.integers(-1, 20))
    def run_command(self, pick: int, which: int) -> None:
        assert self.file_config
        agents = self.file_config["agents"]
        words = ["run", agents[pick % len(agents)]["name"]]
        waiting = self.reference.in_state("incoming")
        if which >= 0 and waiting:
            words += ["--task", waiting[which % len(waiting)].id]
        self.started: bool | None = None
        code, said = self.stage.command(*words)
        assert code == (0 if self.started else 1), said

    @precondition(lambda self: self.file_config is self.reference.config)
    @rule(after=st.integers(0, 70))
    def tick_is_killed(self, after: int) -> None:
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

    def tick(
        self,
        *,
        after_run: bool = False,
        forced: dict[str, str | None] | None = None,
        wait_for_lock: float = 0.0,
    ) -> scheduler.Report:
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
        with mock.patch.object(idle, "time", SimpleNamespace(time=lambda: self.stage.now)):
            return idle.nothing_to_do()

    def compare(self, report: scheduler.Report, expected: Expected) -> None:
        assert not report.held
        decisions: dict[str, tuple[str, str | None]] = {}
        others = []
        for action in report.actions:
            if action.action == "start":
                assert action.agent
                assert action.run
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
        assert set(contents) == {*places, *self.reference.malformed}
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
        malformed = {bad.path for found in listings.values() for bad in found.malformed}
        odd = [*self.reference.malformed, *(f"incoming/{t.name}" for t in self.reference.rivals)]
        assert malformed == {str(self.stage.queue / path) for path in odd}
        for task in self.reference.tasks.values():
            found = seen[task.id]
            assert found.state == task.state
            assert found.pr == task.pr, task
            if is_torn(found):
                continue
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
            state = agentstate.read(self.stage.layout, name)
            assert state.run == (memory.run.id if memory.run else None)
            assert state.last_started == memory.last_started
            assert bool(state.suspended) == memory.suspended
        hold = observe.read_hold(self.stage.layout)
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
            noted = settled.tasks.get(task_id)
            if noted is not None and there.review_rounds == len(noted.rounds):
                task.rounds = noted.rounds
        assert set(before.tasks) <= set(seen)
        names = {*before.memory, *over.memory}
        found.memory = {name: self.remembered(name, before, settled) for name in names}
        hold = observe.read_hold(self.stage.layout)
        found.hold = (hold.code, int(hold.since), hold.until and int(hold.until)) if hold else None
        where = forge.Local(self.stage.layout, SimpleNamespace(remote="origin"))
        found.prs = {pr.id: [pr.state, pr.branch] for pr in where.list()}
        return found

    def remembered(self, name: str, before: Reference, settled: Reference) -> Memory:
        state = agentstate.read(self.stage.layout, name)
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


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model")


@pytest.fixture
def story(template: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> type[Story]:
    if not (template / "commits").exists():
        make_template(template)
    monkeypatch.chdir(template)
    Story.template = template
    return Story


BOUNDED: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "stateful_step_count": 40,
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.timeout(900)
def test_every_story_ends_as_the_contract_says(story: Callable[[], Story]) -> None:
    play(story, settings=settings(**BOUNDED, max_examples=60, derandomize=True))


@pytest.mark.crash
@pytest.mark.timeout(0)
@pytest.mark.skipif("MODEL_SECONDS" not in os.environ, reason="set MODEL_SECONDS to its length")
def test_new_stories_end_as_the_contract_says(story: Callable[[], Story]) -> None:
    until = time.monotonic() + float(os.environ["MODEL_SECONDS"])
    phases = (Phase.generate, Phase.shrink)
    while time.monotonic() < until:
        play(story, settings=settings(**BOUNDED, max_examples=100, phases=phases))
