"""What the events say about each task: when it was added, how it ended, and what it cost. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from orchestrator.account.ledger import EndedRun
from orchestrator.model.annotations import Any
from orchestrator.model.times import parse_time
from orchestrator.project.event_fold import Damaged

#: Verdicts of reviews: their tasks are not work that somebody asked for.
OF_REVIEWS = ("approved", "changes_requested")
#: The event of a run's start.
START = "start"
#: The verdicts with a `finish` by which a task is done; None: no run finished it. With another
#: verdict, the run no longer had its task: a person moved or cancelled it.
_DONE = (None, "done", "no_change")
#: The fields of `TaskFacts` that are times.
TIMES = ("added", "done", "merged", "failed")


class TaskFacts:
    """What the events say about one task."""

    __slots__ = (*TIMES, "rounds", "is_review", "usd", "known_usd", "ended", "role", "is_over")

    def __init__(
        self,
        added: float | None = None,
        done: float | None = None,
        merged: float | None = None,
        failed: float | None = None,
        rounds: Iterable[str] = (),
        is_review: bool = False,
        usd: float = 0.0,
        known_usd: float | None = 0.0,
        ended: float = 0.0,
        role: str = "",
        is_over: bool = False,
    ) -> None:
        #: Times in epoch seconds; of several, the first `added` and the last of the others.
        self.added, self.done, self.merged, self.failed = added, done, merged, failed
        #: The runs that delivered its pull request: each delivery is a round of review.
        self.rounds = list(rounds)
        self.is_review = is_review
        #: What its runs cost in US dollars; the same of the runs whose role is known, None if a
        #: cost among them is not known.
        self.usd, self.known_usd = usd, known_usd
        #: The end (epoch seconds) and the role of the last run whose role is known, and whether it
        #: ended the task; after other runs, the task is worked on again.
        self.ended, self.role, self.is_over = ended, role, is_over

    def values(self) -> list[Any]:
        """Return values for JSON, from which `again` makes the same facts."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def again(cls, values: list[Any]) -> TaskFacts:
        """Return the facts that have these values. Raises Damaged."""
        try:
            return cls(*values)
        except TypeError:
            raise Damaged from None

    def last(self) -> float | None:
        """Return the latest of its times (epoch seconds); None without a time."""
        told = (self.added, self.done, self.merged, self.failed)
        return max((at for at in told if at is not None), default=None)

    def charge(self, run: EndedRun) -> None:
        """Add what a run cost."""
        told, cost = run.told, run.told.cost_usd
        if told.role:
            known = self.known_usd
            self.known_usd = None if known is None or cost is None else known + cost
            if run.ended >= self.ended:
                self.ended, self.role = run.ended, told.role
                ended = {"event": told.event, "verdict": told.verdict}
                self.is_over = state_after(ended) in ("done", "failed")
        self.usd += cost or 0.0

    def price(self) -> tuple[str, float] | None:
        """Return the role and the cost of a finished task, if that is known of all its runs."""
        if self.known_usd is None or not self.is_over:
            return None
        return self.role, self.known_usd


class Facts:
    """What the events say about tasks. Events are noted in their order."""

    def __init__(
        self,
        told: Iterable[Mapping[str, object]] = (),
        known: Mapping[str, TaskFacts] | None = None,
        earlier: Callable[[str], TaskFacts | None] = lambda task: None,
    ) -> None:
        """Begin with what is known of some tasks; `earlier` knows the other tasks."""
        self.tasks = dict(known or {})
        self._earlier = earlier
        for event in told:
            self.note(event)

    def of(self, task: str) -> TaskFacts:
        """Return what is known of a task, to be changed."""
        known = self.tasks.get(task)
        if known is None:
            known = self.tasks[task] = self._earlier(task) or TaskFacts()
        return known

    def note(self, event: Mapping[str, object]) -> None:
        """Remember what an event says."""
        word, task, at = event.get("event"), event.get("task"), parse_time(str(event.get("at")))
        if word == "review_wanted":
            self.of(str(event.get("review"))).is_review = True
        elif word != START and isinstance(task, str) and at is not None:
            _note(self.of(task), event, str(word), at)

    def times(self, name: str, start: float) -> dict[str, float]:
        """Return the times of one kind since `start` (epoch seconds), without those of reviews."""
        return {
            task: at
            for task, facts in self.tasks.items()
            if (at := getattr(facts, name)) is not None and at >= start and not facts.is_review
        }


def state_after(event: Mapping[str, object]) -> object:
    """Return the state that an event brought its task to; None if the task kept its state."""
    word = event.get("event")
    if word == "finish":
        return "done" if event.get("verdict") in (*_DONE, *OF_REVIEWS) else None
    if word in ("moved", "followed"):
        return event.get("state")
    return {"fail": "failed", "retried": "incoming"}.get(str(word))


def _note(of: TaskFacts, event: Mapping[str, object], word: str, at: float) -> None:
    state = state_after(event)
    if word in ("added", "issue"):
        of.added = at if of.added is None else of.added
    elif word == "merged" or (word == "followed" and event.get("reason") == "merged"):
        of.merged = at
    elif word == "not_merged":
        of.merged = None
    elif word == "finish" and event.get("verdict") in OF_REVIEWS:
        of.is_review = True
    elif state == "done":
        of.failed, of.done = None, at
        run = str(event.get("run"))
        if event.get("pr") and run not in of.rounds:
            of.rounds.append(run)
    elif state == "failed":
        of.failed = at
    elif state == "incoming":
        of.failed = None
