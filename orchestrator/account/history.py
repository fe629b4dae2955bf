"""The history of a period: what each agent ran when, and what each day came to. Pure.

Everything is from the project's events; days are days of the local zone.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import groupby

from orchestrator.account import ledger
from orchestrator.account.averages import mean, median
from orchestrator.account.facts import START, TIMES, Facts
from orchestrator.account.ledger import EndedRun
from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import iso, parse_time
from orchestrator.text import words

Row = dict[str, Any]
#: The verdicts of runs that did their work, and of runs that worked and did not get it done. Runs
#: that others ended (a person, a limit, a system fault) say nothing about success.
GOOD = ("done", "no_change", "split", "approved", "changes_requested")
NOT_GOOD = ("failed", "needs_human")
#: The events that `begun` needs, and those that facts and ended runs are made from.
STARTS = (START,)
KINDS = (
    *(*ledger.ENDS, "review_wanted", "added", "issue", "retried"),
    *("moved", "followed", "merged", "not_merged"),
)


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
    #: The host that has, or had, the run; None without a shared queue.
    host: str | None = None

    def row(self) -> Row:
        """Return the run as `history --json` shows it."""
        names = ("run", "task", "outcome", "cost_usd", *(("host",) if self.host else ()))
        times = {"started": iso(self.started), "ended": iso(self.ended)}
        return {name: getattr(self, name) for name in names} | times


def rows(
    runs: Iterable[EndedRun],
    facts: Facts,
    start: float,
    end: float,
    now: float,
    begins: float | None = None,
) -> list[Row]:
    """Return one row per local day between two times (epoch seconds), as `history --json` has it.

    `runs` ended since `start`; what is recorded after `now` counts as just before now. `begins` is
    the time of the oldest event of all. A day that ended before it is left out: what happened on it
    is not known.
    """
    edges, latest = days(start, end), now - 1.0
    runs = (run._replace(ended=min(run.ended, latest)) for run in runs)
    found = _rows((run for run in runs if run.ended < end), facts, edges, latest)
    return found if begins is None else found[sum(edge <= begins for edge in edges[1:]) :]


def begun(told: Iterable[Mapping[str, object]], at_work: Collection[str]) -> Iterator[Span]:
    """Yield the runs among `at_work` (ids) whose starts are among the events.

    A run without an end that is not at work is left out: the event that tells how it ended comes
    with the next tick.
    """
    for event in told:
        if event.get("event") != START or event.get("run") not in at_work:
            continue
        at, agent, task = parse_time(str(event.get("at"))), event.get("agent"), event.get("task")
        if at is not None and isinstance(agent, str):
            known = task if isinstance(task, str) else None
            host = str(event["host"]) if event.get("host") else None
            yield Span(str(event.get("run")), agent, known, at, None, None, host=host)


def days(start: float, end: float) -> list[float]:
    """Return the local midnights from the day of `start` to the one after `end` (epoch seconds).

    A day of a change of the clock has 23 or 25 hours.
    """
    year, month, day = time.localtime(start)[:3]
    found: list[float] = []
    while not found or found[-1] < end:
        found.append(time.mktime((year, month, day + len(found), 0, 0, 0, 0, 0, -1)))
    return found


def lanes(ended: Iterable[EndedRun], begun: Iterable[Span], end: float) -> dict[str, list[Span]]:
    """Return what each agent ran, by start: runs that ended and runs at work, begun before `end`.

    All times are epoch seconds.
    """
    of_agents: defaultdict[str, list[Span]] = defaultdict(list)
    known = set()
    for run in ended:
        told = run.told
        known.add(told.run)
        began = run.ended if run.started is None else run.started
        ends = (began, run.ended, told.verdict, told.cost_usd, told.host)
        of_agents[told.agent].append(Span(told.run, told.agent, told.task, *ends))
    for span in begun:
        if span.run not in known:
            of_agents[span.agent].append(span)
    found = {}
    for agent in sorted(of_agents, key=_natural):
        inside = [span for span in of_agents[agent] if span.started < end]
        if inside:
            found[agent] = sorted(inside, key=lambda span: span.started)
    return found


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return what sorts names as people do: `impl-2` before `impl-10`."""
    parts = [(kind, "".join(part)) for kind, part in groupby(name, "0123456789".__contains__)]
    return [(not kind, int(part) if kind else 0, part) for kind, part in parts]


def _rows(runs: Iterable[EndedRun], facts: Facts, edges: list[float], latest: float) -> list[Row]:
    by_day: list[list[EndedRun]] = [[] for _ in edges[1:]]
    for run in runs:
        by_day[bisect_right(edges, run.ended) - 1].append(run)
    found = [_run_figures(each) for each in by_day]
    tasks = {name: _by_day(facts.times(name, edges[0]), edges, latest) for name in TIMES}
    for place, row in enumerate(found):
        row["day"] = words.day(edges[place])
        row |= {name: len(days[place]) for name, days in tasks.items()}
        for name in ("done", "merged"):
            took = [
                at - added
                for task, at in tasks[name][place].items()
                if (added := facts.of(task).added) is not None
            ]
            row[f"seconds_to_{name}"] = round(median(took), 1) if took else None
        merged = tasks["merged"][place]
        rounds = [len(each) for task in merged if (each := facts.of(task).rounds)]
        row["review_rounds"] = round(mean(rounds), 2) if rounds else None
    return found


def _by_day(
    times: Mapping[str, float], edges: list[float], latest: float
) -> list[dict[str, float]]:
    """Return the tasks of each day, with their times, which are `latest` at most."""
    found: list[dict[str, float]] = [{} for _ in edges[1:]]
    for task, recorded in times.items():
        at = min(recorded, latest)
        if edges[0] <= at < edges[-1]:
            found[bisect_right(edges, at) - 1][task] = at
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
