"""`init --base`: what it changes, in words and as JSON."""

from __future__ import annotations

import shlex

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.errors import UsageError
from orchestrator.project import mark
from orchestrator.setup import new_base
from orchestrator.setup.new_base import Adoption
from orchestrator.text.words import count


def adopt(arguments: Namespace, layout: Layout) -> None:
    """Make another branch the base branch, or with `--dry-run` show what that would change."""
    if not arguments.base:
        example = "for example: orchestrator init --base trunk --dry-run"
        raise UsageError("--dry-run needs --base", example)
    if not mark.is_initialised(layout):
        first = "first: orchestrator init; then: orchestrator init --base BRANCH"
        raise UsageError("--base needs a project that is set up", first)
    mark.require_no_links(layout)
    config = context.good_settings(layout).config
    found = new_base.find(layout, config, arguments.base)
    warnings: list[str] = []
    if not arguments.dry_run and found.new != found.old:
        warnings = new_base.carry_out(layout, config, found, context.now())
    output.answer(
        arguments, _row(found, warnings, arguments.dry_run), *_lines(found, arguments.dry_run)
    )
    for warning in () if arguments.json else warnings:
        output.err(f"warning: {warning}")


def _row(found: Adoption, warnings: list[str], dry_run: bool) -> dict[str, Any]:
    return {
        "base": {"from": found.old, "to": found.new},
        "tasks": [task.id for task in found.tasks],
        "pull_requests": [pr.id for pr in found.prs],
        "branches": list(found.branches),
        "warnings": warnings,
        "dry_run": dry_run,
        "undo": _undo(found),
    }


def _undo(found: Adoption) -> str | None:
    if found.old is None or not found.old_exists or found.old == found.new:
        return None
    return f"orchestrator init --base {shlex.quote(found.old)}"


def _lines(found: Adoption, dry_run: bool) -> list[str]:
    if found.old == found.new:
        return [f"The base branch is already {found.new}; nothing to change"]
    lines = [f"The base branch {'would be' if dry_run else 'is now'} {found.new} (was {found.old})"]
    lines.append("  .orchestrator/agents.yaml (base_branch)")
    if found.tasks:
        named = ", ".join(task.id for task in found.tasks[:10])
        lines.append(f"  {count(len(found.tasks), 'task')} with BRANCH: {found.old}: {named}")
    if found.prs:
        named = ", ".join(pr.id for pr in found.prs[:10])
        lines.append(
            f"  {count(len(found.prs), 'open pull request')} to merge into {found.new}: {named}"
        )
    if found.branches:
        lines.append(
            f"  {count(len(found.branches), 'branch')} cut from {found.old}, unchanged: work there "
            f"continues and is merged into {found.new}"
        )
    if dry_run:
        return [*lines, "Nothing was changed. To make the change, omit --dry-run"]
    lines.append("Work continues with the next tick. Commit .orchestrator/agents.yaml")
    back = _undo(found)
    return [*lines, f"  undo: {back}" if back else f"  no undo: {found.old} no longer exists"]
