"""The local branches of finished work: which of them can be removed, and their removal."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from orchestrator.git import base_branch, repository, work_branch, worktree_list
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import OPEN_STATES, PullRequest, Task
from orchestrator.project import run_record
from orchestrator.pulls import forges
from orchestrator.tasks import history, stores
from orchestrator.tasks.store import Store, of_branch
from orchestrator.upkeep.leftovers import Item

_HEADS = "refs/heads/"
#: Branches that are removed while the queue's lock is held: a second.
MOST_BRANCHES = 500


def of_agents(layout: Layout, prs: Iterable[PullRequest] = ()) -> dict[str, str]:
    """Return the local branches that the product made, each with its commit.

    A prefix alone proves nothing: it may be one that people use too. What proves it is a run of a
    task, a pull request, the memory of a push, or the default prefix, which only the product uses.
    """
    store, prefix, own = stores.of_project(layout), Config().branch_prefix, work_branch.OWN
    found = repository.refs(layout.root, _HEADS, own)
    named = {pr.branch for pr in prs}
    named.update(ref.removeprefix(own) for ref in found if ref.startswith(own))
    return {
        name: commit
        for name, commit in _by_branch(found).items()
        if name in named or name.startswith(prefix) or _is_of_a_run(layout, store, name)
    }


def _by_branch(refs: Mapping[str, str]) -> dict[str, str]:
    """Return the local branches among refs, each with its commit."""
    return {
        ref.removeprefix(_HEADS): commit for ref, commit in refs.items() if ref.startswith(_HEADS)
    }


def _is_of_a_run(layout: Layout, store: Store, branch: str) -> bool:
    """Return whether a run worked on a branch: its record or its task's history says so.

    The claim of a task only gives its branch a name, which a person's branch may have: then no run
    works on it before the person has left it to the task (`run.start_point`).
    """
    task = of_branch(store, branch)
    if task is None:
        return False
    known = stores.with_history(store, task.id)
    entries = known[1] if known else ()
    if any(each.event != "claimed" and each.fields.get("branch") == branch for each in entries):
        return True
    folders = (layout.run(agent, run) for agent, run, _ in history.claims(entries))
    return any(found.branch == branch for found in map(run_record.read, folders) if found)


def judged(
    layout: Layout,
    config: Config,
    prs: list[PullRequest],
    known: Mapping[str, str] | None = None,
) -> list[Item]:
    """Judge every local agent branch. Branches of the remote belong to its owner.

    `known` are the branches to judge, as `of_agents` returned them a moment ago.
    """
    root = layout.root
    remote = base_branch.remote_of(layout, config)
    working = _working(layout)
    held = worktree_list.holders(root)
    # If a branch has several pull requests, the open pull request counts.
    by_branch = {pr.branch: pr for pr in sorted(prs, key=lambda pr: pr.state == "open")}
    items = []

    @functools.cache
    def merged(base: str) -> set[str]:
        tip = base_branch.branch_commit(root, remote, base)
        return repository.merged_refs(root, tip, _HEADS) if tip else set()

    if known is None:
        known = now = of_agents(layout, prs)
    else:
        now = _by_branch(repository.refs(root, _HEADS))
    for branch, commit in now.items():
        if commit != known.get(branch) or branch == config.base_branch:
            continue
        ref, pr = _HEADS + branch, by_branch.get(branch)
        if pr is None and ref not in merged(config.base_branch or "HEAD"):
            pr = forges.of_branch(layout, config, branch)
        base = pr.base if pr else config.base_branch or "HEAD"
        if branch in working:
            drop, why = False, f"task {working[branch].id} is in {working[branch].state}"
        elif branch in held:
            drop, why = False, f"it is checked out in {held[branch]}"
        elif pr is not None and pr.state == "open":
            drop, why = False, f"pull request {pr.id} is open"
        elif ref in merged(base):
            is_merged = pr is not None and pr.state == "merged"
            drop, why = True, f"all its commits are in {base}"
            why = f"pull request {pr.id} is merged" if pr and is_merged else why
        elif pr is not None and pr.state == "merged" and not pr.said and pr.head == commit:
            drop, why = True, f"pull request {pr.id} is merged"
        else:
            drop, why = False, "it has commits that are not in its base"
        items.append(Item("branch", branch, drop, why, commit))
    return items


def _working(layout: Layout) -> dict[str, Task]:
    """Return the unfinished tasks, by their branches."""
    store = stores.of_project(layout)
    with store.ahead(*OPEN_STATES):
        open_ones = [task for state in OPEN_STATES for task in store.list(state).tasks]
    return {task.work_branch: task for task in open_ones if task.work_branch}


def drop(layout: Layout, config: Config, prs: list[PullRequest], doomed: list[Item]) -> list[Item]:
    """Remove branches; return what was removed. What has changed since it was judged stays.

    Raises LockHeld when the queue is busy for very long.
    """
    dropped: list[Item] = []
    for first in range(0, len(doomed), MOST_BRANCHES):
        some = doomed[first : first + MOST_BRANCHES]
        # A claim takes the same lock: no run can start on a branch between this look and its end.
        with stores.of_project(layout).change():
            still = set(judged(layout, config, prs, {item.name: item.commit for item in some}))
            dropped += _drop(layout, [item for item in some if item in still])
    return dropped


def _drop(layout: Layout, items: list[Item]) -> list[Item]:
    """Remove branches, with what is remembered of them; return those that had not changed."""
    heads = {_HEADS + item.name: item.commit for item in items}
    try:
        gone = repository.delete_refs(layout.root, heads)
        work_branch.forget(layout.root, {ref.removeprefix(_HEADS) for ref in gone})
    except OrchestratorError:
        return []  # the next plan judges again
    return [item for item in items if _HEADS + item.name in gone]
