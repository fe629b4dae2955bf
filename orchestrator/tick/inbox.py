"""What waits for a person, derived from the state of tasks, agents and pull requests."""

from collections.abc import Callable, Iterable, Iterator

from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import iso
from orchestrator.model.waiting import touched
from orchestrator.model.work import Entry, PullRequest, Task
from orchestrator.plan import dependencies
from orchestrator.plan.planner import Plan
from orchestrator.project.agent_memory import AgentState
from orchestrator.pulls import cuts, states
from orchestrator.pulls.movers import Move
from orchestrator.tasks import parts, stores
from orchestrator.tasks.store import Store
from orchestrator.text.words import count
from orchestrator.tick import moves
from orchestrator.tick.moves import Moved
from orchestrator.tick.observe import Observation

#: System faults that only a person can end.
FOR_PEOPLE = ("remote_refuses", "base_gone", "branch_in_the_way")


class Item(NamedTuple):
    """One thing that waits for a person.

    `id` is a task's id, `agent:NAME`, `pr:N` or `fault:CODE`; `agent:NAME@HOST` for an agent that
    asked, or was paused, on another host.
    """

    id: str
    #: "question", "approval" or "escalation".
    kind: str
    task: str | None
    run: str | None
    text: str
    #: The time since which it waits, ISO 8601; None when no record has the time.
    since: str | None = None
    #: What a person types to decide, if it does not follow from the fields above.
    step: str | None = None
    #: What the item is about: with another fact, the item of the same id is another item.
    fact: str = ""
    #: The host that has it; None if every host has.
    host: str | None = None

    @property
    def agent(self) -> str | None:
        """The name of the agent that the item is about."""
        name = self.id.removeprefix("agent:").partition("@")[0]
        return name if self.id.startswith("agent:") else None

    @property
    def is_elsewhere(self) -> bool:
        """Whether another host has it."""
        return "@" in self.id

    @property
    def shared_id(self) -> str:
        """The same on every host that shows the item."""
        return f"{self.id.partition('@')[0]}@{self.host}" if self.host else self.id


class Survey(NamedTuple):
    """What waits for a person, and who moves each open pull request next, by its id."""

    #: Questions, then approvals, then escalations.
    items: list[Item]
    moves: dict[str, Move]


def survey(
    layout: Layout,
    loaded: Settings,
    seen: Observation,
    prs: Iterable[PullRequest] | None = None,
    planned: Plan | None = None,
) -> Survey:
    """Return what waits for a person and who moves the pull requests.

    `planned` is the plan of what was observed, if it is known. `prs` are other pull requests than
    those that were observed.
    """
    of_tasks = _of_tasks(layout, loaded, seen)
    asked = {item.task for item in of_tasks if item.task}
    known = pull_requests(layout, loaded, seen) if prs is None else prs
    moved = moves.find(layout, loaded, seen, known, asked, planned)
    found = [*of_tasks, *_agents(loaded, seen), *_faults(seen), *_approvals(moved)]
    order = ("question", "approval", "escalation")
    found.sort(key=lambda item: order.index(item.kind))
    return Survey(found, {each.pr.id: each.move._replace(task=each.pr.task) for each in moved})


def pull_requests(layout: Layout, loaded: Settings, seen: Observation) -> Iterable[PullRequest]:
    """Return the pull requests that were observed; as last known if the forge does not answer."""
    return states.known(layout, loaded.config) or () if seen.prs is None else seen.prs


def _of_tasks(layout: Layout, loaded: Settings, seen: Observation) -> list[Item]:
    store = stores.of_project(layout)
    failed_parts = _failed_parts(store)
    return [
        *_ended(store, failed_parts),
        *_never_ready(store, seen, failed_parts),
        *_cannot_land(layout, loaded, store),
    ]


def _ended(store: Store, failed_parts: set[str]) -> Iterator[Item]:
    with store.ahead("blocked", "failed"):
        tasks = (*store.list("blocked").tasks, *store.list("failed").tasks)
    for task in tasks:
        last = _last(store, task.id, _deciding)
        if last is not None and parts.waits(task):
            yield from _split(store, task, last)
            continue
        if last is None or last.event != task.state or task.id in failed_parts:
            continue
        kind, text = "question", task.question or "The agent gave no question."
        if task.state == "failed":
            why = task.error or task.reason or "no reason given"
            text = f"{task.title}: failed after {count(task.attempts, 'attempt')}: {why}"
        if task.state == "failed" or task.reason == "max_rounds":
            kind = "escalation"
        yield Item(task.id, kind, task.id, task.run, text, last.at)


def _split(store: Store, task: Task, last: Entry) -> Iterator[Item]:
    """Yield the item of a task that waits for a part which failed or was cancelled.

    After the item was dismissed, only a part that failed since then yields it again.
    """
    found = parts.recorded(store, task)
    since = last.at if last.event == "dismissed" else ""
    ends = {part.id: _last(store, part.id, _deciding) for part in parts.broken(found)}
    failed = [
        f"part {part.id} ({part.title}) failed: {part.error or part.reason or 'no reason given'}"
        for part in parts.broken(found)
        if not since or ((end := ends[part.id]) is not None and end.at > since)
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
    for task in touched(seen.snapshot.waiting):
        broken = [
            f"{other}: {known[other].partition(': ')[2]}"
            for other in task.depends_on
            if known.get(other, "").startswith("broken") and other not in failed_parts
        ]
        if broken and not is_dismissed(store, task):
            text = f"{task.title}: cannot start because of {'; '.join(broken)}"
            yield Item(task.id, "escalation", task.id, task.run, text)


def _cannot_land(layout: Layout, loaded: Settings, store: Store) -> Iterator[Item]:
    """Yield the tasks whose work contains commits of a dependency that was closed meanwhile."""
    if loaded.config.dependencies != "delivered":
        return
    known = states.known(layout, loaded.config) or []
    for pr in (pr for pr in known if pr.state == "open" and pr.task):
        try:
            task = store.get(pr.task or "")
            first = cuts.below(store, task, known) if task else None
        except OrchestratorError:
            continue
        if task is None or first is None or first[1].state == "open" or is_dismissed(store, task):
            continue
        if task.state == "done":
            other, closed = first
            text = (
                f"{task.title}: does not land automatically: it contains commits of {other.id}, "
                f"whose pull request {closed.id} was closed. Merge it with them (orchestrator pr "
                f"merge {pr.id}), or close it (orchestrator pr close {pr.id})."
            )
            yield Item(task.id, "escalation", task.id, task.run, text)


def _agents(loaded: Settings, seen: Observation) -> Iterator[Item]:
    for name in (agent.name for agent in loaded.config.agents):
        if state := seen.states.get(name):
            yield from _agent(name, state, seen.snapshot.host, is_elsewhere=False)
        for host, other, memory in seen.others:
            if other == name:
                yield from _agent(name, memory, host, is_elsewhere=True)


def _agent(name: str, state: AgentState, host: str | None, *, is_elsewhere: bool) -> Iterator[Item]:
    """Yield what an agent asks, or why it is paused, on a host."""
    if not (state.suspended or state.question):
        return
    kind, text = "question", state.question or ""
    if state.suspended:
        where = f" on the host {host}" if is_elsewhere else ""
        kind, text = "escalation", f"{name} is paused{where}: {state.suspended}"
    # The agent may ask the same again after each of its runs.
    fact, since = text if kind == "question" else "", iso(state.last_finished)
    item = Item(f"agent:{name}", kind, None, state.last_run, text, since, fact=fact, host=host)
    if is_elsewhere:
        item = item._replace(id=f"{item.id}@{host}")
    yield item


def _faults(seen: Observation) -> Iterator[Item]:
    """Yield the fault that stops all agents, if it stays until a person changes something."""
    hold = seen.snapshot.hold
    code, _, said = hold.message.partition(": ") if hold else ("", "", "")
    if hold and code in FOR_PEOPLE:
        text = f"{said} ({hold.hint})" if hold.hint else said
        host = seen.snapshot.host
        yield Item(f"fault:{code}", "escalation", None, None, text, iso(hold.since), host=host)


def _approvals(moved: Iterable[Moved]) -> Iterator[Item]:
    """Yield the pull requests that only a person moves, unless the item of a task says so."""
    for pr, move, task, last in moved:
        if move.item != f"pr:{pr.id}":
            continue
        said = f"{pr.title}: {move.text}" + (f"\n{pr.address}" if pr.address else "")
        about = task.id if task else None
        since = last.at if last else None
        yield Item(move.item, "approval", about, None, said, since, move.step, move.fact)


def next_step(layout: Layout, item: Item) -> str:
    """Return the command with which a person decides about an item."""
    found = way_on(layout, item)
    if item.kind == "escalation" and item.task:
        found += f"; or: orchestrator inbox dismiss {item.id}"
    return found


def way_on(layout: Layout, item: Item) -> str:
    """Return the command that lets the work of an item go on, also after it was dismissed."""
    if item.step:
        return item.step
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
    # A part whose file is gone cannot be retried.
    failed = [part for part in parts.broken(parts.recorded(store, task)) if part.where]
    if parts.waits(task) and failed:
        return f"orchestrator task retry {' '.join(part.id for part in failed)}"
    first = {
        "blocked": f"inbox answer {item.id} 'TEXT'",
        "incoming": f"task cancel {item.id}",
        "done": f"pr merge {task.pr}; or: orchestrator pr close {task.pr}",
    }.get(task.state, f"task retry {item.id}")
    if task.reason == "max_rounds" and task.pr is not None:
        first += f"; or: orchestrator pr show {task.pr}; or: orchestrator pr approve {task.pr}"
    return f"orchestrator {first}"


def is_dismissed(store: Store, task: Task) -> bool:
    """Whether a person removed the newest item of a task itself from the inbox."""
    last = _last(store, task.id, _deciding)
    return last is not None and last.event == "dismissed" and "pr" not in last.fields


def was_moved(store: Store, task: Task) -> bool:
    """Whether a person moved a task to the state that it is in."""
    last = _last(store, task.id, _deciding)
    return last is not None and last.event == "moved"


def _deciding(word: str) -> bool:
    """Whether an event of a task's history decides if a person is needed."""
    return word not in ("review", "delivered", "updated")


def _last(store: Store, task_id: str | None, wanted: Callable[[str], bool]) -> Entry | None:
    """Return the last wanted event of a task; also None if the task cannot be read."""
    found = stores.with_history(store, task_id)
    history = found[1] if found else ()
    return next((entry for entry in reversed(history) if wanted(entry.event)), None)
