"""What follows for a task from what happened to its pull request elsewhere (reference 9.5).

A person closed or merged it, asked for changes, or pushed to its branch; a required check failed;
it conflicts with its base. Each fact counts once: the task's history keeps its key.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import os
from collections.abc import Iterable, Sequence

from orchestrator.config.load import Settings
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import iso
from orchestrator.model.work import Entry, Feedback, PullRequest, Task
from orchestrator.plan import repeats
from orchestrator.project import events
from orchestrator.pulls import cuts, forges, questions, review, states, verdicts
from orchestrator.pulls.forge import Forge
from orchestrator.system import files
from orchestrator.system.later import Later
from orchestrator.tasks import stores
from orchestrator.text.words import count

if TYPE_CHECKING:
    from orchestrator.git import base_branch
else:
    base_branch = Later("git.base_branch")

#: The events with which a person decided where a task is: no fact overrules them.
_DECIDED = ("retried", "moved", "answered", "added")
#: Characters of feedback that a task's history keeps.
KEPT = 20_000


class Step(NamedTuple):
    """Where a task goes, the event that says so, and the event's fields."""

    state: str
    event: str
    fields: dict[str, object]


def step(
    pr: PullRequest,
    task: Task,
    history: Sequence[Entry],
    found: Iterable[Feedback],
    config: Config,
    *,
    in_review: bool = False,
) -> Step | None:
    """Return what follows from the state of a pull request and from feedback; None for nothing.

    `found` is everything that asks for changes now; what the history has already is left out.
    `in_review`: a review of the head waits or is being done.
    """
    last = history[-1].event if history else ""
    if pr.state != "open":
        return None if last in _DECIDED else _ended(pr, task, history)
    if task.state != "done":
        if task.state == "blocked":
            return _withdrawn(pr, history, found)
        return _opened_again(pr, history) if task.state == "failed" else None
    known = {key for entry in history for key in _keys(entry)}
    new = [each for each in found if each.key not in known]
    if not new:
        outrun = None if in_review else _outrun(pr, task, config)
        return _unanswered(pr, history) or outrun
    text = "\n\n".join(each.text for each in new)[:KEPT]
    fields: dict[str, object] = {"pr": pr.id, "head": pr.head, "facts": [n.key for n in new]}
    rounds = _rounds(history)
    if all(each.by_machine for each in new) and rounds >= config.review.max_rounds:
        question = (
            f"Pull request {pr.id} was sent back {count(rounds, 'time')}, and this still stands: "
            f"{text[: questions.QUOTED]} How should the work continue?"
        )
        return Step("blocked", "blocked", {**fields, "question": question, "reason": "max_rounds"})
    return Step("incoming", "reopened", {**fields, "feedback": text})


def _unanswered(pr: PullRequest, history: Sequence[Entry]) -> Step | None:
    """Ask a person if the author answered requested changes with no change."""
    last = history[-1] if history else None
    if last is None or last.event != "done" or last.fields.get("verdict") != "no_change":
        return None
    if pr.verdict != verdicts.CHANGES:
        return None
    said = str(last.fields.get("summary") or "no reason given")[: questions.QUOTED]
    question = (
        f"Changes are requested on pull request {pr.id}, and its author made no change. How should "
        f"the work continue? The author says: {said}"
    )
    return Step("blocked", "blocked", {"pr": pr.id, "question": question, "reason": "max_rounds"})


def _opened_again(pr: PullRequest, history: Sequence[Entry]) -> Step | None:
    """A person opened the pull request again whose end cancelled the task: it is delivered."""
    moves = [entry for entry in history if entry.event not in ("review", "dismissed")]
    if not moves or moves[-1].event != "cancelled" or moves[-1].fields.get("pr") != pr.id:
        return None
    said = f"Pull request {pr.id} was opened again."
    return Step("done", "done", {"pr": pr.id, "summary": said, review.AGAIN: True})


def _withdrawn(pr: PullRequest, history: Sequence[Entry], found: Iterable[Feedback]) -> Step | None:
    """Withdraw a question about checks and conflicts if these no longer hold."""
    keys = questions.open_facts(pr, history)
    conflicts = any(questions.is_about_conflict(each.key) for each in found)
    if not keys or any(questions.holds(key, pr, conflicts=conflicts) for key in keys):
        return None
    said = f"The question about pull request {pr.id} is withdrawn: what it says no longer holds."
    return Step("done", "done", {"pr": pr.id, "summary": said, review.WITHDRAWN: True})


def _outrun(pr: PullRequest, task: Task, config: Config) -> Step | None:
    """Ask a person if somebody pushes after each review: none of them is of the newest commit."""
    reviews = task.uncharged.get("review", 0)
    if pr.verdict is not None or reviews < repeats.limit("review", config):
        return None
    said = repeats.review_question(pr.id, reviews, pr.head)
    return Step("blocked", "blocked", {"pr": pr.id, "question": said, "reason": "branch_moved"})


def _ended(pr: PullRequest, task: Task, history: Sequence[Entry]) -> Step | None:
    """A merge is written down; it finishes a task that waits for rework. A close cancels, once."""
    again = [place for place, e in enumerate(history) if e.fields.get(review.AGAIN) is True]
    since = max(again, default=0)
    told = [entry.event for entry in history[since:] if entry.fields.get("pr") == pr.id]
    if task.state == "claimed" or "cancelled" in told or "merged" in told:
        return None
    if pr.state == "merged" and task.state == "done":
        return Step("done", "merged", {"pr": pr.id, "head": pr.head})
    if pr.state == "merged":
        summary = f"Pull request {pr.id} was merged while the task waited for rework."
        fields = {"pr": pr.id, "summary": summary, "verdict": "no_change", "merged": True}
        return Step("done", "done", fields)
    if task.state == "failed":
        return None
    return Step("failed", "cancelled", {"pr": pr.id, "reason": f"pull request {pr.id} was closed"})


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
        try:
            task = store.find(pr.task or "")
            history = store.read(task).history
        except NotFound:
            return
        newer = own.book.get(pr.id) if own.name != where.name else None
        if task.pr != pr.id or (newer is not None and newer.task == task.id):
            return  # the task has another pull request, perhaps of the same number
        wanted = _ended(pr, task, history)
        if wanted is not None:
            store.move(task, wanted.state, Entry(iso(now) or "", wanted.event, wanted.fields))
            told = {"task": task.id, "state": wanted.state, "reason": _why(wanted)}
            events.append(layout, now, "followed", **told)


def _why(wanted: Step) -> str:
    """Return the reason of a step, as the project's events have it."""
    return (
        "merged" if "merged" in wanted.fields else str(wanted.fields.get("reason") or wanted.event)
    )


def unheard(history: Iterable[Entry]) -> list[Feedback]:
    """Return the changes that people requested here while a run had the task: it knew no better."""
    found: list[Feedback] = []
    for entry in history:
        if entry.event in ("claimed", "reopened"):
            found = []
        for given in verdicts.given([entry]):
            if given.settles:
                found = []
            elif (given.kind, given.verdict) == ("person", verdicts.CHANGES):
                found.append(Feedback(f"review:{entry.fields.get('run')}", given.text))
    return found


def requested(pr: PullRequest, history: Iterable[Entry]) -> list[Feedback]:
    """Return the changes that people request: here during a run, on the forge until resolved."""
    history = list(history)
    standing = verdicts.objections([*verdicts.given(history), *pr.reviews])
    return [
        *unheard(history),
        *(
            Feedback(f"review:{given.by}:{given.at}", f"{given.by} requests changes: {given.text}")
            for given in pr.reviews
            if given in standing
        ),
    ]


def is_answered(pr: PullRequest, history: Iterable[Entry]) -> bool:
    """Whether the author was told of every requested change of a person."""
    history = list(history)
    known = {key for entry in history for key in _keys(entry)}
    return all(each.key in known for each in requested(pr, history))


def _keys(entry: Entry) -> list[object]:
    found = entry.fields.get("facts")
    return found if isinstance(found, list) else []


def _rounds(history: Sequence[Entry]) -> int:
    """Return how often facts reopened the task since a person last decided about it."""
    rounds = 0
    for entry in history:
        if entry.event in _DECIDED:
            rounds = 0
        rounds += entry.event == "reopened" and bool(_keys(entry))
    return rounds


# --- acting ------------------------------------------------------------------------------------


class Follower:
    """Applies what follows, in one tick, under the scheduler's lock."""

    def __init__(self, layout: Layout, settings: Settings, now: float) -> None:
        self._layout, self._settings, self._now = layout, settings, now
        self._store = stores.of_project(layout)
        self._forge: Forge = forges.of_project(layout, settings.config)
        self._contents = states.contents(layout, ask=True)
        self._memory = os.path.join(layout.cache, "feedback.json")
        self._known = files.read_json(self._memory) or {}
        self._before = dict(self._known)
        self._prs: list[PullRequest] = []
        self._bases: dict[str, str | None] = {}
        #: Of pull requests whose details the forge did not give.
        self.faults: list[OrchestratorError] = []

    def follow(self, prs: Iterable[PullRequest]) -> list[tuple[str, str, str]]:
        """Apply every step; return the task, its new state and the reason of each."""
        prs = self._prs = list(prs)
        told = [
            done
            for pr in prs
            if pr.task is not None and not pr.followed and (done := self._follow(pr))
        ]
        self._remember(prs)
        return told

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
            found = [*requested(pr, history), *self._feedback(pr, task, history)]
        elif is_open and any(map(questions.is_about_conflict, questions.open_facts(pr, history))):
            found = self._conflict(pr, task, history)
        in_review = self._is_in_review(pr, task)
        wanted = step(pr, task, history, found, self._settings.config, in_review=in_review)
        if wanted is not None:
            entry = Entry(iso(self._now) or "", wanted.event, wanted.fields)
            if review.needs_review(wanted.fields):
                self._review_again(pr, task, review.openings(history) + 1)
            self._store.move(task, wanted.state, entry)
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
        waiting = (self._store.list(state).tasks for state in ("incoming", "claimed"))
        about = (task.id, pr.head)
        return bool(known) and any((t.reviews, t.head) == about for ts in waiting for t in ts)

    def _mark_followed(self, pr: PullRequest) -> None:
        with self._forge.book.locked():
            self._forge.book.write(pr._replace(followed=True))

    def _feedback(self, pr: PullRequest, task: Task, history: Sequence[Entry]) -> list[Feedback]:
        found: list[Feedback] = []
        if self._known.get(pr.id) != _mark(pr):
            try:
                found += self._forge.feedback(pr)
                self._known[pr.id] = _mark(pr)
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
        waiting = (t for state in ("incoming", "claimed") for t in self._store.list(state).tasks)
        if pr.verdict is None and not any((t.reviews, t.pr) == (task.id, pr.id) for t in waiting):
            review.ask_once_more(self._store, self._settings, task, pr, number, now=self._now)

    def _remember(self, prs: Iterable[PullRequest]) -> None:
        """Remember what was heard: the forge is asked for details only after a change."""
        open_ones = {pr.id for pr in prs if pr.state == "open"}
        heard = {key: mark for key, mark in self._known.items() if key in open_ones}
        if heard != self._before:
            files.make_folder(os.path.dirname(self._memory))
            files.write_json(self._memory, heard)


def _mark(pr: PullRequest) -> str:
    checks = ",".join(f"{check.name}={check.state}" for check in pr.checks)
    return f"{pr.head} {pr.updated} {checks}"


def follow(
    layout: Layout, settings: Settings, prs: Iterable[PullRequest], now: float
) -> tuple[list[tuple[str, str, str]], list[OrchestratorError]]:
    """Apply what follows from the pull requests; return the steps, and the faults of the forge."""
    follower = Follower(layout, settings, now)
    return follower.follow(prs), follower.faults
