"""`audit`: what is on no branch, in every worktree of the repository."""

from __future__ import annotations

import os

from orchestrator.account import audit as account
from orchestrator.account.audit import Finding
from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, command
from orchestrator.text.words import count, some

#: Files of one finding that are named.
MOST_FILES = 5


@command("audit")
def audit(arguments: Namespace) -> None:
    """Show every uncommitted change, stray commit and rescue ref in every worktree of this
    repository, other tools' worktrees included, each with a command that keeps it in git.

    A stray commit was at a worktree's HEAD and is on no branch, tag or other ref. The command makes
    a stash of uncommitted changes, and a branch for commits; in your own checkout and in the
    worktree of a running agent it only shows the changes. The audit itself changes nothing.

    examples:
      orchestrator audit
      orchestrator audit --json | jq '.[] | select(.ours | not)'
    """
    layout = context.layout(arguments)
    _, seen = context.look(layout)
    at_work = {
        os.path.realpath(layout.worktree(run.agent))
        for run in seen.snapshot.runs
        if run.host is None
    }
    found = account.look(layout, at_work)
    nothing = "everything is on a branch: no uncommitted change, stray commit or rescue ref"
    lines = [line for finding in found.findings for line in _lines(finding)] or [nothing]
    output.answer(arguments, [finding._asdict() for finding in found.findings], *lines)
    for failure in found.failures:
        output.err(f"not checked: {failure}")


def _lines(finding: Finding) -> tuple[str, ...]:
    names = some(finding.files, MOST_FILES)
    files = f" in {count(len(finding.files), 'file')}: {names}" if finding.files else ""
    what = {
        "uncommitted": f"uncommitted changes{files}",
        "stray_commit": f"commit {(finding.commit or '')[:12]} is on no branch",
        "rescue": f"{finding.ref} keeps changes{files}",
    }[finding.kind]
    where = "" if finding.worktree is None else f"{finding.worktree}: "
    return f"{where}{what}", f"  {finding.command}"
