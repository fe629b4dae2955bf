"""`agent` and `limits`: look at and change who works, how often, and how much at once."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from orchestrator.cli import agent_pause, context, json_rows, output
from orchestrator.cli.parser import command, group
from orchestrator.config import change, edit
from orchestrator.config.load import Settings
from orchestrator.errors import NotFound, OrchestratorError, UsageError
from orchestrator.layout import Layout
from orchestrator.model import Agent, Config, ports
from orchestrator.project import agent_memory

#: `stop` pauses before it ends a run.
set_paused = change.set_paused


def register(commands: Any) -> None:
    agents = group(
        commands,
        "agent",
        "look at, add, change and pause agents",
        "  orchestrator agent list\n"
        "  orchestrator agent add impl-agent-2 --role implementer interval_seconds=120\n"
        "  orchestrator agent pause --all",
    )
    command(
        agents,
        "list",
        list_agents,
        "every agent, what it does and why it does not start",
        "  orchestrator agent list",
    )
    show_parser = command(
        agents,
        "show",
        show,
        "one agent: its settings, its runs, what it cost",
        "  orchestrator agent show impl-agent-1",
    )
    show_parser.add_argument("name", metavar="NAME")
    _register_edits(agents)
    agent_pause.register(agents)
    _register_limits(commands)


def _register_edits(agents: Any) -> None:
    add_parser = command(
        agents,
        "add",
        add,
        "add an agent to agents.yaml",
        "  orchestrator agent add impl-agent-2 --role implementer\n"
        "  orchestrator agent add night-agent --role tester schedule='0 3 * * *' model=opus",
    )
    add_parser.add_argument("name", metavar="NAME")
    add_parser.add_argument("--role", required=True)
    remove_parser = command(
        agents,
        "remove",
        remove,
        "take an agent out of agents.yaml; its runs and worktree stay",
        "  orchestrator agent remove impl-agent-2",
    )
    remove_parser.add_argument("name", metavar="NAME")
    set_parser = command(
        agents,
        "set",
        set_values,
        "change an agent's settings; comments and order in agents.yaml stay",
        "  orchestrator agent set impl-agent-1 interval_seconds=60\n"
        "  orchestrator agent set impl-agent-1 schedule='0 3 * * *' interval_seconds=null",
    )
    set_parser.add_argument("name", metavar="NAME")
    for parser in (add_parser, set_parser):
        parser.add_argument("settings", metavar="key=value", nargs="*")
        parser.set_defaults(rest="settings")


def _register_limits(commands: Any) -> None:
    parser = command(
        commands,
        "limits",
        limits,
        "the queue's limits, and how much of each is used",
        "  orchestrator limits\n  orchestrator limits set max_claimed=3 max_open_prs=5",
    )
    inside = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=type(parser))
    set_parser = command(
        inside, "set", set_limits, "change limits", "  orchestrator limits set max_incoming=30"
    )
    set_parser.add_argument("settings", metavar="key=value", nargs="+")


# --- looking -----------------------------------------------------------------------------------


def _look(arguments: argparse.Namespace) -> tuple[Layout, Settings, list[dict[str, Any]]]:
    layout = context.reading(arguments)
    loaded, seen = context.look(layout)
    if not loaded.good:
        output.warn_of(loaded.problems)
    return layout, loaded, json_rows.agent_rows(loaded.config, seen.snapshot, context.now())


def list_agents(arguments: argparse.Namespace) -> int:
    _, loaded, rows = _look(arguments)
    if arguments.json:
        output.show_json(rows)
    elif rows:
        names = ("name", "role", "state", "reason", "due_in_seconds", "task", "last_outcome")
        headings = ("name", "role", "state", "reason", "due in", "task", "last outcome")
        output.table(headings, [[_cell(name, row[name]) for name in names] for row in rows])
    elif loaded.good:
        output.out("no agents; add one: orchestrator agent add --help")
    return 0


def _cell(name: str, value: Any) -> object:
    if name != "due_in_seconds" or value is None:
        return value
    return "now" if value == 0 else f"{value} s"


def show(arguments: argparse.Namespace) -> int:
    layout, loaded, rows = _look(arguments)
    row = next((row for row in rows if row["name"] == arguments.name), None)
    agent = _configured(loaded.config, arguments.name)
    state = agent_memory.read(layout, agent.name)
    details = {
        **(row or {}),
        "settings": _settings(agent),
        "ports": ports(loaded.config, agent),
        "suspended": state.suspended,
        "last_run": state.last_run,
        "last_reason": state.last_reason,
        "last_finished": json_rows.time_text(state.last_finished),
        "totals": {
            **state.totals._asdict(),
            "seconds_running": round(state.totals.seconds_running, 3),
        },
        "worktree": layout.worktree(agent.name),
    }
    if arguments.json:
        output.show_json(details)
        return 0
    for name, value in details.items():
        if isinstance(value, dict):
            output.out(f"{name}:")
            for key, inner in value.items():
                output.out(f"  {key}: {_shown(inner)}")
        else:
            output.out(f"{name}: {_shown(value)}")
    return 0


def _configured(found: Config, name: str) -> Agent:
    for agent in found.agents:
        if agent.name == name:
            return agent
    raise NotFound("agent", name, [agent.name for agent in found.agents])


def _settings(agent: Agent) -> dict[str, Any]:
    values = agent._asdict()
    return {key: values[key] for key in values if key not in ("name", "role", "index")}


def _shown(value: object) -> str:
    """Return a value as a person would write it after `key=`."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value)


# --- changing ----------------------------------------------------------------------------------


def _assignments(words: list[str]) -> dict[str, object]:
    values = dict(map(edit.parse_assignment, words))
    if "name" in values:
        raise UsageError(
            "an agent's name cannot change: its folder and runs bear it",
            "add another: orchestrator agent add NEW --role ROLE",
        )
    return values


def add(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    values = _assignments(arguments.settings)
    name, role = arguments.name, arguments.role
    if "role" in values:
        raise UsageError("the role stands twice", "give it once: --role ROLE")
    change.apply(layout, lambda text: edit.add_agent(text, name, role, values))
    undo = f"orchestrator agent remove {name}"
    _say(arguments, {"name": name, "added": True}, f"added {name} ({role})", undo)
    return 0


def remove(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    name = arguments.name
    if agent_memory.read(layout, name).run is not None:
        raise OrchestratorError(
            f"{name} is running", f"end that first: orchestrator stop {name}", code="running"
        )
    done = change.apply(layout, lambda text: edit.remove_agent(text, name))
    undo = None
    if done.before is not None:
        agent = _configured(done.before, name)
        usual = Agent(agent.name, agent.role, agent.position)
        words = [
            f"{key}={_shown(value)}"
            for key, value in _settings(agent).items()
            if value != getattr(usual, key)
        ]
        undo = shlex.join(("orchestrator", "agent", "add", name, "--role", agent.role, *words))
        if not arguments.json and agent.position < len(done.before.agents) - 1:
            output.err("the agents below it in agents.yaml have other ports from their next run on")
    said = f"removed {name}; its worktree and runs stay (orchestrator clean)"
    _say(arguments, {"name": name, "removed": True}, said, undo)
    return 0


def set_values(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    name = arguments.name
    values = _assignments(arguments.settings)
    if not values:
        raise UsageError("nothing to set", f"orchestrator agent set {name} interval_seconds=60")
    done = change.apply(layout, lambda text: edit.set_agent(text, name, values))
    old = _configured(done.before, name) if done.before else None
    new = _configured(done.after, name) if done.after else None
    changed = _differences(old, new)
    undo = shlex.join(("orchestrator", "agent", "set", name, *_back(changed))) if changed else None
    said = f"{name}: {_told(changed)}"
    _say(arguments, {"name": name, "changed": changed}, said, undo)
    return 0


def _differences(old: Any, new: Any) -> dict[str, dict[str, object]]:
    """Return the fields that differ, each with what it was and what it is."""
    if old is None or new is None:
        return {}
    return {
        name: {"from": before, "to": after}
        for name, before, after in zip(new._fields, old, new, strict=True)
        if before != after
    }


def _told(changed: dict[str, dict[str, object]]) -> str:
    said = (f"{k} {_shown(v['from'])} -> {_shown(v['to'])}" for k, v in changed.items())
    return ", ".join(said) or "nothing changed"


def _back(changed: dict[str, dict[str, object]]) -> list[str]:
    return [f"{key}={_shown(values['from'])}" for key, values in changed.items()]


def _say(arguments: argparse.Namespace, value: object, said: str, undo: str | None) -> None:
    if arguments.json:
        output.show_json(value)
        return
    output.out(said)
    if undo:
        output.out(f"  undo: {undo}")


# --- limits ------------------------------------------------------------------------------------


def limits(arguments: argparse.Namespace) -> int:
    layout = context.reading(arguments)
    loaded, seen = context.look(layout)
    found = loaded.config.queue_limits
    if arguments.json:
        output.show_json(found._asdict())
        return 0
    if not loaded.good:
        output.warn_of(loaded.problems)
    claimed = len(seen.claimed.tasks)
    used = (len(seen.incoming.tasks) + claimed, claimed, seen.snapshot.open_prs)
    what = ("tasks that wait or are claimed", "claimed tasks", "open pull requests")
    rows = zip(found._asdict(), found._asdict().values(), used, what, strict=True)
    output.table(("limit", "value", "now", "of"), list(rows))
    return 0


def set_limits(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    values = dict(map(edit.parse_assignment, arguments.settings))
    done = change.apply(layout, lambda text: edit.set_values(text, ("queue_limits",), values))
    old, new = (c.queue_limits if c else None for c in (done.before, done.after))
    changed = _differences(old, new)
    undo = shlex.join(("orchestrator", "limits", "set", *_back(changed))) if changed else None
    _say(arguments, {"changed": changed}, f"limits: {_told(changed)}", undo)
    return 0
