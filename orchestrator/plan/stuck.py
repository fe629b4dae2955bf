"""Waiting tasks that no agent can start until a person changes something. Pure."""

from collections.abc import Mapping

from orchestrator.plan.dependencies import BROKEN
from orchestrator.plan.planner import Plan
from orchestrator.plan.rule import ONLY_HOST, Verdict

#: The rules whose refusal only a person ends.
_FOR_PEOPLE = ("no_matching_agent", "system_paused", "paused")
#: Rules that wait for a time. Without a time, they refuse until a person changes the configuration
#: or the task.
_TIMED = ("not_due", "not_before")


def stuck(planned: Plan) -> Mapping[str, Verdict]:
    """Return the waiting tasks that no agent can ever start as things are, by their ids.

    The verdict of each says why, and its hint is what a person can do. A task that waits for
    another task that can still finish, a limit or a time is not among them.
    """
    return planned.tasks.refused(is_for_people)


def is_for_people(held: Verdict) -> bool:
    """Whether a refusal lasts until a person changes something."""
    if held.code == "blocked_by_dependency":
        return f"({BROKEN}: " in held.detail
    if held.code == "other_host":
        return held.detail.endswith(ONLY_HOST)  # among several, the other host may run a tick
    return held.code in _FOR_PEOPLE or (held.code in _TIMED and held.until is None)
