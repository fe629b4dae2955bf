"""Which commands of git may change the list of stashes, which all worktrees share."""

from __future__ import annotations

import pytest

from orchestrator.git import stashes
from orchestrator.git.checkout import Traced


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("stash", True),
        ("stash push -m x", True),
        ("stash pop", True),
        ("stash drop -q", True),
        ("stash clear", True),
        ("stash list", False),
        ("stash show -p", False),
        ("stash create", False),
        ("reflog expire --all", True),
        ("reflog delete stash@{1}", True),
        ("reflog show", False),
        ("reflog", False),
        ("update-ref -d refs/stash", True),
        ("update-ref --stdin", True),
        ("update-ref refs/heads/x HEAD", False),
        ("symbolic-ref refs/stash refs/heads/x", True),
        ("gc --prune=now", False),  # it deletes only what the list has lost before
        ("commit -m stash", False),
    ],
)
def test_a_command_may_change_the_stashes(command: str, expected: bool) -> None:
    name, *words = command.split()
    looks = Traced("status", (), "/w")
    assert stashes.worked_on([looks, Traced(name, tuple(words), "/w")]) is expected
    assert not stashes.worked_on([looks])
