"""argparse's parser of the declared commands: for help, for errors, and for unusual words."""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial

from orchestrator import __version__
from orchestrator.cli import parser
from orchestrator.cli.parser import COMMANDS, Namespace
from orchestrator.model.annotations import Any, NoReturn
from orchestrator.model.errors import UsageError, did_you_mean

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
#: Values of arguments, for the example of a command whose docstring has no examples.
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
        import shutil
        import textwrap

        width = shutil.get_terminal_size().columns - 2  # as argparse has it
        self.description = textwrap.fill(self.description or "", width, break_on_hyphens=False)
        parts = textwrap.dedent(self.epilog or "").split("\n\n")
        # A part with an indented line, such as the examples, stays as it is.
        self.epilog = "\n\n".join(p if "\n " in p else textwrap.fill(p, width) for p in parts)
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


def parse(words: list[str]) -> Namespace:
    """Read a command line. Raises UsageError; exits for --help and --version."""
    pairs = zip(["", *words], words, strict=False)
    own = [
        word
        for before, word in pairs
        if before != "--project" and (word[:1] != "-" or word == "--version")
    ]
    made = build(own)
    arguments, rest = made.parse_known_args(words)
    if rest and hasattr(arguments, "rest") and not any(word.startswith("-") for word in rest):
        # argparse gives up a list at the first option: `add NAME --role ROLE key=value`.
        setattr(arguments, arguments.rest, [*getattr(arguments, arguments.rest), *rest])
        rest = []
    asked: Parser = getattr(arguments, "parser", made)
    if rest:
        # The command's own parser knows the options that are near the unknown one.
        import shlex

        asked.error(f"unrecognized arguments: {shlex.join(rest)}")
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


def build(wanted: list[str]) -> Parser:
    """Make the parser of the command that these words begin with, or of all without such a command.

    `--version` needs no command.
    """
    made = Parser(prog="orchestrator", **_help(_HELP))
    made.add_argument("--version", action="version", version=f"orchestrator {__version__}")
    here = "the project to work on (default: the project of the current folder)"
    made.add_argument("--project", metavar="DIR", help=here)
    made.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parsers, inside = {"": made}, {}
    for words in parser.declared(wanted):
        above, _, name = words.rpartition(" ")
        if above not in inside:
            inside[above] = parsers[above].add_subparsers(
                title="commands", metavar="COMMAND", parser_class=Parser
            )
        texts = _help(COMMANDS[words][1] if words in COMMANDS else "")
        shown = {} if name.startswith("_") else {"help": texts["description"].replace("%", "%%")}
        parsers[words] = inside[above].add_parser(name, **shown, **texts)
        _fill(parsers[words], words)
    return made


def _help(text: str) -> dict[str, Any]:
    """Return the two parts of a command's help, as options of a parser."""
    summary, _, rest = text.partition("\n\n")
    return {"description": " ".join(summary.split()).rstrip("."), "epilog": rest}


def _fill(made: Parser, words: str) -> None:
    """Add a command's arguments, and what `parse` and `main` want to know."""
    run, _, arguments = COMMANDS.get(words, (None, "", ()))  # a group that is not loaded
    example = f"examples:\n  {made.prog}"
    # The options of every command may stand anywhere; the help of `orchestrator` shows them.
    for name, action in ("--project", "store"), ("--json", "store_true"):
        hidden = argparse.SUPPRESS
        made.add_argument(name, action=action, default=hidden, help=hidden)
    for each in arguments:
        target = made if isinstance(each, tuple) else made.add_mutually_exclusive_group()
        for names, options in [each] if isinstance(each, tuple) else each:
            target.add_argument(*names, **options)
            example += f" {_VALUES[names[0]]}" if names[0] in _VALUES else ""
            if options.get("nargs") in ("*", "+"):
                made.set_defaults(rest=names[0])
    made.epilog = made.epilog or example
    made.set_defaults(parser=made, prog=made.prog, **({"command": run} if run else {}))
