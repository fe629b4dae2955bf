"""List, show, review, merge or close pull requests.

examples:
  orchestrator pr list
  orchestrator pr diff 3
  orchestrator pr request-changes 3 'Keep the old name of the option.'
  orchestrator pr merge 3
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from argparse import Namespace

from orchestrator.cli import context, json_rows, output
from orchestrator.cli.command import argument, command, group
from orchestrator.config import load
from orchestrator.errors import NotFound, OrchestratorError
from orchestrator.git import base_branch, call, repository, worktree_commands
from orchestrator.guard import client_environment
from orchestrator.layout import Layout
from orchestrator.model import Config, Given, PullRequest
from orchestrator.pulls import forges, landing, states, verdicts
from orchestrator.system import locks

#: Seconds that a merge waits for another merge, which may be at its checks.
LANDING_WAIT = 900.0
ID = argument("id", metavar="ID")

group("pr", __doc__)


@command("pr list")
def list_all(arguments: Namespace) -> None:
    """List every pull request of an agent's branch.

    examples:
      orchestrator pr list
    """
    layout = context.layout(arguments)
    prs = _known(layout, load.settings(layout, write_cache=False).config)
    if arguments.json:
        output.show_json([json_rows.pull_request_row(pr) for pr in prs])
    elif prs:
        headings = ("id", "state", "verdict", "task", "title", "branch")
        rows = [(pr.id, pr.state, _word(layout, pr), pr.task, pr.title, pr.branch) for pr in prs]
        output.table(headings, rows)
    else:
        output.out("no pull requests yet")


def _known(layout: Layout, config: Config) -> list[PullRequest]:
    """Return the pull requests as of the last tick. Raises OrchestratorError."""
    prs = states.known(layout, config)
    if prs is None:
        hint = "see: orchestrator doctor"
        raise OrchestratorError("the forge cannot be asked", hint, code="open_prs_unknown")
    return prs


def _word(layout: Layout, pr: PullRequest) -> str | None:
    """Return the verdict, with the names of the people who object."""
    if pr.state != "open" or pr.verdict != verdicts.CHANGES:
        return pr.verdict
    objecting = [given.by for given in verdicts.objections(states.reviews(layout, pr))]
    return f"{pr.verdict} by {', '.join(objecting)}" if objecting else pr.verdict


@command("pr show", ID)
def show(arguments: Namespace) -> None:
    """Show one pull request with its text, reviews and checks.

    examples:
      orchestrator pr show 3
    """
    layout = context.layout(arguments)
    config = load.settings(layout, write_cache=False).config
    pr = _named(_known(layout, config), arguments.id)
    body = forges.of_project(layout, config).book.body(pr.id)
    reviews = sorted(states.reviews(layout, pr), key=lambda given: given.at or "")
    stat = call.run(layout.root, "diff", "--stat", f"{pr.base}...{pr.head}")
    lines = [
        f"{pr.id}: {pr.title}",
        f"  {pr.state}; verdict: {_word(layout, pr) or 'none yet'}; task: {pr.task or '-'}",
        f"  {pr.branch} ({pr.head[:12]}) into {pr.base}",
        f"  {pr.url}",
        f"  see the changes: orchestrator pr diff {pr.id}",
        *(
            f"  check {check.name}: {check.state}  {check.url or ''}".rstrip()
            for check in pr.checks
        ),
        *(["  it conflicts with its base"] if pr.mergeable is False else []),
        *([stat.out.rstrip()] if stat.code == 0 and stat.out else []),
        *(["", body.strip()] if body.strip() else []),
        *(line for given in reviews for line in _review_lines(given)),
    ]
    output.answer(arguments, json_rows.pull_request(pr, body, reviews), *lines)


def _review_lines(given: Given) -> list[str]:
    commit = f" on {given.commit[:12]}" if given.commit else ""
    first = f"{given.at or '-'} {given.by} ({given.kind}): {given.verdict}{commit}"
    return ["", first, *(f"  {line}" for line in given.text.splitlines())]


@command("pr diff", ID)
def diff(arguments: Namespace) -> None:
    """Show the changes of a pull request, in the pager on a terminal.

    examples:
      orchestrator pr diff 3
      orchestrator pr diff 3 | git apply --check
    """
    layout = context.layout(arguments)
    config = load.settings(layout, write_cache=False).config
    pr = _named(_known(layout, config), arguments.id)
    paged = output.on_terminal() and not arguments.json
    words = ["git", "diff", "--no-ext-diff", _changes(layout, config, pr)]
    # The pager needs the locale of the person. The bytes of a diff stay as they are.
    variables = client_environment.for_git(os.environ, LC_ALL=os.environ.get("LC_ALL", ""))
    done = subprocess.run(
        words,
        cwd=layout.root,
        env=variables,
        stdout=None if paged else subprocess.PIPE,
        check=False,
    )
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
    return f"{base}...{pr.head}"


@command("pr checkout", ID)
def checkout(arguments: Namespace) -> None:
    """Check out the head of a pull request in your checkout, detached; no branch moves.

    examples:
      orchestrator pr checkout 3
    """
    layout = context.changing(arguments)
    config, root = context.good_settings(layout).config, layout.root
    pr = find(layout, config, arguments.id)
    remote = base_branch.remote_of(layout, config)
    if remote and repository.resolve(root, pr.head) is None:
        base_branch.fetch(layout, remote, [pr.branch])
    before = worktree_commands.state(root)
    refused = f"{root} has uncommitted changes" if worktree_commands.has_changes(root) else None
    if refused is None:
        # `switch` refuses in the middle of a merge, a rebase or a bisect.
        done = call.run(root, "switch", "--quiet", "--detach", pr.head)
        refused = f"git cannot switch {root}: {call.reason(done.err)}" if done.code else None
    if refused is not None:
        hint = f"commit or stash them; or see the changes: orchestrator pr diff {pr.id}"
        raise OrchestratorError(refused, hint, code="checkout_not_clean")
    back = before.branch or f"--detach {before.head}"
    said = f"{root} is at {pr.head[:12]}, the head of {pr.id}; back: git switch {back}"
    output.answer(arguments, {"id": pr.id, "commit": pr.head, "path": root}, said)


def _named(prs: list[PullRequest], name: str) -> PullRequest:
    """Return the pull request with a number, also written as `#3` or `pr:3`. Raises NotFound."""
    number = name.removeprefix("pr:").removeprefix("#")
    for pr in prs:
        if pr.id == number:
            return pr
    raise NotFound("pull request", name, [pr.id for pr in prs])


def find(layout: Layout, config: Config, name: str) -> PullRequest:
    """Return a pull request with its state as known now. Raises OrchestratorError."""
    number = name.removeprefix("pr:").removeprefix("#")
    pr = forges.of_project(layout, config).show(number)
    return next((known for known in states.known(layout, config) or () if known.id == pr.id), pr)


@command("pr merge", ID)
def merge(arguments: Namespace) -> None:
    """Merge into the base, after the checks pass on the merged result.

    examples:
      orchestrator pr merge 3
    """
    commit = merge_pull_request(context.changing(arguments), arguments.id)
    value = {"id": arguments.id, "state": "merged" if commit else "open", "commit": commit}
    said = f"merged {arguments.id}: the base is now at {(commit or '')[:12]}"
    if commit is None:
        said = f"the forge merges {arguments.id} as soon as its own rules allow it"
    output.answer(arguments, value, said)


def merge_pull_request(layout: Layout, pr_id: str) -> str | None:
    """Merge one pull request as a person asks; return the base's new commit.

    None if the forge merges it later, by itself.
    """
    config = context.good_settings(layout).config
    try:
        with contextlib.closing(landing.lock(layout, LANDING_WAIT)) as guard, guard:
            return landing.merge(layout, config, find(layout, config, pr_id), time.time())
    except locks.LockHeld:
        raise OrchestratorError(
            "another merge is still running its checks", "try again later", code="landing_busy"
        ) from None


@command("pr close", ID)
def close(arguments: Namespace) -> None:
    """Close without merging; the branch is kept.

    examples:
      orchestrator pr close 3
    """
    layout = context.changing(arguments)
    where = forges.of_project(layout, context.good_settings(layout).config)
    pr = where.show(arguments.id)
    if pr.state != "open":
        hint = "see: orchestrator pr list"
        raise OrchestratorError(f"pull request {pr.id} is {pr.state}", hint, code="not_open")
    where.close(pr.id)
    said = f"closed {pr.id}; its branch {pr.branch} is kept"
    output.answer(arguments, {"id": pr.id, "state": "closed"}, said)
