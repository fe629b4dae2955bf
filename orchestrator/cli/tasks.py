"""`task`: add, look at and, as a person, move the tasks of the queue."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from orchestrator import files, forge, git, settings, taskfile
from orchestrator.cli import context, output, shapes, texts
from orchestrator.cli.parser import command, group
from orchestrator.errors import ConfigError, NotFound, OrchestratorError, near_miss
from orchestrator.layout import Layout
from orchestrator.model import PRIORITIES, STATES, Role, Task, iso
from orchestrator.settings import Settings
from orchestrator.store import Store

#: Who stands in `CREATED_BY` when it was no agent.
PERSON = "human"


def register(commands: Any) -> None:
    tasks = group(
        commands,
        "task",
        "add, look at and move tasks",
        "  orchestrator task add --title 'Fix the login form' --role implement\n"
        "  orchestrator task list --state incoming\n"
        "  orchestrator task show TASK-a1b2c3d4",
    )
    _register_add(tasks)
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
    from orchestrator.cli import taskmoves

    taskmoves.register(tasks)


def _register_add(tasks: Any) -> None:
    parser = command(
        tasks,
        "add",
        add,
        "put a new task into the queue and print its id",
        "  orchestrator task add --title 'Fix the login form' --role implement\n"
        "  orchestrator task add --title 'Test the parser' --role test --priority P1 \\\n"
        "      --depends-on TASK-a1b2c3d4 --body-file notes.md\n"
        "  git log -1 --format=%b | orchestrator task add --title 'Follow up' \\\n"
        "      --role implement --body-file -",
    )
    parser.add_argument("--title", required=True, help="one line")
    parser.add_argument("--role", required=True, help="which agents it is for: implement, test, ...")
    parser.add_argument(
        "--priority", type=str.upper, choices=PRIORITIES, default="P2", help="default: P2"
    )
    parser.add_argument("--branch", metavar="B", help="base branch (default: the configured one)")
    parser.add_argument(
        "--depends-on",
        action="append",
        default=[],
        metavar="ID",
        help="a task to wait for (repeatable, or a list with commas)",
    )
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--body-file", metavar="F", help="file with the text; - is standard input")
    text.add_argument("--body", metavar="TEXT", help="the text itself")
    parser.add_argument(
        "--force",
        action="store_true",
        help="for people: a full queue, a second task of that title, a role nobody knows yet",
    )


# --- add ---------------------------------------------------------------------------------------


def add(arguments: argparse.Namespace) -> int:
    agent = context.running_agent()
    if agent is not None and arguments.force:
        raise OrchestratorError(
            "inside a run, --force is refused",
            "limits hold for agents; report what you could not add in your result",
            code="refused_in_run",
        )
    layout = context.to_add(arguments)
    loaded = _settings(layout)
    role = _task_role(arguments.role, loaded.roles, force=arguments.force)
    if arguments.branch is not None:
        _check_branch(layout, loaded, arguments.branch)
    body = _body(arguments, loaded)
    store = Store(layout)
    depends_on = [_existing(store, task_id) for task_id in _ids(arguments.depends_on)]
    files.make_folder(layout.state("incoming"))
    with store.locked():
        # Decided and done under one lock: many may add at once (FAILURES 15).
        _refuse_duplicate(store, arguments, role, agent)
        _refuse_full(store, loaded, arguments.force)
        file = taskfile.new(
            store.new_id(),
            arguments.title.strip(),
            role,
            arguments.priority,
            arguments.branch,
            iso(context.now()) or "",
            agent or PERSON,
            depends_on,
            body,
        )
        path = store.add(file)
    context.record_event(layout, "added", task=file.id, title=file.title)
    if arguments.json:
        output.show_json({"id": file.id, "path": path})
    else:
        output.out(file.id)
        _warn_if_nobody_takes(loaded, role)
    return 0


def _settings(layout: Layout) -> Settings:
    """Return the settings: a broken file still leaves the last good limits to keep to."""
    loaded = settings.load(layout, write_cache=False)
    if loaded.good:
        return loaded
    if settings.last_good(layout) is None:
        found = [p.message for p in loaded.problems if p.code == "config_error"]
        raise ConfigError(found, "correct that, then try again; or: orchestrator init")
    output.err("warning: agents.yaml is broken (see: orchestrator status); its last good limits hold")
    return loaded


def _task_role(word: str, roles: dict[str, Role], *, force: bool) -> str:
    """Return the task ROLE that a word means: itself, or what the agents' role of that name takes.

    Raises OrchestratorError for a word that nobody knows, unless `force`.
    """
    known = {role.takes for role in roles.values() if role.takes}
    if word in known:
        return word
    if word in roles and (takes := roles[word].takes):
        return takes
    if force:
        return word
    names = sorted(known)
    if word in roles:
        message, near = f"agents with the role {word!r} take no tasks", None
    else:
        message, near = f"no role takes tasks with ROLE {word!r}", near_miss(word, [*names, *roles])
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(names)}"
    raise OrchestratorError(message, f"{hint} (--force adds it all the same)", code="unknown_role")


def _check_branch(layout: Layout, loaded: Settings, branch: str) -> None:
    """Refuse what can be no branch; warn of one that is not here (yet)."""
    if git.run(layout.root, "check-ref-format", f"refs/heads/{branch}").code != 0:
        raise OrchestratorError(
            f"{branch!r} cannot be the name of a branch", "see: git help check-ref-format"
        )
    places = (f"refs/heads/{branch}", f"refs/remotes/{loaded.config.remote}/{branch}")
    if not any(git.resolve(layout.root, place) for place in places):
        output.err(f"warning: there is no branch {branch!r} here; the task fails if that stays so")


def _body(arguments: argparse.Namespace, loaded: Settings) -> str:
    if arguments.body_file is not None:
        body = texts.read(arguments.body_file, texts.folder_allowed(loaded.roles))
    else:
        body = arguments.body or ""
    texts.check_size(body)
    return body + "\n" if body and not body.endswith("\n") else body


def _ids(given: list[str]) -> list[str]:
    return list(dict.fromkeys(word for text in given for word in text.replace(",", " ").split()))


def _existing(store: Store, task_id: str) -> str:
    return store.find(task_id).id


def _refuse_duplicate(
    store: Store, arguments: argparse.Namespace, role: str, agent: str | None
) -> None:
    """People may repeat what is over; agents never repeat a title (CONTRACT 5)."""
    if arguments.force:
        return
    if agent is not None:
        found = store.has_title(arguments.title, None, STATES)
    else:
        found = store.has_title(arguments.title, role, ("incoming", "claimed"))
    if found is not None:
        hint = "--force adds it all the same" if agent is None else "do not add it in other words"
        raise OrchestratorError(
            f"task {found.id} has that title already, in {found.state}", hint, code="duplicate_task"
        )


def _refuse_full(store: Store, loaded: Settings, force: bool) -> None:
    limit = loaded.config.queue_limits.max_incoming
    count = len(store.list("incoming").tasks) + len(store.list("claimed").tasks)
    if count >= limit and not force:
        raise OrchestratorError(
            f"the queue is full: {count} tasks wait or are claimed, max_incoming is {limit}",
            "let agents work some off, or: orchestrator limits set max_incoming=N",
            code="max_incoming",
        )


def _warn_if_nobody_takes(loaded: Settings, role: str) -> None:
    takers = [
        agent.name
        for agent in loaded.config.agents
        if agent.role in loaded.roles and loaded.roles[agent.role].takes == role
    ]
    if not takers:
        output.err(f"warning: no agent takes ROLE {role}; add one: orchestrator agent add --help")


# --- list and show -----------------------------------------------------------------------------


def list_tasks(arguments: argparse.Namespace) -> int:
    layout = context.reading(arguments)
    loaded = settings.load(layout, write_cache=False)
    store = Store(layout)
    states = [s for s in STATES if not arguments.state or s in arguments.state]
    listings = [store.list(state) for state in states]
    tasks = [task for listing in listings for task in listing.tasks]
    if arguments.role is not None:
        tasks = _with_role(tasks, arguments.role, loaded.roles)
    if arguments.json:
        output.show_json([shapes.task_row(task, loaded.config) for task in tasks])
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
        output.err(f"task_malformed: {bad.path}: {bad.reason}")
    return 0


def _with_role(tasks: list[Task], word: str, roles: dict[str, Role]) -> list[Task]:
    found = [task for task in tasks if task.role == word]
    if found:
        return found
    present = {task.role for task in tasks}
    try:
        meant = _task_role(word, roles, force=False)
    except OrchestratorError as error:
        known = {r.takes for r in roles.values() if r.takes} | present
        raise NotFound("role", word, sorted(known)) from error
    return [task for task in tasks if task.role == meant]


def show_task(arguments: argparse.Namespace) -> int:
    layout = context.reading(arguments)
    loaded = settings.load(layout, write_cache=False)
    store = Store(layout)
    task = store.find(arguments.id)
    file = store.read(task)
    if arguments.json:
        output.show_json(shapes.task_with_history(task, file, loaded.config))
        return 0
    output.out(f"{task.id}  {task.title}")
    for name, value in shapes.task_row(task, loaded.config).items():
        text = ", ".join(value) if isinstance(value, list) else value
        if name not in ("id", "title") and text not in (None, ""):
            output.out(f"  {name + ':':<13} {text}")
    for line in _where_the_work_is(layout, loaded, task):
        output.out(line)
    if file.body.strip():
        output.out("\n" + file.body.strip("\n"))
    if file.history:
        output.out("\nHistory")
    for entry in file.history:
        fields = " ".join(f"{name}={value}" for name, value in entry.fields.items())
        output.out(f"  {entry.at} {entry.event} {fields}".rstrip())
    return 0


def _where_the_work_is(layout: Layout, loaded: Settings, task: Task) -> list[str]:
    """Return lines that link the pull request and say how to see the diff."""
    lines, base = [], task.branch or loaded.config.base_branch
    if task.pr is not None:
        try:
            pr = forge.of_project(layout, loaded.config).show(task.pr)
            base = pr.base
            lines.append(f"  pull request: {pr.url or pr.id} ({pr.state})")
        except OrchestratorError as error:
            lines.append(f"  pull request: {task.pr} (cannot be looked up: {error.message})")
    if task.work_branch and base:
        words = shlex.join(("git", "diff", f"{base}...{task.work_branch}"))
        lines.append(f"  see the diff: {words}")
    return lines
