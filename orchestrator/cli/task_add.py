"""`task add`: the only change of the queue that agents may make inside a run."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from functools import partial

from orchestrator.cli import body_text, context, output
from orchestrator.cli.parser import NO_TICK, argument, command, flag
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.errors import NotFound, OrchestratorError, UsageError, did_you_mean
from orchestrator.git import call, repository
from orchestrator.layout import Layout
from orchestrator.model import OUTCOMES, PRIORITIES, STATES, Role, Split, Task, iso
from orchestrator.plan import dependencies
from orchestrator.project import mark
from orchestrator.pulls import states
from orchestrator.tasks import parts, stores, task_file
from orchestrator.tasks.store import Store
from orchestrator.text.words import count

PRIORITY = "P0 is first (default: P2; for a part: as its task)"
DEPENDS_ON = "a task that must be done first (repeatable, or a list with commas)"
#: `CREATED_BY` of a task that no agent created.
PERSON = "human"


@command(
    "task add",
    argument("--title", required=True, help="the title, one line"),
    argument("--role", required=True, help="which agents take the task: implement, test, ..."),
    argument("--priority", type=str.upper, choices=PRIORITIES, help=PRIORITY),
    argument("--branch", metavar="B", help="base branch (default: as configured)"),
    argument("--depends-on", action="append", default=[], metavar="ID", help=DEPENDS_ON),
    [
        argument("--body-file", metavar="F", help="a file with the text; - reads standard input"),
        argument("--body", metavar="TEXT", help="the text of the task"),
    ],
    argument(
        "--parent",
        nargs="?",
        const="",
        metavar="ID",
        help="inside a run: the task is a part of the run's own task",
    ),
    flag("--force", "ignore a full queue, a duplicate title or an unknown role (not for agents)"),
    NO_TICK,
)
def add(arguments: Namespace) -> None:
    """Add a task to the queue and print its id.

    examples:
      orchestrator task add --title 'Fix the login form' --role implement
      git log -1 --format=%b | orchestrator task add --title 'Follow up' \\
          --role implement --body-file -
    """
    agent = context.running_agent()
    if agent is not None and arguments.force:
        hint = "agents must respect the limits; report what you could not add in your result"
        raise OrchestratorError("inside a run, --force is refused", hint, code="refused_in_run")
    layout = context.layout(arguments)
    mark.require_initialised(layout)
    loaded = _settings(layout)
    role = task_role(arguments.role, loaded.roles, force=arguments.force)
    if arguments.branch is not None:
        _check_branch(layout, loaded, arguments.branch)
    body = _body(arguments, loaded)
    store = stores.of_project(layout)
    parent = _parent(store, arguments, loaded)
    words = (word for text in arguments.depends_on for word in text.replace(",", " ").split())
    depends_on, warnings = _dependencies(store, words, force=arguments.force)
    with store.change():
        # Checked and added under one lock, because many may add at once (failures 15).
        if not arguments.force:
            _refuse_duplicate(store, arguments.title, role, agent)
        if parent is not None:
            _refuse_part(store, parent, depends_on, loaded.config.split)
        elif not arguments.force:
            _refuse_full(store, loaded.config.queue_limits.max_incoming)
        title, priority = arguments.title.strip(), arguments.priority or _priority(parent)
        branch = arguments.branch or (parent.branch if parent else None)
        extra = ((parts.PARENT, parent.id),) if parent else ()
        created, by = iso(context.now()) or "", agent or PERSON
        file = task_file.new(
            store.new_id(), title, role, priority, branch, created, by, depends_on, body, extra
        )
        path = store.add(file)
    context.record_event(layout, "added", task=file.id, title=file.title)
    warnings += _circular(layout, loaded, store, file.id) if depends_on else []
    for warning in warnings:
        output.err(f"warning: {warning}")
    more = {"warnings": warnings} if warnings else {}
    output.answer(arguments, {"id": file.id, "path": path, **more}, file.id)
    taken = {loaded.roles[a.role].takes for a in loaded.config.agents if a.role in loaded.roles}
    if role not in taken and not arguments.json:
        output.err(f"warning: no agent takes ROLE {role}; add one: orchestrator agent add --help")


def _dependencies(
    store: Store, words: Iterable[str], *, force: bool
) -> tuple[list[str], list[str]]:
    """Return the ids that the words mean, and with `force` a warning for each id without a task.

    Raises NotFound for such an id without `force`.
    """
    ids, warnings = [], []
    for word in dict.fromkeys(words):
        try:
            ids.append(store.find(word).id)
        except NotFound as error:
            if not force:
                raise
            ids.append(word)
            warnings.append(f"{error.message}; the task waits until there is one. {error.hint}")
    return list(dict.fromkeys(ids)), warnings


def _circular(layout: Layout, loaded: Settings, store: Store, task_id: str) -> list[str]:
    """Return a warning if a new task depends on tasks that wait for each other in a circle."""
    prs = states.known(layout, loaded.config) or []
    find = partial(stores.found, store)
    found = dependencies.closure([store.find(task_id)], find, prs)
    circle = sorted(dependencies.circular(found, {pr.id: pr for pr in prs}))
    if not circle:
        return []
    named = ", ".join(circle[:10])
    return [f"the task cannot start: these tasks depend on each other in a cycle: {named}"]


def _settings(layout: Layout) -> Settings:
    """Return the settings. With a broken agents.yaml, the last valid limits apply."""
    loaded = context.settings(layout)
    if loaded.good:
        return loaded
    if load.last_good(layout) is None:
        return context.good_settings(layout)
    why = "agents.yaml is broken (see: orchestrator status); its last valid limits apply"
    output.err(f"warning: {why}")
    return loaded


def task_role(word: str, roles: dict[str, Role], *, force: bool) -> str:
    """Return the task ROLE that a word means: itself, or what the agents' role of that name takes.

    Raises OrchestratorError for an unknown word, unless `force`.
    """
    known = {role.takes for role in roles.values() if role.takes}
    if word in known:
        return word
    if word in roles and (takes := roles[word].takes):
        return takes
    if force:
        return word
    names = sorted(known)
    message, hint = f"agents with the role {word!r} take no tasks", did_you_mean(word, names)
    if word not in roles:
        message = f"no role takes tasks with ROLE {word!r}"
        hint = did_you_mean(word, [*names, *roles], f"known: {', '.join(names)}")
    raise OrchestratorError(message, f"{hint} (--force adds it anyway)", code="unknown_role")


def _check_branch(layout: Layout, loaded: Settings, branch: str) -> None:
    """Refuse a text that cannot be a branch's name; warn of a branch that does not exist (yet)."""
    if call.run(layout.root, "check-ref-format", f"refs/heads/{branch}").code != 0:
        hint = "see: git help check-ref-format"
        raise OrchestratorError(f"{branch!r} cannot be the name of a branch", hint)
    places = (f"refs/heads/{branch}", f"refs/remotes/{loaded.config.remote}/{branch}")
    if not any(repository.resolve(layout.root, place) for place in places):
        output.err(f"warning: there is no branch {branch!r} yet; without it the task will fail")


def _parent(store: Store, arguments: Namespace, loaded: Settings) -> Task | None:
    """Return the task that the new task is a part of. Raises OrchestratorError if it cannot be."""
    if arguments.parent is None:
        return None
    own, run = (os.environ.get(f"ORCHESTRATOR_{name}") for name in ("TASK_ID", "RUN_ID"))
    if not (own and run) or arguments.parent not in ("", own):
        message = "--parent is for the run of a task, and means that task"
        if not run:
            raise UsageError(message, "people add tasks without --parent")
        raise OrchestratorError(message, "give no id", code="refused_in_run")
    task = store.find(own)
    if (task.state, task.run) != ("claimed", run):
        message = f"this run does not have task {own} any more"
        raise OrchestratorError(message, "end the run", code="refused_in_run")
    role = next((r for r in loaded.roles.values() if r.takes == task.role), None)
    if role is None or "split" not in OUTCOMES[role.delivers]:
        message = f"a task with ROLE {task.role} cannot be split"
        raise OrchestratorError(message, "do the task as it is", code="refused_in_run")
    return task


def _priority(parent: Task | None) -> str:
    return parent.priority if parent and parent.priority in PRIORITIES else "P2"


def _refuse_part(store: Store, parent: Task, depends_on: list[str], limits: Split) -> None:
    """Refuse a part over the limits, and a part that would wait for the task that waits for it.

    Parts have a limit of their own instead of `max_incoming`: a task of which a full queue took
    only some parts would stay half done.
    """
    parts.room(store, parent, parts.of(store, parent.id), limits)
    if parent.id in depends_on:
        message = f"a part of {parent.id} cannot depend on {parent.id}, which waits for its parts"
        hint = "name the other parts in --depends-on"
        raise OrchestratorError(message, hint, code="refused_in_run")


def _body(arguments: Namespace, loaded: Settings) -> str:
    body: str = arguments.body or ""
    if arguments.body_file is not None:
        body = body_text.read(arguments.body_file, body_text.folder_allowed(loaded.roles))
    body_text.check_size(body.encode(errors="replace"))
    return body + "\n" if body and not body.endswith("\n") else body


def _refuse_duplicate(store: Store, title: str, role: str, agent: str | None) -> None:
    """People may repeat the title of an ended task; agents may repeat no title (reference 5)."""
    states = STATES if agent else ("incoming", "claimed")
    found = store.has_title(title, None if agent else role, states)
    if found is not None:
        hint = "do not add it in other words" if agent else "--force adds it anyway"
        message = f"task {found.id} has that title already, in {found.state}"
        raise OrchestratorError(message, hint, code="duplicate_task")


def _refuse_full(store: Store, limit: int) -> None:
    number = len(store.list("incoming").tasks) + len(store.list("claimed").tasks)
    if number >= limit:
        known = count(number, "task")
        message = f"the queue is full: {known} waiting or claimed, max_incoming is {limit}"
        hint = "wait until agents finish tasks, or: orchestrator limits set max_incoming=N"
        raise OrchestratorError(message, hint, code="max_incoming")
