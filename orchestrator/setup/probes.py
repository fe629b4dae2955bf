"""Tries the programs and services that the scheduler needs, each within a time limit.

Only `doctor` uses the probes, not a tick. Each probe returns findings and does not raise errors.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from orchestrator.config.load import Settings
from orchestrator.database import address
from orchestrator.git import (
    base_branch,
    call,
    remote_pair,
    remotes,
    repository,
    settings,
    work_branch,
)
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import GitError, OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.model.snapshot import Problem
from orchestrator.pulls import forges
from orchestrator.setup import ecosystems

#: Seconds that each program may take.
PROBE_TIMEOUT = 10.0
#: `rev-parse --path-format` needs git 2.31 (its release notes); other options in use are older.
OLDEST_GIT = (2, 31)


class Subject(NamedTuple):
    """The input of the checks: a project, its configuration, the environment, and the time."""

    layout: Layout
    loaded: Settings
    variables: Mapping[str, str]
    now: float
    #: Returns the problems of the queue; looks at every task the first time.
    queue: Callable[[], Sequence[Problem]] = tuple


def python() -> Finding:
    """Return the interpreter that runs this process and every tick."""
    return ok("python", f"Python {'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})")


def git_program(cwd: str) -> Finding:
    """Check that git is installed and new enough."""
    wanted = ".".join(map(str, OLDEST_GIT))
    try:
        said = call.run(cwd, "--version", timeout=PROBE_TIMEOUT).out.strip()
    except OrchestratorError as error:
        return fail("git", error.message, error.hint or f"install git {wanted} or newer")
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None:
        return warn("git", f"git says {said!r}", f"git {wanted} or newer is needed")
    if (int(found[1]), int(found[2])) < OLDEST_GIT:
        return fail("git", f"{said} is too old", f"install git {wanted} or newer")
    return ok("git", f"{said} ({shutil.which('git')})")


def trust(root: str) -> Finding:
    """Check that git works in this folder: git refuses a folder of another user.

    The client's folder trust is not needed, because each run has its own permissions.
    """
    try:
        call.ask(root, "rev-parse", "--git-dir", timeout=PROBE_TIMEOUT)
    except GitError as error:
        said = f"git refuses to work in {root}: {error.message}"
        return fail("trust", said, error.hint or "try: git status")
    except OrchestratorError as error:
        return fail("trust", error.message, error.hint or "fix git first")
    return ok("trust", "git trusts this folder (the client's folder trust is not needed)")


def git_identity(root: str) -> Finding:
    """Check that git knows the user's name for commits."""
    try:
        known = bool(settings.find(root, "user.email"))
    except OrchestratorError as error:
        return fail("git_identity", error.message, error.hint or "fix git first")
    if known:
        return ok("git_identity", "git knows your name for commits")
    return warn(
        "git_identity",
        "git does not know your name: agents' commits get the agents' names",
        "git config --global user.name '...'; git config --global user.email '...'",
    )


def programs(config: Config, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Warn of package managers that `setup` and `checks` start and that are not on the PATH."""
    for name in ecosystems.programs((config.setup.command or "", *config.checks)):
        if shutil.which(name, path=variables.get("PATH", os.defpath)) is None:
            message = f"`setup` or `checks` starts {name}, which is not on the PATH"
            yield warn("check_program_missing", message, f"install {name}, or correct agents.yaml")


# --- forge and remote --------------------------------------------------------------------------


def forge_program(layout: Layout, config: Config, variables: Mapping[str, str]) -> Finding:
    """Check that the forge can be used."""
    try:
        absent = gh_absent(layout, config)
        where = forges.of_project(layout, config)
    except OrchestratorError as error:
        return fail("forge", error.message, error.hint or "fix git first")
    if absent:
        return absent
    kept = forges.kept(layout, config)
    if kept is not None:
        return ok("forge", kept)
    if not where.is_elsewhere:
        host = forges.github_host(layout, config)
        though = f", although the remote is on GitHub ({host})" if host else ""
        is_shared = address.is_address(address.of_project(layout, variables))
        place = "in the database of the queue" if is_shared else "on this machine"
        return ok("forge", f"local: pull requests are records {place}{though}")
    problem = where.probe(variables, PROBE_TIMEOUT)
    if problem is not None:
        return fail("forge", problem.message, problem.hint or where.hints["forge_failed"])
    return ok("forge", f"{where.name}: the sign-in works")


def gh_absent(layout: Layout, config: Config) -> Finding | None:
    """Return a finding if pull requests stay local only because gh is missing or signed out."""
    host = forges.github_host(layout, config)
    if config.forge != "auto" or host is None or forges.of_project(layout, config).is_elsewhere:
        return None
    if forges.kept(layout, config) is not None:
        return None
    why, install = "gh is not installed", "install gh, then: "
    if shutil.which("gh"):
        why, install = f"gh is not signed in to {host}", ""
    message = f"the remote is on GitHub but {why}: pull requests stay local"
    return warn("forge", message, f"{install}gh auth login --hostname {host}")


def remote(layout: Layout, config: Config) -> Finding:
    """Check that the remote answers and has the base branch."""
    root, name, base = layout.root, config.remote, config.base_branch or "HEAD"
    try:
        if remotes.url(root, name) is None:
            return _without_remote(root, name, base)
        remote_pair.find(root, config)
        found = _in_the_way(root, config)
        if found is not None:
            return found
        ref = base if base == "HEAD" else f"refs/heads/{base}"
        done = call.run(root, "ls-remote", "--quiet", name, ref, timeout=PROBE_TIMEOUT)
    except OrchestratorError as error:
        code = error.code if error.code in ("remote_is_mirror", "no_push_remote") else "remote"
        return fail(code, error.message, error.hint or f"try: git ls-remote {name}")
    if done.code != 0:
        fault = remotes.unreachable(name, done.err)
        return fail("remote", fault.message, fault.hint or f"try: git ls-remote {name}")
    if not done.out.strip() and base != "HEAD":
        return _gone(root, name, base)
    return ok("remote", f"the remote {name!r} answers")


def _gone(root: str, name: str, base: str) -> Finding:
    try:
        fault = base_branch.gone(root, name, base, PROBE_TIMEOUT)
    except OrchestratorError as error:
        return fail("remote", error.message, error.hint or f"try: git ls-remote {name}")
    return fail(fault.code, fault.message, fault.hint or "set base_branch")


def _in_the_way(root: str, config: Config) -> Finding | None:
    """Return the finding that a local branch makes the names of agents' branches impossible."""
    prefix = config.branch_prefix
    for parent in work_branch.parents_of(f"{prefix}ID"):
        if repository.resolve(root, f"refs/heads/{parent}"):
            fault = work_branch.in_the_way(prefix, f"{prefix}ID", parent)
            return fail(fault.code, fault.message, fault.hint or "rename it")
    return None


def _without_remote(root: str, name: str, base: str) -> Finding:
    if repository.resolve(root, base) is None:
        if base == "HEAD":
            message = "this repository has no commit yet: there is nothing to branch from"
            return fail("remote", message, "make a first commit")
        message = f"the base branch {base!r} does not exist in this repository"
        return fail("remote", message, "correct base_branch in .orchestrator/agents.yaml")
    if others := remote_pair.other_remotes(root, name):
        return warn("remote", *others)
    return ok("remote", f"there is no remote {name!r}: branches stay in this repository")
