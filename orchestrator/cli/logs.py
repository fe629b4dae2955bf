"""`logs`: the readable transcript of a run, active or ended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice

from orchestrator.cli import context, find_run, output, run_stream
from orchestrator.cli.find_run import Run
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.client import registry
from orchestrator.client.protocol import Client, Line
from orchestrator.guard import secret_shapes
from orchestrator.model.errors import UsageError
from orchestrator.project import run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.system import files

#: Lines of a log's end that are shown.
TAIL_LINES = 40
LINES = "begin with the last N entries; each is a text, a tool call or a result"


@command(
    "logs",
    argument("subject", metavar="AGENT|TASK|RUN", help="an agent, a task, or the id of a run"),
    flag("--follow", "print new lines until the run ends", "-f"),
    argument("--lines", "-n", type=int, metavar="N", help=LINES),
    flag("--raw", "print the output of the client, as JSON lines"),
)
def logs(arguments: Namespace) -> None:
    """Show what a run did: the latest run of an agent or of a task, or the named run.

    examples:
      orchestrator logs impl-agent-1 --follow
      orchestrator logs TASK-a1b2c3d4 --lines 20
      orchestrator logs 20240115T103000Z-1f00aa --raw
    """
    if arguments.lines is not None and arguments.lines < 1:
        raise UsageError("--lines takes a number from 1", "for example: --lines 20")
    run = find_run.find(context.reading(arguments), arguments.subject)
    if isinstance(run, str):
        output.answer(arguments, [], run)
        return
    launch = files.read_json(os.path.join(run.folder, run_record.LAUNCH)) or {}
    client = registry.named(launch.get("client"))

    def entries(line: bytes) -> int:
        return 1 if arguments.raw else len(_translated(client, line))

    with run_record.opened_stream(run.folder) as stream:
        skipped = run_stream.seek_end(stream, arguments.lines, entries) if arguments.lines else 0
        raw = map(_withheld, run_stream.followed(run, stream) if arguments.follow else stream)
        if arguments.raw:
            for line in islice(raw, skipped, None):
                output.copy(line)
            return
        events = islice((e for line in raw for e in _translated(client, line)), skipped, None)
        if arguments.json:
            output.show_json([event._asdict() for event in events])
        else:
            _show(run, events)


def _withheld(line: bytes) -> bytes:
    """Return a line of a stream without secrets; a line of JSON stays one."""
    text = line.decode(errors="surrogateescape")
    return secret_shapes.withheld(text).encode(errors="surrogateescape")


def _translated(client: Client, line: bytes) -> list[Line]:
    return client.translate(line.decode(errors="replace"))


def _show(run: Run, events: Iterable[Line]) -> None:
    record = run.record()
    task, title = (record.task, record.title) if record else (None, None)
    title = f": {title}" if title else ""
    output.prose(f"run {run.id} of {run.agent}, task {task or 'none'}{title}", 2)
    _show_end(run, run_record.SETUP_LOG)
    for event in events:
        clock = event.at[11:19] if event.at and len(event.at) >= 19 else ""
        text = event.text.replace("\n", "\n" + " " * 17)
        output.prose(f"{clock:8} {event.kind:6}  {text}", 17)
    record = run.record()
    for name in _telling_logs(record):
        _show_end(run, name)
    for line in _ending(run, record):
        output.prose(line, 4)


def _show_end(run: Run, name: str) -> None:
    if lines := run_record.tail(run.folder, name).splitlines()[-TAIL_LINES:]:
        output.out(f"--- the end of {name}")
        for line in lines:
            output.out(f"  {line}")


def _telling_logs(record: RunRecord | None) -> list[str]:
    """Return the run's other logs that say why it ended as it did, or what it does now."""
    if record is None:
        return [run_record.SUPERVISOR_LOG]
    outcome = record.outcome
    if outcome and outcome.verdict in (
        "done",
        "no_change",
        "split",
        "approved",
        "changes_requested",
    ):
        return []
    failed_checks = outcome is not None and (outcome.reason or "").startswith("checks_failed")
    checks = [run_record.CHECKS_LOG] if failed_checks or record.status == "concluding" else []
    stderr = [run_record.STDERR] if outcome and not failed_checks else []
    return [*checks, *stderr, run_record.SUPERVISOR_LOG]


def _ending(run: Run, record: RunRecord | None) -> Iterator[str]:
    if record is None:
        yield "--- the run's record is missing or cannot be read; see: orchestrator doctor"
    elif record.status != "finished" or record.outcome is None:
        is_active = record.supervisor is not None and record.supervisor.is_alive()
        ways = ("no process works on it", "the next tick continues it")
        what, then = ("active", "to follow it: add --follow") if is_active else ways
        yield f"--- {what} ({record.status}); {then}"
    else:
        outcome = record.outcome
        yield f"--- ended: {outcome.verdict}"
        for key in ("reason", "summary", "question", "feedback"):
            if text := getattr(outcome, key):
                yield f"  {key}: {text}"
        if outcome.pr:
            yield f"  pull request: orchestrator pr show {outcome.pr}"
        seconds, cost = record.seconds(), outcome.cost_usd
        took = "unknown time" if seconds is None else f"{seconds:.0f} s"
        yield f"  {took}, {'unknown cost' if cost is None else f'{cost:.4f} USD'}"
        yield f"  files: {run.folder}"
