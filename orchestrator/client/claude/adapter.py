"""Claude Code as a client. A waiting supervisor loads this module, so methods import the rest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.model.annotations import TYPE_CHECKING, ClassVar
from orchestrator.system import files

if TYPE_CHECKING:
    from orchestrator.client.protocol import Assignment, Ended, Launch, Line
    from orchestrator.model.config import Config, Role
    from orchestrator.model.finding import Finding
    from orchestrator.model.snapshot import Outcome


class Claude:
    name: ClassVar[str] = "claude"
    title: ClassVar[str] = "Claude Code"
    program: ClassVar[str] = "claude"
    #: Those of 2.1.332.
    tools: ClassVar[tuple[str, ...]] = (
        "Agent", "Bash", "CronCreate", "CronDelete", "CronList", "Edit", "EnterWorktree",
        "ExitWorktree", "Glob", "Grep", "ListAgents", "Monitor", "NotebookEdit", "Read",
        "ReportFindings", "ScheduleWakeup", "SendMessage", "Skill", "Task", "TaskStop",
        "ToolSearch", "WebFetch", "WebSearch", "Workflow", "Write",
    )  # fmt: skip
    writing_tools: ClassVar[tuple[str, ...]] = ("Edit", "NotebookEdit", "Write")
    #: Those of 2.1.332, which ignores others with a warning.
    efforts: ClassVar[tuple[str, ...]] = ("low", "medium", "high", "xhigh", "max")
    report: ClassVar[str] = "one call of `StructuredOutput`"
    hints: ClassVar[Mapping[str, str]] = {
        "client_missing": "install Claude Code, or correct claude.command in agents.yaml",
        "authentication_failed": "run `claude` once and sign in; for a schedule, run `claude "
        'setup-token` and put {"env": {"CLAUDE_CODE_OAUTH_TOKEN": "the token"}} into '
        "~/.claude/settings.json (mode 600)",
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
    #: With the variables by which a person changes what a headless run does: waiting in the client
    #: (RETRY_WATCHDOG), other modes (SIMPLE, SAFE_MODE), a host's worktree. The effort variables
    #: overrule `--effort`, which has the agent's `effort`.
    session_names: ClassVar[tuple[str, ...]] = (
        "AI_AGENT", "CLAUDECODE", "CLAUDE_PID", "CLAUDE_EFFORT", "CLAUDE_PROJECT_DIR",
        "CLAUDE_PLUGIN_", "CLAUDE_ENV_FILE", "CLAUDE_JOB_DIR", "CLAUDE_BG_", "CLAUDE_CODE_AGENT",
        "CLAUDE_CODE_BRIDGE", "CLAUDE_CODE_CHILD", "CLAUDE_CODE_COORDINATOR",
        "CLAUDE_CODE_EFFORT",
        "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_EXECPATH", "CLAUDE_CODE_EXIT_AFTER",
        "CLAUDE_CODE_HOST_SCHEDULED", "CLAUDE_CODE_HOST_SESSION", "CLAUDE_CODE_HOST_WORKTREE",
        "CLAUDE_CODE_INVOKED", "CLAUDE_CODE_LAUNCHED", "CLAUDE_CODE_MESSAGING",
        "CLAUDE_CODE_PLUGIN_DIRS", "CLAUDE_CODE_REMOTE", "CLAUDE_CODE_RESTRICTED",
        "CLAUDE_CODE_RESUME", "CLAUDE_CODE_RETRY_WATCHDOG", "CLAUDE_CODE_SAFE_MODE",
        "CLAUDE_CODE_SESSION", "CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SSE_PORT",
        "CLAUDE_CODE_SUBAGENT_EFFORT",
        "CLAUDE_CODE_TASK_LIST", "CLAUDE_CODE_TOOL_USE",
    )  # fmt: skip
    session_marks: ClassVar[tuple[str, ...]] = (
        "CLAUDECODE", "CLAUDE_PROJECT_DIR", "CLAUDE_CODE_SESSION", "CLAUDE_PLUGIN_ROOT",
    )  # fmt: skip
    token: ClassVar[tuple[str, str]] = ("claude setup-token", "CLAUDE_CODE_OAUTH_TOKEN")

    def sign_in_names(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        from orchestrator.client.claude import sign_in

        return sign_in.names(variables)

    def settings_variables(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        from orchestrator.client.claude import sign_in

        found = sign_in.settings_variables(variables)
        return {n: v for n, v in found.items() if not n.startswith(self.session_names)}

    def passing_folders(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        from orchestrator.client.claude import sign_in

        return (os.path.join(sign_in.settings_folder(variables), "plugins"),)

    def load(self) -> None:
        from orchestrator.client.claude import command, stream  # noqa: F401

    def launch(self, assignment: Assignment) -> Launch:
        from orchestrator.client.claude import command

        return command.launch(assignment)

    def is_last_line(self, line: bytes) -> bool:
        # Most lines are not parsed: a string that quotes such a line has backslashes in it.
        return b'"result"' in line and (files.json_object(line) or {}).get("type") == "result"

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

        return probe.probe(self, config, root, variables)
