"""`python tests/client_differences.py OLD NEW`: what differs between two installed clients.

OLD and NEW are folders into which npm installed the client. It prints their versions, and the
options, variables and reasons for not starting that only one of them has. `make client-latest`
calls it. Exit code 1: one of them is not installed.
"""

from __future__ import annotations

import mmap
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from real_client import client_environment, find_client

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
#: As the program's source reads a variable; elsewhere in the file other bytes follow the name.
_VARIABLE = re.compile(rb'[."](CLAUDE_CODE_[A-Z][A-Z0-9_]{3,60})(?=[^A-Za-z0-9_])')
#: The schema of the result line lists the reasons for which the client does not start.
_REASONS = re.compile(
    rb'\[((?:"[a-z_]+",?){5,60})\]\)\.describe\("Why Claude Code refused to start'
)


def startup_reasons(client: Path) -> set[str]:
    """Return the values of `startup_failure_reason` in the client's program; none in old ones."""
    with client.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = _REASONS.search(data)
        return set(re.findall(r"[a-z_]+", found.group(1).decode())) if found else set()


def facts(client: Path) -> dict[str, set[str]]:
    """Return what can be compared, by its name for people."""
    with client.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        variables = {match.group(1).decode() for match in _VARIABLE.finditer(data)}
    return {
        "version": {_said(client, "--version")},
        "option": set(_OPTION.findall(_said(client, "--help"))),
        "startup_failure_reason": startup_reasons(client),
        "variable": variables,
    }


def differences(old: Mapping[str, set[str]], new: Mapping[str, set[str]]) -> list[str]:
    """Return one line for each fact that only one client has."""
    lines = []
    for kind in old:
        lines += [f"- {kind} {each}" for each in sorted(old[kind] - new[kind])]
        lines += [f"+ {kind} {each}" for each in sorted(new[kind] - old[kind])]
    return lines


def _said(client: Path, word: str) -> str:
    with tempfile.TemporaryDirectory() as home:
        environment = client_environment(Path(home), "http://127.0.0.1:9")
        done = subprocess.run(
            [client, word], env=environment, capture_output=True, text=True, timeout=60
        )
    return done.stdout.strip()


def main(folders: list[str]) -> int:
    clients = [find_client(Path(folder)) for folder in folders]
    if len(clients) != 2 or None in clients:
        print(f"there is no client in one of: {' '.join(folders)}", file=sys.stderr)
        return 1
    old, new = (facts(client) for client in clients if client is not None)
    print(f"The tested client is {min(old['version'])}, the newest is {min(new['version'])}.")
    print("\n".join(differences(old, new)) or "Nothing else differs.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
