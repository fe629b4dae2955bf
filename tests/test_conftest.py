"""The tests' own fixtures: the guard of the developer's home, and what a test leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT, touched

LEAVES_A_PROCESS = """
import gc
import subprocess
import pytest

@pytest.mark.timeout(1)
def test_that_waits_for_ever():
    child = subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    print("pid", child.pid)
    child.stdin.write(b"not sent")
    child.stdout.readline()

def test_that_comes_after_it():
    gc.collect()
"""


def test_a_test_that_timed_out_leaves_no_process_and_fails_no_neighbour(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LEAVES_A_PROCESS)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"),
            *("-c", str(CHECKOUT / "pyproject.toml"), "--rootdir", str(tmp_path)),
            # A folder of its own: to remove those of earlier sessions can take minutes.
            *("--basetemp", str(tmp_path / "temporary"), str(tmp_path / "test_it.py")),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / "tests")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    [pid] = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("pid ")]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_no_variable_of_the_developers_python_reaches_a_test() -> None:
    assert [name for name in os.environ if name.startswith("PYTHON")] == []


@pytest.mark.parametrize(
    ("event", "arguments", "paths"),
    [
        ("open", ("/a/b", "r", 0), ["/a/b"]),
        ("open", (b"/a/../b", "r", 0), ["/b"]),
        ("open", (3, "r", 0), []),
        ("os.mkdir", ("/a", 0o777, -1), ["/a"]),
        ("os.mkdir", ("a", 0o777, 5), []),
        ("os.mkdir", ("/a", 0o777, 5), ["/a"]),
        ("os.remove", ("a", 5), []),
        ("os.rename", ("/a", "/b", -1, -1), ["/a", "/b"]),
        ("os.rename", ("a", "/b", 5, -1), ["/b"]),
        ("os.symlink", ("../target", "/a/link", -1), ["/a/link"]),
        ("os.listdir", ("/a",), []),
    ],
)
def test_the_guard_of_the_home_sees_the_paths_that_are_touched(
    event: str, arguments: tuple[object, ...], paths: list[str]
) -> None:
    assert touched(event, arguments) == paths


def test_a_relative_path_is_resolved_against_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert touched("os.rmdir", ("a/../b", -1)) == [str(tmp_path / "b")]
