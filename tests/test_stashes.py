"""The list of stashes, which all worktrees share: what may change it, and what was held of it."""

from __future__ import annotations

import pytest
from rows import each_row

from orchestrator.git import stashes
from orchestrator.git.checkout import Traced
from orchestrator.layout import Layout
from orchestrator.upkeep import leftovers


@each_row(
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


@pytest.mark.parametrize(
    ("listed", "unsettled", "drop", "why"),
    [
        ({"c1": "WIP", "c2": "WIP"}, (), True, "its run has finished"),
        ({"c1": "WIP"}, (), False, "to get it back: git stash store c2"),
        ({"c1": "WIP", "c2": "WIP"}, ("R1",), False, "its run may take away what it holds"),
        ({}, ("R1",), False, "its run may take away what it holds"),
    ],
)
def test_what_a_run_held_of_the_stashes_goes_unless_the_list_has_lost_it(
    project: Layout,
    monkeypatch: pytest.MonkeyPatch,
    listed: dict[str, str],
    unsettled: tuple[str, ...],
    drop: bool,
    why: str,
) -> None:
    monkeypatch.setattr(stashes, "current", lambda _: listed)
    [item] = leftovers._held(project, {"R1": ["c1", "c2"]}, unsettled)
    assert (item.name, item.drop) == ("refs/orchestrator/stashes/R1", drop)
    assert why in item.why
