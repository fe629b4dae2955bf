"""Secrets in an environment: which variables hold one, and who is given them all the same.

Agents, and the checks and hooks that run code which agents wrote, are started without them. A rule
over names and shapes cannot know every secret; one too many is given back by `environment.allow`,
and what is out of reach of any such rule is in SECURITY.md.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping

#: Families of variables that are a service's sign-in or its surroundings.
_FAMILIES = (
    "ACTIONS_", "AWS_", "AZURE_", "BITBUCKET_", "CLOUDFLARE_", "CLOUDSDK_", "DIGITALOCEAN_", "GCP_",
    "GH_", "GITHUB_", "GITLAB_", "GOOGLE_", "HEROKU_", "NPM_", "OP_SESSION_", "PYPI_", "TWINE_",
    "VAULT_",
)  # fmt: skip
#: Of those, what only says how to build: npm's settings, less those that `_NAME` finds.
_SETTINGS = ("NPM_CONFIG_",)
#: Programs, sockets and files that hand out credentials.
_DOORS = {
    "DBUS_SESSION_BUS_ADDRESS", "GIT_ASKPASS", "GNOME_KEYRING_CONTROL",
    "GPG_AGENT_INFO", "KRB5CCNAME", "KUBECONFIG", "NETRC", "PGPASSFILE", "SSH_AGENT_PID",
    "SSH_ASKPASS", "SSH_AUTH_SOCK", "SUDO_ASKPASS", "VSCODE_GIT_ASKPASS_MAIN",
    "VSCODE_GIT_IPC_HANDLE",
}  # fmt: skip
_NAME = re.compile(
    r"PASSW|PASSPHRASE|SECRET|CREDENTIAL|COOKIE|WEBHOOK|AUTHORIZATION"
    r"|(API|ACCESS|PRIVATE|SIGNING|ENCRYPTION)_?KEY"
    # Whole words: AUTHOR is none, nor are TOKENIZERS_PARALLELISM, MONKEY and PWD.
    r"|TOKENS?(?![A-Z])|(?<![A-Z])O?AUTH(?![A-Z])|_(KEYS?|PASS|PWD|PAT|DSN|SESSION)$"
    # Settings of git by variable: headers with a sign-in come that way. All of them, or git fails.
    r"|^GIT_CONFIG_(COUNT$|PARAMETERS$|KEY_|VALUE_)"
)
#: Names that the rule above would take, and that hold numbers or a desktop's name.
_HARMLESS = re.compile(r"MAX_([A-Z]+_)*TOKENS|DESKTOP_SESSION")
#: Values that are secrets whatever their name: a password in a URL, a private key, the shapes that
#: GitHub, GitLab, Slack, AWS and the model services give their tokens.
_VALUE = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AKIA|sk-)[A-Za-z0-9_-]{12}"
)
#: A proxy may need its password, and without it nobody gets through.
_PROXY = re.compile(r"(ALL|FTP|HTTPS?|NO)_PROXY")
#: What the client signs in with, whatever else of these families there is.
_CLIENT = ("ANTHROPIC_", "CLAUDE_CODE_")
#: By the switch that makes the client use a cloud's models: the families it signs in with there.
_CLOUDS = {
    "CLAUDE_CODE_USE_BEDROCK": ("AWS_",),
    "CLAUDE_CODE_USE_MANTLE": ("AWS_",),
    "CLAUDE_CODE_USE_ANTHROPIC_AWS": ("AWS_",),
    "CLAUDE_CODE_USE_VERTEX": ("GOOGLE_", "GCP_", "CLOUDSDK_"),
    "CLAUDE_CODE_USE_ANTHROPIC_GOOGLE_CLOUD": ("GOOGLE_", "GCP_", "CLOUDSDK_"),
    "CLAUDE_CODE_USE_FOUNDRY": ("AZURE_",),
}
_OFF = ("", "0", "false", "no", "off")
#: Credentials of the client's that no rule above finds.
_CLIENT_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable holds, or leads to, a secret: by its name, or by its value."""
    upper = name.upper()
    if _PROXY.fullmatch(upper) or _HARMLESS.fullmatch(upper.removeprefix("CLAUDE_CODE_")):
        return False
    if upper in _DOORS or upper == _CLIENT_HEADERS or _NAME.search(upper) or _VALUE.search(value):
        return True
    return upper.startswith(_FAMILIES) and not upper.startswith(_SETTINGS)


def without_secrets(
    base: Mapping[str, str], allow: Container[str] = (), kept: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the variables of `base` that hold no secret, and those that are named in `allow`.

    `kept` are beginnings of names that stay whatever they hold.
    """
    return {
        name: value
        for name, value in base.items()
        if name in allow or (kept and name.startswith(kept)) or not is_secret(name, value)
    }


def named_in(text: str, base: Mapping[str, str], given: Container[str]) -> list[str]:
    """Return the secrets of `base` that were not `given` and whose names stand in `text`.

    What a command and its output speak of is likely what it lacked.
    """
    return sorted(
        name
        for name, value in base.items()
        if name in text
        and name not in given
        and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
        and is_secret(name, value)
    )


def hint(names: Iterable[str]) -> str:
    """Return a sentence on how to give commands what they lacked; '' when they lacked nothing."""
    listed = ", ".join(names)
    return listed and (
        f"({listed}: not given to agents, checks and hooks, for it looks like a secret; "
        "if it is needed: environment.allow in agents.yaml)"
    )


def needed_by_client(base: Mapping[str, str]) -> tuple[str, ...]:
    """Return the beginnings of the names that the client itself needs to sign in."""
    clouds = [
        family
        for switch, families in _CLOUDS.items()
        if base.get(switch, "").strip().lower() not in _OFF
        for family in families
    ]
    return (*_CLIENT, *clouds)


def given_to_client(base: Mapping[str, str], allow: Container[str] = ()) -> dict[str, str]:
    """Return the variables of `base` without secrets but what the client signs in with."""
    return without_secrets(base, allow, needed_by_client(base))


def hidden_from_commands(base: Mapping[str, str], allow: Container[str] = ()) -> list[str]:
    """Return the client's own secrets: what it is given, and the commands it runs must not see."""
    given = given_to_client(base, allow)
    return sorted(name for name in given if name not in allow and is_secret(name, given[name]))
