"""`status`: the whole project for people, the most important first."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.cli import context, output, overview, screen
from orchestrator.cli.overview import Overview
from orchestrator.cli.parser import Namespace, command
from orchestrator.cli.screen import Part
from orchestrator.model.errors import StoreFault
from orchestrator.project import mark
from orchestrator.pulls import states
from orchestrator.tick.inbox import next_step

#: Seconds whose ticks the last line is about.
TICKS_OF = 86_400
STYLES = {
    "plain": "", "title": "bold", "good": "green", "bad": "bold red", "yours": "yellow",
    "quiet": "dim", "chosen": "reverse",
}  # fmt: skip


@command("status")
def status(arguments: Namespace) -> None:
    """Show what waits for you, problems, agents, pull requests, the queue, costs and ticks.

    On a terminal it fits the screen: long lists are shortened, and name the command that shows
    the whole list.

    examples:
      orchestrator status
      orchestrator status --json | jq .problems
    """
    layout = context.layout(arguments)
    loaded = context.settings(layout)
    try:
        prs = states.counted(layout, loaded.config)
        seen = overview.overview(layout, loaded, context.now(), prs)
    except StoreFault as error:
        row = overview.without_store(layout, loaded, error, context.now())
        running = [f"{run['agent']} continues with {run['task']}" for run in row["running"]]
        step = [f"  {error.hint}"] if error.hint else []
        output.answer(arguments, row, f"{error.code}: {error.message}", *step, *running)
        return
    if arguments.json:
        output.show_json(seen.status)
    else:
        show(picture(seen))


def picture(seen: Overview) -> list[Part]:
    """Return what `status --json` shows, and more, for people."""
    from orchestrator.account import ticks
    from orchestrator.cli import summary

    layout, now = seen.looked.layout, context.now()
    ran = ticks.look(layout, now - TICKS_OF, now)
    scheduler = seen.status["scheduler"]
    age = scheduler["age_seconds"]
    is_new = age is None and not scheduler["stale"]
    never = mark.first_tick(layout) if is_new else "last tick: never"
    steps = {item.id: next_step(layout, item) for item in seen.looked.waiting.items}
    said = summary.ticked(age, never, ran)
    return summary.parts(seen, steps, said)


def show(parts: Iterable[Part]) -> None:
    """Print a picture: on a terminal so that it fits the screen, in colour."""
    if not output.on_terminal():
        for line in screen.fit(parts):
            output.out(line.text)
        return
    from rich.text import Text

    width, height = output.size()
    # The shell's next prompt needs a line.
    lines = screen.fit(parts, width, height - 1)
    painted = (Text(line.text, STYLES[line.mood]) for line in lines)
    output.console().print(Text("\n").join(painted))
