"""The checks of `doctor` for the files that the configuration names."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.model.errors import OrchestratorError
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.project import worktree_setup
from orchestrator.run import client_files
from orchestrator.setup.probes import Subject


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
