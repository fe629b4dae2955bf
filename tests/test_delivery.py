"""Delivery: what a person did with the pull request during the run is seen before the push."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs
import test_landing
from conftest import git as sh
from test_landing import World

from orchestrator.git import remotes, repository, work_branch
from orchestrator.model.config import Agent, Role
from orchestrator.model.errors import OrchestratorError, Rejected, SystemFault
from orchestrator.model.snapshot import Outcome
from orchestrator.model.work import Entry
from orchestrator.project import run_record
from orchestrator.run import conclude, delivery, pushing
from orchestrator.run.delivery import Secured
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
    outcome = delivery.deliver(job, Outcome("done", summary="Done."), Secured())
    if state is None:
        assert (outcome.verdict, outcome.pr) == ("done", "1")
        assert heads(world)["refs/heads/agent/T1"] == job.record.tip
        return
    assert outcome.verdict == "stopped"
    assert outcome.reason == f"stopped: pull request 1 was {state} during the run"
    assert heads(world) == before, "nothing was pushed"
    assert [pr.id for pr in world.forge.book.list()] == ["1"]


def test_the_event_lists_the_delivered_commits_if_they_are_known_few_and_short(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rework(world, tmp_path)
    commits = [
        (f"{number:040x}", f"Change {number}") for number in range(repository.MOST_COMMITS + 1)
    ]
    outcome = delivery.deliver(job, Outcome("done"), Secured(commits=commits))
    assert list(outcome.commits or ()) == commits[:-1]
    assert delivery.deliver(job, Outcome("done"), Secured()).commits is None
    monkeypatch.setattr(delivery, "MOST_TEXT", 0)
    assert delivery.deliver(job, Outcome("done"), Secured(commits=commits)).commits is None


@pytest.mark.parametrize(
    ("client", "verdict"),
    [(None, "no_change"), (run_record.ClientProcess(1, "then", 1.0), "failed")],
)
def test_only_work_of_an_earlier_run_can_have_been_merged_before_its_pull_request(
    world: World, tmp_path: Path, client: run_record.ClientProcess | None, verdict: str
) -> None:
    job = rework(world, tmp_path)
    job.journal.record = job.record._replace(commits=0, client=client)
    assert delivery.deliver(job, Outcome("done"), Secured()).verdict == verdict


#: What the remote's hook refuses, whether the branch exists there, and whose refusal that is.
_EVERY_NAME = "case $1 in refs/heads/feature/*) ;; *) exit 1;; esac"
_THIS_BRANCH = "[ $1 != refs/heads/agent/T1 ] || exit 1"
_THESE_COMMITS = "! git cat-file -e $3:b.txt 2>/dev/null || exit 1"


@pytest.mark.parametrize(
    ("hook", "exists", "said", "refusal"),
    [
        (_EVERY_NAME, False, "Name it feature/", SystemFault),
        (_EVERY_NAME, True, "Name it feature/", SystemFault),
        (_THIS_BRANCH, False, "Not this name", pushing.NameRefused),
        (_THIS_BRANCH, True, "GH006: Protected branch update failed", SystemFault),
        (_THESE_COMMITS, False, "No such file here", Rejected),
        (_THESE_COMMITS, True, "No such file here", Rejected),
    ],
    ids=[
        *("every new name", "every update", "a new name", "a protected branch"),
        *("new commits", "more commits"),
    ],
)
def test_a_refusal_of_the_remote_is_everybodys_of_one_name_or_of_these_commits(
    world: World,
    tmp_path: Path,
    hook: str,
    exists: bool,
    said: str,
    refusal: type[OrchestratorError],
) -> None:
    job = rework(world, tmp_path)
    assert world.remote
    remote, world.remote = world.remote, None
    head = world.branch("T1", {"b.txt": "two\n"})
    job.journal.record = job.record._replace(base_commit=sh(world.repo, "rev-parse", "main"))
    if not exists:
        sh(remote, "update-ref", "-d", "refs/heads/agent/T1")
        job.journal.record = job.record._replace(there=None)
    before = sh(remote, "show-ref", "--heads")
    path = remote / "hooks" / "update"
    path.write_text(f"#!/bin/sh\necho '{said}' >&2\n{hook}\n")
    path.chmod(0o755)
    with pytest.raises(refusal) as raised:
        pushing.push(job, "agent/T1", head)
    assert said in raised.value.message
    if refusal is SystemFault:
        assert raised.value.code == "remote_refuses"
        assert "branch_prefix" in (raised.value.hint or "")
    after = sh(remote, "show-ref", "--heads")
    assert "push-test" not in after
    assert head not in after
    assert after.startswith(before) or not exists


def test_of_a_push_that_was_killed_after_it_came_through_the_commit_is_known_here(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = rework(world, tmp_path)
    remote, world.remote = world.remote, None
    assert remote
    head = world.branch("T1", {"b.txt": "two\n"})

    def killed(*_: str) -> str:
        sh(remote, "fetch", "--quiet", str(world.repo), f"{head}:refs/heads/agent/T1")
        return "git push was killed by signal 9"

    monkeypatch.setattr(remotes, "push", killed)
    pushing.push(job, "agent/T1", head)
    # By it, the next tick knows that the review of this commit is the one to wait for.
    assert sh(world.repo, "rev-parse", "refs/remotes/origin/agent/T1") == head


def test_the_number_of_another_tasks_pull_request_stops_no_delivery(
    world: World, tmp_path: Path
) -> None:
    """After a change of `forge`, the task's number may be that of another task there."""
    job = rework(world, tmp_path)
    with world.forge.book.locked():
        other = world.forge.book.find("1")._replace(task="T2", branch="agent/T2", state="closed")
        world.forge.book.write(other)
    outcome = delivery.deliver(job, Outcome("done", summary="Done."), Secured())
    assert (outcome.verdict, outcome.pr) == ("done", "2")


def test_a_push_whose_supervisor_died_is_delivered_although_others_pushed_on_top_of_it(
    world: World, tmp_path: Path
) -> None:
    """The record of the push was not written yet: the run ended as `moved`, and was paid again."""
    job = rework(world, tmp_path)
    head, remote = job.record.tip, world.remote
    assert head
    assert remote
    world.remote = None
    theirs = world.branch("T1", {"theirs.txt": "a fix-up\n"})
    sh(world.repo, "push", "--quiet", "origin", f"{theirs}:refs/heads/agent/T1")
    sh(world.repo, "update-ref", "refs/heads/agent/T1", head)
    outcome = delivery.deliver(job, Outcome("done", summary="Done."), Secured())
    assert (outcome.verdict, outcome.head, outcome.reason) == ("done", head, None)
    assert sh(remote, "rev-parse", "agent/T1") == theirs


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
