"""The start of a git process, and what a person does about a file that stops every git command.

Whatever keeps git from starting is an error that says so.
"""

import errno
import os
import re
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


#: What git says, and the step that repairs it.
_STEPS = (
    (
        # Git quotes the path for a shell.
        r"(?s)dubious ownership in repository.*safe\.directory (?P<path>[^\n]+)",
        "chown the folder, or: git config --global --add safe.directory {path}",
    ),
    (
        r"(unexpected|unterminated) line in (?P<path>\S*packed-refs)",
        "keep a copy of {path}, then remove the line that git quotes (a sound line is a commit id, "
        "a space and the full name of a ref)",
    ),
    (
        r"multi-pack-index",
        "git can do without this file: git multi-pack-index write; or remove "
        ".git/objects/pack/multi-pack-index",
    ),
    (
        r"bad config line \d+ in file (?P<path>\S+)",
        "correct that line of {path}",
    ),
    (
        r"bad object|missing object|unable to read|missing blob|loose object \S+ .*corrupt",
        "an object is missing or damaged; to see what needs it: orchestrator doctor",
    ),
)


def repair(complaint: str) -> str | None:
    """Return the step that repairs what git complains of; None if that is no damage in a file."""
    for pattern, step in _STEPS:
        if found := re.search(pattern, complaint):
            return step.format(**found.groupdict())
    return None
