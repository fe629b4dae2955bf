"""`limits`: the queue's limits."""

from __future__ import annotations

from orchestrator.cli import context, output
from orchestrator.cli.agent import differences
from orchestrator.cli.parser import NO_TICK, Namespace, argument, command
from orchestrator.config import change, edit

#: What a limit of 0 stops.
_STOPS = (
    ("max_incoming", "accepted from `task add` without --force, or from agents"),
    ("max_claimed", "claimed, so no agent works on a task"),
    ("max_open_prs", "claimed that would open a pull request"),
)
EXAMPLE = "a limit, such as max_incoming=30"


@command("limits")
def limits(arguments: Namespace) -> None:
    """Show the queue's limits, and how much of each is used."""
    loaded, seen = context.look(context.reading(arguments))
    found = loaded.config.queue_limits._asdict()
    if not (loaded.good or arguments.json):
        output.warn_of(loaded.problems)
    claimed = len(seen.claimed.tasks)
    used = (len(seen.incoming.tasks) + claimed, claimed, seen.snapshot.open_prs)
    what = ("waiting and claimed tasks", "claimed tasks", "open pull requests")
    rows = list(zip(found, found.values(), used, what, strict=True))
    output.listing(arguments, found, ("limit", "maximum", "in use", "counts"), rows, "")


@command("limits set", argument("settings", metavar="key=value", nargs="+", help=EXAMPLE), NO_TICK)
def set_limits(arguments: Namespace) -> None:
    """Change the limits of the queue."""
    layout = context.changing(arguments)
    values = dict(edit.parse_assignment(x, "max_claimed=3") for x in arguments.settings)
    done = change.apply(layout, lambda text: edit.set_values(text, ("queue_limits",), values))
    old, new = (c.queue_limits if c else None for c in (done.before, done.after))
    changed, lines = differences("limits", old, new, ("orchestrator", "limits", "set"))
    stops = [f"  {name} is 0: no task is {what}" for name, what in _STOPS if values.get(name) == 0]
    output.answer(arguments, {"changed": changed}, *lines, *stops)
