"""Pull requests in their current states: the forge's records, git's word and the reviews together.

A tick asks the forge and the remotes before it takes its lock (`pulls.look`). Under the lock it
records what followed (`record`). Read commands use what is on this disk and change nothing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import Entry, Given, PullRequest
from orchestrator.project import faults
from orchestrator.pulls import forges, look, verdicts
from orchestrator.pulls.look import Look
from orchestrator.system import files
from orchestrator.system.later import Later
from orchestrator.tasks import stores
from orchestrator.tasks.store import Store

if TYPE_CHECKING:
    from orchestrator.git import base_branch, damage, place, remote_pair, repository
    from orchestrator.git.contents import Contents
    from orchestrator.git.remote_pair import Pair
else:
    base_branch = Later("git.base_branch")
    damage = Later("git.damage")
    place = Later("git.place")
    remote_pair = Later("git.remote_pair")
    repository = Later("git.repository")

#: What holds for the draft of a pull request.
WAITS_AS_DRAFT = "it is a draft: it is reviewed and landed when a person marks it as ready"


def record(layout: Layout, config: Config, found: Look | None) -> list[PullRequest] | None:
    """Return the pull requests as the last look found them; record which were merged or closed.

    Asks only git, and only of this repository. None if the forge did not answer; the reason is kept
    until it answers (`faults.forge_fault`).
    """
    if found is None and faults.forge_fault(layout):
        return None
    try:
        if found is not None and found.fault is not None:
            raise found.fault
        prs = _recorded(layout, config, found or Look())
    except OrchestratorError as error:
        faults.keep(layout.forge_fault, error)
        return None
    files.remove(layout.forge_fault)
    return prs


def _recorded(layout: Layout, config: Config, found: Look) -> list[PullRequest]:
    """Return the records, brought up to date with what git knows since the look."""
    where = forges.of_project(layout, config)
    # Not those that the look listed: a run may have opened one since.
    prs = where.book.list()
    open_ones = [pr for pr in prs if pr.state == "open"]
    doubtful = "closed" if where.is_elsewhere else "open"
    unsure = [pr for pr in prs if (pr.id, pr.head) in found.unsure and pr.state == doubtful]
    if not (open_ones or unsure):
        return prs
    if not found.is_fetched:
        unsure = _fetched(layout, unsure)
    answers = contents(layout, ask=True)
    now = prs
    remote: str | None = config.remote
    if unsure or found.is_fetched:
        pair = remote_pair.find(layout.root, config)
        seen = _seen(layout.root, answers, pair, unsure, may_close=found.gone)
        if where.is_elsewhere and found.is_fetched:
            seen |= _pushed_by_hand(layout, answers, pair.base, open_ones)
        now, remote = [seen.get(pr.id, pr) for pr in prs], pair.base
    now = _judged(layout, lambda: answers, lambda: remote, now)
    for old, new in zip(prs, now, strict=True):
        if old != new:
            with where.book.locked():
                where.book.write(new)
    return now


def counted(layout: Layout, config: Config) -> list[PullRequest] | None:
    """Return the pull requests that a tick would plan with, from what is on this disk.

    None if the forge did not answer the last tick: that tick started nothing that opens one.
    """
    return None if faults.forge_fault(layout) else known(layout, config)


def known(layout: Layout, config: Config, *, every: bool = False) -> list[PullRequest] | None:
    """Return the pull requests from what is on this disk: those of GitHub as of the last tick.

    `every`: also those that were merged long since.
    """
    try:
        return _known(layout, config, every=every)
    except OrchestratorError:
        return None


def unknown(layout: Layout, config: Config) -> OrchestratorError | None:
    """Return why `known` does not know the pull requests, as a missing git; None if it does."""
    try:
        _known(layout, config, every=False)
    except OrchestratorError as error:
        return error
    return None


def _known(layout: Layout, config: Config, *, every: bool) -> list[PullRequest]:
    where = forges.of_project(layout, config)
    prs = list(where.book.every() if every else where.book.list())
    open_ones = [pr for pr in prs if pr.state == "open"]
    if not open_ones:
        return prs
    answers = functools.cache(lambda: contents(layout, ask=False))
    find = functools.cache(lambda: remote_pair.find(layout.root, config))
    if look.is_doubtful(layout, config):
        find()
    # The stamp names the files of their refs (`watched`): the records say what git would say.
    if not (where.is_elsewhere or idle.is_unchanged(layout.idle_stamp)):
        # Only a fetch shows that the remote's branch is gone.
        sure = [pr.id for pr in open_ones] if find().base is None else []
        here = _fetched(layout, open_ones)
        seen = _seen(layout.root, answers(), find(), here, may_close=sure)
        prs = [seen.get(pr.id, pr) for pr in prs]
    return _judged(layout, answers, lambda: find().base, prs)


def _fetched(layout: Layout, prs: list[PullRequest]) -> list[PullRequest]:
    """Return those whose heads are here: another host may have delivered one since a fetch."""
    if not prs or stores.of_project(layout).host is None:
        return prs
    from orchestrator.git.contents import missing

    gone = missing(layout.root, [pr.head for pr in prs])
    return [pr for pr in prs if pr.head not in gone]


def fresh(layout: Layout, config: Config, pr: PullRequest) -> PullRequest:
    """Return an open pull request as the forge, or git with the remotes, has it now.

    Nothing is recorded: the next tick does that. Raises NotFound if the forge has no such pull
    request, SystemFault if the forge or a remote does not answer.
    """
    where = forges.of_project(layout, config)
    if where.is_elsewhere:
        return where.show(pr.id)
    pair = remote_pair.find(layout.root, config)
    there = remote_pair.fetch(layout, pair, [pr.base], [pr.branch])
    answers, gone = contents(layout, ask=True), [] if pr.branch in there else [pr.id]
    return _seen(layout.root, answers, pair, [pr], may_close=gone)[pr.id]


# --- reviews -----------------------------------------------------------------------------------


def not_open(pr: PullRequest) -> OrchestratorError | None:
    """Return the refusal of a command that needs an open pull request; its hint goes on from there.

    A task returns from `done` by a move, and from `failed`, where `pr close` put it, by a retry.
    """
    if pr.state == "open":
        return None
    hint = f"see: orchestrator pr show {pr.id}"
    if pr.task and pr.state == "merged":
        hint = f"to have more work done: orchestrator task move {pr.task} incoming"
    elif pr.task:
        hint = f"to have it worked on again: orchestrator task retry {pr.task}"
    return OrchestratorError(f"pull request {pr.id} is {pr.state}", hint, code="not_open")


def reviews(layout: Layout, pr: PullRequest) -> list[Given]:
    """Return every review of a pull request: the task's history, and people's on the forge."""
    return [*verdicts.given(_history(stores.of_project(layout), pr)), *pr.reviews]


def _history(store: Store, pr: PullRequest) -> tuple[Entry, ...]:
    """Return the history of a pull request's task; () if the task is gone or cannot be read."""
    found = stores.with_history(store, pr.task)
    return found[1] if found else ()


def notes(layout: Layout, config: Config, prs: Iterable[PullRequest] | None) -> list[str]:
    """Return what a person should know of pull requests: notes that are not problems."""
    drafts = ", ".join(pr.id for pr in prs or () if pr.state == "open" and pr.draft)
    found = [f"drafts, which are neither reviewed nor landed: {drafts}"] if drafts else []
    try:
        may_lack = place.may_lack(layout.root, config.remote)
        others = remote_pair.other_remotes(layout.root, config.remote) if may_lack else None
        kept = forges.kept(layout, config)
    except OrchestratorError:  # git cannot be asked: that is reported elsewhere
        return found
    found += ["; ".join(others)] if others else []
    return [*found, kept] if kept else found


def _judged(
    layout: Layout,
    answers: Callable[[], Contents],
    remote: Callable[[], str | None],
    prs: list[PullRequest],
) -> list[PullRequest]:
    """Return the pull requests, each open one with the verdict that its reviews come to.

    `remote` returns the name of the remote with the base; only reviews of other commits need it,
    and the `answers` about them.
    """

    store = stores.of_project(layout)

    def judged(pr: PullRequest) -> PullRequest:
        history = _history(store, pr)
        heads = verdicts.same_work(history, pr.head)

        def counts(commit: str) -> bool:
            if commit in heads:
                return True
            base = base_branch.branch_commit(layout.root, remote(), pr.base)
            return base is not None and any(answers().is_update(commit, h, base) for h in heads)

        found = verdicts.standing([*verdicts.given(history), *pr.reviews], counts)
        return pr._replace(verdict=found.verdict, reviewed=found.commit)

    return [judged(pr) if pr.state == "open" else pr for pr in prs]


def contents(layout: Layout, *, ask: bool) -> Contents:
    """Return the answers about pairs of commits; `ask=False` for commands that only read."""
    from orchestrator.git.contents import Contents

    return Contents(layout.root, os.path.join(layout.cache, "contents.json"), ask=ask)


# --- git's word --------------------------------------------------------------------------------


def _seen(
    root: str, answers: Contents, pair: Pair, prs: list[PullRequest], *, may_close: Collection[str]
) -> dict[str, PullRequest]:
    """Return pull requests by id with their state and head according to git (reference 9.3).

    A pull request is merged if its head is reachable from the base, or if merging it into the base
    changes nothing. It is closed if its branch is gone and `may_close` has its id: git knows that.
    Git is asked twice per base, however many pull requests there are, and once per pair of commits
    whether a merge changes anything.
    """
    prefixes = ["refs/heads/", *([f"refs/remotes/{pair.base}/"] if pair.base else [])]
    tips = {pr.id: pair.work_ref(pr.branch) or f"refs/heads/{pr.branch}" for pr in prs}
    bases_of = [prefix + pr.base for prefix in prefixes for pr in prs]
    commits = repository.refs(root, *sorted({*bases_of, *tips.values()})) if prs else {}
    merged: dict[str, set[str]] = {}
    seen = {}
    for pr in prs:
        # The remote's base, if there is a remote: the local base may be behind.
        bases = [commits[p + pr.base] for p in prefixes if p + pr.base in commits]
        tip = commits.get(tips[pr.id])
        if bases and pr.base not in merged:
            merged[pr.base] = repository.merged_refs(root, bases[-1], *commits)
            mine = [tips[other.id] for other in prs if other.base == pr.base]
            new = {x: commits[x] for x in mine if x in commits and x not in merged[pr.base]}
            answers.look_ahead(bases[-1], new)
        if tip is not None and tips[pr.id] in merged.get(pr.base, ()):
            seen[pr.id] = pr._replace(state="merged")
            continue
        head = tip or pr.head
        # A tip that the base reaches was recognised above.
        landed = bool(bases) and (
            (tip is None and repository.is_ancestor(root, head, bases[-1]))
            or answers.has_landed(head, bases[-1])
        )
        # A damaged ref is not a deleted branch.
        gone = pr.id in may_close and tip is None and not damage.is_there(root, tips[pr.id])
        state = "merged" if landed else "closed" if gone else pr.state
        seen[pr.id] = pr._replace(state=state, head=head)
    return seen


def _pushed_by_hand(
    layout: Layout, answers: Contents, remote: str | None, prs: list[PullRequest]
) -> dict[str, PullRequest]:
    """Return the open pull requests of a forge elsewhere whose changes their base has already.

    The forge sees a merge only by its commits, not a squash that a person pushed (reference 9.3).
    """
    names = {pr.base for pr in prs}
    bases = {name: base_branch.branch_commit(layout.root, remote, name) for name in names}
    return {
        pr.id: pr._replace(state="merged")
        for pr in prs
        if (base := bases[pr.base]) is not None and answers.has_landed(pr.head, base)
    }
