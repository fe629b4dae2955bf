"""The checks of `doctor` for what the configuration names: files, `setup` and `checks`."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.git import base_branch
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.project import mark, worktree_setup
from orchestrator.pulls import landing
from orchestrator.run import client_files
from orchestrator.setup.probes import Subject
from orchestrator.system import locks
from orchestrator.text.quoting import cleaned

#: Characters of a failed check's output in the finding, and names of files in another.
OUTPUT_SHOWN, NAMES_SHOWN = 300, 10


def look(subject: Subject) -> Iterator[Finding]:
    """Yield findings about files of `setup`, `mcp_config` and `settings`."""
    root, loaded = subject.layout.root, subject.loaded
    if not loaded.good:
        return
    for name in loaded.config.setup.when_changed:
        if not worktree_setup.named_files(root, name):
            known = f"setup.when_changed names {name}, which is not a file of your checkout"
            yield warn("setup_file_missing", known, "correct the path in agents.yaml")
    yield from _of_the_client(subject)


def _of_the_client(subject: Subject) -> Iterator[Finding]:
    """Check `mcp_config` and `settings` of each agent and its role, as the start of a run does."""
    loaded, good = subject.loaded, 0
    for agent in loaded.config.agents:
        role = loaded.roles.get(agent.role)
        names = (*agent.mcp_config, *agent.settings)
        for name in names if role is None else (*role.mcp_config, *role.settings, *names):
            try:
                client_files.read(subject.layout.root, [name])
            except OrchestratorError as error:
                message = f"{agent.name} cannot start: {error.message}"
                yield fail(error.code, message, error.hint or "correct the file")
            else:
                good += 1
    if good:
        yield ok("client_file_broken", f"readable files of mcp_config and settings: {good}")


def try_checks(subject: Subject) -> Iterator[Finding]:
    """Run `setup` and `checks` on the base branch, in the landing worktree.

    What fails there fails for every task, and each attempt costs money. Raises OrchestratorError if
    the set-up fails or a check's program is missing.
    """
    layout, config = subject.layout, subject.loaded.config
    mark.require_initialised(layout)
    if not subject.loaded.good or not (config.checks or config.setup.command):
        return
    branch = base_branch.base_branch(config, None)
    remote = base_branch.remote_of(layout, config)
    commit = base_branch.branch_commit(layout.root, remote, branch)
    if commit is None:
        hint = "correct base_branch in agents.yaml; or: orchestrator init --base BRANCH"
        raise OrchestratorError(f"the base branch {branch!r} does not exist", hint, code="remote")
    try:
        failure = landing.try_checks(layout, config, commit)
    except locks.LockHeld:
        message = "`setup` and `checks` were not run: a landing is running its checks"
        yield warn("lock_held", message, "try again later")
        return
    if failure is None:
        yield ok("base_red", f"`setup` and `checks` succeed on {branch} ({commit[:7]})")
        yield from _left(landing.left_by_checks(layout, config))
        return
    said = " ".join(failure.output.split())[-OUTPUT_SHOWN:]
    yield fail(
        "base_red",
        f"{failure.command!r} {failure.how} on {branch} itself, so it fails for every task: {said}",
        f"correct `checks` or `setup` in agents.yaml, or fix {branch}; the whole output: "
        f"{landing.log_path(layout)}",
    )


def _left(names: list[str]) -> Iterator[Finding]:
    """Warn of the files that `setup` and `checks` left: an agent's `git add -A` adds them."""
    if names:
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        shown = ", ".join(map(cleaned, names[:NAMES_SHOWN])) + more
        message = f"after `setup` and `checks`, git reports as new or changed: {shown}"
        hint = "agents commit such files: add them to .gitignore, and commit .gitignore"
        yield warn("not_ignored", message, hint)
