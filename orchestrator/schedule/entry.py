"""What a schedule's entry says: pure text for sh, cron, launchd and systemd, and where it lies."""

from __future__ import annotations

import hashlib
import os
import plistlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.layout import resources
from orchestrator.schedule import crontab
from orchestrator.schedule.crontab import LONGEST_COMMAND

KINDS = ("cron", "launchd", "systemd")
#: Where ticks complain, below the project. Not in `cache/`: with that folder gone the shell could
#: not open it, and nothing would tick any more.
LOG = os.path.join(".orchestrator", "schedule.log")
#: What neither a line of text nor a property list can hold: control characters, and bytes that are
#: no UTF-8.
UNSPEAKABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")


class Entry(NamedTuple):
    """One project's schedule."""

    kind: str
    root: str
    #: The PATH that ticks get.
    path: str
    launcher: str

    @property
    def name(self) -> str:
        """A short word for the project that no other project of this machine has."""
        return hashlib.sha256(self.root.encode(errors="surrogateescape")).hexdigest()[:12]

    @property
    def is_long(self) -> bool:
        """Whether the PATH must lie in a file of its own: a crontab's line has an end."""
        return self.kind == "cron" and len(self._command("tick", LOG).encode()) > LONGEST_COMMAND

    def command(self, words: str = "tick", log: str | None = LOG) -> str:
        """Return the line for sh that ticks; with other words, the same start for those."""
        if self.is_long:
            file = crontab.quote(self.path_file)
            return self._command(words, log, f"read -r PATH <{file} && export PATH && ")
        return self._command(words, log)

    def _command(self, words: str, log: str | None, path: str | None = None) -> str:
        # A project that was deleted is no reason for cron to write a mail each minute.
        here = f"cd {crontab.quote(self.root)} 2>/dev/null"
        known = f"PATH={crontab.quote(self.path)} " if path is None else path
        said = "" if log is None else f" >/dev/null 2>>{log}"
        return f"{here} && {known}{crontab.quote(self.launcher)} {words}{said}"

    @property
    def path_file(self) -> str:
        """Where the PATH lies when it is too long for a crontab."""
        return os.path.join(os.path.dirname(self.launcher), f"{self.name}.path")

    def block(self) -> bytes:
        return crontab.block(self.name, self.root, self.command())


def usable_path(variables: Mapping[str, str]) -> str:
    """Return this shell's PATH as a schedule may have it.

    Without what is relative, what is twice, what has a control character, and the folders of a
    plugin's version, which the next update deletes.
    """
    home = variables.get("HOME", "")
    client = variables.get("CLAUDE_CONFIG_DIR") or os.path.join(home, ".claude")
    passing = (os.path.join(client, "plugins") + os.sep, os.path.join(resources(), "bin"))
    words = variables.get("PATH", os.defpath).split(os.pathsep)
    words = [w for w in words if os.path.isabs(w) and not UNSPEAKABLE.search(w)]
    kept = [w for w in words if not w.startswith(passing)]
    return os.pathsep.join(dict.fromkeys(kept)) or os.defpath


def paths(kind: str, name: str, variables: Mapping[str, str]) -> list[str]:
    """Return the files of an entry, the one that tells of it first."""
    home = variables.get("HOME") or os.path.expanduser("~")
    if kind == "launchd":
        folder = os.path.join(home, "Library", "LaunchAgents")
        return [os.path.join(folder, f"com.orchestrator.{name}.plist")]
    config = variables.get("XDG_CONFIG_HOME", "")
    config = config if os.path.isabs(config) else os.path.join(home, ".config")
    folder = os.path.join(config, "systemd", "user")
    unit = os.path.join(folder, f"orchestrator-{name}")
    wanted = os.path.join(folder, "timers.target.wants", f"orchestrator-{name}.timer")
    return [f"{unit}.service", f"{unit}.timer", wanted]


def agent(entry: Entry) -> bytes:
    """Return the property list for launchd (launchd.plist(5))."""
    keys = {
        "Label": f"com.orchestrator.{entry.name}",
        "ProgramArguments": [entry.launcher, "tick"],
        "StartInterval": 60,
        "RunAtLoad": True,
        "ProcessType": "Background",
        # Runs outlive the tick that started them.
        "AbandonProcessGroup": True,
        "WorkingDirectory": entry.root,
        "EnvironmentVariables": {"PATH": entry.path},
        "StandardOutPath": os.devnull,
        "StandardErrorPath": os.path.join(entry.root, LOG),
    }
    return plistlib.dumps(keys)


def units(entry: Entry) -> tuple[bytes, bytes]:
    """Return the service and the timer for systemd (systemd.service(5), systemd.timer(5))."""
    # Quoted as systemd.syntax(7) wants it, with its specifiers and variables kept out.
    escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "%": "%%", "$": "$$"})
    title = f"Description=One tick of orchestrator ({entry.root.replace('%', '%%')})"
    service = (
        f"[Unit]\n{title}\n\n[Service]\nType=oneshot\n"
        "# Runs outlive the tick that started them.\nKillMode=process\n"
        f'ExecStart=/bin/sh -c "{entry.command().translate(escapes)}"\n'
    )
    timer = (
        f"[Unit]\n{title}\n\n[Timer]\nOnCalendar=minutely\nAccuracySec=5s\nPersistent=false\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )
    return service.encode(), timer.encode()
