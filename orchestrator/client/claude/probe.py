"""Tries Claude Code for `doctor`: its program and version, its sign-in, its sandbox."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping

from orchestrator.client import program
from orchestrator.client.claude import command, sandbox, sign_in
from orchestrator.client.protocol import Client
from orchestrator.model.config import Config
from orchestrator.model.finding import Finding, fail, ok

#: The first version that knows every option of `command.arguments`: older ones end with "unknown
#: option '--system-prompt-snapshot'". Also `engines` in plugin.json, which only newer ones read.
OLDEST = (2, 1, 257)


def probe(
    client: Client, config: Config, root: str, variables: Mapping[str, str]
) -> Iterator[Finding]:
    """Check that the client starts, is new enough, is signed in, and has its sandbox."""
    found, said = program.try_it(client, config, root, variables, command.environment(variables))
    known = re.match(r"(\d+)\.(\d+)\.(\d+) \(Claude Code\)", said)
    if known and tuple(map(int, known.groups())) < OLDEST:
        message = f"{found.message}: runs need {'.'.join(map(str, OLDEST))} or newer"
        found = fail("client", message, "claude update")
    yield found
    if not said and found.level == "fail":
        return
    yield sign_in.finding(client, config, variables)
    if config.client_sandbox:
        yield sandbox_programs(client, variables)


def sandbox_programs(client: Client, variables: Mapping[str, str]) -> Finding:
    """Check that the client's sandbox can start: without it, no agent that writes can run."""
    path = variables.get("PATH", os.defpath)
    missing = [name for name in sandbox.PROGRAMS if shutil.which(name, path=path) is None]
    if sys.platform == "linux" and missing:
        message = f"claude.sandbox is true, but {' and '.join(missing)} cannot be found"
        return fail("sandbox", message, client.hints["sandbox_unavailable"])
    return ok("sandbox", "the programs that the client's sandbox needs are installed")
