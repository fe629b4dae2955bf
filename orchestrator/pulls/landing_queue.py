"""The queue of landings: which approved pull requests a landing tries now, in which order.

It also keeps what earlier landings found out, so that no check runs twice on the same commits.
"""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import os
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Entry, PullRequest, Task, task_order
from orchestrator.pulls import cuts, states, verdicts
from orchestrator.pulls.verdicts import SCHEDULER
from orchestrator.system import files, records
from orchestrator.tasks import stores
from orchestrator.text.quoting import one_line

if TYPE_CHECKING:
    from orchestrator.pulls.overlap import Overlap


class Refused(NamedTuple):
    """A merge that could not land: its head, and when it is tried again (epoch seconds)."""

    head: str
    tries: int
    until: float
    message: str


class Memory(NamedTuple):
    """What landings found out, so that no check runs twice on the same commits."""

    #: "BASE HEAD METHOD": the merge of the two, which passed its checks.
    passed: Mapping[str, str] = {}
    #: Commits of base branches on which the checks pass.
    green: tuple[str, ...] = ()
    #: A commit of a base branch on which the checks fail, and what they said.
    red: str | None = None
    said: str = ""
    #: The merges that failed their checks on that commit, "BASE HEAD METHOD".
    failed: tuple[str, ...] = ()
    #: By the id of the pull request.
    refused: Mapping[str, Refused] = {}


class Notes:
    """The memory of landings, which the holder of the landings' lock changes."""

    def __init__(self, layout: Layout) -> None:
        self._path = os.path.join(layout.cache, "landing.json")
        self.memory = records.build(Memory, files.read_json(self._path) or {}) or Memory()

    def change(self, **changes: Any) -> None:
        self.memory = self.memory._replace(**changes)
        files.write_json(self._path, records.plain(self.memory))


def awaited(pr: PullRequest) -> list[str]:
    """Return the names of the required checks of the forge that still run.

    While they run, the forge may take the merge for later (`--auto`); a forge that does not allow
    that refuses it. A conflict shows without waiting for them.
    """
    if pr.mergeable is False:
        return []
    return [check.name for check in pr.checks if check.required and check.state == "pending"]


def _waits_for_checks(pr: PullRequest, refused: Refused | None) -> bool:
    """Whether the forge refused to take the merge of this head before its checks have ended."""
    return bool(awaited(pr)) and refused is not None and refused.head == pr.head


def is_refused(layout: Layout, prs: Iterable[PullRequest]) -> bool:
    """Return whether the last try to merge failed for one of these, with the head it has now.

    A draft, or a pull request whose checks run, waits for something else than the next try.
    """
    refused = Notes(layout).memory.refused
    heads = {pr.id: pr.head for pr in prs if not (pr.draft or awaited(pr))}
    return any(heads.get(pr_id) == each.head for pr_id, each in refused.items())


def candidates(
    layout: Layout, config: Config, prs: Iterable[PullRequest], now: float
) -> list[PullRequest]:
    """Return the approved pull requests that a landing would try now, in their order (9.4).

    A dependency goes first, then the priority and the age of the tasks decide. A pull request
    waits until those of its dependencies have landed, and a merge that was refused for its next
    try, and for the required checks that still run. With `overlap: hold`, the smaller of two that
    change the same lines goes first.
    """
    refused = Notes(layout).memory.refused
    approved = [pr for pr in prs if pr.state == "open" and pr.verdict == "approved"]
    due = [
        pr
        for pr in approved
        if not (pr.queued or pr.draft or _waits_for_checks(pr, refused.get(pr.id)))
        and (pr.id not in refused or _is_due(refused[pr.id], config, now))
    ]
    store = stores.of_project(layout)
    tasks: dict[str, Task] = {}
    for pr in [*due]:
        if (seen := stores.with_history(store, pr.task)) is None:
            continue
        tasks[pr.id], history = seen
        if tasks[pr.id].state != "done" and _is_reworked(pr, history):
            due.remove(pr)
    known = []
    if any(task.depends_on for task in tasks.values()):
        known = states.known(layout, config) or []
    free = [pr for pr in due if pr.id not in tasks or not cuts.below(store, tasks[pr.id], known)]
    order = in_order(free, tasks)
    if config.overlap == "hold" and len(order) > 1:
        from orchestrator.pulls import overlap

        found = overlap.Radar(layout, config).overlaps(order, running=False)
        order = _smaller_first(order, found)
    return order


def _smaller_first(prs: list[PullRequest], overlaps: "Iterable[Overlap]") -> list[PullRequest]:
    """Return pull requests in their order, but of two that overlap the smaller one first."""
    order = list(prs)
    place = {pr.id: pr for pr in order}
    for one, other, _ in overlaps:
        if one.pr not in place or other.pr not in place:
            continue
        small, large = sorted((one, other), key=lambda work: work.changes.lines)
        first, second = place[small.pr or ""], place[large.pr or ""]
        if small.changes.lines < large.changes.lines and order.index(second) < order.index(first):
            order.remove(first)
            order.insert(order.index(second), first)
    return order


def _is_reworked(pr: PullRequest, history: Sequence[Entry]) -> bool:
    """Whether the task was sent back after the newest approval of its pull request.

    A person's approval outranks the scheduler's word that the head conflicts, but landing the same
    head again would only conflict again.
    """
    given = [*verdicts.given(history), *pr.reviews]
    approved = max((g.at or "" for g in given if g.verdict == verdicts.APPROVED), default="")
    back = [e for e in history if e.event in ("reopened", "blocked")]
    back += [e for e in history if e.fields.get("reviewer") == SCHEDULER]
    return approved <= max((entry.at for entry in back), default="")


def _is_due(refused: Refused, config: Config, now: float) -> bool:
    # A time that is farther away than the longest delay was recorded by a clock that was ahead.
    return not now < refused.until <= now + config.retry.max_backoff_seconds


def in_order(prs: list[PullRequest], tasks: Mapping[str, Task]) -> list[PullRequest]:
    """Sort pull requests: dependencies first, then priority, then age. `tasks` is by their ids."""
    by_task = {task.id: task for task in tasks.values()}

    def depth(task: Task, above: frozenset[str] = frozenset()) -> int:
        below = [by_task[other] for other in task.depends_on if other in by_task]
        above = above | {task.id}
        return max((1 + depth(each, above) for each in below if each.id not in above), default=0)

    def key(pr: PullRequest) -> tuple[int, tuple[int, float, str]]:
        task = tasks.get(pr.id)
        return (depth(task), task_order(task)) if task else (0, (99, float(pr.id), pr.id))

    return sorted(prs, key=key)


def refusal(layout: Layout, config: Config, pr: PullRequest) -> OrchestratorError | None:
    """Return why a person's merge of a pull request is refused before any merge is made."""
    return not_ready(pr) or _waits_for_dependency(layout, config, pr) or _is_objected_to(layout, pr)


def not_ready(pr: PullRequest) -> OrchestratorError | None:
    """A pull request that is not open, or a draft, does not land."""
    if pr.state != "open":
        return not_open(pr)
    if pr.draft:
        hint = f"mark it as ready for review, then merge it: {pr.url}"
        return OrchestratorError(f"pull request {pr.id} is a draft", hint, code="draft")
    return None


def not_open(pr: PullRequest) -> OrchestratorError:
    """Return the refusal of what only an open pull request can have."""
    hint = "see: orchestrator pr list"
    return OrchestratorError(f"pull request {pr.id} is {pr.state}", hint, code="not_open")


def _waits_for_dependency(
    layout: Layout, config: Config, pr: PullRequest
) -> OrchestratorError | None:
    store = stores.of_project(layout)
    task = store.get(pr.task or "")
    if task is None:
        return None
    known = states.known(layout, config) if task.depends_on else None
    first = cuts.below(store, task, known or ())
    if first is None or first[1].state != "open":
        return None
    other, its = first
    return OrchestratorError(
        f"{task.id} depends on {other.id}, whose pull request {its.id} is open",
        f"merge that one first: orchestrator pr merge {its.id}",
        code="blocked_by_dependency",
    )


def _is_objected_to(layout: Layout, pr: PullRequest) -> OrchestratorError | None:
    """Requested changes of a person block a merge until they are resolved (reference 9.1)."""
    standing = verdicts.objections(states.reviews(layout, pr))
    if not standing:
        return None
    by = ", ".join(given.by for given in standing)
    return OrchestratorError(
        f"pull request {pr.id} has requested changes of {by}: {one_line(standing[-1].text)}",
        f"to overrule that: orchestrator pr approve {pr.id}; then merge it",
        code="changes_requested",
    )
