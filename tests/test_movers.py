"""Who moves an open pull request next, and what a person is told and can do about it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import AGENTS_YAML, refresh
from rows import each_row
from test_people import deliver, event, known

from orchestrator.cli import context
from orchestrator.layout import Layout
from orchestrator.model.config import Notify
from orchestrator.model.work import Entry, Given, PullRequest, RemoteCheck, Task
from orchestrator.plan.rule import Verdict
from orchestrator.pulls import follower, movers
from orchestrator.pulls.landing_queue import Refused
from orchestrator.pulls.local import Local
from orchestrator.pulls.movers import Facts, next_move
from orchestrator.system import files
from orchestrator.tasks import parts
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Listing
from orchestrator.tick import inbox, notify

Cli = Callable[..., Any]
REVIEWER = "  - {name: rev-1, role: reviewer, interval_seconds: 60}\n"
PR = PullRequest("3", "T1", "agent/T1-x", "main", "a" * 40, "Write it", "open")
APPROVED = PR._replace(verdict="approved", reviewed="a" * 40)
RUNS = APPROVED._replace(checks=(RemoteCheck("ci", "pending", required=True),))
OBJECTED = PR._replace(verdict="changes_requested")


def task(state: str = "done", task_id: str = "T1", **fields: Any) -> Task:
    return Task(task_id, "Write it", "implement", state, "", **{"pr": "3", **fields})


def review(state: str, **fields: Any) -> Task:
    return task(state, "REVIEW-1", reviews="T1", **fields)


def held(code: str) -> Verdict:
    return Verdict(code, False, "rev-1 is paused", None, "resume it: orchestrator agent resume r")


ANN = Given("Ann", "person", "changes_requested", "b" * 40, "No.", "2026-01-01T00:00:00Z")
RULED = {"REVIEW-1": held("paused"), "T1": held("paused")}
HALTED = {"REVIEW-1": held("system_paused")}
WAITS_LONG = Refused("a" * 40, 1, 0.0, "the remote refused")

MOVES: list[tuple[Facts, str, str | None, str]] = [
    # facts, who moves it, the inbox item that asks a person, a part of the sentence
    (Facts(PR, None), "person", "pr:3", "its task is gone"),
    (Facts(PR, task(pr="4")), "person", "pr:3", "another pull request, 4"),
    (Facts(PR, task("claimed", claimed_by="impl-1")), "author", None, "impl-1 has T1"),
    (Facts(PR, task("incoming")), "author", None, "T1 waits in incoming"),
    (Facts(PR, task("incoming"), stuck=RULED), "person", "pr:3", "rev-1 is paused"),
    (Facts(PR, task("blocked", question="Which?"), asked={"T1"}), "person", "T1", "Which?"),
    (Facts(PR, task("blocked")), "person", None, "was removed from the inbox"),
    (
        Facts(PR, task("blocked", reason=parts.WAITS)),
        "author",
        None,
        "waits for its parts",
    ),
    (Facts(PR, task("failed"), asked={"T1"}), "person", "T1", "waits for your decision"),
    (Facts(PR, task("failed")), "person", None, "was removed from the inbox"),
    (Facts(PR, task("failed", reason="cancelled")), "person", "pr:3", "was cancelled"),
    (Facts(PR._replace(queued=True), task()), "forge", None, "own rules"),
    (Facts(APPROVED, task()), "person", "pr:3", "merge it into main?"),
    (Facts(PR._replace(draft=True), task()), "person", "pr:3", "it is a draft"),
    (Facts(APPROVED, task(), lands=True), "landing", None, "next ticks"),
    (Facts(RUNS, task(), lands=True, refused=WAITS_LONG), "forge", None, "waits for check ci"),
    (Facts(RUNS, task()), "person", "pr:3", "merge it into main?"),
    (Facts(APPROVED, task(), lands=True, first=PR), "landing", None, "after pull request 3"),
    (Facts(APPROVED, task(), lands=True, is_paused=True), "person", None, "is resumed"),
    (Facts(APPROVED, task(), lands=True, refused=WAITS_LONG), "landing", None, "remote refused"),
    (Facts(PR, task(), will_review=True), "reviewer", None, "next tick"),
    (Facts(PR, task(), (review("claimed", claimed_by="r"),)), "reviewer", None, "r reviews"),
    (Facts(PR, task(), (review("incoming"),)), "reviewer", None, "waits for a reviewer"),
    (Facts(PR, task(), (review("incoming"),), stuck=RULED), "person", "pr:3", "is paused"),
    (Facts(PR, task(), (review("incoming"),), stuck=HALTED), "person", None, "is paused"),
    (Facts(PR, task(), (review("failed"),), asked={"REVIEW-1"}), "person", "REVIEW-1", "decision"),
    (Facts(PR, task(), (review("failed"),)), "person", "pr:3", "removed from the inbox"),
    (Facts(PR, task(), (review("failed", reason="cancelled"),)), "person", "pr:3", "cancelled"),
    (
        Facts(PR, task(), (review("failed", reason="cancelled"), review("claimed"))),
        *("reviewer", None, "reviews it"),
    ),
    (Facts(PR, task()), "person", "pr:3", "no agent reviews it"),
    (Facts(OBJECTED, task(), objections=(ANN,), answered=False), "author", None, "next tick"),
    (Facts(OBJECTED, task(), (review("incoming"),)), "reviewer", None, "waits for a reviewer"),
    (Facts(OBJECTED, task(), objections=(ANN,)), "person", "pr:3", "Ann requested changes: No. To"),
    (Facts(OBJECTED, task()), "person", "pr:3", "changes are requested on its head"),
]


@each_row(
    ("facts", "by", "item", "said"), MOVES, ids=[f"{n}-{row[1]}" for n, row in enumerate(MOVES)]
)
def test_each_open_pull_request_has_who_moves_it(
    facts: Facts, by: str, item: str | None, said: str
) -> None:
    move = next_move(facts)
    assert (move.by, move.item) == (by, item)
    assert said in move.text
    # A person is always told a command, and an agent never needs one.
    assert (move.step is not None) == (by == "person")
    assert bool(move.fact) == (item == "pr:3")


def test_a_dismissed_item_comes_back_with_another_fact_only() -> None:
    move = next_move(Facts(PR, task()))
    gone = Entry("", "dismissed", {"pr": "3", "fact": move.fact})
    assert movers.unless_dismissed(move, PR, gone).item is None
    assert movers.REMOVED in movers.unless_dismissed(move, PR, gone).text
    earlier = Entry("", "dismissed", {"pr": "3"})  # by a version without facts
    assert movers.unless_dismissed(move, PR, earlier).item is None
    for facts in (Facts(PR._replace(head="b" * 40), task()), Facts(APPROVED, task())):
        assert movers.unless_dismissed(next_move(facts), PR, gone).item == "pr:3"
    assert movers.unless_dismissed(move, PR, Entry("", "review", {})).item == "pr:3"


# --- in a project ------------------------------------------------------------------------------


def configure(layout: Layout, text: str) -> None:
    Path(layout.config).write_text(text)


def tick(layout: Layout) -> None:
    """Do what a tick does about pull requests."""
    loaded = context.settings(layout)
    prs = refresh(layout, loaded.config)
    assert prs is not None
    follower.follow(layout, loaded, prs, context.now())
    Path(layout.scheduler_lock).write_text(f"1 gone {time.time():.3f}\n")


def item_of(cli: Cli, pr_id: str = "1") -> Any:
    found = [item for item in cli("inbox", "--json").json if item["id"] == f"pr:{pr_id}"]
    return found[0] if found else None


def steps(cli: Cli) -> str:
    return str(cli("inbox").out)


@pytest.fixture
def delivered(project: Layout, cli: Cli) -> tuple[Layout, str]:
    """A project whose delivered work nobody reviews: there is no reviewer."""
    _pr, task_id = deliver(project, cli)
    return project, task_id


def test_work_without_a_reviewer_waits_for_a_person_until_an_agent_reviews(
    delivered: tuple[Layout, str], cli: Cli
) -> None:
    layout, task_id = delivered
    tick(layout)
    item = item_of(cli)
    assert (item["kind"], item["task"]) == ("approval", task_id)
    assert "no agent reviews it" in item["text"]
    assert "orchestrator inbox approve pr:1" in steps(cli)
    assert cli("status", "--json").json["waiting_for_you"] == 1
    assert "1 thing waits for you" in cli("status").out
    configure(layout, AGENTS_YAML + REVIEWER)
    assert item_of(cli) is None, "the next tick asks for its review"
    for _ in range(2):
        tick(layout)
    [asked] = [t for t in FileStore(layout).list("incoming").tasks if t.reviews]
    assert (asked.reviews, asked.pr) == (task_id, "1")
    assert "I wrote it." in FileStore(layout).read(asked).body
    assert item_of(cli) is None


def test_a_paused_or_removed_reviewer_is_named_and_work_goes_on_when_it_returns(
    delivered: tuple[Layout, str], cli: Cli
) -> None:
    layout, task_id = delivered
    configure(layout, AGENTS_YAML + REVIEWER)
    tick(layout)
    assert cli("status").out.startswith("All is well.")
    assert cli("agent", "pause", "rev-1").code == 0
    assert "rev-1 is paused" in item_of(cli)["text"]
    assert "orchestrator agent resume rev-1" in steps(cli)
    said = cli("pr", "show", "1", "--json").json["next"]
    assert said["by"] == "person"
    assert said["text"] in cli("pr", "show", "1").out
    assert f"pull request 1: {said['text']}" in cli("explain", task_id).out
    assert said["text"] in cli("task", "show", task_id).out
    assert cli("agent", "remove", "rev-1").code == 0
    assert "no agent takes ROLE review" in item_of(cli)["text"]
    assert "orchestrator agent add NAME --role reviewer" in steps(cli)
    assert "1 task cannot start." in cli("status").out
    configure(layout, AGENTS_YAML + REVIEWER)
    assert item_of(cli) is None
    assert cli("status").out.startswith("All is well.")


def test_a_cancelled_review_is_not_asked_for_again_and_a_person_is(
    delivered: tuple[Layout, str], cli: Cli
) -> None:
    layout, _ = delivered
    configure(layout, AGENTS_YAML + REVIEWER)
    tick(layout)
    [asked] = [t for t in FileStore(layout).list("incoming").tasks if t.reviews]
    assert cli("task", "cancel", asked.id).code == 0
    tick(layout)
    assert f"its review {asked.id} was cancelled" in item_of(cli)["text"]
    assert cli("task", "retry", asked.id).code == 0
    assert item_of(cli) is None


def test_rework_that_no_agent_takes_waits_for_a_person(
    delivered: tuple[Layout, str], cli: Cli
) -> None:
    _, task_id = delivered
    assert cli("pr", "request-changes", "1", "Rename it.").code == 0
    assert item_of(cli) is None
    assert "pull request 1: its author gets it back" in cli("explain", task_id).out
    assert cli("agent", "pause", "impl-agent-1").code == 0
    assert "impl-agent-1 is paused" in item_of(cli)["text"]
    assert cli("agent", "resume", "impl-agent-1").code == 0
    assert cli("task", "cancel", task_id).code == 0
    assert "was cancelled, and the pull request is still open" in item_of(cli)["text"]
    assert "orchestrator pr close 1" in steps(cli)
    assert task_id in cli("pr", "close", "1").out
    assert item_of(cli) is None


def test_what_was_dismissed_shows_the_way_back_and_can_still_be_approved(
    delivered: tuple[Layout, str], cli: Cli
) -> None:
    layout, task_id = delivered
    said = cli("inbox", "dismiss", "pr:1").out
    assert "pull request 1 stays open until you decide: orchestrator inbox approve pr:1" in said
    assert item_of(cli) is None
    for words in (("explain", task_id), ("task", "show", task_id), ("pr", "show", "1")):
        out = cli(*words).out
        assert "(removed from the inbox)" in out
        assert "orchestrator inbox approve pr:1" in out
    assert cli("pr", "request-changes", "1", "No.").code == 0
    store = FileStore(layout)
    store.move(store.find(task_id), "done", event(4, "done", run="R9", pr="1"))
    assert item_of(cli) is not None, "the author has answered since"
    assert cli("inbox", "dismiss", "pr:1").code == 0
    done = cli("inbox", "approve", "pr:1")
    assert done.code == 0
    assert done.out.startswith("pr:1 is merged\n")
    refused = cli("inbox", "approve", "pr:1")
    assert "does not wait for your approval: it is merged" in refused.err


@pytest.mark.parametrize("ended", ["approve", "close"])
def test_a_refusal_about_an_ended_pull_request_names_a_command_that_works(
    delivered: tuple[Layout, str], cli: Cli, ended: str
) -> None:
    task_id = delivered[1]
    end = {"approve": ("inbox", "approve", "pr:1"), "close": ("pr", "close", "1")}[ended]
    assert cli(*end).code == 0
    refused = [
        ("pr", "request-changes", "1", "No."),
        ("pr", "approve", "1"),
        ("pr", "merge", "1"),
        ("pr", "close", "1"),
    ]
    if ended == "approve":
        refused += [("task", "retry", task_id), ("task", "cancel", task_id)]
    for words in refused:
        done = cli(*words, "--json")
        assert done.code == 1, words
        (_, hinted) = done.json["error"]["hint"].split("orchestrator ")
        assert hinted.startswith("task "), words
    assert cli(*hinted.split()).code == 0
    assert FileStore(delivered[0]).find(task_id).state == "incoming"


def test_no_hint_names_a_merge_that_is_refused(delivered: tuple[Layout, str], cli: Cli) -> None:
    assert cli("pr", "request-changes", "1", "No.").code == 0
    refused = cli("inbox", "approve", "pr:1")
    assert refused.code == 1
    assert "to merge it anyway" not in refused.err
    assert "to overrule that: orchestrator pr approve 1; then merge it" in refused.err
    hint = cli("pr", "merge", "1").err.splitlines()[-1].strip()
    assert hint in refused.err


@pytest.mark.parametrize(
    ("state", "fields", "way"),
    [
        ("blocked", {"question": "Which?"}, "orchestrator inbox answer {} 'TEXT'"),
        ("failed", {"reason": "no_result", "error": "no_result"}, "orchestrator task retry {}"),
    ],
)
def test_a_dismissed_task_says_that_it_stays_and_how_to_go_on(
    project: Layout, cli: Cli, state: str, fields: dict[str, str], way: str
) -> None:
    task_id = cli("task", "add", "--title", "Ask", "--role", "implement").out.strip()
    store = FileStore(project)
    store.move(store.find(task_id), state, event(1, state, run="R1", **fields))
    said = cli("inbox", "dismiss", task_id).out
    assert f"{task_id} stays in {state} until you decide: {way.format(task_id)}\n" in said
    assert cli("inbox", "--json").json == []
    for words in (("explain", task_id), ("task", "show", task_id)):
        out = cli(*words).out
        assert "(removed from the inbox)" in out
        assert way.format(task_id).replace("TEXT", "")[:-2] in out


def test_approved_work_is_never_said_to_land_where_it_does_not(project: Layout, cli: Cli) -> None:
    deliver(project, cli, verdict="approved")
    # Without a remote, only a person merges.
    for config in (AGENTS_YAML, AGENTS_YAML + "review: {auto_merge: true}\n"):
        configure(project, config)
        # The record of a local pull request is not an address that a person opens.
        assert item_of(cli)["text"].endswith("; merge it into main?")
        [line] = [each for each in cli("status").out.splitlines() if each.startswith("  1  ")]
        assert (line.count("approved"), line.endswith("; merge it into main?")) == (1, True)
        assert "; to merge it: orchestrator pr merge 1\n" in cli("pr", "approve", "1").out


def test_status_names_the_waiting_tasks_that_no_agent_can_start(project: Layout, cli: Cli) -> None:
    cli("task", "add", "--title", "Test it", "--role", "test")
    assert cli("status").out.startswith("No tick has run yet. 0 running, 1 waiting.")
    tick(project)
    assert cli("status").out.startswith("All is well. 0 running, 1 waiting.")
    cli("agent", "pause", "test-agent")
    out = cli("status").out
    assert out.startswith("1 task cannot start. 0 running, 1 waiting.\n")
    assert "test-agent is paused\n    resume the agent: orchestrator agent resume test-agent" in out
    cli("agent", "remove", "test-agent")
    assert "no agent takes ROLE test" in cli("status").out
    [row] = cli("status", "--json").json["cannot_start"]
    assert row["reason"] == "no_matching_agent"
    assert "1 waiting task that no agent can start" in cli("_news").out
    cli("agent", "pause", "--all")
    assert cli("status").out.startswith("Paused; no agent starts until")


# --- damaged and missing records ---------------------------------------------------------------


def test_a_delivered_task_whose_record_was_deleted_is_found_by_doctor(
    project: Layout, cli: Cli
) -> None:
    def missing() -> list[Any]:
        found = cli("doctor", "--json").json["findings"]
        return [each for each in found if each["code"] == "record_missing"]

    pr, task = deliver(project, cli)
    assert missing() == []
    path = Path(project.prs, f"{pr.id}.json")
    text = path.read_text()
    path.write_text("{")
    assert missing() == [], "it is damaged, not missing"
    path.unlink()
    [found] = missing()
    assert found["level"] == "fail"
    assert found["message"] == f"there is no record of pull request {pr.id} of {task}"
    assert f"orchestrator task move {task} incoming" in found["hint"]
    path.write_text(text.replace('"open"', '"merged"'))
    assert missing() == []


@pytest.mark.parametrize("folder", ["", "github"])
@pytest.mark.parametrize("text", ["{", "[]", '{"id": "2"}', '{"id": "1", "task": 5}'])
def test_a_damaged_record_is_one_problem_and_is_never_overwritten(
    project: Layout, cli: Cli, folder: str, text: str
) -> None:
    path = Path(project.prs, folder, "1.json")
    files.make_folder(str(path.parent))
    path.write_text(text)
    [problem] = cli("status", "--json").json["problems"]
    assert problem["code"] == "record_damaged"
    assert str(path) in problem["message"]
    other, _ = deliver(project, cli)
    assert (other.id, known(project, other.id).state) == ("1" if folder else "2", "open")
    if not folder:
        shown = cli("pr", "show", "1")
        assert (shown.code, "is damaged" in shown.err) == (1, True)
    assert path.read_text() == text


def test_a_record_that_is_written_again_keeps_the_damaged_one_beside(
    project: Layout, cli: Cli
) -> None:
    pr, _ = deliver(project, cli)
    path = Path(project.prs, f"{pr.id}.json")
    path.write_text('{"id": "1", "body": "the only copy"')
    book = Local(project, context.settings(project).config).book
    with book.locked():
        book.write(pr)
    assert book.find(pr.id) == pr
    [aside] = [name for name in os.listdir(project.prs) if "damaged" in name]
    assert "the only copy" in Path(project.prs, aside).read_text()
    [problem] = cli("status", "--json").json["problems"]
    assert aside in problem["message"]
    Path(project.prs, aside).unlink()
    assert cli("status", "--json").json["problems"] == []


# --- notifications -----------------------------------------------------------------------------


def test_an_item_is_told_again_for_a_new_fact_and_not_for_the_same(
    delivered: tuple[Layout, str], cli: Cli
) -> None:
    layout, task_id = delivered

    def keys() -> set[str]:
        loaded, seen = context.look(layout)
        return set(notify.news(layout, loaded, seen, None, ()))

    first = keys()
    assert len(first) == 1
    cli("inbox", "dismiss", "pr:1")
    assert keys() == set()
    store = FileStore(layout)
    head = known(layout, "1").head
    given = {"reviewer": "rev-1", "verdict": "approved", "head": head}
    store.note(store.find(task_id), event(4, "review", run="R2", **given))
    second = keys()
    assert len(second) == 1
    assert second != first, "that it is approved is a new fact"
    store.note(store.find(task_id), event(5, "review", run="R3", **given))
    assert keys() == second, "a second approval of the same head is not"


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_kill_while_news_are_recorded_tells_nothing_twice(
    project: Layout, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    told: list[str] = []
    monkeypatch.setattr(notify, "run", lambda _layout, _wanted, each: told.append(each.id))
    wanted = Notify(("true",))
    found = notify.of_items(
        [inbox.Item(name, "question", name, None, "Which?") for name in ("T1", "T2")], ["", ""]
    )
    left, real = [at], files.write_json

    def write(path: str, value: object) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise Killed
        real(path, value)

    monkeypatch.setattr(notify.files, "write_json", write)
    with pytest.raises(Killed):
        notify.note(project, wanted, found)
    for _ in range(2):
        notify.note(project, wanted, found)
        notify.tell(project, wanted)
    assert sorted(told) == sorted(set(told))
    assert len(told) == (2 if at == 0 else at - 1), "a kill in between loses news"


@pytest.mark.parametrize("since", ["delivered", "reviewed"])
def test_what_happened_between_the_look_and_the_reading_of_a_task_asks_nobody_too_early(
    project: Layout, cli: Cli, since: str
) -> None:
    """A command that only reads waits for no tick that settles runs meanwhile."""
    config = AGENTS_YAML.replace("agents:\n", f"agents:\n{REVIEWER}")
    Path(project.config).write_text(config)
    pr, task_id = deliver(project, cli, verdict="approved" if since == "reviewed" else None)
    loaded, seen = context.look(project)
    if since == "reviewed":
        look = [known(project, pr.id)._replace(verdict=None, reviewed=None)]
    else:
        store = FileStore(project)
        look = [known(project, pr.id)]
        before = store.find(task_id)._replace(state="claimed")
        seen = seen._replace(claimed=Listing((before,)))
        text = f"# [REVIEW-R1] Review\n\nROLE: review\nREVIEWS: {task_id}\nPR: {pr.id}\n"
        files.write_atomic(os.path.join(project.state("incoming"), "REVIEW-R1.md"), text.encode())
    found = inbox.survey(project, loaded, seen, look)
    assert "no agent reviews it" not in found.moves[pr.id].text
    assert [item.text for item in found.items if "no agent reviews it" in item.text] == []
    assert found.moves[pr.id].by == ("person" if since == "reviewed" else "reviewer")


def test_status_says_why_the_pull_requests_are_not_known(
    delivered: tuple[Layout, str], cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [problem] = cli("status", "--json").json["problems"]
    assert problem["code"] == "open_prs_unknown"
    assert problem["message"].startswith("git_missing: git is not installed")
    assert problem["hint"].startswith("install git")


def test_a_deleted_record_gives_its_task_no_pull_request_of_another_task(
    delivered: tuple[Layout, str], cli: Cli
) -> None:
    layout, task_id = delivered
    Path(layout.prs, "1.json").unlink()
    for number_is_taken in (False, True):
        if number_is_taken:
            deliver(layout, cli, "b.txt")
        assert f"no record of pull request 1 of {task_id}" in cli("explain", task_id).out
        assert f"orchestrator task move {task_id} incoming" in cli("explain", task_id).out
        shown = cli("task", "show", task_id).out
        assert "cannot be looked up" in shown
        assert "orchestrator pr diff 1" not in shown
        for words in (("approve", task_id), ("reject", task_id, "No.")):
            refused = cli("inbox", *words, "--json")
            assert (refused.code, refused.json["error"]["code"]) == (1, "not_found")
    assert cli("pr", "list", "--json").json[0]["state"] == "open"
