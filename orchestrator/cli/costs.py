"""`costs`: tokens and dollars, and the use of the budgets."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from typing import Any

from orchestrator.account import costs as account
from orchestrator.account import ledger
from orchestrator.cli import context, output, period
from orchestrator.cli.parser import argument, command, flag
from orchestrator.layout import Layout
from orchestrator.model import iso
from orchestrator.project import agent_memory
from orchestrator.text.words import count

DEFAULT_PERIOD = "7d"
BY = "what each row stands for (default: day)"
_COLUMNS = ("runs", "input_tokens", "output_tokens", "cost_usd")

Row = dict[str, Any]


@command(
    "costs",
    period.since(DEFAULT_PERIOD),
    argument("--by", choices=account.KEYS, default="day", help=BY),
    flag("--csv", "print the rows as comma-separated values"),
)
def costs(arguments: Namespace) -> None:
    """Show what runs cost, in tokens and US dollars, and how much of the budgets is used.

    The client reports the amounts. Each run counts once, with its subagents.

    examples:
      orchestrator costs
      orchestrator costs --by agent --since 2026-11-01
      orchestrator costs --by task --csv > costs.csv
    """
    layout, now = context.reading(arguments), context.now()
    since = period.start(arguments.since, now)
    everything = ledger.read(layout)
    found = [run for run in everything.runs if run.ended >= since]
    rows = account.rows(found, arguments.by)
    if arguments.csv and not arguments.json:
        output.copy(_csv(arguments.by, rows))
        return
    loaded, seen = context.look(layout)
    takes = {role.takes: name for name, role in loaded.roles.items() if role.takes}
    waiting = [takes.get(task.role, "") for task in seen.incoming.tasks]
    value: Row = {
        "by": arguments.by,
        "since": iso(since),
        "rows": rows,
        "total": account.total(found),
        "budgets": {
            "daily_usd": loaded.config.budgets.daily_usd,
            "spent_today_usd": round(_spent_today(layout, now), 6),
            "run_usd": loaded.config.budgets.run_usd,
            "task_usd": loaded.config.budgets.task_usd,
        },
        "forecast": account.forecast(everything.runs, waiting)._asdict(),
        "history_begins": iso(everything.begins),
    }
    if arguments.json:
        output.show_json(value)
        return
    if rows:
        total = {"key": "total", **value["total"]}
        output.table((arguments.by, "runs", "tokens in", "tokens out", "usd"), _cells(rows, total))
        output.out()
    for line in _lines(value, since, everything.begins):
        output.out(line)


def _spent_today(layout: Layout, now: float) -> float:
    names = agent_memory.names(layout)
    return agent_memory.spent((agent_memory.read(layout, name) for name in names), now)


def _cells(rows: Iterable[Row], total: Row) -> list[tuple[object, ...]]:
    return [
        (r["key"], r["runs"], f"{r['input_tokens']:,}", f"{r['output_tokens']:,}",
         f"{r['cost_usd']:.4f}")
        for r in (*rows, total)
    ]  # fmt: skip


def _lines(value: Row, since: float, begins: float | None) -> Iterable[str]:
    if not value["rows"]:
        yield f"no run has ended since {period.local(since)}"
    if unknown := value["total"]["unknown"]:
        why = "killed, or the client did not start"
        yield f"the cost of {count(unknown, 'run')} is not known ({why})"
    budgets = value["budgets"]
    of = "" if budgets["daily_usd"] is None else f" of {budgets['daily_usd']:g}"
    yield f"spent today: {budgets['spent_today_usd']:.2f}{of} USD (budgets.daily_usd)"
    guess = value["forecast"]
    if guess["cost_usd"] is not None:
        tasks = count(guess["tasks"], "waiting task")
        basis = "median cost of finished tasks of the same role"
        yield f"forecast: about {guess['cost_usd']:.2f} USD for {tasks} ({basis})"
    if begins is not None and begins > since:
        limit = "retention.events_mb in agents.yaml limits its size"
        yield f"the history begins at {period.local(begins)}; {limit}"


def _csv(by: str, rows: Iterable[Row]) -> bytes:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([by, *_COLUMNS])
    writer.writerows([row["key"], *(row[name] for name in _COLUMNS)] for row in rows)
    return text.getvalue().encode()
