"""`status`, `watch` and `doctor`: what happens, and what is wrong. They change nothing on disk."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.cli import context, explain, output
from orchestrator.cli import status as status_command
from orchestrator.cli.parser import command, seconds
from orchestrator.cli.status import Block
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.layout import Layout

#: Seconds between two looks of `watch`, and the fewest that may be asked for.
INTERVAL, SHORTEST = 2.0, 0.2
_STYLES = {"good": "green", "bad": "bold red", "plain": ""}
_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def register(commands: Any) -> None:
    command(
        commands,
        "status",
        status,
        "queue, limits, agents and runs, problems first",
        "  orchestrator status\n  orchestrator status --json | jq .problems",
    )
    parser = command(
        commands,
        "watch",
        watch,
        "the same, painted again and again; where there is no terminal, once per change",
        "  orchestrator watch\n  orchestrator watch --interval 10",
    )
    parser.add_argument("--interval", type=seconds, default=INTERVAL, metavar="S", help="seconds")
    explain.register(commands)
    command(
        commands,
        "doctor",
        examine,
        "check the set-up as the scheduler will see it; each finding says what to do",
        "  orchestrator doctor\n  orchestrator doctor --json",
    )


# --- status ------------------------------------------------------------------------------------


def status(arguments: argparse.Namespace) -> int:
    layout = context.layout(arguments)
    loaded = load.settings(layout, write_cache=False)
    found = status_command.look(layout, loaded, context.now())
    if arguments.json:
        output.show_json(found)
    else:
        _show(status_command.picture(found, layout, loaded.config))
    return 0


def _show(blocks: Iterable[Block]) -> None:
    if output.on_terminal():
        output.console().print(_painted(blocks))
        return
    for block in blocks:
        for line in block.lines:
            output.out(line)
        if block.headings:
            output.table(block.headings, block.rows)
        if block.lines:
            output.out()


def _painted(blocks: Iterable[Block]) -> Any:
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    for block in blocks:
        parts += [Text(output.harmless(line), _STYLES[block.mood]) for line in block.lines]
        if block.headings:
            parts.append(output.drawn(block.headings, block.rows))
        elif block.lines:
            parts.append(Text())
    return Group(*parts)


# --- watch -------------------------------------------------------------------------------------


def watch(arguments: argparse.Namespace) -> int:
    if not SHORTEST <= arguments.interval <= 86_400:
        raise UsageError(f"--interval takes {SHORTEST} to 86400 seconds", "for example: 2")
    layout = context.layout(arguments)
    views = _views(layout, arguments.interval)
    with _ended_by_signals(), contextlib.suppress(KeyboardInterrupt):
        if output.on_terminal() and not arguments.json:
            _repaint(layout, views)
        else:
            _print_changes(layout, views, as_json=arguments.json)
    return 0


def _views(layout: Layout, interval: float) -> Iterator[tuple[status_command.Value, Settings]]:
    """Look at the project for ever; a look that fails is left out, but for the first."""
    watched = status_command.Watched(layout)
    first = True
    while True:
        try:
            loaded = load.settings(layout, write_cache=False)
            yield watched.look(loaded, context.now(), time.monotonic()), loaded
        except (OrchestratorError, OSError):
            if first:
                raise
        first = False
        time.sleep(interval)


def _repaint(layout: Layout, views: Iterator[tuple[status_command.Value, Settings]]) -> None:
    from rich.live import Live

    with Live(console=output.console(), screen=True, auto_refresh=False) as live:
        for found, loaded in views:
            picture = status_command.picture(found, layout, loaded.config)
            live.update(_painted(picture), refresh=True)


def _print_changes(
    layout: Layout, views: Iterator[tuple[status_command.Value, Settings]], *, as_json: bool
) -> None:
    before = None
    for found, loaded in views:
        lasting = status_command.lasting(found)
        if lasting == before:
            continue
        before = lasting
        if as_json:
            output.out(json.dumps(found))
        else:
            output.out(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}")
            _show(status_command.picture(found, layout, loaded.config))


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C: the terminal is put back as it was."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before: Any = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- doctor ------------------------------------------------------------------------------------


def examine(arguments: argparse.Namespace) -> int:
    from orchestrator.setup import doctor

    try:
        layout = context.layout(arguments)
    except OrchestratorError as error:
        findings = doctor.without_project(error, os.getcwd())
    else:
        findings = doctor.examine(layout, dict(os.environ), context.now())
    if arguments.json:
        output.show_json({"findings": [finding._asdict() for finding in findings]})
        return 0
    wrong = [finding for finding in findings if finding.level != "ok"]
    failed = sum(finding.level == "fail" for finding in wrong)
    counts = [_number(failed, "error"), _number(len(wrong) - failed, "warning")]
    output.out(", ".join(counts) if wrong else "Everything is fine.")
    for finding in (*wrong, *(f for f in findings if f.level == "ok")):
        output.out(f"{_MARKS[finding.level]}  {finding.code:16} {finding.message}")
        if finding.level != "ok" and finding.hint:
            output.out(f"{'':24}{finding.hint}")
    return 0


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
