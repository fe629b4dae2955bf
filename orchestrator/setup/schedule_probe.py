"""Trying the installed schedule for `doctor`: its entry, its launcher, and what both can reach.

What works from a terminal often fails under cron: another PATH, no sign-in, no keys (failures 19).
So the launcher is really started, in the environment that the schedule would give it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping

from orchestrator import __version__
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.project import mark
from orchestrator.schedule import program_copy, schedule
from orchestrator.schedule.entry import Entry
from orchestrator.setup import init_project
from orchestrator.setup.probes import PROBE_TIMEOUT, Finding
from orchestrator.system import commands, files

_LEVELS = ("ok", "warn", "fail")


def look(layout: Layout, variables: Mapping[str, str], here: list[Finding]) -> Iterator[Finding]:
    """Look whether the installed schedule starts us, and what it cannot reach that this shell can.

    `here` is what was found from this shell. Nothing is said where none was installed.
    """
    entry = init_project.schedule(layout)
    if entry is None:
        return
    again = f"orchestrator init --schedule {entry.kind}"
    try:
        state = schedule.state(entry, variables)
    except OrchestratorError as error:
        yield Finding("schedule", "fail", error.message, error.hint or again)
        return
    if state == "gone":
        yield Finding("schedule", "fail", f"the entry of {entry.kind} is gone", again)
        return
    wrong = [*_entry(entry, state, variables, again), *_lost(layout, entry, again)]
    given = schedule.environment(entry, variables)
    wrong += [*_from_schedule(entry, given, here, again), *_zone(entry, given, variables)]
    yield from wrong
    if not wrong:
        message = f"{entry.kind} starts {entry.launcher}, which finds what it needs"
        yield Finding("schedule", "ok", message)


def _entry(entry: Entry, state: str, variables: Mapping[str, str], again: str) -> Iterator[Finding]:
    if state == "changed":
        message = f"the entry of {entry.kind} is not as init wrote it"
        yield Finding("schedule", "warn", message, f"if that was not you: {again}")
    version = program_copy.version(variables)
    if version is None:
        yield Finding("schedule", "fail", f"{entry.launcher} starts nothing", again)
    elif program_copy.is_newer(__version__, version):
        message = f"the schedule starts version {version}, this is {__version__}"
        yield Finding("schedule", "warn", message, "orchestrator init")


def _lost(layout: Layout, entry: Entry, again: str) -> Iterator[Finding]:
    """Find the programs that were there at init and that the schedule's PATH no longer leads to."""
    programs = (files.read_json(mark.mark_path(layout)) or {}).get("programs")
    for name, path in (programs if isinstance(programs, dict) else {}).items():
        if path and shutil.which(name, path=entry.path) is None:
            message = f"{name}, which init found as {path}, is not on the PATH of {entry.kind}"
            yield Finding("schedule", "fail", message, f"from a shell that has it: {again}")


def _from_schedule(
    entry: Entry, given: Mapping[str, str], here: list[Finding], again: str
) -> Iterator[Finding]:
    """Really start the launcher as the schedule does, and pass on what is worse there than here."""
    done = schedule.probe(entry, "_probe", given)
    try:
        found = [Finding(**each) for each in json.loads(done.out)["findings"]]
    except (ValueError, LookupError, TypeError):
        limit = f"no answer within {schedule.PROBE_TIMEOUT:.0f} s"
        said = limit if done.code is None else (done.err.strip() or f"exit code {done.code}")
        message = f"started as by {entry.kind}, {entry.launcher} fails: {said.splitlines()[-1]}"
        yield Finding("schedule", "fail", message, again)
        return
    for each in found:
        known = max((_LEVELS.index(f.level) for f in here if f.code == each.code), default=0)
        if _LEVELS.index(each.level) > known:
            token = schedule.TOKEN_PLACES[entry.kind]
            hint = token if each.code == "sign_in" else each.hint
            message = f"started by {entry.kind}: {each.message}"
            yield Finding(each.code, each.level, message, hint)


def _zone(
    entry: Entry, given: Mapping[str, str], variables: Mapping[str, str]
) -> Iterator[Finding]:
    """Find a time zone that is only this shell's: the agents' cron expressions go by local time."""
    here, there = (_offset(each.get("TZ")) for each in (variables, given))
    if here != there:
        message = f"started by {entry.kind}: local time is {there} there, {here} in this shell"
        hint = f"agents' schedules and a day's budget go by {entry.kind}'s; if that is not meant, "
        yield Finding("clock", "warn", message, f"{hint}set TZ for {entry.kind} too")


def _offset(zone: str | None) -> str:
    """Return how far local time is from UTC with this TZ, or with the machine's own zone."""
    variables = {"PATH": os.defpath, **({"TZ": zone} if zone else {})}
    done = commands.run(("date", "+%z"), cwd=os.sep, environment=variables, timeout=PROBE_TIMEOUT)
    return done.out.strip()
