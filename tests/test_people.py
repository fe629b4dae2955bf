"""A person's own word on pull requests: the commands, the inbox, and what agents are told of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commits
import pytest
from conftest import AGENTS_YAML, git

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.config import Config, Notify
from orchestrator.model.snapshot import Problem
from orchestrator.model.times import iso
from orchestrator.model.work import Entry, Given, PullRequest
from orchestrator.plan import dependencies
from orchestrator.pulls import review, rework, states, verdicts
from orchestrator.pulls.local import Local
from orchestrator.run import rounds
from orchestrator.tasks import history
from orchestrator.tasks.file_store import FileStore
from orchestrator.tick import notify
from orchestrator.tick.inbox import Item

Cli = Callable[..., Any]
AT = "2026-01-0{}T00:00:00Z"


def event(day: int, word: str, **fields: object) -> Any:
    return Entry(AT.format(day), word, fields)


def work(root: Path, branch: str, name: str, text: str, base: str = "main") -> str:
    """Commit a file on a branch as an agent does; return the commit. The checkout stays."""
    ref = f"refs/heads/{branch}"
    return commits.commit(root, ref, {name: text}, base=base, message=f"Work: {name}")


def deliver(layout: Layout, cli: Cli, name: str = "a.txt", *, verdict: str | None = None) -> Any:
    """A task with its pull request, delivered; return both. The reviewer gave the verdict."""
    task_id = cli("task", "add", "--title", f"Write {name}", "--role", "implement").out.strip()
    branch, root = f"agent/{task_id}-x", Path(layout.root)
    head = work(root, branch, name, "new\n")
    wanted = PullRequest("", task_id, branch, "main", head, f"Write {name}", "open")
    pr = Local(layout, Config()).open(wanted, "What it does.\n")
    store = FileStore(layout)
    fields = {"run": "R1", "pr": pr.id, "head": head, "summary": "I wrote it."}
    task = store.move(store.find(task_id), "done", event(1, "done", **fields))
    if verdict:
        given = {"reviewer": "rev-1", "verdict": verdict, "head": head, "feedback": "1. No."}
        store.note(task, event(2, "review", run="R2", **given))
    return pr, task_id


def put(layout: Layout, task_id: str, state: str, word: str, **fields: object) -> None:
    store = FileStore(layout)
    store.move(store.find(task_id), state, event(3, word, run="R3", **fields))


def state_of(layout: Layout, task_id: str) -> str:
    return FileStore(layout).find(task_id).state


def known(layout: Layout, pr_id: str) -> PullRequest:
    config = load.settings(layout, write_cache=False).config
    return next(pr for pr in states.known(layout, config) or () if pr.id == pr_id)


# --- approve and request-changes ---------------------------------------------------------------


@pytest.mark.parametrize("state", ["done", "blocked", "failed", "claimed", "incoming"])
def test_requested_changes_send_the_task_back_with_the_text_first(
    project: Layout, cli: Cli, state: str
) -> None:
    pr, task_id = deliver(project, cli, verdict="approved")
    if state != "done":
        put(
            project, task_id, state, state if state in ("blocked", "failed", "claimed") else "moved"
        )
    assert cli("pr", "request-changes", pr.id, "Keep the old name.", "--json").code == 0
    assert state_of(project, task_id) == (state if state == "claimed" else "incoming")
    file = FileStore(project).read(FileStore(project).find(task_id))
    assert history.attempts(file.history)[-1]["text"] == "Keep the old name."
    task = FileStore(project).find(task_id)
    assert (task.attempts, task.reason, task.question) == (0, None, None)
    assert known(project, pr.id).verdict == "changes_requested"
    assert "changes_requested by A Person" in cli("pr", "list").out


@pytest.mark.parametrize("state", ["done", "blocked", "failed", "incoming", "claimed"])
def test_an_approval_settles_objections_and_ends_the_work_on_the_task(
    project: Layout, cli: Cli, state: str
) -> None:
    pr, task_id = deliver(project, cli, verdict="changes_requested")
    store = FileStore(project)
    objection = {"reviewer": "Ann", "kind": "person", "verdict": "changes_requested"}
    store.note(store.find(task_id), event(2, "review", head=pr.head, feedback="No.", **objection))
    if state != "done":
        put(
            project, task_id, state, state if state in ("blocked", "failed", "claimed") else "moved"
        )
    found = cli("pr", "approve", f"#{pr.id}", "--json").json
    assert found["commit"] == pr.head
    assert state_of(project, task_id) == ("claimed" if state == "claimed" else "done")
    now = known(project, pr.id)
    assert (now.verdict, now.reviewed) == ("approved", pr.head)
    assert verdicts.objections(states.reviews(project, now)) == []


def test_an_approval_holds_for_its_commit_only(project: Layout, cli: Cli) -> None:
    pr, _task_id = deliver(project, cli)
    assert cli("pr", "approve", pr.id).code == 0
    work(Path(project.root), pr.branch, "b.txt", "more\n", base=pr.head)
    assert known(project, pr.id).verdict is None


def test_a_review_of_what_is_not_open_is_refused(project: Layout, cli: Cli) -> None:
    pr, _ = deliver(project, cli)
    assert cli("pr", "close", pr.id).code == 0
    for words in (("approve", pr.id), ("request-changes", pr.id, "No.")):
        assert cli("pr", *words, "--json").json["error"]["code"] == "not_open"
    assert cli("pr", "approve", "99").code == 1
    assert cli("pr", "request-changes", pr.id, "  ").code == 2


@pytest.mark.parametrize("name", ["pr:{}", "{}", "task"])
def test_the_inbox_takes_a_rejection_by_any_name_of_the_item(
    project: Layout, cli: Cli, name: str
) -> None:
    pr, task_id = deliver(project, cli, verdict="approved")
    word = task_id if name == "task" else name.format(pr.id)
    assert cli("inbox", "reject", word, "Not like this.").code == 0
    assert state_of(project, task_id) == "incoming"
    assert cli("inbox", "--json").json == []


def test_the_inbox_and_explain_take_other_names_of_a_pull_request(
    project: Layout, cli: Cli
) -> None:
    pr, task_id = deliver(project, cli, verdict="approved")
    assert cli("inbox", "list", "--json").json == cli("inbox", "--json").json != []
    assert cli("explain", f"pr:{pr.id}", "--json").json["subject"] == task_id
    assert cli("explain", "pr:77").code == 1
    assert f"orchestrator pr diff {pr.id}\n" in cli("inbox").out
    assert cli("inbox", "approve", task_id).code == 0
    assert known(project, pr.id).state == "merged"
    for words in (("task", "show", task_id), ("pr", "show", pr.id)):
        out = cli(*words).out
        assert "orchestrator pr diff" in out
        assert ".json" not in out, "the record of a local pull request is no address"


def test_only_a_pull_request_can_be_rejected(project: Layout, cli: Cli) -> None:
    task_id = cli("task", "add", "--title", "Idle", "--role", "implement").out.strip()
    done = cli("inbox", "reject", task_id, "No.")
    assert (done.code, f"task {task_id} has no pull request" in done.err) == (1, True)
    assert "no inbox item named 'agent:x'" in cli("inbox", "reject", "agent:x", "No.").err


# --- merged ------------------------------------------------------------------------------------


def test_what_a_person_calls_merged_counts_as_merged(project: Layout, cli: Cli) -> None:
    pr, task_id = deliver(project, cli)
    assert cli("pr", "merged", pr.id, "--json").json == {"id": pr.id, "state": "merged"}
    assert known(project, pr.id).state == "merged"
    task = FileStore(project).find(task_id)
    found = dependencies.verdicts([task_id], {task_id: task}, [known(project, pr.id)])
    assert found == {task_id: "met"}
    # A forge that still shows it as open does not change that.
    book = Local(project, Config()).book
    book.write(pr)
    assert (book.find(pr.id).state, book.body(pr.id)) == ("merged", "What it does.\n")
    # The person takes it back.
    undo = ("pr", "merged", pr.id, "--undo", "--json")
    assert cli(*undo).json == {"id": pr.id, "state": "open"}
    assert (known(project, pr.id).state, state_of(project, task_id)) == ("open", "done")
    task = FileStore(project).find(task_id)
    found = dependencies.verdicts([task_id], {task_id: task}, [known(project, pr.id)])
    assert found == {task_id: f"waiting: its pull request {pr.id} is open"}
    assert cli(*undo).json["error"]["code"] == "wrong_state"
    assert cli("pr", "merge", pr.id).code == 0
    assert cli(*undo).json["error"]["code"] == "wrong_state", "git shows that merge"


# --- show, diff, checkout ----------------------------------------------------------------------


def test_show_has_text_reviews_and_checks(project: Layout, cli: Cli) -> None:
    pr, _ = deliver(project, cli, verdict="changes_requested")
    cli("pr", "approve", pr.id)
    found = cli("pr", "show", pr.id, "--json").json
    assert (found["body"], found["checks"], found["mergeable"]) == ("What it does.\n", [], None)
    agent, person = found["reviews"]
    assert agent == {
        "by": "rev-1", "kind": "agent", "verdict": "changes_requested", "commit": pr.head,
        "text": "1. No.", "at": AT.format(2),
    }  # fmt: skip
    assert (person["by"], person["kind"], person["verdict"]) == ("A Person", "person", "approved")
    said = cli("pr", "show", pr.id).out
    assert said.index("What it does.") < said.index("1. No.") < said.index("A Person (person)")


def test_the_diff_is_that_of_the_branch_before_and_after_the_merge(
    project: Layout, cli: Cli
) -> None:
    pr, _ = deliver(project, cli)
    git(Path(project.root), "commit", "--quiet", "--allow-empty", "--message", "Elsewhere")
    before = cli("pr", "diff", pr.id, "--json").json
    assert before["id"] == pr.id
    assert "+++ b/a.txt" in before["diff"]
    assert cli("pr", "merge", pr.id).code == 0
    assert cli("pr", "diff", pr.id, "--json").json == before
    assert cli("pr", "diff", "7").code == 1


def test_no_setting_of_git_changes_what_a_program_reads_of_a_diff(
    project: Layout, cli: Cli
) -> None:
    pr, _ = deliver(project, cli)
    before = (cli("pr", "diff", pr.id).out, cli("pr", "show", pr.id).out)
    for key, value in (("color.ui", "always"), ("color.diff", "always"), ("diff.noprefix", "true")):
        git(Path(project.root), "config", key, value)
    assert "+++ b/a.txt" in before[0]
    assert "a.txt" in before[1]
    assert (cli("pr", "diff", pr.id).out, cli("pr", "show", pr.id).out) == before


def test_the_diff_of_a_branch_without_a_common_commit_is_that_of_its_files(
    project: Layout, cli: Cli
) -> None:
    pr, _ = deliver(project, cli)
    root = Path(project.root)
    orphan = git(root, "commit-tree", "-m", "orphan", f"{pr.head}^{{tree}}")
    git(root, "update-ref", f"refs/heads/{pr.branch}", orphan)
    record = Path(project.prs, f"{pr.id}.json")
    record.write_text(record.read_text().replace(pr.head, orphan))
    found = cli("pr", "diff", pr.id)
    assert (found.code, "+++ b/a.txt" in found.out, found.err) == (0, True, "")
    assert "a.txt" in cli("pr", "show", pr.id).out


def test_checkout_detaches_and_moves_no_branch(project: Layout, cli: Cli) -> None:
    pr, _ = deliver(project, cli)
    root = Path(project.root)
    agents = root.parent / "agents-worktree"
    git(root, "worktree", "add", "--quiet", str(agents), pr.branch)
    (root / "README.md").write_text("mine\n")
    (root / "note.txt").write_text("mine, untracked\n")
    done = cli("pr", "checkout", pr.id)
    assert (done.code, "git switch main" in done.out) == (0, True)
    assert git(root, "rev-parse", "HEAD") == pr.head
    assert git(root, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    assert (root / "note.txt").exists()
    assert (root / "README.md").read_text() == "mine\n", "the checkout does not touch it"
    assert git(agents, "rev-parse", "--abbrev-ref", "HEAD") == pr.branch
    assert git(root, "rev-parse", pr.branch) == pr.head


@pytest.mark.parametrize("kind", ["untracked", "ignored", "changed"])
def test_no_checkout_overwrites_a_file_and_the_refusal_names_it(
    project: Layout, cli: Cli, kind: str
) -> None:
    pr, _ = deliver(project, cli)
    root = Path(project.root)
    mine = root / "a.txt"
    if kind == "changed":
        mine.write_text("committed\n")
        git(root, "add", "a.txt")
        git(root, "commit", "--quiet", "--message", "The same file")
    elif kind == "ignored":
        (root / ".git" / "info" / "exclude").write_text("a.txt\n")
    mine.write_text("mine\n")
    refused = cli("pr", "checkout", pr.id, "--json")
    error = refused.json["error"]
    assert (refused.code, error["code"]) == (1, "checkout_not_clean")
    assert "would be lost: a.txt" in error["message"]
    assert f"orchestrator pr diff {pr.id}" in error["hint"]
    assert mine.read_text() == "mine\n"


# --- the inbox ---------------------------------------------------------------------------------


def test_an_objection_to_an_approved_head_is_one_item_that_names_the_way_out(
    project: Layout, cli: Cli
) -> None:
    pr, task_id = deliver(project, cli, verdict="changes_requested")
    Path(project.config).write_text("review: {auto_merge: true}\n" + AGENTS_YAML)
    git(Path(project.root), "remote", "add", "origin", "/nowhere.git")
    git(Path(project.root), "update-ref", f"refs/remotes/origin/{pr.branch}", pr.head)
    assert cli("pr", "request-changes", pr.id, "Too slow.").code == 0
    assert cli("inbox", "--json").json == [], "during its rework nobody is asked"
    head = work(Path(project.root), pr.branch, "b.txt", "faster\n", base=pr.head)
    git(Path(project.root), "update-ref", f"refs/remotes/origin/{pr.branch}", head)
    store = FileStore(project)
    store.move(store.find(task_id), "done", event(4, "done", run="R4", pr=pr.id, head=head))
    given = {"reviewer": "rev-1", "verdict": "approved", "head": head, "feedback": "Good."}
    later = iso(4e9) or ""
    store.note(store.find(task_id), Entry(later, "review", {"run": "R5", **given}))
    (item,) = cli("inbox", "--json").json
    assert (item["id"], item["kind"]) == (f"pr:{pr.id}", "approval")
    assert "A Person requested changes: Too slow." in item["text"]
    assert f"orchestrator pr approve {pr.id}" in item["text"]
    assert cli("status", "--json").json["waiting_for_you"] == 1
    assert cli("status").out.startswith("1 thing waits for you: orchestrator inbox\n")
    assert "1 pull request to approve" in cli("_news").out


def test_a_persons_requested_changes_block_their_own_merge_until_they_are_settled(
    project: Layout, cli: Cli
) -> None:
    pr, _ = deliver(project, cli, verdict="approved")
    assert cli("pr", "request-changes", pr.id, "Too slow.").code == 0
    refused = cli("pr", "merge", pr.id, "--json")
    error = refused.json["error"]
    assert (refused.code, error["code"]) == (1, "changes_requested")
    assert "A Person: Too slow." in error["message"]
    assert f"orchestrator pr approve {pr.id}" in error["hint"]
    assert known(project, pr.id).state == "open"
    assert cli("pr", "approve", pr.id).code == 0
    assert cli("pr", "merge", pr.id).code == 0
    assert known(project, pr.id).state == "merged"


def test_a_draft_waits_for_a_person_and_each_command_says_that_it_is_one(
    project: Layout, cli: Cli
) -> None:
    pr, task_id = deliver(project, cli, verdict="approved")
    book = Local(project, Config()).book
    with book.locked():
        book.write(pr._replace(draft=True))
    (item,) = cli("inbox", "--json").json
    assert (item["id"], item["kind"]) == (f"pr:{pr.id}", "approval")
    assert states.WAITS_AS_DRAFT in item["text"]
    assert f"mark it as ready: {pr.url}" in cli("inbox").out
    assert "open (draft)" in cli("pr", "list").out
    assert cli("pr", "show", pr.id, "--json").json["draft"] is True
    for words in (("pr", "show", pr.id), ("explain", task_id)):
        assert states.WAITS_AS_DRAFT in cli(*words).out
    approved = cli("pr", "approve", pr.id).out
    assert states.WAITS_AS_DRAFT in approved
    assert "pr merge" not in approved
    refused = cli("pr", "merge", pr.id, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "draft")


def test_an_agents_requested_changes_do_not_block_a_persons_merge(
    project: Layout, cli: Cli
) -> None:
    pr, _ = deliver(project, cli, verdict="changes_requested")
    assert cli("pr", "merge", pr.id).code == 0


def test_a_conflict_sends_the_pull_request_back_and_names_the_files(
    project: Layout, cli: Cli
) -> None:
    pr, task_id = deliver(project, cli, verdict="approved")
    root = Path(project.root)
    (root / "a.txt").write_text("another\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "The same file")
    refused = cli("inbox", "approve", f"pr:{pr.id}", "--json")
    error = refused.json["error"]
    assert (refused.code, error["code"]) == (1, "conflict")
    assert "a.txt" in error["message"]
    assert state_of(project, task_id) == "incoming"
    assert FileStore(project).find(task_id).attempts == 0
    assert cli("inbox", "--json").json == []


def test_a_reviewer_who_comes_after_a_persons_approval_sends_nothing_back(
    project: Layout, cli: Cli
) -> None:
    pr, task_id = deliver(project, cli)
    assert cli("pr", "approve", pr.id).code == 0
    store = FileStore(project)
    late = Given("rev-1", "agent", "changes_requested", pr.head, "1. No.", iso(4e9))
    review.record_verdict(store, Config(), store.find(task_id), late, now=4e9, run="R9")
    assert state_of(project, task_id) == "done"
    assert known(project, pr.id).verdict == "approved"
    newer = late._replace(commit="0" * 40)
    review.record_verdict(store, Config(), store.find(task_id), newer, now=4e9, run="R10")
    assert state_of(project, task_id) == "incoming"


def test_changes_that_were_requested_during_a_run_reach_the_author_once() -> None:
    asked = {"reviewer": "Ann", "kind": "person", "verdict": "changes_requested"}
    said = event(3, "review", run="person-1", feedback="Slower.", **asked)
    claimed, done = event(2, "claimed"), event(4, "done")
    assert [each.text for each in rework.unheard([claimed, said, done])] == ["Slower."]
    assert rework.unheard([said, claimed, done]) == [], "its prompt had it"
    assert rework.unheard([claimed, said, done, event(5, "reopened")]) == []
    settled = event(5, "review", run="person-2", settles=True, **{**asked, "verdict": "approved"})
    assert rework.unheard([claimed, said, done, settled]) == []


def test_approving_an_item_is_the_persons_own_approval(project: Layout, cli: Cli) -> None:
    pr, _task_id = deliver(project, cli, verdict="approved")
    assert cli("inbox", "approve", pr.id).code == 0
    given = states.reviews(project, pr)[-1]
    assert (given.by, given.kind, given.verdict, given.settles) == (
        "A Person", "person", "approved", True
    )  # fmt: skip
    assert known(project, pr.id).state == "merged"


# --- what a reviewer is told -------------------------------------------------------------------


ROUNDS = [
    event(1, "done", summary="First try.", head="c1"),
    event(
        2, "review", reviewer="rev-1", verdict="changes_requested", head="c1", feedback="1. Bad."
    ),
    event(2, "reopened"),
    event(3, "done", summary="Fixed, but not 1: it is wanted.", head="c2"),
    event(
        4, "review", reviewer="rev-1", verdict="changes_requested", head="c2", feedback="1. Bad."
    ),
    event(5, "blocked", question="How on?"),
    event(6, "answered", text="Leave 1 as it is."),
]
SETTLED = event(
    7, "review", reviewer="Ann", kind="person", settles=True, verdict="approved", head="c2"
)


def test_a_reviewer_is_told_findings_answers_and_decisions_in_their_order() -> None:
    told = rounds.told(
        ROUNDS, [Given("bob", "person", "changes_requested", "c2", "2.", AT.format(5))]
    )
    assert [row["kind"] for row in told] == [
        "work", "finding", "work", "finding", "question", "finding", "answer"
    ]  # fmt: skip
    assert told[1]["by"] == "rev-1"
    assert told[5]["by"] == "bob (a person)"
    assert not any(row["decided"] for row in told)


def test_a_finding_before_a_persons_decision_is_marked_as_decided() -> None:
    later = event(
        8, "review", reviewer="rev-1", verdict="changes_requested", head="c3", feedback="3."
    )
    told = rounds.told([*ROUNDS, SETTLED, later], ())
    findings = [(row["text"], row["decided"]) for row in told if row["kind"] == "finding"]
    assert findings == [("1. Bad.", AT.format(7)), ("1. Bad.", AT.format(7)), ("3.", "")]


def test_the_last_review_of_another_commit_starts_the_range() -> None:
    given = verdicts.given([*ROUNDS, SETTLED])
    assert rounds.last_reviewed(given, "c3") == "c2"
    assert rounds.last_reviewed(given, "c2") is None
    conflict = Given("scheduler", "agent", "changes_requested", "c9", "", AT.format(9))
    assert rounds.last_reviewed([*given, conflict], "c3") == "c2"
    assert rounds.last_reviewed([], "c3") is None


# --- notifications -----------------------------------------------------------------------------

QUESTION = Item("T1", "question", "T1", "R1", "Which?", AT.format(1))
PROBLEM = Problem("remote_unreachable", "no answer for 10 s", "wait")


def news(*items: Item, problems: tuple[Problem, ...] = ()) -> dict[str, notify.News]:
    found = notify.of_items(items, ["answer it"] * len(items))
    return found | notify.of_problems(problems, {item.id for item in items})


def test_each_thing_is_told_once_and_again_after_it_was_gone() -> None:
    everything = Notify().on
    new, told = notify.unsaid(news(QUESTION, problems=(PROBLEM,)), (), everything)
    assert sorted(each.kind for each in new.values()) == ["problem", "question"]
    counting = PROBLEM._replace(message="no answer for 70 s")
    new, told = notify.unsaid(news(QUESTION, problems=(counting,)), told, everything)
    assert new == {}
    of_run = Problem("system_fault", f"{PROBLEM.code}: no answer for 10 s", "wait")
    new, told = notify.unsaid(news(QUESTION, problems=(of_run,)), told, everything)
    assert new == {}, "the same fault, met by a run"
    new, told = notify.unsaid(news(), told, everything)
    assert (new, told) == ({}, [])
    new, told = notify.unsaid(news(QUESTION), told, everything)
    assert len(new) == 1
    new, told = notify.unsaid(news(QUESTION._replace(since=AT.format(2))), told, everything)
    assert len(new) == 1, "another question of the same task"


def test_only_the_wanted_kinds_are_told_and_what_is_in_the_inbox_is_no_problem_too() -> None:
    new, _told = notify.unsaid(news(QUESTION, problems=(PROBLEM,)), (), ("problem",))
    assert [each.code for each in new.values()] == ["remote_unreachable"]
    suspended = Item("agent:a", "escalation", None, None, "a is paused: x")
    fault = Item("fault:base_gone", "escalation", None, None, "gone")
    problems = (
        Problem("agent_suspended", "a: x"),
        Problem("system_fault", "base_gone: main"),
        Problem(notify.FAILED, "exited 1"),
        Problem("task_malformed", "a.md: x"),
        Problem("task_malformed", "b.md: x"),
    )
    found = news(suspended, fault, problems=problems)
    assert [each.code for each in found.values() if each.kind == "problem"] == 2 * [
        "task_malformed"
    ]


def program(folder: Path, text: str) -> str:
    path = folder / "told.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def told_by(layout: Layout, wanted: Notify, found: dict[str, notify.News]) -> bool:
    left = notify.note(layout, wanted, found)
    notify.tell(layout, wanted)
    return left


def why_not(layout: Layout, wanted: Notify, each: notify.News) -> str:
    failure = notify.run(layout, wanted, each)
    return failure.why if failure else ""


def test_the_program_gets_json_once_and_a_failure_is_a_problem_until_it_works(
    project: Layout, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out"
    wanted = Notify((program(tmp_path, f"cat >> {out}; echo >> {out}"),))
    for _ in range(2):
        told_by(project, wanted, news(QUESTION))
    (line,) = out.read_text().splitlines()
    assert json.loads(line) == {
        "kind": "question", "id": "T1", "task": "T1", "code": None, "text": "Which?",
        "hint": "answer it", "project": project.root,
    }  # fmt: skip
    Path(project.config).write_text(f"notify: {{command: [{wanted.command[0]}]}}\n" + AGENTS_YAML)
    program(tmp_path, "cat > /dev/null; echo no such host >&2; exit 3")
    assert told_by(project, wanted, news(QUESTION, problems=(PROBLEM,)))
    problems = cli("status", "--json").json["problems"]
    (failed,) = [each for each in problems if each["code"] == "notify_failed"]
    assert "exited 3: no such host" in failed["message"]
    (each,) = news(QUESTION).values()
    program(tmp_path, "cat > /dev/null; echo ' ' >&2; exit 3")
    assert why_not(project, wanted, each).endswith("exited 3 and wrote nothing")
    program(tmp_path, "cat > /dev/null; echo; echo on stdout; exit 3")
    assert why_not(project, wanted, each).endswith("exited 3: on stdout")
    program(tmp_path, "cat > /dev/null")
    told_by(project, wanted, news(QUESTION))
    assert not told_by(project, wanted, news(QUESTION))
    told_by(project, wanted, news(QUESTION._replace(id="T2")))
    assert "notify_failed" not in [e["code"] for e in cli("status", "--json").json["problems"]]


def test_a_program_that_hangs_or_is_missing_is_named(
    project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", 0.3)
    (each,) = news(QUESTION).values()
    slow = Notify((program(tmp_path, "sleep 60"),))
    assert "did not end" in why_not(project, slow, each)
    missing = Notify((os.path.join(tmp_path, "nowhere"),))
    assert "cannot be started" in why_not(project, missing, each)


def test_news_that_no_program_could_be_started_for_is_told_once_when_it_can(
    project: Layout, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    wanted = Notify((program(tmp_path, f"cat >> {out}; echo >> {out}"),))
    os.chmod(wanted.command[0], 0o644)
    gone = QUESTION._replace(id="T2", task="T2")
    for _ in range(2):
        assert told_by(project, wanted, news(QUESTION, gone)), "another process tries it again"
    assert os.path.exists(project.notify_fault)
    os.chmod(wanted.command[0], 0o755)
    for _ in range(2):
        told_by(project, wanted, news(QUESTION))
    told = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert told == ["T1"], "not twice, and not what does not wait any more"
    assert not os.path.exists(project.notify_fault)


def test_doctor_tries_the_program(project: Layout, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    path = program(tmp_path, f"cat > {out}")
    Path(project.config).write_text(f"notify: {{command: [{path}]}}\n" + AGENTS_YAML)
    findings = {f["code"]: f for f in cli("doctor", "--json").json["findings"]}
    assert findings["notify_failed"]["level"] == "ok"
    assert json.loads(out.read_text())["kind"] == "test"
    program(tmp_path, "exit 1")
    findings = {f["code"]: f for f in cli("doctor", "--json").json["findings"]}
    assert findings["notify_failed"]["level"] == "fail"


def test_doctor_warns_of_a_report_that_nobody_gets(project: Layout, cli: Cli) -> None:
    Path(project.config).write_text("notify: {report: '08:00'}\n" + AGENTS_YAML)
    [found] = [f for f in cli("doctor", "--json").json["findings"] if f["code"] == "notify_failed"]
    assert (found["level"], "notify.command is not" in found["message"]) == ("warn", True)


def test_doctor_runs_no_program_of_a_clone_that_nobody_set_up(
    project: Layout, tmp_path: Path, cli: Cli
) -> None:
    path = program(tmp_path, f"touch {tmp_path / 'ran'}")
    Path(project.config).write_text(f"notify: {{command: [{path}]}}\n" + AGENTS_YAML)
    Path(project.root, ".git", "orchestrator.json").unlink()
    assert cli("doctor").code == 0
    assert not (tmp_path / "ran").exists()
