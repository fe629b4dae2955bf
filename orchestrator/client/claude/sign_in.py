"""How Claude Code signs in: its variables, its files, and what `doctor` says about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from orchestrator.client.protocol import Client, command
from orchestrator.model.annotations import Any
from orchestrator.model.config import Config
from orchestrator.model.finding import Finding, ok, warn
from orchestrator.system import files

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
#: Variables of the person's settings without which the service may be out of reach.
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS")
#: Keys of the person's settings: commands that print a credential, or renew one.
_HELPERS = ("apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh")
_OFF = ("", "0", "false", "no", "off")


def names(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return the beginnings of the names of variables that the client signs in with."""
    used = [CLOUDS[name] for name in CLOUDS if variables.get(name, "").strip().lower() not in _OFF]
    return ("ANTHROPIC_", "CLAUDE_CODE_", *sum(used, ()))


def settings_folder(variables: Mapping[str, str]) -> str:
    """Return the folder in which the client keeps a user's settings, plugins and sign-in."""
    home = variables.get("HOME") or os.path.expanduser("~")
    return variables.get("CLAUDE_CONFIG_DIR") or os.path.join(home, ".claude")


def _settings(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the person's settings of the client; {} if they cannot be read."""
    found = files.read_json(os.path.join(settings_folder(variables), "settings.json"))
    return found if isinstance(found, dict) else {}


def settings_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for sign-in and network from `env` of the person's settings.

    A restricted role ignores these settings (`--restricted`), so a run passes the variables on.
    """
    found = _settings(variables).get("env")
    given = {
        str(name): str(value)
        for name, value in (found.items() if isinstance(found, dict) else ())
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    }
    wanted = names({**variables, **given})
    return {n: v for n, v in given.items() if n.startswith(wanted) or n.upper() in _NETWORK}


def helpers(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the person's commands for credentials, as settings for a restricted role."""
    found = _settings(variables)
    return {key: found[key] for key in _HELPERS if isinstance(found.get(key), str)}


def finding(client: Client, config: Config, variables: Mapping[str, str]) -> Finding:
    """Look for signs of a sign-in, by the names of variables and files; shows no credential."""
    if not any("claude" in os.path.basename(word) for word in command(client, config)):
        return ok("sign_in", "not checked: claude.command is a program of your own")
    given = [name for name in VARIABLES if variables.get(name)]
    if given:
        return ok("sign_in", f"{given[0]} is set in this shell; the schedule needs it too")
    folder = settings_folder(variables)
    set_there = settings_variables(variables)
    there = [n for n in VARIABLES if set_there.get(n)] or list(helpers(variables))
    if there:
        path = os.path.join(folder, "settings.json")
        return ok("sign_in", f"{there[0]} is set in {path}; every role gets it")
    path = os.path.join(folder, ".credentials.json")
    if os.path.isfile(path):
        return ok("sign_in", f"a sign-in of the client was found ({path})")
    if sys.platform == "darwin":
        return ok("sign_in", "not checked: macOS keeps it in the keychain")
    hint = client.hints["authentication_failed"]
    return warn("sign_in", "no sign-in of the client was found", hint)
