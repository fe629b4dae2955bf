"""The client's own files that a role or an agent names: MCP configurations and settings.

They are read in the person's checkout, never in the worktree, where an agent could edit them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from orchestrator.model.errors import OrchestratorError
from orchestrator.system import files


def read(root: str, names: Iterable[str]) -> list[tuple[str, Mapping[str, object]]]:
    """Return each file's absolute path and its JSON object.

    A name is a path from the project's folder `root`, or an absolute path. Raises OrchestratorError
    for a file that is missing, that is not a JSON object, or to which a link leads out of the
    project.
    """
    found: list[tuple[str, Mapping[str, object]]] = []
    for name in names:
        path = os.path.join(root, name)
        inside = os.path.realpath(path).startswith(os.path.realpath(root) + os.sep)
        if not os.path.isabs(name) and not inside:
            raise _broken(name, "leads out of the project")
        values = files.read_json(path)
        if not isinstance(values, dict):
            raise _broken(name, "is not a file with a JSON object")
        found.append((path, values))
    return found


def _broken(name: str, why: str) -> OrchestratorError:
    return OrchestratorError(
        f"{name}, which mcp_config or settings names, {why}",
        "correct the file, or the key of the agent in agents.yaml or of its role",
        code="client_file_broken",
    )
