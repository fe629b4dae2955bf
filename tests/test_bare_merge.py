"""A merge without a worktree gives what a merge in a worktree gives, or no answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import git as sh

from orchestrator.git import merges, settings, worktree_commands
from orchestrator.system import files

LINES = "".join(f"{number}\n" for number in range(12))
#: The same file, changed at its beginning and at its end.
TOP, END = LINES.replace("0\n", "zero\n", 1), LINES.replace("11\n", "eleven\n")
OTHER_TOP = LINES.replace("0\n", "null\n", 1)
BINARY = "\0" + LINES

#: A path's content; None: it is deleted. A mode other than 100644 is before the path.
Tree = Mapping[str, str | None]


class Case(NamedTuple):
    """What the fork, the base and the head have; the last two are changes."""

    fork: Tree
    base: Tree
    head: Tree
    #: Whether there is an answer without a worktree.
    is_known: bool = True


CASES = {
    "files of their own": Case({"f": "x"}, {"a": "1"}, {"b": "2"}),
    "one file, other lines": Case({"f": LINES}, {"f": TOP}, {"f": END}),
    "the same change": Case({"f": LINES}, {"f": TOP}, {"f": TOP, "g": "1"}),
    "one file, the same lines": Case({"f": LINES}, {"f": TOP}, {"f": OTHER_TOP}),
    "conflict and clean merge": Case(
        {"f": LINES, "g": LINES}, {"f": TOP, "g": TOP}, {"f": OTHER_TOP, "g": END}
    ),
    "changed and deleted": Case({"d/f": LINES}, {"d/f": TOP}, {"d/f": None}),
    "deleted on both sides": Case({"f": "x", "g": "y"}, {"f": None}, {"f": None, "h": "1"}),
    "binary": Case({"f": BINARY}, {"f": BINARY + "1"}, {"f": BINARY + "2"}),
    "renamed and changed": Case({"f": LINES}, {"f": None, "g": LINES}, {"f": END}),
    "added on both sides": Case({"f": "x"}, {"n": "1\n"}, {"n": "2\n"}),
    "executable": Case({"f": LINES}, {"f": TOP}, {"100755 f": LINES}),
    "a link and a file": Case({"f": "x"}, {"120000 l": "f"}, {"l": "1"}, False),
    "a file and a folder": Case({"f": "x"}, {"n": "1"}, {"n/m": "2"}, False),
    "renamed to two names": Case(
        {"f": LINES}, {"f": None, "g": LINES}, {"f": None, "h": LINES}, False
    ),
    "a folder renamed": Case(
        {"d/f": LINES, "d/g": END}, {"d/f": None, "d/g": None, "e/f": LINES, "e/g": END},
        {"d/new": "1"}, False,
    ),
    "attributes for other files": Case(
        {".gitattributes": "* text=auto\n*.png binary\n", "f": LINES}, {"f": TOP}, {"f": END}
    ),
    "a union": Case({".gitattributes": "f merge=union\n", "f": LINES},
                    {"f": TOP}, {"f": OTHER_TOP}, False),
    "a union, deeper": Case(
        {"a/.gitattributes": "[attr]both merge=union\n* merge=union\n", "a/b/f": LINES},
        {"a/b/f": TOP}, {"a/b/f": OTHER_TOP}, False,
    ),
    "never merged": Case({".gitattributes": "f -merge\n", "f": LINES},
                         {"f": TOP}, {"f": END}, False),
    "attributes of the head": Case({"f": LINES}, {"f": TOP},
                                   {"f": OTHER_TOP, ".gitattributes": "f merge=union\n"}),
    "attributes of the base": Case({"f": LINES}, {"f": TOP, ".gitattributes": "f merge=union\n"},
                                   {"f": OTHER_TOP}, False),
    "pointers of Git LFS": Case(
        {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "f.bin": "version 1\n"},
        {"f.bin": "version 2\n"}, {"f.bin": "version 3\n"}, False,
    ),
    "a submodule on one side": Case({"f": "x"}, {"g": "1"}, {"160000 s": "1" * 40}),
    "a submodule on both sides": Case({"160000 s": "1" * 40}, {"160000 s": "2" * 40},
                                      {"160000 s": "3" * 40}, False),
    "a name that is not UTF-8": Case({"f": "x"}, {"g": "1"}, {'"\\377"': "2"}),
    "a conflict in a name that is not UTF-8": Case({'"\\377"': LINES}, {'"\\377"': TOP},
                                                   {'"\\377"': OTHER_TOP}, False),
    "a name with blanks": Case({"a b/c\u00e4": LINES}, {"a b/c\u00e4": TOP},
                               {"a b/c\u00e4": OTHER_TOP}),
}  # fmt: skip


class Shop(NamedTuple):
    """A repository, a worktree of it, and an empty folder."""

    root: str
    tree: str
    scratch: str


@pytest.fixture
def shop(repo: Path, tmp_path: Path) -> Shop:
    sh(repo, "config", "core.quotePath", "false")
    tree, scratch = tmp_path / "tree", tmp_path / "empty"
    scratch.mkdir()
    sh(repo, "worktree", "add", "--quiet", "--detach", str(tree))
    return Shop(str(repo), str(tree), str(scratch))


def commits(root: str, case: Case) -> tuple[str, str]:
    """Make the commits of base and head, with their fork."""
    stream = ""
    for mark, (tree, parent) in enumerate(((case.fork, 0), (case.base, 1), (case.head, 1)), 1):
        stream += f"commit refs/heads/case{mark}\nmark :{mark}\n"
        stream += f"author A{mark} <a{mark}@x> {mark} +0000\ncommitter C <c@x> {mark} +0000\n"
        stream += "data 1\nx" + (f"\nfrom :{parent}\n" if parent else "\n")
        stream += "".join(map(_change, tree, tree.values())) + "\n"
    words = ("git", "fast-import", "--quiet", "--force")
    subprocess.run(words, cwd=root, input=stream.encode(), check=True)
    base, head = (sh(Path(root), "rev-parse", f"case{mark}") for mark in (2, 3))
    return base, head


def _change(name: str, content: str | None) -> str:
    mode, _, path = name.partition(" ") if name[:1] == "1" else ("100644", "", name)
    if content is None:
        return f"D {path}\n"
    if mode == "160000":
        return f"M {mode} {content} {path}\n"
    return f"M {mode} inline {path}\ndata {len(content.encode())}\n{content}\n"


def described(root: str, found: str | list[str]) -> object:
    """Return what a merge made, without the commit's times."""
    if isinstance(found, list):
        return sorted(found)
    return sh(Path(root), "log", "-1", "--format=%T %P %an %ae %cn %ce %B", found)


def in_worktree(shop: Shop, base: str, head: str, method: str) -> object:
    worktree_commands.detach(shop.tree, base)
    found = merges.join_in_worktree(shop.tree, base, head, method, "Merge a: b")
    return described(shop.root, found)


SQUASHED = ("one file, other lines", "one file, the same lines", "a union")
METHODS = [*((name, "merge") for name in CASES), *((name, "squash") for name in SQUASHED)]


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_merge_without_a_worktree_is_the_merge_in_a_worktree(
    shop: Shop, name: str, method: str
) -> None:
    case = CASES[name]
    base, head = commits(shop.root, case)
    found = merges.join(shop.root, shop.scratch, base, head, method, "Merge a: b")
    assert (found is not None) == case.is_known
    if found is not None:
        assert described(shop.root, found) == in_worktree(shop, base, head, method)
    assert os.listdir(shop.scratch) == []
    assert not os.path.exists(f"{shop.scratch}.index")


PLAIN = CASES["one file, other lines"]


@pytest.mark.parametrize(
    "setting",
    ["merge.log=true", "pull.twohead=resolve", "merge.renormalize=true", "merge.default=union"],
)
def test_a_setting_that_a_worktree_would_follow_leaves_the_merge_to_a_worktree(
    shop: Shop, setting: str
) -> None:
    base, head = commits(shop.root, PLAIN)
    sh(Path(shop.root), "config", *setting.split("="))
    settings.forget()
    assert merges.join(shop.root, shop.scratch, base, head, "merge", "m") is None


@pytest.mark.parametrize("where", ["info/attributes", "core.attributesFile"])
def test_a_persons_own_attributes_count(shop: Shop, where: str, tmp_path: Path) -> None:
    base, head = commits(shop.root, PLAIN)
    path = Path(shop.root, ".git", "info", "attributes")
    if where == "core.attributesFile":
        path = tmp_path / "attributes"
        sh(Path(shop.root), "config", where, str(path))
    path.write_text("f merge=ours\n")
    settings.forget()
    assert merges.join(shop.root, shop.scratch, base, head, "merge", "m") is None


def test_attributes_of_the_persons_checkout_do_not_count(shop: Shop) -> None:
    """They may be of another commit, or not committed."""
    base, head = commits(shop.root, CASES["one file, the same lines"])
    Path(shop.root, ".gitattributes").write_text("f merge=union\n")
    found = merges.join(shop.root, shop.scratch, base, head, "merge", "m")
    assert found == ["f"]


def test_there_is_no_answer_for_what_only_a_worktree_can_do(shop: Shop) -> None:
    base, head = commits(shop.root, PLAIN)
    stranger = sh(Path(shop.root), "rev-parse", "main")  # no commit in common
    for one, other, method in (
        (base, head, "rebase"),
        (base, stranger, "merge"),
        (base, "0" * 40, "merge"),
    ):
        assert merges.join(shop.root, shop.scratch, one, other, method, "m") is None


def test_a_squash_that_changes_no_file_is_the_base_itself(shop: Shop) -> None:
    base, _ = commits(shop.root, PLAIN)
    same = sh(Path(shop.root), "commit-tree", f"{base}^{{tree}}", "-p", f"{base}^", "-m", "same")
    assert merges.join(shop.root, shop.scratch, base, same, "squash", "m") == base


def test_an_older_git_leaves_each_merge_to_a_worktree(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Git 2.37 knows `merge-tree` only with three trees, and prints how it is used."""
    base, head = commits(shop.root, PLAIN)
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    real = subprocess.run(("which", "git"), capture_output=True, text=True).stdout.strip()
    old.write_text(
        f'#!/bin/sh\ncase "$*" in *merge-tree*) echo usage >&2; exit 129;; esac\nexec {real} "$@"\n'
    )
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}{os.pathsep}{os.environ['PATH']}")
    assert merges.join(shop.root, shop.scratch, base, head, "merge", "m") is None


def test_what_a_killed_process_left_beside_the_folder_is_no_obstacle(shop: Shop) -> None:
    base, head = commits(shop.root, PLAIN)
    for name in ("", ".lock"):
        files.write_atomic(f"{shop.scratch}.index{name}", b"half")
    assert isinstance(merges.join(shop.root, shop.scratch, base, head, "merge", "m"), str)
