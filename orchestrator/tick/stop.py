"""Stops runs on a person's request, and waits until runs are settled."""

import signal
import time
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import Task
from orchestrator.project import agent_memory, run_record
from orchestrator.system import files, locks, process
from orchestrator.tick import lock, observe
from orchestrator.tick.tick import run_tick

#: Seconds that `end` waits for the runs to be settled, and its `patience` (see `settled`).
STOP_WAIT = 30.0
PATIENCE = 0.5
#: Seconds that `wake` waits for an active tick.
TICK_WAIT = locks.LONGEST_WAIT


def agent_at_work(layout: Layout, task: Task) -> str | None:
    """Return the agent with an unsettled run of a task.

    Raises OrchestratorError if that run is on another host: it cannot be stopped from here.
    """
    if task.claim_at == "elsewhere" and task.state == "claimed":
        message = f"{task.claimed_by} is working on {task.id} on the host {task.host}"
        hint = f"stop it there: orchestrator stop {task.claimed_by}"
        raise OrchestratorError(message, hint, code="running")
    if task.state != "claimed" or task.claimed_by is None or task.run is None:
        return None
    return task.claimed_by if agent_memory.read(layout, task.claimed_by).run == task.run else None


def ask(layout: Layout, agents: Iterable[str], reason: str) -> dict[str, str]:
    """Ask these agents' runs to stop, in files that outlast this process; return the runs' ids."""
    states = {agent: agent_memory.read(layout, agent) for agent in agents}
    runs = {agent: state.run for agent, state in states.items() if state.run is not None}
    for agent, run in runs.items():
        run_record.ask_to_stop(layout.run(agent, run), reason)
    return runs


def end(layout: Layout, runs: Mapping[str, str]) -> None:
    """Wait until runs (ids by agent) are settled. Raises OrchestratorError after `STOP_WAIT` s."""
    for agent, run in runs.items():
        record = run_record.read(layout.run(agent, run))
        known = record.supervisor if record else None
        if record is None or known is None or not known.is_alive():
            continue
        # A waiting supervisor then looks at once. At other stages it looks between its steps.
        if record.status == "running":
            process.signal_process(known.pid, signal.SIGTERM)
        # A stopped supervisor, and one that waits for a stopped git or check, looks at nothing.
        process.continue_stopped(known.pid)
    left = runs.keys() - set(settled(layout, runs, STOP_WAIT, PATIENCE))
    if left:
        message = f"not stopped yet: {', '.join(sorted(left))}"
        raise OrchestratorError(message, "see: orchestrator status", code="stop_slow")


def end_runs(layout: Layout, agents: Iterable[str], reason: str) -> dict[str, str]:
    """Stop these agents' runs now; return the ids of the runs by agent. Raises as `end` does."""
    runs = ask(layout, agents, reason)
    end(layout, runs)
    return runs


def settled(
    layout: Layout, runs: Mapping[str, str], seconds: float, patience: float
) -> Iterator[str]:
    """Yield each of these agents as soon as its run (an id) is settled, for at most `seconds`.

    The tick at a run's end normally settles it. This function runs a tick itself if a run has had
    no supervisor for more than `patience` seconds and is still not settled.
    """
    left = dict(runs)
    deadline = time.monotonic() + seconds
    unattended: dict[str, float] = {}
    while left:
        for agent, run in list(left.items()):
            state = agent_memory.read(layout, agent)
            record = run_record.read(layout.run(agent, run))
            if state.run != run:
                del left[agent]
                yield agent
            elif record is not None and observe.is_supervised(layout, agent, state, record):
                unattended.pop(agent, None)
            elif time.monotonic() - unattended.setdefault(agent, time.monotonic()) > patience:
                unattended.clear()
                run_tick(layout, time.time(), wait_for_lock=5.0)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def wake(layout: Layout, agents: Iterable[str]) -> list[str]:
    """End the suspension of agents after failures; return the agents that were suspended.

    An agent's memory is written only under the scheduler's lock, so this waits for an active tick.
    Raises LockHeld.
    """
    states = {agent: agent_memory.read(layout, agent) for agent in agents}
    if not any(state.suspended or state.question for state in states.values()):
        return []
    woken = []
    with lock.exclusive(layout, TICK_WAIT):
        for agent in states:
            state = agent_memory.read(layout, agent)
            if state.suspended:
                woken.append(agent)
            if state.suspended or state.question:
                changed = state._replace(suspended=None, question=None, failures=0)
                agent_memory.write(layout, agent, changed)
        # An idle tick looks at folders, not at the agents' memory.
        files.remove(layout.idle_stamp)
    return woken
