"""Add, show and change tasks.

examples:
  orchestrator task add 'Fix the login form'
  orchestrator task list --state incoming
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from orchestrator.cli import context, json_rows, output
from orchestrator.cli.parser import Namespace, argument, command, flag, group
from orchestrator.cli.task_values import task_role
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.config import Config, Role
from orchestrator.model.errors import NotFound, OrchestratorError, UsageError
from orchestrator.model.times import iso, parse_time
from orchestrator.model.work import OPEN_STATES, STATES, Entry, Task
from orchestrator.plan import dependencies
from orchestrator.system import json_codec
from orchestrator.tasks import history, parts, stores
from orchestrator.tasks.store import Listing, Store
from orchestrator.text.words import count

#: Finished tasks that `task list` shows by default.
NEWEST = 100
#: An event's name for people, where it differs from the recorded word.
_EVENTS = {
    "requeued": "put back",
    "blocked": "asks a person",
    "answered": "answered by a person",
    "retried": "put back by a person, attempts counted from 0 again",
    "cancelled": "cancelled by a person",
    "moved": "moved by a person",
    "dismissed": "removed from the inbox by a person",
    "reopened": "put back for changes",
}
#: Fields that are shown with the event's name, each after a word.
_JOINED = {
    "claimed": {"by": "agent"},
    "review": {"by": "reviewer"},
    "moved": {"from": "from", "to": "to"},
}
#: The longer texts of an event, shown at the end of its line.
_TEXTS = ("question", "text", "feedback", "summary")
#: Fields for programs: when a delay ends, a conversation's cost, what a removed item was about, the
#: keys of facts that are told only once, whether nobody else had met a fault.
_HIDDEN = ("not_before", "session_cost_usd", "session_tokens", "fact", "facts", "first")
_NAMES = {"pr": "pull request", "session": "conversation"}

group("task", __doc__)


@command(
    "task list",
    argument("--state", action="append", choices=STATES, help="only this state (repeatable)"),
    flag("--all", "also older finished tasks"),
    argument("--role", help="only tasks with this ROLE"),
    argument("--search", metavar="TEXT", help="only tasks with this text in their title or id"),
    argument("--limit", type=int, metavar="N", help="at most N tasks; finished tasks newest first"),
    argument("--after", metavar="ID", help="with --limit: the tasks that follow this task"),
)
def list_tasks(arguments: Namespace) -> None:
    """List tasks by state; within a state by priority, then age.

    Without --state and --all: the unfinished tasks, and the 100 that finished last.

    examples:
      orchestrator task list --state failed --state blocked
      orchestrator task list --role implement --json
      orchestrator task list --state done --search login --limit 20
    """
    layout = context.reading(arguments)
    loaded = context.settings(layout)
    store = stores.of_project(layout)
    states = [state for state in STATES if state in (arguments.state or STATES)]
    if arguments.limit is not None or arguments.search or arguments.after:
        _show(arguments, loaded.config, _page(arguments, store, states, loaded.roles))
        return
    newest = {} if arguments.state or arguments.all else store.newest(NEWEST)
    listings = [newest.get(state) or _listed(store, state) for state in states]
    tasks = [task for listing in listings for task in listing.tasks]
    if arguments.role is not None:
        tasks = _with_role(tasks, arguments.role, loaded.roles)
    _show(arguments, loaded.config, tasks)
    malformed = (bad for listing in listings for bad in listing.malformed)
    for bad in () if arguments.json else malformed:
        output.err(f"task_malformed: {bad.where}: {bad.reason}")
    if newest and not arguments.json:
        _say_what_is_left_out(store, newest)


def _listed(store: Store, state: str) -> Listing:
    return store.waiting() if state == "incoming" else store.list(state)


def _page(
    arguments: Namespace, store: Store, states: list[str], roles: Mapping[str, Role]
) -> list[Task]:
    """Return one page of the tasks, state by state. Reads no more files than it must."""
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError("--limit takes a number from 1", "for example: --limit 20")
    after = store.find(arguments.after) if arguments.after else None
    if after is not None:
        states = [s for s in states if STATES.index(s) >= STATES.index(after.state)]
    found = (
        task for state in states for task in store.browse(state, arguments.search or "", after)
    )
    if arguments.role is not None:
        role = task_role(arguments.role, roles, force=True)
        found = (task for task in found if task.role == role)
    return list(itertools.islice(found, arguments.limit))


def _show(arguments: Namespace, config: Config, tasks: list[Task]) -> None:
    names = ("id", "state", "priority", "role", "title", "claimed_by", "reason", "pr")
    headings = [name.replace("_", " ") for name in names]
    cells = [[getattr(task, name) for name in names] for task in tasks]
    value = [json_rows.task_row(task, config) for task in tasks]
    output.listing(arguments, value, headings, cells, "no tasks")


def _say_what_is_left_out(store: Store, newest: Mapping[str, Listing]) -> None:
    shown = sum(len(each.tasks) + len(each.malformed) for each in newest.values())
    number = sum(store.counts([s for s in STATES if s not in OPEN_STATES]).values()) - shown
    if number > 0:
        said = f"{count(number, 'older finished task')} not shown"
        output.err(f"{said}; to list all tasks: orchestrator task list --all")


def _with_role(tasks: list[Task], word: str, roles: Mapping[str, Role]) -> list[Task]:
    present = {task.role for task in tasks}
    if word not in present:
        try:
            word = task_role(word, roles, force=False)
        except OrchestratorError as error:
            known = {role.takes for role in roles.values() if role.takes} | present
            raise NotFound("role", word, sorted(known)) from error
    return [task for task in tasks if task.role == word]


@command("task show", argument("id", metavar="ID", help="the id of a task"))
def show_task(arguments: Namespace) -> None:
    """Show a task's text, history and pull request, and the command that shows its diff."""
    layout = context.reading(arguments)
    loaded = context.settings(layout)
    store = stores.of_project(layout)
    task, file = stores.whole(store, arguments.id)
    if arguments.json:
        output.show_json(json_rows.task_with_history(store, task, file, loaded.config))
        return
    output.out(f"{task.id}  {task.title}")
    for name, value in json_rows.task_row(task, loaded.config).items():
        text = ", ".join(value) if isinstance(value, list) else value
        if name not in ("id", "title") and text not in (None, ""):
            label = "failed attempts" if name == "attempts" else name
            output.out(f"  {label + ':':<16} {text}")
    if found := parts.recorded(store, task):
        output.out(f"  {dependencies.progress(found)}:")
        for part in found:
            output.out(f"    {part.id} ({part.state})  {part.title}")
    for line in (*_where_the_work_is(layout, loaded, task), *_next(layout, task)):
        output.out(line)
    if file.body.strip():
        output.out("\n" + file.body.strip("\n"))
    if file.history:
        output.out("\nHistory (UTC)")
    for entry in file.history:
        output.prose(f"  {history_line(entry)}", 4)


def _where_the_work_is(layout: Layout, loaded: Settings, task: Task) -> list[str]:
    """Return lines that link the pull request and say how to see the diff."""
    import shlex

    from orchestrator.git import base_branch
    from orchestrator.pulls import forges

    lines, base, tip = [], task.branch or loaded.config.base_branch, task.work_branch
    if task.pr is not None:
        try:
            name, pr = forges.of_task(layout, loaded.config, task)
            if pr is None or name == task.pr:
                pr = forges.of_project(layout, loaded.config).show(name)
            if pr.task not in (None, task.id, task.reviews):
                raise forges.unrecorded(task)
            # By its commit, which is there even when the branch has been cleaned away.
            base, tip = pr.base, None if pr.state == "merged" else pr.head[:12]
            where = pr.address or f"orchestrator pr show {name}"
            lines.append(f"  pull request: {where} ({pr.state})")
            lines.append(f"  see the diff: orchestrator pr diff {name}")
        except OrchestratorError as error:
            lines.append(f"  pull request: {task.pr} (cannot be looked up: {error.message})")
    if tip and base:
        # The checkout's own base branch may be behind.
        remote = base_branch.remote_of(layout, loaded.config)
        base = f"{remote}/{base}" if remote else base
        words = shlex.join(("git", "diff", f"{base}...{tip}"))
        lines.append(f"  {'or' if task.pr else 'see the diff'}: {words}")
    return lines


def _next(layout: Layout, task: Task) -> list[str]:
    """Return what a task that no agent has waits for, as `explain` says it."""
    from orchestrator.cli import explain
    from orchestrator.plan.planner import plan
    from orchestrator.pulls.movers import of_task
    from orchestrator.tick import inbox

    loaded, seen = context.look(layout, surely=True)
    moves = inbox.survey(layout, loaded, seen).moves
    if task.state not in ("blocked", "failed") and not of_task(moves, task):
        return []
    planned = plan(seen.snapshot, loaded.config, context.now())
    found = explain.explanation(layout, loaded, task.id, planned, moves)
    return [f"  next: {found.verdict}", *([f"    {found.next_step}"] if found.next_step else [])]


def history_line(entry: Entry) -> str:
    """Return an event as one line: its time (UTC), its name, its facts, its texts in full."""
    fields = {name: value for name, value in entry.fields.items() if value not in (None, "")}
    said = _EVENTS.get(entry.event, entry.event.replace("_", " "))
    if entry.event == "blocked" and fields.get("reason") == parts.WAITS:
        said = "waits for its parts"
    for word, name in _JOINED.get(entry.event, {}).items():
        if name in fields:
            said += f" {word} {_plain(fields.pop(name))}"
    reason, error = (_plain(fields.pop(name, "")) for name in ("reason", "error"))
    texts = (history.why(reason, error), *(_plain(fields.pop(name, "")) for name in _TEXTS))
    facts = (_fact(name, value, entry.event) for name, value in fields.items())
    told = "; ".join(filter(None, texts))
    at = iso(parse_time(entry.at))
    time = at[:16].replace("T", " ") if at else entry.at
    return f"{time}  {', '.join(filter(None, (said, *facts)))}{f': {told}' * bool(told)}"


def _fact(name: str, value: Any, event: str) -> str:
    """Return one field in words; an empty text for a field that says nothing more."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "charged":
            return f"{'counts' if value is True else 'does not count'} as an attempt"
        case "interrupted":
            return "interrupted" if value is True else ""
        case "undelivered":
            return "its work is not delivered yet"
        case "delay" if number:
            return f"again after {value:g} s" if value else ""
        case "cost_usd" if number:
            return f"{value:.4f} USD"
        case "head":
            return f"commit {_plain(value)[:12]}"
        case "verdict":
            return _plain(value) if value != event else ""
        case _ if name in _HIDDEN:
            return ""
    return f"{_NAMES.get(name, _plain(name))} {_plain(value)}"


def _plain(value: object) -> str:
    """Return a value on one line; values other than text as JSON."""
    text = value if isinstance(value, str) else json_codec.dumps(value)
    return " ".join(text.split())
