"""What is not on a branch: uncommitted changes, stray commits and rescue refs in every worktree.

It changes nothing. It looks at all worktrees of the repository, also at those that other tools
made, such as the client's own.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from orchestrator.git import repository, rescued, worktree_commands, worktree_list
from orchestrator.layout import Layout
from orchestrator.model.annotations import Literal
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple

#: Entries of a worktree's history of HEAD that are looked at.
MOST_MOVES = 1000


class Finding(NamedTuple):
    """One thing that a clean-up or a person could lose."""

    kind: Literal["uncommitted", "stray_commit", "rescue"]
    worktree: str | None
    ref: str | None
    commit: str | None
    #: Changed files, relative to the worktree.
    files: list[str]
    #: Whether this program made it.
    ours: bool
    #: What keeps it in git, or shows it where an agent is at work.
    command: str


class Audit(NamedTuple):
    """What was found, and the worktrees that git could not look at, each with the reason."""

    findings: list[Finding]
    failures: list[str]


def look(layout: Layout, at_work: set[str]) -> Audit:
    """Look at every worktree and rescue ref; `at_work` has the worktrees in which a run works."""
    findings: list[Finding] = []
    failures: list[str] = []
    for path in worktree_list.listed(layout.root):
        if os.path.dirname(os.path.realpath(path)) == os.path.realpath(layout.cache):
            continue  # where merges are tried: it holds only what their checks wrote
        if os.path.isdir(path) and not worktree_commands.leads_to(layout.root, path):
            failures.append(f"{path}: its .git names another repository")
            continue
        try:
            findings += _in_worktree(layout, path, busy=os.path.realpath(path) in at_work)
        except OrchestratorError as error:
            failures.append(f"{path}: {error.message}")
    findings += _rescues(layout)
    return Audit(findings, failures)


def _in_worktree(layout: Layout, path: str, *, busy: bool) -> Iterator[Finding]:
    ours = os.path.realpath(path).startswith(os.path.realpath(layout.home) + os.sep)
    where = shlex.quote(path)
    if files := worktree_commands.changed_files(path, untracked="normal"):
        show = f"git -C {where} status -vv"
        keep = f"git -C {where} stash push --include-untracked && git -C {where} stash apply"
        # In the person's own checkout these are the changes that the person is making.
        is_own = os.path.realpath(path) == os.path.realpath(layout.root)
        command = show if busy or is_own else keep
        yield Finding("uncommitted", path, None, None, files, ours, command)
    moves = worktree_commands.head_moves(path, MOST_MOVES)
    stray = repository.outside_refs(layout.root, moves) if moves else set()
    for commit in repository.tips(layout.root, sorted(stray)):
        name = f"found-{commit[:12]}"
        command = f"git -C {shlex.quote(layout.root)} branch {name} {commit}"
        yield Finding("stray_commit", path, None, commit, [], ours, command)


def _rescues(layout: Layout) -> Iterator[Finding]:
    kept = {".": repository.refs(layout.root, repository.RESCUE)}
    for inside, refs in (kept | rescued.in_submodules(layout.root)).items():
        root = os.path.normpath(os.path.join(layout.root, inside))
        for ref, commit in refs.items():
            name = f"rescued-{ref.removeprefix(repository.RESCUE).replace('/', '-')}"
            command = f"git -C {shlex.quote(root)} branch {shlex.quote(name)} {ref}"
            files = repository.changed_in(root, commit)
            yield Finding(
                "rescue", None if inside == "." else root, ref, commit, files, True, command
            )
