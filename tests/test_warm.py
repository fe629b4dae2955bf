"""A command in a process of `warm_server.py` does and says what it does in a real process."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness
import psutil
import pytest
import warm
from harness import World, wait_until

world = harness.world

#: What differs between any two executions: ids, times, durations, sizes.
VARYING = re.compile(
    r"\b[0-9a-f]{40}\b|TASK-[0-9a-f]{8}|\d{8}T\d{6}Z-\w+|\d{4}-\d\d-\d\dT[\d:.]+Z|\b\d[\d.]*\b"
)
#: What the client notes about its own process.
PROCESS = ("pid", "at", "parent", "group", "began", "session")
#: Each is a different way through the program, or a different way to end.
COMMANDS: list[tuple[str, ...]] = [
    ("--help",),
    ("statsu",),
    ("logs", "nobody"),
    ("status", "--json"),
    ("explain", "impl-1"),
    ("task", "add", "--title", "Grüße", "--role", "implement", "--id", "TASK-b"),
    ("task", "add", "--title", "Read", "--role", "implement", "--body-file", "-"),
    ("doctor",),
    ("tick", "--wait", "30"),
    ("task", "list", "--json"),
    ("pr", "list", "--json"),
    ("clean",),
    ("tick",),
]


ASKS = {"steps": [], "report": {"outcome": "needs_human", "summary": "?", "question": "Which?"}}


def made(folder: Path, templates: Path) -> World:
    folder.mkdir()
    world = World(folder, templates)
    world.create(agents=[World.agent("impl-1", interval_seconds=harness.ONCE)])
    world.drop("TASK-a.md", "# [TASK-a] First\n\nROLE: implement\nPRIORITY: P0\n")
    return world


def shown(world: World, words: tuple[str, ...]) -> tuple[Any, ...]:
    done = world.run(*words, stdin="A text")
    world.quiet()
    texts = [text.replace(str(world.folder), "FOLDER") for text in (done.out, done.err)]
    return (words, done.code, *(VARYING.sub("#", text) for text in texts))


def files(world: World) -> set[str]:
    """Return the paths of what the product has made, but for git's objects."""
    found = harness.fingerprint(world.home_folder)
    return {VARYING.sub("#", path) for path in found}


def what_the_client_saw(world: World) -> str:
    """Return what the client noted about its start and its end, but for what always varies."""
    noted = [{k: v for k, v in each.items() if k not in PROCESS} for each in world.ledger()]
    for each in noted:
        # In one run of 16, by its id, the agent's git has one setting less (`run/launch.py`).
        names = each.get("environment", ())
        each["environment"] = sorted({re.sub(r"^(GIT_CONFIG_.*_)\d+$", r"\1#", n) for n in names})
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", json.dumps(noted))
    return VARYING.sub("#", text.replace(str(world.folder), "FOLDER"))


def history(world: World) -> list[tuple[str, ...]]:
    """Return what happened, in order, each with the names of its fields."""
    lines = (world.home_folder / "events.jsonl").read_text().splitlines()
    return [(event["event"], *sorted(event)) for event in map(json.loads, lines)]


def test_a_forked_command_does_and_says_what_a_started_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked, started = (made(tmp_path / name, tmp_path / "templates") for name in ("a", "b"))
    calls, run_warm = [], warm._run_warm

    def count_and_run(*given: Any) -> Any:
        calls.append(given)
        return run_warm(*given)

    monkeypatch.setattr(warm, "_run_warm", count_and_run)
    try:
        seen = [shown(forked, words) for words in COMMANDS]
        assert len(calls) == len(COMMANDS), "all were forked"
        monkeypatch.setattr(warm, "_can_be_warm", lambda *_: False)
        assert seen == [shown(started, words) for words in COMMANDS]
        assert len(calls) == len(COMMANDS), "all were started"
        assert forked.where("TASK-a") == started.where("TASK-a") == ["done"]
        assert files(forked) == files(started)
        assert what_the_client_saw(forked) == what_the_client_saw(started)
        assert history(forked) == history(started)
    finally:
        for each in (forked, started):
            each.end()


def test_a_forked_process_shows_its_own_environment(world: World) -> None:
    """The first stage of a run is a fork of the tick: so the product finds a run's processes."""
    wait = f"while [ ! -e {world.fake}/gates/go ]; do sleep 0.05; done"
    world.create(hooks={"after_create": wait})
    task = world.add("Prepares")
    world.ok("tick", MARK="a forked tick")
    [found] = [p for p in world.processes() if p.pid == world.supervisor(task)]
    assert found.environ() == {**world.environment, "MARK": "a forked tick"}
    assert Path(found.cwd()) == world.root
    world.script(task, {"steps": [["wait", "client"], ["work"]]})
    world.open("go")
    [client] = wait_until(lambda: world.running(task), "the client")
    process = psutil.Process(client["pid"])
    assert any("warm_server" in word for word in process.cmdline()), "the client is a fork too"
    shown = process.environ()
    assert {k: v for k, v in shown.items() if k in client["environment"]} == client["environment"]
    assert (shown["ORCHESTRATOR_TASK_ID"], client["group"]) == (task, client["pid"])
    assert [each.fd for each in process.open_files()] == [0, 1, 2]
    world.open("client")
    world.tick_until_in("done", task)


def test_a_process_that_is_started_detached_is_forked_and_shows_what_a_started_one_shows(
    world: World,
) -> None:
    tell = world.bin / "tell"
    tell.write_text(f"#!/bin/sh\nwhile [ ! -e {world.fake}/gates/go ]; do sleep 0.05; done\n")
    tell.chmod(0o755)
    world.create(notify={"command": [str(tell)]})
    world.script(world.add("Asks"), ASKS)

    def told() -> list[psutil.Process]:
        return [each for each in world.processes() if "_notify" in each.cmdline()]

    [found] = world.tick_until(told, "the process that notifies")
    words = [*warm.PYTHON, str(warm.PRODUCT), "_notify", str(world.root)]
    assert [word for word in found.cmdline() if word] == words
    shown = found.environ()
    assert {name: shown.get(name) for name in world.environment} == world.environment
    assert (os.getsid(found.pid), found.cwd()) == (found.pid, str(world.root))
    log = str(world.home_folder / "cache" / "notify.out")
    assert [(each.fd, each.path) for each in found.open_files()] == [(1, log), (2, log)]
    world.open("go")
    world.quiet()


def test_a_forked_command_that_takes_too_long_is_ended(world: World) -> None:
    world.create()
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run(warm.PRODUCT, ["watch"], cwd=world.root, env=world.environment, timeout=0.5)
    wait_until(lambda: not world.processes(), "the command's end")


@pytest.mark.parametrize("sent", [b"", b'{"main": '])
def test_a_sender_that_is_killed_before_its_request_is_whole_ends_no_server(
    world: World, sent: bytes
) -> None:
    """A test kills processes of the product at any instant, also those that start another."""
    world.create()
    with socket.socket(socket.AF_UNIX) as connection, open(os.devnull, "rb") as null:
        connection.connect(warm._server(()))
        if sent:
            socket.send_fds(connection, [sent], [null.fileno()] * 3)
    assert world.run("--version").code == 0


def test_a_forked_process_knows_nothing_about_the_start_of_the_server(tmp_path: Path) -> None:
    """Otherwise a supervisor becomes a fresh image again and again, without an end."""
    run = tmp_path / ".orchestrator" / "agents" / "impl-1" / "runs" / "gone"
    run.mkdir(parents=True)
    code = f"""
import sys
sys.path[:0] = [{str(warm.TESTS)!r}]
import warm_server

program = warm_server.Program({str(warm.PRODUCT)!r})
supervisor = sys.modules["orchestrator.run.supervisor"]
supervisor._forks, supervisor._STARTED = supervisor.MOST_FORKS + 1, []
program.execute(["_run", {str(run)!r}])
"""
    words = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "change",
    [{"LANG": "de_DE.UTF-8"}, {"LC_ALL": "C"}, {"PYTHONUTF8": "0"}, {"LONG": "x" * warm.ROOM}],
    ids=lambda change: next(iter(change)),
)
def test_what_an_interpreter_reads_at_its_start_gets_a_real_one(change: dict[str, str]) -> None:
    assert warm._can_be_warm(warm.PRODUCT, {"LANG": "C.UTF-8"}, "")
    assert not warm._can_be_warm(warm.PRODUCT, {"LANG": "C.UTF-8", **change}, "")
    assert not warm._can_be_warm(Path("/another/__main__.py"), {"LANG": "C.UTF-8"}, "")
