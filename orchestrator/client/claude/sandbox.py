"""The client's own sandbox around an agent's commands: `claude.sandbox: true`.

The client (2.1.328) starts each command of its Bash tool in bubblewrap on Linux, in seatbelt on
macOS: it reads the disk, writes where it is told, and reaches no network. Its file tools are held
by the role's rules (`Edit(./**)`). All of this is measured: tests/test_confinement.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.client.protocol import Confinement

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


def settings(confinement: Confinement, hidden: Iterable[str]) -> dict[str, Any]:
    """Return the client's settings that confine a run's commands.

    Commands may also write the temporary folder that the client gives them. `hidden` are variables
    that they must not see. Without a working sandbox the client does not start.
    """
    return {
        "sandbox": {
            "enabled": True,
            "failIfUnavailable": True,
            "allowUnsandboxedCommands": False,
            # It writes into the queue. Only as a command of its own: one with a pipe, a list or a
            # here-document stays inside, and fails there.
            "excludedCommands": ["orchestrator task add *"],
            "filesystem": {
                "allowWrite": confinement.writable,
                "denyWrite": confinement.protected,
            },
            "credentials": {"envVars": [{"name": name, "mode": "deny"} for name in hidden]},
        }
    }
