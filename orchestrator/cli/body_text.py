"""Longer texts that a person or an agent gives to a command: from a file or standard input."""

from __future__ import annotations

import os
import sys

from orchestrator.errors import OrchestratorError
from orchestrator.model import Role
from orchestrator.tasks.task_file import MAX_TASK_BYTES


def read(path: str, within: str | None = None) -> str:
    """Return the text in a file; `-` is standard input. Raises OrchestratorError.

    With `within`, only files of that folder are read.
    """
    if within is not None and path != "-" and not _is_inside(path, within):
        raise OrchestratorError(
            f"inside this run only files of {within} can be read",
            "give the text on standard input: --body-file -",
            code="refused_in_run",
        )
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_TASK_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_TASK_BYTES + 1)
    except OSError as error:
        raise OrchestratorError(
            f"the text cannot be read from {path}: {error.strerror}",
            "name a text file, or give it on standard input: -",
            code="text_unreadable",
        ) from None
    if len(data) > MAX_TASK_BYTES:
        raise _too_long()
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise OrchestratorError(
            f"{path} is not UTF-8 text (byte {error.start})",
            "save it as UTF-8",
            code="text_unreadable",
        ) from None


def check_size(text: str) -> None:
    """Raise OrchestratorError for a text that no task can hold."""
    if len(text.encode(errors="replace")) > MAX_TASK_BYTES:
        raise _too_long()


def folder_allowed(roles: dict[str, Role]) -> str | None:
    """Return the folder whose files a restricted run may read; None where any file may be read.

    A role that cannot read outside its worktree must not do so through `task add`: what it names
    would end up in a task that others see (reference 5).
    """
    role = roles.get(os.environ.get("ORCHESTRATOR_ROLE", ""))
    if not os.environ.get("ORCHESTRATOR_RUN_ID") or role is None or not role.restricted:
        return None
    return os.environ.get("ORCHESTRATOR_WORKTREE") or os.getcwd()


def _is_inside(path: str, folder: str) -> bool:
    real, top = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath((real, top)) == top


def _too_long() -> OrchestratorError:
    return OrchestratorError(
        "the text is over 1 MiB", "move the detail to files and name them here", code="too_long"
    )
