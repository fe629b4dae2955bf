"""In a run, git pushes nowhere: neither by a remote's name nor by its address."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import git as sh
from rows import each_row

from orchestrator.git import closed_pushes, settings
from orchestrator.guard import client_environment

#: The spellings of a remote on this disk, from the folder of a worktree that lies beside it.
SPELLINGS = (
    "origin", "{remote}", "{remote}/", "file://{remote}", "../remote.git", "./../remote.git",
    "/{remote}", "{folder}/x/../remote.git", "../worktree//../remote.git", "../link.git",
    "../remote", "file://{folder}/%72emote.git",
)  # fmt: skip


def variables(root: Path, folder: Path) -> dict[str, str]:
    """What the git of an agent gets, with `folder` in the place of the agent's folder."""
    settings = client_environment.as_git_config(closed_pushes.for_agent(str(root)))
    texts = closed_pushes.texts(str(root), str(folder))
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return settings | (closed_pushes.variables(str(folder)) if texts else {})


def run(cwd: Path, told: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **told}
    return subprocess.run(
        ("git", *words), cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )


#: The machine may know no name of its user.
PERSON = ("-c", "user.name=A Person", "-c", "user.email=person@example.com")


def new(path: Path, *options: str) -> Path:
    sh(path.parent, "init", "--quiet", *options, str(path))
    return path


def refused(cwd: Path, told: dict[str, str], place: str, command: str = "push") -> bool:
    """Whether a push there is refused, with the sentence that tells the agent why."""
    done = run(cwd, told, command, place, "HEAD:refs/heads/stolen")
    return done.returncode != 0 and closed_pushes.NOWHERE in done.stderr


@pytest.fixture
def worktree(repo: Path, remote: Path) -> Path:
    """A worktree of a project with a remote beside it, and a link to the remote."""
    path = remote.parent / "worktree"
    (remote.parent / "x").mkdir()
    (remote.parent / "link.git").symlink_to(remote)
    sh(repo, "worktree", "add", "--quiet", "--detach", str(path))
    return path


def test_no_spelling_of_an_address_reaches_a_remote_on_this_disk(
    repo: Path, worktree: Path, tmp_path: Path
) -> None:
    told = variables(repo, tmp_path / "x")
    for spelling in SPELLINGS:
        place = spelling.format(remote=tmp_path / "remote.git", folder=tmp_path)
        assert refused(worktree, told, place), place
        # This command knows no names of remotes, and no settings that rewrite addresses.
        assert refused(worktree, told, place, "send-pack") or place == "origin", place
    assert "stolen" not in sh(tmp_path / "remote.git", "for-each-ref")


def test_other_repositories_take_pushes_and_remotes_answer_fetches(
    repo: Path, worktree: Path, tmp_path: Path
) -> None:
    told = variables(repo, tmp_path / "x")
    # Names that a careless pattern would match.
    for name in ("remote.git2", "xremote.git", "remoteXgit"):
        other = new(tmp_path / name, "--bare")
        assert run(worktree, told, "push", str(other), "HEAD:refs/heads/x").returncode == 0
    for place in ("origin", "../remote.git"):
        assert run(worktree, told, "fetch", place).returncode == 0, place
    assert run(worktree, told, "commit", "--allow-empty", "-qm", "Local work").returncode == 0


def test_every_remote_is_closed_wherever_its_address_is_written(
    repo: Path,
    remote: Path,
    worktree: Path,
    tmp_path: Path,
) -> None:
    upstream, mirror = (new(tmp_path / f"{x}.git", "--bare") for x in ("upstream", "mirror"))
    sh(repo, "remote", "add", "upstream", "short:upstream.git")
    sh(repo, "config", f"url.{tmp_path}/.insteadOf", "short:")
    sh(repo, "remote", "add", "both", "https://host.invalid/x")
    sh(repo, "config", "--add", "remote.both.pushurl", str(remote))
    sh(repo, "config", "--add", "remote.both.pushurl", f"file://{tmp_path}/%6dirror")
    told = variables(repo, tmp_path / "x")
    for place in ("upstream", "both", "short:remote.git", str(upstream), "../mirror.git"):
        assert refused(worktree, told, place), place
    assert all("stolen" not in sh(path, "for-each-ref") for path in (remote, upstream, mirror))
    for place in ("upstream", str(remote)):
        assert run(worktree, told, "fetch", place).returncode == 0, place


def test_a_remote_is_closed_whatever_its_path_holds(repo: Path, tmp_path: Path) -> None:
    names = ("a b", 'a"b', "a'b", "a[x]*?b", "a\\b", "c\nd", "\u00e4", "~a")
    remotes = [new(tmp_path / f"{name}.git", "--bare") for name in names]
    for number, path in enumerate(remotes):
        sh(repo, "remote", "add", f"r{number}", str(path))
    told = variables(repo, tmp_path)
    for path in remotes:
        assert refused(repo, told, os.path.relpath(path, repo)), path
        assert not sh(path, "for-each-ref"), path


@pytest.mark.parametrize("kind", ["checkout", "linked worktree", "made later"])
def test_a_remote_that_is_not_a_bare_repository_is_closed(
    kind: str, repo: Path, tmp_path: Path
) -> None:
    main = tmp_path / "main"
    (tmp_path / "link").symlink_to(tmp_path)
    if kind == "made later":
        sh(repo, "remote", "add", "origin", str(tmp_path / "link" / "main"))
        told = variables(repo, tmp_path)
    new(main)
    sh(main, *PERSON, "commit", "--allow-empty", "-qm", "A commit")
    sh(main, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    address = tmp_path / "linked" if kind == "linked worktree" else main
    if kind != "made later":
        sh(repo, "remote", "add", "origin", str(address))
        told = variables(repo, tmp_path)
    for place in ("../main", "../main/.git", "../linked"):
        assert refused(repo, told, place), place
    assert "stolen" not in sh(main, "for-each-ref")


def test_a_path_is_closed_in_capital_letters_too(
    repo: Path,
    remote: Path,
    tmp_path: Path,
) -> None:
    told = variables(repo, tmp_path)
    capitals = tmp_path / remote.name.upper()  # on some disks, this is the remote
    assert refused(repo, told, str(capitals if capitals.exists() else new(capitals, "--bare")))


def test_the_configuration_of_a_remote_cannot_open_it(
    repo: Path,
    remote: Path,
    tmp_path: Path,
) -> None:
    sh(remote, "config", "receive.hideRefs", "!refs/")
    sh(remote, "config", "receive.unpackLimit", "1")
    assert refused(repo, variables(repo, tmp_path), "../remote.git")


def test_the_systems_configuration_still_counts_unless_the_person_turned_it_off(
    repo: Path,
    remote: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own system").write_text("[x]\n\tmine = 1\n")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "own system"))
    for off, said in (("0", "1"), ("1", "")):
        monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", off)
        told = variables(repo, tmp_path)
        assert run(repo, told, "config", "x.mine").stdout.strip() == said
        assert refused(repo, told, "../remote.git")


def test_git_is_asked_where_the_systems_configuration_is(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_CONFIG_SYSTEM", raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "false")
    monkeypatch.setenv("GIT_EDITOR", "echo")
    found = settings.system_file(str(repo))
    # Git names the file to an editor, also a file that does not exist or is empty.
    assert found in (None, run(repo, {}, "config", "--system", "--edit").stdout.strip())
    named = found is not None and os.path.getsize(found) > 0
    assert named == bool(run(repo, {}, "config", "--system", "--list").stdout)


@each_row(
    ("url", "tried"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r"),
        ("https://github.com/o/r.git", "https://someone@github.com/o/r"),
        ("https://github.com/o/r.git", "git@github.com:o/r.git"),
        ("https://github.com/o/r.git", "ssh://git@ssh.github.com:443/o/r"),
        ("git@host:o/r.git", "host:o/r"),
        ("me@host:o/r.git", "me@host:o/r"),
        ("git://host/r", "git://host/r"),
        ("helper::region/r", "helper::region/r"),
    ],
)
def test_an_address_on_another_machine_is_closed_however_it_is_written(
    url: str, tried: str
) -> None:
    made = closed_pushes.closed([("remote.origin.url", url)])
    closing = [value for name, value in made.items() if name.endswith(".pushInsteadOf")]
    assert any(tried.startswith(value) for value in closing)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://host.invalid/r.git"},
        {"url": "helper::region/r"},
        {"url": "host.invalid:r.git", "pushurl": "ssh://host.invalid/r.git"},
        {"url": "short:r.git", "insteadOf": "short:"},
        {"url": "short:r.git", "insteadOf": "short:r.git"},
        {"url": "https://host.invalid/r.git", "pushInsteadOf": "https://host.invalid/r.git"},
    ],
)
def test_no_push_by_name_reaches_another_machine(repo: Path, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        section = "remote.origin" if "url" in name.lower() else "url.https://other.invalid/"
        sh(repo, "config", f"{section}.{name}", value)
    told = variables(repo, repo.parent)
    words = ("remote", "get-url", "--push", "--all", "origin")
    used = run(repo, told, *words).stdout.splitlines()
    assert used
    assert all(each.startswith(closed_pushes.NOWHERE) for each in used), used
    assert refused(repo, told, "origin")


@pytest.mark.parametrize("url", ["../remote.git", "https://host.invalid/r.git"])
def test_a_repository_of_a_test_pushes_to_its_own_origin(
    repo: Path, tmp_path: Path, url: str
) -> None:
    sh(repo, "remote", "add", "origin", url)
    told = variables(repo, tmp_path)
    hub, clone = new(tmp_path / "hub.git", "--bare"), tmp_path / "clone"
    sh(tmp_path, "clone", "--quiet", str(hub), str(clone))
    sh(clone, *PERSON, "commit", "--allow-empty", "-qm", "A commit")
    assert run(clone, told, "push", "origin", "HEAD").returncode == 0


def test_without_a_remote_the_network_is_closed_and_this_disk_is_open() -> None:
    made = closed_pushes.closed([])
    closing = [value for name, value in made.items() if name.endswith(".pushInsteadOf")]
    for word in ("https", "http", "ssh", "git+ssh", "ssh+git", "git", "ftp", "ftps"):
        assert any(f"{word}://host/x".startswith(value) for value in closing), word
    assert not any("/tmp/x.git".startswith(value) for value in closing)
