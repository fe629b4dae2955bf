"""A long log keeps its beginning, its end, and what is written while it is shortened."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.system import long_log

MOST = 1 << 16
LINES = 60_000
#: Appends numbered lines of ten bytes, each in a call of its own.
WRITES = f"""
import os
for number in range({LINES}):
    os.write(1, b"%09d\\n" % number)
"""


@pytest.mark.parametrize("removes", [True, False])
def test_a_log_that_is_shortened_keeps_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removes: bool
) -> None:
    if not removes:  # as on a disk that cannot remove a range
        monkeypatch.setattr(long_log, "_collapse", lambda *_: False)
    path, before = tmp_path / "log", b"what stood there\n"
    lines = b"".join(b"%09d\n" % number for number in range(LINES))
    path.write_bytes(before + lines)
    with open(path, "a+b", buffering=0) as log:
        long_log.shorten(log.fileno(), len(before), MOST)
        assert MOST < os.fstat(log.fileno()).st_size < 2 * MOST
        os.write(log.fileno(), b"later\n")
        long_log.cut(log.fileno(), len(before), MOST)
    found = path.read_bytes()
    kept = lines[: MOST // 2], (lines + b"later\n")[-MOST // 2 :]
    if removes:
        assert found == before + kept[0] + long_log.LEFT_OUT + kept[1]
    else:
        assert found.startswith(before + kept[0])
        assert found.endswith(kept[1][MOST // 4 :])


def test_nothing_that_is_written_while_a_log_is_shortened_is_lost(tmp_path: Path) -> None:
    path, count = tmp_path / "log", 0
    with open(path, "a+b", buffering=0) as log:
        log.write(bytes(1 << 16))
        if not long_log._collapse(log.fileno(), 1 << 12, 1 << 12):
            pytest.skip("this disk cannot remove a range of a file")
        os.ftruncate(log.fileno(), 0)
        writer = subprocess.Popen((sys.executable, "-I", "-S", "-c", WRITES), stdout=log)
        while writer.poll() is None:
            if os.fstat(log.fileno()).st_size > 2 * MOST:
                long_log.shorten(log.fileno(), 0, MOST)
                count += 1
        found = path.read_bytes()
    assert count > 1
    assert found[: MOST // 2].startswith(b"000000000\n000000001\n")
    # Whatever was left out was left out in one place, and a line is broken there.
    read = [int(line) for line in found.split(b"\n") if len(line) == 9]
    gaps = [(one, other) for one, other in itertools.pairwise(read) if other != one + 1]
    assert len(gaps) == 1, gaps
    assert read[-1] == LINES - 1


def test_a_short_log_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * MOST)
    with open(path, "a+b", buffering=0) as log:
        long_log.shorten(log.fileno(), 0, MOST)
        long_log.cut(log.fileno(), 0, MOST)
    assert path.read_bytes() == b"x" * MOST
