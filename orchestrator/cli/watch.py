"""`watch`: `status` again and again."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from argparse import Namespace
from collections.abc import Iterator

from orchestrator import idle
from orchestrator.cli import context, json_rows, output, status
from orchestrator.cli.json_rows import Row
from orchestrator.cli.parser import argument, command
from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.layout import Layout
from orchestrator.model import PullRequest
from orchestrator.pulls import states

#: Seconds between two looks: the default, the least and the most.
INTERVAL, SHORTEST, LONGEST = 2.0, 0.2, 86_400.0
SECONDS = f"seconds between two updates (default: {INTERVAL:g})"


@command("watch", argument("--interval", type=float, default=INTERVAL, metavar="S", help=SECONDS))
def watch(arguments: Namespace) -> None:
    """Show status, updated continuously; without a terminal, print it after each change.

    examples:
      orchestrator watch
      orchestrator watch --interval 10
    """
    if not SHORTEST <= arguments.interval <= LONGEST:
        raise UsageError(
            f"--interval takes {SHORTEST} to {LONGEST:.0f} seconds",
            f"for example: --interval {INTERVAL:g}",
        )
    layout = context.layout(arguments)
    views = _views(layout, arguments.interval)
    # As Ctrl-C does, SIGTERM puts the terminal back as it was.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        if output.on_terminal() and not arguments.json:
            _repaint(layout, views)
        else:
            _print_changes(layout, views, as_json=arguments.json)


class Watched:
    """A project that is looked at again and again: its forge is asked at most twice a minute."""

    #: Seconds between two questions to the forge, unless its local records changed (failures 13).
    ASK_AGAIN = 30.0

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._asked = float("-inf")
        self._records: tuple[int, int, int] | None = None
        self._prs: list[PullRequest] | None = None

    def look(self, loaded: Settings, now: float, clock: float) -> Row:
        """Return what `status --json` shows; `clock` is monotonic seconds."""
        records = idle.mark(self._layout.prs)
        if records != self._records or clock - self._asked >= self.ASK_AGAIN:
            self._prs = states.counted(self._layout, loaded.config)
            self._asked, self._records = clock, records
        return json_rows.status(self._layout, loaded, now, self._prs)


def _views(layout: Layout, interval: float) -> Iterator[tuple[Row, Settings]]:
    """Look at the project for ever. Of failed looks, only the first raises."""
    watched = Watched(layout)
    first = True
    while True:
        try:
            loaded = context.settings(layout)
            yield watched.look(loaded, context.now(), time.monotonic()), loaded
        except (OrchestratorError, OSError):
            if first:
                raise
        first = False
        time.sleep(interval)


def _repaint(layout: Layout, views: Iterator[tuple[Row, Settings]]) -> None:
    from rich.live import Live

    with Live(console=output.console(), screen=True, auto_refresh=False) as live:
        for found, loaded in views:
            picture = status.picture(found, layout, loaded.config)
            live.update(status.painted(picture), refresh=True)


def _print_changes(layout: Layout, views: Iterator[tuple[Row, Settings]], *, as_json: bool) -> None:
    before = None
    for found, loaded in views:
        if lasting(found) == before:
            continue
        before = lasting(found)
        if as_json:
            output.out(json.dumps(found))
        else:
            output.out(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}")
            status.show(status.picture(found, layout, loaded.config))


def lasting(found: Row) -> Row:
    """Return what `status --json` shows, without the parts that change as time goes by."""
    kept = {name: part for name, part in found.items() if name not in ("totals", "scheduler")}
    ages = ("due_in_seconds", "age_seconds")
    for name in ("agents", "running"):
        kept[name] = [{k: v for k, v in row.items() if k not in ages} for row in kept[name]]
    # "the last tick was 6 min ago" is the same problem a minute later.
    kept["problems"] = [p["code"] if p["code"].startswith("tick_") else p for p in kept["problems"]]
    return kept
