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

from orchestrator.errors import GitError, OrchestratorError
from orchestrator.fields import NamedTuple
from orchestrator.git import (
    abandoned_locks,
    aside,
    base_branch,
    damage,
    repository,
    rescued,
    work_branch,
    worktree,
    worktree_commands,
)
from orchestrator.guard import user_commands
from orchestrator.layout import Layout
from orchestrator.model import OPEN_STATES, Agent, Config, PullRequest, Task
from orchestrator.project import agent_memory, run_record, worktree_setup
from orchestrator.pulls import forges, landing
from orchestrator.system import files, locks
from orchestrator.tasks import stores
from orchestrator.tasks.store import of_branch

#: Branches that are removed while the queue's lock is held: a second.
MOST_BRANCHES = 500
#: Seconds after which a temporary file has lost the process that wrote it.
ABANDONED = 3600.0


class Item(NamedTuple):
    """One thing that the product made; `drop` says whether it is removed, `why` the reason."""

    #: worktree, set-aside, branch, rescue, damaged, leftover or lock.
    kind: str
    name: str
    drop: bool
    why: str
    #: The commit of a branch or a rescue ref when it was judged.
    commit: str = ""


def plan(layout: Layout, config: Config, prs: list[PullRequest], now: float) -> list[Item]:
    """Judge everything that the product made and may no longer need. `now` is epoch seconds."""
    return [
        *_worktrees(layout, config),
        *_set_aside(layout),
        *branches(layout, config, prs),
        *_rescued(layout, config),
        *damaged(layout, config),
        *leftovers(layout, now),
        *git_locks(repository.git_folder(layout.root)),
    ]


def _worktrees(layout: Layout, config: Config) -> Iterator[Item]:
    configured = {agent.name for agent in config.agents}
    for name in agent_memory.names(layout):
        path = layout.worktree(name)
        if not worktree_commands.is_worktree(path):
            continue
        try:
            state = worktree_commands.state(path)
        except GitError as error:
            step = f"to keep what is in it, and start over: orchestrator clean {shlex.quote(name)}"
            yield Item("worktree", path, False, f"{error.message}; {step}")
            continue
        if agent_memory.read(layout, name).run or locks.is_locked(layout.agent_lock(name)):
            verdict, why = False, "its agent is running"
        elif (locked := worktree_commands.persons_lock(path)) is not None:
            verdict, why = False, _locked(path, locked)
        elif name in configured:
            verdict, why = False, "its agent will use it again"
        elif state.dirty:
            verdict, why = False, "it has uncommitted changes"
        elif state.branch is None and state.head and not repository.is_on_a_ref(path, state.head):
            verdict, why = False, f"its commit {state.head[:12]} is on no branch"
        else:
            verdict, why = True, "its agent is no longer configured, and all its work is elsewhere"
        yield Item("worktree", path, verdict, why)


def _locked(path: str, why: str) -> str:
    return f"it is locked: {why}; to unlock it: git worktree unlock {shlex.quote(path)}"


def worktree_of(layout: Layout, name: str) -> Item | None:
    """Judge the worktree of one agent, which a person wants to start over; None without one.

    What git sees of it is kept when it is removed: commits, and uncommitted changes.
    """
    path = layout.worktree(name)
    if not worktree_commands.is_worktree(path):
        return None
    if agent_memory.read(layout, name).run or locks.is_locked(layout.agent_lock(name)):
        return Item("worktree", path, False, "its agent is running")
    if (locked := worktree_commands.persons_lock(path)) is not None:
        return Item("worktree", path, False, _locked(path, locked))
    return Item("worktree", path, True, "the next run creates it, and sets it up")


#: Why something was set aside, if git's words are not known.
_UNKEPT = "git could not keep its content"


def _set_aside(layout: Layout) -> list[Item]:
    """List what was in a worktree, or in its place, and git could not keep."""
    agents = map(layout.agent, agent_memory.names(layout))
    paths = [path for agent in agents for path in _folders(agent, "worktree.set-aside-")]
    step = "look at it, then delete the folder"
    return [
        Item("set-aside", path, False, f"{aside.reason(path) or _UNKEPT}; {step}") for path in paths
    ]


def agent_branches(layout: Layout, prs: Iterable[PullRequest] = ()) -> dict[str, str]:
    """Return the local branches that the product made, each with its commit.

    A prefix alone proves nothing: it may be one that people use too. What proves it is a task, a
    pull request, the memory of a push, or the default prefix, which only the product uses.
    """
    store = stores.of_project(layout)
    named = {pr.branch for pr in prs} | set(work_branch.pushed(layout.root))
    prefix = Config().branch_prefix
    found = repository.refs(layout.root, "refs/heads/")
    local = {ref.removeprefix("refs/heads/"): commit for ref, commit in found.items()}
    return {
        name: commit
        for name, commit in local.items()
        if name in named or name.startswith(prefix) or of_branch(store, name)
    }


def branches(
    layout: Layout,
    config: Config,
    prs: list[PullRequest],
    known: Mapping[str, str] | None = None,
) -> list[Item]:
    """Judge every local agent branch. Branches of the remote belong to its owner.

    `known` are the branches to judge, as `agent_branches` returned them a moment ago.
    """
    root = layout.root
    remote = base_branch.remote_of(layout, config)
    working = _working(layout)
    held = worktree_commands.holders(root)
    # If a branch has several pull requests, the open pull request counts.
    by_branch = {pr.branch: pr for pr in sorted(prs, key=lambda pr: pr.state == "open")}
    items = []

    @functools.cache
    def merged(base: str) -> set[str]:
        tip = base_branch.branch_commit(root, remote, base)
        return repository.merged_refs(root, tip, "refs/heads/") if tip else set()

    if known is None:
        known = agent_branches(layout, prs)
    for ref, commit in (repository.refs(root, "refs/heads/") if known else {}).items():
        branch = ref.removeprefix("refs/heads/")
        if commit != known.get(branch) or branch == config.base_branch:
            continue
        pr = by_branch.get(branch)
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
    open_ones = [task for state in OPEN_STATES for task in store.list(state).tasks]
    return {task.work_branch: task for task in open_ones if task.work_branch}


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
    found += damage.of_branches(root, functools.partial(agent_branches, layout), base)
    for name, why, step in found:
        yield Item("damaged", name, False, f"{why}; to remove it: {step}")


def leftovers(layout: Layout, now: float) -> list[Item]:
    """Judge temporary files and folders: a killed process leaves them."""
    items = []
    unsettled = {agent_memory.read(layout, name).run for name in agent_memory.names(layout)}
    for path in _folders(layout.cache, "base-"):
        run_id = os.path.basename(path).removeprefix("base-")
        in_use = run_id in unsettled or _is_at_work(layout, run_id)
        why = "its run's checks may be using it" if in_use else "its run has finished"
        items.append(Item("leftover", path, not in_use, why))
    for path in _folders(layout.cache, "landing-"):
        in_use = locks.is_locked(landing.lock_path(layout))
        why = "something is being merged" if in_use else "nothing is being merged"
        items.append(Item("leftover", path, not in_use, why))
    why = "its writer was killed"
    items += [Item("leftover", path, True, why) for path in _beside(layout, now - ABANDONED)]
    return items


def git_locks(common: str) -> list[Item]:
    """Judge git's lock files in a common git folder, except for those of the person's checkout."""
    found = [*abandoned_locks.shared(common), *abandoned_locks.of_upkeep(common)]
    in_use = bool(found and abandoned_locks.users(common, found))
    why = "a running git may hold it" if in_use else "a git that was killed left it"
    return [Item("lock", path, not in_use, why) for path in found]


def _is_at_work(layout: Layout, run_id: str) -> bool:
    found = (run_record.read(layout.run(name, run_id)) for name in agent_memory.names(layout))
    return any(record is not None and record.is_at_work() for record in found)


def _beside(layout: Layout, before: float) -> list[str]:
    """Return the temporary files that are left in the folders where the product writes."""
    folders = [layout.home, layout.shared, layout.prs, layout.cache]
    for name in agent_memory.names(layout):
        folders += [layout.agent(name), *_folders(layout.runs(name), "")]
    paths = [path for folder in folders for path in files.left_beside(folder, before)]
    return [*stores.of_project(layout).leftovers(before), *paths]


def _folders(where: str, prefix: str) -> list[str]:
    """Return the paths of a folder's sub-folders whose names begin with `prefix`."""
    return [os.path.join(where, name) for name in files.folders(where) if name.startswith(prefix)]


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
    for first in range(0, len(doomed), MOST_BRANCHES):
        some = doomed[first : first + MOST_BRANCHES]
        # A claim takes the same lock: no run can start on a branch between this look and its end.
        with stores.of_project(layout).change():
            still = set(branches(layout, config, prs, {item.name: item.commit for item in some}))
            dropped += _drop_branches(layout, [item for item in some if item in still])
    return dropped


def _drop_branches(layout: Layout, items: list[Item]) -> list[Item]:
    """Remove branches, with what is remembered of them; return those that had not changed."""
    heads = {f"refs/heads/{item.name}": item.commit for item in items}
    try:
        gone = repository.delete_refs(layout.root, heads)
        work_branch.forget(layout.root, {ref.removeprefix("refs/heads/") for ref in gone})
    except OrchestratorError:
        return []  # the next plan judges again
    return [item for item in items if f"refs/heads/{item.name}" in gone]


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
