"""One run as the page shows it: its record, how it was started, and the diff of its commits."""

from __future__ import annotations

import os

from orchestrator.git import call
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.config import Config, ports
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.times import iso
from orchestrator.project import agent_memory, events, run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.system import files
from orchestrator.tasks import stores

Row = dict[str, Any]
#: A run's logs beside its transcript.
LOGS = (
    *(run_record.SETUP_LOG, run_record.CHECKS_LOG),
    *(run_record.STDERR, run_record.SUPERVISOR_LOG),
)
#: What is shown of a run as its record has it, and of the end of its client.
_RECORDED = (
    *("id", "agent", "role", "task", "title"),
    *("attempt", "status", "branch", "base", "commits"),
)
_OF_THE_END = ("exit_code", "signal", "stopped_for")
#: Bytes of the newest events that are read for a run that another host has.
MOST_READ = 32 << 20


def folder(layout: Layout, run_id: str) -> str:
    """Return the folder of a run. Raises NotFound if it does not exist any more."""
    if files.is_plain_name(run_id):
        for name in agent_memory.names(layout):
            path = layout.run(name, run_id)
            if os.path.isdir(path):
                return path
        if (host := _host(layout, run_id)) is not None:
            hint = "open the page there; its outcome and its cost are in the history, here too"
            message = f"run {run_id} is on the host {host}: its transcript and its logs are there"
            raise OrchestratorError(message, hint, code="other_host")
    raise NotFound("run", run_id)


def _host(layout: Layout, run_id: str) -> str | None:
    """Return the other host that has, or had, a run; None if no other host is known to."""
    store = stores.of_project(layout)
    for told in events.read(layout, MOST_READ, run_id, of_all_hosts=True):
        if told.get("run") == run_id and told.get("host") not in (None, store.host):
            return str(told["host"])
    return None


def record(layout: Layout, run_id: str) -> tuple[str, RunRecord]:
    """Return a run's folder and its record. Raises NotFound if one of them is missing."""
    path = folder(layout, run_id)
    found = run_record.read(path)
    if found is None:
        raise NotFound("run", run_id)
    return path, found


def facts(layout: Layout, config: Config, run_id: str) -> Row:
    """Return what the page shows of a run beside its transcript. Raises NotFound."""
    path, found = record(layout, run_id)
    launch = files.read_json(os.path.join(path, run_record.LAUNCH)) or {}
    environment = launch.get("environment")
    return {
        **{name: getattr(found, name) for name in _RECORDED},
        **{name: getattr(found.ended, name, None) for name in _OF_THE_END},
        "is_active": found.status != "finished" and found.is_at_work(),
        "started": iso(found.created),
        "finished": iso(found.finished),
        "seconds": found.seconds(),
        "cost_usd": found.cost(),
        "outcome": found.outcome._asdict() if found.outcome else None,
        "pr": found.steps.pr,
        "ports": ports(config, found.settings),
        "worktree": layout.worktree(found.agent),
        "folder": path,
        # `launch.json` holds no secret.
        "environment": environment if isinstance(environment, dict) else {},
        "command": launch.get("argv") or [],
        "logs": logs(path),
    }


def logs(path: str) -> dict[str, str]:
    """Return the ends of a run's other logs by name, without secrets; no empty one."""
    found = ((name, run_record.tail(path, name)) for name in LOGS)
    return {name: text for name, text in found if text.strip()}


def diff(layout: Layout, run_id: str) -> str:
    """Return what a run's commits changed, as `git diff` shows it. Raises OrchestratorError."""
    _, found = record(layout, run_id)
    start = found.start or found.base_commit
    tip = found.tip or found.branch
    if start is None or tip is None:
        return ""
    # Three dots: the start may have commits of others that the branch does not have yet.
    span = f"{start}...{tip}"
    done = call.run(layout.root, "diff", "--no-ext-diff", "--no-textconv", span, "--")
    if done.code:
        raise OrchestratorError("the run's commits are no longer there", "see its pull request")
    return done.out
