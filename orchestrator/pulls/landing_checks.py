"""The checks of landings: on a merge before it lands, and on the base if the merge fails them."""

from orchestrator.git import base_branch, contents, repository
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import PullRequest
from orchestrator.project.worktree_setup import SetUpFailed
from orchestrator.pulls.landing_queue import Notes
from orchestrator.pulls.merging import CannotLand, Workshop

#: Results of checks that are remembered.
REMEMBERED = 100


class Checks:
    """Makes and checks the merges of one project."""

    def __init__(self, layout: Layout, config: Config, notes: Notes) -> None:
        self._layout, self._notes = layout, notes
        self._workshop = Workshop(layout, config)

    def merged(self, pr: PullRequest, base: str, head: str, method: str) -> str:
        """Return the merge of two commits, after the checks passed on it."""
        key = f"{base} {head} {method}"
        known = self._notes.memory.passed.get(key)
        if known and repository.resolve(self._layout.root, known):
            return known
        if base == self._notes.memory.red and key in self._notes.memory.failed:
            raise self._base_is_red(pr)
        merged = self._workshop.merge(pr, base, head, method)
        try:
            failure = self._workshop.check(merged, pr.id)
        except SetUpFailed as error:
            if error.failure.was_killed:
                raise
            # If it fails on the base too, that is a system fault, not the fault of this work.
            self._workshop.set_up(base)
            said = f"{error.key} fails on the merge with {pr.base}: {error.failure}"
            raise CannotLand(said) from None
        if failure is not None:
            self._blame_base(pr, base, key)
            raise CannotLand(f"the checks fail on the merge with {pr.base}: {failure}")
        newest = [*self._notes.memory.passed.items()][-REMEMBERED:]
        self._notes.change(passed={**dict(newest), key: merged})
        return merged

    def _blame_base(self, pr: PullRequest, base: str, key: str) -> None:
        """Raise if the base itself fails its checks: then the author of a merge is not to blame.

        The merge with this `key` is not checked again on the same base. Another merge is checked:
        it may be the repair of the base.
        """
        if base in self._notes.memory.green:
            return
        if base != self._notes.memory.red:
            failure = self._workshop.check(base, f"base-{pr.id}")
            if failure is None:
                self._notes.change(green=(*self._notes.memory.green[-REMEMBERED:], base), red=None)
                return
            self._notes.change(red=base, said=str(failure)[:2000], failed=())
        self._notes.change(failed=(*self._notes.memory.failed[-REMEMBERED:], key))
        raise self._base_is_red(pr)

    def _base_is_red(self, pr: PullRequest) -> OrchestratorError:
        said = f"the checks fail on {pr.base} itself, so nothing lands: {self._notes.memory.said}"
        hint = f"fix {pr.base}, directly or with a pull request whose merge passes the checks"
        return OrchestratorError(said, f"{hint}; then landing continues", code="base_red")

    def note_landed(
        self, pr: PullRequest, remote: str | None, landed: str | None, merged: str
    ) -> None:
        """Remember that the base passes its checks, if it has the contents that were checked."""
        root = self._layout.root
        if landed is None:
            return
        if landed != merged and remote:
            base_branch.fetch(self._layout, remote, [pr.base])
        trees = (contents.tree_of(root, commit) for commit in (landed, merged))
        if landed == merged or len({*trees}) == 1:
            self._notes.change(green=(*self._notes.memory.green[-REMEMBERED:], landed), red=None)
