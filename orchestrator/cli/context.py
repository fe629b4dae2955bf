"""What every command needs: which project, its settings, what is known of it now, and by whom."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.errors import ConfigError, OrchestratorError
from orchestrator.layout import Layout, resources
from orchestrator.project import events, mark
from orchestrator.pulls import states
from orchestrator.tick import observe
from orchestrator.tick.observe import Observation

if TYPE_CHECKING:
    import argparse


def now() -> float:
    """The time, read in one place only."""
    return time.time()


def layout(arguments: argparse.Namespace) -> Layout:
    """Return the project that the command means. Raises OrchestratorError."""
    return layout_at(arguments.project)


def layout_at(where: str | None) -> Layout:
    """Return the project that a folder, or the current one, lies in. Raises OrchestratorError."""
    return mark.find(where or os.getcwd(), dict(os.environ))


def running_agent() -> str | None:
    """Return the agent inside whose run we were called; None for people and schedules."""
    if os.environ.get("ORCHESTRATOR_RUN_ID"):
        return os.environ.get("ORCHESTRATOR_AGENT") or "an agent"
    return None


def refuse_in_run(what: str) -> None:
    """Raise OrchestratorError, saying what is so there, if we were called inside a run."""
    if running_agent() is not None:
        raise OrchestratorError(
            f"inside a run, {what}",
            "report what you need in your result; a person decides",
            code="refused_in_run",
        )


def program() -> str:
    """Return what a person types to call us from any folder: our name, or the launcher's path."""
    import shutil

    launcher = os.path.join(resources(), "bin", "orchestrator")
    if shutil.which("orchestrator") is None and os.path.isfile(launcher):
        import shlex

        return shlex.quote(launcher)
    return "orchestrator"


def changing(arguments: argparse.Namespace) -> Layout:
    """Return the project for a command that changes it: set up here, and not from inside a run.

    Raises OrchestratorError.
    """
    refuse_in_run("agents may read and add tasks, nothing else")
    found = layout(arguments)
    mark.require_initialised(found)
    return found


def reading(arguments: argparse.Namespace) -> Layout:
    """Return the project for a command that only reads. Raises where there is nothing to read."""
    found = layout(arguments)
    if not os.path.isdir(found.home):
        mark.require_initialised(found)
    return found


def to_add(arguments: argparse.Namespace) -> Layout:
    """Return the project for the one change that is open to agents within their runs."""
    found = layout(arguments)
    mark.require_initialised(found)
    return found


def record_event(where: Layout, event: str, **fields: object) -> None:
    """Append a person's decision to the project's events (`events.jsonl`)."""
    events.append(where, now(), event, by=running_agent() or "human", **fields)


def good_settings(where: Layout) -> Settings:
    """Return the settings, for commands that cannot work with broken ones. Raises ConfigError."""
    loaded = load.settings(where, write_cache=False)
    if not loaded.good:
        found = [p for p in loaded.problems if p.code == "config_error"]
        hint = next((p.hint for p in found if p.hint), "correct that, then try again")
        raise ConfigError([p.message for p in found], hint)
    return loaded


def look(where: Layout) -> tuple[Settings, Observation]:
    """Observe the project without changing anything."""
    loaded = load.settings(where, write_cache=False)
    prs = states.counted(where, loaded.config)
    return loaded, observe.observe(where, loaded, now(), prs)
