"""The tick at once: which commands start it, when they do not, and what it inherits (nothing)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import World, wait_until
from test_schedule import add_crontab

from orchestrator.cli import argument_parser, parser
from orchestrator.layout import Layout
from orchestrator.project import mark
from orchestrator.pulls import look
from orchestrator.schedule import program_copy
from orchestrator.schedule.entry import Entry
from orchestrator.system import files, locks, process
from orchestrator.tick import soon

world = harness.world

#: Every command that gives the agents work (reference 5).
ASKING = {
    *("task add", "task retry", "task move", "task set", "task edit"),
    *("limits set", "agent resume"),
    *("inbox answer", "inbox approve", "inbox reject", "inbox dismiss"),
    *("pr approve", "pr request-changes", "pr merge", "pr merged"),
}


def test_every_command_that_gives_the_agents_work_starts_a_tick() -> None:
    argument_parser.build([])
    found = {
        words
        for words, (_, _, arguments) in parser.COMMANDS.items()
        if any(names == ("--no-tick",) for names, _ in arguments if isinstance(names, tuple))
    }
    assert found == ASKING


@pytest.fixture
def scheduled(world: World) -> World:
    """A project with an entry in a crontab that nothing reads."""
    file = add_crontab(world)
    file.write_text(f"FAKE_CLIENT_HOME={world.fake}\nAGENT_OF_CRON=yes\n")
    world.create(agents=[World.agent("impl-1", interval_seconds=0)])
    world.ok("init", "--schedule", "cron")
    return world


def test_a_new_task_starts_at_once_and_its_run_inherits_nothing(scheduled: World) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    words = ("task", "add", "--title", "Work", "--role", "implement")
    with locks.Lock(str(scheduled.home_folder / "scheduler.lock")):
        done = subprocess.run(
            [*harness.PYTHON, str(scheduled.product), *words],
            cwd=scheduled.root,
            env={**scheduled.environment, "AGENT_OF_SESSION": "yes"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            pass_fds=[writing],
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, "")
        # The process waits for the active tick; it has none of the caller's pipes.
        assert os.read(reading, 1) == b""
        os.close(reading)
        assert scheduled.where(done.stdout.strip()) == ["incoming"]
    wait_until(lambda: scheduled.where(done.stdout.strip()) == ["done"], "the task to be done")
    [start] = scheduled.starts()
    assert "AGENT_OF_SESSION" not in start["environment"]
    assert start["environment"]["AGENT_OF_CRON"] == "yes"
    assert (scheduled.home_folder / "schedule.log").read_text() == ""


def test_with_no_tick_nothing_starts(scheduled: World) -> None:
    words = ("task", "add", "--title", "Work", "--role", "implement", "--no-tick")
    scheduled.ok(*words)
    assert not (scheduled.home_folder / "schedule.log").exists()


@pytest.fixture
def entry(project: Layout) -> Entry:
    """The entry of a schedule whose program this machine does not have."""
    found = Entry("launchd", project.root, "/usr/bin:/bin", "/x/bin/orchestrator")
    mark.record_schedule(project, found)
    return found


@pytest.mark.parametrize("name", ["ORCHESTRATOR_RUN_ID", "SANDBOX_RUNTIME"])
def test_where_processes_end_with_the_command_no_tick_starts(
    project: Layout, entry: Entry, name: str
) -> None:
    assert soon.is_possible(project, {"HOME": "/"})
    assert not soon.is_possible(project, {name: "1"})


def test_without_a_schedule_no_tick_starts(project: Layout) -> None:
    assert not soon.is_possible(project, {})


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The programs that this process would have become."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *words: found.append(words))
    monkeypatch.setattr(os, "chdir", lambda folder: None)
    return found


def test_the_process_becomes_the_schedules_script_in_the_schedules_environment(
    project: Layout, entry: Entry, became: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_SESSION", "yes")
    soon.tick(project.root)
    [(program, words, variables)] = became
    assert (program, words) == ("/bin/sh", ("/bin/sh", entry.script_path))
    assert variables.keys() <= {"HOME", "LOGNAME", "USER", "SHELL", "PATH", soon.MARK}
    assert variables[soon.MARK] == "1"


def test_such_a_tick_does_not_wait_for_a_remote_that_was_just_asked(
    project: Layout, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command changed is on this disk. No run inherits the mark."""
    asked: list[float] = []
    real = look.look

    def noted(*words: Any, at_most_every: float, **named: Any) -> look.Look | None:
        asked.append(at_most_every)
        return real(*words, at_most_every=at_most_every, **named)

    cli("agent", "pause", "--all")  # at its end, a run would have its own tick beside the next one
    monkeypatch.setattr(look, "look", noted)
    monkeypatch.setenv(soon.MARK, "1")
    cli("tick")
    assert soon.MARK not in os.environ
    files.remove(project.idle_stamp)  # with it, the next tick may find nothing to look at
    cli("tick")
    assert asked == [soon.LOOK_EVERY, 0.0]


def test_a_paused_project_gets_no_tick_and_a_resumed_project_does(
    project: Layout, entry: Entry, became: list[Any], cli: Any
) -> None:
    cli("agent", "pause", "--all")
    cli("tick")
    soon.tick(project.root)
    assert became == []
    cli("agent", "resume", "--all", "--no-tick")
    soon.tick(project.root)
    assert len(became) == 1


def test_a_project_that_is_not_set_up_gets_no_tick(
    project: Layout, entry: Entry, became: list[Any]
) -> None:
    os.unlink(mark.mark_path(project))
    soon.tick(project.root)
    assert became == []


def test_many_commands_start_one_tick_while_another_is_active(
    project: Layout, entry: Entry, became: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soon, "WAIT", 0.05)
    Path(project.scheduler_lock).touch()
    with locks.Lock(os.path.join(project.cache, "soon.lock")):
        soon.tick(project.root)
    assert became == []
    with locks.Lock(project.scheduler_lock):
        began = time.monotonic()
        soon.tick(project.root)
    # A tick that hangs is ended by the next tick, so this one does not wait longer than `WAIT`.
    assert len(became) == 1
    assert time.monotonic() - began >= 0.05


@pytest.fixture
def forked(project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A schedule whose launcher starts the program of this process, in the way it was started."""
    found = Entry("launchd", project.root, "/usr/bin:/bin", str(tmp_path / "bin" / "orchestrator"))
    mark.record_schedule(project, found)
    files.make_folder(os.path.dirname(found.launcher))
    Path(found.launcher).write_bytes(program_copy._script(process.own_program()))
    Path(found.script_path).write_bytes(found.script())
    return found


def test_a_tick_is_forked_in_the_schedules_environment_and_nobody_waits_for_it(
    project: Layout, forked: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_SESSION", "yes")
    descriptor, told = os.open(os.devnull, os.O_RDONLY), tmp_path / "told"

    def command() -> None:
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            files.write_atomic(str(told), b"inherited")
            return
        os.write(1, b"is not shown\n")
        os.write(2, b"is logged\n")
        said = {"cwd": os.getcwd(), "variables": dict(os.environ), "leads": os.getsid(0)}
        files.write_json(str(told), {**said, "pid": os.getpid(), "parent": os.getppid()})

    soon.begin(project, lambda: command)
    found = wait_until(lambda: files.read_json(str(told)), "the forked tick")
    os.close(descriptor)
    variables = found["variables"]
    assert variables.keys() <= {"HOME", "LOGNAME", "USER", "SHELL", "PATH", soon.MARK}
    assert (variables["PATH"], found["cwd"]) == ("/usr/bin:/bin", project.root)
    assert os.getpid() not in (found["pid"], found["parent"])
    assert found["leads"] != os.getsid(0)
    assert Path(project.schedule_log).read_text() == "is logged\n"


@pytest.mark.parametrize("changed", ["launcher", "script_path"])
def test_another_program_or_script_of_the_schedule_is_started_and_not_forked(
    project: Layout, forked: Entry, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update, or a person, replaced it."""
    asked: list[Layout] = []
    monkeypatch.setattr(soon, "ask", asked.append)
    with open(getattr(forked, changed), "a") as file:
        file.write("# changed\n")
    soon.begin(project, lambda: pytest.fail("forked"))
    assert asked == [project]


def test_a_fork_begins_no_tick_of_a_paused_project(
    project: Layout, forked: Entry, cli: Any, tmp_path: Path
) -> None:
    cli("agent", "pause", "--all")
    cli("tick")
    told = tmp_path / "told"
    with locks.Lock(project.scheduler_lock):
        soon.begin(project, lambda: told.touch)
    wait_until(lambda: Path(project.schedule_log).exists(), "the fork")
    lock = os.path.join(project.cache, "soon.lock")
    assert not told.exists()
    assert not os.path.exists(lock)
