"""What `status` and `watch` say about the project, as parts for `screen.fit`. Pure.

The order is the order of importance: what a person must do, then what the agents do, then figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from orchestrator.account.ticks import Gap, Ticks
from orchestrator.cli.json_rows import Row
from orchestrator.cli.overview import Overview
from orchestrator.cli.screen import Entry, Mood, Part
from orchestrator.model.config import Config
from orchestrator.model.times import parse_time
from orchestrator.plan.planner import refusal
from orchestrator.pulls import overlap
from orchestrator.text.quoting import one_line
from orchestrator.text.words import count, local, span
from orchestrator.tick.inbox import Item

#: Characters of an error, a question or a title that are shown.
CELL = 160
#: Reasons that are said in other words than those of the rule's verdict.
_WORDS = {
    "system_paused": "the project is paused",
    "no_matching_task": "no task waits for it",
    "max_starts": "starts at the tick after the next",
}
#: The order in which more than `FEW_AGENTS` agents are listed: perhaps not all of them fit.
FEW_AGENTS = 8
_AGENTS = ("running", "paused", "ready", "waiting")


def parts(
    seen: Overview, config: Config, steps: dict[str, str], scheduler: str, root: str
) -> list[Part]:
    """Return the picture of a project.

    `steps` has the command that resolves each item of the inbox, by the item's id; `scheduler` is
    the sentence about the ticks (`ticked`), and `root` the project's folder.
    """
    found, items = seen.status, seen.waiting.items
    kinds = Counter(item.kind for item in items)
    counted = ", ".join(count(number, kind) for kind, number in kinds.items())
    problems = [
        *(_problem(n, row, root) for n, row in enumerate(found["problems"], 1)),
        *_fault(found["fault"]),
    ]
    waiting = [_item(item, steps[item.id]) for item in items]
    return [
        Part(list(_headline(found, config))),
        Part(waiting, counted, "orchestrator inbox"),
        Part(problems, "problems", "orchestrator doctor"),
        Part(list(_stuck(found["cannot_start"])), "cannot start", "orchestrator task list"),
        Part(_agents(seen), "agents", "orchestrator agent list", least=2),
        Part(list(_pull_requests(seen)), "pull requests", "orchestrator pr list"),
        Part(list(_tasks(found, config, items)), "tasks", "orchestrator task list"),
        Part(list(_notes(found)), "notes", "orchestrator status --json"),
        Part(list(_figures(seen, config, scheduler))),
    ]


def _headline(found: Row, config: Config) -> Iterator[Entry]:
    """Yield whether all is well, in a line or two."""
    problems, waiting = len(found["problems"]), found["waiting_for_you"]
    work = f"{len(found['running'])} running, {found['queue']['incoming']} waiting."
    said = f"{count(problems, 'problem')}. " if problems else ""
    if found["scheduler"]["age_seconds"] is None and found["queue"]["incoming"]:
        said += "No tick has run yet. "
    if nothing := _no_agent_starts(found["agents"], config):
        said = f"{nothing} {said}"
    elif found["cannot_start"]:
        said += f"{count(len(found['cannot_start']), 'task')} cannot start. "
    mood: Mood = "bad" if said else "good"
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        yield Entry(f"{count(waiting, 'thing')} {verb} for you: orchestrator inbox", mood="yours")
    else:
        said = said or "All is well. "
    yield Entry(f"{said}{work}", mood=mood)


def _no_agent_starts(agents: list[Row], config: Config) -> str | None:
    """Return what keeps all agents from a start, until a person or the next day ends it."""
    reasons = {row["reason"] for row in agents}
    if reasons == {"system_paused"}:
        return "Paused; no agent starts until `orchestrator agent resume --all`."
    if reasons == {"paused"}:
        names = " ".join(row["name"] for row in agents)
        return f"Every agent is paused; to resume them: `orchestrator agent resume {names}`."
    if "budget_exhausted" in reasons:
        cap = f"{config.budgets.daily_usd:g} USD (budgets.daily_usd)"
        return f"Today's budget of {cap} is used up; no agent starts before midnight."
    if held := [row["name"] for row in agents if row["reason"] == "pace"]:
        return f"`pace` in agents.yaml holds new runs; until when: orchestrator explain {held[0]}."
    return None


def _item(item: Item, step: str) -> Entry:
    text = f"  {item.id}  {item.kind}: {one_line(item.text, 4 * CELL)}"
    return Entry(text, step, "yours", ("item", item.id))


def _problem(number: int, problem: Row, root: str) -> Entry:
    said = problem["message"].replace(f"{root}/", "")
    text = f"! {problem['code']}: {said}"
    return Entry(text, problem["hint"] or "", "bad", ("problem", f"problem {number}"))


def _fault(fault: Row | None) -> Iterator[Entry]:
    """Yield since when a fault keeps agents from starting, and which run tests it next."""
    if fault is None:
        return
    test = fault["test"]
    who = " with ".join(filter(None, (test["agent"], test["task"])))
    tested = f"run {test['run']} of {who} tests it now"
    if test["run"] is None:
        tested = f"{who} tests it next, {_local(test['at']) or 'at the next tick'}"
    if not who:
        tested = "no agent can test it now"
    said = f"  fault for {span(fault['age_seconds'])} (since {_local(fault['since'])}); {tested}"
    yield Entry(said, mood="bad")


def _stuck(rows: list[Row]) -> Iterator[Entry]:
    """Yield why waiting tasks cannot start, one entry per reason, and what to do."""
    reasons: dict[tuple[str, str | None], list[str]] = {}
    for row in rows:
        # A pause of everything is in the headline.
        if row["reason"] != "system_paused":
            reasons.setdefault((row["message"], row["hint"]), []).append(row["task"])
    for (why, hint), tasks in reasons.items():
        named = ", ".join(tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")
        yield Entry(f"  {named}: {why}", hint or "", "bad", ("task", tasks[0]))


def _agents(seen: Overview) -> list[Entry]:
    rows = seen.status["agents"]
    wide = min(max((len(row["name"]) for row in rows), default=0), 24)
    running = {run["agent"]: run for run in seen.status["running"]}
    entries = []
    for row in rows:
        held = refusal(seen.planned.agents[row["name"]])
        why = _why(row, held.detail if held else "", running.get(row["name"]))
        last = f"; last run: {row['last_outcome']}" if row["last_outcome"] else ""
        text = f"  {row['name']:{wide}}  {row['state']:7}  {why}{last}"
        mood: Mood = "good" if row["run"] else "plain"
        entries.append((row["state"], Entry(text, mood=mood, about=("agent", row["name"]))))
    if len(entries) > FEW_AGENTS:
        # Stable: agents of one state stay in the order of agents.yaml.
        entries.sort(key=lambda each: _AGENTS.index(each[0]))
    return [entry for _, entry in entries]


def _why(row: Row, detail: str, run: Row | None) -> str:
    """Return why an agent does not start, and when it is due; `run` is its run, if it has one."""
    if row["reason"] == "running" or row["run"]:
        where = f" on {run['host']}" if run and "host" in run else ""
        return f"{row['task'] or 'no task'}{where}, for {span(run['age_seconds'] if run else None)}"
    if row["reason"] is None:
        return "starts at the next tick"
    due = row["due_in_seconds"]
    when = f"due in {span(due)}" if due else ""
    if row["reason"] == "not_due":
        return when or detail
    said = _WORDS.get(row["reason"], detail or row["reason"])
    if row["reason"] == "paused" and detail == f"{row['name']} is paused":
        said = f"orchestrator agent resume {row['name']}"
    return f"{said}; {when}" if when else said


def _pull_requests(seen: Overview) -> Iterator[Entry]:
    """Yield the open pull requests, those that wait for a person first."""
    moves = seen.waiting.moves
    opened = [pr for pr in seen.prs or () if pr.state == "open"]
    for pr in sorted(opened, key=lambda pr: pr.id not in moves or moves[pr.id].by != "person"):
        move = moves.get(pr.id)
        verdict = (pr.verdict or "no verdict").replace("_", " ")
        said = f"  {pr.id}  {verdict}{', draft' if pr.draft else ''}: {one_line(pr.title, 60)}"
        # The move begins with the verdict if the pull request is approved.
        text = move.text.removeprefix("approved, ").removeprefix("approved; ") if move else ""
        yield Entry(f"{said}; {text}" if text else said, about=("pr", pr.id))


def _tasks(found: Row, config: Config, items: Iterable[Item]) -> Iterator[Entry]:
    """Yield the tasks that are tried again, and those that are blocked and not in the inbox."""
    asked = {item.task for item in items}
    for row in found["blocked"]:
        if row["task"] not in asked:
            why = row.get("parts") or row["question"] or row["reason"] or "moved by hand"
            text = f"  {row['task']}  blocked: {row['title']}: {one_line(why, CELL)}"
            yield Entry(text, about=("task", row["task"]))
    for row in found["retrying"]:
        number = f"attempt {row['attempt']} of {config.retry.max_attempts}"
        when = f" from {_local(row['not_before'])}" if row["not_before"] else ""
        text = f"  {row['task']}  {number}{when}: {one_line(row['error'] or '', CELL)}"
        yield Entry(text, about=("task", row["task"]))


def _notes(found: Row) -> Iterator[Entry]:
    for row in found["overlaps"]:
        said = overlap.what(row["files"], by_line=row["by_line"])
        yield Entry(f"  overlap: {row['a']} and {row['b']} {said}")
    yield from (Entry(f"  {note}") for note in found["notes"])


def _figures(seen: Overview, config: Config, scheduler: str) -> Iterator[Entry]:
    found, limits = seen.status, seen.status["limits"]
    queue, totals = found["queue"], found["totals"]
    counts = ", ".join(f"{number} {state}" for state, number in queue.items())
    yield Entry(f"queue  {counts}", about=("queue", "queue"))
    used = (
        ("incoming + claimed", queue["incoming"] + queue["claimed"], limits["max_incoming"]),
        ("claimed", queue["claimed"], limits["max_claimed"]),
        ("pull requests", found["open_prs"], limits["max_open_prs"]),
    )
    yield Entry(f"limits {', '.join(_limit(*each) for each in used)}")
    cap = config.budgets.daily_usd
    of = "" if cap is None else f" of {cap:g}"
    runs, took = count(totals["runs"], "run"), span(totals["seconds_running"])
    tokens = totals["input_tokens"] + totals["output_tokens"]
    tokens_used = f", {count(tokens, 'token')}" if tokens else ""
    total = f"total: {runs}, {took}{tokens_used}, {totals['cost_usd']:.2f} USD"
    yield Entry(f"cost   today {seen.spent_today:.2f}{of} USD; {total}")
    yield Entry(f"ticks  {scheduler}", mood="bad" if found["scheduler"]["stale"] else "plain")


def _limit(name: str, number: int | None, limit: int) -> str:
    if number is None:
        return f"{name} not known (at most {limit})"
    return f"{name} {number} of {limit}{' (full)' if number >= limit else ''}"


def ticked(age: int | None, never: str, ran: Ticks) -> str:
    """Return a sentence about the ticks of the last 24 hours.

    `age` is that of the last tick in seconds; `never` is what is said if there was no tick.
    """
    if age is None:
        return never
    last = f"last tick: {span(age)} ago"
    if ran.begins is None:
        return last
    since = f"since {_clock(ran.begins)}"
    if ran.expected is None or ran.missed is None:
        return f"{last}; no schedule is installed; ran in {count(ran.executed, 'minute')} {since}"
    said = f"{last}; ran {ran.executed + ran.held:,} of {ran.expected:,} expected ticks {since}"
    if not ran.missed:
        return said
    longest = max(ran.gaps, key=lambda gap: gap.end - gap.start)
    others = count(len(ran.gaps) - 1, "other gap")
    more = f"; {others}: orchestrator report" if len(ran.gaps) > 1 else ""
    return f"{said}; {ran.missed:,} missed ({_gap(longest)}{more})"


def _gap(gap: Gap) -> str:
    return f"{gap.why}, {_clock(gap.start)}-{_clock(gap.end)}"


def _local(text: str | None) -> str | None:
    """Return a time of `--json` as a person reads it."""
    return local(parse_time(text)) if text else None


def _clock(at: float) -> str:
    return time.strftime("%H:%M", time.localtime(at))
