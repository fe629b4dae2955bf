"""Whether what a rescue ref keeps is also in a commit of a branch or of the remote."""

import os
import re

from orchestrator.git import repository, submodule_changes, submodule_rescue, submodules
from orchestrator.git.call import ask, lines, run

#: Contents that are looked for in the history; a ref with more of them stays.
MOST = 200

_ROW = r":\d+ (\d+) \w+ (\w+) \w\0([^\0]+)"


def is_elsewhere(root: str, commit: str) -> bool:
    """Return whether the contents of each file that a rescue changed are in another commit.

    That commit must be reachable from a branch here or a branch of the remote, as last fetched
    (reference 8.4). Contents that were replaced there before the rescue's parent do not count: to
    look for them takes a walk through the whole history.
    """
    said = ask(root, "log", *submodule_changes.LOG, commit, "--not", "--branches", "--remotes")
    rows = re.findall(_ROW, said)
    if not rows:
        return not said  # a commit without a change has nothing that could be elsewhere
    if not all(_is_linked(root, path, new) for mode, new, path in rows if mode == "160000"):
        return False
    wanted = {new for mode, new, _ in rows if mode not in ("160000", "000000")}
    if not wanted:
        return True
    listing = ("--objects-edge-aggressive", commit, "--not", "--branches", "--remotes")
    there = {line.partition(" ")[0] for line in lines(ask(root, "rev-list", *listing))}
    missing = wanted & there
    return not missing or (len(missing) <= MOST and missing <= _in_history(root, commit, missing))


def _in_history(root: str, commit: str, contents: set[str]) -> set[str]:
    """Return the contents that a commit of a branch had, since the rescue was cut from it."""
    finds = [f"--find-object={each}" for each in contents]
    since = ("--branches", "--remotes", "--not", f"{commit}^")
    said = run(root, "log", *submodule_changes.LOG, *finds, *since)
    return {new for _, new, _ in re.findall(_ROW, said.out)} if said.code == 0 else set()


def _is_linked(root: str, path: str, commit: str) -> bool:
    """Return whether a submodule's commit is on a branch of the submodule, here or there."""
    store = submodule_rescue.store_of(root, path)
    if store == root or not submodules.has(store, commit):
        return False
    branches = repository.refs(store, "refs/heads/", "refs/remotes/").values()
    return not repository.outside(store, [commit], set(branches))


def in_submodules(root: str) -> dict[str, dict[str, str]]:
    """Return the rescue refs in the submodules of a checkout, by the submodule's path."""
    found = {
        os.path.relpath(store, root): repository.refs(store, repository.RESCUE)
        for store in submodule_rescue.stores(root)
    }
    return {path: refs for path, refs in found.items() if refs}
