"""`history`: what each day came to, and what each agent ran when."""

from __future__ import annotations

from orchestrator.account import fold, ledger
from orchestrator.account import history as account
from orchestrator.cli import context, output, period
from orchestrator.cli.parser import Namespace, command
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.times import iso
from orchestrator.project import agent_memory, events
from orchestrator.tasks import stores
from orchestrator.text.words import local, span

DEFAULT_PERIOD = "14d"
_HEADINGS = (
    *("day", "added", "done", "merged", "failed", "runs", "success"),
    *("to done", "to merge", "rounds", "usd"),
)

Row = dict[str, Any]


@command("history", period.since(DEFAULT_PERIOD), period.until())
def history(arguments: Namespace) -> None:
    """Show the totals of each day: tasks added, done, merged and failed, and how long they took.

    `to done` and `to merge` are the median times since the task was added; `rounds` is how often a
    merged task was delivered for review, on average; `success` is the share of runs that got their
    work done, among those that did and those that failed or asked a person.

    examples:
      orchestrator history
      orchestrator history --since 2026-11-01 --until 2026-11-08
      orchestrator history --json         also every agent's runs with start, end and outcome
    """
    layout, now = context.reading(arguments), context.now()
    start = period.start(arguments.since, now)
    end = period.end(arguments, start, now)
    # Before the ends of runs are read: a run that ends meanwhile is shown with its end.
    begun = _begun(layout, now) if arguments.json else []
    with fold.opened(layout) as past:
        runs, facts = past.runs(start), past.facts(account.days(start, end)[0])
    begins = ledger.begins(layout)
    days = account.rows(runs, facts, start, end, now, begins)
    if arguments.json:
        output.show_json(
            {
                "from": iso(start),
                "to": iso(end),
                "days": days,
                "agents": [
                    {"agent": agent, "runs": [each.row() for each in spans]}
                    for agent, spans in account.lanes(runs, begun, end).items()
                ],
                "history_begins": iso(begins),
            }
        )
        return
    if begins is None:
        output.out("nothing has happened yet: there are no events")
        return
    output.table(_HEADINGS, [_cells(day) for day in days])
    if begins > start:
        limit = "retention.events_mb in agents.yaml limits its size"
        output.prose(f"\nthe history begins at {local(begins)}; {limit}")


def _begun(layout: Layout, now: float) -> list[account.Span]:
    """Return the runs that are at work. Raises StoreFault."""
    memories = agent_memory.every(layout).values()
    at_work = {memory.run: memory.last_started or 0.0 for memory in memories if memory.run}
    others = stores.of_project(layout).elsewhere().runs
    at_work |= {run.id: now - (run.age or 0.0) for run in others}
    if not at_work:
        return []
    since, most = min(at_work.values()), events.MOST_READ
    told = events.read(layout, most, of_all_hosts=True, kinds=account.STARTS, since=since)
    return list(account.begun(told, at_work))


def _cells(day: Row) -> tuple[object, ...]:
    counts = (day[name] for name in ("day", "added", "done", "merged", "failed", "runs"))
    success = None if day["success"] is None else f"{day['success']:.0%}"
    took = (day[name] for name in ("seconds_to_done", "seconds_to_merged"))
    spans = (None if seconds is None else span(seconds) for seconds in took)
    return (*counts, success, *spans, day["review_rounds"], f"{day['cost_usd']:.2f}")
