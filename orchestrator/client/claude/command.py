"""How Claude Code is started for one run: its options, settings and variables."""

from __future__ import annotations

import json
import os
import shlex
import uuid
from collections.abc import Mapping

from orchestrator.client import outcomes
from orchestrator.client.claude import sandbox
from orchestrator.client.protocol import Assignment, Launch
from orchestrator.model import Role

#: The file in the run's folder that the client's shell reads before each command of the agent.
_BEFORE_COMMANDS = "before-commands.sh"


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that turn off what a headless client does beside its task."""
    return {
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_CRON": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        # Background work would outlive the report, and the client would print several results.
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        # A fault ends the run in seconds, not after ten doubled waits; a later tick tries again.
        "CLAUDE_CODE_MAX_RETRIES": variables.get("CLAUDE_CODE_MAX_RETRIES", "3"),
    }


def launch(assignment: Assignment) -> Launch:
    """Return how to start one headless run. The prompt is its standard input."""
    session = assignment.resume or str(uuid.uuid4())
    variables = environment(assignment.variables)
    variables["CLAUDE_ENV_FILE"] = os.path.join(assignment.folder, _BEFORE_COMMANDS)
    return Launch(
        argv=arguments(assignment, session),
        stdin=assignment.prompt,
        environment=variables,
        files={_BEFORE_COMMANDS: _before_commands(assignment)},
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
        # The client refuses a cap of 0, and less than a cent allows no work.
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
    # Without the user's and the project's settings, whose permission rules would add to the role's.
    argv = ["--restricted"] if role.restricted else []
    # One word per option: these options take any number of words. With `--tools`, an agent has no
    # other tool, not even a tool of a later client.
    argv += ["--tools", ",".join(role.tools)]
    if role.allow:
        argv += ["--allowedTools", ",".join(role.allow)]
    if role.deny:
        argv += ["--disallowedTools", ",".join(role.deny)]
    return argv


def _before_commands(assignment: Assignment) -> str:
    """Return what the client's shell reads before each command (measured with 2.1.332).

    It removes the client's credentials from the command's environment. The client's other way,
    CLAUDE_CODE_SUBPROCESS_ENV_SCRUB, needs bubblewrap and writes into the worktree and the home.
    """
    theirs, hidden = assignment.variables.get("CLAUDE_ENV_FILE"), assignment.hidden
    lines = [
        "# The client signs in with these variables; the commands that it runs do not get them."
    ]
    lines += [f". {shlex.quote(theirs)}"] if theirs else []
    lines += [f"unset {shlex.join(hidden)}"] if hidden else []
    return "\n".join([*lines, ""])
