"""Landing: approved pull requests are merged into their base, one at a time, each merge checked.

Two branches that pass alone may fail together (failures 11). So the merge itself is checked, in a
worktree, and only then lands, on every forge. A conflict, or a merge that fails its checks on a
base that passes them, goes back to its author with the branch intact.
"""

import contextlib
import os
from collections.abc import Iterator
from functools import partial

from orchestrator.git import base_branch, remote_pair, remotes, repository, worktree_commands
from orchestrator.guard.user_commands import Failure
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError, SystemFault
from orchestrator.model.work import PullRequest
from orchestrator.project import checkout_changed
from orchestrator.pulls import (
    forges,
    landing_queue,
    look,
    merging,
    restack,
    states,
)
from orchestrator.pulls.forge import Forge
from orchestrator.pulls.landing_results import Checks, Failures
from orchestrator.pulls.merging import CannotLand, Conflict, Workshop
from orchestrator.system import files, locks
from orchestrator.tasks import stores

#: How often a merge is repeated because the base moved meanwhile.
TRIES = 3
#: What somebody did to a pull request since the last tick: the codes of `landing_queue.not_ready`,
#: and a push to its branch.
_CHANGED = ("not_open", "draft", "not_reviewed")


class _Moved(Exception):
    """The base moved while its merge was made and checked."""


def lock_path(layout: Layout) -> str:
    return os.path.join(layout.cache, "landing.lock")


def lock(layout: Layout, wait: float) -> locks.Lock:
    """Return the lock that allows one landing at a time."""
    files.make_folder(layout.cache)
    return locks.Lock(lock_path(layout), wait)


@contextlib.contextmanager
def alone(layout: Layout, wait: float) -> Iterator[None]:
    """Hold the lock of landings here, and among the hosts that share the queue. Raises LockHeld."""
    with lock(layout, wait), stores.of_project(layout).alone("landing", wait):
        yield


def log_path(layout: Layout) -> str:
    """Return the file with the output of the set-up and the checks of landings."""
    return os.path.join(layout.cache, merging.LOG)


def try_checks(layout: Layout, config: Config, commit: str) -> Failure | None:
    """Run the set-up and the checks on a commit in the landing worktree; return what failed.

    Raises SetUpFailed, SystemFault if a check could not do its work, and locks.LockHeld.
    """
    with lock(layout, 0.0):
        workshop = Workshop(layout, config)
        if not config.checks:
            workshop.set_up(commit)
        return workshop.check(commit, "doctor")


def left_by_checks(layout: Layout, config: Config) -> list[str]:
    """Return the files that `try_checks` left new or changed, and that git does not ignore."""
    return worktree_commands.changed_files(Workshop(layout, config).path, untracked="normal")


def land_approved(layout: Layout, config: Config, now: float) -> list[str]:
    """Merge approved pull requests if `review.auto_merge` is set; return one line per result.

    Only the reviewed commit is merged. Without a remote, nothing is merged: the base branch exists
    only in a person's checkout. Does nothing during another landing.
    """
    if not config.review.auto_merge or base_branch.remote_of(layout, config) is None:
        return []
    with contextlib.suppress(locks.LockHeld), alone(layout, 0.0):
        waiting = landing_queue.candidates(layout, config, states.known(layout, config) or (), now)
        lander = Lander(layout, config, now)
        said = [lander.try_one(pr) for pr in waiting]
        lander.failures.keep_fault()
        return said
    return []


def merge(layout: Layout, config: Config, pr: PullRequest, now: float) -> str | None:
    """Merge one pull request as a person asks, whatever agents' reviews say. Hold `alone`.

    Returns the base's new commit; None if the forge merges it later. Raises CannotLand,
    OrchestratorError if the pull request may not be merged, SystemFault if the remote cannot be
    reached. A conflict has gone back to its author when this raises.
    """
    if (refused := landing_queue.refusal(layout, config, pr)) is not None:
        raise refused
    lander = Lander(layout, config, now)
    try:
        return lander.land(pr)
    except Conflict as error:
        if lander.failures.send_back(pr, error):
            hint = f"its author gets it back: orchestrator task show {pr.task}"
            raise OrchestratorError(error.message, hint, code=error.code) from None
        raise


class Lander:
    """Lands pull requests of one project, one after the other."""

    def __init__(self, layout: Layout, config: Config, now: float) -> None:
        self._layout, self._config, self._now = layout, config, now
        self._remote = base_branch.remote_of(layout, config)
        self._forge: Forge = forges.of_project(layout, config)
        notes = landing_queue.Notes(layout)
        self._checks = Checks(layout, config, notes)
        self.failures = Failures(layout, config, self._forge, now, notes)
        #: Whether the last merge deleted the remote's branch.
        self._has_dropped = False

    def try_one(self, pr: PullRequest) -> str:
        """Land an approved pull request, or do what follows from its failure; return a line."""
        try:
            merged = self.land(pr, only=pr.head)
        except CannotLand as error:
            self.failures.send_back(pr, error)
            return f"sent {pr.id} back: {error.message.splitlines()[0]}"
        except OrchestratorError as error:
            if error.code in _CHANGED:
                # The next tick sees that.
                self.failures.forget(pr)
                return f"did not merge {pr.id}: {error.message}"
            return self.failures.refused(pr, error)
        if merged is None:
            return self.failures.queued(pr)
        self.failures.forget(pr)
        dropped = f", and deleted {pr.branch} at {self._remote}" if self._has_dropped else ""
        return f"merged {pr.id} as {merged[:12]}{dropped}"

    def land(self, pr: PullRequest, only: str | None = None) -> str | None:
        """Merge one pull request; `only` is the commit that was approved. Raises as `merge`."""
        self._has_dropped = False
        config = self._config
        checkout_changed.require_remotes(self._layout, config.remote, config.push_remote)
        for number in range(TRIES):
            pr = self._as_it_is_now(pr)
            is_guess = number == 0 and only is not None and self._may_guess(pr)
            base, head = self._fresh(pr, only, ask=not is_guess)
            updated = restack.update(self._layout, self._config, pr, base, head, self._now)
            if updated is not None:
                pr, head, only = pr._replace(head=updated), updated, only and updated
            if repository.is_ancestor(self._layout.root, head, base):
                return self._forge.merge(pr, head, "merge", partial(str, base))
            method = self._method(base, head)
            merged = self._checks.merged(pr, base, head, method)
            is_elsewhere = self._forge.is_elsewhere
            if self._as_it_is_now(pr).base != pr.base or (
                is_elsewhere and self._has_moved(pr, base)
            ):
                continue
            move = partial(self._move, pr, base, merged, head if is_guess else None)
            try:
                landed = self._forge.merge(pr, head, method, move)
            except _Moved:
                continue
            self._checks.note_landed(pr, self._remote, landed, merged)
            return landed
        raise SystemFault(f"the branch {pr.base} moved during each try to merge", code="base_moved")

    def _as_it_is_now(self, pr: PullRequest) -> PullRequest:
        """Return a pull request with the base that the forge has for it now.

        A person may retarget or close it at any time, also while its checks run. Raises
        OrchestratorError if it is not open, or a draft.
        """
        now = self._forge.show(pr.id)
        for each in (now,) if self._forge.is_elsewhere else (pr, now):
            if (refused := landing_queue.not_ready(each)) is not None:
                raise refused
        return pr._replace(base=now.base)

    def _method(self, base: str, head: str) -> str:
        """Return how to merge: the configured way, or the first that the repository allows.

        Without a remote, a head that contains the base needs no merge commit.
        """
        if self._remote is None and repository.is_ancestor(self._layout.root, base, head):
            return "fast-forward"
        allowed, wanted = self._forge.methods(), self._config.review.merge_method
        if wanted == "auto":
            return allowed[0]
        if wanted not in allowed:
            raise OrchestratorError(
                f"the repository does not allow the merge method {wanted}",
                f"set review.merge_method to one of: auto, {', '.join(allowed)}",
                code="merge_refused",
            )
        return wanted

    def _may_guess(self, pr: PullRequest) -> bool:
        """Whether base and head are known from just now, and the push can confirm both at once."""
        if self._forge.is_elsewhere or not look.is_fresh(self._layout):
            return False
        return remote_pair.find(self._layout.root, self._config).is_one

    def _fresh(self, pr: PullRequest, only: str | None, *, ask: bool) -> tuple[str, str]:
        """Return the commits of base and head as the remote has them now.

        Without `ask`, as they were last seen, if the approved commit is the head there.
        """
        root = self._layout.root
        pair = remote_pair.find(root, self._config)
        there = remote_pair.fetch(self._layout, pair, [pr.base], [pr.branch]) if ask else {}
        if ask and pair.base and pr.base not in there:
            raise base_branch.gone(root, pair.base, pr.base)
        base, head = there.get(pr.base), there.get(pr.branch)
        if base is None or head is None:
            wanted = ((pair.base, pr.base), (pair.push, pr.branch))
            base, head = base_branch.branch_commits(root, *wanted)
        if not ask and (base is None or head != only):
            return self._fresh(pr, only, ask=True)
        if base is None:
            raise base_branch.gone_here(root, pr.base)
        if head is None:
            said = f"the branch {pr.branch} does not exist"
            hint = f"git branch {pr.branch} {pr.head}; or: orchestrator pr close {pr.id}"
            raise OrchestratorError(said, hint, code="no_branch")
        if only is not None and head != only:
            raise OrchestratorError(
                f"pull request {pr.id} has commits that were not reviewed", code="not_reviewed"
            )
        return base, head

    def _move(self, pr: PullRequest, base: str, merged: str, guessed: str | None) -> str:
        """Move the base branch to the merge, as a forge without a server needs it.

        `guessed` is the head if base and head were not asked of the remote: the push then confirms
        both, and takes the branch away if it is not kept.
        """
        root = self._layout.root
        if self._remote is None:
            merging.fast_forward(root, pr.base, base, merged)
            return merged
        if guessed is not None:
            beside = remotes.Beside(pr.branch, guessed, self._drops(pr))
            try:
                refused = remotes.push(root, self._remote, merged, pr.base, base, beside)
            except SystemFault as error:
                refused = error.message  # also of a remote that knows no atomic push
            if refused is not None:
                raise _Moved  # the next try asks, and finds out why
            self._has_dropped = beside.is_dropped
            self._note_pushed(pr.base, merged)
            return merged
        # With a lease: a base that is gone at the remote is never created by this push.
        refused = remotes.push(root, self._remote, merged, pr.base, base)
        if refused is not None and self._has_moved(pr, base):
            raise _Moved
        if refused is not None:
            said = f"the remote refused the merge: {refused}"
            raise OrchestratorError(said, "see what its rules allow", code="merge_refused")
        self._note_pushed(pr.base, merged)
        return merged

    def _note_pushed(self, branch: str, commit: str) -> None:
        """Have the remote's branch here as it is there now; mostly the push itself does that."""
        repository.have_ref(self._layout.root, f"refs/remotes/{self._remote}/{branch}", commit)

    def _drops(self, pr: PullRequest) -> bool:
        """Whether the remote's branch goes when the pull request is merged."""
        if self._config.retention.remote_branches != "delete":
            return False
        others = (each for each in self._forge.book.list() if each.id != pr.id)
        return all(each.state != "open" or each.branch != pr.branch for each in others)

    def _has_moved(self, pr: PullRequest, base: str) -> bool:
        tips = remotes.tips(self._layout.root, self._remote or "", [pr.base])
        return tips.get(pr.base) != base
