"""Declares commands: a command's arguments are data, and its help is its function's docstring.

The first paragraph of the docstring is the summary; the rest is shown below the options. `parser`
reads the declarations. Nothing of argparse is loaded here, because the schedule's `tick` has no
options to parse.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import argparse

#: Runs a command; returns its exit code, where None means 0.
Run = Callable[["argparse.Namespace"], int | None]


#: The parameters of `argparse.ArgumentParser.add_argument`: names and options.
Argument = tuple[tuple[str, ...], dict[str, Any]]


class Command(NamedTuple):
    """A command, or a group of commands: then `run` is None."""

    run: Run | None
    help: str
    arguments: tuple[Argument | list[Argument], ...] = ()


#: The commands of all modules that are loaded, by their words, as in `task add`.
COMMANDS: dict[str, Command] = {}


def argument(*names: str, **options: Any) -> Argument:
    """Return an argument; the parameters are those of `ArgumentParser.add_argument`."""
    return names, options


def flag(name: str, text: str) -> Argument:
    """Return an option without a value; `text` is its help."""
    return argument(name, action="store_true", help=text)


def command(words: str, *arguments: Argument | list[Argument]) -> Callable[[Run], Run]:
    """Declare the decorated function as a command; arguments in a list exclude each other."""

    def declare(run: Run) -> Run:
        COMMANDS[words] = Command(run, run.__doc__ or "", arguments)
        return run

    return declare


def group(words: str, text: str | None) -> None:
    """Declare a group of commands; `text` is its help, in the form of a docstring."""
    COMMANDS[words] = Command(None, text or "")
