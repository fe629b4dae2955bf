"""`tick`: one pass of the scheduler."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from orchestrator.cli import context, output
from orchestrator.layout import Layout
from orchestrator.project import agent_memory, mark
from orchestrator.tick.tick import Report, run_tick

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection

    from orchestrator.model import Action

#: Seconds to wait for the rest of a tick that settled the last run.
SETTLING = 10.0
#: Seconds that `--wait` waits when no number is given.
DEFAULT_WAIT = 86_400.0


def register(commands: Any) -> None:
    from orchestrator.cli.parser import command, seconds

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
        type=seconds,
        const=DEFAULT_WAIT,
        metavar="SECONDS",
        help="wait for the runs that this tick started",
    )


def tick(arguments: argparse.Namespace) -> int:
    return pass_once(
        arguments.project,
        dry_run=arguments.dry_run,
        wait=arguments.wait,
        as_json=arguments.json,
    )


def pass_once(
    where: str | None = None,
    *,
    dry_run: bool = False,
    wait: float | None = None,
    as_json: bool = False,
) -> int:
    """Make one pass in the project that `where`, or the current folder, lies in; say what it did.

    `wait` is how many seconds to wait for the runs that it starts. Returns the exit code.
    """
    context.refuse_in_run("nothing ticks")
    layout = context.layout_at(where)
    mark.require_initialised(layout)
    report = run_tick(layout, context.now(), dict(os.environ), dry_run=dry_run)
    if not as_json:
        _show(report)
    if wait is not None and not dry_run:
        _wait(layout, report, wait, quiet=as_json)
    if as_json:
        _show_json(report)
    if report.bug is not None:
        return output.report_bug(report.bug, as_json=False)
    return 0 if report.good else 1


def _show_json(report: Report) -> None:
    fields = ("action", "agent", "task", "run", "reason")
    actions = [{f: getattr(a, f) for f in fields} for a in report.actions]
    output.show_json({"actions": actions, "problems": [p._asdict() for p in report.problems]})


def _show(report: Report) -> None:
    if report.held:
        output.out("another tick is at work")
    for action in report.actions:
        words = (action.action, action.agent, action.task, action.run, action.reason)
        output.out(" ".join(str(word) for word in words if word))
    output.warn_of(report.problems)


def _wait(layout: Layout, report: Report, seconds: float, *, quiet: bool) -> None:
    """Wait until the runs that this tick started are settled; say what happens and what follows."""
    pending = {a.run: a for a in report.actions if a.action == "start" and a.run and a.agent}
    started = list(pending.values())
    deadline = time.monotonic() + seconds
    overdue: dict[str, float] = {}
    while pending and time.monotonic() < deadline:
        for run_id, action in list(pending.items()):
            assert action.agent is not None
            state = agent_memory.read(layout, action.agent)
            if state.run != run_id:
                del pending[run_id]
                if not quiet:
                    what = f"{action.agent} {action.task or ''}".strip()
                    output.err(f"{what}: {state.last_outcome} {state.last_reason or ''}".rstrip())
        # Normally a run's own tick settles it; look after those whose tick could not.
        if pending and _some_need_a_tick(layout, pending, overdue):
            run_tick(layout, context.now(), dict(os.environ), wait_for_lock=5.0)
        time.sleep(0.05)
    if len(pending) < len(started):
        _await_settling(layout, deadline)
    if not quiet:
        _tell_what_follows(layout, started, pending.values())


def _await_settling(layout: Layout, deadline: float) -> None:
    """Wait for the end of the tick that settled a run: it also starts what follows."""
    from orchestrator.system import locks

    until = min(deadline, time.monotonic() + SETTLING)
    while locks.holder(layout.scheduler_lock) is not None and time.monotonic() < until:
        time.sleep(0.05)


def _tell_what_follows(layout: Layout, started: list[Action], at_work: Collection[Action]) -> None:
    """Say what the ended ones of the started runs led to, and which ones are still at work."""
    if len(at_work) < len(started):
        from orchestrator.cli import next_steps

        for line in next_steps.steps(layout, [a.task for a in started if a not in at_work]):
            output.out(line)
    for action in at_work:
        output.out(f"still at work: {' '.join(filter(None, (action.agent, action.task)))}")
        output.out(f"  orchestrator logs {action.agent} --follow")


def _some_need_a_tick(layout: Layout, pending: dict[str, Any], overdue: dict[str, float]) -> bool:
    """Whether a run ended, or lost its supervisor, over two seconds ago without being settled."""
    from orchestrator.project import run_record
    from orchestrator.tick import observe

    now = time.monotonic()
    for run_id, action in pending.items():
        state = agent_memory.read(layout, action.agent)
        record = run_record.read(layout.run(action.agent, run_id))
        if record is None or state.run != run_id:
            continue
        if observe.is_supervised(layout, action.agent, state, record):
            overdue.pop(run_id, None)
        elif now - overdue.setdefault(run_id, now) > 2:
            overdue.clear()
            return True
    return False
