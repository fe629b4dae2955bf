"""What a reviewer is told of the earlier rounds of the task under review. Pure functions.

Each review is a task of its own, with an empty history: the findings, the author's answers and the
decisions of people are in the history of the task under review (reference 9.7).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.model.times import iso, parse_time
from orchestrator.model.work import Entry, Given
from orchestrator.pulls import verdicts


def told(history: Sequence[Entry], elsewhere: Iterable[Given]) -> list[dict[str, str]]:
    """Return the rounds, oldest first: `{"at", "kind", "text", "by", "commit", "decided"}`.

    `history` is of the task under review, `elsewhere` has the reviews of people on the forge.
    `kind` is finding, approval, decision, question, answer or work. `decided` is the time of the
    decision with which a person closed a finding, otherwise empty.
    """
    found = [row for entry in history if (row := _row(entry)) is not None]
    # Their times were written by a forge.
    times = [(given, iso(parse_time(given.at or ""))) for given in elsewhere]
    found += [_of_review(given._replace(at=at)) for given, at in times]
    found.sort(key=lambda row: row["at"])
    settled = [row["at"] for row in found if row["kind"] == "decision"]
    last = max(settled, default="")
    # A finding in the same second as the decision was given before it, if it is listed before it.
    place = max((i for i, row in enumerate(found) if row["kind"] == "decision"), default=-1)
    return [
        {**row, "decided": last if row["kind"] == "finding" and i < place else ""}
        for i, row in enumerate(found)
    ]


def _row(entry: Entry) -> dict[str, str] | None:
    text = {key: value for key, value in entry.fields.items() if isinstance(value, str)}
    row = {"at": entry.at, "by": "", "commit": text.get("head", "")}
    if entry.event == "review":
        given = verdicts.given([entry])
        return _of_review(given[0]) if given else None
    if entry.event == "reopened":
        return _with(row, "finding", text.get("feedback"))
    if entry.event == "done":
        return _with(row, "work", text.get("summary"))
    if entry.event == "blocked":
        return _with(row, "question", text.get("question"))
    if entry.event == "answered":
        return _with(row, "answer", text.get("text"))
    return None


def _with(row: dict[str, str], kind: str, text: str | None) -> dict[str, str] | None:
    return {**row, "kind": kind, "text": text} if text else None


def _of_review(given: Given) -> dict[str, str]:
    kind = "finding" if given.verdict == verdicts.CHANGES else "approval"
    if given.settles:
        kind = "decision"
    by = f"{given.by} (a person)" if given.kind == "person" else given.by
    said = given.text or {"decision": "Approved: every finding before this is resolved."}.get(kind)
    row = {"at": given.at or "", "by": by, "commit": given.commit or ""}
    return {**row, "kind": kind, "text": said or "(no text)"}


def last_reviewed(reviews: Iterable[Given], head: str | None) -> str | None:
    """Return the commit of the newest review of another commit than `head`; None without one.

    None also if the newest review is of `head` itself. A conflict that the scheduler sent back is
    not a review.
    """
    read = [given for given in reviews if given.commit and given.by != verdicts.SCHEDULER]
    newest = max(read, key=lambda given: given.at or "", default=None)
    return newest.commit if newest is not None and newest.commit != head else None
