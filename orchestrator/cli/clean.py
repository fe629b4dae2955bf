"""`clean`: remove worktrees, branches and leftovers that are safe to remove."""

from __future__ import annotations

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.project import agent_memory
from orchestrator.upkeep import clean as leftovers
from orchestrator.upkeep.leftovers import Item


@command(
    "clean",
    argument("agent", metavar="AGENT", nargs="?", help="remove only this agent's worktree"),
    flag("--dry-run", "print what would be removed, and remove nothing"),
)
def clean(arguments: Namespace) -> None:
    """Remove worktrees, branches, leftovers and rescue refs that are safe to remove.

    For each item that remains, the command prints the reason. With AGENT, the command removes the
    worktree of this agent, so that its next run starts in a new one. Commits and uncommitted
    changes are kept; ignored files (installed packages, caches) are not.

    examples:
      orchestrator clean --dry-run
      orchestrator clean
      orchestrator clean impl-agent-1
    """
    if arguments.agent is not None:
        _start_over(arguments)
        return
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
    gone = set(dropped)
    kept = [item for item in items if item not in gone]
    _answer(arguments, dropped, kept, "nothing to clean")


def _start_over(arguments: Namespace) -> None:
    """Remove the worktree of one agent; print where its uncommitted changes are kept."""
    name, dry = arguments.agent, arguments.dry_run
    layout = context.layout(arguments) if dry else context.changing(arguments)
    config = context.settings(layout).config
    if name not in agent_memory.names(layout):
        context.agent_named(config, name)
    item = leftovers.worktree_of(layout, name)
    if item is None:
        _answer(arguments, [], [], f"{name} has no worktree: its next run creates it")
    elif dry:
        _answer(arguments, *([item], []) if item.drop else ([], [item]), "")
    else:
        ref = leftovers.start_over(layout, name, config).ref
        why = f"its changes are kept under {ref}" if ref else item.why
        _answer(arguments, [item._replace(why=why)], [], "")


def _answer(arguments: Namespace, dropped: list[Item], kept: list[Item], empty: str) -> None:
    value = {"dropped": [i._asdict() for i in dropped], "kept": [i._asdict() for i in kept]}
    word = "would remove" if arguments.dry_run else "removed"
    lines = [f"{word} {item.kind} {item.name}: {item.why}" for item in dropped]
    lines += [f"kept {item.kind} {item.name}: {item.why}" for item in kept]
    output.answer(arguments, value, *(lines or [empty]))
