"""Pushing a task's branch: never over commits of others, and each refusal as what it is.

A refusal that every task would get is a system fault; one of these very commits is the
work's failure (reference 9.8).
"""

import contextlib
import re

from orchestrator.git import base_branch, call, remotes, repository, work_branch
from orchestrator.model.errors import GitError, OrchestratorError, Rejected, SystemFault
from orchestrator.run.job import Job
from orchestrator.tasks import history
from orchestrator.text.quoting import cleaned, one_line

#: What a remote says when it refuses the account or protects the branch, whatever is pushed.
_PROTECTED = r"(?i)GH006|protected branch|permission|denied|not allowed to (push|update)|forbidden"
#: What it says of commits that no agent can make: the product never signs.
_UNSIGNED = r"(?i)verified signature|must be signed|unsigned commit"


#: How the name ends of a branch that exists at the remote while a push is tried.
PROBE = "-push-test"


class Moved(OrchestratorError):
    """Others pushed to the branch during the run."""

    code = "branch_moved"


class NameRefused(OrchestratorError):
    """The remote refuses the name of this one branch, and takes others like it."""

    code = "remote_refuses"


def push(job: Job, branch: str, head: str) -> None:
    """Make `head` the branch's commit at the remote.

    Raises Moved, Rejected, NameRefused, and SystemFault for a refusal of every task.
    """
    root, there = job.layout.root, job.record.there
    # What the run saw at its start is a guess, which the lease confirms: no question goes before.
    is_guess = there is None or repository.is_ancestor(root, there, head)
    refusal = _pushed(job, branch, head, there) if is_guess else ""
    # Whatever it said: the push of a supervisor that was killed may have come through.
    if refusal is not None and (now := _tip(job, branch)) != head:
        if now is not None and now != there and _is_below(job, branch, head, now):
            return  # others have pushed since then, on top of that push
        if not is_guess or now != there:
            there = now
            if there is not None:
                _protect(job, branch, there, head)
            refusal = _pushed(job, branch, head, there)
            now = head if refusal is None else _tip(job, branch)
        if refusal is not None and now != head:
            _judge(job, branch, head, refusal, there, now)
    if refusal is not None:
        # The push that came through was killed before it noted here what the remote has: the next
        # tick would take the branch for the older one, and end the review of this commit.
        repository.have_ref(root, f"refs/remotes/{_remote(job)}/{branch}", head)


def _pushed(job: Job, branch: str, head: str, there: str | None) -> str | None:
    """Push, with a lease on `there`; return why the remote refused it, or None."""
    words = (job.layout.root, _remote(job), head, branch, there or "")
    refusal = remotes.push(*words)
    if refusal is not None and re.search(remotes.HOOK_DECLINED, refusal):
        # A hook whose program was killed does not say so: a refusal is said twice.
        refusal = remotes.push(*words)
    return refusal


def known(job: Job, branch: str) -> work_branch.Known:
    """Return what is remembered of a task's branch."""
    delivered = history.delivered(job.file.history, branch) if job.file else None
    return work_branch.known(job.layout.root, branch, delivered)


def is_over(job: Job, branch: str, here: str | None, there: str | None, base: str) -> bool:
    """Return whether the branch has nothing but what was merged: more work starts from the base.

    On top of commits that landed as others, it would conflict with what became of them. `here` and
    `there` are the branch's commits here and at the remote.
    """
    root, events = job.layout.root, reversed(job.file.history if job.file else ())
    merged = next((each.fields.get("head") for each in events if each.event == "merged"), None)
    if merged is None:
        return False
    tips = filter(None, (here, there))
    if not all(repository.is_ancestor(root, tip, str(merged)) for tip in tips):
        return False
    return there is None or known(job, branch).may_replace(root, there, base)


def _remote(job: Job) -> str:
    assert job.record.push_remote
    return job.record.push_remote


def address(job: Job) -> str:
    """Return where the branches that are pushed can be looked up."""
    return job.record.push_address or _remote(job)


def _tip(job: Job, branch: str) -> str | None:
    return remotes.tips(job.layout.root, address(job), [branch]).get(branch)


def _protect(job: Job, branch: str, there: str, head: str) -> None:
    """Raise if a push would drop commits of others; keep what it drops of the product's own."""
    root, memory = job.layout.root, known(job, branch)
    if repository.is_ancestor(root, there, head):
        return
    if memory.may_replace(root, there, head):
        repository.keep(root, f"{repository.RESCUE}{job.record.id}-replaced", there)
        return
    if there in memory.own or there == job.record.there:
        message = "the branch lacks commits that others pushed to it: do not amend or rebase them"
        raise Rejected(f"{message} ({branch} is at {there} at the remote)")
    raise _moved(job, branch, there)


def _moved(job: Job, branch: str, there: str | None) -> Moved:
    where = f"it is at {_who(job, there)} now" if there else "it is gone"
    return Moved(f"{branch} changed at the remote during the run: {where}")


def _is_below(job: Job, branch: str, head: str, there: str) -> bool:
    """Whether a commit is in the branch as the remote has it; False if that cannot be fetched."""
    with contextlib.suppress(OrchestratorError):
        wait = remotes.TIMEOUT
        base_branch.fetch(job.layout, _remote(job), [branch], address=address(job), wait=wait)
    return repository.is_ancestor(job.layout.root, head, there)


def _who(job: Job, commit: str) -> str:
    """Return a commit of others with its subject and its committer, if it was fetched."""
    said = repository.described(job.layout.root, commit)
    return f"{commit[:12]} ({one_line(cleaned(said))})" if said else commit[:12]


def _judge(
    job: Job, branch: str, head: str, refusal: str, there: str | None, now: str | None
) -> None:
    """Raise why the remote does not have the pushed commit.

    If the remote takes other commits after a refusal, the push is repeated: the reason of the
    refusal may have ended in between.
    """
    if now != there:
        raise _moved(job, branch, now)
    parents = remotes.tips(job.layout.root, address(job), work_branch.parents_of(branch))
    for parent in parents:
        raise work_branch.in_the_way(job.config.branch_prefix, branch, parent, _remote(job))
    old = _fork_point(job, head)
    if re.search(_UNSIGNED, refusal) or _refuses_all(job, branch, refusal, old, there):
        raise _refuses(job, branch, refusal)
    repeated = remotes.push(job.layout.root, _remote(job), head, branch, there or old)
    if repeated is not None:
        raise Rejected(repeated)


def _refuses_all(job: Job, branch: str, refusal: str, old: str, there: str | None) -> bool:
    """Return whether the remote refuses such a push of any commits, also of `old`, which it has."""
    if there is not None:
        is_protected = re.search(_PROTECTED, refusal)
        return bool(is_protected) or _refuses_updates(job, branch + PROBE, old, there)
    if remotes.push(job.layout.root, _remote(job), old, branch, "") is not None:
        other = f"{job.config.branch_prefix}TASK-00000000{PROBE}"
        if not re.search(_PROTECTED, refusal) and not _refuses_updates(job, other, old):
            raise NameRefused(f"the remote {_remote(job)!r} refuses the branch {branch}: {refusal}")
        return True
    work_branch.remember(job.layout.root, branch, old)
    return False


def _refuses_updates(job: Job, probe: str, *commits: str) -> bool:
    """Create a branch at the remote, update it, and delete it; return whether the remote refuses.

    The remote has these commits already. The task's own branch is left alone: others read it.
    """
    root, remote = job.layout.root, _remote(job)
    at = remotes.tips(root, address(job), [probe]).get(probe, "")
    for commit in commits:
        if commit != at and remotes.push(root, remote, commit, probe, at) is not None:
            break
        at = commit
    if at:
        remotes.delete(root, remote, probe, at)
    return at != commits[-1]


def _fork_point(job: Job, head: str) -> str:
    base = job.record.base_commit or head
    try:
        return call.ask(job.layout.root, "merge-base", base, head)
    except GitError:
        return base


def _refuses(job: Job, branch: str, refusal: str) -> SystemFault:
    prefix = job.config.branch_prefix
    return SystemFault(
        f"the remote {_remote(job)!r} refuses the branch {branch}: {refusal}",
        f"give this account the right to push there; if the remote's rules want other names, set "
        f"branch_prefix in .orchestrator/agents.yaml (now {prefix!r})",
        code="remote_refuses",
    )
