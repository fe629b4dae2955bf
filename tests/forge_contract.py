"""What every forge must do, wherever it keeps pull requests.

A test module inherits `ForgeContract` and gives it `world`: a repository, its remote and a forge.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import commits
import pytest
from conftest import git as sh

from orchestrator.git import remotes, repository
from orchestrator.model.config import FORGES
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.work import Given, PullRequest
from orchestrator.pulls.forge import PROGRAMS, Forge


def branch(repo: Path, name: str, text: str = "work\n", push: bool = True) -> str:
    """Make or continue an agent's branch, and push it; return its tip. The checkout stays."""
    remote = repo.parent / "remote.git"
    return commits.commit(
        repo,
        f"refs/heads/{name}",
        {f"{name.replace('/', '-')}.txt": text},
        base=commits.read(repo, name) or "main",
        message=f"On {name}: {text.strip()}",
        push=remote if push and remote.exists() else None,
    )


def wanted(head: str, name: str = "agent/T1", **more: Any) -> PullRequest:
    return PullRequest("", "T1", name, "main", head, "Fix it", "open", **more)


class World(NamedTuple):
    """A repository with a remote and a branch `main`, and the forge of the project in it."""

    repo: Path
    forge: Forge

    def land(self, head: str) -> str:
        """Merge a commit into the remote's main by git, as `Forge.merge` is given it."""
        sh(self.repo, "push", "--quiet", "origin", f"{head}:refs/heads/main")
        return head


class ForgeContract:
    """The tests of the protocol."""

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    def test_its_name_is_one_that_agents_yaml_can_say(self, world: World) -> None:
        assert world.forge.name in FORGES

    def test_a_forge_elsewhere_says_what_a_person_does_about_its_faults(self, world: World) -> None:
        assert world.forge.hints.get("forge_failed") or not world.forge.is_elsewhere
        assert world.forge.program in (None, *PROGRAMS)

    def test_it_can_be_used_where_doctor_finds_no_fault(self, world: World) -> None:
        import os

        assert world.forge.probe(os.environ, 30.0) is None

    def test_an_opened_pull_request_is_found_afterwards(self, world: World) -> None:
        assert world.forge.refresh() == []
        head = branch(world.repo, "agent/T1")
        pr = world.forge.open(wanted(head), "What and why.")
        assert (pr.id, pr.task, pr.branch, pr.base) == ("1", "T1", "agent/T1", "main")
        assert (pr.head, pr.title, pr.state, pr.verdict) == (head, "Fix it", "open", None)
        assert pr.url
        assert world.forge.refresh() == [pr] == [world.forge.show("1")]

    def test_opening_it_again_finds_it_with_its_new_head(self, world: World) -> None:
        pr = world.forge.open(wanted(branch(world.repo, "agent/T1")), "body")
        head = branch(world.repo, "agent/T1", "more\n")
        again = world.forge.open(wanted(head), "body")
        assert (again.id, again.head) == (pr.id, head)
        assert len(world.forge.refresh()) == 1

    def test_pull_requests_are_listed_in_every_state_oldest_first(self, world: World) -> None:
        for number in range(1, 4):
            name = f"agent/T{number}"
            world.forge.open(wanted(branch(world.repo, name), name), "")
        world.forge.close("2")
        found = [(pr.id, pr.branch, pr.state) for pr in world.forge.refresh()]
        assert found == [
            ("1", "agent/T1", "open"),
            ("2", "agent/T2", "closed"),
            ("3", "agent/T3", "open"),
        ]

    def test_closing_can_be_repeated_and_a_later_one_is_another(self, world: World) -> None:
        world.forge.open(wanted(branch(world.repo, "agent/T1")), "")
        for _ in range(2):
            world.forge.close("1")
        assert world.forge.show("1").state == "closed"
        assert world.forge.open(wanted(branch(world.repo, "agent/T1", "new\n")), "").id == "2"

    def test_a_pull_request_can_merge_into_another_branch(self, world: World) -> None:
        pr = world.forge.open(wanted(branch(world.repo, "agent/T1")), "")
        sh(world.repo, "branch", "trunk", "main")
        if remotes.url(str(world.repo), "origin"):
            sh(world.repo, "push", "--quiet", "origin", "trunk")
        for _ in range(2):
            world.forge.retarget(pr, "trunk")
        shown = world.forge.show(pr.id)
        assert (shown.base, shown.state, shown.task) == ("trunk", "open", "T1")
        assert [each.base for each in world.forge.refresh()] == ["trunk"]

    def test_a_verdict_can_be_given_again_after_a_crash(self, world: World) -> None:
        head = branch(world.repo, "agent/T1")
        world.forge.open(wanted(head), "")
        review = Given("rev-1", "agent", "changes_requested", head, "Look again.")
        for _ in range(2):
            world.forge.post(world.forge.show("1"), review)
        assert world.forge.show("1").state == "open"

    def test_a_merge_moves_the_base_and_is_seen(self, world: World) -> None:
        head = branch(world.repo, "agent/T1")
        pr = world.forge.open(wanted(head), "")
        assert world.forge.merge(pr, head, "merge", lambda: world.land(head))
        assert world.forge.show("1").state == "merged"
        sh(world.repo, "fetch", "--quiet", "origin")
        assert repository.is_ancestor(str(world.repo), head, "origin/main")

    def test_a_merge_that_is_refused_leaves_it_open(self, world: World) -> None:
        head = branch(world.repo, "agent/T1")
        pr = world.forge.open(wanted(head), "")
        branch(world.repo, "agent/T1", "sneaked in\n")

        def refuse() -> str:
            raise OrchestratorError("it has commits that no review has seen")

        with pytest.raises(OrchestratorError):
            world.forge.merge(pr, head, "merge", refuse)
        assert world.forge.show("1").state == "open"

    @pytest.mark.parametrize("odd", ["99", "", "x", "-1", "--web", "agent/T1", "²", "../1"])
    def test_what_it_does_not_have_is_not_found(self, world: World, odd: str) -> None:
        world.forge.open(wanted(branch(world.repo, "agent/T1")), "")
        with pytest.raises(NotFound):
            world.forge.show(odd)
