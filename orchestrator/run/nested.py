"""Other repositories that a work's commits name: whoever fetches the work must find them.

A commit names another repository's commit by its id only. Without `.gitmodules` nobody knows where
that repository is; with it, the submodule's remote must have the commit.
"""

import os
from typing import NamedTuple

from orchestrator.git import (
    remotes,
    repository,
    submodule_remotes,
    submodule_rescue,
    submodules,
)
from orchestrator.git.submodules import Change
from orchestrator.run.job import Job


class _Place(NamedTuple):
    """A repository whose commits are judged: the project, or a submodule."""

    #: A folder in which git finds the commits, and the repository's own URL.
    repository: str
    url: str | None
    #: The person's checkout and the agent's checkout of it.
    main: str
    tree: str


def refusal(job: Job, branch: str, head: str) -> str | None:
    """Return why the work is not whole, or None.

    With `submodules.unpushed: push`, commits that a submodule's remote lacks are pushed to the
    branch of the same name there. Raises SystemFault when that remote cannot be reached.
    """
    record, root = job.record, job.layout.root
    if not record.links:
        return None
    url = record.push_address or (remotes.url(root, record.push_remote or "") or None)
    found = submodules.changed(root, record.base_commit or head, head, record.links)
    return _first(job, branch, _Place(root, url, root, job.path), head, found)


def _first(job: Job, branch: str, at: _Place, head: str, found: list[Change]) -> str | None:
    """Return the first refusal among the changed entries of one repository at `head`."""
    for change in found:
        path = change.path
        url = submodule_remotes.url_of(at.repository, at.main, head, path, at.url)
        if url is None:
            return (
                f"{path} is a git repository of its own, and a commit keeps only its name: remove "
                f"{path}/.git, then: git rm -q --cached {path}; git add {path}; or add it as a "
                "submodule with a URL: git submodule add"
            )
        if submodule_remotes.is_strange(url):
            return f"the URL of the submodule {path} is not an address of a repository: {url!r}"
        reason = _one(job, branch, at, url, change)
        if reason is not None:
            return reason
    return None


def _one(job: Job, branch: str, at: _Place, url: str, change: Change) -> str | None:
    """Judge one submodule, and the submodules in it."""
    main, tree = os.path.join(at.main, change.path), os.path.join(at.tree, change.path)
    store = submodule_rescue.store_of(at.main, change.path)
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
    inner = submodules.changed(place, old or repository.empty_tree(place), change.new)
    return _first(job, branch, _Place(place, url, main, tree), change.new, inner)
