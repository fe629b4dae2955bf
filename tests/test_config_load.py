"""Configuration and roles are kept in one copy, believed only while no file has changed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHECKOUT

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.system import files

SCRIBE = "---\ntakes: docs\ntools: [Read, Edit]\n---\n"


def custom(project: Layout, name: str, text: str) -> Path:
    path = Path(project.roles, f"{name}.md")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def settled() -> None:
    """Wait until a file written now is surely younger than those written before."""
    time.sleep(2 * load._SETTLED / 1e9)


def test_the_copy_says_the_same_and_is_read_without_yaml(project: Layout) -> None:
    custom(project, "scribe", SCRIBE + "Écris.\n")
    settled()
    first = load.settings(project, write_cache=True)
    assert first.good
    assert len(first.roles) == 5
    assert Path(project.last_good_config).stat().st_mode & 0o777 == 0o600
    assert load.settings(project, write_cache=False) == first
    script = (
        "import sys\nfrom orchestrator.config import load\nfrom orchestrator.layout import Layout\n"
        f"found = load.settings(Layout({project.root!r}), write_cache=False)\n"
        "assert found.good and len(found.roles) == 5\n"
        "heavy = {'yaml', 'jinja2', 'frontmatter', 'difflib', 'orchestrator.text.yaml_nodes'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_reads_only_writes_no_copy(project: Layout) -> None:
    load.settings(project, write_cache=False)
    assert not Path(project.last_good_config).exists()


def test_a_disk_that_takes_nothing_keeps_no_tick_from_its_settings(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tick after a run met it as an error that nobody foresaw."""
    number = errno.ENOSPC

    def write(path: str, data: bytes) -> None:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(files, "write_atomic", write)
    assert load.settings(project, write_cache=True).good
    number = errno.EIO
    with pytest.raises(OSError, match="config"):
        load.settings(project, write_cache=True)


def test_a_changed_role_is_seen_however_fast_and_whatever_its_size(project: Layout) -> None:
    for number in range(20):
        path = custom(project, "scribe", f"{SCRIBE}Brief {number:02}.\n")
        os.utime(path, ns=(1, 1))
        found = load.settings(project, write_cache=True)
        assert found.roles["scribe"].brief == f"Brief {number:02}."
    path.unlink()
    assert "scribe" not in load.settings(project, write_cache=True).roles


def test_a_changed_configuration_is_seen_however_fast_and_whatever_its_size(
    project: Layout,
) -> None:
    for number in range(10, 30):
        Path(project.config).write_text(f"max_starts: {number}\nagents: []\n")
        os.utime(project.config, ns=(1, 1))
        assert load.settings(project, write_cache=True).config.max_starts == number


def test_a_broken_role_is_told_each_time_and_keeps_no_configuration_back(project: Layout) -> None:
    settled()
    load.settings(project, write_cache=True)
    path = custom(project, "scribe", "---\n")
    Path(project.config).write_text("max_starts: 7\nagents: []\n")
    settled()
    for _ in range(2):
        found = load.settings(project, write_cache=True)
        assert str(path) in found.problems[0].message
        assert found.good
        kept = load.last_good(project)
        assert kept is not None
        assert kept.max_starts == 7


def test_a_copy_is_written_once(project: Layout) -> None:
    custom(project, "scribe", "---\n")
    load.settings(project, write_cache=True)
    before = os.stat(project.last_good_config)
    load.settings(project, write_cache=True)
    assert os.stat(project.last_good_config).st_ino == before.st_ino


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"x|y\n[]"])
def test_a_broken_copy_is_replaced(project: Layout, content: bytes) -> None:
    settled()
    first = load.settings(project, write_cache=True)
    good = Path(project.last_good_config).read_bytes()
    Path(project.last_good_config).write_bytes(content)
    assert load.last_good(project) is None
    assert load.settings(project, write_cache=True) == first
    assert Path(project.last_good_config).read_bytes() == good


def test_a_file_that_may_not_be_read_is_not_asked_to_be_another_kind_of_file(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = files.read_inside

    def refuse(path: str, root: str, most: int) -> bytes:
        if path == project.config:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return read(path, root, most)

    monkeypatch.setattr(files, "read_inside", refuse)
    problems = load.settings(project, write_cache=False).problems
    [problem] = [each for each in problems if "agents.yaml" in each.message]
    assert problem.message.endswith("agents.yaml: Permission denied")
    assert problem.hint is not None
    assert project.config in problem.hint
