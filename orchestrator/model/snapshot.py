"""What a tick sees, and what it decides.

`None` always means "not known", never zero.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from collections.abc import Mapping, Sequence

from orchestrator.model.config import Role
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Task


class UsageWindow(NamedTuple):
    """How much of a usage window of the account is used."""

    #: 0 to 1.
    share: float
    #: When the window resets, in seconds since the epoch.
    resets: float


class ModelUse(NamedTuple):
    """What one model cost in one run."""

    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0


class Commit(NamedTuple):
    """A commit that a run delivered: its full id, and the first line of its message."""

    commit: str
    subject: str


class Outcome(NamedTuple):
    """How a run ended. `verdict` is one of VERDICTS; the rest depends on it."""

    verdict: str
    reason: str | None = None
    summary: str | None = None
    feedback: str | None = None
    question: str | None = None
    pr: str | None = None
    head: str | None = None
    branch: str | None = None
    #: What was delivered, the newest commit first; None: not known.
    commits: tuple[Commit, ...] | None = None
    #: When a usage limit resets.
    until: float | None = None
    session: str | None = None
    cost_usd: float | None = None
    #: Of this run; with `adds_up`, the client reported those of the whole conversation.
    input_tokens: int | None = None
    output_tokens: int | None = None
    adds_up: bool = False
    #: The agent's model, and what each model cost, as far as the client reported it.
    model: str | None = None
    models: Mapping[str, ModelUse] = {}
    #: What a person can do about a system fault.
    hint: str | None = None
    #: False if the client refused to start: the conversation to continue is unchanged.
    began: bool = True
    #: The account's usage windows, by name, as far as the client reported them.
    usage: Mapping[str, UsageWindow] = {}


#: Seven that the client reports, and five that the supervisor finds.
VERDICTS = (
    *("done", "no_change", "split", "approved", "changes_requested", "needs_human", "failed"),
    *("usage_limit", "system_fault", "interrupted", "stopped", "moved"),
)


class RunView(NamedTuple):
    """A run that is not yet settled, with the facts about its processes."""

    id: str
    agent: str
    task: str | None
    #: The supervisor is alive (by pid and start time).
    alive: bool
    #: The run reached its end and its outcome is on disk.
    finished: bool
    #: How often a supervisor was started again for the stage that it is in.
    restarts: int
    outcome: Outcome | None = None
    #: Its client has ended and may have left a result, which must not be lost.
    concluding: bool = False
    #: The other host that the run is on; None is this host.
    host: str | None = None
    #: For how many seconds that host has had it; None for a run of this host.
    age: float | None = None


class AgentView(NamedTuple):
    """The facts of an agent's memory (`agent_memory.AgentState`) that rules may judge.

    The fields between `name` and `closed` are those of the memory with the same names.
    """

    name: str
    last_started: float | None = None
    last_outcome: str | None = None
    #: Why the scheduler itself paused the agent; a person's `agent resume` clears it.
    suspended: str | None = None
    #: Why nothing can be written in the agent's folder; a fact of the disk, not of the memory.
    closed: str | None = None


class Hold(NamedTuple):
    """Why no agent may claim tasks now: a usage limit or a system fault."""

    code: str
    message: str
    hint: str | None
    since: float
    #: A usage limit's reset; None for faults.
    until: float | None = None
    #: The agents and the tasks of the runs that met the fault, each once, the latest last: the next
    #: run that tests the fault is of another agent and another task, if there are others.
    agents: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    #: The runs among them that were paid for.
    paid: int = 0

    def met_by(self, agent: str, task: str | None, *, paid: bool = False) -> "Hold":
        """Return the hold after another run met the fault; `paid` if the run cost something."""
        agents = (*(a for a in self.agents if a != agent), agent)
        tasks = (*(t for t in self.tasks if t != task), *([task] if task else []))
        paid_runs = self.paid + int(paid)
        return self._replace(agents=agents[-MOST_MET:], tasks=tasks[-MOST_MET:], paid=paid_runs)


#: The agents and tasks that a hold remembers.
MOST_MET = 1000


class Snapshot(NamedTuple):
    """Everything that `planner.plan` may know. Observed once per tick."""

    #: Waiting tasks in queue order.
    waiting: Sequence[Task]
    claimed: Sequence[Task]
    #: None if the forge did not answer.
    open_prs: int | None
    runs: tuple[RunView, ...]
    agents: dict[str, AgentView]
    roles: Mapping[str, Role]
    #: Tasks that other tasks depend on: id to "met", "waiting: ..." or "broken: ...".
    dependencies: dict[str, str]
    spent_today_usd: float
    hold: Hold | None = None
    #: The name of this host among those that share the queue; None if nothing is shared.
    host: str | None = None
    #: The account's usage windows, by name, as the client reported them last.
    usage: Mapping[str, UsageWindow] = {}
    #: The head of each open pull request, by its id; None if the forge did not answer.
    open_heads: Mapping[str, str] | None = None
    #: Waiting reviews whose pull requests cannot be reviewed now: why.
    not_reviewable: Mapping[str, str] = {}
    #: Whether this tick may start one run to find out if a system fault has passed.
    may_probe: bool = True
    #: False if the configuration is broken: running agents are supervised, nothing starts.
    may_start: bool = True
    #: Agents to treat as due (`orchestrator run`), each with the task wanted or None.
    forced: Mapping[str, str | None] = {}
    #: Waiting tasks whose delivered dependencies conflict with each other: why.
    conflicts: Mapping[str, str] = {}
    #: Waiting tasks that `overlap: hold` holds back: why.
    overlaps: Mapping[str, str] = {}


class Action(NamedTuple):
    """One decision. `action` is start, skip, finish, requeue, block, fail or deliver."""

    action: str
    agent: str | None = None
    task: str | None = None
    run: str | None = None
    reason: str | None = None
    #: Seconds until the task may be claimed again (requeue).
    delay: float | None = None
    #: Whether the run counts as an attempt (requeue, fail).
    charged: bool = False


class Problem(NamedTuple):
    """Something a person should know, with what to do about it."""

    code: str
    message: str
    hint: str | None = None
