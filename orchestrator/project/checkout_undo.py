"""A recorded change of the person's checkout: its message, and the command that undoes it."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import os
import shlex
from collections.abc import Iterator, Mapping

from orchestrator.git import checkout, repository, shared_files, stashes
from orchestrator.git.worktree_commands import git_folder
from orchestrator.layout import Layout
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Problem
from orchestrator.text.quoting import cleaned, one_line

CODE = "checkout_changed"
#: What the names of settings of the checkout's own configuration file begin with.
OWN = f"{checkout.OWN_CONFIG} "


class Seen(NamedTuple):
    """A checkout's HEAD, its index's tree if that matters, and what else is watched."""

    branch: str | None = None
    commit: str | None = None
    #: The tree of the index.
    tree: str | None = None
    #: Before the run: a ref that keeps the index. After it: the commit with the tree at which
    #: undoing starts, if it must write files; a parent of that ref keeps it.
    kept: str | None = None
    #: Settings of git with their values, and the shared files with their states (`shared_files`).
    settings: Mapping[str, tuple[str, ...]] = {}


class Change(NamedTuple):
    """What the checkout was like before a run and after it."""

    run: str
    agent: str
    before: Seen
    after: Seen
    #: Whether HEAD or the index changed.
    is_moved: bool = False
    #: The entries that the person's list of stashes lost: commit and message.
    lost: Mapping[str, str] = {}
    #: The entries in which the run put the person's own changes away.
    stashed: Mapping[str, str] = {}
    #: The paths that differ in the index, and whose files the run wrote or removed.
    written: tuple[str, ...] = ()


def problem(layout: Layout, change: Change) -> Problem | None:
    """Return the problem that a run changed the checkout, while the change is still there."""
    root = layout.root
    keep = f"rm {shlex.quote(layout.checkout_changed)}"
    found = (_settings, _shared_files, _head, _stashed)
    parts = [part for each in found for part in each(root, change)]
    if not parts:
        return None
    message = f"during run {change.run} of {change.agent}, your checkout changed: "
    said = "; ".join(text for text, _ in parts)
    undo = [command for _, commands in parts for command in commands]
    if change.is_moved and checkout.head(root) != change.after[:2]:
        undo.append(keep)  # the commits of the run stay in the history
    return Problem(
        CODE, message + said, f"{' && '.join(undo)}  # to keep the change instead: {keep}"
    )


#: A sentence about a part of the change, and the commands that undo that part.
_Part = tuple[str, list[str]]


def _settings(root: str, change: Change) -> Iterator[_Part]:
    for prefix, file in (("", "config"), (OWN, checkout.OWN_CONFIG)):
        watched = [n for n in change.after.settings if not shared_files.is_shared_file(n)]
        names = [n for n in watched if n.startswith(OWN) == bool(prefix)]
        path = os.path.join(git_folder(root), file)
        now = checkout.settings(path) if names else {}
        for name in names:
            plain, wrong = name.removeprefix(prefix), change.after.settings[name]
            if now.get(plain, ()) == wrong:
                old = change.before.settings.get(name, ())
                shown = (", ".join(each) or "not set" for each in (old, wrong))
                said = " and is ".join(shown)
                yield f"{name} was {said}", [*_undo_setting(path, plain, old, wrong)]


def _shared_files(root: str, change: Change) -> Iterator[_Part]:
    folder = git_folder(root)
    for name, wrong in change.after.settings.items():
        if shared_files.is_shared_file(name) and shared_files.state(folder, name) == wrong:
            before = change.before.settings.get(name, ())
            how = "is new" if not before else "was changed" if wrong else "is gone"
            yield f"{name} in {folder} {how}", [shared_files.undo(folder, name, before)]


def _undo_setting(
    path: str, name: str, old: tuple[str, ...], wrong: tuple[str, ...]
) -> Iterator[str]:
    git = f"git config --file {shlex.quote(path)}"
    if wrong and len(old) != 1:
        yield f"{git} --unset-all {shlex.quote(name)}"
    for value in old:
        how = "--replace-all" if len(old) == 1 else "--add"
        yield f"{git} {how} {shlex.quote(name)} {shlex.quote(value)}"


def _stashed(root: str, change: Change) -> Iterator[_Part]:
    """Yield the person's changes that are in a stash, then the stashes that are gone."""
    if not (change.stashed or change.lost):
        return
    git, here = f"git -C {shlex.quote(root)} stash", stashes.current(root)
    newest_first = [*reversed(here)]
    away = [commit for commit in newest_first if commit in change.stashed]
    # A pop moves the entries below it up.
    for popped, commit in enumerate(away):
        entry = f"stash@{{{newest_first.index(commit) - popped}}}"
        said = one_line(cleaned(change.stashed[commit]))
        yield f"your changes are in the stash {said!r}", [f"{git} pop --index {entry}"]
    # Without its log, the ref still names the newest entry: git would not list that entry again.
    first = [] if here else [f"git -C {shlex.quote(root)} update-ref -d refs/stash"]
    for commit, text in change.lost.items():
        if commit not in here:
            store = f"{git} store -m {shlex.quote(cleaned(text))} {commit}"
            yield f"the stash {one_line(cleaned(text))!r} is gone", [*first, store]
            first = []


def _head(root: str, change: Change) -> Iterator[_Part]:
    """Yield the change of HEAD or of the index, also if a person went on from there."""
    before, after = change.before, change.after
    now = checkout.head(root)
    if not change.is_moved:
        return
    if now == after[:2]:
        index = os.path.join(git_folder(root), "index")
        if before[:2] != after[:2] or checkout.tree(root, index) == after.tree:
            yield _moved(change), _undo_move(root, change)
        return
    if before[:2] == after[:2] or now.branch != after.branch:
        return
    if now.commit and after.commit and repository.is_ancestor(root, after.commit, now.commit):
        yield from _went_on(root, change, now.commit)


def _went_on(root: str, change: Change, now: str) -> Iterator[_Part]:
    """Yield what is still wrong after a person's own commits on top of what a run left.

    Undoing keeps the person's commits.
    """
    git, before, after = f"git -C {shlex.quote(root)}", change.before, change.after
    if before.branch != after.branch:
        where = shlex.quote(before.branch) if before.branch else f"--detach {before.commit}"
        yield _moved(change), [f"{git} checkout {where}"]
        return
    if before.commit is None or after.commit is None:
        return
    if not repository.is_ancestor(root, before.commit, now):
        yield f"{_moved(change)}, before your own commits", [f"{git} merge {before.commit}"]
    elif not repository.is_ancestor(root, after.commit, before.commit):
        revert = f"{git} revert --no-edit {before.commit}..{after.commit}"
        yield f"{_moved(change)}, before your own commits", [revert]


def _moved(change: Change) -> str:
    before, after = change.before, change.after
    if before.branch != after.branch:
        return f"HEAD was {_named(before)} and is {_named(after)}"
    if before.commit != after.commit:
        return f"{before.branch or 'HEAD'} was at {_short(before)} and is at {_short(after)}"
    return "other files are staged"


def _named(seen: Seen) -> str:
    return f"the branch {seen.branch}" if seen.branch else f"the commit {_short(seen)}"


def _short(seen: Seen) -> str:
    return (seen.commit or "no commit")[:12]


def _undo_move(root: str, change: Change) -> list[str]:
    git, before, after = f"git -C {shlex.quote(root)}", change.before, change.after
    if before.commit is None:
        return [f"{git} update-ref -d HEAD"]
    commit = shlex.quote(before.commit)
    if before.kept is None:
        where = f"-B {shlex.quote(before.branch)}" if before.branch else "--detach"
        return [f"{git} checkout {where} {commit}"]
    # The person's staged files must come back, and files that the run did not write must stay. The
    # index is first: git refuses, before HEAD moves, to overwrite a file that changed since.
    kept = shlex.quote(before.kept)
    steps = [f"{git} read-tree {after.kept or kept}"]
    if after.kept:
        refresh = f"{git} update-index -q --refresh"
        steps += [refresh, f"{git} read-tree -m -u {after.kept} {kept}"]
    if before[:2] == after[:2]:
        return steps
    ref = shlex.quote(f"refs/heads/{before.branch}")
    if before.branch is None:
        return [*steps, f"{git} update-ref --no-deref HEAD {commit}"]
    return [*steps, f"{git} symbolic-ref HEAD {ref}", f"{git} update-ref {ref} {commit}"]
