"""No attempt is counted for what the machine, the remote or the client's installation did."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
import runs
from harness import PYTHON, World, shadow, wait_until
from rows import each_row
from test_faults import STRICT, problems, requeued

from orchestrator.client import outcomes
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Action, Outcome
from orchestrator.project import alike, events, faults, run_record
from orchestrator.system import memory
from orchestrator.tick.report import Report

world = harness.world

#: The disk is full, or processes are killed for lack of memory, while a file exists. The waiting
#: supervisor notes that it has seen that.
LACK = """
from orchestrator.system import disk, memory
_shortage = disk.shortage
def _full(folder):
    if os.path.exists({full!r}):
        if folder == os.curdir:
            open({full!r} + ".seen", "w").close()
        return disk.Shortage("disk_full", "no space is left", "free some space")
    return _shortage(folder)
disk.shortage = _full
memory.kills = lambda: int(os.path.exists({killed!r}))
"""
GAVE_UP = {"outcome": "failed", "summary": "it does not work"}


@pytest.mark.parametrize("lack", ["disk_full", "out_of_memory"])
def test_an_attempt_that_failed_while_the_machine_lacked_something_is_not_counted(
    world: World, lack: str
) -> None:
    """Also if the fault has gone when the client ends."""
    world.create(retry=STRICT)
    full, killed = world.folder / "full", world.folder / "killed"
    edge = LACK.format(full=str(full), killed=str(killed))
    world.product = shadow(world.folder / "shadow", edge, forked=True)
    task = world.add("Try")
    world.script(task, {"steps": [["wait", "go"]], "report": GAVE_UP}, {"steps": [["work"]]})
    world.tick_until(lambda: world.running(task), "the client")
    if lack == "disk_full":
        full.touch()
        wait_until(lambda: Path(f"{full}.seen").exists(), "the supervisor's look")
        full.unlink()
    else:
        killed.touch()
    world.open("go")
    world.tick_until_in("done", task)
    [event] = requeued(world, task)
    assert (event["verdict"], event["charged"]) == ("system_fault", False)
    assert event["reason"] == lack


@pytest.mark.parametrize(
    "dies", ["kill -9 $$", "sh -c 'kill -9 $$'; exit 137"], ids=["it", "its program"]
)
def test_a_hook_of_the_remote_that_was_killed_charges_nobody(world: World, dies: str) -> None:
    world.create(retry=STRICT)
    once, path = world.folder / "once", world.remote / "hooks" / "update"
    path.write_text(f"#!/bin/sh\n[ -e {once} ] || {{ touch {once}; {dies}; }}\n")
    path.chmod(0o755)
    task = world.add("Push")
    world.tick_until_in("done", task)
    assert once.exists()
    for event in requeued(world, task):
        assert (event["charged"], event["reason"]) == (False, "remote_failed")
    assert len(world.starts(task)) == 1, "the work was done, and paid for, once"


def test_a_check_that_lacked_space_once_is_run_again(world: World) -> None:
    once = world.folder / "once"
    check = f"[ -e {once} ] || {{ touch {once}; echo 'write: No space left on device'; exit 1; }}"
    world.create(retry=STRICT, checks=[check])
    task = world.add("Check")
    world.tick_until_in("done", task)
    assert requeued(world, task) == []


_SPACE = "write: No space left on device"
#: What says that the machine lacked something, by who says it, and the word of the fault.
_LACKED = {
    "the result of the client": ("ENOSPC: no space left on device, write", "disk_full"),
    "the client on stderr": ("memory allocation of 4096 bytes failed", "out_of_memory"),
    "the agent that gave up": (f"git commit said: fatal: {_SPACE}", "disk_full"),
    "git in a check": ("fatal: Out of memory, malloc failed", "out_of_memory"),
    "a check": (_SPACE, "disk_full"),
}


@pytest.mark.parametrize("who", _LACKED)
def test_who_says_that_space_or_memory_was_lacking_uses_up_no_attempt(
    world: World, who: str
) -> None:
    said, word = _LACKED[who]
    twice = world.folder / "twice"
    check = f"echo x >>{twice}; [ $(wc -l <{twice}) -gt 2 ] || {{ echo '{said}'; exit 1; }}"
    world.create(retry=STRICT, checks=[check] if "check" in who else [])
    task = world.add("Lacks something")
    first: dict[str, Any] = {
        "the result of the client": {"result": {"is_error": True, "result": said}},
        "the client on stderr": {"steps": [["stderr", said]], "result": None, "exit": 3},
        "the agent that gave up": {"report": {"outcome": "failed", "summary": said}},
    }.get(who, {"steps": [["work"]]})
    world.script(task, first, {"steps": [["work"]]})
    world.tick_until_in("done", task)
    [event] = requeued(world, task)
    assert (event["verdict"], event["charged"]) == ("system_fault", False)
    assert event["error"].startswith(f"{word}: ")
    assert said in event["error"]
    assert len(world.starts(task)) == (1 if "check" in who else 2)


@each_row(
    ("said", "word"),
    [
        ("OSError: [Errno 28] No space left on device: 'x'", "disk_full"),
        ("npm ERR! code ENOSPC", "disk_full"),
        ("cp: Disk quota exceeded", "disk_full"),
        ("touch: cannot touch 'x': Read-only file system", "disk_full"),
        ("bash: fork: Resource temporarily unavailable", "out_of_memory"),
        ("bash: fork: retry: Resource temporarily unavailable", "out_of_memory"),
        ("java.lang.OutOfMemoryError: unable to create native thread", "out_of_memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out_of_memory"),
        ("fatal error: runtime: out of memory", "out_of_memory"),
        ("cc1: out of memory\nmake: *** [Makefile:2: test] Killed", "out_of_memory"),
        ("FATAL ERROR: Reached heap limit: JavaScript heap out of memory", "out_of_memory"),
        ("libc.so.6: failed to map segment from shared object", "out_of_memory"),
        ("accept: Too many open files in system", "out_of_memory"),
        ("OSError: [Errno 24] Too many open files", None),
        ("the server was Killed", None),
        ("BlockingIOError: Resource temporarily unavailable", None),
        ("expected ENOSPCX", None),
    ],
)
def test_the_words_of_programs_that_lack_space_or_memory(said: str, word: str | None) -> None:
    assert memory.named_in(f"before\n{said}\nafter") == word


# --- tasks that fail alike -----------------------------------------------------------------------


def test_a_client_that_ends_without_doing_anything_is_a_fault_after_three_tasks(
    world: World,
) -> None:
    broken = world.folder / "broken"
    broken.touch()
    inner = shlex.join([*PYTHON, str(harness.FAKE_CLIENT)])
    wrapper = world.bin / "client"
    text = f'case "$*" in *-p*) [ -e {broken} ] && {{ echo "cannot load $$" >&2; exit 4; }};; esac'
    wrapper.write_text(f'#!/bin/sh\n{text}\nexec {inner} "$@"\n')
    wrapper.chmod(0o755)
    retry = {"max_attempts": 2, "backoff_seconds": 0, "max_backoff_seconds": 1}
    agents = [world.agent("impl-1")]
    world.create(retry=retry, agents=agents, claude={"command": [str(wrapper)]})
    tasks = [world.add(f"Task {number}") for number in range(4)]
    world.tick_until(lambda: problems(world), "the fault")
    for _ in range(3):
        world.ok("tick")
        world.quiet()
    assert world.places()["failed"] == []
    [problem] = problems(world)
    assert problem["code"] == "system_fault"
    assert "clients_fail_alike" in problem["message"]
    assert "cannot load" in problem["message"]
    broken.unlink()
    world.tick_until_in("done", *tasks)
    world.quiet()
    assert problems(world) == []


@pytest.fixture
def failing(tmp_path: Path) -> Callable[..., Outcome]:
    """Settle runs of tasks, and judge one more."""
    layout = Layout(str(tmp_path))
    os.makedirs(layout.home)

    def judge(past: list[tuple[str, str, str]], reason: str, **fields: Any) -> Outcome:
        for number, (task, verdict, why) in enumerate(past):
            told = {"task": task, "agent": "a", "run": f"R{number}", "verdict": verdict}
            events.append(layout, 0.0, "requeue", reason=why, **told)
        values = {"task": "T9", "ended": {"exit_code": 4}, **fields}
        found = run_record.read(str(runs.lay_out(layout, "a", "R9", **values)))
        assert found is not None
        return alike.judged(found, Outcome("failed", reason))

    return judge


SAME = "no_result: the client exited 4 without a result; it said: {} broke at 0x{}"
#: What an agent reports without a word about it: the client did its work.
TOLD = outcomes.reported({"outcome": "failed", "summary": ""}, None)
OLD = [("T1", "failed", SAME.format("T1", 17)), ("T2", "failed", SAME.format("T2", 4711))]


@pytest.mark.parametrize(
    ("past", "reason", "verdict"),
    [
        (OLD, SAME.format("T9", 8), "system_fault"),
        ([*OLD, ("T2", "interrupted", "no_result: killed")], SAME.format("T9", 8), "system_fault"),
        (OLD[:1] * 3, SAME.format("T9", 8), "failed"),
        ([*OLD, ("T3", "done", "")], SAME.format("T9", 8), "failed"),
        ([*OLD, ("T3", "failed", "checks_failed: no")], SAME.format("T9", 8), "failed"),
        (OLD, "no_result: another reason", "failed"),
        ([("T1", "failed", "checks_failed: x"), ("T2", "failed", "checks_failed: x")],
         "checks_failed: x", "failed"),
        ([(task, "failed", TOLD.reason) for task in ("T1", "T2")], TOLD.reason, "failed"),
    ],
)  # fmt: skip
def test_only_the_newest_runs_of_three_tasks_that_did_nothing_are_alike(
    failing: Callable[..., Outcome], past: list[tuple[str, str, str]], reason: str, verdict: str
) -> None:
    assert failing(past, reason).verdict == verdict


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(12, "Cannot allocate memory"),
              faults.GitError("git fetch failed: fatal: Out of memory, malloc failed")],
)  # fmt: skip
def test_a_lack_of_memory_is_a_fault_of_the_system(error: Any) -> None:
    found = faults.outcome(error)
    assert found.verdict == "system_fault"
    assert (found.reason or "").startswith(memory.WORD)


def test_a_tick_and_a_command_without_memory_are_no_bug(
    project: Layout, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    report = Report()
    report.apply(Action("start", "impl-agent-1", "T"), fail)
    assert report.bug is None
    assert [problem.code for problem in report.problems] == [memory.WORD]
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("orchestrator.cli.status.overview.overview", fail)
    done = cli("status")
    assert done.code == 1
    assert "could not get more memory" in done.err
    assert list(tmp_path.glob("orchestrator-bug-*")) == []


#: The disk does not give the stream of a run while a file exists: not at all, not to the end, or
#: only not durably.
WITHHELD = """
import errno, io
from orchestrator.system import files
_open, _flush = files.open_regular, files.flush
def _eio(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))
class _Bad(io.BytesIO):
    read = read1 = readinto = readline = _eio
def _is_bad(path):
    return os.path.basename(path) == "stream.jsonl" and os.path.exists({bad!r})
def _opened(path, buffer=-1):
    if _is_bad(path) and {how!r} == "opened":
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    return _Bad() if _is_bad(path) and {how!r} == "read" else _open(path, buffer)
def _flushed(path):
    return _eio() if _is_bad(path) and {how!r} == "flushed" else _flush(path)
files.open_regular, files.flush = _opened, _flushed
"""


@pytest.mark.parametrize("how", ["opened", "read", "flushed"])
def test_a_stream_that_the_disk_does_not_give_costs_no_attempt(world: World, how: str) -> None:
    world.create(retry=STRICT)
    bad = world.folder / "bad"
    edge = WITHHELD.format(bad=str(bad), how=how)
    world.product = shadow(world.folder / "shadow", edge, forked=True)
    bad.touch()
    world.script("default", {"steps": [["work_once"]], "report": GAVE_UP})
    task = world.add("Unread")
    times = 4  # more than the interruptions that cost nothing, and than STRICT has attempts
    world.tick_until(lambda: len(requeued(world, task)) >= times, "the faults")
    assert {(e["verdict"], e["charged"]) for e in requeued(world, task)} == {
        ("system_fault", False)
    }
    assert world.task(task)["attempts"] == 0
    [found] = [p for p in problems(world) if p["code"] == "system_fault"]
    assert "Input/output error" in found["message"]
    assert "stream.jsonl" in found["message"]
    bad.unlink()
    world.script("default", {"steps": [["work_once"]]})
    world.tick_until_in("done", task)
    assert len(world.commits_about(task)) == 1
