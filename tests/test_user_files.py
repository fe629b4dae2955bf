"""The user's own text files that `init` adds to: what is added comes out again, in any file."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import git

from orchestrator.layout import Layout
from orchestrator.setup import user_files

#: The files of a repository that `put` adds to.
NAMES = (".git/info/exclude", ".gitignore", "CLAUDE.md")


def contents(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in NAMES if (root / name).exists()}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("text", ["*.o\n", "*.o", "*.o\n\n# no end"])
def test_what_is_added_has_the_files_line_ends_and_comes_out_again(
    repo: Path, text: str, newline: str
) -> None:
    before = text.replace("\n", newline).encode()
    for name in NAMES:
        (repo / name).write_bytes(before)
    layout = Layout(str(repo))
    assert len(user_files.put(layout)) == len(NAMES)
    for data in contents(repo).values():
        is_crlf = newline == "\r\n" and "\n" in text
        assert data.count(b"\r\n") == (data.count(b"\n") if is_crlf else 0)
    assert user_files.put(layout) == []
    user_files.take(layout)
    for data in contents(repo).values():
        assert data.rstrip() == before.rstrip()


def test_a_checkout_that_converts_line_ends_gets_no_second_block(repo: Path) -> None:
    """As `core.autocrlf` does when the committed files are checked out anew."""
    layout = Layout(str(repo))
    user_files.put(layout)
    git(repo, "add", ".gitignore", "CLAUDE.md")
    git(repo, "config", "core.autocrlf", "true")
    for name in (".gitignore", "CLAUDE.md"):
        (repo / name).unlink()
        git(repo, "checkout", "--", name)
    before = contents(repo)
    assert b"\r\n" in before[".gitignore"]
    assert user_files.put(layout) == []
    assert contents(repo) == before
    user_files.take(layout)
    assert not {".gitignore", "CLAUDE.md"} & contents(repo).keys()
