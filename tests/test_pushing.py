"""What is remembered of the branches of tasks, and what follows from it. With real repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import git as sh

from orchestrator.git import (
    base_branch,
    remote_pair,
    remotes,
    repository,
    task_branch,
    work_branch,
    worktree,
)
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import ConfigError, SystemFault
from orchestrator.model.snapshot import Hold, Problem
from orchestrator.model.work import Entry, Task
from orchestrator.project import faults
from orchestrator.tasks import history, task_file

BRANCH = "agent/T1-fix"
OTHER = "refs/heads/agent/T2-other"


def commit(repo: Path, name: str) -> str:
    (repo / name).write_text(f"{name}\n")
    sh(repo, "add", "--all", "--", name)
    sh(repo, "commit", "--quiet", "--message", f"Write {name}")
    return sh(repo, "rev-parse", "HEAD")


@pytest.fixture
def remote(repo: Path, tmp_path: Path) -> Path:
    bare = tmp_path / "remote.git"
    sh(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    sh(repo, "remote", "add", "origin", str(bare))
    return bare


def update_hook(remote: Path, text: str) -> None:
    path = remote / "hooks" / "update"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


# --- the memory ----------------------------------------------------------------------------------


def test_only_the_very_commit_that_the_product_pushed_may_be_replaced(repo: Path) -> None:
    root = str(repo)
    mine, other = commit(repo, "mine"), commit(repo, "other")
    assert not work_branch.known(root, BRANCH).may_replace(root, mine, other)
    work_branch.remember(root, BRANCH, mine)
    known = work_branch.known(root, BRANCH)
    assert known.may_replace(root, mine, other)
    assert not known.may_replace(root, other, mine)


def test_no_commit_of_others_is_dropped_with_a_commit_of_the_product(repo: Path) -> None:
    root, base = str(repo), sh(repo, "rev-parse", "HEAD")
    theirs = commit(repo, "theirs")
    work_branch.remember_others(root, BRANCH, theirs)
    mine = commit(repo, "mine")
    work_branch.remember(root, BRANCH, mine)
    sh(repo, "reset", "--quiet", "--hard", theirs)
    keeps = commit(repo, "keeps")
    sh(repo, "reset", "--quiet", "--hard", base)
    drops = commit(repo, "drops")
    known = work_branch.known(root, BRANCH)
    assert known.may_replace(root, mine, keeps)
    assert not known.may_replace(root, mine, drops)


def test_a_delivery_in_the_history_counts_beside_what_is_remembered(repo: Path) -> None:
    root, head = str(repo), commit(repo, "mine")
    entries = [
        Entry("2024-01-01T00:00:00Z", "done", {"head": "a" * 40, "branch": BRANCH}),
        Entry("2024-01-02T00:00:00Z", "done", {"head": head, "branch": BRANCH}),
        Entry("2024-01-03T00:00:00Z", "done", {"head": "b" * 40, "branch": "another"}),
        Entry("2024-01-04T00:00:00Z", "review", {"head": "c" * 40, "verdict": "approved"}),
    ]
    assert history.delivered(entries, BRANCH) == head
    assert work_branch.known(root, BRANCH, head).own == {head}
    before = sh(repo, "rev-parse", "HEAD~1")
    work_branch.remember(root, BRANCH, before)
    assert work_branch.known(root, BRANCH, head).own == {head, before}


def test_a_branch_is_forgotten_alone_or_with_all_others(repo: Path) -> None:
    root, head = str(repo), commit(repo, "mine")
    for name in (BRANCH, f"{BRANCH}-2", "bots/T2"):
        work_branch.remember(root, name, head)
        work_branch.remember_others(root, name, head)
    work_branch.forget(root, [BRANCH])
    assert work_branch.known(root, BRANCH) == (set(), None)
    assert sorted(repository.refs(root, work_branch.OWN)) == [
        f"{work_branch.OWN}{name}" for name in (f"{BRANCH}-2", "bots/T2")
    ]
    work_branch.forget(root)
    assert repository.refs(root, "refs/orchestrator/") == {}


# --- the branch here -----------------------------------------------------------------------------


@pytest.fixture
def diverged(repo: Path) -> tuple[str, str]:
    """The commits of a branch here and at the remote, which have diverged."""
    base = sh(repo, "rev-parse", "HEAD")
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    ours = commit(repo, "ours")
    sh(repo, "branch", BRANCH)
    sh(repo, "reset", "--quiet", "--hard", base)
    theirs = commit(repo, "theirs")
    sh(repo, "reset", "--quiet", "--hard", base)
    return ours, theirs


@pytest.mark.parametrize("rescue", ["refs/orchestrator/rescue/R2-replaced", None])
def test_a_branch_moves_to_commits_of_others_only_with_its_own_kept(
    repo: Path, diverged: tuple[str, str], rescue: str | None
) -> None:
    root, path = str(repo), str(repo / ".orchestrator" / "agents" / "a" / "worktree")
    ours, theirs = diverged
    worktree.ensure(root, path, "HEAD")
    for _ in range(2):  # a preparation that was killed is repeated
        here = repository.resolve(root, f"refs/heads/{BRANCH}")
        task_branch.take_up(root, path, BRANCH, "HEAD", here, theirs, rescue)
    assert sh(Path(path), "rev-parse", "HEAD") == (theirs if rescue else ours)
    kept = repository.refs(root, repository.RESCUE)
    assert kept == ({rescue: ours} if rescue else {})


# --- the push ------------------------------------------------------------------------------------


def test_a_push_of_a_new_branch_replaces_no_branch_that_appeared_meanwhile(
    remote: Path, repo: Path
) -> None:
    root, first = str(repo), commit(repo, "first")
    second = commit(repo, "second")
    assert remotes.push(root, "origin", first, BRANCH, "") is None
    refusal = remotes.push(root, "origin", second, BRANCH, "")
    assert refusal
    assert "stale info" in refusal
    assert remotes.tips(root, "origin", [BRANCH]) == {BRANCH: first}


@pytest.mark.parametrize(
    "said",
    [
        "fatal: unable to access 'https://x/y.git/': The requested URL returned error: 403",
        "git@github.com: Permission denied (publickey).",
        "ERROR: Permission to owner/repo.git denied to someone.",
        "remote: Write access to repository not granted.",
    ],
)
def test_a_remote_that_refuses_the_account_is_a_fault(
    remote: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "{said}" >&2; exit 128\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    sh(repo, "remote", "set-url", "origin", "ssh://git@example.invalid/x.git")
    with pytest.raises(SystemFault) as fault:
        remotes.push(str(repo), "origin", commit(repo, "x"), BRANCH)
    assert fault.value.code == "remote_refuses"
    assert said.partition(":")[2].strip()[:30] in fault.value.message


@pytest.mark.parametrize("said", ["No space left on device", "hook died of signal 9"])
def test_a_hook_that_lacks_something_is_no_refusal(remote: Path, repo: Path, said: str) -> None:
    update_hook(remote, f"echo '{said}' >&2; exit 1")
    with pytest.raises(SystemFault):
        remotes.push(str(repo), "origin", commit(repo, "x"), BRANCH)


def test_a_remote_on_this_disk_reads_no_other_branch_of_agents(repo: Path, remote: Path) -> None:
    """Its git would read the commits of all of them. The branches of people are read as before."""
    first, second = commit(repo, "first"), commit(repo, "second")
    sh(repo, "push", "--quiet", "origin", f"{first}:refs/heads/main", f"{first}:{OTHER}")
    shown = remote.parent / "shown"
    asked = "receive.hiderefs|core.alternaterefscommand"
    update_hook(remote, f'git config --get-regexp "{asked}" | cut -d" " -f2- >"{shown}"')
    branch = "agent/it's-fixed"
    assert remotes.push(str(repo), "origin", second, branch, "") is None
    hidden = ["refs/heads/agent/", f"!refs/heads/{branch}"]
    assert shown.read_text().split() == [*hidden, "true"]
    # Git passes over the branch of another agent here that nothing can be read of.
    (remote / OTHER).write_text(f"{'1' * 40}\n")
    assert remotes.push(str(repo), "origin", second, "agent/T3", "") is None
    sh(remote, "update-ref", "-d", "refs/heads/agent/T3")
    sh(remote, "update-ref", "--no-deref", OTHER, first)
    # A lease sees the branch that is pushed, and one beside it, in folders that are hidden.
    beside = remotes.Beside(branch, second, is_dropped=True)
    assert remotes.push(str(repo), "origin", second, "releases/1", "", beside) is None
    assert sh(remote, "for-each-ref", "--format=%(refname)").split() == [
        OTHER,
        "refs/heads/main",
        "refs/heads/releases/1",
    ]
    # Of a repository whose objects the remote shares, git must see all refs.
    (remote / "objects/info/alternates").write_text(f"{repo}/.git/objects\n")
    assert remotes.push(str(repo), "origin", second, branch, "") is None
    assert shown.read_text().split() == hidden
    assert remotes.push(str(repo), "origin", second, "main", first) is None
    assert shown.read_text() == ""


def test_one_push_in_sixteen_to_a_remote_on_this_disk_lets_it_pack(
    repo: Path, remote: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    # Where the setting comes from: a person's own files may have it, too.
    asked = "git config --show-scope --default true --get receive.autogc"
    update_hook(remote, f'{asked} | cut -c1-7 >>"{trace}"')
    tree = sh(repo, "rev-parse", "HEAD^{tree}")
    made = (sh(repo, "commit-tree", "-m", str(number), tree) for number in range(500))
    for is_looked_after, branch in ((False, "agent/1"), (True, "agent/2")):
        chosen = next(each for each in made if each.endswith("0") == is_looked_after)
        assert remotes.push(str(repo), "origin", chosen, branch, "") is None
    scopes = trace.read_text().split("\n")
    assert [scope == "command" for scope in scopes[:2]] == [True, False]


# --- the base branch -----------------------------------------------------------------------------


def test_a_base_branch_that_is_gone_is_a_fault_with_the_way_out(remote: Path, repo: Path) -> None:
    root = str(repo)
    fault = base_branch.gone(root, "origin", "main")
    assert "is empty" in fault.message
    assert fault.hint == "git push -u origin main"
    sh(repo, "push", "--quiet", "origin", "HEAD:refs/heads/trunk")
    fault = base_branch.gone(root, "origin", "main")
    assert fault.code == "base_gone"
    assert "trunk" not in str(fault.hint), "HEAD points nowhere"
    sh(remote, "symbolic-ref", "HEAD", "refs/heads/trunk")
    fault = base_branch.gone(root, "origin", "main")
    assert "orchestrator init --base trunk" in str(fault.hint)


# --- names ---------------------------------------------------------------------------------------


def test_the_folders_of_a_name_are_names_that_no_branch_may_have() -> None:
    assert work_branch.parents_of("agent/T1") == ["agent"]
    assert work_branch.parents_of("bots/x/T1") == ["bots", "bots/x"]
    assert work_branch.parents_of("T1") == []


def test_a_fetch_watches_names_without_fetching_them_and_forgets_stale_ones(
    remote: Path, repo: Path
) -> None:
    head = sh(repo, "rev-parse", "HEAD")
    sh(repo, "push", "--quiet", "origin", "HEAD:refs/heads/agent", "HEAD:refs/heads/main")
    sh(repo, "update-ref", "-d", "refs/remotes/origin/agent")
    pair = remote_pair.find(str(repo), Config())
    found = remote_pair.fetch(Layout(str(repo)), pair, ["main"], [BRANCH], watched=["agent"])
    assert found == {"agent": head, "main": head}
    assert repository.resolve(str(repo), "refs/remotes/origin/agent") is None
    sh(repo, "update-ref", "refs/remotes/origin/agent", head)
    sh(remote, "update-ref", "-d", "refs/heads/agent")
    sh(remote, "update-ref", f"refs/heads/{BRANCH}", head)
    found = remote_pair.fetch(Layout(str(repo)), pair, ["main"], [BRANCH], watched=["agent"])
    assert found == {"main": head, BRANCH: head}
    assert repository.resolve(str(repo), f"refs/remotes/origin/{BRANCH}") == head


@pytest.mark.parametrize(
    ("prefix", "good"),
    [
        ("agent/", True),
        ("bots/claude/", True),
        ("wip-", True),
        ("", False),
        ("/x", False),
        ("-x", False),
        (".x", False),
        ("a b/", False),
        ("a..", False),
        ("a//", False),
        ("a*", False),
        ("a.lock/", False),
        ("x" * 51, False),
    ],
)
def test_a_prefix_is_what_a_branch_may_begin_with(
    repo: Path, parse: Callable[[str], Config], prefix: str, good: bool
) -> None:
    text = f"branch_prefix: '{prefix}'\nagents: []\n"
    if not good:
        with pytest.raises(ConfigError, match="branch_prefix"):
            parse(text)
        return
    assert parse(text).branch_prefix == prefix
    name = task_file.branch_name("T1", "Fix it", prefix)
    assert name == f"{prefix}T1-fix-it"
    assert sh(repo, "check-ref-format", "--branch", name) == name


@pytest.fixture
def parse() -> Callable[[str], Config]:
    from orchestrator.config import keys

    return lambda text: keys.parse(text)


def test_only_the_claim_that_names_the_former_branch_gives_a_task_another() -> None:
    def claim(run: str, **fields: str) -> Entry:
        return Entry("2024-01-01T00:00:00Z", "claimed", {"agent": "a", "run": run, **fields})

    task = Task("T1", "T", "implement", "claimed", "")
    first = claim("r1", branch="agent/T1")
    assert history.fold([first, claim("r2", branch="x/T1")], task).work_branch == "agent/T1"
    renamed = claim("r3", branch="x/T1", former="agent/T1")
    assert history.fold([first, renamed], task).work_branch == "x/T1"
    assert history.fold([first, renamed, renamed], task).work_branch == "x/T1"
    assert history.claims([first, renamed]) == [("a", "r3", "agent/T1"), ("a", "r1", None)]


def test_a_fault_with_a_name_of_its_own_is_a_problem_of_that_name() -> None:
    hold = Hold("system_fault", "base_gone: it is gone", "a hint", 0.0)
    for name in (
        *("base_gone", "branch_in_the_way", "config_error", "git_lfs_failed", "git_lfs_missing"),
        *("instructions_committed", "lock_held", "remote_refuses", "submodule_missing"),
    ):
        found = faults.hold_problem(hold._replace(message=f"{name}: it is gone"))
        assert found == Problem(name, "it is gone", "a hint")
    hold = hold._replace(message="remote_unreachable: no route")
    assert faults.hold_problem(hold) == Problem(
        "system_fault", "remote_unreachable: no route", "a hint"
    )
