"""What agents, checks and hooks find in their environment: no secret of the person's.

The rule is a table; what a command of the real client's sees is asked of the real client.
"""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

import harness
import psutil
import pytest
from harness import World
from rows import each_row
from test_real_client import (  # noqa: F401 (fixtures)
    IMPLEMENTER,
    Project,
    api,
    bash,
    commit,
    project,
    report,
    results,
)

from orchestrator.client.claude.adapter import Claude
from orchestrator.guard import client_environment, secret_names, user_commands
from orchestrator.layout import Layout
from orchestrator.model.config import Agent, Config

world = harness.world

# --- the rule ----------------------------------------------------------------------------------

SECRET = {
    "GITHUB_TOKEN": "x",
    "GH_HOST": "x",
    "GITLAB_PRIVATE": "x",
    "NPM_TOKEN": "x",
    "NPM_CONFIG__AUTH": "x",
    "NODE_AUTH_TOKEN": "x",
    "npm_config_//registry/:_authToken": "x",
    "PYPI_USER": "x",
    "AWS_PROFILE": "x",
    "AZURE_CLIENT_ID": "x",
    "GOOGLE_APPLICATION_CREDENTIALS": "/x",
    "SSH_AUTH_SOCK": "/run/agent",
    "GIT_ASKPASS": "/x",
    "KUBECONFIG": "/x",
    "OPENAI_API_KEY": "x",
    "DEEPL_APIKEY": "x",
    "R2_ACCESS_KEY_ID": "x",
    "DEPLOY_PRIVATE_KEY": "x",
    "RAILS_MASTER_KEY": "x",
    "DJANGO_SECRET": "x",
    "PGPASSWORD": "x",
    "MYSQL_PWD": "x",
    "SMTP_PASS": "x",
    "ANSIBLE_VAULT_PASSPHRASE": "x",
    "BW_SESSION": "x",
    "OP_SESSION_mine": "x",
    "SESSION_COOKIE": "x",
    "SLACK_WEBHOOK_URL": "x",
    "SENTRY_DSN": "x",
    "HF_TOKEN": "x",
    "BASIC_AUTH": "x",
    "OAUTH_CLIENT": "x",
    "my_token": "x",
    "GIT_CONFIG_PARAMETERS": "'http.extraheader=x'",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "http.extraheader",
    "GIT_CONFIG_VALUE_0": "x",
    "ANTHROPIC_API_KEY": "x",
    "ANTHROPIC_CUSTOM_HEADERS": "x",
    "CLAUDE_CODE_OAUTH_TOKEN": "x",
    # By what they hold.
    "DATABASE_URL": "postgres://me:pw@db/x",
    "BROKER": "one=amqp://:pw@mq:5672/;two",
    "PIP_INDEX_URL": "https://me:pw@packages.example/simple",
    "SETTING": "ghp_0123456789abcdefghij",
    "OTHER": "-----BEGIN OPENSSH PRIVATE KEY-----\nx",
}
HARMLESS = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/home/me",
    "PWD": "/home/me",
    "OLDPWD": "/home/me",
    "LANG": "C",
    "TERM": "xterm",
    "TZ": "Europe/Berlin",
    "SHELL": "/bin/sh",
    "DESKTOP_SESSION": "plasma",
    "XDG_SESSION_ID": "3",
    "GIT_AUTHOR_NAME": "Me",
    "TOKENIZERS_PARALLELISM": "false",
    "KEYBOARD": "de",
    "MONKEY": "1",
    "COMPASS": "north",
    "DATABASE_URL": "postgres://me@localhost/x",
    "NPM_CONFIG_CACHE": "/cache",
    "npm_config_registry": "https://registry.example",
    "HTTPS_PROXY": "http://me:pw@proxy:3128",
    "no_proxy": "localhost",
    "SSL_CERT_FILE": "/etc/ssl/cert.pem",
    "NODE_EXTRA_CA_CERTS": "/etc/ssl/cert.pem",
    "MAX_THINKING_TOKENS": "4000",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "4000",
    "CLAUDE_CODE_USE_BEDROCK": "1",
    "VIRTUAL_ENV": "/x",
    "JAVA_HOME": "/x",
    "EDITOR": "vi",
    "": "",
}


@each_row(("name", "value"), SECRET.items(), ids=SECRET)
def test_what_looks_like_a_secret_is_one(name: str, value: str) -> None:
    assert secret_names.is_secret(name, value)


def test_each_service_and_each_program_that_hands_out_credentials_is_known() -> None:
    services = (
        "ACTIONS AWS AZURE BITBUCKET CLOUDFLARE CLOUDSDK DIGITALOCEAN GCP GH GITHUB GITLAB GOOGLE "
        "HEROKU NPM OP_SESSION PYPI TWINE VAULT"
    )
    doors = (
        "DBUS_SESSION_BUS_ADDRESS GIT_ASKPASS GNOME_KEYRING_CONTROL GPG_AGENT_INFO KRB5CCNAME "
        "KUBECONFIG NETRC PGPASSFILE SSH_AGENT_PID SSH_ASKPASS SSH_AUTH_SOCK SUDO_ASKPASS "
        "VSCODE_GIT_ASKPASS_MAIN VSCODE_GIT_IPC_HANDLE"
    )
    names = [*(f"{each}_WHERE" for each in services.split()), *doors.split()]
    assert [name for name in names if not secret_names.is_secret(name, "x")] == []
    assert not secret_names.is_secret("NPM_CONFIG_CACHE", "/x")


@each_row(("name", "value"), HARMLESS.items(), ids=HARMLESS)
def test_what_work_needs_is_none(name: str, value: str) -> None:
    assert not secret_names.is_secret(name, value)


def for_client(
    base: dict[str, str], extra: dict[str, str], allow: tuple[str, ...] = ()
) -> dict[str, str]:
    kept, dropped = Claude().sign_in_names(base), Claude.session_names
    return client_environment.for_client(base, extra, allow, kept=kept, dropped=dropped)


def test_the_client_gets_what_it_signs_in_with_and_no_other_secret() -> None:
    base = {**HARMLESS, **SECRET}
    del base["CLAUDE_CODE_USE_BEDROCK"]
    given = for_client(base, {})
    kept = {"ANTHROPIC_API_KEY", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CODE_OAUTH_TOKEN"}
    assert {name for name, value in given.items() if secret_names.is_secret(name, value)} == kept


def test_a_run_gets_nothing_of_the_terminal_or_trace_in_which_it_was_started() -> None:
    """And nothing that overrules the agent's `effort`."""
    names = {
        "TMUX", "TMUX_PANE", "TRACEPARENT", "TRACESTATE", "VSCODE_PID", "TERM_PROGRAM",
        "TERM_PROGRAM_VERSION", "CLAUDE_CODE_EFFORT_LEVEL", "CLAUDE_CODE_SUBAGENT_EFFORT",
    }  # fmt: skip
    kept = {"TERM": "xterm", "TMPDIR": "/t", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "4000"}
    given = for_client({**dict.fromkeys(names, "x"), **kept}, {})
    assert given.keys() & (names | kept.keys()) == kept.keys()


@pytest.mark.parametrize(
    ("switch", "name"),
    [
        ("CLAUDE_CODE_USE_BEDROCK", "AWS_SECRET_ACCESS_KEY"),
        ("CLAUDE_CODE_USE_BEDROCK", "AWS_PROFILE"),
        ("CLAUDE_CODE_USE_VERTEX", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("CLAUDE_CODE_USE_VERTEX", "GOOGLE_CLOUD_PROJECT"),
        ("CLAUDE_CODE_USE_FOUNDRY", "AZURE_CLIENT_SECRET"),
    ],
)
def test_a_clouds_credentials_are_given_only_where_the_client_uses_that_cloud(
    switch: str, name: str
) -> None:
    others = {"GH_TOKEN": "x", "AWS_OTHER": "x", "GOOGLE_OTHER": "x", "AZURE_OTHER": "x"}
    for value, expected in (("1", True), ("true", True), ("0", False), ("", False), (None, False)):
        base = {name: "x", **others} | ({} if value is None else {switch: value})
        given = for_client(base, {})
        assert (name in given) is expected
        assert "GH_TOKEN" not in given
        assert len(given.keys() & others.keys()) == expected


def test_what_is_allowed_by_name_is_given_and_only_by_its_exact_name() -> None:
    base = {"GH_TOKEN": "1", "gh_token": "2", "GH_TOKEN_2": "3"}
    assert secret_names.without_secrets(base, ("GH_TOKEN",)) == {"GH_TOKEN": "1"}
    assert for_client(base, {}, ("GH_TOKEN",))["GH_TOKEN"] == "1"


def test_a_runs_own_variables_are_never_taken_for_secrets() -> None:
    extra = client_environment.as_git_config({"url.x.insteadOf": "https://me:pw@host/"})
    assert extra.items() <= for_client({}, extra).items()


def test_commands_of_the_client_do_without_its_sign_in() -> None:
    base = {"ANTHROPIC_API_KEY": "x", "ANTHROPIC_MODEL": "m", "GH_TOKEN": "x", "HOME": "/h"}
    kept = Claude().sign_in_names(base)
    assert secret_names.hidden_from_commands(base, (), kept) == ("ANTHROPIC_API_KEY",)
    assert secret_names.hidden_from_commands(base, ("ANTHROPIC_API_KEY",), kept) == ()


def test_checks_and_hooks_get_no_secret_and_not_the_clients_sign_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    config = Config(environment_allow=("NPM_TOKEN",))
    agent = Agent(name="ann", role="implementer", position=0)
    given = user_commands.check_environment(config, agent, Layout("/project"))
    ours = {"GIT_ASKPASS", "SSH_ASKPASS"}  # set to a program that answers nothing
    found = {name for name, value in given.items() if secret_names.is_secret(name, value)}
    assert found - ours == {"NPM_TOKEN"}
    assert given["GIT_ASKPASS"] == "true"


def test_what_a_command_lacked_is_named_and_nothing_else() -> None:
    base = {
        "DB_PASSWORD": "x",
        "DB_PASSWORD_OLD": "y",
        "API_KEY": "z",
        "HOME": "/h",
        "NPM_TOKEN": "t",
    }
    said = "DB_PASSWORD is not set; nor is HOME. MY_API_KEY_X; NPM_TOKEN"
    assert secret_names.named_in(said, base, {"NPM_TOKEN"}) == ["DB_PASSWORD"]
    assert secret_names.named_in("all is well", base, {}) == []
    assert "DB_PASSWORD" in secret_names.hint(["DB_PASSWORD"])
    assert secret_names.hint([]) == ""


@pytest.mark.parametrize("which", ["check", "hook", "client"])
def test_a_command_that_fails_without_its_secret_says_how_to_give_it_one(
    world: World, which: str
) -> None:
    needs = 'test -n "$DB_PASSWORD" || { echo "DB_PASSWORD is not set" >&2; exit 1; }'
    wrapper = world.bin / "wrapper"
    words = shlex.join([*harness.PYTHON, str(harness.FAKE_CLIENT)])
    wrapper.write_text(f'#!/bin/sh\n{needs}\nexec {words} "$@"\n')
    wrapper.chmod(0o755)
    there: dict[str, Any] = {
        "check": {"checks": [needs]},
        "hook": {"hooks": {"after_create": needs}},
        "client": {"claude": {"command": [str(wrapper)]}},
    }[which]
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0}, **there)
    world.environment["DB_PASSWORD"] = CANARY
    task = world.add("Needs a password")
    world.tick_until(lambda: world.task(task)["reason"], "its reason")
    world.quiet()
    error = world.task(task)["history"][-1]["error"]
    assert "(DB_PASSWORD: not passed" in error, error
    assert "environment.allow" in error, error
    assert CANARY not in error
    world.configure(environment={"allow": ["DB_PASSWORD"]}, **there)
    world.run("task", "retry", task)
    world.tick_until_in("done", task)


# --- what is left on the disk, and shown to others on the machine -------------------------------

CANARY = "canary-7f3a"


def test_no_secret_of_the_environment_is_left_anywhere_by_a_whole_run(world: World) -> None:
    world.create(checks=["env", "true"], hooks={"after_create": "env >&2"})
    for number, name in enumerate(SECRET):
        if name.isidentifier() and not name.startswith("GIT_CONFIG"):
            world.environment[name] = f"https://u:{CANARY}@{number}/"
    world.environment["GIT_ASKPASS"] = "/bin/false"
    world.git("remote", "set-url", "origin", f"https://me:{CANARY}@127.0.0.1:1/x.git")
    world.script("default", {"steps": [["work"]]})
    task = world.add("Write something")
    shown: set[str] = set()

    def look() -> None:
        for process in world.processes():
            try:
                words = process.cmdline()
                # Git itself hands a remote's address, password and all, to its helper that way.
                if not any("remote-http" in word for word in words[:2]):
                    shown.update(words)
            except psutil.Error:
                continue

    with harness.Sampler(look):
        world.tick_until(lambda: world.status()["problems"])
        said = json.dumps([world.status(), world.run("doctor").out, world.run("inbox").out])
        world.git("remote", "set-url", "origin", str(world.remote))
        world.tick_until_in("done", task, limit=90)
        said += world.run("logs", task, "--raw").out
        world.quiet()
    assert shown
    assert not [word for word in shown if CANARY in word]
    assert CANARY not in said
    kept = [path for path in world.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    # The fake client notes its own environment: with what the client signs in with.
    kept = [path for path in kept if world.fake not in path.parents]
    assert [path for path in kept if CANARY.encode() in path.read_bytes()] == []


def test_what_is_kept_of_a_run_is_for_nobody_else(world: World) -> None:
    old = os.umask(0o022)
    try:
        world.create(kept_today=False, checks=["true"])
        task = world.add("Write something")
        world.tick_until_in("done", task)
        world.quiet()
        world.tick()
    finally:
        os.umask(old)
    home = world.home_folder
    committed = {home, home / "agents.yaml", home / "roles", home / "commands"}
    dropped = set(home.glob("shared/queue/*/*.md"))  # a person's file keeps a person's mode
    wide = []
    for path in home.rglob("*"):
        if "worktree" in path.relative_to(home).parts or path in committed | dropped:
            continue
        if path.lstat().st_mode & 0o077:
            wide.append(path)
    assert wide == []
    assert list(home.glob("agents/*/runs/*/launch.json"))


def test_folders_that_others_can_enter_are_named_and_closed_by_init(world: World) -> None:
    world.create()
    for name in ("agents", "shared", "cache"):
        (world.home_folder / name).chmod(0o755)
    findings = world.json("doctor")["findings"]
    wide = "other users of this machine can read"
    assert sum(wide in finding["message"] for finding in findings) == 3
    world.ok("init", "--schedule", "none", "--no-commands")
    for name in ("agents", "shared", "cache"):
        assert (world.home_folder / name).stat().st_mode & 0o777 == 0o700
    assert "nothing to change" in world.ok("init", "--schedule", "none", "--no-commands").out


# --- asked of the real client ------------------------------------------------------------------


@pytest.mark.client
def test_a_command_of_an_agent_sees_no_secret(project: Project) -> None:  # noqa: F811
    project.configure(IMPLEMENTER, environment={"allow": ["NPM_TOKEN"]}, checks=["env > ../env"])
    project.add("TASK-1", "Look around")
    project.environment |= {
        "GH_TOKEN": "canary-gh",
        "AWS_SECRET_ACCESS_KEY": "canary-aws",
        "DATABASE_URL": "postgres://me:canary-db@localhost/x",
        "CLAUDE_CODE_OAUTH_TOKEN": "canary-oauth",
        "ANTHROPIC_CUSTOM_HEADERS": "x-canary: canary-header",
        "NPM_TOKEN": "allowed",
    }
    project.api.script("", [bash("env"), bash("echo 2 > app.txt"), commit("Two"), report("done")])
    project.run_once()
    assert project.tasks("done") == ["TASK-1"], project.story()
    said = results(project.api.conversations()[-1])[0]
    seen = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    assert seen["NPM_TOKEN"] == "allowed"
    assert "canary" not in said
    assert "ANTHROPIC_API_KEY" not in seen
    # The client itself signed in with what its commands do not see.
    sent = project.api.conversations()[-1].headers
    assert sent["x-canary"] == "canary-header"
    checked = (project.worktree("ann").parent / "env").read_text()
    assert "NPM_TOKEN=allowed" in checked
    assert "canary" not in checked
    assert "ANTHROPIC_API_KEY" not in checked
