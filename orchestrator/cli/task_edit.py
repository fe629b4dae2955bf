"""`task edit` and `task set`: a person's changes of a task's title, header and text."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.cli import body_text, context, output, task_values
from orchestrator.cli.parser import NO_TICK, Namespace, argument, command
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError, TaskFileError, UsageError, did_you_mean
from orchestrator.model.work import PRIORITIES, Task
from orchestrator.tasks import rewrite, stores, task_file
from orchestrator.tasks.task_file import TaskFile

TITLE = rewrite.TITLE
#: The fields that people set, besides those that the task has already.
FIELDS = (TITLE, "ROLE", "PRIORITY", "BRANCH", "DEPENDS_ON", "NOT_BEFORE")
#: The fields that only the product writes.
OWN = ("ID", "CREATED_BY", "PARENT", "REVIEWS", "HEAD", "PR", "ISSUE")
#: What a run was started with: changes are refused while a run has the task.
OF_A_RUN = ("ROLE", "BRANCH")
ID = argument("id", metavar="ID", help="the id of a task")


@command(
    "task set",
    ID,
    argument("settings", metavar="key=value", nargs="*", help="a field, such as priority=P0"),
    argument("--body-file", metavar="F", help="a file with the new text; - reads standard input"),
    NO_TICK,
)
def set_fields(arguments: Namespace) -> None:
    """Change fields of a task's header: title, role, priority, branch, depends_on, not_before.

    An empty value removes a field; its default then applies. --body-file replaces the text below
    the header.

    examples:
      orchestrator task set TASK-a1b2c3d4 priority=P0
      orchestrator task set TASK-a1b2c3d4 title='Fix the login form' depends_on=
    """
    layout = context.changing(arguments)
    given = dict(map(_assignment, arguments.settings))
    if not given and arguments.body_file is None:
        import shlex

        hint = f"for example: {arguments.prog} {shlex.quote(arguments.id)} priority=P0"
        raise UsageError("nothing to set", hint)
    body = None if arguments.body_file is None else body_text.read(arguments.body_file)

    def changed(file: TaskFile) -> str:
        for key in given:
            _refuse_unknown(key, file)
        text = rewrite.with_fields(file, given) if given else rewrite.text_of(file)
        return text if body is None else rewrite.with_body(text, file.body, body)

    before, after = _apply(layout, arguments.id, changed)
    if before.body != after.body:
        from orchestrator.cli import editor

        earlier = editor.kept(rewrite.text_of(before), arguments.id)
        _report(arguments, before, after, "edit", "--file", earlier)
        return
    old = _differences(after, before)
    back = [f"{key.lower()}={value}" for key, value in old.items()]
    _report(arguments, before, after, "set", *back)


@command(
    "task edit",
    ID,
    argument("--file", metavar="F", help="take the text from a file (- reads standard input)"),
    NO_TICK,
)
def edit(arguments: Namespace) -> None:
    """Open a task in your editor ($VISUAL or $EDITOR): its title, its header and its text.

    A text that cannot be a task is refused and kept. The history is not shown, and stays.

    examples:
      orchestrator task edit TASK-a1b2c3d4
      orchestrator task edit TASK-a1b2c3d4 --file corrected.md
    """
    from orchestrator.cli import editor

    layout = context.changing(arguments)
    store = stores.of_project(layout)
    task, file = stores.whole(store, arguments.id)
    shown = rewrite.text_of(file)

    def taking(text: str) -> Callable[[TaskFile], str]:
        def changed(file: TaskFile) -> str:
            if rewrite.text_of(file) != shown:
                message = f"{task.id} was changed by somebody else meanwhile"
                hint = f"see: orchestrator task show {task.id}"
                raise OrchestratorError(message, hint, code="changed_meanwhile")
            return text

        return changed

    if arguments.file is not None:
        text = body_text.read(arguments.file)
        before, after = _apply(layout, task.id, taking(text), task.state)
    else:
        again = f"correct it, then: orchestrator task edit {task.id} --file {{path}}"
        with editor.edited(shown, task.id, again) as text:
            before, after = _apply(layout, task.id, taking(text), task.state)
    earlier = editor.kept(shown, task.id) if after.raw != before.raw else ""
    _report(arguments, before, after, "edit", "--file", earlier)


def _apply(
    layout: Layout, task_id: str, changed: Callable[[TaskFile], str], was: str | None = None
) -> tuple[TaskFile, TaskFile]:
    """Change a task's text under the queue's lock; return the file before and after.

    `was` is the state in which the person saw the task: a warning says that it is in another.
    Raises OrchestratorError, and then nothing was changed.
    """
    loaded, store = task_values.settings(layout), stores.of_project(layout)
    with store.change():
        task = store.find(task_id)
        before = store.read(task)
        if was not in (None, task.state):
            output.err(f"warning: {task.id} was in {was}; meanwhile it has moved to {task.state}")
        text = changed(before)
        if text == rewrite.text_of(before):
            return before, before
        after = rewrite.with_text(before.raw, f"{task.id}.md", text)
        text = _checked(layout, loaded, task, before, after)
        task = store.rewrite(task, text)
        after = store.read(task)
        keys = sorted(_differences(before, after)) or ["TEXT"]
        context.record_event(layout, "edited", task=task.id, fields=keys)
    if "DEPENDS_ON" in keys:
        for warning in task_values.circular(layout, loaded, store, task.id):
            output.err(f"warning: {warning}")
    if task.state in ("done", "failed"):
        output.err(
            f"warning: {task.id} is in {task.state}: no run sees the change unless it returns"
        )
    elif task.state == "claimed":
        output.err(f"warning: a run works on {task.id}; its next attempt sees the change")
    return before, after


def _checked(
    layout: Layout, loaded: Settings, task: Task, before: TaskFile, after: TaskFile
) -> str:
    """Return the text of `after`, with the meaning of its new values written out.

    Raises OrchestratorError for a new value that no agent could use.
    """
    new, values = _differences(before, after), {}
    held = [key for key in OF_A_RUN if key in new and task.state == "claimed"]
    if held:
        hint = f"stop its run first: orchestrator stop {task.claimed_by}"
        message = f"{held[0]} of {task.id} cannot change while a run works on it"
        raise OrchestratorError(message, hint, code="running")
    if "ROLE" in new:
        values["ROLE"] = task_values.task_role(new["ROLE"], loaded.roles, force=False, otherwise="")
    if new.get("BRANCH"):
        task_values.check_branch(layout, loaded, new["BRANCH"])
    task_values.check_time(new.get("NOT_BEFORE"))
    if new.get("DEPENDS_ON"):
        words = task_file.summarise(after, task.state, "", 0.0).depends_on
        store = stores.of_project(layout)
        ids, _ = task_values.named_dependencies(store, words, force=False)
        if task.id in ids:
            raise TaskFileError(f"{task.id} cannot depend on itself", "name other tasks")
        values["DEPENDS_ON"] = ", ".join(ids)
    if TITLE in new or "ROLE" in new:
        _refuse_duplicate(layout, task, after)
    different = {key: value for key, value in values.items() if value != (after.get(key) or "")}
    return rewrite.with_fields(after, different) if different else rewrite.text_of(after)


def _refuse_duplicate(layout: Layout, task: Task, after: TaskFile) -> None:
    if task.state in ("incoming", "claimed"):
        role = after.get("ROLE") or ""
        found = stores.of_project(layout).has_title(after.title, role, ("incoming", "claimed"))
        if found is not None and found.id != task.id:
            message = f"task {found.id} has that title already, in {found.state}"
            raise OrchestratorError(message, "choose another title", code="duplicate_task")


def _assignment(word: str) -> tuple[str, str]:
    """Return the upper-case key and the value of `key=value`. Raises UsageError."""
    key, equals, value = word.partition("=")
    key, value = key.strip().upper().replace("-", "_"), value.strip()
    if not equals or not key:
        raise UsageError(f"expected key=value, found {word!r}", "for example: priority=P0")
    if key == "PRIORITY" and value:
        value = value.upper()
        if value not in PRIORITIES:
            hint = did_you_mean(value, PRIORITIES)
            raise OrchestratorError(f"{word!r}: {value!r} is not a priority", hint)
    if key in (TITLE, "ROLE") and not value:
        raise OrchestratorError(f"a task needs a {key.lower()}", f"for example: {key.lower()}=...")
    return key, value


def _refuse_unknown(key: str, file: TaskFile) -> None:
    if key in OWN:
        message = f"{key.lower()} is written by orchestrator, and cannot be set"
        raise OrchestratorError(message, f"known: {', '.join(FIELDS).lower()}")
    if key not in FIELDS and key not in file.known:
        known = [name.lower() for name in (*FIELDS, *file.known) if name not in OWN]
        hint = did_you_mean(key.lower(), dict.fromkeys(known))
        raise OrchestratorError(f"a task has no field {key.lower()!r}", hint, code="unknown_field")


def _differences(before: TaskFile, after: TaskFile) -> dict[str, str]:
    """Return the new value of each changed field; "" for a removed one."""
    old, new = ({TITLE: file.title, **file.known} for file in (before, after))
    return {k: new.get(k, "") for k in (*new, *old) if new.get(k, "") != old.get(k, "")}


def _report(arguments: Namespace, before: TaskFile, after: TaskFile, *undo: str) -> None:
    """Print what changed; `undo` is the subcommand that undoes it, and its words after the id."""
    new, old = _differences(before, after), _differences(after, before)
    changed = {key.lower(): {"from": old[key] or None, "to": new[key] or None} for key in new}
    told = [f"{k} {v['from'] or 'none'} -> {v['to'] or 'none'}" for k, v in changed.items()]
    if before.body != after.body:
        told.append("the text")
    lines = [f"{after.id}: {', '.join(told) or 'nothing changed'}"]
    if told:
        import shlex

        words = ("orchestrator", "task", undo[0], after.id, *undo[1:])
        lines.append(f"  undo: {shlex.join(words)}")
    value = {"id": after.id, "changed": changed, "text_changed": before.body != after.body}
    output.answer(arguments, value, *lines)
