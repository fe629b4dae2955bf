"""The account of a period, from the events: what was delivered, merged, failed and rescued. Pure.

Nothing in it is told by a model: each line is a record of the scheduler or an object of git.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from orchestrator.account.ledger import ENDS, EndedRun
from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import parse_time

Row = dict[str, Any]
#: The events that the account of a period needs.
KINDS = (*ENDS, "merged", "followed", "not_merged", "retried")


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
        word, reason = event.get("event"), event.get("reason")
        if word == "merged" or (word == "followed" and reason == "merged"):
            merged[task] = {"task": task, "pr": event.get("pr") or prs.get(task)}
        elif word == "fail" or (word == "followed" and event.get("state") == "failed"):
            failed[task] = {"task": task, "reason": reason}
        elif word in ("not_merged", "retried", "finish"):
            (merged if word == "not_merged" else failed).pop(task, None)
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
