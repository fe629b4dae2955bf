"""Faults that outlast the process that met them: kept on disk for people and for later ticks."""

import errno
import os

from orchestrator.layout import Layout
from orchestrator.model.errors import GitError, OrchestratorError
from orchestrator.model.snapshot import Hold, Outcome, Problem
from orchestrator.system import disk, files, memory, records


def keep(path: str, error: OrchestratorError) -> None:
    """Keep an error in a file. Raises OSError."""
    files.make_folder(os.path.dirname(path))
    files.write_json(path, Problem(error.code, error.message, error.hint)._asdict())


def read(path: str) -> Problem | None:
    """Return the fault that is kept in a file; None without one."""
    found = records.build(Problem, files.read_json(path))
    return found and found._replace(hint=found.hint or "see: orchestrator doctor")


def outcome(error: OrchestratorError | OSError | MemoryError) -> Outcome:
    """Return the outcome of a run that the machine, a service or the configuration stopped."""
    if isinstance(error, MemoryError):
        return Outcome("system_fault", f"{memory.WORD}: this process could not get more memory")
    if isinstance(error, OSError):
        words = {errno.ENOMEM: memory.WORD, **dict.fromkeys(disk.ERRORS, "disk_full")}
        word = words.get(error.errno or 0, "system_fault")
        said, hint = disk.explained(error)
        # The other words have hints of their own, which also say when work resumes.
        own = hint if word == "system_fault" else None
        return Outcome("system_fault", f"{word}: {said}", hint=own)
    if isinstance(error, GitError) and (short := memory.named_in(error.message)):
        return Outcome("system_fault", f"{short}: {error.message}")
    return Outcome("system_fault", f"{error.code}: {error.message}", hint=error.hint)


def forge_fault(layout: Layout) -> Problem | None:
    """Return why the last tick could not ask the forge; None when it could."""
    return read(layout.forge_fault)


#: Faults that are problems of their own name. Others are a `system_fault`, with their name first.
_NAMED = (
    "base_gone",
    "branch_in_the_way",
    "config_error",
    "git_lfs_failed",
    "git_lfs_missing",
    "instructions_committed",
    "lock_held",
    "permissions",
    "remote_refuses",
    "submodule_missing",
)


def hold_problem(hold: Hold) -> Problem:
    """Return the problem that a hold is."""
    code, _, message = hold.message.partition(": ")
    if code in _NAMED:
        return Problem(code, message, hold.hint)
    return Problem(hold.code, hold.message, hold.hint)


def read_hold(layout: Layout) -> Hold | None:
    """Return why no agent may claim a task now; None if agents may."""
    return records.build(Hold, files.read_json(layout.hold))


def end_hold(layout: Layout, code: str) -> None:
    """End the hold of a system fault with this code, which is found to be gone. Raises OSError."""
    known = read_hold(layout)
    if known and known.code == "system_fault" and known.message.startswith(f"{code}: "):
        files.remove(layout.hold)
