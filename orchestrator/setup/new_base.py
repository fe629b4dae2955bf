"""`init --base`: work starts from another base branch, because the earlier one was renamed.

Tasks and open pull requests that name the earlier branch follow. A branch that was cut from it
continues: only where it is merged changes. The configuration is written last, so that another call
completes a change that was interrupted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from orchestrator.config import change, edit, load
from orchestrator.git import base_branch, call, remotes, repository
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError, did_you_mean
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PullRequest, Task
from orchestrator.project import events
from orchestrator.pulls import forges
from orchestrator.tasks import rewrite, stores

#: The states whose tasks may still start a run. A finished task follows with its pull request.
_STATES = ("incoming", "claimed", "blocked", "failed")


class Adoption(NamedTuple):
    """What `init --base` changes."""

    old: str | None
    new: str
    tasks: tuple[Task, ...]
    prs: tuple[PullRequest, ...]
    #: Branches that were cut from the old base, and have no pull request yet.
    branches: tuple[str, ...]
    #: Whether the old branch still exists at the remote, or here if there is no remote.
    old_exists: bool


def find(layout: Layout, config: Config, new: str) -> Adoption:
    """Return what would change; changes nothing. Asks the remote.

    Raises OrchestratorError if the branch `new` does not exist, and SystemFault if the remote
    cannot be reached.
    """
    old, remote = config.base_branch, base_branch.remote_of(layout, config)
    if call.run(layout.root, "check-ref-format", f"refs/heads/{new}").code != 0:
        hint = "see: git help check-ref-format"
        raise OrchestratorError(f"{new!r} cannot be the name of a branch", hint, code="no_branch")
    if remote is not None:
        there = set(remotes.tips(layout.root, remote, [new, *filter(None, [old])]))
    else:
        there = {name for name in filter(None, (new, old)) if base_branch.tip(layout.root, name)}
    if new not in there:
        raise _no_branch(layout, remote, new)
    if old == new:
        return Adoption(old, new, (), (), (), old_exists=True)
    change.refuse_link(layout)
    known = forges.of_project(layout, config).book.list()
    prs = tuple(pr for pr in known if (pr.state, pr.base) == ("open", old))
    based = [task for task in _tasks(layout, prs) if task.branch in (old, None)]
    delivered = {pr.branch for pr in prs}
    cut = {task.work_branch or "" for task in based} - delivered
    here = sorted(name for name in cut if base_branch.tip(layout.root, name))
    # A task without the field follows the configuration.
    named = tuple(task for task in based if task.branch)
    return Adoption(old, new, named, prs, tuple(here), old in there)


def _no_branch(layout: Layout, remote: str | None, new: str) -> OrchestratorError:
    if remote is None:
        known = [
            ref.removeprefix("refs/heads/") for ref in repository.refs(layout.root, "refs/heads/")
        ]
        message = f"this repository has no branch {new!r}"
        return OrchestratorError(
            message, did_you_mean(new, known, "see: git branch"), code="no_branch"
        )
    default, _ = remotes.default_branch(layout.root, remote)
    hint = f"see: git ls-remote --heads {shlex.quote(remote)}"
    if default is not None and default != new:
        hint = f"its default branch is {default!r}: orchestrator init --base {shlex.quote(default)}"
    message = f"the remote {remote!r} has no branch {new!r}"
    return OrchestratorError(message, f"{hint}; or push the branch first", code="no_branch")


def _tasks(layout: Layout, prs: tuple[PullRequest, ...]) -> Iterator[Task]:
    store = stores.of_project(layout)
    for state in _STATES:
        yield from store.list(state).tasks
    for name in dict.fromkeys(pr.task for pr in prs if pr.task):
        task = store.get(name)
        if task is not None and task.state not in _STATES:
            yield task


def carry_out(layout: Layout, config: Config, found: Adoption, now: float) -> list[str]:
    """Make the change; return a warning for each task and pull request that did not follow.

    `now` is epoch seconds. Raises OrchestratorError and OSError; another call then completes it.
    """
    store, forge, warnings = stores.of_project(layout), forges.of_project(layout, config), []
    for pr in found.prs:
        try:
            forge.retarget(pr, found.new)
        except OrchestratorError as error:
            warnings.append(f"pull request {pr.id} still merges into {found.old}: {error.message}")
    for task in found.tasks:
        try:
            with store.change():
                text = rewrite.with_fields(store.read(task), {"BRANCH": found.new})
                store.rewrite(task, text)
        except OrchestratorError as error:
            again = f"orchestrator task set {task.id} branch={shlex.quote(found.new)}"
            warnings.append(f"{task.id} still names {found.old}: {error.message}; then: {again}")
    if remote := base_branch.remote_of(layout, config):
        base_branch.fetch(layout, remote, [found.new])
    change.apply(layout, lambda text: edit.set_values(text, (), {"base_branch": found.new}))
    load.settings(layout, write_cache=True)  # runs that end now deliver to the new branch
    events.append(layout, now, "base_changed", reason=f"{found.old} to {found.new}", by="human")
    return warnings
