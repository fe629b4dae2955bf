"""The link that puts `orchestrator` on a person's PATH, on request: `~/.local/bin/orchestrator`.

It leads to the launcher of the program's copies (`program_copy`), because the folder of a plugin
has another name after each update. `~/.local/bin` is where programs of one user are (file-hierarchy
of systemd; pip and uv use it too).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from orchestrator.model.errors import OrchestratorError
from orchestrator.schedule import program_copy
from orchestrator.system import files


def path() -> str:
    """Return the path of the link."""
    return os.path.join(os.path.expanduser("~/.local/bin"), "orchestrator")


def is_there() -> bool:
    """Return whether the link is there, and leads to the product's launcher."""
    return os.path.islink(path()) and os.readlink(path()) == program_copy.launcher()


def put(variables: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Make the link, and the launcher that it leads to; return changes and warnings.

    Raises OrchestratorError if another file has the link's name, LockHeld and OSError.
    """
    if os.path.lexists(path()) and not is_there():
        hint = f"see what it is: ls -l {path()}; remove it, then repeat this command"
        raise OrchestratorError(f"{path()} exists, and is not orchestrator's", hint, code="exists")
    with program_copy.changing():
        written = program_copy.put()
    if not is_there():
        os.makedirs(os.path.dirname(path()), exist_ok=True)
        os.symlink(program_copy.launcher(), path())
        written.append(f"{path()} (a link; undo: orchestrator init --no-link)")
    return written, _warnings(variables)


def _warnings(variables: Mapping[str, str]) -> list[str]:
    found = shutil.which("orchestrator", path=variables.get("PATH", os.defpath))
    if found is None:
        line = f"export PATH={os.path.dirname(path())}:$PATH"
        return [f"~/.local/bin is not on your PATH; add to your shell's profile: {line}"]
    if os.path.realpath(found) != os.path.realpath(path()):
        return [f"your shell finds another orchestrator first: {found}"]
    return []


def take() -> list[str]:
    """Remove the link if it leads to the product's launcher; return the removed paths."""
    if not is_there():
        return []
    files.remove(path())
    return [path()]
