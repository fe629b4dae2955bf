"""In a run, git pushes nowhere: neither by a remote's name nor by its address."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import git as sh
from test_git import remote  # noqa: F401 (fixture)

from orchestrator.git import closed_pushes
from orchestrator.guard import client_environment


def variables(root: Path, worktree: Path) -> dict[str, str]:
    found = closed_pushes.for_agent(str(root), str(worktree))
    return client_environment.as_git_config(found)


def run(worktree: Path, told: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **told}
    return subprocess.run(
        ("git", *words), cwd=worktree, env=environment, capture_output=True, text=True, timeout=60
    )


def test_no_name_and_no_usual_spelling_of_an_address_reaches_the_projects_remotes(
    repo: Path,
    remote: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    upstream, elsewhere = tmp_path / "upstream.git", tmp_path / "elsewhere.git"
    for path in (upstream, elsewhere):
        sh(tmp_path, "init", "--quiet", "--bare", str(path))
    sh(repo, "remote", "add", "upstream", "short:upstream.git")
    sh(repo, "config", f"url.{tmp_path}/.insteadOf", "short:")
    sh(repo, "remote", "add", "both", str(remote))
    sh(repo, "config", "remote.both.pushurl", str(upstream))
    worktree = tmp_path / "deep" / "worktree"
    sh(repo, "worktree", "add", "--quiet", "--detach", str(worktree))
    told = variables(repo, worktree)
    places = [
        "origin", "upstream", "both", str(remote), f"file://{remote}", "../../remote.git",
        "./../../remote.git",
        "short:remote.git", "short:upstream.git", str(upstream), f"{remote}/",
    ]  # fmt: skip
    for place in places:
        done = run(worktree, told, "push", place, "HEAD:refs/heads/stolen")
        assert done.returncode != 0, place
        assert closed_pushes.NOWHERE in done.stderr, place
    assert all("stolen" not in sh(path, "for-each-ref") for path in (remote, upstream))
    # A project's own tests push to repositories that they make; fetches go where they went.
    assert run(worktree, told, "push", str(elsewhere), "HEAD:refs/heads/x").returncode == 0
    assert run(worktree, told, "fetch", "upstream").returncode == 0
    assert run(worktree, told, "fetch", "origin").returncode == 0


@pytest.mark.parametrize(
    ("url", "tried"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r"),
        ("https://github.com/o/r.git", "https://someone@github.com/o/r"),
        ("https://github.com/o/r.git", "git@github.com:o/r.git"),
        ("https://github.com/o/r.git", "ssh://git@ssh.github.com:443/o/r"),
        ("git@host:o/r.git", "host:o/r"),
        ("me@host:o/r.git", "me@host:o/r"),
        ("git://host/r", "git://host/r"),
    ],
)
def test_an_address_on_another_machine_is_closed_however_it_is_written(
    url: str, tried: str
) -> None:
    made = closed_pushes.closed([("remote.origin.url", url)], "/p", "/p/w")
    closing = [value for name, value in made.items() if name.endswith(".pushInsteadOf")]
    assert any(tried.startswith(value) for value in closing)
    assert made["remote.origin.pushurl"] == closed_pushes.NOWHERE


def test_without_a_remote_the_network_is_closed_and_this_disk_is_open() -> None:
    made = closed_pushes.closed([], "/p", "/p/w")
    closing = [value for name, value in made.items() if name.endswith(".pushInsteadOf")]
    assert any("https://host/x".startswith(value) for value in closing)
    assert not any("/tmp/x.git".startswith(value) for value in closing)
