"""`init`: set a project up, or take the set-up out again."""

from __future__ import annotations

import argparse
import os
from typing import Any

from orchestrator import project
from orchestrator.cli import context, output
from orchestrator.cli.parser import command
from orchestrator.errors import OrchestratorError


def register(commands: Any) -> None:
    parser = command(
        commands,
        "init",
        init,
        "set this project up, or check that it is; never overwrites what you edited",
        "  orchestrator init\n"
        "  orchestrator init --start            do not wait for `agent resume --all`\n"
        "  orchestrator init --uninstall        take it out again; the queue stays",
    )
    parser.add_argument("--schedule", choices=("cron", "launchd", "systemd", "none"), default=None)
    parser.add_argument("--no-commands", action="store_true", help="no .claude/commands/")
    parser.add_argument("--start", action="store_true", help="start unpaused")
    parser.add_argument("--uninstall", action="store_true", help="take out what init put in")


def init(arguments: argparse.Namespace) -> int:
    if context.running_agent() is not None:
        raise OrchestratorError("inside a run, nothing is set up", code="refused_in_run")
    layout = context.layout(arguments)
    if arguments.schedule not in (None, "none"):
        raise OrchestratorError(
            f"this version does not install a schedule for {arguments.schedule} yet",
            "run `orchestrator init`, then let cron call `orchestrator tick` each minute "
            "(the README shows the line)",
            code="not_available",
        )
    if arguments.uninstall:
        change = project.uninstall(layout)
        _report(arguments, layout.root, change, "Taken out of")
        if not arguments.json:
            output.out(f"The queue and the configuration stay in {layout.home}")
        return 0
    change = project.init(
        layout,
        context.now(),
        dict(os.environ),
        start=arguments.start,
        commands=not arguments.no_commands,
    )
    _report(arguments, layout.root, change, "Set up")
    if not arguments.json:
        _next_step(arguments.start)
    return 0


def _report(arguments: argparse.Namespace, root: str, change: project.Change, done: str) -> None:
    if arguments.json:
        value = {"project": root, "written": change.written, "warnings": change.warnings}
        output.show_json(value)
        return
    output.out(f"{done} {root}")
    for name in change.written:
        output.out(f"  {name}")
    if not change.written:
        output.out("  nothing to change")
    for warning in change.warnings:
        output.err(f"warning: {warning}")


def _next_step(started: bool) -> None:
    output.out("\nNext:")
    if not started:
        output.out("  read .orchestrator/agents.yaml, then: orchestrator agent resume --all")
    output.out("  orchestrator task add --title '...' --role implement")
    output.out(
        "  orchestrator tick --wait        (or let cron call `orchestrator tick` each minute)"
    )
