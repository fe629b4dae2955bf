"""The command line's grammar: commands register themselves, wrong words get a suggestion."""

from __future__ import annotations

import argparse
import re
import sys
from importlib import import_module
from typing import Any, NoReturn

from orchestrator import __version__
from orchestrator.errors import UsageError, did_you_mean

#: The modules that hold commands, in the order of the help text, each with its commands. Only the
#: module of the command that is called is imported: an agent's command costs mostly its imports.
_MODULES = {
    "init": ("init", "_follow", "_probe"),
    "tick": ("tick",),
    "reports": ("status", "watch", "explain", "doctor"),
    "logs": ("logs",),
    "task": ("task",),
    "inbox": ("inbox",),
    "agent": ("agent", "limits"),
    "run_and_stop": ("run", "stop"),
    "pr": ("pr",),
    "clean": ("clean",),
    "demo": ("demo",),
    "session": ("_news", "_skill"),
    "tuning": ("_history",),
}


#: Words that people try first, and the commands they mean.
_MEANT = {
    "pause": "agent pause",
    "resume": "agent resume",
    "add": "task add",
    "retry": "task retry",
    "cancel": "task cancel",
    "list": "task list",
    "merge": "pr merge",
    "answer": "inbox answer",
    "help": "--help",
    "start": "agent resume",
    "kill": "stop",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, with a suggestion, instead of exiting."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        # Python 3.11 quotes the choices, later ones do not.
        found = re.fullmatch(
            r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL
        )
        if found:
            what, word, listed = found.groups()
            choices = [choice.strip(" '") for choice in listed.split(",")]
            choices = [choice for choice in choices if not choice.startswith("_")]
            hint = did_you_mean(word, choices)
            if what == "COMMAND" and self.prog == "orchestrator" and word in _MEANT:
                hint = f"did you mean 'orchestrator {_MEANT[word]}'?"
            raise UsageError(f"{what}: there is no {word!r}", hint)
        hint = f"see: {self.prog} --help"
        if message.startswith("unrecognized arguments: "):
            known = [o for action in self._actions for o in action.option_strings]
            hint = did_you_mean(message.split()[2].split("=")[0], known, hint)
        raise UsageError(message, hint)


def parse(words: list[str]) -> argparse.Namespace:
    """Read a command line. Raises UsageError; exits for --help and --version."""
    words = _options_last(words)
    parser = _build(_first_command(words))
    arguments, rest = parser.parse_known_args(words)
    if rest and hasattr(arguments, "rest") and not any(word.startswith("-") for word in rest):
        # argparse gives up a list at the first option: `add NAME --role ROLE key=value`.
        setattr(arguments, arguments.rest, [*getattr(arguments, arguments.rest), *rest])
        rest = []
    if rest:
        # The command's own parser knows the options that one could have meant.
        getattr(arguments, "parser", parser).error(f"unrecognized arguments: {' '.join(rest)}")
    if not hasattr(arguments, "command"):
        asked = getattr(arguments, "parser", parser)
        asked.print_help(sys.stderr)
        example = "orchestrator status" if asked is parser else f"{asked.prog} list"
        raise UsageError("no command given", f"for example: {example}")
    return arguments


def _options_last(words: list[str]) -> list[str]:
    """Move the options that hold everywhere to the front, so that they may stand anywhere."""
    front, rest, queue = [], [], list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            rest += [word, *queue]
            break
        if word == "--project":
            front += [word, *queue[:1]]
            queue = queue[1:]
        elif word == "--json" or word.startswith("--project="):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def _first_command(words: list[str]) -> str | None:
    """Return the word that names the command; None when there is none before any option."""
    options = iter(words)
    for word in options:
        if word == "--project":
            next(options, None)
        elif not word.startswith("-"):
            return word
    return None


def _build(wanted: str | None) -> Parser:
    """Make the parser: of one command if `wanted` is one, else of all of them."""
    parser = Parser(
        prog="orchestrator",
        description="Runs coding agents over a queue of markdown tasks.",
        epilog="examples:\n"
        "  orchestrator demo                      see the whole system at work, no account needed\n"
        "  orchestrator init                      set this project up\n"
        "  orchestrator task add --title 'Fix the login form' --role implement\n"
        "  orchestrator status                    what happens, and what is wrong\n"
        "  orchestrator explain impl-agent-1      why an agent does nothing",
    )
    parser.add_argument("--version", action="version", version=f"orchestrator {__version__}")
    parser.add_argument("--project", metavar="DIR", help="the project to work on (default: here)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    of_wanted = [name for name, words in _MODULES.items() if wanted in words]
    for name in of_wanted or _MODULES:
        import_module(f"orchestrator.cli.{name}").register(commands)
    return parser


def command(
    commands: Any, name: str, function: Any, summary: str, examples: str = "", **options: Any
) -> Parser:
    """Add a command to a group; return its parser, for its arguments."""
    epilog = f"examples:\n{examples}" if examples else None
    parser: Parser = commands.add_parser(
        name, help=summary, description=summary, epilog=epilog, **options
    )
    parser.set_defaults(command=function, parser=parser)
    return parser


def seconds(text: str) -> float:
    """Read a span of time from the command line, for `type=`."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds, found {text!r}")
    return value


def group(commands: Any, name: str, summary: str, examples: str = "") -> Any:
    """Add a command that has sub-commands; return where they are added."""
    epilog = f"examples:\n{examples}" if examples else None
    parser: Parser = commands.add_parser(name, help=summary, description=summary, epilog=epilog)
    parser.set_defaults(parser=parser)
    return parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
