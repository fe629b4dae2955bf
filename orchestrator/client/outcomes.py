"""The outcome of a run with a report and of a run without one, for every client. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.client.protocol import Ended
from orchestrator.guard import secret_names
from orchestrator.model.annotations import Any
from orchestrator.model.config import OUTCOMES, Role
from orchestrator.model.snapshot import VERDICTS, Outcome

#: Characters kept of each reported text, which goes into the task file and later prompts.
TEXT_LIMIT = 20_000
#: The exit codes of a shell, and of some other programs, for a command that a signal ended: 128 and
#: the signal's number (143 is SIGTERM).
_OF_SIGNALS = range(129, 160)


def schema(role: Role) -> dict[str, Any]:
    """Return the JSON schema of the report at the end of a run of this role."""
    outcome = {"type": "string", "enum": list(OUTCOMES[role.delivers])}
    texts = {name: {"type": "string"} for name in ("summary", "feedback", "question")}
    return {
        "type": "object",
        "properties": {"outcome": outcome, **texts},
        "required": ["outcome", "summary"],
        "additionalProperties": False,
    }


def without_result(ended: Ended) -> Outcome:
    """Return the outcome of a run whose stream has no last line."""
    if ended.start_error:
        return Outcome("system_fault", f"client_missing: {ended.start_error}")
    if ended.stopped_for == "stopped":
        return Outcome("stopped", "stopped: by a person")
    if ended.stopped_for == "too_much_output":
        return Outcome("failed", "client_error: too_much_output: the run was ended by its limit")
    if ended.stopped_for:
        return Outcome("failed", f"{ended.stopped_for}: the run was ended by its limit")
    if ended.signal is not None or ended.exit_code is None or ended.exit_code in _OF_SIGNALS:
        return Outcome("interrupted", "no_result: the client was killed")
    tail = ended.stderr.strip()[-500:]
    said = f"; it said: {tail}" if tail else ""
    hint = secret_names.hint(ended.lacked)
    why = f"the client exited {ended.exit_code} without a result {hint}".rstrip()
    return Outcome("failed", f"no_result: {why}{said}")


def is_report(report: Mapping[str, Any], role: Role | None) -> bool:
    """Return whether a report that no client has checked fits the `schema`."""
    allowed = OUTCOMES[role.delivers] if role else VERDICTS
    return report.get("outcome") in allowed and isinstance(report.get("summary"), str)


def reported(report: Mapping[str, Any], role: Role | None) -> Outcome:
    """Return the outcome that the agent reported, in the fields of `schema`.

    `role` is None if the role no longer exists: then every outcome is accepted.
    """
    verdict = str(report.get("outcome"))
    if role is not None and verdict not in OUTCOMES[role.delivers]:
        return Outcome("failed", f"client_error: a {role.name} cannot report {verdict!r}")
    if verdict == "done" and role is not None and role.delivers == "nothing":
        verdict = "no_change"
    summary = _text(report.get("summary"))
    reason = "client_error: the agent reported failed" if verdict == "failed" else None
    if reason and summary:
        reason = f"client_error: the agent gave up: {summary}"
    return Outcome(
        verdict,
        reason=reason,
        summary=summary,
        feedback=_text(report.get("feedback")),
        question=_text(report.get("question")) or (summary if verdict == "needs_human" else None),
    )


def unreported(last_words: object, role: Role | None, commits: int) -> Outcome:
    """Return the outcome of a run that ended well without a report (reference 7).

    `commits` is the number of commits on its branch since the branch was cut.
    """
    said = _text(last_words)
    if role is None:
        return Outcome("failed", "no_result: its role no longer exists", summary=said)
    if role.delivers == "verdict":
        return Outcome("failed", "no_result: the reviewer gave no verdict", summary=said)
    if role.takes is None:
        return Outcome("no_change", summary=said)
    if commits:
        return Outcome("done", summary=said)
    reason = "no_commits: the run ended without a commit or a report"
    return Outcome("failed", reason, summary=said)


def _text(value: object) -> str | None:
    return value[:TEXT_LIMIT] if isinstance(value, str) and value else None
