"""The data types: tasks, agents, runs, decisions. Nothing here reads a file, clock or process.

Times inside the program are seconds since the epoch (float, UTC); outside, ISO 8601 with `Z`.
`None` always means "not known", never zero.
"""

# No `from __future__ import annotations`: `records.build` and `config.last_good` read the types of
# fields. The rooms `plan`, `tick`, `tasks`, `git` and `project` do without for the same reason.

from collections.abc import Mapping
from datetime import UTC, datetime

from orchestrator.fields import NamedTuple

#: The forges, by the value of `forge` in agents.yaml (`pulls.forges` has the classes).
FORGES = ("github", "local")
#: How a pull request may be merged.
MERGE_METHODS = ("merge", "squash", "rebase")
STATES = ("incoming", "claimed", "blocked", "done", "failed")
#: States of unfinished tasks.
OPEN_STATES = ("incoming", "claimed", "blocked")
PRIORITIES = ("P0", "P1", "P2", "P3")


def iso(seconds: float | None, precision: str = "seconds") -> str | None:
    """Return a time as `2024-01-15T10:30:00Z`; None for None and for a time outside the calendar.

    `precision` is a `timespec` of datetime.isoformat; finer parts are cut off.
    """
    if seconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def parse_time(text: str) -> float | None:
    """Read an ISO 8601 time (no zone means UTC) as seconds since the epoch; None if unreadable."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.timestamp()
    except (OverflowError, OSError):
        return None


# --- configuration -----------------------------------------------------------------------------


class QueueLimits(NamedTuple):
    """Backpressure (reference 4)."""

    max_incoming: int = 20
    max_claimed: int = 5
    max_open_prs: int = 10


class Retry(NamedTuple):
    """How often, and after which delay, failed work is tried again."""

    max_attempts: int = 3
    backoff_seconds: float = 10
    max_backoff_seconds: float = 300

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number `attempt` (from 1): reference 7."""
        # The exponent is bounded: 2.0 ** 5000 would overflow, and the result is capped anyway.
        doublings = min(max(attempt - 1, 0), 60)
        return float(min(self.backoff_seconds * 2**doublings, self.max_backoff_seconds))


class Budgets(NamedTuple):
    """Spending caps in US dollars; None is no cap."""

    run_usd: float | None = None
    daily_usd: float | None = None
    #: All runs of one task together, since a person last requeued it.
    task_usd: float | None = None


class Review(NamedTuple):
    """Which delivered roles get a review, and which steps are automatic."""

    after: tuple[str, ...] = ("implement", "test")
    max_rounds: int = 3
    auto_merge: bool = False
    #: One of `MERGE_METHODS`, or "auto": the first that the repository allows.
    merge_method: str = "auto"


class Hooks(NamedTuple):
    """The user's own commands around a worktree's life; run through a shell, in the worktree."""

    #: Runs in a new worktree.
    after_create: str | None = None
    #: Runs before each run.
    before_run: str | None = None
    before_remove: str | None = None
    timeout_seconds: float = 60


class Setup(NamedTuple):
    """How a worktree is prepared: for example `npm ci`, again when `package-lock.json` changed."""

    command: str | None = None
    #: Files of the repository, as paths from its top.
    when_changed: tuple[str, ...] = ()


class Retention(NamedTuple):
    """How much finished work is kept. The only copy of work is always kept."""

    #: Run folders per agent.
    runs: int = 100
    #: Days after which a merged branch is deleted.
    days: float = 30
    #: Size in megabytes at which `events.jsonl` is rotated; one old file is kept.
    events_mb: float = 10
    #: What happens to the remote's branch of a merged pull request: "delete" or "keep".
    remote_branches: str = "delete"


class Issues(NamedTuple):
    """Which issues on GitHub become tasks."""

    #: Open issues with this label; None is no issue.
    label: str | None = None
    #: Also issues whose author may not write to the repository.
    any_author: bool = False
    #: Whether the text of an agent's question is shown in a comment on the issue.
    show_questions: bool = False


class Split(NamedTuple):
    """How far an agent may split its task into parts."""

    #: 0 allows no split; with 1, a part may not be split again.
    max_depth: int = 1
    max_tasks: int = 5


class Notify(NamedTuple):
    """The user's own program that is told what waits for a person."""

    #: The program and its arguments; () is none.
    command: tuple[str, ...] = ()
    on: tuple[str, ...] = ("question", "approval", "escalation", "problem")
    #: The local time of a daily report, as `08:00`.
    report: str | None = None


class Pace(NamedTuple):
    """When no new run starts, although nothing is wrong. None does not limit."""

    #: The shares (0 to 1) of the account's usage windows above which nothing starts.
    five_hour: float | None = None
    seven_day: float | None = None
    #: The local hours in which runs may start, as `22:00-07:00`.
    hours: str | None = None


class Agent(NamedTuple):
    """One entry of `agents`."""

    name: str
    role: str
    #: Position in the list, from 0: determines the ports.
    position: int
    #: Seconds between the starts of two runs, 0 for every tick; None with a schedule.
    interval_seconds: float | None = 0
    #: A cron expression in local time, instead of an interval.
    schedule: str | None = None
    paused: bool = False
    model: str | None = None
    max_turns: int | None = None
    budget_usd: float | None = None
    #: How hard the model thinks, in the client's words.
    effort: str | None = None
    #: The models that take over if the model is not available, separated by commas.
    fallback_model: str | None = None
    #: The client's files with MCP servers and with settings, below the project or absolute.
    mcp_config: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    max_runtime_seconds: float = 3600
    #: Seconds without any output after which a run is stopped; 0 is never.
    stall_seconds: float = 600
    #: The host that runs this agent; None is any host, one at a time.
    host: str | None = None


class Submodules(NamedTuple):
    """What agents' worktrees get of the project's submodules, and what becomes of new commits."""

    #: "same" (as in the person's checkout), "all" or "none".
    checkout: str = "same"
    #: Commits that a submodule's remote lacks: "refuse" the work, or "push" them.
    unpushed: str = "refuse"


class Config(NamedTuple):
    """`agents.yaml`, checked and with its defaults."""

    paused: bool = False
    queue_limits: QueueLimits = QueueLimits()
    #: Runs that one tick may start.
    max_starts: int = 20
    #: None: the remote's HEAD branch, else the current one at `init` (see `config.load`).
    base_branch: str | None = None
    base_port: int = 41000
    #: How the names of new agents' branches begin.
    branch_prefix: str = "agent/"
    #: A key of `registry.CLIENTS`; None is the default client.
    client: str | None = None
    #: The client's program and its first arguments; () is the client's own program.
    client_command: tuple[str, ...] = ()
    #: Whether the client is to keep shell commands in its OS sandbox.
    client_sandbox: bool = False
    retry: Retry = Retry()
    budgets: Budgets = Budgets()
    review: Review = Review()
    checks: tuple[str, ...] = ()
    check_timeout_seconds: float = 900
    forge: str = "auto"
    remote: str = "origin"
    #: The remote that branches are pushed to; None is `remote`, with its `pushurl`.
    push_remote: str | None = None
    hooks: Hooks = Hooks()
    setup: Setup = Setup()
    #: When a DEPENDS_ON entry is met: "merged" or "delivered".
    dependencies: str = "merged"
    #: What happens when pieces of work change the same lines: "off", "warn" or "hold".
    overlap: str = "warn"
    #: Variables that agents get although their names look like those of secrets.
    environment_allow: tuple[str, ...] = ()
    retention: Retention = Retention()
    issues: Issues = Issues()
    split: Split = Split()
    submodules: Submodules = Submodules()
    notify: Notify = Notify()
    pace: Pace = Pace()
    #: "files", or the address of a database that several hosts share.
    store: str = "files"
    agents: tuple[Agent, ...] = ()


PORT_STRIDE = 10


def ports(config: Config, agent: Agent) -> dict[str, int]:
    """Return the agent's three ports by the name of their environment variable (reference 4)."""
    first = config.base_port + PORT_STRIDE * agent.position
    return {"AGENT_DEV_PORT": first, "AGENT_MCP_PORT": first + 1, "AGENT_PW_WS_PORT": first + 2}


#: What a run may report, by what its role delivers (reference 7).
OUTCOMES = {
    "pull_request": ("done", "no_change", "split", "needs_human", "failed"),
    "verdict": ("approved", "changes_requested", "needs_human", "failed"),
    "nothing": ("done", "no_change", "needs_human", "failed"),
}


class Role(NamedTuple):
    """What an agent is for: policy from the front matter, the brief as a Jinja2 template."""

    name: str
    #: The task `ROLE` it takes; None creates tasks instead (product manager).
    takes: str | None
    #: The result of its runs: "pull_request", "verdict" (reviewer) or "nothing".
    delivers: str
    #: The client's tools that such a run has.
    tools: tuple[str, ...]
    #: Permission rules (`--allowedTools`, `--disallowedTools`).
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    brief: str
    #: Settings of the user and the project, and files outside the worktree, are out of reach.
    restricted: bool = False
    max_turns: int | None = None
    #: As for an agent, whose files are read after these.
    mcp_config: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    #: One line for listings.
    description: str = ""
    #: The file with the brief, and the line that the brief begins on.
    path: str = ""
    line: int = 1


# --- tasks -------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One line of a task's history: when, what, and its fields."""

    at: str
    event: str
    fields: Mapping[str, object] = {}


class Task(NamedTuple):
    """A task as the planner and the listings see it: its header, and the sum of its history."""

    id: str
    title: str
    role: str
    state: str
    #: Where the store keeps it, for display: the path of its file.
    where: str
    #: The text as written; anything but P0 to P3 sorts last.
    priority: str = "P2"
    #: The base branch asked for; None is the configured one.
    branch: str | None = None
    #: Seconds since the epoch; None when the header's value cannot be read: sorts last.
    created: float | None = None
    created_by: str | None = None
    depends_on: tuple[str, ...] = ()
    #: Charged attempts since the last time a person reset them.
    attempts: int = 0
    #: US dollars that its runs have cost since then, as far as they are known.
    cost_usd: float = 0.0
    #: Interrupted runs in a row (the second counts as an attempt).
    interruptions: int = 0
    #: Endings that cost money but no attempt, by kind, since a person last decided or work was
    #: delivered (`plan.repeats`).
    uncharged: Mapping[str, int] = {}
    not_before: float | None = None
    #: The delay that led to `not_before`, so that a clock moved back cannot stretch it.
    backoff: float | None = None
    claimed_by: str | None = None
    #: The host of the last claim; None for a queue that one machine has.
    host: str | None = None
    #: Where the claim's run is: "here", "elsewhere" (on another host), or "gone" (that host died).
    claim_at: str = "here"
    #: The run that holds, or last held, the task.
    run: str | None = None
    #: The event with which that run ended, if nothing has happened to the task since.
    ended: str | None = None
    reason: str | None = None
    error: str | None = None
    work_branch: str | None = None
    pr: str | None = None
    #: Whether the history says that this pull request was merged.
    merged: bool = False
    question: str | None = None
    #: The ids of the parts that the task waits for, or waited for: its agent split it.
    parts: tuple[str, ...] = ()
    #: The number of review rounds that requested changes.
    review_rounds: int = 0
    #: The client's conversation to continue, and the agent whose worktree it belongs to.
    session: str | None = None
    session_agent: str | None = None
    #: For a review task: the task under review, and the commit that was handed over.
    reviews: str | None = None
    head: str | None = None
    #: Every field of the header by its key in upper case. A rule of the plan reads its field here.
    header: Mapping[str, str] = {}


def task_order(task: Task) -> tuple[int, float, str]:
    """Sort key: priority, creation, name; an unreadable value sorts last (reference 3)."""
    rank = PRIORITIES.index(task.priority) if task.priority in PRIORITIES else len(PRIORITIES)
    created = task.created if task.created is not None else float("inf")
    return (rank, created, task.id)


class Given(NamedTuple):
    """A review that an agent or a person gave on a pull request."""

    by: str
    #: "agent" or "person".
    kind: str
    #: "approved" or "changes_requested".
    verdict: str
    #: The commit that was reviewed; None when nothing says it.
    commit: str | None = None
    text: str = ""
    #: ISO 8601.
    at: str | None = None
    #: Whether it resolves every objection given before it (`pr approve`).
    settles: bool = False


class RemoteCheck(NamedTuple):
    """A check that the forge ran on a pull request's head."""

    name: str
    #: passed, failed or pending.
    state: str
    url: str | None = None
    required: bool = False


class Feedback(NamedTuple):
    """A fact at a pull request that asks its author for changes."""

    #: The same fact has the same key: it leads to rework once.
    key: str
    text: str
    #: Whether no person said it: a failing check, or a conflict.
    by_machine: bool = False


class PullRequest(NamedTuple):
    """A pull request that the product opened, on either forge."""

    id: str
    task: str | None
    branch: str
    base: str
    #: The commit at the branch's tip when last looked at.
    head: str
    title: str
    #: open, merged or closed.
    state: str
    #: What the reviews of `head` come to: approved, changes_requested or None (reference 9.1).
    verdict: str | None = None
    url: str | None = None
    #: The commit that the verdict was given on.
    reviewed: str | None = None
    #: The reviews that people gave on the forge, oldest first.
    reviews: tuple[Given, ...] = ()
    checks: tuple[RemoteCheck, ...] = ()
    #: Whether the forge could merge it now; None when not known.
    mergeable: bool | None = None
    #: Whether the forge merges it by itself later (a merge queue, or checks that still run).
    queued: bool = False
    #: When the forge last changed it, as the forge writes it.
    updated: str | None = None
    #: Whether its task was told that it is merged or closed.
    followed: bool = False
    #: Whether only a person's word says that it is merged: then its branches stay.
    said: bool = False
    #: Whether the forge shows it as a draft: it is open, but is neither reviewed nor landed.
    draft: bool = False


# --- what the planner sees and says ------------------------------------------------------------


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

    The fields after `name` are copied from the memory's fields with the same names.
    """

    name: str
    last_started: float | None = None
    last_outcome: str | None = None
    #: Why the scheduler itself paused the agent; a person's `agent resume` clears it.
    suspended: str | None = None


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
    waiting: tuple[Task, ...]
    claimed: tuple[Task, ...]
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
    """One decision. `action` is start, skip, finish, requeue, block, fail, stop or deliver."""

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
