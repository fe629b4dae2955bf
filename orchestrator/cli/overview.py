"""The project at one moment: the JSON of `status` (reference 6), and what it was made of."""

from __future__ import annotations

from orchestrator.cli import shown, shown_work
from orchestrator.cli.json_rows import Row
from orchestrator.cli.shown import Looked
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PullRequest
from orchestrator.plan.planner import plan
from orchestrator.project import agent_memory, run_record
from orchestrator.tasks import stores
from orchestrator.tick import observe
from orchestrator.tick.inbox import survey

#: Everything that `status` shows.
SHOWN = (*shown.SHOWN, *shown_work.SHOWN)


class Overview(NamedTuple):
    """The project at one moment."""

    #: What `status --json` shows.
    status: Row
    looked: Looked


def overview(
    layout: Layout, loaded: Settings, now: float, prs: list[PullRequest] | None
) -> Overview:
    """Look at the whole project, and change nothing.

    `prs` are the pull requests; None if the forge cannot be asked.
    """
    seen = observe.observe(layout, loaded, now, prs)
    planned = plan(seen.snapshot, loaded.config, now)
    waiting = survey(layout, loaded, seen, planned=planned)
    blocked = stores.of_project(layout).list("blocked")
    looked = Looked(layout, loaded, seen, planned, waiting, blocked)
    return Overview({each.key: each.value(looked) for each in SHOWN}, looked)


def without_store(layout: Layout, loaded: Settings, error: StoreFault, now: float) -> Row:
    """Return what `status --json` can show while the database with the queue does not answer."""
    running: list[Row] = []
    for name, memory in agent_memory.every(layout).items():
        if memory.run:
            record = run_record.read(layout.run(name, memory.run))
            known = {"run": memory.run, "agent": name, "task": record.task if record else None}
            running.append(known | shown_work.run_here(layout, name, record, memory, now))
    return {
        **{each.key: each.unknown for each in SHOWN},
        "limits": loaded.config.queue_limits._asdict(),
        "running": running,
        "scheduler": shown.scheduler(layout, now),
        "problems": [{"code": error.code, "message": error.message, "hint": error.hint}],
    }
