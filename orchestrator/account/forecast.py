"""What the waiting tasks will cost, if they cost what finished tasks of their role did. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import quantiles
from typing import Any

from orchestrator.account.ledger import EndedRun
from orchestrator.fields import NamedTuple

#: Finished tasks of a role that a forecast needs.
ENOUGH = 3
#: The events of a run that end its task; after the others, the task is worked on again.
_ENDS = ("finish", "fail")


class Forecast(NamedTuple):
    """What the waiting tasks will cost. Money is in US dollars; None is not known."""

    #: Waiting tasks with an estimate, and all waiting tasks.
    tasks: int
    waiting: int
    #: Sums over the tasks with an estimate: of the median, and of the lower and upper quartile.
    cost_usd: float | None
    low_usd: float | None
    high_usd: float | None
    #: For each role: waiting tasks, finished tasks, and the median cost of these.
    roles: list[dict[str, Any]]


def forecast(runs: Iterable[EndedRun], waiting: Sequence[str]) -> Forecast:
    """Estimate what waiting tasks will cost; `waiting` has the role of each, such as `tester`.

    The cost of a finished task is that of all its runs. A role with fewer than `ENOUGH` finished
    tasks has no estimate, and neither has a task of which the cost of a run is not known.
    """
    costs = _finished(runs)
    totals, tasks = [0.0, 0.0, 0.0], 0
    roles = []
    for role, number in sorted(Counter(waiting).items()):
        known = costs.get(role, [])
        found = quantiles(known, n=4, method="inclusive") if len(known) >= ENOUGH else None
        row = {"role": role or None, "waiting": number, "finished": len(known)}
        roles.append({**row, "median_usd": round(found[1], 6) if found else None})
        if found:
            tasks += number
            totals = [total + number * each for total, each in zip(totals, found, strict=True)]
    low, middle, high = (round(total, 4) if tasks else None for total in totals)
    return Forecast(tasks, len(waiting), middle, low, high, roles)


def _finished(runs: Iterable[EndedRun]) -> dict[str, list[float]]:
    """Return by role what each finished task cost."""
    by_task: dict[str, list[EndedRun]] = {}
    for run in runs:
        if run.told.task and run.told.role:
            by_task.setdefault(run.told.task, []).append(run)
    found: defaultdict[str, list[float]] = defaultdict(list)
    for of_task in by_task.values():
        amounts = [run.told.cost_usd for run in of_task]
        known = [amount for amount in amounts if amount is not None]
        if of_task[-1].told.event in _ENDS and len(known) == len(amounts):
            found[str(of_task[-1].told.role)].append(sum(known))
    return found
