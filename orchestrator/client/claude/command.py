"""How Claude Code is started for one run: its options, settings and variables."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping

from orchestrator.client import outcomes
from orchestrator.client.claude import sandbox
from orchestrator.client.protocol import Assignment, Launch
from orchestrator.model import Role

#: What the client reads before each command of the agent, in the run's folder.
_BEFORE_COMMANDS = "before-commands.sh"


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep a headless client to its task."""
    return {
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_CRON": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        # Background work would outlive the report, and makes the client print several results.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        # A fault ends the run in seconds, not after ten doubling waits; a later tick tries again.
        "CLAUDE_CODE_MAX_RETRIES": variables.get("CLAUDE_CODE_MAX_RETRIES", "3"),
    }


def launch(assignment: Assignment) -> Launch:
    """Return how to start one headless run. The prompt is its standard input."""
    session = assignment.resume or _new_conversation()
    before = _before_commands(assignment)
    variables = environment(assignment.variables)
    variables["CLAUDE_ENV_FILE"] = os.path.join(assignment.folder, _BEFORE_COMMANDS)
    return Launch(
        argv=arguments(assignment, session),
        stdin=assignment.prompt,
        environment=variables,
        files={_BEFORE_COMMANDS: before},
        session=session,
        ignored=sandbox.IN_THE_WAY if assignment.confinement else (),
    )


def arguments(assignment: Assignment, session: str) -> list[str]:
    """Return the argument vector. `session` is the id of the conversation, new or resumed."""
    agent, role = assignment.agent, assignment.role
    argv = [*assignment.command, "-p", "--output-format", "stream-json", "--verbose"]
    argv += ["--resume" if assignment.resume else "--session-id", session]
    argv += ["--permission-mode", "dontAsk", "--strict-mcp-config"]
    # Without "off", a resumed conversation would still be told the earlier run's instructions.
    argv += ["--append-system-prompt-file", assignment.instructions]
    argv += ["--system-prompt-snapshot", "off"]
    argv += ["--json-schema", json.dumps(outcomes.schema(role), separators=(",", ":"))]
    turns = agent.max_turns or role.max_turns
    if turns:
        argv += ["--max-turns", str(turns)]
    if assignment.budget_usd is not None:
        # Less than a cent does nothing, and the client refuses a cap of 0.
        argv += ["--max-budget-usd", f"{max(assignment.budget_usd, 0.01):g}"]
    if agent.model:
        argv += ["--model", agent.model]
    if assignment.plugin:
        argv += ["--plugin-dir", assignment.plugin]
    if assignment.confinement:
        settings = sandbox.settings(assignment.confinement, assignment.hidden)
        argv += ["--settings", json.dumps(settings, separators=(",", ":"))]
    return [*argv, *_permissions(role)]


def _permissions(role: Role) -> list[str]:
    # No settings of the user's or the project's: their permission rules would widen the role's.
    argv = ["--restricted"] if role.restricted else []
    # One word each: these options are variadic and would swallow what follows. `--tools` is the
    # whole offer, so a tool that a later client brings is not in it.
    argv += ["--tools", ",".join(role.tools)]
    if role.allow:
        argv += ["--allowedTools", ",".join(role.allow)]
    if role.deny:
        argv += ["--disallowedTools", ",".join(role.deny)]
    return argv


def _before_commands(assignment: Assignment) -> str:
    """Return what the client's shell reads before each command (measured with 2.1.328).

    It takes the client's own credentials out of the command's environment. The client's other way,
    CLAUDE_CODE_SUBPROCESS_ENV_SCRUB, needs bubblewrap, and writes files into the worktree and the
    home.
    """
    lines = ["# The client signs in with these; the commands that it runs do without."]
    theirs = assignment.variables.get("CLAUDE_ENV_FILE")
    if theirs:
        lines.append(f". {shlex.quote(theirs)}")
    if assignment.hidden:
        lines.append(f"unset {shlex.join(assignment.hidden)}")
    return "\n".join([*lines, ""])


def _new_conversation() -> str:
    """Return a random UUID (RFC 9562, version 4): the uuid module takes long to import."""
    bits = bytearray(os.urandom(16))
    bits[6] = bits[6] & 0x0F | 0x40
    bits[8] = bits[8] & 0x3F | 0x80
    text = bits.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
