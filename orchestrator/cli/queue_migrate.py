"""`queue migrate`: move the queue between the files of this machine and a database."""

from __future__ import annotations

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, argument, command, flag, group
from orchestrator.text.words import count

group(
    "queue",
    """Move the queue to files or to a database.

    examples:
      orchestrator queue migrate --to files --dry-run
    """,
)


@command(
    "queue migrate",
    argument("--to", metavar="WHERE", required=True, help="files, or postgresql://HOST/DB"),
    flag("--dry-run", "say what would move, and change nothing"),
)
def migrate(arguments: Namespace) -> None:
    """Move all tasks, histories and pull requests to files or to a database, without loss.

    Every task is read back and compared before `store` in agents.yaml is set. It is refused while
    any host has a run. If it is interrupted, run it again.

    examples:
      orchestrator queue migrate --to postgresql://db.example/team --dry-run
      orchestrator queue migrate --to postgresql://db.example/team
      orchestrator queue migrate --to files
    """
    from orchestrator.upkeep import migrate as moving

    layout = context.changing(arguments)
    done = moving.migrate(layout, arguments.to, dry_run=arguments.dry_run)
    number = sum(done.tasks.values())
    word = "would move" if arguments.dry_run else "moved"
    what = f"{count(number, 'task')} and {count(done.pull_requests, 'pull request')}"
    lines = [f"{word} {what} to {done.target}"]
    lines += [f"  {state}: {n}" for state, n in done.tasks.items() if n]
    lines += [f"not a task, stays where it is: {path}" for path in done.left]
    if done.kept:
        lines.append(f"the earlier files are in {done.kept}; delete them when you like")
    if not arguments.dry_run:
        lines.append(
            "`store` in .orchestrator/agents.yaml is set: commit it, and pull on each host"
        )
        context.record_event(layout, "migrated", to=done.target, tasks=number)
    output.answer(arguments, {"dry_run": arguments.dry_run, **done._asdict()}, *lines)
