"""`run` and `stop`: start one agent now, end one or all."""

from __future__ import annotations

import argparse
import os
import signal
import time
from typing import Any

from orchestrator.cli import context, output
from orchestrator.cli.parser import command
from orchestrator.config import load
from orchestrator.errors import NotFound, OrchestratorError, UsageError
from orchestrator.layout import Layout
from orchestrator.project import agent_memory, run_record
from orchestrator.tick import observe
from orchestrator.tick.tick import run_tick

#: Seconds that `run` waits for a tick under way, and that `stop` waits for a run's end.
LOCK_WAIT = 30.0
STOP_WAIT = 30.0


def register(commands: Any) -> None:
    parser = command(
        commands,
        "run",
        run,
        "start an agent now, whatever its interval; every other rule still holds",
        "  orchestrator run impl-agent-1\n  orchestrator run impl-agent-1 --task TASK-a1b2c3d4",
    )
    parser.add_argument("agent", metavar="AGENT")
    parser.add_argument("--task", metavar="ID", help="the task it is to take")
    parser = command(
        commands,
        "stop",
        stop,
        "end a run with its whole process group and pause its agent; no attempt is charged",
        "  orchestrator stop impl-agent-1\n  orchestrator stop --all",
    )
    parser.add_argument("agent", metavar="AGENT", nargs="?")
    parser.add_argument("--all", action="store_true", help="every run, and every agent")


def run(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    loaded = context.good_settings(layout)
    known = [agent.name for agent in loaded.config.agents]
    if arguments.agent not in known:
        raise NotFound("agent", arguments.agent, known)
    if arguments.task is not None:
        _check_task(layout, arguments)
    forced = {arguments.agent: arguments.task}
    report = run_tick(
        layout, context.now(), dict(os.environ), wait_for_lock=LOCK_WAIT, forced=forced
    )
    if report.held:
        raise OrchestratorError("another tick is at work", "try again", code="tick_held")
    for action in report.actions:
        if action.agent == arguments.agent and action.action == "start":
            fields = ("agent", "task", "run")
            if arguments.json:
                output.show_json({f: getattr(action, f) for f in fields})
            else:
                words = [str(getattr(action, f)) for f in fields if getattr(action, f)]
                output.out(f"started {' '.join(words)}")
                output.out(f"  orchestrator logs {arguments.agent} --follow")
            return 0
    reason = next(
        (a.reason for a in report.actions if a.agent == arguments.agent and a.action == "skip"),
        None,
    )
    raise OrchestratorError(
        f"{arguments.agent} was not started: {reason or 'it failed to start'}",
        f"orchestrator explain {arguments.agent}",
        code=reason or "not_started",
    )


def _check_task(layout: Layout, arguments: argparse.Namespace) -> None:
    """Refuse a task that cannot be claimed, saying so plainly. Raises OrchestratorError."""
    from orchestrator.tasks import store as stores

    task = stores.of_project(layout).find(arguments.task)
    if task.state != "incoming":
        hint = f"orchestrator task retry {task.id}" if task.state in ("failed", "blocked") else None
        raise OrchestratorError(f"task {task.id} is in {task.state}, not waiting", hint)


def stop(arguments: argparse.Namespace) -> int:
    from orchestrator.cli import agent as agent_command

    layout = context.changing(arguments)
    if (arguments.agent is None) == (not arguments.all):
        raise UsageError("say which agent, or --all", "for example: orchestrator stop --all")
    names = agent_memory.names(layout)
    configured = load.settings(layout, write_cache=False).config.agents
    known = [agent.name for agent in configured]
    if not arguments.all:
        if arguments.agent not in {*known, *names}:
            raise NotFound("agent", arguments.agent, known)
        names = [arguments.agent]
    # Paused first: the tick that settles the ended run must not start the agent again.
    paused = known if arguments.all else [name for name in names if name in known]
    for name in paused:
        agent_command.set_paused(layout, name, True)
    stopped = end_runs(layout, names, "stopped")
    if arguments.json:
        output.show_json({"stopped": stopped, "paused": paused})
        return 0
    for name, run_id in stopped.items():
        output.out(f"stopped {name}: run {run_id}; its task is back, no attempt charged")
    if not stopped:
        output.out("nothing was running")
    # What a person had paused before stays so when the line below is copied.
    before = {agent.name for agent in configured if agent.paused}
    resume = [name for name in paused if name not in before] or paused
    output.out(f"paused; to go on: orchestrator agent resume {' '.join(resume) or '--all'}")
    return 0


def end_run_of(layout: Layout, agent: str, reason: str) -> None:
    """End an agent's run, if it has one, and wait until it is settled. Raises OrchestratorError."""
    end_runs(layout, [agent], reason)


def end_runs(layout: Layout, names: list[str], reason: str) -> dict[str, str]:
    """End the runs of these agents at once; return the ended ones by agent, all settled."""
    running: dict[str, str] = {}
    for name in names:
        run_id = agent_memory.read(layout, name).run
        if run_id is not None:
            running[name] = run_id
            run_record.ask_to_stop(layout.run(name, run_id), reason)
    for name, run_id in running.items():
        _wake(layout, name, run_id)
    _until_settled(layout, dict(running))
    return running


def _wake(layout: Layout, agent: str, run_id: str) -> None:
    """Have a waiting supervisor look at once. In other stages it looks by itself, between steps."""
    record = run_record.read(layout.run(agent, run_id))
    if record is None or record.status != "running" or record.supervisor is None:
        return
    if record.supervisor.is_alive():
        os.kill(record.supervisor.pid, signal.SIGTERM)


def _until_settled(layout: Layout, running: dict[str, str]) -> None:
    deadline = time.monotonic() + STOP_WAIT
    unattended: dict[str, float] = {}
    while running:
        for name, run_id in list(running.items()):
            state = agent_memory.read(layout, name)
            record = run_record.read(layout.run(name, run_id))
            if state.run != run_id:
                del running[name]
            elif record is None or not observe.is_supervised(layout, name, state, record):
                began = unattended.setdefault(name, time.monotonic())
                if time.monotonic() - began > 0.5:
                    # Its own tick did not come, or its supervisor is dead: a tick looks after it.
                    unattended.clear()
                    run_tick(layout, context.now(), dict(os.environ), wait_for_lock=5.0)
        if running and time.monotonic() > deadline:
            raise OrchestratorError(
                f"still ending: {', '.join(running)}", "see: orchestrator status", code="stop_slow"
            )
        time.sleep(0.02)
