"""The command line: the only place that prints, and the only one where errors become exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from orchestrator.cli import output, parser
from orchestrator.errors import OrchestratorError
from orchestrator.system import locks


def main(words: Sequence[str]) -> int:
    """Run one command line and return its exit code. Never raises for bad input.

    0 is done, 1 refused or failed, 2 wrong usage, 3 a bug (reference 5).
    """
    as_json = "--json" in words
    if sys.stdout is None:  # `orchestrator status >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of this process)
    try:
        arguments = parser.parse(list(words))
        code: int = arguments.command(arguments) or 0
        sys.stdout.flush()
        return code
    except OrchestratorError as error:
        return output.refuse(error, as_json=as_json)
    except BrokenPipeError:  # `orchestrator status | head`
        _discard_output()
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is None:  # standard output is on a full disk, for example
            _discard_output()
        return output.refuse(_from_the_system(error), as_json=as_json)
    except locks.LockHeld as held:
        return output.refuse(_busy(held), as_json=as_json)
    except SystemExit as wish:  # argparse, after --help
        return wish.code if isinstance(wish.code, int) else 2
    except ModuleNotFoundError as error:
        return output.refuse(_not_installed(error), as_json=as_json)
    except Exception as error:
        return output.report_bug(error, as_json=as_json)


def _discard_output() -> None:
    """Let nothing fail when the interpreter flushes standard output at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _busy(held: locks.LockHeld) -> OrchestratorError:
    """Another process holds a lock for longer than the command waits."""
    return OrchestratorError(
        f"another process works on the same thing (it holds {held.args[0]})",
        "try again in a moment; see: orchestrator status",
        code="busy",
    )


def _not_installed(error: ModuleNotFoundError) -> OrchestratorError:
    """A library is missing: the scripts `init.py` and `scheduler.py` can be run with any Python."""
    return OrchestratorError(
        f"the library {error.name!r} is not installed for {sys.executable}",
        "use bin/orchestrator, which installs it; or: pip install -r requirements.lock",
        code="not_installed",
    )


def _from_the_system(error: OSError) -> OrchestratorError:
    """The system refused access to a file or a folder."""
    where = error.filename or "standard output"
    return OrchestratorError(
        f"{where}: {error.strerror or error}",
        "check its owner, its permissions and the free space of its disk",
        code="system_fault",
    )
