"""What must hold, whatever happened: one function per sentence of section 8 of the reference.

Each function takes what was seen and returns what is wrong, as sentences. They read no file and ask
no process: `seen` does that.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from chaos import odd
from chaos.scripts import BREAKS, SCRIPTED

#: Problems that a person's own deed makes and that a person reads: work goes on.
_NOTICES = ("checkout_changed",)


class Commit(NamedTuple):
    """A commit that somebody made, as it was when it was new."""

    sha: str
    by: str
    #: The blobs that it wrote; None if nobody saw the commit in time.
    blobs: frozenset[str] | None
    #: The commits that it was built on.
    before: frozenset[str] = frozenset()


class Moment(NamedTuple):
    """What was seen at one instant of a storm."""

    #: The ids of the tasks in each state.
    places: dict[str, list[str]]
    #: Every task that was ever there.
    known: frozenset[str]
    #: The largest `max_claimed` that was ever configured.
    most_claimed: int


class End(NamedTuple):
    """What was seen when everything had come to rest."""

    moment: Moment
    #: What the stand-in of the client noted.
    ledger: list[dict[str, Any]]
    #: The events of each task.
    histories: dict[str, list[dict[str, Any]]]
    commits: list[Commit]
    #: Commits that a ref or a worktree reaches, here or at the remote.
    reachable: frozenset[str]
    #: Objects of these commits.
    objects: frozenset[str]
    #: `status`, `inbox` and `pr list`.
    status: dict[str, Any]
    inbox: list[dict[str, Any]]
    prs: list[dict[str, Any]]
    #: The verdicts of `explain` for tasks in `incoming`.
    explained: dict[str, list[str]]
    #: The tasks that tasks depend on.
    depends_on: dict[str, list[str]]
    #: The most pull requests that may be open.
    most_open: int
    #: How often a client or a git was killed.
    fatal_kills: int
    #: Whether the base branch ever had the file that the project's check refuses.
    base_was_broken: bool
    #: Records of all runs.
    runs: list[dict[str, Any]]
    #: Processes, locks, temporary files and worktrees that nobody needs.
    leftovers: list[str]
    #: What was set aside, as paths below `.orchestrator/`.
    set_aside: list[str]
    #: Lines of `git fsck`.
    fsck: list[str]


def each_task_is_in_one_state(seen: Moment) -> list[str]:
    """Reference 8.1."""
    where: dict[str, list[str]] = {}
    for state, tasks in seen.places.items():
        for task in tasks:
            where.setdefault(task, []).append(state)
    wrong = [f"{task} is in {' and '.join(s)}" for task, s in where.items() if len(s) > 1]
    return wrong + [f"{task} is lost" for task in sorted(seen.known - where.keys())]


def no_limit_is_exceeded(seen: Moment) -> list[str]:
    """Reference 8.3."""
    claimed = seen.places.get("claimed", [])
    if len(claimed) <= seen.most_claimed:
        return []
    return [f"{len(claimed)} tasks are claimed, {seen.most_claimed} may be: {claimed}"]


def no_more_pull_requests_are_open_than_may_be(seen: End) -> list[str]:
    """Reference 8.3."""
    count = sum(pr["state"] == "open" for pr in seen.prs)
    return [f"{count} pull requests are open, {seen.most_open} may be"] * (count > seen.most_open)


def no_two_live_clients_share_a_task_or_an_agent(seen: End) -> list[str]:
    """Reference 8.2: each client notes which others are alive when it starts."""
    return [
        f"run {record['run']} began while run of {rival['agent']}, {rival['task']} was alive"
        for record in seen.ledger
        if record["event"] == "rivals"
        for rival in record["rivals"]
        if rival["agent"] == record["agent"]
        or (record["task"] is not None and rival["task"] == record["task"])
    ]


def no_client_was_started_wrongly(seen: End) -> list[str]:
    """The client's own refusals: a conversation that is in use, a wrong option."""
    return [f"refused: {each['why']}" for each in seen.ledger if each["event"] == "refused"]


def no_commit_is_lost(seen: End) -> list[str]:
    """Reference 8.4: reachable, or the contents of each changed file are.

    A squash keeps the contents of the last commit only, so what that was built on is kept, too.
    """
    kept = [commit for commit in seen.commits if _is_kept(commit, seen)]
    built_on = frozenset[str]().union(*(commit.before for commit in kept if commit.blobs))
    return [
        f"commit {commit.sha} of {commit.by} is lost"
        for commit in seen.commits
        if commit not in kept and commit.sha not in built_on
    ]


def _is_kept(commit: Commit, seen: End) -> bool:
    if commit.sha in seen.reachable:
        return True
    return commit.blobs is not None and commit.blobs <= seen.objects


def no_uncommitted_change_is_lost(seen: End) -> list[str]:
    """Reference 8.4: a script that leaves a change prints the name of its blob."""
    return [
        f"the uncommitted change of run {record['run']} is lost: {record['argv']}"
        for record in seen.ledger
        if record["event"] == "call"
        for line in record["out"].splitlines()
        if line.startswith("left ") and line.split()[1] not in seen.objects
    ]


def attempts_are_charged_for_failures_of_the_work_only(seen: End) -> list[str]:
    """Reference 7: every fault is injected, so each charge needs a script that fails.

    The project's check may fail for a task whose script commits what it refuses, and for every task
    once a colleague has merged such work. A second interruption in a row costs an attempt, too, and
    so does an agent that reports `done` when others have merged its work and nothing is left to do.
    """
    found_done = {each["run"] for each in seen.ledger if each["event"] == "found_done"}
    broken = {each["task"] for each in seen.ledger if each.get("message") == BREAKS}
    return [
        f"{task} was charged for run {event.get('run')}: {event.get('error')}"
        for task, events in seen.histories.items()
        for event, interrupted_before in _endings(events)
        if event.get("charged")
        and SCRIPTED not in str(event.get("error"))
        and not (
            "checks_failed" in str(event.get("error")) and (task in broken or seen.base_was_broken)
        )
        and not (event.get("interrupted") and interrupted_before)
        and not (event.get("reason") == "no_commits" and event.get("run") in found_done)
    ]


def a_kill_interrupts_one_run_at_most(seen: End) -> list[str]:
    """Reference 7: the second interruption in a row counts, so no kill may cause two of them."""
    interrupted = [
        f"{task} ({event.get('run')}: {event.get('error')})"
        for task, events in seen.histories.items()
        for event, _ in _endings(events)
        if event.get("verdict") == "interrupted"
    ]
    if len(interrupted) <= seen.fatal_kills:
        return []
    return [f"{seen.fatal_kills} kills interrupted {len(interrupted)} runs: {interrupted}"]


def _endings(events: Iterable[dict[str, Any]]) -> Iterable[tuple[dict[str, Any], bool]]:
    """Yield each end of a run, and whether the run before it was interrupted."""
    before = False
    for event in events:
        if "interrupted" in event:
            yield event, before
            before = bool(event["interrupted"])


def costs_add_up(seen: End) -> list[str]:
    """The sum of `status` is that of the runs."""
    told = seen.status["totals"]["cost_usd"]
    summed = sum(_cost(run) for run in seen.runs)
    if abs(told - summed) < 0.001:
        return []
    return [f"status says {told} USD, the records of the runs say {summed} USD"]


def _cost(run: dict[str, Any]) -> float:
    """Return what a run cost itself: a client may tell what its whole conversation cost."""
    told = float((run.get("outcome") or {}).get("cost_usd") or 0)
    own = told - run.get("resume_cost_usd", 0)
    return own if own >= 0 else told


def every_run_has_ended(seen: End) -> list[str]:
    """A run that is at rest is `finished`; one that was killed before it began has no process."""
    return [
        f"run {run['id']} of {run['agent']} is {run['status']}"
        for run in seen.runs
        if run["status"] != "finished" and (run["status"] != "starting" or run.get("supervisor"))
    ]


def nothing_is_left_behind(seen: End) -> list[str]:
    """Reference 8.6: no process, lock, temporary file or worktree."""
    return [f"left behind: {each}" for each in seen.leftovers]


def only_what_git_cannot_keep_is_set_aside(seen: End) -> list[str]:
    """A person must delete what was set aside, so each needs a script that left something odd."""
    asides = Counter(path.split("/")[1] for path in seen.set_aside)
    odd_ends = Counter(
        record["agent"]
        for record in seen.ledger
        if record["event"] == "calling" and odd.may_set_aside(record["argv"])
    )
    return [
        f"{count} worktrees of {agent} were set aside, {odd_ends[agent]} runs left one for it"
        for agent, count in asides.items()
        if count > odd_ends[agent]
    ]


def the_repository_is_whole(seen: End) -> list[str]:
    """What `git fsck` finds."""
    return [f"git fsck: {line}" for line in seen.fsck]


def no_problem_is_left(seen: End) -> list[str]:
    """Every fault has ended, so no problem may be shown any more."""
    return [
        f"a problem is left: {problem['code']}: {problem['message']}"
        for problem in seen.status["problems"]
        if problem["code"] not in _NOTICES
    ]


def every_open_thing_is_explained(seen: End) -> list[str]:
    """What is not finished is in the inbox, or waits by a rule for something that is."""
    asked = {item["task"] for item in seen.inbox} | {item["id"] for item in seen.inbox}
    wrong = [
        f"{task} is blocked, and not in the inbox"
        for task in seen.moment.places["blocked"]
        if task not in asked and not _was_dismissed(seen, task)
    ]
    wrong += [
        f"{task} failed, and is not in the inbox"
        for task in seen.moment.places["failed"]
        if task not in asked and not _was_dismissed(seen, task)
    ]
    wrong += [
        f"pull request {pr['id']} of {pr['task']} is open, and nobody is asked"
        for pr in seen.prs
        if pr["state"] == "open"
        and not {pr["task"], f"pr:{pr['id']}"} & asked
        # With `dependencies: delivered` it lands after what it was cut from.
        and not _is_open(seen, seen.depends_on.get(pr["task"], ()))
    ]
    full = sum(pr["state"] == "open" for pr in seen.prs) >= seen.most_open
    return wrong + [
        f"{task} waits in incoming: {', '.join(codes) or 'explain says that it starts'}"
        for task, codes in seen.explained.items()
        if task not in asked
        and not ("max_open_prs" in codes and full)
        and not ("blocked_by_dependency" in codes and _is_open(seen, seen.depends_on[task]))
    ]


def _is_open(seen: End, tasks: Iterable[str]) -> bool:
    """Whether one of these tasks is not done, or its pull request is not merged."""
    unmerged = {pr["task"] for pr in seen.prs if pr["state"] != "merged"}
    return any(task not in seen.moment.places["done"] or task in unmerged for task in tasks)


def _was_dismissed(seen: End, task: str) -> bool:
    """Whether a person ended the matter: dismissed, cancelled, moved there."""
    events = [event["event"] for event in seen.histories.get(task, [])]
    return bool(set(events[-2:]) & {"dismissed", "cancelled", "moved"})


#: What is asked of each instant, and of the end.
ALWAYS: tuple[Callable[[Moment], list[str]], ...] = (
    each_task_is_in_one_state,
    no_limit_is_exceeded,
)
AT_REST: tuple[Callable[[End], list[str]], ...] = (
    no_more_pull_requests_are_open_than_may_be,
    no_two_live_clients_share_a_task_or_an_agent,
    no_client_was_started_wrongly,
    no_commit_is_lost,
    no_uncommitted_change_is_lost,
    attempts_are_charged_for_failures_of_the_work_only,
    a_kill_interrupts_one_run_at_most,
    costs_add_up,
    every_run_has_ended,
    nothing_is_left_behind,
    only_what_git_cannot_keep_is_set_aside,
    the_repository_is_whole,
    no_problem_is_left,
    every_open_thing_is_explained,
)


def at_an_instant(seen: Moment) -> list[str]:
    """Return what is wrong at one instant."""
    return [wrong for holds in ALWAYS for wrong in holds(seen)]


def at_the_end(seen: End) -> list[str]:
    """Return what is wrong when everything has come to rest."""
    return at_an_instant(seen.moment) + [wrong for holds in AT_REST for wrong in holds(seen)]


def blob(content: bytes) -> str:
    """Return the name that git gives to a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
