"""Submodules, Git LFS, nested repositories and sparse checkouts: `done` means whole."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harness
import needs
import pytest
from conftest import git as sh
from harness import World
from rows import each_row
from test_worktree import RESCUE, Agent, commit, head, rescued

from orchestrator.git import (
    lfs,
    repository,
    submodule_changes,
    submodule_remotes,
    submodule_rescue,
    submodules,
    worktree,
    worktree_commands,
)
from orchestrator.git import rescued as rescues
from orchestrator.model.errors import GitError, SystemFault
from orchestrator.run import nested
from orchestrator.system import disk

world = harness.world
FILE = "protocol.file.allow=always"
NAMED = ("-c", "user.name=A Person", "-c", "user.email=person@example.com")


def library(folder: Path, name: str = "lib") -> Path:
    """A bare repository that is the remote of a submodule, with the file `lib.txt`."""
    work, bare = folder / f"{name}-work", folder / f"{name}.git"

    def make() -> None:
        work.mkdir()
        sh(work, "init", "--quiet", "--initial-branch=main")
        sh(work, "config", "user.name", "A Person")
        sh(work, "config", "user.email", "person@example.com")
        commit(work, "lib.txt", "v1\n")
        sh(folder, "clone", "--quiet", "--bare", str(work), str(bare))

    harness.from_template(Path("library"), work, bare, make)
    return bare


def add_submodule(root: Path, url: Path, path: str = "lib") -> None:
    sh(root, "-c", FILE, "submodule", "--quiet", "add", str(url), path)
    sh(root, *NAMED, "commit", "--quiet", "--all", "--message", f"Add {path}")


@pytest.fixture
def main(repo: Path, tmp_path: Path) -> Path:
    """A project with the submodule `lib`, which is checked out in the person's checkout."""
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    add_submodule(repo, library(tmp_path))
    return repo


@pytest.fixture
def files_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submodules can be cloned from this disk (git-config(1), `protocol.allow`)."""
    for key, value in (("COUNT", "1"), ("KEY_0", "protocol.file.allow"), ("VALUE_0", "always")):
        monkeypatch.setenv(f"GIT_CONFIG_{key}", value)
    monkeypatch.setattr("orchestrator.guard.client_environment._KEPT", tuple(os.environ))


class Worker(Agent):
    """An agent's worktree with its submodules, taken up and left as a run does."""

    def begin_filled(self, which: str = "same", run: str = "R2") -> list[str]:
        self.begin(run=run)
        return submodules.check_out(str(self.repo), str(self.path), which)

    @property
    def lib(self) -> Path:
        return self.path / "lib"


@pytest.fixture
def agent(main: Path) -> Worker:
    made = Worker(main)
    assert made.begin_filled() == []
    return made


def change_inside(lib: Path, text: str = "v2\n") -> str:
    for key, value in (("user.name", "Agent"), ("user.email", "agent@example.com")):
        sh(lib, "config", key, value)
    return commit(lib, "lib.txt", text)


# --- checked out -------------------------------------------------------------------------------


def test_an_agent_gets_the_submodules_of_the_persons_checkout_and_nothing_changes_there(
    main: Path, tmp_path: Path
) -> None:
    config = (main / ".git" / "config").read_bytes()
    (tmp_path / "lib.git").rename(tmp_path / "unreachable.git")  # no network is needed
    made = Worker(main)
    assert made.begin_filled() == []
    assert (made.lib / "lib.txt").read_text() == "v1\n"
    assert sh(made.path, "status", "--porcelain") == ""
    assert sh(made.lib, "remote", "get-url", "origin") == str(tmp_path / "lib.git")
    assert sh(made.path, "submodule", "status")[0] not in "-+U"
    assert (main / ".git" / "config").read_bytes() == config
    assert repository.refs(str(main / "lib"), "refs/").keys() >= {"refs/heads/main"}


@pytest.mark.usefixtures("files_allowed")
def test_a_submodule_that_is_not_checked_out_stays_empty_unless_all_are_wanted(main: Path) -> None:
    sh(main, "submodule", "--quiet", "deinit", "--force", "lib")
    made = Worker(main)
    made.begin_filled()
    assert list(made.lib.iterdir()) == []
    made.begin_filled("all")
    assert (made.lib / "lib.txt").read_text() == "v1\n"


def test_submodules_in_submodules_are_checked_out_and_kept(main: Path, tmp_path: Path) -> None:
    lib = main / "lib"
    sh(lib, "config", "user.name", "A Person")
    sh(lib, "config", "user.email", "person@example.com")
    add_submodule(lib, library(tmp_path, "inner"), "deep/inner")
    sh(lib, "push", "--quiet", "origin", "HEAD:main")
    sh(main, "commit", "--quiet", "--all", "--message", "Bump lib")
    made = Worker(main)
    assert made.begin_filled() == []
    inner = made.lib / "deep" / "inner"
    assert (inner / "lib.txt").read_text() == "v1\n"
    (inner / "lib.txt").write_text("edited\n")
    made.end()
    assert made.begin_filled(run="R3") == []
    assert (inner / "lib.txt").read_text() == "v1\n"
    kept = repository.refs(str(lib / "deep" / "inner"), RESCUE)
    [commit_id] = kept.values()
    assert sh(lib / "deep" / "inner", "show", f"{commit_id}:lib.txt") == "edited"
    assert "lib/deep/inner" in rescues.in_submodules(str(main))


@pytest.mark.usefixtures("files_allowed")
@pytest.mark.parametrize("base", ["removes it", "ignores its place", "has files there", "moves it"])
def test_a_submodule_that_the_next_base_lacks_leaves_nothing_behind(
    agent: Worker, base: str
) -> None:
    (agent.lib / "lib.txt").write_text("edited\n")
    agent.end()
    main, git_folder = agent.repo, Path(worktree_commands.git_folder(str(agent.lib)))
    if base == "moves it":
        sh(main, "mv", "lib", "vendor")
    else:
        sh(main, "rm", "--quiet", "lib")
    if base == "has files there":
        (main / "lib").mkdir()
        (main / "lib" / "own.txt").write_text("a file\n")
    if base == "ignores its place":
        (main / ".gitignore").write_text("lib\n")
    sh(main, "add", "--all")
    sh(main, "commit", "--quiet", "--message", base)
    assert agent.begin_filled(run="R3") == []
    sh(agent.path, "checkout", "--quiet", "--detach", "main")
    assert submodules.check_out(str(main), str(agent.path), "same") == []
    assert sh(agent.path, "status", "--porcelain") == ""
    found = [path.name for path in agent.lib.iterdir()] if agent.lib.exists() else []
    assert found == (["own.txt"] if base == "has files there" else [])
    assert git_folder.exists() == (base == "moves it")
    if base == "moves it":
        assert (agent.path / "vendor" / "lib.txt").read_text() == "v1\n"
    # The next task can be cut from a commit that has the submodule, at its former place.
    sh(agent.path, "checkout", "--quiet", "--detach", "main~1")
    assert submodules.check_out(str(main), str(agent.path), "all") == []
    assert (agent.lib / "lib.txt").read_text() == "v1\n"
    assert sh(agent.path, "status", "--porcelain") == ""


@pytest.mark.usefixtures("files_allowed")
def test_a_submodule_that_the_work_adds_is_checked_out_everywhere(
    agent: Worker, tmp_path: Path
) -> None:
    second, lib = agent.path / "second", tmp_path / "lib-work"
    add_submodule(lib, library(tmp_path, "inner"), "deep")
    sh(lib, "push", "--quiet", str(tmp_path / "lib.git"), "main")
    add_submodule(agent.path, tmp_path / "lib.git", "second")
    sh(second, "-c", FILE, "submodule", "--quiet", "update", "--init")
    (second / "deep" / "lib.txt").write_text("edited\n")
    agent.end()
    kept = repository.refs(str(agent.repo), RESCUE)
    texts = [sh(agent.repo, "show", f"{ref}:lib.txt") for ref in kept if ref.endswith("-deep")]
    assert texts == ["edited"], "the person's checkout has no such submodule to keep it"
    assert agent.begin_filled(run="R3") == []
    place, work = str(tmp_path / "landing"), head(agent.path)
    with worktree.throw_away(str(agent.repo), place, work):
        assert Path(place, "second", "deep", "lib.txt").read_text() == "v1\n"
    sh(agent.repo, "merge", "--quiet", "--ff-only", work)  # git leaves `second` empty
    with worktree.throw_away(str(agent.repo), place, work):
        assert Path(place, "second", "lib.txt").exists()
    sh(agent.repo, "submodule", "--quiet", "deinit", "--force", "second")
    with worktree.throw_away(str(agent.repo), place, work):
        assert list(Path(place, "second").iterdir()) == []
    # Later tasks do not have it, and can add it again.
    sh(agent.path, "checkout", "--quiet", "--detach", f"{work}~1")
    submodules.check_out(str(agent.repo), str(agent.path), "same")
    assert not second.exists()
    add_submodule(agent.path, tmp_path / "lib.git", "second")


def test_a_new_submodule_that_cannot_be_cloned_stops_nothing(agent: Worker, tmp_path: Path) -> None:
    add_submodule(agent.path, tmp_path / "lib.git", "second")
    (tmp_path / "lib.git").rename(tmp_path / "gone.git")
    place = tmp_path / "landing"
    with worktree.throw_away(str(agent.repo), str(place), head(agent.path)):
        assert list((place / "second").iterdir()) == []
        assert (place / "lib" / "lib.txt").read_text() == "v1\n"


def test_a_commit_that_is_nowhere_is_named(agent: Worker) -> None:
    sh(agent.path, "update-index", "--cacheinfo", f"160000,{'1' * 40},lib")
    sh(agent.path, "commit", "--quiet", "--message", "A wrong commit")
    assert submodules.check_out(str(agent.repo), str(agent.path)) == ["lib"]
    assert "submodule lib" in submodules.missing_fault(["lib"]).message


def test_a_project_without_submodules_pays_no_git_process(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    made = Agent(repo)
    made.begin()

    def no_process(*words: object, **options: object) -> None:
        raise AssertionError(words)

    monkeypatch.setattr("orchestrator.system.commands.run", no_process)
    assert submodules.check_out(str(repo), str(made.path), "all") == []
    assert submodules.git_folders(str(made.path)) == []
    worktree_commands.make_whole(str(made.path))
    lfs.require(str(repo))
    assert lfs.push(str(repo), "origin", "0" * 40, "b", "") is None


# --- kept --------------------------------------------------------------------------------------


def test_leftovers_in_a_submodule_are_kept_and_never_reach_the_next_task(agent: Worker) -> None:
    start = head(agent.lib)
    ahead = change_inside(agent.lib)
    sh(agent.lib, "checkout", "--quiet", "-b", "work")
    (agent.lib / "new.txt").write_text("only here\n")
    (agent.lib / "lib.txt").write_text("edited\n")
    ref = agent.end()
    assert ref == f"{RESCUE}R1"
    store = str(agent.repo / "lib")
    [commit_id] = repository.refs(store, RESCUE).values()
    assert sh(agent.repo / "lib", "show", f"{commit_id}:new.txt") == "only here"
    assert repository.is_ancestor(store, ahead, commit_id)
    assert sh(agent.repo, "rev-parse", f"{ref}:lib") == commit_id
    agent.begin_filled(run="R3")
    assert head(agent.lib) == start
    assert not (agent.lib / "new.txt").exists()
    assert repository.refs(str(agent.lib), "refs/heads/") == {}
    assert sh(agent.path, "status", "--porcelain") == ""


@pytest.mark.parametrize("lost", [".gitmodules", "the entry"])
def test_changes_in_a_submodule_are_kept_though_the_agent_removed_its_entry(
    agent: Worker, lost: str
) -> None:
    (agent.lib / "lib.txt").write_text("edited\n")
    if lost == "the entry":
        sh(agent.path, "rm", "--quiet", "--cached", "lib")
    else:
        (agent.path / ".gitmodules").unlink()
    agent.end()
    [kept] = repository.refs(str(agent.repo / "lib"), RESCUE)
    assert sh(agent.repo / "lib", "show", f"{kept}:lib.txt") == "edited"


@pytest.mark.parametrize("removed", ["by git", "by hand"])
def test_a_commit_in_a_submodule_whose_folder_is_gone_is_kept(agent: Worker, removed: str) -> None:
    start = head(agent.repo / "lib")
    shutil.rmtree(agent.lib)
    agent.end()
    assert agent.begin_filled(run="R2") == []  # now git's configuration names the folder
    made = change_inside(agent.lib)
    if removed == "by git":
        sh(agent.path, "rm", "--quiet", "--force", "lib")
    shutil.rmtree(agent.lib, ignore_errors=True)
    agent.end()
    assert not list(agent.path.parent.glob("*set-aside*"))
    assert made in repository.refs(str(agent.repo / "lib"), RESCUE).values()
    assert agent.begin_filled(run="R3") == []
    assert (head(agent.lib), sh(agent.path, "status", "--porcelain")) == (start, "")


def test_each_path_of_a_submodule_gives_a_valid_name_of_a_ref() -> None:
    for path in ("third party", "libé", "a..b", "x.lock", "li~b", "a/.b", "@{", "b.", "[*]:?^\\"):
        ref = f"{RESCUE}R1-{submodule_rescue.word(path)}"
        assert subprocess.run(("git", "check-ref-format", ref)).returncode == 0, ref


def test_a_commit_in_a_submodule_outlives_the_worktree(agent: Worker) -> None:
    bump = change_inside(agent.lib)
    sh(agent.path, "commit", "--quiet", "--all", "--message", "Bump lib")
    assert agent.end() is None  # the project has nothing uncommitted
    worktree.remove(str(agent.repo), str(agent.path))
    assert bump in repository.refs(str(agent.repo / "lib"), RESCUE).values()
    again = Worker(agent.repo)
    assert again.begin_filled(run="R3") == []
    assert head(again.lib) == bump


def test_a_commit_of_the_persons_is_not_called_a_rescue(main: Path) -> None:
    sh(main / "lib", "checkout", "--quiet", "--detach")
    change_inside(main / "lib", "mine\n")
    sh(main, "commit", "--quiet", "--all", "--message", "Bump lib")
    made = Worker(main)
    assert made.begin_filled() == []
    made.end()
    assert repository.refs(str(main / "lib"), RESCUE) == {}


@pytest.mark.parametrize("text", [None, "v1\n", "edited\n"])
def test_a_first_checkout_that_was_killed_deletes_no_file(agent: Worker, text: str | None) -> None:
    """Git writes the index last. A rescue of the missing files would hold nothing of anybody."""
    Path(worktree_commands.git_folder(str(agent.lib)), "index").unlink()
    (agent.lib / "lib.txt").unlink()
    if text is not None:
        (agent.lib / "lib.txt").write_text(text)
    agent.end()
    kept = repository.refs(str(agent.repo / "lib"), RESCUE).values()
    found = [sh(agent.repo / "lib", "show", f"{ref}:lib.txt") for ref in kept]
    assert found == (["edited"] if text == "edited\n" else [])
    assert agent.begin_filled(run="R3") == []
    assert (agent.lib / "lib.txt").read_text() == "v1\n"


def test_files_below_a_submodule_that_is_not_checked_out_are_kept(main: Path) -> None:
    sh(main, "submodule", "--quiet", "deinit", "--force", "lib")
    made = Worker(main)
    made.begin_filled()
    (made.lib / "notes.txt").write_text("only here\n")
    assert sh(made.path, "status", "--porcelain") == ""
    ref = made.end()
    assert ref is not None
    assert sh(main, "show", f"{ref}:lib/notes.txt") == "only here"
    changed = sh(main, "show", "--format=", "--name-status", ref).splitlines()
    assert changed == ["D\tlib", "A\tlib/notes.txt"]
    assert list(made.lib.iterdir()) == []


@pytest.mark.parametrize(
    "damage", ["no objects", "half a clone", "a lock", "a repository inside", "the index"]
)
def test_whatever_is_left_in_a_submodule_the_next_run_can_begin(agent: Worker, damage: str) -> None:
    folder = Path(worktree_commands.git_folder(str(agent.lib)))
    (agent.lib / "lib.txt").write_text("edited\n")
    match damage:
        case "no objects":
            shutil.rmtree(folder / "objects")
        case "half a clone":
            (agent.lib / "lib.txt").unlink()
            folder.rename(f"{folder}.unfinished")
            (agent.lib / ".git").write_text(f"gitdir: {folder}.unfinished\n")
        case "the index":
            Path(worktree_commands.git_folder(str(agent.path)), "index").write_bytes(b"damaged")
        case "a lock":
            (folder / "index.lock").touch()
        case "a repository inside":
            sh(agent.lib, "clone", "--quiet", ".", "inner")
    agent.end()
    assert agent.begin_filled(run="R3") == []
    assert (agent.lib / "lib.txt").read_text() == "v1\n"
    assert sh(agent.path, "status", "--porcelain") == ""
    if damage != "half a clone":
        in_refs = repository.refs(str(agent.repo / "lib"), RESCUE).values()
        texts = [sh(agent.repo / "lib", "show", f"{kept}:lib.txt") for kept in in_refs]
        aside = agent.path.parent.glob("worktree.set-aside-*/**/lib.txt")
        texts += [path.read_text() for path in aside]
        assert "edited" in "".join(texts)


def test_a_full_disk_sets_no_submodule_aside(
    agent: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Path(worktree_commands.git_folder(str(agent.lib)), "index")
    whole = index.read_bytes()
    (agent.lib / "lib.txt").write_text("edited\n")
    index.write_bytes(b"damaged")
    full = disk.Shortage("disk_full", "no space is left", "free some")
    monkeypatch.setattr(disk, "shortage", lambda folder: full)
    with pytest.raises(GitError):
        agent.end()
    assert not list(agent.path.parent.glob("*set-aside*"))
    index.write_bytes(whole)
    agent.end()
    [kept] = repository.refs(str(agent.repo / "lib"), RESCUE)
    assert sh(agent.repo / "lib", "show", f"{kept}:lib.txt") == "edited"


# --- whole at the remote -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base", "absolute"),
    [
        ("../lib.git", "https://host/owner/repo.git", "https://host/owner/lib.git"),
        ("../lib.git", "git@host:owner/repo.git", "git@host:owner/lib.git"),
        ("../../a/lib", "/srv/owner/repo/", "/srv/a/lib"),
        ("./lib", "/srv/repo", "/srv/repo/lib"),
        ("https://host/lib", "/srv/repo", "https://host/lib"),
    ],
)
def test_a_relative_url_starts_from_the_projects_remote(url: str, base: str, absolute: str) -> None:
    assert submodule_remotes.absolute(url, base) == absolute


def test_only_what_the_submodules_remote_hands_out_counts_as_there(
    main: Path, tmp_path: Path
) -> None:
    lib, url, scratch = main / "lib", str(tmp_path / "lib.git"), str(tmp_path / "scratch")
    first, second = head(lib), change_inside(lib)
    assert submodule_remotes.has(str(lib), url, first, scratch)
    assert not submodule_remotes.has(str(lib), url, second, scratch)
    sh(lib, "push", "--quiet", "origin", "HEAD:refs/heads/other")
    third = change_inside(lib, "v3\n")
    assert submodule_remotes.has(str(lib), url, second, scratch)
    sh(lib, "push", "--quiet", "origin", "HEAD:refs/pull/1/head")
    assert submodule_remotes.has(str(lib), url, third, scratch)
    assert not Path(scratch).exists()
    with pytest.raises(SystemFault, match="cannot be reached"):
        submodule_remotes.has(str(lib), str(tmp_path / "gone"), first, scratch)


@each_row(
    ("url", "is_strange"),
    [
        ("--upload-pack=./evil.sh", True),
        ("-u./evil.sh", True),
        ("ext::sh -c ./evil.sh", True),
        ("https::x", True),
        ("https://host/a::b", False),
        ("git@host:owner/lib.git", False),
        ("ssh://[::1]/lib.git", False),
        ("../lib.git", False),
    ],
)
def test_a_url_that_is_an_option_or_a_program_is_no_address(url: str, is_strange: bool) -> None:
    assert submodule_remotes.is_strange(url) is is_strange


def test_a_url_is_never_an_option_of_git(main: Path, tmp_path: Path) -> None:
    marker = tmp_path / "was-started"
    with pytest.raises(SystemFault, match="cannot be reached"):
        submodule_remotes.has(
            str(main / "lib"), f"--upload-pack=touch {marker};", "0" * 40, str(tmp_path / "scratch")
        )
    assert not marker.exists()


def test_only_a_remote_of_the_persons_on_this_disk_is_pushed_to(main: Path, tmp_path: Path) -> None:
    sh(tmp_path, "init", "--quiet", "--bare", "evil.git")
    asked = submodule_remotes.is_a_persons
    assert asked(str(main), "lib", str(tmp_path / "lib.git"))
    assert asked(str(main), "new", "https://host.invalid/lib.git")
    for url in (str(tmp_path / "evil.git"), f"file://{tmp_path}/evil.git", "../evil.git"):
        assert not asked(str(main), "lib", url)
        assert not asked(str(main), "new", url)


URL, PATH = "submodule.lib.url", "submodule.lib.path"


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (("config", "--file", ".gitmodules", URL, "../gone.git"), "cannot be reached"),
        (("config", "--file", ".gitmodules", URL, "ext::sh"), "is not an address"),
        (("config", "--file", ".gitmodules", PATH, "libx"), "restore its path and URL"),
        (("config", "--file", ".gitmodules", "--unset", URL), "restore its path and URL"),
        (("rm", "--quiet", ".gitmodules"), "restore its path and URL"),
        (("mv", "lib", "vendor"), None),
        (("rm", "--quiet", "lib"), None),
        (("config", "--file", ".gitmodules", "submodule.lib.branch", "main"), None),
    ],
)
def test_work_that_takes_the_address_of_a_submodule_away_is_refused(
    main: Path, tmp_path: Path, step: tuple[str, ...], reason: str | None
) -> None:
    base = head(main)
    sh(main, *step)
    sh(main, "commit", "--quiet", "--all", "--message", "Work")
    work = submodule_changes.work(str(main), base, head(main))
    assert (len(work.commits), ".gitmodules" in work.links) == (1, True)
    record = SimpleNamespace(
        id="R1", links=work.links, base_commit=base, push_address=None, push_remote=None
    )
    job: Any = SimpleNamespace(
        record=record,
        layout=SimpleNamespace(root=str(main), cache=str(tmp_path)),
        config=SimpleNamespace(submodules=SimpleNamespace(unpushed="refuse")),
        path=str(main),
    )
    said = nested.refusal(job, "work", head(main))
    assert (said is None) == (reason is None), said
    assert (reason or "") in (said or "")


BUMP = (
    "cd lib && git checkout -q -b work && echo v2 > lib.txt && "
    "git -c user.name=A -c user.email=a@b commit -qam v2; cd .. && git commit -qam bump"
)


def with_library(world: World, **config: object) -> Path:
    world.create(retry={"max_attempts": 2, "backoff_seconds": 0}, **config)
    bare = library(world.folder)
    add_submodule(world.root, bare)
    world.git("push", "--quiet", "origin", "main")
    return bare


def test_an_unpushed_commit_of_a_submodule_is_refused_and_pushed_only_by_setting(
    world: World,
) -> None:
    bare = with_library(world, checks=["test -s lib/lib.txt"])
    world.script("default", {"steps": [["call", "sh", "-c", BUMP]]})
    task = world.add("Bump")
    world.tick_until_in("failed", task)
    assert world.task(task)["reason"].startswith("push_rejected")
    assert "of the submodule lib is not at its remote" in world.text(task)
    assert world.prs() == []
    world.configure(submodules={"unpushed": "push"})
    world.script("default", {"steps": [["call", "sh", "-c", "git status"]]})
    world.ok("task", "retry", task)
    world.tick_until_in("done", task)
    [pr] = world.prs()
    bump = world.git("rev-parse", f"{pr['head']}:lib", cwd=world.remote)
    assert world.git("rev-parse", f"refs/heads/{pr['branch']}", cwd=bare) == bump
    assert repository.refs(str(world.root / "lib"), RESCUE) == {}, "it is pushed"
    shown = world.ok("pr", "diff", pr["id"]).out
    assert "+v2" in shown, "a person approves what is in the submodule, too"
    world.git("config", "diff.submodule", "short")
    assert "+Subproject commit" in world.ok("pr", "diff", pr["id"]).out
    # The client refuses reviewers `git diff --submodule=diff` (tried with 2.1.332).
    shown_by = ["git", "diff", "origin/main...HEAD"]
    world.script("reviewer", {"steps": [["call", *shown_by]]})
    world.configure(agents=[world.agent("rev-1", "reviewer")])
    world.tick_until(lambda: world.ledger("call", argv=shown_by), "the review")
    [call] = world.ledger("call", argv=shown_by)
    assert "+v2" in call["out"], "a reviewer reads it, too"


def test_a_repository_inside_that_no_gitmodules_names_is_failed_work(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    scaffold = (
        "mkdir web && cd web && git init -q && echo page > index.html && git add -A && "
        "git -c user.name=A -c user.email=a@b commit -qm scaffold; cd .. && git add -A; "
        "git commit -qm web"
    )
    world.script("default", {"steps": [["call", "sh", "-c", scaffold]]})
    task = world.add("Scaffold")
    world.tick_until_in("failed", task)
    assert world.task(task)["reason"].startswith("push_rejected")
    assert "web is a git repository of its own" in world.text(task)
    assert world.prs() == []


# --- Git LFS -----------------------------------------------------------------------------------


def add_lfs(root: Path) -> None:
    needs.program("git-lfs", "git-lfs")
    sh(root, "lfs", "install", "--local")
    sh(root, "lfs", "track", "*.bin")
    sh(root, "add", ".gitattributes")
    sh(root, *NAMED, "commit", "--quiet", "--message", "Track binaries")


def test_objects_in_git_lfs_are_pushed_before_the_branch(world: World) -> None:
    world.create()
    add_lfs(world.root)
    world.git("push", "--quiet", "origin", "main")
    make = "printf binary > new.bin && git add new.bin && git commit -qm asset"
    world.script("default", {"steps": [["call", "sh", "-c", make]]})
    task = world.add("Asset")
    world.tick_until_in("done", task)
    [pr] = world.prs()
    pointer = world.git("show", f"{pr['head']}:new.bin", cwd=world.remote)
    assert "git-lfs.github.com/spec" in pointer
    assert [p.read_text() for p in (world.remote / "lfs").rglob("*") if p.is_file()] == ["binary"]


def test_an_object_that_is_lost_is_refused_as_the_works_fault(repo: Path, tmp_path: Path) -> None:
    add_lfs(repo)
    sh(tmp_path, "init", "--quiet", "--bare", "remote.git")
    sh(repo, "remote", "add", "origin", str(tmp_path / "remote.git"))
    lost = commit(repo, "lost.bin", "gone")
    [stored] = (p for p in (repo / ".git/lfs/objects").rglob("*") if p.is_file())
    stored.unlink()
    said = lfs.push(str(repo), "origin", lost, "b", "")
    assert said is not None
    assert "git-lfs lacks objects" in said


def test_a_pointer_that_was_changed_as_if_it_were_the_file_is_refused(
    repo: Path, tmp_path: Path
) -> None:
    add_lfs(repo)
    sh(tmp_path, "init", "--quiet", "--bare", "remote.git")
    sh(repo, "remote", "add", "origin", str(tmp_path / "remote.git"))
    before = commit(repo, "an image.bin", "a file")
    assert lfs.push(str(repo), "origin", before, "b", "") is None
    assert not lfs.skips(str(repo), {})
    sh(repo, "lfs", "install", "--local", "--force", "--skip-smudge")
    assert lfs.skips(str(repo), {})
    # As an agent's worktree has it with that setting.
    pointer = sh(repo, "show", "HEAD:an image.bin")
    spoilt = commit(repo, "an image.bin", pointer + "\nmore\n")
    said = lfs.push(str(repo), "origin", spoilt, "b", before)
    assert said is not None
    assert "an image.bin is in Git LFS, and the commit has its pointer" in said
    # The next attempt corrects it on the same branch.
    whole = commit(repo, "an image.bin", "a file, and more")
    assert lfs.push(str(repo), "origin", whole, "b", before) is None


def test_without_git_lfs_the_fault_names_it_before_anybody_pays(world: World) -> None:
    world.create()
    (world.root / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    world.git("add", ".")
    world.git("commit", "--quiet", "--message", "Track binaries")
    world.git("push", "--quiet", "origin", "main")
    world.environment["GIT_CONFIG_GLOBAL"] = os.devnull
    task = world.add("Asset")
    world.tick()  # until then the problem may be that no tick has run
    world.tick_until(lambda: world.status()["problems"], "the fault")
    [problem] = world.status()["problems"]
    assert problem["code"] == "git_lfs_missing"
    assert "git lfs install" in problem["hint"]
    assert (world.where(task), world.starts()) == (["incoming"], [])
    found = [f for f in world.run("doctor", "--json").json["findings"] if f["level"] == "fail"]
    assert "git_lfs_missing" in [f["code"] for f in found]


# --- whole worktrees, and files that only look changed --------------------------------------------


@pytest.mark.parametrize("how", ["sparse-checkout", "by hand"])
def test_agents_see_the_whole_tree_of_a_sparse_checkout(repo: Path, how: str) -> None:
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    for name in ("a", "b"):
        (repo / name).mkdir()
        commit(repo, f"{name}/file.txt")
    if how == "sparse-checkout":
        sh(repo, "sparse-checkout", "set", "a")
    else:
        sh(repo, "config", "core.sparseCheckout", "true")
        (repo / ".git" / "info" / "sparse-checkout").write_text("/a/\n")
        sh(repo, "read-tree", "-m", "-u", "HEAD")
    assert not (repo / "b").exists()
    made = Agent(repo)
    made.begin()
    assert (made.path / "b" / "file.txt").exists()
    assert sh(made.path, "status", "--porcelain") == ""
    sh(made.path, "sparse-checkout", "set", "a")
    assert not (made.path / "b").exists()
    assert made.end() is None
    made.begin(run="R3")
    assert (made.path / "b" / "file.txt").exists()
    assert not (repo / "b").exists(), "the person's checkout stays sparse"


def test_changes_that_a_checkout_makes_itself_are_no_rescue(repo: Path) -> None:
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    sh(repo, "config", "core.autocrlf", "false")
    commit(repo, "windows.txt", "one\r\ntwo\r\n")
    (repo / ".gitattributes").write_text("*.txt text\n")
    sh(repo, "add", ".gitattributes")
    sh(repo, "commit", "--quiet", "--message", "Normalise from now on")
    made = Agent(repo)
    made.begin()
    os.utime(made.path / "windows.txt", (1, 1))
    assert "windows.txt" in sh(made.path, "status", "--porcelain")
    assert made.end() is None
    assert rescued(repo) == {}
    made.begin(run="R3")
    os.utime(made.path / "windows.txt", (1, 1))
    (made.path / "real.txt").write_text("work\n")
    ref = made.end(run="R3")
    assert ref is not None
    assert sh(repo, "diff", "--name-only", f"{ref}^", ref) == "real.txt"


# --- rescues that are elsewhere ------------------------------------------------------------------


def test_a_rescue_goes_when_the_contents_of_its_files_are_on_a_branch(repo: Path) -> None:
    (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
    made = Agent(repo)
    made.begin()
    (made.path / "new.txt").write_text("the work\n")
    (made.path / "README.md").write_text("# Another\n")
    ref = made.end()
    assert ref is not None
    root, kept = str(repo), head(repo, ref)
    assert not rescues.is_elsewhere(root, kept)
    sh(repo, "checkout", "--quiet", "-b", "other")
    commit(repo, "new.txt", "the work\n")
    assert not rescues.is_elsewhere(root, kept), "README.md is nowhere else"
    commit(repo, "README.md", "# Another\n")
    assert rescues.is_elsewhere(root, kept)
    commit(repo, "README.md", "# Replaced\n")
    assert rescues.is_elsewhere(root, kept), "the history has it"
    sh(repo, "checkout", "--quiet", "main")
    sh(repo, "branch", "--quiet", "-D", "other")
    assert not rescues.is_elsewhere(root, kept)


def test_clean_lists_and_drops_the_rescues_of_submodules(world: World) -> None:
    with_library(world)
    steps = [["call", "sh", "-c", "echo dirt >> lib/lib.txt"], ["work"]]
    world.script("default", {"steps": steps})
    task = world.add("Leaves dirt")
    world.tick_until_in("done", task)
    lib = world.root / "lib"
    [(ref, kept)] = repository.refs(str(lib), RESCUE).items()
    listed = world.ok("clean", "--dry-run").out
    assert f"kept rescue lib: {ref}" in listed
    assert f"git -C lib show --first-parent {ref}" in listed
    world.git("push", "--quiet", "origin", f"{kept}:refs/heads/dirt", cwd=lib)
    world.ok("clean")
    assert repository.refs(str(lib), RESCUE) == {}
    assert subprocess.run(("git", "cat-file", "-e", kept), cwd=lib).returncode == 0
