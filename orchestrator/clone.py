"""The clone that a command is called in: which it is, and whether a person set us up in it.

The mark that a person ran `init` lies in the repository's git folder, which no clone and no commit
can carry (FAILURES 21).
"""

from __future__ import annotations

import os

from orchestrator import files, git
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout

MARK = "orchestrator.json"


def find(start: str, environment: dict[str, str]) -> Layout:
    """Return the layout of the project that a command called in `start` means.

    Inside a run it is the run's project, whatever the worktree holds. Raises OrchestratorError.
    """
    inside = environment.get("ORCHESTRATOR_PROJECT")
    if inside:
        return Layout(inside)
    return Layout(_plain_root(os.path.abspath(start)) or git.project_root(start))


def _plain_root(folder: str) -> str | None:
    """Return the main worktree above a folder where no git is needed to see it."""
    if any(name in os.environ for name in ("GIT_DIR", "GIT_WORK_TREE")):
        return None
    while not os.path.lexists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
    inside = os.path.join(folder, ".git")
    return os.path.realpath(folder) if os.path.isfile(os.path.join(inside, "HEAD")) else None


def mark_path(layout: Layout) -> str:
    plain = os.path.join(layout.root, ".git")
    folder = plain if os.path.isdir(plain) else git.git_folder(layout.root)
    return os.path.join(folder, MARK)


def is_initialised(layout: Layout) -> bool:
    """Return whether a person ran `init` in this very clone."""
    return files.read_json(mark_path(layout)) is not None


def require_initialised(layout: Layout) -> None:
    """Raise OrchestratorError unless a person ran `init` in this clone."""
    if is_initialised(layout):
        return
    if os.path.isfile(layout.config):
        raise OrchestratorError(
            f"nobody has set orchestrator up in this clone of {os.path.basename(layout.root)}",
            "read .orchestrator/agents.yaml (it names programs that will run), then: "
            "orchestrator init",
            code="not_initialised",
        )
    raise OrchestratorError(
        f"{layout.root} is not set up for orchestrator",
        "run: orchestrator init",
        code="not_initialised",
    )
