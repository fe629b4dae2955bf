"""Making one merge: by the configured method, checked before it counts.

Most merges need no worktree (`git.merges`). The others, and the checks, have the landing
worktree, which is kept and reused, with what the project's set-up put there.
"""

from __future__ import annotations

import os

from orchestrator.git import (
    abandoned_locks,
    call,
    checkout,
    merges,
    repository,
    submodules,
    worktree,
    worktree_commands,
    worktree_list,
)
from orchestrator.guard import user_commands
from orchestrator.guard.user_commands import Checker, Failure
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import GitError, OrchestratorError, SystemFault
from orchestrator.model.work import PullRequest
from orchestrator.project.worktree_setup import SetUpFailed, Site
from orchestrator.system import files

#: Below the top of a checkout: the file that commands of the product edit.
CONFIG = ".orchestrator/agents.yaml"
#: In the cache: the output of the set-up and the checks.
LOG = "landing.log"


class CannotLand(OrchestratorError):
    """The merge conflicts, or its result fails the checks: the author has to fix it."""

    code = "cannot_land"


class Conflict(CannotLand):
    """The merge conflicts in `files`."""

    code = "conflict"

    def __init__(self, message: str, conflicting: tuple[str, ...]) -> None:
        super().__init__(message)
        self.files = conflicting


class Workshop:
    """The landing worktree of a project. Use it only with the landing lock held."""

    def __init__(self, layout: Layout, config: Config) -> None:
        self._layout, self._config = layout, config
        self.path = os.path.join(layout.cache, "landing")
        #: Whether this process made the worktree.
        self._is_new = False

    def merge(self, pr: PullRequest, base: str, head: str, method: str) -> str:
        """Return the commit that lands `head` on `base`. Raises Conflict."""
        message = f"Merge {pr.branch}: {pr.title}"
        if method == "squash":
            message = f"{pr.title}\n\nPull request {pr.id}, branch {pr.branch}."
        scratch = self._empty_folder()
        found = merges.join(self._layout.root, scratch, base, head, method, message)
        if found is None:
            found = self._joined(pr, base, head, method, message)
        if isinstance(found, str):
            return found
        named = ", ".join(found[:20])
        said = f"{pr.branch} conflicts with {pr.base} in {named}"
        raise Conflict(f"{said}: merge {pr.base} into {pr.branch}", tuple(found))

    def _joined(
        self, pr: PullRequest, base: str, head: str, method: str, message: str
    ) -> str | list[str]:
        """Return what `merges.join_in_worktree` returns. Raises Conflict for another history.

        An agent can cut its branch off: `git commit --amend` in a repository that a fetch with
        `--depth` made shallow leaves a commit without a parent.
        """
        root = self._layout.root
        # Nobody is blamed: the person's clone may be shallow, and the base be replaced.
        if repository.is_shallow(root) and repository.are_unrelated(root, base, head):
            said = f"{pr.branch} and {pr.base} have no commit in common in this shallow clone"
            raise GitError(said, "fetch the whole history: git fetch --unshallow")
        self._prepare(base)
        try:
            return merges.join_in_worktree(self.path, base, head, method, message)
        except GitError:
            if not repository.are_unrelated(root, base, head):
                raise
        said = f"{pr.branch} has no commit in common with {pr.base}"
        raise Conflict(f"{said}: make its changes again on top of {pr.base}", ())

    def _empty_folder(self) -> str:
        path = os.path.join(self._layout.cache, "merge")
        if os.path.islink(path) or (os.path.isdir(path) and os.listdir(path)):
            files.remove_tree(path)
        files.make_folder(path)
        return path

    def check(self, commit: str, mark: str) -> Failure | None:
        """Set up for a commit and run the project's checks; return the commit's first failure.

        Before anybody is blamed, a worktree of an earlier landing is created again: what its set-up
        installed may be too old. Raises SetUpFailed, and SystemFault when a check could not do its
        work.
        """
        if not self._config.checks:
            return None
        try:
            failure = self._check(commit, mark)
            if failure is None or self._is_new:
                return failure
        except SetUpFailed:
            if self._is_new:
                raise
        return self._check(commit, mark, fresh=True)

    def set_up(self, commit: str, *, fresh: bool = False) -> None:
        """Check a commit out, and run the project's set-up for it. Raises SetUpFailed."""
        self._prepare(commit, fresh=fresh)
        self._site().set_up()

    def _check(self, commit: str, mark: str, *, fresh: bool = False) -> Failure | None:
        self.set_up(commit, fresh=fresh)
        failure = self._checker(mark).first_failure(self._config.checks, self.path)
        if failure is not None and failure.program_is_missing:
            message = f"a check's program is missing: {failure}"
            hint = "install it, or correct `checks` or `setup` in agents.yaml"
            raise SystemFault(message, hint, code="check_program_missing")
        if failure is not None and failure.was_killed:
            raise SystemFault(f"a check was killed: {failure}", code="check_killed")
        return failure

    def _checker(self, mark: str) -> Checker:
        # The mark of its processes: no landing of another project may have the same mark.
        return Checker(
            user_commands.landing_environment(self._config, self._layout, self.path),
            os.path.join(self._layout.cache, LOG),
            self._config.check_timeout_seconds,
            f"landing-{mark}-of-{self._layout.root}",
        )

    def _site(self) -> Site:
        return Site(self._layout.root, self.path, self._config, self._checker("set-up"), None)

    def _prepare(self, commit: str, *, fresh: bool = False) -> None:
        """Have the commit checked out, with nothing of an earlier landing in the way."""
        root = self._layout.root
        # Nothing in it is anybody's work: it is not rescued.
        self._is_new |= self._site().provide(commit, None, fresh=fresh)
        worktree_commands.quit_operations(self.path)
        worktree_commands.detach(self.path, commit)
        worktree_commands.clean(self.path)
        submodules.check_out(root, self.path, self._config.submodules.checkout)
        worktree.bring_included(root, self.path)


def fast_forward(root: str, branch: str, old: str, new: str) -> None:
    """Move the base branch of a repository without a remote, as requested (reference 9.5).

    A checkout of the branch must be clean. A change of agents.yaml does not count: commands such as
    `agent pause` make it. Git keeps that change, or refuses if the merge changes the file.
    """
    holder = worktree_list.holder_of(root, branch)
    if holder is None:
        repository.update_ref(root, f"refs/heads/{branch}", new, old)
        return
    if not os.path.isdir(holder):
        raise OrchestratorError(
            f"{branch} is checked out in {holder}, which is gone",
            "mount its disk; or, if it was deleted: git worktree prune",
            code="checkout_not_clean",
        )
    if repository.current_branch(holder) != branch or checkout.is_amid(holder):
        # It would find that its branch has moved, and could not be finished, or not be aborted.
        raise OrchestratorError(
            f"{branch} is in the middle of an operation of git in {holder}",
            "end that first (git status says how), then merge again",
            code="checkout_not_clean",
        )
    others = (".", f":(top,exclude,literal){CONFIG}")
    if changed := worktree_commands.changed_files(holder, *others):
        names = ", ".join(changed[:10])
        raise OrchestratorError(
            f"{branch} is checked out in {holder} with uncommitted changes: {names}",
            "commit or stash them, then merge again",
            code="checkout_not_clean",
        )
    done = call.run(holder, "merge", "--quiet", "--ff-only", new)
    if done.code != 0:
        step = abandoned_locks.step(done.err)
        said = call.reason(done.err) if step else done.err.strip()[:300]
        raise OrchestratorError(
            f"git cannot move {branch}, checked out in {holder}: {said}",
            f"{step or 'commit, stash or move those files away'}, then merge again",
            code="checkout_not_clean",
        )
