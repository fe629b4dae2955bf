"""List, show, merge or close pull requests.

examples:
  orchestrator pr show 3
  orchestrator pr merge 3
"""

from __future__ import annotations

import time
from argparse import Namespace

from orchestrator.cli import context, json_rows, output
from orchestrator.cli.parser import argument, command, group
from orchestrator.errors import OrchestratorError
from orchestrator.git import call
from orchestrator.layout import Layout
from orchestrator.model import Config, PullRequest
from orchestrator.pulls import forges, landing, states
from orchestrator.system import locks

#: Seconds that a merge waits for another merge, which may be at its checks.
LANDING_WAIT = 900.0
ID = argument("pr", metavar="ID", help="the id of a pull request, as `pr list` shows it")

group("pr", __doc__)


@command("pr list")
def list_all(arguments: Namespace) -> None:
    """List the pull requests of all agents' branches."""
    layout = context.layout(arguments)
    prs = context.pull_requests(layout, context.settings(layout).config)
    headings = ("id", "state", "verdict", "task", "title", "branch")
    cells = [[getattr(pr, name) for name in headings] for pr in prs]
    value = [json_rows.pull_request_row(pr) for pr in prs]
    output.listing(arguments, value, headings, cells, "no pull requests yet")


@command("pr show", ID)
def show(arguments: Namespace) -> None:
    """Show one pull request, and the command that shows its changes."""
    layout = context.layout(arguments)
    pr = _find(layout, context.settings(layout).config, arguments.pr)
    stat = call.run(layout.root, "diff", "--stat", f"{pr.base}...{pr.head}")
    said = f"""\
{pr.id}: {pr.title}
  {pr.state}; verdict: {pr.verdict or "none yet"}; task: {pr.task or "-"}
  {pr.branch} ({pr.head[:12]}) into {pr.base}
  {pr.url}
  see the changes: git diff {pr.base}...{pr.head[:12]}
{stat.out if stat.code == 0 else ""}"""
    output.answer(arguments, json_rows.pull_request_row(pr), said.rstrip())


def _find(layout: Layout, config: Config, pr_id: str) -> PullRequest:
    """Return a pull request with its state as known now. Raises OrchestratorError."""
    pr = forges.of_project(layout, config).show(pr_id)
    return next((known for known in states.known(layout, config) or () if known.id == pr.id), pr)


@command("pr merge", ID)
def merge(arguments: Namespace) -> None:
    """Merge a pull request into its base branch, after the checks pass on the merged result."""
    commit = merge_pull_request(context.changing(arguments), arguments.pr)
    value = {"id": arguments.pr, "state": "merged" if commit else "open", "commit": commit}
    said = f"merged {arguments.pr}: the base is now at {(commit or '')[:12]}"
    if commit is None:
        said = f"the forge merges {arguments.pr} as soon as its own rules allow it"
    output.answer(arguments, value, said)


def merge_pull_request(layout: Layout, pr_id: str) -> str | None:
    """Merge one pull request as a person asks; return the base's new commit.

    None if the forge merges it later, by itself.
    """
    config = context.good_settings(layout).config
    try:
        with landing.lock(layout, LANDING_WAIT):
            return landing.merge(layout, config, _find(layout, config, pr_id), time.time())
    except locks.LockHeld:
        message = "another merge is still running its checks"
        raise OrchestratorError(message, "try again later", code="landing_busy") from None


@command("pr close", ID)
def close(arguments: Namespace) -> None:
    """Close a pull request without merging it; its branch is kept."""
    layout = context.changing(arguments)
    where = forges.of_project(layout, context.good_settings(layout).config)
    pr = where.show(arguments.pr)
    if pr.state != "open":
        hint = "see: orchestrator pr list"
        raise OrchestratorError(f"pull request {pr.id} is {pr.state}", hint, code="not_open")
    where.close(pr.id)
    said = f"closed {pr.id}; its branch {pr.branch} is kept"
    output.answer(arguments, {"id": pr.id, "state": "closed"}, said)
