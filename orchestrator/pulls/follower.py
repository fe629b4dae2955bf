"""Tasks follow their pull requests: finds the facts, and moves tasks where `pulls.rework` says."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from collections.abc import Iterable, Sequence

from orchestrator.config.load import Settings
from orchestrator.git import base_branch
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.waiting import touched
from orchestrator.model.work import Entry, Feedback, PullRequest, Task
from orchestrator.project import events
from orchestrator.pulls import cuts, forges, review, rework, states, verdicts
from orchestrator.pulls.forge import Forge
from orchestrator.pulls.rework import Step
from orchestrator.tasks import stores
from orchestrator.tasks.task_file import entry


class Follower:
    """Applies what follows, in one tick, under the scheduler's lock."""

    def __init__(self, layout: Layout, settings: Settings, now: float) -> None:
        self._layout, self._settings, self._now = layout, settings, now
        self._store = stores.of_project(layout)
        self._forge: Forge = forges.of_project(layout, settings.config)
        self._contents = states.contents(layout, ask=True)
        self._prs: list[PullRequest] = []
        self._bases: dict[str, str | None] = {}
        #: Of pull requests whose details the forge did not give.
        self.faults: list[OrchestratorError] = []

    def follow(self, prs: Iterable[PullRequest]) -> list[tuple[str, str, str]]:
        """Apply every step; return the task, its new state and the reason of each."""
        prs = self._prs = list(prs)
        return [
            done
            for pr in prs
            if pr.task is not None and not pr.followed and (done := self._follow(pr))
        ]

    def _follow(self, pr: PullRequest) -> tuple[str, str, str] | None:
        known = stores.with_history(self._store, pr.task)
        if known is None:
            if pr.state != "open":
                self._mark_followed(pr)
            return None
        task, history = known
        is_open = pr.state == "open"
        if not is_open and task.pr != pr.id:  # the task has a newer pull request
            self._mark_followed(pr)
            return None
        found = []
        if task.state == "done" and is_open:
            found = [*rework.requested(pr, history), *self._feedback(pr, task, history)]
        elif is_open and any(map(rework.is_about_conflict, rework.open_facts(pr, history))):
            found = self._conflict(pr, task, history)
        in_review = self._is_in_review(pr, task)
        wanted = rework.step(pr, task, history, found, self._settings.config, in_review=in_review)
        if wanted is not None:
            if review.needs_review(wanted.fields):
                self._review_again(pr, task, review.openings(history) + 1)
            self._store.move(task, wanted.state, entry(self._now, wanted.event, **wanted.fields))
        elif task.state == "done" and is_open:
            review.ask_again(self._store, self._settings, task, pr, history, now=self._now)
        if not is_open and task.state != "claimed":
            self._mark_followed(pr)
        if wanted is None:
            return None
        return task.id, wanted.state, _why(wanted)

    def _is_in_review(self, pr: PullRequest, task: Task) -> bool:
        """Whether a review of the head waits or is being done; looked at only after a review."""
        known = task.uncharged.get("review") and pr.verdict is None
        waiting = (touched(self._store.list(state).tasks) for state in ("incoming", "claimed"))
        about = (task.id, pr.head)
        return bool(known) and any((t.reviews, t.head) == about for ts in waiting for t in ts)

    def _mark_followed(self, pr: PullRequest) -> None:
        with self._forge.book.locked():
            self._forge.book.write(pr._replace(followed=True))

    def _feedback(self, pr: PullRequest, task: Task, history: Sequence[Entry]) -> list[Feedback]:
        found: list[Feedback] = []
        # The forge is asked for details only after a change.
        if self._forge.is_elsewhere and pr.heard != _mark(pr):
            try:
                found += self._forge.feedback(pr)
                self._forge.book.record(pr.id, heard=_mark(pr))
            except OrchestratorError as error:  # asked again at the next tick
                self.faults.append(error)
        if pr.verdict == verdicts.APPROVED:
            found += self._conflict(pr, task, history)
        return found

    def _conflict(self, pr: PullRequest, task: Task, history: Sequence[Entry]) -> list[Feedback]:
        base = self._base(pr.base)
        # Its commits are on top of those of an open dependency, which may land as other commits.
        if cuts.below(self._store, task, self._prs) is not None:
            return []
        if base is None or not (names := self._contents.conflicts(pr.head, base)):
            return []
        mine, its, root = (pr.branch, pr.head), (pr.base, base), self._layout.root
        below, config = map(self._store.get, task.depends_on), self._settings.config
        prs = forges.with_merged(self._layout, config, self._prs, below) or ()
        from orchestrator.pulls import restack

        if restack.updated(root, self._store, task, history, prs, mine, its):
            return []  # the landing brings it up to date
        said = f"{pr.branch} conflicts with {pr.base} in {', '.join(names[:20])}"
        said += f": merge {pr.base} into {pr.branch}."
        return [Feedback(f"conflict:{pr.head}:{base}", said, by_machine=True)]

    def _base(self, name: str) -> str | None:
        """Return the commit of a base branch, asked once per tick."""
        if name not in self._bases:
            remote = base_branch.remote_of(self._layout, self._settings.config)
            self._bases[name] = base_branch.branch_commit(self._layout.root, remote, name)
        return self._bases[name]

    def _review_again(self, pr: PullRequest, task: Task, number: int) -> None:
        """Ask for the review that ended when the pull request was closed or a person was asked."""
        listed = (self._store.list(state).tasks for state in ("incoming", "claimed"))
        waiting = (task for tasks in listed for task in touched(tasks))
        if pr.verdict is None and not any((t.reviews, t.pr) == (task.id, pr.id) for t in waiting):
            review.ask_once_more(self._store, self._settings, task, pr, number, now=self._now)


def _mark(pr: PullRequest) -> str:
    checks = ",".join(f"{check.name}={check.state}" for check in pr.checks)
    return f"{pr.head} {pr.updated} {checks}"


def follow(
    layout: Layout, settings: Settings, prs: Iterable[PullRequest], now: float
) -> tuple[list[tuple[str, str, str]], list[OrchestratorError]]:
    """Apply what follows from the pull requests; return the steps, and the faults of the forge."""
    follower = Follower(layout, settings, now)
    return follower.follow(prs), follower.faults


def end(layout: Layout, config: Config, pr_id: str, now: float, forge: str) -> None:
    """Tell the task of a pull request at once that a person merged or closed it.

    `forge` is the value of `forge` for the pull request, which may be on another forge than the
    project's.
    """
    store = stores.of_project(layout)
    own = forges.of_project(layout, config)
    where = forges.of_project(layout, config._replace(forge=forge))
    pr = where.book.get(pr_id)
    if pr is None or pr.state == "open":
        return
    with store.change():
        if (seen := stores.with_history(store, pr.task)) is None:
            return
        task, history = seen
        newer = own.book.get(pr.id) if own.name != where.name else None
        if task.pr != pr.id or (newer is not None and newer.task == task.id):
            return  # the task has another pull request, perhaps of the same number
        wanted = rework.ended(pr, task, history)
        if wanted is not None:
            store.move(task, wanted.state, entry(now, wanted.event, **wanted.fields))
            told = {"task": task.id, "state": wanted.state, "reason": _why(wanted)}
            events.append(layout, now, "followed", **told)


def _why(wanted: Step) -> str:
    """Return the reason of a step, as the project's events have it."""
    return (
        "merged" if "merged" in wanted.fields else str(wanted.fields.get("reason") or wanted.event)
    )
