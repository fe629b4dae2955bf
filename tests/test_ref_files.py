"""The files of refs: each way to move a ref shows in their times; where it might not, no answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import git

from orchestrator import idle
from orchestrator.git import ref_files, repository, settings

#: A branch with folders in its name, as the product's own have.
BRANCH = "agent/T1-fix"


@pytest.fixture
def remote(repo: Path, tmp_path: Path) -> Path:
    """A bare repository, in which `repo` has pushed its base branch and a branch of a task."""
    folder = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", str(folder))
    git(repo, "remote", "add", "origin", str(folder))
    git(repo, "push", "--quiet", "origin", "main", f"main:refs/heads/{BRANCH}")
    settings.forget()
    return folder


def _commit(repo: Path) -> None:
    name = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    git(repo, *name, "commit", "--quiet", "--allow-empty", "--message=more")


def _push_of_others(repo: Path) -> None:
    other = repo.parent / "other"
    git(repo.parent, "clone", "--quiet", str(repo.parent / "remote.git"), str(other))
    git(other, "checkout", "--quiet", "-B", "main", "origin/main")
    _commit(other)
    git(other, "push", "--quiet", "origin", "main")


def _written(repo: Path) -> None:
    """Write a ref as a person can, without git."""
    head = git(repo, "commit-tree", "-m", "x", "HEAD^{tree}")
    git(repo, "push", "--quiet", "origin", f"{head}:refs/heads/elsewhere")
    (repo.parent / "remote.git" / "refs" / "heads" / "main").write_text(f"{head}\n")


MOVES: dict[str, Callable[[Path], object]] = {
    "a push of others": _push_of_others,
    "the branch is deleted": lambda repo: git(
        repo, "push", "--quiet", "--delete", "origin", BRANCH
    ),
    "a ref is written by hand": _written,
    "the remote is renamed": lambda repo: (repo.parent / "remote.git").rename(repo.parent / "x"),
    "the remote's configuration": lambda repo: git(
        repo.parent / "remote.git", "config", "transfer.hideRefs", "refs/heads/agent"
    ),
}


def _marks(folder: str) -> list[object]:
    found = ref_files.paths(folder, ["refs/heads/main", f"refs/heads/{BRANCH}"])
    assert found is not None
    return [idle.mark(path) for path in found]


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_each_way_to_move_a_ref_of_a_remote_shows(
    repo: Path, remote: Path, move: str, packed: bool
) -> None:
    if packed:
        git(remote, "pack-refs", "--all", "--prune")
    folder = ref_files.remote_folder(str(repo), "origin")
    assert folder == str(remote)
    before = _marks(folder)
    assert _marks(folder) == before
    MOVES[move](repo)
    assert _marks(folder) != before


@pytest.mark.parametrize(
    "words", [("commit", "-qm", "x", "--allow-empty"), ("branch", "-f", BRANCH), ("pack-refs",)]
)
def test_each_way_to_move_a_ref_of_this_repository_shows(repo: Path, words: tuple[str]) -> None:
    git(repo, "branch", BRANCH)
    _commit(repo)
    before = _marks(str(repo / ".git"))
    git(repo, *words)
    assert _marks(str(repo / ".git")) != before


def test_a_symbolic_ref_gives_no_answer(repo: Path, remote: Path) -> None:
    git(remote, "symbolic-ref", f"refs/heads/{BRANCH}", "refs/heads/main")
    assert ref_files.paths(str(remote), [f"refs/heads/{BRANCH}"]) is None
    assert ref_files.paths(str(remote), ["refs/heads/main"]) is not None


ADDRESSES = {
    "../remote.git": True,
    "file://{remote}": True,
    "{remote}": True,
    "../remote": True,  # git adds `.git`
    "https://example.org/x.git": False,
    "host:path/x.git": False,
    "ext::sh -c true": False,
    "~/remote.git": False,
    "../missing": False,
    "../file": False,
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_only_a_repository_on_this_machine_has_files_to_look_at(
    repo: Path, remote: Path, address: str
) -> None:
    (repo.parent / "file").write_text("a bundle, say")
    git(repo, "remote", "set-url", "origin", address.format(remote=remote))
    settings.forget()
    found = ref_files.remote_folder(str(repo), "origin")
    assert (found is not None) is ADDRESSES[address]
    assert found is None or os.path.samefile(found, remote)


@pytest.mark.parametrize(
    "words",
    [
        ("remote.origin.uploadpack", "slow-upload-pack"),
        ("remote.origin.vcs", "other"),
        ("url.https://example.org/.insteadOf", "/"),
        ("--add", "remote.origin.url", "https://example.org/x.git"),
    ],
    ids=" ".join,
)
def test_where_configuration_leads_elsewhere_there_is_no_answer(
    repo: Path, remote: Path, words: tuple[str, ...]
) -> None:
    git(repo, "config", *words)
    settings.forget()
    assert ref_files.remote_folder(str(repo), "origin") is None


def test_a_checkout_can_be_the_remote(repo: Path, remote: Path) -> None:
    assert ref_files.remote_folder(str(remote), "x", str(repo)) == f"{repo}/.git"


def _pack(repo: Path) -> None:
    git(repo, "pack-refs", "--all", "--prune")


def _move(repo: Path) -> None:
    _commit(repo)
    git(repo, "push", "--quiet", "origin", "main")


def _pack_then_move(repo: Path) -> None:
    _pack(repo)
    _move(repo)


@pytest.mark.parametrize("act", [_pack, _move, _pack_then_move, _push_of_others])
def test_the_files_of_a_remotes_branch_say_what_git_says(
    repo: Path, remote: Path, act: Callable[[Path], object]
) -> None:
    git(repo, "fetch", "--quiet", "origin")
    act(repo)
    git(repo, "fetch", "--quiet", "origin")
    for branch in ("main", BRANCH):
        said = git(repo, "rev-parse", f"refs/remotes/origin/{branch}")
        assert ref_files.remote_commit(str(repo), "origin", branch) == said


def _symbolic(repo: Path) -> None:
    git(repo, "symbolic-ref", "refs/remotes/origin/main", f"refs/remotes/origin/{BRANCH}")


def _damage(repo: Path) -> None:
    (repo / ".git" / "refs" / "remotes" / "origin" / "main").write_bytes(b"\0" * 41)


def _commented_out(repo: Path) -> None:
    config = repo / ".git" / "config"
    config.write_text(config.read_text().replace("\turl", "\t# url"))


NOT_PLAIN: dict[str, Callable[[Path], object]] = {
    "it leads to another ref": _symbolic,
    "its file is damaged": _damage,
    "there is no such branch": lambda repo: git(
        repo, "update-ref", "-d", "refs/remotes/origin/main"
    ),
    "the remote is gone, its refs stay": lambda repo: git(
        repo, "config", "--remove-section", "remote.origin"
    ),
    "the remote has no address": _commented_out,
    "other files have the refs": lambda repo: (repo / ".git" / "reftable").mkdir(),
}


@pytest.mark.parametrize("why", NOT_PLAIN)
def test_where_the_files_do_not_say_it_plainly_git_is_to_be_asked(
    repo: Path, remote: Path, why: str
) -> None:
    git(repo, "fetch", "--quiet", "origin")
    assert ref_files.remote_commit(str(repo), "origin", "main")
    NOT_PLAIN[why](repo)
    assert ref_files.remote_commit(str(repo), "origin", "main") is None


NAMES = (
    *("refs/heads/main", f"refs/heads/{BRANCH}", "refs/remotes/origin/main"),
    "refs/heads/none",
    "refs/heads/agent",
    "refs/heads/main/below",
)


def _as_git_says(repo: Path) -> dict[str, str]:
    rows = git(repo, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    found = dict(row.split() for row in rows)
    return {name: found[name] for name in NAMES if name in found}


@pytest.mark.parametrize("how", ["loose", "packed", "moved after it was packed", "deleted", "new"])
def test_the_files_of_refs_say_what_git_says(repo: Path, remote: Path, how: str) -> None:
    git(repo, "branch", BRANCH)
    if how != "loose":
        git(repo, "pack-refs", "--all")
    if how == "moved after it was packed":
        _commit(repo)
    elif how == "deleted":
        git(repo, "branch", "--quiet", "-D", BRANCH)
    elif how == "new":
        git(repo, "update-ref", "-d", f"refs/heads/{BRANCH}")
        git(repo, "branch", "agent")
    said = _as_git_says(repo)
    assert ref_files.commits(str(repo), NAMES) == said
    assert repository.exact_refs(str(repo), *NAMES) == said


def test_the_lock_of_a_ref_is_no_ref(repo: Path) -> None:
    (repo / ".git/refs/heads/main.lock").write_text(git(repo, "rev-parse", "HEAD"))
    assert repository.exact_refs(str(repo), "refs/heads/main.lock", "refs/heads/../HEAD") == {}


def _no_object(repo: Path, content: bytes | None) -> None:
    """Damage the newest commit, or remove it."""
    _commit(repo)
    head = git(repo, "rev-parse", "HEAD")
    path = repo / ".git/objects" / head[:2] / head[2:]
    path.unlink()
    if content is not None:
        path.write_bytes(content)


ASKED: dict[str, Callable[[Path], object]] = {
    "symbolic": lambda repo: git(repo, "symbolic-ref", f"refs/heads/{BRANCH}", "refs/heads/main"),
    "no object": lambda repo: _no_object(repo, None),
    "an empty object": lambda repo: _no_object(repo, b""),
    "an object of zeros": lambda repo: _no_object(repo, bytes(200)),
    "packed objects": lambda repo: git(repo, "gc", "--quiet", "--prune=now"),
    "many packed refs": lambda repo: (repo / ".git/packed-refs").write_bytes(b"#" * (1 << 19)),
    "a ref of zeros": lambda repo: (repo / ".git/refs/heads/other").write_bytes(bytes(41)),
    "an empty ref": lambda repo: (repo / ".git/refs/heads/other").write_bytes(b""),
    "a pipe": lambda repo: os.mkfifo(repo / ".git/refs/heads/other"),
    "a link": lambda repo: (repo / ".git/refs/heads/other").symlink_to("main"),
    "reftables": lambda repo: (repo / ".git/reftable").mkdir(),
}


@pytest.mark.parametrize("name", ASKED)
def test_where_the_files_of_refs_do_not_prove_it_there_is_no_answer(
    repo: Path, remote: Path, name: str
) -> None:
    assert ref_files.commits(str(repo), NAMES) is not None
    ASKED[name](repo)
    assert ref_files.commits(str(repo), (*NAMES, "refs/heads/other")) is None


def test_whether_a_ref_is_below_a_name_shows_in_loose_and_in_packed_refs(repo: Path) -> None:
    below, ref = "refs/orchestrator/rescue/", "refs/orchestrator/rescue/R1/work"
    assert not ref_files.may_have(str(repo), below)
    git(repo, "update-ref", "refs/orchestrator/rescued", "HEAD")
    git(repo, "pack-refs", "--all")
    assert not ref_files.may_have(str(repo), below)
    git(repo, "update-ref", ref, "HEAD")
    assert ref_files.may_have(str(repo), below)
    git(repo, "pack-refs", "--all")
    assert not (repo / ".git" / ref).exists()
    assert ref_files.may_have(str(repo), below)
    git(repo, "update-ref", "-d", ref)
    assert not ref_files.may_have(str(repo), below)
    (repo / ".git" / "reftable").mkdir()
    assert ref_files.may_have(str(repo), below), "only git can say"
