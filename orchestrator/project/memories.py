"""What the agents remember (`agent_memory`) on all hosts that share the queue."""

from collections.abc import Iterable, Iterator

from orchestrator.layout import Layout
from orchestrator.project import agent_memory
from orchestrator.project.agent_memory import AgentState, Totals
from orchestrator.tasks import stores
from orchestrator.tasks.sharing import Elsewhere

#: Host, agent, and what the agent remembers there.
Remembered = tuple[str, str, AgentState]


def of_others(elsewhere: Elsewhere) -> list[Remembered]:
    """Return what the agents remember on the other hosts."""
    return [(host, name, agent_memory.from_values(m)) for host, name, m in elsewhere.memories]


def everywhere(layout: Layout) -> Iterator[tuple[str, AgentState]]:
    """Yield the agents with their memories, for each host that shares the queue."""
    yield from agent_memory.every(layout).items()
    for _, name, state in of_others(stores.of_project(layout).elsewhere()):
        yield name, state


def totals(memories: Iterable[tuple[str, AgentState]]) -> dict[str, Totals]:
    """Return the sums over each agent's settled runs. Pure."""
    found: dict[str, Totals] = {}
    for name, state in memories:
        found[name] = agent_memory.added((found.get(name, Totals()), state.totals))
    return found
