"""What a client's session asks of the plugin: news for its start, and the text of a skill.

Hidden commands: the hook and the skills call them, people have `inbox`, `status` and the skills.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from orchestrator.cli import context, output
from orchestrator.cli.status import span
from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.project import mark
from orchestrator.run import prompts
from orchestrator.tick import problems
from orchestrator.tick.inbox import Item, items
from orchestrator.tick.observe import Observation

#: Seconds without a tick after which a session is told: by then no schedule can be at work.
LONG = 3600.0
#: Problems that are told in other words, or as items of the inbox.
_TOLD_OTHERWISE = {"tick_stale", "agent_suspended"}


def register(commands: Any) -> None:
    news = commands.add_parser("_news", description="lines for the start of a session, if any")
    news.set_defaults(command=tell, parser=news)
    skill = commands.add_parser("_skill", description="the text of one of the agents' skills")
    skill.set_defaults(command=show_skill, parser=skill)
    skill.add_argument("name", metavar="NAME")


def tell(arguments: argparse.Namespace) -> int:
    """Print at most two lines: what waits for a person, and what is wrong. Nothing if all is well.

    They become part of a person's conversation, so they hold counts and our own words only, never
    a word of a task, an agent or a file.
    """
    layout = context.layout(arguments)
    if context.running_agent() is None and mark.is_initialised(layout):
        loaded, seen = context.look(layout)
        for line in (_waiting(items(layout, loaded, seen)), _wrong(layout, loaded, seen)):
            if line:
                output.out(f"Orchestrator: {line}")
    return 0


def _waiting(found: list[Item]) -> str | None:
    count = Counter(map(_kind, found))
    told = [f"{number} {one if number == 1 else many}" for (one, many), number in count.items()]
    return f"{', '.join(told)}; /orchestrator:inbox" if told else None


def _kind(item: Item) -> tuple[str, str]:
    """Return what an item is called, alone and in number."""
    if item.kind == "question":
        return "question waiting", "questions waiting"
    if item.kind == "approval":
        return "pull request to approve", "pull requests to approve"
    if item.id.startswith("agent:"):
        return "agent paused after failures", "agents paused after failures"
    return "task failed or stuck", "tasks failed or stuck"


def _wrong(layout: Layout, loaded: Settings, seen: Observation) -> str | None:
    now = context.now()
    codes = {problem.code for problem in problems.find_problems(layout, loaded, seen, now)}
    told = sorted(code for code in codes - _TOLD_OTHERWISE if code.isidentifier())
    said = [f"problems: {', '.join(told)}"] if told else []
    ticked = problems.last_tick(layout)
    if ticked is None and problems.is_overdue(layout, now):
        said.append("nothing has ever ticked, so no agent starts")
    elif ticked is not None and now - ticked > LONG:
        said.append(f"nothing has ticked for {span(int(now - ticked))}")
    return f"{'; '.join(said)}; /orchestrator:doctor" if said else None


def show_skill(arguments: argparse.Namespace) -> int:
    """Print a skill as an agent of this project is told it; the shipped one outside a project."""
    try:
        own = context.layout(arguments).commands
    except OrchestratorError:
        own = ""
    output.out(prompts.skill(own, arguments.name))
    return 0
