"""The tests' own fixtures: the guard of the developer's home, and what a test leaves behind."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import quick_variants
from both_stores import POSTGRESQL, SAMPLE
from conftest import ALL_TESTS, CHECKOUT, in_memory, touched
from rows import each_row

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


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is that of Linux")
def test_temporary_folders_are_in_memory_only_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def memory(**there: int) -> bool:
        usual = {"f_bavail": 1 << 20, "f_frsize": 4096, "f_flag": 0}
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**usual | there))
        return in_memory()

    monkeypatch.setattr(os, "access", lambda *_: True)
    assert memory()
    assert not memory(f_bavail=1 << 14)
    assert not memory(f_flag=os.ST_NOEXEC)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not memory()
    monkeypatch.undo()
    monkeypatch.setattr("conftest._MEMORY", "/nowhere")
    assert not in_memory()


def test_no_variable_of_the_developers_python_reaches_a_test() -> None:
    assert [name for name in os.environ if name.startswith("PYTHON")] == []


@each_row(
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


def test_each_name_and_variant_in_the_tables_of_slow_tests_exists(
    pytestconfig: pytest.Config,
) -> None:
    found = pytestconfig.stash.get(ALL_TESTS, None) or collected()
    assert quick_variants.faults(found) == []
    over_postgresql = {
        name
        for name, variant in map(quick_variants.name_and_variant, found)
        if POSTGRESQL in variant
    }
    assert SAMPLE - over_postgresql == set()


def collected() -> list[str]:
    """Return the ids of all tests, collected by another pytest."""
    done = subprocess.run(
        (sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [line for line in done.stdout.splitlines() if "::" in line]
    assert found
    return found


def test_a_name_or_variant_that_does_not_exist_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_variants, "QUICK", {"test_a": ("one", "two"), "test_b": ("x",)})
    monkeypatch.setattr(
        quick_variants, "HELD_BY", {"test_long": "test_short", "test_a": "test_long"}
    )
    found = ["f.py::test_a[one]", "f.py::test_long", "f.py::test_short"]
    assert quick_variants.faults(found) == [
        "there is no test test_b",
        "test_long is slow itself",
        "no variant of test_a contains 'two'",
        "no variant of test_b contains 'x'",
    ]
    assert quick_variants.is_slow("f.py::test_b[y]")
    assert not quick_variants.is_slow("f.py::test_b[x]")
    assert quick_variants.is_slow("f.py::test_long")
    assert not quick_variants.is_slow("f.py::test_short")


def test_what_a_killed_run_of_the_tests_shared_is_removed_by_the_next_one(tmp_path: Path) -> None:
    make = "import copies, os, sys; copies.share(); print(os.environ['SHARED_BY_TESTS'])"

    def run(end: str) -> Path:
        done = subprocess.run(
            (sys.executable, "-c", f"{make}; {end}"),
            env={"PYTHONPATH": str(CHECKOUT / "tests"), "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return Path(done.stdout.strip())

    at_work, killed = (
        tmp_path / "orch-tests-at-work",
        run("sys.stdout.flush(); os.kill(os.getpid(), 9)"),
    )
    assert killed.exists()
    at_work.mkdir()
    (at_work / "pid").write_text(str(os.getpid()))
    (tmp_path / "orch-tests-new").mkdir()
    assert not run("").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [at_work.name, "orch-tests-new"]


def test_rows_are_tried_up_to_a_time_limit_and_each_that_fails_is_named() -> None:
    tried = []

    @each_row(("one", "other"), [(1, 1), (1, 2), (3, 3), (4, 5)])
    @each_row("wanted", [True])
    def test(fixture: str, one: int, other: int, wanted: bool) -> None:
        tried.append((fixture, one))
        assert (one == other) is wanted
        if one == 3:
            pytest.fail("as a time limit does")

    assert [*inspect.signature(test).parameters] == ["fixture"]
    with pytest.raises(BaseExceptionGroup, match="2 of 4 rows") as found:
        test(fixture="x")
    assert tried == [("x", 1), ("x", 1), ("x", 3)]
    notes = [error.__notes__ for error in found.value.exceptions]
    assert notes == [["row 1: (1, 2)"], ["row 2: (3, 3)"]]


def test_a_table_without_rows_and_a_name_that_the_test_does_not_take_are_refused() -> None:
    with pytest.raises(AssertionError, match="no row"):
        each_row("x", [])
    with pytest.raises(AssertionError, match="takes"):
        each_row("x", [1])(lambda y: None)
