"""The commits of a range are those that git shows for it."""

from __future__ import annotations

from pathlib import Path

from commits import commit, tip

from orchestrator.git import repository


def made(repo: Path, branch: str, base: str, message: str) -> str:
    return commit(repo, f"refs/heads/{branch}", {"a.txt": message}, base=base, message=message)


def test_a_range_has_the_commits_that_its_base_lacks_newest_first(repo: Path) -> None:
    """Also where the base is no ancestor of the head; at most so many."""
    start = tip(repo, "main")
    side = made(repo, "side", start, "On the side")
    first = made(repo, "work", start, "First")
    second = made(repo, "work", first, "Second\tpart")
    for base in (start, side):
        found = repository.subjects(str(repo), base, second, 9)
        assert found == [(second, "Second\tpart"), (first, "First")]
    assert repository.subjects(str(repo), start, second, 1) == [(second, "Second\tpart")]
    assert repository.subjects(str(repo), second, first, 9) == []


def test_a_range_with_a_commit_that_git_lacks_has_no_answer(repo: Path) -> None:
    there, gone = tip(repo, "main"), "0" * 39 + "1"
    for base, head in ((there, gone), (gone, there), ("", there), ("--all", there), ("main", "x")):
        assert repository.subjects(str(repo), base, head, 9) is None
