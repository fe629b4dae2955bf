"""What is remembered of an agent between ticks: `agents/<agent>/state.json`.

Written only under the scheduler's lock, in one atomic step each time, so that a settled run is
counted exactly once.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator import files
from orchestrator.layout import Layout


@dataclass
class Totals:
    """Sums over an agent's settled runs."""

    runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    seconds_running: float = 0.0


@dataclass
class AgentState:
    """One agent's memory. Times are seconds since the epoch."""

    last_started: float | None = None
    last_finished: float | None = None
    last_outcome: str | None = None
    last_reason: str | None = None
    #: The run that is not settled yet, and the last one that is.
    run: str | None = None
    last_run: str | None = None
    #: The supervisor that was started for it: {"pid", "identity"}.
    supervisor: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    #: Failures in a row of runs without a task, and why the scheduler paused the agent for them.
    failures: int = 0
    suspended: str | None = None
    #: A question that a run without a task asked.
    question: str | None = None
    totals: Totals = field(default_factory=Totals)
    #: US dollars by local day, for the last two days.
    spend: dict[str, float] = field(default_factory=dict)


def read(layout: Layout, agent: str) -> AgentState:
    """Return an agent's memory; an empty one when there is none or it cannot be read."""
    record = files.read_json(layout.agent_state(agent)) or {}
    known = AgentState.__dataclass_fields__
    values = {name: value for name, value in record.items() if name in known}
    totals = values.pop("totals", None)
    state = AgentState(**values)
    if isinstance(totals, dict):
        names = Totals.__dataclass_fields__
        state.totals = Totals(**{k: v for k, v in totals.items() if k in names})
    return state


def write(layout: Layout, agent: str, state: AgentState) -> None:
    files.make_folder(layout.agent(agent))
    files.write_json(layout.agent_state(agent), asdict(state))


def names(layout: Layout) -> list[str]:
    """Return the agents that have a folder, configured or not."""
    try:
        with os.scandir(layout.agents) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
