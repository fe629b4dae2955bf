"""The environments of a client and of the product's own git calls."""

from __future__ import annotations

from collections.abc import Container, Mapping

#: Git variables that would point the agent's git away from its worktree.
_GIT_POSITION = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
)  # fmt: skip

#: Git shows the objects that are pushed, and not those that `git replace` or `info/grafts` put in
#: their place: an agent could let a reviewer, a check or a merge see other work than what it
#: delivers. A file that does not exist, and not /dev/null: `git replace --convert-graft-file`
#: deletes it.
_AS_PUSHED = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": "/nonexistent/grafts"}

#: Beginnings of names of variables that point to the terminal, the editor or the trace in which a
#: person started the run: a client could open a pane there, or report there.
_SURROUNDING = (
    "ITERM_", "KITTY_", "TERMINAL_EMULATOR", "TERM_PROGRAM", "TERM_SESSION", "TMUX", "TRACEPARENT",
    "TRACESTATE", "VSCODE_", "WEZTERM_", "ZELLIJ",
)  # fmt: skip


def for_client(
    base: Mapping[str, str],
    extra: Mapping[str, str],
    allow: Container[str] = (),
    *,
    kept: tuple[str, ...] = (),
    dropped: tuple[str, ...] = (),
) -> dict[str, str]:
    """Return a client's environment: `base` without secrets and without `dropped`, plus `extra`.

    What belongs to the surrounding terminal is also left out.

    `kept` and `dropped` are beginnings of names: the client's sign-in, and the variables of a
    client session that this process runs in. Secrets that `allow` names are also kept.
    """
    from orchestrator.guard import secret_names  # no git call of a tick needs its patterns

    clean = {
        name: value
        for name, value in secret_names.without_secrets(base, allow, kept).items()
        if name not in _GIT_POSITION and not name.startswith((*_SURROUNDING, *dropped))
    }
    clean.update(GIT_TERMINAL_PROMPT="0", GIT_EDITOR="true", **_AS_PUSHED)
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


#: GIT_* variables for access to a remote or for configuration; other GIT_* variables are removed.
_KEPT = (
    "GIT_SSH", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH", "GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY",
)  # fmt: skip


def for_git(base: Mapping[str, str], **extra: str) -> dict[str, str]:
    """Return the environment for the product's git calls, made from `base`."""
    clean = {k: v for k, v in base.items() if not k.startswith("GIT_") or k in _KEPT}
    clean.update(
        GIT_TERMINAL_PROMPT="0",
        GIT_ASKPASS="true",
        SSH_ASKPASS="true",
        SSH_ASKPASS_REQUIRE="force",
        GIT_OPTIONAL_LOCKS="0",
        # A ref whose object is missing is passed over, instead of ending each command that looks at
        # all refs (git(1)). No command of the product deletes objects.
        GIT_REF_PARANOIA="0",
        GIT_EDITOR="true",
        GIT_MERGE_AUTOEDIT="no",
        LC_ALL="C",
        **_AS_PUSHED,
    )
    clean.update(extra)
    return clean
