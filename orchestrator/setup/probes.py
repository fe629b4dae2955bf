"""Tries the programs and services that the scheduler needs, each within a time limit.

For `doctor` only: no tick does this. Every probe answers with findings, and raises nothing for
what it finds.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping

from orchestrator.errors import OrchestratorError
from orchestrator.git import call, remotes, repository
from orchestrator.guard import client_environment, os_sandbox
from orchestrator.layout import Layout
from orchestrator.model import Config
from orchestrator.pulls import forges
from orchestrator.setup.finding import Finding, fail, ok, warn
from orchestrator.system import commands

#: Seconds for each program that is tried.
PROBE_TIMEOUT = 10.0
OLDEST_PYTHON = (3, 11)
#: `rev-parse --path-format` (git's release notes of 2.31); everything else that is used is older.
OLDEST_GIT = (2, 31)
#: The first client that knows every option of `client.command`: older ones end with "unknown option
#: '--system-prompt-snapshot'". Also `engines` in plugin.json, which only newer clients read.
OLDEST_CLIENT = (2, 1, 257)
#: Variables that sign the client in without a file. Only whether they are set is looked at.
_SIGN_IN = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
)


def python() -> Finding:
    """Look at the interpreter that runs this, and so every tick."""
    version = ".".join(map(str, sys.version_info[:3]))
    message = f"Python {version} ({sys.executable})"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return fail("python", message, "install Python 3.11 or newer")
    return ok("python", message)


def git_program(cwd: str) -> Finding:
    """Look whether git is there and new enough."""
    wanted = ".".join(map(str, OLDEST_GIT))
    try:
        said = call.run(cwd, "--version", timeout=PROBE_TIMEOUT).out.strip()
    except OrchestratorError as error:
        return fail("git", error.message, error.hint or f"install git {wanted} or newer")
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None:
        return warn("git", f"git says {said!r}", f"git {wanted} or newer is needed")
    if (int(found[1]), int(found[2])) < OLDEST_GIT:
        return fail("git", f"{said} is too old", f"install git {wanted} or newer")
    return ok("git", f"{said} ({shutil.which('git')})")


def trust(root: str) -> Finding:
    """Look whether git works in this folder at all: it refuses a folder of another user.

    The client's own trust in a folder is not needed: each run brings its permissions along.
    """
    try:
        done = call.run(root, "rev-parse", "--git-dir", timeout=PROBE_TIMEOUT)
    except OrchestratorError as error:
        return fail("trust", error.message, error.hint or "fix git first")
    if done.code == 0:
        return ok("trust", "git trusts this folder (Claude Code's folder trust is not needed)")
    said = (done.err.strip().splitlines() or ["no reason given"])[0]
    mine = f"chown it, or: git config --global --add safe.directory {shlex.quote(root)}"
    hint = mine if "dubious ownership" in said else "try: git status"
    return fail("trust", f"git refuses to work in {root}: {said}", hint)


def git_identity(root: str) -> Finding:
    """Look whether git knows the user's name for commits."""
    try:
        known = bool(repository.settings(root, "user.email"))
    except OrchestratorError as error:
        return fail("git_identity", error.message, error.hint or "fix git first")
    if known:
        return ok("git_identity", "git knows your name for commits")
    return warn(
        "git_identity",
        "git does not know your name: agents' commits get the agents' names",
        "git config --global user.name '...'; git config --global user.email '...'",
    )


# --- the client --------------------------------------------------------------------------------


def client(layout: Layout, config: Config, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Look whether the client starts and is signed in."""
    program = config.claude_command[0]
    relative = os.sep in program and not os.path.isabs(program)
    wanted = os.path.join(layout.root, program) if relative else program
    found = shutil.which(wanted, path=variables.get("PATH", os.defpath))
    if found is None:
        where = "is not there" if os.sep in program else "is not on the PATH"
        yield fail(
            "client",
            f"the client {program!r} {where}: no agent can run",
            "install Claude Code, or set claude.command in .orchestrator/agents.yaml",
        )
        return
    yield _version(found, config, variables)
    yield sign_in(config, variables)
    if config.claude_sandbox:
        yield sandbox_programs(variables)


def sandbox_programs(variables: Mapping[str, str]) -> Finding:
    """Look whether the client's sandbox can start: without it no agent that writes runs."""
    path = variables.get("PATH", os.defpath)
    missing = [name for name in os_sandbox.PROGRAMS if shutil.which(name, path=path) is None]
    if sys.platform == "linux" and missing:
        message = f"claude.sandbox is true, but {' and '.join(missing)} cannot be found"
        hint = "Debian and Ubuntu: apt install bubblewrap socat; or set claude.sandbox: false"
        return fail("sandbox", message, hint)
    return ok("sandbox", "the programs that the client's sandbox needs are installed")


def _version(program: str, config: Config, variables: Mapping[str, str]) -> Finding:
    """Ask the client for its version, in an empty folder: it may write where it starts."""
    shown = " ".join(config.claude_command)
    clean = {k: v for k, v in variables.items() if not k.startswith("ORCHESTRATOR_")}
    with tempfile.TemporaryDirectory(prefix="orchestrator-doctor-") as folder:
        try:
            done = commands.run(
                (program, *config.claude_command[1:], "--version"),
                cwd=folder,
                environment=client_environment.for_client(clean, {}, config.environment_allow),
                timeout=PROBE_TIMEOUT,
            )
        except OSError as error:
            message = f"the client {shown!r} cannot be started: {error.strerror}"
            return fail("client", message, "install it again, or set claude.command")
    if done.code is None:
        message = f"`{shown} --version` did not end within {PROBE_TIMEOUT:.0f} s"
        return warn("client", message, "try it by hand")
    said = (done.out.strip() or done.err.strip()).partition("\n")[0][:100]
    if done.code != 0:
        message = f"`{shown} --version` exited {done.code}: {said or 'no message'}"
        return warn("client", message, "try it by hand")
    oldest = ".".join(map(str, OLDEST_CLIENT))
    known = re.match(r"(\d+)\.(\d+)\.(\d+) \(Claude Code\)", said)
    if known and tuple(map(int, known.groups())) < OLDEST_CLIENT:
        message = f"{program} is {said}: runs need {oldest} or newer"
        return fail("client", message, "claude update")
    return ok("client", f"{program}: {said or 'no version given'}")


def sign_in(config: Config, variables: Mapping[str, str]) -> Finding:
    """Look for signs of a sign-in. Never reads a credential."""
    if not any("claude" in os.path.basename(word) for word in config.claude_command):
        return ok("sign_in", "not checked: claude.command is a program of your own")
    given = [name for name in _SIGN_IN if variables.get(name)]
    if given:
        return ok("sign_in", f"{given[0]} is set in this shell; the schedule needs it too")
    home = variables.get("HOME") or os.path.expanduser("~")
    folder = variables.get("CLAUDE_CONFIG_DIR") or os.path.join(home, ".claude")
    path = os.path.join(folder, ".credentials.json")
    if os.path.isfile(path):
        return ok("sign_in", f"a sign-in of the client was found ({path})")
    if sys.platform == "darwin":
        return ok("sign_in", "not checked: macOS keeps it in the keychain")
    return warn(
        "sign_in",
        "no sign-in of the client was found",
        "run `claude` once and sign in; for cron and launchd: claude setup-token",
    )


# --- forge and remote --------------------------------------------------------------------------


def forge_program(layout: Layout, config: Config, variables: Mapping[str, str]) -> Finding:
    """Look whether the forge can be used."""
    try:
        where = forges.of_project(layout, config)
        url = remotes.url(layout.root, config.remote) or ""
    except OrchestratorError as error:
        return fail("forge", error.message, error.hint or "fix git first")
    if not where.is_elsewhere:
        if config.forge == "auto" and "github.com" in url:
            message = "the remote is on GitHub but gh is not installed: pull requests stay local"
            return warn("forge", message, "install gh, then: gh auth login")
        return ok("forge", "local: pull requests are records on this machine")
    problem = where.probe(variables, PROBE_TIMEOUT)
    if problem is not None:
        return fail("forge", problem.message, problem.hint or "try: gh auth status")
    return ok("forge", f"{where.name}: the sign-in works")


def remote(layout: Layout, config: Config) -> Finding:
    """Look whether the remote answers, and has the base branch."""
    root, name, base = layout.root, config.remote, config.base_branch or "HEAD"
    try:
        if remotes.url(root, name) is None:
            return _without_remote(root, name, base)
        ref = base if base == "HEAD" else f"refs/heads/{base}"
        done = call.run(root, "ls-remote", "--quiet", name, ref, timeout=PROBE_TIMEOUT)
    except OrchestratorError as error:
        return fail("remote", error.message, error.hint or f"try: git ls-remote {name}")
    if done.code != 0:
        said = (done.err.strip().splitlines() or ["no reason given"])[0]
        message = f"the remote {name!r} cannot be reached: {said}"
        return fail("remote", message, f"try: git ls-remote {name}")
    if not done.out.strip() and not repository.resolve(root, f"refs/heads/{base}"):
        return _no_base(base, f"the remote {name!r}")
    return ok("remote", f"the remote {name!r} answers")


def _without_remote(root: str, name: str, base: str) -> Finding:
    if repository.resolve(root, base) is None:
        if base == "HEAD":
            message = "this repository has no commit yet: there is nothing to branch from"
            return fail("remote", message, "make a first commit")
        return _no_base(base, "this repository")
    return ok("remote", f"there is no remote {name!r}: branches stay in this repository")


def _no_base(base: str, where: str) -> Finding:
    message = f"the base branch {base!r} does not exist in {where}"
    return fail("remote", message, "correct base_branch in .orchestrator/agents.yaml")
