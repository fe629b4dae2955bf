"""Submodules in the product's worktrees: checked out like those of the person's checkout.

Git leaves the submodules of a new worktree empty. The product fills them from the person's
checkout, which needs no network, and asks the submodule's remote only for what is missing there.
The person's `.git/config` is not changed. A submodule's own git folder is below the worktree's git
folder (gitrepository-layout(5), `modules`), so it disappears with the worktree: see
`submodule_rescue`.
"""

import contextlib
import os
import re
from collections.abc import Container, Sequence

from orchestrator import layout
from orchestrator.git import call, submodule_config, worktree_commands
from orchestrator.git.worktree_commands import git_folder
from orchestrator.model.errors import GitError, SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files

#: The file that names a repository's submodules (gitmodules(5)).
LIST = ".gitmodules"
#: Seconds for a clone of a submodule from its remote.
TIMEOUT = 900.0
#: The end of the name of a git folder that a clone is still making.
_UNFINISHED = ".unfinished"
#: The second version of git's protocol also hands out commits that no ref names.
MODERN = ("-c", "protocol.version=2")
QUIET = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")


class Submodule(NamedTuple):
    """A submodule that a worktree's index has."""

    name: str
    #: Below the worktree's top.
    path: str
    #: The commit that the index names.
    commit: str


def are_used(tree: str) -> bool:
    """Return whether a worktree has submodules. Reads no more than the names of two files."""
    folder = git_folder(tree)
    return os.path.lexists(os.path.join(tree, LIST)) or os.path.isdir(
        os.path.join(folder, "modules")
    )


def git_folders(tree: str) -> list[str]:
    """Return the git folders of a worktree's submodules, and of the submodules in them."""
    if not are_used(tree):
        return []
    inside = os.walk(os.path.join(git_folder(tree), "modules"))
    return [where for where, _, names in inside if "HEAD" in names and "config" in names]


def reduce_configs(tree: str) -> None:
    """Remove from the configurations of a worktree's submodules what git could run."""
    for folder in git_folders(tree):
        submodule_config.reduce(folder, tree)


def is_filled(path: str) -> bool:
    """Return whether a submodule's folder is a checkout."""
    return os.path.lexists(os.path.join(path, ".git"))


def is_own(path: str) -> bool:
    """Return whether a checkout has the git folder of a submodule.

    False for a repository that an agent made in the place of the submodule: git must not start
    there, because it would believe that repository's configuration.
    """
    return layout.worktree_around(path) is None or worktree_commands.own_folder(path) is not None


def is_checkout_of(tree: str, path: str, folder: str) -> bool:
    """Return whether the folder `path` of a worktree is the checkout of the git folder `folder`."""
    own = _is_in(tree, path) and worktree_commands.own_folder(os.path.join(tree, path))
    return bool(own) and os.path.realpath(own or "") == os.path.realpath(folder)


def is_whole(path: str) -> bool:
    """Return whether a submodule's folder is a checkout that was not left half made."""
    folder = git_folder(path)
    return os.path.isfile(os.path.join(folder, "HEAD")) and not folder.endswith(_UNFINISHED)


def unlock(path: str) -> None:
    """Remove the locks of a git that was killed in a submodule: nobody else works there."""
    for name in ("index.lock", "HEAD.lock"):
        files.remove(os.path.join(git_folder(path), name))


def listed(tree: str) -> list[Submodule]:
    """Return the submodules of a worktree: those in its index that `.gitmodules` names."""
    if not os.path.isfile(os.path.join(tree, LIST)):
        return []
    words = ("--null", "--file", LIST, "--get-regexp", r"^submodule\..*\.path$")
    entries = call.run(tree, "config", *words).out.split("\0")
    pairs = (entry.split("\n", 1) for entry in entries if entry)
    names = {key.removeprefix("submodule.").removesuffix(".path"): path for key, path in pairs}
    if not names:
        return []
    said = call.ask(tree, "ls-files", "--stage", "-z", "--", *names.values())
    rows = re.findall(r"160000 (\w+) 0\t([^\0]+)", said)
    commits = {path: commit for commit, path in rows}
    # A name is the path of a folder below `modules`; git itself refuses these names.
    safe = {name: p for name, p in names.items() if ".." not in name.split("/") and _is_in(tree, p)}
    return [Submodule(name, p, commits[p]) for name, p in safe.items() if p in commits]


def _is_in(tree: str, path: str) -> bool:
    """Return whether a submodule's folder is in its worktree: a link can lead out of it."""
    if ".orchestrator" in path.split("/"):
        return False  # it would pass for a worktree of another project's
    return os.path.realpath(os.path.join(tree, path)) == os.path.join(os.path.realpath(tree), path)


def check_out(main: str, tree: str, which: str = "none", store: str | None = None) -> list[str]:
    """Bring the submodules of a worktree to the commits in its index, without leftovers.

    `main` is the person's checkout. `which` says what is filled: `same` the submodules that `main`
    has, was told to have, or does not know; `all` every submodule; `none` no further submodule.
    `store` is the repository that keeps commits of submodules that `main` does not have (default:
    `main`). The content was preserved before. Returns the paths of submodules whose commits can be
    found nowhere. Raises SystemFault when a submodule cannot be cloned, GitError when another
    repository is in its place.
    """
    if not are_used(tree):
        return []
    reduce_configs(tree)
    found, missing, store = listed(tree), [], store or main
    _drop_others(tree, found)
    known = {} if which == "none" else {each.name: each.path for each in listed(main)}
    for each in found:
        source = os.path.join(main, known.get(each.name, each.path))
        path = os.path.join(tree, each.path)
        if is_filled(path) and not is_own(path):
            raise GitError(f"{path} is a git repository that the product did not create")
        wanted = which == "all" or (which == "same" and _is_chosen(main, source, each, known))
        if wanted and not is_whole(path):
            # The URL of a new submodule can be an agent's: without it, the checks decide.
            is_new = which == "same" and not is_filled(source)
            with contextlib.suppress(*([SystemFault] if is_new else [])):
                _fill(source, tree, each)
        if not is_whole(path):
            continue
        if not _bring(source, path, each.commit, store):
            missing.append(each.path)
        own = source if is_filled(source) else store
        missing += (os.path.join(each.path, p) for p in check_out(source, path, which, own))
    return missing


def _is_chosen(main: str, source: str, each: Submodule, known: Container[str]) -> bool:
    """Return whether agents get a submodule "as in the person's checkout".

    A person could not choose whether to have a submodule that the work, or a newer base, adds.
    """
    return is_filled(source) or each.name not in known or is_initialised(main, each.name)


def is_initialised(main: str, name: str) -> bool:
    """Return whether the configuration of a repository has a submodule (git-submodule(1), init)."""
    return call.run(main, "config", "--get", f"submodule.{name}.url").code == 0


def _drop_others(tree: str, found: Sequence[Submodule]) -> None:
    """Remove the submodules of other commits: git keeps their folders when it leaves a commit."""
    top = os.path.join(git_folder(tree), "modules")
    kept = tuple(os.path.join(top, each.name) + os.sep for each in found)
    others = [where for where in git_folders(tree) if not (where + os.sep).startswith(kept)]
    for folder in others:
        path = os.path.relpath(folder, top)
        # Also where the new commit ignores the folder, and `git clean` would not see it.
        if is_checkout_of(tree, path, folder):
            files.remove_tree(os.path.join(tree, path))
        files.remove_tree(folder)
    worktree_commands.clean(tree)
    if others:
        # The commit may have files, or an entry without a URL, in the place of the submodule.
        call.ask(tree, "checkout", "--quiet", "--force", timeout=call.CHECKOUT_TIMEOUT)
    if others and not git_folders(tree):
        files.remove_tree(top)


def _fill(source: str, tree: str, each: Submodule) -> None:
    """Make a checkout of a submodule, with its git folder where git expects it."""
    path = os.path.join(tree, each.path)
    folder = os.path.join(git_folder(tree), "modules", each.name)
    files.remove(os.path.join(path, ".git"))  # of a clone that was killed
    if os.path.isdir(folder):  # an earlier task had it, at this path or at another
        _point(path, folder)
        # Git enters the place of the checkout, which may have been another.
        words = ("core.worktree", os.path.relpath(path, folder))
        call.run(tree, "config", "--file", f"{folder}/config", *words)
        return
    if not is_filled(source):
        _ask_git(tree, "submodule", "--quiet", "update", "--init", "--", each.path)
        return
    files.make_folder(os.path.dirname(folder))
    unfinished = folder + _UNFINISHED
    files.remove_tree(unfinished)
    options = ("--quiet", "--no-checkout", "--local", f"--separate-git-dir={unfinished}")
    # Not in the worktree: a git that is told its git folder would clone there.
    call.ask(source, *MODERN, "clone", *options, source, path, timeout=TIMEOUT)
    # The clone takes the branches of the person's checkout for the remote's.
    refs = "+refs/remotes/origin/*:refs/remotes/origin/*"
    call.ask(path, *MODERN, "fetch", *QUIET, "--prune", source, refs)
    url = call.run(source, "config", "--get", "remote.origin.url").out.strip()
    call.ask(path, "remote", "set-url", "origin", url or source)
    os.rename(unfinished, folder)
    _point(path, folder)
    # A linked worktree shares its configuration with the person's checkout, which has the entry.
    if not os.path.isfile(os.path.join(git_folder(tree), "commondir")):
        call.ask(tree, "submodule", "--quiet", "init", "--", each.path)


def _point(path: str, folder: str) -> None:
    """Make a folder the checkout of a git folder (gitrepository-layout(5), gitfile)."""
    files.make_folder(path)
    files.write_atomic(os.path.join(path, ".git"), f"gitdir: {folder}\n".encode(), 0o644)


def _bring(source: str, path: str, commit: str, store: str) -> bool:
    """Check the commit out in the submodule, and remove everything else; False without it."""
    places = (source, "origin") if is_filled(source) else ("origin",)
    found = has(path, commit) or _is_stored(path, commit, store)
    found = found or any(_fetched(path, place, commit) for place in places)
    unlock(path)
    worktree_commands.quit_operations(path)
    worktree_commands.detach(path, commit if found else "HEAD")
    worktree_commands.clean(path)
    return found


def _is_stored(path: str, commit: str, store: str) -> bool:
    """Fetch a commit that was rescued to `store`; return whether it was there."""
    if not has(store, commit):
        return False
    return call.run(path, *MODERN, "fetch", *QUIET, store, commit, timeout=TIMEOUT).code == 0


def missing_fault(paths: Sequence[str]) -> SystemFault:
    """Return the fault that commits of submodules are nowhere."""
    named = ", ".join(paths)
    return SystemFault(
        f"the commit of the submodule {named} is neither in your checkout nor at its remote",
        f"push it from the checkout in which it was made; or: git submodule update --init {named}",
        code="submodule_missing",
    )


def has(path: str, commit: str) -> bool:
    """Return whether a repository has a commit."""
    return call.run(path, "cat-file", "-e", f"{commit}^{{commit}}").code == 0


def has_list(path: str, commit: str) -> bool:
    """Return whether a commit names submodules."""
    return call.run(path, "cat-file", "-e", f"{commit}:{LIST}").code == 0


def _fetched(path: str, place: str, commit: str) -> bool:
    """Fetch one commit; return whether it is there now."""
    words = (*MODERN, "fetch", *QUIET, place)
    if call.run(path, *words, timeout=TIMEOUT).code == 0 and has(path, commit):
        return True
    return call.run(path, *words, commit, timeout=TIMEOUT).code == 0 and has(path, commit)


def _ask_git(tree: str, *words: str) -> None:
    done = call.run(tree, *words, timeout=TIMEOUT)
    if done.code != 0:
        raise SystemFault(
            f"git {' '.join(words[:1])} failed: {call.reason(done.err)}",
            "try it in your checkout; or set submodules: {checkout: same} in agents.yaml",
            code="submodule_missing",
        )
