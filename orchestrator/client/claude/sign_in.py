"""How Claude Code signs in: its variables, its files, and what `doctor` says about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from orchestrator.client.protocol import Client, command
from orchestrator.finding import Finding, ok, warn
from orchestrator.model import Config

#: By the variable that selects a cloud's models: the beginnings of the cloud's sign-in variables.
CLOUDS = {
    "CLAUDE_CODE_USE_BEDROCK": ("AWS_",),
    "CLAUDE_CODE_USE_MANTLE": ("AWS_",),
    "CLAUDE_CODE_USE_ANTHROPIC_AWS": ("AWS_",),
    "CLAUDE_CODE_USE_VERTEX": ("GOOGLE_", "GCP_", "CLOUDSDK_"),
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD": ("GOOGLE_", "GCP_", "CLOUDSDK_"),
    "CLAUDE_CODE_USE_FOUNDRY": ("AZURE_",),
}
#: Variables that sign the client in without a file. Only whether they are set is looked at.
VARIABLES = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    *CLOUDS,
)
_OFF = ("", "0", "false", "no", "off")


def names(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the beginnings of the names of variables that the client signs in with."""
    used = [CLOUDS[name] for name in CLOUDS if variables.get(name, "").strip().lower() not in _OFF]
    return ("ANTHROPIC_", "CLAUDE_CODE_", *sum(used, ()))


def settings_folder(variables: Mapping[str, str]) -> str:
    """Return the folder in which the client keeps a user's settings, plugins and sign-in."""
    home = variables.get("HOME") or os.path.expanduser("~")
    return variables.get("CLAUDE_CONFIG_DIR") or os.path.join(home, ".claude")


def finding(client: Client, config: Config, variables: Mapping[str, str]) -> Finding:
    """Look for signs of a sign-in. Never reads a credential."""
    if not any("claude" in os.path.basename(word) for word in command(client, config)):
        return ok("sign_in", "not checked: claude.command is a program of your own")
    given = [name for name in VARIABLES if variables.get(name)]
    if given:
        return ok("sign_in", f"{given[0]} is set in this shell; the schedule needs it too")
    path = os.path.join(settings_folder(variables), ".credentials.json")
    if os.path.isfile(path):
        return ok("sign_in", f"a sign-in of the client was found ({path})")
    if sys.platform == "darwin":
        return ok("sign_in", "not checked: macOS keeps it in the keychain")
    hint = client.hints["authentication_failed"]
    return warn("sign_in", "no sign-in of the client was found", hint)
