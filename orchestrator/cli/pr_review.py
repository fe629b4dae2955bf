"""A person's own word on a pull request: `pr approve`, `pr request-changes` and `pr merged`."""

from __future__ import annotations

import os

from orchestrator.cli import body_text, context, output
from orchestrator.cli.parser import NO_TICK, Namespace, argument, command, flag
from orchestrator.cli.pr import ID, find, is_left
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.snapshot import Problem
from orchestrator.model.times import iso
from orchestrator.model.work import Given, PullRequest, Task
from orchestrator.pulls import forges, states
from orchestrator.tasks import stores

TEXT = argument("text", metavar="TEXT", help=body_text.HELP)


@command("pr approve", ID, NO_TICK)
def approve(arguments: Namespace) -> None:
    """Approve the head of a pull request; this resolves every earlier request for changes. To
    merge, use `pr merge`, or `review.auto_merge`. (`inbox approve` approves and merges.)
    """
    from orchestrator.tick import inbox

    layout = context.changing(arguments)
    pr, task = give(layout, arguments.pr, "approved")
    loaded, seen = context.look(layout)
    move = inbox.survey(layout, loaded, seen).moves.get(pr.id)
    then = f"to merge it: orchestrator pr merge {pr.id}"
    if task.state == "claimed":
        then = f"its task is claimed: a newer commit needs a new approval (see {task.id})"
    elif pr.draft:
        then = f"{states.WAITS_AS_DRAFT}: {pr.url}"
    elif move and move.by in ("landing", "forge"):
        then = move.text.removeprefix("approved; ")
    _answer(arguments, pr, task, f"approved {pr.id} at {pr.head[:12]}; {then}")


@command("pr request-changes", ID, TEXT, NO_TICK)
def request_changes(arguments: Namespace) -> None:
    """Request changes: the task goes back to its author, with your text first."""
    request(arguments, context.changing(arguments), arguments.pr)


def request(arguments: Namespace, layout: Layout, pr_id: str) -> None:
    """Request the changes that `arguments.text` describes, and say what happens next."""
    text = body_text.answer(arguments.text)
    pr, task = give(layout, pr_id, "changes_requested", text)
    said = f"{task.id} is in {task.state} again, with your text"
    if task.state != "incoming":
        said = f"{task.id} is {task.state}; your text is in its history, and {pr.id} cannot land"
    _answer(arguments, pr, task, said)


@command(
    "pr merged", ID, flag("--undo", "withdraw the record: the pull request is open again"), NO_TICK
)
def merged(arguments: Namespace) -> None:
    """Record that somebody has merged a pull request, where neither the forge nor git shows it;
    merges nothing. (`pr merge` merges it.)

    examples:
      orchestrator pr merged 3
      orchestrator pr merged 3 --undo
    """
    layout = context.changing(arguments)
    own = context.good_settings(layout).config
    config, number = forges.named(own, arguments.pr)
    book = forges.of_project(layout, config).book
    if arguments.undo:
        _take_back(arguments, layout, config, number)
        return
    pr = book.find(number) if is_left(layout, own, config) else find(layout, config, number)
    said = [f"{pr.id} is merged already"]
    if pr.state != "merged":
        said = [
            f"{pr.id} counts as merged; nothing was merged now, and {pr.branch} is kept",
            f"  undo: orchestrator pr merged {pr.id} --undo",
        ]
        book.say_merged(pr.id)
        context.record_event(layout, "merged", pr=pr.id, task=pr.task)
        from orchestrator.pulls import follower

        follower.end(layout, own, pr.id, context.now(), config.forge)
    output.answer(arguments, {"id": pr.id, "state": "merged"}, *said)


def _take_back(arguments: Namespace, layout: Layout, config: Config, number: str) -> None:
    """Undo `pr merged`: the pull request is open, and its task is delivered, as before."""
    from orchestrator.pulls import review

    book, store = forges.of_project(layout, config).book, stores.of_project(layout)
    pr = book.find(number)
    if not pr.said:
        message = f"nobody recorded pull request {pr.id} as merged with `pr merged`"
        hint = f"see: orchestrator pr show {pr.id}"
        raise OrchestratorError(message, hint, code="wrong_state")
    book.take_back(pr.id)
    with store.change():
        task = store.get(pr.task or "")
        if task is not None and task.pr == pr.id and task.state == "done":
            summary = "The record that its pull request is merged was taken back."
            fields = {"pr": pr.id, "summary": summary, review.AGAIN: True}
            store.move(task, "done", context.entry("done", **fields))
    context.record_event(layout, "not_merged", pr=pr.id, task=pr.task)
    output.answer(arguments, {"id": pr.id, "state": "open"}, f"{pr.id} is open again")


def give(
    layout: Layout, pr_id: str, verdict: str, text: str | None = None
) -> tuple[PullRequest, Task]:
    """Record a person's review of the head of an open pull request, and show it at the forge.

    An approval resolves the objections before it. Returns the pull request as it was, and the task
    as it is now. Raises OrchestratorError.
    """
    from orchestrator.pulls import review

    config, number = forges.named(context.good_settings(layout).config, pr_id)
    pr = find(layout, config, number)
    if refused := states.not_open(pr):
        raise refused
    approved = verdict == "approved"
    now, store = context.now(), stores.of_project(layout)
    by = person(layout.root)
    given = Given(by, "person", verdict, pr.head, text or "", iso(now), settles=approved)
    with store.change():
        try:
            task = store.find(pr.task or "")
        except NotFound:
            gone = f"the task of pull request {pr.id} is gone, so no review of it can be recorded"
            hint = f"merge or close it: orchestrator pr show {pr.id}"
            raise OrchestratorError(gone, hint, code="not_found") from None
        run = f"person-{os.urandom(4).hex()}"
        task = review.record_verdict(store, config, task, given, now=now, run=run)
    context.record_event(layout, "review", task=task.id, pr=pr.id, verdict=verdict)
    said = "the review counts, but it is not shown at the forge:"
    try:
        if refusal := forges.of_project(layout, config).post(pr, given):
            output.warn_of([Problem("forge_failed", f"{said} {refusal}")])
    except OrchestratorError as error:
        output.warn_of([Problem(error.code, f"{said} {error.message}", error.hint)])
    return pr, task


def person(root: str) -> str:
    """Return the name of the person who calls: as git knows it, else the login name."""
    from orchestrator.git import settings

    named = settings.find(root, "user.name").get("user.name", ())
    if named and named[-1].strip():
        return named[-1].strip()
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, in a container
        return "a person"


def _answer(arguments: Namespace, pr: PullRequest, task: Task, said: str) -> None:
    value = {"id": pr.id, "task": task.id, "state": task.state, "commit": pr.head}
    output.answer(arguments, value, said)
