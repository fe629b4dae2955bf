"""What came of a demonstration: from task files, pull requests, agents' totals and git."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from orchestrator import agentstate, observe, process, settings
from orchestrator.demo.project import TIMEOUT, Place
from orchestrator.demo.story import Scene, gist
from orchestrator.errors import NotFound
from orchestrator.model import Entry, Task
from orchestrator.plan.planner import plan
from orchestrator.store import Store

Row = dict[str, Any]


def summarise(place: Place, scene: Scene, untouched: bool, left: list[str]) -> Row:
    """Return the summary as `demo --json` prints it.

    `untouched` is about the person's checkout; `left` is what `stuck` said.
    """
    rows = [task_row(place, task, scene) for task in scene.tasks]
    layout = place.layout
    totals = [agentstate.read(layout, name).totals for name in agentstate.names(layout)]
    return {
        "ok": scene.settled and untouched,
        "seconds": round(scene.seconds, 1),
        "folder": place.folder,
        "project": place.root,
        "remote": place.remote,
        "checkout_untouched": untouched,
        "tasks": [row for row in rows if row["reviews"] is None],
        "review_tasks": [row for row in rows if row["reviews"] is not None],
        "totals": {
            "tasks": sum(row["reviews"] is None for row in rows),
            "reviews": sum(row["reviews"] is not None for row in rows),
            "done": sum(row["state"] == "done" for row in rows),
            "merged": sum(pr.state == "merged" for pr in scene.prs),
            "runs": sum(t.runs for t in totals),
            "cost_usd": sum(t.cost_usd for t in totals),
        },
        "stuck": left,
    }


def task_row(place: Place, task: Task, scene: Scene) -> Row:
    """Return what became of one task."""
    history: tuple[Entry, ...] = ()
    with contextlib.suppress(NotFound):  # it may move at this very moment
        history = Store(place.layout).read(task).history
    pr = next((pr for pr in scene.prs if pr.id == task.pr), None)
    claims = [entry.fields for entry in history if entry.event == "claimed"]
    setbacks = [_setback(entry) for entry in history]
    return {
        "id": task.id,
        "title": task.title,
        "role": task.role,
        "state": task.state,
        "created_by": task.created_by,
        "depends_on": list(task.depends_on),
        "reviews": task.reviews,
        "attempts": len(claims),
        "review_rounds": sum(entry.event == "review" for entry in history),
        "setbacks": [text for text in setbacks if text],
        "runs": [f"{fields.get('agent')}/runs/{fields.get('run')}" for fields in claims],
        "pr": task.pr,
        "merged_commit": merged_commit(place, pr.head) if pr and pr.state == "merged" else None,
        "path": task.path,
    }


def _setback(entry: Entry) -> str | None:
    """Return what sent a task back, in a line."""
    fields = entry.fields
    if entry.event == "requeued":
        return gist(str(fields.get("error") or fields.get("reason")))
    if entry.event == "review" and fields.get("verdict") == "changes_requested":
        return gist(f"changes_requested: {fields.get('feedback')}")
    return None


def merged_commit(place: Place, head: str) -> str | None:
    """Return the commit that brought `head` into the remote's main branch."""
    argv = ("git", "rev-list", "--reverse", "--first-parent", "--ancestry-path", f"{head}..main")
    done = process.run(argv, cwd=place.remote, environment=place.environment, timeout=TIMEOUT)
    if done.code != 0:
        return None
    following = done.out.split()
    tip = process.run(
        ("git", "rev-list", "--first-parent", "main"),
        cwd=place.remote,
        environment=place.environment,
        timeout=TIMEOUT,
    )
    # A fast-forward made no merge: the head itself is on main's own line.
    return head if head in tip.out.split() else next(iter(following), None)


def stuck(place: Place, scene: Scene) -> list[str]:
    """Return what is not settled and why, a sentence each. Call it while all is still running."""
    now = time.time()
    loaded = settings.load(place.layout, write_cache=False)
    seen = observe.observe(place.layout, loaded, now, list(scene.prs)).snapshot
    waiting = plan(seen, loaded.config, now).tasks
    found = []
    for task in scene.tasks:
        if task.state == "incoming":
            rules = waiting.get(task.id, ())
            why = "; ".join(rule.detail for rule in rules if not rule.ok) or "nothing holds it"
        else:
            why = gist(task.error or task.reason or task.question)
        if task.state != "done":
            found.append(f"{task.id} is in {task.state}: {why}")
    found += [
        f"pull request {pr.id} is {pr.state} ({pr.verdict or 'not reviewed'}): {pr.title}"
        for pr in scene.prs
        if pr.state != "merged"
    ]
    found += [f"{agent} is still at work" for agent, run in scene.agents.items() if run]
    found += [f"{agent} never ran" for agent in scene.not_begun]
    return found + [f"{agent} failed: {gist(reason)}" for agent, reason in scene.failing.items()]
