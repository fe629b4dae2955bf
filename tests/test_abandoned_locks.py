"""Locks that a killed git left stop nothing, and the lock of a living git is never taken away."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import git
from test_repository_probe import look
from test_worktree import BRANCH, Agent

from orchestrator.git import abandoned_locks, call, repository, worktree_commands
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import GitError, OrchestratorError
from orchestrator.project import agent_memory
from orchestrator.project.agent_memory import AgentState
from orchestrator.upkeep import clean, leftovers

REF = f"refs/heads/{BRANCH}.lock"
#: Every lock that git leaves when it is killed, except those of the person's own checkout.
SHARED = ("packed-refs.lock", "config.lock", "shallow.lock", REF, "refs/remotes/origin/main.lock")
UPKEEP = ("objects/maintenance.lock", "objects/info/commit-graphs/commit-graph-chain.lock")


def leave(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


@pytest.fixture
def living(repo: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A git that works in the repository until its standard input ends."""
    words = ("git", "cat-file", "--batch")
    with subprocess.Popen(words, cwd=repo, stdin=subprocess.PIPE) as child:
        yield child
        child.kill()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abandoned_locks, "SETTLED", 0.05)
    monkeypatch.setattr(abandoned_locks, "PATIENCE", 0.3)


@pytest.mark.usefixtures("quick")
def test_a_run_begins_and_ends_without_the_locks_that_a_killed_git_left(repo: Path) -> None:
    """The agent's own git would fail on them, and the attempt with it."""
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    agent = Agent(repo)
    agent.begin()
    for step in (agent.end, agent.begin):
        own = leave(agent.git_folder, "index.lock", "HEAD.lock", "MERGE_HEAD.lock")
        left = [*own, *leave(repo / ".git", *SHARED)]
        persons = leave(repo / ".git", "index.lock", "HEAD.lock")
        step()
        assert [path for path in left if path.exists()] == []
        assert all(path.exists() for path in persons), "these are of the person's checkout"


@pytest.mark.usefixtures("quick")
def test_a_bystanders_worktree_gives_the_branch_back_in_spite_of_its_locks(repo: Path) -> None:
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    first, second = Agent(repo, "one"), Agent(repo, "two")
    first.begin()
    locks = leave(first.git_folder, "index.lock", "HEAD.lock")
    second.begin()
    assert worktree_commands.state(str(second.path)).branch == BRANCH
    assert not any(lock.exists() for lock in locks)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ("refs/heads/new.lock", ("update-ref", "refs/heads/new", "HEAD")),
        ("packed-refs.lock", ("pack-refs", "--all")),
        ("config.lock", ("config", "a.b", "c")),
    ],
)
def test_a_command_of_the_product_frees_the_lock_that_it_meets(
    repo: Path, lock: str, words: tuple[str, ...]
) -> None:
    leave(repo / ".git", lock)
    call.ask(str(repo), *words)
    assert not (repo / ".git" / lock).exists()


@pytest.mark.usefixtures("quick")
def test_the_lock_of_a_living_git_stays_until_that_git_has_ended(
    repo: Path, living: subprocess.Popen[bytes]
) -> None:
    [lock] = leave(repo / ".git", REF)
    common = str(repo / ".git")
    assert abandoned_locks.free([str(lock)], common) is False
    with pytest.raises(GitError, match="File exists"):
        repository.update_ref(str(repo), f"refs/heads/{BRANCH}", "HEAD")
    assert [item.drop for item in leftovers.git_locks(common)] == [False]
    living.kill()
    living.wait()
    assert abandoned_locks.free([str(lock)], common)
    assert not lock.exists()


@pytest.mark.usefixtures("quick")
def test_an_old_lock_of_a_living_git_stays_too(repo: Path, living: subprocess.Popen[bytes]) -> None:
    """That git may be stopped, or wait for a hook."""
    [lock] = leave(repo / ".git", REF)
    os.utime(lock, (1, 1))
    for free in (abandoned_locks.free_met, abandoned_locks.remove_old):
        assert free(str(lock)) is False
        assert lock.exists()
    living.kill()
    living.wait()
    assert abandoned_locks.remove_old(str(lock))
    assert not lock.exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("whose", ["the lock's owner", "another user"])
def test_a_git_that_does_not_say_where_it_works_can_hold_its_own_users_locks_only(
    repo: Path, living: subprocess.Popen[bytes], whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    def denied(self: psutil.Process) -> str:
        if self.pid != living.pid:
            raise psutil.NoSuchProcess(self.pid)
        raise psutil.AccessDenied(self.pid)

    mine = os.lstat(repo).st_uid
    user = mine if whose == "the lock's owner" else mine + 1
    monkeypatch.setattr(psutil.Process, "cwd", denied)
    look = abandoned_locks._look

    def seen(path: str) -> abandoned_locks._Seen | None:
        found = look(path)
        return found and found._replace(owner=user)

    monkeypatch.setattr(abandoned_locks, "_look", seen)
    [lock] = leave(repo / ".git", REF)
    os.utime(lock, (1, 1))
    assert abandoned_locks.free([str(lock)], str(repo / ".git")) is (user != mine)
    assert lock.exists() is (user == mine)


def test_a_lock_that_changes_hands_is_not_taken_from_its_new_holder(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [lock] = leave(repo / ".git", REF)

    def replaced(_: float) -> None:
        lock.unlink()
        lock.with_name("keeps the inode busy").touch()
        lock.touch()

    monkeypatch.setattr(time, "sleep", replaced)
    assert abandoned_locks.free([str(lock)], str(repo / ".git")) is True
    assert lock.exists()


# --- what people see of it -----------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_doctor_names_left_locks_and_clean_removes_them(project: Layout) -> None:
    common = Path(project.root) / ".git"
    left = leave(common, *SHARED, *UPKEEP)
    [persons] = leave(common, "index.lock")
    found = look(project, "git_locks")
    assert [x.hint for x in found] == ["orchestrator clean"] * len(left) + [f"rm {persons}"]
    said = "\n".join(x.message for x in found)
    assert "`git maintenance` does nothing" in said
    assert "git cannot delete a branch" in said
    items = leftovers.git_locks(str(common))
    dropped = clean.carry_out(project, Config(), [], items)
    assert sorted(item.name for item in dropped) == sorted(map(str, left))
    assert not any(path.exists() for path in left)
    assert persons.exists()


def test_doctor_and_clean_leave_the_locks_of_a_living_git_alone(
    project: Layout, living: subprocess.Popen[bytes]
) -> None:
    assert living.poll() is None
    leave(Path(project.root) / ".git", *SHARED, "index.lock")
    assert look(project, "git_locks") == []


# --- locked worktrees ----------------------------------------------------------------------------


def test_a_running_agents_worktree_survives_git_and_the_persons_own_lock_is_respected(
    project: Layout,
) -> None:
    made = Agent(Path(project.root), "gone")
    path, root = str(made.path), Path(project.root)
    made.begin()
    worktree_commands.lock(path, "R1", "gone")
    with pytest.raises(AssertionError, match="locked"):
        git(root, "worktree", "remove", "--force", path)
    assert "locked orchestrator: run R1 of gone" in git(root, "worktree", "list", "--porcelain")
    assert worktree_commands.persons_lock(path) is None
    made.path.rename(made.path.with_name("away"))
    worktree_commands.forget(str(root), path)
    assert path not in git(root, "worktree", "list"), "the project was moved during a run"
    made.begin()
    git(root, "worktree", "lock", "--reason", "mine", path)
    worktree_commands.lock(path, "R2", "gone")
    worktree_commands.unlock(path)
    assert worktree_commands.persons_lock(path) == "mine"
    agent_memory.write(project, "gone", AgentState())
    [item] = [x for x in clean.plan(project, Config(), [], time.time()) if x.kind == "worktree"]
    assert (item.drop, item.why) == (
        False,
        f"it is locked: mine; to unlock it: git worktree unlock {path}",
    )
    with pytest.raises(OrchestratorError, match="locked: mine"):
        clean.start_over(project, "gone", Config())
    assert os.path.isdir(path)


def test_only_the_very_file_that_was_seen_is_removed_and_by_one_process(tmp_path: Path) -> None:
    path, newer = tmp_path / "a.lock", tmp_path / "b.lock"
    path.touch()
    newer.touch()
    seen = abandoned_locks._look(str(path))
    assert seen is not None
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        abandoned_locks._remove(str(path), seen)
        assert path.exists(), "another process is about to remove it"
    newer.replace(path)
    abandoned_locks._remove(str(path), seen)
    assert path.exists(), "a git made it after the look"
    seen = abandoned_locks._look(str(path))
    assert seen is not None
    abandoned_locks._remove(str(path), seen)
    assert not path.exists()
