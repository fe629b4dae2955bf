"""Who moves each open pull request next: collects the facts for `pulls.movers`. Reads only."""

from collections.abc import Collection, Iterable, Mapping

from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.fields import NamedTuple
from orchestrator.model.waiting import touched, with_ids
from orchestrator.model.work import Entry, PullRequest, Task, task_order
from orchestrator.plan.planner import Plan, plan
from orchestrator.plan.rule import Verdict
from orchestrator.plan.stuck import stuck
from orchestrator.pulls import cuts, landing_queue, movers, review, rework, verdicts
from orchestrator.pulls.movers import Facts, Move
from orchestrator.system.later import Later
from orchestrator.tasks import stores
from orchestrator.tasks.store import Listing, Store
from orchestrator.tick.observe import Observation

if TYPE_CHECKING:
    from orchestrator.git import base_branch
else:
    base_branch = Later("git.base_branch")


class Moved(NamedTuple):
    """An open pull request with who moves it next, its task, and what last decided about it."""

    pr: PullRequest
    move: Move
    task: Task | None
    #: The last event of the task after which a person's item about the pull request is new.
    last: Entry | None


class _Project(NamedTuple):
    """What is the same for every pull request."""

    loaded: Settings
    store: Store
    prs: tuple[PullRequest, ...]
    #: The review tasks that are not done, by the id of their pull request.
    reviews: Mapping[str, list[Task]]
    stuck: Mapping[str, Verdict]
    asked: Collection[str]
    lands: bool
    refused: Mapping[str, landing_queue.Refused]
    #: The tasks that waited or were claimed at the look.
    unfinished: Collection[str]


def find(
    layout: Layout,
    loaded: Settings,
    seen: Observation,
    prs: Iterable[PullRequest],
    asked: Collection[str],
    planned: Plan | None = None,
) -> list[Moved]:
    """Return every open pull request with who moves it next.

    `asked` are the ids of the tasks that have an item in the inbox. `planned` is the plan of what
    was observed, if it is known.
    """
    prs = tuple(prs)
    if not any(pr.state == "open" for pr in prs):
        return []
    config, store = loaded.config, stores.of_project(layout)
    listed = (seen.incoming, seen.claimed, store.list("blocked"), store.list("failed"))
    lands = config.review.auto_merge and base_branch.remote_of(layout, config) is not None
    project = _Project(
        loaded,
        store,
        prs,
        _reviews(listed),
        stuck(planned or plan(seen.snapshot, config, seen.now)),
        asked,
        lands,
        landing_queue.Notes(layout).memory.refused if lands else {},
        {
            *with_ids(seen.incoming.tasks, [pr.task for pr in prs]),
            *(task.id for task in seen.claimed.tasks),
        },
    )
    return [_moved(project, pr) for pr in prs if pr.state == "open"]


def _reviews(listed: Iterable[Listing]) -> Mapping[str, list[Task]]:
    """Return the review tasks in these listings, by the id of their pull request."""
    found: dict[str, list[Task]] = {}
    reviews = (task for each in listed for task in touched(each.tasks) if task.reviews)
    for task in sorted(reviews, key=task_order):
        found.setdefault(task.pr or "", []).append(task)
    return found


def _moved(project: _Project, pr: PullRequest) -> Moved:
    found = stores.with_history(project.store, pr.task)
    if found is None:
        return Moved(pr, movers.next_move(Facts(pr, None)), None, None)
    task, history = found
    reviews = project.reviews
    if task.state == "done" and task.id in project.unfinished:
        # It was delivered after the look, and its review was added before that.
        reviews = _reviews(map(project.store.list, ("incoming", "claimed")))
    config, refused = project.loaded.config, project.refused.get(pr.id)
    given = sorted((*verdicts.given(history), *pr.reviews), key=lambda each: each.at or "")
    by_agents = [g for g in given if g.kind == "agent" and g.commit == pr.head]
    if pr.verdict is None and by_agents:
        pr = pr._replace(verdict=by_agents[-1].verdict)  # given after the look
    approves = by_agents and by_agents[-1].verdict == verdicts.APPROVED
    below = cuts.below(project.store, task, project.prs)
    facts = Facts(
        pr,
        task,
        reviews=tuple(_of_head(reviews.get(pr.id, ()), pr)),
        will_review=review.is_missing(project.store, project.loaded, task, pr, history),
        objections=tuple(verdicts.objections(given)),
        answered=rework.is_answered(pr, history),
        approved_by=by_agents[-1].by if approves else None,
        stuck=project.stuck,
        asked=project.asked,
        lands=project.lands,
        first=below[1] if below and below[1].state == "open" else None,
        refused=refused if refused and refused.head == pr.head else None,
        is_paused=config.paused,
    )
    last = next((each for each in reversed(history) if _decides(each, pr)), None)
    return Moved(pr, movers.unless_dismissed(movers.next_move(facts), pr, last), task, last)


def _of_head(reviews: Iterable[Task], pr: PullRequest) -> Iterable[Task]:
    """Return the reviews of the head; a review without a commit may be one."""
    return (task for task in reviews if task.head in (None, pr.head))


def _decides(entry: Entry, pr: PullRequest) -> bool:
    """Whether an item about a pull request is new after this event, or was removed by it."""
    dismissed = entry.event == "dismissed" and entry.fields.get("pr", pr.id) == pr.id
    return dismissed or entry.event in ("review", "done")
