"""Loose refs are packed when they are many, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import git

from orchestrator.git import abandoned_locks, packing, repository

MANY = 12


@pytest.fixture
def loose(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with more loose refs than may be."""
    monkeypatch.setattr(packing, "LOOSE", MANY)
    head = git(repo, "rev-parse", "HEAD").strip()
    for number in range(MANY):
        git(repo, "update-ref", f"refs/heads/agent/T{number}", head)
    return repo


def loose_refs(repo: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(repo / ".git" / "refs"))


def test_many_loose_refs_are_packed_and_few_stay(
    loose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = repository.refs(str(loose))
    assert packing.pack(str(loose))
    assert repository.refs(str(loose)) == before
    assert loose_refs(loose) == 0
    assert not packing.pack(str(loose))


@pytest.fixture
def persons_git(loose: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A git of the person that waits in a folder of the checkout."""
    (loose / "inside").mkdir()
    child = subprocess.Popen(
        ("git", "cat-file", "--batch"), cwd=loose / "inside", stdin=subprocess.PIPE
    )
    with child:
        yield child
        child.kill()


def test_new_packed_refs_of_a_killed_git_stop_no_git(
    loose: Path, persons_git: subprocess.Popen[bytes]
) -> None:
    torn = loose / ".git" / "packed-refs.new"
    torn.touch()
    (loose / ".git" / "packed-refs.lock").touch()
    assert not packing.pack(str(loose)), "another git may be writing them"
    assert torn.exists()
    persons_git.kill()
    persons_git.wait()
    assert packing.pack(str(loose))
    git(loose, "branch", "-D", "agent/T1")


def test_a_kill_at_any_moment_of_it_loses_no_ref(loose: Path) -> None:
    head = git(loose, "rev-parse", "HEAD").strip()
    listed = "".join(f"create refs/heads/more/T{n} {head}\n" for n in range(2000))
    subprocess.run(("git", "update-ref", "--stdin"), cwd=loose, input=listed, text=True, check=True)
    before = repository.refs(str(loose))
    for delay in (0.0, 0.003, 0.01, 0.03, 0.1):
        child = subprocess.Popen(("git", "pack-refs", "--all"), cwd=loose)
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert repository.refs(str(loose)) == before
        # What the killed git left: a minute later, git holds no lock here any more.
        for left in (loose / ".git").glob("**/*.lock"):
            os.utime(left, (1, 1))
            assert abandoned_locks.remove_old(str(left))
    # The last git may have packed everything before it was killed.
    for number in range(MANY):
        git(loose, "update-ref", f"refs/heads/later/T{number}", head)
    before |= {f"refs/heads/later/T{number}": head for number in range(MANY)}
    assert packing.pack(str(loose))
    assert repository.refs(str(loose)) == before
