"""Taking a project's set-up out again: all that is ours goes, all that is the user's stays.

What stays is the queue with its history, the configuration, the pull requests of the local forge,
what today has cost, and in git whatever agents committed or left uncommitted. Everything else can
be made again.
"""

from __future__ import annotations

import contextlib
import os
import time

from orchestrator.config import load
from orchestrator.errors import OrchestratorError
from orchestrator.git import call, repository, worktree_commands
from orchestrator.layout import Layout
from orchestrator.project import agent_memory, mark
from orchestrator.pulls.forge import BRANCH_PREFIX
from orchestrator.setup import init_project, skills, user_files
from orchestrator.setup.init_project import Change
from orchestrator.system import files, locks
from orchestrator.tasks import store as stores
from orchestrator.upkeep import clean

#: Seconds to wait for a tick under way.
_TICK_WAIT = 30.0


def require_rest(layout: Layout) -> None:
    """Raise OrchestratorError while an agent has a run: nobody would look after it any more."""
    busy = [
        name
        for name in agent_memory.names(layout)
        if agent_memory.read(layout, name).run or locks.is_locked(layout.agent_lock(name))
    ]
    if busy:
        raise OrchestratorError(
            f"still at work: {', '.join(busy)}",
            "end that first: orchestrator stop --all; then the same command again",
            code="running",
        )


def carry_out(layout: Layout) -> Change:
    """Take out what `init` and the ticks put in; return what went, and what could not.

    Raises OrchestratorError, LockHeld and OSError; what is still there then goes the next time.
    """
    change = Change()
    if os.path.isdir(layout.home):
        lock = locks.Lock(layout.scheduler_lock, _TICK_WAIT)
        with contextlib.closing(lock), lock:
            require_rest(layout)
            # While git still ignores the product's files in worktrees: those are not rescued.
            _take_agents(layout, change)
            _take_outside(layout, change)
            _take_scraps(layout)
            _take_config(layout, change)
        for where, _, _ in os.walk(layout.home, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(where)
    else:
        _take_outside(layout, change)
    return change


def left_in_git(layout: Layout) -> tuple[int, int]:
    """Return how many branches of agents there are, and how many rescued states."""
    refs = repository.refs(layout.root, f"refs/heads/{BRANCH_PREFIX}", repository.RESCUE)
    rescued = sum(name.startswith(repository.RESCUE) for name in refs)
    return len(refs) - rescued, rescued


def _take_agents(layout: Layout, change: Change) -> None:
    """Remove worktrees, once what only they hold is safe, and what is remembered of runs."""
    config = load.settings(layout, write_cache=False).config
    today = time.strftime("%Y-%m-%d")
    for name in agent_memory.names(layout):
        path = layout.worktree(name)
        if worktree_commands.is_worktree(path):
            try:
                gone = clean.drop_worktree(layout, path, config)
            except OrchestratorError as error:
                change.warnings.append(f"{path} stays: {error.message}")
                continue
            if not gone:
                change.warnings.append(f"{path} stays: hooks.before_remove objects")
                continue
            change.written.append(f"the worktree of {name}")
        # Set up again today, the project has only what is left of its `budgets.daily_usd`.
        spend = agent_memory.read(layout, name).spend
        kept = {os.path.basename(layout.agent_state(name))} if spend.get(today) else set()
        if kept:
            agent_memory.write(layout, name, agent_memory.AgentState(spend=spend))
        for each in sorted(set(os.listdir(layout.agent(name))) - kept):
            there = os.path.join(layout.agent(name), each)
            if each.startswith("worktree"):
                # What git could not keep was set aside, or is no worktree any more.
                change.warnings.append(f"{there} stays: git knows nothing of what is in it")
            else:
                files.remove_tree(there)


def _take_outside(layout: Layout, change: Change) -> None:
    """Take out what lies outside `.orchestrator/`, the mark of this clone last."""
    change.written += user_files.take(layout)
    change.written += skills.take(layout.root)
    files.remove(layout.idle_stamp)
    if mark.is_initialised(layout):
        files.remove(mark.mark_path(layout))
        change.written.append(f".git/{mark.MARK}")


def _take_scraps(layout: Layout) -> None:
    """Remove what only ticks need."""
    files.remove_tree(layout.cache)
    stores.of_project(layout).take_away()
    for path in (
        layout.hold,
        layout.schedule_log,
        f"{layout.schedule_log}.1",
        os.path.join(layout.prs, ".lock"),
        layout.scheduler_lock,
    ):
        files.remove(path)


def _take_config(layout: Layout, change: Change) -> None:
    """Remove a configuration that nobody edited or committed: `init` would write it again."""
    try:
        with open(layout.config, "rb") as file:
            text = file.read()
    except OSError:
        return
    first = [init_project.first_config(layout.root, start=start) for start in (True, False)]
    if text in first and not call.ask(layout.root, "ls-files", "--", layout.config):
        files.remove(layout.config)
        change.written.append(".orchestrator/agents.yaml (as it was written)")
