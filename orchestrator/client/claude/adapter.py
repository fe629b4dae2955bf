"""Claude Code as a client: what is always at hand; the rest is imported when it is used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from orchestrator.client.protocol import Assignment, Ended, Launch, Line
    from orchestrator.finding import Finding
    from orchestrator.model import Config, Outcome, Role

#: By the variable that makes the client use a cloud's models: the families it signs in with there.
CLOUDS = {
    "CLAUDE_CODE_USE_BEDROCK": ("AWS_",),
    "CLAUDE_CODE_USE_MANTLE": ("AWS_",),
    "CLAUDE_CODE_USE_ANTHROPIC_AWS": ("AWS_",),
    "CLAUDE_CODE_USE_VERTEX": ("GOOGLE_", "GCP_", "CLOUDSDK_"),
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD": ("GOOGLE_", "GCP_", "CLOUDSDK_"),
    "CLAUDE_CODE_USE_FOUNDRY": ("AZURE_",),
}
_OFF = ("", "0", "false", "no", "off")


class Claude:
    name: ClassVar[str] = "claude"
    title: ClassVar[str] = "Claude Code"
    program: ClassVar[str] = "claude"
    #: Those of 2.1.328.
    tools: ClassVar[tuple[str, ...]] = (
        "Agent", "Bash", "CronCreate", "CronDelete", "CronList", "Edit", "EnterWorktree",
        "ExitWorktree", "Glob", "Grep", "ListAgents", "Monitor", "NotebookEdit", "Read",
        "ReportFindings", "ScheduleWakeup", "SendMessage", "Skill", "Task", "TaskStop",
        "ToolSearch", "WebFetch", "WebSearch", "Workflow", "Write",
    )  # fmt: skip
    writing_tools: ClassVar[tuple[str, ...]] = ("Edit", "NotebookEdit", "Write")
    report: ClassVar[str] = "one call of `StructuredOutput`"
    hints: ClassVar[Mapping[str, str]] = {
        "client_missing": "install Claude Code, or correct claude.command in agents.yaml",
        "authentication_failed": "run `claude` once and sign in; for cron and launchd: "
        "claude setup-token",
        "sandbox_unavailable": "Debian and Ubuntu: apt install bubblewrap socat; or set "
        "claude.sandbox: false in agents.yaml",
        "billing_error": "look at the account's billing",
        "model_not_found": "correct the agent's model: orchestrator agent set NAME model=...",
        "rate_limit": "no action needed; work resumes when the service allows it",
        "overloaded": "no action needed; work resumes when the service answers again",
        "server_error": "check the network and the service; work resumes when it answers",
        "usage_limit": "no action needed; work resumes, in the same conversations, when the limit "
        "resets",
    }
    session_names: ClassVar[tuple[str, ...]] = (
        "CLAUDECODE", "CLAUDE_PID", "CLAUDE_EFFORT", "CLAUDE_PROJECT_DIR", "CLAUDE_CODE_SESSION",
        "CLAUDE_CODE_CHILD",
    )  # fmt: skip
    token: ClassVar[tuple[str, str]] = ("claude setup-token", "CLAUDE_CODE_OAUTH_TOKEN")

    def sign_in_names(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        clouds = [
            family
            for switch, families in CLOUDS.items()
            if variables.get(switch, "").strip().lower() not in _OFF
            for family in families
        ]
        return ("ANTHROPIC_", "CLAUDE_CODE_", *clouds)

    def passing_folders(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        return (os.path.join(settings_folder(variables), "plugins"),)

    def launch(self, assignment: Assignment) -> Launch:
        from orchestrator.client.claude import command

        return command.launch(assignment)

    def is_last_line(self, line: bytes) -> bool:
        # Most lines are not parsed: a string that holds such a line has backslashes in it.
        if b'"result"' not in line:
            return False
        import json

        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return False
        return isinstance(event, dict) and event.get("type") == "result"

    def outcome(
        self, lines: Iterable[str], ended: Ended, role: Role | None, commits: int
    ) -> Outcome:
        from orchestrator.client.claude import stream

        return stream.outcome(stream.read(lines), ended, role, commits)

    def translate(self, line: str) -> list[Line]:
        from orchestrator.client.claude import transcript

        return transcript.translate(line)

    def probe(self, config: Config, root: str, variables: Mapping[str, str]) -> Iterator[Finding]:
        from orchestrator.client.claude import probe

        return probe.probe(config, root, variables)


def settings_folder(variables: Mapping[str, str]) -> str:
    """Return the folder in which the client keeps a user's settings, plugins and sign-in."""
    home = variables.get("HOME") or os.path.expanduser("~")
    return variables.get("CLAUDE_CONFIG_DIR") or os.path.join(home, ".claude")
