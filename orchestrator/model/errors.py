"""Errors for people: fields in, a sentence out.

Every refusal of the product is an `OrchestratorError`: `cli.main.main` turns it into one message
(what failed, what to do next) and an exit code. Any other exception is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable


class OrchestratorError(Exception):
    """Something was refused or failed in a way that a person can fix.

    `code` is a stable word for scripts; `hint` is the next step, or None.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, hint: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class UsageError(OrchestratorError):
    """The command line is wrong: exit code 2."""

    code = "usage"
    exit_code = 2


class NotFound(OrchestratorError):
    """A task, agent, run, pull request or item of the inbox that does not exist.

    `known` are the names that do.
    """

    code = "not_found"

    def __init__(self, noun: str, name: str, known: Iterable[str] = ()) -> None:
        self.known = tuple(known)
        listed = f"see: orchestrator {_LISTS.get(noun, 'status')}"
        super().__init__(f"no {noun} named {name!r}", did_you_mean(name, self.known, listed))


class NotATask(NotFound):
    """There is no such task, but a file of that name, which cannot be a task."""

    code = "task_malformed"

    def __init__(self, where: str, reason: str, hint: str) -> None:
        self.known = ()
        OrchestratorError.__init__(self, f"{where} is not a task: {reason}", hint)


class ConfigError(OrchestratorError):
    """`agents.yaml` is missing or wrong. `problems` holds every finding, not just the first."""

    code = "config_error"

    def __init__(self, problems: list[str], hint: str | None = None) -> None:
        self.problems = problems
        super().__init__("; ".join(problems), hint)


class TaskFileError(OrchestratorError):
    """A file in the queue cannot be a task; the file stays unchanged."""

    code = "task_malformed"


class GitError(OrchestratorError):
    """A git command failed, timed out or could not be started."""

    code = "git_failed"


class GitKilled(GitError):
    """A signal ended a git command: the same command can succeed."""


class Rejected(OrchestratorError):
    """The remote or the forge refuses this very work, not every task's: it counts as an attempt."""

    code = "push_rejected"


class SystemFault(OrchestratorError):
    """The machine or a service failed, not the work: it counts as no attempt (reference 7)."""

    code = "system_fault"


class StoreFault(SystemFault):
    """The database with the queue cannot be reached, or cannot be used."""

    code = "store_unreachable"


_LISTS = {
    "host": "hosts",
    "task": "task list",
    "agent": "agent list",
    "pull request": "pr list",
    "inbox item": "inbox",
}


def did_you_mean(
    word: str, known: Iterable[str], otherwise: str | None = None, *, cutoff: float = 0.6
) -> str:
    """Return the hint for an unknown word: the nearest known word, ignoring case.

    The word itself, such as the name of a file that cannot be a task, is no hint. If no word is as
    near as `cutoff` (0 to 1): `otherwise`, or, without it, all known words.
    """
    others = [each for each in known if each != word]
    if found := nearest(word, others, cutoff=cutoff):
        return f"did you mean {found!r}?"
    return f"known: {', '.join(dict.fromkeys(others))}" if otherwise is None else otherwise


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word that is nearest, ignoring case; None if none is as near as `cutoff`."""
    import difflib

    by_lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word[:80].lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None
