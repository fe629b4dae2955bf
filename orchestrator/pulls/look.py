"""A look at the forge and the remotes: leaves on this disk what they say of pull requests.

A tick asks them at most once (failures 13), before it takes its lock.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Iterable

from orchestrator.git import place
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PullRequest
from orchestrator.project import faults
from orchestrator.pulls import forges
from orchestrator.system import files
from orchestrator.system.later import Later
from orchestrator.text import words

if TYPE_CHECKING:
    from orchestrator.git import remote_pair, remotes, settings
    from orchestrator.git.remote_pair import Pair
else:
    remote_pair = Later("git.remote_pair")
    remotes = Later("git.remotes")
    settings = Later("git.settings")

#: Seconds between two looks at the bases of a forge elsewhere, and between the looks of ticks after
#: runs: the ticks of a schedule look, most ticks after runs do not.
LOOK_EVERY = 10.0
#: Files in the cache, whose times say when a look at the bases began, when the branches of open
#: pull requests were fetched, and when a forge elsewhere answered.
_LOOKED, _SEEN, ASKED = "bases-looked-at", "bases-seen", "forge-asked"


class Look(NamedTuple):
    """What a look at the forge and the remotes found, beside what it left on this disk."""

    #: Why the forge did not answer.
    fault: OrchestratorError | None = None
    #: The pull requests of which git is asked what became of them, each with its head at the look;
    #: empty if no look was due. A head that was delivered since, from another host, is newer than
    #: what this host fetched.
    unsure: frozenset[tuple[str, str]] = frozenset()
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
        is_asked_in_vain = bool(self.looked_at) and not self.is_fetched
        return self.fault is None and not (is_asked_in_vain or self.gone)


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
    if min(_age(layout, name) for name in (_LOOKED, ASKED)) < at_most_every:
        return None
    try:
        return _look(layout, config, after_run=after_run)
    except OrchestratorError as error:
        return Look(error)


def _look(layout: Layout, config: Config, *, after_run: bool) -> Look:
    where = forges.of_project(layout, config, remember=True)
    before = {pr.id: pr.state for pr in where.book.list()} if where.is_elsewhere else {}
    prs = where.refresh()
    unsure, pushed = [pr for pr in prs if pr.state == "open"], []
    if where.is_elsewhere:
        _note(layout, ASKED)
        # It says itself what was merged; git may know better of a closed one.
        pushed = unsure
        unsure = [pr for pr in prs if pr.state == "closed" and before.get(pr.id) == "open"]
    if not (unsure or pushed):
        for path in (layout.remote_place, layout.remote_moved, layout.remote_fault):
            files.remove(path)
        if is_doubtful(layout, config):
            remote_pair.find(layout.root, config)
        return Look()
    is_due = _age(layout, _LOOKED) >= LOOK_EVERY  # only a fetch shows a push
    if is_due:
        _note(layout, _LOOKED)
    pair = remote_pair.find(layout.root, config)
    has_remote = pair.base or pair.push  # without one, git knows all at once
    if has_remote and after_run and not (is_due or where.is_elsewhere):
        return Look()
    looked_at = [*unsure, *(pushed if is_due else _unseen(layout, pushed))]
    there = _fetch(layout, config, pair, looked_at) if looked_at else set()
    heads = frozenset((pr.id, pr.head) for pr in unsure)
    missing = [pr for pr in unsure if there is not None and pr.branch not in there]
    if there is not None and not where.is_elsewhere and _is_moved(layout, pair, missing):
        missing = []
    gone = frozenset(pr.id for pr in missing)
    seen = frozenset(pr.id for pr in looked_at)
    return Look(None, heads, there is not None, gone, seen)


def is_doubtful(layout: Layout, config: Config) -> bool:
    """Return whether `remote_pair.find` may raise: no such remote, or a mirror."""
    return bool(config.push_remote) or place.may_set(layout.root, "mirror")


def _is_moved(layout: Layout, pair: Pair, missing: list[PullRequest]) -> bool:
    """Return whether branches are missing because the remote's address was changed.

    Nobody closed these pull requests: their branches were never at the new address. Until somebody
    pushes them there, or closes them, that is a problem.
    """
    others = settings.matching(layout.root, r"url\..*\.(insteadof|pushinsteadof)")
    decides = "\n".join((pair.place, *map("=".join, others)))
    address = decides.encode("utf-8", "surrogateescape")
    before = files.content(layout.remote_place)
    if not missing or before in (None, address):
        files.remove(layout.remote_moved)
        if before != address:
            files.write_atomic(layout.remote_place, address, flush=False)
        return False
    branches = [pr.branch for pr in missing]
    lacks = f"lacks the branches of {words.count(len(missing), 'open pull request')}"
    where = pair.place or "this repository"
    message = f"the address of the remote was changed, and {where} {lacks}"
    close = f"orchestrator pr close {missing[0].id}"
    hint = f"git push {pair.push or '.'} {' '.join(branches)}; or close each of them: {close}"
    faults.keep(layout.remote_moved, OrchestratorError(message, hint, code="remote_moved"))
    return True


def _note(layout: Layout, name: str) -> None:
    files.write_atomic(os.path.join(layout.cache, name), b"", flush=False)


def _age(layout: Layout, name: str) -> float:
    """Return the seconds since a file was written; infinity for no file, or one of the future."""
    try:
        age = time.time() - os.stat(os.path.join(layout.cache, name)).st_mtime
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
    layout: Layout, config: Config, pair: Pair, prs: list[PullRequest]
) -> Collection[str] | None:
    """Fetch bases and branches; return the names that exist.

    None if a remote cannot be reached: nothing changes, and it is a problem until a look succeeds.
    """
    bases, branches = {pr.base for pr in prs}, {pr.branch for pr in prs}
    try:
        if os.path.exists(layout.checkout_changed):
            from orchestrator.project import checkout_changed

            checkout_changed.require_remotes(layout, config.remote, config.push_remote)
        there = remote_pair.fetch(layout, pair, bases, branches, remotes.TICK_TIMEOUT)
    except OrchestratorError as error:
        faults.keep(layout.remote_fault, error)
        return None
    files.remove(layout.remote_fault)
    _note(layout, _SEEN)
    return there


def is_fresh(layout: Layout) -> bool:
    """Return whether this repository has the branches of open pull requests as of just now.

    That is within the last LOOK_EVERY seconds. What was read since may have moved: whoever relies
    on it is told by a lease, or by a verdict that is for one commit only.
    """
    return _age(layout, _SEEN) < LOOK_EVERY


def asked(layout: Layout, config: Config) -> float | None:
    """Return when a forge elsewhere last answered, in epoch seconds; None for a local forge."""
    try:
        answered = os.stat(os.path.join(layout.cache, ASKED)).st_mtime
        return answered if forges.of_project(layout, config).is_elsewhere else None
    except (OSError, OrchestratorError):
        return None
