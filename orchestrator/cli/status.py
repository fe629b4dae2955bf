"""What `status` and `watch` show: the whole project as one value (reference 6), and as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from orchestrator import idle
from orchestrator.cli import json_rows
from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import Config, Problem, PullRequest, Task
from orchestrator.project import mark
from orchestrator.pulls import states
from orchestrator.tasks import store as stores
from orchestrator.tick import lock, observe, problems
from orchestrator.tick.observe import Observation

Value = dict[str, Any]
_LIMITS = ("max_incoming", "max_claimed", "max_open_prs")
#: Cells of a limit's bar, and rows of one list that are shown to people.
BAR, MOST_ROWS = 20, 20


# --- the value ---------------------------------------------------------------------------------


def look(layout: Layout, loaded: Settings, now: float) -> Value:
    """Look at the project once and return what `status --json` prints. Changes nothing."""
    return value(layout, loaded, now, states.counted(layout, loaded.config))


def value(layout: Layout, loaded: Settings, now: float, prs: list[PullRequest] | None) -> Value:
    """The same, with the pull requests that are known already (None: the forge cannot be asked)."""
    seen = observe.observe(layout, loaded, now, prs)
    store = stores.of_project(layout)
    blocked = store.list("blocked").tasks
    counts = {
        **store.counts(),
        "incoming": len(seen.incoming.tasks),
        "claimed": len(seen.claimed.tasks),
        "blocked": len(blocked),
    }
    limits = loaded.config.queue_limits
    running = json_rows.running_rows(layout, seen, now)
    return {
        "queue": counts,
        "limits": {name: getattr(limits, name) for name in _LIMITS},
        "open_prs": seen.snapshot.open_prs,
        "agents": json_rows.agent_rows(loaded.config, seen.snapshot, now),
        "running": running,
        "retrying": [json_rows.retrying_row(t) for t in seen.incoming.tasks if t.attempts > 0],
        "blocked": [_blocked_row(task) for task in blocked],
        "totals": _totals(seen, running),
        "scheduler": _scheduler(layout, now),
        "problems": [json_rows.problem_row(p) for p in _problems(layout, loaded, seen, now)],
    }


def _blocked_row(task: Task) -> Value:
    return {
        "task": task.id,
        "title": task.title,
        "question": task.question,
        "reason": task.reason,
    }


def _totals(seen: Observation, running: list[Value]) -> Value:
    """Sum what the agents' settled runs took, and the time that the others have run so far."""
    sums = [state.totals for state in seen.states.values()]
    so_far = sum(row["age_seconds"] or 0 for row in running)
    return {
        "runs": sum(t.runs for t in sums),
        "input_tokens": sum(t.input_tokens for t in sums),
        "output_tokens": sum(t.output_tokens for t in sums),
        "cost_usd": round(sum((t.cost_usd for t in sums), 0.0), 6),
        "seconds_running": round(sum((t.seconds_running for t in sums), 0.0) + so_far, 3),
    }


def _scheduler(layout: Layout, now: float) -> Value:
    ticked = problems.last_tick(layout)
    age = None if ticked is None else max(now - ticked, 0.0)
    return {
        "last_tick": json_rows.time_text(ticked),
        "age_seconds": None if age is None else int(age),
        "stale": problems.is_overdue(layout, now),
    }


def _problems(layout: Layout, loaded: Settings, seen: Observation, now: float) -> Iterator[Problem]:
    """What a person should know, the most pressing first."""
    first = (not_set_up(layout), lock.hung_tick(layout, now))
    yield from (problem for problem in first if problem is not None)
    yield from problems.find_problems(layout, loaded, seen, now)


def not_set_up(layout: Layout) -> Problem | None:
    """Return why nothing ticks in this clone, if nobody has run `init` in it."""
    try:
        mark.require_initialised(layout)
    except OrchestratorError as error:
        return Problem(error.code, error.message, error.hint)
    return None


class Watched:
    """A project that is looked at again and again: its forge is asked at most twice a minute."""

    #: Seconds between two questions to the forge, unless its local records changed (failures 13).
    ASK_AGAIN = 30.0

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._asked = float("-inf")
        self._records: tuple[int, int, int] | None = None
        self._prs: list[PullRequest] | None = None

    def look(self, loaded: Settings, now: float, clock: float) -> Value:
        """Return the value as it is now; `clock` is monotonic seconds."""
        records = idle.mark(self._layout.prs)
        if records != self._records or clock - self._asked >= self.ASK_AGAIN:
            self._prs = states.counted(self._layout, loaded.config)
            self._asked, self._records = clock, records
        return value(self._layout, loaded, now, self._prs)


def lasting(found: Value) -> Value:
    """Return a value without what changes by itself as time goes by."""
    kept = {name: part for name, part in found.items() if name not in ("totals", "scheduler")}
    ages = ("due_in_seconds", "age_seconds")
    for name in ("agents", "running"):
        kept[name] = [{k: v for k, v in row.items() if k not in ages} for row in kept[name]]
    # "the last tick was 6 minutes ago" is the same problem a minute later.
    kept["problems"] = [p["code"] if p["code"].startswith("tick_") else p for p in kept["problems"]]
    return kept


# --- as text -----------------------------------------------------------------------------------


class Block(NamedTuple):
    """A piece of the picture: lines, or a table under a title."""

    lines: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    #: good, bad or plain: what a terminal's colour says.
    mood: str = "plain"


def picture(found: Value, layout: Layout, config: Config) -> Iterator[Block]:
    """Return a value as what a person reads, the most important first."""
    yield _headline(found)
    if found["problems"]:
        yield Block(tuple(_problem_lines(found["problems"])), mood="bad")
    yield Block(tuple(_limit_lines(found)))
    agents = tuple(_agent_cells(row) for row in found["agents"])
    yield _table("agents", ("agent", "role", "state", "why", "task", "last outcome"), agents)
    yield _table(
        "running",
        ("run", "agent", "task", "for", "branch"),
        tuple(
            (r["run"], r["agent"], r["task"], span(r["age_seconds"]), r["branch"])
            for r in found["running"]
        ),
    )
    limit = config.retry.max_attempts
    yield _table(
        "retrying",
        ("task", "attempt", "not before", "last error"),
        tuple(
            (r["task"], f"{r['attempt']} of {limit}", r["not_before"], _first_line(r["error"]))
            for r in found["retrying"]
        ),
    )
    yield _table(
        "blocked: orchestrator inbox",
        ("task", "title", "question"),
        tuple(
            (r["task"], r["title"], _first_line(r["question"] or r["reason"]))
            for r in found["blocked"]
        ),
    )
    yield Block(tuple(_closing_lines(found, layout)))


def _headline(found: Value) -> Block:
    """Whether all is well, in one line."""
    problems, queue = len(found["problems"]), found["queue"]
    work = f"{len(found['running'])} running, {queue['incoming']} waiting"
    count = "1 problem" if problems == 1 else f"{problems} problems"
    if found["agents"] and all(row["reason"] == "system_paused" for row in found["agents"]):
        resume = "Nothing starts until: orchestrator agent resume --all"
        also = f" Also: {count}." if problems else ""
        return Block((f"Paused. {resume} ({work}.){also}",), mood="bad")
    if problems:
        return Block((f"NOT WELL: {count}. {work}.",), mood="bad")
    if queue["blocked"]:
        return Block((f"Well, but {queue['blocked']} blocked: orchestrator inbox. {work}.",))
    return Block((f"All is well. {work}.",), mood="good")


def _problem_lines(problems: list[Value]) -> Iterator[str]:
    for problem in problems[:MOST_ROWS]:
        yield f"! {problem['code']}: {problem['message']}"
        if problem["hint"]:
            yield f"    {problem['hint']}"
    if len(problems) > MOST_ROWS:
        yield f"! and {len(problems) - MOST_ROWS} more: orchestrator doctor"


def _limit_lines(found: Value) -> Iterator[str]:
    queue, limits, open_prs = found["queue"], found["limits"], found["open_prs"]
    unfinished = queue["incoming"] + queue["claimed"]
    yield _bar("incoming + claimed", unfinished, limits["max_incoming"])
    yield _bar("claimed", queue["claimed"], limits["max_claimed"])
    yield _bar("open pull requests", open_prs, limits["max_open_prs"])
    rest = (f"{queue[state]} {state}" for state in ("incoming", "blocked", "done", "failed"))
    yield f"{'tasks':19}{', '.join(rest)}"


def _bar(name: str, count: int | None, limit: int) -> str:
    if count is None:
        return f"{name:19}not known (at most {limit})"
    filled = BAR if limit == 0 else min(count * BAR // limit, BAR)
    return f"{name:19}[{'#' * filled}{'.' * (BAR - filled)}] {count} of {limit}"


def _agent_cells(row: Value) -> tuple[object, ...]:
    why = row["reason"]
    if why == "not_due":
        why = f"due in {span(row['due_in_seconds'])}"
    elif why is None:
        why = "starts at the next tick"
    elif why == "running":
        why = f"orchestrator logs {row['name']}"
    outcome = row["last_outcome"]
    return (row["name"], row["role"], row["state"], why, row["task"], outcome)


def _table(title: str, headings: tuple[str, ...], rows: tuple[tuple[object, ...], ...]) -> Block:
    if not rows:
        return Block()
    more = (f"... and {len(rows) - MOST_ROWS} more",) if len(rows) > MOST_ROWS else ()
    shown = rows if title == "agents" else rows[:MOST_ROWS]
    return Block((title, *(more if shown != rows else ())), headings, shown)


def _closing_lines(found: Value, layout: Layout) -> Iterator[str]:
    scheduler, totals = found["scheduler"], found["totals"]
    age = scheduler["age_seconds"]
    if age is not None:
        yield f"last tick: {span(age)} ago"
    else:
        yield "last tick: never" if scheduler["stale"] else mark.first_tick(layout)
    tokens = totals["input_tokens"] + totals["output_tokens"]
    took = span(int(totals["seconds_running"]))
    yield f"so far: {totals['runs']} runs, {took}, {tokens} tokens, {totals['cost_usd']:.2f} USD"


def _first_line(text: str | None) -> str | None:
    """The first line of a text, cut to what a table can hold."""
    if text is None:
        return None
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 80 else line[:79] + "…"


def span(seconds: int | None) -> str:
    """Return a time span for people: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds is None:
        return "?"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds} s"
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60:02} min"
    return f"{days} d {hours % 24} h"
