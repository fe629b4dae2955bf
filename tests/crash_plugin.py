"""What `pytest -m crash` needs around the tests: all points before it, a count of them after it.

The points are found by playing each scenario before anything is collected, in the one process that
hands out the work, so that every worker knows the same tests.
"""

from __future__ import annotations

import collections
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest

#: Points that a scenario was recorded with and that may go unmet when it is played again: what is
#: awaited in a loop happens a little more or less often. A share of all.
MAY_BE_MISSED = 0.01

_points = pytest.StashKey[list[list[Any]]]()
_folder = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
#: What each test of a point came upon, as it said by `record_property`.
_killed: list[tuple[str, str, str]] = []
_missed: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_points] = []
    if hasattr(config, "workerinput"):
        config.stash[_points] = config.workerinput["crash_points"]
    elif config.option.markexpr == "crash":
        config.stash[_points] = _recorded(config)


def _recorded(config: pytest.Config) -> list[list[Any]]:
    import crash

    config.stash[_folder] = tempfile.TemporaryDirectory(prefix="crash-")
    folder = Path(config.stash[_folder].name)
    program = crash.shadow(folder / "shadow")
    found = [crash.recorded(folder, each, program) for each in crash.SCENARIOS.values()]
    everything = [list(point) for points in found for point in points]
    # Whatever part of a run is over, it was a fair sample of all.
    random.Random(0).shuffle(everything)
    return everything


def points(config: pytest.Config) -> list[list[Any]]:
    """Return all points of all scenarios; none unless `-m crash` asks for them."""
    return config.stash[_points]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist."""
    node.workerinput["crash_points"] = node.config.stash[_points]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call":
        return
    for name, value in report.user_properties:
        if name == "killed":
            _killed.append(value)  # type: ignore[arg-type]
        elif name == "missed":
            _missed.append(str(value))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if len(_missed) > MAY_BE_MISSED * (len(_killed) + len(_missed)) + 3:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _killed and not _missed:
        return
    terminalreporter.section("points at which the product was killed")
    for title, place in (("scenario", 0), ("process", 1), ("call", 2)):
        counts = collections.Counter(each[place] for each in _killed)
        said = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        terminalreporter.write_line(f"by {title}: {said}")
    for missed in _missed:
        terminalreporter.write_line(f"recorded but not met again: {missed}")
    terminalreporter.write_line(f"{len(_killed)} points killed, {len(_missed)} not met")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _folder in config.stash:
        config.stash[_folder].cleanup()
