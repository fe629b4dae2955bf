"""The checks of `doctor` in the repository: what agents changed in it, and what they cannot get."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from orchestrator.git import (
    abandoned_locks,
    damage,
    lfs,
    repository,
    settings,
    submodules,
    worktree_commands,
)
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.project import agent_memory, checkout_changed
from orchestrator.setup.probes import Subject
from orchestrator.upkeep import clean, leftovers


def look(subject: Subject) -> Iterator[Finding]:
    """Yield findings only about features of git that the repository uses."""
    root = subject.layout.root
    changed = checkout_changed.problem(subject.layout)
    if changed is not None:
        yield fail(changed.code, changed.message, changed.hint or "see: git status")
    fault = lfs.fault(root)
    if fault is not None:
        yield fail(fault.code, fault.message, fault.hint or "install git-lfs")
    elif lfs.is_used(root) and lfs.skips(root, subject.variables):
        yield warn(
            "git_lfs_skipped",
            "git-lfs leaves pointers in place of files, so agents and checks see small text files",
            "if they need the files: git lfs install --local --force; or in agents.yaml, "
            "setup: {command: git lfs pull}",
        )
    elif lfs.is_used(root):
        yield ok("git_lfs_missing", "git-lfs is set up")
    yield from _locks(root)
    for item in clean.damaged(subject.layout, subject.loaded.config):
        why, _, step = item.why.partition("; to remove it: ")
        said = f"{item.name} is damaged: {why}. Only work that needs it waits"
        yield fail(damage.CODE, said, f"bring it back from another clone, or remove it: {step}")
    yield from _hooks(subject)
    yield from _submodules(subject)


#: What fails while a lock is there that git never removes, by the lock's name.
_FAILS = {
    "maintenance.lock": "`git maintenance` does nothing, and does not say so",
    "packed-refs.lock": "git cannot delete a branch",
    "config.lock": "git cannot change its settings",
    "shallow.lock": "git cannot fetch",
}


def _locks(root: str) -> Iterator[Finding]:
    """Find lock files that no living git can hold."""
    common = repository.git_folder(root)
    for item in leftovers.git_locks(common):
        if item.drop:
            fails = _FAILS.get(os.path.basename(item.name), "git cannot change the locked file")
            message = f"{item.name}: {item.why}; while it is there, {fails}"
            yield warn("git_locks", message, "orchestrator clean")
    mine = abandoned_locks.of_checkout(common)
    if mine and not abandoned_locks.users(common, mine):
        message = f"a git that was killed left locks in your checkout: {', '.join(mine)}"
        yield warn("git_locks", message, f"rm {shlex.join(mine)}")


def _hooks(subject: Subject) -> Iterator[Finding]:
    """Find a folder of git hooks that agents' worktrees do not have.

    A relative `core.hooksPath` begins at the top of each worktree (git-config(1)); tools such as
    husky make that folder when they install their packages, and git ignores it.
    """
    layout, root = subject.layout, subject.layout.root
    # The product's own git calls turn hooks off.
    known = settings.find(root, "core.hooksPath").get("core.hooksPath", ())
    where = next((path for path in reversed(known) if path != os.devnull), None)
    if not where or os.path.isabs(os.path.expanduser(where)):
        return
    trees = [layout.worktree(name) for name in agent_memory.names(layout)]
    trees = [path for path in trees if worktree_commands.is_worktree(path)]
    lacking = [path for path in trees if not os.path.isdir(os.path.join(path, where))]
    if not lacking and (trees or repository.tracked(root, where)):
        yield ok("hooks_path", f"agents' worktrees have the git hooks in {where}")
        return
    config = subject.loaded.config
    if not trees and (config.setup.command or config.hooks.after_create):
        message = f"core.hooksPath is {where!r}: after the first run, doctor says whether the"
        yield ok("hooks_path", f"{message} set-up of worktrees creates that folder")
        return
    place = lacking[0] if lacking else "a new worktree"
    yield warn(
        "hooks_path",
        f"core.hooksPath is {where!r}, and {place} has no such folder: git runs none of your hooks "
        "for agents' commits",
        "let agents.yaml make the folder in each worktree, for example: setup: {command: npm ci}",
    )


def _submodules(subject: Subject) -> Iterator[Finding]:
    root, which = subject.layout.root, subject.loaded.config.submodules.checkout
    found = submodules.listed(root) if submodules.are_used(root) else []
    if not found:
        return
    here = {
        each.path
        for each in found
        if submodules.is_filled(os.path.join(root, each.path))
        or submodules.is_initialised(root, each.name)
    }
    wanted = {"same": here, "all": {each.path for each in found}}.get(which, set())
    given = [each.path for each in found if each.path in wanted]
    lacking = [each.path for each in found if each.path not in wanted]
    if not lacking:
        yield ok("submodules", f"agents get the submodules: {', '.join(given)}")
    elif which == "none":
        yield ok("submodules", "agents get no submodules (submodules.checkout: none)")
    else:
        message = f"agents do not get these submodules, as in your checkout: {', '.join(lacking)}"
        hint = f"if agents need them: git submodule update --init {' '.join(lacking[:5])}"
        yield ok("submodules", f"{message} ({hint})")
