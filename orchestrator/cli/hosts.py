"""`hosts`: the machines that share the queue."""

from __future__ import annotations

from orchestrator import __version__
from orchestrator.cli import context, json_rows, output
from orchestrator.cli.parser import Namespace, argument, command
from orchestrator.config import compare
from orchestrator.database import access, this_host
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.times import iso
from orchestrator.project import mark
from orchestrator.text.words import some, span
from orchestrator.tick import problems

if TYPE_CHECKING:
    from orchestrator.database.session import Session

Row = json_rows.Row
TO_SHARE = "to share it: docs/several-machines.md in the program's folder"
#: Settings that differ from those of this host, and are named.
MOST_NAMED = 3


@command("hosts list")
@command("hosts")
def hosts(arguments: Namespace) -> None:
    """List the machines that share the queue: version, last tick, heartbeat, running agents.

    Ages are measured by the database's clock. A host without a heartbeat for 60 s is dead: the
    other hosts take its tasks back. A host without a schedule has a heartbeat only during its
    ticks and runs. `problems` also names the settings that differ from those of this host.

    examples:
      orchestrator hosts          (or: orchestrator hosts list)
      orchestrator hosts --json | jq '.[] | select(.alive | not) | .name'
      orchestrator hosts remove build-2
    """
    layout = context.reading(arguments)
    session = access.of_project(layout)
    rows = [_alone(layout)] if session is None else _shared(layout)
    cells = [_cells(row) for row in rows]
    headings = ("host", "version", "last tick", "heartbeat", "running", "problems")
    output.listing(arguments, rows, headings, cells, "no host has run a tick yet")
    if session is None and not arguments.json:
        output.out(f"\nThe queue is on this machine only; {TO_SHARE}")


@command("hosts remove", argument("name", metavar="NAME", help="the name of a host that is gone"))
def remove(arguments: Namespace) -> None:
    """Remove from the list a host that will not come back; what it did stays in the history.

    examples:
      orchestrator hosts remove build-2
    """
    session = _session(context.changing(arguments))
    from orchestrator.database import hosts

    hosts.remove(session, arguments.name)
    said = f"removed {arguments.name}; if it ticks again, it is in the list again"
    output.answer(arguments, {"name": arguments.name, "removed": True}, said)


@command("hosts adopt")
def adopt(arguments: Namespace) -> None:
    """Let this clone work with the queue, although its history begins with other commits.

    A queue belongs to one project, which is known by the first commits of its history. Use this
    command if that history was rewritten. Another project needs a schema of its own instead.

    examples:
      orchestrator hosts adopt
    """
    layout = context.changing(arguments)
    session = _session(layout)
    from orchestrator.database import one_project

    project = this_host.note_project(layout)
    one_project.adopt(session, project)
    said = f"the queue in {session.shown} belongs to this project, too"
    output.answer(arguments, {"store": session.shown, "project": [*project]}, said)


def _session(layout: Layout) -> Session:
    """Return the session with the queue that hosts share. Raises OrchestratorError without one."""
    session = access.of_project(layout)
    if session is None:
        raise OrchestratorError("the queue is on this machine only", TO_SHARE, code="wrong_state")
    return session


def _alone(layout: Layout) -> Row:
    loaded, seen = context.look(layout)
    return {
        "name": this_host.read(layout).name,
        "version": __version__,
        "last_tick": iso(problems.last_tick(layout)),
        "heartbeat_age_seconds": None,
        "alive": not problems.is_overdue(layout, context.now()),
        "scheduled": mark.schedule(layout) is not None,
        "running": [
            {"agent": run.agent, "run": run.id, "task": run.task} for run in seen.snapshot.runs
        ],
        "problems": [p.code for p in problems.find_problems(layout, loaded, seen, context.now())],
        "differences": [],
    }


def _shared(layout: Layout) -> list[Row]:
    from orchestrator.database import hosts as known

    session = access.of_project(layout)
    assert session is not None
    leases = known.leases(session)
    mine = compare.digests(context.settings(layout))
    return [
        {
            "name": host.name,
            "version": host.version,
            "last_tick": iso(host.last_tick),
            "heartbeat_age_seconds": None
            if host.heartbeat_age is None
            else max(int(host.heartbeat_age), 0),
            "alive": host.alive,
            "scheduled": host.facts.get("scheduled"),
            "running": [
                {"agent": each.agent, "run": each.run, "task": each.task}
                for each in leases
                if each.host == host.name
            ],
            "problems": host.facts.get("problems") or [],
            # Empty until a host's first tick of this version has ended.
            "differences": compare.differences(mine, host.facts.get("settings") or mine),
        }
        for host in known.every(session)
    ]


def _cells(row: Row) -> tuple[object, ...]:
    age, alive = row["heartbeat_age_seconds"], row["alive"]
    ago = "" if age is None else f"{span(age)} ago"
    silent = "dead" if row["running"] or row["scheduled"] is not False else "none: no schedule"
    heartbeat = ago if alive else silent
    running = ", ".join(f"{r['agent']} ({r['task'] or 'no task'})" for r in row["running"])
    version = row["version"] + ("" if row["version"] == __version__ else f" (here {__version__})")
    found = list(row["problems"])
    if row["differences"]:
        found.append(f"differs from here in {some(row['differences'], MOST_NAMED)}")
    return (row["name"], version, row["last_tick"], heartbeat, running, ", ".join(found))
