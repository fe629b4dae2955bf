"""`pr`: the pull requests of either forge."""

from __future__ import annotations

import argparse
from typing import Any

from orchestrator.cli import context, json_rows, output
from orchestrator.cli.parser import command, group
from orchestrator.config import load
from orchestrator.errors import OrchestratorError
from orchestrator.git import call
from orchestrator.layout import Layout
from orchestrator.model import PullRequest
from orchestrator.pulls import forges, landing, states

#: Seconds that a merge waits for another one, which may be at its checks.
LANDING_WAIT = 900.0


def register(commands: Any) -> None:
    pulls = group(
        commands,
        "pr",
        "list, show, merge or close pull requests",
        "  orchestrator pr list\n  orchestrator pr show 3\n  orchestrator pr merge 3",
    )
    summary = "every pull request of an agent's branch"
    command(pulls, "list", list_all, summary, "  orchestrator pr list")
    for name, function, summary in (
        ("show", show, "one pull request, and how to see its changes"),
        ("merge", merge, "merge into the base, after the checks pass on the merged result"),
        ("close", close, "close without merging; the branch stays"),
    ):
        parser = command(pulls, name, function, summary, f"  orchestrator pr {name} 3")
        parser.add_argument("id", metavar="ID")


def _known(layout: Layout) -> list[PullRequest]:
    found = states.known(layout, load.settings(layout, write_cache=False).config)
    if found is None:
        raise OrchestratorError(
            "the forge cannot be asked", "see: orchestrator doctor", code="open_prs_unknown"
        )
    return found


def list_all(arguments: argparse.Namespace) -> int:
    prs = _known(context.layout(arguments))
    if arguments.json:
        output.show_json([json_rows.pull_request_row(pr) for pr in prs])
        return 0
    if not prs:
        output.out("no pull requests yet")
        return 0
    headings = ("id", "state", "verdict", "task", "title", "branch")
    rows = [(pr.id, pr.state, pr.verdict, pr.task, pr.title, pr.branch) for pr in prs]
    output.table(headings, rows)
    return 0


def show(arguments: argparse.Namespace) -> int:
    layout = context.layout(arguments)
    config = load.settings(layout, write_cache=False).config
    pr = forges.of_project(layout, config).show(arguments.id)
    pr = next((known for known in _known(layout) if known.id == pr.id), pr)
    if arguments.json:
        output.show_json(json_rows.pull_request_row(pr))
        return 0
    output.out(f"{pr.id}: {pr.title}")
    output.out(f"  {pr.state}; verdict: {pr.verdict or 'none yet'}; task: {pr.task or '-'}")
    output.out(f"  {pr.branch} ({pr.head[:12]}) into {pr.base}")
    output.out(f"  {pr.url}")
    output.out(f"  see the changes: git diff {pr.base}...{pr.head[:12]}")
    stat = call.run(layout.root, "diff", "--stat", f"{pr.base}...{pr.head}")
    if stat.code == 0 and stat.out:
        output.out(stat.out.rstrip())
    return 0


def merge(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    merged = merge_pull_request(layout, arguments.id)
    if arguments.json:
        output.show_json({"id": arguments.id, "state": "merged", "commit": merged})
    else:
        output.out(f"merged {arguments.id}: the base is now at {merged[:12]}")
    return 0


def merge_pull_request(layout: Layout, pr_id: str) -> str:
    """Merge one pull request as a person asks; return the base's new commit."""
    from orchestrator.system import locks

    config = context.good_settings(layout).config
    guard = landing.lock(layout, LANDING_WAIT)
    try:
        with guard:
            pr = forges.of_project(layout, config).show(pr_id)
            fresh = states.known(layout, config) or []
            pr = next((known for known in fresh if known.id == pr.id), pr)
            return landing.merge(layout, config, pr)
    except locks.LockHeld:
        raise OrchestratorError(
            "another merge is still at its checks", "try again later", code="landing_busy"
        ) from None
    finally:
        guard.close()


def close(arguments: argparse.Namespace) -> int:
    layout = context.changing(arguments)
    where = forges.of_project(layout, context.good_settings(layout).config)
    pr = where.show(arguments.id)
    if pr.state != "open":
        raise OrchestratorError(
            f"pull request {pr.id} is {pr.state}", "see: orchestrator pr list", code="not_open"
        )
    where.close(pr.id)
    if arguments.json:
        output.show_json({"id": pr.id, "state": "closed"})
    else:
        output.out(f"closed {pr.id}; its branch {pr.branch} stays")
    return 0
