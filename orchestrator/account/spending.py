"""What runs cost today, also when a person deleted what the agents remember.

An agent's memory (`project.agent_memory`) has its cost of the day. Without the memory, the events
and a shared queue still know what its runs cost. If they are gone too, that is a problem.
"""

import time
from collections.abc import Iterable, Mapping

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.snapshot import Problem
from orchestrator.project import agent_memory, events, mark, memories
from orchestrator.project.agent_memory import AgentState
from orchestrator.system import files
from orchestrator.system.later import Later
from orchestrator.tasks import stores
from orchestrator.tasks.sharing import Elsewhere
from orchestrator.text import words

if TYPE_CHECKING:
    from orchestrator.account import ledger
else:
    ledger = Later("account.ledger")

#: Seconds before now whose runs are looked at: longer than a local day, which can have 25 hours.
_RECENT = 100_000.0
_NOTHING = AgentState()


def forgotten(
    layout: Layout,
    config: Config,
    states: Mapping[str, AgentState],
    elsewhere: Elsewhere,
    now: float,
) -> dict[str, AgentState]:
    """Return what is known of the agents whose memory is gone; `states` are all memories.

    Empty as long as no configured agent can have lost its memory. `now` is epoch seconds. Events
    that cannot be read, of which others tell, have nothing. Raises StoreFault.
    """
    if not agent_memory.lost(layout, states, (agent.name for agent in config.agents)):
        return {}
    since = now - _RECENT
    spend: dict[str, dict[str, float]] = {}
    try:
        told = events.read(layout, events.MOST_READ, kinds=ledger.ENDS, since=since)
        runs = ledger.collect(told, since)
    except OSError:
        runs = []
    for run in runs:
        agent, cost = run.told.agent, run.told.cost_usd
        if cost and files.is_plain_name(agent):
            of_agent, day = spend.setdefault(agent, {}), words.day(run.ended)
            of_agent[day] = of_agent.get(day, 0.0) + cost
    found = {name: AgentState(spend=days) for name, days in spend.items()}
    found |= {name: agent_memory.from_values(known).idle() for name, known in elsewhere.own.items()}
    return {n: s for n, s in found.items() if states.get(n, _NOTHING) == _NOTHING and s != _NOTHING}


def today(layout: Layout, config: Config, now: float) -> float:
    """Return the US dollars that all agents have cost on the local day of `now` (epoch seconds).

    Raises StoreFault.
    """
    own = agent_memory.every(layout)
    elsewhere = stores.of_project(layout).elsewhere()
    own |= forgotten(layout, config, own, elsewhere, now)
    others = (state for *_, state in memories.of_others(elsewhere))
    return agent_memory.spent((*own.values(), *others), now)


def note_loss(layout: Layout, states: Iterable[AgentState] | None = None) -> None:
    """If the queue was deleted, and with it all that says what runs cost, leave a note of that.

    `states` is what is known of the agents; without it, what they remember. The note lasts for the
    day: see `loss`.
    """
    if mark.queue_missing(layout) is None:
        return
    if states is None:
        states = (agent_memory.read(layout, name) for name in agent_memory.names(layout))
    if all(state == _NOTHING for state in states):
        files.make_folder(layout.home)
        files.write_atomic(layout.costs_lost, b"")


def loss(layout: Layout, config: Config, now: float) -> list[Problem]:
    """Return the problem that it is not known what runs cost today, before a time of this day."""
    noted, cap = idle.mark(layout.costs_lost), config.budgets.daily_usd
    if noted is None or cap is None or words.day(at := noted[1] / 1e9) != words.day(now):
        return []
    clock = time.strftime("%H:%M", time.localtime(at))
    message = (
        f"what runs cost today before {clock} is not known: its records were deleted"
        f" (git clean -x deletes ignored files), so they can cost more than {cap:g} USD today"
    )
    hint = "see your account's usage; for today, lower budgets.daily_usd in agents.yaml"
    return [Problem("costs_lost", message, hint)]
