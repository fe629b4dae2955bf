"""Tells what happens in a project, from its files alone, in people's words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model import STATES, PullRequest, Task
from orchestrator.project import agent_memory
from orchestrator.pulls import forge
from orchestrator.tasks.store import Store


@dataclass(frozen=True)
class Scene:
    """What can be seen at one moment."""

    #: Since the start.
    seconds: float
    tasks: tuple[Task, ...]
    prs: tuple[PullRequest, ...]
    #: By agent, in the order of the configuration: the run that it is at.
    agents: dict[str, str | None]
    #: Agents that had no run yet, and those whose last one failed, with the reason.
    not_begun: tuple[str, ...]
    failing: dict[str, str | None]
    #: What happened since the scene before, a sentence each.
    news: tuple[str, ...]

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be done."""
        done = all(task.state == "done" for task in self.tasks)
        merged = all(pr.state == "merged" for pr in self.prs)
        unsettled = self.not_begun or self.failing or any(self.agents.values())
        return done and merged and not unsettled


class Story:
    """Looks at one project again and again; each scene tells what is new."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._store = Store(layout)
        config = load.settings(layout, write_cache=False).config
        self._agents = [agent.name for agent in config.agents]
        self._forge = forge.of_project(layout, config)
        self._began = time.monotonic()
        self._offset = 0
        self._titles: dict[str, str] = {}
        self._started: set[str] = set()
        self._prs: dict[str, str] = {}

    def look(self) -> Scene:
        """Return what can be seen now."""
        # A task that moves meanwhile may be seen twice, never not at all: its later state counts.
        tasks = {t.id: t for state in STATES for t in self._store.list(state).tasks}
        prs = tuple(self._forge.list())
        states = {name: agent_memory.read(self._layout, name) for name in self._agents}
        news = [*self._new_tasks(tasks), *self._new_events(tasks), *self._new_ends(prs)]
        return Scene(
            time.monotonic() - self._began,
            tuple(tasks[name] for name in sorted(tasks)),
            prs,
            {name: state.run for name, state in states.items()},
            tuple(name for name, state in states.items() if not state.totals.runs),
            {n: s.last_reason for n, s in states.items() if s.last_outcome == "failed"},
            tuple(news),
        )

    def _new_tasks(self, tasks: dict[str, Task]) -> Iterator[str]:
        for task in tasks.values():
            if task.id not in self._titles:
                self._titles[task.id] = task.title
                if task.reviews is None:
                    after = f", after {', '.join(task.depends_on)}" if task.depends_on else ""
                    by = task.created_by or "somebody"
                    yield f"{by} adds {task.id} ({task.role}{after}): {task.title}"

    def _new_ends(self, prs: Iterable[PullRequest]) -> Iterator[str]:
        for pr in prs:
            if pr.state != "open" and self._prs.get(pr.id) != pr.state:
                self._prs[pr.id] = pr.state
                yield f"pull request {pr.id} is {pr.state}: {pr.title}"

    def _new_events(self, tasks: dict[str, Task]) -> Iterator[str]:
        try:
            with open(self._layout.events, "rb") as file:
                file.seek(self._offset)
                lines = file.read()
        except FileNotFoundError:
            return
        whole = lines[: lines.rfind(b"\n") + 1]
        self._offset += len(whole)
        for event in map(json.loads, whole.splitlines()):
            if event["event"] == "landing":
                yield from self._new_ends(self._forge.list())
            sentence = self._start(event, tasks) if event["event"] == "start" else tell(event)
            if sentence:
                yield sentence

    def _start(self, event: dict[str, Any], tasks: dict[str, Task]) -> str:
        agent, task_id = event.get("agent"), event.get("task")
        if task_id is None:
            return f"{agent} reads the project"
        task = tasks.get(task_id)
        if task is not None and task.reviews is not None:
            return f"{agent} reviews pull request {task.pr}"
        again = " again" if task_id in self._started else ""
        self._started.add(task_id)
        return f"{agent} starts on {task_id}{again}"


def tell(event: dict[str, Any]) -> str | None:
    """Return an event of the project's history as a sentence; None for one that needs none."""
    agent, task, pr = event.get("agent"), event.get("task"), event.get("pr")
    reason = event.get("reason")
    match event["event"], event.get("verdict"):
        case "finish", "done":
            return f"{agent} delivers {task}: checks passed, pushed, pull request {pr}"
        case "finish", "approved":
            return f"{agent} approves pull request {pr}"
        case "finish", "changes_requested":
            return f"{agent} asks for changes in pull request {pr}"
        case "finish", "failed":
            return f"{agent} failed: {gist(reason)}"
        case "finish", _:
            return f"{agent} is done" + (f" with {task}" if task else "")
        case "requeue", _:
            return f"{task} goes back to the queue: {gist(reason)}"
        case "fail" | "block", verdict:
            return f"{task} stops here: {gist(reason or verdict)}"
        case (("added" | "review_wanted"), _):  # told when the task is seen, or its review starts
            return None
        case "landing", _:
            return None if str(reason).startswith("merged ") else f"the scheduler: {reason}"
        case word, _:
            return f"{word}: {', '.join(str(x) for x in (agent, task, pr, reason) if x)}"


def gist(reason: str | None) -> str:
    """Return the word that a reason begins with, and the test that it names."""
    lines = (reason or "no reason given").splitlines()
    telling = next((x for x in lines if x.startswith(("FAIL:", "ERROR:"))), "")
    word, _, rest = lines[0].partition(":")
    return f"{word}: {telling.partition(' (')[0] or rest.strip()}".rstrip(": ")
