"""Finds the run that a name means: the latest run of an agent or a task, or the run itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from orchestrator.cli import context
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.project import agent_memory, events, run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.system import files
from orchestrator.tasks import stores

#: How many runs of all agents are looked through, newest first, for those of a task.
MOST_SEARCHED = 2000
#: Bytes of the newest events that are read for a run whose folder is gone.
MOST_READ = 32 << 20
_RUN_ID = r"[0-9]{8}T[0-9A-Za-z-]*"


class Run(NamedTuple):
    """One run's folder, and its agent."""

    id: str
    agent: str
    folder: str

    def record(self) -> RunRecord | None:
        """Return the run's record; None if it is missing or cannot be read."""
        return run_record.read(self.folder)


def find(layout: Layout, subject: str) -> Run | str:
    """Return the run that a name means; if there is no run to show, a text that says why.

    Raises NotFound, and OrchestratorError when the start of a run's id fits several.
    """
    never = f"{subject} has not run yet\n  see why: orchestrator explain {subject}"
    if subject in agent_memory.names(layout):
        runs, state = _runs(layout, [subject]), agent_memory.read(layout, subject)
        active = (run for run in runs if run.id == state.run)
        return next(active, runs[0] if runs else never)
    import re  # a command that names an agent needs no pattern

    if re.fullmatch(_RUN_ID, subject):
        found = [run for run in _runs(layout) if run.id.startswith(subject)]
        fitting = [run for run in found if run.id == subject] or found
        if len(fitting) == 1:
            return fitting[0]
        if found:
            some = ", ".join(run.id for run in found[:3])
            message = f"{len(found)} runs begin with {subject}: {some}"
            raise OrchestratorError(message, "type more characters of the run id")
    agents = [agent.name for agent in context.settings(layout).config.agents]
    for run in stores.of_project(layout).elsewhere().runs:
        if subject == run.agent:
            return _elsewhere(run.id, str(run.host))
    return (subject not in agents and _run_of_task(layout, subject, agents)) or never


def _runs(layout: Layout, agents: Iterable[str] | None = None) -> list[Run]:
    """Return every run that has a folder, newest first: ids begin with their time."""
    found = []
    for agent in agent_memory.names(layout) if agents is None else agents:
        ids = files.folders(layout.runs(agent))
        found += [Run(run_id, agent, layout.run(agent, run_id)) for run_id in ids]
    return sorted(found, key=lambda run: run.id, reverse=True)


def _run_of_task(layout: Layout, name: str, agents: list[str]) -> Run | str | None:
    """Return the latest run of a task, or what is known of a run that is gone. Raises NotFound."""
    store, runs, task, known = stores.of_project(layout), _runs(layout), None, tuple(agents)
    try:
        task = store.find(name)
    except NotFound as error:
        known += error.known
    if task is not None and task.run is not None:
        own = next((run for run in runs if run.id == task.run), None)
        if own is None and task.host not in (None, store.host):
            return _elsewhere(task.run, str(task.host))
        return own or _gone(layout, task.run)
    searched = ((run, run.record()) for run in runs[:MOST_SEARCHED])
    run = next((run for run, record in searched if record and record.task == name), None)
    if run is None and task is None:
        if _last_event(layout, name):
            return _gone(layout, name)
        raise NotFound("agent, task or run", name, known)
    return run


def _last_event(layout: Layout, run_id: str) -> Mapping[str, Any]:
    """Return the last event of a run in the project's events; {} without such an event."""
    of_run = (
        e
        for e in events.read(layout, MOST_READ, run_id, of_all_hosts=True)
        if e.get("run") == run_id
    )
    return next(iter(deque(of_run, maxlen=1)), {})


def _elsewhere(run_id: str, host: str) -> str:
    return f"run {run_id} is on the host {host}: run the same command there"


def _gone(layout: Layout, run_id: str) -> str:
    """Return what the last event of a run says about it; its folder is not here."""
    told = _last_event(layout, run_id)
    if told.get("host") not in (None, stores.of_project(layout).host):
        return _elsewhere(run_id, str(told["host"]))
    agent, task, verdict = (told.get(key) for key in ("agent", "task", "verdict"))
    of = f" of {agent}" * bool(agent) + f", task {task}" * bool(task)
    ended = f", which ended {verdict}," if verdict else ""
    return f"run {run_id}{of}{ended} is no longer kept (agents.yaml: retention.runs)"
