"""`traces`: sends runs and ticks to an OpenTelemetry collector."""

from __future__ import annotations

import os
from collections.abc import Iterable

from orchestrator.account import ledger, spans, ticks
from orchestrator.cli import context, output, period
from orchestrator.cli.parser import Namespace, command, flag
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.project import events, mark, run_record
from orchestrator.system import extras, files, locks
from orchestrator.text.words import count

#: The libraries of the optional extra `otel` that it imports.
LIBRARIES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
#: Without a mark, what is sent began at most this long ago (seconds).
FIRST = 86_400.0
#: An event can be written later than its time says, by a tick that took long: ends of runs are
#: looked for from this long before the newest one (seconds), and remembered: each is sent once.
OVERLAP = 86_400.0


class Mark(NamedTuple):
    """What was sent: ends of runs by id (epoch seconds), and the last minute of ticks."""

    runs: dict[str, float]
    minute: int


@command(
    "traces",
    period.since(None),
    flag("--dry-run", "say what would be sent, and send nothing"),
)
def traces(arguments: Namespace) -> None:
    """Send an OpenTelemetry collector the runs and ticks that ended since the last call, by OTLP.

    OTEL_EXPORTER_OTLP_ENDPOINT is the collector's address (default: http://localhost:4318); the
    other variables OTEL_EXPORTER_OTLP_... and OTEL_SERVICE_NAME work too. Ticks and runs never wait
    for the collector: call this command from cron, for example once per minute. With --since, what
    was sent before is sent again, with the same ids.

    examples:
      orchestrator traces --dry-run
      orchestrator traces --since 7d
      * * * * * cd /path/to/project && orchestrator traces      in your crontab
    """
    layout, now = context.reading(arguments), context.now()
    if not arguments.dry_run:
        context.refuse_in_run("no traces are sent")
        extras.install("otel", LIBRARIES, "traces")
    path = os.path.join(layout.cache, "traces.json")
    again = None if arguments.since is None else period.start(arguments.since, now)
    if arguments.dry_run:
        found, _ = collect(layout, _read(path), now, again)
        output.answer(arguments, {"spans": len(found), "sent": 0}, f"{count(len(found), 'span')}")
        return
    try:
        with locks.Lock(os.path.join(layout.cache, "traces.lock")):
            found, newer = collect(layout, _read(path), now, again)
            taken = len(found)
            if found:
                from orchestrator.cli import otlp

                sent = otlp.send(found, os.path.basename(layout.root), mark.key(layout))
                taken -= sent.rejected
                for line in sent.warnings:
                    output.err(f"warning: {line}")
            files.write_json(path, newer._asdict())
    except locks.LockHeld:
        message = "another `orchestrator traces` is sending"
        raise OrchestratorError(message, "wait for its end", code="lock_held") from None
    output.answer(arguments, {"spans": len(found), "sent": taken}, f"{count(taken, 'span')} sent")


def collect(
    layout: Layout, known: Mark | None, now: float, again: float | None = None
) -> tuple[list[spans.Span], Mark]:
    """Return the spans that were not sent yet, oldest first, and what was sent with them.

    With `again` (epoch seconds), everything since then, sent or not.
    """
    first = now - FIRST if again is None else again
    if known is not None and again is None:
        first = min(max(known.runs.values(), default=first), now) - OVERLAP
    told = spans.Told(first)
    runs = ledger.collect(told.watched(events.read(layout, events.MOST_READ)), first)
    skipped = known.runs if known is not None and again is None else {}
    fresh = [run for run in runs if run.told.run not in skipped]
    last = int(now) // ticks.MINUTE * ticks.MINUTE
    begin = first if known is None or again is not None else known.minute
    found = [
        *(span for run in fresh for span in _of_run(layout, run, told)),
        *spans.of_ticks(ticks.read(layout, begin, last), told.notes),
    ]
    ends = {run.told.run: run.ended for run in runs}
    return sorted(found, key=lambda span: span.start), _after(known, ends, last, now)


def _of_run(layout: Layout, run: ledger.EndedRun, told: spans.Told) -> Iterable[spans.Span]:
    folder = layout.run(run.told.agent, run.told.run)
    plain = files.is_plain_name(run.told.agent) and files.is_plain_name(run.told.run)
    found = run_record.read(folder) if plain else None
    own = found if found and found.is_of_clone(folder, mark.key(layout)) else None
    return spans.of_run(run, told.reviewed, own)


def _after(known: Mark | None, ends: dict[str, float], minute: int, now: float) -> Mark:
    """Return the mark after a call, without the ends that are before the overlap."""
    runs = {**(known.runs if known else {}), **ends}
    newest = min(max(runs.values(), default=0.0), now)
    return Mark({name: at for name, at in runs.items() if at >= newest - OVERLAP}, minute)


def _read(path: str) -> Mark | None:
    """Return the mark; None if it is missing or damaged: then a day is sent again."""
    found = files.read_json(path) or {}
    runs, minute = found.get("runs"), found.get("minute")
    if not isinstance(runs, dict) or not isinstance(minute, int):
        return None
    return Mark({str(k): float(v) for k, v in runs.items() if isinstance(v, int | float)}, minute)
