"""The command line: the only place that prints, and the only one where errors become exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from orchestrator.cli import command_line, output
from orchestrator.cli.parser import Namespace
from orchestrator.client import registry
from orchestrator.layout import resources
from orchestrator.model.errors import OrchestratorError
from orchestrator.system import waits


def main(words: Sequence[str]) -> int:
    """Run one command line and return its exit code. Never raises for bad input.

    0 is done, 1 refused or failed, 2 wrong usage, 3 a bug (reference 5).
    """
    as_json = "--json" in words
    _leave_session()
    waits.tell = output.waiting
    try:
        arguments = command_line.parse(list(words))
        code: int = arguments.command(arguments) or 0
        sys.stdout.flush()
        if code == 0 and getattr(arguments, "no_tick", None) is False:
            _tick_soon(arguments)
        return code
    except BrokenPipeError:  # `orchestrator status | head`
        _discard_output()
        return 0
    except KeyboardInterrupt:
        return 130
    except SystemExit as wish:  # argparse, after --help
        return wish.code if isinstance(wish.code, int) else 2
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno != errno.ENOENT:
            _discard_output()  # standard output is on a full disk, for example
        refused = refusal(error)
        if refused is None:
            return output.report_bug(error, as_json=as_json)
        return output.refuse(refused, as_json=as_json)


def load(words: Sequence[str]) -> None:
    """Import the modules of a command line, so that forks of this process need not do so."""
    command_line.parse(list(words))


def _tick_soon(arguments: Namespace) -> None:
    """Start a tick in the background, so that what the command changed takes effect at once."""
    from orchestrator.cli import context
    from orchestrator.tick import soon

    try:
        soon.ask(context.layout(arguments))
    except OSError as error:  # the command itself succeeded
        why = error.strerror or error
        output.err(f"warning: no tick was started at once ({why}); the schedule starts the next")


def _leave_session() -> None:
    """Remove what a session of the client put into the environment of this process.

    A tick that a session's hook or tool starts, its checks and its runs inherit nothing of it.
    """
    for client in registry.CLIENTS.values():
        if any(name.startswith(client.session_marks) for name in os.environ):
            for name in [n for n in os.environ if n.startswith(client.session_names)]:
                del os.environ[name]


def _discard_output() -> None:
    """Let nothing fail when the interpreter flushes standard output at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def refusal(error: Exception) -> OrchestratorError | None:
    """Return an error as a refusal with a hint; None if it is a bug."""
    from orchestrator.system import disk, memory

    match error:
        case OrchestratorError():
            return error
        case ModuleNotFoundError():  # `init.py` and `scheduler.py` can be run with any Python
            message = f"the library {error.name!r} is not installed for {sys.executable}"
            code = "not_installed"
            here = resources()
            hint = (
                f"use {os.path.join(here, 'bin', 'orchestrator')}, which installs it; or: "
                f"pip install -r {os.path.join(here, 'requirements.lock')}"
            )
        case MemoryError():
            message, code, hint = "this process could not get more memory", memory.WORD, memory.HINT
        case FileNotFoundError(filename=None):  # of getcwd(3)
            message, code = "the current folder does not exist any more", "no_project"
            hint = "go to your project, or name it: orchestrator --project DIR ..."
        case OSError():
            message, hint = disk.explained(error)
            message = message if error.filename else f"standard output: {message}"
            code = "system_fault"
        case _:
            return None
    return OrchestratorError(message, hint, code=code)
