"""What a client's session is told at its start: what waits for a person, and what is wrong.

The lines become part of a person's conversation, so they contain counts and the product's own words
only, never a word of a task, an agent or a file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Problem
from orchestrator.plan.planner import Plan
from orchestrator.plan.stuck import stuck
from orchestrator.text.words import count, span
from orchestrator.tick import problems
from orchestrator.tick.inbox import Item, survey
from orchestrator.tick.observe import Observation

#: Seconds without a tick after which a session is told: by then no schedule can be active.
LONG = 3600.0
#: Problems that are told in other words, or as items of the inbox.
_TOLD_OTHERWISE = {"tick_stale", "agent_suspended"}


def text(
    layout: Layout, loaded: Settings, seen: Observation, planned: Plan, found: Iterable[Problem]
) -> str:
    """Return at most two lines; no line if all is well. `found` are the project's problems."""
    waiting = survey(layout, loaded, seen, planned=planned).items
    lines = (_waiting(waiting), _wrong(layout, found, planned, seen.now))
    return "".join(f"Orchestrator: {line}\n" for line in lines if line)


def _waiting(found: list[Item]) -> str:
    kinds = Counter(map(_kind, found)).items()
    told = ", ".join(f"{count(number, noun)} {what}" for (noun, what), number in kinds)
    return told and f"{told}; /orchestrator:inbox"


def _kind(item: Item) -> tuple[str, str]:
    """Return the kind of an item: a noun to count, and what follows the noun."""
    if item.kind == "question":
        return "question", "waiting"
    if item.kind == "approval":
        return "pull request", "to approve"
    if item.id.startswith("fault:"):
        return "system fault", "to fix"
    return ("agent", "paused after failures") if item.agent else ("task", "failed or stuck")


def _wrong(layout: Layout, found: Iterable[Problem], planned: Plan, now: float) -> str:
    said = "; ".join(_faults(layout, found, planned, now))
    return said and f"{said}; /orchestrator:doctor"


def _faults(layout: Layout, found: Iterable[Problem], planned: Plan, now: float) -> Iterator[str]:
    codes = {problem.code for problem in found} - _TOLD_OTHERWISE
    if told := sorted(filter(str.isidentifier, codes)):
        yield f"problems: {', '.join(told)}"
    held = stuck(planned).values()
    if number := sum(verdict.code != "system_paused" for verdict in held):
        yield f"{count(number, 'waiting task')} that no agent can start"
    ticked = problems.last_tick(layout)
    if ticked is None and problems.is_overdue(layout, now):
        yield "the scheduler has never run, so no agent starts"
    elif ticked is not None and now - ticked > LONG:
        yield f"the scheduler has not run for {span(now - ticked)}"
