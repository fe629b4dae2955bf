"""What can be dropped without losing anything, and why the rest cannot.

One plan, made by looking only; a dry run prints it and the real run carries out just that.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from orchestrator import agentstate, delivery, files, git, gitworktree, process, worktree
from orchestrator.errors import OrchestratorError
from orchestrator.forge import BRANCH_PREFIX
from orchestrator.layout import Layout
from orchestrator.model import OPEN_STATES, Config, Hooks, PullRequest
from orchestrator.store import Store


class Item(NamedTuple):
    """One worktree or branch. `drop` says whether it goes; `why` says why, or why not."""

    kind: str
    name: str
    drop: bool
    why: str
    #: The commit of a branch when it was judged.
    commit: str = ""


def plan(layout: Layout, config: Config, prs: list[PullRequest]) -> list[Item]:
    """Judge every worktree and branch of ours."""
    return [*_worktrees(layout, config), *_branches(layout, config, prs)]


def _worktrees(layout: Layout, config: Config) -> list[Item]:
    items = []
    configured = {agent.name for agent in config.agents}
    for name in agentstate.names(layout):
        path = layout.worktree(name)
        if not gitworktree.is_worktree(path):
            continue
        state = gitworktree.state(path)
        if agentstate.read(layout, name).run or files.is_locked(layout.agent_lock(name)):
            verdict, why = False, "its agent is running"
        elif name in configured:
            verdict, why = False, "its agent will use it again"
        elif state.dirty:
            verdict, why = False, "it has uncommitted changes"
        elif state.branch is None and state.head and not git.is_on_a_ref(path, state.head):
            verdict, why = False, f"its commit {state.head[:12]} is on no branch"
        else:
            verdict, why = True, "its agent is no longer configured, and nothing is only there"
        items.append(Item("worktree", path, verdict, why))
    return items


def _branches(layout: Layout, config: Config, prs: list[PullRequest]) -> list[Item]:
    root = layout.root
    remote = delivery.remote_of(layout, config)
    store = Store(layout)
    working = {
        task.work_branch: task
        for state in OPEN_STATES
        for task in store.list(state).tasks
        if task.work_branch
    }
    by_branch = {pr.branch: pr for pr in prs}
    items = []
    for ref, commit in git.refs(root, f"refs/heads/{BRANCH_PREFIX}").items():
        branch = ref.removeprefix("refs/heads/")
        pr = by_branch.get(branch)
        base = delivery.branch_commit(root, remote, pr.base if pr else config.base_branch or "HEAD")
        holder = gitworktree.holder_of(root, branch)
        if branch in working:
            drop, why = False, f"task {working[branch].id} is in {working[branch].state}"
        elif holder:
            drop, why = False, f"it is checked out in {holder}"
        elif pr is not None and pr.state == "open":
            drop, why = False, f"pull request {pr.id} is open"
        elif base and git.is_ancestor(root, commit, base):
            drop, why = True, "it is merged"
        else:
            drop, why = False, "it has commits that are not in its base"
        items.append(Item("branch", branch, drop, why, commit))
    return items


def carry_out(layout: Layout, items: list[Item], hooks: Hooks) -> list[Item]:
    """Drop what the plan drops; return what was dropped. What changed since stays."""
    dropped = []
    for item in items:
        if not item.drop:
            continue
        try:
            if item.kind == "branch":
                git.delete_ref(layout.root, f"refs/heads/{item.name}", item.commit)
            elif not drop_worktree(layout, item.name, hooks):
                continue
        except OrchestratorError:
            continue  # it moved on since it was judged: it stays, and the next clean judges again
        dropped.append(item)
    return dropped


def drop_worktree(layout: Layout, path: str, hooks: Hooks) -> bool:
    """Remove a worktree; False when its agent is at work, or `hooks.before_remove` objects."""
    lock = files.Lock(os.path.join(os.path.dirname(path), "lock"))
    try:
        with lock:
            if hooks.before_remove is not None and not _may_go(path, hooks):
                return False
            worktree.preserve(path, None, f"clean-{os.path.basename(os.path.dirname(path))}")
            worktree.remove(layout.root, path)
        return True
    except files.LockHeld:
        return False
    finally:
        lock.close()


def _may_go(path: str, hooks: Hooks) -> bool:
    """Run `hooks.before_remove` in the worktree; return whether it succeeded in time."""
    done = process.run(
        ("/bin/sh", "-c", hooks.before_remove or ""),
        cwd=path,
        environment=git.environment(os.environ),
        timeout=hooks.timeout_seconds,
    )
    return done.code == 0
