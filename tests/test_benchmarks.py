"""The measures of `make bench` still work. How fast anything is, no test says: that is theirs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT

from benchmarks import hosts, report
from benchmarks.__main__ import MEASURES


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_gives_its_rows_and_nothing_is_broken(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "benchmarks", "--smoke", "--json", "--folder", tmp_path, name),
        cwd=CHECKOUT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == {}
    assert found["rows"]
    for row in found["rows"]:
        assert row["figure"] > 0, row
        assert row["yardstick"] is None or row["yardstick"] > 0, row
    assert list(tmp_path.iterdir()) == [], "what it made it took away"


def test_the_table_shows_each_figure_beside_its_yardstick_and_its_aim() -> None:
    met = report.Row("a tick", 2.0, "ms", 1.0, "git", report.Aim(3.0), "5 rounds")
    missed = report.milliseconds("a run", [0.004], [0.001], "git", report.Aim(3.0))
    _, first, second, _, *notes = report.table([met, missed]).splitlines()
    assert first.split() == ["a", "tick", "2", "ms", "1", "ms", "2.00", "x", "<=", "3", "x", "ok"]
    assert second.split()[-1] == "MISSED"
    assert notes[0] == "a tick: against git; 5 rounds"


def test_the_figures_of_a_fleet_are_measured(
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_TEST_DSN", server)
    for name, value in (("FLEET", 10), ("SECONDS", 0.2)):
        monkeypatch.setattr(hosts, name, value)
    assert hosts.main(["fleet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"10 hosts: heartbeats: [1-9]\d* per second \(1 are needed\)", lines[0])
    assert len(lines) == 6


@pytest.mark.slow
def test_the_start_on_another_host_and_many_finished_tasks_are_measured(
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_TEST_DSN", server)
    for name, value in (("HOSTS", (2,)), ("ROUNDS", 2), ("FINISHED", 100)):
        monkeypatch.setattr(hosts, name, value)
    assert hosts.main(["start", "million"]) == 0
    said = capsys.readouterr().out
    assert "2 hosts: task add to the client's start: median" in said
    assert "100 finished tasks: tick: median" in said
