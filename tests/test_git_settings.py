"""Git's configuration is asked once, and what is kept of the answer is never believed too long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import git as sh

from orchestrator.git import closed_pushes, remote_pair, remotes, settings, start
from orchestrator.model.config import Config
from orchestrator.model.errors import GitError
from orchestrator.system import commands

NAME = "remote.origin.url"


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> None:
    settings.forget()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that git was started with."""
    found: list[str] = []
    run = start.run

    def count(words: Any, *given: Any) -> commands.Finished:
        found.append(" ".join(words))
        return run(words, *given)

    monkeypatch.setattr(start, "run", count)
    return found


def test_one_question_answers_all_others(repo: Path, asked: list[str]) -> None:
    root = str(repo)
    remote_pair.find(root, Config())
    remotes.url(root, "origin")
    closed_pushes.for_agent(root)
    assert settings.find(root, "User.Email") == {"User.Email": ("person@example.com",)}
    assert len(asked) == 1


def _in_repository(repo: Path, value: str) -> None:
    sh(repo, "config", NAME, value)


def _in_place(repo: Path, value: str) -> None:
    path = repo / ".git" / "config"
    path.write_text(path.read_text() + f'[remote "origin"]\n\turl = {value}\n')


def _in_home(repo: Path, value: str) -> None:
    sh(repo, "config", "--global", NAME, value)


def _in_config_home(repo: Path, value: str) -> None:
    path = Path(os.environ["HOME"], ".config", "git", "config")
    path.parent.mkdir(parents=True, exist_ok=True)
    sh(repo, "config", "--file", str(path), NAME, value)


def _in_worktree(repo: Path, value: str) -> None:
    sh(repo, "config", "extensions.worktreeConfig", "true")
    sh(repo, "config", "--worktree", NAME, value)


@pytest.mark.parametrize(
    "change", [_in_repository, _in_place, _in_home, _in_config_home, _in_worktree]
)
def test_a_change_of_a_file_that_git_reads_is_seen_at_once(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, str], None]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    for value in ("/first", "/other"):
        change(repo, value)
        assert remotes.url(str(repo), "origin") == value


def test_what_a_linked_worktree_sees_is_its_own(repo: Path) -> None:
    sh(repo, "config", "extensions.worktreeConfig", "true")
    sh(repo, "worktree", "add", "--quiet", "--detach", str(repo / "w"))
    sh(repo / "w", "config", "--worktree", NAME, "/own")
    assert remotes.url(str(repo), "origin") is None
    assert remotes.url(str(repo / "w"), "origin") == "/own"
    sh(repo / "w", "config", "--worktree", NAME, "/new")
    assert remotes.url(str(repo / "w"), "origin") == "/new"


def _of_the_worktree(repo: Path) -> None:
    sh(repo, "config", "extensions.worktreeConfig", "true")
    sh(repo / "w", "config", "--worktree", "filter.x.clean", "agent's")


def _by_its_place(repo: Path) -> None:
    included = repo / ".git" / "included"
    included.write_text('[filter "x"]\n\tclean = agent\'s\n')
    sh(repo, "config", "includeIf.gitdir:**/worktrees/w.path", str(included))


def _of_the_checkout(repo: Path) -> None:
    sh(repo, "config", "extensions.worktreeConfig", "true")
    sh(repo, "config", "--worktree", "filter.x.clean", "person's")


def _everywhere(repo: Path) -> None:
    sh(repo, "config", "filter.x.clean", "person's")


@pytest.mark.parametrize(
    ("configure", "may_be_the_same"),
    [
        (_of_the_worktree, False),
        (_by_its_place, False),
        (_of_the_checkout, False),
        (_everywhere, True),
    ],
)
def test_a_worktree_with_settings_of_its_own_is_asked_for_them(
    repo: Path, configure: Callable[[Path], None], may_be_the_same: bool
) -> None:
    path = repo / "w"
    sh(repo, "worktree", "add", "--quiet", "--detach", str(path))
    configure(repo)
    common = repo / ".git"
    told = {"GIT_DIR": str(common / "worktrees" / "w"), "GIT_COMMON_DIR": str(common)}
    assert settings.are_the_same(str(repo), told) is may_be_the_same
    views = [settings.seen(str(place)).get("filter.x.clean") for place in (repo, path)]
    assert (views[0] == views[1]) is may_be_the_same


def test_an_included_file_lies_only_until_the_next_stage(repo: Path, tmp_path: Path) -> None:
    included = tmp_path / "included"
    sh(repo, "config", "include.path", str(included))
    for value in ("/first", "/other"):
        included.write_text(f'[remote "origin"]\n\turl = {value}\n')
        settings.forget()
        assert remotes.url(str(repo), "origin") == value


@pytest.mark.parametrize("includes", [False, True])
def test_what_the_files_prove_lasts_longer_than_a_stage(
    repo: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, includes: bool
) -> None:
    sh(repo, "config", NAME, "/first")
    if includes:
        sh(repo, "config", "include.path", str(repo / "not-there"))
    monkeypatch.setattr(settings, "_CLEAR", -1.0)
    path = repo / ".git" / "config"
    while time.time_ns() < path.stat().st_ctime_ns + 50_000_000:  # else another change has its time
        time.sleep(0.005)
    assert remotes.url(str(repo), "origin") == "/first"
    settings.forget()
    assert remotes.url(str(repo), "origin") == "/first"
    assert len(asked) == (2 if includes else 1)
    at = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes().replace(b"/first", b"/other"))
    os.utime(path, ns=(at, at))  # its size and its time lie
    assert remotes.url(str(repo), "origin") == "/other"


def test_an_answer_from_files_that_have_just_changed_is_no_proof(
    repo: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "_CLEAR", 1000.0)
    sh(repo, "config", NAME, "/first")
    for number in (1, 2):
        assert remotes.url(str(repo), "origin") == "/first"
        assert len(asked) == number
        settings.forget()


def test_where_the_files_are_not_known_nothing_is_kept(repo: Path, asked: list[str]) -> None:
    (repo / "folder").mkdir()
    sh(repo, "config", NAME, "/first")
    for number in (1, 2):
        assert remotes.url(str(repo / "folder"), "origin") == "/first"
        assert len(asked) == number


@pytest.mark.parametrize(
    "configured",
    [
        {},
        {NAME: "/a"},
        {NAME: "/a", "remote.origin.pushurl": "/b"},
        {NAME: "short:a", "url./long/.insteadOf": "short:"},
        {NAME: "short:a", "url./long/.pushInsteadOf": "short:"},
        {NAME: "/a", "remote.origin.pushurl": "short:b", "url./long/.pushInsteadOf": "short:"},
    ],
    ids=lambda configured: ", ".join(configured) or "no remote",
)
def test_the_address_of_pushes_is_gits(repo: Path, configured: dict[str, str]) -> None:
    for name, value in configured.items():
        sh(repo, "config", name, value)
    told = sh(repo, "remote", "get-url", "--push", "origin") if configured else ""
    assert remotes._push_address(str(repo), "origin") == told


def test_of_several_addresses_the_first_is_pushed_to(repo: Path) -> None:
    for value in ("/a", "/b"):
        sh(repo, "config", "--add", NAME, value)
    told = sh(repo, "remote", "get-url", "--push", "origin")
    assert remotes._push_address(str(repo), "origin") == told == "/a"


def test_a_git_that_is_killed_is_asked_again_and_no_answer_is_an_error(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "global\0file:x\0user.email\nx\0"
    said = [commands.Finished(-9, "", ""), commands.Finished(0, entry, "")]
    monkeypatch.setattr(start, "run", lambda *_: said.pop(0))
    assert settings.seen(str(repo)) == {"user.email": ("x",)}
    settings.forget()
    said += [commands.Finished(-9, "", "")] * 3
    with pytest.raises(GitError, match="killed by signal 9"):
        settings.seen(str(repo))
    said.append(commands.Finished(128, "", "fatal: bad config line 1 in file .git/config"))
    with pytest.raises(GitError, match="bad config line 1") as refused:
        settings.seen(str(repo))
    assert refused.value.hint == "correct that line of .git/config"
    said.append(commands.Finished(None, "", ""))
    with pytest.raises(GitError, match="no answer within 30 s"):
        settings.seen(str(repo))
