"""Pull requests in their current states: the forge's records, updated from git.

A tick asks the forge and the remote at most once (failures 13). Read commands use what is on this
disk and change nothing.
"""

from __future__ import annotations

import os

from orchestrator.errors import OrchestratorError
from orchestrator.git import base_branch, remotes, repository
from orchestrator.layout import Layout
from orchestrator.model import Config, Problem, PullRequest
from orchestrator.project import faults
from orchestrator.pulls import forges
from orchestrator.pulls.forge import from_record
from orchestrator.system import files


def refresh(layout: Layout, config: Config, problems: list[Problem]) -> list[PullRequest] | None:
    """Return the pull requests after a look at the remote; record which were merged or closed.

    None if the forge does not answer; the reason is kept until it answers (`faults.forge_fault`). A
    remote that cannot be reached is added to `problems`.
    """
    try:
        prs = _refresh(layout, config, problems)
    except OrchestratorError as error:
        faults.keep(layout.forge_fault, error)
        return None
    files.remove(layout.forge_fault)
    return prs


def _refresh(layout: Layout, config: Config, problems: list[Problem]) -> list[PullRequest]:
    where = forges.of_project(layout, config)
    prs = where.list()
    if where.is_elsewhere:
        _remember(layout, prs)
        return prs
    open_ones = [pr for pr in prs if pr.state == "open"]
    if not open_ones:
        return prs
    remote = base_branch.remote_of(layout, config)
    if remote:
        _fetch(layout, remote, open_ones, problems)
    states = _states(layout.root, remote, open_ones)
    for pr in open_ones:
        if states[pr.id] != "open":
            where.record(pr.id, states[pr.id])
    return [pr._replace(state=states.get(pr.id, pr.state)) for pr in prs]


def counted(layout: Layout, config: Config) -> list[PullRequest] | None:
    """Return the pull requests that a tick would plan with, from what is on this disk.

    None if the forge did not answer the last tick: that tick started nothing that opens one.
    """
    return None if faults.forge_fault(layout) else known(layout, config)


def known(layout: Layout, config: Config) -> list[PullRequest] | None:
    """Return the pull requests from what is on this disk: those of GitHub as of the last tick."""
    try:
        where = forges.of_project(layout, config)
        if where.is_elsewhere:
            remembered = _remembered(layout)
            return where.list() if remembered is None else remembered
        prs = where.list()
        open_ones = [pr for pr in prs if pr.state == "open"]
        if not open_ones:
            return prs
        states = _states(layout.root, base_branch.remote_of(layout, config), open_ones)
        return [pr._replace(state=states.get(pr.id, pr.state)) for pr in prs]
    except OrchestratorError:
        return None


def _states(root: str, remote: str | None, prs: list[PullRequest]) -> dict[str, str]:
    """Return the state of open pull requests by id, according to git (reference 9.3).

    A pull request is merged if its head is reachable from the base, and closed if its branch is
    gone. Git is asked three times per base, however many pull requests there are.
    """
    prefixes = ["refs/heads/", *([f"refs/remotes/{remote}/"] if remote else [])]
    names = sorted({name for pr in prs for name in (pr.branch, pr.base)})
    commits = repository.refs(root, *(prefix + name for prefix in prefixes for name in names))
    merged: dict[str, set[str]] = {}
    states = {}
    for pr in prs:
        # The remote's base, if there is a remote: the local base may be behind.
        bases = [commits[p + pr.base] for p in prefixes if p + pr.base in commits]
        tips = [prefixes[-1] + pr.branch] if prefixes[-1] + pr.branch in commits else []
        if bases and pr.base not in merged:
            merged[pr.base] = repository.merged_refs(root, bases[-1], *commits)
        if tips:
            states[pr.id] = "merged" if tips[0] in merged.get(pr.base, ()) else "open"
        else:
            landed = bases and repository.is_ancestor(root, pr.head, bases[-1])
            states[pr.id] = "merged" if landed else "closed"
    return states


def _fetch(layout: Layout, remote: str, prs: list[PullRequest], problems: list[Problem]) -> None:
    """Fetch bases and branches; a remote that cannot be reached leaves them unchanged."""
    branches = sorted({pr.base for pr in prs} | {pr.branch for pr in prs})
    try:
        base_branch.fetch(layout, remote, branches, remotes.TICK_TIMEOUT)
    except OrchestratorError as error:
        problems.append(Problem(error.code, error.message, error.hint))


def _remember(layout: Layout, prs: list[PullRequest]) -> None:
    """Keep the answer of a remote forge for the commands that only read."""
    files.make_folder(layout.cache)
    files.write_json(_memory(layout), {"prs": [pr._asdict() for pr in prs]})


def _remembered(layout: Layout) -> list[PullRequest] | None:
    rows = (files.read_json(_memory(layout)) or {}).get("prs")
    if not isinstance(rows, list):
        return None
    found = [from_record(row) if isinstance(row, dict) else None for row in rows]
    known = [pr for pr in found if pr is not None]
    return known if len(known) == len(rows) else None


def _memory(layout: Layout) -> str:
    return os.path.join(layout.cache, "prs.json")
