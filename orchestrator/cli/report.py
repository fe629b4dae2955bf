"""`report`: the account of a night or a week, as Markdown."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.account import costs, ledger, ticks
from orchestrator.account import report as account
from orchestrator.cli import context, output, period
from orchestrator.cli.parser import command
from orchestrator.errors import OrchestratorError
from orchestrator.git import repository
from orchestrator.layout import Layout
from orchestrator.model import PullRequest, iso
from orchestrator.project import events, mark
from orchestrator.pulls import states
from orchestrator.system import process
from orchestrator.text.quoting import inline
from orchestrator.text.words import count, span
from orchestrator.tick.inbox import items, next_step

DEFAULT_PERIOD = "24h"
#: Gaps between ticks, and commits of one task, that are listed.
MOST_GAPS, MOST_COMMITS = 10, 20

Row = dict[str, Any]


@command("report", period.since(DEFAULT_PERIOD))
def report(arguments: Namespace) -> None:
    """Describe a period as Markdown: what was delivered, merged or failed, the cost, what waits for
    you, what was rescued, and whether the scheduler ran.

    Deliveries are listed with their commits and checks. Each line comes from a record of the
    scheduler or from git; no model writes it.

    examples:
      orchestrator report
      orchestrator report --since 7d > week.md
    """
    layout, now = context.reading(arguments), context.now()
    since = period.start(arguments.since, now)
    loaded, seen = context.look(layout)
    prs = states.known(layout, loaded.config)
    book = ledger.read(layout, since)
    of_tasks = {pr.task: pr.id for pr in prs or () if pr.task}
    ends = account.ends(
        book.runs, events.read(layout, ledger.MOST_READ, of_all_hosts=True), since, of_tasks
    )
    waiting = items(layout, loaded, seen, prs)
    noted = ticks.read(layout, since, now)
    ran = ticks.judge(
        noted, since, now, scheduled=mark.schedule(layout) is not None, booted=process.booted()
    )
    value: Row = {
        "from": iso(since),
        "to": iso(now),
        "delivered": [_delivered(layout, row) for row in ends.delivered],
        "merged": ends.merged,
        "failed": ends.failed,
        "waiting": [
            {"id": i.id, "kind": i.kind, "task": i.task, "text": i.text, "since": i.since}
            for i in waiting
        ],
        "rescued": _rescued(layout, since),
        "runs": len(book.runs),
        "cost_usd": costs.total(book.runs)["cost_usd"],
        "ticks": {
            "expected": ran.expected,
            "executed": ran.executed,
            "held": ran.held,
            "missed": ran.missed,
            "gaps": [
                {"from": iso(gap.start), "to": iso(gap.end), "why": gap.why} for gap in ran.gaps
            ],
        },
        "history_begins": iso(book.begins),
    }
    if arguments.json:
        output.show_json(value)
        return
    titles = _titles(layout, prs)
    steps = {item.id: next_step(layout, item) for item in waiting}
    for line in _markdown(value, since, now, titles, steps, ran):
        output.out(line)


def _delivered(layout: Layout, row: Row) -> Row:
    """Return a delivery as `report --json` shows it, without commits that git no longer has."""
    commits = []
    if row["base"] and row["head"]:
        try:
            commits = repository.subjects(layout.root, row["base"], row["head"], MOST_COMMITS)
        except OrchestratorError:
            commits = []
    shown = [{"commit": commit, "subject": subject} for commit, subject in commits]
    return {"task": row["task"], "pr": row["pr"], "commits": shown, "checks": row["checks"]}


def _rescued(layout: Layout, since: float) -> list[Row]:
    """Return the rescue refs whose commits were made in the period."""
    found = repository.refs_since(layout.root, repository.RESCUE, since)
    return [{"ref": ref, "commit": commit} for ref, commit in found.items()]


def _titles(layout: Layout, prs: Iterable[PullRequest] | None) -> dict[str, str]:
    return {pr.task: pr.title for pr in prs or () if pr.task}


def _markdown(
    value: Row,
    since: float,
    now: float,
    titles: dict[str, str],
    steps: dict[str, str],
    ran: ticks.Ticks,
) -> Iterator[str]:
    yield f"# What the agents did from {period.local(since)} to {period.local(now)}"
    yield ""
    yield (
        f"{count(len(value['delivered']), 'task')} delivered, {len(value['merged'])} merged, "
        f"{len(value['failed'])} failed; cost of {count(value['runs'], 'run')}: "
        f"{value['cost_usd']:.2f} USD; waiting for you: {len(value['waiting'])}."
    )
    yield from _section("Waiting for you", (
        line for row in value["waiting"] for line in (
            f"- **{row['kind']}** {row['id']}: {inline(row['text'], 200)}",
            f"  - {steps[row['id']]}",
        )
    ))  # fmt: skip
    yield from _section("Delivered", (
        line for row in value["delivered"] for line in _delivery_lines(row, titles)
    ))  # fmt: skip
    yield from _section("Merged", (
        f"- {row['task']} (pull request {row['pr']}){_title(row['task'], titles)}"
        for row in value["merged"]
    ))  # fmt: skip
    yield from _section("Failed", (
        f"- {row['task']}: {inline(row['reason'] or 'no reason given', 200)}"
        for row in value["failed"]
    ))  # fmt: skip
    yield from _section("Rescued", (
        f"- {row['ref']}; to show it: git show {row['ref']}" for row in value["rescued"]
    ))  # fmt: skip
    yield from _section("The scheduler", _tick_lines(ran))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield from ("", f"## {title}", "", *found)


def _title(task: str, titles: dict[str, str]) -> str:
    return f": {inline(titles[task], 100)}" if task in titles else ""


def _delivery_lines(row: Row, titles: dict[str, str]) -> Iterator[str]:
    yield f"- {row['task']}, pull request {row['pr']}{_title(row['task'], titles)}"
    for each in row["commits"]:
        yield f"  - {each['commit'][:12]} {inline(each['subject'], 100)}"
    passed = ", ".join(map(inline, row["checks"]))
    yield f"  - checks passed: {passed}" if passed else "  - no checks are configured"


def _tick_lines(ran: ticks.Ticks) -> Iterator[str]:
    if ran.expected is None:
        yield f"- no schedule is installed; ticks ran in {count(ran.executed, 'minute')}"
        return
    yield (
        f"- {ran.executed} of {count(ran.expected, 'expected tick')} ran, {ran.missed} missed"
        + (f", {ran.held} ended because another tick was running" if ran.held else "")
    )
    for gap in ran.gaps[:MOST_GAPS]:
        took = span(gap.end - gap.start)
        yield f"  - {took} without a tick from {period.local(gap.start)}: {gap.why}"
    if len(ran.gaps) > MOST_GAPS:
        yield f"  - and {count(len(ran.gaps) - MOST_GAPS, 'more gap')}"
