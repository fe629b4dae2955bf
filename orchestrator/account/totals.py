"""What the finished tasks of each role cost, and which task cost most. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from orchestrator.account.facts import Facts
from orchestrator.account.ledger import EndedRun
from orchestrator.model.annotations import Any
from orchestrator.project.event_fold import Damaged

#: Ids of the newest runs that are remembered: more than one tick settles.
_NEWEST = 1000


class Totals:
    """Sums over ended runs, which are added in the order of their ends. Money is in US dollars."""

    def __init__(self, runs: Iterable[EndedRun] = ()) -> None:
        #: By role, what each finished task cost if that is known of all its runs, in order.
        self.finished: dict[str, list[float]] = {}
        #: The task that cost most, and its cost.
        self._most: tuple[str, float] = ("", 0.0)
        self._newest: list[str] = []
        self.add(runs, Facts())

    def add(self, runs: Iterable[EndedRun], facts: Facts) -> None:
        """Add runs that are not in it, also to the facts about their tasks. Raises Damaged."""
        before: dict[str, tuple[str, float] | None] = {}
        for run in runs:
            self._newest.append(run.told.run)
            if task := run.told.task:
                of = facts.of(task)
                before.setdefault(task, of.price())
                of.charge(run)
        del self._newest[:-_NEWEST]
        for role, usd in filter(None, before.values()):
            costs = self.finished.get(role, [])
            place = bisect_left(costs, usd)
            if costs[place : place + 1] != [usd]:
                raise Damaged
            del costs[place]
        for task in before:
            of = facts.of(task)
            if price := of.price():
                self.finished.setdefault(price[0], []).append(price[1])
            self._most = max(self._most, (task, of.usd), key=lambda most: most[1])
        for costs in self.finished.values():
            costs.sort()

    def has_any(self, runs: Iterable[EndedRun]) -> bool:
        """Return whether one of these runs may be in it: its end was written twice."""
        return not {run.told.run for run in runs}.isdisjoint(self._newest)

    def costliest_task(self) -> dict[str, Any] | None:
        """Return the task that cost most, and its cost; None if no task has a cost."""
        task, usd = self._most
        return {"task": task, "cost_usd": round(usd, 6)} if usd else None

    def kept(self) -> object:
        """Return the value for JSON that `again` reads."""
        return [self.finished, self._most, self._newest]

    @classmethod
    def again(cls, kept: Any) -> Totals:
        """Return the totals that `kept` was made from. Raises TypeError and ValueError."""
        made = cls()
        made.finished, (task, usd), made._newest = kept
        made._most = (task, usd)
        return made
