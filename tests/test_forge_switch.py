"""Another forge than before: no open pull request is forgotten, and none is taken for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_forge
from conftest import AGENTS_YAML, refresh
from conftest import git as sh
from forge_contract import branch, wanted
from store_contract import entry, new_task
from test_forge import Hub

from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.work import PullRequest, Task
from orchestrator.plan import dependencies
from orchestrator.pulls import follower, forges
from orchestrator.pulls.forge import FORGES
from orchestrator.pulls.local import Local
from orchestrator.tasks.file_store import FileStore

hub = test_forge.hub
Cli = Callable[..., Any]
AUTO = Config()
ELSEWHERE = "is on another forge (see orchestrator pr list)"


@pytest.fixture
def layout(project: Layout, repo: Path) -> Layout:
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    return project


def configure(layout: Layout, forge: str) -> None:
    text = AGENTS_YAML.replace("forge: local", f"forge: {forge}").replace("paused: false", "x-a: 1")
    Path(layout.config).write_text(text)


def deliver(layout: Layout, hub: Hub, forge: str, task: str = "T1") -> PullRequest:
    """A done task with an open pull request on a forge."""
    name = f"agent/{task}"
    head = branch(hub.repo, name)
    where = FORGES[forge](layout, Config())
    pr = where.open(wanted(head, name)._replace(task=task), "body")
    store = FileStore(layout)
    store.add(new_task(task))
    store.move(store.find(task), "done", entry("done", f"R-{task}", pr=pr.id, head=head))
    return pr


def follow(layout: Layout, config: Config) -> None:
    prs = refresh(layout, config)
    assert prs is not None
    follower.follow(layout, Settings(config, {}, (), True), prs, 0.0)


def test_auto_keeps_the_forge_until_its_pull_requests_are_finished(
    layout: Layout, hub: Hub, cli: Cli
) -> None:
    configure(layout, "auto")
    assert forges.of_project(layout, AUTO).name == "github"
    deliver(layout, hub, "local")
    pr = deliver(layout, hub, "local", "T2")
    assert forges.of_project(layout, AUTO).name == "local"
    said = forges.kept(layout, AUTO) or ""
    assert "stays local" in said
    assert "then it is github (1, 2)" in said
    assert said in cli("doctor").out
    assert said in cli("status").out
    assert cli("status", "--json").json["notes"] == [said]
    assert "open_prs_left" not in [
        each["code"] for each in cli("status", "--json").json["problems"]
    ]
    assert cli("pr", "close", "1").code == 0
    sh(hub.repo, "push", "--quiet", str(hub.remote), f"{pr.head}:refs/heads/main")
    assert forges.of_project(layout, AUTO).name == "local", "the task does not know it yet"
    follow(layout, AUTO)
    assert FileStore(layout).find("T2").merged
    assert forges.of_project(layout, AUTO).name == "github"
    assert forges.kept(layout, AUTO) is None


def test_auto_keeps_github_when_the_remote_goes_elsewhere(layout: Layout, hub: Hub) -> None:
    deliver(layout, hub, "github")
    sh(hub.repo, "remote", "set-url", "origin", "https://gitlab.com/owner/repo")
    assert forges.of_project(layout, AUTO).name == "github"
    assert "then it is local" in (forges.kept(layout, AUTO) or "")
    hub.forge.book.record("1", state="closed")
    with hub.forge.book.locked():
        hub.forge.book.write(hub.forge.book.find("1")._replace(followed=True))
    assert forges.of_project(layout, AUTO).name == "local"


@pytest.mark.parametrize(("old", "new"), [("local", "github"), ("github", "local")])
def test_a_forge_that_a_person_sets_leaves_pull_requests_behind_in_one_problem(
    layout: Layout, hub: Hub, cli: Cli, old: str, new: str
) -> None:
    deliver(layout, hub, old)
    configure(layout, new)
    store = FileStore(layout)
    review = [("REVIEWS", "T1"), ("PR", "1")]
    store.add(new_task("REVIEW-1", role="review", extra=review))
    found = cli("status", "--json").json
    [problem] = [each for each in found["problems"] if each["code"] == "open_prs_left"]
    assert f"{old}:1 (agent/T1)" in problem["message"]
    assert f"`forge: {old}`" in problem["hint"]
    assert found["open_prs"] == 1
    assert [row["id"] for row in cli("pr", "list", "--json").json] == [f"{old}:1"]
    assert f"is on the forge {old}" in cli("explain", "REVIEW-1").out
    assert cli("pr", "show", f"{old}:1").code == 0
    configure(layout, old)
    assert "not_reviewable" not in cli("explain", "REVIEW-1").out


@pytest.mark.parametrize(("word", "ends"), [("close", "failed"), ("merged", "done")])
@pytest.mark.parametrize("state", ["answers", "is gone"])
@pytest.mark.parametrize(("old", "new"), [("local", "github"), ("github", "local")])
def test_each_way_out_works_even_if_the_forge_does_not_answer(
    layout: Layout, hub: Hub, cli: Cli, word: str, ends: str, state: str, old: str, new: str
) -> None:
    deliver(layout, hub, old)
    configure(layout, new)
    hub.set(signed_out=state == "is gone")
    done = cli("pr", word, f"{old}:1")
    assert done.code == 0, done
    assert ("github was not told" in done.err) == (
        (old, state, word) == ("github", "is gone", "close")
    )
    assert FileStore(layout).find("T1").state == ends
    assert forges.left(layout, Config(forge=new)) == []
    assert cli("pr", word, f"{old}:9").code == 1


def test_what_is_left_can_be_merged_where_it_is(layout: Layout, hub: Hub, cli: Cli) -> None:
    pr = deliver(layout, hub, "local")
    configure(layout, "github")
    assert cli("pr", "merge", "local:1").code == 0
    sh(hub.remote, "merge-base", "--is-ancestor", pr.head, "main")
    assert FileStore(layout).find("T1").merged


# --- equal numbers -----------------------------------------------------------------------------


def test_the_end_of_an_old_pull_request_does_not_end_the_task_of_a_newer_one(
    layout: Layout, hub: Hub, cli: Cli
) -> None:
    deliver(layout, hub, "local")
    configure(layout, "github")
    hub.forge.open(wanted(branch(hub.repo, "agent/T1", "more\n")), "body")
    assert cli("pr", "close", "local:1").code == 0
    assert FileStore(layout).find("T1").state == "done"
    assert hub.forge.book.find("1").state == "open"


def done(**more: Any) -> Task:
    return Task("T1", "t", "implement", "done", "", pr="1", **more)


@pytest.mark.parametrize(
    ("task", "prs", "expected"),
    [
        (done(merged=True), [], "met"),
        (done(), [], "waiting: its pull request 1 is gone"),
        (done(), [("T1", "open")], "waiting: its pull request 1 is open"),
        # The pull request 1 of another forge is another task's.
        (done(), [("T9", "merged")], f"waiting: its pull request 1 {ELSEWHERE}"),
        (done(merged=True), [("T9", "open")], "met"),
        (done(merged=True), [("T9", "closed")], "met"),
    ],
)
def test_a_dependency_that_an_earlier_forge_merged_is_met(
    task: Task, prs: list[tuple[str, str]], expected: str
) -> None:
    known = [PullRequest("1", t, "agent/x", "main", "a", "t", state) for t, state in prs]
    assert dependencies.verdicts(["T1"], {"T1": task}, known) == {"T1": expected}


def test_a_verdict_is_not_posted_at_another_forges_pull_request(layout: Layout, hub: Hub) -> None:
    from orchestrator.model.snapshot import Outcome
    from orchestrator.pulls import review

    deliver(layout, hub, "local")
    hub.forge.open(wanted(branch(hub.repo, "agent/T9"), "agent/T9")._replace(task="T9"), "body")
    reviewing = Task("R1", "t", "review", "claimed", "", pr="1", reviews="T1")
    verdict = Outcome("approved", head="a" * 40)
    config = Config(forge="github")
    review.give_verdict(layout, config, reviewing, verdict, now=0.0, run="R-2", reviewer="rev")
    assert hub.state["prs"][0]["comments"] == []
    assert Local(layout, config).book.find("1").state == "open"
    history = FileStore(layout).read(FileStore(layout).find("T1")).history
    assert history[-1].fields["verdict"] == "approved", "it counts when the forge is set back"


def test_a_task_never_shows_the_pull_request_of_another_task_on_another_forge(
    layout: Layout, hub: Hub, cli: Cli
) -> None:
    configure(layout, "github")
    old, new = deliver(layout, hub, "local"), deliver(layout, hub, "github", "T2")
    assert old.id == new.id
    refresh(layout, Config(forge="github"))
    number, url = old.id, new.url or ""
    said = cli("explain", "T1").out
    assert f"is done, in pull request local:{number}" in said
    assert f"orchestrator pr show local:{number}" in said
    shown = cli("task", "show", "T1").out
    assert f"orchestrator pr diff local:{number}" in shown
    assert url not in said + shown
    shown = cli("pr", "show", f"local:{number}").out
    assert f"orchestrator pr diff local:{number}" in shown
    assert f"is done; pull request {number}: " in cli("explain", "T2").out
    assert url in cli("task", "show", "T2").out
    assert cli("inbox", "approve", "T1").code == 1
    assert (hub.forge.book.find(number).state, new.state) == ("open", "open")
    assert cli("inbox", "reject", "T1", "No.").code == 0
    assert [FileStore(layout).find(each).state for each in ("T1", "T2")] == ["incoming", "done"]
