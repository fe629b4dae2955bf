"""List, show, review, merge or close pull requests.

examples:
  orchestrator pr diff 3
  orchestrator pr request-changes 3 'Keep the old name of the option.'
  orchestrator pr merge 3
"""

from __future__ import annotations

import contextlib
import os
import time

from orchestrator.cli import context, output
from orchestrator.cli.parser import NO_TICK, Namespace, argument, command, flag, group
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError, SystemFault
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import Given, PullRequest
from orchestrator.pulls import forges, states, verdicts
from orchestrator.system import locks
from orchestrator.system.later import Later
from orchestrator.tasks import stores

if TYPE_CHECKING:
    from orchestrator.git import base_branch, call, repository, settings
    from orchestrator.guard import client_environment
else:
    base_branch, call = Later("git.base_branch"), Later("git.call")
    repository, settings = Later("git.repository"), Later("git.settings")
    client_environment = Later("guard.client_environment")

#: Seconds that a merge waits for another merge, which may be at its checks.
LANDING_WAIT = locks.LONGEST_WAIT
ID = argument("pr", metavar="ID", help="the id of a pull request, as `pr list` shows it")

group("pr", __doc__)


@command("pr list", flag("--all", "also older merged pull requests"))
def list_all(arguments: Namespace) -> None:
    """List the pull requests of all agents' branches; of the merged ones, the newest.

    examples:
      orchestrator pr list
      orchestrator pr list --all --json
    """
    from orchestrator.cli import json_rows

    layout = context.reading(arguments)
    config = context.settings(layout).config
    left = [pr._replace(id=f"{forge}:{pr.id}") for forge, pr in forges.left(layout, config)]
    prs = [*context.pull_requests(layout, config, every=arguments.all), *left]
    headings = ("id", "state", "verdict", "task", "title", "branch")
    cells = [(p.id, _state(p), _word(layout, p), p.task, p.title, p.branch) for p in prs]
    value = [json_rows.pull_request_row(pr) for pr in prs]
    output.listing(arguments, value, headings, cells, "no pull requests yet")


def _state(pr: PullRequest) -> str:
    return f"{pr.state} (draft)" if pr.draft else pr.state


def _word(layout: Layout, pr: PullRequest) -> str | None:
    """Return the verdict, with the names of the people who object."""
    if pr.state != "open" or pr.verdict != verdicts.CHANGES:
        return pr.verdict
    objecting = [given.by for given in verdicts.objections(states.reviews(layout, pr))]
    return f"{pr.verdict} by {', '.join(objecting)}" if objecting else pr.verdict


@command("pr show", ID)
def show(arguments: Namespace) -> None:
    """Show one pull request with its text, its reviews, its checks, and who moves it next."""
    from orchestrator.cli import json_rows
    from orchestrator.tick import inbox

    layout = context.reading(arguments)
    loaded, seen = context.look(layout)
    config, number = forges.named(loaded.config, arguments.pr)
    prs = context.pull_requests(layout, config)
    pr = _numbered(layout, config, prs, number)
    left = config.forge != loaded.config.forge
    move = None if left else inbox.survey(layout, loaded, seen, prs).moves.get(pr.id)
    body = forges.of_project(layout, config).book.body(pr.id)
    reviews = sorted(states.reviews(layout, pr), key=lambda given: given.at or "")
    stat = ""
    with contextlib.suppress(OrchestratorError):  # not fetched yet
        stat = call.ask(layout.root, "diff", "--stat", _changes(layout, config, pr))
    said = f"""\
{pr.id}: {pr.title}
  {_state(pr)}; verdict: {_word(layout, pr) or "none yet"}; task: {pr.task or "-"}
  {pr.branch} ({pr.head[:12]}) into {pr.base}
  see the changes: orchestrator pr diff {arguments.pr if left else pr.id}
"""
    said += f"  {pr.address}\n" if pr.address else ""
    said += f"  next: {move.text}\n" if move else ""
    said += f"    {move.step}\n" if move and move.step else ""
    said += "".join(f"  check {c.name}: {c.state} {c.url or ''}".rstrip() + "\n" for c in pr.checks)
    said += "  it conflicts with its base\n" if pr.mergeable is False else ""
    said += f"{stat}\n" if stat else ""
    said += f"\n{body.strip()}\n" if body.strip() else ""
    said += "".join(map(_shown, reviews))
    if arguments.json:
        output.show_json(json_rows.pull_request(pr, body, reviews, move))
    else:
        output.prose(said.rstrip())


def _shown(given: Given) -> str:
    commit = f" on {given.commit[:12]}" if given.commit else ""
    text = "".join(f"  {line}\n" for line in given.text.splitlines())
    return f"\n{given.at or '-'} {given.by} ({given.kind}): {given.verdict}{commit}\n{text}"


@command("pr diff", ID)
def diff(arguments: Namespace) -> None:
    """Show the changes of a pull request; on a terminal in git's pager."""
    import subprocess

    layout = context.reading(arguments)
    config, number = forges.named(context.settings(layout).config, arguments.pr)
    pr = _numbered(layout, config, context.pull_requests(layout, config), number)
    paged = output.on_terminal() and not arguments.json
    # By default git shows of a submodule only that it has another commit.
    inside = [] if settings.find(layout.root, "diff.submodule") else ["--submodule=diff"]
    # A person's settings are for people: a program gets the format that `git apply` reads.
    plain = [] if paged else ["--src-prefix=a/", "--dst-prefix=b/"]
    colourless = [] if paged and "NO_COLOR" not in os.environ else ["--no-color"]
    how = ["--no-ext-diff", *colourless, *plain, *inside]
    words = ["git", "diff", *how, _changes(layout, config, pr)]
    # The pager needs the locale of the person. The bytes of a diff stay as they are.
    variables = client_environment.for_git(os.environ, LC_ALL=os.environ.get("LC_ALL", ""))
    done = subprocess.run(
        words,
        cwd=layout.root,
        env=variables,
        stdout=None if paged else subprocess.PIPE,
        check=False,
    )
    if done.returncode and not paged:  # a pager that ends early ends git with a signal
        raise OrchestratorError(f"git diff ended with {done.returncode}", code="git_failed")
    if arguments.json:
        output.show_json({"id": pr.id, "diff": done.stdout.decode(errors="replace")})
    elif not paged:
        output.copy(done.stdout)


def _changes(layout: Layout, config: Config, pr: PullRequest) -> str:
    """Return what `git diff` compares for a pull request, also after a merge commit landed it."""
    root = layout.root
    remote = base_branch.remote_of(layout, config)
    base = base_branch.branch_commit(root, remote, pr.base)
    gone = pr.base if base is None else pr.branch if not repository.resolve(root, pr.head) else None
    if base is None or gone is not None:
        hint = f"try: git fetch {remote or config.remote} {gone}"
        raise OrchestratorError(f"this repository has no commit of {gone}", hint, code="no_branch")
    if repository.is_ancestor(root, pr.head, base):
        span = f"{pr.head}..{base}"
        found = call.ask(root, "rev-list", "--reverse", "--ancestry-path", "--merges", span)
        base = f"{found.split()[0]}^1" if found else base
    # A branch whose history somebody replaced can lack a commit in common with its base.
    dots = "..." if repository.merge_base(root, base, pr.head) else ".."
    return f"{base}{dots}{pr.head}"


def _numbered(layout: Layout, config: Config, prs: list[PullRequest], number: str) -> PullRequest:
    """Return the pull request with a number.

    Raises NotFound, and OrchestratorError if its record is damaged.
    """
    found = next((pr for pr in prs if pr.id == number), None)
    return found or forges.of_project(layout, config).book.find(number)


def find(layout: Layout, config: Config, number: str) -> PullRequest:
    """Return a pull request with its state as known now. Raises OrchestratorError."""
    where = forges.of_project(layout, config)
    pr = where.show(number)
    for known in states.known(layout, config) or ():
        if known.id == pr.id:
            # The forge was asked just now; what is known is as old as the last tick. But the head
            # stays: a person decides about the commit that the person could see.
            state = pr.state if where.is_elsewhere else known.state
            return known._replace(state=state, base=pr.base, reviews=pr.reviews, draft=pr.draft)
    return pr


@command("pr merge", ID, NO_TICK)
def merge(arguments: Namespace) -> None:
    """Merge a pull request into its base branch, after the checks pass on the merged result."""
    layout = context.changing(arguments)
    commit = merge_pull_request(layout, arguments.pr)
    number = arguments.pr.removeprefix("pr:").removeprefix("#")
    value = {"id": number, "state": "merged" if commit else "open", "commit": commit}
    said = f"merged {number}: its base branch is now at {(commit or '')[:12]}"
    if commit is None:
        said = f"the forge merges {number} as soon as its own rules allow it"
    output.answer(arguments, value, said, *how_to_have(layout, commit))


def how_to_have(layout: Layout, merged: str | None) -> list[str]:
    """Return how a person gets a merge into the checkout; without a remote, it is there already."""
    if merged and base_branch.remote_of(layout, context.settings(layout).config):
        return ["  it is at the remote; to update your checkout: git pull"]
    return []


def merge_pull_request(layout: Layout, pr_id: str) -> str | None:
    """Merge one pull request as a person asks; return the base's new commit.

    None if the forge merges it later, by itself.
    """
    from orchestrator.pulls import follower, landing

    own = context.good_settings(layout).config
    config, number = forges.named(own, pr_id)
    first = "; `checks` run on the merged result first" if own.checks else ""
    output.progress(f"merging {number}{first} ...")
    with landing.alone(layout, LANDING_WAIT):
        pr = find(layout, config, number)
        commit = landing.merge(layout, config, pr, time.time())
    follower.end(layout, own, pr.id, context.now(), config.forge)
    return commit


@command("pr close", ID)
def close(arguments: Namespace) -> None:
    """Close a pull request without merging it; its branch is kept."""
    from orchestrator.pulls import follower

    layout = context.changing(arguments)
    own = context.good_settings(layout).config
    config, number = forges.named(own, arguments.pr)
    where = forges.of_project(layout, config)
    pr = where.book.find(number)
    if not is_left(layout, own, config):
        try:
            pr = where.show(number)
        except SystemFault as error:
            if error.code != "remote_moved":  # then only the record is left to close
                raise
    if refused := states.not_open(pr):
        raise refused
    try:
        where.close(pr.id)
    except SystemFault as error:
        if not is_left(layout, own, config):
            raise
        where.book.record(pr.id, state="closed")
        said = f"{pr.id} counts as closed here, but {where.name} was not told"
        output.warn_of([Problem(error.code, f"{said}: {error.message}", error.hint)])
    follower.end(layout, own, pr.id, context.now(), config.forge)
    task = stores.of_project(layout).get(pr.task or "")
    said = f"closed {pr.id}; its branch {pr.branch} is kept"
    if task and (task.state, task.reason) == ("failed", "cancelled"):
        again = f"to work on it again: orchestrator task retry {task.id}"
        said += f"; its task {task.id} is cancelled; {again}"
    output.answer(arguments, {"id": pr.id, "state": "closed"}, said)


def is_left(layout: Layout, own: Config, config: Config) -> bool:
    """Whether a person named another forge than the project's: it may not answer any more."""
    return forges.of_project(layout, own).name != forges.of_project(layout, config).name
