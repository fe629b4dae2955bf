"""The settling of a run: what remains of it in its agent's memory, in this process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import runs
from store_contract import new_task

from orchestrator.config import load
from orchestrator.git import worktree_commands
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Action, Hold, Outcome, UsageWindow
from orchestrator.model.work import Entry
from orchestrator.plan import repeats
from orchestrator.plan.settlements import settlements
from orchestrator.project import agent_memory, events, faults, mark, run_record, unsettled, usage
from orchestrator.project.agent_memory import AgentState
from orchestrator.project.run_record import RunRecord
from orchestrator.system import files
from orchestrator.tasks import stores
from orchestrator.tick import hold, observe, steps
from orchestrator.tick.settle import Settler

DAY = 86_400.0
#: Noon, so that the days of the tests are the same in every time zone.
NOON = 1_767_268_800.0
AGENT = "impl-agent-1"


#: Settles a run (its id, its cost, the time, its verdict) and returns its agent's memory.
Settle = Callable[..., AgentState]


@pytest.fixture
def utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def settled(project: Layout, utc: None) -> Settle:
    """Return a function that settles runs of an agent that takes no task."""
    settings = load.settings(project, write_cache=False)

    def settle(run: str, cost: float, now: float, verdict: str = "done") -> AgentState:
        before = agent_memory.read(project, AGENT)
        agent_memory.write(project, AGENT, before._replace(run=run))
        outcome = Outcome(verdict, "why", cost_usd=cost, input_tokens=3, output_tokens=2)
        record = RunRecord(
            id=run,
            agent=AGENT,
            role="implementer",
            task=None,
            created=now - 10,
            finished=now,
            status="finished",
            project=project.root,
            settings=settings.config.agents[0],
            attempt=1,
            outcome=outcome,
        )
        folder = project.run(AGENT, run)
        os.makedirs(folder)
        run_record.write(folder, record)
        Settler(project, settings, now)._settle_agent(
            Action("finish", AGENT, None, run), record, outcome
        )
        return agent_memory.read(project, AGENT)

    return settle


def test_the_cost_of_a_days_runs_adds_up(
    settled: Settle,
) -> None:
    settled("R1", 0.25, NOON)
    state = settled("R2", 0.5, NOON + 60)
    assert state.spend == {"2026-01-01": 0.75}
    totals = state.totals
    assert (totals.runs, totals.cost_usd, totals.seconds_running) == (2, 0.75, 20.0)
    assert (totals.input_tokens, totals.output_tokens) == (6, 4)


def test_the_cost_of_a_day_is_known_after_the_clock_was_a_day_ahead(
    settled: Settle,
) -> None:
    settled("R1", 0.25, NOON)
    settled("R2", 0.5, NOON + DAY)
    assert settled("R3", 1.0, NOON).spend == {"2026-01-01": 1.25, "2026-01-02": 0.5}


def test_the_cost_of_a_week_is_kept(
    settled: Settle,
) -> None:
    for number in range(9):
        state = settled(f"R{number}", 1.0, NOON + number * DAY)
    assert sorted(state.spend)[0] == "2026-01-02"
    assert len(state.spend) == 8


@pytest.mark.parametrize(
    ("verdicts", "failures", "is_paused"),
    [
        (["failed"] * 2, 2, False),
        (["failed"] * 3, 3, True),  # retry.max_attempts
        (["failed", "failed", "no_change", "failed"], 1, False),
        (["failed", "failed", "system_fault", "usage_limit", "interrupted"], 2, False),
        (["failed", "stopped", "failed", "failed"], 3, True),
    ],
)
def test_an_agent_that_fails_again_and_again_is_paused(
    settled: Settle, verdicts: list[str], failures: int, is_paused: bool
) -> None:
    for number, verdict in enumerate(verdicts):
        state = settled(f"R{number}", 0.0, NOON, verdict)
    assert state.failures == failures
    assert state.suspended == ("failed 3 times in a row: why" if is_paused else None)


def test_the_windows_that_a_run_met_are_kept_when_it_is_settled(project: Layout) -> None:
    settings = load.settings(project, write_cache=False)
    met = {"five_hour": UsageWindow(0.75, NOON + 60)}
    folder = project.run(AGENT, "R1")
    record = RunRecord(
        id="R1",
        agent=AGENT,
        role="implementer",
        task=None,
        created=NOON - 10,
        finished=NOON,
        status="finished",
        project=project.root,
        settings=settings.config.agents[0],
        attempt=1,
        outcome=Outcome("done", usage=met),
        key=mark.key(project),
    )
    os.makedirs(folder)
    run_record.write(folder, record)
    Settler(project, settings, NOON).settle(Action("finish", AGENT, None, "R1"))
    assert usage.read(project) == met


@pytest.mark.parametrize(("word", "state"), [("fail", "failed"), ("requeue", "incoming")])
def test_a_tick_that_was_killed_after_it_moved_the_task_is_repeated_with_the_same_event(
    project: Layout, word: str, state: str
) -> None:
    settings, store = load.settings(project, write_cache=False), stores.of_project(project)
    store.add(new_task("T1"))
    claim = Entry("2026-01-01T00:00:00Z", "claimed", {"agent": AGENT, "run": "R1"})
    task = store.move(store.find("T1"), "claimed", claim)
    outcome = Outcome("failed", "checks_failed: make test", cost_usd=1.0)
    runs.lay_out(project, AGENT, "R1", task="T1", outcome=outcome._asdict(), key=mark.key(project))
    agent_memory.write(project, AGENT, AgentState(run="R1"))
    settler = Settler(project, settings, NOON)
    settler._settle_task(Action(word, AGENT, "T1", "R1", charged=True), task, outcome, None)
    _, claimed, views, _ = observe.observe_runs(project)
    (action,) = settlements(views, claimed.tasks, settings.config)
    assert settler.settle(action) == action._replace(action=word)
    assert [event["event"] for event in events.read(project, 1 << 20)] == [word]
    assert store.find("T1").state == state
    assert agent_memory.read(project, AGENT).totals.cost_usd == 1.0


def test_a_fault_still_pauses_claiming_after_a_tick_was_killed_behind_the_move(
    project: Layout,
) -> None:
    settings, store = load.settings(project, write_cache=False), stores.of_project(project)
    store.add(new_task("T1"))
    outcome = Outcome("system_fault", "git_failed: why")
    for number in range(1, repeats.MAX_FIRST + 1):
        run = f"R{number}"
        claim = Entry("2026-01-01T00:00:00Z", "claimed", {"agent": AGENT, "run": run})
        task = store.move(store.find("T1"), "claimed", claim)
        told = {"outcome": outcome._asdict(), "key": mark.key(project)}
        runs.lay_out(project, AGENT, run, task="T1", **told)
        agent_memory.write(project, AGENT, AgentState(run=run))
        settler, action = Settler(project, settings, NOON), Action("requeue", AGENT, "T1", run)
        files.remove(project.hold)
        settler._settle_task(action, task, outcome, None)
    assert store.find("T1").uncharged == {"first_fault": repeats.MAX_FIRST}
    assert settler.settle(action._replace(action="finish")) == action
    assert faults.read_hold(project) is not None


def test_a_fault_that_follows_a_usage_limit_has_begun_now(project: Layout) -> None:
    # Otherwise each hour of the limit would allow one more run that is paid for to test the fault.
    known = Hold("usage_limit", "m", None, NOON - 4 * DAY, until=NOON - DAY)
    files.write_json(project.hold, known._asdict())
    config = load.settings(project, write_cache=False).config
    for now in (NOON, NOON + 60):
        action, outcome = (
            Action("requeue", AGENT, "T1", "R1"),
            Outcome("system_fault", "git_failed"),
        )
        hold.settle(project, config, now, action, outcome, None, is_own=False)
        found = faults.read_hold(project)
        assert found is not None
        assert (found.code, found.since, found.until) == ("system_fault", NOON, None)


def test_a_run_that_deleted_its_record_ends_before_its_agent_starts_again(project: Layout) -> None:
    run, settings = "20260101T000000Z-aaaaaa", load.settings(project, write_cache=False)
    store = stores.of_project(project)
    store.add(new_task("T1"))
    claim = Entry("2026-01-01T00:00:00Z", "claimed", {"agent": AGENT, "run": run})
    store.move(store.find("T1"), "claimed", claim)
    client = subprocess.Popen(["sleep", "600"], env={**os.environ, "ORCHESTRATOR_RUN_ID": run})
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, "ORCHESTRATOR_RUN_ID": "b"})
    try:
        shutil.rmtree(project.agents, ignore_errors=True)
        _, claimed, views, _ = observe.observe_runs(project)
        (action,) = settlements(views, claimed.tasks, settings.config)
        settler = Settler(project, settings, NOON)
        assert settler.settle(action) == action
        assert client.wait(timeout=10) == -signal.SIGTERM
        assert other.poll() is None
        assert store.find("T1").state == "incoming"
    finally:
        client.kill()
        other.kill()
        client.wait()
        other.wait()


#: What a person deletes of an agent with a run without a task, and whether its record is left.
DELETED = {"folder": False, "all agents": False, "files": False, "memory": True}


@pytest.mark.parametrize("what", DELETED)
def test_a_run_without_a_task_is_found_although_its_agents_files_are_gone(
    project: Layout, cli: Callable[..., Any], what: str
) -> None:
    run, settings = "20260101T000000Z-aaaaaa", load.settings(project, write_cache=False)
    worktree = project.worktree(AGENT)
    worktree_commands.add(project.root, worktree, "HEAD")
    worktree_commands.lock(worktree, run, AGENT)
    runs.lay_out(project, AGENT, run, status="running", key=mark.key(project))
    agent_memory.write(project, AGENT, AgentState(run=run))
    mine = {**os.environ, "ORCHESTRATOR_RUN_ID": run}
    client = subprocess.Popen(["sleep", "600"], env=mine)
    other = subprocess.Popen(["sleep", "600"], env={**mine, "ORCHESTRATOR_RUN_ID": "b"})
    try:
        if what in ("folder", "all agents"):
            shutil.rmtree(project.agent(AGENT) if what == "folder" else project.agents)
        else:  # as `git clean -dfx`, which leaves the worktree
            os.unlink(project.agent_state(AGENT))
            if what == "files":
                shutil.rmtree(project.runs(AGENT))
        assert unsettled.runs(project) == {AGENT: run}
        refused = cli("agent", "remove", AGENT, "--json")
        assert refused.json["error"]["code"] == "running"
        _, claimed, views, records = observe.observe_runs(project)
        assert [(view.id, view.agent, view.task) for view in views] == [(run, AGENT, None)]
        told = {row["code"] for row in cli("status", "--json").json["problems"]}
        found = {row["code"] for row in cli("doctor", "--json").json["findings"]}
        is_left = DELETED[what]
        assert [run in records, "run_lost" not in told, "run_lost" not in found] == [is_left] * 3
        (action,) = settlements(views, claimed.tasks, settings.config)
        assert action.action == ("deliver" if is_left else "finish")
        if is_left:  # its supervisor is restarted, which ends or adopts the client
            return
        assert cli("tick", "--dry-run").code == 0
        steps._adopt(project, {}, views)
        assert Settler(project, settings, NOON).settle(action) == action
        assert client.wait(timeout=10) == -signal.SIGTERM
        assert other.poll() is None
        assert unsettled.runs(project) == {}
        assert agent_memory.read(project, AGENT).last_run == run
    finally:
        client.kill()
        other.kill()
        client.wait()
        other.wait()


def test_a_copy_of_a_project_does_not_end_the_runs_of_the_project(
    project: Layout, tmp_path: Path
) -> None:
    worktree_commands.add(project.root, project.worktree(AGENT), "HEAD")
    worktree_commands.lock(project.worktree(AGENT), "R1", AGENT)
    copy = Layout(str(tmp_path / "copy"))
    shutil.copytree(os.path.join(project.root, ".git"), os.path.join(copy.root, ".git"))
    assert unsettled.runs(project) == {AGENT: "R1"}
    assert unsettled.runs(copy) == {}
