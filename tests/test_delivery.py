"""Delivery: what a person did with the pull request during the run is seen before the push."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs
import test_landing
from conftest import git as sh
from test_landing import World

from orchestrator.git import work_branch
from orchestrator.model.config import Agent, Role
from orchestrator.model.snapshot import Outcome
from orchestrator.model.work import Entry
from orchestrator.project import run_record
from orchestrator.run import conclude, delivery
from orchestrator.run.job import Job
from orchestrator.run.journal import Journal

world = test_landing.world


def rework(world: World, tmp_path: Path) -> Job:
    """Return a run that has reworked a delivered task, and has not been delivered yet."""
    old = world.deliver("T1", {"a.txt": "one\n"}, approved=False)
    work_branch.remember(str(world.repo), old.branch, old.head)
    remote, world.remote = world.remote, None
    new = world.branch("T1", {"a.txt": "two\n"})
    world.remote = remote
    folder = runs.lay_out(world.layout, "a", "20260101T000000Z-aaaaaa", task="T1")
    record = run_record.read(str(folder))
    assert record is not None
    record = record._replace(
        branch=old.branch, base="main", push_remote="origin", tip=new, commits=2, there=old.head
    )
    claim = Entry("2026-01-01T00:00:00Z", "claimed", {"agent": "a", "run": record.id})
    task = world.store.move(world.store.find("T1"), "claimed", claim)
    role = Role("implementer", "implement", "pull_request", (), (), (), "")
    journal, agent = Journal(str(folder), record), Agent("a", "implementer", 0)
    file = world.store.read(task)
    return Job(journal, world.layout, world.config, agent, role, task, file, str(tmp_path))


def heads(world: World) -> dict[str, str]:
    assert world.remote
    pairs = (line.split() for line in sh(world.remote, "show-ref", "--heads").splitlines())
    return {ref: commit for commit, ref in pairs}


@pytest.mark.parametrize(
    ("merged", "deleted", "state"),
    [
        (False, False, None),
        (False, True, "closed"),
        (True, True, "merged"),
        (True, False, "merged"),
    ],
)
def test_a_pull_request_that_a_person_ended_during_the_run_is_not_opened_again(
    world: World, tmp_path: Path, merged: bool, deleted: bool, state: str | None
) -> None:
    job = rework(world, tmp_path)
    assert world.remote
    if merged:
        world.push_to_main({"a.txt": "one\n"})
    if deleted:
        sh(world.remote, "update-ref", "-d", "refs/heads/agent/T1")
    before = heads(world)
    outcome = delivery.deliver(job, Outcome("done", summary="Done."), None)
    if state is None:
        assert (outcome.verdict, outcome.pr) == ("done", "1")
        assert heads(world)["refs/heads/agent/T1"] == job.record.tip
        return
    assert outcome.verdict == "stopped"
    assert outcome.reason == f"stopped: pull request 1 was {state} during the run"
    assert heads(world) == before, "nothing was pushed"
    assert [pr.id for pr in world.forge.book.list()] == ["1"]


def test_the_number_of_another_tasks_pull_request_stops_no_delivery(
    world: World, tmp_path: Path
) -> None:
    """After a change of `forge`, the task's number may be that of another task there."""
    job = rework(world, tmp_path)
    with world.forge.book.locked():
        other = world.forge.book.find("1")._replace(task="T2", branch="agent/T2", state="closed")
        world.forge.book.write(other)
    outcome = delivery.deliver(job, Outcome("done", summary="Done."), None)
    assert (outcome.verdict, outcome.pr) == ("done", "2")


@pytest.mark.parametrize(("verdict", "is_remembered"), [("done", False), ("system_fault", True)])
def test_a_push_that_no_delivery_in_the_history_will_name_is_remembered(
    world: World, tmp_path: Path, verdict: str, is_remembered: bool
) -> None:
    job = rework(world, tmp_path)
    assert job.record.branch
    steps = job.record.steps._replace(pushed=job.record.tip)
    job.journal.record = job.record._replace(steps=steps)
    outcome = conclude._with_memory(job.journal, Outcome(verdict))
    assert outcome.verdict == verdict
    known = work_branch.known(str(world.repo), job.record.branch)
    assert (job.record.tip in known.own) == is_remembered
