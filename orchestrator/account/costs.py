"""What runs cost, added up by day, agent, role, task or model. Pure."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

from orchestrator.account.ledger import EndedRun
from orchestrator.model import ModelUse

By = Literal["day", "agent", "role", "task", "model"]
KEYS: tuple[By, ...] = get_args(By)
#: The key of runs that have no task, or whose event says no role or model.
UNKNOWN = "-"

Row = dict[str, Any]


def rows(runs: Iterable[EndedRun], by: By) -> list[Row]:
    """Return one row for each value of a key, in the order of the keys; money is in US dollars.

    Days are local days, of a run's end. A run with several models has a share in the row of each.
    """
    totals: dict[str, Row] = {}
    for run in runs:
        for key, use in _shares(run, by):
            _add(totals.setdefault(key, _row(key)), run, use)
    return [_rounded(totals[key]) for key in sorted(totals)]


def total(runs: Iterable[EndedRun]) -> Row:
    """Return the sums over all runs. `unknown` counts the runs whose cost is not known."""
    found = _row("total")
    for run in runs:
        _add(found, run, _whole(run))
    del found["key"]
    return _rounded(found)


def costliest(runs: Iterable[EndedRun], key: Literal["run", "task"]) -> Row | None:
    """Return the run or the task that cost most, and its cost in US dollars; None without any."""
    totals: defaultdict[str, float] = defaultdict(float)
    for run in runs:
        if name := getattr(run.told, key):
            totals[name] += run.told.cost_usd or 0.0
    if not totals:
        return None
    name = max(totals, key=lambda each: totals[each])
    return {key: name, "cost_usd": round(totals[name], 6)}


def _row(key: str) -> Row:
    return {
        "key": key,
        "runs": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_usd": 0.0,
        "unknown": 0,
    }


def _add(row: Row, run: EndedRun, use: ModelUse) -> None:
    row["runs"] += 1
    row["unknown"] += run.told.cost_usd is None
    for name in ModelUse._fields:
        row[name] += getattr(use, name)


def _rounded(row: Row) -> Row:
    return {**row, "cost_usd": round(row["cost_usd"], 6)}


def _whole(run: EndedRun) -> ModelUse:
    told = run.told
    return ModelUse(told.cost_usd or 0.0, told.input_tokens or 0, told.output_tokens or 0)


def _shares(run: EndedRun, by: By) -> Iterator[tuple[str, ModelUse]]:
    """Yield the keys of a run, each with the part of the run's cost and tokens that it had."""
    if by == "model" and run.told.models:
        yield from run.told.models.items()
        return
    day = time.strftime("%Y-%m-%d", time.localtime(run.ended))
    key = day if by == "day" else getattr(run.told, by)
    yield key or UNKNOWN, _whole(run)
