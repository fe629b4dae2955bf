"""`clean` drops what holds nothing of its own, says why the rest stays, and its dry run is true."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import harness
import pytest
import runs
from conftest import examples, git
from harness import World
from hypothesis import event, given, settings
from hypothesis import strategies as st

from orchestrator.git import call, repository
from orchestrator.layout import Layout
from orchestrator.model.config import Agent, Config
from orchestrator.model.work import STATES, Entry, PullRequest
from orchestrator.project import agent_memory
from orchestrator.project.agent_memory import AgentState
from orchestrator.pulls import landing
from orchestrator.system import process as processes
from orchestrator.system.locks import Lock
from orchestrator.tasks import task_file
from orchestrator.tasks.file_store import FileStore
from orchestrator.upkeep import branches, clean
from orchestrator.upkeep.clean import Item

world = harness.world

AT = "2026-11-22T09:00:00Z"
NOW = 1_795_338_000.0
CONFIG = Config(
    base_branch="main", forge="local", agents=(Agent("impl", "implementer", position=0),)
)


@pytest.mark.parametrize(("ending", "stays"), [("", False), ("; exit 1", True)])
def test_before_remove_runs_in_the_worktree_and_may_object(
    world: World, tmp_path: Path, ending: str, stays: bool
) -> None:
    seen = tmp_path / "seen"
    hook = {"before_remove": f"pwd > '{seen}'{ending}"}
    world.create(hooks=hook)
    world.tick_until_in("done", world.add("Add a thing"))
    world.quiet()
    world.configure(hooks=hook, agents=[World.agent("other")])
    worktree = world.home_folder / "agents" / "impl-1" / "worktree"
    world.ok("clean", "--dry-run")
    assert not seen.exists()
    world.ok("clean")
    assert Path(seen.read_text().strip()) == worktree
    assert worktree.exists() is stays


@pytest.mark.parametrize("text", [None, "agents: 7"])
@pytest.mark.parametrize("known", [True, False])
def test_without_a_good_configuration_a_dry_run_still_says_what_it_can(
    world: World, text: str | None, known: bool
) -> None:
    world.create()
    world.tick_until_in("done", world.add("Add a thing"))
    world.quiet()
    world.git("branch", "agent/merged", "main")
    config = world.home_folder / "agents.yaml"
    config.unlink()
    if text is not None:
        config.write_text(text)
    if not known:
        (world.home_folder / "cache" / "config").unlink()
    before = world.git("for-each-ref")
    done = world.ok("clean", "--dry-run")
    assert "config_error: " in done.err
    assert "orchestrator init" in done.err or text is not None
    base = "main" if known else "HEAD"
    assert f"would remove branch agent/merged: all its commits are in {base}" in done.out
    worktree = str(world.home_folder / "agents" / "impl-1" / "worktree")
    why = (
        "its agent will use it again"
        if known
        else "it is not known whether its agent is configured"
    )
    assert f"kept worktree {worktree}: {why}" in done.out
    assert world.json("clean", "--dry-run")["dropped"]
    refused = world.refused("clean").err
    assert ("run: orchestrator init" if text is None else "agents: ") in refused
    assert world.git("for-each-ref") == before


# --- any state ---------------------------------------------------------------------------------


class Branch(NamedTuple):
    """A branch of an agent's, and all that the world knows of it."""

    commits: int
    merged: bool
    #: How many of its commits the remote has; None: it does not know the branch.
    pushed: int | None
    pr: str | None
    task: str | None


class Tree(NamedTuple):
    """An agent's worktree: on a branch, or detached at a commit (both by number)."""

    branch: int | None
    commit: int
    dirty: bool
    running: bool


class State(NamedTuple):
    branches: list[Branch]
    #: Whether there is a remote, and whether it has the base as it is here.
    remote: bool
    fetched: bool
    #: Commits under rescue refs, by number; the last one is nowhere else.
    rescued: list[int]
    #: The branch that the person has checked out, and the one that is being rebased there.
    person: int | None
    rebasing: int | None
    trees: dict[str, Tree]


NUMBER = st.integers(0, 20)
BRANCHES = st.builds(
    Branch,
    st.integers(0, 2),
    st.booleans(),
    st.none() | st.integers(0, 2),
    st.sampled_from((None, "open", "merged", "closed")),
    st.sampled_from((None, *STATES)),
)
TREES = st.builds(Tree, st.none() | NUMBER, NUMBER, st.booleans(), st.booleans())
WORLDS = st.builds(
    State,
    st.lists(BRANCHES, min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.lists(NUMBER, max_size=3),
    st.none() | NUMBER,
    st.none() | NUMBER,
    st.dictionaries(st.sampled_from(("impl", "old", "older")), TREES, max_size=3),
)


class Made(NamedTuple):
    layout: Layout
    prs: list[PullRequest]


def make(folder: str, state: State) -> Made:
    """Make a repository that is in a state: by one stream for git, for there are many of them."""
    layout = Layout(folder)
    root = Path(folder)
    git(root, "init", "--quiet", "--initial-branch=main")
    for each in STATES:
        os.makedirs(layout.state(each))
    marks = root / ".git" / "marks"
    stream, tips = _stream(state)
    words = ("git", "fast-import", "--quiet", f"--export-marks={marks}")
    subprocess.run(words, cwd=root, input=stream, text=True, check=True)
    commits = dict(line[1:].split() for line in marks.read_text().splitlines())
    numbered = [commits[mark] for mark in sorted(commits, key=int)]
    if state.remote:
        git(root, "remote", "add", "origin", str(root / "nowhere.git"))
    for number, index in enumerate(state.rescued):
        commit = numbered[index % len(numbered)]
        git(root, "update-ref", f"refs/orchestrator/rescue/R{number}", commit)
    prs = []
    for number, branch in enumerate(state.branches):
        name = f"agent/T{number}"
        if branch.pr:
            tip = commits[str(tips[number])]
            prs.append(PullRequest(str(number), None, name, "main", tip, "A title", branch.pr))
        if branch.task:
            _add_task(layout, f"T{number}", name, branch.task)
    for name, tree in state.trees.items():
        _add_worktree(layout, name, tree, numbered, len(state.branches))
    if state.person is not None:
        which = state.person % len(state.branches)
        git(root, "symbolic-ref", "HEAD", f"refs/heads/agent/T{which}")
    if state.rebasing is not None:
        amid = root / ".git" / "rebase-merge"
        amid.mkdir()
        which = state.rebasing % len(state.branches)
        (amid / "head-name").write_text(f"refs/heads/agent/T{which}\n")
    return Made(layout, prs)


def _stream(state: State) -> tuple[str, list[int]]:
    """Return what `git fast-import` is to make, and the mark of each branch's tip."""
    lines: list[str] = []
    count = 0

    def commit(ref: str, *parents: int) -> int:
        nonlocal count
        count += 1
        lines.extend((f"commit {ref}", f"mark :{count}", "committer A <a@b> 1700000000 +0000"))
        lines.extend(("data <<END", f"number {count}", "END"))
        lines.extend(f"{word} :{p}" for word, p in zip(("from", "merge"), parents, strict=False))
        lines.append(f"M 644 inline file{count}\ndata <<END\n{count}\nEND")
        return count

    def reset(ref: str, to: int) -> None:
        lines.extend((f"reset {ref}", f"from :{to}", ""))

    first = main = commit("refs/heads/main")
    tips = []
    for number, branch in enumerate(state.branches):
        chain = [first]
        for _ in range(branch.commits):
            chain.append(commit(f"refs/heads/agent/T{number}", chain[-1]))
        reset(f"refs/heads/agent/T{number}", chain[-1])
        tips.append(chain[-1])
        if state.remote and branch.pushed is not None:
            reset(f"refs/remotes/origin/agent/T{number}", chain[min(branch.pushed, len(chain) - 1)])
        if branch.merged and branch.commits:
            main = commit("refs/heads/main", main, chain[-1])
    if state.remote:
        reset("refs/remotes/origin/main", main if state.fetched else first)
    # One that is on no branch: what a detached HEAD or a rescue ref alone holds.
    commit("refs/made/loose", first)
    lines.extend(("reset refs/made/loose", "from " + "0" * 40, ""))
    return "\n".join(lines) + "\n", tips


def _add_task(layout: Layout, task_id: str, branch: str, state: str) -> None:
    store = FileStore(layout)
    new = task_file.new(task_id, task_id, "implement", None, None, AT, None, (), "Text.\n")
    store.add(new)
    fields = {"agent": "impl", "run": f"R-{task_id}", "branch": branch}
    task = store.claim(store.find(task_id), Entry(AT, "claimed", fields), 99)
    assert task is not None
    if state != "claimed":
        store.move(task, state, Entry(AT, "moved", {}))


def _add_worktree(layout: Layout, name: str, tree: Tree, commits: list[str], branches: int) -> None:
    path = layout.worktree(name)
    where = commits[tree.commit % len(commits)]
    if tree.branch is not None:
        where = f"agent/T{tree.branch % branches}"
    detached = ("--detach",) if tree.branch is None else ()
    # By force: two worktrees on one branch are a state like others.
    words = ("worktree", "add", "--quiet", "--force", *detached, path, where)
    git(Path(layout.root), *words)
    if tree.dirty:
        Path(path, "not committed").touch()
    if tree.running:
        agent_memory.write(layout, name, AgentState(run="R-unsettled"))


def reachable(layout: Layout) -> set[str]:
    """Every commit that a ref or a worktree's HEAD leads to: what no garbage collector takes."""
    return set(git(Path(layout.root), "rev-list", "--all").split())


def refs(layout: Layout) -> dict[str, str]:
    lines = git(Path(layout.root), "for-each-ref", "--format=%(refname) %(objectname)")
    return dict(line.split() for line in lines.splitlines())


@settings(max_examples=examples(0.12))
@given(state=WORLDS)
def test_a_clean_does_what_its_dry_run_says_and_nothing_becomes_unreachable(state: State) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout, prs = make(folder, state)
        before, commits = refs(layout), reachable(layout)
        planned = clean.plan(layout, CONFIG, prs, NOW)
        assert clean.plan(layout, CONFIG, prs, NOW) == planned
        assert (refs(layout), reachable(layout)) == (before, commits), "a dry run changed something"
        # A squash leaves the commits of a merged pull request in no base; its contents are there.
        squashed = {
            item.commit for item in planned if item.drop and item.why.startswith("pull request")
        }
        history = git(Path(layout.root), "rev-list", *squashed).split() if squashed else []
        dropped = clean.carry_out(layout, CONFIG, prs, planned)
        doomed = {item for item in planned if item.drop}
        assert set(dropped) == doomed
        assert commits - {*history} <= reachable(layout) <= commits
        gone = {i.name if i.kind == "rescue" else f"refs/heads/{i.name}" for i in doomed}
        assert refs(layout) == {ref: at for ref, at in before.items() if ref not in gone}
        _assert_as_judged(layout, state, planned)
        for item in doomed:
            event(f"dropped a {item.kind}")


def _assert_as_judged(layout: Layout, state: State, planned: list[Item]) -> None:
    verdicts = {item.name: item.drop for item in planned}
    for number, branch in enumerate(state.branches):
        on_remote = state.fetched or not state.remote
        in_base = not branch.commits or (branch.merged and on_remote) or branch.pr == "merged"
        wanted = branch.pr == "open" or branch.task in ("incoming", "claimed", "blocked")
        held = [state.person, state.rebasing, *(t.branch for t in state.trees.values())]
        holders = {h % len(state.branches) for h in held if h is not None}
        assert verdicts[f"agent/T{number}"] is (in_base and not wanted and number not in holders), (
            f"T{number}"
        )
    for name, tree in state.trees.items():
        stays = name == "impl" or tree.running or tree.dirty
        assert os.path.isdir(layout.worktree(name)) or not stays


# --- one by one --------------------------------------------------------------------------------


@pytest.fixture
def quiet(repo: Path, project: Layout) -> Layout:
    return project


def judged(layout: Layout, kind: str, prs: list[PullRequest] | None = None) -> list[Item]:
    return [item for item in clean.plan(layout, CONFIG, prs or [], NOW) if item.kind == kind]


def test_a_branch_that_was_taken_up_after_the_plan_stays(quiet: Layout) -> None:
    for number in range(3):
        git(Path(quiet.root), "branch", f"agent/T{number}")
    planned = clean.plan(quiet, CONFIG, [], NOW)
    _add_task(quiet, "T0", "agent/T0", "incoming")
    git(Path(quiet.root), "checkout", "--quiet", "agent/T1")
    dropped = clean.carry_out(quiet, CONFIG, [], planned)
    assert [item.name for item in dropped] == ["agent/T2"]


def test_of_several_pull_requests_of_a_branch_an_open_one_keeps_it(quiet: Layout) -> None:
    git(Path(quiet.root), "branch", "agent/T1")
    tip = git(Path(quiet.root), "rev-parse", "main")
    prs = [
        PullRequest(str(number), None, "agent/T1", "main", tip, "A title", state)
        for number, state in enumerate(("merged", "open", "closed"))
    ]
    (item,) = judged(quiet, "branch", prs)
    assert (item.drop, item.why) == (False, "pull request 1 is open")


def test_rescued_work_is_listed_with_how_to_look_at_it_and_how_to_drop_it(
    quiet: Layout, cli: Callable[..., Any]
) -> None:
    root = Path(quiet.root)
    ref = "refs/orchestrator/rescue/R1"
    alone = git(root, "commit-tree", "main^{tree}", "-p", "main", "-m", "Uncommitted")
    git(root, "update-ref", ref, alone)
    git(root, "update-ref", "refs/orchestrator/rescue/R2", "main")
    said = cli("clean").out
    assert f"kept rescue {ref}: this may be the only copy" in said
    assert "removed rescue refs/orchestrator/rescue/R2: it is pushed or merged" in said
    look, drop = f"git show --first-parent {ref}", f"git update-ref -d {ref}"
    assert look in said
    assert drop in said
    assert "Uncommitted" in git(root, *look.split()[1:])
    git(root, *drop.split()[1:])
    assert judged(quiet, "rescue") == []


def test_a_rescue_ref_that_moved_since_the_plan_stays(quiet: Layout) -> None:
    root = Path(quiet.root)
    git(root, "update-ref", "refs/orchestrator/rescue/R1", "main")
    planned = clean.plan(quiet, CONFIG, [], NOW)
    alone = git(root, "commit-tree", "main^{tree}", "-p", "main", "-m", "Uncommitted")
    git(root, "update-ref", "refs/orchestrator/rescue/R1", alone)
    assert clean.carry_out(quiet, CONFIG, [], planned) == []


def test_what_git_could_not_keep_is_listed_and_stays(
    quiet: Layout, cli: Callable[..., Any]
) -> None:
    path = Path(quiet.agent("impl"), "worktree.set-aside-1")
    path.mkdir(parents=True)
    (path / "precious").touch()
    said = cli("clean", "--json").json
    (item,) = said["kept"]
    assert (item["kind"], item["name"]) == ("set-aside", str(path))
    assert "look at it" in item["why"]
    assert (path / "precious").exists()


def a_base(layout: Layout, run_id: str) -> Path:
    """The throw-away worktree in which a run looks whether a check fails on its base too."""
    path = Path(layout.cache, f"base-{run_id}")
    git(Path(layout.root), "worktree", "add", "--quiet", "--detach", str(path), "main")
    return path


def test_a_throw_away_worktree_goes_unless_its_run_may_still_use_it(
    quiet: Layout, cli: Callable[..., Any]
) -> None:
    me = {"pid": os.getpid(), "identity": processes.identity(os.getpid())}
    dead, living, unsettled = (f"20260101T00000{n}Z-aaaaaa" for n in range(3))
    paths = [a_base(quiet, run_id) for run_id in (dead, living, unsettled)]
    for run_id in (dead, living):
        supervisor = me if run_id == living else None
        runs.lay_out(quiet, "impl-agent-1", run_id, status="concluding", supervisor=supervisor)
    agent_memory.write(quiet, "test-agent", AgentState(run=unsettled))
    assert [item.drop for item in judged(quiet, "leftover")] == [True, False, False]
    planned = cli("clean", "--dry-run", "--json").json
    assert all(path.exists() for path in paths)
    assert cli("clean", "--json").json == planned
    assert [path.exists() for path in paths] == [False, True, True]


def test_the_worktree_of_a_merge_stays_while_something_is_being_merged(quiet: Layout) -> None:
    path = Path(quiet.cache, "landing-7")
    git(Path(quiet.root), "worktree", "add", "--quiet", "--detach", str(path), "main")
    planned = judged(quiet, "leftover")
    assert [item.drop for item in planned] == [True]
    with Lock(landing.lock_path(quiet)):
        assert [item.drop for item in judged(quiet, "leftover")] == [False]
        assert clean.carry_out(quiet, CONFIG, [], planned) == []
        assert path.exists()
    assert clean.carry_out(quiet, CONFIG, [], planned) == planned
    assert not path.exists()


def test_a_branch_that_is_bisected_is_as_good_as_checked_out(quiet: Layout) -> None:
    root = Path(quiet.root)
    git(root, "checkout", "--quiet", "-b", "agent/T1")
    for number in range(3):
        git(root, "commit", "--quiet", "--allow-empty", "--message", f"Number {number}")
    git(root, "update-ref", "refs/heads/main", "agent/T1")
    git(root, "bisect", "start", "agent/T1", "agent/T1~3")
    assert git(root, "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    (item,) = judged(quiet, "branch")
    assert (item.drop, item.why) == (False, f"it is checked out in {root}")
    git(root, "bisect", "reset")


def test_hundreds_of_branches_are_judged_with_a_handful_of_questions_to_git(
    quiet: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(quiet.root)
    tip = git(root, "rev-parse", "main")
    text = "".join(f"create refs/heads/agent/T{number} {tip}\n" for number in range(300))
    subprocess.run(("git", "update-ref", "--stdin"), cwd=root, input=text, text=True, check=True)
    asked = []
    run = call.run

    def counting(cwd: str, *words: str, **options: Any) -> Any:
        asked.append(words[0])
        return run(cwd, *words, **options)

    for module in (call, repository):
        monkeypatch.setattr(module, "run", counting)
    assert len(branches.judged(quiet, CONFIG, [])) == 300
    assert len(asked) < 10, json.dumps(asked)
