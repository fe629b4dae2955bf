"""The limits of a client, to the second and to the byte, by a clock that each look moves."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.model.config import Agent
from orchestrator.project import run_record
from orchestrator.project.run_record import ClientProcess
from orchestrator.run import watch
from orchestrator.system import files, process

#: Returns the limit that ended the client, and the seconds after which it did.
Watched = Callable[..., tuple[str | None, int]]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClientProcess]:
    """A client at work, and its run's folder as the current one."""
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen(["sleep", "600"]) as child:
        yield ClientProcess(child.pid, process.identity(child.pid))
        child.kill()


@pytest.fixture
def watched(client: ClientProcess, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return a function that watches the client; the clock ticks once per look at it."""

    def until_ended(
        started: ClientProcess = client,
        *,
        grows: int = 0,
        most: float | None = None,
        **limits: float,
    ) -> tuple[str | None, int]:
        seconds = itertools.count()
        looks: list[int] = []

        def monotonic() -> float:
            looks.append(next(seconds))
            return float(looks[-1])

        def look(*_: object) -> tuple[list[int], list[int], list[int]]:
            if looks[-1] < grows:
                with open(run_record.STDERR, "a") as file:
                    file.write("x")
            return [], [], []

        monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=monotonic))
        monkeypatch.setattr(watch, "select", SimpleNamespace(select=look))
        agent = Agent("a", "implementer", 0)._replace(**{"stall_seconds": 0.0, **limits})
        adapter: Any = SimpleNamespace(is_last_line=lambda line: line == b"result\n")
        waiting = watch._Waiting(started, agent, adapter)
        try:
            return waiting.until_ended(most), looks[-1]
        finally:
            waiting.close()

    return until_ended


def test_a_run_may_last_as_long_as_it_may_and_no_second_longer(watched: Watched) -> None:
    assert watched(max_runtime_seconds=10) == ("timed_out", 11)
    assert watched(max_runtime_seconds=10, grows=20) == ("timed_out", 11)


def test_the_time_under_an_earlier_supervisor_counts(
    watched: Watched, client: ClientProcess
) -> None:
    earlier, restarted = client._replace(since=-7.0), client._replace(since=5.0)
    assert watched(earlier, max_runtime_seconds=10) == ("timed_out", 4)
    assert watched(earlier, max_runtime_seconds=10, most=2) == (watch._STILL, 3)
    assert watched(restarted, max_runtime_seconds=10) == ("timed_out", 11)


def test_a_run_without_output_is_stalled_and_each_byte_is_output(watched: Watched) -> None:
    assert watched(max_runtime_seconds=100, stall_seconds=5) == ("stalled", 6)
    assert watched(max_runtime_seconds=100, stall_seconds=5, grows=20) == ("stalled", 26)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(watch.MAX_OUTPUT, "timed_out"), (watch.MAX_OUTPUT + 1, "too_much_output")],
)
def test_output_up_to_the_limit_is_allowed(watched: Watched, size: int, expected: str) -> None:
    assert watch.MAX_OUTPUT == 512 << 20
    with open(run_record.STDERR, "wb") as file:
        file.truncate(size)  # it takes no space
    assert watched(max_runtime_seconds=10)[0] == expected


def test_after_its_result_a_client_gets_a_minute_whatever_its_other_limits(
    watched: Watched,
) -> None:
    Path(run_record.STREAM).write_text("said\nresult\n")
    assert watched(max_runtime_seconds=10, stall_seconds=5) == ("lingered", 62)


def test_a_line_that_is_not_complete_is_no_result(watched: Watched) -> None:
    Path(run_record.STREAM).write_text("said\nresult")
    assert watched(max_runtime_seconds=100) == ("timed_out", 101)


def test_a_persons_request_comes_before_every_limit(watched: Watched) -> None:
    run_record.ask_to_stop(os.curdir, "enough")
    assert watched(max_runtime_seconds=0.1)[0] == "stopped"


def test_a_supervisor_that_is_to_become_small_leaves_the_client_at_work(watched: Watched) -> None:
    assert watched(max_runtime_seconds=100, most=5) == (watch._STILL, 6)


def test_the_output_is_on_disk_before_the_record_says_that_the_client_ended(
    client: ClientProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    record: Any = SimpleNamespace(
        client=client, settings=Agent("a", "implementer", 0), id="R1", _replace=dict
    )
    journal: Any = SimpleNamespace(
        folder=str(tmp_path),
        record=record,
        plan=lambda: None,
        path=lambda name: name,
        write_surely=lambda _: told.append("record"),
    )
    monkeypatch.setattr(process, "adopt_orphans", lambda: False)
    monkeypatch.setattr(process, "end_run", lambda *_, **__: None)
    monkeypatch.setattr(files, "flush", told.append)
    os.kill(client.pid, 9)
    assert watch.watch(journal)
    assert told == [run_record.STREAM, run_record.STDERR, "record"]
