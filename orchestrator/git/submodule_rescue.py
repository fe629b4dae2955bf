"""What only a worktree's submodules hold is kept before it is thrown away.

Git's status of a project shows neither the commits of a submodule nor files below a submodule that
is not checked out. Both are kept under rescue refs: in the submodule of the person's checkout if
that is checked out, else in the project's repository.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from functools import partial

from orchestrator.git import call, index, repository, submodules, whole_state, worktree_commands
from orchestrator.git.submodules import Submodule
from orchestrator.git.worktree_commands import git_folder
from orchestrator.model.errors import GitError
from orchestrator.system import disk, files


def preserve(main: str, tree: str, name: str, aside: str, store: str | None = None) -> list[str]:
    """Keep what the submodules of a worktree hold; return the rescue refs in the project itself.

    Afterwards the submodules have no uncommitted changes, so that the project's status shows what
    changed. `name` is the end of the rescue refs' names, `main` is the person's checkout, `aside`
    the beginning of a path for what git cannot keep, `store` as in `submodules.check_out`.
    """
    kept: list[str] = []
    for each in submodules.listed(tree):
        path, own = os.path.join(tree, each.path), f"{name}-{word(each.path)}"
        if submodules.is_filled(path) and not submodules.is_own(path):
            _set_aside(path, f"{aside}-{word(each.path)}")
        elif submodules.is_whole(path):
            within = store_of(main, each.path, store)
            if submodules.are_used(path):  # those in it first
                preserve(os.path.join(main, each.path), path, own, aside, within)
            _one(path, within, own, f"{aside}-{word(each.path)}")
        else:
            if submodules.is_filled(path) and os.path.isfile(os.path.join(path, ".git")):
                files.remove(os.path.join(path, ".git"))
            kept += _files_below(store or main, tree, each, own)
    return kept


def preserve_all(main: str, tree: str, name: str, aside: str) -> list[str]:
    """Do the same also for submodules that the worktree's commit or `.gitmodules` lacks."""
    submodules.reduce_configs(tree)
    kept = preserve(main, tree, name, aside)
    seen = {git_folder(os.path.join(tree, x.path)) for x in submodules.listed(tree)}
    top = os.path.join(git_folder(tree), "modules")
    for folder in submodules.git_folders(tree):
        path = os.path.relpath(folder, top).replace("/modules/", "/")
        if any(os.path.samefile(folder, each) for each in seen if os.path.isdir(each)):
            continue
        own, store, here = f"{name}-{word(path)}", store_of(main, path), os.path.join(tree, path)
        if submodules.is_checkout_of(tree, path, folder) and submodules.is_whole(here):
            _one(here, store, own, f"{aside}-{word(path)}")
        else:
            _keep_commits(folder, store, own)
    return kept


def word(path: str) -> str:
    """Return a submodule's path as a part of a ref's name (git-check-ref-format(1))."""
    return re.sub(r"[^\w]+", "-", path)


def store_of(main: str, path: str, otherwise: str | None = None) -> str:
    """Return the repository that keeps the commits of the submodule at `path`.

    `otherwise` (default: `main`) is that repository if `main` does not have the submodule.
    """
    source = os.path.join(main, path)
    return source if submodules.is_filled(source) else otherwise or main


def _one(path: str, store: str, name: str, aside: str) -> None:
    """Keep the changes and the commits of one submodule. Raises GitError if the disk is full."""
    folder = git_folder(path)
    submodules.unlock(path)
    try:
        call.again(partial(_keep, path, folder, store, name))
    except GitError:
        if disk.shortage(path) is not None:
            raise
        # What git cannot read or commit is kept as it is; the next run gets another checkout.
        with contextlib.suppress(GitError):
            _keep_commits(folder, store, name)
        free = _set_aside(path, aside)
        if os.path.isdir(folder):
            os.rename(folder, os.path.join(free, ".git-modules"))


def _keep(path: str, folder: str, store: str, name: str) -> None:
    worktree_commands.finish_checkout(path)
    index.reveal(path)
    found = worktree_commands.state(path)
    if found.head and found.dirty:
        scratch = os.path.join(folder, "rescue.index")
        message = f"Uncommitted changes in a submodule, {name}"
        commit = whole_state.commit_all(path, message, scratch)
        worktree_commands.detach(path, commit or found.head)
    _keep_commits(folder, store, name)


def _set_aside(path: str, aside: str) -> str:
    """Keep what is in the place of a submodule as it is; return where. An empty folder remains."""
    free = files.free_name(aside)
    os.rename(path, free)
    files.make_folder(path)
    return free


def _keep_commits(folder: str, store: str, name: str) -> None:
    """Keep the commits that only a submodule's git folder has, and drop its own branches."""
    heads = repository.refs(folder, "refs/heads/", "refs/stash")
    current = repository.resolve(folder, "HEAD")
    wanted = {*heads.values(), *([current] if current else [])}
    remote = set(repository.refs(folder, "refs/remotes/", "refs/tags/").values())
    outside = repository.outside(folder, wanted, remote) if wanted else set()
    for commit in repository.tips(folder, outside):
        if repository.resolve(store, commit) is None:
            call.ask(store, *submodules.MODERN, "fetch", *submodules.QUIET, folder, commit)
        elif repository.is_on_a_ref(store, commit) or repository.is_ancestor(store, commit, "HEAD"):
            continue
        repository.keep(store, f"{repository.RESCUE}{name}", commit)
    if current:
        call.run(folder, "update-ref", "--no-deref", "HEAD", current)
    for ref, commit in heads.items():
        repository.delete_ref(folder, ref, commit)


def _files_below(store: str, tree: str, each: Submodule, name: str) -> Iterator[str]:
    """Keep files in the folder of a submodule that is not checked out: git does not see them."""
    path = os.path.join(tree, each.path)
    if not os.path.isdir(path) or not os.listdir(path):
        return
    folder = git_folder(tree)
    with whole_state.throw_away_index(os.path.join(folder, "rescue.index")) as where:
        # The files take the place of the submodule; all else is as in HEAD, for `git show`.
        call.ask(tree, "read-tree", "HEAD", extra=where)
        call.ask(tree, "update-index", "--force-remove", "--", each.path, extra=where)
        call.ask(tree, "add", "--all", "--force", "--", each.path, extra=where)
        made = call.ask(tree, "write-tree", extra=where)
        said = f"Files below the submodule {each.path}, {name}"
        commit = worktree_commands.commit_tree(tree, made, ("HEAD",), said)
        if repository.resolve(store, commit) is None:
            call.ask(store, *submodules.MODERN, "fetch", *submodules.QUIET, folder, commit)
        yield repository.keep(store, f"{repository.RESCUE}{name}", commit)
    files.remove_tree(path)
    files.make_folder(path)


def stores(main: str) -> list[str]:
    """Return the submodules of the person's checkout, which may hold rescue refs."""
    if not submodules.are_used(main):
        return []
    paths = (os.path.join(main, each.path) for each in submodules.listed(main))
    filled = [path for path in paths if submodules.is_filled(path)]
    return [found for path in filled for found in (path, *stores(path))]


def forget(store: str, commit: str) -> None:
    """Drop the rescue refs of a submodule for a commit that its remote has now."""
    for ref, kept in repository.refs(store, repository.RESCUE).items():
        if kept == commit:
            repository.delete_ref(store, ref, kept)
