"""`run`: start one agent now."""

from __future__ import annotations

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.plan import planner
from orchestrator.system import locks
from orchestrator.tasks import stores
from orchestrator.tick.tick import run_tick

#: Seconds to wait for an active tick.
LOCK_WAIT = 30.0


@command(
    "run",
    argument("agent", metavar="AGENT", help="the name of the agent"),
    argument("--task", metavar="ID", help="the task to work on (default: the agent's next task)"),
    flag("--fresh", "start in a new worktree, and set it up again; ignored files are not kept"),
)
def run(arguments: Namespace) -> None:
    """Start a run of an agent now, even if the agent is not due; all other rules apply.

    examples:
      orchestrator run impl-agent-1
      orchestrator run impl-agent-1 --task TASK-a1b2c3d4
      orchestrator run impl-agent-1 --fresh
    """
    layout = context.changing(arguments)
    agent = arguments.agent
    context.agent_named(context.good_settings(layout).config, agent)
    if arguments.task is not None:
        _check_task(layout, arguments.task)
    forced = {agent: arguments.task}
    report = run_tick(
        layout, context.now(), wait_for_lock=LOCK_WAIT, forced=forced, fresh=arguments.fresh
    )
    if report.held:
        raise locks.LockHeld(layout.scheduler_lock)
    own = {action.action: action for action in report.actions if action.agent == agent}
    if started := own.get("start"):
        value = {"agent": agent, "task": started.task, "run": started.run}
        words = " ".join(filter(None, value.values()))
        follow = f"  orchestrator logs {agent} --follow"
        output.answer(arguments, value, f"started {words}", follow)
        return
    reason = own["skip"].reason if "skip" in own else None
    message = f"{agent} was not started: {reason or 'the start failed'}"
    hint = f"see why: orchestrator explain {agent}"
    if reason in ("system_paused", "paused"):
        hint = f"{planner.hint(reason, agent)}; or see why: orchestrator explain {agent}"
    raise OrchestratorError(message, hint, code=reason or "not_started")


def _check_task(layout: Layout, name: str) -> None:
    """Raise OrchestratorError for a task that cannot be claimed."""
    task = stores.of_project(layout).find(name)
    if task.state != "incoming":
        hint = f"orchestrator task retry {task.id}" if task.state in ("failed", "blocked") else None
        raise OrchestratorError(f"task {task.id} is in {task.state}, not in incoming", hint)
