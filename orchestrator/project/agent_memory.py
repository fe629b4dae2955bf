"""An agent's memory between ticks: `agents/<agent>/state.json`.

It is written only under the scheduler's lock, in one atomic step each time, so that a settled run
is counted exactly once.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import os
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from orchestrator.layout import Layout
from orchestrator.system import files


class Totals(NamedTuple):
    """Sums over an agent's settled runs."""

    runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    seconds_running: float = 0.0


class AgentState(NamedTuple):
    """One agent's memory. Times are seconds since the epoch."""

    last_started: float | None = None
    last_finished: float | None = None
    last_outcome: str | None = None
    last_reason: str | None = None
    #: The unsettled run, and the last settled run.
    run: str | None = None
    last_run: str | None = None
    #: The supervisor that was started for it: {"pid", "identity"}.
    supervisor: Mapping[str, Any] = {}
    #: How often a supervisor was started again, and the stage of the run that this was in.
    restarts: int = 0
    restarted_in: str | None = None
    #: Failures in a row of runs without a task, and why the scheduler paused the agent for them.
    failures: int = 0
    suspended: str | None = None
    #: A question that a run without a task asked.
    question: str | None = None
    totals: Totals = Totals()
    #: US dollars by local day, for about a week.
    spend: Mapping[str, float] = {}

    def idle(self) -> "AgentState":
        """Return the same memory without a run."""
        return self._replace(run=None, supervisor={}, restarts=0, restarted_in=None)


_NUMBER = (int, float)
_TEXT = (str, type(None))
_KINDS: dict[str, tuple[type, ...]] = {
    "last_started": (*_NUMBER, type(None)),
    "last_finished": (*_NUMBER, type(None)),
    "last_outcome": _TEXT,
    "last_reason": _TEXT,
    "run": _TEXT,
    "last_run": _TEXT,
    "supervisor": (dict,),
    "restarts": (int,),
    "restarted_in": _TEXT,
    "failures": (int,),
    "suspended": _TEXT,
    "question": _TEXT,
}


def read(layout: Layout, agent: str) -> AgentState:
    """Return an agent's memory; a value that is missing or of the wrong type has its default."""
    record = files.read_json(layout.agent_state(agent)) or {}
    values = {n: v for n, v in record.items() if n in _KINDS and files.fits(v, _KINDS[n])}
    for name in ("run", "last_run"):
        # Readers use it as the name of a folder.
        if not files.is_plain_name(values.get(name)):
            values.pop(name, None)
    state = AgentState(**values)
    known = files.fits(state.supervisor.get("pid"), (int,))
    return state._replace(
        supervisor=state.supervisor if known else {},
        totals=Totals(**_numbers(record.get("totals"), Totals._fields)),
        spend=_numbers(record.get("spend"), None),
    )


def _numbers(found: object, names: Container[str] | None) -> dict[str, Any]:
    if not isinstance(found, dict):
        return {}
    wanted = {n: v for n, v in found.items() if names is None or n in names}
    return {n: v for n, v in wanted.items() if files.fits(v, _NUMBER) and 0 <= v < 1e15}


def write(layout: Layout, agent: str, state: AgentState) -> None:
    files.make_folder(layout.agent(agent))
    files.write_json(
        layout.agent_state(agent), {**state._asdict(), "totals": state.totals._asdict()}
    )


def names(layout: Layout) -> list[str]:
    """Return the agents that have a folder, configured or not."""
    try:
        with os.scandir(layout.agents) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
