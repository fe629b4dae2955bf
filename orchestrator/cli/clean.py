"""`clean`: drop the worktrees, branches and leftovers that hold nothing of their own."""

from __future__ import annotations

import argparse
from typing import Any

from orchestrator.cli import context, output
from orchestrator.cli.parser import command
from orchestrator.config import load
from orchestrator.errors import OrchestratorError
from orchestrator.pulls import states
from orchestrator.upkeep import clean as leftovers


def register(commands: Any) -> None:
    parser = command(
        commands,
        "clean",
        clean,
        "drop worktrees and branches that are safe to drop, and say why the rest are not",
        "  orchestrator clean --dry-run\n  orchestrator clean",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")


def clean(arguments: argparse.Namespace) -> int:
    layout = context.layout(arguments) if arguments.dry_run else context.changing(arguments)
    if arguments.dry_run:
        loaded = load.settings(layout, write_cache=False)
    else:
        loaded = context.good_settings(layout)
    config = loaded.config
    prs = states.known(layout, config)
    if prs is None:
        raise OrchestratorError(
            "the forge cannot be asked which branches are in use",
            "see: orchestrator doctor",
            code="open_prs_unknown",
        )
    items = leftovers.plan(layout, config, prs, context.now())
    if not loaded.good:
        output.warn_of(loaded.problems)
        output.err("until then clean drops nothing; judged by the last good settings, or defaults:")
        items = [_unless_configured(item) for item in items]
    dropped = (
        [i for i in items if i.drop]
        if arguments.dry_run
        else leftovers.carry_out(layout, config, prs, items)
    )
    kept = [item for item in items if item not in dropped]
    if arguments.json:
        output.show_json(
            {"dropped": [i._asdict() for i in dropped], "kept": [i._asdict() for i in kept]}
        )
        return 0
    word = "would drop" if arguments.dry_run else "dropped"
    for item in dropped:
        output.out(f"{word} {item.kind} {item.name}: {item.why}")
    for item in kept:
        output.out(f"kept {item.kind} {item.name}: {item.why}")
    if not items:
        output.out("nothing to clean")
    return 0


def _unless_configured(item: leftovers.Item) -> leftovers.Item:
    """Return an item as judged while nobody can say which agents are configured."""
    if item.kind != "worktree" or not item.drop:
        return item
    return item._replace(drop=False, why="whether its agent is configured is not known")
