"""`logs`: the readable transcript of a run, active or ended."""

from __future__ import annotations

import contextlib
import os
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import IO, cast

from orchestrator.cli import context, find_run, output
from orchestrator.cli.find_run import Run
from orchestrator.cli.parser import argument, command, flag
from orchestrator.client import registry
from orchestrator.client.protocol import Client, Line
from orchestrator.guard import secret_shapes
from orchestrator.project import run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.system import files

#: Seconds between two looks at a run that is followed.
POLL_SECONDS = 0.2
#: Bytes and lines of a log's end that are shown.
TAIL_BYTES, TAIL_LINES = 16_384, 40
CHECKS_LOG = "checks.log"


@command(
    "logs",
    argument("subject", metavar="AGENT|TASK|RUN", help="an agent, a task, or the id of a run"),
    flag("--follow", "print new lines until the run ends", "-f"),
    flag("--raw", "print the output of the client, as JSON lines"),
)
def logs(arguments: Namespace) -> None:
    """Show what a run did: the latest run of an agent or of a task, or the named run.

    examples:
      orchestrator logs impl-agent-1 --follow
      orchestrator logs 20240115T103000Z-1f00aa --raw
    """
    run = find_run.find(context.layout(arguments), arguments.subject)
    if isinstance(run, str):
        output.answer(arguments, [], run)
        return
    launch = files.read_json(os.path.join(run.folder, run_record.LAUNCH)) or {}
    client = registry.named(launch.get("client"))
    with _opened(run) as stream:
        raw = map(_withheld, _followed(run, stream) if arguments.follow else stream)
        if arguments.raw:
            for line in raw:
                output.copy(line)
        elif arguments.json:
            output.show_json([event._asdict() for event in _events(client, raw)])
        else:
            _show(run, _events(client, raw))


def _withheld(line: bytes) -> bytes:
    """Return a line of a stream without secrets; a line of JSON stays one."""
    text = line.decode(errors="surrogateescape")
    return secret_shapes.withheld(text).encode(errors="surrogateescape")


@contextlib.contextmanager
def _opened(run: Run) -> Iterator[IO[bytes]]:
    """Open a run's stream; an empty stream if the run has none yet."""
    # In this order: a stream is whole in its packed form before the plain file is removed.
    plain = _open(run, run_record.STREAM)
    packed = None if plain else _open(run, run_record.PACKED_STREAM)
    with plain or packed or open(os.devnull, "rb") as stream:
        if packed is None:
            yield stream
        else:
            import gzip

            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield cast("IO[bytes]", unpacked)


def _open(run: Run, name: str) -> IO[bytes] | None:
    """Open a file of a run, but nothing that an agent may have put in its place."""
    try:
        return files.open_regular(os.path.join(run.folder, name))
    except OSError:
        return None


def _followed(run: Run, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the stream's lines as they come, until the run has ended."""
    rest = b""
    while True:
        # Asked before reading, so that everything written until the end is read after it.
        over = _is_over(run)
        if stream.name == os.devnull:
            stream = _open(run, run_record.STREAM) or stream
        for piece in stream:
            rest += piece
            if rest.endswith(b"\n"):
                yield rest
                rest = b""
        if over:
            if rest:
                yield rest
            return
        time.sleep(POLL_SECONDS)


def _is_over(run: Run) -> bool:
    """Return whether a run has ended, or has lost its supervisor: then only a tick continues it."""
    record = run.record()
    if record is None or record.status == "finished":
        return True
    return record.supervisor is not None and not record.supervisor.is_alive()


def _events(client: Client, lines: Iterable[bytes]) -> Iterator[Line]:
    for line in lines:
        yield from client.translate(line.decode(errors="replace"))


def _show(run: Run, events: Iterable[Line]) -> None:
    record = run.record()
    task, title = (record.task, record.title) if record else (None, None)
    title = f": {title}" if title else ""
    output.out(f"run {run.id} of {run.agent}, task {task or 'none'}{title}")
    _show_end(run, run_record.SETUP_LOG)
    for event in events:
        clock = event.at[11:19] if event.at and len(event.at) >= 19 else ""
        text = event.text.replace("\n", "\n" + " " * 17)
        output.out(f"{clock:8} {event.kind:6}  {text}")
    record = run.record()
    for name in _telling_logs(record):
        _show_end(run, name)
    for line in _ending(run, record):
        output.out(line)


def _show_end(run: Run, name: str) -> None:
    if lines := _tail(run, name):
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
    checks = [CHECKS_LOG] if failed_checks or record.status == "concluding" else []
    stderr = [run_record.STDERR] if outcome and not failed_checks else []
    return [*checks, *stderr, run_record.SUPERVISOR_LOG]


def _tail(run: Run, name: str) -> list[str]:
    """Return the last lines of a file of a run; an empty list if it is missing."""
    file = _open(run, name)
    if file is None:
        return []
    with file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(size - TAIL_BYTES, 0))
        text = file.read(TAIL_BYTES).decode(errors="replace")
        return secret_shapes.withheld(text).splitlines()[-TAIL_LINES:]


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
