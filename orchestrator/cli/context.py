"""What every command needs: the project, its settings, its state, and who calls the command."""

from __future__ import annotations

import os
import time

from orchestrator.cli.parser import Namespace
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.layout import Layout, resources
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Agent, Config
from orchestrator.model.errors import ConfigError, NotFound, OrchestratorError, UsageError
from orchestrator.model.work import Entry, PullRequest
from orchestrator.project import events, mark
from orchestrator.tasks import task_file

if TYPE_CHECKING:
    from orchestrator.tick.observe import Observation


def now() -> float:
    """The time, read in one place only."""
    return time.time()


def layout(arguments: Namespace) -> Layout:
    """Return the project around `--project` or the current folder. Raises OrchestratorError."""
    return mark.find(arguments.project or os.getcwd())


def running_agent() -> str | None:
    """Return the agent whose run calls this command; None for people and schedules."""
    if os.environ.get("ORCHESTRATOR_RUN_ID"):
        return os.environ.get("ORCHESTRATOR_AGENT") or "an agent"
    return None


def refuse_in_run(what: str) -> None:
    """Raise OrchestratorError inside a run; `what` says what is not allowed there."""
    if running_agent() is not None:
        hint = "report what you need in your result; a person decides"
        raise OrchestratorError(f"inside a run, {what}", hint, code="refused_in_run")


def program() -> str:
    """Return the program's name, or the launcher's path if the name is not on PATH."""
    import shutil

    launcher = os.path.join(resources(), "bin", "orchestrator")
    if shutil.which("orchestrator") is None and os.path.isfile(launcher):
        import shlex

        return shlex.quote(launcher)
    return "orchestrator"


def changing(arguments: Namespace) -> Layout:
    """Return the project for a command that changes it.

    Raises OrchestratorError where the project is not set up, and inside a run.
    """
    refuse_in_run("an agent may only run read-only commands and `task add`")
    found = layout(arguments)
    mark.require_initialised(found)
    return found


def reading(arguments: Namespace) -> Layout:
    """Return the project for a command that only reads. Raises OrchestratorError without files."""
    found = layout(arguments)
    if not os.path.isdir(found.home):
        mark.require_initialised(found)
    return found


def names(arguments: Namespace, given: list[str], noun: str) -> list[str]:
    """Return the names that a command got, without repetitions; [] where it got --all instead.

    Raises UsageError for neither and for both.
    """
    if bool(given) == arguments.all:
        both = ", not both" if given else ""
        hint = f"for example: {arguments.prog} --all"
        raise UsageError(f"name {noun}, or give --all{both}", hint)
    return list(dict.fromkeys(given))


def entry(event: str, **fields: object) -> Entry:
    """Return an entry for a task's history, as of now; fields that are None are left out."""
    return task_file.entry(now(), event, **fields)


def record_event(where: Layout, event: str, **fields: object) -> None:
    """Append a decision to the project's events (`events.jsonl`), with its author."""
    events.append(where, now(), event, by=running_agent() or "human", **fields)


def settings(where: Layout) -> Settings:
    """Return the settings: with a broken `agents.yaml`, the last good ones. Writes nothing."""
    return load.settings(where, write_cache=False)


def good_settings(where: Layout) -> Settings:
    """Return the settings. Raises ConfigError if `agents.yaml` is broken."""
    loaded = settings(where)
    if not loaded.good:
        found = [p for p in loaded.problems if p.code == "config_error"]
        hint = next((p.hint for p in found if p.hint), "fix agents.yaml, then try again")
        raise ConfigError([p.message for p in found], hint)
    return loaded


def look(where: Layout, *, surely: bool = False) -> tuple[Settings, Observation]:
    """Observe the project without changing anything; `surely` as `observe.observe`."""
    from orchestrator.pulls import states
    from orchestrator.tick import observe

    loaded = settings(where)
    prs = states.counted(where, loaded.config)
    return loaded, observe.observe(where, loaded, now(), prs, surely=surely)


def pull_requests(where: Layout, config: Config, *, every: bool = False) -> list[PullRequest]:
    """Return the pull requests with their states; `every` as `states.known`.

    Raises OrchestratorError if they are unknown.
    """
    from orchestrator.pulls import states

    found = states.known(where, config, every=every)
    if found is None:
        hint = "see: orchestrator doctor"
        raise OrchestratorError("the forge does not answer", hint, code="open_prs_unknown")
    return found


def agent_named(config: Config, name: str) -> Agent:
    """Return a configured agent. Raises NotFound."""
    for agent in config.agents:
        if agent.name == name:
            return agent
    raise NotFound("agent", name, [agent.name for agent in config.agents])
