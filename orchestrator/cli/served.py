"""The commands for the page: the same functions, with their arguments as data instead of words.

A read runs in this process, and returns what the command prints with `--json`. A change is a
process of its own, as on the command line: it goes on when the page ends, and may fork a run.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping

from orchestrator.cli import output, parser
from orchestrator.cli.command_line import parse
from orchestrator.cli.main import refusal
from orchestrator.cli.parser import Argument
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.errors import OrchestratorError, UsageError, did_you_mean
from orchestrator.page.commands import Answer, Commands, Refused
from orchestrator.system import process

#: Bytes of one word that Linux passes to a program (MAX_ARG_STRLEN in linux/binfmts.h).
MOST_BYTES = 128 * 1024 - 1
#: The text of a command that may be long, or that other users of the machine must not see among the
#: processes: its name in the request, and the argument that reads standard input for `-`.
LONG_TEXTS = {
    "task add": ("body", "body_file"),
    "task edit": ("text", "file"),
    "task set": ("body", "body_file"),
    "inbox answer": ("text", "text"),
    "inbox reject": ("text", "text"),
    "pr request-changes": ("text", "text"),
}

#: Arguments that are for a terminal: they name files of this machine, open an editor, print for a
#: program or without an end, or make a read command send a message.
ONLY_TYPED = frozenset({"body_file", "file", "edit", "csv", "follow", "raw", "notify"})
#: What a switch takes; "on" is what a form's checkbox sends.
TRUE, FALSE = (True, "true", "on", "1"), (False, None, "false", "off", "0", "")


class Served(Commands):
    """The commands of one project."""

    def __init__(self, layout: Layout) -> None:
        self._root = layout.root
        parser.declared([])  # imports the modules of all commands, before there are threads

    def read(
        self, words: str, values: Mapping[str, object] | None = None, subject: str | None = None
    ) -> Any:
        return self._caught(words, subject, values or {}, "--json").value

    def text(self, words: str) -> str:
        return "\n".join(self._caught(words, None, {}).lines) + "\n"

    def change(
        self, words: str, values: Mapping[str, object], subject: str | None = None
    ) -> Answer:
        _refuse_typed(words, values)
        given = dict(values)
        name, argument = LONG_TEXTS.get(words, ("", ""))
        text = given.pop(name, None)
        written = "".join(_words(name, text, most=None))
        if text is not None:
            given[argument] = "-"
        line = command_line(words, subject, given, "--json", f"--project={self._root}")
        # A file and not a pipe: a page that ends leaves no half of a text to its last command.
        with tempfile.TemporaryFile() as stdin:
            stdin.write(_encoded(written))
            stdin.seek(0)
            done = subprocess.run(
                [*process.own_program(), *line],
                stdin=stdin,
                capture_output=True,
                check=False,
                cwd=self._root,
                # An editor would wait in the page's terminal for somebody who sits elsewhere.
                env={k: v for k, v in os.environ.items() if k not in ("VISUAL", "EDITOR")},
                # Ctrl-C in the page's terminal does not end a merge half-way.
                start_new_session=True,
            )
        said = tuple(done.stderr.decode(errors="replace").splitlines())
        try:
            value = json.loads(done.stdout)
        except ValueError:
            value = None
        if done.returncode:
            told = value.get("error") if isinstance(value, dict) else None
            error = told or {"code": "failed", "message": "\n".join(said) or "the command failed"}
            raise Refused(error["message"], error.get("hint"), code=error["code"])
        return Answer(value, said)

    def _caught(
        self, words: str, subject: str | None, values: Mapping[str, object], *more: str
    ) -> output.Caught:
        _refuse_typed(words, values)
        line = command_line(words, subject, values, *more, f"--project={self._root}")
        arguments = parse(line)
        with output.caught() as found:
            try:
                arguments.command(arguments)
            except Exception as error:
                refused = refusal(error)
                if refused is None or refused is error:
                    raise
                raise refused from error
        return found


def command_line(
    words: str, subject: str | None, values: Mapping[str, object], *options: str
) -> list[str]:
    """Return the words of a command with these arguments; no value is read as an option. Pure.

    The parameters are those of `Commands`. Raises UsageError for a name that the command does not
    know and for a value of another kind, and OrchestratorError for a text that no program takes.
    """
    given = dict(values)
    line, positional = [*words.split(), *options], _words("the name", subject)
    declared = _declared(words)
    for name, (names, how) in declared.items():
        several = how.get("nargs") in ("*", "+") or how.get("action") == "append"
        if names[0][0] != "-":
            if subject is not None and name in given and name == next(iter(declared)):
                hint = f"leave {name!r} out of the request's values"
                raise UsageError(f"{name!r} cannot be set: the address names {subject}", hint)
            positional += _words(name, given.pop(name, None), several=several)
        elif how.get("action") == "store_true":
            line += [names[0]] if _is_on(name, given.pop(name, False)) else []
        else:
            found = _words(name, given.pop(name, None), several=several)
            line += [f"{names[0]}={word}" for word in found]
    if any(how.get("metavar") == "key=value" for _, how in declared.values()):
        nothing = "" if words == "task set" else "null"
        pairs = ((key, nothing if value is None else value) for key, value in given.items())
        positional += [_checked(f"{key}={_text(value)}") for key, value in pairs]
    elif given:
        name = next(iter(given))
        known = did_you_mean(name, declared) if declared else "leave it out"
        raise UsageError(f"`{words}` takes no {name!r}", known)
    return [*line, "--", *positional] if positional else line


def _declared(words: str) -> dict[str, Argument]:
    """Return the arguments of a command by name."""
    listed = parser.COMMANDS[words][2]
    every = [a for each in listed for a in (each if isinstance(each, list) else [each])]
    return {each[0][0].lstrip("-").replace("-", "_"): each for each in every}


def _refuse_typed(words: str, values: Mapping[str, object]) -> None:
    """Raise UsageError for an argument that a request may not have."""
    for name in (each for each in _declared(words) if each in ONLY_TYPED and each in values):
        other = LONG_TEXTS.get(words, (None,))[0]
        hint = f"give the text itself, as {other!r}" if other else "leave it out"
        raise UsageError(f"{name!r} is only for the command line", hint)


def _is_on(name: str, value: object) -> bool:
    if value not in (*TRUE, *FALSE):
        raise UsageError(f"{name}: expected true or false", f'for example: {{"{name}": true}}')
    return value in TRUE


def _words(
    name: str, value: object, *, several: bool = False, most: int | None = MOST_BYTES
) -> list[str]:
    """Return the words of one argument; [] for None. Raises UsageError for another kind."""
    each = value if several and isinstance(value, list) else [] if value is None else [value]
    for one in each:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            kind = "a text, or a list of texts" if several else "a text"
            raise UsageError(f"{name}: expected {kind}", f'for example: {{"{name}": "..."}}')
    return [_checked(str(one), most) for one in each]


def _text(value: object) -> str:
    """Return a value as a person writes it after `key=`. Raises UsageError for a JSON object."""
    if isinstance(value, dict):
        raise UsageError("a value is a JSON object", "give a text, a number, or a list of these")
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked(word: str, most: int | None = MOST_BYTES) -> str:
    """Return a word that can be passed to a program. Raises OrchestratorError for another."""
    data = _encoded(word)
    if b"\0" in data:
        raise UsageError("a NUL character is in the text", "remove it")
    if most is not None and len(data) > most:
        raise OrchestratorError("the text is longer than 128 KiB", "shorten it", code="too_long")
    return word


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        message = f"the text is not Unicode (character {error.start})"
        raise UsageError(message, "remove the character") from error
