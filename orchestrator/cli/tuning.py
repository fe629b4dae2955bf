"""`_history`: what `events.jsonl` says of the last days, in numbers, for the skills that tune.

Hidden: a skill reads it to a person and says what follows from it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from orchestrator.cli import context, output
from orchestrator.cli.status import span
from orchestrator.layout import Layout
from orchestrator.model import Config, parse_time
from orchestrator.project import events

#: Bytes of the newest history that are read.
MOST_READ = 32 << 20
DAY = 86_400.0
#: US dollars; a run that cost more than that is a damaged line.
MOST_COST = 1e9
#: Events that put a task into the queue, and those that ended a run or a task.
_ENTERED = ("added", "review_wanted", "answered", "retried")
_ENDED = ("finish", "fail", "block", "requeue", "stop")

Event = dict[str, Any]


@dataclass
class AgentNumbers:
    """What one agent did. Times are seconds, money is US dollars."""

    name: str
    #: `120 s`, or a cron expression.
    every: str = "not configured"
    runs: int = 0
    #: The ends of its runs by their verdict.
    outcomes: dict[str, int] = field(default_factory=dict)
    median_run_seconds: float | None = None
    #: How much of the time it was running, 0 to 1.
    busy: float = 0.0
    #: Median of how long a task waited for it while it was free: what its interval costs.
    median_idle_wait_seconds: float | None = None
    tasks_added: int = 0
    cost_usd: float = 0.0


@dataclass
class Numbers:
    """What happened in a span of time that ends now."""

    #: Days from the first event that was read.
    days: float
    events: int
    #: How many tasks entered the queue (reviews among them), and how runs ended.
    tasks_in: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    #: From entering the queue to the first start.
    median_wait_seconds: float | None = None
    longest_wait_seconds: float | None = None
    #: Tasks being worked at once: on average, at most, and the share of time at `max_claimed`.
    claimed_average: float = 0.0
    claimed_most: int = 0
    claimed_full: float = 0.0
    agents: list[AgentNumbers] = field(default_factory=list)


def register(commands: Any) -> None:
    parser = commands.add_parser("_history", description="the last days of this project in numbers")
    parser.set_defaults(command=history, parser=parser)
    parser.add_argument("--days", type=float, default=7.0)


def history(arguments: argparse.Namespace) -> int:
    layout = context.reading(arguments)
    loaded, seen = context.look(layout)
    now = context.now()
    found = numbers(_read(layout), loaded.config, now - arguments.days * DAY, now)
    if arguments.json:
        output.show_json(asdict(found))
        return 0
    limits, waiting = loaded.config.queue_limits, len(seen.incoming.tasks)
    output.out(f"the last {found.days:.1f} days, {found.events} events")
    output.out(
        f"tasks: {found.tasks_in} entered ({_per_day(found.tasks_in, found)}), {waiting} wait now, "
        f"{waiting + len(seen.claimed.tasks)} unfinished of {limits.max_incoming} (max_incoming)"
    )
    output.out(f"runs ended: {_counts(found.ends)}")
    output.out(
        f"wait until first start: median {_time(found.median_wait_seconds)}, "
        f"longest {_time(found.longest_wait_seconds)}"
    )
    output.out(
        f"worked at once: {found.claimed_average:.2f} on average, {found.claimed_most} at most; "
        f"{found.claimed_full:.0%} of the time at max_claimed ({limits.max_claimed})"
    )
    open_prs = "not known" if seen.snapshot.open_prs is None else seen.snapshot.open_prs
    output.out(f"open pull requests now: {open_prs} of {limits.max_open_prs} (max_open_prs)\n")
    headings = ("agent", "every", "runs", "median run", "busy", "idle wait", "added", "usd", "ends")
    output.table(headings, [_row(agent) for agent in found.agents])
    return 0


def _read(layout: Layout) -> Iterator[Event]:
    """Yield the events that can be read, oldest first; of a long history the newest part."""
    for line in events.lines(layout, MOST_READ):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            # A field holds a word or a number; what is neither says nothing.
            yield {key: v for key, v in event.items() if isinstance(v, str | int | float)}


def numbers(told: Iterable[Event], config: Config, since: float, now: float) -> Numbers:
    """Return what the events between `since` and `now` (epoch seconds) add up to."""
    known = [(at, e) for e in told if (at := _at(e)) is not None and since <= at <= now]
    first = min((at for at, _ in known), default=now)
    found = Numbers((now - first) / DAY, len(known))
    found.tasks_in = sum(e.get("event") in ("added", "review_wanted") for _, e in known)
    found.ends = dict(Counter(_verdict(e) for _, e in known if e.get("event") in _ENDED))
    runs = _runs(known, now)
    _measure_claimed(found, [r for r in runs if r.task], config, now - first)
    waits = _waits(known, runs)
    if waits:
        found.median_wait_seconds = median(wait for _, wait, _ in waits)
        found.longest_wait_seconds = max(wait for _, wait, _ in waits)
    every = {a.name: a.schedule or f"{a.interval_seconds:g} s" for a in config.agents}
    for name in (*every, *sorted({run.agent for run in runs} - every.keys())):
        agent = AgentNumbers(name, every.get(name, "not configured"))
        idle = [free for who, _, free in waits if who == name]
        _measure_agent(agent, [run for run in runs if run.agent == name], idle, now - first)
        agent.tasks_added = sum(e.get("event") == "added" and e.get("by") == name for _, e in known)
        found.agents.append(agent)
    return found


@dataclass
class _Run:
    agent: str
    task: str | None
    start: float
    #: Now, for one that goes on.
    end: float
    verdict: str | None = None
    cost_usd: float = 0.0


def _at(event: Event) -> float | None:
    at = event.get("at")
    return parse_time(at) if isinstance(at, str) else None


def _word(event: Event, name: str) -> str | None:
    found = event.get(name)
    return found if isinstance(found, str) else None


def _verdict(event: Event) -> str:
    return str(event.get("verdict") or event.get("event"))


def _runs(known: list[tuple[float, Event]], now: float) -> list[_Run]:
    """Return the runs that started in the span, with their ends."""
    runs: dict[str, _Run] = {}
    for at, event in known:
        run_id, word = str(event.get("run")), event.get("event")
        if word == "start":
            runs[run_id] = _Run(str(event.get("agent")), _word(event, "task"), at, now)
        elif word in _ENDED and run_id in runs:
            cost = event.get("cost_usd")
            runs[run_id].end, runs[run_id].verdict = at, _verdict(event)
            if isinstance(cost, int | float) and 0 <= cost < MOST_COST:
                runs[run_id].cost_usd = float(cost)
    return list(runs.values())


def _waits(known: list[tuple[float, Event]], runs: list[_Run]) -> list[tuple[str, float, float]]:
    """Return for each first start of a task: its agent, how long it waited, and how long of that
    its agent was free."""
    starts = {(run.task, run.start): run for run in runs}
    entered: dict[str, float] = {}
    free_since: dict[str, float] = {}
    found = []
    for at, event in known:
        word, task = event.get("event"), str(event.get("review") or event.get("task"))
        if word in _ENTERED:
            entered[task] = at
        elif word == "start" and task in entered and (task, at) in starts:
            agent, since = starts[task, at].agent, entered.pop(task)
            found.append((agent, at - since, at - max(since, free_since.get(agent, since))))
        elif word in _ENDED:
            free_since[str(event.get("agent"))] = at
    return found


def _measure_claimed(found: Numbers, runs: list[_Run], config: Config, seconds: float) -> None:
    steps = sorted([(r.start, 1) for r in runs] + [(r.end, -1) for r in runs])
    count, before, area, full = 0, 0.0, 0.0, 0.0
    for at, step in steps:
        area += count * (at - before)
        full += (at - before) * (count >= config.queue_limits.max_claimed and count > 0)
        count, before = count + step, at
        found.claimed_most = max(found.claimed_most, count)
    if seconds > 0:
        found.claimed_average, found.claimed_full = area / seconds, full / seconds


def _measure_agent(
    agent: AgentNumbers, runs: list[_Run], idle: list[float], seconds: float
) -> None:
    agent.runs = len(runs)
    agent.outcomes = dict(Counter(run.verdict for run in runs if run.verdict))
    agent.cost_usd = round(sum(run.cost_usd for run in runs), 6)
    if runs:
        agent.median_run_seconds = median(run.end - run.start for run in runs)
        agent.busy = (
            min(sum(run.end - run.start for run in runs) / seconds, 1.0) if seconds else 0.0
        )
    if idle:
        agent.median_idle_wait_seconds = median(idle)


# --- as text -----------------------------------------------------------------------------------


def _row(agent: AgentNumbers) -> tuple[object, ...]:
    return (
        agent.name,
        agent.every,
        agent.runs,
        _time(agent.median_run_seconds),
        f"{agent.busy:.0%}",
        _time(agent.median_idle_wait_seconds),
        agent.tasks_added,
        f"{agent.cost_usd:.2f}",
        _counts(agent.outcomes),
    )


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in found.items()) or "none"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else span(round(seconds))


def _per_day(count: int, found: Numbers) -> str:
    return f"{count / found.days:.1f} a day" if found.days >= 1 else "less than a day of history"
