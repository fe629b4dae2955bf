"""Other repositories that the commits of some work name: whoever fetches the work must find them.

A commit names another repository's commit by its id only. Without `.gitmodules` nobody knows where
that repository is; with it, the submodule's remote must have the commit.
"""

import os
from collections.abc import Sequence

from orchestrator.git import (
    remotes,
    repository,
    submodule_changes,
    submodule_remotes,
    submodule_rescue,
    submodules,
)
from orchestrator.git.submodule_changes import Change
from orchestrator.model.errors import SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.run.job import Job


class _Place(NamedTuple):
    """A repository whose commits are judged: the project, or a submodule."""

    #: A folder in which git finds the commits, and the repository's own URL.
    repository: str
    url: str | None
    #: The person's checkout and the agent's checkout of it.
    main: str
    tree: str
    #: The repository that keeps rescued commits.
    store: str


def refusal(job: Job, branch: str, head: str) -> str | None:
    """Return why the work is not whole, or None.

    With `submodules.unpushed: push`, commits that a submodule's remote lacks are pushed to the
    branch of the same name there. Raises SystemFault when that remote cannot be reached.
    """
    record, root = job.record, job.layout.root
    if not record.links:
        return None
    url = record.push_address or (remotes.url(root, record.push_remote or "") or None)
    at, base = _Place(root, url, root, job.path, root), record.base_commit or head
    return _first(job, branch, at, (base, head), record.links)


def _first(
    job: Job, branch: str, at: _Place, commits: tuple[str, str], paths: Sequence[str] = ()
) -> str | None:
    """Return the first refusal among the entries of one repository that changed in `commits`.

    `paths` limits the entries whose commit changed; () for all.
    """
    renamed = {each.path: each for each in submodule_changes.renamed(at.repository, *commits)}
    changed = {
        each.path: each for each in submodule_changes.changed(at.repository, *commits, paths)
    }
    urls = submodule_changes.urls(at.repository, commits[1])
    for path, change in {**renamed, **changed}.items():
        if path not in urls:
            return (
                f"{path} is a git repository of its own, and a commit keeps only its name: if it "
                f"is a submodule, restore its path and URL in {submodules.LIST} (git submodule "
                f"add); else remove {path}/.git, then: git rm -q --cached {path}; git add {path}"
            )
        url = None if path in renamed else submodule_remotes.persons_url(at.main, path)
        url = url or submodule_remotes.absolute(urls[path], at.url or at.repository)
        if submodule_remotes.is_strange(url):
            return f"the URL of the submodule {path} is not an address of a repository: {url!r}"
        try:
            reason = _one(job, branch, at, url, change)
        except SystemFault as fault:
            # The work's fault only if the work gave the URL, and the network is there.
            if path not in renamed or not _is_connected(at):
                raise
            reason = f"the URL of the submodule {path} in {submodules.LIST}: {fault.message}"
        if reason is not None:
            return reason
    return None


def _is_connected(at: _Place) -> bool:
    return at.url is None or submodule_remotes.answers(at.repository, at.url)


def _one(job: Job, branch: str, at: _Place, url: str, change: Change) -> str | None:
    """Judge one submodule, and the submodules in it."""
    main, tree = os.path.join(at.main, change.path), os.path.join(at.tree, change.path)
    store = submodule_rescue.store_of(at.main, change.path, at.store)
    is_own = submodules.is_filled(tree) and submodules.is_own(tree)
    place = tree if is_own else store
    scratch = os.path.join(job.layout.cache, f"asked-{job.record.id}")
    if not submodule_remotes.has(place, url, change.new, scratch):
        if job.config.submodules.unpushed != "push":
            return (
                f"the commit {change.new[:12]} of the submodule {change.path} is not at its remote "
                "(use a commit that is there; only a person can allow to push it, with submodules: "
                "{unpushed: push} in agents.yaml)"
            )
        if not submodule_remotes.is_a_persons(at.main, change.path, url):
            return (
                f"the commit {change.new[:12]} of the submodule {change.path} is not at {url!r}, "
                "and the product pushes to a repository on this disk only if your checkout has it "
                "as the submodule's remote"
            )
        refused = submodule_remotes.push(place, url, change.new, branch)
        if refused is not None:
            return f"the remote of the submodule {change.path} refuses it: {refused}"
    submodule_rescue.forget(store, change.new)
    if not submodules.has_list(place, change.new):
        return None
    old = change.old if change.old and submodules.has(place, change.old) else None
    commits = (old or repository.empty_tree(place), change.new)
    return _first(job, branch, _Place(place, url, main, tree, store), commits)
