"""`costs`: tokens and dollars, and the use of the budgets."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.account import costs as account
from orchestrator.account import fold, ledger, spending
from orchestrator.cli import context, output, period
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.model.annotations import Any
from orchestrator.model.times import iso
from orchestrator.model.waiting import roles
from orchestrator.tasks import stores
from orchestrator.text.words import count, local

DEFAULT_PERIOD = "7d"
BY = "one row per day, agent, role, task or model (default: day)"
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
    as_csv = arguments.csv and not arguments.json
    with fold.opened(layout) as past:
        found, everything = past.runs(since), None if as_csv else past.totals()
    rows = account.rows(found, arguments.by, now)
    if everything is None:
        output.copy(_csv(arguments.by, rows))
        return
    begins, loaded = ledger.begins(layout), context.settings(layout)
    takes = {role.takes: name for name, role in loaded.roles.items() if role.takes}
    waits = roles(stores.of_project(layout).waiting().tasks)
    waiting = [name for role, many in waits for name in [takes.get(role, "")] * many]
    value: Row = {
        "by": arguments.by,
        "since": iso(since),
        "rows": rows,
        "total": account.total(found),
        "budgets": {
            **loaded.config.budgets._asdict(),
            "spent_today_usd": round(spending.today(layout, loaded.config, now), 6),
            "costliest_run": account.costliest(found),
            "costliest_task": everything.costliest_task(),
        },
        "forecast": account.forecast(everything.finished, waiting)._asdict(),
        "history_begins": iso(begins),
    }
    if arguments.json:
        output.show_json(value)
        return
    if rows:
        total = {"key": "total", **value["total"]}
        output.table((arguments.by, "runs", "tokens in", "tokens out", "usd"), _cells(rows, total))
        output.out()
    for line in _lines(value, since, begins):
        output.prose(line)


def _cells(rows: Iterable[Row], total: Row) -> list[tuple[object, ...]]:
    return [
        (row["key"], row["runs"], *_tokens(row), f"{row['cost_usd']:.4f}") for row in (*rows, total)
    ]


def _tokens(row: Row) -> Iterable[str | None]:
    counts = (row["input_tokens"], row["output_tokens"])
    return (None if number is None else f"{number:,}" for number in counts)


def _lines(value: Row, since: float, begins: float | None) -> Iterable[str]:
    if not value["rows"]:
        yield f"no run has ended since {local(since)}"
    if unknown := value["total"]["unknown"]:
        why = "killed, or the client did not start"
        yield f"the cost of {count(unknown, 'run')} is not known ({why})"
    yield from _budget_lines(value["budgets"])
    yield _forecast_line(value["forecast"])
    if begins is not None and begins > since:
        limit = "retention.events_mb in agents.yaml limits its size"
        yield f"the history begins at {local(begins)}; {limit}"


def _budget_lines(budgets: Row) -> Iterable[str]:
    spent, cap = budgets["spent_today_usd"], budgets["daily_usd"]
    used = "" if not cap else f" ({spent / cap:.0%})"
    of = "" if cap is None else f" of {cap:g}"
    yield f"spent today: {spent:.2f}{of} USD{used} (budgets.daily_usd)"
    for noun, name in (("run", "costliest run of this period"), ("task", "costliest task")):
        most, cap = budgets[f"costliest_{noun}"], budgets[f"{noun}_usd"]
        if most is not None:
            of = "no limit" if cap is None else f"at most {cap:g} USD"
            said = f"{most[noun]} cost {most['cost_usd']:.2f} USD"
            yield f"{name}: {said}; {of} (budgets.{noun}_usd)"


def _forecast_line(guess: Row) -> str:
    if not guess["waiting"]:
        return "forecast: no task waits"
    missing = [
        f"{each['role'] or 'no role'}: {each['finished']} finished"
        for each in guess["roles"]
        if each["median_usd"] is None
    ]
    why = f"it takes {account.ENOUGH} finished tasks of a role; {', '.join(missing)}"
    if guess["cost_usd"] is None:
        return f"forecast: not known for {count(guess['waiting'], 'waiting task')} ({why})"
    number = count(guess["tasks"], "waiting task")
    if missing:
        number = f"{guess['tasks']} of {count(guess['waiting'], 'waiting task')}"
    between = f"quartiles: {guess['low_usd']:.2f} to {guess['high_usd']:.2f}"
    said = f"forecast: about {guess['cost_usd']:.2f} USD ({between}) for {number}, without reviews"
    return f"{said}; not known for the others: {why}" if missing else said


def _csv(by: str, rows: Iterable[Row]) -> bytes:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([by, *_COLUMNS])
    writer.writerows([row["key"], *(row[name] for name in _COLUMNS)] for row in rows)
    return text.getvalue().encode()
