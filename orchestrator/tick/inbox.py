"""What waits for a person, derived from the state of tasks, agents and pull requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError
from orchestrator.git import remotes
from orchestrator.layout import Layout
from orchestrator.model import Entry, PullRequest, Task, iso
from orchestrator.pulls import states
from orchestrator.tasks import store as stores
from orchestrator.tick.observe import Observation


class Item(NamedTuple):
    """One thing that waits for a person. `id` is a task's, or `agent:NAME`, or `pr:N`."""

    id: str
    #: question, approval or escalation.
    kind: str
    task: str | None
    run: str | None
    text: str
    #: Since when, ISO 8601; None when nothing recorded it.
    since: str | None = None


def items(layout: Layout, loaded: Settings, seen: Observation) -> list[Item]:
    """Return everything that waits for a person: questions, then approvals, then the rest."""
    store = stores.of_project(layout)
    found = [
        *_blocked(store),
        *_failed(store),
        *_never_ready(store, seen),
        *_agents(loaded, seen),
        *_approvals(layout, loaded, store),
    ]
    order = ("question", "approval", "escalation")
    return sorted(found, key=lambda item: order.index(item.kind))


def _blocked(store: stores.Store) -> Iterator[Item]:
    for task in store.list("blocked").tasks:
        last = _last_event(store, task)
        if last is None or last.event != "blocked":
            continue
        kind = "escalation" if task.reason == "max_rounds" else "question"
        text = task.question or "It gave no question."
        yield Item(task.id, kind, task.id, task.run, text, last.at)


def _failed(store: stores.Store) -> Iterator[Item]:
    for task in store.list("failed").tasks:
        last = _last_event(store, task)
        if last is None or last.event != "failed":
            continue
        why = task.error or task.reason or "no reason given"
        text = f"{task.title}: failed after {task.attempts} attempts: {why}"
        yield Item(task.id, "escalation", task.id, task.run, text, last.at)


def _never_ready(store: stores.Store, seen: Observation) -> Iterator[Item]:
    verdicts = seen.snapshot.dependencies
    for task in seen.snapshot.waiting:
        broken = [
            f"{other}: {verdicts[other].partition(': ')[2]}"
            for other in task.depends_on
            if verdicts.get(other, "").startswith("broken")
        ]
        last = _last_event(store, task) if broken else None
        if broken and (last is None or last.event != "dismissed"):
            text = f"{task.title}: it waits for what never comes: {'; '.join(broken)}"
            yield Item(task.id, "escalation", task.id, task.run, text)


def _agents(loaded: Settings, seen: Observation) -> Iterator[Item]:
    for agent in loaded.config.agents:
        state = seen.states.get(agent.name)
        if state is None:
            continue
        run, since = state.last_run, iso(state.last_finished)
        if state.suspended:
            text = f"{agent.name} is paused: {state.suspended}"
            yield Item(f"agent:{agent.name}", "escalation", None, run, text, since)
        elif state.question:
            yield Item(f"agent:{agent.name}", "question", None, run, state.question, since)


def _approvals(layout: Layout, loaded: Settings, store: stores.Store) -> Iterator[Item]:
    """Approved pull requests that nothing but a person will merge."""
    config = loaded.config
    known = states.known(layout, config) or []
    waiting = [pr for pr in known if pr.state == "open" and pr.verdict == "approved"]
    if not waiting or (config.review.auto_merge and remotes.url(layout.root, config.remote)):
        return
    for pr in waiting:
        said = _last_word(store, pr)
        if said and said.event == "dismissed" and said.fields.get("pr") == pr.id:
            continue
        text = f"{pr.title}: approved, {pr.branch} into {pr.base}; merge it? {pr.url or ''}"
        since = said.at if said and said.event == "review" else None
        yield Item(f"pr:{pr.id}", "approval", pr.task, None, text.rstrip(), since)


def _last_event(store: stores.Store, task: Task) -> Entry | None:
    """Return the last event of a task's history that decides whether a person is wanted."""
    try:
        history = store.read(task).history
    except OrchestratorError:
        return None
    return next((e for e in reversed(history) if e.event not in ("review", "delivered")), None)


def _last_word(store: stores.Store, pr: PullRequest) -> Entry | None:
    """Return the last thing said of an approved pull request in its task's history."""
    if pr.task is None:
        return None
    try:
        history = store.read(store.find(pr.task)).history
    except OrchestratorError:
        return None
    return next((e for e in reversed(history) if e.event in ("dismissed", "review", "done")), None)
