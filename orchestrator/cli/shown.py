"""What `status` shows of the project: each thing with its JSON and its lines.

A thing is an entry of `SHOWN`: a function that returns its value in `status --json`, and a function
that makes lines of this value. `cli/shown_work.py` has agents, runs and tasks in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from orchestrator.cli.json_rows import Row
from orchestrator.cli.screen import Entry
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import RunView
from orchestrator.model.times import iso, parse_time
from orchestrator.model.work import STATES
from orchestrator.plan.planner import Plan
from orchestrator.plan.rows import refusal
from orchestrator.project import agent_memory
from orchestrator.pulls import look, overlap, states
from orchestrator.pulls.overlap import Radar
from orchestrator.tasks import stores
from orchestrator.text.words import count, local, span
from orchestrator.tick import problems

if TYPE_CHECKING:
    from orchestrator.tasks.store import Listing
    from orchestrator.tick.inbox import Survey
    from orchestrator.tick.observe import Observation


class Looked(NamedTuple):
    """What a look at the project has found; values and lines are made of it."""

    layout: Layout
    loaded: Settings
    seen: Observation
    planned: Plan
    waiting: Survey
    blocked: Listing

    def age(self, run: RunView) -> int | None:
        """Return the seconds since a run began; None if they are not known."""
        if run.host is not None:  # the clock of that host does not count
            return max(int(run.age or 0.0), 0)
        record = self.seen.records.get(run.id)
        return None if record is None else max(int(self.seen.now - record.created), 0)


class Shown(NamedTuple):
    """One thing that `status` shows."""

    #: The key in the JSON.
    key: str
    value: Callable[[Looked], Any]
    #: The list of the picture that has its lines: a title in `summary.parts`.
    part: str = ""
    #: Makes lines of the value; a thing may have a value only.
    lines: Callable[[Any, Looked], Iterable[Entry]] = lambda _value, _looked: ()
    #: The value while the database with the queue does not answer.
    unknown: Any = None


# --- figures -----------------------------------------------------------------------------------


def _queue(looked: Looked) -> Row:
    seen, store = looked.seen, stores.of_project(looked.layout)
    parsed = {"incoming": seen.incoming, "claimed": seen.claimed, "blocked": looked.blocked}
    known = {state: len(of.tasks) for state, of in parsed.items()}
    known |= store.counts([state for state in STATES if state not in known])
    return {state: known[state] for state in STATES}


def _queue_lines(queue: Row, _: Looked) -> Iterator[Entry]:
    counts = ", ".join(f"{number} {state}" for state, number in queue.items())
    yield Entry(f"queue  {counts}", about=("queue", "queue"))


def _limits_lines(limits: Row, looked: Looked) -> Iterator[Entry]:
    incoming, claimed = len(looked.seen.incoming.tasks), len(looked.seen.claimed.tasks)
    used = (
        ("incoming + claimed", incoming + claimed, limits["max_incoming"]),
        ("claimed", claimed, limits["max_claimed"]),
        ("pull requests", looked.seen.snapshot.open_prs, limits["max_open_prs"]),
    )
    yield Entry(f"limits {', '.join(_limit(*each) for each in used)}")


def _limit(name: str, number: int | None, limit: int) -> str:
    """Return how much of a limit is used.

    >>> _limit("claimed", 5, 5), _limit("pull requests", None, 10)
    ('claimed 5 of 5 (full)', 'pull requests not known (at most 10)')
    """
    if number is None:
        return f"{name} not known (at most {limit})"
    return f"{name} {number} of {limit}{' (full)' if number >= limit else ''}"


def _prs_age(looked: Looked) -> int | None:
    asked = look.asked(looked.layout, looked.loaded.config)
    return None if asked is None else int(max(looked.seen.now - asked, 0))


def _totals(looked: Looked) -> Row:
    """Return the sums over the settled runs of all hosts; the time includes the active runs."""
    seen = looked.seen
    every = (*seen.states.values(), *(state for *_, state in seen.others))
    sums = agent_memory.added(state.totals for state in every)._asdict()
    seconds = sums["seconds_running"] + sum(looked.age(run) or 0 for run in seen.snapshot.runs)
    cost = round(float(sums["cost_usd"]), 6)
    return {**sums, "cost_usd": cost, "seconds_running": round(float(seconds), 3)}


def _totals_lines(totals: Row, looked: Looked) -> Iterator[Entry]:
    cap = looked.loaded.config.budgets.daily_usd
    of = "" if cap is None else f" of {cap:g}"
    runs, took = count(totals["runs"], "run"), span(totals["seconds_running"])
    tokens = totals["input_tokens"] + totals["output_tokens"]
    tokens_used = f", {tokens:,} tokens" if tokens else ""
    total = f"total: {runs}, {took}{tokens_used}, {totals['cost_usd']:.2f} USD"
    yield Entry(f"cost   today {looked.seen.snapshot.spent_today_usd:.2f}{of} USD; {total}")


# --- problems and notes ------------------------------------------------------------------------


def scheduler(layout: Layout, now: float) -> Row:
    """Return when the last tick was, and whether the next one is overdue."""
    ticked = problems.last_tick(layout)
    return {
        "last_tick": iso(ticked),
        "age_seconds": None if ticked is None else int(max(now - ticked, 0)),
        "stale": problems.is_overdue(layout, now),
    }


def _problems(looked: Looked) -> list[Row]:
    found = problems.find_problems(looked.layout, looked.loaded, looked.seen, looked.seen.now)
    return [problem._asdict() for problem in found]


def _problems_lines(rows: list[Row], looked: Looked) -> Iterator[Entry]:
    for number, problem in enumerate(rows, 1):
        said = problem["message"].replace(f"{looked.layout.root}/", "")
        text = f"! {problem['code']}: {said}"
        yield Entry(text, problem["hint"] or "", "bad", ("problem", f"problem {number}"))


def _fault(looked: Looked) -> Row | None:
    """Return since when a system fault keeps agents from starting, and which run tests it next.

    `run` is None if that run has not started. It starts at `at`; None is the next tick, or, without
    an agent, not known.
    """
    snapshot, planned, now = looked.seen.snapshot, looked.planned, looked.seen.now
    hold = snapshot.hold
    if hold is None or hold.code == "usage_limit":
        return None
    row: Row = {"since": iso(hold.since), "age_seconds": int(max(now - hold.since, 0))}
    test: Row = dict.fromkeys(("run", "agent", "task", "at"))
    if run := next((r for r in snapshot.runs if not (r.finished or r.host)), None):
        test |= {"run": run.id, "agent": run.agent, "task": run.task}
    elif start := next((a for a in planned.actions if a.action == "start"), None):
        test |= {"agent": start.agent, "task": start.task}
    else:
        refused = ((name, refusal(verdicts)) for name, verdicts in planned.agents.items())
        due = [(held.until, name) for name, held in refused if held and held.until is not None]
        if due:
            at, name = min(due)
            test |= {"agent": name, "at": iso(at)}
    return {**row, "test": test}


def _fault_lines(fault: Row | None, _: Looked) -> Iterator[Entry]:
    if fault is None:
        return
    test = fault["test"]
    who = " with ".join(filter(None, (test["agent"], test["task"])))
    tested = f"run {test['run']} of {who} tests it now"
    if test["run"] is None:
        tested = f"{who} tests it next, {clock(test['at']) or 'at the next tick'}"
    if not who:
        tested = "no agent can test it now"
    said = f"  fault for {span(fault['age_seconds'])} (since {clock(fault['since'])}); {tested}"
    yield Entry(said, mood="bad")


def clock(text: str | None) -> str | None:
    """Return a time of the JSON as a person reads it."""
    return local(parse_time(text)) if text else None


def _notes(looked: Looked) -> list[str]:
    return states.notes(looked.layout, looked.loaded.config, looked.seen.prs)


def _notes_lines(notes: list[str], _: Looked) -> Iterator[Entry]:
    yield from (Entry(f"  {note}") for note in notes)


def _overlaps(looked: Looked) -> list[Row]:
    return [
        {
            "a": each.one.task,
            "b": each.other.task,
            "files": list(each.files),
            "by_line": each.by_line,
        }
        for each in Radar(looked.layout, looked.loaded.config).overlaps(looked.seen.prs)
    ]


def _overlaps_lines(rows: list[Row], _: Looked) -> Iterator[Entry]:
    """Make a line of each pair of tasks that change the same lines.

    >>> row = {"a": "T1", "b": "T2", "files": ["app.py"], "by_line": True}
    >>> [entry.text for entry in _overlaps_lines([row], None)]
    ['  overlap: T1 and T2 change the same lines of app.py']
    """
    for row in rows:
        said = overlap.what(row["files"], by_line=row["by_line"])
        yield Entry(f"  overlap: {row['a']} and {row['b']} {said}")


SHOWN = (
    Shown("queue", _queue, "figures", _queue_lines, unknown=dict.fromkeys(STATES)),
    Shown("limits", lambda at: at.loaded.config.queue_limits._asdict(), "figures", _limits_lines),
    Shown("open_prs", lambda at: at.seen.snapshot.open_prs),
    Shown("open_prs_age_seconds", _prs_age),
    Shown("totals", _totals, "figures", _totals_lines),
    Shown("scheduler", lambda at: scheduler(at.layout, at.seen.now)),
    Shown("problems", _problems, "problems", _problems_lines),
    Shown("fault", _fault, "problems", _fault_lines),
    Shown("overlaps", _overlaps, "notes", _overlaps_lines, unknown=[]),
    Shown("notes", _notes, "notes", _notes_lines, unknown=[]),
    Shown("waiting_for_you", lambda at: len(at.waiting.items)),
)
