"""Secrets in an environment: which variables hold secrets, and which secrets are passed on.

Agents, checks and hooks start without secrets (checks and hooks run code that agents wrote). A rule
about names and values cannot know every secret. `environment.allow` passes on a variable that the
rule removes by mistake; SECURITY.md describes the limits of the rule.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache

from orchestrator.guard import secret_shapes

#: Families of variables for a service's sign-in or its environment.
_FAMILIES = (
    "ACTIONS_", "AWS_", "AZURE_", "BITBUCKET_", "CLOUDFLARE_", "CLOUDSDK_", "DIGITALOCEAN_", "GCP_",
    "GH_", "GITHUB_", "GITLAB_", "GOOGLE_", "HEROKU_", "NPM_", "OP_SESSION_", "PYPI_", "TWINE_",
    "VAULT_",
)  # fmt: skip
#: Exceptions: npm's build settings are not secret, unless `_NAME` matches.
_SETTINGS = ("NPM_CONFIG_",)
#: Programs, sockets and files that hand out credentials.
_DOORS = {
    "DBUS_SESSION_BUS_ADDRESS", "GIT_ASKPASS", "GNOME_KEYRING_CONTROL",
    "GPG_AGENT_INFO", "KRB5CCNAME", "KUBECONFIG", "NETRC", "PGPASSFILE", "SSH_AGENT_PID",
    "SSH_ASKPASS", "SSH_AUTH_SOCK", "SUDO_ASKPASS", "VSCODE_GIT_ASKPASS_MAIN",
    "VSCODE_GIT_IPC_HANDLE",
}  # fmt: skip
_NAME = (
    r"PASSW|PASSPHRASE|SECRET|CREDENTIAL|COOKIE|WEBHOOK|AUTHORIZATION|CUSTOM_HEADERS"
    r"|(API|ACCESS|PRIVATE|SIGNING|ENCRYPTION)_?KEY"
    # Whole words: AUTHOR, TOKENIZERS_PARALLELISM, MONKEY and PWD are not secrets.
    r"|TOKENS?(?![A-Z])|(?<![A-Z])O?AUTH(?![A-Z])|_(KEYS?|PASS|PWD|PAT|DSN|SESSION)$"
    # Git settings in variables may contain sign-in headers. Git fails if only some are removed.
    r"|^GIT_CONFIG_(COUNT$|PARAMETERS$|KEY_|VALUE_)"
)
#: Names that match the rule above but hold numbers or the name of a desktop.
_HARMLESS = r"([A-Z]+_)*MAX_([A-Z]+_)*TOKENS|DESKTOP_SESSION"
#: A proxy may need its password; without the password no connection works.
_PROXY = r"(ALL|FTP|HTTPS?|NO)_PROXY"


@lru_cache(maxsize=4096)
def is_secret(name: str, value: str) -> bool:
    """Return whether a variable holds, or leads to, a secret: by its name, or by its value."""
    upper = name.upper()
    if re.fullmatch(_PROXY, upper) or re.fullmatch(_HARMLESS, upper):
        return False
    if upper in _DOORS or re.search(_NAME, upper) or secret_shapes.found(value):
        return True
    return upper.startswith(_FAMILIES) and not upper.startswith(_SETTINGS)


def without_secrets(
    base: Mapping[str, str], allow: Container[str] = (), kept: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return the variables of `base` that hold no secret or that `allow` names.

    `kept` has beginnings of names whose variables are always kept.
    """
    return {
        name: value
        for name, value in base.items()
        if name in allow or (kept and name.startswith(kept)) or not is_secret(name, value)
    }


def named_in(text: str, base: Mapping[str, str], given: Container[str]) -> list[str]:
    """Return the secrets of `base` that were not `given` and whose names occur in `text`.

    If a command or its output names a variable, the command probably needed the variable.
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
    """Return a sentence on how to pass missing variables to commands; '' if `names` is empty."""
    listed = ", ".join(names)
    return listed and (
        f"({listed}: not passed to agents, checks and hooks because it looks like a secret; "
        "to pass it: environment.allow in agents.yaml)"
    )


def hidden_from_commands(
    base: Mapping[str, str], allow: Container[str], kept: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the client's own secrets, which the commands that it runs must not see.

    `kept` has the beginnings of the names of its sign-in variables.
    """
    public = without_secrets(base, allow)
    return tuple(sorted(name for name in base if name.startswith(kept) and name not in public))
