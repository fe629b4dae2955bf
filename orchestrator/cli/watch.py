"""`watch`: `status`, updated continuously; `live` shows it on a terminal."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator

from orchestrator import idle
from orchestrator.cli import context, output, overview, status
from orchestrator.cli.json_rows import Row
from orchestrator.cli.overview import Overview
from orchestrator.cli.parser import Namespace, argument, command
from orchestrator.git import settings as git_settings
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.errors import OrchestratorError, UsageError
from orchestrator.pulls import states

#: Seconds between two looks: the default, the least and the most.
INTERVAL, SHORTEST, LONGEST = 2.0, 0.2, 86_400.0
#: Seconds between two questions to the forge (failures 13).
ASK_AGAIN = 30.0
SECONDS = f"seconds between two updates (default: {INTERVAL:g})"


@command("watch", argument("--interval", type=float, default=INTERVAL, metavar="S", help=SECONDS))
def watch(arguments: Namespace) -> None:
    """Show status, updated continuously, with keys to answer, approve, pause, retry and follow.

    `?` shows the keys. Without a terminal, or on one that cannot move its cursor, print the status
    after each change.

    examples:
      orchestrator watch
      orchestrator watch --json | jq .queue
    """
    if not SHORTEST <= arguments.interval <= LONGEST:
        hint = f"for example: --interval {INTERVAL:g}"
        raise UsageError(f"--interval takes {SHORTEST} to {LONGEST:.0f} seconds", hint)
    layout = context.layout(arguments)
    look_now = threading.Event()
    found = views(layout, arguments.interval, look_now=look_now)
    # As Ctrl-C does, SIGTERM puts the terminal back as it was.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        if output.on_terminal() and not arguments.json and not output.console().is_dumb_terminal:
            from orchestrator.cli import live

            live.Live(layout, found, look_now.set).run()
        else:
            _print_changes(found, as_json=arguments.json)


def views(
    layout: Layout,
    interval: float,
    clock: Callable[[], float] = time.monotonic,
    look_now: threading.Event | None = None,
) -> Iterator[Overview]:
    """Look at the project forever; yield what people see.

    Of failed looks, only the first raises. The pull requests are those of the last `ASK_AGAIN`
    seconds of `clock`, unless the local records changed. `look_now` ends the pause between two
    looks, which has `interval` seconds.
    """
    first, asked, before, prs = True, float("-inf"), None, None
    look_now = look_now or threading.Event()
    while True:
        git_settings.forget()
        look_now.clear()
        try:
            loaded, records, at = context.settings(layout), idle.mark(layout.prs), clock()
            if records != before or at - asked >= ASK_AGAIN:
                prs = states.counted(layout, loaded.config)
                asked, before = at, records
            yield overview.overview(layout, loaded, context.now(), prs)
        except (OrchestratorError, OSError):
            if first:
                raise
        first = False
        look_now.wait(interval)


def _print_changes(seen: Iterator[Overview], *, as_json: bool) -> None:
    before = None
    for found in seen:
        if lasting(found.status) == before:
            continue
        before = lasting(found.status)
        if as_json:
            output.out(json.dumps(found.status))
        else:
            output.out(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}")
            status.show(status.picture(found))


def _without_seconds(part: Any) -> Any:
    if isinstance(part, dict):
        kept = part.items()
        return {k: _without_seconds(v) for k, v in kept if not k.endswith("_seconds")}
    return [_without_seconds(each) for each in part] if isinstance(part, list) else part


def lasting(found: Row) -> Row:
    """Return what `status --json` shows, without the parts that change as time goes by.

    These are the totals, the scheduler's state, and every key that ends in `_seconds`.
    """
    kept: Row = _without_seconds({**found, "totals": None, "scheduler": None})
    # "the last tick was 6 min ago" is the same problem a minute later.
    kept["problems"] = [p["code"] if p["code"].startswith("tick_") else p for p in kept["problems"]]
    return kept
