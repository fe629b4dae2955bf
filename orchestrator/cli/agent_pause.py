"""`agent pause|resume`: the emergency brake, one agent's own pause, and going on after either."""

from __future__ import annotations

import argparse
from typing import Any

from orchestrator.cli import context, output
from orchestrator.cli.parser import command
from orchestrator.config import change, edit, load
from orchestrator.errors import OrchestratorError, UsageError
from orchestrator.layout import Layout
from orchestrator.model import Config
from orchestrator.project import agent_memory
from orchestrator.system import files, locks

#: Seconds to wait for a tick under way before an agent's memory is changed.
TICK_WAIT = 30.0


def register(agents: Any) -> None:
    pause_parser = command(
        agents,
        "pause",
        pause,
        "let agents start no more runs; --all is the emergency brake for the whole system",
        "  orchestrator agent pause impl-agent-1\n"
        "  orchestrator agent pause --all           running ones finish\n"
        "  orchestrator agent pause --all --stop    running ones are ended, no attempt charged",
    )
    pause_parser.add_argument("--stop", action="store_true", help="also end the running ones")
    resume_parser = command(
        agents,
        "resume",
        resume,
        "let agents start runs again",
        "  orchestrator agent resume impl-agent-1\n"
        "  orchestrator agent resume --all          the whole system (start of a new project)",
    )
    for parser in (pause_parser, resume_parser):
        parser.add_argument("names", metavar="NAME", nargs="*")
        parser.add_argument("--all", action="store_true", help="the whole system")
        parser.set_defaults(rest="names")


def _check_names(arguments: argparse.Namespace, verb: str) -> None:
    if bool(arguments.names) == arguments.all:
        message = "name agents, or give --all" + (", not both" if arguments.names else "")
        raise UsageError(message, f"for example: orchestrator agent {verb} --all")


# --- pause -------------------------------------------------------------------------------------


def pause(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    _check_names(arguments, "pause")
    if arguments.all:
        said = _pause_everything(layout)
        undo = "orchestrator agent resume --all"
    else:
        names = list(dict.fromkeys(arguments.names))
        change.apply(layout, lambda text: _set_each(text, names, True), even_if_broken=True)
        said = f"paused: {', '.join(names)}"
        undo = f"orchestrator agent resume {' '.join(names)}"
    stopped: dict[str, str] = {}
    if arguments.stop:
        from orchestrator.cli import run_and_stop

        ending = agent_memory.names(layout) if arguments.all else arguments.names
        stopped = run_and_stop.end_runs(layout, ending, "stopped")
    context.record_event(layout, "paused", agents=arguments.names or "all")
    if arguments.json:
        value = {"paused": "all" if arguments.all else arguments.names, "stopped": stopped}
        output.show_json(value)
        return 0
    output.out(said)
    for name, run in stopped.items():
        output.out(f"  ended {name}'s run {run}; its task is back, no attempt charged")
    if not arguments.stop and _some_run(layout, arguments):
        output.out("  what runs goes on to its end; --stop ends it")
    output.out(f"  undo: {undo}")
    return 0


def _set_each(text: str, names: list[str], value: bool) -> str:
    for name in names:
        text = edit.set_agent(text, name, {"paused": value})
    return text


def _pause_everything(layout: Layout) -> str:
    """Pull the brake; say how far it holds when the configuration cannot be written."""
    if not change.set_paused(layout, None, True):
        good = load.settings(layout, write_cache=False).good
        if good:
            raise OrchestratorError(
                "agents.yaml is laid out in a way that no command can edit",
                "write `paused: true` into it by hand, now; then: orchestrator stop --all",
                code="edit_refused",
            )
        output.err(
            "warning: agents.yaml is broken or missing, so nothing starts; mend it with care:"
        )
        output.err("  write `paused: true` at its top before anything else")
        return "nothing starts while agents.yaml is broken or missing"
    if not load.settings(layout, write_cache=False).good:
        output.err(
            "warning: agents.yaml is broken; it now says `paused: true` for when it is mended"
        )
    return "paused: the whole system; nothing new starts"


def _some_run(layout: Layout, arguments: argparse.Namespace) -> bool:
    names = arguments.names or agent_memory.names(layout)
    return any(agent_memory.read(layout, name).run is not None for name in names)


# --- resume ------------------------------------------------------------------------------------


def resume(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    _check_names(arguments, "resume")
    names = list(dict.fromkeys(arguments.names))

    def changed(text: str) -> str:
        return edit.set_paused(text, False) if arguments.all else _set_each(text, names, False)

    done = change.apply(layout, changed)
    assert done.after is not None
    woken = wake(layout, names or [agent.name for agent in done.after.agents])
    context.record_event(layout, "resumed", agents=arguments.names or "all")
    if arguments.json:
        output.show_json({"resumed": "all" if arguments.all else names, "woken": woken})
        return 0
    what = "the whole system" if arguments.all else ", ".join(names)
    is_changed = bool(done.written or woken)
    output.out(f"{what}: {'goes on' if is_changed else 'was not paused'}")
    for name in woken:
        output.out(f"  {name} had been paused by the scheduler after failures")
    _say_what_still_holds(done.after, names)
    if is_changed:
        verb = "--all" if arguments.all else " ".join(names)
        output.out(f"  undo: orchestrator agent pause {verb}")
    return 0


def _say_what_still_holds(config: Config, names: list[str]) -> None:
    if names and config.paused:
        output.out("  the whole system is still paused: orchestrator agent resume --all")
    still = [agent.name for agent in config.agents if agent.paused] if not names else []
    if still:
        words = " ".join(still)
        output.out(f"  paused each by itself: {words}: orchestrator agent resume {words}")


def wake(layout: Layout, names: list[str]) -> list[str]:
    """End the pause that the scheduler itself gave agents; return those that had one.

    Their memory is only written under the scheduler's lock, so this waits for a tick under way.
    """
    states = {name: agent_memory.read(layout, name) for name in names}
    if not any(state.suspended or state.question for state in states.values()):
        return []
    lock = locks.Lock(layout.scheduler_lock, TICK_WAIT)
    woken = []
    try:
        with lock:
            for name in names:
                state = agent_memory.read(layout, name)
                if state.suspended:
                    woken.append(name)
                if state.suspended or state.question:
                    changed = state._replace(suspended=None, question=None, failures=0)
                    agent_memory.write(layout, name, changed)
            # A tick with nothing to do looks at folders, not at what an agent remembers.
            files.remove(layout.idle_stamp)
    finally:
        lock.close()
    return woken
