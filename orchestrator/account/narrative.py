"""The account of a period, as data and as Markdown, from records and git only."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from orchestrator.account import costs, ledger, ticks
from orchestrator.account.facts import state_after
from orchestrator.account.ledger import EndedRun
from orchestrator.git import ref_files
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import iso, parse_time
from orchestrator.model.work import PullRequest
from orchestrator.project import events
from orchestrator.system.later import Later
from orchestrator.tasks import stores
from orchestrator.text.quoting import inline
from orchestrator.text.words import count, local, span

if TYPE_CHECKING:
    from orchestrator.git import repository
else:
    repository = Later("git.repository")

#: The events that the account of a period needs.
KINDS = (*ledger.ENDS, "merged", "followed", "not_merged", "retried", "moved")
#: Gaps between ticks that are listed.
MOST_GAPS = 10

Row = dict[str, Any]


class Waiting(NamedTuple):
    """One thing that waits for a person, and what the person types."""

    id: str
    kind: str
    task: str | None
    text: str
    since: str | None
    step: str


class Report(NamedTuple):
    """What happened in a period."""

    #: As `report --json` shows it.
    value: Row
    #: The same for people.
    markdown: str


def collect(
    layout: Layout,
    prs: Iterable[PullRequest],
    waiting: Sequence[Waiting],
    since: float,
    now: float,
) -> Report:
    """Return what happened between two times (seconds since the epoch).

    `prs` are the pull requests; those that were merged long since need not be among them.
    """
    of_prs = {pr.task: pr for pr in prs if pr.task}
    told = list(events.read(layout, events.MOST_READ, of_all_hosts=True, kinds=KINDS, since=since))
    runs = ledger.collect(told, since)
    ended = ends(runs, told, since, {task: pr.id for task, pr in of_prs.items()})
    ran = ticks.look(layout, since, now)
    store = stores.of_project(layout)
    value: Row = {
        "from": iso(since),
        "to": iso(now),
        "delivered": _delivered(layout, ended.delivered),
        "merged": ended.merged,
        "failed": ended.failed,
        "waiting": [
            {"id": i.id, "kind": i.kind, "task": i.task, "text": i.text, "since": i.since}
            for i in waiting
        ],
        "rescued": _rescued(layout, since),
        "runs": len(runs),
        "cost_usd": costs.total(runs)["cost_usd"],
        "ticks": {
            **{name: getattr(ran, name) for name in ("expected", "executed", "held", "missed")},
            "gaps": [
                {"from": iso(gap.start), "to": iso(gap.end), "why": gap.why} for gap in ran.gaps
            ],
        },
        "history_begins": iso(ledger.begins(layout)),
        # The ticks and the rescue refs are of this host, everything else is of all hosts.
        **({"host": store.host} if store.host else {}),
    }
    titles = {row["task"]: row["title"] for row in ended.delivered if row["title"]}
    titles |= {task: pr.title for task, pr in of_prs.items()}
    # The records of older pull requests are not read: the task knows its title, too.
    for row in (*ended.delivered, *ended.merged):
        if row["task"] not in titles and (task := store.get(row["task"])):
            titles[task.id] = task.title
    steps = {each.id: each.step for each in waiting}
    lines = _markdown(value, since, now, titles, steps, ran)
    return Report(value, "".join(f"{line}\n" for line in lines))


def _delivered(layout: Layout, rows: Sequence[Row]) -> list[Row]:
    """Return deliveries as `report --json` shows them.

    Git is asked for the commits that the event of the delivery does not list. Those that git no
    longer has are left out.
    """
    of = {row["task"]: (row["base"] or "", row["head"] or "") for row in rows}
    known = {of[row["task"]]: row["commits"] for row in rows if row["commits"] is not None}
    with contextlib.suppress(OrchestratorError):
        for base, head in {*of.values()}.difference(known):
            found = repository.subjects(layout.root, base, head, repository.MOST_COMMITS)
            known[base, head] = found or []
    return [
        {
            "task": row["task"],
            "pr": row["pr"],
            "commits": [
                {"commit": commit, "subject": subject}
                for commit, subject in known.get(of[row["task"]], ())
            ],
            "checks": row["checks"],
            **({"host": row["host"]} if "host" in row else {}),
        }
        for row in rows
    ]


def _rescued(layout: Layout, since: float) -> list[Row]:
    """Return the rescue refs whose commits were made in the period."""
    if not ref_files.may_have(layout.root, ref_files.RESCUE):
        return []
    found = repository.refs_since(layout.root, ref_files.RESCUE, since)
    return [{"ref": ref, "commit": commit} for ref, commit in found.items()]


def _markdown(
    value: Row,
    since: float,
    now: float,
    titles: dict[str, str],
    steps: dict[str, str],
    ran: ticks.Ticks,
) -> Iterator[str]:
    yield f"# What the agents did from {local(since)} to {local(now)}"
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
    here = f" on the host {value['host']}" if "host" in value else ""
    yield from _section(f"Rescued{here}", (
        f"- {row['ref']}; to show it: git show {row['ref']}" for row in value["rescued"]
    ))  # fmt: skip
    yield from _section(f"The scheduler{here}", _tick_lines(ran))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield from ("", f"## {title}", "", *found)


def _title(task: str, titles: dict[str, str]) -> str:
    return f": {inline(titles[task], 100)}" if task in titles else ""


def _delivery_lines(row: Row, titles: dict[str, str]) -> Iterator[str]:
    where = f" (on {row['host']})" if row.get("host") else ""
    yield f"- {row['task']}, pull request {row['pr']}{where}{_title(row['task'], titles)}"
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
        yield f"  - {took} without a tick from {local(gap.start)}: {gap.why}"
    if len(ran.gaps) > MOST_GAPS:
        yield f"  - and {count(len(ran.gaps) - MOST_GAPS, 'more gap')}"


class Ends(NamedTuple):
    """How tasks ended in a period, oldest first."""

    delivered: list[Row]
    merged: list[Row]
    failed: list[Row]


def ends(
    runs: Iterable[EndedRun],
    told: Collection[Mapping[str, object]],
    since: float,
    prs: Mapping[str, str],
) -> Ends:
    """Return what the runs of a period and the events since then (epoch seconds) say.

    `prs` has the pull request of each task. A task that was delivered again after a review counts
    once, with its last delivery.
    """
    finished = {str(event.get("run")): event for event in told if event.get("event") == "finish"}
    delivered: dict[str, Row] = {}
    for run in runs:
        if run.told.event == "finish" and run.told.verdict == "done" and run.told.pr:
            each, event = run.told, finished.get(run.told.run, {})
            title = event.get("title")
            delivered[str(each.task)] = {
                "task": each.task,
                "pr": each.pr,
                "base": each.base,
                "head": each.head,
                "title": title if isinstance(title, str) else None,
                "commits": _commits(event.get("commits")),
                "checks": list(each.checks),
                **({"host": each.host} if each.host else {}),
            }
    merged: dict[str, Row] = {}
    failed: dict[str, Row] = {}
    for event in told:
        at, task = parse_time(str(event.get("at"))), event.get("task")
        if at is None or at < since or not isinstance(task, str):
            continue
        word, reason, state = event.get("event"), event.get("reason"), state_after(event)
        if word == "merged" or (word == "followed" and reason == "merged"):
            merged[task] = {"task": task, "pr": event.get("pr") or prs.get(task)}
        elif state == "failed":
            failed[task] = {"task": task, "reason": reason}
        elif word == "not_merged":
            merged.pop(task, None)
        elif state in ("done", "incoming"):
            failed.pop(task, None)
    return Ends(list(delivered.values()), list(merged.values()), list(failed.values()))


def _commits(told: Any) -> list[tuple[str, str]] | None:
    """Return the commits that the event of a delivery lists, each with its subject.

    None where an older version wrote the event.
    """
    try:
        found = [(each["commit"], each["subject"]) for each in told]
    except (TypeError, KeyError):
        return None
    return found if all(isinstance(x, str) for each in found for x in each) else None
