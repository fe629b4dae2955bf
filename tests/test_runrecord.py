"""What a client starts from is put in its place whole, whatever lies there already."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest

from orchestrator import files, runrecord


def test_what_lies_in_the_way_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a"
    beside = Path(files.beside_of(str(path)))
    for lay in (victim.touch, lambda: path.symlink_to(victim), lambda: os.mkfifo(path)):
        victim.write_bytes(b"precious")
        lay()
        runrecord.put(str(path), b"new")
        assert path.read_bytes() == b"new"
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        path.unlink()
    for lay in (lambda: beside.symlink_to(victim), lambda: os.link(victim, beside)):
        lay()
        runrecord.put(str(path), b"new")
        assert path.read_bytes() == b"new"
    assert victim.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["a", "victim"]


def test_what_cannot_be_put_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a disk that fills meanwhile
    try:
        with pytest.raises(OSError, match="too large"):
            runrecord.put(str(path), b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        runrecord.put(str(path), b"new")
    assert os.listdir(tmp_path) == ["a"]
