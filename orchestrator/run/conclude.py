"""The last stage of a run: the outcome of an ended client, and the delivery of finished work.

The stage may be killed at any instant. Started again, each step checks first if it is already done.
"""

from __future__ import annotations

import io
import os

from orchestrator.client import registry
from orchestrator.client.protocol import Client, Ended
from orchestrator.git import (
    base_branch,
    settings,
    submodule_changes,
    submodules,
    work_branch,
    worktree,
    worktree_commands,
)
from orchestrator.git.submodule_changes import Work
from orchestrator.guard import secret_shapes, user_commands
from orchestrator.layout import Layout
from orchestrator.model.annotations import IO
from orchestrator.model.config import Role
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Outcome
from orchestrator.project import alike, checkout_changed, faults, run_record
from orchestrator.project.run_record import RunRecord, Undelivered
from orchestrator.run import attribution, delivery
from orchestrator.run.delivery import Secured
from orchestrator.run.job import Job
from orchestrator.run.journal import Journal
from orchestrator.system import disk, files, memory
from orchestrator.tasks import parts, stores

#: Bytes of the end of the client's standard error that a reason may quote.
STDERR_KEPT = 4000
#: Verdicts of a run that did not end as its agent wanted.
_BAD = ("failed", "interrupted", "system_fault")


def conclude(journal: Journal) -> None:
    """Make the outcome of an ended client, deliver finished work, and leave the run `finished`."""
    role, kills_before = None, memory.kills()
    settings.forget()
    try:
        secured = _secure(journal)
        job = Job.load(journal)
        role = job.role
        outcome = _conclude(job, secured)
    except (OrchestratorError, OSError, MemoryError) as error:
        # The run's cost and conversation are known all the same, even if its role is gone.
        told = _told_if_read(journal, role)
        record = journal.record
        if told.verdict == "done" and record.commits:
            journal.record = record._replace(undelivered=Undelivered(told, record.tip))
        outcome = attribution.outcome(journal.record, error, told)
    outcome = _blamed_on_the_machine(journal, outcome, kills_before)
    outcome = attribution.judged(journal.record, outcome)
    outcome = alike.judged(journal.record, outcome)
    if journal.record.moved and outcome.verdict in ("failed", "interrupted"):
        # The client worked in a folder that was gone, where git found no repository.
        reason = f"stopped: the project's folder was moved during the run: {outcome.reason}"
        outcome = outcome._replace(verdict="stopped", reason=reason)
        journal.record = journal.record._replace(undelivered=None)
    if outcome.verdict in _BAD and run_record.stop_reason(journal.folder):
        # A person wanted the run to end; what hung was ended for that (`tick.stop`).
        outcome = outcome._replace(verdict="stopped", reason=run_record.STOPPED)
    journal.finish(_with_memory(journal, outcome))


def _with_memory(journal: Journal, outcome: Outcome) -> Outcome:
    """Remember what the run pushed, if the task's history will not name it as delivered."""
    branch, pushed = journal.record.branch, journal.record.steps.pushed
    if outcome.verdict == "done" or branch is None or pushed is None:
        return outcome
    try:
        work_branch.remember(Layout(journal.record.project).root, branch, pushed)
    except (OrchestratorError, OSError) as error:
        return attribution.outcome(journal.record, error, outcome)
    return outcome


def _blamed_on_the_machine(journal: Journal, outcome: Outcome, kills_before: int | None) -> Outcome:
    """Return the outcome; a bad outcome of a run that lacked space or memory is a system fault.

    Neither a client nor a check can work then, or say why it stopped. `kills_before` is the value
    of `memory.kills` when the conclusion began.
    """
    if outcome.verdict not in _BAD:
        return outcome
    ended = journal.record.ended
    short = (ended.disk if ended else None) or disk.shortage(journal.folder)
    short = short or memory.shortage_since(kills_before)
    if short is not None:
        reason = f"{short.word}: {short.why}"
        return outcome._replace(verdict="system_fault", reason=reason, hint=short.hint)
    # What the client or a check said is enough: a disk can be full between two looks at it.
    word = memory.named_in(outcome.reason or "")
    if word is None or outcome.verdict == "system_fault":
        return outcome
    return outcome._replace(verdict="system_fault", reason=f"{word}: {outcome.reason}")


def _told(journal: Journal, role: Role | None) -> Outcome:
    """Return the outcome by the client's stream and its end, or the earlier run's outcome."""
    record = journal.record
    if record.client is None and record.undelivered:
        told = record.undelivered.told
        return told._replace(cost_usd=None, input_tokens=None, output_tokens=None, models={})
    plan = journal.plan()
    client = registry.named(plan and plan.client)
    ended = _ended(journal, client, plan.allow if plan else ())
    with _stream(journal) as lines:
        try:
            told = client.outcome(lines, ended, role, record.commits)
        except OSError as error:  # read(2) knows no path
            error.filename = error.filename or journal.path(run_record.STREAM)
            raise
    return _counted_once(secret_shapes.without_secrets(told), record)


def _told_if_read(journal: Journal, role: Role | None) -> Outcome:
    """Return the outcome as `_told` does; a system fault if the disk does not give the stream."""
    try:
        return _told(journal, role)
    except OSError as error:
        return faults.outcome(error)


def _counted_once(told: Outcome, record: RunRecord) -> Outcome:
    """Return the outcome with the tokens of this run, without those of its conversation before."""
    if not (told.adds_up and record.resume_tokens):
        return told
    # By model, the amounts before this run are not known.
    told = told._replace(models={})
    counts = zip((told.input_tokens, told.output_tokens), record.resume_tokens, strict=False)
    given, made = (None if all is None else max(all - before, 0) for all, before in counts)
    return told._replace(input_tokens=given, output_tokens=made)


def _secure(journal: Journal) -> Secured:
    """Put the worktree's content on the branch or under a ref, and record the branch's tip.

    Needs neither role nor configuration.
    """
    record = journal.record
    worktree.clear_shared(record.project, folders=False)
    if not record.moved:
        whose = (record.id, record.agent, record.branch)
        checkout_changed.compare(Layout(record.project), journal.folder, *whose)
    start, base = record.start, record.base_commit
    if start is None or base is None:
        raise OrchestratorError("the record does not say where the run started")
    layout = Layout(record.project)
    path = layout.worktree(record.agent)
    tip = at = None
    if record.moved or not worktree_commands.is_worktree(path):
        # Git lost the worktree: its content is put aside, the branch is where it was.
        worktree.ensure(layout.root, path, start)
    if worktree_commands.is_worktree(path):
        # What the run started from was there before, and is nobody's work to keep.
        kept = worktree.preserve(path, record.branch, record.id, (start,))
        tip, at = kept.tip, kept.at
        # The first rescue has everything: a later rescue may follow an incomplete clean-up.
        if kept.ref and not record.steps.rescued:
            record = record._replace(steps=record.steps._replace(rescued=kept.ref))
            journal.write(record)
        if kept.dirty:
            worktree.clean(path)
    tip = tip or base_branch.tip(layout.root, record.branch)
    # What the branch was cut from is not this task's work (`pulls.cuts`).
    work = submodule_changes.work(layout.root, base, tip, start) if tip else Work()
    if worktree_commands.is_worktree(path):
        worktree.detach(path, tip or start, at)
        submodules.check_out(layout.root, path)
    # Written with the next step: a supervisor that starts again finds the same.
    journal.record = record._replace(tip=tip, commits=len(work.commits), links=work.links)
    commits = work.commits if start == base else None
    return Secured(record.steps.rescued, commits, work.has_root)


def _conclude(job: Job, secured: Secured) -> Outcome:
    outcome = _told(job.journal, job.role)
    if outcome.verdict in ("done", "split") and not job.is_ours:
        outcome = delivery.given_away(outcome)
    if outcome.verdict == "done":
        outcome = _deliver(job, outcome, secured)
    if outcome.verdict == "split":
        outcome = _split(job, outcome)
    if job.role.delivers == "verdict":
        reviewed = job.task.pr if job.task else None
        outcome = outcome._replace(head=job.record.start, pr=reviewed)
    return outcome


def _split(job: Job, outcome: Outcome) -> Outcome:
    """Return the outcome with the commits that the agent made; without a part, it has failed."""
    store = stores.of_project(job.layout)
    if not any(part.state != "failed" for part in parts.of(store, job.record.task or "")):
        reason = "client_error: the agent reported split, but added no part"
        return outcome._replace(verdict="failed", reason=reason)
    if job.record.commits == 0:
        return outcome
    return outcome._replace(head=job.record.tip, branch=job.record.branch)


def _deliver(job: Job, outcome: Outcome, secured: Secured) -> Outcome:
    """Deliver finished work; after a fault, the outcome keeps the run's cost and conversation."""
    # If the delivery fails, the next run reads what is left to do: `prepare._is_done_already`.
    # Without a commit, nothing is left to do, and the next run would take the work for merged.
    if job.record.commits:
        left = Undelivered(outcome, job.record.tip)
        job.journal.record = job.record._replace(undelivered=left)  # written with the next step
    try:
        return delivery.deliver(job, outcome, secured)
    except user_commands.Stopped:
        return outcome._replace(verdict="stopped", reason=run_record.STOPPED)
    except (OrchestratorError, OSError, MemoryError) as error:
        return attribution.outcome(job.record, error, outcome)


def _stream(journal: Journal) -> IO[str]:
    """Open a run's stream; an empty file if the client wrote no stream.

    Raises OSError if there may be a stream, but the disk does not give it (EIO, ESTALE).
    """
    stream: IO[bytes] = io.BytesIO()
    try:
        stream = files.open_regular(journal.path(run_record.STREAM))
    except OSError as error:  # an agent that is not confined can put anything there
        if disk.is_withheld(error):
            raise
    return io.TextIOWrapper(stream, encoding="utf-8", errors="replace")


def _ended(journal: Journal, client: Client, allow: tuple[str, ...]) -> Ended:
    ended, process = journal.record.ended or run_record.Ended(), journal.record.client
    stderr = _tail(journal.path(run_record.STDERR))
    lacked: list[str] = []
    if stderr:
        from orchestrator.guard import secret_names

        kept = client.sign_in_names(os.environ)
        given = secret_names.without_secrets(os.environ, allow, kept)
        lacked = secret_names.named_in(stderr, os.environ, given)
    return Ended(
        exit_code=ended.exit_code,
        signal=ended.signal,
        stopped_for=ended.stopped_for,
        start_error=process.start_error if process else None,
        stderr=stderr,
        lacked=tuple(lacked),
        resumed=bool(journal.record.resume),
    )


def _tail(path: str) -> str:
    try:
        with files.open_regular(path) as file:
            file.seek(max(os.path.getsize(path) - STDERR_KEPT, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
