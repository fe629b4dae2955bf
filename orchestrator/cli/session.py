"""What a client's session asks of the plugin: news for its start, and the text of a skill.

Hidden commands: the hook and the skills call them; people have `inbox`, `status` and the skills.
"""

from __future__ import annotations

from argparse import Namespace
from collections import Counter

from orchestrator.cli import context, output
from orchestrator.cli.parser import argument, command
from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.plan.planner import Plan, plan
from orchestrator.plan.stuck import stuck
from orchestrator.project import mark
from orchestrator.text.words import count, span
from orchestrator.tick import problems
from orchestrator.tick.inbox import Item, survey
from orchestrator.tick.observe import Observation

#: Seconds without a tick after which a session is told: by then no schedule can be active.
LONG = 3600.0
#: Problems that are told in other words, or as items of the inbox.
_TOLD_OTHERWISE = {"tick_stale", "agent_suspended"}


@command("_news")
def tell(arguments: Namespace) -> None:
    """Print at most two lines: what waits for a person, and what is wrong. Nothing if all is well.

    The lines become part of a person's conversation, so they contain counts and the product's own
    words only, never a word of a task, an agent or a file.
    """
    layout = context.layout(arguments)
    if context.running_agent() is None and mark.is_initialised(layout):
        loaded, seen = context.look(layout)
        planned = plan(seen.snapshot, loaded.config, seen.now)
        waiting = survey(layout, loaded, seen, planned=planned).items
        for line in (_waiting(waiting), _wrong(layout, loaded, seen, planned)):
            if line:
                output.out(f"Orchestrator: {line}")


def _waiting(found: list[Item]) -> str | None:
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


def _wrong(layout: Layout, loaded: Settings, seen: Observation, planned: Plan) -> str | None:
    now = context.now()
    codes = {problem.code for problem in problems.find_problems(layout, loaded, seen, now)}
    told = sorted(code for code in codes - _TOLD_OTHERWISE if code.isidentifier())
    said = [f"problems: {', '.join(told)}"] if told else []
    held = stuck(planned).values()
    if number := sum(verdict.code != "system_paused" for verdict in held):
        said.append(f"{count(number, 'waiting task')} that no agent can start")
    ticked = problems.last_tick(layout)
    if ticked is None and problems.is_overdue(layout, now):
        said.append("the scheduler has never run, so no agent starts")
    elif ticked is not None and now - ticked > LONG:
        said.append(f"the scheduler has not run for {span(now - ticked)}")
    return f"{'; '.join(said)}; /orchestrator:doctor" if said else None


@command("_skill", argument("name", metavar="NAME", help="the name of the skill"))
def show_skill(arguments: Namespace) -> None:
    """Print a skill as this project's agents get it; outside a project, the shipped skill."""
    from orchestrator.run import prompts

    try:
        own = context.layout(arguments).commands
    except OrchestratorError:
        own = ""
    output.out(prompts.skill(own, arguments.name))
