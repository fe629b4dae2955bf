"""`agents.yaml`: every key of reference 4, its allowed values, and the resulting configuration.

One pass finds all errors. Each error has its line, its key's path and the nearest valid word. A
lenient reader once let a misspelt key empty the agent list (failures 9).
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.client import registry
from orchestrator.config import key_checks
from orchestrator.config.yaml_values import (
    boolean,
    each,
    number,
    one_of,
    paths,
    section,
    text,
    texts,
)
from orchestrator.database import address, this_host
from orchestrator.model.annotations import Any
from orchestrator.model.config import (
    FORGES,
    MERGE_METHODS,
    PORT_STRIDE,
    Agent,
    Budgets,
    Config,
    Hooks,
    Issues,
    Notify,
    Pace,
    QueueLimits,
    Retention,
    Retry,
    Review,
    Role,
    Setup,
    Split,
    Submodules,
    ports,
)
from orchestrator.text.yaml_nodes import BAD, Check, Node, Reading, is_null

#: How problems name the file.
FILE = ".orchestrator/agents.yaml"

YEAR = 366 * 86_400
#: Seconds between the runs of an agent that takes no tasks. Each of its runs costs money, while an
#: agent that takes tasks starts only when a task waits, so its default is every tick.
WITHOUT_TASKS = 600.0
HIGHEST_PORT = 65_535

_NAME = r"(?!.*\.\.)(?!.*\.lock\Z)[a-z0-9][a-z0-9._-]{0,63}(?<!\.)"
#: The names that `git check-ref-format --branch` accepts, except unreasonable names.
_REF = (
    r"(?!HEAD\Z|@\Z|[-/.])(?!.*(\.\.|//|/\.|@\{|\.lock(/|\Z)))"
    r"[^\x00-\x20\x7f~^:?*\[\\]{1,200}(?<![./])"
)
#: What such a name may begin with; the id of a task follows.
_PREFIX = (
    r"(?![-/.])(?!.*(\.\.|//|/\.|@\{|\.lock/))"
    r"[^\x00-\x20\x7f~^:?*\[\\]{1,50}"
)

# --- the tables: every key and its allowed values ------------------------------------------------

_SECONDS = number(0, YEAR)
_SOME_SECONDS = number(0, YEAR, above=True)
_COUNT = number(0, whole=True)
_POSITIVE = number(1, whole=True)
_MONEY = number(0, null=True)
#: The client refuses a cap of 0, and a cap below one cent allows no work.
_RUN_MONEY = number(0.01, null=True)
_SHELL = text(null=True)
_VARIABLE = text(r"[A-Za-z_][A-Za-z0-9_]{0,199}", "the name of an environment variable")

_AGENT: dict[str, Check] = {
    "name": text(_NAME, "a name of a-z, 0-9, '.', '_' and '-', at most 64 characters"),
    "role": key_checks.role,
    "interval_seconds": number(0, YEAR, null=True),
    "schedule": key_checks.schedule,
    "paused": boolean,
    "model": text(r"[^\s-]\S*", "the name of a model", null=True),
    "max_turns": number(1, whole=True, null=True),
    "budget_usd": _RUN_MONEY,
    "effort": key_checks.effort,
    "fallback_model": text(r"[^\s-]\S*", "names of models, separated by commas", null=True),
    "mcp_config": paths,
    "settings": paths,
    "max_runtime_seconds": _SOME_SECONDS,
    "stall_seconds": _SECONDS,
    "host": text(this_host.NAME, "the name of a host (orchestrator hosts)", null=True),
}


def _agents(reading: Reading, node: Node, where: str) -> Any:
    if node.id != "sequence":
        return reading.expected(node, where, "a list of agents ('[]' for none)")
    agents = []
    first: dict[str, int] = {}
    for index, agent in enumerate(each(reading, node, where, _agent)):
        agents.append(agent._replace(position=index))
        if agent.name is not BAD and first.setdefault(agent.name, index) != index:
            spot = f"{where}[{index}].name"
            other = f"{where}[{first[agent.name]}]"
            reading.wrong(reading.lines[spot], spot, f"{agent.name!r} is also the name of {other}")
    return tuple(agents)


def _agent(reading: Reading, node: Node, where: str) -> Agent:
    values = reading.section(node, where, _AGENT)
    for key in ("name", "role"):
        if node.id == "mapping" and key not in values:
            reading.wrong(node, f"{where}.{key}", "missing")
    interval, schedule = values.get("interval_seconds", BAD), values.get("schedule")
    spot = f"{where}.interval_seconds"
    if schedule is not None and interval is BAD:
        values["interval_seconds"] = None
    elif schedule is not None and interval is not None:
        reading.wrong(reading.lines[spot], spot, "there is also a schedule; set one to null")
    elif schedule is None and interval is None:
        reading.wrong(
            reading.lines[spot], spot, "expected a number of seconds, or null with a schedule"
        )
    elif interval is BAD and _takes_no_tasks(reading, values.get("role")):
        values["interval_seconds"] = WITHOUT_TASKS
    return Agent(**{"name": BAD, "role": BAD, "position": 0, **values})


def _takes_no_tasks(reading: Reading, role: object) -> bool:
    found = reading.names.get(role) if isinstance(reading.names, Mapping) else None
    return isinstance(found, Role) and found.takes is None


_LIMITS = dict.fromkeys(QueueLimits._fields, _COUNT)
_BUDGETS = {"run_usd": _RUN_MONEY, "daily_usd": _MONEY, "task_usd": _RUN_MONEY}
_CLIENT = {"command": key_checks.command, "sandbox": boolean}
_RETENTION = {
    "runs": _POSITIVE,
    "days": number(0, 36_500),
    "events_mb": number(0.1, 1000),
    "remote_branches": one_of(("delete", "keep")),
}
_RETRY = {"max_attempts": _POSITIVE, "backoff_seconds": _SECONDS, "max_backoff_seconds": _SECONDS}
_REVIEW = {
    "after": texts(text(), "a list of task roles"),
    "max_rounds": _COUNT,
    "auto_merge": boolean,
    "merge_method": one_of(("auto", *MERGE_METHODS)),
}
_ISSUES = {
    # A comma would separate two labels.
    "label": text(r"[^,]{0,49}[^,\s]", "the name of a label, without commas", null=True),
    "any_author": boolean,
    "show_questions": boolean,
}
_SPLIT = {"max_depth": _COUNT, "max_tasks": _COUNT}
_HOOKS = {
    "after_create": _SHELL,
    "before_run": _SHELL,
    "before_remove": _SHELL,
    "timeout_seconds": _SOME_SECONDS,
}
#: A path from the top of the repository that stays inside it.
_INSIDE = text(
    r"(?!/)(?!(.*/)?\.\.(/|\Z))[^\x00-\x1f]{1,400}",
    "the path of a file of the repository",
)
_SETUP = {"command": _SHELL, "when_changed": texts(_INSIDE, "a list of files")}
_SUBMODULES = {
    "checkout": one_of(("same", "all", "none")),
    "unpushed": one_of(("refuse", "push")),
}

_NOTIFY = {
    "command": key_checks.optional_command,
    "on": texts(one_of(Notify().on), "a list of kinds"),
    "report": text(r"([01][0-9]|2[0-3]):[0-5][0-9]", "a local time like '08:00'", null=True),
}

_SHARE = number(0, 1, null=True)
_PACE: dict[str, Check] = {"five_hour": _SHARE, "seven_day": _SHARE, "hours": key_checks.hours}

_TOP: dict[str, Check] = {
    "paused": boolean,
    "queue_limits": section(QueueLimits, _LIMITS),
    "max_starts": _POSITIVE,
    "branch_prefix": text(_PREFIX, "the beginning of a branch's name, such as 'agent/'"),
    "base_branch": text(_REF, "the name of a branch", null=True),
    "base_port": number(1024, HIGHEST_PORT, whole=True),
    **dict.fromkeys(registry.CLIENTS, section(dict, _CLIENT)),
    "retry": section(Retry, _RETRY),
    "budgets": section(Budgets, _BUDGETS),
    "review": section(Review, _REVIEW),
    "checks": texts(text(), "a list of shell commands ('[]' for none)"),
    "check_timeout_seconds": _SOME_SECONDS,
    "forge": one_of(("auto", *FORGES)),
    "remote": text(_REF, "the name of a git remote"),
    "push_remote": text(_REF, "the name of a git remote", null=True),
    "hooks": section(Hooks, _HOOKS),
    "setup": section(Setup, _SETUP),
    "submodules": section(Submodules, _SUBMODULES),
    "dependencies": one_of(("merged", "delivered")),
    "overlap": one_of(("off", "warn", "hold")),
    "environment": section(dict, {"allow": texts(_VARIABLE, "a list of names")}),
    "retention": section(Retention, _RETENTION),
    "issues": section(Issues, _ISSUES),
    "split": section(Split, _SPLIT),
    "notify": section(Notify, _NOTIFY),
    "pace": section(Pace, _PACE),
    "store": key_checks.store,
    "agents": _agents,
}


def parse(source: bytes | str, roles: Mapping[str, Role] | None = None) -> Config:
    """Return the configuration in the text of `agents.yaml`, which is read strictly.

    `roles` are the roles that an agent may have, by name; None allows any role, and takes each for
    a role that takes tasks. Raises only `ConfigError`, with every problem in the order of the
    lines.
    """
    reading = Reading(FILE, f"correct {FILE}; until then no new run starts", roles)
    if isinstance(source, bytes):
        source = reading.decode(source)
    root = reading.compose(source.removeprefix("\ufeff"))
    values: dict[str, Any] = {}
    if root is not None and not is_null(root):
        values = reading.section(root, "", _TOP)
    if "agents" not in values and (root is None or root.id != "sequence"):
        reading.wrong(1, "agents", "missing; write 'agents: []' for none")
    clients = [name for name in registry.CLIENTS if name in values]
    for name in clients:
        values |= {"client": name, **{f"client_{k}": v for k, v in values.pop(name).items()}}
    for name in clients[1:]:
        reading.wrong(reading.lines[name], name, f"there is also {clients[0]}; keep one of them")
    if "issues.label" in reading.lines and values.get("forge") == "local":
        label = values["issues"].label
        if label is not None and label is not BAD:
            why = "only GitHub has issues: it needs `forge: github`, and the forge is local"
            reading.wrong(reading.lines["issues.label"], "issues.label", why)
    store = values.get("store", address.FILES)
    if store not in (BAD, address.in_text(source.encode(errors="replace"))):
        # Processes without a YAML reader look for it.
        why = "write it as a line of its own: store: postgresql://HOST/DATABASE"
        reading.wrong(reading.lines.get("store", 1), "store", why)
    client = registry.named(values.get("client"))
    values = {"client": client.name, "client_command": (client.program,), **values}
    values |= {f"environment_{k}": v for k, v in values.pop("environment", {}).items()}
    config = Config(**values)
    if not reading.problems and config.agents:
        highest = max(ports(config, config.agents[-1]).values())
        if highest > HIGHEST_PORT:
            line = reading.lines.get("base_port", reading.lines["agents"])
            count = f"{len(config.agents)} agents, {PORT_STRIDE} ports apart"
            reading.wrong(
                line, "base_port", f"{count}, would end at {highest}, above {HIGHEST_PORT}"
            )
    reading.check()
    return config
