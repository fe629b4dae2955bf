"""`status`: the whole project for people, the most important first."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from orchestrator.cli import context, json_rows, output
from orchestrator.cli.json_rows import Row
from orchestrator.cli.parser import command
from orchestrator.layout import Layout
from orchestrator.model import Config
from orchestrator.project import mark
from orchestrator.pulls import overlap, states
from orchestrator.text.quoting import one_line
from orchestrator.text.words import count, span

#: Characters of a limit's bar; rows of one list, and characters of a cell, that are shown.
BAR, MOST_ROWS, CELL = 20, 20, 80
_STYLES = {"good": "green", "bad": "bold red", "plain": ""}


class Block(NamedTuple):
    """A piece of the picture: lines, or a table under a title."""

    lines: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    #: good, bad or plain: the colour on a terminal.
    mood: str = "plain"


@command("status")
def status(arguments: Namespace) -> None:
    """Show queue, limits, agents and runs, problems first.

    examples:
      orchestrator status
      orchestrator status --json | jq .problems
    """
    layout = context.layout(arguments)
    loaded = context.settings(layout)
    prs = states.counted(layout, loaded.config)
    found = json_rows.status(layout, loaded, context.now(), prs)
    if arguments.json:
        output.show_json(found)
    else:
        show(picture(found, layout, loaded.config))


def show(blocks: Iterable[Block]) -> None:
    """Print a picture, with colours and borders on a terminal."""
    if output.on_terminal():
        output.console().print(painted(blocks))
        return
    for block in blocks:
        for line in block.lines:
            output.out(line)
        if block.headings:
            output.table(block.headings, block.rows)
        if block.lines:
            output.out()


def painted(blocks: Iterable[Block]) -> Any:
    """Return a picture for `output.console`."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    for block in blocks:
        parts += [Text(output.harmless(line), _STYLES[block.mood]) for line in block.lines]
        if block.headings:
            parts.append(output.drawn(block.headings, block.rows))
        elif block.lines:
            parts.append(Text())
    return Group(*parts)


def picture(found: Row, layout: Layout, config: Config) -> Iterator[Block]:
    """Return what `status --json` shows as blocks for people."""
    yield _headline(found, config)
    yield Block(tuple(_stuck_lines(found["cannot_start"])))
    if found["problems"]:
        lines = (*_problem_lines(found["problems"]), *_fault_lines(found["fault"]))
        yield Block(lines, mood="bad")
    yield Block((*_limit_lines(found), *found["notes"]))
    rows: Iterable[tuple[object, ...]] = map(_agent_cells, found["agents"])
    headings: tuple[str, ...] = ("agent", "role", "state", "why", "task", "last outcome")
    yield _table("agents", headings, rows, most=None)
    yield Block(tuple(_overlap_lines(found["overlaps"])))
    rows = (
        (r["run"], r["agent"], r["task"], span(r["age_seconds"]), r["branch"])
        for r in found["running"]
    )
    yield _table("running", ("run", "agent", "task", "for", "branch"), rows)
    limit = config.retry.max_attempts
    rows = (
        (r["task"], f"{r['attempt']} of {limit}", r["not_before"], _cell(r["error"]))
        for r in found["retrying"]
    )
    yield _table("retrying", ("task", "attempt", "not before", "last error"), rows)
    rows = (
        (r["task"], r["title"], _cell(r.get("parts") or r["question"] or r["reason"]))
        for r in found["blocked"]
    )
    yield _table("blocked", ("task", "title", "question"), rows)
    yield Block(tuple(_closing_lines(found, layout)))


def _headline(found: Row, config: Config) -> Block:
    """Whether all is well, in one line."""
    problems, waiting = len(found["problems"]), found["waiting_for_you"]
    work = f"{len(found['running'])} running, {found['queue']['incoming']} waiting."
    said = f"{count(problems, 'problem')}. " if problems else ""
    if nothing := _no_agent_starts(found["agents"], config):
        said = f"{nothing} {said}"
    elif found["cannot_start"]:
        said += f"{count(len(found['cannot_start']), 'task')} cannot start. "
    mood = "bad" if said else "plain" if waiting else "good"
    if not waiting:
        return Block((f"{said or 'All is well. '}{work}",), mood=mood)
    wait = "waits" if waiting == 1 else "wait"
    yours = f"{count(waiting, 'thing')} {wait} for you: orchestrator inbox"
    return Block((yours, f"{said}{work}"), mood=mood)


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
    return None


def _stuck_lines(rows: list[Row]) -> Iterator[str]:
    """Yield why waiting tasks cannot start, one line per reason, and what to do."""
    reasons: dict[tuple[str, str | None], list[str]] = {}
    for row in rows:
        # A pause of everything is in the headline.
        if row["reason"] != "system_paused":
            reasons.setdefault((row["message"], row["hint"]), []).append(row["task"])
    for (why, hint), tasks in list(reasons.items())[:MOST_ROWS]:
        named = ", ".join(tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")
        yield f"cannot start: {named}: {why}"
        if hint:
            yield f"    {hint}"


def _problem_lines(problems: list[Row]) -> Iterator[str]:
    for problem in problems[:MOST_ROWS]:
        yield f"! {problem['code']}: {problem['message']}"
        if problem["hint"]:
            yield f"    {problem['hint']}"
    if len(problems) > MOST_ROWS:
        yield f"! and {len(problems) - MOST_ROWS} more: orchestrator doctor"


def _fault_lines(fault: Row | None) -> Iterator[str]:
    """Yield since when a fault keeps agents from starting, and which run tests it next."""
    if fault is None:
        return
    test = fault["test"]
    who = " with ".join(filter(None, (test["agent"], test["task"])))
    tested = f"run {test['run']} of {who} tests it now"
    if test["run"] is None:
        tested = f"{who} tests it next, {test['at'] or 'at the next tick'}"
    if not who:
        tested = "no agent can test it now"
    yield f"fault for {span(fault['age_seconds'])} (since {fault['since']}); {tested}"


def _overlap_lines(overlaps: list[Row]) -> Iterator[str]:
    for row in overlaps[:MOST_ROWS]:
        said = overlap.what(row["files"], by_line=row["by_line"])
        yield f"overlap: {row['a']} and {row['b']} {said}"
    if len(overlaps) > MOST_ROWS:
        yield f"and {len(overlaps) - MOST_ROWS} more overlaps"


def _limit_lines(found: Row) -> Iterator[str]:
    queue, limits = found["queue"], found["limits"]
    unfinished = queue["incoming"] + queue["claimed"]
    yield _bar("incoming + claimed", unfinished, limits["max_incoming"])
    yield _bar("claimed", queue["claimed"], limits["max_claimed"])
    yield _bar("open pull requests", found["open_prs"], limits["max_open_prs"])
    rest = (f"{queue[state]} {state}" for state in ("incoming", "blocked", "done", "failed"))
    yield f"{'tasks':19}{', '.join(rest)}"


def _bar(name: str, number: int | None, limit: int) -> str:
    if number is None:
        return f"{name:19}not known (at most {limit})"
    filled = BAR if limit == 0 else min(number * BAR // limit, BAR)
    return f"{name:19}[{'#' * filled}{'.' * (BAR - filled)}] {number} of {limit}"


def _agent_cells(row: Row) -> tuple[object, ...]:
    why = {
        "not_due": f"due in {span(row['due_in_seconds'])}",
        "running": f"orchestrator logs {row['name']}",
        None: "starts at the next tick",
    }.get(row["reason"], row["reason"])
    return (row["name"], row["role"], row["state"], why, row["task"], row["last_outcome"])


def _table(
    title: str,
    headings: tuple[str, ...],
    rows: Iterable[tuple[object, ...]],
    most: int | None = MOST_ROWS,
) -> Block:
    shown = tuple(rows)
    if not shown:
        return Block()
    more = () if most is None or len(shown) <= most else (f"... and {len(shown) - most} more",)
    return Block((title, *more), headings, shown[:most])


def _closing_lines(found: Row, layout: Layout) -> Iterator[str]:
    scheduler, totals = found["scheduler"], found["totals"]
    age = scheduler["age_seconds"]
    if age is not None:
        yield f"last tick: {span(age)} ago"
    else:
        yield "last tick: never" if scheduler["stale"] else mark.first_tick(layout)
    runs, took = count(totals["runs"], "run"), span(totals["seconds_running"])
    tokens = totals["input_tokens"] + totals["output_tokens"]
    yield f"total: {runs}, {took}, {count(tokens, 'token')}, {totals['cost_usd']:.2f} USD"


def _cell(text: str | None) -> str | None:
    return text and one_line(text, CELL)
