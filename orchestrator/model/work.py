"""Tasks and pull requests."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from collections.abc import Mapping

from orchestrator.model.fields import NamedTuple

STATES = ("incoming", "claimed", "blocked", "done", "failed")
#: States of unfinished tasks.
OPEN_STATES = ("incoming", "claimed", "blocked")
PRIORITIES = ("P0", "P1", "P2", "P3")


class Entry(NamedTuple):
    """One line of a task's history: when, what, and its fields."""

    at: str
    event: str
    fields: Mapping[str, object] = {}


class Task(NamedTuple):
    """A task as the planner and the listings see it: its header, and the sum of its history."""

    id: str
    title: str
    role: str
    state: str
    #: Where the store keeps it, for display: the path of its file.
    where: str
    #: The text as written; anything but P0 to P3 sorts last.
    priority: str = "P2"
    #: The base branch asked for; None is the configured one.
    branch: str | None = None
    #: Seconds since the epoch; None when the header's value cannot be read: sorts last.
    created: float | None = None
    created_by: str | None = None
    depends_on: tuple[str, ...] = ()
    #: Charged attempts since the last time a person reset them.
    attempts: int = 0
    #: US dollars that its runs have cost since then, as far as they are known.
    cost_usd: float = 0.0
    #: Interrupted runs in a row (the second counts as an attempt).
    interruptions: int = 0
    #: Endings that cost money but no attempt, by kind, since a person last decided or work was
    #: delivered (`plan.repeats`).
    uncharged: Mapping[str, int] = {}
    not_before: float | None = None
    #: The delay that led to `not_before`, so that a clock moved back cannot stretch it.
    backoff: float | None = None
    claimed_by: str | None = None
    #: The host of the last claim; None for a queue that one machine has.
    host: str | None = None
    #: Where the claim's run is: "here", "elsewhere" (on another host), or "gone" (that host died).
    claim_at: str = "here"
    #: The run that holds, or last held, the task.
    run: str | None = None
    #: The event with which that run ended, if nothing has happened to the task since.
    ended: str | None = None
    reason: str | None = None
    error: str | None = None
    work_branch: str | None = None
    pr: str | None = None
    #: Whether the history says that this pull request was merged.
    merged: bool = False
    question: str | None = None
    #: The ids of the parts that the task waits for, or waited for: its agent split it.
    parts: tuple[str, ...] = ()
    #: The number of review rounds that requested changes.
    review_rounds: int = 0
    #: The client's conversation to continue.
    session: str | None = None
    #: For a review task: the task under review, and the commit that was handed over.
    reviews: str | None = None
    head: str | None = None
    #: Every field of the header by its key in upper case. A rule of the plan reads its field here.
    header: Mapping[str, str] = {}


def task_order(task: Task) -> tuple[int, float, str]:
    """Sort key: priority, creation, name; an unreadable value sorts last (reference 3)."""
    rank = PRIORITIES.index(task.priority) if task.priority in PRIORITIES else len(PRIORITIES)
    created = task.created if task.created is not None else float("inf")
    return (rank, created, task.id)


class Given(NamedTuple):
    """A review that an agent or a person gave on a pull request."""

    by: str
    #: "agent" or "person".
    kind: str
    #: "approved" or "changes_requested".
    verdict: str
    #: The commit that was reviewed; None when nothing says it.
    commit: str | None = None
    text: str = ""
    #: ISO 8601.
    at: str | None = None
    #: Whether it resolves every objection given before it (`pr approve`).
    settles: bool = False


class RemoteCheck(NamedTuple):
    """A check that the forge ran on a pull request's head."""

    name: str
    #: passed, failed or pending.
    state: str
    url: str | None = None
    required: bool = False


class Feedback(NamedTuple):
    """A fact at a pull request that asks its author for changes."""

    #: The same fact has the same key: it leads to rework once.
    key: str
    text: str
    #: Whether no person said it: a failing check, or a conflict.
    by_machine: bool = False


class PullRequest(NamedTuple):
    """A pull request that the product opened, on either forge."""

    id: str
    task: str | None
    branch: str
    base: str
    #: The commit at the branch's tip when last looked at.
    head: str
    title: str
    #: open, merged or closed.
    state: str
    #: What the reviews of `head` come to: approved, changes_requested or None (reference 9.1).
    verdict: str | None = None
    url: str | None = None
    #: The commit that the verdict was given on.
    reviewed: str | None = None
    #: The reviews that people gave on the forge, oldest first.
    reviews: tuple[Given, ...] = ()
    checks: tuple[RemoteCheck, ...] = ()
    #: Whether the forge could merge it now; None when not known.
    mergeable: bool | None = None
    #: Whether the forge merges it by itself later (a merge queue, or checks that still run).
    queued: bool = False
    #: When the forge last changed it, as the forge writes it.
    updated: str | None = None
    #: Whether its task was told that it is merged or closed.
    followed: bool = False
    #: Whether only a person's word says that it is merged: then its branches stay.
    said: bool = False
    #: Whether the forge shows it as a draft: it is open, but is neither reviewed nor landed.
    draft: bool = False
    #: When the forge was asked for it alone (epoch seconds): its list says too little of it.
    asked: float | None = None
    #: The reviews on the forge whose authors may not write: who, the verdict, when.
    refused: tuple[str, ...] = ()
    #: What the forge said of it when it was last asked for feedback.
    heard: str | None = None

    @property
    def address(self) -> str | None:
        """Its address, if a person can open it; the `url` of a local one is a file, or a row."""
        return self.url if self.url and self.url.startswith(("https://", "http://")) else None
