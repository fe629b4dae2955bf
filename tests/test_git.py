"""Real git, asked in a clean environment: nothing of the user's settings and hooks gets in."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import git as sh

from orchestrator.git import (
    base_branch,
    call,
    merges,
    project_root,
    remote_pair,
    remotes,
    repository,
    settings,
    submodule_changes,
    whole_state,
    work_branch,
    worktree_commands,
    worktree_list,
)
from orchestrator.guard import client_environment
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import GitError, OrchestratorError, SystemFault
from orchestrator.system import process

PATH_KINDS = [
    "with space",
    "quo'te\"s",
    "-dash",
    "ünï ☃",
    "dollar $HOME",
    "semi;colon & co",
    "a\u2028b",
]


def commit(folder: Path, name: str = "file.txt", text: str = "text\n", message: str = "c") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    sh(folder, "add", "--all", "--", ".")
    sh(folder, "commit", "--quiet", "--no-verify", "--message", message)
    return sh(folder, "rev-parse", "HEAD")


def head(folder: Path, name: str = "HEAD") -> str:
    return sh(folder, "rev-parse", name)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# --- the environment ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GIT_DIR", "/nowhere/.git"),
        ("GIT_WORK_TREE", "/tmp"),
        ("GIT_INDEX_FILE", "/nowhere/index"),
        ("GIT_OBJECT_DIRECTORY", "/nowhere/objects"),
        ("GIT_COMMON_DIR", "/nowhere"),
        ("GIT_NAMESPACE", "elsewhere"),
        ("GIT_CEILING_DIRECTORIES", "/"),
        ("GIT_CONFIG_COUNT", "nonsense"),
        ("GIT_CONFIG_PARAMETERS", "'core.bare=true'"),
        ("GIT_CONFIG", "/nowhere"),
        ("GIT_EXTERNAL_DIFF", "/bin/false"),
        ("GIT_REDIRECT_STDOUT", "/nowhere/out"),
        ("GIT_TRACE", "1"),
        ("GIT_DEFAULT_HASH", "sha256"),
        ("GIT_LITERAL_PATHSPECS", "1"),
    ],
)
def test_a_callers_git_variables_do_not_reach_our_git(
    repo: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    expected = head(repo)
    monkeypatch.setenv(name, value)
    assert name not in client_environment.for_git(os.environ)
    assert call.ask(str(repo), "rev-parse", "HEAD") == expected
    assert worktree_commands.state(str(repo)) == (expected, "main", False)


def test_what_says_how_to_reach_a_remote_stays() -> None:
    base = {"GIT_SSH_COMMAND": "ssh -i key", "GIT_SSL_CAINFO": "/ca", "PATH": "/bin", "HOME": "/h"}
    assert base.items() <= client_environment.for_git(base).items()


@pytest.mark.parametrize("way", ["GIT_SSH_COMMAND", "core.sshCommand", "GIT_SSH", "global"])
def test_a_remote_is_reached_by_the_persons_own_ssh_command(
    remote: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for name in ("GIT_SSH", "GIT_SSH_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    other = script(tmp_path / "ssh", "echo 'not this one' >&2; exit 255")
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    # `-G` is git's question which kind of ssh this is; the last word is the command for the host.
    last = 'for word in "$@"; do last=$word; done'
    key = script(tmp_path / "with-key", f'[ "$1" = -G ] && exit; {last}; exec sh -c "$last"')
    if way.startswith("GIT"):
        monkeypatch.setenv(way, str(key))
    elif way == "global":
        sh(repo, "config", "--global", "core.sshCommand", str(key))
    else:
        sh(repo, "config", way, str(key))
    sh(repo, "remote", "set-url", "origin", f"ssh://host.invalid{remote}")
    fetched = base_branch.fetch(Layout(str(repo)), "origin", ["main"])
    assert fetched == {"main": head(repo)}
    assert remotes.push(str(repo), "origin", head(repo), "agent/x") is None
    assert remotes.tips(str(repo), "origin", ["agent/x"]) == {"agent/x": head(repo)}


def test_ssh_asks_nothing_unless_the_person_configured_another_command(
    remote: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    words = tmp_path / "words"
    ssh = script(tmp_path / "ssh", f'echo "$*" >>"{words}"; exit 255')
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    sh(repo, "remote", "set-url", "origin", "ssh://host.invalid/x.git")
    with pytest.raises(SystemFault):
        base_branch.fetch(Layout(str(repo)), "origin", ["main"])
    assert words.read_text().startswith("-oBatchMode=yes ")


def test_git_never_asks_a_question(repo: Path) -> None:
    clean = client_environment.for_git(
        {"GIT_ASKPASS": "/usr/bin/ask", "SSH_ASKPASS": "/usr/bin/ask"}
    )
    assert clean["GIT_TERMINAL_PROMPT"] == "0"
    assert clean["GIT_ASKPASS"] == clean["SSH_ASKPASS"] == "true"
    assert clean["GIT_EDITOR"] == "true"


HOOKS = [
    *("pre-commit", "post-commit", "commit-msg", "prepare-commit-msg", "pre-merge-commit"),
    *("post-checkout", "post-merge", "post-rewrite", "pre-push", "pre-auto-gc"),
    *("reference-transaction", "post-index-change"),
]


@pytest.fixture(params=["everywhere", "here"])
def hostile(repo: Path, tmp_path: Path, own_home: Path, request: pytest.FixtureRequest) -> Path:
    """A user whose settings sign, hook, watch and convert everything; returns what they leave."""
    marks = tmp_path / "marks"
    marks.mkdir()
    for hook in HOOKS:
        script(repo / ".git" / "hooks" / hook, f"touch {marks}/{hook}; exit 1")
        if hook != "reference-transaction":  # a remote on this machine runs it for itself
            script(tmp_path / "hooks" / hook, f"touch {marks}/{hook}; exit 1")
    loud = script(tmp_path / "loud", f"touch {marks}/loud; exit 1")
    settings = {
        **({"core.hooksPath": str(tmp_path / "hooks")} if request.param == "everywhere" else {}),
        "core.fsmonitor": str(loud),
        "core.editor": str(loud),
        "core.pager": str(loud),
        "core.askPass": str(loud),
        "gpg.program": str(loud),
        "commit.gpgSign": "true",
        "tag.gpgSign": "true",
        "push.gpgSign": "if-asked",
        "push.followTags": "true",
        "merge.verifySignatures": "true",
        "merge.ff": "only",
        "status.showUntrackedFiles": "no",
        "status.branch": "true",
        "fetch.prune": "true",
        "fetch.pruneTags": "true",
        "branch.autoSetupMerge": "always",
        "branch.autoSetupRebase": "always",
        "diff.external": str(loud),
        "color.ui": "always",
        "log.showSignature": "true",
        "submodule.recurse": "true",
    }
    config = own_home / ".gitconfig"
    for name, value in settings.items():
        subprocess.run(("git", "config", "--file", config, name, value), check=True)
    return marks


@pytest.fixture(autouse=True)
def clean_home(own_home: Path) -> Iterator[None]:
    config = own_home / ".gitconfig"
    before = config.read_text()
    yield
    # The home is the whole session's: the next test is not to have these settings.
    config.write_text(before)


def test_no_hook_signature_or_monitor_of_the_users_runs_on_our_bookkeeping(
    remote: Path, repo: Path, tmp_path: Path, hostile: Path
) -> None:
    root, path = str(repo), tmp_path / "worktree"
    base = repository.resolve(root, "main")
    assert base
    worktree_commands.add(root, str(path), base)
    worktree_commands.start_branch(str(path), "agent/x", base)
    (path / "new.txt").write_text("one\r\ntwo\n")
    assert worktree_commands.state(str(path)) == (base, "agent/x", True)
    kept = whole_state.commit_all(str(path), "Kept", str(tmp_path / "index"))
    repository.update_ref(root, "refs/orchestrator/rescue/r", kept)
    assert remotes.push(root, "origin", kept, "agent/x") is None
    assert base_branch.fetch(Layout(root), "origin", ["main", "agent/x"]) == {
        "main": base,
        "agent/x": kept,
    }
    worktree_commands.detach(str(path), base)
    worktree_commands.clean(str(path))
    assert isinstance(merges.join_in_worktree(str(path), base, kept, "merge", "A merge"), str)
    assert worktree_commands.state(str(path)).dirty is False
    worktree_commands.remove(root, str(path))
    assert list(hostile.iterdir()) == []
    assert (
        b"gpgsig" not in subprocess.run(("git", "cat-file", "-p", kept), cwd=repo, stdout=-1).stdout
    )


@pytest.mark.parametrize("was_shallow", [False, True])
def test_failure_41_history_that_an_agents_fetch_cut_off_comes_back_with_the_next_fetch(
    remote: Path, repo: Path, tmp_path: Path, was_shallow: bool
) -> None:
    """All worktrees share the cut: the base has nothing in common with work that began before."""
    old, base = commit(repo, "old.txt"), commit(repo, "base.txt")
    sh(repo, "push", "--quiet", "origin", "main")
    if was_shallow:
        sh(tmp_path, "clone", "--quiet", "--depth=1", f"file://{remote}", "shallow")
        repo = tmp_path / "shallow"
    clone = tmp_path / "colleague"
    sh(tmp_path, "clone", "--quiet", str(remote), str(clone))
    assert base_branch.fetch(Layout(str(repo)), "origin", ["main"]) == {"main": base}
    for key, value in (("user.name", "C"), ("user.email", "c@example.com")):
        sh(clone, "config", key, value)
    for number in range(2):
        commit(clone, f"{number}.txt")
    sh(clone, "push", "--quiet", "origin", "main")
    sh(repo, "fetch", "--quiet", "--depth=1", "origin", "main")
    new = head(clone)
    assert not repository.is_ancestor(str(repo), base, new)
    assert base_branch.fetch(Layout(str(repo)), "origin", ["main"]) == {"main": new}
    # What a person has made shallow is not filled: it may be large.
    assert repository.is_ancestor(str(repo), old, new) is not was_shallow


@pytest.fixture
def tagged(remote: Path, repo: Path) -> str:
    """Tags that only the person has, and a commit that the remote has and `origin/main` has not."""
    base = head(repo)
    sh(repo, "tag", "--annotate", "--message", "mine", "private")
    sh(repo, "tag", "light")
    new = commit(repo)
    sh(repo, "push", "--quiet", "origin", f"{new}:main")
    sh(repo, "update-ref", "refs/remotes/origin/main", base)
    return new


def test_our_fetches_and_pushes_leave_the_persons_tags_alone(
    tagged: str, remote: Path, repo: Path, hostile: Path
) -> None:
    new = tagged
    assert base_branch.fetch(Layout(str(repo)), "origin", ["main"]) == {"main": new}
    assert remotes.push(str(repo), "origin", new, "agent/x") is None
    assert repository.refs(str(repo), "refs/tags").keys() == {
        "refs/tags/private",
        "refs/tags/light",
    }
    assert repository.refs(str(remote), "refs/tags") == {}


def test_a_branch_of_ours_leaves_no_line_in_the_persons_configuration(
    remote: Path, repo: Path, tmp_path: Path, hostile: Path
) -> None:
    before = (repo / ".git" / "config").read_text()
    base_branch.fetch(Layout(str(repo)), "origin", ["main"])
    worktree_commands.add(str(repo), str(tmp_path / "w"), head(repo))
    worktree_commands.start_branch(str(tmp_path / "w"), "agent/x", "refs/remotes/origin/main")
    assert (repo / ".git" / "config").read_text() == before


def test_without_git_the_machine_is_at_fault(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemFault) as fault:
        call.ask(str(repo), "status")
    assert fault.value.code == "git_missing"


def test_a_git_whose_input_can_be_stored_nowhere_is_not_called_missing(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no files without names, `tempfile` raises FileNotFoundError then."""
    monkeypatch.setattr("sys.platform", "another")
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(repo / "no-folder")])
    with pytest.raises(SystemFault, match="could not be started: No usable temporary") as fault:
        call.run(str(repo), "update-ref", "--stdin", stdin="")
    assert fault.value.code != "git_missing"
    assert fault.value.hint is not None
    assert "TMPDIR" in fault.value.hint


def test_a_git_that_hangs_is_ended_and_the_machine_is_at_fault(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "bin" / "git", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with pytest.raises(SystemFault) as fault:
        call.run(str(repo), "status", timeout=1)
    assert fault.value.code == "git_hung"
    assert process.identity(int((tmp_path / "pid").read_text())) is None


def test_a_folder_that_is_gone_is_no_fault_of_the_machine(tmp_path: Path) -> None:
    with pytest.raises(GitError) as error:
        call.ask(str(tmp_path / "gone"), "status")
    assert "gone" in error.value.message


def test_gits_own_complaint_is_in_the_error_on_one_line(repo: Path) -> None:
    with pytest.raises(GitError) as error:
        call.ask(str(repo), "rev-list", "nonsense..main")
    assert "nonsense" in error.value.message
    assert "\n" not in error.value.message


# --- which project -----------------------------------------------------------------------------


def test_a_folder_belongs_to_the_checkout_around_it(repo: Path) -> None:
    (repo / "a" / "b").mkdir(parents=True)
    for folder in (repo, repo / "a" / "b", repo / ".git"):
        assert project_root.find(str(folder)) == str(repo)


def test_a_linked_worktree_belongs_to_the_main_one(repo: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    sh(repo, "worktree", "add", "--quiet", str(linked), "-b", "side")
    (linked / "deep").mkdir()
    assert project_root.find(str(linked)) == str(repo)
    assert project_root.find(str(linked / "deep")) == str(repo)


def test_an_agents_worktree_belongs_to_the_project_whatever_it_holds(repo: Path) -> None:
    commit(repo, ".orchestrator/agents.yaml", "agents: []\n")
    path = repo / ".orchestrator" / "agents" / "impl" / "worktree"
    worktree_commands.add(str(repo), str(path), head(repo))
    assert (path / ".orchestrator" / "agents.yaml").exists()
    assert project_root.find(str(path)) == str(repo)
    assert project_root.find(str(path / ".orchestrator")) == str(repo)


def test_inside_a_submodule_the_superproject_is_meant(repo: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    subprocess.run(("git", "clone", "--quiet", repo, library), check=True)
    sh(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib")
    assert project_root.find(str(repo / "lib")) == str(repo)
    sh(repo, "commit", "--quiet", "--message", "A submodule")
    linked = tmp_path / "linked"
    sh(repo, "worktree", "add", "--quiet", "--detach", str(linked))
    sh(linked, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
    assert project_root.find(str(linked / "lib")) == str(repo)


@pytest.mark.parametrize("name", ["elsewhere", ".git"])
def test_a_checkout_whose_git_folder_lies_elsewhere_is_a_project(tmp_path: Path, name: str) -> None:
    checkout, folder = tmp_path / "checkout", tmp_path / "disk" / name
    folder.parent.mkdir()
    sh(tmp_path, "init", "--quiet", f"--separate-git-dir={folder}", str(checkout))
    (checkout / "below").mkdir()
    assert project_root.find(str(checkout)) == str(checkout)
    assert project_root.find(str(checkout / "below")) == str(checkout)


@pytest.mark.parametrize("kind", PATH_KINDS)
def test_projects_and_worktrees_may_have_any_name(repo: Path, tmp_path: Path, kind: str) -> None:
    moved = tmp_path / kind
    repo.rename(moved)
    linked = tmp_path / f"linked {kind}"
    worktree_commands.add(str(moved), str(linked), head(moved))
    assert project_root.find(str(linked)) == str(moved)
    assert worktree_commands.leads_to(str(moved), str(linked))
    worktree_commands.start_branch(str(linked), "agent/x", head(moved))
    holder = worktree_list.holder_of(str(moved), "agent/x")
    assert holder == str(linked)
    worktree_commands.remove(str(moved), str(linked))
    assert not linked.exists()


def test_a_bare_repository_and_its_worktrees_are_refused(repo: Path, tmp_path: Path) -> None:
    for name in ("bare.git", "hidden/.git"):
        bare = tmp_path / name
        subprocess.run(("git", "clone", "--quiet", "--bare", repo, bare), check=True)
        with pytest.raises(OrchestratorError) as refused:
            project_root.find(str(bare))
        assert refused.value.code == "bare_repository"
    linked = tmp_path / "linked"
    sh(tmp_path / "bare.git", "worktree", "add", "--quiet", str(linked), "main")
    with pytest.raises(OrchestratorError) as refused:
        project_root.find(str(linked))
    assert refused.value.code == "bare_repository"


@pytest.mark.parametrize("name", [".", "missing"])
def test_outside_a_repository_the_next_step_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(OrchestratorError) as refused:
        project_root.find(str(tmp_path / name))
    assert refused.value.code == "no_project"


def test_a_repository_without_a_commit_is_a_project_whose_head_is_not_known(tmp_path: Path) -> None:
    sh(tmp_path, "init", "--quiet", "--initial-branch=main", "fresh")
    fresh = str(tmp_path / "fresh")
    assert project_root.find(fresh) == fresh
    assert repository.resolve(fresh, "HEAD") is None
    assert repository.current_branch(fresh) == "main"


# --- questions ---------------------------------------------------------------------------------


def test_what_a_name_stands_for_is_a_commit_or_nothing(repo: Path) -> None:
    commit_id = head(repo)
    sh(repo, "tag", "--annotate", "--message", "m", "v1")
    for name in ("HEAD", "main", "refs/heads/main", "v1", commit_id):
        assert repository.resolve(str(repo), name) == commit_id
    for name in (
        "nope",
        "refs/heads/v1",
        "--all",
        "-q",
        "main:README.md",
        "",
        "main..main",
        "f" * 40,
    ):
        assert repository.resolve(str(repo), name) is None


def test_ancestors_and_counts(repo: Path) -> None:
    first, second = head(repo), commit(repo)
    root = str(repo)
    assert repository.is_ancestor(root, first, second)
    assert repository.is_ancestor(root, first, first)
    assert not repository.is_ancestor(root, second, first)
    assert not repository.is_ancestor(root, "f" * 40, first)
    assert submodule_changes.work(root, first, second).commits == ((second, "c"),)
    assert submodule_changes.work(root, second, first) == submodule_changes.Work()


def test_odd_names_and_subjects_are_not_mistaken_for_commits_or_entries(repo: Path) -> None:
    base = head(repo)
    one = commit(repo, "\x01name", message="\x01 :100644 160000 a b M")
    two = commit(repo, ":160000 160000 a b M", message=":100644 160000 a b M .gitmodules")
    sh(repo, "checkout", "--quiet", "-b", "side", base)
    side = commit(repo, "side.txt", message="side")
    sh(repo, "update-index", "--add", "--cacheinfo", f"160000,{base},a library")
    sh(repo, "commit", "--quiet", "--message", "A library\n\nwith a body")
    library = head(repo)
    sh(repo, "checkout", "--quiet", "-")
    sh(repo, "merge", "--quiet", "--no-edit", "--message", "Merge", "side")
    sh(repo, "commit", "--quiet", "--allow-empty", "--message", "Nothing")
    top = head(repo)
    found = submodule_changes.work(str(repo), base, top)
    subjects = dict(found.commits)
    assert list(subjects)[:2] == [top, head(repo, "HEAD^")]
    assert subjects == {
        top: "Nothing",
        head(repo, "HEAD^"): "Merge",
        library: "A library",
        side: "side",
        two: ":100644 160000 a b M .gitmodules",
        one: "\x01 :100644 160000 a b M",
    }
    assert found.links == ("a library",)
    assert len(submodule_changes.work(str(repo), base, top, two).commits) == 4


def test_a_detached_head_has_no_branch(repo: Path) -> None:
    sh(repo, "checkout", "--quiet", "--detach")
    assert repository.current_branch(str(repo)) is None
    assert worktree_commands.state(str(repo)) == (head(repo), None, False)


def test_a_branch_has_its_name_although_another_ref_has_it_too(repo: Path, remote: Path) -> None:
    """`--short` lengthens a name that a tag, or a branch `origin/main` made by mistake, has too."""
    sh(repo, "remote", "set-head", "origin", "main")
    for words in (("tag", "main"), ("branch", "origin/main", "HEAD")):
        sh(repo, *words)
    assert repository.current_branch(str(repo)) == "main"
    assert remotes.head(str(repo), "origin") == "main"


def test_a_ref_is_moved_and_deleted_only_from_where_it_was_seen(repo: Path) -> None:
    root, first = str(repo), head(repo)
    second = commit(repo)
    repository.update_ref(root, "refs/heads/agent/x", first)
    with pytest.raises(GitError):
        repository.update_ref(root, "refs/heads/agent/x", second, second)
    with pytest.raises(GitError):
        repository.delete_ref(root, "refs/heads/agent/x", second)
    repository.update_ref(root, "refs/heads/agent/x", second, first)
    assert repository.refs(root, "refs/heads/agent/") == {"refs/heads/agent/x": second}
    repository.delete_ref(root, "refs/heads/agent/x", second)
    assert repository.refs(root, "refs/heads/agent/") == {}


def test_settings_are_read_by_name_and_what_is_not_set_is_left_out(repo: Path) -> None:
    name = "remote.My.fork.url"
    sh(repo, "config", name, "https://x/y\nz")
    found = settings.find(str(repo), name, "remote.my.fork.url", "User.Email", "user.nope")
    assert found == {name: ("https://x/y\nz",), "User.Email": ("person@example.com",)}


NAMES = ["with space.txt", "new\nline.txt", "quo'te\".txt", "-dash.txt", "ünï ☃.txt", "tab\t.txt"]
SPOOF = "a\u2028# branch.head main"


@pytest.mark.parametrize("name", [*NAMES, "* glob?.txt", ":(top)magic", SPOOF])
def test_files_of_any_name_are_seen_kept_and_cleaned(repo: Path, tmp_path: Path, name: str) -> None:
    root = str(repo)
    sh(repo, "checkout", "--quiet", "--detach")
    (repo / name).write_text("precious\n")
    assert worktree_commands.state(root) == (head(repo), None, True)
    kept = whole_state.commit_all(root, "Kept", str(tmp_path / "index"))
    assert sh(repo, "ls-tree", "--name-only", "-z", kept).split("\0")[:-1].count(name) == 1
    assert head(repo, f"{kept}^") == head(repo)
    assert worktree_commands.state(root).dirty
    worktree_commands.clean(root)
    assert worktree_commands.state(root).dirty is False


def test_a_commit_of_everything_leaves_index_and_head_as_they_were(
    repo: Path, tmp_path: Path
) -> None:
    (repo / "staged.txt").write_text("staged\n")
    sh(repo, "add", "staged.txt")
    (repo / "README.md").write_text("changed\n")
    before = sh(repo, "status", "--porcelain=v2", "--branch")
    kept = whole_state.commit_all(str(repo), "Kept", str(tmp_path / "index"))
    assert sh(repo, "status", "--porcelain=v2", "--branch") == before
    assert sh(repo, "show", f"{kept}:README.md") == "changed"
    assert sh(repo, "show", f"{kept}:staged.txt") == "staged"
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("convert", ["input", "true", "false"])
def test_no_line_end_setting_of_the_persons_keeps_work_from_being_kept(
    repo: Path, tmp_path: Path, convert: str
) -> None:
    sh(repo, "config", "core.autocrlf", convert)
    sh(repo, "config", "core.safecrlf", "true")
    (repo / "mixed.txt").write_bytes(b"one\r\ntwo\nthree\r\n")
    kept = whole_state.commit_all(str(repo), "Kept", str(tmp_path / "index"))
    assert "mixed.txt" in sh(repo, "ls-tree", "--name-only", kept)


def test_deleted_and_ignored_files_are_kept_as_git_sees_them(repo: Path, tmp_path: Path) -> None:
    commit(repo, ".gitignore", "*.log\n")
    (repo / "README.md").unlink()
    (repo / "a.log").write_text("noise\n")
    kept = whole_state.commit_all(str(repo), "Kept", str(tmp_path / "index"))
    assert sh(repo, "ls-tree", "--name-only", kept) == ".gitignore"


# --- remotes -----------------------------------------------------------------------------------


def test_a_push_is_there_afterwards(remote: Path, repo: Path) -> None:
    new = commit(repo)
    assert remotes.push(str(repo), "origin", new, "agent/x") is None
    assert remotes.tips(str(repo), "origin", ["agent/x", "nope"]) == {"agent/x": new}
    assert remotes.push(str(repo), "origin", new, "agent/x") is None


def test_a_push_that_would_lose_commits_is_refused(remote: Path, repo: Path) -> None:
    old, new = head(repo), commit(repo)
    assert remotes.push(str(repo), "origin", new, "agent/x") is None
    refusal = remotes.push(str(repo), "origin", old, "agent/x")
    assert refusal
    assert "non-fast-forward" in refusal
    assert head(remote, "agent/x") == new


def test_only_exactly_what_we_pushed_may_be_replaced(remote: Path, repo: Path) -> None:
    root, base = str(repo), head(repo)
    ours = commit(repo, text="ours")
    assert remotes.push(root, "origin", ours, "agent/x") is None
    sh(repo, "reset", "--quiet", "--hard", base)
    rebased = commit(repo, text="rebased")
    refusal = remotes.push(root, "origin", rebased, "agent/x", base)
    assert refusal
    assert "stale info" in refusal
    assert head(remote, "agent/x") == ours
    assert remotes.push(root, "origin", rebased, "agent/x", ours) is None
    assert head(remote, "agent/x") == rebased


def test_a_hook_of_the_remotes_refuses_the_work_and_says_why(remote: Path, repo: Path) -> None:
    script(remote / "hooks" / "pre-receive", "echo 'No pushes on Sundays' >&2; exit 1")
    refusal = remotes.push(str(repo), "origin", commit(repo), "agent/x")
    assert refusal
    assert "pre-receive hook declined" in refusal
    assert "\n" not in refusal


def test_a_branch_in_the_way_of_a_branch_is_a_refusal(remote: Path, repo: Path) -> None:
    assert remotes.push(str(repo), "origin", head(repo), "agent") is None
    assert remotes.push(str(repo), "origin", head(repo), "agent/x")


@pytest.mark.parametrize(
    "url", ["/nowhere/remote.git", "https://127.0.0.1:1/x.git", "nonsense://x"]
)
def test_a_remote_out_of_reach_is_nobodys_fault(remote: Path, repo: Path, url: str) -> None:
    root = str(repo)
    sh(repo, "remote", "set-url", "origin", url)
    for ask in (
        lambda: remotes.push(root, "origin", head(repo), "agent/x"),
        lambda: base_branch.fetch(Layout(root), "origin", ["main"]),
        lambda: remotes.tips(root, "origin", ["main"]),
    ):
        with pytest.raises(SystemFault) as fault:
            ask()
        assert fault.value.code == "remote_unreachable"
        assert "origin" in fault.value.message


@pytest.mark.parametrize(
    ("line", "is_mirror"),
    [
        *(("mirror", True), ("mirror = yes", True), ("mirror = 1", True)),
        *(("mirror =", False), ("mirror = off", False), ("mirror = 0", False)),
    ],
)
def test_a_mirror_is_what_git_takes_for_one(
    remote: Path, repo: Path, line: str, is_mirror: bool
) -> None:
    with open(repo / ".git" / "config", "a") as file:
        file.write(f'[remote "origin"]\n\t{line}\n')
    with contextlib.nullcontext() if not is_mirror else pytest.raises(SystemFault, match="mirror"):
        remote_pair.find(str(repo), Config())


def test_a_remote_that_is_a_mirror_is_called_that(remote: Path, repo: Path) -> None:
    sh(repo, "config", "remote.origin.mirror", "true")
    with pytest.raises(SystemFault) as fault:
        remotes.push(str(repo), "origin", head(repo), "agent/x")
    assert fault.value.code == "remote_is_mirror"
    command = (fault.value.hint or "").partition(";")[0]
    sh(repo, *command.split()[1:])
    settings.forget()
    assert remotes.push(str(repo), "origin", head(repo), "agent/x") is None


def test_a_remote_that_never_answers_is_given_up(
    remote: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = script(tmp_path / "silent", "exec sleep 60")
    monkeypatch.setenv("GIT_SSH_COMMAND", str(silent))
    sh(repo, "remote", "set-url", "origin", "ssh://example.invalid/x.git")
    began = time.monotonic()
    with pytest.raises(SystemFault):
        base_branch.fetch(Layout(str(repo)), "origin", ["main"], timeout=1)
    assert time.monotonic() - began < 10


def test_a_fetch_follows_forced_pushes_and_deletions_and_passes_over_what_is_not_there(
    remote: Path, repo: Path
) -> None:
    root, base = str(repo), head(repo)
    first = commit(repo, text="1")
    remotes.push(root, "origin", first, "agent/x")
    assert base_branch.fetch(Layout(root), "origin", ["main", "agent/x", "nope"]) == {
        "main": base,
        "agent/x": first,
    }
    sh(repo, "reset", "--quiet", "--hard", base)
    second = commit(repo, text="2")
    sh(repo, "push", "--quiet", "--force", "origin", f"{second}:refs/heads/agent/x")
    sh(repo, "update-ref", "refs/remotes/origin/agent/x", first)
    assert base_branch.fetch(Layout(root), "origin", ["agent/x"]) == {"agent/x": second}
    assert repository.resolve(root, "refs/remotes/origin/agent/x") == second
    sh(remote, "update-ref", "-d", "refs/heads/agent/x")
    assert base_branch.fetch(Layout(root), "origin", ["agent/x"]) == {}
    assert repository.resolve(root, "refs/remotes/origin/agent/x") is None
    assert not (repo / ".git" / "FETCH_HEAD").exists()


@pytest.mark.parametrize("lie", ["nothing", "old", "new", "gone"])
def test_a_fetch_is_right_whatever_the_hint_says(remote: Path, repo: Path, lie: str) -> None:
    root, base, ref = str(repo), head(repo), "refs/remotes/origin/agent/x"
    new = commit(repo, text="1")
    sh(repo, "push", "--quiet", "origin", f"{new}:refs/heads/agent/x")
    sh(repo, "update-ref", ref, base)
    known = {"nothing": {}, "old": {ref: base}, "new": {ref: base}, "gone": {ref: new}}[lie]
    if lie == "new":  # another fetch was faster
        sh(repo, "update-ref", ref, new)
    if lie == "gone":  # the ref moved since it was seen, and the remote has no such branch
        sh(remote, "update-ref", "-d", "refs/heads/agent/x")
    there = base_branch.fetch(Layout(root), "origin", ["agent/x"], known=known)
    expected = None if lie == "gone" else new
    assert there.get("agent/x") == expected
    assert repository.resolve(root, ref) == expected


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_fetch_writes_no_branch_of_a_persons_through_a_symbolic_ref(
    remote: Path, repo: Path, is_gone: bool
) -> None:
    root, before = str(repo), head(repo)
    new = commit(repo, text="1")
    sh(repo, "push", "--quiet", "origin", f"{new}:refs/heads/agent/x")
    sh(repo, "reset", "--quiet", "--hard", before)
    sh(repo, "symbolic-ref", "refs/remotes/origin/agent/x", "refs/heads/main")
    if is_gone:
        sh(remote, "update-ref", "-d", "refs/heads/agent/x")
    there = base_branch.fetch(Layout(root), "origin", ["agent/x"])
    assert there == ({} if is_gone else {"agent/x": new})
    assert head(repo, "refs/heads/main") == before
    assert repository.resolve(root, "refs/remotes/origin/agent/x") == there.get("agent/x")


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("how", ["symbolic", "link", "dangling", "plain", "packed", "missing"])
def test_a_symbolic_ref_is_made_plain_and_no_other_ref_changes(
    repo: Path, how: str, keep: bool
) -> None:
    ref, before = "refs/heads/agent/x", head(repo)
    (repo / ".git" / "refs" / "heads" / "agent").mkdir()
    match how:
        case "symbolic" | "dangling":
            sh(repo, "symbolic-ref", ref, f"refs/heads/{'main' if how == 'symbolic' else 'none'}")
        case "link":
            (repo / ".git" / ref).symlink_to("refs/heads/main")
        case "plain" | "packed":
            sh(repo, "branch", "agent/x")
            if how == "packed":
                sh(repo, "pack-refs", "--all")
    repository.make_plain(str(repo), ref, keep=keep)
    stays = how in ("plain", "packed") or (keep and how in ("symbolic", "link"))
    assert repository.resolve(str(repo), ref) == (before if stays else None)
    assert repository.resolve(str(repo), "refs/heads/none") is None
    if stays:
        repository.update_ref(str(repo), ref, commit(repo, text="2"))
        assert head(repo, ref) == head(repo)
        sh(repo, "update-ref", "refs/heads/main", before)
        assert head(repo, ref) != before


def test_what_the_product_remembers_of_a_branch_moves_no_branch(repo: Path) -> None:
    before = head(repo)
    sh(repo, "symbolic-ref", f"{work_branch.OWN}agent/x", "refs/heads/main")
    other = sh(repo, "commit-tree", "-m", "x", "HEAD^{tree}")
    work_branch.remember(str(repo), "agent/x", other)
    assert (head(repo), work_branch.known(str(repo), "agent/x").own) == (before, {other})


def test_refs_that_only_end_like_a_branch_are_not_taken_for_it(remote: Path, repo: Path) -> None:
    evil = commit(repo)
    sh(repo, "push", "--quiet", "origin", f"{evil}:refs/x/refs/heads/main")
    assert remotes.tips(str(repo), "origin", ["main"]) == {"main": head(remote, "main")}


def test_fetches_at_once_wait_for_each_other_and_all_succeed(remote: Path, repo: Path) -> None:
    layout = Layout(str(repo))
    branches = [f"agent/x{number}" for number in range(6)]
    expected = {}
    for branch in branches:
        expected[branch] = commit(repo, text=branch)
        sh(repo, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        sh(repo, "update-ref", "-d", f"refs/remotes/origin/{branch}")
    found: list[dict[str, str]] = []
    failures: list[Exception] = []

    def bring() -> None:
        try:
            found.append(base_branch.fetch(layout, "origin", branches))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=bring) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert found == [expected] * 6
    for branch in branches:
        assert repository.resolve(str(repo), f"refs/remotes/origin/{branch}") == expected[branch]


def test_a_fetch_under_which_a_push_moves_the_base_begins_again(
    remote: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed = commit(repo)
    other = tmp_path / "other"
    sh(tmp_path, "clone", "--quiet", str(remote), str(other))
    sh(other, "config", "user.name", "A Colleague")
    sh(other, "config", "user.email", "c@example.org")
    new = commit(other)
    sh(other, "push", "--quiet", "origin", "HEAD:main")
    # The remote's git calls this when the fetch has read its own refs and waits for the objects.
    hook, config = tmp_path / "pack-objects", tmp_path / "gitconfig"
    times = tmp_path / "times"
    hook.write_text(
        f"#!/bin/sh\necho >> {times}\n"
        f"[ $(wc -l < {times}) -gt 1 ] || "
        f"env -u GIT_DIR git -C {repo} update-ref refs/remotes/origin/main {landed}\n"
        'exec "$@"\n'
    )
    hook.chmod(0o755)
    config.write_text(f"[uploadpack]\n\tpackObjectsHook = {hook}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    assert base_branch.fetch(Layout(str(repo)), "origin", ["main"]) == {"main": new}
    assert repository.resolve(str(repo), "refs/remotes/origin/main") == new
    assert times.exists()


def test_a_fetch_that_another_one_holds_up_for_too_long_is_nobodys_fault(
    remote: Path, repo: Path
) -> None:
    from orchestrator.system import files, locks

    layout = Layout(str(repo))
    files.make_folder(layout.cache)
    with locks.Lock(os.path.join(layout.cache, "fetch.lock")), pytest.raises(SystemFault) as fault:
        base_branch.fetch(layout, "origin", ["main"], timeout=0.1)
    assert fault.value.code == "lock_held"


# --- locks that a git left ------------------------------------------------------------------------


def leave(lock: Path, age: float) -> Path:
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    then = time.time() - age
    os.utime(lock, (then, then))
    return lock


def test_a_killed_gits_locks_on_refs_stop_neither_a_fetch_nor_a_ref(
    remote: Path, repo: Path, tmp_path: Path
) -> None:
    sh(repo, "pack-refs", "--all")
    other = tmp_path / "other"
    sh(tmp_path, "clone", "--quiet", str(remote), str(other))
    for key, value in (("user.name", "A Colleague"), ("user.email", "c@example.org")):
        sh(other, "config", key, value)
    new = commit(other)
    sh(other, "push", "--quiet", "origin", "HEAD:main")
    left = [
        leave(repo / ".git" / name, 3600)
        for name in ("packed-refs.lock", "refs/remotes/origin/main.lock")
    ]
    assert base_branch.fetch(Layout(str(repo)), "origin", ["main"]) == {"main": new}
    repository.delete_ref(str(repo), "refs/remotes/origin/main", new)
    assert repository.resolve(str(repo), "refs/remotes/origin/main") is None
    assert not any(map(os.path.exists, left))


def test_a_lock_from_before_the_machine_started_is_nobodys(
    remote: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at a remote, where processes of other machines may work."""
    lock = leave(remote / "refs/heads/new.lock", 5)
    with pytest.raises(SystemFault, match="File exists"):
        remotes.push(str(repo), "origin", head(repo), "new")
    assert lock.exists(), "a git may be at work on it"
    monkeypatch.setattr(process, "booted", lambda: time.time() - 2)
    assert remotes.push(str(repo), "origin", head(repo), "new") is None
    assert head(remote, "refs/heads/new") == head(repo)


def test_the_persons_index_stays_locked(repo: Path) -> None:
    """Git holds it for as long as an editor is open."""
    lock = leave(repo / ".git" / "index.lock", 3600)
    with pytest.raises(GitError, match="File exists"):
        call.ask(str(repo), "reset", "--quiet")
    assert lock.exists()


def test_a_push_that_was_killed_stops_no_later_one_to_a_remote_on_this_machine(
    remote: Path, repo: Path
) -> None:
    lock = leave(remote / "refs/heads/new.lock", 5)
    with pytest.raises(SystemFault, match=r"new\.lock': File exists"):
        remotes.push(str(repo), "origin", head(repo), "new")
    leave(lock, 3600)
    assert remotes.push(str(repo), "origin", head(repo), "new") is None
    assert head(remote, "refs/heads/new") == head(repo)


def test_the_machine_started_in_the_past() -> None:
    assert 0 <= process.booted() < time.time()


# --- merging -----------------------------------------------------------------------------------


def test_a_merge_is_made_by_us_in_a_detached_worktree(repo: Path, tmp_path: Path) -> None:
    base = head(repo)
    left = commit(repo, "left.txt")
    sh(repo, "checkout", "--quiet", "-b", "side", base)
    right = commit(repo, "right.txt")
    path = tmp_path / "w"
    worktree_commands.add(str(repo), str(path), left)
    made = merges.join_in_worktree(str(path), left, right, "merge", "Both")
    assert made == head(path)
    assert sh(path, "log", "-1", "--format=%an|%cn|%s|%P") == (
        f"orchestrator|orchestrator|Both|{left} {right}"
    )
    assert head(repo, "side") == right


def test_a_conflict_is_named_and_undone(repo: Path, tmp_path: Path) -> None:
    base = head(repo)
    left = commit(repo, "ünï file.txt", "left\n")
    sh(repo, "checkout", "--quiet", "-b", "side", base)
    right = commit(repo, "ünï file.txt", "right\n")
    path = tmp_path / "w"
    worktree_commands.add(str(repo), str(path), left)
    for method in ("merge", "squash", "rebase"):
        said = merges.join_in_worktree(str(path), left, right, method, "Both")
        assert said == ["ünï file.txt"], method
    assert worktree_commands.state(str(path)) == (left, None, False)


@pytest.mark.parametrize(("kills", "is_answered"), [(2, True), (9, False)])
def test_a_git_that_was_killed_has_not_said_no(
    remote: Path, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int,
    is_answered: bool,
) -> None:  # fmt: skip
    """Read as `there is no remote`, that would deliver work without a push."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for number in range(kills):
        (programs / f"kill-{number}").touch()
    real = shutil.which("git")
    script = f'for one in "{programs}"/kill-*; do [ -e "$one" ] && rm "$one" && kill -9 $$; done\n'
    (programs / "git").write_text(f'#!/bin/sh\n{script}exec "{real}" "$@"\n')
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    if is_answered:
        assert remotes.url(str(repo), "origin") == str(remote)
    else:
        with pytest.raises(GitError, match="killed by signal 9"):
            remotes.url(str(repo), "origin")


def test_a_failed_call_names_gits_command_and_not_its_options(tmp_path: Path) -> None:
    options = ("-c", "a.b=c", "-C", ".", "--git-dir", "nowhere", "--no-pager")
    with pytest.raises(GitError, match="git rev-parse failed: "):
        call.ask(str(tmp_path), *options, "rev-parse", "HEAD")
