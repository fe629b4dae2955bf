"""Which files of the program schedules start, and which version of it, without a schedule."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from orchestrator import layout
from orchestrator.schedule import program_copy
from orchestrator.system import files, process


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of libraries with this program, as a wheel installs it, and another package."""
    folder = tmp_path / "site"
    for name in (
        *("orchestrator/__main__.py", "orchestrator/layout.py", "orchestrator/run/job.py"),
        *("orchestrator/__pycache__/layout.pyc", "orchestrator/_resources/plugin/roles/tester.md"),
        *("bin/tool", "plugin/other.md", "another/__init__.py"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(layout, "__file__", str(folder / "orchestrator" / "layout.py"))
    main = str(folder / "orchestrator" / "__main__.py")
    monkeypatch.setattr(process, "own_program", lambda: [sys.executable, "-I", "-S", main])
    return folder


def test_what_pip_installed_is_found_in_its_package_and_only_that_is_copied(site: Path) -> None:
    assert layout.resources() == str(site / "orchestrator" / "_resources")
    assert program_copy._names(str(site)) == [
        "orchestrator/__main__.py",
        "orchestrator/_resources/plugin/roles/tester.md",
        "orchestrator/layout.py",
        "orchestrator/run/job.py",
    ]


def test_a_copy_is_on_disk_whole_before_anything_starts_it(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, synced = tmp_path / "copy", []
    monkeypatch.setattr(os, "sync", lambda: synced.append(program_copy._names(str(copy))))
    program_copy._fill(str(copy), str(site))
    assert synced == [program_copy._names(str(site))]


def test_a_newer_version_that_schedules_start_is_left_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    main = tmp_path / "orchestrator" / "99.0.1" / "app-x" / "orchestrator" / "__main__.py"
    main.parent.mkdir(parents=True)
    main.touch()
    script = f'#!/bin/sh\nexec {sys.executable} -I -S {main} "$@"\n'
    files.make_folder(str(tmp_path / "orchestrator" / "bin"))
    Path(program_copy.launcher()).write_text(script)
    assert program_copy.version() == "99.0.1"
    assert program_copy.put() == []
    assert Path(program_copy.launcher()).read_text() == script


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("0.10.0", "0.9.9", True),
        ("0.9.9", "0.10.0", False),
        ("0.1.0", "0.1.0", False),
        ("1.0", "0.9.9", True),
        ("", "0.1.0", False),
    ],
)
def test_versions_are_compared_as_numbers(one: str, other: str, expected: bool) -> None:
    assert program_copy.is_newer(one, other) is expected
