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
    r"PASSW|PASSPHRASE|SECRET|CREDENTIAL|COOKIE|WEBHOOK|AUTHORIZATION|CUSTOM_HEADERS"
    r"|(API|ACCESS|PRIVATE|SIGNING|ENCRYPTION)_?KEY"
    # Whole words: AUTHOR is none, nor are TOKENIZERS_PARALLELISM, MONKEY and PWD.
    r"|TOKENS?(?![A-Z])|(?<![A-Z])O?AUTH(?![A-Z])|_(KEYS?|PASS|PWD|PAT|DSN|SESSION)$"
    # Settings of git by variable: headers with a sign-in come that way. All of them, or git fails.
    r"|^GIT_CONFIG_(COUNT$|PARAMETERS$|KEY_|VALUE_)"
)
#: Names that the rule above would take, and that hold numbers or a desktop's name.
_HARMLESS = re.compile(r"([A-Z]+_)*MAX_([A-Z]+_)*TOKENS|DESKTOP_SESSION")
#: Values that are secrets whatever their name: a password in a URL, a private key, the shapes that
#: GitHub, GitLab, Slack, AWS and the model services give their tokens.
_VALUE = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AKIA|sk-)[A-Za-z0-9_-]{12}"
)
#: A proxy may need its password, and without it nobody gets through.
_PROXY = re.compile(r"(ALL|FTP|HTTPS?|NO)_PROXY")


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable holds, or leads to, a secret: by its name, or by its value."""
    upper = name.upper()
    if _PROXY.fullmatch(upper) or _HARMLESS.fullmatch(upper):
        return False
    if upper in _DOORS or _NAME.search(upper) or _VALUE.search(value):
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


def hidden_from_commands(
    base: Mapping[str, str], allow: Container[str], kept: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the client's own secrets: what it is given, and the commands it runs must not see.

    `kept` are the beginnings of the names of what it signs in with.
    """
    return tuple(
        sorted(
            name
            for name, value in base.items()
            if name.startswith(kept) and name not in allow and is_secret(name, value)
        )
    )
