"""Declares commands, and builds argparse's parser of the declared commands.

A command's arguments are data, and its help is its function's docstring: the first paragraph is the
summary, and the rest, its examples, is shown below the options.
"""

from __future__ import annotations

import argparse
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from orchestrator import __version__
from orchestrator.errors import UsageError, did_you_mean

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
    "pr": ("pr", "pr_review"),
    **{name: (name,) for name in ("dashboard", "clean", "hosts", "demo", "completion")},
    "_words": ("completion",),
    "_probe": ("init",),
    "_follow": ("init",),
    "_news": ("session",),
    "_skill": ("session",),
    "_history": ("tuning",),
}

#: Commands that agents call often, whose module is enough without the others of their group.
ALONE = {"task add": "task_add"}

#: Words that people try first, and the commands they mean.
_MEANT = {
    "pause": "agent pause",
    "resume": "agent resume",
    "add": "task add",
    "retry": "task retry",
    "cancel": "task cancel",
    "list": "task list",
    "merge": "pr merge",
    "approve": "pr approve",
    "reject": "pr request-changes",
    "diff": "pr diff",
    "answer": "inbox answer",
    "help": "--help",
    "start": "agent resume",
    "kill": "stop",
}
#: Values of arguments, for the example of a command whose docstring has none.
_VALUES = {
    **dict.fromkeys(("agent", "name", "subject"), "impl-agent-1"),
    **dict.fromkeys(("id", "ids"), "TASK-a1b2c3d4"),
    "pr": "3",
    "settings": "max_claimed=3",
    "words": "'Fix the login form'",
    "state": "done",
    "text": "'Keep the old format.'",
}
_HELP = """Runs coding agents over a queue of markdown tasks.

examples:
  orchestrator demo                      see the whole system run, no account needed
  orchestrator init                      set this project up
  orchestrator task add 'Fix the login form'
  orchestrator status                    what runs, and what is wrong
  orchestrator explain impl-agent-1      why an agent does not start"""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, with a suggestion, instead of exiting."""

    def __init__(self, **options: Any) -> None:
        # argparse makes a formatter per argument; one with a width does not ask the terminal.
        checks = partial(argparse.RawDescriptionHelpFormatter, width=80)
        super().__init__(allow_abbrev=False, **{"formatter_class": checks, **options})

    def format_help(self) -> str:
        import textwrap

        self.epilog = textwrap.dedent(self.epilog or "")
        self.formatter_class = argparse.RawDescriptionHelpFormatter  # as wide as the terminal
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        # Python 3.11 quotes the choices, later ones do not.
        found = re.fullmatch(
            r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL
        )
        if found:
            what, word, listed = found.groups()
            choices = [choice.strip(" '") for choice in listed.split(",")]
            hint = did_you_mean(word, [choice for choice in choices if choice[:1] != "_"])
            if what == "COMMAND" and self.prog == "orchestrator" and word in _MEANT:
                hint = f"did you mean 'orchestrator {_MEANT[word]}'?"
            unknown = "there is no command" if what == "COMMAND" else f"{what} cannot be"
            raise UsageError(f"{unknown} {word!r}", hint)
        hint = f"see: {self.prog} --help"
        if message.startswith("unrecognized arguments: "):
            known = [o for action in self._actions for o in action.option_strings]
            hint = did_you_mean(message.split()[2].split("=")[0], known, hint)
        raise UsageError(message, hint)


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


def parse(words: list[str]) -> Namespace:
    """Read a command line. Raises UsageError; exits for --help and --version."""
    pairs = zip(["", *words], words, strict=False)
    own = [
        word
        for before, word in pairs
        if before != "--project" and (word[:1] != "-" or word == "--version")
    ]
    parser = _build(own)
    arguments, rest = parser.parse_known_args(words)
    if rest and hasattr(arguments, "rest") and not any(word.startswith("-") for word in rest):
        # argparse gives up a list at the first option: `add NAME --role ROLE key=value`.
        setattr(arguments, arguments.rest, [*getattr(arguments, arguments.rest), *rest])
        rest = []
    asked: Parser = getattr(arguments, "parser", parser)
    if rest:
        # The command's own parser knows the options that are near the unknown one.
        asked.error(f"unrecognized arguments: {' '.join(rest)}")
    if not hasattr(arguments, "command"):
        asked.print_help(sys.stderr)
        raise UsageError("no command given", f"for example: {_example(asked.prog)}")
    return arguments


def _example(prog: str) -> str:
    """Return a call of a group of commands, or of the whole program, that changes nothing."""
    group = prog.partition(" ")[2]
    names = [name for name in COMMANDS if name.startswith(f"{group} ")]
    if not group:
        return "orchestrator status"
    return f"{prog} list" if f"{group} list" in names else f"orchestrator {names[0]} --help"


def whole() -> Parser:
    """Return the parser of all commands."""
    return _build([])


def _build(wanted: list[str]) -> Parser:
    """Make the parser of the command that these words begin with, or of all without such a command.

    `--version` needs no command.
    """
    parser = Parser(prog="orchestrator", **_help(_HELP))
    parser.add_argument("--version", action="version", version=f"orchestrator {__version__}")
    here = "the project to work on (default: the project of the current folder)"
    parser.add_argument("--project", metavar="DIR", help=here)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parsers, inside = {"": parser}, {}
    for words in _declared(wanted):
        above, _, name = words.rpartition(" ")
        if above not in inside:
            inside[above] = parsers[above].add_subparsers(
                title="commands", metavar="COMMAND", parser_class=Parser
            )
        texts = _help(COMMANDS[words][1] if words in COMMANDS else "")
        shown = {} if name.startswith("_") else {"help": texts["description"].replace("%", "%%")}
        parsers[words] = inside[above].add_parser(name, **shown, **texts)
        _fill(parsers[words], words)
    return parser


def _declared(wanted: list[str]) -> list[str]:
    """Load and return the commands that may be meant, each group before its commands."""
    alone = " ".join(wanted[:2])
    if alone in ALONE:
        import_module(f"orchestrator.cli.{ALONE[alone]}")
        return [wanted[0], alone]
    first = wanted[0] if wanted else ""
    names = {"--version": []}.get(first, [first] if first in MODULES else list(MODULES))
    for module in (module for name in names for module in MODULES[name]):
        import_module(f"orchestrator.cli.{module}")
    # A group's words are the beginning of those of its commands.
    found = [(names.index(w.split()[0]), w) for w in COMMANDS if w.split()[0] in names]
    return [words for _, words in sorted(found)]


def _help(text: str) -> dict[str, Any]:
    """Return the two parts of a command's help, as options of a parser."""
    summary, _, rest = text.partition("\n\n")
    return {"description": " ".join(summary.split()).rstrip("."), "epilog": rest}


def _fill(parser: Parser, words: str) -> None:
    """Add a command's arguments, and what `parse` and `main` want to know."""
    run, _, arguments = COMMANDS.get(words, (None, "", ()))  # a group that is not loaded
    example = f"examples:\n  {parser.prog}"
    # The options of every command may stand anywhere; the help of `orchestrator` shows them.
    for name, action in ("--project", "store"), ("--json", "store_true"):
        hidden = argparse.SUPPRESS
        parser.add_argument(name, action=action, default=hidden, help=hidden)
    for each in arguments:
        target = parser if isinstance(each, tuple) else parser.add_mutually_exclusive_group()
        for names, options in [each] if isinstance(each, tuple) else each:
            target.add_argument(*names, **options)
            example += f" {_VALUES[names[0]]}" if names[0] in _VALUES else ""
            if options.get("nargs") in ("*", "+"):
                parser.set_defaults(rest=names[0])
    parser.epilog = parser.epilog or example
    parser.set_defaults(parser=parser, **({"command": run} if run else {}))
