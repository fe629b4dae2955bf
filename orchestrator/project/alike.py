"""Runs of different tasks that fail alike before the client did anything: no fault of the tasks.

A client that cannot work (a broken installation, a wrapper that fails) would otherwise use up the
attempts of one task after the other (failures 29).
"""

import re
from collections.abc import Iterable, Mapping

from orchestrator.layout import Layout
from orchestrator.model.snapshot import Outcome
from orchestrator.project import events
from orchestrator.project.run_record import RunRecord

#: Tasks whose last runs, one after the other, must have failed alike.
TASKS = 3
#: Bytes at the end of the events that are read.
MOST_READ = 256 * 1024
#: How the reasons begin of a client that ended without doing anything; other words are limits, or
#: judge the work.
REASONS = ("client_error", "no_result")
#: How the reasons begin that an agent gave (`client.outcomes`): then the client did its work.
_OF_THE_AGENT = "client_error: the agent "
_BEFORE = "before the client did anything: "
#: The word of the fault.
WORD = "clients_fail_alike"


def judged(record: RunRecord, outcome: Outcome) -> Outcome:
    """Return the outcome; a failure like those of the other tasks' runs is a system fault."""
    if not _did_nothing(record, outcome):
        return outcome
    names = (record.task, record.agent, record.id, record.branch)
    tasks = {record.task, *tasks_of(Layout(record.project), outcome.reason, names)}
    if len(tasks) < TASKS:
        return outcome
    reason = f"{WORD}: runs of {len(tasks)} tasks ended in the same way {_BEFORE}"
    hint = "start the client as the runs do, and see what it says: orchestrator doctor"
    return outcome._replace(
        verdict="system_fault", reason=reason + (outcome.reason or ""), hint=hint
    )


def tasks_of(layout: Layout, reason: str | None, names: Iterable[object] = ()) -> set[str]:
    """Return the tasks of the newest runs that all failed in one way.

    `reason` is that of a run, in which `names` stand that differ from run to run, or that of the
    fault.
    """
    kind = _kind(_inner(reason or ""), names)
    try:
        return _alike(events.read(layout, MOST_READ, '"verdict"'), kind)
    except OSError:  # without the events of other runs, nothing is known to be alike
        return set()


def _inner(reason: str) -> str:
    """Return the reason of the run in the reason of the fault."""
    return reason.partition(_BEFORE)[2] or reason


def _did_nothing(record: RunRecord, outcome: Outcome) -> bool:
    """Whether a client was started and ended without an answer, and nothing ended it."""
    used = outcome.cost_usd or outcome.output_tokens or record.commits or outcome.summary
    ended = record.ended is not None and record.ended.stopped_for is None
    reason = outcome.reason or ""
    is_failure = outcome.verdict == "failed" and reason.startswith(REASONS)
    is_told = reason.startswith(_OF_THE_AGENT)
    return is_failure and not is_told and ended and not used and record.task is not None


def _alike(past: Iterable[Mapping[str, object]], kind: str) -> set[str]:
    """Return the tasks of the newest runs that all failed in one way; any other end ends them."""
    found: set[str] = set()
    for event in past:
        named = [event.get(name) for name in ("task", "agent", "run")]
        verdict, reason = event.get("verdict"), str(event.get("reason"))
        if verdict in ("interrupted", "stopped"):
            continue
        other = _kind(_inner(reason), named)
        # The reason in an event is cut.
        same = kind.startswith(other) or other.startswith(kind)
        if verdict not in ("failed", "system_fault") or not same:
            found.clear()
        elif isinstance(event.get("task"), str):
            found.add(str(event["task"]))
    return found


def _kind(reason: str | None, names: Iterable[object]) -> str:
    """Return a reason without what differs from run to run."""
    text = reason or ""
    for name in names:
        if name:
            text = text.replace(str(name), "#")
    return re.sub(r"\d+", "#", re.sub(r"\b[0-9a-f]{6,}\b", "#", text))[:300]
