"""The pages of one thing: a task, an agent, a run, a pull request."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jinja2 import Environment

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.page import diff, run_files, work
from orchestrator.page.commands import Reads

Row = dict[str, Any]
#: Settings of an agent that the page changes; the rest is left to `agents.yaml`.
SETTINGS = (
    *("interval_seconds", "schedule", "model", "effort", "fallback_model", "max_turns"),
    *("budget_usd", "max_runtime_seconds", "stall_seconds"),
)
#: Events of a task that belong to an attempt, with the word for what came of it.
_ENDS = ("done", "requeued", "blocked", "failed", "no_change", "split", "reopened")


class View(NamedTuple):
    """A page of one thing. Its template is `view_<name>.html`."""

    #: The noun in addresses, as in `/tasks/ID`.
    name: str
    title: str
    load: Callable[[Reads, Layout, str], Row]
    #: The parts of the project (`changes.marks`) after whose change it is loaded again.
    shows: tuple[str, ...]


def _task(commands: Reads, layout: Layout, subject: str) -> Row:
    task = commands.read("task show", subject=subject)
    explained = None
    if task["state"] in ("incoming", "blocked", "failed") or task["pr"]:
        explained = _or_none(lambda: commands.read("explain", subject=task["id"]))
    pr = _or_none(lambda: commands.read("pr show", subject=task["pr"])) if task["pr"] else None
    return {
        "task": task,
        "explained": explained,
        "pr": pr,
        "rounds": rounds(task["history"], pr["reviews"] if pr else ()),
    }


def rounds(history: Iterable[Row], reviews: Iterable[Row]) -> list[Row]:
    """Return a task's attempts and reviews in the order of time, to be shown side by side. Pure."""
    attempts: dict[str, Row] = {}
    found: list[Row] = []
    told = set()
    for event in history:
        run = event.get("run")
        if event["event"] == "claimed" and run:
            attempts[run] = {"kind": "attempt", "at": event["at"], "run": run, "ends": []}
            attempts[run]["agent"] = event.get("agent")
            found.append(attempts[run])
        elif event["event"] == "review":
            told.add(event.get("at"))
            found.append({"by": None, "reviewer": None, **event, "kind": "review"})
        elif run in attempts and event["event"] in _ENDS:
            attempts[run]["ends"].append(event)
    found += [
        {"reviewer": None, **each, "kind": "review"} for each in reviews if each["at"] not in told
    ]
    return sorted(found, key=lambda each: each["at"] or "")


def _agent(commands: Reads, layout: Layout, subject: str) -> Row:
    agent = commands.read("agent show", subject=subject)
    return {
        "agent": {**agent, "words": work.words(agent)},
        "settings": {name: agent["settings"].get(name) for name in SETTINGS},
        "explained": commands.read("explain", subject=agent["name"]),
        "runs": commands.read("runs", {"agent": agent["name"]})[::-1],
    }


def _pull_request(commands: Reads, layout: Layout, subject: str) -> Row:
    return {"pr": commands.read("pr show", subject=subject)}


def _run(commands: Reads, layout: Layout, subject: str) -> Row:
    config = load.settings(layout, write_cache=False).config
    return {"run": run_files.facts(layout, config, subject)}


def _or_none(read: Callable[[], Any]) -> Any:
    """Return what a command says; None where it refuses: the rest of the page is still of use."""
    try:
        return read()
    except OrchestratorError:
        return None


VIEWS = {
    view.name: view
    for view in (
        View("tasks", "Task", _task, ("queue", "events", "prs", "agents", "config")),
        View("agents", "Agent", _agent, ("agents", "config", "queue", "events", "tick")),
        View("prs", "Pull request", _pull_request, ("prs", "events")),
        View("runs", "Run", _run, ("agents", "events", "runs")),
    )
}


def diff_html(
    templates: Environment, commands: Reads, layout: Layout, noun: str, subject: str
) -> str:
    """Return the diff of a pull request or of a run as HTML. Raises OrchestratorError."""
    if noun == "runs":
        text, words = run_files.diff(layout, subject), ""
    elif noun == "prs":
        text = commands.read("pr diff", subject=subject)["diff"]
        words = f"orchestrator pr diff {subject}"
    else:
        raise NotFound("diff", noun)
    files, left_out = diff.files(text)
    found = {"files": files, "left_out": left_out, "command": words, "name": subject}
    return templates.get_template("diff.html").render(found)
