"""`runs`: the runs that have ended."""

from __future__ import annotations

from orchestrator.account import fold, ledger
from orchestrator.account.ledger import EndedRun
from orchestrator.cli import context, output, period
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.layout import Layout
from orchestrator.model.errors import UsageError, did_you_mean
from orchestrator.model.snapshot import VERDICTS
from orchestrator.project import agent_memory
from orchestrator.tasks import stores
from orchestrator.text.words import local, span

#: Runs that are listed without --all.
MOST_ROWS = 50
NOTHING = "no run has ended in this period, or no run matches the options"
_HEADINGS = ("run", "ended", "agent", "task", "outcome", "took", "usd")


@command(
    "runs",
    argument("--agent", metavar="AGENT", help="only the runs of this agent"),
    argument("--task", metavar="TASK", help="only the runs that worked on this task"),
    argument("--outcome", metavar="OUTCOME", help="only runs with this outcome, such as failed"),
    period.since(None),
    flag("--all", f"list every run; without it, the newest {MOST_ROWS}"),
)
def runs(arguments: Namespace) -> None:
    """List the runs that have ended, oldest first, with outcome, duration and cost.

    examples:
      orchestrator runs --since yesterday
      orchestrator runs --agent impl-agent-1 --outcome failed
      orchestrator logs RUN          what a run did
    """
    layout = context.reading(arguments)
    if arguments.outcome not in (None, *VERDICTS):
        hint = did_you_mean(arguments.outcome, VERDICTS, f"one of: {', '.join(VERDICTS)}")
        raise UsageError(f"there is no outcome {arguments.outcome!r}", hint)
    now = context.now()
    since = period.start(arguments.since, now)
    wanted = {"agent": arguments.agent, "task": arguments.task, "verdict": arguments.outcome}

    def fits(run: EndedRun) -> bool:
        return all(value in (None, getattr(run.told, name)) for name, value in wanted.items())

    with fold.opened(layout) as past:
        if arguments.all:
            shown, are_more = list(filter(fits, past.runs(since))), False
        else:
            told = (ledger.begins(layout) or 0.0, now)
            shown, are_more = ledger.newest(past.runs, since, told, MOST_ROWS, fits)
    if not shown and (arguments.agent, arguments.task) != (None, None):
        _require_names(layout, arguments.agent, arguments.task, since)
    shared = any(run.told.host for run in shown)
    rows = [_cells(run) + ((run.told.host,) if shared else ()) for run in shown]
    value = [run.row() for run in shown]
    output.listing(arguments, value, _HEADINGS + ("host",) * shared, rows, NOTHING)
    if are_more and not arguments.json:
        output.out("\nearlier runs are not listed; to list them, add --all")


def _require_names(layout: Layout, agent: str | None, task: str | None, since: float) -> None:
    """Raise NotFound for names that have no run in the period and that the project never had."""
    known = [run.told for run in ledger.read(layout, since)]
    agents = {told.agent for told in known}.union(agent_memory.names(layout))
    if agent is not None and agent not in agents:
        context.agent_named(context.settings(layout).config, agent)
    if task is not None and task not in {told.task for told in known}:
        stores.of_project(layout).find(task)


def _cells(run: EndedRun) -> tuple[object, ...]:
    told = run.told
    cost = None if told.cost_usd is None else f"{told.cost_usd:.4f}"
    took = None if told.seconds is None else span(told.seconds)
    return (told.run, local(run.ended), told.agent, told.task, told.verdict, took, cost)
