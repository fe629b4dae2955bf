"""Whose fault an error of a run is: the narrower cause is tried before everybody is stopped.

An error of git can come from the branch of this one task. Then a person is asked about this task,
and the other tasks continue (failures 29).
"""

from orchestrator.git import damage
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Outcome
from orchestrator.project import faults
from orchestrator.project.run_record import RunRecord


def outcome(
    record: RunRecord, error: OrchestratorError | OSError | MemoryError, told: Outcome | None = None
) -> Outcome:
    """Return the outcome of a run that an error ended; `told` is what its client told before."""
    found = faults.outcome(error)
    told = told or Outcome(found.verdict)
    damaged = _damaged(record, error)
    if damaged is None:
        return told._replace(verdict=found.verdict, reason=found.reason, hint=found.hint)
    question = (
        f"The branch {record.branch} of this task is damaged: {damaged.name}: {damaged.why}. "
        f"If another clone or a backup has this work, bring it back. Otherwise remove the branch: "
        f"{damaged.step}. Then answer this question, and the work continues."
    )
    reason = f"{damage.CODE}: {damaged.name}: {damaged.why}"
    return told._replace(verdict="needs_human", reason=reason, question=question)


def judged(record: RunRecord, outcome: Outcome) -> Outcome:
    """Return the outcome; without a commit because the base lacks objects, it is a system fault."""
    if outcome.verdict != "failed" or not record.base_commit or record.commits:
        return outcome
    try:
        lacks = damage.of_commit(Layout(record.project).root, record.base_commit)
    except OrchestratorError:  # whatever stops git, another step reports it
        return outcome
    if lacks is None:
        return outcome
    why = f"git_failed: an object of the base commit {record.base_commit[:12]} is missing: {lacks}"
    hint = "bring it back from the remote or another clone: git fetch --refetch"
    return outcome._replace(verdict="system_fault", reason=why, hint=hint)


def _damaged(record: RunRecord, error: Exception) -> damage.Damaged | None:
    """Return the damage of the task's branch that can explain an error; None without any."""
    if record.branch is None or not damage.is_said(error):
        return None
    try:
        return damage.of_branch(Layout(record.project).root, record.branch, record.base_commit)
    except OrchestratorError:  # git cannot even be asked: that is not the task's fault
        return None
