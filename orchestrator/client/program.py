"""Tries the program of a client for `doctor`: is it there, does it start, what is its version?"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.client import registry
from orchestrator.client.protocol import Client
from orchestrator.finding import Finding, fail, ok, warn
from orchestrator.guard import client_environment
from orchestrator.model import Config
from orchestrator.system import commands

#: Seconds for each program that is tried.
PROBE_TIMEOUT = 10.0


class Tried(NamedTuple):
    """What came of starting the program: the finding, its path if it is there, its version."""

    finding: Finding
    program: str | None = None
    said: str | None = None


def try_it(
    client: Client,
    config: Config,
    root: str,
    variables: Mapping[str, str],
    extra: Mapping[str, str],
) -> Tried:
    """Look for the program and ask it for its `--version`, as a run would start it.

    `root` is the project's folder, `variables` are the environment, `extra` what a run adds to it.
    """
    argv = registry.command(config)
    relative = os.sep in argv[0] and not os.path.isabs(argv[0])
    wanted = os.path.join(root, argv[0]) if relative else argv[0]
    found = shutil.which(wanted, path=variables.get("PATH", os.defpath))
    if found is None:
        where = "is not there" if os.sep in argv[0] else "is not on the PATH"
        message = f"the client {argv[0]!r} {where}: no agent can run"
        return Tried(fail("client", message, client.hints["client_missing"]))
    shown = f"{' '.join(argv)} --version"
    clean = {k: v for k, v in variables.items() if not k.startswith("ORCHESTRATOR_")}
    environment = client_environment.for_client(
        clean,
        extra,
        config.environment_allow,
        kept=client.sign_in_names(clean),
        dropped=client.session_names,
    )
    # In an empty folder: it may write where it starts.
    with tempfile.TemporaryDirectory(prefix="orchestrator-doctor-") as folder:
        try:
            done = commands.run(
                (found, *argv[1:], "--version"),
                cwd=folder,
                environment=environment,
                timeout=PROBE_TIMEOUT,
            )
        except OSError as error:
            message = f"the client {shown!r} cannot be started: {error.strerror}"
            return Tried(fail("client", message, client.hints["client_missing"]), found)
    said = (done.out.strip() or done.err.strip()).partition("\n")[0][:100]
    if done.code is None:
        message = f"`{shown}` did not end within {PROBE_TIMEOUT:.0f} s"
        return Tried(warn("client", message, "try it by hand"), found)
    if done.code != 0:
        message = f"`{shown}` exited {done.code}: {said or 'no message'}"
        return Tried(warn("client", message, "try it by hand"), found)
    return Tried(ok("client", f"{found}: {said or 'no version given'}"), found, said)
