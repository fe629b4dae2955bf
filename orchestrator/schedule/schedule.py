"""The schedule, which runs a tick each minute. `init` installs and removes it.

There is one entry per project, of cron, launchd or systemd; other entries are not touched. Every
entry starts its script (see `entry`), and the script starts the launcher (see `program_copy`) with
the PATH that the person had at `init`: a schedule's own PATH finds neither the client nor gh.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping

from orchestrator.layout import SCHEDULE_LOG
from orchestrator.model.errors import OrchestratorError
from orchestrator.schedule import path_link, program_copy
from orchestrator.schedule.cron import Cron
from orchestrator.schedule.entry import UNSPEAKABLE, Entry
from orchestrator.schedule.kind import Kind, State, unavailable
from orchestrator.schedule.launchd import Launchd
from orchestrator.schedule.systemd import Systemd
from orchestrator.system import commands, files

#: Each kind of schedule, by the name with which a person chooses it.
KINDS: Mapping[str, Kind] = {"cron": Cron(), "launchd": Launchd(), "systemd": Systemd()}
#: Bytes of the log from which `init` rotates it.
LONGEST_LOG = 1 << 20
#: Seconds for all probes in a schedule's environment.
PROBE_TIMEOUT = 60.0


def require(kind: str, root: str) -> None:
    """Raise OrchestratorError if this kind of schedule is not available."""
    for path in (root, program_copy.launcher()):
        if UNSPEAKABLE.search(path):
            raise unavailable(
                f"no schedule can start {path!r}: it has a line break or invalid character",
                "rename the folder and try again",
            )
    KINDS[kind].require()


def install(entry: Entry) -> list[str]:
    """Install launcher, script and entry; return the changes.

    Call `require` first. Raises OrchestratorError, LockHeld and OSError.
    """
    with program_copy.changing():
        written = program_copy.put()
        if not files.holds(entry.script_path, entry.script()):
            files.write_atomic(entry.script_path, entry.script(), 0o755)
            written.append(f"{entry.script_path} (starts the launcher with your PATH)")
        undo = "(undo: orchestrator init --schedule none)"
        written += [f"{name} {undo}" for name in KINDS[entry.kind].put(entry)]
        for name, kind in KINDS.items():
            gone = [] if name == entry.kind else kind.take(entry.name)
            written += [f"removed: {each}" for each in gone]
    log = os.path.join(entry.root, SCHEDULE_LOG)
    files.put_aside(log, f"{log}.1", LONGEST_LOG)
    return written


def remove(root: str, recorded: str | None) -> list[str]:
    """Remove this project's entry of any kind; return the changes.

    `recorded` is the expected kind: other kinds that do not answer are skipped. Raises
    OrchestratorError.
    """
    entry = Entry("none", root, "", program_copy.launcher())
    gone: list[str] = []
    is_any = os.path.isdir(program_copy.folder())
    with program_copy.changing() if is_any else contextlib.nullcontext():
        for name, kind in KINDS.items():
            try:
                gone += kind.take(entry.name)
            except OrchestratorError:
                if name == recorded:
                    raise
        files.remove(entry.script_path)
        if gone:
            files.remove(os.path.join(root, SCHEDULE_LOG))
    return gone


def remove_program() -> tuple[list[str], list[str]]:
    """Remove the copies of the program that nothing needs now; return changes and warnings.

    The schedules and links of all projects need them. Call this last: this process may have been
    started from a copy, through the link.
    """
    if not os.path.isdir(program_copy.folder()):
        return [], []
    # If the crontab cannot be read, it may have entries of other projects.
    with program_copy.changing(), contextlib.suppress(OrchestratorError):
        scripts = glob.glob(f"{glob.escape(program_copy.launcher())}-*")
        is_linked = path_link.is_there()
        if not scripts and not is_linked and not any(k.has_any() for k in KINDS.values()):
            return program_copy.remove()
    return [], []


def update(entry: Entry) -> list[str]:
    """Update the installed schedule to this version if this is newer; return the changes.

    An entry that a person changed or removed is not touched. Raises as `install`.
    """
    if state(entry) == "bare":
        return install(entry)
    with program_copy.changing():
        return program_copy.put()


def state(entry: Entry) -> State:
    """Return the state of an entry and its script, compared with the result of `install`."""
    found = KINDS[entry.kind].state(entry)
    if found == "gone" or files.holds(entry.script_path, entry.script()):
        return found
    return "changed" if os.path.lexists(entry.script_path) else "bare"


def environment(entry: Entry, variables: Mapping[str, str], token: str) -> dict[str, str]:
    """Return the environment in which the schedule starts its script. Raises OrchestratorError.

    `token` is the variable in which the client gets a token.
    """
    names = ("HOME", "LOGNAME", "USER")
    bare = {name: variables[name] for name in names if name in variables}
    bare |= {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    return bare | KINDS[entry.kind].environment(entry.name, token)


def probe(entry: Entry, word: str, variables: Mapping[str, str]) -> commands.Finished:
    """Start the entry's script as the schedule does, with `word` instead of `tick`.

    `variables` is the result of `environment`. Raises OSError.
    """
    argv = ("/bin/sh", entry.script_path, word)
    return commands.run(argv, cwd=os.sep, environment=variables, timeout=PROBE_TIMEOUT)
