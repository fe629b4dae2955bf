"""`task add`: the only change of the queue that agents may make inside a run."""

from __future__ import annotations

import os

from orchestrator.cli import body_text, context, output, task_values
from orchestrator.cli.parser import NO_TICK, Namespace, argument, command, flag
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.config import OUTCOMES, Split
from orchestrator.model.errors import OrchestratorError, UsageError
from orchestrator.model.times import iso
from orchestrator.model.work import PRIORITIES, Task
from orchestrator.project import mark
from orchestrator.tasks import parts, stores, task_file
from orchestrator.tasks.store import Store
from orchestrator.text.words import count

PRIORITY = "P0 is first (default: P2; for a part: that of its task)"
DEPENDS_ON = "a task that must be done first (repeatable, or a list with commas)"
ROLE = "implement"
NO_TITLE = "Write the title here"
OUTLINE = "## Context\n\n## Acceptance Criteria\n- [ ] \n"
#: `CREATED_BY` of a task that no agent created.
PERSON = "human"


@command(
    "task add",
    argument("words", metavar="TITLE", nargs="*", help="the title, one line, in quotes"),
    argument("--title", help="the same as TITLE"),
    argument("--role", default=ROLE, help=f"which agents take the task (default: {ROLE})"),
    flag("--edit", "open the task in your editor ($VISUAL or $EDITOR) before it is added"),
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
      orchestrator task add 'Fix the login form'
      orchestrator task add --edit
      git log -1 --format=%b | orchestrator task add --title 'Follow up' \\
          --role implement --body-file -
    """
    agent = context.running_agent()
    for name in ("force", "edit") if agent is not None else ():
        if getattr(arguments, name):
            hint = "agents must respect the limits; report what you could not add in your result"
            message = f"inside a run, --{name} is refused"
            raise OrchestratorError(message, hint, code="refused_in_run")
    arguments.title = _title(arguments)
    layout = context.layout(arguments)
    mark.require_initialised(layout)
    loaded = task_values.settings(layout)
    arguments.body, arguments.extra = _body(arguments, loaded), ()
    if not arguments.edit:
        _add(arguments, layout, loaded, agent)
        return
    import shlex

    from orchestrator.cli import editor

    incoming = shlex.quote(f"{layout.root}/.orchestrator/shared/queue/incoming/")
    escaped = incoming.replace("{", "{{").replace("}", "}}")
    again = f"correct it, then: mv {{path}} {escaped}"
    with editor.edited(_draft(arguments), "new-task", again) as text:
        _take(arguments, text)
        _add(arguments, layout, loaded, agent)


def _add(arguments: Namespace, layout: Layout, loaded: Settings, agent: str | None) -> None:
    role = task_values.task_role(arguments.role, loaded.roles, force=arguments.force)
    if agent is not None:
        _without_secrets(arguments)
    if arguments.branch is not None:
        task_values.check_branch(layout, loaded, arguments.branch)
    store = stores.of_project(layout)
    parent = _parent(store, arguments, loaded)
    words = (word for text in arguments.depends_on for word in text.replace(",", " ").split())
    depends_on, warnings = task_values.named_dependencies(store, words, force=arguments.force)
    if (gone := mark.queue_missing(layout)) is not None:
        raise OrchestratorError(gone.message, gone.hint, code=gone.code)
    with store.change():
        # Checked and added under one lock, because many may add at once (failures 15).
        if not arguments.force:
            task_values.refuse_duplicate(store, arguments.title, role, agent)
        if parent is not None:
            _refuse_part(store, parent, depends_on, loaded.config.split)
        elif not arguments.force:
            _refuse_full(store, loaded.config.queue_limits.max_incoming)
        title, priority = arguments.title.strip(), arguments.priority or _priority(parent)
        branch = arguments.branch or (parent.branch if parent else None)
        extra = (*arguments.extra, *(((parts.PARENT, parent.id),) if parent else ()))
        body = arguments.body
        created, by = iso(context.now()) or "", agent or PERSON
        file = task_file.new(
            store.new_id(), title, role, priority, branch, created, by, depends_on, body, extra
        )
        path = store.add(file)
    context.record_event(layout, "added", task=file.id, title=file.title)
    warnings += task_values.circular(layout, loaded, store, file.id) if depends_on else []
    for warning in warnings:
        output.err(f"warning: {warning}")
    more = {"warnings": warnings} if warnings else {}
    output.answer(arguments, {"id": file.id, "path": path, **more}, file.id)
    taken = {loaded.roles[a.role].takes for a in loaded.config.agents if a.role in loaded.roles}
    if role not in taken and not arguments.json:
        output.err(f"warning: no agent takes ROLE {role}; add one: orchestrator agent add --help")


def _without_secrets(arguments: Namespace) -> None:
    """Withhold secrets from the texts of an agent's task. Raises UsageError for other values.

    A part of a header field that is withheld would leave a field that names nothing.
    """
    from orchestrator.guard import secret_shapes

    arguments.title = secret_shapes.withheld(arguments.title)
    arguments.body = secret_shapes.withheld(arguments.body)
    depends_on = " ".join(arguments.depends_on)
    for option, value in ("--branch", arguments.branch or ""), ("--depends-on", depends_on):
        name = secret_shapes.found(value)
        if name is not None:
            raise UsageError(f"{option}: this looks like a secret ({name})", "leave it out")


def _title(arguments: Namespace) -> str | None:
    """Return the title, or None if the editor asks for it. Raises UsageError."""
    words: list[str] = arguments.words
    if len(words) > 1:
        import shlex

        example = f"orchestrator task add {shlex.quote(' '.join(words))}"
        raise UsageError(f"the title has to be one word for the shell: {words}", f"try: {example}")
    if words and arguments.title is not None:
        raise UsageError("the title is given twice", "give TITLE or --title TITLE")
    title: str | None = words[0] if words else arguments.title
    if title is None and not arguments.edit:
        raise UsageError("a task needs a title", "try: orchestrator task add 'Fix the login form'")
    return title


def _draft(arguments: Namespace) -> str:
    """Return what the editor shows of a new task."""
    fields = {
        "ROLE": arguments.role,
        "PRIORITY": arguments.priority or "P2",
        "BRANCH": arguments.branch or "",
        "DEPENDS_ON": ", ".join(arguments.depends_on),
    }
    lines = "".join(f"{key}: {value}\n" for key, value in fields.items() if value)
    return f"# {arguments.title or NO_TITLE}\n\n{lines}\n{arguments.body or OUTLINE}"


def _take(arguments: Namespace, text: str) -> None:
    """Read the values of a new task from the text that a person edited. Raises TaskFileError."""
    file = task_file.parse(text.encode(errors="replace"), "new.md")
    if file.title == NO_TITLE:
        raise OrchestratorError("nothing was added: the title is not written yet")
    own = {key: file.get(key) for key in ("ROLE", "PRIORITY", "BRANCH", "DEPENDS_ON")}
    arguments.title, arguments.role, arguments.branch = file.title, own["ROLE"], own["BRANCH"]
    arguments.priority, arguments.depends_on = own["PRIORITY"], [own["DEPENDS_ON"] or ""]
    task_values.check_time(file.get("NOT_BEFORE"))
    arguments.extra = tuple((k, v) for k, v in file.fields if k.upper() not in own and v)
    arguments.body = file.body


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


def _refuse_full(store: Store, limit: int) -> None:
    if sum(store.counts(("incoming", "claimed")).values()) < limit:
        return  # whether each of them is a task does not matter
    with store.ahead("incoming", "claimed"):
        number = len(store.list("incoming").tasks) + len(store.list("claimed").tasks)
    if number >= limit:
        known = count(number, "task")
        message = f"the queue is full: {known} waiting or claimed, max_incoming is {limit}"
        hint = "wait until agents finish tasks, or: orchestrator limits set max_incoming=N"
        raise OrchestratorError(message, hint, code="max_incoming")
