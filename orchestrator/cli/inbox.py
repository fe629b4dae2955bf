"""`inbox`: what waits for a person, and the person's answers."""

from __future__ import annotations

from orchestrator.cli import body_text, context, output
from orchestrator.cli.parser import NO_TICK, Namespace, argument, command
from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.times import parse_time
from orchestrator.pulls import forges, landing_queue, states
from orchestrator.tasks import stores
from orchestrator.text.words import local
from orchestrator.tick.inbox import Item, next_step, survey, way_on

#: The fields of an item in the JSON.
_SHOWN = ("id", "kind", "task", "run", "text", "since")
ID = argument("id", metavar="ID", help="the id of an item, as `orchestrator inbox` shows it")


@command("inbox list")
@command("inbox")
def inbox(arguments: Namespace) -> None:
    """Show the questions and decisions that wait for a person.

    examples:
      orchestrator inbox          (or: orchestrator inbox list)
      orchestrator inbox answer TASK-a1b2c3d4 'Keep the old format.'
      orchestrator inbox reject pr:3 'Keep the old name of the option.'
    """
    layout = context.reading(arguments)
    found = survey(layout, *context.look(layout)).items
    if arguments.json:
        output.show_json([_row(item) for item in found])
        return
    for item in found:
        about = f" ({item.task})" if item.task not in (None, item.id) else ""
        since = local(parse_time(item.since)) if item.since else None
        output.out(f"{item.id}  {item.kind}{about}  {since or ''}".rstrip())
        for line in item.text.splitlines():
            output.prose(f"  {line}")
        if item.kind == "approval":
            output.out(f"  see the changes: orchestrator pr diff {item.id.removeprefix('pr:')}")
        output.prose(f"  -> {next_step(layout, item)}", 5)
    if not found:
        output.out("nothing waits for you")


def _row(item: Item) -> dict[str, object]:
    row = {name: getattr(item, name) for name in _SHOWN}
    return row | ({"host": item.host} if item.host else {})


def _item(layout: Layout, name: str) -> Item:
    """Return the item with that id; a pull request's number and an agent's name work too."""
    found = {item.id: item for item in survey(layout, *context.look(layout)).items}
    for known in (name, f"pr:{name.removeprefix('#')}", f"agent:{name}"):
        if known in found:
            return found[known]
    raise NotFound("inbox item", name, found)


@command(
    "inbox answer",
    ID,
    argument("text", metavar="TEXT", help="the answer; - reads standard input"),
    NO_TICK,
)
def answer(arguments: Namespace) -> None:
    """Answer a task's question: the task returns to the queue; its next prompt has the answer."""
    layout = context.changing(arguments)
    text = body_text.answer(arguments.text)
    store = stores.of_project(layout)
    with store.change():
        try:
            task = store.find(arguments.id)
        except NotFound:
            raise _no_task(_item(layout, arguments.id)) from None
        if task.state != "blocked":
            message = f"task {task.id} has no open question: it is in {task.state}"
            hint = f"see: orchestrator task show {task.id}"
            raise OrchestratorError(message, hint, code="wrong_state")
        store.move(task, "incoming", context.entry("answered", text=text))
    context.record_event(layout, "answered", task=task.id)
    _report(arguments, task.id, "is in incoming again, with your answer")


def _no_task(item: Item) -> OrchestratorError:
    """Return why an item that is not a task cannot be answered."""
    if item.kind == "approval":
        what = "a pull request"
        hint = f"orchestrator inbox approve {item.id}, reject {item.id} 'TEXT', or dismiss it"
    elif item.agent is None:
        what, hint = "a system fault", "see: orchestrator doctor"
    else:
        what = "an agent"
        hint = f"add a task that says what to do, then: orchestrator inbox dismiss {item.id}"
    return OrchestratorError(f"{item.id} is {what}; only a task can be answered", hint)


@command("inbox approve", ID, NO_TICK)
def approve(arguments: Namespace) -> None:
    """Approve a pull request that waits for you, and merge it.
    (`pr approve` only approves, and accepts any open pull request.)

    examples:
      orchestrator inbox approve pr:3
    """
    layout = context.changing(arguments)
    number = _waiting_pull_request(layout, arguments.id)
    from orchestrator.cli import pr, pr_review

    pr_review.give(layout, number, "approved")
    merged = pr.merge_pull_request(layout, number)
    said = "is merged" if merged else "is merged as soon as the forge can"
    _report(arguments, f"pr:{number}", said, *pr.how_to_have(layout, merged))


def _waiting_pull_request(layout: Layout, name: str) -> str:
    """Return the number of a pull request that waits for a person, also if its item was dismissed.

    Raises OrchestratorError, which says what it waits for instead.
    """
    number = name.removeprefix("pr:").removeprefix("#")
    loaded, seen = context.look(layout)
    known = states.known(layout, loaded.config) or []
    moves = survey(layout, loaded, seen, known).moves
    if number in moves and moves[number].fact:
        return number
    for pr in (pr for pr in known if pr.id == number):
        said, hint = f"it is {pr.state}", f"see: orchestrator pr show {pr.id}"
        if pr.id in moves:
            said = moves[pr.id].text
            refused = landing_queue.refusal(layout, loaded.config, pr)
            anyway = f"to merge it anyway: orchestrator pr merge {pr.id}"
            hint += f"; {refused.hint if refused else anyway}"
        message = f"pull request {pr.id} does not wait for your approval: {said}"
        raise OrchestratorError(message, hint, code="wrong_state")
    # A task is a name of its pull request here, as for `reject`.
    task = stores.of_project(layout).get(name)
    if task is not None and task.pr is not None:
        named, pr_of_task = forges.of_task(layout, loaded.config, task)
        if pr_of_task is None:
            raise forges.unrecorded(task)
        if named == task.pr:
            return _waiting_pull_request(layout, named)
        message = f"the pull request of {task.id} is on another forge: {named}"
        hint = f"to merge it there: orchestrator pr merge {named}"
        raise OrchestratorError(message, hint, code="wrong_state")
    item = _item(layout, name)
    message = f"{item.id} is not a pull request that waits for approval"
    hint = f"try: {next_step(layout, item)}"
    raise OrchestratorError(message, hint, code="wrong_state")


@command("inbox reject", ID, argument("text", metavar="TEXT", help=body_text.HELP), NO_TICK)
def reject(arguments: Namespace) -> None:
    """Request changes in a pull request: its task returns to its author, with your text first."""
    layout = context.changing(arguments)
    from orchestrator.cli import pr_review

    pr_review.request(arguments, layout, _pull_request_of(layout, arguments.id))


def _pull_request_of(layout: Layout, name: str) -> str:
    """Return the pull request that an item, or a task, is about, as a person names it."""
    try:
        task = stores.of_project(layout).find(name)
    except NotFound:
        number = name.removeprefix("pr:").removeprefix("#")
        if number.isdigit():
            return number
        raise NotFound("inbox item", name) from None
    if task.pr is None:
        hint = f"see: orchestrator task show {task.id}"
        raise OrchestratorError(f"task {task.id} has no pull request", hint, code="wrong_state")
    named, pr = forges.of_task(layout, context.good_settings(layout).config, task)
    if pr is None:
        raise forges.unrecorded(task)
    return named


@command("inbox dismiss", ID, NO_TICK)
def dismiss(arguments: Namespace) -> None:
    """Remove an item from the inbox: a task keeps its state, a suspended agent is resumed.

    examples:
      orchestrator inbox dismiss pr:3
    """
    layout = context.changing(arguments)
    item = _item(layout, arguments.id)
    if item.agent and item.is_elsewhere:
        stores.of_project(layout).wake([item.agent], item.host)
        said = f"the next tick on the host {item.host} follows"
    elif item.agent:
        from orchestrator.tick import stop

        said = (
            "the agent is resumed" if stop.wake(layout, [item.agent]) else "it may start runs again"
        )
    elif item.task is None:
        close = f"close it: orchestrator pr close {item.id.removeprefix('pr:')}"
        hint = close if item.kind == "approval" else next_step(layout, item)
        raise OrchestratorError(f"{item.id} cannot be dismissed: it belongs to no task", hint)
    else:
        store = stores.of_project(layout)
        fields = {}
        if item.kind == "approval":
            fields = {"pr": item.id.removeprefix("pr:"), "fact": item.fact}
        with store.change():
            task = store.note(store.find(item.task), context.entry("dismissed", **fields))
        stays = f"{task.id} stays in {task.state}"
        if item.kind == "approval":
            stays = f"pull request {fields['pr']} stays open"
        said = f"{stays} until you decide: {way_on(layout, item)}"
    context.record_event(layout, "dismissed", item=item.id)
    _report(arguments, item.id, f"is removed from the inbox; {said}")


def _report(arguments: Namespace, name: str, said: str, *more: str) -> None:
    output.answer(arguments, {"id": name, "done": said}, f"{name} {said}", *more)
