"""`completion`: what a shell needs to complete commands, options, agents, tasks and pull requests.

The script is made from the parser by shtab. It is static, except that it asks `_words` for names.
"""

from __future__ import annotations

import argparse

from orchestrator.cli import argument_parser, context, output
from orchestrator.cli.parser import Namespace, argument, command
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import STATES
from orchestrator.pulls import states
from orchestrator.tasks import stores
from orchestrator.tick import inbox

SHELLS = ("bash", "zsh", "fish")
#: The names that `_words` prints, by the metavar of an argument; for ID, by the command's group.
_NAMES = {
    **dict.fromkeys(("AGENT", "NAME"), "agents"),
    **dict.fromkeys(("AGENT|TASK", "AGENT|TASK|RUN"), "agents tasks"),
}
_IDS = {"inbox": "inbox", "pr": "pull_requests"}
_KINDS = ("agents", "tasks", "inbox", "pull_requests")


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
        elif action.metavar in ("F", "DIR"):
            values = shtab.FILE if action.metavar == "F" else shtab.DIRECTORY
        else:
            continue
        action.complete = values  # type: ignore[attr-defined]  # shtab's own attribute


def _kinds(action: argparse.Action, words: str) -> str | None:
    """Return the kinds of names that an argument takes; None for other arguments."""
    if action.metavar == "ID":
        return _IDS.get(words.partition(" ")[0], "tasks")
    new = words == "agent add"
    return None if new else _NAMES.get(str(action.metavar))


@command("_words", argument("kinds", nargs="+", choices=_KINDS))
def print_words(arguments: Namespace) -> None:
    """Print the names of some kinds in this project, for a shell; nothing outside a project."""
    try:
        layout = context.reading(arguments)
        loaded = context.settings(layout)
        for kind in dict.fromkeys(arguments.kinds):
            if kind == "agents":
                names = [agent.name for agent in loaded.config.agents]
            elif kind == "tasks":
                store = stores.of_project(layout)
                names = [task.id for state in STATES for task in store.list(state).tasks]
            elif kind == "inbox":
                names = [item.id for item in inbox.survey(layout, *context.look(layout)).items]
            else:
                names = [pr.id for pr in states.counted(layout, loaded.config) or ()]
            for name in names:
                output.out(name)
    except OrchestratorError:  # a shell that completes shows no errors
        return
