"""`stop`: end one run or all runs."""

from __future__ import annotations

from orchestrator.cli import context, output
from orchestrator.cli.agent_pause import ended
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.config import change
from orchestrator.project import agent_memory
from orchestrator.tasks import stores
from orchestrator.tick import stop as runs


@command(
    "stop",
    argument("agent", metavar="AGENT", nargs="?", help="the name of the agent"),
    flag("--all", "stop every run, and pause every agent"),
)
def stop(arguments: Namespace) -> None:
    """Stop a run with all its processes, and pause its agent. The run does not count
    as an attempt; its task returns to the queue, where another agent may take it.

    examples:
      orchestrator stop impl-agent-1
      orchestrator stop --all
      orchestrator task cancel TASK-a1b2c3d4     ends the task itself, and its run
    """
    layout = context.changing(arguments)
    given = [] if arguments.agent is None else [arguments.agent]
    names = context.names(arguments, given, "an agent") or agent_memory.names(layout)
    config = context.settings(layout).config
    if given and names[0] not in agent_memory.names(layout):
        context.agent_named(config, names[0])
    # Paused first: the tick that settles the ended run must not start the agent again.
    paused = [agent.name for agent in config.agents if arguments.all or agent.name in names]
    try:
        for name in paused:
            change.pause(layout, name)
    except OSError as error:
        raise runs.end_unpaused(layout, given or None, error) from error
    output.progress("stopping runs; their work is kept ...")
    stopped = runs.end_runs(layout, given or None, "stopped")
    # An agent that was paused before stays paused when a person copies the line below.
    before = {agent.name for agent in config.agents if agent.paused}
    resume = [name for name in paused if name not in before] or paused
    said = [line for each in stopped.items() for line in ended(layout, *each)]
    said = said or ["no run was active"]
    said += [
        f"{run.agent} has the run {run.id} on the host {run.host}: stop it there"
        for run in stores.of_project(layout).elsewhere().runs
        if run.agent in names
    ]
    said.append(f"paused; to resume: orchestrator agent resume {' '.join(resume) or '--all'}")
    output.answer(arguments, {"stopped": stopped, "paused": paused}, *said)
