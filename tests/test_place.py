"""The product's git, in worktrees that an agent could write, runs no program that an agent named.

Each trap starts a harmless program that appends a line to a file; the file must stay missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import git as sh
from rows import each_row
from test_submodules import Worker, add_submodule, agent, change_inside, library, main  # noqa: F401 (fixtures)
from test_worktree import BRANCH, Agent, commit, ignored, kept_text  # noqa: F401 (fixtures)

from orchestrator.git import (
    drivers,
    merges,
    overlap,
    place,
    project_root,
    repository,
    submodules,
    worktree,
    worktree_commands,
)
from orchestrator.git.repository import RESCUE
from orchestrator.model.errors import GitError


class Trap:
    """A program that notes that it was started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.marker = folder, folder / "was-started"
        self.program = folder / "program.sh"
        self.program.write_text(f'#!/bin/sh\necho "$0 $PWD" >>{self.marker}\ncat\n')
        self.program.chmod(0o755)

    def settings(self, program: str | None = None) -> str:
        """Return a configuration of git in which everything starts the program."""
        named = program or str(self.program)
        return (
            f"[core]\n\tfsmonitor = {named}\n\tsshCommand = {named}\n\thooksPath = {self.folder}\n"
            f"\teditor = {named}\n\tpager = {named}\n\taskPass = {named}\n"
            f'[filter "x"]\n\tclean = {named}\n\tsmudge = {named}\n\tprocess = {named}\n'
            f'\trequired = true\n[merge "x"]\n\tdriver = {named}\n'
            f'[diff "x"]\n\tcommand = {named}\n\ttextconv = {named}\n[diff]\n\texternal = {named}\n'
            f"[credential]\n\thelper = !{named}\n[gpg]\n\tprogram = {named}\n"
            f"[commit]\n\tgpgSign = true\n[log]\n\tshowSignature = true\n"
        )

    @property
    def started(self) -> str:
        return self.marker.read_text() if self.marker.exists() else ""


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    folder = tmp_path / "trap"
    folder.mkdir()
    return Trap(folder)


@pytest.fixture
def plain(ignored: Path) -> Agent:  # noqa: F811
    made = Agent(ignored)
    made.begin()
    return made


ATTRIBUTES = "* filter=x merge=x diff=x\n"


def leave_changes(path: Path) -> None:
    (path / ".gitattributes").write_text(ATTRIBUTES)
    (path / "README.md").write_text("changed\n")
    (path / "new.txt").write_text("precious\n")


def everything(agent: Agent) -> None:  # noqa: F811
    """Do what the product does in a worktree: during a run, after it, and in the next run."""
    overlap.changes(str(agent.path), "HEAD")
    if worktree_commands.is_worktree(str(agent.path)):
        agent.end()
    agent.begin(run="R2")
    submodules.check_out(str(agent.repo), str(agent.path), "same")
    worktree_commands.detach(str(agent.path), "main")
    merges.join_in_worktree(str(agent.path), "main", BRANCH, "merge", "Merge")
    agent.end(run="R2")


# --- the worktree itself -----------------------------------------------------------------------


def _its_own_configuration(agent: Agent, trap: Trap) -> None:  # noqa: F811
    sh(agent.repo, "config", "extensions.worktreeConfig", "true")
    (agent.git_folder / "config.worktree").write_text(trap.settings())


def _another_common_folder(agent: Agent, trap: Trap) -> None:  # noqa: F811
    common = trap.folder / "common"
    sh(trap.folder, "clone", "--quiet", "--bare", str(agent.repo), str(common))
    with (common / "config").open("a") as file:
        file.write(trap.settings())
    (agent.git_folder / "commondir").write_text(f"{common}\n")


def _an_included_file(agent: Agent, trap: Trap) -> None:  # noqa: F811
    (trap.folder / "more").write_text(trap.settings())
    sh(agent.repo, "config", "extensions.worktreeConfig", "true")
    (agent.git_folder / "config.worktree").write_text(f"[include]\n\tpath = {trap.folder}/more\n")


@pytest.mark.parametrize(
    "spring", [_its_own_configuration, _an_included_file, _another_common_folder]
)
def test_failure_35_no_file_of_a_worktrees_git_folder_makes_git_start_a_program(
    plain: Agent, trap: Trap, spring: Callable[[Agent, Trap], None]
) -> None:
    commit(plain.path)
    spring(plain, trap)
    leave_changes(plain.path)
    everything(plain)
    assert trap.started == ""
    assert kept_text(plain.repo, "precious")


def _a_repository(path: Path, trap: Trap) -> None:
    sh(path, "init", "--quiet")


def _a_link_to_a_folder(path: Path, trap: Trap) -> None:
    sh(trap.folder, "init", "--quiet", "elsewhere")
    (path / ".git").symlink_to(trap.folder / "elsewhere" / ".git")


def _a_file(path: Path, trap: Trap) -> None:
    sh(trap.folder, "init", "--quiet", "elsewhere")
    (path / ".git").write_text(f"gitdir: {trap.folder}/elsewhere/.git\n")


def _a_worktree_of_another_repository(path: Path, trap: Trap) -> None:
    """It names the agent's worktree in turn, as a linked worktree of git's does."""
    sh(trap.folder, "init", "--quiet", "elsewhere")
    own = trap.folder / "elsewhere" / ".git" / "worktrees" / "worktree"
    own.mkdir(parents=True)
    for name, text in (
        ("HEAD", "ref: refs/heads/x"),
        ("commondir", "../.."),
        ("gitdir", f"{path}/.git"),
    ):
        (own / name).write_text(f"{text}\n")
    (path / ".git").write_text(f"gitdir: {own}\n")


@pytest.mark.parametrize(
    "put", [_a_repository, _a_link_to_a_folder, _a_file, _a_worktree_of_another_repository]
)
def test_a_git_file_that_leads_elsewhere_is_not_followed_and_all_work_is_kept(
    plain: Agent, trap: Trap, put: Callable[[Path, Trap], None]
) -> None:
    sh(plain.path, "checkout", "--quiet", "--detach", "main")
    detached = commit(plain.path, "detached.txt", "only here\n")
    (plain.path / ".git").unlink()
    put(plain.path, trap)
    for config in trap.folder.glob("elsewhere/.git/config"):
        config.write_text(config.read_text() + trap.settings())
    if (plain.path / ".git").is_dir():
        (plain.path / ".git" / "config").write_text(trap.settings())
    leave_changes(plain.path)
    with pytest.raises(GitError, match="leads elsewhere"):
        worktree_commands.state(str(plain.path))
    assert overlap.changes(str(plain.path), "HEAD") is None
    assert not worktree_commands.is_worktree(str(plain.path))
    plain.begin()
    assert worktree_commands.state(str(plain.path)).branch == BRANCH
    assert trap.started == ""
    assert kept_text(plain.repo, "precious")
    assert detached in repository.refs(str(plain.repo), RESCUE).values()


def test_without_its_git_file_a_worktree_is_not_taken_for_the_persons_checkout(
    plain: Agent,
) -> None:
    (plain.path / ".git").unlink()
    (plain.repo / "precious.txt").write_text("the person's\n")
    with pytest.raises(GitError, match="not a git repository"):
        worktree_commands.clean(str(plain.path))
    assert (plain.repo / "precious.txt").exists()
    assert project_root.find(str(plain.path)) == str(plain.repo)


@pytest.mark.parametrize("name", ["index", "logs/HEAD", "HEAD", "info", "ORIG_HEAD"])
def test_git_writes_through_no_link_in_a_worktrees_git_folder(
    plain: Agent, trap: Trap, name: str
) -> None:
    tip = commit(plain.path)
    target, link = trap.folder / "precious", plain.git_folder / name
    if name == "info":
        target.mkdir()
        (target / "sparse-checkout").write_text("the person's\n")
        shutil.rmtree(link, ignore_errors=True)
    else:
        target.write_text("the person's\n")
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
    link.symlink_to(target)
    branch_log = plain.repo / ".git" / "logs" / "refs" / "heads" / BRANCH
    branch_log.unlink()
    branch_log.symlink_to(trap.folder / "precious-too")
    (trap.folder / "precious-too").write_text("the person's\n")
    if worktree_commands.is_worktree(str(plain.path)):
        plain.end()
    plain.begin()
    assert worktree_commands.state(str(plain.path)) == (tip, BRANCH, False)
    found = target / "sparse-checkout" if name == "info" else target
    assert found.read_text() == "the person's\n"
    assert (trap.folder / "precious-too").read_text() == "the person's\n"


# --- repositories in the worktree --------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True], ids=["untracked", "a gitlink"])
def test_git_does_not_descend_into_a_repository_that_an_agent_made(
    plain: Agent, trap: Trap, named: bool
) -> None:
    inner = plain.path / "inner"
    sh(plain.path, "init", "--quiet", str(inner))
    (inner / "a.txt").write_text("one\n")
    (inner / ".gitattributes").write_text(ATTRIBUTES)
    sh(inner, "add", ".")
    sh(inner, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "x")
    if named:
        (plain.path / ".gitmodules").write_text(
            f'[submodule "inner"]\n\tpath = inner\n\turl = ./inner\n\tignore = none\n'
            f"\tupdate = !{trap.program}\n"
        )
        sh(plain.path, "-c", "advice.addEmbeddedRepo=false", "add", ".")
        sh(plain.path, "commit", "--quiet", "-m", "inner")
    (inner / "a.txt").write_text("precious\n")
    (inner / ".git" / "config").write_text(trap.settings())
    (plain.path / "README.md").write_text("changed\n")
    everything(plain)
    assert trap.started == ""
    assert kept_text(plain.repo, "precious")


def test_the_configuration_of_a_submodule_names_no_program_to_the_product(
    agent: Worker,  # noqa: F811
    trap: Trap,
) -> None:
    tip = change_inside(agent.lib)
    folder = Path(worktree_commands.git_folder(str(agent.lib)))
    elsewhere = trap.folder / "persons"
    elsewhere.mkdir()
    (elsewhere / "untracked.txt").write_text("the person's\n")
    with (folder / "config").open("a") as file:
        file.write(trap.settings())
        file.write(f"[core]\n\tworktree = {elsewhere}\n[include]\n\tpath = {trap.folder}/more\n")
        file.write(
            f'[remote "origin"]\n\tuploadpack = {trap.program}\n\turl = ext::{trap.program}\n'
        )
        file.write("[protocol]\n\tallow = always\n")
    (trap.folder / "more").write_text(trap.settings())
    leave_changes(agent.lib)
    everything(agent)
    assert trap.started == ""
    assert (elsewhere / "untracked.txt").exists()
    kept = repository.refs(str(agent.repo / "lib"), RESCUE).values()
    assert any(repository.is_ancestor(str(agent.repo / "lib"), tip, each) for each in kept)
    found = (folder / "config").read_text()
    assert str(trap.program) not in found
    assert str(elsewhere) not in found
    assert "Agent" in found


def test_a_submodule_that_an_agent_replaced_by_a_repository_is_set_aside_unread(
    agent: Worker,  # noqa: F811
    trap: Trap,
) -> None:
    (agent.lib / ".git").unlink()
    sh(agent.lib, "init", "--quiet")
    (agent.lib / ".git" / "config").write_text(trap.settings())
    leave_changes(agent.lib)
    everything(agent)
    assert trap.started == ""
    assert kept_text(agent.repo, "precious")


def test_a_link_above_a_submodule_leads_the_product_nowhere(
    main: Path,  # noqa: F811
    trap: Trap,
    tmp_path: Path,
) -> None:
    inner = library(tmp_path, "inner")
    add_submodule(main, inner, "deep/inner")
    agent = Worker(main)  # noqa: F811
    agent.begin_filled()
    outside = trap.folder / "outside"
    sh(trap.folder, "clone", "--quiet", str(inner), str(outside / "inner"))
    (outside / "inner" / "precious.txt").write_text("the person's\n")
    (outside / "inner" / ".git" / "config").write_text(trap.settings())
    shutil.rmtree(agent.path / "deep")
    (agent.path / "deep").symlink_to(outside)
    everything(agent)
    assert trap.started == ""
    assert (outside / "inner" / "precious.txt").read_text() == "the person's\n"
    assert (outside / "inner" / ".git").is_dir()
    assert (agent.path / "deep" / "inner" / "lib.txt").read_text() == "v1\n"


# --- what the person configured ----------------------------------------------------------------


def test_a_persons_filters_run_in_the_persons_checkout_and_not_in_the_agents(
    ignored: Path,  # noqa: F811
    trap: Trap,
) -> None:
    """A relative path would start the agent's file of that name."""
    sh(ignored, "config", "filter.x.clean", "./clean.sh %f")
    sh(ignored, "config", "filter.x.smudge", "./clean.sh")
    sh(ignored, "config", "filter.x.required", "true")
    sh(ignored, "config", "merge.x.driver", "./merge.sh %A %B")
    for name in ("clean.sh", "merge.sh"):
        (ignored / name).write_text(
            trap.program.read_text() if name == "clean.sh" else "#!/bin/sh\ncat $2 >>$1\n"
        )
        (ignored / name).chmod(0o755)
    (ignored / ".gitattributes").write_text("*.md filter=x merge=x\n")
    sh(ignored, "add", ".gitattributes", "*.sh")
    sh(ignored, "commit", "--quiet", "-m", "Filters")
    agent = Agent(ignored)  # noqa: F811
    agent.begin()
    evil = trap.folder / "evil"
    for name in ("clean.sh", "merge.sh"):
        (agent.path / name).write_text(f"#!/bin/sh\ntouch {evil}\ncat\n")
    commit(agent.path, "README.md", "agent's\n")
    evil.unlink(missing_ok=True)  # the agent's own git started it
    (agent.path / "README.md").write_text("precious\n")
    ref = agent.end()
    assert ref is not None
    (ignored / "README.md").write_text("person's\n")
    sh(ignored, "commit", "--quiet", "--all", "-m", "Other")
    trap.marker.unlink()
    worktree_commands.detach(str(agent.path), "main")
    merged = merges.join_in_worktree(str(agent.path), "main", BRANCH, "merge", "Merge")
    assert isinstance(merged, str)
    assert sh(ignored, "show", f"{merged}:README.md") == "person's\nagent's"
    assert not evil.exists()
    places = {line.split()[-1] for line in trap.started.splitlines()}
    assert places == {str(ignored)}


@each_row(
    ("seen", "trusted", "expected"),
    [
        ("git-lfs clean -- %f", "git-lfs clean -- %f", None),
        ("/usr/bin/git-lfs clean -- %f", "/usr/bin/git-lfs clean -- %f", None),
        ("./git-lfs clean", "./git-lfs clean", "cd /p && ./git-lfs clean"),
        ("crypt clean", "crypt clean", "cd /p && crypt clean"),
        ("evil", "git-lfs clean -- %f", "git-lfs clean -- %f"),
        ("evil", "crypt clean", "cd /p && crypt clean"),
        ("evil", None, ""),
        ("", None, None),
    ],
)
def test_a_filter_is_the_persons_or_it_does_not_run(
    seen: str, trusted: str | None, expected: str | None
) -> None:
    name = "filter.x.clean"
    known = {} if trusted is None else {name: trusted}
    assert drivers.overrides({name: seen}, known, "/p", "/p/w").get(name) == expected


@pytest.mark.parametrize(
    ("trusted", "top", "expected"),
    [
        ("./m %O %A %B %P %%A", "/p/w", "cd /p && ./m /p/w/%O /p/w/%A /p/w/%B %P %%A"),
        ("true", "/p/w", "cd /p && true"),
        ("./m %A", "/p/a b", "git merge-file %A %O %B"),
        (None, "/p/w", "git merge-file %A %O %B"),
    ],
)
def test_a_merge_driver_works_on_the_files_of_the_worktree_or_text_is_merged(
    trusted: str | None, top: str, expected: str
) -> None:
    name = "merge.x.driver"
    known = {} if trusted is None else {name: trusted}
    assert drivers.overrides({name: "evil"}, known, "/p", top) == {name: expected}


def test_another_project_may_live_in_an_agents_worktree(plain: Agent) -> None:
    """The tests of a project that an agent runs may make repositories, with agents of their own."""
    inner = plain.path / "tmp" / "project"
    sh(plain.path, "init", "--quiet", str(inner))
    sh(inner, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x", "--allow-empty")
    tip = sh(inner, "rev-parse", "HEAD")
    assert project_root.find(str(inner)) == str(inner)
    assert repository.resolve(str(inner), "HEAD") == tip
    path = inner / ".orchestrator" / "agents" / "impl" / "worktree"
    assert worktree.ensure(str(inner), str(path), tip)
    assert worktree_commands.state(str(path)).head == tip
    assert project_root.find(str(path)) == str(inner)


def test_the_place_of_a_worktree_follows_from_its_path_alone(tmp_path: Path) -> None:
    assert place.variables(str(tmp_path)) == {}
    for part in ("agents/a/worktree", "cache/landing"):
        path = tmp_path / ".orchestrator" / part
        path.mkdir(parents=True)
        assert place.variables(str(path)) == {"GIT_CEILING_DIRECTORIES": str(path.parent)}
    assert place.variables(str(tmp_path / ".orchestrator" / "agents" / "a")) == {}
