"""How Claude Code is started for one run: its options, settings and variables."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping

from orchestrator.client import outcomes
from orchestrator.client.claude import sandbox, sign_in
from orchestrator.client.protocol import Assignment, Launch
from orchestrator.model.annotations import Any
from orchestrator.model.config import Role

#: The file in the run's folder that the client's shell reads before each command of the agent.
_BEFORE_COMMANDS = "before-commands.sh"
#: The file there with the run's settings, if some of them are the person's.
_SETTINGS = "settings.json"


#: The variables that turn off what a headless client does beside its task. They are also in the
#: settings of each run: `env` in a person's settings outranks the environment of the process.
_ALWAYS = {
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_CRON": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    # Background work would outlive the report, and the client would print several results.
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    # A client that cannot start says why in its result line, and not only on standard error.
    "CLAUDE_CODE_STARTUP_FAILURE_RESULTS": "1",
    # An update replaces the plugin's folder during a run.
    "CLAUDE_CODE_PLUGIN_DIR_WATCH": "0",
    # Prompts quote the feedback of others, and the client would add a file that it mentions.
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    # The client would wait for the reset of a usage limit itself, for hours.
    "CLAUDE_CODE_RETRY_WATCHDOG": "0",
}


#: The settings of each run.
_OURS: dict[str, Any] = {
    "crossSessionInbound": "refuse",
    # Otherwise 2.1.332 cuts a sub-agent's own worktree from the remote's default branch, without
    # the commits of the run (findings/isolated-sub-agent-lacks-the-work.sh).
    "worktree": {"baseRef": "head"},
    "env": _ALWAYS,
}


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that each run adds to its environment."""
    return {
        **_ALWAYS,
        # A fault ends the run in seconds, not after ten doubled waits; a later tick tries again.
        "CLAUDE_CODE_MAX_RETRIES": variables.get("CLAUDE_CODE_MAX_RETRIES", "3"),
    }


def launch(assignment: Assignment) -> Launch:
    """Return how to start one headless run. The prompt is its standard input."""
    session = assignment.resume or _new_uuid()
    variables = environment(assignment.variables)
    variables["CLAUDE_ENV_FILE"] = os.path.join(assignment.folder, _BEFORE_COMMANDS)
    files = {_BEFORE_COMMANDS: _before_commands(assignment)}
    files |= {_SETTINGS: _settings(assignment)} if _in_file(assignment) else {}
    return Launch(
        argv=arguments(assignment, session),
        stdin=assignment.prompt,
        environment=variables,
        files=files,
        session=session,
        ignored=sandbox.IN_THE_WAY if assignment.confinement else (),
    )


def arguments(assignment: Assignment, session: str) -> list[str]:
    """Return the argument vector. `session` is the id of the conversation, new or resumed."""
    agent, role = assignment.agent, assignment.role
    argv = [*assignment.command, "-p", "--output-format", "stream-json", "--verbose"]
    argv += ["--resume" if assignment.resume else "--session-id", session]
    argv += ["--name", _name(assignment), "--permission-mode", "dontAsk", "--strict-mcp-config"]
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
    if agent.effort:
        argv += ["--effort", agent.effort]
    if agent.fallback_model:
        argv += ["--fallback-model", agent.fallback_model]
    for path, _ in assignment.mcp_configs:
        argv += ["--mcp-config", path]
    if assignment.plugin:
        argv += ["--plugin-dir", assignment.plugin]
    argv += ["--settings", _in_file(assignment) or _settings(assignment)]
    return [*argv, *_permissions(role, _servers(assignment))]


def _name(assignment: Assignment) -> str:
    """Return the name by which the client's own lists (`claude agents`) show the run."""
    return " ".join(filter(None, (assignment.task, assignment.agent.name)))


def _in_file(assignment: Assignment) -> str | None:
    """Return the path of the run's file with settings; None if they are an argument.

    Other accounts can read arguments, so nothing that a person wrote is in them.
    """
    helped = assignment.role.restricted and sign_in.helpers(assignment.variables)
    return os.path.join(assignment.folder, _SETTINGS) if helped or assignment.settings else None


def _settings(assignment: Assignment) -> str:
    """Return the client's settings of the run; they outrank the person's and the project's."""
    own = sign_in.helpers(assignment.variables) if assignment.role.restricted else {}
    settings: dict[str, Any] = {**own}
    # The client reads one file only: of two, the last.
    for given in (*(values for _, values in assignment.settings), _OURS):
        for key, value in given.items():
            known = settings.get(key)
            if isinstance(known, dict) and isinstance(value, dict):
                value = {**known, **value}
            settings[key] = value
    if assignment.confinement:
        settings |= sandbox.settings(assignment.confinement, assignment.hidden)
    return json.dumps(settings, separators=(",", ":"))


def _servers(assignment: Assignment) -> list[str]:
    """Return permission rules for all tools of the MCP servers that the run names."""
    found = [values.get("mcpServers") for _, values in assignment.mcp_configs]
    names = [name for servers in found if isinstance(servers, dict) for name in servers]
    return [f"mcp__{re.sub(r'[^a-zA-Z0-9_-]', '_', name)}" for name in names]


def _permissions(role: Role, servers: list[str]) -> list[str]:
    # Without the user's and the project's settings, whose permission rules would add to the role's.
    # Other roles do without `.claude/settings.local.json`, which the client also reads from the
    # main checkout: a person's private hooks are not for agents.
    argv = ["--restricted"] if role.restricted else ["--setting-sources", "user,project"]
    # One word per option: these options take any number of words. With `--tools`, an agent has no
    # other tool, not even a tool of a later client.
    argv += ["--tools", ",".join(role.tools)]
    if role.allow or servers:
        argv += ["--allowedTools", ",".join((*role.allow, *servers))]
    if role.deny:
        argv += ["--disallowedTools", ",".join(role.deny)]
    return argv


def _before_commands(assignment: Assignment) -> str:
    """Return what the client's shell reads before each command (measured with 2.1.332).

    It removes the client's credentials from the command's environment. The client's other way,
    CLAUDE_CODE_SUBPROCESS_ENV_SCRUB, needs bubblewrap and writes into the worktree and the home.
    """
    hidden = assignment.hidden
    # The person's own; that of a surrounding session was removed (`session_names`).
    theirs = assignment.variables.get("CLAUDE_ENV_FILE")
    lines = [
        "# The client signs in with these variables; the commands that it runs do not get them."
    ]
    lines += [f"[ ! -r {shlex.quote(theirs)} ] || . {shlex.quote(theirs)}"] if theirs else []
    lines += [f"unset {shlex.join(hidden)}"] if hidden else []
    return "\n".join([*lines, ""])


def _new_uuid() -> str:
    """Return a random UUID (RFC 9562, version 4); the module `uuid` takes long to import."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) % 4]
    parts = (digits[:8], digits[8:12], f"4{digits[13:16]}", variant + digits[17:20], digits[20:])
    return "-".join(parts)
