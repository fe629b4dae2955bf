"""`task add`: the one change of the queue that people and agents within their runs may make."""

from __future__ import annotations

import argparse
from typing import Any

from orchestrator.cli import body_text, context, output
from orchestrator.cli.parser import command
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.errors import ConfigError, OrchestratorError, did_you_mean
from orchestrator.git import call, repository
from orchestrator.layout import Layout
from orchestrator.model import PRIORITIES, STATES, Role, iso
from orchestrator.tasks import store as stores
from orchestrator.tasks import task_file

#: Who stands in `CREATED_BY` when it was no agent.
PERSON = "human"


def register(tasks: Any) -> None:
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
    parser.add_argument(
        "--role", required=True, help="which agents it is for: implement, test, ..."
    )
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
    role = task_role(arguments.role, loaded.roles, force=arguments.force)
    if arguments.branch is not None:
        _check_branch(layout, loaded, arguments.branch)
    body = _body(arguments, loaded)
    store = stores.of_project(layout)
    depends_on = [_existing(store, task_id) for task_id in _ids(arguments.depends_on)]
    with store.change():
        # Decided and done under one lock: many may add at once (failures 15).
        _refuse_duplicate(store, arguments, role, agent)
        _refuse_full(store, loaded, arguments.force)
        file = task_file.new(
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
    loaded = load.settings(layout, write_cache=False)
    if loaded.good:
        return loaded
    if load.last_good(layout) is None:
        found = [p.message for p in loaded.problems if p.code == "config_error"]
        raise ConfigError(found, "correct that, then try again; or: orchestrator init")
    output.err(
        "warning: agents.yaml is broken (see: orchestrator status); its last good limits hold"
    )
    return loaded


def task_role(word: str, roles: dict[str, Role], *, force: bool) -> str:
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
        message, hint = f"agents with the role {word!r} take no tasks", did_you_mean(word, names)
    else:
        message = f"no role takes tasks with ROLE {word!r}"
        hint = did_you_mean(word, [*names, *roles], f"known: {', '.join(names)}")
    raise OrchestratorError(message, f"{hint} (--force adds it all the same)", code="unknown_role")


def _check_branch(layout: Layout, loaded: Settings, branch: str) -> None:
    """Refuse what can be no branch; warn of one that is not here (yet)."""
    if call.run(layout.root, "check-ref-format", f"refs/heads/{branch}").code != 0:
        raise OrchestratorError(
            f"{branch!r} cannot be the name of a branch", "see: git help check-ref-format"
        )
    places = (f"refs/heads/{branch}", f"refs/remotes/{loaded.config.remote}/{branch}")
    if not any(repository.resolve(layout.root, place) for place in places):
        output.err(f"warning: there is no branch {branch!r} here; the task fails if that stays so")


def _body(arguments: argparse.Namespace, loaded: Settings) -> str:
    if arguments.body_file is not None:
        body = body_text.read(arguments.body_file, body_text.folder_allowed(loaded.roles))
    else:
        body = arguments.body or ""
    body_text.check_size(body)
    return body + "\n" if body and not body.endswith("\n") else body


def _ids(given: list[str]) -> list[str]:
    return list(dict.fromkeys(word for text in given for word in text.replace(",", " ").split()))


def _existing(store: stores.Store, task_id: str) -> str:
    return store.find(task_id).id


def _refuse_duplicate(
    store: stores.Store, arguments: argparse.Namespace, role: str, agent: str | None
) -> None:
    """People may repeat what is over; agents never repeat a title (reference 5)."""
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


def _refuse_full(store: stores.Store, loaded: Settings, force: bool) -> None:
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
