"""A fault that outlasts the process that met it: kept for people, and for later ticks."""

from __future__ import annotations

import os

from orchestrator import files
from orchestrator.errors import OrchestratorError
from orchestrator.model import Problem


def keep(path: str, error: OrchestratorError) -> None:
    """Keep an error in a file. Raises OSError."""
    files.make_folder(os.path.dirname(path))
    files.write_json(path, Problem(error.code, error.message, error.hint)._asdict())


def read(path: str) -> Problem | None:
    """Return the fault that is kept in a file; None when there is none."""
    record = files.read_json(path) or {}
    code, message, hint = (record.get(name) for name in Problem._fields)
    if not isinstance(code, str) or not isinstance(message, str):
        return None
    return Problem(code, message, hint if isinstance(hint, str) else "see: orchestrator doctor")
