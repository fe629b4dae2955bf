"""Tests the installed schedule for `doctor`: its entry, its launcher, and what both can reach.

A program that works in a terminal often fails under cron: another PATH, no sign-in, no keys. So
`doctor` starts the entry's script in the environment of the schedule.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping

from orchestrator import __version__
from orchestrator.client import registry
from orchestrator.client.protocol import Client
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.project import mark
from orchestrator.schedule import program_copy, schedule
from orchestrator.schedule.entry import Entry
from orchestrator.setup.probes import PROBE_TIMEOUT, Subject
from orchestrator.system import commands

_LEVELS = ("ok", "warn", "fail")


def look(subject: Subject, here: list[Finding]) -> Iterator[Finding]:
    """Check that the installed schedule starts ticks and lacks nothing that this shell has.

    `here` has the findings from this shell. Without an installed schedule there are no findings.
    """
    layout, variables = subject.layout, subject.variables
    entry = mark.schedule(layout)
    if entry is None:
        return
    client = registry.of_config(subject.loaded.config)
    again = f"orchestrator init --schedule {entry.kind}"
    try:
        state = schedule.state(entry)
    except OrchestratorError as error:
        yield fail("schedule", error.message, error.hint or again)
        return
    if state == "gone":
        yield fail("schedule", f"the entry of {entry.kind} is gone", again)
        return
    if state == "bare":
        message = f"the script that {entry.kind} starts is missing: {entry.script_path}"
        yield warn("schedule", message, "to renew it: orchestrator init")
        return
    wrong = [*_entry(entry, state, again), *_lost(layout, entry, again)]
    given = schedule.environment(entry, variables, client.token[1])
    wrong += [*_from_schedule(entry, client, given, here, again), *_zone(entry, given, variables)]
    yield from wrong
    if not wrong:
        message = f"{entry.kind} starts {entry.launcher}, which finds all programs that it needs"
        yield ok("schedule", message)


def _entry(entry: Entry, state: str, again: str) -> Iterator[Finding]:
    if state == "changed":
        message = f"the entry of {entry.kind} differs from what init writes"
        yield warn("schedule", message, f"unless you changed it: {again}")
    version = program_copy.version()
    if version is None:
        yield fail("schedule", f"{entry.launcher} does not start the program", again)
    elif program_copy.is_newer(__version__, version):
        message = f"the schedule starts version {version}, this is {__version__}"
        yield warn("schedule", message, "orchestrator init")


def _lost(layout: Layout, entry: Entry, again: str) -> Iterator[Finding]:
    """Find programs that `init` found but that are not on the schedule's PATH any more."""
    programs = mark.read(layout).get("programs")
    for name, path in (programs if isinstance(programs, dict) else {}).items():
        if path and shutil.which(name, path=entry.path) is None:
            message = f"{name}, which init found as {path}, is not on the PATH of {entry.kind}"
            yield fail("schedule", message, f"run in a shell that finds it: {again}")


def _from_schedule(
    entry: Entry, client: Client, given: Mapping[str, str], here: list[Finding], again: str
) -> Iterator[Finding]:
    """Start the entry as the schedule does; return the findings that are worse than here."""
    done = schedule.probe(entry, "_probe", given)
    try:
        found = [Finding(**each) for each in json.loads(done.out)["findings"]]
    except (ValueError, LookupError, TypeError):
        limit = f"no answer within {schedule.PROBE_TIMEOUT:.0f} s"
        said = limit if done.code is None else (done.err.strip() or f"exit code {done.code}")
        message = f"started by {entry.kind}, {entry.launcher} fails: {said.splitlines()[-1]}"
        yield fail("schedule", message, again)
        return
    for each in found:
        known = max((_LEVELS.index(f.level) for f in here if f.code == each.code), default=0)
        if _LEVELS.index(each.level) > known:
            make, name = client.token
            place = schedule.KINDS[entry.kind].token_place.format(name=name)
            hint = f"run `{make}`, then: {place}" if each.code == "sign_in" else each.hint
            message = f"started by {entry.kind}: {each.message}"
            yield Finding(each.code, each.level, message, hint)


def _zone(
    entry: Entry, given: Mapping[str, str], variables: Mapping[str, str]
) -> Iterator[Finding]:
    """Compare the time zones of schedule and shell: agents' cron expressions use local time."""
    here, there = (_offset(each.get("TZ")) for each in (variables, given))
    if here != there:
        message = f"started by {entry.kind}: local time is {there} there, {here} in this shell"
        hint = f"agents' schedules and daily budgets use {entry.kind}'s local time; set TZ there"
        yield warn("clock", message, hint)


def _offset(zone: str | None) -> str:
    """Return the offset of local time from UTC (`+0100`) with this TZ, or the machine's zone."""
    variables = {"PATH": os.defpath, **({"TZ": zone} if zone else {})}
    done = commands.run(("date", "+%z"), cwd=os.sep, environment=variables, timeout=PROBE_TIMEOUT)
    return done.out.strip()
