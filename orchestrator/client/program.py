"""Tries the program of a client for `doctor`: is it there, does it start, what is its version?"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping

from orchestrator.client import registry
from orchestrator.finding import Finding, fail, ok, warn
from orchestrator.guard import client_environment
from orchestrator.model import Config
from orchestrator.system import commands

#: Seconds for each program that is tried.
PROBE_TIMEOUT = 10.0


def find(config: Config, root: str, variables: Mapping[str, str]) -> str | Finding:
    """Return the program's path, or a finding if there is none. Starts nothing.

    `root` is the project's folder, `variables` are the environment.
    """
    name = registry.command(config)[0]
    is_path = os.sep in name
    wanted = os.path.join(root, name) if is_path else name
    where = "is not there" if is_path else "is not on the PATH"
    return shutil.which(wanted, path=variables.get("PATH", os.defpath)) or fail(
        "client",
        f"the client {name!r} {where}: no agent can run",
        registry.of_config(config).hints["client_missing"],
    )


def try_it(
    config: Config, root: str, variables: Mapping[str, str], extra: Mapping[str, str]
) -> tuple[Finding, str]:
    """Start the program with `--version`, as a run would; return a finding, and what it said.

    `root` and `variables` are those of `find`; `extra` is what a run adds to the environment.
    """
    client, argv = registry.of_config(config), registry.command(config)
    found = find(config, root, variables)
    if isinstance(found, Finding):
        return found, ""
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
            return fail("client", message, client.hints["client_missing"]), ""
    said = (done.out.strip() or done.err.strip()).partition("\n")[0][:100]
    if done.code is None:
        message = f"`{shown}` did not end within {PROBE_TIMEOUT:.0f} s"
        return warn("client", message, "try it by hand"), ""
    if done.code != 0:
        message = f"`{shown}` exited {done.code}: {said or 'no message'}"
        return warn("client", message, "try it by hand"), ""
    return ok("client", f"{found}: {said or 'no version given'}"), said
