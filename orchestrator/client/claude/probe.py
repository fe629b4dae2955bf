"""Tries Claude Code for `doctor`: its program and version, its sign-in, its sandbox."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping

from orchestrator.client import program, registry
from orchestrator.client.claude import command, sandbox
from orchestrator.client.claude.adapter import CLOUDS, Claude, settings_folder
from orchestrator.finding import Finding, fail, ok, warn
from orchestrator.model import Config

#: The first version that knows every option of `command.arguments`: older ones end with "unknown
#: option '--system-prompt-snapshot'". Also `engines` in plugin.json, which only newer ones read.
OLDEST = (2, 1, 257)
#: Variables that sign the client in without a file. Only whether they are set is looked at.
SIGN_IN = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", Claude.token[1], *CLOUDS)


def probe(config: Config, root: str, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Look whether the client starts, is new enough, is signed in, and has its sandbox."""
    found, said = program.try_it(config, root, variables, command.environment(variables))
    known = re.match(r"(\d+)\.(\d+)\.(\d+) \(Claude Code\)", said)
    if known and tuple(map(int, known.groups())) < OLDEST:
        message = f"{found.message}: runs need {'.'.join(map(str, OLDEST))} or newer"
        found = fail("client", message, "claude update")
    yield found
    if not said and found.level == "fail":
        return
    yield sign_in(config, variables)
    if config.client_sandbox:
        yield sandbox_programs(variables)


def sign_in(config: Config, variables: Mapping[str, str]) -> Finding:
    """Look for signs of a sign-in. Never reads a credential."""
    if not any("claude" in os.path.basename(word) for word in registry.command(config)):
        return ok("sign_in", "not checked: claude.command is a program of your own")
    given = [name for name in SIGN_IN if variables.get(name)]
    if given:
        return ok("sign_in", f"{given[0]} is set in this shell; the schedule needs it too")
    path = os.path.join(settings_folder(variables), ".credentials.json")
    if os.path.isfile(path):
        return ok("sign_in", f"a sign-in of the client was found ({path})")
    if sys.platform == "darwin":
        return ok("sign_in", "not checked: macOS keeps it in the keychain")
    hint = Claude.hints["authentication_failed"]
    return warn("sign_in", "no sign-in of the client was found", hint)


def sandbox_programs(variables: Mapping[str, str]) -> Finding:
    """Look whether the client's sandbox can start: without it no agent that writes runs."""
    path = variables.get("PATH", os.defpath)
    missing = [name for name in sandbox.PROGRAMS if shutil.which(name, path=path) is None]
    if sys.platform == "linux" and missing:
        message = f"claude.sandbox is true, but {' and '.join(missing)} cannot be found"
        return fail("sandbox", message, Claude.hints["sandbox_unavailable"])
    return ok("sandbox", "the programs that the client's sandbox needs are installed")
