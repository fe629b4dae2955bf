"""What `doctor` says of an installed schedule, given what the schedule's own process found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import __version__
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.project import mark
from orchestrator.schedule import program_copy, schedule
from orchestrator.schedule.entry import Entry
from orchestrator.setup import schedule_probe
from orchestrator.setup.probes import Subject
from orchestrator.system.commands import Finished

Look = Callable[..., list[Finding]]


@pytest.fixture
def look(project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Return a function that looks at an installed schedule; only its process is replaced."""
    path = tmp_path / "bin"
    path.mkdir()
    program = path / "gh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
    entry = Entry("cron", project.root, str(path), str(tmp_path / "launcher"))
    mark.record_schedule(project, entry)
    settings = load.settings(project, write_cache=False)

    def findings(
        there: list[Finding],
        here: list[Finding],
        *,
        said: str | None = None,
        state: str | OrchestratorError = "there",
        programs: dict[str, str] | None = None,
        **given: str,
    ) -> list[Finding]:
        out = json.dumps({"findings": [each._asdict() for each in there]})
        known = mark.read(project)
        Path(mark.mark_path(project)).write_text(json.dumps({**known, "programs": programs or {}}))

        def now(_: Entry) -> str:
            if isinstance(state, OrchestratorError):
                raise state
            return state

        monkeypatch.setattr(schedule, "state", now)
        monkeypatch.setattr(program_copy, "version", lambda: __version__)
        monkeypatch.setattr(schedule, "environment", lambda *_: given)
        done = Finished(0, out, "") if said is None else Finished(7, "", said)
        monkeypatch.setattr(schedule, "probe", lambda *_: done)
        subject = Subject(project, settings, dict(os.environ), 0.0)
        found = schedule_probe.look(subject, here)
        return [each for each in found if each.level != "ok"]

    return findings


def test_only_what_is_worse_under_the_schedule_is_said(look: Look) -> None:
    here = [ok("client", "it answers"), fail("remote", "gone", "look"), ok("forge", "fine")]
    there = [warn("client", "slow", "wait"), fail("remote", "gone", "look"), ok("forge", "fine")]
    [found] = look(there, here)
    assert found == warn("client", "started by cron: slow", "wait")
    assert look(here, here) == []


def test_a_missing_sign_in_says_where_the_token_goes(look: Look) -> None:
    [found] = look([fail("sign_in", "not signed in", "claude")], [ok("sign_in", "signed in")])
    assert found.message == "started by cron: not signed in"
    assert found.hint is not None
    assert found.hint.startswith("run `claude setup-token`, then: add the line CLAUDE_CODE_OAUTH_")


def test_a_program_that_the_schedules_path_lacks_is_said(look: Look) -> None:
    [found] = look([], [], programs={"gh": "/usr/bin/gh", "sh": "/bin/sh", "npm": ""})
    assert found.message == "sh, which init found as /bin/sh, is not on the PATH of cron"
    assert found.hint == "run in a shell that finds it: orchestrator init --schedule cron"


@pytest.mark.parametrize(("zone", "offset"), [("<+13>-13", "+1300"), ("<-11>11", "-1100")])
def test_another_time_zone_of_the_schedule_is_said(look: Look, zone: str, offset: str) -> None:
    [found] = look([], [], TZ=zone)
    assert (found.code, found.level) == ("clock", "warn")
    assert f"local time is {offset} there" in found.message


def test_a_launcher_that_fails_is_said_with_its_last_words(look: Look) -> None:
    [found] = look([], [], said="first\nbroken\n")
    assert found.message.endswith("launcher fails: broken")


@pytest.mark.parametrize(
    ("state", "level", "message"),
    [
        ("gone", "fail", "the entry of cron is gone"),
        ("bare", "warn", "the script that cron starts is missing: "),
        ("changed", "warn", "the entry of cron differs from what init writes"),
        (OrchestratorError("the crontab cannot be read"), "fail", "the crontab cannot be read"),
    ],
    ids=["gone", "bare", "changed", "unreadable"],
)
def test_an_entry_that_is_not_as_init_wrote_it_is_said(
    look: Look, state: str | OrchestratorError, level: str, message: str
) -> None:
    [found] = look([], [], state=state)
    assert (found.code, found.level) == ("schedule", level)
    assert found.message.startswith(message)
    assert "orchestrator init" in (found.hint or "")
