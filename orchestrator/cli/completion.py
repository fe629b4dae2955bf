"""`completion`: what a shell needs to complete commands, options, agents, tasks and pull requests.

The script is made from the parser by shtab. It is static, except that it asks `_words` for names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from orchestrator.cli import argument_parser, context, output, task_change
from orchestrator.cli.parser import Namespace, argument, command
from orchestrator.config.load import Settings
from orchestrator.database import access
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import STATES
from orchestrator.pulls import states
from orchestrator.tasks import stores
from orchestrator.tick import inbox

SHELLS = ("bash", "zsh", "fish")
#: The states of the tasks that `_words` prints, by the kind of the tasks.
_TASKS = {
    "tasks": STATES,
    "waiting": ("incoming",),
    "blocked": ("blocked",),
    "stopped": ("blocked", "failed"),
    "unfinished": tuple(state for state in STATES if state != "done"),
}
#: The other kinds of names.
_OTHERS = ("agents", "hosts", "inbox", "approvals", "pull_requests", "open_pull_requests")
#: The kinds that an argument takes, by its metavar; for ID and NAME, by the command.
_NAMES = {
    "AGENT": "agents",
    "TASK": "tasks",
    **dict.fromkeys(("AGENT|TASK", "AGENT|TASK|RUN"), "agents tasks"),
}
_OPEN = "open_pull_requests"
_OF_COMMAND = {
    "task": "tasks",
    "task retry": "stopped",
    "task cancel": "unfinished",
    "run": "waiting",
    "inbox": "inbox",
    "inbox answer": "blocked",
    "inbox approve": "approvals",
    "inbox reject": "approvals",
    "pr": "pull_requests",
    **dict.fromkeys(("pr approve", "pr request-changes", "pr merge", "pr close"), _OPEN),
    "agent": "agents",
    "agent add": None,
    "hosts remove": "hosts",
}


@command("completion", argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS)))
def complete(arguments: Namespace) -> None:
    """Print a script that completes this program's commands, options and names in your shell.

    examples:
      orchestrator completion bash >~/.local/share/bash-completion/completions/orchestrator
      orchestrator completion zsh >~/.zfunc/_orchestrator      (with ~/.zfunc in fpath)
      orchestrator completion fish >~/.config/fish/completions/orchestrator.fish
    """
    import shtab

    whole = argument_parser.build([])
    _mark(whole, "")
    output.out(shtab.complete(whole, arguments.shell))


def _mark(found: argparse.ArgumentParser, words: str) -> None:
    """Say of each argument of a command, and of the commands below it, what its values are."""
    import shtab

    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                _mark(below, f"{words} {name}".strip())
            continue
        kinds = _kinds(action, words)
        if kinds is not None:
            values = shtab.cmd(f"orchestrator _words {kinds} 2>/dev/null")
        elif action.metavar in ("F", "FILE", "DIR"):
            values = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
        elif words == "task move" and action.choices:
            action.choices = task_change.TARGETS
            continue
        else:
            continue
        action.complete = values  # type: ignore[attr-defined]  # shtab's own attribute


def _kinds(action: argparse.Action, words: str) -> str | None:
    """Return the kinds of names that an argument takes; None for other arguments."""
    if action.metavar in ("ID", "NAME"):
        return _OF_COMMAND.get(words, _OF_COMMAND.get(words.partition(" ")[0]))
    return _NAMES.get(str(action.metavar))


@command("_words", argument("kinds", nargs="+", choices=(*_TASKS, *_OTHERS)))
def print_words(arguments: Namespace) -> None:
    """Print the names of some kinds in this project, for a shell; nothing outside a project."""
    try:
        layout = context.reading(arguments)
        loaded = context.settings(layout)
        for kind in dict.fromkeys(arguments.kinds):
            for name in _names(layout, loaded, kind):
                output.out(name)
    except OrchestratorError:  # a shell that completes shows no errors
        return


def _names(layout: Layout, loaded: Settings, kind: str) -> Iterator[str]:
    if kind == "agents":
        yield from (agent.name for agent in loaded.config.agents)
    elif kind == "hosts":
        session = access.of_project(layout)
        if session is not None:
            from orchestrator.database import hosts

            yield from (host.name for host in hosts.every(session) if not host.alive)
    elif kind in ("inbox", "approvals"):
        for item in inbox.survey(layout, *context.look(layout)).items:
            if kind == "inbox" or item.kind == "approval":
                yield item.id
    elif kind in _TASKS:
        store = stores.of_project(layout)
        for state in _TASKS[kind]:
            yield from (task.id for task in store.list(state).tasks)
    else:
        for pr in states.counted(layout, loaded.config) or ():
            if kind != _OPEN or pr.state == "open":
                yield pr.id
