"""What a tick observes of a fault: a limit that has reset, and a disk that cannot be written."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from rows import each_row

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.errors import GitError, SystemFault
from orchestrator.model.snapshot import Action, Hold, Outcome
from orchestrator.project import agent_memory, faults, run_record
from orchestrator.system import disk, files, memory
from orchestrator.tick import attendant, observe, problems
from orchestrator.tick.settle import Settler

Cli = Callable[..., Any]


@pytest.mark.parametrize(("left", "is_held"), [(1.0, True), (0.0, False), (-1.0, False)])
def test_a_usage_limit_holds_until_it_resets(project: Layout, left: float, is_held: bool) -> None:
    now = time.time()
    hold = Hold("usage_limit", "the limit is reached", "wait", now - 60, now + left)
    files.write_json(project.hold, hold._asdict())
    settings = load.settings(project, write_cache=False)
    assert (observe.observe(project, settings, now, None).snapshot.hold is not None) is is_held


def test_a_disk_that_cannot_be_written_is_a_fault_that_no_run_tests(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = disk.Shortage("disk_full", "no space is left", "free some")
    monkeypatch.setattr(disk, "shortage", lambda _: short)
    settings = load.settings(project, write_cache=False)
    seen = observe.observe(project, settings, 5.0, None).snapshot
    assert seen.hold == Hold("system_fault", "disk_full: no space is left", "free some", 5.0)
    assert not seen.may_probe


@pytest.mark.parametrize("name", ["shared/queue/claimed", "shared/queue/done", "shared/prs"])
def test_a_queue_in_which_no_task_can_move_is_a_fault_that_no_run_tests(
    project: Layout, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = os.path.join(project.home, name)
    os.makedirs(folder, exist_ok=True)
    monkeypatch.setattr("os.access", lambda path, _: path != folder)
    settings = load.settings(project, write_cache=False)
    seen = observe.observe(project, settings, 5.0, None)
    hold, holds, message = seen.snapshot.hold, "queue" in name, f"{folder} cannot be written"
    assert (hold and hold.message) == (f"permissions: {message}" if holds else None)
    assert seen.snapshot.may_probe is not holds
    told = problems.find_problems(project, settings, seen, 5.0)
    assert [p.message for p in told if p.code == "permissions"] == [message]


#: A disk with plenty of everything.
DISK = {"f_flag": 0, "f_frsize": 4096, "f_blocks": 9999, "f_files": 9999}
DISK |= {"f_bfree": 9999, "f_bavail": 9999, "f_ffree": 9999, "f_favail": 9999}


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({}, None),
        ({"f_flag": os.ST_RDONLY}, "disk_read_only"),
        ({"f_bfree": 256, "f_bavail": 256}, None),  # 1 MiB
        ({"f_bfree": 255, "f_bavail": 255}, "disk_full"),
        ({"f_ffree": 64, "f_favail": 64}, None),
        ({"f_ffree": 63, "f_favail": 63}, "disk_full"),
        # A file system that does not count them.
        ({"f_blocks": 0, "f_bfree": 0, "f_bavail": 0}, None),
        ({"f_files": 0, "f_ffree": 0, "f_favail": 0}, None),
    ],
)
def test_a_disk_is_full_without_space_or_without_files(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, facts: dict[str, int], word: str | None
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**DISK, **facts}))
    found = disk.shortage(str(tmp_path))
    assert (found and found.word) == word


def test_only_the_users_own_blocks_count_unless_it_is_root(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**DISK, "f_bavail": 0}))
    for user, word in ((0, None), (1000, "disk_full")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        found = disk.shortage(str(tmp_path))
        assert (found and found.word) == word


@each_row(
    ("error", "word"),
    [
        *((OSError(number, "why", "/f"), "disk_full") for number in disk.ERRORS),
        (OSError(errno.ENOMEM, "why", "/f"), memory.WORD),
        (OSError(errno.EACCES, "why", "/f"), "system_fault"),
        (MemoryError(), memory.WORD),
        (GitError("git fetch failed: fatal: Out of memory, malloc failed"), memory.WORD),
        (GitError("git fetch failed: bad object"), "git_failed"),
        (SystemFault("gone", code="remote_unreachable"), "remote_unreachable"),
    ],
)
def test_what_the_machine_lacks_is_no_failure_of_the_work(error: Exception, word: str) -> None:
    assert disk.ERRORS == (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    outcome = faults.outcome(error)  # type: ignore[arg-type]
    assert outcome.verdict == "system_fault"
    assert (outcome.reason or "").partition(": ")[0] == word


@pytest.mark.parametrize(
    "said",
    [
        "fatal: write error: No space left on device",
        "error: file write error: Disk quota exceeded",
        "fatal: cannot create directory: Read-only file system",
        "Error: ENOSPC: no space left on device, write",
        "code: 'EROFS'",
        "errno EDQUOT",
    ],
)
def test_a_programs_words_for_a_disk_that_cannot_be_written_are_known(said: str) -> None:
    assert re.search(disk.SAID, said)
    assert not re.search(disk.SAID, "the test ENOSPCX failed: no space")


@pytest.mark.parametrize(
    ("error", "is_over"),
    [
        (errno.EIO, False),
        (errno.ESTALE, False),
        (errno.EMFILE, False),
        (errno.EACCES, False),
        (errno.ENOENT, True),
    ],
)
def test_a_record_that_the_disk_withholds_ends_no_run(
    project: Layout, monkeypatch: pytest.MonkeyPatch, error: int, is_over: bool
) -> None:
    agent_memory.write(project, "impl", agent_memory.AgentState(run="R1"))
    read = files.read_regular

    def withheld(path: str, limit: int = files.MOST_READ) -> bytes:
        if path.endswith(run_record.RECORD):
            raise OSError(error, os.strerror(error), path)
        return read(path, limit)

    monkeypatch.setattr(files, "read_regular", withheld)
    _, _, [view], records = observe.observe_runs(project)
    assert (view.finished, view.alive, records) == (is_over, not is_over, {})


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
def test_a_memory_that_the_disk_withholds_is_not_taken_for_an_empty_one(
    project: Layout, cli: Cli, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    totals = agent_memory.Totals(runs=7, cost_usd=3.5)
    known = agent_memory.AgentState(run="R1", totals=totals)
    agent_memory.write(project, "impl-agent-1", known)
    path, read = project.agent_state("impl-agent-1"), files.read_regular
    settings = load.settings(project, write_cache=False)
    outcome = Outcome("done")
    act = Action("finish", "impl-agent-1", None, "R1")

    def withheld(asked: str, limit: int = files.MOST_READ) -> bytes:
        if asked == path:
            raise OSError(error, os.strerror(error), asked)
        return read(asked, limit)

    with monkeypatch.context() as patch:
        patch.setattr(files, "read_regular", withheld)
        with pytest.raises(OSError, match=os.strerror(error)):
            Settler(project, settings, 0.0)._settle_agent(act, None, outcome)
        told = cli("tick")
        assert (told.code, path in told.err) == (1, True)
        assert cli("status").code == 0
        told = {row["code"]: row["message"] for row in cli("status", "--json").json["problems"]}
        assert path in told["memory_withheld"]
        assert ("check that disk" in cli("status").out) == (error != errno.EACCES)
        found = cli("doctor", "--json").json["findings"]
        assert any(path in row["message"] for row in found if row["level"] == "fail")
        for words in (
            ("agent", "remove", "impl-agent-1"),
            ("agent", "resume", "impl-agent-1"),
            ("agent", "pause", "impl-agent-1", "--stop"),
            ("stop", "impl-agent-1"),
            ("stop", "--all"),
            ("init", "--uninstall"),
            ("init", "--host", "other"),
        ):
            refused = cli(*words, "--json")
            assert (refused.code, path in refused.out) == (1, True), (words, refused.out)
        assert attendant.is_needed(project, time.time())
    config = load.settings(project, write_cache=False).config
    assert all(agent.paused for agent in config.agents), "the brake works all the same"
    assert "impl-agent-1" in {agent.name for agent in config.agents}
    assert agent_memory.read(project, "impl-agent-1", surely=True) == known
