"""A call of the stand-in for `gh` that is forked does and says what a started one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import warm_gh

CALLS: list[tuple[str, ...]] = [
    ("--version",),
    ("auth", "status"),
    ("repo", "view", "owner/repo", "--json", "nameWithOwner"),
    ("pr", "list", "--json", "number,title", "--limit", "5"),
    ("pr", "view", "99"),
    ("pr", "list", "--nonsense"),
    ("issue", "list", "--label", "a b'c\"$d\n"),
    ("pr", "create", "--head", "x", "--title", "t", "--body-file", "-"),
]


@pytest.fixture
def place(repo: Path, tmp_path: Path) -> Path:
    """A folder with both programs, for a repository whose remote is GitHub."""
    url = ("git", "remote", "add", "origin", "https://github.com/owner/repo.git")
    subprocess.run(url, cwd=repo, check=True)
    for name, line in (("forked", warm_gh.line("exit 77")), ("started", warm_gh.STARTED)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def call(place: Path, repo: Path, name: str, words: tuple[str, ...]) -> tuple[object, ...]:
    state = place / f"{name}.json"
    if not state.exists():
        state.write_text(json.dumps({"remote": str(place), "prs": []}))
    done = subprocess.run(
        [str(place / name), *words],
        cwd=repo,
        env={**os.environ, "FAKE_GH_STATE": str(state), "WITH": "a line\nbreak"},
        input=b"what it reads",
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr, state.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="calls are forked on Linux only")
def test_a_forked_call_does_and_says_what_a_started_one_does(place: Path, repo: Path) -> None:
    for words in CALLS:
        forked, started = (call(place, repo, name, words) for name in ("forked", "started"))
        assert forked == started, words
    calls = json.loads((place / "forked.json").read_text())["calls"]
    assert calls == [list(words) for words in CALLS[1:]]


def test_without_the_server_python_is_started(
    place: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_gh, "_port", lambda: 1)  # where nothing listens
    (place / "forked").write_text(f"#!/bin/sh\n{warm_gh.line()}\n")
    code, out, _, _ = call(place, repo, "forked", ("--version",))
    assert (code, out) == call(place, repo, "started", ("--version",))[:2]
