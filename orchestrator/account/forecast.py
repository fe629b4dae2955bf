"""What the waiting tasks will cost, if they cost what finished tasks of their role did. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.account.averages import quartiles
from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple

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
