"""Work on top of delivered work that is not merged yet (`dependencies: delivered`, reference 7).

The branch of such a task is cut from what its dependencies delivered. It lands after them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PullRequest, Task
from orchestrator.plan import dependencies
from orchestrator.pulls import states
from orchestrator.system.later import Later
from orchestrator.tasks import history
from orchestrator.tasks.store import Store

if TYPE_CHECKING:
    from orchestrator.git import base_branch, contents, repository
    from orchestrator.git.contents import Contents
else:
    base_branch = Later("git.base_branch")
    contents = Later("git.contents")
    repository = Later("git.repository")


class Cut(NamedTuple):
    """Where a task's branch is cut from, or why it cannot be cut."""

    commit: str | None = None
    conflict: str | None = None


def find(
    layout: Layout,
    config: Config,
    waiting: Iterable[Task],
    found: Mapping[str, Task | None],
    prs: Iterable[PullRequest] | None,
    *,
    ask: bool,
) -> dict[str, Cut]:
    """Return the cuts of the waiting tasks that are ready and depend on open pull requests.

    A task whose branch exists has no cut. `found` is the `dependencies.closure` of the tasks. With
    `ask=False` nothing is written, and a merge that no tick has tried counts as possible.
    """
    if config.dependencies != "delivered":
        return {}
    ready = [each for task in waiting if (each := _ready(task, found, prs or ()))]
    if not ready:
        return {}
    remote = base_branch.remote_of(layout, config)
    exist = _existing(layout, config, remote, [each.task for each in ready])
    answers = states.contents(layout, ask=ask)
    cuts = {}
    for task, heads, landed in ready:
        if task.id in exist:
            continue
        commits, tip = list(heads), None
        if landed:
            base = base_branch.base_branch(config, task)
            tip = base_branch.branch_commit(layout.root, remote, base)
            commits += [tip] if tip else []
        commits = list(dict.fromkeys(commits))
        gone = contents.missing(layout.root, commits) if ask else ()
        cuts[task.id] = _absent(gone) if gone else _cut(answers, commits, tip, landed)
    return cuts


class _Ready(NamedTuple):
    """A waiting task whose dependencies are done, at least one in an open pull request."""

    task: Task
    #: The heads of the open pull requests.
    heads: tuple[str, ...]
    #: The last heads of those that were merged: the work also needs the base branch.
    landed: tuple[str, ...]


def _ready(
    task: Task, found: Mapping[str, Task | None], prs: Iterable[PullRequest]
) -> _Ready | None:
    by_id = {pr.id: pr for pr in prs} if task.depends_on else {}
    below = [found.get(each) for each in task.depends_on]
    if not all(each is not None and each.state == "done" for each in below):
        return None
    parts = [pr for each in below if each and (pr := dependencies.pull_request(each, by_id))]
    heads = tuple(pr.head for pr in parts if pr.state == "open")
    landed = tuple(pr.head for pr in parts if pr.state == "merged")
    return _Ready(task, heads, landed) if heads else None


def _existing(layout: Layout, config: Config, remote: str | None, tasks: list[Task]) -> set[str]:
    """Return the ids of the tasks whose branches exist, here or at the remote."""
    refs = {f"refs/heads/{task.work_branch}": task.id for task in tasks if task.work_branch}
    if remote:
        refs |= {
            f"refs/remotes/{config.push_remote or remote}/{t.work_branch}": t.id
            for t in tasks
            if t.work_branch
        }
    known = repository.refs(layout.root, *refs) if refs else {}
    return {task_id for ref, task_id in refs.items() if ref in known}


def _absent(commits: Iterable[str]) -> Cut:
    return Cut(None, f"delivered commits are not in this repository: {', '.join(commits)}")


def _cut(
    answers: Contents, commits: Sequence[str], base: str | None, landed: tuple[str, ...]
) -> Cut:
    if len(commits) == 1:
        return Cut(commits[0])
    found = answers.stacked(commits, base, landed)
    if isinstance(found, list):
        named = ", ".join(map(str, found[:20])) or "files that git does not name"
        return Cut(None, f"what its dependencies delivered conflicts in: {named}")
    return Cut(found)


def below(
    store: Store, task: Task, prs: Collection[PullRequest]
) -> tuple[Task, PullRequest] | None:
    """Return a dependency whose pull request has to land before the task's own, if any.

    It is open; or it was closed, and the task's branch contains its commits. Tasks that depend on
    each other in a circle do not wait for each other.
    """
    if not task.depends_on:
        return None
    by_id = {pr.id: pr for pr in prs}
    found = dependencies.closure([task], store.get, prs)
    circle = dependencies.circular(found, by_id)
    for other in (found[each] for each in task.depends_on if each not in circle):
        pr = dependencies.pull_request(other, by_id) if other else None
        if other is None or pr is None or pr.state == "merged":
            continue
        if pr.state == "open" or history.cut(store.read(task).history):
            return other, pr
    return None
