"""One project's entry in a schedule: the script that the schedule starts, and how it is quoted.

The script is the same for every kind of schedule. It is beside the launcher, so no schedule has to
contain a PATH or a project's folder in its own syntax.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping

from orchestrator.idle import SCHEDULED
from orchestrator.layout import SCHEDULE_LOG, resources
from orchestrator.model.fields import NamedTuple

#: Characters that a line of text or a property list cannot contain: control characters, and bytes
#: that are not UTF-8.
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
        """A short word for the project, unique on this machine."""
        return hashlib.sha256(self.root.encode(errors="surrogateescape")).hexdigest()[:12]

    @property
    def script_path(self) -> str:
        """The path of the script that the schedule starts each minute."""
        return os.path.join(os.path.dirname(self.launcher), f"orchestrator-{self.name}")

    def script(self) -> bytes:
        """Return the script for sh. Without arguments it ticks; arguments go to the launcher.

        It succeeds silently if the project was deleted, because cron mails each error message.
        """
        launcher = shlex.quote(self.launcher)
        lines = (
            "#!/bin/sh",
            "# Written by `orchestrator init`: what the schedule starts each minute.",
            f"cd {shlex.quote(self.root)} 2>/dev/null || exit 0",
            f"export PATH={shlex.quote(self.path)}",
            f'[ $# -eq 0 ] || exec {launcher} "$@"',
            f"export {SCHEDULED}=1",
            f"exec {launcher} tick >/dev/null 2>>{SCHEDULE_LOG}",
        )
        return "".join(f"{line}\n" for line in lines).encode()


def usable_path(variables: Mapping[str, str], passing: Iterable[str] = ()) -> str:
    """Return this shell's PATH for a schedule.

    It omits relative folders, repeated folders, names with control characters, and folders below
    the `passing` folders or this program's own folder, which the next update deletes.
    """
    folders = (*(os.path.join(each, "") for each in passing), os.path.join(resources(), "bin"))
    words = variables.get("PATH", os.defpath).split(os.pathsep)
    words = [w for w in words if os.path.isabs(w) and not UNSPEAKABLE.search(w)]
    kept = [w for w in words if not w.startswith(folders)]
    return os.pathsep.join(dict.fromkeys(kept)) or os.defpath
