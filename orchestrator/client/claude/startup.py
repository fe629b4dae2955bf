"""The reasons for which Claude Code does not start: its `startup_failure_reason`, with a hint each.

The 25 reasons of 2.1.332, from the schema of its result line. A client test compares this table
with the client's program, so a new reason is noticed. Each is a system fault: the task is
not the cause, and a retry alone does not help.
"""

from __future__ import annotations

from orchestrator.model.fields import NamedTuple


class Refusal(NamedTuple):
    """Why the client did not start, and what a person can do about it."""

    why: str
    hint: str


_ADMIN = "ask the administrator of the client's managed settings"
_SIGN_IN = "run `claude` once and sign in with an account that the organisation allows"
_LATER = "check the network; work resumes when the client starts again"
_COMMAND = "check claude.command in agents.yaml: a program between the product and the client "

REFUSALS = {
    "org_pin_api_key_conflict": Refusal(
        "managed settings ask for a sign-in, but an API key or a token is set",
        "unset ANTHROPIC_API_KEY and ANTHROPIC_AUTH_TOKEN, also in the schedule, and sign in",
    ),
    "provider_not_allowed": Refusal(
        "managed settings do not allow this provider of the model",
        f"unset the variable that selects the provider (CLAUDE_CODE_USE_...), or {_ADMIN}",
    ),
    "org_verify_failed": Refusal("the sign-in's organisation cannot be verified", _LATER),
    "org_pin_mismatch": Refusal("the sign-in belongs to another organisation", _SIGN_IN),
    "managed_settings_invalid": Refusal("the managed settings cannot be used", _ADMIN),
    "remote_settings_required_unavailable": Refusal(
        "the settings that the organisation requires cannot be loaded", _LATER
    ),
    "gateway_signin_required": Refusal(
        "the gateway ended the sign-in", "run `claude` once and sign in at the gateway"
    ),
    "gateway_access_denied": Refusal("the gateway refuses this account", _ADMIN),
    "proxy_invalid": Refusal(
        "a proxy setting is not a complete URL",
        "correct HTTPS_PROXY and HTTP_PROXY, as in http://host:port, also in the schedule",
    ),
    "temp_dir_unusable": Refusal(
        "the client's temporary folder cannot be used",
        "check the owner and the permissions of the folder that the message names (TMPDIR)",
    ),
    "cwd_unavailable": Refusal(
        "the agent's worktree cannot be read",
        "check the folder that the message names; the next run creates a missing worktree",
    ),
    "shell_tool_missing": Refusal(
        "the client finds no shell", "install bash, or correct the PATH of the schedule"
    ),
    "session_held_by_background": Refusal(
        "the conversation runs as a background session of the client",
        "end it: claude agents; the next run starts a new conversation",
    ),
    "worktree_resume_refused": Refusal(
        "the client refuses the conversation's own worktree",
        "no action needed: the next run starts a new conversation",
    ),
    "worktree_unverified": Refusal(
        "the client cannot verify the conversation's own worktree",
        "no action needed: the next run starts a new conversation",
    ),
    "cli_version_too_old": Refusal("this version of the client is too old", "claude update"),
    "bypass_root": Refusal(
        "bypassPermissions is refused for root",
        f"{_COMMAND}adds the option; or do not run as root",
    ),
    "org_config_required_unavailable": Refusal(
        "the organisation's policy cannot be loaded", _LATER
    ),
    "org_config_refused": Refusal("the organisation refuses this sign-in", _SIGN_IN),
    "sandbox_required_unavailable": Refusal(
        "the client cannot start its sandbox",
        "Debian and Ubuntu: apt install bubblewrap socat; or set claude.sandbox: false in "
        "agents.yaml",
    ),
    "initialize_not_first": Refusal(
        "the client was started for another host", f"{_COMMAND}adds --await-initialize"
    ),
    "config_file_invalid": Refusal(
        "a configuration file of the client is not valid JSON",
        "repair or restore the file that the message names; the client leaves it unchanged",
    ),
    "managed_settings_not_delivered": Refusal(
        "the client waits for managed settings of another host",
        f"{_COMMAND}adds --managed-settings-in-initialize",
    ),
    "initialize_fields_not_delivered": Refusal(
        "the client waits for settings of another host", f"{_COMMAND}adds --initialize-fields"
    ),
    "sideload_flags_disabled": Refusal(
        "managed settings forbid the plugin and the MCP servers that a run names",
        f"remove mcp_config from agents.yaml; for the product's own plugin, {_ADMIN}",
    ),
}
#: The code of the fault is the reason, except for this older code.
CODES = {"sandbox_required_unavailable": "sandbox_unavailable"}
#: The fault concerns the conversation that the run was to continue: the next run starts a new one.
OF_THE_CONVERSATION = (
    "session_held_by_background", "worktree_resume_refused", "worktree_unverified",
)  # fmt: skip


def refusal(reason: object, complaint: str) -> tuple[str, str] | None:
    """Return the fault (its code first) and the hint; None if the client gave no reason.

    A reason of a newer client is a fault, too; its hint is the client's own `complaint`.
    """
    if not isinstance(reason, str) or not reason:
        return None
    known = REFUSALS.get(reason, Refusal("the client did not start", f"the client: {complaint}"))
    return f"{CODES.get(reason, reason)}: {known.why}: {complaint}", known.hint
