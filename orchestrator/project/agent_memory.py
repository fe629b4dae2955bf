"""An agent's memory between ticks: `agents/<agent>/state.json`.

It is written only under the scheduler's lock, in one atomic step each time, so that a settled run
is counted exactly once.
"""

import os
from collections.abc import Iterable, Iterator, Mapping

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.fields import NamedTuple
from orchestrator.system import disk, files, records
from orchestrator.system.process import ProcessId
from orchestrator.text.words import day


class Totals(NamedTuple):
    """Sums over an agent's settled runs."""

    runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    seconds_running: float = 0.0


def added(several: Iterable[Totals]) -> Totals:
    """Return the sums of several sums."""
    return Totals(*map(sum, zip(Totals(), *several, strict=True)))


class AgentState(NamedTuple):
    """One agent's memory. Times are seconds since the epoch."""

    last_started: float | None = None
    last_finished: float | None = None
    last_outcome: str | None = None
    last_reason: str | None = None
    #: The unsettled run, and the last settled run.
    run: str | None = None
    last_run: str | None = None
    #: The supervisor that was started for it.
    supervisor: ProcessId | None = None
    #: How often a supervisor was started again, and the stage of the run that this was in.
    restarts: int = 0
    restarted_in: str | None = None
    #: Failures in a row of runs without a task, and why the scheduler paused the agent for them.
    failures: int = 0
    suspended: str | None = None
    #: A question that a run without a task asked.
    question: str | None = None
    totals: Totals = Totals()
    #: The number of settled runs by verdict.
    outcomes: Mapping[str, int] = {}
    #: US dollars by local day (`2026-01-31`), for about a week.
    spend: Mapping[str, float] = {}

    def idle(self) -> "AgentState":
        """Return the same memory without a run."""
        return self._replace(run=None, supervisor=None, restarts=0, restarted_in=None)

    def awake(self) -> "AgentState":
        """Return the same memory without a pause after failures, and without a question."""
        return self._replace(suspended=None, question=None, failures=0)

    def was_woken(self, told: "AgentState") -> bool:
        """Whether a person on another host ended the pause or the question (`Store.wake`).

        `told` is this memory as the other hosts have it. Of another run, it is older or newer.
        """
        waits = self.suspended or self.question
        return bool(waits) and told == told.awake() and told.last_run == self.last_run

    def of_day(self, day: str) -> "AgentState | None":
        """Return only the facts by local day; None if there is no such fact about `day`.

        `init --uninstall` keeps these facts: if the project is set up again on the same day, the
        day's limits count them.
        """
        return AgentState(spend=self.spend) if self.spend.get(day) else None


def read(layout: Layout, agent: str, *, surely: bool = False) -> AgentState:
    """Return an agent's memory; a value that is missing or of the wrong type has its default.

    `surely` is for those who write it back, or act on it: raises OSError if the disk does not give
    the file (EIO, ESTALE). Otherwise the agent's totals and its spend of today would be forgotten.
    """
    path = layout.agent_state(agent)
    found = files.read_json(path)
    if found is None and surely and (error := disk.withheld(path)) is not None:
        raise error
    return from_values(found or {})


def every(layout: Layout, *, surely: bool = False) -> dict[str, AgentState]:
    """Return the memories of all agents, by name; `surely` as `read`."""
    return {name: read(layout, name, surely=surely) for name in names(layout)}


def from_values(found: Mapping[str, object]) -> AgentState:
    """Return the memory that JSON values describe, as `read` does."""
    state = records.build(AgentState, found) or AgentState()
    return state._replace(
        # These name a folder.
        run=state.run if files.is_plain_name(state.run) else None,
        last_run=state.last_run if files.is_plain_name(state.last_run) else None,
    )


def spent(states: Iterable[AgentState], now: float) -> float:
    """Return the US dollars that agents have cost on the local day of `now` (epoch seconds)."""
    today = day(now)
    return sum(state.spend.get(today, 0.0) for state in states)


def values(state: AgentState) -> dict[str, object]:
    """Return a memory as JSON values, for `from_values`."""
    return {name: records.plain(value) for name, value in state._asdict().items()}


def write(layout: Layout, agent: str, state: AgentState) -> None:
    """Replace an agent's memory, under the scheduler's lock. Raises OSError."""
    files.make_folder(layout.agent(agent))
    files.write_json(layout.agent_state(agent), records.plain(state))


def follow_wakes(layout: Layout, told: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """Resume agents that a person resumed on another host; yield their names.

    `told` is what the other hosts know of this host's agents (`tasks.sharing.Elsewhere.own`). To be
    called under the scheduler's lock.
    """
    for name, known in told.items():
        state = read(layout, name, surely=True)
        if state.was_woken(from_values(known)):
            write(layout, name, state.awake())
            yield name


def lost(layout: Layout, states: Mapping[str, AgentState], configured: Iterable[str]) -> list[str]:
    """Return the configured agents whose memory may have been deleted.

    `states` are all memories. An agent without a folder is new, if no folder has come or gone since
    the last `note_folders`.
    """
    empty = [name for name in configured if states.get(name, AgentState()) == AgentState()]
    if empty and files.content(layout.agents_seen) == folders_mark(layout):
        empty = [name for name in empty if os.path.isdir(layout.agent(name))]
    return [name for name in empty if not os.path.lexists(layout.agent_state(name))]


def folders_mark(layout: Layout) -> bytes:
    """Return a value that changes when an agent's folder comes or goes."""
    return repr(idle.mark(layout.agents)).encode()


def note_folders(layout: Layout, seen: bytes) -> None:
    """Note that no memory is lost in folders with this `folders_mark`. Raises OSError."""
    files.write_atomic(layout.agents_seen, seen, flush=False)


def closed(layout: Layout, agent: str) -> tuple[str, str] | None:
    """Return why nothing can be kept of an agent or its runs, and what to do; None if it can."""
    path = layout.agent_state(agent)
    if os.path.isdir(path):  # no write replaces it
        return f"{path} is not a regular file", disk.move_aside(path)
    places = filter(os.path.lexists, (layout.agent(agent), layout.runs(agent)))
    return next(filter(None, map(disk.unwritable, places)), None)


def names(layout: Layout) -> list[str]:
    """Return the agents that have a folder, configured or not."""
    return files.folders(layout.agents)
