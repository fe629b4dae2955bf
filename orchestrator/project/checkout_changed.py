"""Whether a run changed the person's checkout: HEAD, index, stashes, configuration, hooks.

Agents work in worktrees of their own, but share the repository with the person, and nothing stops a
command from going there. The person works in that checkout at the same time. What tells the two
apart is git's own trace of the commands that the agent ran (`GIT_TRACE2_EVENT` in its environment).
A setting that stops git or names a program, and a hook, are told in any case: git believes them,
and they rarely are a person's.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import json
import os
import re

from orchestrator.git import (
    call,
    checkout,
    repository,
    rewritten,
    shared_files,
    stashes,
    worktree_commands,
)
from orchestrator.git.worktree_commands import git_folder
from orchestrator.layout import Layout
from orchestrator.model.errors import SystemFault
from orchestrator.model.snapshot import Problem
from orchestrator.project import checkout_undo
from orchestrator.project.checkout_undo import Change, Seen
from orchestrator.system import files, records

#: The checkout's files that hold settings, and what the names of their settings begin with.
_CONFIGS = (("config", ""), (checkout.OWN_CONFIG, checkout_undo.OWN))
#: In a run's folder: what the checkout was like before the run, and git's trace.
BEFORE = "checkout"
TRACE = "git-trace.jsonl"


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
    shared_files.keep(git_folder(layout.root), where)
    listed = stashes.listed(os.path.join(where, "stash"))
    stashes.hold(layout.root, os.path.basename(folder), listed)
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
        empty = _stashes(layout.root, where, trace, Change(run, agent, Seen(), Seen()), branch)
        found = _change(layout.root, where, trace, empty, before)
        if found != Change(run, agent, Seen(), Seen()):
            _record(layout, where, found)
    # Also without a comparison: a run that failed before its client has changed nothing.
    listed = stashes.listed(os.path.join(where, "stash"))
    stashes.release(layout.root, os.path.basename(folder), listed)
    # This file first: without it, a comparison that was killed is not done again with half of them.
    files.remove(os.path.join(where, "head.json"))
    files.remove_tree(where)
    files.remove(trace)


def _stashes(root: str, where: str, trace: str, empty: Change, branch: str | None) -> Change:
    """Undo what a run added to the person's stashes; keep and record what it took from them.

    An entry of the person's branch holds the person's own changes: it stays, and is recorded.
    """
    before, now = stashes.listed(os.path.join(where, "stash")), stashes.current(root)
    commands = checkout.traced(trace) if before != now else []
    if not stashes.worked_on(commands):
        return empty
    ref = f"{repository.RESCUE}{empty.run}-stash"
    added = {commit: message for commit, message in now.items() if commit not in before}
    taken = stashes.made_on(added, branch)
    stashes.take_away(root, taken, ref)
    lost = {commit: message for commit, message in before.items() if commit not in now}
    for commit in lost:
        if repository.resolve(root, commit):  # else git deleted it, with the ref that held it
            repository.keep(root, ref, commit)
    stashed = {commit: message for commit, message in added.items() if commit not in taken}
    if not stashes.worked_on(checkout.in_checkout(commands, root)):
        stashed = {}
    return empty._replace(lost=lost, stashed=stashed)


def _change(root: str, where: str, trace: str, empty: Change, head: checkout.Head) -> Change:
    of_git = git_folder(root)
    now = checkout.head(root)
    same_index = checkout.is_same_file(os.path.join(where, "index"), os.path.join(of_git, "index"))
    old, new = _settings(where, of_git)
    if head == now and same_index and old == new:
        return empty
    commands = checkout.traced(trace)
    was, after, is_moved = Seen(*head), Seen(*now), False
    written: tuple[str, ...] = ()
    elsewhere = checkout.moved_from_elsewhere(root, head, now)
    if elsewhere or checkout.worked_in(commands, root, head.branch):
        trees = [checkout.tree(root, os.path.join(each, "index")) for each in (where, of_git)]
        # The person's changes, in a stash, are not staged any more: `git stash pop` brings them.
        is_moved = head != now or (trees[0] != trees[1] and not empty.stashed)
        if is_moved:
            was, after = was._replace(tree=trees[0]), after._replace(tree=trees[1])
            written = _written(root, where, *trees)
            for name, kept in ("checkout", now.commit), ("checkout-before", head.commit):
                # Without a ref, a log of HEAD keeps them at most, which an agent can empty.
                if kept and now.commit != head.commit:
                    repository.keep(root, f"{repository.RESCUE}{empty.run}-{name}", kept)
    may = checkout.configured(commands)
    differ = {name for name in (*old, *new) if old.get(name) != new.get(name)}
    names = sorted(name for name in differ if may or _is_told(name))
    if not is_moved and not names:
        return empty
    was = was._replace(settings={name: old.get(name, ()) for name in names})
    after = after._replace(settings={name: new.get(name, ()) for name in names})
    return empty._replace(before=was, after=after, is_moved=is_moved, written=written)


def _written(root: str, where: str, before: str | None, after: str | None) -> tuple[str, ...]:
    """Return the paths of the index that the run changed and whose files it wrote."""
    if before is None or after is None:
        return ()
    since = os.stat(os.path.join(where, "head.json")).st_ctime_ns
    return rewritten.paths(root, before, after, since)


def _settings(where: str, of_git: str) -> tuple[dict[str, tuple[str, ...]], ...]:
    """Return what is watched before and now: settings and shared files of files that differ."""
    found: tuple[dict[str, tuple[str, ...]], ...] = ({}, {})
    for file, prefix in _CONFIGS:
        paths = [os.path.join(folder, file) for folder in (where, of_git)]
        if checkout.is_same_file(*paths) or not any(map(os.path.exists, paths)):
            continue
        for known, path in zip(found, paths, strict=True):
            known.update({prefix + n: values for n, values in checkout.settings(path).items()})
    for name, before, now in shared_files.changed(of_git, where):
        found[0][name], found[1][name] = before, now
    return found


def _is_told(name: str) -> bool:
    """Return whether a change is told even if no git of the agent's was seen to make it."""
    plain = name.removeprefix(checkout_undo.OWN)
    return shared_files.is_shared_file(plain) or checkout.is_running(plain)


def _kept(root: str, where: str, change: Change) -> Change:
    """Keep the index before, if it is needed to undo a change; return the change with its ref.

    It is not needed if that index was as HEAD was, and the run wrote each file that differs: then
    `git checkout` brings back the files too.
    """
    before, after = change.before, change.after
    if before.tree is None or before.commit is None or change.stashed:
        return change
    start = before.tree
    if after.tree is not None:
        index = os.path.join(where, "undo-index")
        start = rewritten.start_of_undo(root, before.tree, after.tree, change.written, index)
    here = checkout.position(root)
    head_tree = call.ask(root, "rev-parse", f"{before.commit}^{{tree}}", extra=here)
    if before.tree == head_tree and before[:2] != after[:2] and start == after.tree:
        return change
    text = f"The index before run {change.run}"
    first = worktree_commands.commit_tree(root, start, (before.commit,), text, **here)
    parents = (before.commit, first)
    commit = worktree_commands.commit_tree(root, before.tree, parents, text, **here)
    ref = repository.keep(root, f"{repository.RESCUE}{change.run}-index", commit)
    return change._replace(
        before=before._replace(kept=ref),
        after=after._replace(kept=None if start == before.tree else first),
    )


def _record(layout: Layout, where: str, change: Change) -> None:
    former, found = _read(layout), change
    if former is not None:
        here = stashes.current(layout.root)
        left = {commit: text for commit, text in former.stashed.items() if commit in here}
        found = _joined(former._replace(stashed=left), change)
    if change.is_moved:
        found = _kept(layout.root, where, found)
    index, text = os.path.join(where, "undo-index"), f"The shared files before run {change.run}"
    shared = shared_files.as_commit(layout.root, change.before.settings, text, index)
    if shared is not None:
        repository.keep(layout.root, f"{repository.RESCUE}{change.run}-shared", shared)
    files.write_json(layout.checkout_changed, records.plain(found))


def _joined(former: Change, change: Change) -> Change:
    """Return two changes as one: what a run changed again goes back to what it was at first."""
    old, new = (dict(seen.settings) for seen in (former.before, change.before))
    left, right = former.after.settings, change.after.settings
    # A person changed it in between: then it goes back to the person's value.
    again = {n: old[n] for n in old if n not in right or left.get(n) == new.get(n)}
    was, after, written = change.before, change.after, change.written
    if former.is_moved and not change.is_moved:
        was, after, written = former.before, former.after, former.written
    elif former.is_moved and former.after[:2] == was[:2]:
        was, written = former.before._replace(kept=None), (*former.written, *written)
    return change._replace(
        before=was._replace(settings={**new, **again}),
        after=after._replace(settings={**left, **right}),
        is_moved=former.is_moved or change.is_moved,
        lost={**former.lost, **change.lost},
        stashed={**former.stashed, **change.stashed},
        written=written,
    )


def _read(layout: Layout) -> Change | None:
    return records.build(Change, files.read_json(layout.checkout_changed))


def problem(layout: Layout) -> Problem | None:
    """Return the problem that a run changed the checkout, while the change is still there."""
    change = _read(layout)
    return None if change is None else checkout_undo.problem(layout, change)


def require_remotes(layout: Layout, *remotes: str | None) -> None:
    """Raise SystemFault while a run's change of the address of one of these remotes stands.

    An agent does not decide where work is sent, nor that it stays here for want of a remote.
    """
    change = _read(layout)
    if change is None:
        return
    named = re.compile(
        rf"remote\.({'|'.join(re.escape(x) for x in remotes if x)})\.(url|pushurl)"
        r"|url\..*\.(insteadof|pushinsteadof)"
    )
    was, after = (
        Seen(settings={name: v for name, v in seen.settings.items() if named.fullmatch(name)})
        for seen in (change.before, change.after)
    )
    if found := checkout_undo.problem(layout, Change(change.run, change.agent, was, after)):
        raise SystemFault(found.message, found.hint, code="remote_changed")
