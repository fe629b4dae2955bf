"""Processes that stand still: stopped supervisors and clients, and holders of the project's locks.

Nothing here takes a lock, except to confirm that one is held.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.layout import Layout
from orchestrator.model.config import FORGES
from orchestrator.model.snapshot import Problem, RunView
from orchestrator.model.work import Task
from orchestrator.project import agent_memory, run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.system import locks, process
from orchestrator.tasks import stores
from orchestrator.tick.observe import Observation

#: Seconds for which a lock must be held before it is a problem, if processes wait for this lock.
#: Each change takes milliseconds.
LONG = 1.0
#: Seconds after a run's time limit at which a tick continues its stopped supervisor.
SPARE = 60.0


def lock_paths(layout: Layout) -> dict[str, bool]:
    """Return the project's locks, except those of the tick and of agents.

    The value says whether a process holds the lock only for milliseconds.
    """
    in_cache = ("config", "fetch", "keeping", "landing", "look", "soon", "waiting")
    return {
        **{path: True for path in stores.of_project(layout).places() if path.endswith(".lock")},
        **{os.path.join(layout.records(forge), ".lock"): True for forge in FORGES},
        layout.events: True,
        **{os.path.join(layout.cache, f"{name}.lock"): False for name in in_cache},
    }


def stop_lost(
    layout: Layout, runs: Iterable[RunView], claimed: Iterable[Task], others: Iterable[RunView]
) -> Iterator[RunView]:
    """Ask runs to stop whose task, or whose agent, another host has by now; yield them.

    This host was silent for too long, and counted as dead.
    """
    own = {(task.id, task.run) for task in claimed}
    taken = {run.agent for run in others}
    for run in runs:
        is_lost = (run.task, run.id) not in own if run.task else run.agent in taken
        folder = layout.run(run.agent, run.id)
        if run.alive and is_lost and run_record.stop_reason(folder) is None:
            run_record.ask_to_stop(folder, "given to another host")
            yield run


def held_locks(layout: Layout) -> dict[str, locks.Holder]:
    """Return the project's locks that a process holds, those of the tick and of agents, too."""
    agents = map(layout.agent_lock, agent_memory.names(layout))
    return dict(locks.held((layout.scheduler_lock, *agents, *lock_paths(layout))))


def problems(
    layout: Layout, seen: Observation, known: Mapping[str, locks.Holder]
) -> Iterator[Problem]:
    """Yield a problem for each run that stands still, and for each lock that is held for long.

    `known` are the locks that are held. The tick's own lock is another problem (`lock.trouble`).
    """
    for record in seen.records.values():
        yield from _of_run(record)
    yield from lost(layout, seen.snapshot.runs, seen.records)
    is_brief = lock_paths(layout)
    # A supervisor keeps the lock of its agent; another process that does stops this agent.
    supervisors = {record.supervisor.pid for record in seen.records.values() if record.supervisor}
    for path, found in known.items():
        is_own = path not in is_brief and found.pid in supervisors
        if path == layout.scheduler_lock or is_own:
            continue
        if found.is_stopped or (is_brief.get(path) and _keeps(path, found)):
            yield Problem("lock_held", f"{path} is held by {found.named()}", found.hint())


def _of_run(record: RunRecord) -> Iterator[Problem]:
    parts = {
        "its supervisor": record.supervisor,
        "the client": record.client.process if record.client else None,
    }
    for what, known in parts.items():
        if known and known.is_alive() and process.is_stopped(known.pid):
            yield Problem(
                "run_stopped",
                f"the run {record.id} of {record.agent} makes no progress: {what} (process "
                f"{known.pid}) is stopped (SIGSTOP)",
                f"continue it: kill -CONT {known.pid}; or end the run: orchestrator stop "
                f"{record.agent}",
            )


def lost(
    layout: Layout, runs: Iterable[RunView], known: Mapping[str, RunRecord]
) -> Iterator[Problem]:
    """Yield a problem for each run of this host without a record; `known` has those with one."""
    for run in runs:
        if run.host is None and run.id not in known:
            yield _lost(layout, run)


def _lost(layout: Layout, run: RunView) -> Problem:
    """Return the problem that the record of a run is gone, or that the disk does not give it."""
    folder = layout.run(run.agent, run.id)
    path = os.path.join(folder, run_record.RECORD)
    if run_record.is_withheld(folder):
        why, hint = "the disk does not give its record", f"check the disk of {path}"
    elif run.alive:
        why = "its record is gone, and its supervisor still works"
        hint = f"end it: orchestrator stop {run.agent}; its commits stay on its branch"
    else:
        why = "its record is gone"
        hint = "no action needed: the next tick ends its processes; commits stay on its branch"
    return Problem("run_lost", f"the run {run.id} of {run.agent}: {why} ({path})", hint)


def _keeps(path: str, found: locks.Holder) -> bool:
    """Return whether a process keeps a lock for `LONG` seconds."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        if all(now.pid != found.pid for _, now in locks.held([path])):
            return False
        time.sleep(0.05)
    return True


def continue_overdue(records: Mapping[str, RunRecord], now: float) -> Iterator[RunRecord]:
    """Continue stopped supervisors whose runs are over their time limit; yield these runs.

    A stopped supervisor enforces no limit. Once it continues, it ends the run.
    """
    for record in records.values():
        known, limit = record.supervisor, record.settings.max_runtime_seconds + SPARE
        is_late = now - record.created > limit
        if is_late and known and known.is_alive() and process.is_stopped(known.pid):
            process.continue_stopped(known.pid)
            yield record
