"""The start of a git process: whatever keeps git from starting is an error that says so."""

import errno
import os
from collections.abc import Mapping, Sequence

from orchestrator.model.errors import GitError, SystemFault
from orchestrator.system import commands, memory


def run(
    words: Sequence[str],
    cwd: str,
    environment: Mapping[str, str],
    timeout: float,
    stdin: str | None = None,
) -> commands.Finished:
    """Run git to its end, within `timeout` seconds.

    Raises GitError if the folder `cwd` is gone, and SystemFault if git cannot be started.
    """
    try:
        return commands.run(
            ("git", *words), cwd=cwd, environment=environment, timeout=timeout, stdin=stdin
        )
    except FileNotFoundError as error:
        if error.filename == cwd or not os.path.isdir(cwd):  # it may be there again
            raise GitError(f"the folder {cwd} is gone") from error
        if error.filename != "git":
            # `tempfile` says so if it can create no file: no space, or too many open files.
            hint = "free some space there, or set TMPDIR to a folder that can be written"
            raise SystemFault(f"git could not be started: {error.strerror}", hint) from error
        message = "git is not installed, or not on this process's PATH"
        hint = "install git, then run: orchestrator doctor"
        raise SystemFault(message, hint, code="git_missing") from error
    except OSError as error:
        code = memory.WORD if error.errno == errno.ENOMEM else None
        raise SystemFault(f"git could not be started: {error.strerror}", code=code) from error
