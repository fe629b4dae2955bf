"""What waits for a person, derived from the state of tasks, agents and pull requests."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError
from orchestrator.git import remotes
from orchestrator.layout import Layout
from orchestrator.model import Entry, iso
from orchestrator.pulls import cuts, states
from orchestrator.tasks import stores
from orchestrator.tasks.store import Store
from orchestrator.text.words import count
from orchestrator.tick.observe import Observation


class Item(NamedTuple):
    """One thing that waits for a person. `id` is a task's id, `agent:NAME` or `pr:N`."""

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


def items(layout: Layout, loaded: Settings, seen: Observation) -> list[Item]:
    """Return everything that waits for a person: questions, then approvals, then escalations."""
    store = stores.of_project(layout)
    found = [
        *_ended(store),
        *_never_ready(store, seen),
        *_cannot_land(layout, loaded, store),
        *_agents(loaded, seen),
        *_approvals(layout, loaded, store),
    ]
    order = ("question", "approval", "escalation")
    return sorted(found, key=lambda item: order.index(item.kind))


def _ended(store: Store) -> Iterator[Item]:
    for task in (*store.list("blocked").tasks, *store.list("failed").tasks):
        last = _last(store, task.id, _deciding)
        if last is None or last.event != task.state:
            continue
        kind, text = "question", task.question or "The agent gave no question."
        if task.state == "failed":
            why = task.error or task.reason or "no reason given"
            text = f"{task.title}: failed after {count(task.attempts, 'attempt')}: {why}"
        if task.state == "failed" or task.reason == "max_rounds":
            kind = "escalation"
        yield Item(task.id, kind, task.id, task.run, text, last.at)


def _never_ready(store: Store, seen: Observation) -> Iterator[Item]:
    verdicts = seen.snapshot.dependencies
    for task in seen.snapshot.waiting:
        broken = [
            f"{other}: {verdicts[other].partition(': ')[2]}"
            for other in task.depends_on
            if verdicts.get(other, "").startswith("broken")
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


def _approvals(layout: Layout, loaded: Settings, store: Store) -> Iterator[Item]:
    """Yield the approved pull requests that a person must merge."""
    config = loaded.config
    known = states.known(layout, config) or []
    waiting = [pr for pr in known if pr.state == "open" and pr.verdict == "approved"]
    if not waiting or (config.review.auto_merge and remotes.url(layout.root, config.remote)):
        return
    for pr in waiting:
        last = _last(store, pr.task, lambda word: word in ("dismissed", "review", "done"))
        if last and last.event == "dismissed" and last.fields.get("pr") == pr.id:
            continue
        text = f"{pr.title}: approved, {pr.branch} into {pr.base}; merge it? {pr.url or ''}"
        since = last.at if last and last.event == "review" else None
        yield Item(f"pr:{pr.id}", "approval", pr.task, None, text.rstrip(), since)


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
