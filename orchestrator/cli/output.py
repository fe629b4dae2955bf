"""What commands print: JSON for scripts, plain text elsewhere, tables and colour on a terminal.

Every function here flushes, so the reader of a pipe sees each line of `logs --follow` and `watch`
as soon as it is printed. No other module of the command line may print: ruff refuses it.

Inside `caught`, nothing is printed: the caller gets what the command would print.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar

from orchestrator.cli import columns
from orchestrator.cli.parser import Namespace
from orchestrator.model.annotations import Any
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Problem
from orchestrator.system import json_codec
from orchestrator.text.quoting import visible

#: Every text that is printed goes through it.
harmless = visible


class Caught:
    """What one command would have printed."""

    def __init__(self) -> None:
        #: The JSON; None if the command gave text.
        self.value: Any = None
        self.lines: list[str] = []
        self.warnings: list[str] = []


_CAUGHT: ContextVar[Caught | None] = ContextVar("caught", default=None)


@contextlib.contextmanager
def caught() -> Iterator[Caught]:
    """Let the commands that this thread runs inside print nothing; return what they would print."""
    found = Caught()
    token = _CAUGHT.set(found)
    try:
        yield found
    finally:
        _CAUGHT.reset(token)


def out(text: str = "") -> None:
    """Print one piece of text; its control characters are made visible."""
    if (catching := _CAUGHT.get()) is not None:
        catching.lines.append(harmless(text))
        return
    print(harmless(text), flush=True)


def prose(text: str, indent: int = 0) -> None:
    """Print sentences: on a terminal, a line that is too long ends between two words.

    What follows has the indent of the line, and at least `indent` spaces.
    """
    if _CAUGHT.get() is not None or not on_terminal():
        out(text)
        return
    width = size()[0]
    for line in harmless(text).split("\n"):
        print(line if len(line) <= width else _wrapped(line, width, indent), flush=True)


def _wrapped(line: str, width: int, indent: int) -> str:
    """Return a line as several; a word wider than a line, such as a path, stays whole."""
    import textwrap

    lead = line[: len(line) - len(line.lstrip(" -"))]
    found = textwrap.wrap(
        line[len(lead) :],
        width,
        initial_indent=lead,
        subsequent_indent=" " * max(len(lead), indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(found)


def err(text: str) -> None:
    """Print a warning or a hint on standard error; its control characters are made visible."""
    if (catching := _CAUGHT.get()) is not None:
        catching.warnings.append(harmless(text))
        return
    print(harmless(text), file=sys.stderr)


def progress(text: str) -> None:
    """Say on a person's terminal what takes long. Scripts, pipes and `caught` get nothing."""
    if _CAUGHT.get() is None and sys.stderr.isatty():
        err(text)


def waiting(what: str, left: float) -> None:
    """Say on a person's terminal what this process waits for, and how many seconds at most."""
    progress(f"waiting for {what}, at most {left:.0f} s longer ...")


def warn_of(problems: Iterable[Problem]) -> None:
    """Print problems to standard error, beside the answer of a command."""
    for problem in problems:
        err(f"{problem.code}: {problem.message}")
        if problem.hint:
            err(f"  {problem.hint}")


def copy(data: bytes) -> None:
    """Pass bytes on as they are, for files and pipes; for a terminal made harmless."""
    if on_terminal():
        sys.stdout.write(harmless(data.decode(errors="replace")))
    else:
        sys.stdout.buffer.write(data)
    sys.stdout.flush()


def answer(arguments: Namespace, value: Any, *lines: str) -> None:
    """Print what a command did: `value` if JSON is wanted, else the lines."""
    if arguments.json:
        show_json(value)
        return
    for line in lines:
        out(line)


def show_json(value: Any) -> None:
    """Print a value as JSON. ASCII only: no control character of a title gets through."""
    if (catching := _CAUGHT.get()) is not None:
        catching.value = value
        return
    print(json_codec.indented(value), flush=True)


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def size() -> tuple[int, int]:
    """Return the columns and the lines of the terminal, as it is now."""
    import shutil

    # The variables COLUMNS and LINES do not follow a change of the window.
    with contextlib.suppress(OSError):
        found = os.get_terminal_size(sys.stdout.fileno())
        if found.columns and found.lines:
            return found.columns, found.lines
    columns, lines = shutil.get_terminal_size()
    return columns, lines


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as aligned columns; on a terminal they fit its width."""
    width = size()[0] if on_terminal() else None
    lines, heads = columns.lines(headings, [_cells(row) for row in rows], width)
    if width is not None:
        from rich.text import Text

        bold = "\n".join(lines[:heads])
        console().print(Text.assemble((bold, "bold"), *(f"\n{line}" for line in lines[heads:])))
        return
    for line in lines:
        print(line, flush=True)


def listing(
    arguments: Namespace,
    value: Any,
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    empty: str,
) -> None:
    """Print `value` if JSON is wanted, else the rows as a table; without rows, `empty`."""
    if not rows or arguments.json:
        answer(arguments, value, *filter(None, [empty]))
    else:
        table(headings, rows)


def console() -> Any:
    """Return what draws on the terminal, in colour unless NO_COLOR is set (no-color.org)."""
    from rich.console import Console

    return Console(no_color=bool(os.environ.get("NO_COLOR")), highlight=False)


def _cells(row: Sequence[object]) -> list[str]:
    return [columns.EMPTY if v is None else harmless(str(v)).replace("\n", " ") for v in row]


def refuse(error: OrchestratorError, *, as_json: bool) -> int:
    """Say what failed and what to do next; return the exit code."""
    err(f"orchestrator: {error.message}")
    if error.hint:
        err(f"  {error.hint}")
    if as_json:
        names = ("code", "message", "hint")
        show_json({"error": {name: getattr(error, name) for name in names}})
    return error.exit_code


def report_bug(error: Exception, *, as_json: bool) -> int:
    """Write an unexpected error to a log and say where; exit code 3."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="orchestrator-bug-", suffix=".log", delete=False
    ) as log:
        log.write(" ".join(sys.argv) + "\n")
        traceback.print_exception(error, file=log)
    message = f"this is a bug in orchestrator: {type(error).__name__}: {error}"
    found = OrchestratorError(message, f"please report it with the log: {log.name}", code="bug")
    refuse(found, as_json=as_json)
    return 3
