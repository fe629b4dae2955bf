"""Reference 9.6 and 9.8: branches that others moved, and refusals that every task would get."""

from __future__ import annotations

import fcntl
import json
import subprocess
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import World, wait_until

world = harness.world

RESCUE = "refs/orchestrator/rescue/"
WORK = {"steps": [["work"]]}


@pytest.fixture(params=["local", "github"])
def forge(request: pytest.FixtureRequest, world: World) -> str:
    world.create(forge=request.param)
    if request.param == "github":
        world.on_github()
    return str(request.param)


def hook(world: World, text: str) -> None:
    """Let the remote decide about each ref: `$1` is its name, `$2` and `$3` its commits."""
    path = world.remote / "hooks" / "update"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def person(world: World, branch: str, *steps: tuple[str, ...]) -> str:
    """Let a person push to a branch from a clone; return the commit that is pushed."""
    clone = world.folder / f"person-{len(list(world.folder.glob('person-*')))}"
    world.git("clone", "-q", str(world.remote), str(clone), cwd=world.folder)
    world.git("checkout", "-q", branch, cwd=clone)
    (clone / "fix-up.txt").write_text(f"{branch} {clone.name}\n")
    world.git("add", "-A", cwd=clone)
    world.git("commit", "-q", "-m", "fix-up of a person", cwd=clone)
    for words in steps:
        world.git(*words, cwd=clone)
    world.git("push", "-q", "--force", "origin", branch, cwd=clone)
    return world.sha("HEAD", cwd=clone)


def contains(world: World, commit: str, branch: str) -> bool:
    """Whether the remote's branch contains a commit."""
    return commit in world.git("rev-list", branch, cwd=world.remote).split()


def rescued(world: World) -> dict[str, str]:
    lines = world.git("for-each-ref", "--format=%(refname) %(objectname)", RESCUE).splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def again(world: World, task: str, what: str = "another attempt") -> None:
    """Send a delivered task back, as a review does, and wait for the delivery of its rework."""
    before = len(world.starts(task))
    world.ok("task", "move", task, "incoming")
    world.tick_until(
        lambda: len(world.starts(task)) > before and world.where(task) == ["done"], what
    )


def problem(world: World, code: str) -> dict[str, Any] | None:
    return next((p for p in world.status()["problems"] if p["code"] == code), None)


# --- branches that others moved ------------------------------------------------------------------


@pytest.mark.parametrize(
    "rewrite",
    [
        [["git", "commit", "-q", "--amend", "-m", "amended"]],
        [["git", "rebase", "-q", "--force-rebase", "origin/main"], ["work"]],
        [["git", "reset", "-q", "--hard", "origin/main"], ["work"]],
    ],
    ids=["amended", "rebased", "begun again"],
)
def test_an_agent_may_rewrite_what_only_the_product_pushed(
    world: World, forge: str, rewrite: list[Any]
) -> None:
    world.script("default", WORK, {"steps": [["sleep", 1.1], *rewrite]})
    task = world.add("Rewritten")
    world.tick_until_in("done", task)
    branch = world.task(task)["work_branch"]
    first = world.remote_sha(branch)
    again(world, task)
    shown = world.task(task)
    assert (shown["attempts"], len(world.starts(task))) == (0, 2)
    assert world.remote_sha(branch) == world.sha(branch) != first
    assert not contains(world, first, branch)
    assert first in rescued(world).values(), "what was replaced is gone"
    [pr] = world.prs()
    assert pr["head"] == world.sha(branch)


def test_a_fix_up_of_a_person_between_two_runs_is_built_on(world: World, forge: str) -> None:
    task = world.add("Fixed up")
    world.tick_until_in("done", task)
    branch = world.task(task)["work_branch"]
    theirs = person(world, branch)
    again(world, task)
    assert contains(world, theirs, branch)
    assert world.task(task)["attempts"] == 0
    given = world.seen(task)["instructions"]
    assert f"commits up to `{theirs}` are pushed already" in given
    assert "that are not among them are kept" not in given


def test_a_fix_up_of_a_person_during_the_run_costs_no_attempt(world: World, forge: str) -> None:
    world.script("default", WORK, {"steps": [["wait", "go"], ["work"]]}, WORK)
    task = world.add("Pushed to meanwhile")
    world.tick_until_in("done", task)
    branch = world.task(task)["work_branch"]
    world.ok("task", "move", task, "incoming")
    world.tick_until(lambda: len(world.starts(task)) == 2, "the second run")
    theirs = person(world, branch)
    world.open("go")
    world.tick_until(lambda: len(world.starts(task)) == 3, "the third run")
    world.tick_until_in("done", task)
    shown = world.task(task)
    assert shown["attempts"] == 0
    errors = [entry["error"] for entry in shown["history"] if entry.get("error")]
    assert len(errors) == 1
    assert errors[0].startswith("branch_moved: ")
    assert contains(world, theirs, branch)
    [(ref, ours)] = rescued(world).items()
    assert ref == f"{RESCUE}{world.starts(task)[2]['run']}-replaced"
    assert not contains(world, ours, branch)
    given = world.seen(task, 2)["instructions"]
    assert f"kept under `{ref}`" in given
    [pr] = world.prs()
    assert pr["head"] == world.remote_sha(branch)


def test_somebody_who_pushes_during_every_run_is_named_to_a_person_in_the_end(
    world: World,
) -> None:
    world.create(retry={"max_attempts": 2, "backoff_seconds": 0})
    gates = [{"steps": [["wait", name], ["work"]]} for name in ("one", "two")]
    world.script("default", WORK, *gates, WORK)
    task = world.add("Outrun")
    world.tick_until_in("done", task)
    branch = world.task(task)["work_branch"]
    world.ok("task", "move", task, "incoming")
    for starts, gate in ((2, "one"), (3, "two")):
        world.tick_until(lambda n=starts: len(world.starts(task)) == n, gate)
        theirs = person(world, branch)
        world.open(gate)
    world.tick_until_in("blocked", task)
    [item] = world.json("inbox")
    assert (item["id"], item["kind"]) == (task, "question")
    assert f"{theirs[:12]} (fix-up of a person, by A Person)" in item["text"]
    assert "number of such runs: 2" in item["text"]
    assert world.task(task)["attempts"] == 0
    world.ok("inbox", "answer", task, "I am done with my fix-ups.")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 4
    assert contains(world, theirs, branch)


@pytest.mark.parametrize("later", [[], [["work"]]], ids=["nothing more", "one more commit"])
def test_work_on_a_branch_that_a_person_deleted_during_the_run_is_delivered_whole_or_refused(
    world: World, later: list[Any]
) -> None:
    """A commit after the deletion has no parent: git could merge it with nothing."""
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("default", {"steps": [["work"], ["wait", "go"], *later]})
    task = world.add("Deleted meanwhile")
    world.tick_until(lambda: world.starts(task), "the run")
    branch = world.task(task)["work_branch"]
    made = wait_until(lambda: (at := world.sha(branch)) != world.sha("main") and at, "a commit")
    world.git("update-ref", "-d", f"refs/heads/{branch}")
    world.open("go")
    if not later:
        world.tick_until_in("done", task)
        assert world.remote_sha(branch) == made
        return
    world.tick_until_in("failed", task)
    error = world.task(task)["history"][-1]["error"]
    assert error.startswith(f"push_rejected: {branch} has no commit in common with main: ")
    [(ref, kept)] = rescued(world).items()
    assert kept == made
    assert f"kept under {ref}" in error
    assert world.prs() == []


def test_a_branch_that_a_person_rebased_is_taken_up(world: World, forge: str) -> None:
    world.script("default", WORK)
    task = world.add("Rebased by hand")
    world.tick_until_in("done", task)
    branch = world.task(task)["work_branch"]
    ours = world.sha(branch)
    theirs = person(world, branch, ("rebase", "-q", "--signoff", "origin/main"))
    assert not contains(world, ours, branch)
    again(world, task)
    assert world.task(task)["attempts"] == 0
    assert contains(world, theirs, branch)
    assert ours in rescued(world).values()
    assert "that are not among them are kept" in world.seen(task)["instructions"]


def test_more_work_after_a_squash_merge_starts_from_the_base(world: World, forge: str) -> None:
    world.configure(forge=forge, review={"merge_method": "squash"})
    changes = [[["write", "app.py", text], ["commit", "change"]] for text in ("1\n", "2\n")]
    world.script("default", *({"steps": steps} for steps in changes))
    task = world.add("Twice")
    world.tick_until_in("done", task)
    world.ok("pr", "merge", world.prs()[0]["id"])
    person(world, "main", ("rm", "-q", "app.py"), ("commit", "-q", "-m", "goes on"))
    again(world, task)
    assert world.starts(task)[-1]["head"] == world.remote_sha("main")
    assert world.task(task)["attempts"] == 0
    [pr] = [each for each in world.prs() if each["state"] == "open"]
    world.ok("pr", "merge", pr["id"])
    assert world.git("show", "main:app.py", cwd=world.remote) == "2"


def test_an_agent_that_drops_commits_of_others_is_charged_and_told(world: World) -> None:
    world.create()
    drop = {"steps": [["git", "reset", "-q", "--hard", "origin/main"], ["work"]]}
    world.script("default", WORK, WORK, drop, WORK)
    task = world.add("Drops the fix-up")
    world.tick_until_in("done", task)
    branch = world.task(task)["work_branch"]
    theirs = person(world, branch)
    again(world, task)  # the branch now ends with a commit of the product's, on top of theirs
    again(world, task, "a run that drops the fix-up, and the run after it")
    shown = world.task(task)
    errors = [entry["error"] for entry in shown["history"] if entry.get("error")]
    assert len(errors) == 1
    assert errors[0].startswith("push_rejected: ")
    assert shown["attempts"] == 1
    assert contains(world, theirs, branch)


def test_the_branch_of_an_agent_that_renamed_it_is_delivered(world: World) -> None:
    world.create()
    world.script("default", {"steps": [["git", "branch", "-m", "feat/own"], ["work"]]})
    task = world.add("Renamed")
    world.tick_until_in("done", task)
    shown = world.task(task)
    assert shown["attempts"] == 0
    assert world.remote_sha(shown["work_branch"]) == world.commits_about(task)[0]


# --- refusals that every task would get -----------------------------------------------------------


def test_a_naming_rule_is_one_problem_and_ends_with_branch_prefix(world: World, forge: str) -> None:
    rule = "case $1 in refs/heads/feature/*) ;; *) echo 'Name it feature/...' >&2; exit 1;; esac"
    hook(world, rule)
    tasks = [world.add(f"Task {number}") for number in range(3)]
    found = world.tick_until(lambda: problem(world, "remote_refuses"), "the problem")
    assert "Name it feature/" in found["message"]
    assert "branch_prefix" in found["hint"]
    for _ in range(3):
        world.ok("tick")
    assert world.where(tasks[1]) == ["incoming"]
    assert len(world.starts()) == 1, "nobody pays for work that cannot be delivered"
    assert [p["code"] for p in world.status()["problems"]].count("remote_refuses") == 1
    world.configure(forge=forge, branch_prefix="feature/")
    world.tick_until_in("done", *tasks)
    assert len(world.starts()) == 3, "finished work was done again"
    assert [world.task(task)["attempts"] for task in tasks] == [0, 0, 0]
    assert {pr["branch"].partition("/")[0] for pr in world.prs()} == {"feature"}
    assert world.git("branch", "--list", "agent/*") == ""
    assert problem(world, "remote_refuses") is None


@pytest.mark.parametrize("how", ["another remote", "insteadOf"])
@pytest.mark.parametrize("way_out", ["push", "close"])
def test_a_changed_address_of_the_remote_closes_no_pull_request(
    world: World, how: str, way_out: str
) -> None:
    """The new place has the base only: nobody closed what was never there."""
    world.create()
    task = world.add("Open during the move")
    world.tick_until_in("done", task)
    world.quiet()
    world.ok("tick")
    moved = world.folder / "moved.git"
    world.git("init", "-q", "--bare", "-b", "main", str(moved))
    world.git("push", "-q", str(moved), "main")
    if how == "insteadOf":
        world.git("config", f"url.{moved}.insteadOf", str(world.remote))
    else:
        world.git("remote", "remove", "origin")
        world.git("remote", "add", "origin", str(moved))
    shown = world.tick_until(lambda: problem(world, "remote_moved"), "the problem")
    [pr] = world.prs()
    assert pr["state"] == "open"
    assert world.where(task) == ["done"]
    push = f"git push origin {pr['branch']}"
    assert shown["hint"].startswith(f"{push}; ")
    if way_out == "close":
        world.ok("pr", "close", pr["id"])
    else:
        world.git(*push.split()[1:])
    world.tick_until(lambda: problem(world, "remote_moved") is None, "its end")
    assert world.prs()[0]["state"] == ("open" if way_out == "push" else "closed")
    if way_out == "push":
        world.git("push", "-q", "origin", "--delete", pr["branch"])
        world.tick_until(lambda: world.prs()[0]["state"] == "closed", "a branch that is deleted")


def test_a_protected_branch_is_a_fault_and_not_the_works(world: World) -> None:
    world.create()
    world.script("default", WORK)
    task = world.add("Protected later")
    world.tick_until_in("done", task)
    hook(world, "echo 'GH006: Protected branch update failed' >&2; exit 1")
    world.ok("task", "move", task, "incoming")
    found = world.tick_until(lambda: problem(world, "remote_refuses"), "the problem")
    assert "GH006" in found["message"]
    (world.remote / "hooks" / "update").unlink()
    world.tick_until_in("done", task)
    assert world.task(task)["attempts"] == 0
    assert len(world.starts(task)) == 2


#: Hooks that refuse every task: all pushes, or all updates of branches that exist.
_REFUSE_ALL = {
    "every push": "echo 'No pushes today' >&2; exit 1",
    "every update": "case $2 in 0000*) ;; *) echo 'No pushes today' >&2; exit 1;; esac",
}


@pytest.mark.parametrize("what", _REFUSE_ALL)
def test_a_hook_that_refuses_whatever_is_pushed_to_a_branch_of_the_remote_is_a_fault(
    world: World, what: str
) -> None:
    world.create()
    world.script("default", WORK)
    task = world.add("Refused later")
    world.tick_until_in("done", task)
    hook(world, _REFUSE_ALL[what])
    world.ok("task", "move", task, "incoming")
    found = world.tick_until(lambda: problem(world, "remote_refuses"), "the problem")
    assert "No pushes today" in found["message"]
    (world.remote / "hooks" / "update").unlink()
    world.tick_until_in("done", task)
    assert world.task(task)["attempts"] == 0
    assert world.remote_sha(world.task(task)["work_branch"]) == world.commits_about(task)[0]


def test_a_refused_name_of_one_branch_asks_about_its_task_only(world: World) -> None:
    world.create()
    hook(world, "case $1 in *bad-name*) echo 'Not this name' >&2; exit 1;; esac")
    bad, good = world.add("Bad name"), world.add("Good name")
    world.tick_until_in("blocked", bad)
    world.tick_until_in("done", good)
    [item] = [each for each in world.json("inbox") if each["kind"] == "question"]
    assert item["task"] == bad
    assert "Not this name" in item["text"]
    assert f"orchestrator task set {bad} title=" in item["text"]
    assert (world.task(bad)["attempts"], world.status()["problems"]) == (0, [])
    refused = world.task(bad)["work_branch"]
    world.ok("task", "set", bad, "title=Another name")
    world.ok("inbox", "answer", bad, "It has another name now")
    world.tick_until_in("done", bad)
    shown = world.task(bad)
    assert shown["work_branch"] == f"agent/{bad}-another-name"
    # The commits that were made under the refused name are delivered, too.
    assert len(world.commits_about(bad)) == 2
    assert world.remote_sha(shown["work_branch"]) in world.commits_about(bad)
    behind = world.git("rev-list", "--count", f"main..origin/{shown['work_branch']}")
    assert behind == "2"
    assert world.git("branch", "--list", refused) == ""
    assert "push-test" not in world.git("ls-remote", "origin")


def test_a_refusal_of_more_commits_on_a_branch_of_the_remote_is_the_works(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("default", WORK)
    task = world.add("Bad later")
    world.tick_until_in("done", task)
    # The first commit of the task is there; what is new is refused.
    hook(world, '! git log --format=%s "$3" --not --all | grep -q . || { echo BAD >&2; exit 1; }')
    world.ok("task", "move", task, "incoming")
    world.tick_until_in("failed", task)
    shown = world.task(task)
    assert "BAD" in shown["history"][-1]["error"]
    assert (shown["attempts"], shown["reason"]) == (1, "push_rejected")
    assert "push-test" not in world.git("ls-remote", "origin"), "the branch of the trial stayed"


def test_a_refusal_that_ended_before_it_was_judged_delivers_the_work(world: World) -> None:
    world.create()
    once = world.remote / "refused"
    # Git says it twice (a hook whose program was killed): the third push gets through.
    hook(world, f'echo x >>{once}; [ "$(wc -l <{once})" -gt 2 ] || {{ echo Later >&2; exit 1; }}')
    task = world.add("Refused at first")
    world.tick_until_in("done", task)
    assert world.task(task)["attempts"] == 0
    assert world.remote_sha(world.task(task)["work_branch"]) == world.commits_about(task)[0]


def test_a_refusal_of_these_commits_is_the_works(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    hook(world, '! git log --format=%s "$3" | grep -q "^work on" || { echo BAD >&2; exit 1; }')
    task = world.add("Bad commit")
    world.tick_until_in("failed", task)
    shown = world.task(task)
    assert "BAD" in shown["history"][-1]["error"]
    assert shown["reason"] == "push_rejected"
    assert world.status()["problems"] == []
    (world.remote / "hooks" / "update").unlink()
    world.ok("task", "retry", task)
    world.tick_until_in("done", task)
    assert world.remote_sha(shown["work_branch"]) == world.sha(shown["work_branch"])


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_branch_in_the_way_is_one_problem_with_the_way_out(world: World, where: str) -> None:
    world.create()
    if where == "here":
        world.git("branch", "agent")
    else:
        world.git("push", "-q", "origin", "main:refs/heads/agent")
    task = world.add("In the way")
    found = world.tick_until(lambda: problem(world, "branch_in_the_way"), "the problem")
    assert "'agent'" in found["message"]
    assert "branch_prefix" in found["hint"]
    assert world.starts() == [], "nobody pays for a branch that cannot exist"
    if where == "here":
        assert "branch_in_the_way" in world.run("doctor").out
    world.configure(branch_prefix="bots/")
    world.tick_until_in("done", task)
    shown = world.task(task)
    assert shown["work_branch"].startswith("bots/")
    assert shown["attempts"] == 0
    world.tick_until(lambda: not world.status()["problems"], "the end of the problem")


def test_a_renamed_base_branch_is_one_problem_that_names_the_new_one(
    world: World, forge: str
) -> None:
    world.git("branch", "-m", "main", "trunk", cwd=world.remote)
    world.git("symbolic-ref", "HEAD", "refs/heads/trunk", cwd=world.remote)
    task = world.add("On the base")
    found = world.tick_until(lambda: problem(world, "base_gone"), "the problem")
    assert "'main'" in found["message"]
    assert "orchestrator init --base trunk" in found["hint"]
    doctor = world.run("doctor").out
    assert "base_gone" in doctor
    assert "trunk" in doctor
    assert world.starts() == []
    assert world.remote_sha("main") == "", "the product created the old base"
    assert world.task(task)["attempts"] == 0
    world.git("branch", "-m", "trunk", "main", cwd=world.remote)
    world.tick_until_in("done", task)


def rename_base(world: World) -> None:
    world.git("branch", "-m", "main", "trunk", cwd=world.remote)
    world.git("symbolic-ref", "HEAD", "refs/heads/trunk", cwd=world.remote)


def test_an_approved_pull_request_lands_nowhere_while_the_base_branch_is_gone(
    world: World,
) -> None:
    world.create(review={"after": [], "auto_merge": True})
    task = world.add("Approved")
    world.tick_until_in("done", task)
    world.quiet()
    rename_base(world)
    [pr] = world.prs()
    world.ok("pr", "approve", pr["id"])
    found = world.tick_until(lambda: problem(world, "base_gone"), "the problem")
    assert "orchestrator init --base trunk" in found["hint"]
    assert (world.prs()[0]["state"], world.remote_sha("main")) == ("open", "")
    world.ok("init", "--base", "trunk")
    world.tick_until(lambda: world.prs()[0]["state"] == "merged", "the landing")
    assert world.git("show", f"trunk:{task}.txt", cwd=world.remote)
    assert world.remote_sha("main") == ""
    world.tick_until(lambda: problem(world, "base_gone") is None, "the end of the problem")


def test_failure_32_a_renamed_base_branch_is_followed_with_tasks_and_pull_requests(
    world: World, forge: str
) -> None:
    """One pull request is open, one run is at work, and one task waits when it is renamed."""
    world.configure(forge=forge, review={"after": []})
    delivered = world.add("Delivered before")
    world.tick_until_in("done", delivered)
    world.quiet()
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    at_work = world.add("At work")
    world.tick_until(lambda: world.running(at_work), "the run")
    rename_base(world)
    waiting = world.add("Waits")
    config = world.home_folder / "agents.yaml"
    before = config.read_text(), world.text(waiting)
    found = world.json("init", "--base", "trunk", "--dry-run")
    assert found["base"] == {"from": "main", "to": "trunk"}
    assert set(found["tasks"]) == {delivered, at_work, waiting}
    assert found["pull_requests"] == [pr["id"] for pr in world.prs()]
    assert found["branches"] == [world.task(at_work)["work_branch"]]
    assert found["undo"] is None, "main is gone"
    assert (config.read_text(), world.text(waiting)) == before
    wrong = world.refused("init", "--base", "trunc", "--json")
    assert wrong.json["error"]["code"] == "no_branch"
    assert "orchestrator init --base trunk" in wrong.json["error"]["hint"]
    done = world.ok("init", "--base", "trunk")
    assert "is now trunk (was main)" in done.out
    assert world.json("init", "--base", "trunk")["tasks"] == []
    world.open("go")
    for task in (at_work, waiting):
        world.tick_until_in("done", task)
    world.quiet()
    assert [pr["base"] for pr in world.prs()] == ["trunk"] * 3
    assert [world.task(task)["attempts"] for task in (at_work, waiting)] == [0, 0]
    for pr in world.prs():
        world.ok("pr", "merge", pr["id"])
    landed = world.git("log", "--format=%s", "--no-merges", "trunk", cwd=world.remote)
    assert len(landed.splitlines()) == 4
    assert world.remote_sha("main") == "", "the product created the old base"
    assert problem(world, "base_gone") is None


def test_a_base_branch_that_moves_back_is_followed_back(world: World) -> None:
    world.create()
    world.git("branch", "trunk")
    world.git("push", "-q", "origin", "trunk")
    task = world.add("Waits")
    before = world.text(task)
    assert world.json("init", "--base", "trunk")["undo"] == "orchestrator init --base main"
    assert "BRANCH: trunk" in world.text(task)
    world.ok("init", "--base", "main")
    assert world.text(task) == before
    world.refused("init", "--dry-run", code=2)


def test_a_base_branch_that_is_gone_here_is_no_failure_of_a_task(world: World) -> None:
    world.create(remote=False)
    task = world.add("On the base")
    world.git("branch", "-m", "main", "trunk")
    found = world.tick_until(lambda: problem(world, "base_gone"), "the problem")
    assert "orchestrator init --base trunk" in found["hint"]
    assert world.task(task)["attempts"] == 0
    assert world.sha("refs/heads/main") == ""
    world.ok("init", "--base", "trunk")
    world.tick_until_in("done", task)
    assert [pr["base"] for pr in world.prs()] == ["trunk"]


def test_following_a_renamed_base_branch_in_git_is_enough(world: World) -> None:
    world.create(base_branch=None)
    world.git("branch", "-m", "main", "trunk", cwd=world.remote)
    world.git("symbolic-ref", "HEAD", "refs/heads/trunk", cwd=world.remote)
    task = world.add("On the default branch", "implement", "--priority", "P1")
    world.tick_until(lambda: problem(world, "base_gone"), "the problem")
    world.git("fetch", "-q", "origin")
    world.git("remote", "set-head", "origin", "-a")
    world.tick_until_in("done", task)
    assert [pr["base"] for pr in world.prs()] == ["trunk"]


def test_without_any_base_branch_the_setting_is_named(world: World) -> None:
    """`init` met an unfinished rebase, and the remote's HEAD is not known here."""
    world.create(init=False)
    world.git("remote", "set-head", "origin", "-d")
    world.git("checkout", "-q", "--detach")
    world.ok("init", "--schedule", "none", "--no-commands", "--start")
    world.configure(base_branch=None)
    world.drop("nowhere.md", "# Nowhere to start from\n\nROLE: implement\n")
    world.tick_until(lambda: world.status()["problems"], "the problem")
    [problem] = world.status()["problems"]
    assert "no base branch is known" in problem["message"]
    assert problem["hint"] == "set base_branch in .orchestrator/agents.yaml"


def test_a_base_branch_that_only_one_task_names_and_nobody_has_is_asked_about(
    world: World,
) -> None:
    world.create()
    lost = world.drop("T1.md", "# [T1] Nowhere\n\nROLE: implement\nBRANCH: origin/main\n").stem
    good = world.add("On main")
    world.tick_until_in("blocked", lost)
    world.tick_until_in("done", good)
    assert world.status()["problems"] == []
    assert world.task(lost)["attempts"] == 0
    [item] = [item for item in world.json("inbox") if item["task"] == lost]
    assert "orchestrator task set T1 branch=main" in item["text"]
    world.ok("task", "set", lost, "branch=main")
    world.ok("inbox", "answer", lost, "it is main")
    world.tick_until_in("done", lost)


# --- where branches are pushed --------------------------------------------------------------------


def fork(world: World) -> Path:
    other = world.folder / "fork.git"
    world.git("init", "-q", "--bare", "-b", "main", str(other), cwd=world.folder)
    return other


def remote_branches(world: World, where: Path) -> list[str]:
    return world.git("for-each-ref", "--format=%(refname:short)", "refs/heads", cwd=where).split()


@pytest.mark.parametrize("how", ["push_remote", "pushurl"])
def test_branches_are_pushed_where_the_configuration_says(world: World, how: str) -> None:
    world.create()
    other = fork(world)
    if how == "push_remote":
        world.git("remote", "add", "mine", str(other))
        world.configure(push_remote="mine")
    else:
        world.git("config", "remote.origin.pushurl", str(other))
    world.script("default", WORK)
    task = world.add("Pushed elsewhere")
    world.tick_until_in("done", task)
    branch = world.task(task)["work_branch"]
    assert remote_branches(world, other) == [branch]
    assert remote_branches(world, world.remote) == ["main"]
    world.script("default", {"steps": [["git", "commit", "-q", "--amend", "-m", "amended"]]})
    again(world, task)
    assert world.sha(f"refs/heads/{branch}", cwd=other) == world.sha(branch)
    assert world.task(task)["attempts"] == 0


def test_a_push_remote_that_does_not_exist_is_said_before_anybody_is_paid(world: World) -> None:
    world.create(push_remote="mine")
    task = world.add("Nowhere to push")
    found = world.tick_until(lambda: problem(world, "open_prs_unknown"), "the problem")
    assert "push_remote is 'mine'" in found["message"]
    assert found["hint"] == "git remote add mine URL"
    assert world.starts() == []
    world.git("remote", "add", "mine", str(world.remote))
    world.tick_until_in("done", task)


@pytest.mark.parametrize(
    "how",
    [
        "remote remove origin",
        "remote rename origin mine",
        "remote set-url origin ELSEWHERE",
        "config remote.origin.pushurl ELSEWHERE",
        "config url.ELSEWHERE.insteadOf REMOTE",
    ],
)
def test_an_agent_does_not_decide_where_work_is_sent(world: World, how: str) -> None:
    """Without a remote, work would be delivered in this repository."""
    world.create()
    other = fork(world)
    world.git("push", "-q", str(other), "main")
    first, second = world.add("First"), world.add("Second")
    world.script(first, WORK)
    words = how.replace("ELSEWHERE", str(other)).replace("REMOTE", str(world.remote)).split()
    world.script(second, {"steps": [["work"], ["git", *words]]})
    world.tick_until_in("done", first)

    def fault() -> str:
        return str((problem(world, "system_fault") or {"message": ""})["message"])

    world.tick_until(lambda: fault().startswith("remote_changed: "), "the fault")
    assert world.where(second) == ["incoming"]
    [pr] = world.prs()
    assert "your checkout changed: " in world.refused("pr", "merge", pr["id"]).err
    assert {world.git("log", "--format=%s", "main", cwd=at) for at in (world.root, other)} == {
        "first"
    }
    undo = problem(world, "checkout_changed")
    assert undo is not None
    subprocess.run(undo["hint"].partition("  #")[0], shell=True, check=True, env=world.environment)
    world.tick_until_in("done", second)
    assert len(world.starts(second)) == 1
    assert remote_branches(world, other) == ["main"]
    for task in (first, second):
        branch = world.task(task)["work_branch"]
        assert world.remote_sha(branch) == world.sha(branch)


@pytest.mark.parametrize("named", [{}, {"push_remote": "mine"}])
def test_a_mirror_is_said_before_anybody_is_paid(world: World, named: dict[str, str]) -> None:
    world.create(**named)
    remote = named.get("push_remote", "origin")
    if named:
        world.git("remote", "add", "mine", str(world.remote))
    world.git("config", f"remote.{remote}.mirror", "true")
    task = world.add("Nowhere to push")
    [told] = [x for x in world.json("doctor")["findings"] if x["code"] == "remote_is_mirror"]
    assert told["level"] == "fail"
    assert "remote_is_mirror" in world.ok("init").out + world.ok("init").err
    found = world.tick_until(lambda: problem(world, "open_prs_unknown"), "the problem")
    assert found["message"].startswith(f"remote_is_mirror: the remote '{remote}' is a mirror")
    assert world.starts() == []
    assert f"git config --unset remote.{remote}.mirror" in found["hint"]
    assert found["hint"] == told["hint"]
    # Another way to write false; a mirror that nothing is pushed to is none of our business.
    world.git("config", f"remote.{remote}.mirror", "off")
    if named:
        world.git("config", "remote.origin.mirror", "true")
    world.tick_until_in("done", task)


def test_a_persons_branch_with_the_name_of_a_tasks_branch_is_asked_about(world: World) -> None:
    world.create(remote=False, branch_prefix="re")
    theirs = world.git("commit-tree", "main^{tree}", "-p", "main", "-m", "of a person")
    world.git("branch", "release", theirs)
    world.drop("lease.md", "# 日本\n\nROLE: implement\n\nDo it.\n")
    world.tick_until_in("blocked", "lease")
    assert "The branch release exists" in world.json("inbox")[0]["text"]
    assert world.sha("release") == theirs
    assert world.starts() == []


def test_a_persons_branch_stays_when_the_task_of_its_name_is_over(world: World) -> None:
    world.create(remote=False, branch_prefix="feature/")
    world.git("branch", "feature/login", "main")
    world.drop("login.md", "# 日本\n\nROLE: implement\n\nDo it.\n")
    world.tick_until_in("blocked", "login")
    assert world.task("login")["work_branch"] == "feature/login"
    world.ok("task", "cancel", "login")
    assert [x for x in world.json("clean")["dropped"] if x["kind"] == "branch"] == []
    assert world.sha("feature/login") == world.sha("main")


def test_branches_of_people_with_the_prefix_are_not_the_products(world: World) -> None:
    world.create(branch_prefix="feature/", review={"after": []})
    world.git("branch", "feature/of-a-person", "main")
    world.script("default", {"steps": [], "report": {"outcome": "no_change", "summary": "-"}})
    task = world.add("Nothing to do")
    world.tick_until_in("done", task)
    world.configure(branch_prefix="other/")
    ours = world.starts(task)[0]["branch"]
    assert ours.startswith("feature/")
    wait_until(lambda: not world.status()["running"], "the run to be settled")
    dropped = world.json("clean")["dropped"]
    assert [item["name"] for item in dropped if item["kind"] == "branch"] == [ours]
    assert world.sha("feature/of-a-person")


# --- refusals of a pull request ----------------------------------------------------------------


def refuse(state: Path, refuses: dict[str, str]) -> None:
    """Let GitHub refuse new pull requests. No call of gh may write its state meanwhile."""
    with open(f"{state}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state.write_text(json.dumps({**json.loads(state.read_text()), "refuses": refuses}))


def test_a_refused_pull_request_is_this_works_failure_or_one_fault_for_all(world: World) -> None:
    world.create(forge="github", retry={"backoff_seconds": 0})
    state = world.on_github(refuses={"*": "Body contains a forbidden word"})
    # The second attempt delivers only after GitHub says something else.
    world.script("default", {"steps": [["work_once"]]}, {"steps": [["wait", "said"]]})
    task = world.add("Bad words")
    world.tick_until(lambda: world.task(task)["attempts"] == 1, "the failed attempt")
    assert "Body contains a forbidden word" in str(world.task(task)["history"])
    said = "Resource not accessible by personal access token"
    refuse(state, {"*": said})
    world.open("said")
    world.tick_until(lambda: world.status()["problems"], "the fault")
    [problem] = world.status()["problems"]
    assert problem["code"] == "remote_refuses"
    assert said in problem["message"]
    assert "right to open pull requests in owner/repo" in problem["hint"]
    assert world.task(task)["attempts"] == 1, "a fault counts as no attempt"
    refuse(state, {})
    world.tick_until_in("done", task)
    assert "pr_rejected" in world.seen(task, 1)["instructions"]
