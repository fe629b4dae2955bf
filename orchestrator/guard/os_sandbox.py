"""The client's own sandbox around an agent's commands: `claude.sandbox: true`.

The client (2.1.328) starts each command of its Bash tool in bubblewrap on Linux, in seatbelt on
macOS: it reads the disk, writes where it is told, and reaches no network. Its file tools are held
by the role's rules (`Edit(./**)`). All of this is measured: tests/test_confinement.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

#: What the client needs on Linux; macOS brings its own.
PROGRAMS = ("bwrap", "socat")
#: The client's word for "it was to start with a sandbox, and cannot".
CANNOT_START = "sandbox_required_unavailable"
#: What stands in the worktree while a command runs, for nothing may be made there: device files
#: that `git add --all` would trip over.
IN_THE_WAY = (
    ".bash_profile", ".bashrc", ".gitconfig", ".gitmodules", ".idea", ".mcp.json", ".profile",
    ".ripgreprc", ".vscode", ".zprofile", ".zshrc", ".claude/.cc-writes", ".claude/agents",
    ".claude/commands", ".claude/hooks", ".claude/launch.json", ".claude/loop.md",
    ".claude/output-styles", ".claude/routines", ".claude/scheduled_tasks.json",
    ".claude/settings.json", ".claude/settings.local.json", ".claude/skills", ".claude/workflows",
)  # fmt: skip


def settings(git_folder: str, mark: str, hidden: Iterable[str]) -> dict[str, Any]:
    """Return the client's settings that confine a run's commands.

    They may write the worktree (their working directory), the temporary folder that the client
    gives them, and the project's `git_folder`, but not what is run or believed from there: hooks,
    configuration, and our own `mark`. `hidden` are variables that they must not see. Without a
    working sandbox the client does not start.
    """
    protected = ["hooks", "config", "config.worktree", "info", mark]
    return {
        "sandbox": {
            "enabled": True,
            "failIfUnavailable": True,
            "allowUnsandboxedCommands": False,
            # It writes into the queue. Only as a command of its own: one with a pipe, a list or a
            # here-document stays inside, and fails there.
            "excludedCommands": ["orchestrator task add *"],
            "filesystem": {
                "allowWrite": [git_folder],
                "denyWrite": [os.path.join(git_folder, name) for name in protected],
            },
            "credentials": {"envVars": [{"name": name, "mode": "deny"} for name in hidden]},
        }
    }


def ignored(own: str) -> str:
    """Return an ignore file for git in a confined run: the person's `own`, and what is in the way.

    What git tracks already is not concerned.
    """
    return "\n".join([own.rstrip("\n"), *(f"/{name}" for name in IN_THE_WAY), ""])
