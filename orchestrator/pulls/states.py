"""Pull requests in their current states: the forge's records, git's word and the reviews together.

A tick asks the forge and the remote at most once (failures 13), before it takes its lock (`look`).
Under the lock it records what followed (`record`). Read commands use what is on this disk and
change nothing.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Collection, Iterable

from orchestrator import idle
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import Entry, Given, PullRequest
from orchestrator.project import faults
from orchestrator.pulls import forges, verdicts
from orchestrator.system import files
from orchestrator.system.later import Later
from orchestrator.tasks import stores
from orchestrator.tasks.store import Store

if TYPE_CHECKING:
    from orchestrator.git import base_branch, damage, remote_pair, remotes, repository
    from orchestrator.git.contents import Contents
    from orchestrator.git.remote_pair import Pair
else:
    base_branch = Later("git.base_branch")
    damage = Later("git.damage")
    remote_pair = Later("git.remote_pair")
    remotes = Later("git.remotes")
    repository = Later("git.repository")

#: What holds for the draft of a pull request.
WAITS_AS_DRAFT = "it is a draft: it is reviewed and landed when a person marks it as ready"
#: Seconds between two looks at the bases of a forge elsewhere, and between the looks of ticks after
#: runs: the ticks of a schedule look, most ticks after runs do not.
LOOK_EVERY = 10.0


class Look(NamedTuple):
    """What a look at the forge and the remotes found, beside what it left on this disk."""

    #: Why the forge did not answer.
    fault: OrchestratorError | None = None
    #: A remote that could not be reached.
    problems: tuple[Problem, ...] = ()
    #: The pull requests of which git is asked what became of them: none if no look was due.
    unsure: frozenset[str] = frozenset()
    #: Whether the branches of all of them, and the bases, are here as the remotes had them.
    is_fetched: bool = False
    #: Those of them whose branches did not exist, at the same instant. A landing elsewhere deletes
    #: a branch and moves the base; what is seen of that later, one after the other, closes nothing.
    gone: frozenset[str] = frozenset()
    #: The pull requests whose branches and bases were asked for.
    looked_at: frozenset[str] = frozenset()

    def has_seen(self, prs: Iterable[PullRequest]) -> bool:
        """Whether each of these that is open was looked at, as the remotes had it."""
        return self.is_fetched and self.looked_at >= {pr.id for pr in prs if pr.state == "open"}

    @property
    def is_calm(self) -> bool:
        """Whether what was found is nothing but what it left on this disk."""
        return self.fault is None and not (self.problems or self.gone)


def look(
    layout: Layout, config: Config, *, after_run: bool = False, at_most_every: float = 0.0
) -> Look | None:
    """Ask the forge and the remotes; leave on this disk what they say.

    A tick calls this before it takes its lock: a slow remote keeps no other process waiting.
    `after_run`: a run's end calls this; if the remote was asked within the last LOOK_EVERY seconds,
    it is not asked. Within `at_most_every` seconds, nothing is asked at all, and this returns None.
    Then the records count, as they do for the commands that only read; what a run itself delivered
    is there.
    """
    files.make_folder(layout.cache)
    if min(map(_age, (_looked_path(layout), asked_path(layout)))) < at_most_every:
        return None
    try:
        return _look(layout, config, after_run=after_run)
    except OrchestratorError as error:
        return Look(error)


def _look(layout: Layout, config: Config, *, after_run: bool) -> Look:
    where = forges.of_project(layout, config, remember=True)
    before = {pr.id: pr.state for pr in where.book.list()} if where.is_elsewhere else {}
    prs = where.refresh()
    if where.is_elsewhere:
        files.write_atomic(asked_path(layout), b"", flush=False)
    # A forge elsewhere says itself what was merged; git may know better of a closed one.
    unsure = [pr for pr in prs if pr.state == "open"]
    if where.is_elsewhere:
        unsure = [pr for pr in prs if pr.state == "closed" and before.get(pr.id) == "open"]
    pushed = [pr for pr in prs if pr.state == "open"] if where.is_elsewhere else []
    if not (unsure or pushed):
        if config.push_remote:
            remote_pair.find(layout.root, config)  # raises if there is no such remote
        return Look()
    is_due = _start_look(layout)
    if not (is_due or where.is_elsewhere or not after_run):
        return Look()
    looked_at = [*unsure, *(pushed if is_due else _unseen(layout, pushed))]
    problems: list[Problem] = []
    pair = remote_pair.find(layout.root, config)
    there = _fetch(layout, pair, looked_at, problems) if looked_at else set()
    ids = frozenset(pr.id for pr in unsure)
    gone = frozenset(pr.id for pr in unsure if there is not None and pr.branch not in there)
    seen = frozenset(pr.id for pr in looked_at)
    return Look(None, tuple(problems), ids, there is not None, gone, seen)


def record(
    layout: Layout, config: Config, found: Look | None, problems: list[Problem]
) -> list[PullRequest] | None:
    """Return the pull requests as the last look found them; record which were merged or closed.

    Asks only git, and only of this repository. None if the forge did not answer; the reason is kept
    until it answers (`faults.forge_fault`). A remote that cannot be reached is added to `problems`.
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
    problems += found.problems if found else ()
    return prs


def _recorded(layout: Layout, config: Config, found: Look) -> list[PullRequest]:
    """Return the records, brought up to date with what git knows since the look."""
    where = forges.of_project(layout, config)
    # Not those that the look listed: a run may have opened one since.
    prs = where.book.list()
    open_ones = [pr for pr in prs if pr.state == "open"]
    doubtful = "closed" if where.is_elsewhere else "open"
    unsure = [pr for pr in prs if pr.id in found.unsure and pr.state == doubtful]
    if not (open_ones or unsure):
        return prs
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
        where = forges.of_project(layout, config)
        prs = list(where.book.every() if every else where.book.list())
        open_ones = [pr for pr in prs if pr.state == "open"]
        if not open_ones:
            return prs
        answers = functools.cache(lambda: contents(layout, ask=False))
        find = functools.cache(lambda: remote_pair.find(layout.root, config))
        if config.push_remote:
            find()  # raises if there is no such remote
        # The stamp names the files of their refs (`watched`): the records say what git would say.
        if not (where.is_elsewhere or idle.is_unchanged(layout.idle_stamp)):
            # Only a fetch shows that the remote's branch is gone.
            sure = [pr.id for pr in open_ones] if find().base is None else []
            seen = _seen(layout.root, answers(), find(), open_ones, may_close=sure)
            prs = [seen.get(pr.id, pr) for pr in prs]
        return _judged(layout, answers, lambda: find().base, prs)
    except OrchestratorError:
        return None


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
        kept = forges.kept(layout, config)
    except OrchestratorError:  # git cannot be asked: that is reported elsewhere
        kept = None
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
    Git is asked three times per base, however many pull requests there are, and once per pair of
    commits whether a merge changes anything.
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


def _start_look(layout: Layout) -> bool:
    """Note a look at the bases if one is due; return whether it is: only a fetch shows a push."""
    if _age(_looked_path(layout)) < LOOK_EVERY:
        return False
    files.write_atomic(_looked_path(layout), b"", flush=False)
    return True


def _looked_path(layout: Layout) -> str:
    return os.path.join(layout.cache, "bases-looked-at")


def _age(path: str) -> float:
    """Return the seconds since a file was written; infinity for no file, or one of the future."""
    try:
        age = time.time() - os.stat(path).st_mtime
    except OSError:
        return math.inf
    return age if age >= 0 else math.inf


def _unseen(layout: Layout, prs: list[PullRequest]) -> list[PullRequest]:
    """Return the open pull requests whose heads this repository does not have yet."""
    from orchestrator.git.contents import missing

    heads = {pr.id: pr.head for pr in prs}
    gone = missing(layout.root, heads.values()) if heads else set()
    return [pr for pr in prs if heads.get(pr.id) in gone]


def _fetch(
    layout: Layout, pair: Pair, prs: list[PullRequest], problems: list[Problem]
) -> Collection[str] | None:
    """Fetch bases and branches; return the names that exist.

    None if a remote cannot be reached: nothing changes.
    """
    bases, branches = {pr.base for pr in prs}, {pr.branch for pr in prs}
    try:
        there = remote_pair.fetch(layout, pair, bases, branches, remotes.TICK_TIMEOUT)
    except OrchestratorError as error:
        problems.append(Problem(error.code, error.message, error.hint))
        return None
    files.write_atomic(_seen_path(layout), b"", flush=False)
    return there


def is_fresh(layout: Layout) -> bool:
    """Return whether this repository has the branches of open pull requests as of just now.

    That is within the last LOOK_EVERY seconds. What was read since may have moved: whoever relies
    on it is told by a lease, or by a verdict that is for one commit only.
    """
    return _age(_seen_path(layout)) < LOOK_EVERY


def _seen_path(layout: Layout) -> str:
    return os.path.join(layout.cache, "bases-seen")


def asked(layout: Layout, config: Config) -> float | None:
    """Return when a forge elsewhere last answered, in epoch seconds; None for a local forge."""
    try:
        answered = os.stat(asked_path(layout)).st_mtime
        return answered if forges.of_project(layout, config).is_elsewhere else None
    except (OSError, OrchestratorError):
        return None


def asked_path(layout: Layout) -> str:
    """Return the file whose time says when a forge elsewhere last answered."""
    return os.path.join(layout.cache, "forge-asked")
