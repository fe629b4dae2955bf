"""What can be removed without losing anything, and why the rest cannot be removed.

The plan is made without any change. A dry run prints it; the real run carries out exactly this
plan. The automatic clean-up (see `retention`) carries out a part of the same plan.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.git import (
    abandoned_locks,
    aside,
    base_branch,
    damage,
    repository,
    rescued,
    stashes,
    worktree,
    worktree_commands,
)
from orchestrator.guard import user_commands
from orchestrator.layout import Layout
from orchestrator.model.config import Agent, Config
from orchestrator.model.errors import GitError, OrchestratorError
from orchestrator.model.work import PullRequest
from orchestrator.project import agent_memory, unsettled, worktree_setup
from orchestrator.pulls import landing
from orchestrator.system import files, locks
from orchestrator.upkeep import branches, leftovers
from orchestrator.upkeep.leftovers import Item


def plan(layout: Layout, config: Config, prs: list[PullRequest], now: float) -> list[Item]:
    """Judge everything that the product made and may no longer need. `now` is epoch seconds."""
    return [
        *_worktrees(layout, config),
        *_set_aside(layout),
        *branches.judged(layout, config, prs),
        *_rescued(layout, config),
        *damaged(layout, config),
        *leftovers.found(layout, now),
        *leftovers.git_locks(repository.git_folder(layout.root)),
    ]


def _worktrees(layout: Layout, config: Config) -> Iterator[Item]:
    configured = {agent.name for agent in config.agents}
    for name in agent_memory.names(layout):
        path, item = layout.worktree(name), worktree_of(layout, name)
        if item is None or not item.drop:
            yield from filter(None, [item])
            continue
        try:
            state = worktree_commands.state(path)
        except GitError as error:
            step = f"to keep what is in it, and start over: orchestrator clean {shlex.quote(name)}"
            yield Item("worktree", path, False, f"{error.message}; {step}")
            continue
        if name in configured:
            verdict, why = False, "its agent will use it again"
        elif state.dirty:
            verdict, why = False, "it has uncommitted changes"
        elif state.branch is None and state.head and not repository.is_on_a_ref(path, state.head):
            verdict, why = False, f"its commit {state.head[:12]} is on no branch"
        else:
            verdict, why = True, "its agent is no longer configured, and all its work is elsewhere"
        yield Item("worktree", path, verdict, why)


def worktree_of(layout: Layout, name: str) -> Item | None:
    """Judge the worktree of one agent, which a person wants to start over; None without one.

    What git sees of it is kept when it is removed: commits, and uncommitted changes.
    """
    path = layout.worktree(name)
    if not worktree_commands.is_worktree(path):
        return None
    if unsettled.run_of(layout, name) or locks.is_locked(layout.agent_lock(name)):
        return Item("worktree", path, False, "its agent is running")
    if (locked := worktree_commands.persons_lock(path)) is not None:
        unlock = f"to unlock it: git worktree unlock {shlex.quote(path)}"
        return Item("worktree", path, False, f"it is locked: {locked}; {unlock}")
    return Item("worktree", path, True, "the next run creates it, and sets it up")


#: Why something was set aside, if git's words are not known.
_UNKEPT = "git could not keep its content"


def _set_aside(layout: Layout) -> list[Item]:
    """List what was in a worktree, or in its place, and git could not keep."""
    agents = map(layout.agent, agent_memory.names(layout))
    paths = [path for agent in agents for path in leftovers.folders(agent, "worktree.set-aside-")]
    step = "look at it, then delete the folder"
    return [
        Item("set-aside", path, False, f"{aside.reason(path) or _UNKEPT}; {step}") for path in paths
    ]


def _rescued(layout: Layout, config: Config) -> Iterator[Item]:
    """Judge what agents left uncommitted, or on no branch. It is never removed automatically."""
    root = layout.root
    yield from _kept_in(root, "", repository.refs(root, repository.RESCUE), config)
    for path, found in rescued.in_submodules(root).items():
        yield from _kept_in(os.path.join(root, path), f"{path}: ", found, config)


def _kept_in(root: str, where: str, found: Mapping[str, str], config: Config) -> Iterator[Item]:
    """Judge the rescue refs of one repository; `where` precedes the names of a submodule's refs."""
    if not found:
        return
    remote = "origin" if where else config.remote
    elsewhere = set(repository.refs(root, f"refs/remotes/{remote}/").values())
    base = base_branch.branch_commit(root, remote, (not where and config.base_branch) or "HEAD")
    alone = repository.outside(root, found.values(), elsewhere | ({base} if base else set()))
    git = f"git -C {shlex.quote(where[:-2])}" if where else "git"
    for ref, commit in found.items():
        look = f"to look: {git} show --first-parent {ref}; to drop: {git} update-ref -d {ref}"
        drop, why = False, f"this may be the only copy; {look}"
        if commit not in alone:
            drop, why = True, "it is pushed or merged"
        elif _is_elsewhere(root, commit):
            drop, why = True, "the contents of its files are on a branch or at the remote"
        yield Item("rescue", f"{where}{ref}", drop, why, commit)


def _is_elsewhere(root: str, commit: str) -> bool:
    with contextlib.suppress(GitError):  # an object is missing: what is left of it stays
        return rescued.is_elsewhere(root, commit)
    return False


def damaged(layout: Layout, config: Config) -> Iterator[Item]:
    """List the refs and the worktrees that are damaged. They are never removed automatically."""
    root, base = layout.root, None
    if config.base_branch:
        base = base_branch.branch_commit(root, config.remote, config.base_branch)
    found = [*damage.alternates(root), *damage.refs(root), *damage.heads(root)]
    found += damage.of_branches(root, functools.partial(branches.of_agents, layout), base)
    for name, why, step in found:
        yield Item("damaged", name, False, f"{why}; to remove it: {step}")


# --- carried out -------------------------------------------------------------------------------


def carry_out(
    layout: Layout, config: Config, prs: list[PullRequest], items: Iterable[Item]
) -> list[Item]:
    """Remove what the plan removes; return what was removed. What has changed since then stays.

    Raises LockHeld when the queue is busy for very long.
    """
    wanted = [item for item in items if item.drop]
    dropped = [item for item in wanted if item.kind != "branch" and _drop(layout, config, item)]
    doomed = [item for item in wanted if item.kind == "branch"]
    return [*dropped, *branches.drop(layout, config, prs, doomed)]


def _drop(layout: Layout, config: Config, item: Item) -> bool:
    """Remove one thing; False if it has changed since it was judged: the next plan judges again."""
    try:
        match item.kind:
            case "worktree":
                drop_worktree(layout, os.path.basename(os.path.dirname(item.name)), config)
            case "rescue":
                path, _, ref = item.name.rpartition(": ")
                repository.delete_ref(os.path.join(layout.root, path), ref, item.commit)
            case "lock":
                common = repository.git_folder(layout.root)
                return abandoned_locks.free([item.name], common)
            case _ if item.name.startswith(stashes.HELD):
                run_id = item.name.removeprefix(stashes.HELD)
                stashes.release(layout.root, run_id, stashes.held(layout.root).get(run_id, ()))
            case _ if os.path.isdir(item.name):
                return _drop_throw_away(layout, item.name)
            case _:
                files.remove(item.name)
    except (OrchestratorError, OSError):
        return False
    return True


def _drop_throw_away(layout: Layout, path: str) -> bool:
    """Remove a temporary worktree; False while something is being merged."""
    with contextlib.suppress(locks.LockHeld), landing.lock(layout, 0.0):
        worktree.remove(layout.root, path)
        return True
    return False


def start_over(layout: Layout, name: str, config: Config) -> worktree.Preserved:
    """Remove an agent's worktree at a person's request; return what is kept of its content.

    Raises OrchestratorError while the agent is running, and if `hooks.before_remove` fails.
    """
    item = worktree_of(layout, name)
    locked = worktree_commands.persons_lock(layout.worktree(name))
    with contextlib.suppress(locks.LockHeld):
        if item is None or item.drop or locked is not None:
            return drop_worktree(layout, name, config)
    hint = f"orchestrator stop {name}; then try again"
    raise OrchestratorError(f"{name} is running", hint, code="running")


def drop_worktree(layout: Layout, name: str, config: Config) -> worktree.Preserved:
    """Remove an agent's worktree; return what is kept of its content.

    Raises SystemFault if `hooks.before_remove` fails, and LockHeld if the agent is running.
    """
    # The ports of an agent that is no longer configured are not known: those of the next one.
    known = (agent for agent in config.agents if agent.name == name)
    agent = next(known, Agent(name, "", len(config.agents)))
    variables = user_commands.check_environment(config, agent, layout)
    with locks.Lock(layout.agent_lock(name)):
        path = layout.worktree(name)
        return worktree_setup.take_down(layout.root, path, config, variables, f"clean-{name}")
