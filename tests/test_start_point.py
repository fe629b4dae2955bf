"""Where a run starts: the commits of its base and of its branch, here and at the remote."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import runs
import test_landing
from conftest import git as sh
from store_contract import new_task
from test_landing import World

from orchestrator.config import load
from orchestrator.git import base_branch, call, remotes, repository, work_branch
from orchestrator.model.config import Agent, Role
from orchestrator.model.errors import SystemFault
from orchestrator.model.work import Entry
from orchestrator.project import agent_memory, run_record
from orchestrator.pulls import look
from orchestrator.run import start_point
from orchestrator.run.job import Job
from orchestrator.run.journal import Journal
from orchestrator.run.start_point import Start
from orchestrator.system import commands

world, alone = test_landing.world, test_landing.alone
RUN = "20260101T000000Z-aaaaaa"
EARLIER = "20250101T000000Z-cccccc"
BRANCH = "agent/T1-title-of-t1"
PULL_REQUEST = Role("implementer", "implement", "pull_request", (), (), (), "")
VERDICT = Role("reviewer", "review", "verdict", (), (), (), "")
AT = "2026-01-01T00:00:00Z"


def job_of(
    world: World,
    as_role: Role = PULL_REQUEST,
    *,
    task_id: str = "T1",
    claim: Any = None,
    begun: bool = False,
    event: str = "requeued",
    **facts: Any,
) -> Job:
    """Return a run that has claimed a new task with these facts, and has not looked at git yet.

    `begun`: an earlier run had claimed the task, which came back by `event`.
    """
    folder = runs.lay_out(world.layout, "a", f"{RUN}{task_id[2:]}", task=task_id)
    record = run_record.read(str(folder))
    assert record is not None
    world.store.add(new_task(task_id, **facts))
    fields = {"agent": "a", "run": record.id, **(claim or {})}
    task = world.store.find(task_id)
    if begun:
        earlier = {"agent": "a", "run": EARLIER}
        task = world.store.move(task, "claimed", Entry(AT, "claimed", earlier))
        task = world.store.move(task, "incoming", Entry(AT, event, {"run": earlier["run"]}))
    task = world.store.move(task, "claimed", Entry(AT, "claimed", fields))
    journal, agent = Journal(str(folder), record), Agent("a", as_role.name, 0)
    file = world.store.read(task)
    return Job(journal, world.layout, world.config, agent, as_role, task, file, "unused")


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the questions to remotes, which grows from now on."""
    asked: list[str] = []

    def run(cwd: str, *words: str, **more: Any) -> commands.Finished:
        asked.extend(word for word in words if word in ("ls-remote", "fetch-pack"))
        return call.run(cwd, *words, **more)

    monkeypatch.setattr(remotes, "run", run)
    return asked


def times(*jobs: Job, at: float) -> None:
    """Let the runs have been claimed at a time."""
    for job in jobs:
        os.utime(job.journal.path(run_record.RECORD), (at, at))


def commit(world: World, parent: str, text: str) -> str:
    """Make a commit that no branch has; return it."""
    tree = sh(world.repo, "rev-parse", f"{parent}^{{tree}}")
    return sh(world.repo, "commit-tree", tree, "-p", parent, "-m", text)


def at_remote(world: World, branch: str, at: str) -> str:
    sh(world.repo, "push", "--quiet", "--force", "origin", f"{at}:refs/heads/{branch}")
    return at


def here(world: World, branch: str, at: str) -> str:
    sh(world.repo, "update-ref", f"refs/heads/{branch}", at)
    return at


def test_new_work_starts_from_the_remotes_base_of_now(world: World) -> None:
    old = world.main()
    new = world.push_to_main({"a.txt": "a\n"})
    job = job_of(world)
    assert start_point.find(job) == Start(new, on_refs=frozenset({old}))
    written = run_record.read(job.folder)
    assert written is not None
    assert (written.branch, written.base, written.base_commit) == (BRANCH, "main", new)
    assert (written.start, written.there, written.review) == (new, None, None)
    assert (written.remote, written.push_remote, written.push_address) == ("origin", "origin", None)
    assert written.identity


def test_runs_that_were_claimed_before_the_remote_was_asked_share_its_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recorded(monkeypatch)
    first, second = job_of(world), job_of(world, task_id="T22")
    times(first, second, at=time.time() - 1)
    old, new = world.main(), world.push_to_main({"a.txt": "a\n"})
    assert start_point.find(first).commit == new
    assert len(asked) == 1
    # The second sees its refs before, or while, the first fetches: they agree with the answer.
    sh(world.repo, "update-ref", "refs/remotes/origin/main", new)
    assert start_point.find(second).commit == new
    assert len(asked) == 1
    # A run that is claimed later sees what was pushed since then.
    third = job_of(world, task_id="T33")
    os.utime(third.journal.path(run_record.RECORD))
    newest = world.push_to_main({"b.txt": "b\n"})
    assert start_point.find(third).commit == newest
    assert len(asked) == 2
    assert old != new


@pytest.mark.parametrize("lie", ["a ref here", "another remote", "tomorrow", "torn", "long ago"])
def test_an_answer_for_other_runs_that_is_wrong_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    asked, now = recorded(monkeypatch), time.time()
    main, other = world.main(), commit(world, "main", "other")
    job = job_of(world)
    times(job, at=now - 60)
    at, remote = now - 1, "origin"
    here_is = main if lie == "a ref here" else other
    sh(world.repo, "update-ref", "refs/remotes/origin/main", here_is)
    if lie == "another remote":
        remote = "elsewhere"
    elif lie == "tomorrow":
        at = now + 86400
    elif lie == "long ago":
        at = now - 30
    said = f"{at!r} {remote}\n{other}\trefs/heads/main\n"
    os.makedirs(world.layout.cache, exist_ok=True)
    kept = Path(world.layout.cache, "remote-heads")
    kept.write_bytes(b"\xff\n" if lie == "torn" else said.encode())
    assert start_point.find(job).commit == main
    assert len(asked) == 1
    assert "other" not in kept.read_text()


def test_without_a_remote_work_starts_from_the_base_here(alone: World) -> None:
    job = job_of(alone)
    assert start_point.find(job).commit == alone.main()
    assert (job.record.remote, job.record.push_remote) == (None, None)


def test_a_branch_keeps_its_name_and_a_task_may_name_its_base(world: World) -> None:
    dev = at_remote(world, "dev", commit(world, "main", "dev"))
    mine = here(world, "mine", commit(world, dev, "work"))
    job = job_of(world, branch="dev", claim={"branch": "mine"}, begun=True)
    start = start_point.find(job)
    assert (start.commit, start.here, start.there) == (dev, mine, None)
    assert (job.record.branch, job.record.base) == ("mine", "dev")


@pytest.mark.parametrize("there", ["the same", "of the product", "of others", "on top of others"])
def test_which_commits_of_the_branch_give_way(world: World, there: str) -> None:
    mine = here(world, BRANCH, commit(world, "main", "mine"))
    other = commit(world, "main", "other")
    rescue, others = None, None
    if there == "the same":
        other = mine
    elif there == "of the product":
        work_branch.remember(str(world.repo), BRANCH, other)
    elif there == "of others":
        rescue, others = f"{repository.RESCUE}{RUN}-replaced", other
    else:  # The product pushed this commit on top of one that `mine` lacks.
        below, other = other, commit(world, other, "on top")
        work_branch.remember_others(str(world.repo), BRANCH, below)
        work_branch.remember(str(world.repo), BRANCH, other)
        rescue, others = f"{repository.RESCUE}{RUN}-replaced", below
    at_remote(world, BRANCH, other)
    start = start_point.find(job_of(world, begun=True))
    assert (start.here, start.there, start.rescue) == (mine, other, rescue)
    assert not start.has_kept
    assert work_branch.known(str(world.repo), BRANCH).others == others


def test_commits_that_only_the_remote_has_are_remembered_and_replace_nothing(world: World) -> None:
    other = at_remote(world, BRANCH, commit(world, "main", "other"))
    start = start_point.find(job_of(world, begun=True))
    assert (start.here, start.there, start.rescue) == (None, other, None)
    assert work_branch.known(str(world.repo), BRANCH).others == other
    assert repository.resolve(str(world.repo), f"refs/remotes/origin/{BRANCH}") == other


def test_a_preparation_that_is_repeated_knows_that_the_commits_were_kept(world: World) -> None:
    sh(world.repo, "update-ref", f"{repository.RESCUE}{RUN}-replaced", "main")
    assert start_point.find(job_of(world)).has_kept


def test_commits_at_the_worktree_of_the_last_run_are_known_to_be_on_a_ref(world: World) -> None:
    last = here(world, "agent/T0", commit(world, "main", "last"))
    runs.lay_out(world.layout, "a", "20250101T000000Z-bbbbbb", branch="agent/T0")
    memory = agent_memory.read(world.layout, "a")
    agent_memory.write(world.layout, "a", memory._replace(last_run="20250101T000000Z-bbbbbb"))
    assert last in start_point.find(job_of(world)).on_refs


def test_work_on_top_of_delivered_work_starts_where_the_tick_cut_it(world: World) -> None:
    cut = commit(world, "main", "delivered")
    job = job_of(world, claim={"cut": cut})
    assert start_point.find(job).commit == cut
    assert job.record.base_commit == world.main()


@pytest.mark.parametrize(
    ("where", "what", "anew"),
    [
        ("", "merged", True),
        ("here", "merged", True),
        ("there", "merged", True),
        ("here there", "merged", True),
        ("here there", "later", False),
        ("there", "of others", False),
    ],
)
def test_more_work_on_a_task_starts_from_the_base_once_its_branch_was_merged(
    world: World, where: str, what: str, anew: bool
) -> None:
    """After a squash, it would conflict with what became of the branch's own commits."""
    merged = commit(world, "main", "merged")
    base = world.push_to_main({"a.txt": "as other commits\n"})
    tip = commit(world, merged, "later") if what == "later" else merged
    for place in where.split():
        (here if place == "here" else at_remote)(world, BRANCH, tip)
    if what != "of others":
        work_branch.remember(str(world.repo), BRANCH, tip)
    job = job_of(world, claim={"cut": world.main()}, begun=True)
    assert job.task is not None
    world.store.note(job.task, Entry(AT, "merged", {"pr": "1", "head": merged}))
    start = start_point.find(job._replace(file=world.store.read(job.task)))
    kept = f"{repository.RESCUE}{RUN}-merged" if anew else None
    assert (start.there, start.rescue) == (base if anew else tip, kept)
    assert start.commit == base
    assert job.record.there == (tip if "there" in where else None), "the lease of the push"


@pytest.mark.parametrize("new_name", [None, "here", "there"])
def test_a_branch_with_a_refused_name_is_taken_along_to_an_unused_name(
    world: World, new_name: str | None
) -> None:
    old = here(world, "old/T1", commit(world, "main", "under the former name"))
    if new_name == "here":
        here(world, BRANCH, commit(world, "main", "new"))
    elif new_name == "there":
        at_remote(world, BRANCH, commit(world, "main", "new"))
    former = start_point.find(job_of(world, claim={"former": "old/T1"}, begun=True)).former
    assert former == (None if new_name else ("old/T1", old))


@pytest.mark.parametrize("place", ["here", "there"])
def test_a_branch_in_the_way_is_found_before_a_client_is_paid(world: World, place: str) -> None:
    (here if place == "here" else at_remote)(world, "agent", sh(world.repo, "rev-parse", "main"))
    with pytest.raises(SystemFault, match="'agent' exists in") as refused:
        start_point.find(job_of(world))
    assert refused.value.code == "branch_in_the_way"
    assert ("the remote 'origin'" in refused.value.message) == (place == "there")


@pytest.mark.parametrize("back_by", [None, "requeued", "answered"])
@pytest.mark.parametrize("place", ["here", "there"])
def test_a_branch_that_no_run_of_the_task_made_is_left_to_its_owner(
    world: World, place: str, back_by: str | None
) -> None:
    theirs = commit(world, "main", "a person's")
    (here if place == "here" else at_remote)(world, "release", theirs)
    runs.lay_out(world.layout, "a", EARLIER)  # it ended before it noted a branch
    job = job_of(world, begun=back_by is not None, event=back_by or "", claim={"branch": "release"})
    if back_by == "answered":  # a person gave the branch to the task
        start = start_point.find(job)
        assert theirs in (start.here, start.there)
        return
    with pytest.raises(start_point.Question, match="release exists, and no run of this task"):
        start_point.find(job)
    assert job.record.branch is None


def test_a_run_whose_preparation_is_repeated_takes_its_branch_up_again(world: World) -> None:
    job = job_of(world, claim={"branch": "release"})
    start_point.find(job)
    made = here(world, "release", commit(world, "main", "work"))
    assert start_point.find(job).here == made


def test_no_run_works_on_a_base_branch(world: World) -> None:
    with pytest.raises(start_point.Question, match="branch main is a base branch"):
        start_point.find(job_of(world, claim={"branch": "main"}, begun=True))


@pytest.mark.parametrize("name", ["gone", "main:", "main:README.md", "main~0", "main@{0}", "ma*n"])
def test_a_base_that_a_task_names_and_nobody_has_is_a_question(world: World, name: str) -> None:
    said = re.escape(f"The base branch {name!r} does not exist. Create it, or name another")
    with pytest.raises(start_point.Question, match=said) as asked:
        start_point.find(job_of(world, branch=name))
    assert "branch=BRANCH. Then" in asked.value.message


@pytest.mark.parametrize(
    "name",
    ["origin/main", "heads/main", "refs/heads/main", "remotes/origin/main"],
)
def test_a_base_by_another_name_of_its_ref_is_a_question_that_names_the_branch(
    world: World, name: str
) -> None:
    with pytest.raises(start_point.Question, match=r"orchestrator task set T1 branch=main\. Then"):
        start_point.find(job_of(world, branch=name))


def test_a_base_of_a_task_that_only_this_repository_has_is_enough(world: World) -> None:
    mine = here(world, "mine", commit(world, "main", "mine"))
    assert start_point.find(job_of(world, branch="mine")).commit == mine


@pytest.mark.parametrize("has_remote", [True, False])
def test_the_projects_base_must_be_where_work_is_delivered(
    repo: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, has_remote: bool
) -> None:
    world: World = request.getfixturevalue("world" if has_remote else "alone")
    if has_remote:
        here(world, "mine", sh(repo, "rev-parse", "main"))  # and not at the remote
    world.config = world.config._replace(base_branch="mine")
    again: list[Any] = []
    monkeypatch.setattr(load, "read_again", again.append)
    with pytest.raises(SystemFault) as refused:
        start_point.find(job_of(world))
    assert refused.value.code == "base_gone"
    assert refused.value.message.startswith("the remote" if has_remote else "this repository")
    assert again == [world.layout], "the next tick asks git again which branch is the base"


@pytest.mark.parametrize("seen", ["just now", "long ago", "not all"])
def test_a_review_starts_from_the_commit_that_a_tick_has_just_fetched(
    world: World, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    pr = world.deliver("T0", {"a.txt": "a\n"}, approved=False)
    now = at_remote(world, pr.branch, commit(world, pr.head, "pushed since"))
    sh(world.repo, "update-ref", f"refs/remotes/origin/{pr.branch}", pr.head)
    if seen == "not all":
        sh(world.repo, "update-ref", "-d", f"refs/remotes/origin/{pr.branch}")
    monkeypatch.setattr(look, "is_fresh", lambda _: seen != "long ago")
    job = job_of(world, VERDICT, role="review", extra=[("REVIEWS", "T0"), ("PR", pr.id)])
    start = start_point.find(job)
    expected = pr.head if seen == "just now" else now
    assert (start.commit, start.rescue) == (expected, None)
    assert (job.record.branch, job.record.review) == (None, pr)
    assert (job.record.base, job.record.base_commit) == ("main", world.main())


def test_a_review_of_a_branch_that_is_gone_starts_from_the_head_of_the_pull_request(
    alone: World,
) -> None:
    pr = alone.deliver("T0", {"a.txt": "a\n"}, approved=False)
    sh(alone.repo, "update-ref", "-d", f"refs/heads/{pr.branch}")
    job = job_of(alone, VERDICT, role="review", extra=[("REVIEWS", "T0"), ("PR", pr.id)])
    assert start_point.find(job).commit == pr.head


def test_other_roles_ask_the_remote_even_if_a_tick_has_just_fetched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "is_fresh", lambda _: True)
    new = world.push_to_main({"a.txt": "a\n"})
    assert start_point.find(job_of(world)).commit == new
    assert base_branch.branch_commit(str(world.repo), "origin", "main") == new
