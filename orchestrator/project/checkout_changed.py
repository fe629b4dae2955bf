"""Whether a run changed the person's checkout: HEAD, index, stashes, configuration of git.

Agents work in worktrees of their own, but share the repository with the person, and nothing stops a
command from going there. The person works in that checkout at the same time. What tells the two
apart is git's own trace of the commands that the agent ran (`GIT_TRACE2_EVENT` in its environment).
A setting that stops git, or that names a program, is told in any case: the product's git believes
it, and it rarely is a person's.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from orchestrator.git import call, checkout, repository, stashes, worktree_commands
from orchestrator.layout import Layout
from orchestrator.model import Problem
from orchestrator.system import files, records
from orchestrator.text.quoting import cleaned, one_line

CODE = "checkout_changed"
#: In a run's folder: what the checkout was like before the run, and git's trace.
BEFORE = "checkout"
TRACE = "git-trace.jsonl"


class Seen(NamedTuple):
    """A checkout's HEAD, its index's tree if that matters, and the watched settings."""

    branch: str | None = None
    commit: str | None = None
    #: The tree of the index, and a ref that keeps it.
    tree: str | None = None
    kept: str | None = None
    settings: Mapping[str, tuple[str, ...]] = {}


class Change(NamedTuple):
    """What the checkout was like before a run and after it."""

    run: str
    agent: str
    before: Seen
    after: Seen
    #: Whether HEAD or the index changed.
    is_moved: bool
    #: The entries that the person's list of stashes lost: commit and message.
    lost: Mapping[str, str] = {}


def variables(folder: str) -> dict[str, str]:
    """Return the variables with which an agent's git writes its trace into the run's folder."""
    return {
        "GIT_TRACE2_EVENT": os.path.join(folder, TRACE),
        "GIT_TRACE2_EVENT_BRIEF": "1",
        "GIT_TRACE2_EVENT_NESTING": "1",
    }


def note(layout: Layout, folder: str) -> None:
    """Keep what the person's checkout is like now, in the run's folder."""
    where = os.path.join(folder, BEFORE)
    checkout.keep_files(layout.root, where)
    found = checkout.head(layout.root)
    text = json.dumps(found._asdict()).encode()
    files.write_atomic(os.path.join(where, "head.json"), text, flush=False)


def compare(layout: Layout, folder: str, run: str, agent: str, branch: str | None = None) -> None:
    """Compare the checkout with what was kept before the run, and record a change.

    Entries that the run added to the person's stashes, on its `branch`, go to rescue refs.
    """
    where, trace = os.path.join(folder, BEFORE), os.path.join(folder, TRACE)
    before = records.build(checkout.Head, files.read_json(os.path.join(where, "head.json")))
    if before is not None:
        lost = _stashes(layout.root, where, trace, run, branch)
        empty = Change(run, agent, Seen(), Seen(), False, lost)
        found = _change(layout.root, where, trace, empty, before) or (empty if lost else None)
        if found is not None:
            _record(layout, found)
    # This file first: without it, a comparison that was killed is not done again with half of them.
    files.remove(os.path.join(where, "head.json"))
    files.remove_tree(where)
    files.remove(trace)


def _stashes(root: str, where: str, trace: str, run: str, branch: str | None) -> Mapping[str, str]:
    """Undo what a run added to the person's stashes; return, and keep, what it took from them."""
    before, now = stashes.listed(os.path.join(where, "stash")), stashes.current(root)
    if before == now or not stashes.worked_on(checkout.traced(trace)):
        return {}
    ref = f"{repository.RESCUE}{run}-stash"
    added = {commit: message for commit, message in now.items() if commit not in before}
    stashes.take_away(root, stashes.made_on(added, branch), ref)
    lost = {commit: message for commit, message in before.items() if commit not in now}
    for commit in lost:
        repository.keep(root, ref, commit)
    return lost


def _change(root: str, where: str, trace: str, empty: Change, head: checkout.Head) -> Change | None:
    of_git = checkout.git_folder(root)
    now, paths = checkout.head(root), [os.path.join(x, "config") for x in (where, of_git)]
    same_config = checkout.is_same_file(*paths)
    same_index = checkout.is_same_file(os.path.join(where, "index"), os.path.join(of_git, "index"))
    if head == now and same_config and same_index:
        return None
    commands = checkout.traced(trace)
    was, after = Seen(*head), Seen(*now)
    is_moved = False
    if checkout.worked_in(commands, root, head.branch):
        trees = [checkout.tree(root, os.path.join(each, "index")) for each in (where, of_git)]
        is_moved = head != now or trees[0] != trees[1]
        if is_moved:
            was = was._replace(tree=trees[0], kept=_keep(root, empty.run, head, now, trees[0]))
            after = after._replace(tree=trees[1])
    if not same_config:
        old, new = map(checkout.settings, paths)
        may = checkout.configured(commands)
        differ = {name for name in (*old, *new) if old.get(name) != new.get(name)}
        names = sorted(name for name in differ if may or checkout.is_running(name))
        was = was._replace(settings={name: old.get(name, ()) for name in names})
        after = after._replace(settings={name: new.get(name, ()) for name in names})
    if not is_moved and not after.settings:
        return None
    return empty._replace(before=was, after=after, is_moved=is_moved)


def _keep(
    root: str, run: str, before: checkout.Head, now: checkout.Head, tree: str | None
) -> str | None:
    """Keep the commit that is undone, and the index before; return the ref of the index.

    None if the index was as HEAD was: then there is nothing to restore but HEAD.
    """
    ref = f"{repository.RESCUE}{run}-checkout"
    if now.commit and now.commit != before.commit:
        repository.keep(root, ref, now.commit)
    if tree is None or before.commit is None:
        return None
    here = checkout.position(root)
    head_tree = call.ask(root, "rev-parse", f"{before.commit}^{{tree}}", extra=here)
    if tree == head_tree and before != now:
        return None
    words = ("commit-tree", tree, "-p", before.commit, "-m", f"The index before run {run}")
    commit = call.ask(root, *words, extra={**here, **worktree_commands.OUR_NAME})
    return repository.keep(root, f"{repository.RESCUE}{run}-index", commit)


def _record(layout: Layout, change: Change) -> None:
    former = _read(layout)
    found = change if former is None else _joined(former, change)
    files.write_json(layout.checkout_changed, records.plain(found))


def _joined(former: Change, change: Change) -> Change:
    """Return two changes as one: what a run changed again goes back to what it was at first."""
    old, new = (dict(seen.settings) for seen in (former.before, change.before))
    left, right = former.after.settings, change.after.settings
    # A person changed it in between: then it goes back to the person's value.
    again = {n: old[n] for n in old if n not in right or left.get(n) == new.get(n)}
    was, after = change.before, change.after
    if former.is_moved and not change.is_moved:
        was, after = former.before, former.after
    elif former.is_moved and former.after[:2] == was[:2]:
        was = former.before
    return change._replace(
        before=was._replace(settings={**new, **again}),
        after=after._replace(settings={**left, **right}),
        is_moved=former.is_moved or change.is_moved,
        lost={**former.lost, **change.lost},
    )


def _read(layout: Layout) -> Change | None:
    return records.build(Change, files.read_json(layout.checkout_changed))


# --- told ----------------------------------------------------------------------------------------


def problem(layout: Layout) -> Problem | None:
    """Return the problem that a run changed the checkout, while the change is still there."""
    change = _read(layout)
    if change is None:
        return None
    root = layout.root
    path = os.path.join(checkout.git_folder(root), "config")
    now = checkout.settings(path) if change.after.settings else {}
    lasting = [n for n, value in change.after.settings.items() if now.get(n, ()) == value]
    is_moved = change.is_moved and _is_still(root, change.after, change.before)
    here = stashes.current(root) if change.lost else {}
    lost = {commit: text for commit, text in change.lost.items() if commit not in here}
    said = [*(_moved(change) if is_moved else ()), *(_setting(n, change) for n in lasting)]
    said += [f"the stash {one_line(cleaned(text))!r} is gone" for text in lost.values()]
    if not said:
        return None
    undo = [word for name in lasting for word in _undo_setting(path, name, change)]
    undo += _undo_move(root, change) if is_moved else []
    git = f"git -C {shlex.quote(root)} stash store -m"
    undo += [f"{git} {shlex.quote(cleaned(text))} {commit}" for commit, text in lost.items()]
    keep = f"to keep the change instead: rm {shlex.quote(layout.checkout_changed)}"
    message = f"during run {change.run} of {change.agent}, your checkout changed: "
    return Problem(CODE, message + "; ".join(said), f"{' && '.join(undo)}  # {keep}")


def _is_still(root: str, after: Seen, before: Seen) -> bool:
    if checkout.head(root) != (after.branch, after.commit):
        return False
    if after[:2] != before[:2]:
        return True
    return checkout.tree(root, os.path.join(checkout.git_folder(root), "index")) == after.tree


def _moved(change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    if before.branch != after.branch:
        yield f"HEAD was {_named(before)} and is {_named(after)}"
    elif before.commit != after.commit:
        yield f"{before.branch or 'HEAD'} was at {_short(before)} and is at {_short(after)}"
    else:
        yield "other files are staged"


def _named(seen: Seen) -> str:
    return f"the branch {seen.branch}" if seen.branch else f"the commit {_short(seen)}"


def _short(seen: Seen) -> str:
    return (seen.commit or "no commit")[:12]


def _setting(name: str, change: Change) -> str:
    old, new = (
        ", ".join(seen.settings.get(name, ())) or "not set"
        for seen in (change.before, change.after)
    )
    return f"{name} was {old} and is {new}"


def _undo_setting(path: str, name: str, change: Change) -> Iterator[str]:
    git = f"git config --file {shlex.quote(path)}"
    old = change.before.settings.get(name, ())
    if change.after.settings[name] and len(old) != 1:
        yield f"{git} --unset-all {shlex.quote(name)}"
    for value in old:
        how = "--replace-all" if len(old) == 1 else "--add"
        yield f"{git} {how} {shlex.quote(name)} {shlex.quote(value)}"


def _undo_move(root: str, change: Change) -> list[str]:
    git, before = f"git -C {shlex.quote(root)}", change.before
    if before.commit is None:
        return [f"{git} update-ref -d HEAD"]
    commit = shlex.quote(before.commit)
    if before.kept is None:
        where = f"-B {shlex.quote(before.branch)}" if before.branch else "--detach"
        return [f"{git} checkout {where} {commit}"]
    # Staged files of the person's must come back, so only HEAD moves, and then the index.
    ref = shlex.quote(f"refs/heads/{before.branch}")
    move = [f"{git} symbolic-ref HEAD {ref}", f"{git} update-ref {ref} {commit}"]
    if before.branch is None:
        move = [f"{git} update-ref --no-deref HEAD {commit}"]
    if before[:2] == change.after[:2]:
        move = []
    return [*move, f"{git} read-tree {shlex.quote(before.kept)}"]
