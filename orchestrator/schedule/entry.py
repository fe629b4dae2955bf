"""One project's entry in a schedule: the script that the schedule starts, and how it is quoted.

The script is the same for every kind of schedule. It lies beside the launcher, so no schedule has
to hold a PATH, or the name of a project's folder, in a syntax of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from orchestrator.layout import SCHEDULE_LOG, resources

#: What neither a line of text nor a property list can hold: control characters, and bytes that are
#: not UTF-8.
UNSPEAKABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")


class Entry(NamedTuple):
    """One project's entry."""

    #: The kind of schedule: a key of `schedule.KINDS`.
    kind: str
    #: The project's folder.
    root: str
    #: The PATH of its ticks.
    path: str
    launcher: str

    @property
    def name(self) -> str:
        """A short word for the project that no other project of this machine has."""
        return hashlib.sha256(self.root.encode(errors="surrogateescape")).hexdigest()[:12]

    @property
    def script_path(self) -> str:
        """Where the script lies that the schedule starts each minute."""
        return os.path.join(os.path.dirname(self.launcher), f"orchestrator-{self.name}")

    def script(self) -> bytes:
        """Return the script for sh: without words it ticks; words go to the launcher as they are.

        It succeeds silently when the project was deleted, because cron mails each complaint.
        """
        launcher = shlex.quote(self.launcher)
        lines = (
            "#!/bin/sh",
            "# Written by `orchestrator init`: what the schedule starts each minute.",
            f"cd {shlex.quote(self.root)} 2>/dev/null || exit 0",
            f"export PATH={shlex.quote(self.path)}",
            f'[ $# -eq 0 ] || exec {launcher} "$@"',
            f"exec {launcher} tick >/dev/null 2>>{SCHEDULE_LOG}",
        )
        return "".join(f"{line}\n" for line in lines).encode()


def usable_path(variables: Mapping[str, str], passing: Iterable[str] = ()) -> str:
    """Return this shell's PATH as a schedule may have it.

    It leaves out relative folders, repeated folders, names with control characters, and what lies
    in the `passing` folders or in this program's own, which the next update deletes.
    """
    folders = (*(os.path.join(each, "") for each in passing), os.path.join(resources(), "bin"))
    words = variables.get("PATH", os.defpath).split(os.pathsep)
    words = [w for w in words if os.path.isabs(w) and not UNSPEAKABLE.search(w)]
    kept = [w for w in words if not w.startswith(folders)]
    return os.pathsep.join(dict.fromkeys(kept)) or os.defpath
