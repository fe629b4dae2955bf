"""From when on a tick counts as hung, to the second."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator.layout import Layout
from orchestrator.system import locks, process
from orchestrator.tick import lock


@pytest.mark.parametrize(("seconds", "is_hung"), [(295, False), (305, True)])
def test_a_tick_hangs_after_five_minutes_of_the_monotonic_clock(
    project: Layout, seconds: float, is_hung: bool
) -> None:
    now, since = time.time(), time.monotonic() - seconds
    me = process.identity(os.getpid())
    with locks.Lock(project.scheduler_lock):
        Path(project.scheduler_lock).write_text(f"{os.getpid()} {me} {since:.3f}\n")
        found = lock.trouble(project, now)
    assert ((found is not None and found.code) == "tick_hung") is is_hung
    assert lock.trouble(project, now) is None, "nobody holds it any more"


def test_only_one_tick_has_the_lock_and_its_file_names_it(project: Layout) -> None:
    path = Path(project.scheduler_lock)
    with locks.Lock(project.scheduler_lock), lock.taken(project, 0.0) as found:
        assert found is None
        assert path.read_text() == "", "who waits does not name itself"
    with lock.taken(project, 0.0) as found:
        assert found == []
        assert path.read_text().split()[0] == str(os.getpid())
        with lock.taken(project, 0.0) as second:
            assert second is None
