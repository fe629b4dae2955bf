"""The real client for the tests: where it lies, and the clean room that it is started in."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import needs

#: Where `make test` installs the client from npm; ignored by git. CLIENT_FOLDER names another one,
#: or its `node_modules`.
CLIENT_FOLDER = Path(
    os.environ.get("CLIENT_FOLDER") or Path(__file__).resolve().parent.parent / ".client"
)

#: Settings of the client's JavaScript engine for a process that lives for seconds: no optimizing
#: compiler, and no collector of garbage beside the program. They save an eighth of its CPU time.
SHORT_LIFE = {"BUN_JSC_useDFGJIT": "false", "BUN_JSC_useConcurrentGC": "false"}


def find_client(folder: Path | None = None) -> Path | None:
    """The real client's binary, or None where it is not installed, by default in CLIENT_FOLDER."""
    system = {"darwin": "darwin", "win32": "win32"}.get(sys.platform, "linux")
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    folder = folder or CLIENT_FOLDER
    for modules in (folder / "node_modules", folder):
        # npm installs the musl build beside the other one's name, or alone, by the system's libc.
        for libc in ("", "-musl"):
            package = modules / "@anthropic-ai" / f"claude-code-{system}-{machine}{libc}"
            if os.access(package / "claude", os.X_OK):
                return package / "claude"
    return None


def require_client() -> Path:
    """The real client's binary; without it the test is skipped, or fails where CI=true."""
    __tracebackhide__ = True
    client = find_client()
    if client is not None:
        return client
    needs.missing(
        f"the real client is not installed under {CLIENT_FOLDER.name}/ "
        "(make test does it where npm is on PATH)"
    )


def client_environment(home: Path, api_url: str) -> dict[str, str]:
    """The whole environment of a client that talks to loopback only and keeps to `home`.

    Nothing of ours is inherited: a developer's own sign-in, settings or session must not leak in.
    """
    return {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": api_url,
        "ANTHROPIC_API_KEY": "dummy",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        **SHORT_LIFE,
    }
