"""Where a run starts: its base commit, and its branch, here and at the remote.

A fault that every task would meet (the base branch is gone, a name is impossible) is found here,
before anybody pays for a client.
"""

import os
from collections.abc import Mapping

from orchestrator.config import load
from orchestrator.git import base_branch, remote_pair, remotes, repository, work_branch
from orchestrator.git.remote_pair import Pair
from orchestrator.model.annotations import NoReturn
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PullRequest
from orchestrator.project import agent_memory, checkout_changed, run_record
from orchestrator.pulls import forges, look
from orchestrator.run import pushing
from orchestrator.run.job import Job
from orchestrator.tasks import history, task_file


class Question(OrchestratorError):
    """A base branch does not exist, or a branch with the name of the task's is not the task's own.

    The message says what a person can do.
    """


class Start(NamedTuple):
    """The commit that the worktree starts from, and what becomes of the task's branch."""

    commit: str
    #: The branch's commits, here and at the remote.
    here: str | None = None
    there: str | None = None
    #: The ref that keeps the branch's commits here if they give way to commits that others pushed.
    rescue: str | None = None
    #: The branch under the name that the remote refused, and its commit.
    former: tuple[str, str] | None = None
    #: Commits that are on a ref of this repository.
    on_refs: frozenset[str] = frozenset()
    #: Whether an earlier process of this run has kept the branch's commits under that ref.
    has_kept: bool = False


def find(job: Job) -> Start:
    """Ask git and the remotes where the run starts, and write that into the record.

    Raises Question, and SystemFault for what would be the same for every task.
    """
    review = _pull_request_under_review(job)
    base = review.base if review else base_branch.base_branch(job.config, job.task)
    branch = None if review else _branch(job)
    work = review.branch if review else branch
    former = _former_name(job, branch)
    found = _look(job, base, work, former)
    places = found.there if found.remotes.base else found.here
    if base not in places and base == job.config.base_branch:
        _refuse_base(job, found.remotes.base, base)
    base_commit = found.there.get(base) or found.here.get(base)
    if base_commit is None:
        raise _no_base(job, found.remotes.base, base, is_review=review is not None)
    here, there = found.here.get(work or ""), found.there.get(work or "")
    if branch is not None and (here or there):
        _require_own(job, branch, base)
    start = (there or here or review.head) if review else _cut(job) or base_commit
    job.journal.write_surely(
        job.record._replace(
            branch=branch,
            base=base,
            base_commit=base_commit,
            start=start,
            remote=found.remotes.base,
            push_remote=found.remotes.push,
            push_address=found.remotes.address,
            there=there,
            identity=found.remotes.identity,
            review=review,
        )
    )
    on_refs = frozenset(found.seen.values())
    if branch is None:
        return Start(start, on_refs=on_refs)
    _require_room(job, branch, found)
    tip = found.here.get(former or "") if here is None and there is None else None
    rescue = _must_give_way(job, branch, here, there)
    if pushing.is_over(job, branch, here, there, base_commit):
        there, rescue = base_commit, f"{repository.RESCUE}{job.record.id}-merged"
    return Start(
        start,
        here,
        there,
        rescue,
        (former, tip) if former and tip else None,
        on_refs,
        replaced_ref(job) in found.seen,
    )


def replaced_ref(job: Job) -> str:
    """Return the ref that keeps the branch's commits if they give way to commits of others."""
    return f"{repository.RESCUE}{job.record.id}-replaced"


def _branch(job: Job) -> str | None:
    if job.task is None:
        return None
    task, config = job.task, job.config
    bases = (config.base_branch, task.branch)
    return task.work_branch or task_file.branch_name(
        task.id, task.title, config.branch_prefix, bases
    )


def _cut(job: Job) -> str | None:
    """Return the commit that the tick cut the branch from; None for the base (`pulls.cuts`)."""
    cut = history.cut(job.file.history) if job.file else None
    return repository.resolve(job.layout.root, cut) if cut else None


def _former_name(job: Job, branch: str | None) -> str | None:
    """Return the name that the task's branch had before it got its present name."""
    if job.file is None or branch is None:
        return None
    return next((former for _, _, former in history.claims(job.file.history) if former), None)


def _pull_request_under_review(job: Job) -> PullRequest | None:
    """Return the pull request that a review task is about; None for other roles."""
    if job.role.delivers != "verdict" or job.task is None or job.task.pr is None:
        return None
    return forges.of_project(job.layout, job.config).show(job.task.pr)


# --- looking -------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """The remotes, and the commits of the branches here and there."""

    remotes: Pair
    #: The commit of each ref that was looked at, before the fetch.
    seen: dict[str, str]
    here: dict[str, str]
    there: dict[str, str]


def _look(job: Job, base: str, work: str | None, former: str | None) -> _Found:
    """Look at the base branch, and at the branch of the work, here and at the remotes."""
    checkout_changed.require_remotes(job.layout, job.config.remote, job.config.push_remote)
    pair = remote_pair.find(job.layout.root, job.config)
    folders = work_branch.parents_of(work) if work else []
    local = {f"refs/heads/{x}": x for x in (base, work, former, *folders) if x}
    works = [work] if work else []
    for name in filter(None, (work, former)):
        repository.make_plain(job.layout.root, f"refs/heads/{name}", keep=False)
    tracking = pair.tracking_refs([base, *works, *folders])
    # All in one question: also where the agent's last run left the worktree.
    asked = (*local, *tracking, *_last_refs(job, pair), replaced_ref(job))
    seen = repository.exact_refs(job.layout.root, *asked)
    here = {branch: seen[ref] for ref, branch in local.items() if ref in seen}
    there = _known_there(job, pair, base, work, seen)
    if there is None:
        # What the remote said after the claim of this task has what was pushed before the task was
        # added. The record was written before the claim.
        claimed = os.stat(job.journal.path(run_record.RECORD)).st_mtime
        there = remote_pair.fetch(
            job.layout,
            pair,
            [base],
            works,
            watched=folders,
            known=seen,
            since=claimed,
            wait=remotes.TIMEOUT,
        )
    return _Found(pair, seen, here, there)


def _known_there(
    job: Job, pair: Pair, base: str, work: str | None, seen: Mapping[str, str]
) -> dict[str, str] | None:
    """Return the remote's commits of a pull request to review, if a tick has just fetched them.

    None if the remote is to be asked: for other runs, because they start from the base of now. A
    verdict on a commit that is not the head any more does not count.
    """
    if job.role.delivers != "verdict" or work is None or not look.is_fresh(job.layout):
        return None
    refs = {base: f"refs/remotes/{pair.base}/{base}", work: pair.work_ref(work) or ""}
    found = {branch: seen[ref] for branch, ref in refs.items() if ref in seen}
    return found if len(found) == len(refs) else None


def _last_refs(job: Job, pair: Pair) -> list[str]:
    """Return the refs that probably have the commit at which the worktree is now."""
    last = agent_memory.read(job.layout, job.agent.name).last_run
    record = run_record.read(job.layout.run(job.agent.name, last)) if last else None
    if record is None:
        return []
    branch = record.review.branch if record.review else record.branch or record.base
    return [f"refs/heads/{branch}", *pair.tracking_refs([branch])] if branch else []


# --- judging -------------------------------------------------------------------------------------


def _refuse_base(job: Job, remote: str | None, base: str) -> NoReturn:
    """Raise the SystemFault that the configured base branch is gone."""
    # Without `base_branch` in agents.yaml git names it: the next tick is to ask git again.
    load.read_again(job.layout)
    if remote is None:
        raise base_branch.gone_here(job.layout.root, base)
    raise base_branch.gone(job.layout.root, remote, base)


def _no_base(job: Job, remote: str | None, base: str, *, is_review: bool) -> Question:
    import shlex

    step, task = "Create it", job.task
    if task is not None and not is_review:
        other = base_branch.meant(job.layout.root, remote, base)
        name = shlex.quote(other) if other else "BRANCH"
        step += f", or name another one: orchestrator task set {task.id} branch={name}"
    said = f"The base branch {base!r} does not exist. {step}. Then answer this question"
    return Question(f"{said}, and the work continues.")


def _require_own(job: Job, branch: str, base: str) -> None:
    """Raise Question if a branch that exists is not the task's: a commit there is no proposal."""
    if branch in (base, job.config.base_branch):
        raise Question(
            f"The task's branch {branch} is a base branch, so no agent works on it. Give the task "
            "another base branch, or cancel it and add it again."
        )
    # Only the product uses the default prefix.
    if branch.startswith(Config().branch_prefix):
        return
    if job.record.branch == branch or (job.task and job.task.pr) or _was_begun(job, branch):
        return
    raise Question(
        f"The branch {branch} exists, and no run of this task made it. Rename it if it is not for "
        "this task (git branch -m, and at the remote). Then answer this question: the task gets a "
        "new branch of that name, or its agent continues on the branch that still exists."
    )


def _was_begun(job: Job, branch: str) -> bool:
    """Whether an earlier run of the task may have made its branch, or a person gave it the branch.

    A run notes its branch in its record before it makes the branch. A record that is not here is
    another host's, or was cleaned up.
    """
    entries = job.file.history if job.file else ()
    if any(entry.event == "answered" for entry in entries):
        return True
    records = (
        run_record.read(job.layout.run(agent, run))
        for agent, run, _ in history.claims(entries)
        if run != job.record.id
    )
    return any(record is None or record.branch == branch for record in records)


def _require_room(job: Job, branch: str, found: _Found) -> None:
    """Raise SystemFault if another branch's name makes the branch's name impossible."""
    prefix = job.config.branch_prefix
    for parent in work_branch.parents_of(branch):
        if parent in found.here:
            raise work_branch.in_the_way(prefix, branch, parent)
        if parent in found.there:
            raise work_branch.in_the_way(prefix, branch, parent, found.remotes.push)


def _must_give_way(job: Job, branch: str, here: str | None, there: str | None) -> str | None:
    """Return the ref for the branch's own commits, if the branch starts from commits of others.

    Remembers commits that others pushed: no later push may drop them.
    """
    root = job.layout.root
    if there is None or there == here:
        return None
    memory = pushing.known(job, branch)
    if there not in memory.own and there != memory.others:
        work_branch.remember_others(root, branch, there)
    if here is None or memory.may_replace(root, there, here):
        return None
    return replaced_ref(job)
