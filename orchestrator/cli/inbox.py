"""`inbox`: what waits for a person, and the person's answers. Items are derived, never stored."""

from __future__ import annotations

import argparse
from typing import Any

from orchestrator.cli import agent_pause, body_text, context, output
from orchestrator.cli.parser import command
from orchestrator.cli.task_change import entry
from orchestrator.config import load
from orchestrator.errors import NotFound, OrchestratorError, UsageError
from orchestrator.layout import Layout
from orchestrator.model import Task
from orchestrator.pulls import states
from orchestrator.tasks import store as stores
from orchestrator.tick.inbox import Item, items

#: Characters of an answer: it leads every later prompt of its task.
MAX_ANSWER = 64 * 1024


def register(commands: Any) -> None:
    parser = command(
        commands,
        "inbox",
        inbox,
        "questions and decisions that wait for a person",
        "  orchestrator inbox\n"
        "  orchestrator inbox answer TASK-a1b2c3d4 'Keep the old format.'\n"
        "  orchestrator inbox approve pr:3\n"
        "  orchestrator inbox dismiss TASK-a1b2c3d4",
    )
    inside = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=type(parser))
    answer_parser = command(
        inside,
        "answer",
        answer,
        "answer a task's question: it goes back, the answer leads its next prompt",
        "  orchestrator inbox answer TASK-a1b2c3d4 'Keep the old format.'\n"
        "  orchestrator inbox answer TASK-a1b2c3d4 -          reads standard input",
    )
    answer_parser.add_argument("id", metavar="ID")
    answer_parser.add_argument("text", metavar="TEXT")
    approve_parser = command(
        inside,
        "approve",
        approve,
        "merge a pull request that its review approved",
        "  orchestrator inbox approve pr:3",
    )
    approve_parser.add_argument("id", metavar="ID")
    dismiss_parser = command(
        inside,
        "dismiss",
        dismiss,
        "take an item out of the inbox; a task stays where it is, an agent goes on",
        "  orchestrator inbox dismiss TASK-a1b2c3d4\n  orchestrator inbox dismiss agent:pm-agent",
    )
    dismiss_parser.add_argument("id", metavar="ID")


def inbox(arguments: argparse.Namespace) -> int:
    layout = context.reading(arguments)
    found = items(layout, *context.look(layout))
    if arguments.json:
        output.show_json([item._asdict() for item in found])
        return 0
    if not found:
        output.out("nothing waits for you")
    for item in found:
        about = f" ({item.task})" if item.task not in (None, item.id) else ""
        output.out(f"{item.id}  {item.kind}{about}  {item.since or ''}".rstrip())
        for line in item.text.splitlines():
            output.out(f"  {line}")
        output.out(f"  -> {_next_step(layout, item)}")
    return 0


def _next_step(layout: Layout, item: Item) -> str:
    if item.kind == "approval":
        return f"orchestrator inbox approve {item.id}"
    if item.id.startswith("agent:"):
        return f"orchestrator agent resume {item.id.removeprefix('agent:')}"
    if item.kind == "question":
        return f"orchestrator inbox answer {item.id} 'TEXT'"
    try:
        state = stores.of_project(layout).find(item.id).state
    except NotFound:  # somebody is quicker
        return f"orchestrator explain {item.id}"
    first = {
        "blocked": f"inbox answer {item.id} 'TEXT'",
        "incoming": f"task cancel {item.id}",
    }.get(state, f"task retry {item.id}")
    return f"orchestrator {first}; or: orchestrator inbox dismiss {item.id}"


# --- what a person does about it ---------------------------------------------------------------


def _item(layout: Layout, name: str) -> Item:
    """Return the item of that id; a pull request's number or an agent's name do as well."""
    found = {item.id: item for item in items(layout, *context.look(layout))}
    for known in (name, f"pr:{name.removeprefix('#')}", f"agent:{name}"):
        if known in found:
            return found[known]
    raise NotFound("inbox item", name, found)


def answer(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    text = body_text.read("-") if arguments.text == "-" else arguments.text
    if not text.strip():
        raise UsageError("the answer is empty", "for example: orchestrator inbox answer ID 'Yes.'")
    if len(text) > MAX_ANSWER:
        raise OrchestratorError("the answer is over 64 KiB", "name a file in it", code="too_long")
    store = stores.of_project(layout)
    with store.change():
        try:
            task = store.find(arguments.id)
        except NotFound:
            task = _without_a_task(layout, arguments.id)
        if task.state != "blocked":
            raise OrchestratorError(
                f"task {task.id} asks nothing: it is in {task.state}",
                f"see: orchestrator task show {task.id}",
                code="wrong_state",
            )
        store.move(task, "incoming", entry("answered", text=text.strip()))
    context.record_event(layout, "answered", task=task.id)
    _report(arguments, task.id, "goes on with your answer")
    return 0


def _without_a_task(layout: Layout, name: str) -> Task:
    """Say why an item that is no task cannot be answered."""
    item = _item(layout, name)
    if item.kind == "approval":
        hint = f"orchestrator inbox approve {item.id}, or dismiss it"
    else:
        hint = f"add a task with what is to be done, then: orchestrator inbox dismiss {item.id}"
    raise OrchestratorError(f"{item.id} is no task: nobody would read an answer", hint)


def approve(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    try:
        item = _item(layout, arguments.id)
    except NotFound:
        _refuse_unapproved(layout, arguments.id)
        raise
    if item.kind != "approval":
        raise OrchestratorError(
            f"{item.id} is no pull request that waits for approval",
            f"try: {_next_step(layout, item)}",
            code="wrong_state",
        )
    from orchestrator.cli import pr as pr_command

    pr_command.merge_pull_request(layout, item.id.removeprefix("pr:"))
    _report(arguments, item.id, "is merged")
    return 0


def _refuse_unapproved(layout: Layout, name: str) -> None:
    """Raise OrchestratorError if `name` is a pull request that no review has approved."""
    known = states.known(layout, load.settings(layout, write_cache=False).config) or []
    number = name.removeprefix("pr:").removeprefix("#")
    pr = next((pr for pr in known if pr.id == number), None)
    if pr is None:
        return
    reviewed = pr.state != "open" or pr.verdict == "approved"
    said = pr.state if reviewed else f"{pr.state}, and no review approved it"
    hint = f"see: orchestrator pr show {pr.id}"
    if pr.state == "open":
        hint += f"; to merge it all the same: orchestrator pr merge {pr.id}"
    message = f"pull request {pr.id} does not wait for your approval: it is {said}"
    raise OrchestratorError(message, hint, code="wrong_state")


def dismiss(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    item = _item(layout, arguments.id)
    store = stores.of_project(layout)
    if item.id.startswith("agent:"):
        agent_pause.wake(layout, [item.id.removeprefix("agent:")])
    elif item.task is None:
        raise OrchestratorError(
            f"{item.id} belongs to no task that could remember it",
            f"close it: orchestrator pr close {item.id.removeprefix('pr:')}",
        )
    else:
        number = item.id.removeprefix("pr:") if item.kind == "approval" else None
        with store.change():
            store.note(store.find(item.task), entry("dismissed", pr=number))
    context.record_event(layout, "dismissed", item=item.id)
    _report(arguments, item.id, "is out of the inbox")
    return 0


def _report(arguments: argparse.Namespace, name: str, said: str) -> None:
    if arguments.json:
        output.show_json({"id": name, "done": said})
    else:
        output.out(f"{name} {said}")
