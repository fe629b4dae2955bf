"""The product's own update of work whose dependencies landed as other commits (reference 7).

With `dependencies: delivered`, work is cut from commits that a squash or a rebase leaves out of the
base. The update is a merge on top of the author's commits; nothing is rewritten.
"""

from collections.abc import Iterable

from orchestrator.git import (
    base_branch,
    contents,
    remote_pair,
    remotes,
    repository,
    work_branch,
    worktree_list,
)
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import Entry, PullRequest, Task
from orchestrator.pulls import forges, merging, states
from orchestrator.tasks import history, stores
from orchestrator.tasks.store import Store
from orchestrator.tasks.task_file import entry


def updated(
    root: str,
    store: Store,
    task: Task,
    events: Iterable[Entry],
    prs: Iterable[PullRequest],
    branch: tuple[str, str],
    base: tuple[str, str],
) -> str | None:
    """Return the product's own update of work whose dependencies landed as other commits.

    `events` is the task's history. `branch` and `base` are the names of the two branches, each with
    its commit. None if the work needs no such update, or if it conflicts with the base even so
    (`contents.restacked`).
    """
    if not task.depends_on or (cut := history.cut(events)) is None:
        return None
    by_id = {each.id: each for each in prs}
    below = (store.get(each) for each in task.depends_on)
    done = [by_id.get(each.pr or "") for each in below if each]
    landed = [each.head for each in done if each and each.state == "merged"]
    said = f"Merge {base[0]} into {branch[0]}\n\nWhat this work depends on landed as other commits."
    return contents.restacked(root, branch[1], base[1], cut, landed, said)


def update(
    layout: Layout, config: Config, pr: PullRequest, base: str, head: str, now: float
) -> str | None:
    """Update a pull request before it lands, here and at the remote; return its new head.

    None if there is nothing to do. The task's history first says whose update it is: the verdict of
    the old head counts for the new one (reference 9.1). Raises OrchestratorError if the branch
    cannot be moved.
    """
    store = stores.of_project(layout)
    if (seen := stores.with_history(store, pr.task)) is None:
        return None
    task, events = seen
    prs = states.known(layout, config) if task.depends_on else None
    prs = forges.with_merged(layout, config, prs, map(store.get, task.depends_on))
    mine, its = (pr.branch, head), (pr.base, base)
    commit = updated(layout.root, store, task, events, prs, mine, its) if prs else None
    if commit is None:
        return None
    run = f"update-{commit[:12]}"
    store.note(task, entry(now, "updated", run=run, pr=pr.id, head=commit, of=head))
    _move(layout.root, remote_pair.find(layout.root, config).push, pr.branch, head, commit)
    return commit


def _move(root: str, remote: str | None, branch: str, head: str, commit: str) -> None:
    """Move a branch forward; one that a person has checked out stays behind its remote."""
    if remote is not None:
        refused = remotes.push(root, remote, commit, branch, head)
        if refused is not None:
            said = f"the remote refused the update of {branch}: {refused}"
            raise OrchestratorError(said, "see what its rules allow", code="merge_refused")
        repository.update_ref(root, f"refs/remotes/{remote}/{branch}", commit)
        work_branch.remember(root, branch, commit)
    is_free = worktree_list.holder_of(root, branch) is None
    if base_branch.tip(root, branch) == head and (remote is None or is_free):
        merging.fast_forward(root, branch, head, commit)
