"""Reference 7: what is delivered, in which steps, and when a task is done."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import time
from typing import Any

import harness
import pytest
from harness import World, is_alive, kill, wait_until

world = harness.world

REPORT_FAILED = {"outcome": "failed", "summary": "No."}


def hook(world: World, name: str, text: str) -> None:
    path = world.remote / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_failure_02_a_task_is_done_only_once_its_branch_is_pushed_and_its_pull_request_open(
    world: World,
) -> None:
    world.create()
    gate = world.fake / "gates" / "push"
    hook(
        world,
        "pre-receive",
        f"touch {world.folder}/pushing; while [ ! -e {gate} ]; do sleep 0.05; done",
    )
    task = world.add("Slow push")
    world.tick_until(lambda: (world.folder / "pushing").exists(), "the push")
    world.ok("tick")
    assert world.where(task) == ["claimed"]
    assert [pr for pr in world.prs() if pr["state"] == "open"] == []
    world.open("push")
    world.tick_until_in("done", task)
    [pr] = world.prs()
    assert pr["head"] == world.remote_sha(pr["branch"]) == world.sha(pr["branch"])
    shown = world.task(task)
    assert shown["pr"] is not None
    assert shown["work_branch"] == pr["branch"]


def test_a_crash_during_the_push_repeats_nothing(world: World) -> None:
    """The orphaned push goes on by itself; a second one beside it must do no harm."""
    world.create()
    gate, entered = world.fake / "gates" / "push", world.folder / "pushing"
    hook(world, "pre-receive", f"echo >> {entered}; while [ ! -e {gate} ]; do sleep 0.05; done")
    task = world.add("Crash while pushing")
    world.tick_until(entered.exists, "the push")
    kill(world.supervisor(task))
    world.ok("tick")
    # Time for a second push to be under way, if there is to be one.
    deadline = time.monotonic() + 3
    while len(entered.read_text().splitlines()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    world.open("push")
    world.tick_until_in("done", task)
    world.quiet()
    assert len(world.starts(task)) == 1, "the work was done again"
    [pr] = world.prs()
    assert pr["head"] == world.remote_sha(pr["branch"])
    assert len(world.commits_about(task)) == 1


def test_a_rejected_push_costs_an_attempt_and_ends_in_failed(world: World) -> None:
    world.create(retry={"max_attempts": 2, "backoff_seconds": 0})
    hook(
        world,
        "pre-receive",
        "while read -r old new ref; do\n"
        "git log -1 --format=%s $new | grep -q '^work on' || continue\n"
        "echo 'POLICY: no work on Sundays' >&2; exit 1; done",
    )
    world.script("default", {"steps": [["work_once"]]})
    task = world.add("Rejected")
    world.tick_until_in("failed", task)
    shown = world.task(task)
    assert shown["reason"].startswith("push_rejected")
    assert shown["attempts"] == 2
    assert world.prs() == []
    branch = world.starts(task)[0]["branch"]
    assert world.sha(branch), "the work is gone"
    (world.remote / "hooks" / "pre-receive").unlink()
    world.ok("task", "retry", task)
    world.tick_until_in("done", task)
    assert len(world.commits_about(task)) == 1


def test_a_push_that_the_remote_takes_but_does_not_show_delivers_nothing(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    hook(world, "post-receive", 'while read -r old new ref; do git update-ref -d "$ref"; done')
    task = world.add("Lost by the remote")
    world.tick_until_in("failed", task)
    assert world.task(task)["reason"].startswith("push_rejected")
    assert world.prs() == []
    assert len(world.commits_about(task)) == 1


def test_the_reason_of_a_rejected_push_leads_the_next_attempt(world: World) -> None:
    world.create()
    rule = 'case $(git log -1 --format=%s "$new") in "work on"*) echo POLICY >&2; exit 1;; esac'
    hook(world, "pre-receive", f"while read -r old new ref; do {rule}; done")
    better = {"steps": [["write", "better.txt"], ["commit", "better"]]}
    world.script("default", {"steps": [["work_once"]]}, better)
    task = world.add("Rejected once")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 2
    assert "push_rejected" in world.seen(task)["instructions"]


def test_work_that_contains_the_instructions_is_refused_and_the_agent_is_told(
    world: World,
) -> None:
    world.create()
    adds = ["call", "sh", "-c", "git add -f .agent-instructions.md; git commit -qm all"]
    removes = ["call", "sh", "-c", "git rm -q --cached .agent-instructions.md; git commit -qm rm"]
    world.script("default", {"steps": [["work_once"], adds]}, {"steps": [removes]})
    task = world.add("Adds too much")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 2
    assert "git rm -r --cached .agent-instructions.md" in world.seen(task)["instructions"]
    [pr] = world.prs()
    assert ".agent-instructions.md" not in world.git("ls-tree", "--name-only", pr["head"])


@pytest.mark.parametrize("path", [".agent-instructions.md", ".agent-instructions.md/x.txt"])
def test_committed_instructions_on_the_base_are_one_problem_that_names_them(
    world: World, path: str
) -> None:
    world.create()
    before = world.sha("HEAD")
    (world.root / path).parent.mkdir(exist_ok=True)
    (world.root / path).write_text("old\n")
    world.git("add", "-f", path)
    world.git("commit", "-qm", "by mistake")
    world.git("push", "-q")
    task = world.add("Waits")
    world.tick_until(lambda: world.status()["problems"])
    [problem] = world.status()["problems"]
    assert problem["code"] == "instructions_committed"
    assert "git rm -r --cached .agent-instructions.md" in problem["hint"]
    assert not list(world.home_folder.glob("agents/*/*set-aside*"))
    world.git("reset", "-q", "--hard", before)
    world.git("push", "-qf")
    world.tick_until_in("done", task)
    assert world.task(task)["attempts"] == 0


def test_checks_fail_then_pass_and_their_output_leads_the_next_attempt(world: World) -> None:
    check = "echo MARK-$((6*7)); echo to-stderr >&2; test -f fixed.txt"
    world.create(checks=["true", check])
    world.script(
        "default",
        {"steps": [["work"]]},
        {"steps": [["write", "fixed.txt"], ["commit", "fixed"]]},
    )
    task = world.add("Fails its checks first")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 2
    given = world.seen(task)["instructions"]
    assert "checks_failed" in given
    assert "MARK-42" in given
    [pr] = world.prs()
    log = world.git("log", "--format=%s", f"main..{pr['branch']}").splitlines()
    assert log == ["fixed", f"work on {task}"]
    assert "checks_failed" in str(world.task(task)["history"])


def test_checks_run_in_the_worktree_and_those_that_always_fail_end_in_failed(
    world: World,
) -> None:
    world.create(checks=['pwd > "$OUT"; exit 3'], retry={"max_attempts": 1, "backoff_seconds": 0})
    out = world.folder / "checked"
    world.environment["OUT"] = str(out)
    task = world.add("Never good enough")
    world.tick_until_in("failed", task)
    assert world.task(task)["reason"].startswith("checks_failed")
    assert out.read_text().strip().endswith("/impl-1/worktree")
    assert world.prs() == []
    assert world.remote_sha(world.starts(task)[0]["branch"]) == "" or world.commits_about(task)


def test_a_check_that_hangs_is_ended_with_what_it_started(world: World) -> None:
    pids = world.folder / "pids"
    world.create(
        checks=[f"sleep 90 & echo $! >> {pids}; echo $$ >> {pids}; wait"],
        check_timeout_seconds=1,
        retry={"max_attempts": 1, "backoff_seconds": 0},
    )
    task = world.add("Checked for ever")
    world.tick_until_in("failed", task)
    assert world.task(task)["reason"].startswith("checks_failed")
    for pid in pids.read_text().split():
        wait_until(lambda p=int(pid): not is_alive(p), f"the end of {pid}")


def test_without_a_remote_everything_works_on_local_branches(world: World) -> None:
    world.create(remote=False, agents=[World.agent("impl-1"), World.agent("rev-1", "reviewer")])
    task = world.add("No remote")
    world.tick_until_in("done", task)
    [pr] = world.prs()
    assert pr["head"] == world.sha(pr["branch"])
    assert pr["state"] == "open"
    world.tick_until(lambda: world.prs()[0]["verdict"] == "approved", "the review")
    assert world.sha("main") != pr["head"]
    assert world.json("pr", "merge", f"#{pr['id']}")["id"] == pr["id"]
    assert world.prs()[0]["state"] == "merged"
    assert (world.root / f"{task}.txt").exists(), "a merge by a person updates the clean checkout"
    assert world.git("status", "--porcelain", "--untracked-files=no") == ""


def test_commands_that_run_checks_say_so_first_on_a_terminal(world: World) -> None:
    world.create(remote=False, checks=["true"])
    task = world.add("Checked before it lands")
    world.tick_until_in("done", task)
    for words in (("doctor", "--checks"), ("pr", "merge", world.prs()[0]["id"])):
        code, out, said = on_terminal(world, *words)
        assert code == 0, said
        assert "`checks`" in said
        assert "..." in said
        assert said.replace("\r\n", "") not in out


def on_terminal(world: World, *words: str) -> tuple[int, str, str]:
    """Run a command whose errors are a terminal's; return its code, its output and its errors."""
    terminal, side = pty.openpty()
    argv = [*harness.PYTHON, str(world.product), *words]
    done = subprocess.run(
        argv, cwd=world.root, env=world.environment, stdout=subprocess.PIPE, stderr=side
    )
    os.close(side)
    said = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other side any more
        while part := os.read(terminal, 65_536):  # one read need not give all that was written
            said += part
    os.close(terminal)
    return done.returncode, done.stdout.decode(), said.decode()


_IMPATIENT = """
from orchestrator.git import remotes
from orchestrator.system import waits
remotes.ASK_TIMEOUT, waits.FIRST, waits.NEXT = 2.5, 0.5, 1.0
"""


def test_a_command_that_waits_for_a_remote_says_so_and_gives_up(world: World) -> None:
    """`pr merge` with a remote that never answers was silent for three minutes."""
    world.create()
    task = world.add("Delivered before the remote hangs")
    world.tick_until_in("done", task)
    pr = world.prs()[0]["id"]
    world.git("config", "remote.origin.uploadpack", "sleep 600 #")
    world.product = harness.shadow(world.folder / "shadow", _IMPATIENT)
    for words in (("pr", "merge", pr), ("init", "--base", "other")):
        code, out, said = on_terminal(world, *words)
        assert (code, out) == (1, "")
        waiting, refused = said.split("orchestrator: ")
        assert "waiting for git ls-remote origin, at most 2 s longer ..." in waiting
        assert "waiting for git ls-remote origin, at most 1 s longer ..." in waiting
        assert refused.startswith("the remote 'origin' cannot be reached: no answer within 2 s")
        assert "try: git ls-remote origin" in refused
    # Neither a script nor a pipe gets such lines.
    assert "waiting" not in world.refused("pr", "merge", pr).err


def test_without_a_remote_a_merge_is_refused_in_a_checkout_with_changes(world: World) -> None:
    world.create(remote=False)
    task = world.add("No remote")
    world.tick_until_in("done", task)
    (world.root / "app.py").write_text("changed by a person\n")
    main = world.sha("main")
    world.refused("pr", "merge", str(world.prs()[0]["id"]))
    assert world.sha("main") == main
    assert (world.root / "app.py").read_text() == "changed by a person\n"
    assert world.prs()[0]["state"] == "open"


def test_work_is_cut_from_the_tasks_own_base_branch_as_the_remote_has_it(world: World) -> None:
    world.create()
    world.git("push", "-q", "origin", "main:refs/heads/release")
    other = world.folder / "elsewhere"
    world.git("clone", "-q", "-b", "release", str(world.remote), str(other), cwd=world.folder)
    (other / "only-on-release.txt").write_text("x\n")
    world.git("add", "-A", cwd=other)
    world.git("commit", "-q", "-m", "release work", cwd=other)
    world.git("push", "-q", "origin", "release", cwd=other)
    tip = world.remote_sha("release")
    task = world.add("On the release", "implement", "--branch", "release")
    world.tick_until_in("done", task)
    [pr] = world.prs()
    assert pr["base"] == "release"
    assert world.starts(task)[0]["head"] == tip
    assert world.task(task)["branch"] == "release"


def test_a_branch_that_does_not_exist_fails_that_task_only(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.drop(
        "lost.md", "# [lost] Lost\n\nROLE: implement\nPRIORITY: P0\nBRANCH: no/such/branch\n\n"
    )
    task = world.add("Good")
    world.tick_until_in("done", task)
    assert world.where("lost") in (["failed"], ["incoming"], ["blocked"])
    known = [world.task("lost")["history"], world.status()["problems"], world.json("inbox")]
    assert "no/such/branch" in str(known)


def test_a_pull_request_merged_by_hand_is_merged_and_one_whose_branch_is_gone_is_closed(
    world: World,
) -> None:
    world.create()
    first, second = world.add("Merged by hand"), world.add("Branch deleted")
    world.tick_until_in("done", first, second)
    branches = {pr["task"]: pr["branch"] for pr in world.prs()}
    other = world.folder / "elsewhere"
    world.git("clone", "-q", str(world.remote), str(other), cwd=world.folder)
    world.git("merge", "-q", "--no-ff", "-m", "by hand", f"origin/{branches[first]}", cwd=other)
    world.git("push", "-q", "origin", "main", cwd=other)
    world.git("push", "-q", "origin", f":{branches[second]}", cwd=other)
    world.git("branch", "-D", branches[second], good=False)

    def states() -> dict[str, str]:
        return {pr["task"]: pr["state"] for pr in world.prs()}

    world.tick_until(lambda: states() == {first: "merged", second: "closed"}, "both seen")
    for _ in range(2):
        world.ok("tick")
    assert states() == {first: "merged", second: "closed"}
    assert len(world.prs()) == 2
    assert world.status()["open_prs"] == 0


# --- review ------------------------------------------------------------------------------------

CHANGES = {
    "report": {
        "outcome": "changes_requested",
        "summary": "Not yet.",
        "feedback": "The WIDGETMASTER leaks.",
    }
}
REVIEWED = [World.agent("impl-1"), World.agent("rev-1", "reviewer")]


def test_a_delivered_task_gets_a_review_whose_verdict_is_on_its_pull_request(world: World) -> None:
    world.create(agents=REVIEWED)
    task = world.add("Reviewed")
    world.tick_until(lambda: [pr["verdict"] for pr in world.prs()] == ["approved"], "a verdict")
    [pr] = world.prs()
    assert pr["state"] == "open", "auto_merge is false"
    reviews = [t for t in world.json("task", "list") if t["role"] == "review"]
    assert len(reviews) == 1
    world.tick_until(lambda: world.task(reviews[0]["id"])["state"] == "done")
    [start] = world.starts(reviews[0]["id"])
    assert start["branch"] != pr["branch"] or start["agent"] == "rev-1"
    assert task in world.seen(reviews[0]["id"])["instructions"]
    for _ in range(2):
        world.ok("tick")
    assert len([t for t in world.json("task", "list") if t["role"] == "review"]) == 1


def test_failure_12_changes_requested_moves_the_original_back_with_the_feedback_first(
    world: World,
) -> None:
    world.create(agents=REVIEWED)
    world.script("rev-1", CHANGES)
    body = world.folder / "body.md"
    body.write_text("## Context\nBODYTEXT\n")
    task = world.add("Reworked", "implement", "--body-file", str(body))
    world.script(task, {}, {"steps": [["wait", "rework"], ["work"]]})
    world.tick_until(lambda: len(world.starts(task)) == 2, "the rework")
    world.script("rev-1", {})
    given = world.seen(task)["instructions"]
    world.open("rework")
    assert given.index("WIDGETMASTER") < given.index("BODYTEXT")
    world.tick_until(
        lambda: world.where(task) == ["done"] and world.prs()[0]["verdict"] == "approved"
    )
    first, second = world.starts(task)
    assert first["branch"] == second["branch"]
    [pr] = world.prs()
    assert pr["task"] == task
    assert pr["head"] == world.remote_sha(pr["branch"])
    assert len(world.commits_about(task)) == 2
    assert "WIDGETMASTER" in str(world.task(task)["history"])


def test_after_max_rounds_a_person_is_asked_once(world: World) -> None:
    world.create(agents=REVIEWED, review={"after": ["implement"], "max_rounds": 1})
    world.script("rev-1", CHANGES)
    task = world.add("Never good enough")
    items = world.tick_until(lambda: world.json("inbox"), "an inbox item")
    for _ in range(3):
        world.ok("tick")
    world.quiet()
    items = [item for item in world.json("inbox") if item["task"] == task]
    assert len(items) == 1
    assert items[0]["kind"] in ("escalation", "approval")
    assert len(world.starts(task)) == 1
    assert [pr["state"] for pr in world.prs()] == ["open"]


def test_auto_merge_merges_the_reviewed_commit(world: World) -> None:
    world.create(agents=REVIEWED, review={"after": ["implement"], "auto_merge": True})
    human = world.sha("main")
    tasks = [world.add(f"Merged {n}") for n in range(2)]
    world.tick_until(
        lambda: sorted(pr["state"] for pr in world.prs()) == ["merged", "merged"], "both merged"
    )
    for pr in world.prs():
        assert world.git("branch", "--contains", pr["head"], cwd=world.remote).find("main") >= 0
    for task in tasks:
        assert world.git("show", f"main:{task}.txt", cwd=world.remote)
    assert world.sha("main") == human, "the human's branch was moved"


def test_approved_work_that_cannot_be_merged_is_a_problem_until_it_can(world: World) -> None:
    world.create(agents=REVIEWED, review={"after": ["implement"], "auto_merge": True})
    hook = world.remote / "hooks" / "update"
    hook.write_text('#!/bin/sh\ntest "$1" != refs/heads/main || { echo closed today; exit 1; }\n')
    hook.chmod(0o755)
    world.add("Wait for it")

    def told() -> list[dict[str, Any]]:
        return [each for each in world.status()["problems"] if each["code"] == "merge_refused"]

    world.tick_until(told, "the refused merge to be told")
    [problem] = told()
    assert problem["message"].startswith("could not merge 1: the remote refused the merge")
    assert "closed today" in problem["message"]
    assert problem["hint"]
    hook.unlink()
    world.tick_until(lambda: [pr["state"] for pr in world.prs()] == ["merged"], "the merge")
    world.quiet()
    world.ok("tick")
    assert world.status()["problems"] == []


def test_failure_11_two_branches_that_fail_together_are_not_both_merged(world: World) -> None:
    """Failures 11: landing checks the merged result, one at a time."""
    world.create(
        agents=REVIEWED,
        review={"after": ["implement"], "auto_merge": True},
        checks=["! { test -f one.txt && test -f two.txt; }"],
        retry={"max_attempts": 1, "backoff_seconds": 0},
    )
    for name in ("one", "two"):
        world.drop(f"{name}.md", f"# [{name}] Task {name}\n\nROLE: implement\n\n")
        world.script(name, {"steps": [["write", f"{name}.txt"], ["commit", name]]})
    world.tick_until(lambda: "merged" in [pr["state"] for pr in world.prs()], "the first merge")
    for _ in range(4):
        world.quiet()
        world.ok("tick")
    names = world.git("ls-tree", "--name-only", "main", cwd=world.remote).split()
    assert len({"one.txt", "two.txt"} & set(names)) == 1


def test_failure_07_a_conflict_at_landing_goes_back_to_its_author_with_the_branch_intact(
    world: World,
) -> None:
    world.create(agents=REVIEWED, review={"after": ["implement"], "auto_merge": True})
    for name in ("left", "right"):
        world.drop(f"{name}.md", f"# [{name}] Task {name}\n\nROLE: implement\n\n")
        world.script(name, {"steps": [["write", "same.txt", f"{name}\n"], ["commit", name]]})
    world.script(
        "right",
        {"steps": [["write", "same.txt", "right\n"], ["wait", "right"], ["commit", "right"]]},
        {
            "steps": [
                ["git", "fetch", "-q", "origin"],
                ["git", "merge", "-q", "-X", "ours", "-m", "resolved", "origin/main"],
            ]
        },
    )
    world.tick_until(lambda: [pr["state"] for pr in world.prs()] == ["merged"], "left to land")
    world.open("right")
    world.tick_until(lambda: len(world.starts("right")) == 2, "right to be sent back")
    assert "conflict" in world.seen("right")["instructions"].lower()
    world.tick_until(
        lambda: [pr["state"] for pr in world.prs()] == ["merged", "merged"], "both to land"
    )
    assert world.git("show", "main:same.txt", cwd=world.remote) == "right"


# --- questions ---------------------------------------------------------------------------------


def test_a_question_parks_the_task_until_it_is_answered(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    asks = {
        "steps": [["write", "half.txt"], ["commit", "half"]],
        "report": {"outcome": "needs_human", "summary": "Unsure.", "question": "Tabs or spaces?"},
    }
    world.script("default", asks, {"steps": [["work"]]})
    task = world.add("Unclear")
    world.tick_until_in("blocked", task)
    world.ok("tick")
    world.quiet()
    [item] = world.json("inbox")
    assert item["kind"] == "question"
    assert item["task"] == task
    assert "Tabs or spaces?" in item["text"]
    assert world.status()["blocked"]
    assert len(world.starts(task)) == 1
    world.ok("inbox", "answer", item["id"], "Spaces, says GRANDMOTHER.")
    assert world.json("inbox") == []
    assert world.where(task) == ["incoming"]
    world.tick_until_in("done", task)
    given = world.seen(task)
    assert "GRANDMOTHER" in given["instructions"] + given["prompt"]
    log = world.git("log", "--format=%s", f"main..{world.prs()[0]['branch']}").splitlines()
    assert log == [f"work on {task}", "half"]


@pytest.mark.parametrize("word", ["approve", "dismiss", "answer"])
def test_an_unknown_inbox_item_is_refused(world: World, word: str) -> None:
    world.create()
    world.refused("inbox", word, "no-such-item", *(["text"] if word == "answer" else []))


# --- runs without a task -----------------------------------------------------------------------


def test_a_product_manager_run_has_no_branch_and_its_done_means_no_change(world: World) -> None:
    world.create(agents=[World.agent("pm-1", "product_manager", interval_seconds=86400)])
    world.tick_until(lambda: world.ledger("end"), "its run")
    world.tick_until(lambda: world.status()["agents"][0]["last_outcome"], "its settling")
    [start] = world.starts()
    assert start["branch"] == ""
    assert start["task"] is None
    assert world.status()["agents"][0]["last_outcome"] == "no_change"
    assert world.prs() == []
    assert world.git("for-each-ref", "refs/heads/agent") == ""


def test_failures_in_a_row_pause_a_taskless_agent_with_one_inbox_item(world: World) -> None:
    world.create(
        agents=[World.agent("pm-1", "product_manager")],
        retry={"max_attempts": 2, "backoff_seconds": 0},
    )
    world.script("default", {"report": REPORT_FAILED})
    items = world.tick_until(lambda: world.json("inbox"), "an inbox item")
    for _ in range(3):
        world.ok("tick")
    world.quiet()
    assert len(world.starts()) == 2
    items = world.json("inbox")
    assert len(items) == 1
    [agent] = world.status()["agents"]
    assert agent["reason"] == "paused"
    world.script("default", {})
    world.ok("agent", "resume", "pm-1")
    world.tick_until(lambda: len(world.ledger("end")) >= 3, "it to run again")


def test_commits_that_change_no_file_wait_for_a_review_like_others(world: World) -> None:
    world.create()
    empty = ["git", "commit", "--quiet", "--allow-empty", "--message", "nothing"]
    world.script("default", {"steps": [empty]})
    task = world.add("Change nothing")
    world.tick_until_in("done", task)
    world.ok("tick")
    assert [pr["state"] for pr in world.prs()] == ["open"]


def test_what_a_person_closes_during_its_rework_is_cancelled_and_not_opened_again(
    world: World,
) -> None:
    world.create()
    task = world.add("Close it")
    world.script(task, {"steps": [["work"]]}, {"steps": [["wait", "go"], ["work"]]})
    world.tick_until_in("done", task)
    world.ok("pr", "request-changes", "1", "Not like this.")
    world.tick_until(lambda: len(world.starts(task)) == 2, "the rework to run")
    world.ok("pr", "close", "1")
    world.open("go")
    world.tick_until_in("failed", task)
    assert world.task(task)["reason"] == "cancelled"
    assert [pr["state"] for pr in world.prs()] == ["closed"]
    assert len(world.commits_about(task)) == 2, "the work is kept on its branch"
