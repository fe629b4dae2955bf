"""Both forges: a pull request is opened once, and is what git and GitHub say it is."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commits
import pytest
import warm_gh
from conftest import git as sh
from conftest import refresh
from forge_contract import ForgeContract, World, branch, wanted

from orchestrator.client import outcomes
from orchestrator.layout import Layout
from orchestrator.model.config import FORGES, Config
from orchestrator.model.errors import NotFound, OrchestratorError, SystemFault
from orchestrator.model.work import Given
from orchestrator.project import faults
from orchestrator.pulls import forge, forges, look, states
from orchestrator.pulls.github import GitHub
from orchestrator.pulls.local import Local
from orchestrator.system import files
from orchestrator.tasks import task_file
from orchestrator.tasks.file_store import FileStore

URL = "https://github.com/owner/repo.git"


@pytest.fixture
def layout(repo: Path) -> Layout:
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    return Layout(str(repo))


# --- local -------------------------------------------------------------------------------------


@pytest.fixture
def local(layout: Layout) -> Local:
    return Local(layout, Config())


class TestLocal(ForgeContract):
    """The contract, on this disk."""

    @pytest.fixture
    def world(self, repo: Path, remote: Path, local: Local) -> World:
        return World(repo, local)


def test_a_local_pull_request_is_a_record_that_anybody_can_read(
    local: Local, layout: Layout
) -> None:
    assert local.refresh() == []
    pr = local.open(wanted("a" * 40), "What and why.\n")
    assert (pr.id, pr.state, pr.head) == ("1", "open", "a" * 40)
    assert local.refresh() == [local.show("1")] == [pr]
    record = json.loads(Path(layout.prs, "1.json").read_text())
    assert (record["title"], record["body"]) == ("Fix it", "What and why.\n")
    assert pr.url == os.path.join(layout.prs, "1.json")


def test_a_pull_request_of_the_same_branch_is_found_and_brought_up_to_date(
    local: Local, layout: Layout
) -> None:
    first = local.open(wanted("a" * 40), "body")
    again = local.open(wanted("a" * 40), "body")
    assert again == first
    moved = local.open(wanted("b" * 40), "body")
    assert (moved.id, moved.head) == ("1", "b" * 40)
    assert json.loads(Path(layout.prs, "1.json").read_text())["body"] == "body"


@pytest.mark.parametrize("state", ["merged", "closed"])
def test_what_is_over_is_never_opened_again(local: Local, state: str) -> None:
    local.open(wanted("a" * 40), "")
    local.book.record("1", state=state)
    assert local.open(wanted("b" * 40), "").id == "2"
    assert [(pr.id, pr.state) for pr in local.refresh()] == [("1", state), ("2", "open")]


def test_numbers_sort_as_numbers(local: Local) -> None:
    for number in range(1, 12):
        local.open(wanted("a" * 40, f"agent/T{number}"), "")
    assert [pr.id for pr in local.refresh()] == [str(n) for n in range(1, 12)]


@pytest.mark.parametrize(
    "odd", ["2", "0", "", "x", "../1", "1/../1", "-1", "1.json", "9" * 30, "٣"]
)
def test_what_is_no_pull_request_is_not_found(local: Local, odd: str) -> None:
    local.open(wanted("a" * 40), "")
    with pytest.raises(NotFound):
        local.show(odd)
    with pytest.raises(NotFound):
        local.book.record(odd, state="closed")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"id": "2"}', "\0"])
def test_a_damaged_record_hides_no_other(local: Local, layout: Layout, damage: str) -> None:
    local.open(wanted("a" * 40), "")
    Path(layout.prs, "2.json").write_text(damage)
    Path(layout.prs, "notes.txt").write_text("mine")
    assert [pr.id for pr in local.refresh()] == ["1"]
    new = local.open(wanted("b" * 40, "agent/T2"), "")
    assert Path(layout.prs, "2.json").read_text() == damage
    assert new.id == "3"


def test_many_opening_at_once_get_a_number_each(layout: Layout) -> None:
    opened: list[str] = []

    def open_one(number: int) -> None:
        mine = Local(layout, Config())
        opened.append(mine.open(wanted("a" * 40, f"agent/T{number % 4}"), "").id)

    threads = [threading.Thread(target=open_one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(opened) == ["1", "1", "2", "2", "3", "3", "4", "4"]


# --- as git knows it ---------------------------------------------------------------------------


def refreshed(layout: Layout, **config: Any) -> dict[str, str]:
    settings = Config(forge="local", **config)
    known = states.known(layout, settings)
    found = refresh(layout, settings)
    assert found is not None
    assert [pr.state for pr in found] == [pr.state for pr in Local(layout, settings).refresh()]
    assert known is not None
    return {pr.branch: pr.state for pr in found}


def test_whoever_merged_it_and_however_it_is_merged(
    repo: Path, local: Local, layout: Layout
) -> None:
    for name in ("agent/ff", "agent/merge", "agent/gone", "agent/open"):
        local.open(wanted(branch(repo, name), name), "")
    sh(repo, "merge", "--quiet", "--ff-only", "agent/ff")
    sh(repo, "merge", "--quiet", "--no-ff", "-m", "m", "agent/merge")
    sh(repo, "merge", "--quiet", "--no-ff", "-m", "m", "agent/gone")
    sh(repo, "branch", "--quiet", "-D", "agent/gone")
    assert refreshed(layout) == {
        "agent/ff": "merged",
        "agent/merge": "merged",
        "agent/gone": "merged",
        "agent/open": "open",
    }


def test_one_whose_branch_is_gone_is_closed_and_stays_closed(
    repo: Path, local: Local, layout: Layout
) -> None:
    head = branch(repo, "agent/T1")
    local.open(wanted(head), "")
    sh(repo, "branch", "--quiet", "-D", "agent/T1")
    assert refreshed(layout) == {"agent/T1": "closed"}
    sh(repo, "update-ref", "refs/heads/agent/T1", head)
    assert refreshed(layout) == {"agent/T1": "closed"}


def test_a_merge_elsewhere_is_seen_through_the_remote(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    head = branch(repo, "agent/T1")
    local.open(wanted(head), "")
    assert refreshed(layout) == {"agent/T1": "open"}
    sh(remote, "update-ref", "refs/heads/main", head)
    sh(remote, "update-ref", "-d", "refs/heads/agent/T1")
    assert refreshed(layout) == {"agent/T1": "merged"}


def test_one_whose_branch_the_remote_no_longer_has_is_closed(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    local.open(wanted(branch(repo, "agent/T1")), "")
    sh(remote, "update-ref", "-d", "refs/heads/agent/T1")
    assert refreshed(layout) == {"agent/T1": "closed"}


def test_a_remote_out_of_reach_closes_and_merges_nothing(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    local.open(wanted(branch(repo, "agent/T1")), "")
    # A push that was killed at its end leaves no word here of the branch that the remote has.
    local.open(wanted(branch(repo, "agent/T2"), "agent/T2"), "")
    sh(repo, "update-ref", "-d", "refs/remotes/origin/agent/T2")
    remote.rename(remote.with_name("gone.git"))
    prs = refresh(layout, Config(forge="local"))
    assert prs is not None
    assert [pr.state for pr in prs] == ["open", "open"]
    known = states.known(layout, Config(forge="local"))
    assert [pr.state for pr in known or ()] == ["open", "open"]
    fault = faults.read(layout.remote_fault)
    assert fault is not None
    assert fault.code == "remote_unreachable"


def test_the_ticks_after_runs_look_at_the_remote_only_now_and_then(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    config = Config(forge="local")
    head = branch(repo, "agent/T1")
    local.open(wanted(head), "")

    def states_of(*, after_run: bool) -> list[str]:
        return [pr.state for pr in refresh(layout, config, after_run=after_run) or ()]

    assert states_of(after_run=True) == ["open"]
    assert look.is_fresh(layout)
    sh(remote, "update-ref", "refs/heads/main", head)
    assert states_of(after_run=True) == ["open"], "the last look is not ten seconds old"
    before = time.time() - look.LOOK_EVERY
    for name in ("bases-looked-at", "bases-seen"):
        os.utime(os.path.join(layout.cache, name), (before, before))
    assert not look.is_fresh(layout)
    assert states_of(after_run=True) == ["merged"]
    sh(remote, "update-ref", "-d", "refs/heads/agent/T1")
    local.open(wanted(head, "agent/T2"), "")
    assert states_of(after_run=False) == ["merged", "merged"], "a tick of the schedule looks"


def test_a_look_that_failed_is_not_fresh(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    local.open(wanted(branch(repo, "agent/T1")), "")
    remote.rename(remote.with_name("gone.git"))
    refresh(layout, Config(forge="local"), after_run=True)
    assert not look.is_fresh(layout)


def test_a_look_within_the_time_that_is_given_asks_nothing(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    config, head = Config(forge="local"), branch(repo, "agent/T1")
    local.open(wanted(head), "")

    def states_of(at_most_every: float) -> list[str]:
        found = look.look(layout, config, at_most_every=at_most_every)
        return [pr.state for pr in states.record(layout, config, found) or ()]

    assert states_of(60.0) == ["open"], "nothing was asked before"
    sh(remote, "update-ref", "refs/heads/main", head)
    assert states_of(60.0) == ["open"]
    before = time.time() - 61
    os.utime(os.path.join(layout.cache, "bases-looked-at"), (before, before))
    assert states_of(60.0) == ["merged"]


def test_a_damaged_branch_hides_no_pull_request_beside_it(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    config = Config(forge="local")
    sh(repo, "config", "fastimport.unpackLimit", "100")  # each object in a file of its own
    heads = [branch(repo, f"agent/T{number}") for number in (1, 2, 3)]
    for number, head in enumerate(heads, 1):
        local.open(wanted(head, f"agent/T{number}"), "")
    (repo / ".git/objects" / heads[0][:2] / heads[0][2:]).unlink()
    sh(remote, "update-ref", "refs/heads/main", heads[1])
    found = [pr.state for pr in refresh(layout, config) or ()]
    assert found[1:] == ["merged", "open"]


def test_what_happens_here_between_a_look_and_its_record_counts(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    """A look is made without the tick's lock: after it, a run may deliver, a person may land."""
    config, head = Config(forge="local"), branch(repo, "agent/T1")
    local.open(wanted(head), "")
    found = look.look(layout, config)
    sh(repo, "push", "--quiet", "origin", f"{head}:main")
    late = branch(repo, "agent/T2")
    local.open(wanted(late, "agent/T2"), "")
    sh(repo, "update-ref", "-d", "refs/remotes/origin/agent/T2")  # not seen, so not gone
    now = states.record(layout, config, found)
    assert [pr.state for pr in now or ()] == ["merged", "open"]


def test_what_another_host_delivers_between_a_look_and_its_record_counts(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    """This host has fetched what was there before."""
    config = Config(forge="local")
    heads = {name: branch(repo, f"agent/{name}") for name in ("T1", "T2")}
    for name, head in heads.items():
        local.open(wanted(head, f"agent/{name}"), "")
    sh(remote, "update-ref", "-d", "refs/heads/agent/T2")
    found = look.look(layout, config)
    later = [
        sh(repo, "commit-tree", "-p", head, "-m", "x", f"{head}^{{tree}}")
        for head in heads.values()
    ]
    for name, commit in zip(heads, later, strict=True):
        local.open(wanted(commit, f"agent/{name}"), "")
    now = states.record(layout, config, found) or []
    assert [(pr.state, pr.head) for pr in now] == [("open", commit) for commit in later]


def test_the_head_that_another_host_delivered_is_shown_before_this_host_fetches_it(
    repo: Path,
    remote: Path,
    local: Local,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, head = Config(forge="local"), branch(repo, "agent/T1")
    local.open(wanted(head), "")
    refresh(layout, config)
    monkeypatch.setattr(FileStore, "host", "one")
    words = ("commit-tree", "-p", head, "-m", "of another host", f"{head}^{{tree}}")
    later = sh(remote, "-c", "user.name=x", "-c", "user.email=x@localhost", *words)
    sh(remote, "update-ref", "refs/heads/agent/T1", later)
    local.open(wanted(later), "")
    assert [pr.head for pr in states.known(layout, config) or ()] == [later]
    unfetched = look.Look(unsure=frozenset({("1", later)}))
    assert [pr.head for pr in states.record(layout, config, unfetched) or ()] == [later]
    assert [pr.head for pr in refresh(layout, config) or ()] == [later]


def test_a_landing_whose_signs_appear_one_after_the_other_closes_nothing(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    """Its push deletes the branch's ref here before it moves the base's, or is killed between."""
    config, head = Config(forge="local"), branch(repo, "agent/T1")
    local.open(wanted(head), "")
    found = look.look(layout, config)
    sh(repo, "push", "--quiet", "origin", f"{head}:main", ":agent/T1")
    sh(repo, "update-ref", "refs/remotes/origin/main", f"{head}^")
    assert [pr.state for pr in states.record(layout, config, found) or ()] == ["open"]
    assert [pr.state for pr in refresh(layout, config) or ()] == ["merged"]


def test_a_branch_that_a_look_found_gone_and_that_is_there_again_closes_nothing(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    config, head = Config(forge="local"), branch(repo, "agent/T1")
    local.open(wanted(head), "")
    sh(remote, "update-ref", "-d", "refs/heads/agent/T1")
    found = look.look(layout, config)
    sh(repo, "push", "--quiet", "origin", "agent/T1")
    assert [pr.state for pr in states.record(layout, config, found) or ()] == ["open"]


def test_a_person_who_closes_it_between_a_look_and_its_record_is_not_overruled(
    repo: Path, remote: Path, local: Local, layout: Layout
) -> None:
    config, head = Config(forge="local"), branch(repo, "agent/T1")
    local.open(wanted(head), "")
    sh(remote, "update-ref", "refs/heads/main", head)
    found = look.look(layout, config)
    local.close("1")
    assert [pr.state for pr in states.record(layout, config, found) or ()] == ["closed"]


# --- which forge -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "with_gh", "name"),
    [
        ("https://github.com/owner/repo", True, "github"),
        ("https://github.com/owner/repo.git", True, "github"),
        ("git@github.com:owner/repo.git", True, "github"),
        ("ssh://git@github.com/owner/repo.git", True, "github"),
        ("https://person@github.com/owner/repo.git", True, "github"),
        ("https://x-access-token:secret@github.com/owner/repo.git", True, "github"),
        ("https://GitHub.com/owner/repo", True, "github"),
        ("org-123@github.com:owner/repo.git", True, "github"),
        ("ssh://git@ssh.github.com:443/owner/repo.git", True, "github"),
        ("git@ssh.github.com:443/owner/repo.git", True, "github"),
        ("https://code.example.com/owner/repo.git", True, "github"),
        ("https://github.com/owner/repo", False, "local"),
        ("https://gitlab.com/owner/repo.git", True, "local"),
        ("https://github.com.example.org/owner/repo", True, "local"),
        ("https://example.org/github.com/owner/repo", True, "local"),
        ("git@example.org:github.com/repo.git", True, "local"),
        ("/srv/github.com/repo.git", True, "local"),
        (None, True, "local"),
    ],
)
def test_auto_means_github_where_the_remote_and_gh_are(
    repo: Path,
    layout: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
    with_gh: bool,
    name: str,
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").symlink_to(shutil.which("git") or "")
    if with_gh:
        # It has sign-ins for two hosts.
        text = '#!/bin/sh\ncase "$4" in github.com | code.example.com) ;; *) exit 1 ;; esac\n'
        (folder / "gh").write_text(text)
        (folder / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    if url:
        sh(repo, "remote", "add", "origin", url)
    assert forges.of_project(layout, Config()).name == name
    assert forges.of_project(layout, Config(forge="local")).name == "local"
    assert forges.of_project(layout, Config(forge="github")).name == "github"


# --- GitHub ------------------------------------------------------------------------------------


class Hub:
    """GitHub as the fake `gh` keeps it."""

    def __init__(self, repo: Path, remote: Path, path: Path) -> None:
        self.repo, self.remote, self.path = repo, remote, path
        self.set(remote=str(remote), prs=[], permissions={"ada": "write", "bob": "admin"})
        self.forge = GitHub(Layout(str(repo)), Config())

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.path.read_text()))

    def set(self, **changes: Any) -> None:
        state = self.state if self.path.exists() else {}
        self.path.write_text(json.dumps({**state, **changes}))

    def calls(self) -> list[str]:
        return [" ".join(words[:2]) for words in self.state.get("calls", [])]


@pytest.fixture
def hub(
    repo: Path, remote: Path, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Hub:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "gh").write_text(f"#!/bin/sh\n{warm_gh.line()}\n")
    (folder / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GH_STATE", str(tmp_path / "github.json"))
    commits.readdress(repo, remote, URL)
    return Hub(repo, remote, tmp_path / "github.json")


class TestGitHub(ForgeContract):
    """The contract, on GitHub."""

    @pytest.fixture
    def world(self, hub: Hub) -> World:
        return World(hub.repo, hub.forge)


def test_a_pull_request_on_github_is_opened_once_and_found_afterwards(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    pr = hub.forge.open(wanted(head), "What and why.")
    assert (pr.id, pr.task, pr.branch, pr.base) == ("1", "T1", "agent/T1", "main")
    assert (pr.head, pr.title, pr.state) == (head, "Fix it", "open")
    assert pr.url == "https://github.com/owner/repo/pull/1"
    assert hub.forge.open(wanted(head), "again") == pr
    assert hub.calls().count("pr create") == 1
    assert hub.forge.refresh() == [pr] == [hub.forge.show("1")]
    assert hub.state["prs"][0]["body"].startswith("What and why.\n\n")


def test_a_crash_after_github_took_it_opens_no_second_one(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    hub.set(die_after_create=True)
    assert hub.forge.open(wanted(head), "body").id == "1"
    files.remove_tree(hub.forge.book.folder)
    assert hub.forge.open(wanted(head), "body").id == "1"
    assert len(hub.state["prs"]) == 1
    assert hub.calls().count("pr create") == 1


TEXTS = ["--web", "-", "@file", "ünï ☃\n\nlines", "`$(touch x)`", "a\tb", '"quoted"', "#1 fixes #2"]


@pytest.mark.parametrize("text", TEXTS)
def test_no_title_or_text_is_taken_for_an_option(hub: Hub, text: str) -> None:
    head = branch(hub.repo, "agent/T1")
    title = " ".join(text.split())
    pr = hub.forge.open(wanted(head)._replace(title=title), text)
    assert pr.title == title
    assert text in hub.state["prs"][0]["body"]
    hub.forge.post(pr, Given("rev-1", "agent", "changes_requested", head, text))
    assert text in hub.state["prs"][0]["comments"][0]["body"]


def test_the_longest_text_that_a_run_can_report_fits(hub: Hub) -> None:
    head, longest = branch(hub.repo, "agent/T1"), "☃" * outcomes.TEXT_LIMIT
    pr = hub.forge.open(wanted(head)._replace(title="x" * task_file.MAX_TITLE), longest)
    assert pr.task == "T1"
    hub.forge.post(pr, Given("rev-1", "agent", "changes_requested", head, longest))


def test_the_task_is_found_whatever_the_text_says(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    body = "Orchestrator-Task: OTHER\n\nAs said: Orchestrator-Task: X"
    assert hub.forge.open(wanted(head), body).task == "T1"


def person_says(
    hub: Hub, verdict: str, commit: str | None = None, pr: int = 0, **more: Any
) -> None:
    """Let a person review a pull request on GitHub."""
    prs = hub.state["prs"]
    reviews = prs[pr]["reviews"]
    reviews.append(
        {
            "author": {"login": "ada"},
            "authorAssociation": "MEMBER",
            "body": "So it is.",
            "state": verdict,
            "submittedAt": f"2026-01-02T00:00:{len(reviews):02}Z",
            "commit": {"oid": commit or prs[pr]["headRefOid"]},
            **more,
        }
    )
    hub.set(prs=prs)


def test_only_pull_requests_with_a_record_are_listed_in_every_state(hub: Hub) -> None:
    for number in range(1, 4):
        hub.forge.open(wanted(branch(hub.repo, f"agent/T{number}"), f"agent/T{number}"), "")
    prs = hub.state["prs"]
    prs[1]["state"], prs[2]["state"] = "MERGED", "CLOSED"
    for name in ("persons-own", "agent/of-a-person"):
        branch(hub.repo, name)
        prs.append({**prs[0], "number": len(prs) + 1, "headRefName": name})
    hub.set(prs=prs)
    assert [(pr.id, pr.state) for pr in hub.forge.refresh()] == [
        ("1", "open"),
        ("2", "merged"),
        ("3", "closed"),
    ]


def test_the_decision_of_github_is_not_the_verdict(hub: Hub) -> None:
    hub.forge.open(wanted(branch(hub.repo, "agent/T1")), "")
    prs = hub.state["prs"]
    prs[0]["reviewDecision"] = "APPROVED"
    hub.set(prs=prs)
    assert hub.forge.show("1").verdict is None
    assert hub.forge.show("1").reviews == ()


def test_reviews_of_people_who_may_write_are_read_with_their_commits(hub: Hub) -> None:
    first = branch(hub.repo, "agent/T1")
    hub.forge.open(wanted(first), "")
    person_says(hub, "APPROVED")
    branch(hub.repo, "agent/T1", "more\n")
    for verdict in ("COMMENTED", "DISMISSED", "PENDING"):
        person_says(hub, verdict)
    person_says(hub, "APPROVED", authorAssociation="CONTRIBUTOR", author={"login": "eve"})
    person_says(hub, "CHANGES_REQUESTED", authorAssociation="OWNER", author={"login": "bob"})
    (pr,) = hub.forge.refresh()
    assert [(r.by, r.kind, r.verdict, r.commit) for r in pr.reviews] == [
        ("ada", "person", "approved", first),
        ("bob", "person", "changes_requested", first),
    ]
    assert pr == hub.forge.book.get("1")


def agents(verdict: str, commit: str, text: str = "The tests lie.") -> Given:
    return Given("rev-1", "agent", verdict, commit, text)


def test_a_verdict_is_a_comment_where_github_refuses_a_review_of_ones_own(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    hub.forge.open(wanted(head), "")
    for _ in range(2):
        hub.forge.post(hub.forge.show("1"), agents("changes_requested", head))
    (comment,) = hub.state["prs"][0]["comments"]
    assert head[:12] in comment["body"]
    assert "changes requested" in comment["body"]
    assert "The tests lie." in comment["body"]
    assert hub.state["prs"][0]["reviews"] == []


def test_why_github_shows_no_verdict_is_told(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    pr = hub.forge.open(wanted(head), "")
    given = agents("changes_requested", head)
    assert hub.forge.post(pr, given) is None
    (known,) = hub.state["prs"]
    hub.set(prs=[{**known, "comments": [], "locked": True}])
    assert "Unable to create comment because issue is locked." in (hub.forge.post(pr, given) or "")
    hub.set(prs=[])
    assert "no pull request named '1'" in (hub.forge.post(pr, given) or "")
    hub.set(offline=True)
    with pytest.raises(SystemFault, match="error connecting"):
        hub.forge.post(pr, given)


@pytest.mark.parametrize("verdict", ["approved", "changes_requested"])
def test_a_verdict_is_a_review_where_github_allows_it_once(hub: Hub, verdict: str) -> None:
    head = branch(hub.repo, "agent/T1")
    hub.forge.open(wanted(head), "")
    prs = hub.state["prs"]
    prs[0]["author"] = {"login": "a-bot"}
    hub.set(prs=prs)
    for _ in range(2):
        hub.forge.post(hub.forge.show("1"), agents(verdict, head))
    (review,) = hub.state["prs"][0]["reviews"]
    assert (review["state"], review["commit"]["oid"]) == (verdict.upper(), head)
    assert hub.state["prs"][0]["comments"] == []
    assert hub.forge.show("1").reviews == (), "what the product posted is no person's review"


def test_a_verdict_on_a_commit_that_is_no_longer_the_head_is_no_review(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    pr = hub.forge.open(wanted(head), "")
    prs = hub.state["prs"]
    prs[0]["author"] = {"login": "a-bot"}
    hub.set(prs=prs)
    branch(hub.repo, "agent/T1", "more\n")
    hub.forge.post(pr, agents("approved", head))
    assert hub.state["prs"][0]["reviews"] == []
    assert head[:12] in hub.state["prs"][0]["comments"][0]["body"]


def test_a_text_that_github_finds_too_long_is_cut(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    pr = hub.forge.open(wanted(head), "")
    hub.forge.post(pr, agents("approved", head, "long " * 20_000))
    (comment,) = hub.state["prs"][0]["comments"]
    assert "characters left out" in comment["body"]


def test_a_verdict_that_was_given_before_a_crash_is_not_given_again(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    hub.forge.open(wanted(head), "")
    for _ in range(2):
        hub.forge.post(
            hub.forge.show("1"), Given("rev-1", "agent", "approved", head, "Looks right.\n")
        )
    hub.forge.post(
        hub.forge.show("1"),
        Given("rev-1", "agent", "changes_requested", head, "On second thoughts."),
    )
    assert [c["body"].split("**")[1] for c in hub.state["prs"][0]["comments"]] == [
        "approved",
        "changes requested",
    ]


def test_only_the_reviewed_commit_is_merged(hub: Hub) -> None:
    head = branch(hub.repo, "agent/T1")
    hub.forge.open(wanted(head), "")
    branch(hub.repo, "agent/T1", "sneaked in\n")
    with pytest.raises(OrchestratorError) as refused:
        hub.forge.merge(hub.forge.show("1"), head, "merge", pytest.fail)
    assert refused.value.code == "not_reviewed"


FAULTS: dict[str, Callable[[Hub], object]] = {
    "offline": lambda hub: hub.set(offline=True),
    "signed out": lambda hub: hub.set(signed_out=True),
    "no JSON": lambda hub: hub.set(says="<html>Bad gateway</html>"),
    "another shape": lambda hub: hub.set(says='[{"number": 1}]'),
    "no list": lambda hub: hub.set(says='"x"'),
    "no such remote": lambda hub: sh(hub.repo, "remote", "set-url", "origin", "/elsewhere"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_forge_that_fails_is_nobodys_fault(hub: Hub, name: str) -> None:
    head = branch(hub.repo, "agent/T1")
    FAULTS[name](hub)
    for ask in (hub.forge.refresh, lambda: hub.forge.open(wanted(head), "body")):
        with pytest.raises(SystemFault) as fault:
            ask()
        assert fault.value.code == "forge_failed"
    assert refresh(Layout(str(hub.repo)), Config(forge="github")) is None


def test_without_gh_the_next_step_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "git").symlink_to(shutil.which("git") or "")
    monkeypatch.setenv("PATH", str(tmp_path / "only"))
    with pytest.raises(SystemFault) as fault:
        hub.forge.refresh()
    assert "gh" in (fault.value.hint or "")


def test_a_tick_asks_github_once_and_reading_commands_not_at_all(hub: Hub, layout: Layout) -> None:
    hub.forge.open(wanted(branch(hub.repo, "agent/T1")), "")
    before = len(hub.calls())
    config = Config(forge="github")
    prs = refresh(layout, config)
    assert len(hub.calls()) == before + 1
    assert states.known(layout, config) == prs
    assert len(hub.calls()) == before + 1


def test_reading_commands_do_not_ask_github_when_it_has_no_pull_request(
    hub: Hub, layout: Layout
) -> None:
    config = Config(forge="github")
    files.make_folder(layout.cache)
    assert refresh(layout, config) == []
    before = len(hub.calls())
    assert states.known(layout, config) == []
    assert len(hub.calls()) == before


# --- the fake itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("pr", "list", "--state", "any", "--json", "number"),
        ("pr", "list", "--json", "nonsense"),
        ("pr", "list", "--heads", "x", "--json", "number"),
        ("pr", "create", "--head", "agent/T1", "--title", "t"),
        ("pr", "create", "--head", "agent/nope", "--title", "t", "--body", "b"),
        ("pr", "merge", "1"),
        ("pr", "merge", "1", "--merge", "--squash"),
        ("pr", "comment", "1"),
        ("pr", "review", "1", "--approve"),
        ("pr", "view"),
        ("pr", "frobnicate"),
    ],
)
def test_the_stand_in_refuses_what_the_real_gh_refuses(hub: Hub, words: tuple[str, ...]) -> None:
    hub.forge.open(wanted(branch(hub.repo, "agent/T1")), "")
    with pytest.raises(OrchestratorError):
        hub.forge._gh.run(*words)


def test_the_registry_has_each_forge_that_agents_yaml_can_name() -> None:
    assert {name: kind.name for name, kind in forge.FORGES.items()} == {n: n for n in FORGES}


def test_pull_requests_are_not_known_while_the_forge_gives_no_answer(project: Layout) -> None:
    config = Config(forge="local")
    assert states.counted(project, config) == []
    faults.keep(project.forge_fault, SystemFault("the forge cannot be asked"))
    assert states.known(project, config) == []
    assert states.counted(project, config) is None
