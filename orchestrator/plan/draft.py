"""A plan in progress: the observed facts, and the capacity left after the decided starts."""

from collections.abc import Collection, Iterator, Sequence

from orchestrator.model.annotations import Any
from orchestrator.model.config import Agent, Config
from orchestrator.model.snapshot import Hold, Snapshot
from orchestrator.model.waiting import Kin, Queue, queue_of
from orchestrator.model.work import Task
from orchestrator.plan import alike

#: Runs of other tasks that may be paid for to test one system fault; one more per hour.
MOST_PAID = 3
#: Faults that do not depend on the task, as a push to a branch without a task has shown: no run of
#: another task is paid for to test one of them.
SHOWN = ("remote_refuses",)


class Waiting:
    """Waiting tasks that get the same verdicts: one task, or the tasks that one stands for."""

    def __init__(self, queue: Queue, subject: Any, places: Sequence[float]) -> None:
        #: What the rules judge: a task, or a stand-in for several (`plan.alike`).
        self.subject = subject
        #: Their places in the queue, ascending. The tasks that start leave.
        self.places = places
        self._queue = queue

    def next(self) -> Task:
        """Return the first of the tasks."""
        return self._queue.at(self.places[0])


class Draft:
    """The input of the rules: a snapshot, the configuration, the time, and the remaining capacity.

    `at` is seconds since the epoch. `take` counts a start, so limits hold within one plan, too.
    """

    def __init__(
        self, snapshot: Snapshot, config: Config, now: float, apart: Collection[Kin] = ()
    ) -> None:
        """`apart` are kin of which each task is judged alone."""
        self.snapshot = snapshot
        self.config = config
        self.at = now
        roles = snapshot.roles.values()
        self._opening = {role.takes for role in roles if role.delivers == "pull_request"}
        self.claimed = len(snapshot.claimed)
        #: The number of waiting and claimed tasks, which `max_incoming` limits.
        self.unfinished = len(snapshot.waiting) + self.claimed
        #: Open pull requests and claimed tasks that will open one; None means unknown.
        self.open_prs = snapshot.open_prs
        if self.open_prs is not None:
            self.open_prs += sum(map(self.will_open, snapshot.claimed))
        hold = snapshot.hold
        self._fault = hold if hold and hold.code != "usage_limit" else None
        #: Whether a start may test if a system fault has ended: only one run at a time may do so.
        own = (run for run in snapshot.runs if run.host is None)
        busy = any(run.alive or not run.finished for run in own)
        self.may_probe = snapshot.may_probe and not busy
        #: Agents by the `ROLE` of the tasks that they take, "" if they take no tasks.
        self.takers: dict[str, list[Agent]] = {}
        for agent in config.agents:
            self.takers.setdefault(self.takes(agent), []).append(agent)
        self.queue = queue_of(snapshot.waiting)
        #: All waiting tasks, in the order of their first ones.
        self.waiting = sorted(self._waiting(apart), key=_place)
        #: Waiting tasks that agents may choose from, by `ROLE`, in queue order.
        self.available: dict[str, list[Waiting]] = {}
        #: The name of each started agent with the task that it takes (None: a run without a task).
        self.starts: list[tuple[str, Task | None]] = []
        #: The places in the queue of the tasks among them.
        self.started: list[float] = []

    def _waiting(self, apart: Collection[Kin]) -> Iterator[Waiting]:
        queue, named = self.queue, None
        for kin in queue.kin:
            alone: Collection[float] = kin.places
            if len(alone) > 1 and kin not in apart:
                if named is None:
                    found = map(queue.place_of, alike.named(self.snapshot))
                    named = {place for place in found if place is not None}
                alone = named.intersection(kin.places)
                rest = [p for p in kin.places if p not in alone] if alone else kin.places
                if rest:
                    yield Waiting(queue, alike.Alike(kin), rest)
            for place in alone:
                yield Waiting(queue, queue.at(place), (place,))

    def agents(self) -> list[Agent]:
        """Return the agents in the order in which they may start.

        That is the order of the configuration. During a fault, the agents whose runs met it come
        last: one agent that always meets it must not be the only one that tests it (failures 29).
        """
        met = self._fault.agents if self._fault else ()
        return sorted(self.config.agents, key=lambda agent: _turn(agent.name, met))

    def takes(self, agent: Agent) -> str:
        """Return the `ROLE` of the tasks that an agent takes; "" if it takes no tasks."""
        role = self.snapshot.roles.get(agent.role)
        return (role.takes if role else None) or ""

    def choices(self, agent: Agent) -> list[Waiting]:
        """Return the tasks that an agent may choose from, in queue order.

        During a fault, the tasks whose runs met it come last. They come first once `MOST_PAID` runs
        that met it were paid for: what is left of their work, the delivery, costs nothing.
        """
        found = self.available.get(self.takes(agent), [])
        if self._fault is not None:
            met = self._fault.tasks
            others = len(met) if self._fault.paid >= self._most_paid(self._fault) else -1
            found = sorted(found, key=lambda each: _turn(each.subject.id, met, others))
        wanted = self.snapshot.forced.get(agent.name)
        return found if wanted is None else [each for each in found if each.subject.id == wanted]

    def _most_paid(self, fault: Hold) -> float:
        """Return how many runs may be paid for to test a fault until now."""
        if fault.message.startswith(SHOWN):
            return 0
        return MOST_PAID + max(self.at - fault.since, 0.0) // 3600

    def will_open(self, task: Task) -> bool:
        """Return whether work on a task opens a pull request: its role does, and none is open.

        If the open pull requests are not known, the task's pull request counts as open.
        """
        known = self.snapshot.open_heads
        has_one = task.pr is not None and (known is None or task.pr in known)
        return task.role in self._opening and not has_one

    def take(self, agent: Agent, chosen: Waiting | None) -> Task | None:
        """Count the start of an agent, with the first of some tasks; return this task."""
        task = chosen.next() if chosen else None
        self.starts.append((agent.name, task))
        self.may_probe = False
        if chosen is not None and task is not None:
            self.started.append(chosen.places[0])
            chosen.places = chosen.places[1:]
            left = self.available[task.role]
            left[:] = sorted((each for each in left if each.places), key=_place)
            self.claimed += 1
            if self.open_prs is not None and self.will_open(task):
                self.open_prs += 1
        return task


def _place(tasks: Waiting) -> float:
    return tasks.places[0]


def _turn(name: str, met: tuple[str, ...], others: int = -1) -> int:
    """Return a sort key: of the names that met a fault, the latest comes last.

    `others` is the key of the other names.
    """
    return met.index(name) if name in met else others
