"""Uninstall from a project: remove the product's files and keep the user's files.

The queue with its history, the configuration, the pull requests of the local forge, today's costs,
and in git the agents' commits and uncommitted changes remain. All other files can be created again.
"""

from __future__ import annotations

import contextlib
import os
import time

from orchestrator.config import load
from orchestrator.git import call, repository, rescued, work_branch, worktree_commands
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.project import agent_memory, mark, unsettled
from orchestrator.setup import init_project, skills, user_files
from orchestrator.setup.init_project import Change
from orchestrator.system import files, locks
from orchestrator.tasks import stores
from orchestrator.text import words
from orchestrator.text.words import count
from orchestrator.tick import lock
from orchestrator.upkeep import branches, clean

#: Seconds to wait for an active tick.
_TICK_WAIT = locks.LONGEST_WAIT


def require_rest(layout: Layout) -> None:
    """Raise OrchestratorError if an agent has a run: no later tick would settle it."""
    at_work = (n for n in agent_memory.names(layout) if locks.is_locked(layout.agent_lock(n)))
    busy = sorted({*unsettled.runs(layout), *at_work})
    if busy:
        raise OrchestratorError(
            f"still running: {', '.join(busy)}",
            "stop them first: orchestrator stop --all; then repeat this command",
            code="running",
        )


def carry_out(layout: Layout) -> Change:
    """Remove the files that `init` and the ticks created; return the changes and the warnings.

    Raises OrchestratorError, LockHeld and OSError; another call then removes the rest.
    """
    change = Change()
    if os.path.isdir(layout.home):
        files.make_folder(layout.cache)
        look = locks.Lock(layout.look_lock, _TICK_WAIT)
        with lock.exclusive(layout, _TICK_WAIT), look:
            require_rest(layout)
            # First, because git must still ignore the product's files in worktrees; otherwise they
            # would be rescued.
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


def left_in_git(layout: Layout) -> tuple[int, int, dict[str, int]]:
    """Return the number of agents' branches, and of rescue refs here and in each submodule."""
    inside = {path: len(refs) for path, refs in rescued.in_submodules(layout.root).items()}
    states = len(repository.refs(layout.root, repository.RESCUE))
    return len(branches.of_agents(layout)), states, inside


def _take_agents(layout: Layout, change: Change) -> None:
    """Remove run records, and worktrees after their unmerged work is saved."""
    config = load.settings(layout, write_cache=False).config
    today = words.day(time.time())
    for name in agent_memory.names(layout):
        path = layout.worktree(name)
        if worktree_commands.is_worktree(path):
            try:
                clean.drop_worktree(layout, name, config)
            except OrchestratorError as error:
                change.warnings.append(f"{path} remains: {error.message}")
                continue
            change.written.append(f"the worktree of {name}")
        kept = set()
        if memory := agent_memory.read(layout, name, surely=True).of_day(today):
            agent_memory.write(layout, name, memory)
            kept = {os.path.basename(layout.agent_state(name))}
        for each in sorted(set(os.listdir(layout.agent(name))) - kept):
            there = os.path.join(layout.agent(name), each)
            if each.startswith("worktree"):
                # A folder that git could not save, or that is not a worktree any more.
                change.warnings.append(f"{there} remains: git does not track its contents")
            else:
                if there == layout.runs(name) and (runs := len(files.folders(there))):
                    records = f"the transcripts and records of {count(runs, 'run')} of {name}"
                    change.written.append(records)
                files.remove_tree(there)


def _take_outside(layout: Layout, change: Change) -> None:
    """Remove the files outside `.orchestrator/`, and last the mark of this clone."""
    change.written += init_project.take_left(layout)
    change.written += user_files.take(layout)
    change.written += skills.take(layout.root)
    change.warnings += [
        f"{os.path.relpath(path, layout.root)} remains: you edited it"
        for path in skills.copies(layout.root)
        if os.path.lexists(path)
    ]
    # The history of each task names what it delivered.
    work_branch.forget(layout.root)
    files.remove(layout.idle_stamp)
    if mark.is_initialised(layout):
        files.remove(mark.mark_path(layout))
        change.written.append(f".git/{mark.MARK}")


def _take_scraps(layout: Layout) -> None:
    """Remove the files that only ticks need."""
    temporary = [os.path.join(layout.cache, name) for name in files.folders(layout.cache)]
    for folder in (layout.cache, layout.ticks):
        files.remove_tree(folder)
    for path in temporary:  # the landing worktree was there
        worktree_commands.forget(layout.root, path)
    stores.of_project(layout).take_away()
    for path in (
        layout.hold,
        layout.host,
        layout.costs_lost,
        layout.schedule_log,
        f"{layout.schedule_log}.1",
        os.path.join(layout.prs, ".lock"),
        layout.scheduler_lock,
    ):
        files.remove(path)


def _take_config(layout: Layout, change: Change) -> None:
    """Remove a configuration that was not edited or committed: `init` would write it again."""
    first = [init_project.first_config(layout.root, start=start) for start in (True, False)]
    is_unedited = any(files.holds(layout.config, text) for text in first)
    if is_unedited and not call.ask(layout.root, "ls-files", "--", layout.config):
        files.remove(layout.config)
        change.written.append(".orchestrator/agents.yaml (unedited)")
