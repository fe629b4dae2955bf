"""`tick`: one pass of the scheduler."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from orchestrator import agentstate, project, scheduler
from orchestrator.cli import context, output
from orchestrator.cli.parser import command
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout

#: Seconds that `--wait` waits when no number is given.
DEFAULT_WAIT = 86_400.0


def register(commands: Any) -> None:
    parser = command(
        commands,
        "tick",
        tick,
        "one pass of the scheduler: settle what ended, start what is due",
        "  orchestrator tick\n"
        "  orchestrator tick --dry-run          what it would do, and why not more\n"
        "  orchestrator tick --wait 600         also wait for the runs it started",
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing")
    parser.add_argument(
        "--wait",
        nargs="?",
        type=float,
        const=DEFAULT_WAIT,
        metavar="SECONDS",
        help="wait for the runs that this tick started",
    )


def tick(arguments: argparse.Namespace) -> int:
    if context.running_agent() is not None:
        raise OrchestratorError("inside a run, nothing ticks", code="refused_in_run")
    layout = context.layout(arguments)
    project.require_initialised(layout)
    report = scheduler.tick(layout, context.now(), dict(os.environ), dry_run=arguments.dry_run)
    if arguments.wait is not None and not arguments.dry_run:
        _wait(layout, report, arguments.wait, quiet=arguments.json)
    _show(arguments, report)
    if report.bug is not None:
        return output.report_bug(report.bug, as_json=False)
    return 0 if report.good else 1


def _show(arguments: argparse.Namespace, report: scheduler.Report) -> None:
    if arguments.json:
        fields = ("action", "agent", "task", "run", "reason")
        actions = [{f: getattr(a, f) for f in fields} for a in report.actions]
        output.show_json({"actions": actions, "problems": [p._asdict() for p in report.problems]})
        return
    if report.held:
        output.out("another tick is at work")
    for action in report.actions:
        words = (action.action, action.agent, action.task, action.run, action.reason)
        output.out(" ".join(str(word) for word in words if word))
    for problem in report.problems:
        output.err(f"{problem.code}: {problem.message}")
        if problem.hint:
            output.err(f"  {problem.hint}")


def _wait(layout: Layout, report: scheduler.Report, seconds: float, *, quiet: bool) -> None:
    """Wait until the runs that this tick started are settled, showing what happens."""
    pending = {a.run: a for a in report.actions if a.action == "start" and a.run and a.agent}
    deadline = time.monotonic() + seconds
    overdue: dict[str, float] = {}
    while pending and time.monotonic() < deadline:
        for run_id, action in list(pending.items()):
            assert action.agent is not None
            state = agentstate.read(layout, action.agent)
            if state.run != run_id:
                del pending[run_id]
                if not quiet:
                    what = f"{action.agent} {action.task or ''}".strip()
                    output.err(f"{what}: {state.last_outcome} {state.last_reason or ''}".rstrip())
        # Normally a run's own tick settles it; look after those whose tick could not.
        if pending and _some_need_a_tick(layout, pending, overdue):
            scheduler.tick(layout, context.now(), dict(os.environ), wait_for_lock=5.0)
        time.sleep(0.05)


def _some_need_a_tick(layout: Layout, pending: dict[str, Any], overdue: dict[str, float]) -> bool:
    """Whether a run ended, or lost its supervisor, over two seconds ago without being settled."""
    from orchestrator import observe, runrecord

    now = time.monotonic()
    for run_id, action in pending.items():
        state = agentstate.read(layout, action.agent)
        record = runrecord.read(layout.run(action.agent, run_id))
        if record is None or state.run != run_id:
            continue
        if observe.is_supervised(layout, action.agent, state, record):
            overdue.pop(run_id, None)
        elif now - overdue.setdefault(run_id, now) > 2:
            overdue.clear()
            return True
    return False
