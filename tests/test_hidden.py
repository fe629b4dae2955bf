"""No flag in an agent's index hides a change from the product, or carries it to the next task."""

from __future__ import annotations

import pytest
from conftest import git as sh
from test_worktree import BRANCH, Agent, agent, commit, ignored  # noqa: F401 (fixtures)

from orchestrator.git import index
from orchestrator.git.repository import RESCUE

NAMES = ("plain.txt", "with space.txt", "ä.txt", "x" * 250)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
@pytest.mark.parametrize("version", ["2", "4"])
def test_failure_40_a_change_that_a_flag_hides_is_kept_and_gone_for_the_next_task(
    agent: Agent,  # noqa: F811
    flag: str,
    version: str,
) -> None:
    for name in NAMES:
        (agent.path / name).write_text("work\n")
    commit(agent.path)
    sh(agent.path, "update-index", "--index-version", version)
    sh(agent.path, "update-index", flag, *NAMES)
    for name in NAMES:
        (agent.path / name).write_text("precious\n")
    assert agent.end() == f"{RESCUE}R1"
    for name in NAMES:
        assert sh(agent.repo, "show", f"{RESCUE}R1:{name}") == "precious"
    agent.begin(BRANCH)
    assert {(agent.path / name).read_text() for name in NAMES} == {"work\n"}
    tags = sh(agent.path, "ls-files", "-v").splitlines()
    assert {row[0] for row in tags} == {"H"}


def test_a_file_that_a_flag_left_out_is_there_again_and_no_deletion(
    agent: Agent,  # noqa: F811
) -> None:
    commit(agent.path)
    sh(agent.path, "update-index", "--skip-worktree", "work.txt")
    (agent.path / "work.txt").unlink()
    assert agent.end() is None
    assert (agent.path / "work.txt").read_text() == "work\n"


def test_a_flagged_name_that_is_no_utf8_is_kept_too(agent: Agent) -> None:  # noqa: F811
    name = b"\xff\xfe.txt"
    path = agent.path / name.decode(errors="surrogateescape")
    path.write_text("work\n")
    commit(agent.path)
    sh(agent.path, "update-index", "--assume-unchanged", str(path.name))
    path.write_text("precious\n")
    ref = agent.end()
    assert ref is not None
    assert "precious" in sh(agent.repo, "grep", "precious", ref)


def test_an_index_without_a_flag_starts_no_git(
    agent: Agent,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in NAMES:
        (agent.path / name).write_text("work\n")
    commit(agent.path)

    def refused(*_: object) -> str:
        pytest.fail("git was asked")

    monkeypatch.setattr(index, "ask", refused)
    index.reveal(str(agent.path))


def test_an_index_that_is_not_understood_is_asked_of_git(
    agent: Agent,  # noqa: F811
) -> None:
    commit(agent.path)
    found = index.read(str(agent.path))
    assert found is not None
    assert not index.may_hide(found)
    shifted = found[:12] + bytes(12) + found[12:]  # as with the longer ids of SHA-256
    for odd in (b"", found[:40], found[:11] + b"\xff" + found[12:], shifted):
        assert index.may_hide(odd)


@pytest.mark.parametrize("version", ["2", "4"])
def test_a_name_that_is_tracked_is_seen_in_the_index(
    agent: Agent,  # noqa: F811
    version: str,
) -> None:
    (agent.path / "docs").mkdir()
    commit(agent.path, "docs/instructions.md")
    sh(agent.path, "update-index", "--index-version", version)
    assert index.may_track(str(agent.path), "docs")
    assert index.may_track(str(agent.path), "docs/instructions.md")
    assert index.may_track(str(agent.path), "missing.md") is (version == "4")
