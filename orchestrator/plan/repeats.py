"""How often a task may end in a way that costs money but no attempt, before a person is asked.

A task's history counts such endings by their kind since a person last decided, or work was
delivered (`Task.uncharged`). Pure functions.
"""

from orchestrator.model.config import Config
from orchestrator.model.snapshot import Outcome
from orchestrator.model.work import Task

#: Runs of one task that were paid for and ended with a system fault, and runs that were
#: interrupted. More than `retry.max_attempts`: a service may be down for an hour, and the work is
#: to resume automatically afterwards (reference 7).
MAX_FAULTS = 10
#: System faults that a task was the first to meet, while the runs of others ended well in
#: between: the next fault is taken for the task's own (failures 29).
MAX_FIRST = 3
#: The codes of faults that are never one task's own: the database fails all tasks alike.
NEVER_OWN = ("store_unreachable",)

#: What happened in the runs, and what a person can do, by kind.
_SAID = {
    "moved": (
        "The run could not deliver, because somebody pushed to the branch of the task meanwhile",
        "Agree who works on the branch; an answer continues the work from the newest commit.",
    ),
    "system_fault": (
        "The run cost money, and ended with a system fault",
        "Find the fault (orchestrator doctor); an answer continues the work.",
    ),
    "first_fault": (
        "The run met a system fault while the runs of other tasks ended well",
        "The fault seems to affect only this task. Find it; an answer continues the work.",
    ),
    "interrupted": (
        "The run was interrupted",
        "Find out what ends the runs (orchestrator logs {task}); an answer continues the work.",
    ),
}


def limit(kind: str, config: Config) -> int:
    """Return how many endings of a kind ask a person. `review` is a review of an old commit."""
    return config.retry.max_attempts if kind in ("moved", "review") else MAX_FAULTS


def is_reached(task: Task, outcome: Outcome, config: Config) -> bool:
    """Return whether a run with this outcome, which is not charged, is to ask a person."""
    kind = _kind(task, outcome)
    if kind == "first_fault":
        return True
    if kind not in _SAID or (kind == "system_fault" and not outcome.cost_usd):
        return False
    return task.uncharged.get(kind, 0) + 1 >= limit(kind, config)


def may_be_own(outcome: Outcome) -> bool:
    """Return whether a run ended with a system fault that could be the task's own."""
    code = (outcome.reason or "").partition(":")[0]
    return outcome.verdict == "system_fault" and code not in NEVER_OWN


def is_own(task: Task, outcome: Outcome) -> bool:
    """Return whether a fault that the task met again and again is taken for the task's own."""
    return _kind(task, outcome) == "first_fault"


def _kind(task: Task, outcome: Outcome) -> str:
    own = task.uncharged.get("first_fault", 0) >= MAX_FIRST
    return "first_fault" if own and may_be_own(outcome) else outcome.verdict


def question(task: Task, outcome: Outcome) -> str:
    """Return what a person is asked after the last of these runs."""
    kind = _kind(task, outcome)
    happened, step = _SAID[kind]
    times = task.uncharged.get(kind, 0) + 1
    told = f"{happened}; number of such runs: {times}. The last reason: {outcome.reason}."
    return f"{told} {step.format(task=task.id)}"


def review_question(pr_id: str, reviews: int, head: str) -> str:
    """Return what a person is asked when somebody pushes to a branch after each of its reviews."""
    return (
        f"Somebody pushed to the branch of pull request {pr_id} after its review; number of "
        f"reviews since the last delivery: {reviews}. Its newest commit {head[:12]} has no review. "
        f"Agree who works on the branch. To approve that commit: orchestrator pr approve {pr_id}. "
        "An answer gives the work back to its author."
    )
