"""Declares commands.

A command's arguments are data, and its help is its function's docstring: the first paragraph is the
summary, and the rest, its examples, is shown below the options.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.system import image

if TYPE_CHECKING:
    from argparse import Namespace as Namespace
else:
    Namespace = SimpleNamespace  # argparse is not loaded for most command lines

#: Runs a command; returns its exit code, where None means 0.
Run = Callable[[Namespace], int | None]
#: The parameters of `ArgumentParser.add_argument`: names and options.
Argument = tuple[tuple[str, ...], dict[str, Any]]

#: What runs a command (None for a group of commands), its help, and its arguments: those in a list
#: exclude each other.
Command = tuple[Run | None, str, tuple[Argument | list[Argument], ...]]
#: The commands of all modules that are loaded, by their words, as in `task add`.
COMMANDS: dict[str, Command] = {}
#: The modules of each command, in the order of the help text. Only those of the command that is
#: called are imported, because imports are most of the time that an agent's command takes.
MODULES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("init", "tick", "status", "watch", "explain", "doctor", "logs")},
    **{name: (name,) for name in ("runs", "history", "costs", "report")},
    **{name: (name,) for name in ("audit", "metrics", "traces")},
    "task": ("task", "task_add", "task_change", "task_edit"),
    "inbox": ("inbox",),
    "agent": ("agent", "agent_pause"),
    **{name: (name,) for name in ("limits", "run", "stop")},
    "queue": ("queue_migrate",),
    "pr": ("pr", "pr_checkout", "pr_review"),
    **{name: (name,) for name in ("dashboard", "clean", "hosts", "demo", "completion")},
    "_words": ("completion",),
    **dict.fromkeys(("_probe", "_follow"), ("init",)),
    **dict.fromkeys(("_news", "_skill"), ("session",)),
    "_history": ("tuning",),
}

#: Commands that agents call often, whose module is enough without the others of their group.
ALONE = {"task add": "task_add"}


def argument(*names: str, **options: Any) -> Argument:
    """Return an argument; the parameters are those of `ArgumentParser.add_argument`."""
    return names, options


def flag(name: str, text: str, *others: str) -> Argument:
    """Return an option without a value; `text` is its help, `others` are its other names."""
    return argument(name, *others, action="store_true", help=text)


#: An option of each command that gives the agents work: `main` starts a tick after it.
NO_TICK = flag("--no-tick", "start no tick at once; the next tick of the schedule sees the change")


def command(words: str, *arguments: Argument | list[Argument]) -> Callable[[Run], Run]:
    """Declare the decorated function as a command."""

    def declare(run: Run) -> Run:
        COMMANDS[words] = run, run.__doc__ or "", arguments
        return run

    return declare


def group(words: str, text: str | None) -> None:
    """Declare a group of commands; `text` is its help, in the form of a docstring."""
    COMMANDS[words] = None, text or "", ()


def declared(wanted: list[str]) -> list[str]:
    """Load and return the commands that may be meant, each group before its commands."""
    alone = " ".join(wanted[:2])
    if alone in ALONE:
        image.load(ALONE[alone], f"orchestrator.cli.{ALONE[alone]}")
        return [wanted[0], alone]
    first = wanted[0] if wanted else ""
    names = {"--version": []}.get(first, [first] if first in MODULES else list(MODULES))
    modules = [f"orchestrator.cli.{module}" for name in names for module in MODULES[name]]
    image.load(first if len(names) == 1 else "all", *modules)
    # A group's words are the beginning of those of its commands.
    found = [(names.index(w.split()[0]), w) for w in COMMANDS if w.split()[0] in names]
    return [words for _, words in sorted(found)]
