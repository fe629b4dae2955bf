"""Files that one process remembers: each change is seen, also by a person and in place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.system import remembered
from orchestrator.system.remembered import Remembered


def read_text(path: str) -> str:
    return Path(path).read_text()


def written(path: Path, text: str) -> str:
    """Write a file in place, as if that was long ago."""
    path.write_text(text)
    os.utime(path, ns=(1, 1))
    return str(path)


def test_an_unchanged_file_is_read_once_and_each_change_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "CLEAR", -1.0)  # remember also what was written a moment ago
    read: list[str] = []
    look = Remembered(lambda path: read.append(path) or read_text(path))
    path = written(tmp_path / "file", "first")
    assert [look(path) for _ in range(3)] == ["first"] * 3
    assert read == [path]
    # The same size and the same time of change: only the time of the inode tells.
    written(tmp_path / "file", "other")
    assert look(path) == "other"
    os.replace(written(tmp_path / "beside", "third"), path)
    assert look(path) == "third"
    os.unlink(path)
    with pytest.raises(FileNotFoundError):
        look(path)


def test_a_file_that_changed_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    """A second change within one tick of the kernel's clock leaves the times as they were."""
    look = Remembered(read_text)
    path = written(tmp_path / "file", "first")
    assert look(path) == "first"
    assert path not in look


def test_large_files_and_more_files_than_the_most_take_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "CLEAR", -1.0)
    monkeypatch.setattr(remembered, "MOST", 2)
    monkeypatch.setattr(remembered, "MOST_BYTES", 5)
    look = Remembered(read_text)
    paths = [written(tmp_path / name, name) for name in ("1", "2", "3", "larger")]
    assert [look(path) for path in paths] == ["1", "2", "3", "larger"]
    assert sum(path in look for path in paths) == 1
    assert paths[2] in look
