"""Pull requests as they really are: the forge's records, brought up to date with git.

The forge and the remote are asked at most once a tick (FAILURES 13); reading commands use what is
known on this disk and change nothing.
"""

from __future__ import annotations

from orchestrator import delivery, forge, git
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import Config, Problem, PullRequest


def refresh(layout: Layout, config: Config, problems: list[Problem]) -> list[PullRequest] | None:
    """Return the pull requests after looking at the remote, recording what was merged or closed.

    None when the forge cannot be asked; why goes to `problems`.
    """
    try:
        where = forge.of_project(layout, config)
        if not isinstance(where, forge.Local):
            return where.list()
        prs = where.list()
        open_ones = [pr for pr in prs if pr.state == "open"]
        if not open_ones:
            return prs
        remote = delivery.remote_of(layout, config)
        if remote:
            _fetch(layout, remote, open_ones, problems)
        return [_recorded(where, pr, _now(where, pr, layout, remote)) for pr in prs]
    except OrchestratorError as error:
        problems.append(Problem(error.code, error.message, error.hint))
        return None


def known(layout: Layout, config: Config) -> list[PullRequest] | None:
    """Return the pull requests as far as this disk tells (a GitHub forge is asked)."""
    try:
        where = forge.of_project(layout, config)
        prs = where.list()
        if not isinstance(where, forge.Local) or not any(pr.state == "open" for pr in prs):
            return prs
        remote = delivery.remote_of(layout, config)
        return [_now(where, pr, layout, remote) for pr in prs]
    except OrchestratorError:
        return None


def _fetch(layout: Layout, remote: str, prs: list[PullRequest], problems: list[Problem]) -> None:
    """Bring bases and branches up to date; a remote out of reach leaves them as they were."""
    branches = sorted({pr.base for pr in prs} | {pr.branch for pr in prs})
    try:
        delivery.fetch(layout, remote, branches, git.TICK_TIMEOUT)
    except OrchestratorError as error:
        problems.append(Problem(error.code, error.message, error.hint))


def _now(where: forge.Local, pr: PullRequest, layout: Layout, remote: str | None) -> PullRequest:
    if pr.state != "open":
        return pr
    return where.refreshed(pr, delivery.branch_commit(layout.root, remote, pr.base))


def _recorded(where: forge.Local, old: PullRequest, new: PullRequest) -> PullRequest:
    if new.state != old.state:
        where.mark(new.id, new.state)
    return new
