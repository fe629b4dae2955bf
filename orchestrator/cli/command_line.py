"""Reads command lines: plain ones without argparse, whose import and parser take milliseconds.

What may be wrong, asks for help, or has a meaning that only argparse knows is left to argparse.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.cli.parser import COMMANDS, MODULES, Argument, Namespace, declared
from orchestrator.model.annotations import Any

#: What `ArgumentParser.add_argument` is given for options that are read here.
_KNOWN = {"help", "metavar", "default", "choices", "type"}


class _Unusual(Exception):
    """The line is for argparse."""


def parse(words: list[str]) -> Namespace:
    """Read a command line. Raises UsageError; exits for --help and --version."""
    found = plain(words)
    if found is None:
        from orchestrator.cli import argument_parser

        return argument_parser.parse(words)
    return found


def plain(words: list[str]) -> Namespace | None:
    """Return the command and its arguments, as argparse does; None if argparse is to read them."""
    if not words or words[0] not in MODULES:
        return None
    known = declared([word for word in words if word[:1] != "-"])
    fits = [name for name in known if words[: name.count(" ") + 1] == name.split()]
    name = max(fits, key=len, default="")
    run, _, arguments = COMMANDS.get(name, (None, "", ()))
    if run is None:
        return None
    try:
        values = _values(words[name.count(" ") + 1 :], arguments)
    except _Unusual:
        return None
    return Namespace(command=run, prog=f"orchestrator {name}", **values)


def _values(words: list[str], arguments: tuple[Argument | list[Argument], ...]) -> dict[str, Any]:
    """Return the values of a command's arguments. Raises _Unusual."""
    # The options of every command.
    options: dict[str, Argument] = {
        "--json": (("--json",), {"action": "store_true"}),
        "--project": (("--project",), {}),
    }
    rival: dict[str, int] = {}
    positional: list[Argument] = []
    values: dict[str, Any] = {"json": False, "project": None}
    for group, each in enumerate(arguments):
        for names, how in [each] if isinstance(each, tuple) else each:
            own = _own(names)
            values[own] = how.get("default", False if how.get("action") == "store_true" else None)
            if names[0][0] != "-":
                positional.append((names, how))
                continue
            for name in names:
                options[name] = names, how
            if isinstance(each, list):
                rival[own] = group
    given: dict[str, Any] = {}
    rest = iter(words)
    plain = [word for word in rest if not _is_option(word, rest, options, given)]
    seen = [rival[own] for own in given if own in rival]
    required = {_own(names) for names, how in options.values() if how.get("required")}
    if len(seen) != len(set(seen)) or not required <= given.keys():
        raise _Unusual
    return values | given | _positional(plain, positional)


def _own(names: tuple[str, ...]) -> str:
    """Return the name of an argument's value."""
    first = next((name for name in names if name.startswith("--")), names[0])
    return first.lstrip("-").replace("-", "_")


def _is_option(
    word: str, rest: Iterator[str], options: dict[str, Argument], given: dict[str, Any]
) -> bool:
    """Note an option with its value in `given`; return False for another word."""
    if word[:1] != "-" or word == "-":
        return False
    name, equals, value = word.partition("=")
    if name not in options:
        raise _Unusual
    names, how = options[name]
    own, action = _own(names), how.get("action")
    if action == "store_true" and not equals:
        given[own] = True
        return True
    if how.keys() - _KNOWN - {"action", "required"} or action not in (None, "append"):
        raise _Unusual
    found = _value(value if equals else next(rest, "--"), how)
    before: list[Any] = given.get(own) or how.get("default") or []
    given[own] = [*before, found] if action else found
    return True


def _value(word: str, how: dict[str, Any]) -> Any:
    """Return the value that a word stands for. Raises _Unusual."""
    if not word or (word[0] == "-" and word != "-"):
        raise _Unusual
    try:
        value = how.get("type", str)(word)
    except (TypeError, ValueError):
        raise _Unusual from None
    if value not in how.get("choices", (value,)):
        raise _Unusual
    return value


def _positional(words: list[str], arguments: list[Argument]) -> dict[str, Any]:
    """Return the values of the arguments that are no options. Raises _Unusual."""
    given: dict[str, Any] = {}
    for place, (names, how) in enumerate(arguments):
        number = how.get("nargs")
        is_list = number in ("*", "+")
        if how.keys() - _KNOWN - {"nargs"} or number not in (None, "?", "*", "+"):
            raise _Unusual
        if number is not None and place + 1 < len(arguments):
            raise _Unusual
        taken = [_value(word, how) for word in (words if is_list else words[:1])]
        if not taken and number in (None, "+"):
            raise _Unusual
        words = words[len(taken) :]
        if taken or is_list:
            given[names[0]] = taken if is_list else taken[0]
    if words:
        raise _Unusual
    return given
