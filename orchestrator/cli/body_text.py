"""Longer texts that a person or an agent gives to a command: from a file or standard input."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping

from orchestrator.model.config import Role
from orchestrator.model.errors import OrchestratorError, UsageError
from orchestrator.tasks.task_file import MAX_TASK_BYTES

#: Characters of an answer: it leads every later prompt of its task.
MAX_ANSWER = 64 * 1024
HELP = "your words; - reads standard input"


def read(path: str, within: str | None = None) -> str:
    """Return the text in a file; `-` is standard input. Raises OrchestratorError.

    With `within`, only files of that folder are read.
    """
    if within is not None and path != "-":
        real, top = os.path.realpath(path), os.path.realpath(within)
        if os.path.commonpath((real, top)) != top:
            message = f"inside this run only files of {within} can be read"
            hint = "give the text on standard input: --body-file -"
            raise OrchestratorError(message, hint, code="refused_in_run")
    name = "standard input" if path == "-" else path
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
            data = file.read(MAX_TASK_BYTES + 1)
        check_size(data)
        return data.decode().removeprefix("\ufeff")
    except OSError as error:
        message = f"the text cannot be read from {name}: {error.strerror}"
        hint = "name a text file, or give the text on standard input: -"
    except UnicodeDecodeError as error:
        message, hint = f"{name} is not UTF-8 text (byte {error.start})", "save it as UTF-8"
    raise OrchestratorError(message, hint, code="text_unreadable")


def answer(given: str) -> str:
    """Return a person's answer or review: the argument itself, or standard input for `-`.

    Raises OrchestratorError.
    """
    text = read("-") if given == "-" else given
    if not text.strip():
        raise UsageError("the text is empty", "say it in a few words, or give - for standard input")
    if len(text) > MAX_ANSWER:
        hint = "put the details into a file, and name the file in the text"
        raise OrchestratorError("the text is over 64 KiB", hint, code="too_long")
    return text.strip()


def check_size(data: bytes) -> None:
    """Raise OrchestratorError for a text that no task can hold."""
    if len(data) > MAX_TASK_BYTES:
        hint = "move details to files, and name the files in the text"
        raise OrchestratorError("the text is over 1 MiB", hint, code="too_long")


def folder_allowed(roles: Mapping[str, Role]) -> str | None:
    """Return the folder whose files a restricted run may read; None where any file may be read.

    A role that cannot read outside its worktree must not do so through `task add`: what it names
    would end up in a task that others see (reference 5).
    """
    role = roles.get(os.environ.get("ORCHESTRATOR_ROLE", ""))
    if not os.environ.get("ORCHESTRATOR_RUN_ID") or role is None or not role.restricted:
        return None
    return os.environ.get("ORCHESTRATOR_WORKTREE") or os.getcwd()
