"""launchd on macOS: one launchd agent per project."""

from __future__ import annotations

import os
import plistlib

from orchestrator.schedule.entry import Entry
from orchestrator.schedule.kind import FileKind, run


class Launchd(FileKind):
    program = "launchctl"
    instead = "on macOS it is in /bin; elsewhere, use --schedule cron or systemd"
    token_place = "launchctl setenv {name} <the token> (once after each login)"
    check = "launchctl print gui/{user}/com.orchestrator.{name}"
    load = ("launchctl bootstrap gui/{user} {folder}/com.orchestrator.{name}.plist",)
    unload = "launchctl bootout gui/{user}/com.orchestrator.{name}"

    @property
    def folder(self) -> str:
        return os.path.expanduser("~/Library/LaunchAgents")

    def texts(self, entry: Entry) -> dict[str, bytes]:
        """Return the property list (launchd.plist(5))."""
        label = f"com.orchestrator.{entry.name}"
        keys = {
            "Label": label,
            "ProgramArguments": [entry.script_path],
            "StartInterval": 60,
            "RunAtLoad": True,
            "ProcessType": "Background",
            # Runs outlive the tick that started them.
            "AbandonProcessGroup": True,
        }
        return {os.path.join(self.folder, f"{label}.plist"): plistlib.dumps(keys)}

    def environment(self, name: str, token: str) -> dict[str, str]:
        is_set, said = run("launchctl", "getenv", token)
        return {token: said} if is_set and len(said.split()) == 1 else {}
