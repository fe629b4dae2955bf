"""What runs cost, added up, and what the waiting tasks will probably cost. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from orchestrator.account.averages import quartiles
from orchestrator.account.ledger import EndedRun, Told
from orchestrator.model.annotations import Any, Literal, get_args
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import ModelUse
from orchestrator.text import words

By = Literal["day", "agent", "role", "task", "model"]
KEYS: tuple[By, ...] = get_args(By)
#: The key of runs that have no task, or whose event says no role or model.
UNKNOWN = "-"

Row = dict[str, Any]
#: What knows the cost and the tokens of a run, or of one model in it.
Use = Told | ModelUse


def rows(runs: Iterable[EndedRun], by: By, now: float) -> list[Row]:
    """Return one row for each value of a key, in the order of the keys; money is in US dollars.

    Days are local days, of a run's end; an end after `now` (epoch seconds) counts as now. A run
    with several models has a share in the row of each. Tokens are None if no run of the row reports
    them.
    """
    totals: dict[str, Row] = {}
    for run in runs:
        for key, use in _shares(run, by, now):
            _add(totals.setdefault(key, _row(key)), run, use)
    return [_rounded(totals[key]) for key in sorted(totals)]


def total(runs: Iterable[EndedRun]) -> Row:
    """Return the sums over all runs. `unknown` counts the runs whose cost is not known."""
    found = _row("total")
    for run in runs:
        _add(found, run, run.told)
    del found["key"]
    return _rounded(found)


def costliest(runs: Iterable[EndedRun]) -> Row | None:
    """Return the run that cost most, and its cost in US dollars; None if no run has a cost."""
    most = max(runs, key=lambda run: run.told.cost_usd or 0.0, default=None)
    if most is None or not most.told.cost_usd:
        return None
    return {"run": most.told.run, "cost_usd": round(most.told.cost_usd, 6)}


def _row(key: str) -> Row:
    return {
        "key": key,
        "runs": 0,
        "input_tokens": None,
        "output_tokens": None,
        "cost_usd": 0.0,
        "unknown": 0,
    }


def _add(row: Row, run: EndedRun, use: Use) -> None:
    row["runs"] += 1
    row["unknown"] += run.told.cost_usd is None
    row["cost_usd"] += use.cost_usd or 0.0
    for name in ("input_tokens", "output_tokens"):
        if (tokens := getattr(use, name)) is not None:
            row[name] = (row[name] or 0) + tokens


def _rounded(row: Row) -> Row:
    return {**row, "cost_usd": round(row["cost_usd"], 6)}


def _shares(run: EndedRun, by: By, now: float) -> Iterator[tuple[str, Use]]:
    """Yield the keys of a run, each with the part of the run's cost and tokens that it had."""
    if by == "model" and run.told.models:
        yield from run.told.models.items()
        return
    day = words.day(min(run.ended, now))
    key = day if by == "day" else getattr(run.told, by)
    yield key or UNKNOWN, run.told


#: Finished tasks of a role that a forecast needs.
ENOUGH = 3


class Forecast(NamedTuple):
    """What the waiting tasks will cost. Money is in US dollars; None: not known."""

    #: Waiting tasks with an estimate, and all waiting tasks.
    tasks: int
    waiting: int
    #: Sums over the tasks with an estimate: of the median, and of the lower and upper quartile.
    cost_usd: float | None
    low_usd: float | None
    high_usd: float | None
    #: For each role: waiting tasks, finished tasks, and the median cost of these.
    roles: list[dict[str, Any]]


def forecast(finished: Mapping[str, Sequence[float]], waiting: Sequence[str]) -> Forecast:
    """Estimate what waiting tasks will cost; `waiting` has the role of each, such as `tester`.

    `finished` has by role what each finished task cost, with all its runs, if that is known. A role
    with fewer than `ENOUGH` of them has no estimate.
    """
    totals, tasks = [0.0, 0.0, 0.0], 0
    roles = []
    for role, number in sorted(Counter(waiting).items()):
        known = finished.get(role, [])
        found = quartiles(known) if len(known) >= ENOUGH else None
        row = {"role": role or None, "waiting": number, "finished": len(known)}
        roles.append({**row, "median_usd": round(found[1], 6) if found else None})
        if found:
            tasks += number
            totals = [total + number * each for total, each in zip(totals, found, strict=True)]
    low, middle, high = (round(total, 4) if tasks else None for total in totals)
    return Forecast(tasks, len(waiting), middle, low, high, roles)
