"""The client's own sandbox around an agent's commands: `claude.sandbox: true`.

The client (2.1.332) starts each command of its Bash tool in bubblewrap on Linux, in seatbelt on
macOS: a command can read the disk, write in the named folders, and has no network. The role's rules
(`Edit(./**)`) confine the file tools. tests/test_confinement.py tests all of this.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.client.protocol import Confinement
from orchestrator.model.annotations import Any

#: What the client needs on Linux; macOS has its own sandbox.
PROGRAMS = ("bwrap", "socat")
#: Paths in the worktree that commands must not create. While a command runs, the sandbox puts
#: device files there, at which `git add --all` fails.
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
            # It writes into the queue. Only as a command of its own: with a pipe, a list or a
            # here-document it stays inside the sandbox, and fails there.
            "excludedCommands": ["orchestrator task add *"],
            "filesystem": {
                "allowWrite": confinement.writable,
                "denyWrite": confinement.protected,
            },
            "credentials": {"envVars": [{"name": name, "mode": "deny"} for name in hidden]},
        }
    }
