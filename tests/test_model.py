"""The scheduler against a model of it: any story that people, agents and accidents can write.

A story is played twice: to the product, on real files (`stage`), and to the contract's arithmetic
(`reference`). After every step both must agree about each task, each agent and each decision.

`make test` plays the same stories every time. New ones for a quarter of an hour, each shortened to
the steps that matter if it fails: MODEL_SECONDS=900 .venv/bin/python -m pytest tests/test_model.py
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compared import Compared
from conftest import examples
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as play
from reference import Reference, Run, Task
from stage import make_template
from tales import (
    ACCIDENTS,
    BROKEN,
    MALFORMED,
    MANY,
    PLAIN,
    STARTS,
    STEPS,
    VERDICTS,
    configurations,
    picks,
    plain_configuration,
    seldom,
    targets,
    tasks,
    written,
)

from orchestrator.model.work import STATES
from orchestrator.plan.settlements import MAX_RESTARTS
from orchestrator.project import agent_memory, run_record


class Story(Compared, RuleBasedStateMachine):
    """One story. Whatever a rule picks, it picks by number out of what is there."""

    template: Path

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        Compared.__init__(self, self.template)
        self.stage.meanwhile = self.obey
        self.number = 0

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
            assert code == 0 or "is working on" in said, said
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
        """A supervisor's next stage. One whose task is not its own ends here (reference 8.2)."""
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
        until=st.sampled_from((60, 3600)),
        letting_go=st.sampled_from((True, True, True, False)),
        ticks=st.booleans(),
    )
    def run_ends(
        self,
        pick: int,
        verdict: int,
        accident: int,
        cost: float | None,
        until: int,
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
        until: int,
        *,
        letting_go: bool = True,
    ) -> None:
        """Write the end of a run that told `word`; None: something that nobody can read."""
        outcome: dict[str, Any] | None = None
        if word is not None:
            outcome = {"verdict": word, "reason": f"{word}: told so", "cost_usd": cost}
            if word == "usage_limit":
                outcome["until"] = self.stage.now + until
            task = self.reference.claims(run)
            if word == "done" and task:
                outcome["pr"] = self.deliver(task.id)
            if run.role == "reviewer" and task:
                outcome["head"] = self.stage.heads.get(task.pr or "")
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
            if run.alive and run_record.stop_reason(folder):
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
                self.end(run, words[end % len(words)], 0.1, 60)
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
        self.started = False
        code, said = self.stage.command(*words)
        assert code == (0 if self.started else 1), said

    @precondition(lambda self: self.file_config is self.reference.config)
    @rule(after=st.integers(0, 70))
    def tick_is_killed(self, after: int) -> None:
        self.killed_tick(after)


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


@contextlib.contextmanager
def told(story: Callable[[], Story], *agents: str, priority: str = "P2") -> Iterator[Story]:
    """Begin a story with one task, claimed by the first agent."""
    teller = story()
    try:
        new = [("implement", priority, 0, [], 1)]
        teller.begin(PLAIN, plain_configuration(*agents), new)
        yield teller
    finally:
        teller.teardown()


def test_an_agent_whose_supervisor_has_not_let_go_yet_gets_one_decision(
    story: Callable[[], Story],
) -> None:
    with told(story, "impl-1") as teller:
        [run] = teller.at_work()
        teller.end(run, "failed", None, 60, letting_go=False)
        teller.tick()
        teller.let_go(run)
        teller.tick()
        assert teller.reference.tasks["task-1"].attempts == 1


def test_deaths_in_one_stage_of_a_run_do_not_count_in_the_next(story: Callable[[], Story]) -> None:
    with told(story, "impl-1") as teller:
        [run] = teller.at_work()
        for _ in range(MAX_RESTARTS):
            teller.let_go(run)
            teller.tick()
        teller.run_goes_on(0)
        teller.let_go(run)
        teller.tick()
        assert teller.at_work() == [run]


def test_the_history_says_null_of_a_run_whose_end_nobody_saw(story: Callable[[], Story]) -> None:
    with told(story, "impl-1") as teller:
        [run] = teller.at_work()
        while teller.reference.of("impl-1").run == run:
            if run.alive:
                teller.let_go(run)
            teller.stage.stillborn = 1
            teller.tick()
        lines = Path(teller.stage.layout.events).read_text().splitlines()
        [end] = [e for e in map(json.loads, lines) if e["event"] == "requeue"]
        assert (end["run"], end["seconds"], end["cost_usd"]) == (run.id, None, None)
        assert agent_memory.read(teller.stage.layout, "impl-1").totals.seconds_running == 0.0


def test_a_delivered_task_whose_priority_nobody_can_read_gets_its_review(
    story: Callable[[], Story],
) -> None:
    with told(story, "impl-1", "rev-1", priority="urgent") as teller:
        teller.end(teller.at_work()[0], "done", None, 60)
        teller.tick()
        assert teller.reference.tasks["task-1"].state == "done"
        assert [run.agent for run in teller.at_work()] == ["rev-1"]


def test_without_a_remote_the_tick_after_a_run_sees_that_a_branch_is_gone(
    story: Callable[[], Story],
) -> None:
    """Only the question to a remote is spared within `look.LOOK_EVERY` seconds."""
    with told(story, "impl-1") as teller:
        teller.end(teller.at_work()[0], "done", None, 60)
        teller.tick(after_run=True)
        teller.end_pull_request(0, merge=False)
        teller.tick(after_run=True)
        assert teller.reference.tasks["task-1"].state == "failed"


@pytest.mark.parametrize("verdict", ["failed", "done"])
def test_a_tick_killed_at_any_change_that_it_makes_charges_once(
    story: Callable[[], Story], verdict: str
) -> None:
    for after in itertools.count():
        with told(story, "impl-1", "rev-1") as teller:
            teller.end(teller.at_work()[0], verdict, None, 60)
            teller.killed_tick(after)
            teller.tick()
            task = teller.reference.tasks["task-1"]
            assert task.attempts == (verdict == "failed")
            assert task.state != "failed"
            if not teller.kills:
                return


BOUNDED: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "stateful_step_count": 40,
    "suppress_health_check": list(HealthCheck),
}


@pytest.mark.timeout(900)
def test_every_story_ends_as_the_contract_says(story: Callable[[], Story]) -> None:
    play(story, settings=settings(**BOUNDED, max_examples=examples(0.24), derandomize=True))


@pytest.mark.crash
@pytest.mark.timeout(0)
@pytest.mark.skipif("MODEL_SECONDS" not in os.environ, reason="set MODEL_SECONDS to its length")
def test_new_stories_end_as_the_contract_says(story: Callable[[], Story]) -> None:
    until = time.monotonic() + float(os.environ["MODEL_SECONDS"])
    phases = (Phase.generate, Phase.shrink)
    while time.monotonic() < until:
        play(
            story, settings=settings(**BOUNDED, max_examples=100, phases=phases, derandomize=False)
        )
