"""An agent's worktree: whatever is left in it is kept, and the next run can always begin."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import git as sh
from conftest import tree

from orchestrator.git import (
    aside,
    project_root,
    repository,
    task_branch,
    worktree,
    worktree_commands,
    worktree_list,
)
from orchestrator.model.errors import GitError
from orchestrator.system import disk

BRANCH = "agent/T1-fix-it"
RESCUE = "refs/orchestrator/rescue/"


def head(folder: Path, name: str = "HEAD") -> str:
    return sh(folder, "rev-parse", name)


def commit(folder: Path, name: str = "work.txt", text: str = "work\n") -> str:
    (folder / name).write_text(text)
    sh(folder, "add", "--all", "--", ".")
    sh(folder, "commit", "--quiet", "--message", f"Write {name}")
    return head(folder)


def rescued(repo: Path) -> dict[str, str]:
    return {
        ref.removeprefix(RESCUE): commit_id
        for ref, commit_id in repository.refs(str(repo), RESCUE.rstrip("/")).items()
    }


class Agent:
    """An agent's worktree, taken up and left as a run does."""

    def __init__(self, repo: Path, name: str = "impl") -> None:
        self.repo, self.name = repo, name
        self.path = repo / ".orchestrator" / "agents" / name / "worktree"

    def begin(
        self, branch: str | None = BRANCH, theirs: str | None = None, run: str = "R2"
    ) -> None:
        root, path, base = str(self.repo), str(self.path), head(self.repo, "main")
        ours = repository.resolve(root, f"refs/heads/{branch}")
        fresh = worktree.ensure(root, path, base)
        if not fresh and worktree.preserve(path, None, f"{run}-before").dirty:
            worktree_commands.clean(path)
        if branch is not None:
            task_branch.take_up(root, path, branch, base, ours, theirs)
        elif not fresh:
            worktree_commands.detach(path, base)

    def end(self, branch: str | None = BRANCH, run: str = "R1") -> str | None:
        worktree.clear_shared(str(self.repo), folders=False)
        kept = worktree.preserve(str(self.path), branch, run)
        if kept.dirty:
            worktree_commands.clean(str(self.path))
        tip = repository.resolve(str(self.repo), f"refs/heads/{branch}")
        worktree_commands.detach(str(self.path), tip or head(self.repo, "main"))
        return kept.ref

    @property
    def git_folder(self) -> Path:
        return Path(worktree_commands.own_folder(str(self.path)) or "")


@pytest.fixture
def ignored(repo: Path) -> Path:
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    return repo


@pytest.fixture
def agent(ignored: Path) -> Agent:
    made = Agent(ignored)
    made.begin()
    return made


def kept_text(repo: Path, text: str) -> bool:
    """Whether a text can still be found: below `.orchestrator/agents`, or from some ref."""
    for where, _, names in os.walk(repo / ".orchestrator" / "agents"):
        for name in names:
            if text.encode() in Path(where, name).read_bytes():
                return True
    commits = sh(repo, "rev-list", "--all").split()
    done = subprocess.run(
        ("git", "grep", "--quiet", "--fixed-strings", text, *commits), cwd=repo, capture_output=True
    )
    return done.returncode == 0


# --- made and reused ---------------------------------------------------------------------------


def test_a_worktree_is_made_once_detached_and_then_used_again(ignored: Path) -> None:
    path = ignored / ".orchestrator" / "agents" / "impl" / "worktree"
    before = tree(ignored)
    assert worktree.ensure(str(ignored), str(path), head(ignored)) is True
    assert worktree_commands.state(str(path)) == (head(ignored), None, False)
    assert worktree.ensure(str(ignored), str(path), head(ignored)) is False
    assert project_root.toplevel(str(path)) == str(path)
    assert {p: s for p, s in tree(ignored).items() if not p.startswith(".orchestrator")} == before


def _a_file(path: Path) -> None:
    path.write_text("precious")


def _a_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("precious")


def _a_repository(path: Path) -> None:
    sh(path.parent, "init", "--quiet", str(path))
    (path / "notes.txt").write_text("precious")


def _anothers_worktree(path: Path) -> None:
    other = path.parent / "other"
    sh(path.parent, "init", "--quiet", str(other))
    sh(
        other,
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@y",
        "commit",
        "--quiet",
        "--allow-empty",
        "-mx",
    )
    sh(other, "worktree", "add", "--quiet", "--detach", str(path))
    (path / "notes.txt").write_text("precious")
    shutil.rmtree(other)


def _a_dangling_link(path: Path) -> None:
    path.symlink_to("/nowhere/precious")


@pytest.mark.parametrize(
    "put", [_a_file, _a_folder, _a_repository, _anothers_worktree, _a_dangling_link]
)
def test_what_is_in_the_way_is_set_aside_and_never_deleted(
    ignored: Path, put: Callable[[Path], None]
) -> None:
    made = Agent(ignored)
    made.path.parent.mkdir(parents=True)
    for number in (1, 2):
        put(made.path)
        made.begin()
        assert worktree_commands.state(str(made.path)).branch == BRANCH
        aside = made.path.with_name(f"worktree.set-aside-{number}")
        if aside.is_symlink():
            assert os.readlink(aside) == "/nowhere/precious"
        else:
            content = aside if aside.is_file() else aside / "notes.txt"
            assert content.read_text() == "precious"
        made.end()
        worktree_commands.remove(str(ignored), str(made.path))


def test_a_worktree_whose_folder_was_deleted_is_made_again(agent: Agent) -> None:
    shutil.rmtree(agent.path)
    agent.begin()
    assert worktree_commands.state(str(agent.path)).branch == BRANCH


def test_a_worktree_that_lost_its_link_is_set_aside_with_all_its_work(agent: Agent) -> None:
    (agent.path / "work.txt").write_text("precious")
    (agent.path / ".git").unlink()
    agent.begin()
    assert kept_text(agent.repo, "precious")


def test_a_project_that_was_moved_goes_on_with_the_work_that_was_under_way(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = commit(agent.path)
    (agent.path / "more.txt").write_text("precious")
    monkeypatch.chdir(tmp_path)
    agent.repo.rename(tmp_path / "elsewhere")
    moved = Agent(tmp_path / "elsewhere")
    moved.begin()
    assert worktree_commands.state(str(moved.path)) == (tip, BRANCH, False)
    assert kept_text(moved.repo, "precious")


def test_a_throw_away_worktree_is_gone_afterwards_whatever_happened(
    ignored: Path, tmp_path: Path
) -> None:
    path, root = tmp_path / "moment", str(ignored)

    def fail_inside() -> None:
        with worktree.throw_away(root, str(path), head(ignored)):
            (path / "made.txt").write_text("x")
            raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail_inside()
        assert not path.exists()
    path.mkdir()
    (path / "left").write_text("by a killed process")
    with worktree.throw_away(root, str(path), head(ignored)):
        assert worktree_commands.state(str(path)) == (head(ignored), None, False)
    assert sh(ignored, "worktree", "list").count("\n") == 0


# --- preserve ----------------------------------------------------------------------------------


def test_a_worktree_with_nothing_to_keep_makes_no_ref(agent: Agent) -> None:
    path = str(agent.path)
    assert worktree.preserve(path, BRANCH, "R1") == (
        None,
        False,
        head(agent.path),
        head(agent.path),
    )
    commit(agent.path)
    assert worktree.preserve(path, BRANCH, "R1") == (
        None,
        False,
        head(agent.path),
        head(agent.path),
    )
    assert rescued(agent.repo) == {}


NAMES = ["plain.txt", "with space", "new\nline", "quo'te\"", "-dash", "ünï ☃", ":(top)x", "*"]


@pytest.mark.parametrize("name", NAMES)
def test_uncommitted_files_of_any_name_go_to_a_rescue_ref(agent: Agent, name: str) -> None:
    tip = commit(agent.path)
    (agent.path / name).write_text("precious\n")
    (agent.path / "README.md").write_text("changed\n")
    assert agent.end() == f"{RESCUE}R1"
    assert sh(agent.repo, "show", f"{RESCUE}R1:{name}") == "precious"
    assert sh(agent.repo, "show", f"{RESCUE}R1:README.md") == "changed"
    assert head(agent.repo, f"{RESCUE}R1^") == tip
    assert worktree_commands.state(str(agent.path)) == (tip, None, False)


def test_a_name_that_differs_by_case_alone_is_kept_and_removed(agent: Agent) -> None:
    """Also if the repository comes from a machine whose disk does not tell the two apart."""
    if (agent.repo / ".GIT").exists():
        pytest.skip("this disk does not tell names by case: run the tests on one that does")
    sh(agent.repo, "config", "core.ignoreCase", "true")
    (agent.path / "readme.md").write_text("precious\n")
    assert agent.end() == f"{RESCUE}R1"
    assert sh(agent.repo, "show", f"{RESCUE}R1:readme.md") == "precious"
    assert not (agent.path / "readme.md").exists()


def test_what_was_staged_deleted_and_renamed_is_kept(agent: Agent) -> None:
    (agent.path / "staged.txt").write_text("precious")
    sh(agent.path, "add", "staged.txt")
    sh(agent.path, "mv", "README.md", "READ.md")
    agent.end()
    names = sh(agent.repo, "ls-tree", "--name-only", f"{RESCUE}R1").split()
    assert names == ["READ.md", "staged.txt"]


def test_what_only_the_index_holds_is_kept(agent: Agent) -> None:
    (agent.path / "staged.txt").write_text("precious")
    sh(agent.path, "add", "staged.txt")
    (agent.path / "staged.txt").unlink()
    agent.end()
    assert kept_text(agent.repo, "precious")


IN_A_SUBMODULE = "{ echo 'error: status died of signal 9' >&2; exit 128; }"


@pytest.mark.parametrize(
    ("command", "death"),
    [
        *((each, "kill -9 $$") for each in ("write-tree", "add", "commit-tree", "update-index")),
        ("add", IN_A_SUBMODULE),
        ("status", IN_A_SUBMODULE),
    ],
)
def test_a_git_that_is_killed_while_changes_are_kept_begins_again(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, death: str
) -> None:
    agent.begin()
    (agent.path / "new.txt").write_text("precious\n")
    sh(agent.path, "add", "new.txt")
    sh(agent.path, "update-index", "--assume-unchanged", "new.txt")
    git, programs, alive = shutil.which("git"), tmp_path / "bin", tmp_path / "alive"
    programs.mkdir()
    alive.touch()
    killed = f'case " $* " in *" {command} "*) rm "{alive}" 2>/dev/null && {death};; esac'
    (programs / "git").write_text(f'#!/bin/sh\n{killed}\nexec "{git}" "$@"\n')
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    assert agent.end() is not None
    assert not alive.exists()
    assert kept_text(agent.repo, "precious")
    assert not list(agent.path.parent.glob("*set-aside*"))


@pytest.mark.parametrize("fails", ["add", "status"])
def test_a_full_disk_sets_no_worktree_aside(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """With space, git keeps the same content; what was set aside, a person must delete."""
    (agent.path / "new.txt").write_text("precious\n")
    full = disk.Shortage("disk_full", "no space is left", "free some")
    monkeypatch.setattr(disk, "shortage", lambda folder: full)
    broken = agent.path / ".gitattributes"
    if fails == "add":
        broken.write_text("*.txt working-tree-encoding=UTF-16\n")
    else:
        broken = agent.git_folder / "index"
        whole = broken.read_bytes()
        broken.write_bytes(b"damaged")
    with pytest.raises(GitError):
        agent.end()
    assert not list(agent.path.parent.glob("*set-aside*"))
    if fails == "add":
        broken.unlink()
    else:
        broken.write_bytes(whole)
    assert sh(agent.repo, "show", f"{agent.end()}:new.txt") == "precious"


def test_a_branch_below_the_tasks_branch_is_named_and_stops_only_this_task(agent: Agent) -> None:
    agent.begin()
    sh(agent.path, "checkout", "--quiet", "--detach")
    sh(agent.path, "branch", "--delete", "--force", BRANCH)
    sh(agent.path, "branch", f"{BRANCH}/inner")
    made = commit(agent.path)
    assert agent.end() == f"{RESCUE}R1"
    assert rescued(agent.repo) == {"R1": made}
    with pytest.raises(task_branch.BranchHeld, match=f"cannot exist beside {BRANCH}/inner"):
        agent.begin()
    agent.begin("agent/T2-next")
    sh(agent.repo, "branch", "-m", f"{BRANCH}/inner", "other")
    agent.begin()


@pytest.mark.parametrize("text", [None, "edited\n"])
def test_a_first_checkout_that_was_killed_deletes_no_file(agent: Agent, text: str | None) -> None:
    """Git writes the index last. A rescue of the missing files would hold nothing of anybody."""
    [name, *_] = sh(agent.path, "ls-files").split()
    whole = (agent.path / name).read_text()
    (agent.git_folder / "index").unlink()
    (agent.path / name).unlink()
    if text is not None:
        (agent.path / name).write_text(text)
    ref = agent.end()
    assert (ref is not None) is (text is not None)
    if ref is not None:
        assert sh(agent.repo, "show", f"{ref}:{name}") == "edited"
    assert (agent.path / name).read_text() == whole


def test_ignored_files_stay_where_they_are(agent: Agent) -> None:
    commit(agent.path, ".gitignore", "node_modules/\n")
    (agent.path / "node_modules").mkdir()
    (agent.path / "node_modules" / "x").write_text("installed")
    (agent.path / "new.txt").write_text("precious")
    agent.end()
    agent.begin()
    assert (agent.path / "node_modules" / "x").exists()
    assert not (agent.path / "new.txt").exists()


def test_the_human_next_door_sees_nothing_of_a_rescue(agent: Agent) -> None:
    (agent.repo / "README.md").write_text("mine, unsaved\n")
    (agent.repo / "note.txt").write_text("mine, new\n")
    sh(agent.repo, "add", "note.txt")
    before = (sh(agent.repo, "status", "--porcelain=v2", "--branch"), head(agent.repo))
    (agent.path / "new.txt").write_text("precious")
    agent.end()
    agent.begin()
    assert (sh(agent.repo, "status", "--porcelain=v2", "--branch"), head(agent.repo)) == before
    assert (agent.repo / "README.md").read_text() == "mine, unsaved\n"


def test_commits_on_a_detached_head_move_the_branch_forward(agent: Agent) -> None:
    sh(agent.path, "checkout", "--quiet", "--detach")
    tip = commit(agent.path)
    assert agent.end() is None
    assert head(agent.repo, BRANCH) == tip


def test_a_branch_that_an_agent_made_symbolic_does_not_move_the_persons(agent: Agent) -> None:
    before = head(agent.repo, "main")
    sh(agent.path, "checkout", "--quiet", "--detach")
    sh(agent.path, "symbolic-ref", f"refs/heads/{BRANCH}", "refs/heads/main")
    work = commit(agent.path)
    agent.end()
    assert (head(agent.repo, BRANCH), head(agent.repo, "main")) == (work, before)


def test_commits_on_another_branch_of_the_agents_move_the_tasks_branch_forward(
    agent: Agent,
) -> None:
    sh(agent.path, "checkout", "--quiet", "-b", "feature/own-idea")
    tip = commit(agent.path)
    assert agent.end() is None
    assert head(agent.repo, BRANCH) == head(agent.repo, "feature/own-idea") == tip


def test_detached_commits_that_do_not_continue_the_branch_are_rescued(agent: Agent) -> None:
    tip = commit(agent.path)
    sh(agent.path, "checkout", "--quiet", "--detach", "main")
    lonely = commit(agent.path, "other.txt")
    assert agent.end() == f"{RESCUE}R1"
    assert head(agent.repo, BRANCH) == tip
    assert rescued(agent.repo) == {"R1": lonely}


def test_detached_commits_and_changes_on_top_of_them_are_both_reachable(agent: Agent) -> None:
    commit(agent.path)
    sh(agent.path, "checkout", "--quiet", "--detach", "main")
    lonely = commit(agent.path, "other.txt")
    (agent.path / "new.txt").write_text("precious")
    agent.end()
    refs = rescued(agent.repo)
    assert all(repository.is_on_a_ref(str(agent.repo), c) for c in (lonely, *refs.values()))
    assert kept_text(agent.repo, "precious")


def test_without_a_branch_of_its_own_a_runs_commits_are_rescued(ignored: Path) -> None:
    pm = Agent(ignored, "pm")
    pm.begin(branch=None)
    lonely = commit(pm.path)
    assert pm.end(branch=None) == f"{RESCUE}R1"
    assert rescued(ignored) == {"R1": lonely}


def test_a_rescue_ref_is_never_overwritten(agent: Agent) -> None:
    for number in range(3):
        (agent.path / "new.txt").write_text(f"precious {number}")
        agent.end()
        agent.begin()
    assert sorted(rescued(agent.repo)) == ["R1", "R1-2", "R1-3"]
    assert all(kept_text(agent.repo, f"precious {number}") for number in range(3))


def test_a_rescue_repeated_after_a_crash_makes_the_same_or_another_ref_and_loses_none(
    agent: Agent,
) -> None:
    (agent.path / "new.txt").write_text("precious")
    worktree.preserve(str(agent.path), BRANCH, "R1")
    worktree.preserve(str(agent.path), BRANCH, "R1")
    agent.end()
    assert "R1" in rescued(agent.repo)
    assert kept_text(agent.repo, "precious")


# --- what agents leave in a mess ---------------------------------------------------------------


def _conflict(agent: Agent) -> str:
    tip = commit(agent.path, "README.md", "theirs\n")
    commit(agent.repo, "README.md", "ours\n")
    return tip


def _rebase(agent: Agent) -> str:
    tip = _conflict(agent)
    subprocess.run(("git", "rebase", "--quiet", "main"), cwd=agent.path, capture_output=True)
    assert (agent.git_folder / "rebase-merge").exists()
    return tip


def _merge(agent: Agent) -> str:
    tip = _conflict(agent)
    subprocess.run(("git", "merge", "--quiet", "main"), cwd=agent.path, capture_output=True)
    assert (agent.git_folder / "MERGE_HEAD").exists()
    return tip


def _cherry_pick(agent: Agent) -> str:
    tip = _conflict(agent)
    subprocess.run(("git", "cherry-pick", "main"), cwd=agent.path, capture_output=True)
    assert (agent.git_folder / "CHERRY_PICK_HEAD").exists()
    return tip


def _sequence(agent: Agent) -> str:
    commit(agent.repo, "README.md", "ours\n")
    commit(agent.repo, "more.txt")
    tip = commit(agent.path, "README.md", "theirs\n")
    words = ("git", "cherry-pick", "main~2..main")
    subprocess.run(words, cwd=agent.path, capture_output=True)
    assert (agent.git_folder / "sequencer").exists()
    return tip


def _squash(agent: Agent) -> str:
    tip = commit(agent.path)
    commit(agent.repo, "more.txt")
    sh(agent.path, "merge", "--quiet", "--squash", "main")
    assert (agent.git_folder / "SQUASH_MSG").exists()
    return tip


def _broken_rebase(agent: Agent) -> str:
    tip = commit(agent.path)
    (agent.git_folder / "rebase-merge").mkdir()
    return tip


def _bisect(agent: Agent) -> str:
    for number in range(4):
        tip = commit(agent.path, text=f"{number}\n")
    sh(agent.path, "bisect", "start", "HEAD", "main")
    assert (agent.git_folder / "BISECT_START").exists()
    return tip


MESSES = [_rebase, _merge, _cherry_pick, _sequence, _squash, _broken_rebase, _bisect]


@pytest.mark.parametrize("make", MESSES)
@pytest.mark.parametrize("name", ["impl", "impl-2"])
def test_an_operation_left_half_done_neither_holds_the_branch_nor_the_next_run(
    agent: Agent, make: Callable[[Agent], str], name: str
) -> None:
    tip = make(agent)
    (agent.path / "half.txt").write_text("precious")
    agent.end()
    following = Agent(agent.repo, name)
    following.begin()
    assert worktree_commands.state(str(following.path)) == (tip, BRANCH, False)
    said = sh(following.path, "status")
    assert not any(word in said for word in ("rebas", "bisect", "cherry-pick", "merging"))
    left = {each.name for each in following.git_folder.iterdir()}
    assert left.isdisjoint(("sequencer", "rebase-merge", "MERGE_MSG", "SQUASH_MSG", "AUTO_MERGE"))
    assert kept_text(agent.repo, "precious")


def test_what_a_rebase_had_put_away_for_later_is_kept(agent: Agent) -> None:
    _conflict(agent)
    (agent.path / "new.txt").write_text("precious")
    sh(agent.path, "add", "new.txt")
    words = ("git", "rebase", "--quiet", "--autostash", "main")
    subprocess.run(words, cwd=agent.path, capture_output=True)
    assert not (agent.path / "new.txt").exists()
    agent.end()
    agent.begin()
    sh(agent.repo, "gc", "--quiet", "--prune=now")
    assert kept_text(agent.repo, "precious")


def test_a_branch_without_any_commit_does_not_stop_the_next_run(agent: Agent) -> None:
    tip = commit(agent.path)
    sh(agent.path, "checkout", "--quiet", "--orphan", "fresh-start")
    (agent.path / "new.txt").write_text("precious")
    agent.end()
    agent.begin()
    assert worktree_commands.state(str(agent.path)) == (tip, BRANCH, False)
    assert kept_text(agent.repo, "precious")


@pytest.mark.parametrize("commits", [0, 1])
def test_a_repository_made_inside_the_worktree_is_not_lost(agent: Agent, commits: int) -> None:
    inner = agent.path / "inner"
    inner.mkdir()
    sh(inner, "init", "--quiet")
    for number in range(commits):
        (inner / f"{number}.txt").write_text("committed")
        sh(inner, "add", ".")
        sh(inner, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "x")
    (inner / "new.txt").write_text("precious")
    (agent.path / "beside.txt").write_text("beside")
    ref = agent.end()
    if commits:  # git adds nothing of a repository without a commit
        assert ref is not None, "the next prompt names the ref"
        names = sh(agent.repo, "diff", "--name-only", f"{ref}^", ref).splitlines()
        made = [f"inner/{number}.txt" for number in range(commits)]
        assert names == ["beside.txt", *made, "inner/new.txt"]
        [told] = agent.path.parent.glob("worktree.set-aside-*")
        assert aside.reason(str(told)) == "there is a repository inside the worktree"
    histories = list(agent.path.parent.glob("worktree.set-aside-*/inner/.git/HEAD"))
    assert len(histories) == 1, "the history is kept, too"
    agent.begin()
    assert worktree_commands.state(str(agent.path)).branch == BRANCH
    assert kept_text(agent.repo, "precious")


def test_git_finds_a_worktree_that_an_agent_made_inside_where_it_was_set_aside(
    agent: Agent,
) -> None:
    """Git deletes what it knows of a worktree that is gone, with the only name of its commits."""
    sh(agent.path, "worktree", "add", "--quiet", "--detach", "inner")
    tip = commit(agent.path / "inner")
    (agent.path / "inner" / "new.txt").write_text("precious")
    agent.end()
    agent.begin()
    sh(agent.repo, "worktree", "prune", "--expire=now")
    [inner] = agent.path.parent.glob("worktree.set-aside-*/inner")
    assert sh(inner, "status", "--porcelain").strip() == "?? new.txt"
    sh(agent.repo, "-c", "gc.reflogExpire=now", "gc", "--quiet", "--prune=now")
    assert sh(inner, "rev-parse", "HEAD").strip() == tip
    assert sh(inner, "fsck").strip() == ""


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_an_index_that_a_crash_spoilt_does_not_stop_the_next_run(
    agent: Agent, content: bytes
) -> None:
    (agent.path / "new.txt").write_text("precious")
    (agent.git_folder / "index").write_bytes(content)
    agent.end()
    agent.begin()
    assert worktree_commands.state(str(agent.path)).branch == BRANCH
    assert kept_text(agent.repo, "precious")


@pytest.mark.parametrize("lock", ["index.lock", "HEAD.lock", "../../rescue.index.lock", "branch"])
def test_a_lock_that_a_killed_git_left_stops_nothing(agent: Agent, lock: str) -> None:
    sh(agent.path, "checkout", "--quiet", "--detach")
    tip = commit(agent.path)
    (agent.path / "new.txt").write_text("precious")
    path = agent.git_folder / lock
    if lock == "branch":
        path = agent.repo / ".git" / "refs" / "heads" / f"{BRANCH}.lock"
    elif lock.startswith(".."):
        path = agent.path.with_name("rescue.index.lock")
    path.touch()
    old = time.time() - 3600
    os.utime(path, (old, old))
    agent.end()
    agent.begin()
    assert worktree_commands.state(str(agent.path)) == (tip, BRANCH, False)
    assert kept_text(agent.repo, "precious")


# --- taking up a branch ------------------------------------------------------------------------


@pytest.fixture
def lines(ignored: Path) -> dict[str, str]:
    """Commits: main; one and two in a row on it; other beside them."""
    made = {"main": head(ignored)}
    sh(ignored, "checkout", "--quiet", "--detach")
    made["one"] = commit(ignored, text="1\n")
    made["two"] = commit(ignored, text="2\n")
    sh(ignored, "checkout", "--quiet", "--detach", made["main"])
    made["other"] = commit(ignored, "other.txt")
    sh(ignored, "checkout", "--quiet", "main")
    return made


@pytest.mark.parametrize(
    ("ours", "theirs", "result"),
    [
        (None, None, "main"),
        (None, "one", "one"),
        ("one", None, "one"),
        ("one", "one", "one"),
        ("one", "two", "two"),
        ("two", "one", "two"),
        ("one", "other", "one"),
    ],
    ids=["nowhere", "remote only", "here only", "same", "behind", "ahead", "apart"],
)
def test_a_tasks_branch_is_taken_up_where_its_work_stands(
    ignored: Path, lines: dict[str, str], ours: str | None, theirs: str | None, result: str
) -> None:
    if ours:
        sh(ignored, "update-ref", f"refs/heads/{BRANCH}", lines[ours])
    agent = Agent(ignored)
    agent.begin(theirs=lines[theirs] if theirs else None)
    assert worktree_commands.state(str(agent.path)) == (lines[result], BRANCH, False)
    assert head(ignored, "main") == lines["main"]
    assert repository.current_branch(str(ignored)) == "main"


def test_a_run_that_was_killed_lets_the_next_agent_have_its_branch(agent: Agent) -> None:
    tip = commit(agent.path)
    (agent.path / "new.txt").write_text("precious")
    other = Agent(agent.repo, "impl-2")
    other.begin()
    assert worktree_commands.state(str(other.path)) == (tip, BRANCH, False)
    assert worktree_commands.state(str(agent.path)) == (tip, None, True)
    assert (agent.path / "new.txt").read_text() == "precious"


def test_a_finished_run_leaves_the_branch_to_any_agent(agent: Agent) -> None:
    tip = commit(agent.path)
    agent.end()
    assert worktree_list.holder_of(str(agent.repo), BRANCH) is None
    for name in ("impl-2", "impl"):
        other = Agent(agent.repo, name)
        other.begin()
        assert worktree_commands.state(str(other.path)) == (tip, BRANCH, False)
        other.end()


def test_a_branch_that_the_person_has_checked_out_is_refused_by_name(
    agent: Agent, tmp_path: Path
) -> None:
    agent.end()
    sh(agent.repo, "checkout", "--quiet", BRANCH)
    with pytest.raises(task_branch.BranchHeld) as refused:
        agent.begin()
    assert BRANCH in refused.value.message
    assert str(agent.repo) in refused.value.message
    assert repository.current_branch(str(agent.repo)) == BRANCH
    sh(agent.repo, "checkout", "--quiet", "main")
    linked = tmp_path / "look"
    sh(agent.repo, "worktree", "add", "--quiet", str(linked), BRANCH)
    with pytest.raises(task_branch.BranchHeld):
        agent.begin()
    assert repository.current_branch(str(linked)) == BRANCH


def test_a_persons_worktree_that_no_longer_exists_holds_no_branch(
    agent: Agent, tmp_path: Path
) -> None:
    agent.end()
    linked = tmp_path / "look"
    sh(agent.repo, "worktree", "add", "--quiet", str(linked), BRANCH)
    shutil.rmtree(linked)
    agent.begin()
    assert worktree_commands.state(str(agent.path)).branch == BRANCH


def test_no_worktree_of_the_persons_is_forgotten_while_its_disk_is_not_mounted(
    agent: Agent, tmp_path: Path
) -> None:
    elsewhere = [tmp_path / name for name in ("disk", "locked")]
    for linked in elsewhere:
        sh(agent.repo, "worktree", "add", "--quiet", "--detach", str(linked))
        (linked / "only.txt").write_text(linked.name)
        sh(linked, "add", "only.txt")
        sh(linked, "commit", "--quiet", "-m", "only here")
    sh(agent.repo, "worktree", "lock", str(elsewhere[1]))
    heads = [sh(linked, "rev-parse", "HEAD") for linked in elsewhere]
    for linked in elsewhere:
        linked.rename(f"{linked}.unmounted")
    worktree_commands.forget(str(agent.repo), str(elsewhere[1]))
    aside.replace(str(agent.path))
    worktree.remove(str(agent.repo), str(agent.path))
    for linked in elsewhere:
        Path(f"{linked}.unmounted").rename(linked)
    assert [sh(linked, "rev-parse", "HEAD") for linked in elsewhere] == heads
    assert str(agent.path) not in sh(agent.repo, "worktree", "list")


def test_a_branch_in_a_rebase_of_the_persons_is_refused_by_name(
    agent: Agent, tmp_path: Path
) -> None:
    sh(agent.path, "commit", "--quiet", "--allow-empty", "-m", "work")
    agent.end()
    linked = tmp_path / "look"
    sh(agent.repo, "worktree", "add", "--quiet", str(linked), BRANCH)
    rebase_halfway(linked)
    with pytest.raises(task_branch.BranchHeld, match=str(linked)):
        agent.begin()


def test_a_rebase_of_another_agent_that_died_holds_no_branch(agent: Agent) -> None:
    sh(agent.path, "commit", "--quiet", "--allow-empty", "-m", "work")
    made = head(agent.path)
    rebase_halfway(agent.path)
    other = Agent(agent.repo, "other")
    other.begin()
    assert worktree_commands.state(str(other.path)) == (made, BRANCH, False)


def rebase_halfway(checkout: Path) -> None:
    command = ("git", "rebase", "--quiet", "--keep-empty", "-x", "false", "HEAD~1")
    assert subprocess.run(command, cwd=checkout, capture_output=True, check=False).returncode


# --- .worktreeinclude --------------------------------------------------------------------------


def include(agent: Agent, patterns: str) -> list[str]:
    (agent.repo / ".worktreeinclude").write_text(patterns)
    return sorted(worktree.bring_included(str(agent.repo), str(agent.path)))


def test_ignored_files_that_are_named_are_brought_along_and_nothing_else(agent: Agent) -> None:
    repo = agent.repo
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n.env*\nsecrets/\n")
    (repo / ".env").write_text("A=1")
    (repo / ".env.other").write_text("B=2")
    (repo / "secrets" / "deep").mkdir(parents=True)
    for name in (*NAMES, "deep/key.pem"):
        (repo / "secrets" / name).write_text(name)
    (repo / "untracked.txt").write_text("not ignored")
    (repo / ".env").chmod(0o600)
    brought = include(agent, ".env\nsecrets/\nuntracked.txt\nREADME.md\n.orchestrator/\n")
    assert brought == sorted([".env", *(f"secrets/{n}" for n in (*NAMES, "deep/key.pem"))])
    assert (agent.path / ".env").read_text() == "A=1"
    assert (agent.path / ".env").stat().st_mode & 0o777 == 0o600
    assert not (agent.path / "untracked.txt").exists()
    assert (agent.path / "secrets" / "new\nline").read_text() == "new\nline"


def test_a_file_that_is_there_already_is_not_overwritten(agent: Agent) -> None:
    (agent.repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n.env\n")
    (agent.repo / ".env").write_text("the person's")
    (agent.path / ".env").write_text("the agent's")
    assert include(agent, ".env\n") == []
    assert (agent.path / ".env").read_text() == "the agent's"


def test_no_pattern_and_no_link_brings_a_file_from_outside(agent: Agent, tmp_path: Path) -> None:
    (agent.repo / ".git" / "info" / "exclude").write_text(".orchestrator/\nlink\n.env\n")
    (tmp_path / "secret").write_text("outside")
    (agent.repo / "link").symlink_to(tmp_path / "secret")
    assert include(agent, "link\n../secret\n/etc/passwd\n") == []
    (agent.repo / ".worktreeinclude").unlink()
    (agent.repo / ".env").write_text("A=1")
    (agent.repo / ".worktreeinclude").symlink_to(tmp_path / "secret")
    assert worktree.bring_included(str(agent.repo), str(agent.path)) == []


def test_no_link_in_the_agents_branch_lets_a_file_out_of_the_worktree(
    agent: Agent, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (agent.path / "conf").symlink_to(outside)
    sh(agent.path, "add", "conf")
    sh(agent.path, "commit", "--quiet", "--message", "A link")
    (agent.repo / ".git" / "info" / "exclude").write_text(".orchestrator/\nconf/\n")
    (agent.repo / "conf").mkdir()
    (agent.repo / "conf" / ".env").write_text("A=1")
    include(agent, "conf/\n")
    assert list(outside.iterdir()) == []


def test_without_the_file_nothing_is_brought(agent: Agent) -> None:
    assert worktree.bring_included(str(agent.repo), str(agent.path)) == []
    assert include(agent, "# nothing\n\n") == []


# --- letting a branch go -------------------------------------------------------------------------


def test_head_lets_its_branch_go_as_git_would(agent: Agent) -> None:
    path = str(agent.path)
    commit(agent.path)
    at = head(agent.path)
    assert worktree_commands.let_go(path, at)
    assert worktree_commands.state(path) == (at, None, False)
    assert sh(agent.path, "rev-parse", BRANCH) == at
    assert worktree_commands.let_go(path, at)


def test_a_run_that_ends_without_a_checkout_leaves_no_lock_of_a_killed_git(agent: Agent) -> None:
    commit(agent.path)
    lock = Path(worktree_commands.own_folder(str(agent.path)) or "", "index.lock")
    lock.touch()
    at = head(agent.path)
    worktree.detach(str(agent.path), at, at)
    assert not lock.exists()
    assert worktree_commands.state(str(agent.path)).branch is None


def test_git_has_to_detach_where_the_files_do_not_say_it_plainly(agent: Agent) -> None:
    path, own = str(agent.path), worktree_commands.own_folder(str(agent.path))
    at, before = head(agent.path), sh(agent.path, "rev-parse", f"{BRANCH}~0")
    assert not worktree_commands.let_go(path, "1" * 40)  # the branch is elsewhere
    for name in ("HEAD.lock", "index.lock"):
        lock = Path(own or "", name)
        lock.touch()
        assert not worktree_commands.let_go(path, at)
        lock.unlink()
    sh(agent.path, "pack-refs", "--all")
    assert not worktree_commands.let_go(path, at)
    assert worktree_commands.state(path).branch == BRANCH
    assert sh(agent.path, "rev-parse", BRANCH) == before


def test_a_link_in_the_place_of_a_branchs_log_is_removed_and_what_it_leads_to_stays(
    agent: Agent, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("a person's\n")
    log = agent.repo / ".git" / "logs" / "refs" / "heads" / BRANCH
    agent.end()
    log.unlink(missing_ok=True)
    log.symlink_to(theirs)
    agent.begin()
    assert not log.is_symlink()
    assert theirs.read_text() == "a person's\n"
    log.write_text("git's own\n")
    task_branch.unlink_log(str(agent.repo / ".git"), BRANCH)
    assert log.read_text() == "git's own\n"
