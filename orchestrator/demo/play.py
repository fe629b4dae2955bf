"""Runs ticks, as a schedule does, until every task is merged, and reads the project's events."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from orchestrator.demo import shop
from orchestrator.demo.project import MARK, Project
from orchestrator.model.annotations import Any
from orchestrator.model.errors import OrchestratorError
from orchestrator.project import events

#: Seconds between two ticks, maximum seconds of a demonstration, and seconds in which the last
#: processes must end before they are killed.
PAUSE, LIMIT, LAST_STEPS = 0.3, 120.0, 10.0

Event = dict[str, Any]
#: The sentence for an event and its verdict. Other events are not shown.
_SENTENCES = {
    ("added", None): "{by} adds {task}: {title}",
    ("start", None): "{agent} starts {task}",
    ("finish", "done"): "{agent} delivers {task}: checks passed, pushed, pull request {pr}",
    ("finish", "no_change"): "{agent} finishes {task}",
    ("finish", "failed"): "{agent} fails: {reason}",
    ("finish", "approved"): "{agent} approves pull request {pr}",
    ("finish", "changes_requested"): "{agent} requests changes in pull request {pr}",
    ("requeue", "failed"): "{task} goes back to the queue: {reason}",
    ("fail", "failed"): "{task} failed: {reason}",
    ("landing", None): "the scheduler {reason}",
}


class Play:
    """A demonstration in progress. After `close`, no process is left behind."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._began = time.monotonic()
        self.events: list[Event] = []
        #: Why the last tick failed, if it did.
        self.complaint: str | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def settled(self) -> bool:
        """Whether every task that the agent knows an answer to is merged."""
        return len(merged(self.events)) == len({step.title for step in shop.STEPS})

    def sentences(self) -> Iterator[str]:
        """Run ticks, and yield the events, until every task is merged or the time is up."""
        while not self.settled and self.seconds < LIMIT:
            try:
                self._project.orchestrator("tick")
                self.complaint = None
            except OrchestratorError as error:  # the next tick may succeed
                self.complaint = error.message
            seen = len(self.events)
            lines = events.lines(self._project.layout, 1 << 20)
            self.events = [json.loads(line) for line in lines if line.endswith(b"\n")]
            for sentence in filter(None, map(tell, self.events[seen:])):
                yield f"{self.seconds:6.1f} s  {sentence}"
            time.sleep(PAUSE)

    def close(self) -> None:
        """Stop all runs and pause all agents, as a person would, and wait for all processes."""
        stop = ("--json", "stop", "--all")
        try:
            # A run's own tick may have started one more run after the first stop.
            while not self.settled and json.loads(self._project.orchestrator(*stop))["stopped"]:
                pass
        finally:
            self._end_processes()

    def _end_processes(self) -> None:
        """Wait for the processes of the demonstration; kill any that do not end in time."""
        import psutil

        deadline = time.monotonic() + LAST_STEPS
        while left := [
            one
            for one in psutil.process_iter(["environ"])
            if (one.info["environ"] or {}).get(MARK) == self._project.folder
        ]:
            for one in left if time.monotonic() > deadline else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            time.sleep(0.05)


def tell(event: Event) -> str | None:
    """Return an event as a sentence; None for an event that needs no sentence."""
    sentence = _SENTENCES.get((event["event"], event.get("verdict")))
    # Only the product manager's run has no task.
    known = {"task": "reading the project", **event, "reason": gist(event.get("reason", ""))}
    return sentence and sentence.format_map(known)


def gist(reason: str) -> str:
    """Return the first line of a reason; of failed checks the code and the first failed test."""
    failed = re.search(r"^FAIL: \w+", reason, re.MULTILINE)
    return f"{reason.partition(':')[0]}: {failed[0]}" if failed else reason.partition("\n")[0]


def merged(told: Sequence[Event]) -> dict[str, str]:
    """Return the commits of the merged pull requests, by pull request."""
    found = (re.match(r"merged (\S+) as (\w+)", event.get("reason", "")) for event in told)
    return {match[1]: match[2] for match in found if match}


def rows(told: Sequence[Event]) -> list[dict[str, Any]]:
    """Return the result of each task that a person or the product manager added."""
    titles = dict(re.findall(r"^# \[(.+)\] (.+)$", "\n".join(shop.TASKS.values()), re.MULTILINE))
    titles |= {event["task"]: event["title"] for event in told if event["event"] == "added"}
    commits, found = merged(told), []
    for name, title in titles.items():
        own = [event for event in told if event.get("task") == name]
        count = Counter(event["event"] for event in own)
        newest = {key: value for event in own for key, value in event.items()}
        row = {"id": name, "outcome": newest.get("verdict", "waiting"), "runs": count["start"]}
        row |= {"reviews": count["review_wanted"], "pr": newest.get("pr"), "commit": None}
        if row["pr"] in commits:
            row |= {"outcome": "merged", "commit": commits[row["pr"]]}
        found.append({**row, "title": title})
    return found
