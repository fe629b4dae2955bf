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


def looking(read: list[str]) -> Remembered[str]:
    """Return what remembers texts of files; it notes in `read` which files it reads."""
    return Remembered(lambda path: read.append(path) or read_text(path))


def test_an_unchanged_file_is_read_once_and_each_change_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "CLEAR", -1.0)  # remember also what was written a moment ago
    read: list[str] = []
    look = looking(read)
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
    read: list[str] = []
    look = looking(read)
    path = written(tmp_path / "file", "first")
    assert [look(path), look(path)] == ["first", "first"]
    assert read == [path, path]


def test_the_target_of_a_symbolic_link_is_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "CLEAR", -1.0)
    look = looking([])
    link = tmp_path / "link"
    link.symlink_to(written(tmp_path / "file", "first"))
    assert look(str(link)) == "first"
    written(tmp_path / "file", "other")
    assert look(str(link)) == "other"


def test_large_files_and_more_files_than_the_most_take_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "CLEAR", -1.0)
    monkeypatch.setattr(remembered, "MOST", 2)
    monkeypatch.setattr(remembered, "MOST_BYTES", 5)
    read: list[str] = []
    look = looking(read)
    paths = [written(tmp_path / name, name) for name in ("1", "2", "3", "larger")]
    assert [look(path) for path in paths] == ["1", "2", "3", "larger"]
    # The third made room for itself; the large one was not kept.
    assert [look(path) for path in (paths[2], paths[3], paths[0])] == ["3", "larger", "1"]
    assert read == [*paths, paths[3], paths[0]]
