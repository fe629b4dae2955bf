"""`task`: its group of commands, and `task list|show`."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from orchestrator.cli import context, json_rows, output, task_add, task_change, task_history
from orchestrator.cli.parser import command, group
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import STATES, Role, Task
from orchestrator.pulls import forges
from orchestrator.tasks import store as stores


def register(commands: Any) -> None:
    tasks = group(
        commands,
        "task",
        "add, look at and move tasks",
        "  orchestrator task add --title 'Fix the login form' --role implement\n"
        "  orchestrator task list --state incoming\n"
        "  orchestrator task show TASK-a1b2c3d4",
    )
    task_add.register(tasks)
    listing = command(
        tasks,
        "list",
        list_tasks,
        "the tasks of the queue, state by state, in the order in which they are claimed",
        "  orchestrator task list\n"
        "  orchestrator task list --state failed --state blocked\n"
        "  orchestrator task list --role implement --json",
    )
    listing.add_argument("--state", action="append", choices=STATES, help="only these (repeatable)")
    listing.add_argument("--role", help="only tasks with this ROLE")
    show = command(
        tasks,
        "show",
        show_task,
        "one task with its text and history, its pull request and how to see its diff",
        "  orchestrator task show TASK-a1b2c3d4",
    )
    show.add_argument("id", metavar="ID")
    task_change.register(tasks)


def list_tasks(arguments: argparse.Namespace) -> int:
    layout = context.reading(arguments)
    loaded = load.settings(layout, write_cache=False)
    store = stores.of_project(layout)
    states = [s for s in STATES if not arguments.state or s in arguments.state]
    listings = [store.list(state) for state in states]
    tasks = [task for listing in listings for task in listing.tasks]
    if arguments.role is not None:
        tasks = _with_role(tasks, arguments.role, loaded.roles)
    if arguments.json:
        output.show_json([json_rows.task_row(task, loaded.config) for task in tasks])
        return 0
    if tasks:
        headings = ("id", "state", "priority", "role", "title", "claimed by", "reason", "pr")
        rows = [
            (t.id, t.state, t.priority, t.role, t.title, t.claimed_by, t.reason, t.pr)
            for t in tasks
        ]
        output.table(headings, rows)
    else:
        output.out("no tasks")
    for bad in (bad for listing in listings for bad in listing.malformed):
        output.err(f"task_malformed: {bad.where}: {bad.reason}")
    return 0


def _with_role(tasks: list[Task], word: str, roles: dict[str, Role]) -> list[Task]:
    found = [task for task in tasks if task.role == word]
    if found:
        return found
    present = {task.role for task in tasks}
    try:
        meant = task_add.task_role(word, roles, force=False)
    except OrchestratorError as error:
        known = {r.takes for r in roles.values() if r.takes} | present
        raise NotFound("role", word, sorted(known)) from error
    return [task for task in tasks if task.role == meant]


def show_task(arguments: argparse.Namespace) -> int:
    layout = context.reading(arguments)
    loaded = load.settings(layout, write_cache=False)
    store = stores.of_project(layout)
    task = store.find(arguments.id)
    file = store.read(task)
    if arguments.json:
        output.show_json(json_rows.task_with_history(task, file, loaded.config))
        return 0
    output.out(f"{task.id}  {task.title}")
    for name, value in json_rows.task_row(task, loaded.config).items():
        text = ", ".join(value) if isinstance(value, list) else value
        if name not in ("id", "title") and text not in (None, ""):
            output.out(f"  {name + ':':<13} {text}")
    for line in _where_the_work_is(layout, loaded, task):
        output.out(line)
    if file.body.strip():
        output.out("\n" + file.body.strip("\n"))
    if file.history:
        output.out("\nHistory (UTC)")
    for entry in file.history:
        output.out(f"  {task_history.line(entry)}")
    return 0


def _where_the_work_is(layout: Layout, loaded: Settings, task: Task) -> list[str]:
    """Return lines that link the pull request and say how to see the diff."""
    lines, base, tip = [], task.branch or loaded.config.base_branch, task.work_branch
    if task.pr is not None:
        try:
            pr = forges.of_project(layout, loaded.config).show(task.pr)
            # By its commit: that is there even when the branch has been cleaned away.
            base, tip = pr.base, pr.head[:12]
            lines.append(f"  pull request: {pr.url or pr.id} ({pr.state})")
        except OrchestratorError as error:
            lines.append(f"  pull request: {task.pr} (cannot be looked up: {error.message})")
    if tip and base:
        words = shlex.join(("git", "diff", f"{base}...{tip}"))
        lines.append(f"  see the diff: {words}")
    return lines
