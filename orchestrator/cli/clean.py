"""`clean`: remove worktrees, branches and leftovers that are safe to remove."""

from __future__ import annotations

from argparse import Namespace

from orchestrator.cli import context, output
from orchestrator.cli.parser import command, flag
from orchestrator.upkeep import clean as leftovers


@command("clean", flag("--dry-run", "print what would be removed, and remove nothing"))
def clean(arguments: Namespace) -> None:
    """Remove worktrees, branches, leftovers and rescue refs that are safe to remove.

    For each item that remains, the command prints the reason.

    examples:
      orchestrator clean --dry-run
      orchestrator clean
    """
    dry = arguments.dry_run
    layout = context.layout(arguments) if dry else context.changing(arguments)
    loaded = context.settings(layout) if dry else context.good_settings(layout)
    prs = context.pull_requests(layout, loaded.config)
    items = leftovers.plan(layout, loaded.config, prs, context.now())
    if not loaded.good:
        output.warn_of(loaded.problems)
        output.err("`clean` removes nothing until you fix agents.yaml. With the last valid (or the")
        output.err("default) configuration, it would remove:")
        why = "it is not known whether its agent is configured"
        items = [
            item._replace(drop=False, why=why) if item.kind == "worktree" and item.drop else item
            for item in items
        ]
    if dry:
        dropped = [item for item in items if item.drop]
    else:
        dropped = leftovers.carry_out(layout, loaded.config, prs, items)
    kept = [item for item in items if item not in dropped]
    value = {"dropped": [i._asdict() for i in dropped], "kept": [i._asdict() for i in kept]}
    word = "would remove" if dry else "removed"
    lines = [f"{word} {item.kind} {item.name}: {item.why}" for item in dropped]
    lines += [f"kept {item.kind} {item.name}: {item.why}" for item in kept]
    output.answer(arguments, value, *(lines or ["nothing to clean"]))
