"""The optional extras: libraries that one command or setting needs, installed at its first use."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable

from orchestrator.layout import resources
from orchestrator.model.errors import OrchestratorError


def install(extra: str, libraries: Iterable[str], user: str) -> None:
    """Install the libraries of an extra into the launcher's environment, if they are missing.

    `libraries` are modules that its packages contain; `user` is the command, or the setting, that
    needs them. Raises OrchestratorError if they cannot be installed, or if another environment runs
    this.
    """
    if _are_there(libraries):
        return
    environment = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    program = os.path.join(resources(), "orchestrator", "bootstrap.py")
    hint = f"install them: pip install 'orchestrator-agents[{extra}]'"
    if os.path.isfile(os.path.join(environment, ".complete")) and os.path.isfile(program):
        words = [sys.executable, "-I", program, "--extra", environment, extra]
        done = subprocess.run(words, stdout=sys.stderr, check=False)
        importlib.invalidate_caches()
        if done.returncode == 0 and _are_there(libraries):
            return
        hint = "see the message above"
    message = f"the libraries of `{user}` are not installed"
    raise OrchestratorError(message, hint, code="not_installed")


def _are_there(libraries: Iterable[str]) -> bool:
    """Return whether these modules can be found; a missing parent package is no error."""
    for name in libraries:
        try:
            if importlib.util.find_spec(name) is None:
                return False
        except ModuleNotFoundError:
            return False
    return True
