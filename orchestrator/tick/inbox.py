"""What waits for a person, derived from the state of tasks, agents and pull requests."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from orchestrator.config.load import Settings
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.git import remotes
from orchestrator.layout import Layout
from orchestrator.model import Entry, Given, PullRequest, Task, iso
from orchestrator.plan import dependencies
from orchestrator.pulls import cuts, states, verdicts
from orchestrator.tasks import parts, stores
from orchestrator.tasks.store import Store
from orchestrator.text.quoting import one_line
from orchestrator.text.words import count
from orchestrator.tick.observe import Observation

#: Faults of the system that only a person can end.
FOR_PEOPLE = ("remote_refuses", "base_gone", "branch_in_the_way")


class Item(NamedTuple):
    """One thing that waits for a person.

    `id` is a task's id, `agent:NAME`, `pr:N` or `fault:CODE`.
    """

    id: str
    #: "question", "approval" or "escalation".
    kind: str
    task: str | None
    run: str | None
    text: str
    #: The time since which it waits, ISO 8601; None when no record has the time.
    since: str | None = None

    @property
    def agent(self) -> str | None:
        """The name of the agent that the item is about."""
        return self.id.removeprefix("agent:") if self.id.startswith("agent:") else None


def items(
    layout: Layout, loaded: Settings, seen: Observation, prs: Iterable[PullRequest] | None = None
) -> list[Item]:
    """Return everything that waits for a person: questions, then approvals, then escalations.

    `prs` are the pull requests, if they are known already.
    """
    store = stores.of_project(layout)
    failed_parts = _failed_parts(store)
    if prs is None:
        prs = states.known(layout, loaded.config) or ()
    found = [
        *_ended(store, failed_parts),
        *_never_ready(store, seen, failed_parts),
        *_cannot_land(layout, loaded, store),
        *_agents(loaded, seen),
        *_faults(seen),
        *_approvals(layout, loaded, store, prs),
    ]
    order = ("question", "approval", "escalation")
    return sorted(found, key=lambda item: order.index(item.kind))


def _ended(store: Store, failed_parts: set[str]) -> Iterator[Item]:
    for task in (*store.list("blocked").tasks, *store.list("failed").tasks):
        last = _last(store, task.id, _deciding)
        if last is None or last.event != task.state or task.id in failed_parts:
            continue
        if parts.waits(task):
            yield from _split(task, parts.recorded(store, task), last)
            continue
        kind, text = "question", task.question or "The agent gave no question."
        if task.state == "failed":
            why = task.error or task.reason or "no reason given"
            text = f"{task.title}: failed after {count(task.attempts, 'attempt')}: {why}"
        if task.state == "failed" or task.reason == "max_rounds":
            kind = "escalation"
        yield Item(task.id, kind, task.id, task.run, text, last.at)


def _split(task: Task, found: list[Task], last: Entry) -> Iterator[Item]:
    """Yield the item of a task that waits for a part which failed or was cancelled."""
    failed = [
        f"part {part.id} ({part.title}) failed: {part.error or part.reason or 'no reason given'}"
        for part in parts.broken(found)
    ]
    if failed:
        text = "; ".join((f"{task.title}: {dependencies.progress(found)}", *failed))
        yield Item(task.id, "escalation", task.id, task.run, text, last.at)


def _failed_parts(store: Store) -> set[str]:
    """Return the failed parts that the items of their split tasks name."""
    waiting = (task for task in store.list("blocked").tasks if parts.waits(task))
    return {part.id for task in waiting for part in parts.broken(parts.recorded(store, task))}


def _never_ready(store: Store, seen: Observation, failed_parts: set[str]) -> Iterator[Item]:
    known = seen.snapshot.dependencies
    for task in seen.snapshot.waiting:
        broken = [
            f"{other}: {known[other].partition(': ')[2]}"
            for other in task.depends_on
            if known.get(other, "").startswith("broken") and other not in failed_parts
        ]
        last = _last(store, task.id, _deciding) if broken else None
        if broken and (last is None or last.event != "dismissed"):
            text = f"{task.title}: cannot start because of {'; '.join(broken)}"
            yield Item(task.id, "escalation", task.id, task.run, text)


def _cannot_land(layout: Layout, loaded: Settings, store: Store) -> Iterator[Item]:
    """Yield the tasks whose work contains commits of a dependency that was closed meanwhile."""
    if loaded.config.dependencies != "delivered":
        return
    known = states.known(layout, loaded.config) or []
    for pr in (pr for pr in known if pr.state == "open" and pr.task):
        try:
            task = store.find(pr.task or "")
            first = cuts.below(store, task, known)
        except OrchestratorError:
            continue
        last = _last(store, task.id, _deciding)
        if first is None or first[1].state == "open" or (last and last.event == "dismissed"):
            continue
        if task.state == "done":
            other, closed = first
            text = (
                f"{task.title}: does not land by itself: it contains commits of {other.id}, whose "
                f"pull request {closed.id} was closed. Merge it with them (orchestrator pr merge "
                f"{pr.id}), or close it (orchestrator pr close {pr.id})."
            )
            yield Item(task.id, "escalation", task.id, task.run, text)


def _agents(loaded: Settings, seen: Observation) -> Iterator[Item]:
    for name in (agent.name for agent in loaded.config.agents):
        state = seen.states.get(name)
        if state is None or not (state.suspended or state.question):
            continue
        kind, text = "question", state.question or ""
        if state.suspended:
            kind, text = "escalation", f"{name} is paused: {state.suspended}"
        yield Item(f"agent:{name}", kind, None, state.last_run, text, iso(state.last_finished))


def _faults(seen: Observation) -> Iterator[Item]:
    """Yield the fault that stops all agents, if it stays until a person changes something."""
    hold = seen.snapshot.hold
    code, _, said = hold.message.partition(": ") if hold else ("", "", "")
    if hold and code in FOR_PEOPLE:
        text = f"{said} ({hold.hint})" if hold.hint else said
        yield Item(f"fault:{code}", "escalation", None, None, text, iso(hold.since))


def _approvals(
    layout: Layout, loaded: Settings, store: Store, prs: Iterable[PullRequest]
) -> Iterator[Item]:
    """Yield the approved pull requests that a person must merge, or to which a person objects."""
    config = loaded.config
    lands = config.review.auto_merge and bool(remotes.url(layout.root, config.remote))
    for pr in prs:
        text = None
        if pr.state == "open" and pr.verdict == verdicts.APPROVED and not lands:
            text = f"approved, {pr.branch} into {pr.base}; merge it?"
        elif pr.state == "open" and pr.verdict == verdicts.CHANGES:
            text = _objected(pr, states.reviews(layout, pr))
        task = _task_of(store, pr) if text else None
        # During its rework, and while it is a draft, nothing waits for a person.
        if text is None or pr.draft or (task and task.state in ("incoming", "claimed")):
            continue
        last = _last(store, pr.task, lambda word: word in ("dismissed", "review", "done"))
        if last and last.event == "dismissed" and last.fields.get("pr") == pr.id:
            continue
        since = last.at if last and last.event == "review" else None
        said = f"{pr.title}: {text} {pr.url or ''}".rstrip()
        yield Item(f"pr:{pr.id}", "approval", pr.task, None, said, since)


def _objected(pr: PullRequest, reviews: list[Given]) -> str | None:
    """Return who objects to a head that an agent approved; None if nobody does."""
    standing = verdicts.objections(reviews)
    agents = [given for given in reviews if given.kind == "agent"]
    if not standing or not agents:
        return None
    newest = sorted(agents, key=lambda given: given.at or "")[-1]
    if newest.verdict != verdicts.APPROVED or newest.commit != pr.head:
        return None
    said = "; ".join(
        f"{given.by} requested changes: {one_line(given.text)}" if given.text else given.by
        for given in standing
    )
    return f"{newest.by} approved it, but {said}. To overrule that: orchestrator pr approve {pr.id}"


def _task_of(store: Store, pr: PullRequest) -> Task | None:
    try:
        return store.find(pr.task) if pr.task is not None else None
    except OrchestratorError:
        return None


def next_step(layout: Layout, item: Item) -> str:
    """Return the command with which a person decides about an item."""
    if item.kind == "approval":
        return f"orchestrator inbox approve {item.id}; or: inbox reject {item.id} 'TEXT'"
    if item.agent:
        return f"orchestrator agent resume {item.agent}"
    if item.task is None:
        return "orchestrator doctor"
    if item.kind == "question":
        return f"orchestrator inbox answer {item.id} 'TEXT'"
    store = stores.of_project(layout)
    try:
        task = store.find(item.id)
    except NotFound:  # another process has moved it
        return f"orchestrator explain {item.id}"
    if parts.waits(task) and (failed := parts.broken(parts.recorded(store, task))):
        ids = " ".join(part.id for part in failed)
        return f"orchestrator task retry {ids}; or: orchestrator inbox dismiss {item.id}"
    first = {
        "blocked": f"inbox answer {item.id} 'TEXT'",
        "incoming": f"task cancel {item.id}",
    }.get(task.state, f"task retry {item.id}")
    if task.reason == "max_rounds" and task.pr is not None:
        first += f"; or: orchestrator pr show {task.pr}, then pr approve, merge or close it"
    return f"orchestrator {first}; or: orchestrator inbox dismiss {item.id}"


def _deciding(word: str) -> bool:
    """Whether an event of a task's history decides if a person is needed."""
    return word not in ("review", "delivered")


def _last(store: Store, task_id: str | None, wanted: Callable[[str], bool]) -> Entry | None:
    """Return the last wanted event of a task; also None if the task cannot be read."""
    try:
        history = store.read(store.find(task_id)).history if task_id else ()
    except OrchestratorError:
        return None
    return next((entry for entry in reversed(history) if wanted(entry.event)), None)
