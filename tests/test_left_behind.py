"""What only a worktree's records name is kept, and never among the person's stashes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import git as sh
from test_worktree import BRANCH, Agent, _conflict, agent, commit, ignored  # noqa: F401 (fixtures)

from orchestrator.git import repository, worktree_commands
from orchestrator.git.repository import RESCUE


def rescued(repo: Path) -> set[str]:
    return set(repository.refs(str(repo), RESCUE).values())


def _detached(path: Path) -> str:
    sh(path, "checkout", "--quiet", "--detach")
    return commit(path, "try.txt")


def _on_a_branch_that_is_deleted(path: Path) -> str:
    sh(path, "switch", "--quiet", "--create", "try")
    return commit(path, "try.txt")


@pytest.mark.parametrize("leave", [_detached, _on_a_branch_that_is_deleted])
def test_a_commit_that_head_left_again_is_kept(
    agent: Agent,  # noqa: F811
    leave: Callable[[Path], str],
) -> None:
    left = leave(agent.path)
    sh(agent.path, "checkout", "--quiet", BRANCH)
    subprocess.run(("git", "branch", "-D", "try"), cwd=agent.path, capture_output=True)
    commit(agent.path)
    ref = agent.end()
    assert ref == f"{RESCUE}R1-left"
    assert rescued(agent.repo) == {left}
    # A person has dropped the ref: nothing brings it back.
    repository.delete_ref(str(agent.repo), ref, left)
    agent.begin()
    agent.end(run="R2")
    assert rescued(agent.repo) == set()


def test_a_branch_that_was_deleted_during_the_run_is_made_again_with_its_commits(
    agent: Agent,  # noqa: F811
) -> None:
    made = commit(agent.path)
    sh(agent.repo, "update-ref", "-d", f"refs/heads/{BRANCH}")
    (agent.path / "new.txt").write_text("not committed\n")
    ref = agent.end()
    assert sh(agent.repo, "rev-parse", BRANCH) == made
    assert sh(agent.repo, "show", f"{ref}:new.txt") == "not committed"
    assert sh(agent.repo, "rev-parse", f"{ref}^1") == made


def test_what_a_branch_had_before_it_was_deleted_and_begun_anew_is_kept(
    agent: Agent,  # noqa: F811
) -> None:
    agent.end()  # the log of HEAD is read up to here
    agent.begin()
    before = commit(agent.path)
    sh(agent.repo, "update-ref", "-d", f"refs/heads/{BRANCH}")
    after = commit(agent.path, "more.txt")
    assert sh(agent.repo, "rev-list", "--count", after) == "1"
    assert agent.end(run="R2") == f"{RESCUE}R2-left"
    assert rescued(agent.repo) == {before}
    assert sh(agent.repo, "rev-parse", BRANCH) == after


def test_what_is_on_a_branch_or_was_replaced_there_is_no_rescue(
    agent: Agent,  # noqa: F811
) -> None:
    commit(agent.path)
    sh(agent.path, "commit", "--quiet", "--amend", "-m", "better")
    sh(agent.path, "checkout", "--quiet", "--detach", "main")
    sh(agent.path, "checkout", "--quiet", BRANCH)
    sh(agent.path, "commit", "--quiet", "--amend", "-m", "best")
    assert agent.end() is None
    # The branch was merged as another commit, and deleted: only the product's checkouts had it.
    worktree_commands.detach(str(agent.path), "main")
    sh(agent.repo, "branch", "--quiet", "-D", BRANCH)
    agent.begin()
    agent.end(run="R2")
    assert rescued(agent.repo) == set()


def test_changes_that_an_operation_put_away_do_not_reach_the_persons_stashes(
    agent: Agent,  # noqa: F811
) -> None:
    (agent.repo / "README.md").write_text("the person's\n")
    sh(agent.repo, "stash", "push", "--quiet")
    before = sh(agent.repo, "stash", "list")
    _conflict(agent)
    (agent.path / "new.txt").write_text("precious")
    sh(agent.path, "add", "new.txt")
    words = ("git", "rebase", "--quiet", "--autostash", "main")
    subprocess.run(words, cwd=agent.path, capture_output=True)
    assert not (agent.path / "new.txt").exists()
    agent.end()
    assert sh(agent.repo, "show", f"{RESCUE}R1-left:new.txt") == "precious"
    assert sh(agent.repo, "stash", "list") == before
