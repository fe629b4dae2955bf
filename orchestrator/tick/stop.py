"""Stops runs on a person's request, and waits until runs are settled."""

import itertools
import signal
import time
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import Task
from orchestrator.project import agent_memory, run_record, unsettled
from orchestrator.system import disk, files, locks, process
from orchestrator.system.process import ProcessId
from orchestrator.tasks import stores
from orchestrator.tick import lock, observe
from orchestrator.tick.tick import run_tick

#: Seconds that `end` waits for the runs to be settled, and its `patience` (see `settled`).
STOP_WAIT = 30.0
PATIENCE = 0.5
#: Seconds that a supervisor gets to look at the request by itself: between its steps, or while it
#: waits for the client. Then what it waits for is ended, and again after each `END_AGAIN` seconds,
#: which must be longer than `PATIENCE`.
GRACE = 6.0
END_AGAIN = 1.0
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
    return task.claimed_by if unsettled.run_of(layout, task.claimed_by) == task.run else None


def ask(layout: Layout, agents: Iterable[str] | None, reason: str) -> dict[str, str]:
    """Ask agents' runs to stop, in files that outlast this process; return the ids of the runs.

    `agents` are the agents; None for all. Raises OSError if the disk does not give a memory.
    """
    runs = unsettled.runs(layout)
    if agents is not None:
        runs = {agent: runs[agent] for agent in agents if agent in runs}
    for agent, run in runs.items():
        folder = layout.run(agent, run)
        try:
            run_record.ask_to_stop(folder, reason)
        except OSError as error:
            record = run_record.read(folder)
            if error.errno not in disk.ERRORS or record is None or record.client is None:
                raise
            if record.is_elsewhere(folder):
                continue
            # A client can fill the disk: it ends without the request, and its run is interrupted.
            process.end_run(record.client.pid, record.client.identity, run)
    return runs


def end(layout: Layout, runs: Mapping[str, str]) -> None:
    """Wait until runs (ids by agent) are settled. Raises OrchestratorError after `STOP_WAIT` s."""
    for agent, run in runs.items():
        folder = layout.run(agent, run)
        record = run_record.read(folder)
        known = _supervisor(layout, agent, run)
        if record is None and not run_record.is_withheld(folder):
            # Its files were deleted: its supervisor finds no request, and the record no client.
            process.end_run(None, None, run)
        if record is None or known is None:
            continue
        # A waiting supervisor then looks at once. At other stages it looks between its steps.
        if record.status == "running":
            process.signal_process(known.pid, signal.SIGTERM)
        # A stopped supervisor, and one that waits for a stopped git or check, looks at nothing.
        process.continue_stopped(known.pid)
    began, left = time.monotonic(), dict(runs)
    for wait in itertools.chain([GRACE], itertools.repeat(END_AGAIN)):
        for agent in settled(layout, left, wait, PATIENCE):
            del left[agent]
        if not left:
            return
        if time.monotonic() - began > STOP_WAIT or _only_space_lacks(layout, left):
            break
        for agent, run in left.items():
            _end_hanging(layout, agent, run)
    raise _slow(layout, left)


def _slow(layout: Layout, left: Mapping[str, str]) -> OrchestratorError:
    """Return the error for runs that did not end; it names a foreign holder of an agent's lock."""
    who = f"not stopped yet: {', '.join(sorted(left))}"
    if (short := disk.shortage(layout.home)) and _only_space_lacks(layout, left):
        message = f"ended: the clients of {', '.join(sorted(left))}, but {short.why}"
        hint = "free space (see: df); then their tasks return to the queue with the next tick"
        return OrchestratorError(message, hint, code="stop_slow")
    for agent, run in left.items():
        known = _supervisor(layout, agent, run)
        for path, holder in locks.held([layout.agent_lock(agent)]):
            if known is None or holder.pid != known.pid:
                message = f"{who}: {path} is held by {holder.named()}"
                return OrchestratorError(message, holder.hint(), code="stop_slow")
    return OrchestratorError(who, "see: orchestrator status", code="stop_slow")


def _only_space_lacks(layout: Layout, left: Mapping[str, str]) -> bool:
    """Return whether no client of these runs lives, and the disk cannot take what follows."""
    if disk.shortage(layout.home) is None:
        return False
    records = (run_record.read(layout.run(agent, run)) for agent, run in left.items())
    return not any(each and each.client and each.client.process.is_alive() for each in records)


def _supervisor(layout: Layout, agent: str, run: str) -> ProcessId | None:
    """Return the living supervisor of a run, as the run or else the agent's memory names it."""
    record = run_record.read(layout.run(agent, run))
    if record is not None and record.is_elsewhere(layout.run(agent, run)):
        return None
    known = (record and record.supervisor, agent_memory.read(layout, agent, surely=True).supervisor)
    return next((each for each in known if each and each.is_alive()), None)


def _end_hanging(layout: Layout, agent: str, run: str) -> None:
    """End what keeps a supervisor from looking at the request: a git or a check that hangs.

    Before the client starts, the supervisor itself is ended: it may wait for a lock, and the one
    that takes its place sees the request first. Once the client has ended, the supervisor lives on
    to keep the work.
    """
    known = _supervisor(layout, agent, run)
    record = run_record.read(layout.run(agent, run))
    if known is None or record is None or record.status not in ("starting", "concluding"):
        return
    for pid in process.below(known.pid):
        process.signal_process(pid, signal.SIGKILL)
    if record.status == "starting":
        process.signal_process(known.pid, signal.SIGKILL)


def end_runs(layout: Layout, agents: Iterable[str] | None, reason: str) -> dict[str, str]:
    """Stop these agents' runs now (None: all agents'); return the ids of the runs by agent.

    Raises as `ask` and `end` do.
    """
    runs = ask(layout, agents, reason)
    end(layout, runs)
    return runs


def end_unpaused(layout: Layout, agents: Iterable[str] | None, error: OSError) -> OrchestratorError:
    """Stop agents' runs (None: all) although agents.yaml cannot be written; return the error."""
    try:
        ended = end_runs(layout, agents, "stopped")
        said = f"runs of {', '.join(ended)} were ended" if ended else "no run was active"
    except OrchestratorError as slow:
        said = slow.message
    message = f"nothing is paused ({error.filename}: {error.strerror}); {said}"
    hint = (
        "correct this (space: df; owner and permissions: ls -l), then repeat the command: until "
        "then, each tick may start runs again"
    )
    return OrchestratorError(message, hint, code="unpaused")


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
            state = agent_memory.read(layout, agent, surely=True)
            record = run_record.read(layout.run(agent, run))
            if unsettled.run_of(layout, agent) != run:
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
    states = {agent: agent_memory.read(layout, agent, surely=True) for agent in agents}
    if not any(state.suspended or state.question for state in states.values()):
        return []
    woken = []
    with lock.exclusive(layout, TICK_WAIT):
        for agent in states:
            state = agent_memory.read(layout, agent, surely=True)
            if state.suspended:
                woken.append(agent)
            if state.suspended or state.question:
                # Other hosts show it in their inboxes.
                stores.of_project(layout).end(agent, "", agent_memory.values(state.awake()))
                agent_memory.write(layout, agent, state.awake())
        # An idle tick looks at folders, not at the agents' memory.
        files.remove(layout.idle_stamp)
    return woken
