"""List, show, add, change and pause agents.

examples:
  orchestrator agent add impl-agent-2 --role implementer interval_seconds=120
  orchestrator agent pause --all
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.cli import context, json_rows, output
from orchestrator.cli.parser import Namespace, argument, command, group
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.model.config import Agent, ports
from orchestrator.model.errors import OrchestratorError, UsageError
from orchestrator.model.times import iso
from orchestrator.plan.planner import plan
from orchestrator.project import agent_memory, memories, unsettled
from orchestrator.system.later import Later
from orchestrator.text.words import span

if TYPE_CHECKING:
    from orchestrator.config import change, edit
else:
    change = Later("config.change")
    edit = Later("config.edit")

Row = dict[str, Any]

NAME = argument("name", metavar="NAME", help="the name of an agent")
SETTING = "a setting, such as interval_seconds=60"
SETTINGS = argument("settings", metavar="key=value", nargs="*", help=SETTING)

group("agent", __doc__)


@command("agent list")
def list_agents(arguments: Namespace) -> None:
    """List every agent, its state and why it does not start."""
    _, loaded, rows = _look(arguments)
    names = ("name", "role", "state", "reason", "due_in_seconds", "task", "last_outcome")
    headings = ("name", "role", "state", "reason", "due in", "task", "last outcome")
    for row in rows if not arguments.json else ():
        due = row["due_in_seconds"]
        is_off = row["run"] or row["reason"] == "paused"
        row["due_in_seconds"] = None if is_off else "now" if due == 0 else due and span(due)
    cells = [[row[name] for name in names] for row in rows]
    empty = "no agents; add one: orchestrator agent add --help" if loaded.good else ""
    output.listing(arguments, rows, headings, cells, empty)


def _look(arguments: Namespace) -> tuple[Layout, Settings, list[Row]]:
    layout = context.reading(arguments)
    loaded, seen = context.look(layout)
    if not loaded.good:
        output.warn_of(loaded.problems)
    planned = plan(seen.snapshot, loaded.config, seen.now)
    return layout, loaded, json_rows.agent_rows(loaded.config, seen.snapshot, planned, seen.now)


@command("agent show", NAME)
def show(arguments: Namespace) -> None:
    """Show one agent: its settings, ports, last run and totals."""
    layout, loaded, rows = _look(arguments)
    agent = context.agent_named(loaded.config, arguments.name)
    state = agent_memory.read(layout, agent.name)
    totals = memories.totals(memories.everywhere(layout)).get(agent.name, state.totals)
    seconds = round(totals.seconds_running, 3)
    details = {
        **next(row for row in rows if row["name"] == agent.name),
        "settings": _settings(agent),
        "ports": ports(loaded.config, agent),
        "suspended": state.suspended,
        "last_run": state.last_run,
        "last_reason": state.last_reason,
        "last_finished": iso(state.last_finished),
        "totals": {**totals._asdict(), "seconds_running": seconds},
        "worktree": layout.worktree(agent.name),
    }
    lines = []
    for name, value in details.items():
        inner = value.items() if isinstance(value, dict) else ()
        lines.append(f"{name}:{'' if inner else f' {_shown(value)}'}")
        lines += [f"  {key}: {_shown(each)}" for key, each in inner]
    output.answer(arguments, details, *lines)


def _settings(agent: Agent) -> Row:
    return {k: v for k, v in agent._asdict().items() if k not in ("name", "role")}


def _shown(value: object) -> str:
    """Return a value as a person would write it after `key=`."""
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


@command(
    "agent add",
    NAME,
    argument("--role", required=True, help="the role, such as implementer"),
    SETTINGS,
)
def add(arguments: Namespace) -> None:
    """Add an agent to agents.yaml.

    examples:
      orchestrator agent add impl-agent-2 --role implementer
      orchestrator agent add night-agent --role tester schedule='0 3 * * *' model=opus
    """
    layout = context.changing(arguments)
    values = _assignments(arguments.settings)
    name, role = arguments.name, arguments.role
    if "role" in values:
        raise UsageError("the role is given twice", "give it once: --role ROLE")
    change.apply(layout, lambda text: edit.add_agent(text, name, role, values))
    said = (f"added {name} ({role})", f"  undo: orchestrator agent remove {name}")
    output.answer(arguments, {"name": name, "added": True}, *said)


def _assignments(words: list[str]) -> dict[str, object]:
    values = dict(map(edit.parse_assignment, words))
    if "name" in values:
        message = "an agent's name cannot change: its folder and its runs have that name"
        raise UsageError(message, "add another agent: orchestrator agent add NEW --role ROLE")
    return values


@command("agent remove", NAME)
def remove(arguments: Namespace) -> None:
    """Remove an agent from agents.yaml; its runs and its worktree are kept."""
    layout = context.changing(arguments)
    name = arguments.name
    if name in unsettled.runs(layout):
        hint = f"end its run first: orchestrator stop {name}"
        raise OrchestratorError(f"{name} is running", hint, code="running")
    before = change.apply(layout, lambda text: edit.remove_agent(text, name)).before
    said = [f"removed {name}; its worktree and its runs are kept (see: orchestrator clean)"]
    if before is not None:
        agent = context.agent_named(before, name)
        usual = _settings(Agent(agent.name, agent.role, agent.position))
        # The default of the interval depends on the role, so the interval is always named.
        told = {
            k: v for k, v in _settings(agent).items() if v != usual[k] or k == "interval_seconds"
        }
        own = [f"{key}={_shown(value)}" for key, value in told.items()]
        words = ("orchestrator", "agent", "add", name, "--role", agent.role, *own)
        said.append(_undo(words))
        if not arguments.json and agent.position < len(before.agents) - 1:
            output.err("the ports of later agents in agents.yaml shift from their next run")
    output.answer(arguments, {"name": name, "removed": True}, *said)


@command("agent set", NAME, SETTINGS)
def set_values(arguments: Namespace) -> None:
    """Change an agent's settings; comments and order in agents.yaml are kept.

    examples:
      orchestrator agent set impl-agent-1 interval_seconds=60
      orchestrator agent set impl-agent-1 schedule='0 3 * * *' interval_seconds=null
    """
    layout = context.changing(arguments)
    name = arguments.name
    if "=" in name:
        hint = f"`agent set` changes keys of agents only; edit {layout.config}"
        if name.partition("=")[0] in Agent._fields:
            import shlex

            hint = f"name the agent: {arguments.prog} NAME {shlex.quote(name)}"
        raise UsageError(f"expected the name of an agent, found {name!r}", hint)
    values = _assignments(arguments.settings)
    if not values:
        raise UsageError("nothing to set", f"orchestrator agent set {name} interval_seconds=60")
    done = change.apply(layout, lambda text: edit.set_agent(text, name, values))
    old, new = (context.agent_named(c, name) if c else None for c in (done.before, done.after))
    changed, lines = differences(name, old, new, ("orchestrator", "agent", "set", name))
    output.answer(arguments, {"name": name, "changed": changed}, *lines)


def differences(
    name: str, old: Any, new: Any, undo: tuple[str, ...]
) -> tuple[dict[str, Row], list[str]]:
    """Return what an edit changed, as JSON and as lines; `undo` is the command to set it back.

    `old` and `new` are the same named tuple, or None if agents.yaml was or is broken.
    """
    known = zip(new._fields, old, new, strict=True) if old and new else ()
    changed = {k: {"from": was, "to": now} for k, was, now in known if was != now}
    told = [f"{k} {_shown(v['from'])} -> {_shown(v['to'])}" for k, v in changed.items()]
    back = [f"{k}={_shown(v['from'])}" for k, v in changed.items()]
    lines = [f"{name}: {', '.join(told) or 'nothing changed'}"]
    return changed, [*lines, _undo((*undo, *back))] if back else lines


def _undo(words: Iterable[str]) -> str:
    import shlex

    return f"  undo: {shlex.join(words)}"
