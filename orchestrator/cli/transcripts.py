"""`logs`: the readable transcript of a run, while it is at work or afterwards."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

from orchestrator import agentstate, process, runrecord, transcript
from orchestrator.cli import context, output
from orchestrator.cli.parser import command
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import Task
from orchestrator.runrecord import Record
from orchestrator.store import Store
from orchestrator.transcript import Line

#: How many runs of all agents are looked through, newest first, for those of a task.
MOST_SEARCHED = 2000
#: Seconds between two looks at a run that is followed.
POLL_SECONDS = 0.2
#: Bytes and lines of a log's end that are shown.
TAIL_BYTES, TAIL_LINES = 16_384, 40
CHECKS_LOG = "checks.log"
_RUN_ID = re.compile(r"[0-9]{8}T[0-9A-Za-z-]*")


class Run(NamedTuple):
    """One run's folder, and whose it is."""

    id: str
    agent: str
    folder: str

    def record(self) -> Record:
        """Return the run's journal; empty when there is none, or it cannot be read."""
        return runrecord.read(self.folder) or {}


def register(commands: Any) -> None:
    parser = command(
        commands,
        "logs",
        logs,
        "what a run did: an agent's latest one, a task's latest one, or the one that is named",
        "  orchestrator logs impl-agent-1\n"
        "  orchestrator logs TASK-a1b2c3d4\n"
        "  orchestrator logs 20240115T103000Z-1f00aa --raw     the client's own JSON lines\n"
        "  orchestrator logs impl-agent-1 --follow             until the run ends",
    )
    parser.add_argument("subject", metavar="AGENT|TASK|RUN")
    parser.add_argument("--follow", action="store_true", help="go on until the run ends")
    parser.add_argument("--raw", action="store_true", help="the stream as the client wrote it")


def logs(arguments: argparse.Namespace) -> int:
    layout = context.layout(arguments)
    run = find(layout, arguments.subject)
    if run is None:
        if arguments.json:
            output.show_json([])
        else:
            output.out(f"{arguments.subject} has not run yet")
            output.out(f"  why: orchestrator explain {arguments.subject}")
        return 0
    with _opened(run) as stream:
        raw = _followed(run, stream) if arguments.follow else stream
        if arguments.raw:
            for line in raw:
                output.copy(line)
        elif arguments.json:
            output.show_json([event._asdict() for event in _events(raw)])
        else:
            _show(run, _events(raw))
    return 0


# --- which run ---------------------------------------------------------------------------------


def find(layout: Layout, subject: str) -> Run | None:
    """Return the run that a name means; None for an agent or a task that never ran.

    Raises NotFound, and OrchestratorError when the start of a run's id fits several.
    """
    if subject in agentstate.names(layout):
        return _latest(layout, subject)
    if _RUN_ID.fullmatch(subject):
        found = [run for run in _runs(layout) if run.id.startswith(subject)]
        exact = [run for run in found if run.id == subject]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            some = ", ".join(run.id for run in found[:3])
            raise OrchestratorError(
                f"{len(found)} runs begin with {subject}: {some}", "write more of the id"
            )
    known = _configured(layout)
    if subject in known:
        return None
    task, others = _task(layout, subject)
    run = _run_of_task(layout, subject, task)
    if run is None and task is None:
        raise NotFound("agent, task or run", subject, [*known, *others])
    return run


def _configured(layout: Layout) -> list[str]:
    from orchestrator import settings

    return [agent.name for agent in settings.load(layout, write_cache=False).config.agents]


def _task(layout: Layout, subject: str) -> tuple[Task | None, list[str]]:
    """Return the task of that id, or None and the ids of those that could have been meant."""
    store = Store(layout)
    try:
        return store.find(subject), []
    except NotFound:
        return None, [t.id for state in ("incoming", "claimed") for t in store.list(state).tasks]


def _latest(layout: Layout, agent: str) -> Run | None:
    state = agentstate.read(layout, agent)
    ids = {run.id: run for run in _runs(layout, [agent])}
    newest = state.run if state.run in ids else max(ids, default=None)
    return ids[newest] if newest else None


def _runs(layout: Layout, agents: Iterable[str] | None = None) -> list[Run]:
    """Return every run that has a folder, newest first: ids begin with their time."""
    found = []
    for agent in agentstate.names(layout) if agents is None else agents:
        try:
            with os.scandir(layout.runs(agent)) as entries:
                ids = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            continue
        found += [Run(run_id, agent, layout.run(agent, run_id)) for run_id in ids]
    return sorted(found, key=lambda run: run.id, reverse=True)


def _run_of_task(layout: Layout, task_id: str, task: Task | None) -> Run | None:
    runs = _runs(layout)
    if task is not None and task.run is not None:
        known = next((run for run in runs if run.id == task.run), None)
        if known is not None:
            return known
    return next((r for r in runs[:MOST_SEARCHED] if r.record().get("task") == task_id), None)


# --- the stream --------------------------------------------------------------------------------


def _opened(run: Run) -> IO[bytes]:
    """Open a run's stream; an empty one where there is none yet."""
    return _open(os.path.join(run.folder, runrecord.STREAM)) or open(os.devnull, "rb")


def _open(path: str) -> IO[bytes] | None:
    """Open a file to read, but nothing that an agent may have put in its place."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    return os.fdopen(descriptor, "rb")


def _followed(run: Run, stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the stream's lines as they come, until the run has ended."""
    rest = b""
    while True:
        # Asked before reading: what is written up to the end is surely read after it.
        over = _is_over(run)
        if stream.name == os.devnull:
            stream = _opened(run)
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
    """Whether a run has ended, or its supervisor has: then only a tick can go on with it."""
    record = run.record()
    if not record or record.get("status") == "finished":
        return True
    supervisor = record.get("supervisor")
    return supervisor is not None and not _is_alive(supervisor)


def _is_alive(supervisor: dict[str, Any]) -> bool:
    return process.is_alive(supervisor.get("pid"), supervisor.get("identity"))


def _events(lines: Iterable[bytes]) -> Iterator[Line]:
    for line in lines:
        yield from transcript.translate(line.decode(errors="replace"))


# --- plain text --------------------------------------------------------------------------------


def _show(run: Run, events: Iterable[Line]) -> None:
    record = run.record()
    title = f": {record['title']}" if record.get("title") else ""
    output.out(f"run {run.id} of {run.agent}, task {record.get('task') or 'none'}{title}")
    for event in events:
        output.out(_plain(event))
        output.flush()
    record = run.record()
    for name in _telling_logs(run, record):
        _show_tail(run, name)
    for line in _ending(run, record):
        output.out(line)


def _plain(event: Line) -> str:
    """Return an event as text: its clock time, its kind, and what it says, indented."""
    clock = event.at[11:19] if event.at and len(event.at) >= 19 else ""
    return f"{clock:8} {event.kind:6}  " + event.text.replace("\n", "\n" + " " * 17)


def _telling_logs(run: Run, record: Record) -> list[str]:
    """Return the run's other logs that say why it ended as it did, or what it does now."""
    outcome = record.get("outcome") or {}
    reason = str(outcome.get("reason") or "")
    if outcome.get("verdict") in ("done", "no_change", "approved", "changes_requested"):
        return []
    names = []
    if reason.startswith("checks_failed") or record.get("status") == "concluding":
        names.append(CHECKS_LOG)
    if outcome and not reason.startswith("checks_failed"):
        names.append(runrecord.STDERR)
    return [*names, runrecord.SUPERVISOR_LOG]


def _show_tail(run: Run, name: str) -> None:
    lines = tail(os.path.join(run.folder, name))
    if lines:
        output.out(f"--- the end of {name}")
        for line in lines:
            output.out(f"  {line}")


def tail(path: str) -> list[str]:
    """Return a file's last lines; none when it is missing or empty."""
    file = _open(path)
    if file is None:
        return []
    with file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(size - TAIL_BYTES, 0))
        return file.read(TAIL_BYTES).decode(errors="replace").splitlines()[-TAIL_LINES:]


def _ending(run: Run, record: Record) -> Iterator[str]:
    outcome = record.get("outcome") or {}
    if record.get("status") != "finished" or not outcome:
        yield f"--- {_under_way(record)}"
        return
    yield f"--- ended: {outcome.get('verdict')}"
    for key in ("reason", "summary", "question", "feedback"):
        if outcome.get(key):
            yield f"  {key}: {outcome[key]}"
    if outcome.get("pr"):
        yield f"  pull request: orchestrator pr show {outcome['pr']}"
    cost = outcome.get("cost_usd")
    began, ended = record.get("created"), record.get("finished")
    took = f"{max(ended - began, 0):.0f} s" if began and ended else "unknown time"
    yield f"  {took}, {'unknown cost' if cost is None else f'{cost:.4f} USD'}"
    yield f"  files: {run.folder}"


def _under_way(record: Record) -> str:
    if not record:
        return "its record is missing or cannot be read; see: orchestrator doctor"
    if _is_alive(record.get("supervisor") or {}):
        return f"at work ({record.get('status')}); to go on watching: add --follow"
    return f"nobody has it in hand ({record.get('status')}); the next tick goes on with it"
