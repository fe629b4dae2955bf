"""The environment that a client is started in. Nothing heavy: the waiting supervisor reads it."""

from __future__ import annotations

from collections.abc import Container, Mapping

#: What a surrounding client session sets, and what would confuse the one we start.
_SESSION = ("CLAUDECODE", "CLAUDE_PID", "CLAUDE_EFFORT", "CLAUDE_PROJECT_DIR")
_SESSION_PREFIXES = ("CLAUDE_CODE_SESSION", "CLAUDE_CODE_CHILD")
#: Git variables that would point the agent's git away from its worktree.
_GIT_POSITION = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)


def for_client(
    base: Mapping[str, str], extra: Mapping[str, str], allow: Container[str] = ()
) -> dict[str, str]:
    """Return a client's environment: `base` without a surrounding session's, plus `extra`.

    Secrets are left out, but for those that the client signs in with and those named in `allow`.
    """
    from orchestrator.guard import secret_names

    clean = {
        name: value
        for name, value in secret_names.given_to_client(base, allow).items()
        if name not in _SESSION
        and name not in _GIT_POSITION
        and not name.startswith(_SESSION_PREFIXES)
    }
    clean.update(
        DISABLE_AUTOUPDATER="1",
        CLAUDE_CODE_DISABLE_CRON="1",
        CLAUDE_CODE_DISABLE_AUTO_MEMORY="1",
        # Background work would outlive the report, and makes the client print several results.
        CLAUDE_CODE_DISABLE_BACKGROUND_TASKS="1",
        # A fault ends the run in seconds, not after ten doubling waits; our own ticks try again.
        CLAUDE_CODE_MAX_RETRIES=base.get("CLAUDE_CODE_MAX_RETRIES", "3"),
        GIT_TERMINAL_PROMPT="0",
        GIT_EDITOR="true",
    )
    clean.update(extra)
    return clean


def as_git_config(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that set git configuration for a process and its children.

    See git-config(1), `GIT_CONFIG_COUNT`.
    """
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for index, (name, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{index}"] = name
        variables[f"GIT_CONFIG_VALUE_{index}"] = value
    return variables


#: GIT_* variables that say how to reach a remote or where the configuration is; all others go.
_KEPT = (
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
    "GIT_SSL_CAINFO",
    "GIT_SSL_NO_VERIFY",
)


def for_git(base: Mapping[str, str], **extra: str) -> dict[str, str]:
    """Return the environment for our git calls, made from `base`."""
    clean = {k: v for k, v in base.items() if not k.startswith("GIT_") or k in _KEPT}
    clean.update(
        GIT_TERMINAL_PROMPT="0",
        GIT_ASKPASS="true",
        SSH_ASKPASS="true",
        GIT_OPTIONAL_LOCKS="0",
        GIT_EDITOR="true",
        GIT_MERGE_AUTOEDIT="no",
        LC_ALL="C",
    )
    clean.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    clean.update(extra)
    return clean
