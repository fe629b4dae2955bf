"""What a run does to the person's checkout is noticed, and the hint undoes it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import harness
import pytest
from conftest import git
from harness import World

from orchestrator.git import checkout, repository, stashes
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Problem
from orchestrator.project import checkout_changed

world = harness.world


class Run:
    """One run beside a person, by the commands of each."""

    def __init__(self, project: Layout, name: str = "R1") -> None:
        self.layout, self.name = project, name
        self.folder = Path(project.run("impl", name))
        self.folder.mkdir(parents=True)
        checkout_changed.note(project, str(self.folder))
        self._wait_for_the_clock()

    def _wait_for_the_clock(self) -> None:
        """Wait until a file that is written now is later than what was noted."""
        noted = (self.folder / checkout_changed.BEFORE / "head.json").stat().st_ctime_ns
        probe, end = self.folder / "probe", time.monotonic() + 10
        while time.monotonic() < end:
            probe.write_text("x")
            if probe.stat().st_ctime_ns > noted:
                return
        pytest.fail("the clock of the file system stands still")

    def agent(self, command: str) -> None:
        self._sh(command, checkout_changed.variables(str(self.folder)))

    def person(self, command: str) -> None:
        self._sh(command, {})

    def _sh(self, command: str, extra: dict[str, str]) -> None:
        words = ("sh", "-ec", command)
        subprocess.run(
            words, cwd=self.layout.root, env={**os.environ, **extra}, check=True, timeout=60,
            capture_output=True,
        )  # fmt: skip

    def end(self, branch: str | None = None) -> Problem | None:
        checkout_changed.compare(self.layout, str(self.folder), self.name, "impl", branch)
        assert not (self.folder / checkout_changed.TRACE).exists()
        assert not (self.folder / checkout_changed.BEFORE).exists()
        return checkout_changed.problem(self.layout)


def state(root: str) -> tuple[Any, ...]:
    config = checkout.settings(f"{root}/.git/config")
    here = ("--work-tree", root, "--git-dir", f"{root}/.git")
    status = git(Path(root), *here, "status", "--porcelain", "--untracked-files=no")
    folder = Path(root, ".git")
    files = (*folder.glob("hooks/*"), folder / "info/attributes")
    shared = {str(path): path.read_bytes() for path in files if path.is_file()}
    return checkout.head(root), status, config, shared


def undo(found: Problem | None) -> None:
    assert found is not None
    subprocess.run(("sh", "-ec", found.hint or ""), cwd="/", check=True, capture_output=True)


IN_A_WORKTREE = "git worktree add -q --detach tree; cd tree;"
COMMIT = "echo j > jack.txt; git add jack.txt; git commit -qm jack"


#: Settings that decide where git works, what it runs and reads; then where it sends.
RUNNING = """core.bare core.worktree core.hookspath core.fsmonitor core.sshcommand core.gitproxy
    core.askpass core.editor core.pager core.alternaterefscommand core.attributesfile
    core.repositoryformatversion filter.x.clean filter.x.smudge filter.x.process merge.x.driver
    diff.external diff.x.command diff.x.textconv credential.helper credential.https://h.helper
    gpg.program gpg.ssh.program include.path includeif.gitdir:/x.path remote.x.uploadpack
    remote.x.receivepack remote.x.vcs protocol.allow protocol.ext.allow extensions.fancy"""
SENDING = """remote.x.url remote.x.pushurl remote.x.fetch remote.x.push url.https://h/.insteadof
    url.https://h/.pushinsteadof"""
HARMLESS = "user.name core.filemode branch.main.merge filter.x.required alias.x diff.x.binary"


def test_settings_that_decide_what_git_runs_or_where_it_sends_are_watched(tmp_path: Path) -> None:
    running, sending, harmless = (names.split() for names in (RUNNING, SENDING, HARMLESS))
    lines = []
    for name in (*running, *sending, *harmless):
        section, _, rest = name.partition(".")
        part, _, key = rest.rpartition(".")
        lines += [f'[{section} "{part}"]' if part else f"[{section}]", f"\t{key} = value"]
    (tmp_path / "config").write_text("\n".join(lines))
    found = checkout.settings(str(tmp_path / "config"))
    assert sorted(found) == sorted([*running, *sending])
    assert sorted(filter(checkout.is_running, found)) == sorted(running)
    assert not checkout.is_running("filter.lfs.clean"), "git lfs install writes it"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (COMMIT, "main was at"),
        ("git checkout -q -b other; " + COMMIT, "HEAD was the branch main and is the branch other"),
        ("git checkout -q --detach", "HEAD was the branch main and is the commit"),
        ("git rm -q --cached README.md", "other files are staged"),
        ("git update-ref refs/heads/main $(git commit-tree -m x HEAD^{tree})", "main was at"),
        ("git config core.bare true", "core.bare was false and is true"),
        ("git config core.worktree /nonexistent", "core.worktree was not set and is /nonexistent"),
        ("sed -i 's/bare = false/bare = true/' .git/config", "core.bare was false and is true"),
        ("git config core.hooksPath .husky/_", "core.hookspath was not set and is .husky/_"),
        ("git remote add evil https://host.invalid/x", "remote.evil.url was not set and is"),
        ("mkdir -p .git/hooks; echo false >.git/hooks/pre-commit", "hooks/pre-commit in "),
        ("mkdir -p .git/info; echo '* -text' >.git/info/attributes", "info/attributes in "),
        ("sed -i 's/formatversion = 0/formatversion = 99/' .git/config", "core.repositoryformat"),
        (
            "sed -i 's/formatversion = 0/formatversion = 1/' .git/config; "
            "printf '[extensions]\\n\\tfancy = x\\n' >>.git/config",
            "extensions.fancy was not set",
        ),
        (COMMIT + "; git config core.worktree /nonexistent", "main was at"),
        (
            "printf '[filter \"x\"]\\n\\tclean = evil\\n' >>.git/config",
            "filter.x.clean was not set",
        ),
        (
            "printf '[include]\\n\\tpath = /x\\n' >>.git/config",
            "include.path was not set and is /x",
        ),
        ("printf '[core]\\n\\tsshCommand = x\\n' >>.git/config", "core.sshcommand was not set"),
        ("git config url.https://host.invalid/.insteadOf https://", "insteadof was not set and is"),
        (f"{IN_A_WORKTREE} git checkout -q --ignore-other-worktrees main; {COMMIT}", "main was at"),
        (f"{IN_A_WORKTREE} git symbolic-ref HEAD refs/heads/main; {COMMIT}", "main was at"),
        (
            f"{IN_A_WORKTREE} git symbolic-ref refs/heads/x refs/heads/main; git checkout -q x;"
            f"{COMMIT}",
            "main was at",
        ),
        (
            f"{IN_A_WORKTREE} {COMMIT}; unset GIT_TRACE2_EVENT;git update-ref refs/heads/main HEAD",
            "main was at",
        ),
        (f"{IN_A_WORKTREE} {COMMIT}; git rev-parse HEAD >../.git/refs/heads/main", "main was at"),
    ],
)
def test_the_hint_undoes_what_an_agent_did(project: Layout, command: str, said: str) -> None:
    before = state(project.root)
    run = Run(project)
    run.agent(command)
    found = run.end()
    assert found is not None
    assert found.code == "checkout_changed"
    assert "during run R1 of impl" in found.message
    assert said in found.message
    subprocess.run(("sh", "-ec", found.hint or ""), cwd="/", check=True, capture_output=True)
    assert state(project.root) == before
    assert checkout_changed.problem(project) is None


@pytest.mark.parametrize(
    "command",
    [
        "echo false >.git/hooks/pre-commit",
        "rm .git/hooks/pre-commit",
        "ln -sf /bin/true .git/hooks/pre-commit",
        "echo '* -text' >.git/info/attributes",
        "git commit -q --amend --allow-empty -m other",
        "git reset -q --hard HEAD~1",
    ],
)
def test_git_gc_takes_nothing_that_the_hint_needs(project: Layout, command: str) -> None:
    root = Path(project.root)
    for name in ("hooks/pre-commit", "info/attributes"):
        (root / ".git" / name).parent.mkdir(exist_ok=True)
        (root / ".git" / name).write_text(f"# {name}\n")
    (root / ".git" / "hooks" / "pre-commit").chmod(0o755)
    git(root, "commit", "-q", "--no-verify", "--allow-empty", "-m", "of a person")
    before = state(project.root)
    run = Run(project)
    run.agent(command)
    found = run.end()
    git(root, "reflog", "expire", "--expire=now", "--all")
    git(root, "gc", "-q", "--prune=now")
    undo(found)
    assert state(project.root) == before
    assert os.access(root / ".git" / "hooks" / "pre-commit", os.X_OK)


def test_what_the_person_staged_comes_back_and_the_agents_commit_is_kept(project: Layout) -> None:
    root = Path(project.root)
    (root / "mine.txt").write_text("mine\n")
    git(root, "add", "mine.txt")
    before = state(project.root)
    run = Run(project)
    run.agent(COMMIT)
    taken = git(root, "rev-parse", "HEAD")
    found = run.end()
    assert found is not None
    subprocess.run(("sh", "-ec", found.hint or ""), cwd="/", check=True, capture_output=True)
    assert state(project.root) == before
    assert (root / "mine.txt").read_text() == "mine\n"
    assert repository.resolve(project.root, f"{repository.RESCUE}R1-checkout") == taken


@pytest.mark.parametrize(
    "command",
    [
        COMMIT,
        "git checkout -q -b mine",
        "git rm -q --cached README.md",
        "git remote add fork https://host.invalid/x",
        "git status; touch README.md; git update-index --refresh",
    ],
)
def test_what_the_person_does_meanwhile_is_no_problem(project: Layout, command: str) -> None:
    run = Run(project)
    run.person(command)
    run.agent("git log -1; git status; git diff; git config user.name; git remote -v; git branch")
    run.agent("git stash list; git symbolic-ref HEAD; git fetch -q . main; git branch --list main")
    assert run.end() is None


def stash(text: str, name: str = "README.md") -> str:
    return f"echo {text} >{name}; git stash push -q -m {text}"


def stashes_of(root: str) -> list[str]:
    return git(Path(root), "stash", "list", "--format=%gs").splitlines()


def worktree_of(run: Run, branch: str = "agent/T1") -> Path:
    path = run.folder.parent / "tree"
    git(Path(run.layout.root), "worktree", "add", "-q", "-b", branch, str(path))
    return path


def test_what_an_agent_stashes_leaves_the_persons_list_and_is_kept(project: Layout) -> None:
    run = Run(project)
    run.person(stash("mine"))
    path = worktree_of(run)
    run.agent(f"cd {path}; {stash('precious')}; git checkout -q --detach; {stash('detached')}")
    run.person(stash("later"))
    assert run.end("agent/T1") is None
    assert stashes_of(project.root) == ["On main: later", "On main: mine"]
    kept = repository.refs(project.root, f"{repository.RESCUE}R1-stash")
    kept |= repository.refs(project.root, f"{repository.RESCUE}R1-stash-2")
    texts = {git(Path(project.root), "show", f"{each}:README.md") for each in kept.values()}
    assert texts == {"precious", "detached"}


@pytest.mark.parametrize("command", ["pop -q", "drop -q", "clear"])
def test_a_stash_of_the_persons_that_an_agent_took_comes_back_by_the_hint(
    project: Layout, command: str
) -> None:
    Run(project, "R0").person(stash("mine"))
    run = Run(project)
    run.agent(f"cd {worktree_of(run)}; git stash {command}")
    assert stashes_of(project.root) == []
    found = run.end("agent/T1")
    assert found is not None
    assert "the stash 'On main: mine' is gone" in found.message
    git(Path(project.root), "gc", "--quiet", "--prune=now")
    undo(found)
    assert stashes_of(project.root) == ["On main: mine"]
    assert checkout_changed.problem(project) is None


@pytest.mark.parametrize(
    "command",
    [
        "git stash clear; git gc --quiet --prune=now",
        "git reflog expire --expire=all --all; git gc --quiet --prune=now",
        "git reflog delete stash@{OLDEST}; git gc --quiet --prune=now",
        "git update-ref -d refs/stash; git gc --quiet --prune=now",
    ],
)
@pytest.mark.parametrize("texts", [("one",), ("one", "two", "three")])
def test_stashes_are_not_lost_although_an_agent_has_git_delete_them(
    project: Layout, texts: tuple[str, ...], command: str
) -> None:
    earlier = Run(project, "R0")
    for text in texts:
        earlier.person(stash(text))
    before = stashes_of(project.root)
    run = Run(project)
    run.agent(f"cd {worktree_of(run)}; {command.replace('OLDEST', str(len(texts) - 1))}")
    assert stashes_of(project.root) != before
    undo(run.end("agent/T1"))
    assert {*stashes_of(project.root)} == {*before}
    for number in range(len(texts)):
        git(Path(project.root), "stash", "show", f"stash@{{{number}}}")
    assert repository.refs(project.root, stashes.HELD) == {}


def test_a_run_that_fails_before_its_client_holds_no_stashes(project: Layout) -> None:
    Run(project, "R0").person(stash("mine"))
    run = Run(project)
    assert repository.refs(project.root, stashes.HELD) != {}
    # It was killed before it noted the rest.
    os.unlink(run.folder / checkout_changed.BEFORE / "head.json")
    assert run.end() is None
    assert repository.refs(project.root, stashes.HELD) == {}


def test_stashes_that_the_person_makes_and_drops_are_no_problem(project: Layout) -> None:
    Run(project, "R0").person(stash("mine"))
    run = Run(project)
    path = worktree_of(run)
    run.agent(f"cd {path}; git stash list; git stash show")
    run.person(f"git stash drop -q; {stash('other')}")
    assert run.end("agent/T1") is None
    assert stashes_of(project.root) == ["On main: other"]
    assert repository.refs(project.root, repository.RESCUE) == {}


def contents(root: str) -> tuple[object, ...]:
    """Everything that a person sees in the checkout."""
    here = Path(root)
    found = {x.name: x.read_bytes() for x in here.iterdir() if x.is_file()}
    status = git(here, "status", "--porcelain")
    return checkout.head(root), status, found, stashes_of(root), git(here, "ls-files", "-s")


EDIT = "echo edit >>keep.txt"
STAGE = "echo mine >mine.txt; git add mine.txt"


@pytest.mark.parametrize("person", [EDIT, f"{STAGE}; {EDIT}"])
@pytest.mark.parametrize(
    "agent",
    [
        "git checkout -q topic",
        "git commit -q --allow-empty -am agent",
        "git stash -q -u",
        "git stash -q -u; git checkout -q topic",
        "git reset -q --soft HEAD~1",
        "git add -A",
        "git rm -q --cached README.md",
    ],
)
def test_the_persons_files_and_changes_are_as_before(
    project: Layout, person: str, agent: str
) -> None:
    root = project.root
    Run(project, "R0").person(
        "echo k >keep.txt; git add keep.txt; git commit -qm keep; git checkout -q -b topic; "
        f"echo t >topic.txt; git rm -q README.md; {COMMIT}; git checkout -q main; "
        f"echo two >second.txt; git add second.txt; git commit -qm 2; {person}"
    )
    before = contents(root)
    run = Run(project)
    run.agent(agent)
    found = run.end("agent/T1")
    if contents(root) == before:
        assert found is None
        return
    undo(found)
    assert contents(root) == before
    assert checkout_changed.problem(project) is None


def test_what_a_hard_reset_took_from_the_index_comes_back_with_its_file(project: Layout) -> None:
    Run(project, "R0").person(
        "echo two >second.txt; git add second.txt; git commit -qm 2; " + STAGE
    )
    before = contents(project.root)
    run = Run(project)
    run.agent("git reset -q --hard HEAD~1")
    undo(run.end())
    assert contents(project.root) == before


def test_undoing_does_not_overwrite_what_the_person_wrote_since(project: Layout) -> None:
    root = Path(project.root)
    Run(project, "R0").person(f"git checkout -q -b topic; {COMMIT}; git checkout -q main; {STAGE}")
    run = Run(project)
    run.agent("git checkout -q topic")
    found = run.end()
    (root / "jack.txt").write_text("new\n")
    with pytest.raises(subprocess.CalledProcessError):
        undo(found)
    assert (root / "jack.txt").read_text() == "new\n"
    assert checkout.head(project.root).branch == "topic"


def test_settings_of_the_checkout_alone_are_watched(project: Layout) -> None:
    Run(project, "R0").person("git config extensions.worktreeConfig true")
    run = Run(project)
    run.agent("git config --worktree core.worktree /nonexistent")
    found = run.end()
    assert found is not None
    assert "config.worktree core.worktree was not set and is /nonexistent" in found.message
    undo(found)
    git(Path(project.root), "status")
    assert checkout_changed.problem(project) is None


@pytest.mark.parametrize(
    ("agent", "head"),
    [
        (COMMIT, "main"),
        ("git reset -q --hard HEAD~1", "main"),
        ("git checkout -q -b other", "main"),
    ],
)
def test_a_problem_stays_when_the_person_goes_on_and_the_hint_keeps_the_persons_commit(
    project: Layout, agent: str, head: str
) -> None:
    root = Path(project.root)
    Run(project, "R0").person("echo two >second.txt; git add second.txt; git commit -qm 2")
    start = git(root, "rev-parse", "HEAD")
    run = Run(project)
    run.agent(agent)
    run.end()
    run.person("echo p >p.txt; git add p.txt; git commit -qm 'on top'")
    mine = git(root, "rev-parse", "HEAD")
    undo(checkout_changed.problem(project))
    assert checkout_changed.problem(project) is None
    assert checkout.head(project.root).branch == head
    assert (root / "second.txt").exists()
    assert not (root / "jack.txt").exists()
    assert repository.is_ancestor(project.root, start, "HEAD")
    assert git(root, "branch", "--contains", mine)


def test_a_problem_ends_when_the_person_undoes_or_keeps_the_change(project: Layout) -> None:
    start = git(Path(project.root), "rev-parse", "HEAD")
    run = Run(project)
    run.agent(COMMIT + "; git config core.hooksPath x")
    assert run.end() is not None
    run.person(f"git reset -q --hard {start}; git commit -q --allow-empty -m mine")
    found = checkout_changed.problem(project)
    assert found is not None
    assert "main was at" not in found.message
    _, _, keep = (found.hint or "").partition("# to keep the change instead: ")
    subprocess.run(("sh", "-ec", keep), cwd="/", check=True)
    assert checkout_changed.problem(project) is None


def test_two_runs_are_one_problem_that_goes_back_to_the_first_state(project: Layout) -> None:
    before = state(project.root)
    for name, value in (("R1", "one"), ("R2", "two")):
        run = Run(project, name)
        run.agent(f"git commit -q --allow-empty -m {name}; git config core.hooksPath {value}")
        run.end()
    undo(checkout_changed.problem(project))
    assert state(project.root) == before


def test_a_comparison_that_was_killed_is_done_again(project: Layout) -> None:
    run = Run(project)
    run.agent(COMMIT)
    first = run.end()
    checkout_changed.compare(project, str(run.folder), "R1", "impl")
    assert first is not None
    assert checkout_changed.problem(project) == first


def test_a_removal_of_what_was_kept_that_was_killed_is_no_change(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(project)

    def killed(path: str) -> None:
        (Path(path) / "config").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.system.files.remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        run.end()
    monkeypatch.undo()
    monkeypatch.chdir(project.root)
    assert run.end() is None


def test_a_whole_run_that_commits_in_the_checkout_is_one_problem(world: World) -> None:
    world.create()
    start = world.sha("HEAD")
    jack = f'cd "$ORCHESTRATOR_PROJECT" && {COMMIT}'
    world.script("default", {"steps": [["work"], ["call", "sh", "-c", jack]]})
    task = world.add("Goes astray")
    world.tick_until_in("done", task)
    [problem] = world.status()["problems"]
    assert problem["code"] == "checkout_changed"
    assert world.run("doctor", "--json").out.count('"checkout_changed"') == 1
    world.git("checkout", "-q", "-B", "main", start)
    assert world.status()["problems"] == []


def test_a_checkout_without_the_configuration_is_to_be_undone_first(world: World) -> None:
    world.create()
    world.git("branch", "older")
    world.git("add", "-A")
    world.git("commit", "-qm", "set up")
    run = Run(Layout(str(world.root)))
    run.agent("git checkout -q older")
    run.end()
    changed, missing = world.status()["problems"][:2]
    assert (changed["code"], missing["code"]) == ("checkout_changed", "config_error")
    assert "checkout_changed" in missing["hint"]
    refused = world.run("init", "--json")
    assert (refused.code, json.loads(refused.out)["error"]["code"]) == (1, "checkout_changed")
    undo(Problem(**changed))
    assert world.status()["problems"] == []


# --- files that git runs or believes in each worktree ------------------------------------------


def test_hooks_that_a_run_replaced_or_removed_come_back(project: Layout) -> None:
    hooks = Path(project.root) / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-commit", "pre-push"):
        (hooks / name).write_bytes(b"#!/bin/sh\n# \xff\ntrue\n")
        (hooks / name).chmod(0o755)
    (hooks / "commit-msg").symlink_to("../../tools/check")
    before = state(project.root)
    run = Run(project)
    run.agent(
        "cd .git/hooks; rm commit-msg pre-push; ln -sf ../../evil pre-commit; "
        "echo false >commit-msg"
    )
    found = run.end()
    assert found is not None
    for said in ("pre-commit in", "was changed", "pre-push in", "is gone"):
        assert said in found.message
    undo(found)
    assert state(project.root) == before
    assert os.access(hooks / "pre-push", os.X_OK)
    assert not (hooks / "pre-commit").is_symlink()
    assert (hooks / "commit-msg").readlink() == Path("../../tools/check")
    assert checkout_changed.problem(project) is None


def test_hooks_of_git_lfs_and_samples_are_no_problem(project: Layout) -> None:
    run = Run(project)
    run.agent(
        "mkdir -p .git/hooks; echo 'git lfs pre-push \"$@\"' >.git/hooks/pre-push; "
        "touch .git/hooks/new.sample"
    )
    assert run.end() is None
