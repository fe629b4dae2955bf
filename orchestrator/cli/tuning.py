"""`_history`: the events of the last days in numbers, for the two skills that tune settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median

from orchestrator.account import ledger
from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, argument, command
from orchestrator.model.annotations import Any
from orchestrator.model.config import Agent, Config
from orchestrator.model.times import parse_time
from orchestrator.project import events

#: Bytes of the newest events that are read.
MOST_READ = 32 << 20
DAY = 86_400.0
#: US dollars; a higher cost of a run is a damaged line.
MOST_COST = 1e9
#: Events that put a task into the queue.
_ENTERED = ("added", "review_wanted", "answered", "retried")

Row = dict[str, Any]


@command("_history", argument("--days", type=float, default=7.0))
def history(arguments: Namespace) -> None:
    """Print the last days of this project in numbers, as JSON."""
    layout = context.reading(arguments)
    config, now = context.settings(layout).config, context.now()
    told = map(dict, events.read(layout, MOST_READ))
    output.show_json(numbers(told, config, now - arguments.days * DAY, now))


def numbers(told: Iterable[Row], config: Config, since: float, now: float) -> Row:
    """Return what the events between `since` and `now` (epoch seconds) add up to.

    Times are in seconds, money in US dollars, shares from 0 to 1. A task's wait lasts from entering
    the queue to its first start; its idle wait is the part in which its agent was free.
    """
    timed = ((parse_time(str(event.get("at"))), event) for event in told)
    known = [(at, event) for at, event in timed if at is not None and since <= at <= now]
    seconds = now - min((at for at, _ in known), default=now)
    runs, waits, ends = _runs(known, now)
    every = {agent.name: _every(agent) for agent in config.agents}
    names = (*every, *sorted({run["agent"] for run in runs} - every.keys()))
    added = Counter(str(e.get("by")) for _, e in known if e.get("event") == "added")
    return {
        "days": seconds / DAY,
        "events": len(known),
        "tasks_in": sum(e.get("event") in ("added", "review_wanted") for _, e in known),
        "ends": dict(ends),
        "median_wait_seconds": _median(wait for _, wait, _ in waits),
        "longest_wait_seconds": max((wait for _, wait, _ in waits), default=None),
        **_claimed(runs, config.queue_limits.max_claimed, seconds),
        "agents": [
            {
                "name": name,
                "every": every.get(name, "not configured"),
                **_of_agent([run for run in runs if run["agent"] == name], seconds),
                "median_idle_wait_seconds": _median(idle for who, _, idle in waits if who == name),
                "tasks_added": added[name],
            }
            for name in names
        ],
    }


def _every(agent: Agent) -> str:
    if agent.schedule is not None:
        return agent.schedule
    return f"{agent.interval_seconds:g} s" if agent.interval_seconds else "tick"


def _runs(
    known: list[tuple[float, Row]], now: float
) -> tuple[list[Row], list[tuple[str, float, float]], Counter[str]]:
    """Return the runs, the waits (agent, seconds, idle seconds), and how runs and tasks ended."""
    runs: dict[str, Row] = {}
    waits: list[tuple[str, float, float]] = []
    entered: dict[str, float] = {}
    free_since: dict[str, float] = {}
    ends: Counter[str] = Counter()
    for at, event in known:
        word, agent, run_id = (str(event.get(name)) for name in ("event", "agent", "run"))
        task = str(event.get("review") or event.get("task") or "")
        if word in _ENTERED and task:
            entered[task] = at
        elif word == "start":
            runs[run_id] = {"agent": agent, "task": task, "start": at, "end": now, "cost": 0.0}
            if (came := entered.pop(task, None)) is not None:
                waits.append((agent, at - came, at - max(came, free_since.get(agent, came))))
        elif word in ledger.ENDS:
            free_since[agent] = at
            verdict, cost = str(event.get("verdict") or word), event.get("cost_usd")
            ends[verdict] += 1
            if run_id in runs:
                good = isinstance(cost, int | float) and 0 <= cost < MOST_COST
                runs[run_id] |= {"end": at, "verdict": verdict, "cost": cost if good else 0.0}
    return list(runs.values()), waits, ends


def _claimed(runs: list[Row], limit: int, seconds: float) -> Row:
    """Return how many tasks were worked on at once, and the share of the time at `limit`."""
    of_tasks = [run for run in runs if run["task"]]
    steps = [(r["start"], 1) for r in of_tasks] + [(r["end"], -1) for r in of_tasks]
    number, most, before, area, full = 0, 0, 0.0, 0.0, 0.0
    for at, step in sorted(steps):
        area += number * (at - before)
        full += (at - before) * (number >= max(limit, 1))
        number, before = number + step, at
        most = max(most, number)
    share = 1 / seconds if seconds > 0 else 0.0
    return {"claimed_average": area * share, "claimed_most": most, "claimed_full": full * share}


def _of_agent(runs: list[Row], seconds: float) -> Row:
    took = [run["end"] - run["start"] for run in runs]
    return {
        "runs": len(runs),
        "outcomes": dict(Counter(run["verdict"] for run in runs if "verdict" in run)),
        "median_run_seconds": _median(took),
        "busy": min(sum(took) / seconds, 1.0) if seconds else 0.0,
        "cost_usd": round(sum(run["cost"] for run in runs), 6),
    }


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None
