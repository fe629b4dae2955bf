"""Which run a name means: an agent's latest one, a task's latest one, or the run itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import Task
from orchestrator.project import agent_memory, events, run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.tasks import store as stores

#: How many runs of all agents are looked through, newest first, for those of a task.
MOST_SEARCHED = 2000
#: Bytes of the newest history that are read for a run whose folder is gone.
MOST_READ = 32 << 20
_RUN_ID = re.compile(r"[0-9]{8}T[0-9A-Za-z-]*")


class Run(NamedTuple):
    """One run's folder, and whose it is."""

    id: str
    agent: str
    folder: str

    def record(self) -> RunRecord | None:
        """Return the run's record; None when there is none, or it cannot be read."""
        return run_record.read(self.folder)


class Gone(NamedTuple):
    """A run whose folder is no longer kept, and the last that the history says of it."""

    id: str
    told: Mapping[str, Any]

    def sentence(self) -> str:
        agent, task, verdict = (self.told.get(key) for key in ("agent", "task", "verdict"))
        words = [f"run {self.id}", f" of {agent}" * bool(agent), f", task {task}" * bool(task)]
        ended = f", which ended {verdict}," if verdict else ""
        return f"{''.join(words)}{ended} is no longer kept (agents.yaml: retention.runs)"


def find(layout: Layout, subject: str) -> Run | Gone | None:
    """Return the run that a name means; None for an agent or a task that never ran.

    Raises NotFound, and OrchestratorError when the start of a run's id fits several.
    """
    if subject in agent_memory.names(layout):
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
        gone = Gone(subject, _last_told(layout, subject))
        if not gone.told:
            raise NotFound("agent, task or run", subject, [*known, *others])
        return gone
    return run


def _last_told(layout: Layout, run_id: str) -> Mapping[str, Any]:
    """Return the last event of a run in the project's history; empty when it has none there."""
    found: Mapping[str, Any] = {}
    for line in events.lines(layout, MOST_READ):
        if run_id.encode() in line:
            event = _parsed(line)
            found = event if event.get("run") == run_id else found
    return found


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _configured(layout: Layout) -> list[str]:
    from orchestrator.config import load

    return [agent.name for agent in load.settings(layout, write_cache=False).config.agents]


def _task(layout: Layout, subject: str) -> tuple[Task | None, list[str]]:
    """Return the task of that id, or None and the ids of those that could have been meant."""
    store = stores.of_project(layout)
    try:
        return store.find(subject), []
    except NotFound:
        return None, [t.id for state in ("incoming", "claimed") for t in store.list(state).tasks]


def _latest(layout: Layout, agent: str) -> Run | None:
    state = agent_memory.read(layout, agent)
    ids = {run.id: run for run in _runs(layout, [agent])}
    newest = state.run if state.run in ids else max(ids, default=None)
    return ids[newest] if newest else None


def _runs(layout: Layout, agents: Iterable[str] | None = None) -> list[Run]:
    """Return every run that has a folder, newest first: ids begin with their time."""
    found = []
    for agent in agent_memory.names(layout) if agents is None else agents:
        try:
            with os.scandir(layout.runs(agent)) as entries:
                ids = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            continue
        found += [Run(run_id, agent, layout.run(agent, run_id)) for run_id in ids]
    return sorted(found, key=lambda run: run.id, reverse=True)


def _run_of_task(layout: Layout, task_id: str, task: Task | None) -> Run | Gone | None:
    runs = _runs(layout)
    if task is not None and task.run is not None:
        known = next((run for run in runs if run.id == task.run), None)
        return known or Gone(task.run, _last_told(layout, task.run))
    for run in runs[:MOST_SEARCHED]:
        record = run.record()
        if record is not None and record.task == task_id:
            return run
    return None
