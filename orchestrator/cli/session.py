"""What a client's session asks of the plugin: news for its start, and the text of a skill.

Hidden commands: the hook and the skills call them; people have `inbox`, `status` and the skills.
"""

from __future__ import annotations

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, argument, command
from orchestrator.model.errors import OrchestratorError
from orchestrator.plan.planner import plan
from orchestrator.project import mark
from orchestrator.tick import news, problems


@command("_news")
def tell(arguments: Namespace) -> None:
    """Print at most two lines: what waits for a person, and what is wrong. Nothing if all is well.

    If nothing has changed since the last whole tick, `idle` prints what that tick left, without
    this command.
    """
    layout = context.layout(arguments)
    if context.running_agent() is None and mark.is_initialised(layout):
        loaded, seen = context.look(layout)
        planned = plan(seen.snapshot, loaded.config, seen.now)
        found = problems.find_problems(layout, loaded, seen, seen.now)
        if said := news.text(layout, loaded, seen, planned, found):
            output.out(said.rstrip("\n"))


@command("_skill", argument("name", metavar="NAME", help="the name of the skill"))
def show_skill(arguments: Namespace) -> None:
    """Print a skill as this project's agents get it; outside a project, the shipped skill."""
    from orchestrator.run import prompts

    try:
        own = context.layout(arguments).commands
    except OrchestratorError:
        own = ""
    output.out(prompts.skill(own, arguments.name))
