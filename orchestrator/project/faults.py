"""Faults that outlast the process that met them: kept on disk for people and for later ticks."""

from __future__ import annotations

import os

from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import Hold, Problem
from orchestrator.system import files


def keep(path: str, error: OrchestratorError) -> None:
    """Keep an error in a file. Raises OSError."""
    files.make_folder(os.path.dirname(path))
    files.write_json(path, Problem(error.code, error.message, error.hint)._asdict())


def read(path: str) -> Problem | None:
    """Return the fault that is kept in a file; None without one."""
    record = files.read_json(path) or {}
    code, message, hint = (record.get(name) for name in Problem._fields)
    if not isinstance(code, str) or not isinstance(message, str):
        return None
    return Problem(code, message, hint if isinstance(hint, str) else "see: orchestrator doctor")


def forge_fault(layout: Layout) -> Problem | None:
    """Return why the last tick could not ask the forge; None when it could."""
    return read(layout.forge_fault)


def landing_fault(layout: Layout) -> Problem | None:
    """Return why approved work could not be merged the last time; None if it could be merged."""
    return read(layout.landing_fault)


def read_hold(layout: Layout) -> Hold | None:
    """Return why no agent may claim a task now; None if agents may."""
    record = files.read_json(layout.hold) or {}
    text, number = (str,), (int, float)
    code, message, hint = (record.get(name) for name in ("code", "message", "hint"))
    since, until = record.get("since"), record.get("until")
    if not (files.fits(code, text) and files.fits(message, text) and files.fits(since, number)):
        return None
    return Hold(
        str(code),
        str(message),
        hint if isinstance(hint, str) else None,
        float(since or 0),
        float(until) if until is not None and files.fits(until, number) else None,
    )
