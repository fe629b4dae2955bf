"""`agent pause` and `agent resume`: the emergency brake, and one agent's own pause."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.cli import context, output
from orchestrator.cli.parser import NO_TICK, Namespace, argument, command, flag
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.errors import OrchestratorError
from orchestrator.project import run_record, unsettled
from orchestrator.system.later import Later
from orchestrator.tasks import stores

if TYPE_CHECKING:
    from orchestrator.config import change, edit
    from orchestrator.tick import stop
else:
    change = Later("config.change")
    edit = Later("config.edit")
    stop = Later("tick.stop")

NAMES = argument("names", metavar="NAME", nargs="*", help="the name of an agent")


@command(
    "agent pause",
    NAMES,
    flag("--all", "pause all agents: sets `paused: true` at the top level of agents.yaml"),
    flag("--stop", "also stop their active runs; the runs do not count as attempts"),
)
def pause(arguments: Namespace) -> None:
    """Pause agents, so that they start no new runs.

    examples:
      orchestrator agent pause impl-agent-1
      orchestrator agent pause --all --stop     the emergency brake
    """
    layout = context.changing(arguments)
    names = context.names(arguments, arguments.names, "agents")
    try:
        said = [_pause(layout, names)]
    except OSError as error:
        if not arguments.stop:
            raise
        raise stop.end_unpaused(layout, names or None, error) from error
    stopped: dict[str, str] = {}
    if arguments.stop:
        output.progress("stopping runs; their work is kept ...")
        stopped = stop.end_runs(layout, names or None, "stopped")
        said += [f"  {line}" for each in stopped.items() for line in ended(layout, *each)]
    elif {*unsettled.runs(layout)}.intersection(names or unsettled.runs(layout)):
        said.append("  active runs continue to their end; --stop ends them")
    said.append(f"  undo: orchestrator agent resume {' '.join(names) or '--all'}")
    context.record_event(layout, "paused", agents=names or "all")
    output.answer(arguments, {"paused": names or "all", "stopped": stopped}, *said)


def ended(layout: Layout, agent: str, run: str) -> Iterator[str]:
    """Yield the lines on a run that a person ended, and on the task that the run had.

    A run can end by itself before it sees the request: then its task is where its work led.
    """
    record = run_record.read(layout.run(agent, run))
    verdict = record.outcome.verdict if record and record.outcome else "stopped"
    if verdict == "stopped":
        yield f"ended run {run} of {agent}; it does not count as an attempt"
    else:
        yield f"run {run} of {agent} ended before it could be stopped: {verdict}"
    if record is None or record.task is None:
        return
    task = stores.of_project(layout).get(record.task)
    if task is not None and task.state not in ("incoming", "claimed"):
        yield f"  {task.id} is in {task.state}; see: orchestrator task show {task.id}"
        return
    yield f"  {record.task} is in the queue again, for any agent of the role that is not paused"
    yield f"  to end the task itself: orchestrator task cancel {record.task}"


def _set_each(text: str, names: list[str], value: bool) -> str:
    for name in names:
        text = edit.set_agent(text, name, {"paused": value})
    return text


def _pause(layout: Layout, names: list[str]) -> str:
    """Pause the named agents, or without names the project; return what that achieves."""
    if not names:
        return _pause_everything(layout)
    change.apply(layout, lambda text: _set_each(text, names, True), even_if_broken=True)
    return f"paused: {', '.join(names)}"


def _pause_everything(layout: Layout) -> str:
    """Set the top level's `paused`, also in a broken file; return what that achieves."""
    written = change.pause(layout, None)
    good = context.settings(layout).good
    if written and not good:
        output.err("warning: agents.yaml is broken. This command wrote `paused: true` into it;")
        output.err("  the agents stay paused after you fix the file")
    elif good and not written:
        message = "no command can edit agents.yaml, because of its layout"
        hint = "write `paused: true` into it by hand, now; then: orchestrator stop --all"
        raise OrchestratorError(message, hint, code="edit_refused")
    elif not written:
        output.err("warning: agents.yaml is broken or missing, so no run starts.")
        output.err("  To keep the agents paused after the fix, write `paused: true` at its top")
        return "no run starts while agents.yaml is broken or missing"
    return "paused: all agents; no new run starts"


@command(
    "agent resume",
    NAMES,
    flag("--all", "end the pause of the whole project; pauses of single agents stay"),
    NO_TICK,
)
def resume(arguments: Namespace) -> None:
    """Resume paused agents, so that they start runs again.

    examples:
      orchestrator agent resume impl-agent-1
      orchestrator agent resume --all          the whole project (the first step in a new one)
    """
    layout = context.changing(arguments)
    names = context.names(arguments, arguments.names, "agents")
    done = change.apply(
        layout, lambda t: _set_each(t, names, False) if names else edit.set_paused(t, False)
    )
    assert done.after is not None
    wanted = names or [agent.name for agent in done.after.agents]
    woken = stop.wake(layout, wanted)
    elsewhere = stores.of_project(layout).wake(wanted)
    context.record_event(layout, "resumed", agents=names or "all")
    is_changed = bool(done.written or woken or elsewhere)
    said = [f"{'resumed' if is_changed else 'not paused'}: {', '.join(names) or 'the project'}"]
    said += [f"  {name} had been paused by the scheduler after failures" for name in woken]
    said += [f"  {name}: the next tick on the host {host} follows" for name, host in elsewhere]
    if names and done.after.paused:
        said.append("  the whole system is still paused: orchestrator agent resume --all")
    still = " ".join(agent.name for agent in done.after.agents if agent.paused)
    if still and not names:
        said.append(
            "  some agents have a pause of their own, as `stop` and `agent pause NAME` set it"
        )
        said.append(f"  to resume these too: orchestrator agent resume {still}")
    if is_changed:
        said.append(f"  undo: orchestrator agent pause {' '.join(names) or '--all'}")
    woken = [*dict.fromkeys((*woken, *(name for name, _ in elsewhere)))]
    output.answer(arguments, {"resumed": names or "all", "woken": woken}, *said)
