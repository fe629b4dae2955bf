"""The history of a period: what each agent ran when, and what each day came to. Pure.

Everything is from the project's events; days are days of the local zone.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from statistics import mean, median
from typing import Any, NamedTuple

from orchestrator.account import ledger
from orchestrator.account.ledger import EndedRun
from orchestrator.model import iso, parse_time

Row = dict[str, Any]
DAY = 86_400
#: The verdicts of runs that did their work, and of runs that worked and did not get it done. Runs
#: that others ended (a person, a limit, a fault of the system) say nothing about success.
GOOD = ("done", "no_change", "split", "approved", "changes_requested")
NOT_GOOD = ("failed", "needs_human")
#: Verdicts of reviews: their tasks are not work that somebody asked for.
OF_REVIEWS = ("approved", "changes_requested")


class Span(NamedTuple):
    """When a run worked, in epoch seconds."""

    run: str
    agent: str
    task: str | None
    started: float
    #: None: the run is at work.
    ended: float | None
    #: The run's verdict; None if it is at work.
    outcome: str | None
    cost_usd: float | None = None

    def row(self) -> Row:
        """Return the run as `history --json` shows it."""
        times = {"started": iso(self.started), "ended": iso(self.ended)}
        return {
            name: getattr(self, name) for name in ("run", "task", "outcome", "cost_usd")
        } | times


class Facts:
    """What the events say about tasks, and when runs began; `watched` fills it."""

    def __init__(self) -> None:
        #: By task, epoch seconds: added, finished, merged (the last time), failed.
        self.added: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self.merged: dict[str, float] = {}
        self.failed: dict[str, float] = {}
        #: The runs that delivered a pull request of a task: each delivery is a round of review.
        self.rounds: defaultdict[str, set[str]] = defaultdict(set)
        self.reviews: set[str] = set()
        #: Run -> agent, task, start.
        self.starts: dict[str, tuple[str, str | None, float]] = {}

    def watched(self, told: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
        """Yield the events as they come, and remember what they say: one pass over the file."""
        for event in told:
            at, task = parse_time(str(event.get("at"))), event.get("task")
            if at is not None:
                self._note(event, at, task if isinstance(task, str) else None)
            yield event

    def _note(self, event: Mapping[str, object], at: float, task: str | None) -> None:
        word, run, agent = event.get("event"), event.get("run"), event.get("agent")
        if word == "start" and isinstance(run, str) and isinstance(agent, str):
            self.starts[run] = agent, task, at
        elif word == "review_wanted":
            self.reviews.add(str(event.get("review")))
        elif task is not None:
            self._note_task(event, str(word), at, task)

    def _note_task(self, event: Mapping[str, object], word: str, at: float, task: str) -> None:
        state = event.get("state") if word in ("moved", "followed") else None
        if word == "added" or (word == "issue" and task not in self.added):
            self.added.setdefault(task, at)
        elif word == "merged" or (word == "followed" and event.get("reason") == "merged"):
            self.merged[task] = at
        elif word == "not_merged":
            self.merged.pop(task, None)
        elif word == "finish" and event.get("verdict") in OF_REVIEWS:
            self.reviews.add(task)
        elif word == "finish" or state == "done":
            self.failed.pop(task, None)
            self.done[task] = at
            if event.get("pr"):
                self.rounds[task].add(str(event.get("run")))
        elif word == "fail" or state == "failed":
            self.failed[task] = at
        elif word == "retried" or state == "incoming":
            self.failed.pop(task, None)


class History(NamedTuple):
    """The history of a period."""

    #: By agent, by start.
    spans: dict[str, list[Span]]
    #: One row per local day, as `history --json` shows it.
    days: list[Row]
    #: The time of the oldest event that is kept; None without events.
    begins: float | None


def collect(
    told: Iterable[Mapping[str, object]], start: float, end: float, at_work: Collection[str]
) -> History:
    """Return the history between two times (epoch seconds), from events in their order.

    `at_work` has the runs that work now. A run without an end that is not among them is left out:
    the event that tells how it ended comes with the next tick.
    """
    facts = Facts()
    found = ledger.collect(facts.watched(told), 0.0)
    edges = days(start, end)
    runs = [run for run in found.runs if start <= run.ended < end]
    return History(
        _lanes(found.runs, facts, start, end, at_work), _days(runs, facts, edges), found.begins
    )


def days(start: float, end: float) -> list[float]:
    """Return the local midnights from the day of `start` to the one after `end` (epoch seconds).

    A day of a change of the clock has 23 or 25 hours.
    """
    year, month, day = time.localtime(start)[:3]
    found: list[float] = []
    while not found or found[-1] < end:
        found.append(time.mktime((year, month, day + len(found), 0, 0, 0, 0, 0, -1)))
    return found


def _lanes(
    ended: Iterable[EndedRun], facts: Facts, start: float, end: float, at_work: Collection[str]
) -> dict[str, list[Span]]:
    lanes: defaultdict[str, list[Span]] = defaultdict(list)
    known = set()
    for run in ended:
        told = run.told
        known.add(told.run)
        began = run.ended if run.started is None else run.started
        lanes[told.agent].append(
            Span(told.run, told.agent, told.task, began, run.ended, told.verdict, told.cost_usd)
        )
    for name, (agent, task, began) in facts.starts.items():
        if name in at_work and name not in known:
            lanes[agent].append(Span(name, agent, task, began, None, None))
    found = {}
    for agent in sorted(lanes):
        inside = [s for s in lanes[agent] if s.started < end and (s.ended or end) >= start]
        if inside:
            found[agent] = sorted(inside, key=lambda span: span.started)
    return found


def _days(runs: Iterable[EndedRun], facts: Facts, edges: list[float]) -> list[Row]:
    by_day: list[list[EndedRun]] = [[] for _ in edges[1:]]
    for run in runs:
        by_day[bisect_right(edges, run.ended) - 1].append(run)
    found = [_run_figures(each) for each in by_day]
    work = {
        name: {task: at for task, at in getattr(facts, name).items() if task not in facts.reviews}
        for name in ("added", "done", "merged", "failed")
    }
    for place, row in enumerate(found):
        first, last = edges[place], edges[place + 1]
        row["day"] = time.strftime("%Y-%m-%d", time.localtime(first))
        today = {
            name: [task for task, at in known.items() if first <= at < last]
            for name, known in work.items()
        }
        row |= {name: len(tasks) for name, tasks in today.items()}
        for name in ("done", "merged"):
            took = [
                work[name][task] - facts.added[task] for task in today[name] if task in facts.added
            ]
            row[f"seconds_to_{name}"] = round(median(took), 1) if took else None
        rounds = [len(facts.rounds[task]) for task in today["merged"] if task in facts.rounds]
        row["review_rounds"] = round(mean(rounds), 2) if rounds else None
    return found


def _run_figures(runs: list[EndedRun]) -> Row:
    """Return what the runs of one day came to. `success` is None without a run that tells."""
    good = sum(run.told.verdict in GOOD for run in runs)
    judged = good + sum(run.told.verdict in NOT_GOOD for run in runs)
    return {
        "runs": len(runs),
        "success": round(good / judged, 4) if judged else None,
        "cost_usd": round(sum(run.told.cost_usd or 0.0 for run in runs), 6),
    }
