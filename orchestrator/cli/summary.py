"""What `status` and `watch` say about the project, as parts for `screen.fit`. Pure.

The order is the order of importance: what a person must do, then what the agents do, then figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from orchestrator.account.ticks import Ticks
from orchestrator.cli.json_rows import Row
from orchestrator.cli.overview import SHOWN, Overview
from orchestrator.cli.screen import Entry, Mood, Part
from orchestrator.cli.shown_work import CELL
from orchestrator.model.config import Config
from orchestrator.text.quoting import one_line
from orchestrator.text.words import count, span
from orchestrator.tick.inbox import Item


def parts(seen: Overview, steps: dict[str, str], ticks: str) -> list[Part]:
    """Return the picture of a project.

    `steps` has the command that resolves each item of the inbox, by the item's id; `ticks` is the
    sentence about the ticks (`ticked`).
    """
    found, items = seen.status, seen.looked.waiting.items
    kinds = Counter(item.kind for item in items)
    counted = ", ".join(count(number, kind) for kind, number in kinds.items())

    def of(part: str) -> list[Entry]:
        shown = [each for each in SHOWN if each.part == part]
        return [line for each in shown for line in each.lines(found[each.key], seen.looked)]

    last = Entry(f"ticks  {ticks}", mood="bad" if found["scheduler"]["stale"] else "plain")
    return [
        Part(list(_headline(found, seen.looked.loaded.config))),
        Part([_item(item, steps[item.id]) for item in items], counted, "orchestrator inbox"),
        Part(of("problems"), "problems", "orchestrator doctor"),
        Part(of("cannot start"), "cannot start", "orchestrator task list"),
        Part(of("agents"), "agents", "orchestrator agent list", least=2),
        Part(list(_pull_requests(seen)), "pull requests", "orchestrator pr list"),
        Part(of("tasks"), "tasks", "orchestrator task list"),
        Part(of("notes"), "notes", "orchestrator status --json"),
        Part([*of("figures"), last]),
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


def _pull_requests(seen: Overview) -> Iterator[Entry]:
    """Yield the open pull requests, those that wait for a person first."""
    moves = seen.looked.waiting.moves
    opened = [pr for pr in seen.looked.seen.prs or () if pr.state == "open"]
    for pr in sorted(opened, key=lambda pr: pr.id not in moves or moves[pr.id].by != "person"):
        move = moves.get(pr.id)
        verdict = (pr.verdict or "no verdict").replace("_", " ")
        said = f"  {pr.id}  {verdict}{', draft' if pr.draft else ''}: {one_line(pr.title, 60)}"
        # The move begins with the verdict if the pull request is approved.
        text = move.text.removeprefix("approved, ").removeprefix("approved; ") if move else ""
        yield Entry(f"{said}; {text}" if text else said, about=("pr", pr.id))


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
    when = f"{_clock(longest.start)}-{_clock(longest.end)}"
    return f"{said}; {ran.missed:,} missed ({longest.why}, {when}{more})"


def _clock(at: float) -> str:
    return time.strftime("%H:%M", time.localtime(at))
