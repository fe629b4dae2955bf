"""One run: what is laid out before the client starts, and what is made of it when it has ended.

`prepare` and `conclude` are the supervisor's two heavy stages. Both start from the run's journal
and may be killed and started again anywhere: each step asks first whether it is already done.
What only hooks and conclusions need is imported there: a client waits for what is imported here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import IO

from orchestrator.client import registry
from orchestrator.client.protocol import Client, Ended
from orchestrator.errors import GitError, OrchestratorError, SystemFault
from orchestrator.git import base_branch, remotes, repository, worktree, worktree_commands
from orchestrator.guard import user_commands
from orchestrator.layout import Layout
from orchestrator.model import Outcome, PullRequest, Role
from orchestrator.project import run_record
from orchestrator.project.run_record import Journal, Undelivered
from orchestrator.pulls import forges
from orchestrator.run import headstart
from orchestrator.run.job import Job
from orchestrator.system import commands, disk, files
from orchestrator.system.aside import Aside
from orchestrator.tasks import task_file

#: Bytes of the client's last words that are kept as a reason.
STDERR_KEPT = 4000


def finish(journal: Journal, outcome: Outcome) -> None:
    """Write down how the run ended: from here on only ticks act on the run."""
    record = journal.record._replace(outcome=outcome, finished=time.time(), status="finished")
    journal.write_surely(record)


def _fault(error: OrchestratorError | OSError) -> Outcome:
    """The outcome of a run that the machine, a service or the configuration got in the way of."""
    if isinstance(error, OSError) and error.errno in disk.ERRORS:
        return Outcome("system_fault", f"disk_full: {error.filename}: {error.strerror}")
    if isinstance(error, GitError) and any(said in error.message for said in disk.SAID):
        return Outcome("system_fault", f"disk_full: {error.message}")
    if isinstance(error, OSError):
        return Outcome("system_fault", f"system_fault: {error.filename}: {error.strerror}")
    hint = f" ({error.hint})" if error.hint else ""
    return Outcome("system_fault", f"{error.code}: {error.message}{hint}")


# --- before the client -------------------------------------------------------------------------


def prepare(journal: Journal, writer: Aside | None = None) -> bool:
    """Lay out worktree, branch, instructions and launch plan; return whether to start the client.

    `writer` is the process that got a head start on the instructions, if there is one. A fault of
    the system finishes the run instead, with nobody charged.
    """
    try:
        if run_record.stop_reason(journal.folder):
            finish(journal, Outcome("stopped", "stopped: by a person"))
            return False
        job = Job.load(journal)
        if not job.is_ours:
            # Killed between its record and its claim, the tick left a run that has no task.
            gone = Outcome("interrupted", "no_result: its task was never claimed, or moved away")
            finish(journal, gone)
            return False
        with writer or headstart.fresh() as writing:
            find_start = _look_for_start(job)
            # While git looks: loading this takes as long, and so does a disk that is slow.
            from orchestrator.run import briefing

            journal.write_surely(journal.record)
            heads = find_start()
            message = briefing.begin(writing, job)  # written while git lays out the worktree
            _run_hook(job, _check_out(job, *heads))
            if _is_done_already(job):
                journal.write(journal.record._replace(status="concluding"))
                return False
            # What this adds to the record is saved by `launch`, with the client. Killed before
            # that, all this is done again, and finds itself done.
            briefing.write_launch(job)
            briefing.finish(writing, job, message)
            return True
    except BadBase as error:
        finish(journal, Outcome("failed", f"client_error: {error.message}"))
    except worktree.BranchHeld as error:
        finish(journal, Outcome("needs_human", question=error.message))
    except (OrchestratorError, OSError) as error:
        # A broken template, a full disk, a git that fails: nothing that the task could help.
        finish(journal, _fault(error))
    return False


def _is_done_already(job: Job) -> bool:
    """Whether an earlier run did the work, and only its delivery is left to do.

    A fault of the system kept that run from delivering; nobody is to pay for the same work twice.
    """
    left = job.record.undelivered
    return left is not None and base_branch.tip(job.layout.root, job.record.branch) == left.head


class BadBase(OrchestratorError):
    """The branch that a task starts from does not exist."""

    code = "no_base"


#: The commit to start from; and commits by branch, the local ones and the remote's.
_Heads = tuple[str, dict[str, str], dict[str, str]]


def _look_for_start(job: Job) -> Callable[[], _Heads]:
    """Ask git what it takes to know where the run starts from.

    What is returned waits for it, looks at the remote too, notes the start in the record, and
    returns the commits of the branches that matter.
    """
    root = job.layout.root
    review = _pull_request_under_review(job)
    base = review.base if review else base_branch.base_branch(job.config, job.task)
    branch = None
    if review is None and job.task is not None:
        branch = job.task.work_branch or task_file.branch_name(job.task.id, job.task.title)
    mentioned = [name for name in (base, branch, review.branch if review else None) if name]
    url, pushurl = (f"remote.{job.config.remote}.{key}" for key in ("url", "pushurl"))
    settings = repository.begin_settings(root, url, pushurl, "user.email")
    local = {name: f"refs/heads/{name}" for name in mentioned}
    refs = repository.begin_refs(
        root, *local.values(), *(remotes.kept(job.config.remote, name) for name in mentioned)
    )

    def find() -> _Heads:
        known, seen = settings(), refs()
        ours = {name: seen[ref] for name, ref in local.items() if ref in seen}
        remote = job.config.remote if url.lower() in known else None
        theirs = base_branch.fetch(job.layout, remote, mentioned, seen=seen) if remote else {}
        base_commit = theirs.get(base) or ours.get(base)
        if base_commit is None:
            raise BadBase(f"its base branch {base!r} does not exist")
        start = base_commit
        if review is not None:
            start = theirs.get(review.branch) or ours.get(review.branch) or review.head
        job.journal.record = job.record._replace(
            branch=branch,
            base=base,
            base_commit=base_commit,
            start=start,
            remote=remote,
            identity="user.email" in known,
            push_addresses=tuple(known.get(pushurl.lower(), ())),
            review=review,
        )
        return start, ours, theirs

    return find


def _check_out(job: Job, start: str, ours: dict[str, str], theirs: dict[str, str]) -> bool:
    """Bring worktree and branch into the state the run starts from; return whether it is new."""
    root, branch = job.layout.root, job.record.branch
    fresh = worktree.ensure(root, job.path, start)
    if not fresh and worktree.preserve(job.path, None, f"{job.record.id}-before").dirty:
        worktree_commands.clean(job.path)
    toplevel = repository.begin_toplevel(job.path)
    if branch is not None:
        here, there = ours.get(branch), theirs.get(branch)
        worktree.take_up_branch(root, job.path, branch, start, here, there)
    elif not fresh:
        worktree_commands.detach(job.path, start)
    if os.path.realpath(toplevel()) != os.path.realpath(job.path):
        raise GitError(f"{job.path} is not the top of a worktree")
    worktree.bring_included(root, job.path)
    return fresh


def _pull_request_under_review(job: Job) -> PullRequest | None:
    """Return the pull request that a review task is about; None for other roles."""
    if job.role.delivers != "verdict" or job.task is None or job.task.pr is None:
        return None
    return forges.of_project(job.layout, job.config).show(job.task.pr)


def _run_hook(job: Job, fresh: bool) -> None:
    """Run `hooks.after_create` in a new worktree; a failing one is a fault of the system."""
    command = job.config.hooks.after_create
    if not fresh or command is None:
        return
    from orchestrator.guard import secret_names

    variables = user_commands.check_environment(job.config, job.agent, job.layout)
    done = commands.run(
        ("/bin/sh", "-c", command),
        cwd=job.path,
        environment=variables,
        timeout=job.config.hooks.timeout_seconds,
    )
    if done.code != 0:
        # Made again next time, so that the hook gets its second chance.
        worktree_commands.remove(job.layout.root, job.path)
        said = (done.err or done.out).strip()[-300:]
        what = "took too long" if done.code is None else f"exited {done.code}: {said}"
        lacked = secret_names.named_in(command + said, os.environ, variables)
        why = f"hooks.after_create {what} {secret_names.hint(lacked)}".rstrip()
        raise SystemFault(why, "mend the hook", code="hook_failed")


# --- after the client --------------------------------------------------------------------------


def conclude(journal: Journal) -> None:
    """Make the outcome of an ended client, deliver what is done, and leave the run `finished`."""
    role = None
    try:
        rescued = _secure(journal)
        job = Job.load(journal)
        role = job.role
        outcome = _conclude(job, rescued)
    except (OrchestratorError, OSError) as error:
        # What the run cost and which conversation it was are known all the same, even when its
        # role went away under it.
        told = _told(journal, role)
        record = journal.record
        if told.verdict == "done" and record.commits:
            journal.record = record._replace(undelivered=Undelivered(told, record.tip))
        outcome = told._replace(verdict="system_fault", reason=_fault(error).reason)
    outcome = _blamed_on_the_disk(journal, outcome)
    if journal.record.moved and outcome.verdict in ("failed", "interrupted"):
        # Its client worked in a folder that was gone, with a git that found no repository.
        reason = f"stopped: the project was moved under it: {outcome.reason}"
        outcome = outcome._replace(verdict="stopped", reason=reason)
        journal.record = journal.record._replace(undelivered=None)
    finish(journal, outcome)


def _blamed_on_the_disk(journal: Journal, outcome: Outcome) -> Outcome:
    """Return the outcome; one that was bad while the disk took nothing is the disk's doing.

    Neither a client nor a check can work then, or say what stopped it.
    """
    if outcome.verdict not in ("failed", "interrupted", "system_fault"):
        return outcome
    ended = journal.record.ended
    short = (ended.disk if ended else None) or disk.shortage(journal.folder)
    if short is None:
        return outcome
    return outcome._replace(verdict="system_fault", reason=f"{short.word}: {short.why}")


def _told(journal: Journal, role: Role | None) -> Outcome:
    """Return the outcome that the client's stream and its end tell; or that of the earlier run."""
    record = journal.record
    if record.client is None and record.undelivered:
        told = record.undelivered.told
        return told._replace(cost_usd=None, input_tokens=None, output_tokens=None)
    launch = files.read_json(journal.path(run_record.LAUNCH)) or {}
    client = registry.named(launch.get("client"))
    ended = _ended(journal, client, launch.get("allow"))
    with _stream(journal) as lines:
        return client.outcome(lines, ended, role, record.commits)


def _secure(journal: Journal) -> str | None:
    """Put what the worktree holds on the branch or under a ref, and note what the branch has.

    Returns the rescue ref, if there is one. Needs neither role nor configuration.
    """
    record = journal.record
    start, base = record.start, record.base_commit
    if start is None or base is None:
        raise OrchestratorError("the record does not say where the run started")
    layout = Layout(record.project)
    path = layout.worktree(record.agent)
    if record.moved:
        # Git lost the worktree: what it holds is put aside, the branch is where it was.
        worktree.ensure(layout.root, path, start)
    if worktree_commands.is_worktree(path):
        kept = worktree.preserve(path, record.branch, record.id)
        # What a try before us rescued is the whole; ours may be what its cleaning had left.
        rescued = record.steps.rescued or kept.ref
        record = record._replace(steps=record.steps._replace(rescued=rescued))
        journal.write(record)
        if kept.dirty:
            worktree_commands.clean(path)
    tip = base_branch.tip(layout.root, record.branch)
    commits = repository.count_commits(layout.root, base, tip) if tip else 0
    if worktree_commands.is_worktree(path):
        worktree_commands.detach(path, tip or start)
    journal.write(record._replace(tip=tip, commits=commits))
    return record.steps.rescued


def _conclude(job: Job, rescued: str | None) -> Outcome:
    outcome = _told(job.journal, job.role)
    if outcome.verdict == "done" and job.is_ours:
        outcome = _deliver(job, outcome, rescued)
    if job.role.delivers == "verdict":
        reviewed = job.task.pr if job.task else None
        outcome = outcome._replace(head=job.record.start, pr=reviewed)
    return outcome


def _deliver(job: Job, outcome: Outcome, rescued: str | None) -> Outcome:
    """Deliver what is done; a fault on the way leaves what the run cost and its conversation."""
    # What is left to do if that fails: see `_is_done_already`.
    job.journal.write(job.record._replace(undelivered=Undelivered(outcome, job.record.tip)))
    from orchestrator.guard import user_commands
    from orchestrator.run import delivery

    try:
        return delivery.deliver(job, outcome, rescued)
    except user_commands.Stopped:
        return outcome._replace(verdict="stopped", reason="stopped: by a person")
    except (OrchestratorError, OSError) as error:
        return outcome._replace(verdict="system_fault", reason=_fault(error).reason)


def _stream(journal: Journal) -> IO[str]:
    """Open a run's stream; an empty one where the client wrote none."""
    path = journal.path(run_record.STREAM)
    where = path if os.path.exists(path) else os.devnull
    return open(where, encoding="utf-8", errors="replace")


def _ended(journal: Journal, client: Client, allow: object) -> Ended:
    ended, process = journal.record.ended or run_record.Ended(), journal.record.client
    stderr = _tail(journal.path(run_record.STDERR))
    from orchestrator.guard import secret_names

    allowed = allow if isinstance(allow, list) else ()
    kept = client.sign_in_names(os.environ)
    given = secret_names.without_secrets(os.environ, allowed, kept)
    return Ended(
        exit_code=ended.exit_code,
        signal=ended.signal,
        stopped_for=ended.stopped_for,
        start_error=process.start_error if process else None,
        stderr=stderr,
        lacked=tuple(secret_names.named_in(stderr, os.environ, given)),
    )


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - STDERR_KEPT, 0))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
