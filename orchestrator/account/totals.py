"""What all runs of the kept history came to, by agent and by task. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from orchestrator.account.ledger import EndedRun
from orchestrator.model.annotations import Any

#: The events of a run that end its task; after the others, the task is worked on again.
_ENDS = ("finish", "fail")
#: Ids of the newest runs that are remembered: more than one tick settles.
_NEWEST = 1000


class Totals:
    """Sums over ended runs, which are added in the order of their ends. Money is in US dollars."""

    def __init__(self, runs: Iterable[EndedRun] = ()) -> None:
        #: The number of runs by agent and verdict.
        self.runs: Counter[tuple[str, str]] = Counter()
        #: By task: the cost of its runs; the same of the runs whose role is known, None if a cost
        #: among them is not known; the end, the role and the event of the last of these.
        self._tasks: dict[str, tuple[float, float | None, float, str, str]] = {}
        self._newest: list[str] = []
        self.add(runs)

    def add(self, runs: Iterable[EndedRun]) -> None:
        """Add runs that are not in it."""
        for ended in runs:
            told = ended.told
            self.runs[told.agent, told.verdict or "-"] += 1
            self._newest.append(told.run)
            if told.task:
                self._add(told.task, ended)
        del self._newest[:-_NEWEST]

    def _add(self, task: str, run: EndedRun) -> None:
        told, cost = run.told, run.told.cost_usd
        everything, known, ended, role, event = self._tasks.get(task, (0.0, 0.0, 0.0, "", ""))
        if told.role:
            known = None if known is None or cost is None else known + cost
            if run.ended >= ended:
                ended, role, event = run.ended, told.role, told.event
        self._tasks[task] = everything + (cost or 0.0), known, ended, role, event

    def has_any(self, runs: Iterable[EndedRun]) -> bool:
        """Return whether one of these runs may be in it: its end was written twice."""
        return not {run.told.run for run in runs}.isdisjoint(self._newest)

    def finished(self) -> Mapping[str, Sequence[float]]:
        """Return by role what each finished task cost, if that is known of all its runs."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for _, known, _, role, event in self._tasks.values():
            if known is not None and event in _ENDS:
                found[role].append(known)
        return found

    def costliest_task(self) -> dict[str, Any] | None:
        """Return the task that cost most, and its cost; None if no task has a cost."""
        most = max(map(itemgetter(0), self._tasks.values()), default=0.0)
        task = next((task for task, each in self._tasks.items() if each[0] == most), None)
        return {"task": task, "cost_usd": round(most, 6)} if most else None

    def kept(self) -> object:
        """Return the value for JSON that `again` reads."""
        runs = [[*key, number] for key, number in self.runs.items()]
        return {"runs": runs, "tasks": self._tasks, "newest": self._newest}

    @classmethod
    def again(cls, kept: Any) -> Totals:
        """Return the totals that `kept` was made from. Raises KeyError, TypeError, ValueError."""
        made = cls()
        made.runs.update({(agent, verdict): number for agent, verdict, number in kept["runs"]})
        made._tasks, made._newest = kept["tasks"], kept["newest"]
        return made
