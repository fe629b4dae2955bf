"""The runs that no tick has settled yet: as the agents remember them, or as git's locks show.

An agent's folder can be deleted while its client works. The lock of the run's worktree remains: it
is in git's own folder, and only the tick that settles the run removes it. If a person deletes that
too, the processes of the run still say whose they are.
"""

import os
from collections.abc import Iterator, Mapping

from orchestrator.git import run_locks
from orchestrator.layout import Layout
from orchestrator.project import agent_memory
from orchestrator.project.agent_memory import AgentState
from orchestrator.system import files, process


def runs(layout: Layout, *, look: bool = True) -> dict[str, str]:
    """Return the ids of unsettled runs, by agent; `look` as in `forgotten`.

    Raises OSError if the disk does not give an agent's memory: nobody knows what it has.
    """
    names = agent_memory.names(layout)
    states = {name: agent_memory.read(layout, name, surely=True) for name in names}
    known = {name: state.run for name, state in states.items() if state.run}
    return {**dict(forgotten(layout, states, look=look)), **known}


def run_of(layout: Layout, agent: str) -> str | None:
    """Return the id of an agent's unsettled run; None without one. Raises as `runs` does."""
    state = agent_memory.read(layout, agent, surely=True)
    if state != AgentState():
        return state.run
    return dict(forgotten(layout, {agent: state}, look=True)).get(agent)


def forgotten(
    layout: Layout, states: Mapping[str, AgentState], *, look: bool
) -> Iterator[tuple[str, str]]:
    """Yield agent and id of each unsettled run whose agent has lost its memory.

    `states` are the memories that are there. `look`: also at all processes, which takes some
    milliseconds.
    """
    # A copy of this project has the locks of the project that it was copied from.
    found = {
        (agent, run)
        for top, run, agent in run_locks.held(layout.root)
        if os.path.realpath(top) == os.path.realpath(layout.worktree(agent))
    }
    if look:
        found |= process.runs_in(layout.root)
    for agent, run in sorted(found):
        is_plain = all(map(files.is_plain_name, (run, agent)))
        if is_plain and states.get(agent, AgentState()) == AgentState():
            yield agent, run
