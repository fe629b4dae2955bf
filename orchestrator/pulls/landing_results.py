"""The checks of landings, on a merge and on its base, and what follows if a landing fails.

The author gets the work back, or it is tried again later.
"""

from orchestrator.git import base_branch, contents, repository
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.times import iso
from orchestrator.model.work import Given, PullRequest
from orchestrator.project import faults as system_faults
from orchestrator.project.worktree_setup import SetUpFailed
from orchestrator.pulls import landing_queue
from orchestrator.pulls.forge import Forge
from orchestrator.pulls.landing_queue import Notes
from orchestrator.pulls.merging import CannotLand, Workshop
from orchestrator.pulls.verdicts import SCHEDULER
from orchestrator.system import files
from orchestrator.tasks import stores

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


#: After so many tries a person is told of a merge that the forge accepts and never makes.
UNMERGED = 3


class Failures:
    """Carries out what follows from the failures of one project's landings."""

    def __init__(
        self, layout: Layout, config: Config, forge: Forge, now: float, notes: Notes
    ) -> None:
        self._layout, self._config, self._forge, self._now = layout, config, forge, now
        self._notes = notes
        self._fault: OrchestratorError | None = None

    def send_back(self, pr: PullRequest, error: CannotLand) -> bool:
        """Send the task back to its author; return whether there was a finished task to send."""
        store = stores.of_project(self._layout)
        task = store.get(pr.task or "")
        if task is None:
            return False
        said = error.message
        given = Given(SCHEDULER, "agent", "changes_requested", pr.head, said, iso(self._now))
        self._forge.post(pr, given)
        run = f"landing-{pr.id}-{pr.head[:12]}"
        from orchestrator.pulls import review

        try:
            review.record_verdict(store, self._config, task, given, now=self._now, run=run)
        except NotFound:  # a tick or a person has just moved it
            return False
        return task.state == "done"

    def refused(self, pr: PullRequest, error: OrchestratorError) -> str:
        said = f"could not merge {pr.id}: {error.message}"
        if error.code == "base_red":
            said = error.message
        if error.code != "merge_refused" or not landing_queue.awaited(pr):
            self._fault = self._fault or OrchestratorError(said, error.hint, code=error.code)
        self._delay(pr, said)
        return said

    def queued(self, pr: PullRequest) -> str:
        """Delay the next try: a merge queue may remove a pull request each time it gets it."""
        tries = self._delay(pr, "the forge accepted the merge, but did not carry it out")
        if tries >= UNMERGED:
            said = f"{tries} tries to merge {pr.id} did not merge it: the forge accepts the merge"
            hint = f"see its checks and the merge queue: {pr.url}"
            fault = OrchestratorError(
                f"{said} but does not carry it out", hint, code="merge_refused"
            )
            self._fault = self._fault or fault
        return f"queued {pr.id} at the forge"

    def _delay(self, pr: PullRequest, said: str) -> int:
        """Remember when the merge is tried again; return the number of tries with this head."""
        before = self._notes.memory.refused.get(pr.id)
        tries = before.tries + 1 if before and before.head == pr.head else 1
        again = self._now + self._config.retry.delay(tries)
        refused = landing_queue.Refused(pr.head, tries, again, said)
        self._notes.change(refused={**self._notes.memory.refused, pr.id: refused})
        return tries

    def forget(self, pr: PullRequest) -> None:
        left = {key: each for key, each in self._notes.memory.refused.items() if key != pr.id}
        self._notes.change(refused=left)

    def keep_fault(self) -> None:
        """Keep the first refusal of this landing as a problem, or remove the one before."""
        if self._fault is not None:
            system_faults.keep(self._layout.landing_fault, self._fault)
        elif not self._notes.memory.refused:
            files.remove(self._layout.landing_fault)
