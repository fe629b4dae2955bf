"""What a tick does about pull requests and issues: tasks follow them, approved ones land."""

import os
from collections.abc import Sequence

from orchestrator.config.load import Settings
from orchestrator.git import base_branch
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Action
from orchestrator.model.work import PullRequest
from orchestrator.project import events
from orchestrator.system import files, locks, process
from orchestrator.tick.report import Report


def follow(
    layout: Layout, loaded: Settings, prs: list[PullRequest], now: float, report: Report
) -> None:
    """Send tasks where the facts about their pull requests say."""
    from orchestrator.pulls import follower

    with report.noting("pull requests"):
        steps, failed = follower.follow(layout, loaded, prs, now)
        for task, state, why in steps:
            events.append(layout, now, "followed", task=task, state=state, reason=why)
        for fault in failed:
            report.note("pull requests", fault)


def follow_issues(layout: Layout, loaded: Settings, now: float, report: Report) -> None:
    """Make tasks of new issues on GitHub, and tell the issues of tasks that this tick settled."""
    from orchestrator.pulls import issues

    settled = [action.task for action in report.actions if action.task]
    with report.noting("issues"):
        for task, reason in issues.follow(layout, loaded, now, settled):
            events.append(layout, now, "issue", task=task, reason=reason)


def land(
    layout: Layout, loaded: Settings, prs: Sequence[PullRequest], now: float, report: Report
) -> None:
    """If `auto_merge` is on, start a process that merges approved pull requests."""
    approved = [pr for pr in prs if pr.state == "open" and pr.verdict == "approved"]
    if not (approved and loaded.good and loaded.config.review.auto_merge):
        files.remove(layout.landing_fault)
        return
    from orchestrator.pulls import landing, landing_queue

    # The refused one may be a draft by now, merged by hand, or have another head.
    if os.path.exists(layout.landing_fault) and not landing_queue.is_refused(layout, approved):
        files.remove(layout.landing_fault)
    # Without a remote only a person merges: the base branch exists only in a person's checkout.
    if loaded.config.paused or base_branch.remote_of(layout, loaded.config) is None:
        return
    due = landing_queue.candidates(layout, loaded.config, approved, now)
    if not due or locks.is_locked(landing.lock_path(layout)):
        return
    log = os.path.join(layout.cache, "landing.out")
    process.spawn_detached([*process.own_program(), "_land", layout.root], os.environ, log)
    report.actions += [Action("deliver", None, pr.task, None, "auto_merge") for pr in due]
