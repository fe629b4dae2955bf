"""Reference 8.1: `kill -9` at any instant, then one tick, and nothing is lost, doubled or stuck.

`make crash` kills at every point that a scenario has; here a few of them, of every kind of process,
are killed each time. How points are found, and what is held afterwards, is in `crash.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import crash
import crash_plugin
import pytest
from crash import SCENARIOS, Point, Scenario
from harness import World

#: Scenario, kind of process, and how far through that kind's points to go.
SAMPLE = [
    ("review", "tick", 0.9),
    ("review", "prepare", 0.6),
    ("review", "client", 0.9),
    ("review", "watch", 0.4),
    ("review", "conclude", 0.53),
    ("review", "after-run", 0.1),
    ("failing-check", "conclude", 0.4),
    ("leftovers", "conclude", 0.1),
    ("landing", "landing", 0.5),
    ("set-up", "prepare", 0.7),
    ("github", "conclude", 0.65),
]

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux", reason="looks for processes and open files in /proc"
    ),
    # The first of a session also plays its scenario undisturbed; each wait has its own limit.
    pytest.mark.timeout(600),
]
Record = Callable[[str, object], None]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "point" in metafunc.fixturenames:
        found = [Point(*each) for each in crash_plugin.points(metafunc.config)]
        metafunc.parametrize("point", found, ids=str)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crash.shadow(tmp_path_factory.mktemp("shadow"))


@pytest.fixture
def world(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, program: Path
) -> Iterator[World]:
    templates = tmp_path_factory.getbasetemp() / "crash-templates"
    with crash.world_at(tmp_path, templates, program) as made:
        yield made


def points_of(scenario: Scenario, factory: pytest.TempPathFactory, program: Path) -> list[Point]:
    """Return a scenario's points, found once for all workers."""
    folder = factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    return crash.recorded(shared / "crash-points", scenario, program)


def strike(point: Point, world: World, record_property: Record) -> None:
    def tell(killed: Point | None) -> None:
        if killed is None:
            record_property("missed", str(point))
        else:
            record_property("killed", (point.scenario, killed.kind, killed.call))

    crash.strike(SCENARIOS[point.scenario], point, world, tell)


@pytest.mark.crash
def test_a_kill_at_any_point_loses_doubles_and_sticks_nothing(
    point: Point, world: World, record_property: Record
) -> None:
    strike(point, world, record_property)


@pytest.mark.parametrize(("name", "kind", "share"), SAMPLE)
def test_a_kill_loses_doubles_and_sticks_nothing(
    name: str,
    kind: str,
    share: float,
    world: World,
    program: Path,
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Record,
) -> None:
    found = [p for p in points_of(SCENARIOS[name], tmp_path_factory, program) if p.kind == kind]
    strike(found[int(share * len(found))], world, record_property)
