"""The schedule: what makes a project tick each minute, installed by `init` and taken out again.

One entry a project, of cron, launchd or systemd, and only our own is ever touched. All of them
start the launcher of `program_copy`, with the PATH that the person had at `init`: what a schedule
has of its own finds neither the client nor gh (failures 19).
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import re
import shutil
import sys
from collections.abc import Mapping

from orchestrator.errors import OrchestratorError
from orchestrator.schedule import crontab, program_copy
from orchestrator.schedule.entry import KINDS, LOG, UNSPEAKABLE, Entry, agent, paths, units
from orchestrator.system import commands, files

#: Bytes of the log that make `init` cut it, and that are kept then.
LONGEST_LOG, KEPT_LOG = 1 << 20, 1 << 16
#: Seconds for launchctl and systemctl, and for all that is probed from a schedule's environment.
_TIMEOUT, PROBE_TIMEOUT = 30.0, 60.0
#: How a long-lived token reaches the client in each of them.
TOKEN_PLACES = {
    "cron": "run `claude setup-token`, then let a line of its own at the top of your crontab "
    "(crontab -e) say CLAUDE_CODE_OAUTH_TOKEN=<the token>",
    "launchd": "run `claude setup-token`, then: launchctl setenv CLAUDE_CODE_OAUTH_TOKEN <the "
    "token> (once after each login)",
    "systemd": "run `claude setup-token`, then let ~/.config/environment.d/claude.conf (mode 600) "
    "say CLAUDE_CODE_OAUTH_TOKEN=<the token>, and log in again",
}


def require(kind: str, root: str, variables: Mapping[str, str]) -> None:
    """Raise OrchestratorError where this kind of schedule cannot be had."""
    if UNSPEAKABLE.search(root):
        raise OrchestratorError(
            f"no schedule can start in {root!r}: its name has a line break or the like",
            "rename that folder, then try again",
            code="schedule_unavailable",
        )
    if kind == "cron":
        crontab.program()
    elif kind == "launchd":
        if _platform() != "darwin":
            raise _unavailable("launchd is macOS's", "take --schedule cron or systemd")
        if shutil.which("launchctl") is None:
            raise _unavailable("launchctl is not on the PATH", "it is in /bin on macOS")
    else:
        if shutil.which("systemctl") is None:
            raise _unavailable("this machine has no systemctl", "take --schedule cron")
        code, said = _run("systemctl", "--user", "show-environment")
        if code != 0:
            raise _unavailable(
                f"systemd runs nothing for this user here: {said}",
                "log in by a session of its own, or take --schedule cron",
            )


def _unavailable(message: str, hint: str) -> OrchestratorError:
    return OrchestratorError(message, hint, code="schedule_unavailable")


def _platform() -> str:
    return sys.platform


def _run(*words: str) -> tuple[int | None, str]:
    """Run a program; return its exit code and what it said."""
    try:
        done = commands.run(words, cwd=os.sep, environment=os.environ, timeout=_TIMEOUT)
    except OSError as error:
        return None, error.strerror or str(error)
    return done.code, (done.err.strip() or done.out.strip() or "no reason given")


def _must(*words: str) -> None:
    code, said = _run(*words)
    if code != 0:
        hint = "nothing else depends on it; take --schedule cron"
        message = f"`{' '.join(words)}` failed: {said}"
        raise OrchestratorError(message, hint, code="schedule_failed")


# --- all of them -------------------------------------------------------------------------------


def install(entry: Entry, variables: Mapping[str, str]) -> list[str]:
    """Put launcher and entry where they belong; return what was written, with its undoing.

    Raises OrchestratorError, LockHeld and OSError.
    """
    require(entry.kind, entry.root, variables)
    undo = "undo: orchestrator init --schedule none"
    with program_copy.changing(variables):
        written = program_copy.put(variables)
        if entry.kind == "cron":
            if entry.is_long:
                files.write_atomic(entry.path_file, f"{entry.path}\n".encode())
            if crontab.put(entry.name, entry.block()):
                written.append(f"your crontab: a marked block ({undo})")
        else:
            put = _put_agent if entry.kind == "launchd" else _put_units
            written += [f"{path} ({undo})" for path in put(entry, variables)]
        for kind in KINDS:
            if kind != entry.kind:
                written += [f"taken out: {gone}" for gone in _take(kind, entry.name, variables)]
    _cut_log(os.path.join(entry.root, LOG))
    return written


def remove(
    root: str, variables: Mapping[str, str], recorded: str | None
) -> tuple[list[str], list[str]]:
    """Take out this project's entry of whatever kind; return what went, and warnings.

    With the last entry of this user's the launcher goes too. `recorded` is the kind that should be
    there: what cannot be asked for any other is passed over. Raises OrchestratorError.
    """
    name = Entry("none", root, "", "").name
    gone: list[str] = []
    with program_copy.changing(variables, make=False):
        for kind in KINDS:
            try:
                gone += _take(kind, name, variables)
            except OrchestratorError:
                if kind == recorded:
                    raise
        if gone:
            files.remove(os.path.join(root, LOG))
        # Where crontabs cannot be read, other projects may have their entries in one.
        with contextlib.suppress(OrchestratorError):
            if (gone or shutil.which("crontab")) and not _is_any_left(variables):
                try:
                    gone += program_copy.remove(variables)
                except program_copy.InUse as error:
                    return gone, [error.message]
    return gone, []


def _take(kind: str, name: str, variables: Mapping[str, str]) -> list[str]:
    if kind == "cron":
        files.remove(
            os.path.join(os.path.dirname(program_copy.launcher(variables)), f"{name}.path")
        )
        has_one = shutil.which("crontab") is not None and crontab.take(name)
        return ["the marked block in your crontab"] * has_one
    own = paths(kind, name, variables)
    if not any(map(os.path.lexists, own)):
        return []
    if kind == "launchd":
        _run("launchctl", "bootout", f"gui/{os.getuid()}/com.orchestrator.{name}")
    else:
        _run("systemctl", "--user", "disable", "--now", f"orchestrator-{name}.timer")
    for path in own:
        files.remove(path)
    if kind == "systemd":
        _run("systemctl", "--user", "daemon-reload")
    return own[:2]


def _is_any_left(variables: Mapping[str, str]) -> bool:
    """Return whether any project of this user's has an entry."""
    tellers = (glob.escape(paths(kind, "", variables)[0]) for kind in ("launchd", "systemd"))
    patterns = (re.sub(r"(\.\w+)$", r"*\1", teller) for teller in tellers)
    if any(map(glob.glob, patterns)):
        return True
    return shutil.which("crontab") is not None and crontab.has_any()


def state(entry: Entry, variables: Mapping[str, str]) -> str:
    """Return whether an entry is `there`, `changed` by somebody, or `gone`."""
    if entry.kind == "cron":
        text = crontab.read()
        if entry.block() in text:
            return "there"
        return "gone" if crontab.without(text, entry.name) == text else "changed"
    wanted = agent(entry) if entry.kind == "launchd" else units(entry)[0]
    try:
        with open(paths(entry.kind, entry.name, variables)[0], "rb") as file:
            return "there" if file.read() == wanted else "changed"
    except FileNotFoundError:
        return "gone"


def environment(entry: Entry, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the schedule starts its command. Raises OrchestratorError."""
    names = ("HOME", "LOGNAME", "USER")
    clean = {name: variables[name] for name in names if name in variables}
    clean |= {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    if entry.kind == "cron":
        clean |= crontab.settings(entry.name)
    elif entry.kind == "systemd":
        _, said = _run("systemctl", "--user", "show-environment")
        pairs = (line.partition("=") for line in said.splitlines() if "=$'" not in line)
        clean |= {key: value for key, equals, value in pairs if equals}
    else:
        code, said = _run("launchctl", "getenv", "CLAUDE_CODE_OAUTH_TOKEN")
        clean |= {"CLAUDE_CODE_OAUTH_TOKEN": said} if code == 0 and len(said.split()) == 1 else {}
    return clean


def probe(entry: Entry, words: str, variables: Mapping[str, str]) -> commands.Finished:
    """Start the launcher as the schedule does, with other words; return what it said.

    `variables` are what `environment` gave. Raises OSError.
    """
    argv = ("/bin/sh", "-c", entry.command(words, None))
    return commands.run(argv, cwd=os.sep, environment=variables, timeout=PROBE_TIMEOUT)


def warnings(entry: Entry) -> list[str]:
    """Return what a person should know of an entry that is good."""
    user = pwd.getpwuid(os.getuid()).pw_name
    if entry.kind == "systemd" and not os.path.exists(f"/var/lib/systemd/linger/{user}"):
        return ["systemd stops your timers when you log out, unless: loginctl enable-linger"]
    return []


def _cut_log(path: str) -> None:
    """Keep the end of a log that has grown long. Whoever appends meanwhile may lose a line."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LONGEST_LOG:
            file.seek(size - KEPT_LOG)
            files.write_atomic(path, file.read().partition(b"\n")[2])


# --- launchd and systemd -----------------------------------------------------------------------


def _put_agent(entry: Entry, variables: Mapping[str, str]) -> list[str]:
    [path] = paths("launchd", entry.name, variables)
    domain = f"gui/{os.getuid()}"
    label = f"{domain}/com.orchestrator.{entry.name}"
    if state(entry, variables) == "there" and _run("launchctl", "print", label)[0] == 0:
        return []
    os.makedirs(os.path.dirname(path), exist_ok=True)
    _run("launchctl", "bootout", label)
    files.write_atomic(path, agent(entry), 0o644)
    try:
        _must("launchctl", "bootstrap", domain, path)
    except OrchestratorError:
        files.remove(path)
        raise
    return [path]


def _put_units(entry: Entry, variables: Mapping[str, str]) -> list[str]:
    service, timer, wanted = paths("systemd", entry.name, variables)
    name = os.path.basename(timer)
    is_active = _run("systemctl", "--user", "is-active", "--quiet", name)[0] == 0
    if state(entry, variables) == "there" and is_active and os.path.isfile(timer):
        return []
    os.makedirs(os.path.dirname(service), exist_ok=True)
    for path, text in zip((service, timer), units(entry), strict=True):
        files.write_atomic(path, text, 0o644)
    try:
        _must("systemctl", "--user", "daemon-reload")
        _must("systemctl", "--user", "enable", "--now", name)
    except OrchestratorError:
        for path in (service, timer, wanted):
            files.remove(path)
        raise
    return [service, timer]
