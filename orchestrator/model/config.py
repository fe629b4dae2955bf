"""What agents.yaml and the roles say: data types with the defaults of every key."""

# No `from __future__ import annotations`: `records.build` and `config.last_good` read the types of
# fields. The rooms `plan`, `tick`, `tasks`, `git` and `project` do without for the same reason.

from orchestrator.model.fields import NamedTuple

#: The names of the forges: the keys of `pulls.forge.FORGES`.
FORGES = ("github", "local")
#: How a pull request may be merged.
MERGE_METHODS = ("merge", "squash", "rebase")


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
    """Spending caps in US dollars; None: no cap."""

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

    #: The label of the issues that become tasks; None: no issue becomes a task.
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

    #: The program and its arguments; (): no program.
    command: tuple[str, ...] = ()
    on: tuple[str, ...] = ("question", "approval", "escalation", "problem")
    #: The local time of a daily report, as `08:00`.
    report: str | None = None


class Pace(NamedTuple):
    """When no new run starts, although nothing is wrong. None: no limit."""

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
