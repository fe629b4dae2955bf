"""Tries the program of a client for `doctor`: whether it exists, whether it starts, its version."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping

from orchestrator.client.protocol import Client, command
from orchestrator.guard import client_environment
from orchestrator.model.config import Config
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.system import commands

#: Seconds after which `--version` is ended.
PROBE_TIMEOUT = 10.0


def find(client: Client, config: Config, root: str, variables: Mapping[str, str]) -> str | Finding:
    """Return the program's path, or a finding if there is no such program. Starts nothing.

    `root` is the project's folder, `variables` are the environment.
    """
    name = command(client, config)[0]
    is_path = os.sep in name
    wanted = os.path.join(root, name) if is_path else name
    where = "is not there" if is_path else "is not on the PATH"
    return shutil.which(wanted, path=variables.get("PATH", os.defpath)) or fail(
        "client",
        f"the client {name!r} {where}: no agent can run",
        client.hints["client_missing"],
    )


def try_it(
    client: Client,
    config: Config,
    root: str,
    variables: Mapping[str, str],
    extra: Mapping[str, str],
) -> tuple[Finding, str]:
    """Start the program with `--version`, as a run would; return a finding, and its first line.

    `root` and `variables` are those of `find`; `extra` is what a run adds to the environment.
    """
    found = find(client, config, root, variables)
    if isinstance(found, Finding):
        return found, ""
    argv = command(client, config)
    shown = f"{' '.join(argv)} --version"
    clean = {k: v for k, v in variables.items() if not k.startswith("ORCHESTRATOR_")}
    environment = client_environment.for_client(
        clean,
        extra,
        config.environment_allow,
        kept=client.sign_in_names(clean),
        dropped=client.session_names,
    )
    words = (found, *argv[1:], "--version")
    # In an empty folder, because the program may write where it starts.
    with tempfile.TemporaryDirectory(prefix="orchestrator-doctor-") as folder:
        try:
            done = commands.run(words, cwd=folder, environment=environment, timeout=PROBE_TIMEOUT)
        except OSError as error:
            message = f"the client {shown!r} cannot be started: {error.strerror}"
            return fail("client", message, client.hints["client_missing"]), ""
    said = (done.out.strip() or done.err.strip()).partition("\n")[0][:100]
    if done.code == 0:
        return ok("client", f"{found}: {said or 'no version given'}"), said
    message = f"`{shown}` exited {done.code}: {said or 'no message'}"
    if done.code is None:
        message = f"`{shown}` did not end within {PROBE_TIMEOUT:.0f} s"
    return warn("client", message, "try it by hand"), ""
