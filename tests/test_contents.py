"""Which commits have landed in a base as other commits: what one question to git answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import git as sh

from orchestrator.git import contents, repository


def test_one_question_answers_for_all_commits_that_have_the_base_among_theirs(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(repo)
    cut = sh(repo, "rev-parse", "HEAD")
    (repo / "landed.txt").write_text("landed\n")
    sh(repo, "add", "landed.txt")
    tree = sh(repo, "write-tree")
    base = sh(repo, "commit-tree", "-p", cut, "-m", "squashed", tree)
    made = {name: sh(repo, "commit-tree", "-p", base, "-m", name, tree) for name in ("1", "2")}
    made["landed"] = sh(repo, "commit-tree", "-p", cut, "-m", "landed", tree)
    refs = {f"refs/heads/agent/{name}": commit for name, commit in made.items()}
    for ref, commit in refs.items():
        sh(repo, "update-ref", ref, commit)
    memory, asked = str(tmp_path / "contents.json"), []
    contents.Contents(root, memory, ask=True).look_ahead(base, refs)

    def merge_base(cwd: str, one: str, other: str) -> str | None:
        asked.append(one)
        return real(cwd, one, other)

    real = repository.merge_base
    monkeypatch.setattr(repository, "merge_base", merge_base)
    answers = contents.Contents(root, memory, ask=True)
    landed = {name: answers.has_landed(commit, base) for name, commit in made.items()}
    assert landed == {"1": False, "2": False, "landed": True}
    assert asked == [made["landed"]]
