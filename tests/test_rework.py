"""What happens to a pull request elsewhere reaches its task, once per fact."""

from __future__ import annotations

from typing import Any

import pytest
import test_landing
from conftest import git as sh
from conftest import refresh
from rows import each_row
from store_contract import entry
from test_landing import NOW, World

from orchestrator.config.load import Settings
from orchestrator.model.config import Agent, Retry, Role
from orchestrator.model.errors import OrchestratorError, SystemFault
from orchestrator.model.work import Entry, Feedback, Given, PullRequest, RemoteCheck, Task
from orchestrator.pulls import follower, review, rework
from orchestrator.pulls.local import Local

world = test_landing.world
PR = PullRequest("7", "T1", "agent/T1", "main", "a" * 40, "Fix it", "open")
TASK = Task("T1", "Fix it", "implement", "done", "")
DONE = Entry("2026-01-01T00:00:00Z", "done", {"run": "R1", "pr": "7", "head": "a" * 40})
CHECK = Feedback("check:a:unit:FAILURE", "The check unit failed.", by_machine=True)
PERSON = Feedback("review:ada:1", "ada requests changes: no.")


def decided(
    *found: Feedback,
    state: str = "open",
    task: str = "done",
    history: tuple[Entry, ...] = (DONE,),
    **config: Any,
) -> tuple[str, str] | None:
    settings = World.default_config()._replace(**config)
    made = rework.step(
        PR._replace(state=state), TASK._replace(state=task), history, found, settings
    )
    return made and (made.state, made.event)


# --- deciding ----------------------------------------------------------------------------------


def test_without_a_fact_nothing_follows() -> None:
    assert decided() is None
    assert decided(state="merged", history=(DONE, Entry(DONE.at, "merged", {"pr": "7"}))) is None


@pytest.mark.parametrize("fact", [CHECK, PERSON])
def test_a_fact_is_rework_once(fact: Feedback) -> None:
    assert decided(fact) == ("incoming", "reopened")
    again = Entry("2026-01-01T00:00:01Z", "reopened", {"facts": [fact.key]})
    assert decided(fact, history=(DONE, again, DONE)) is None
    other = fact._replace(key=f"{fact.key}:2")
    assert decided(fact, other, history=(DONE, again, DONE)) == ("incoming", "reopened")


@pytest.mark.parametrize("state", ["incoming", "claimed", "blocked", "failed"])
def test_feedback_waits_while_the_task_is_not_done(state: str) -> None:
    assert decided(PERSON, task=state) is None


def test_facts_of_machines_end_with_a_question_those_of_people_do_not() -> None:
    rounds = tuple(Entry("2026-01-01T00:00:01Z", "reopened", {"facts": [str(n)]}) for n in range(2))
    assert decided(CHECK, history=(*rounds, DONE)) == ("blocked", "blocked")
    assert decided(PERSON, history=(*rounds, DONE)) == ("incoming", "reopened")
    answered = Entry("2026-01-01T00:00:02Z", "answered", {"text": "go on"})
    assert decided(CHECK, history=(*rounds, answered, DONE)) == ("incoming", "reopened")


FAILED_CHECK = f"check:{'a' * 40}:unit: all:FAILURE"
CONFLICT = Feedback(f"conflict:{'a' * 40}:{'b' * 40}", "It conflicts.", by_machine=True)


@each_row(
    ("facts", "pr", "found", "withdrawn"),
    [
        ([FAILED_CHECK], {"checks": (("unit: all", "passed"),)}, (), True),
        # It runs again, or it has run in two workflows: the failure may come back.
        ([FAILED_CHECK], {"checks": (("unit: all", "pending"),)}, (), False),
        ([FAILED_CHECK], {"checks": (("unit: all", "passed"), ("unit: all", "failed"))}, (), False),
        ([FAILED_CHECK], {"checks": (("unit", "passed"),)}, (), False),
        ([FAILED_CHECK], {"head": "c" * 40}, (), True),
        ([CONFLICT.key], {}, (), True),
        ([CONFLICT.key], {}, (CONFLICT._replace(key=f"conflict:{'a' * 40}:{'d' * 40}"),), False),
        ([CONFLICT.key, FAILED_CHECK], {}, (), False),
        ([], {"head": "c" * 40}, (), False),
    ],
)
def test_a_question_about_what_no_longer_holds_is_withdrawn(
    facts: list[str], pr: dict[str, Any], found: tuple[Feedback, ...], withdrawn: bool
) -> None:
    checks = tuple(RemoteCheck(*each, None) for each in pr.pop("checks", ()))
    asked = Entry(DONE.at, "blocked", {"pr": "7", "facts": facts, "reason": "max_rounds"})
    history = (DONE, asked, Entry(DONE.at, "dismissed", {}))
    now, task = PR._replace(checks=checks, **pr), TASK._replace(state="blocked")
    made = rework.step(now, task, history, found, World.default_config())
    assert (made is not None and made[:2] == ("done", "done")) == withdrawn
    answered = (*history, Entry(DONE.at, "answered", {}))
    assert rework.step(now, task, answered, found, World.default_config()) is None


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (("rev-1", "rev-1"), "Changes were requested in 2 reviews. "),
        (("scheduler", "scheduler"), "The merge failed 2 times. "),
        (("rev-1", "scheduler"), "Changes were requested in 1 review and the merge failed 1 time."),
    ],
)
def test_the_question_after_too_many_rounds_tells_reviews_from_failed_merges(
    by: tuple[str, ...], said: str
) -> None:
    # An earlier round, before a person decided, does not count.
    rounds = ("rev-0", *by)
    fields = [{"verdict": "changes_requested", "reviewer": each} for each in rounds]
    history = [Entry(DONE.at, "review", each) for each in fields]
    last = Given(by[-1], "agent", "changes_requested", PR.head, "Because.")
    asked = review._after_rounds(history, len(by), last)
    assert asked.startswith(said)
    assert asked.endswith(
        f"The last {'failed merge' if by[-1] == 'scheduler' else 'review'} says: Because."
    )


@each_row(
    ("state", "task", "expected"),
    [
        ("merged", "incoming", ("done", "done")),
        ("merged", "blocked", ("done", "done")),
        ("merged", "failed", ("done", "done")),
        ("merged", "done", ("done", "merged")),
        ("merged", "claimed", None),
        ("closed", "done", ("failed", "cancelled")),
        ("closed", "incoming", ("failed", "cancelled")),
        ("closed", "blocked", ("failed", "cancelled")),
        ("closed", "failed", None),
        ("closed", "claimed", None),
    ],
)
def test_what_a_person_merged_is_done_and_what_a_person_closed_is_cancelled(
    state: str, task: str, expected: tuple[str, str] | None
) -> None:
    back = Entry("2026-01-01T00:00:01Z", "reopened", {"round": 1})
    assert decided(state=state, task=task, history=(DONE, back)) == expected


@pytest.mark.parametrize("word", ["retried", "moved", "answered"])
@pytest.mark.parametrize("state", ["merged", "closed"])
def test_a_persons_decision_about_the_task_outranks_the_pull_request(word: str, state: str) -> None:
    last = Entry("2026-01-01T00:00:01Z", word, {})
    assert decided(state=state, task="incoming", history=(DONE, last)) is None


@pytest.mark.parametrize(
    ("verdict", "expected"), [("changes_requested", ("blocked", "blocked")), (None, None)]
)
def test_no_change_after_requested_changes_asks_a_person(
    verdict: str | None, expected: tuple[str, str] | None
) -> None:
    last = Entry(DONE.at, "done", {"run": "R2", "verdict": "no_change", "summary": "It is right."})
    made = rework.step(PR._replace(verdict=verdict), TASK, (DONE, last), (), World.default_config())
    assert (made and (made.state, made.event)) == expected
    assert made is None or "It is right." in str(made.fields["question"])


@pytest.mark.parametrize(
    ("reviews", "verdict", "asks"), [(1, None, False), (2, None, True), (2, "approved", False)]
)
def test_a_branch_that_moves_after_each_review_asks_a_person(
    reviews: int, verdict: str | None, asks: bool
) -> None:
    config = World.default_config()._replace(retry=Retry(max_attempts=2))
    task = TASK._replace(uncharged={"review": reviews})
    pr = PR._replace(verdict=verdict)
    assert rework.step(pr, task, (DONE,), (), config, in_review=True) is None
    made = rework.step(pr, task, (DONE,), (), config)
    assert (made is not None) == asks
    if made is not None:
        assert made[:2] == ("blocked", "blocked")
        assert "orchestrator pr approve 7" in str(made.fields["question"])


def test_a_closed_pull_request_cancels_once() -> None:
    cancelled = Entry("2026-01-01T00:00:01Z", "cancelled", {"pr": "7"})
    assert decided(state="closed", task="incoming", history=(DONE, cancelled, DONE)) is None


CLOSED = Entry("2026-01-01T00:00:01Z", "cancelled", {"pr": "7"})


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ((CLOSED,), ("done", "done")),
        ((CLOSED, Entry(DONE.at, "dismissed", {})), ("done", "done")),
        ((), None),
        # A person cancelled the task, or it failed: the pull request decided nothing.
        ((Entry(DONE.at, "cancelled", {}),), None),
        ((CLOSED, Entry(DONE.at, "retried", {}), Entry(DONE.at, "failed", {})), None),
        ((CLOSED._replace(fields={"pr": "8"}),), None),
    ],
)
def test_a_pull_request_that_a_person_opens_again_brings_its_task_back(
    later: tuple[Entry, ...], expected: tuple[str, str] | None
) -> None:
    assert decided(task="failed", history=(DONE, *later)) == expected


def test_what_was_opened_again_can_be_closed_and_opened_again() -> None:
    history: tuple[Entry, ...] = (DONE,)
    for _ in range(2):
        closed = rework.step(PR._replace(state="closed"), TASK, history, (), World.default_config())
        assert closed
        history += (Entry(DONE.at, closed.event, closed.fields),)
        again = rework.step(PR, TASK._replace(state="failed"), history, (), World.default_config())
        assert again
        history += (Entry(DONE.at, again.event, again.fields),)
    assert [entry.event for entry in history] == ["done", "cancelled", "done", "cancelled", "done"]


# --- acting ------------------------------------------------------------------------------------


def follow(world: World, *, reviewer: bool = False) -> list[tuple[str, str, str]]:
    roles = {
        "implementer": Role("implementer", "implement", "pull_request", (), (), (), ""),
        "reviewer": Role("reviewer", "review", "verdict", (), (), (), ""),
    }
    agents = (Agent("rev-1", "reviewer", 0),) if reviewer else ()
    settings = Settings(world.config._replace(agents=agents), roles, (), True)
    prs = refresh(world.layout, settings.config)
    assert prs is not None
    return follower.follow(world.layout, settings, prs, NOW)[0]


def test_a_conflict_of_approved_work_goes_back_with_the_files_once(
    world: World,
) -> None:
    world.deliver("T1", {"README.md": "one\n"})
    assert follow(world) == []
    world.push_to_main({"README.md": "two\n"})
    assert [row[:2] for row in follow(world)] == [("T1", "incoming")]
    reopened = world.store.read(world.store.find("T1")).history[-1]
    assert "README.md" in str(reopened.fields["feedback"])
    world.store.move(world.store.find("T1"), "done", entry("done", "R-2", pr="1"))
    assert follow(world) == [], "the same two commits conflict once"


def test_work_on_top_of_an_open_dependency_is_not_sent_back_for_a_conflict(world: World) -> None:
    world.deliver("T1", {"a.txt": "a\n"})
    world.deliver("T2", {"README.md": "one\n"}, depends_on=("T1",))
    world.push_to_main({"README.md": "two\n"})
    assert follow(world) == []
    world.forge.book.record("1", state="merged")
    assert [row[:2] for row in follow(world)] == [("T1", "done"), ("T2", "incoming")]


def test_details_are_asked_for_after_a_change_and_again_after_a_fault(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"}, approved=False)
    asked: list[str] = []
    answers: list[list[Feedback] | OrchestratorError] = [SystemFault("no"), [], [CHECK]]

    def feedback(_: Local, which: PullRequest) -> list[Feedback]:
        asked.append(which.id)
        answer = answers.pop(0)
        if isinstance(answer, OrchestratorError):
            raise answer
        return answer

    monkeypatch.setattr(Local, "feedback", feedback)
    assert follow(world) == []
    assert asked == [], "a forge on this machine has no details"
    monkeypatch.setattr(Local, "is_elsewhere", True)
    for _ in range(4):
        assert follow(world) == []
    assert len(asked) == 2
    with world.forge.book.locked():
        world.forge.book.write(pr._replace(updated="2027-01-01T00:00:00Z"))
    assert [row[:2] for row in follow(world)] == [("T1", "incoming")]
    assert follow(world) == []
    assert len(asked) == 3


def test_a_deleted_branch_cancels_the_task_and_a_retry_stays(world: World) -> None:
    world.deliver("T1", {"a.txt": "a\n"})
    assert world.remote
    sh(world.remote, "update-ref", "-d", "refs/heads/agent/T1")
    assert [row[:2] for row in follow(world)] == [("T1", "failed")]
    assert world.store.find("T1").reason == "cancelled"
    world.store.move(world.store.find("T1"), "incoming", entry("retried"))
    assert follow(world) == []
    assert world.store.find("T1").state == "incoming"


def test_a_pull_request_that_is_opened_again_gets_its_review_once(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"}, approved=False)
    for count in (1, 2):
        world.forge.close(pr.id)
        assert [row[:2] for row in follow(world, reviewer=True)] == [("T1", "failed")]
        with world.forge.book.locked():
            world.forge.book.write(pr)
        assert [row[:2] for row in follow(world, reviewer=True)] == [("T1", "done")]
        assert follow(world, reviewer=True) == []
        [task] = world.store.list("incoming").tasks
        assert (task.id, task.reviews) == (f"REVIEW-1-{pr.head[:10]}-{count}", "T1")
        world.store.move(task, "done", entry("done"))


def test_a_withdrawn_question_asks_for_the_review_that_did_not_count(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"}, approved=False)
    asked = entry("blocked", question="How?", pr=pr.id, facts=[f"conflict:{pr.head}:{'b' * 40}"])
    world.store.move(world.store.find("T1"), "blocked", asked)
    assert [row[:2] for row in follow(world, reviewer=True)] == [("T1", "done")]
    reviews = [task for task in world.store.list("incoming").tasks if task.reviews == "T1"]
    assert [task.head for task in reviews] == [pr.head]
    assert follow(world, reviewer=True) == []
    assert len(world.store.list("incoming").tasks) == 1


def test_a_head_that_a_person_pushed_gets_a_review_of_its_own_once(
    world: World,
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    assert follow(world, reviewer=True) == []
    assert world.store.list("incoming").tasks == ()
    head = world.branch("T1", {"theirs.txt": "t\n"})
    for _ in range(2):
        follow(world, reviewer=True)
    [task] = world.store.list("incoming").tasks
    assert (task.reviews, task.pr, task.head) == ("T1", pr.id, head)


def test_an_update_from_the_base_keeps_the_approval(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    world.push_to_main({"b.txt": "b\n"})
    sh(world.repo, "fetch", "--quiet", "origin")
    merge_into_branch(world, "origin/main")
    follow(world, reviewer=True)
    assert world.state(pr) == ("open", "approved")
    assert world.store.list("incoming").tasks == ()
    assert world.land()[0].startswith("merged")


def test_an_update_that_hides_a_change_voids_the_approval(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    world.push_to_main({"b.txt": "b\n"})
    sh(world.repo, "fetch", "--quiet", "origin")
    merge_into_branch(world, "origin/main", hidden={"a.txt": "evil\n"})
    follow(world)
    assert world.state(pr) == ("open", None)
    assert world.land() == []


def merge_into_branch(
    world: World,
    other: str,
    hidden: dict[str, str] | None = None,
) -> None:
    path = world.repo.parent / "update"
    sh(world.repo, "worktree", "add", "--quiet", "--detach", str(path), "agent/T1")
    sh(path, "merge", "--quiet", "--no-ff", "--no-commit", other)
    for name, text in (hidden or {}).items():
        (path / name).write_text(text)
        sh(path, "add", name)
    sh(path, "commit", "--quiet", "--message", "Update")
    sh(path, "push", "--quiet", "origin", "HEAD:refs/heads/agent/T1")
    sh(world.repo, "worktree", "remove", "--force", str(path))


def test_a_persons_objection_stands_until_it_is_settled(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    person = Given("ada", "person", "changes_requested", pr.head, "No.", "2027-01-15T08:00:00Z")
    with world.forge.book.locked():
        world.forge.book.write(pr._replace(reviews=(person,)))
    assert [row[:2] for row in follow(world)] == [("T1", "incoming")]
    world.store.move(world.store.find("T1"), "done", entry("done", "R-2", pr="1"))
    world.judge("T1", "approved", world.branch("T1", {"b.txt": "b\n"}), "Good now.")
    assert follow(world) == []
    assert world.state(pr) == ("open", "changes_requested")
    assert world.land() == []
    tip = sh(world.repo, "rev-parse", "agent/T1")
    settled = entry(
        "review", "P-1", reviewer="bob", kind="person", settles=True, verdict="approved", head=tip
    )
    world.store.note(world.store.find("T1"), settled._replace(at="2027-01-16T08:00:00Z"))
    follow(world)
    assert world.state(pr) == ("open", "approved")
    assert world.land()[0].startswith("merged")


def test_a_branch_that_moves_after_each_review_is_not_reviewed_without_end(world: World) -> None:
    world.config = world.config._replace(retry=Retry(max_attempts=2))
    pr = world.deliver("T1", {"a.txt": "0\n"})
    heads = [pr.head]
    for number in (1, 2):
        heads.append(world.branch("T1", {"a.txt": f"{number}\n"}))
        told = follow(world, reviewer=True)
        reviews = [t for t in world.store.list("incoming").tasks if t.reviews == "T1"]
        if number == 2:
            break
        assert told == []
        assert [review.head for review in reviews] == [heads[-1]]
        assert follow(world, reviewer=True) == [], "the head is in review"
        world.judge("T1", "approved", heads[-1])
        world.store.move(reviews[0], "done", entry("done", "R9"))
    assert [row[:2] for row in told] == [("T1", "blocked")]
    assert reviews == [], "one more review is paid for"
    assert heads[-1][:12] in str(world.store.find("T1").question)
