"""`clean`: drop the worktrees, branches and leftovers that hold nothing of their own."""

from __future__ import annotations

import argparse
from typing import Any

from orchestrator import pullrequests, tidy
from orchestrator.cli import context, output
from orchestrator.cli.parser import command
from orchestrator.errors import OrchestratorError


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
    config = context.good_settings(layout).config
    prs = pullrequests.known(layout, config)
    if prs is None:
        raise OrchestratorError(
            "the forge cannot be asked which branches are in use",
            "see: orchestrator doctor",
            code="open_prs_unknown",
        )
    items = tidy.plan(layout, config, prs, context.now())
    dropped = (
        [i for i in items if i.drop]
        if arguments.dry_run
        else tidy.carry_out(layout, config, prs, items)
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
