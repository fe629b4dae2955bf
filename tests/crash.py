"""Finds every point at which the product changes the world, kills it there, and looks at the rest.

A scenario is played once on a scratch project while `killpoints.py` writes down each point; then
once for each point, in a project of its own, where the process that meets the point dies. After
that exactly one tick runs, whatever it starts comes to its end by itself, and `assert_sound` and
the scenario's own check hold the whole project against reference 8.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import warm_gh
from harness import PATIENCE, TESTS, World, append, wait_until
from killpoints import WIDTH
from test_contract_human import make_a_mess, of_the_human

#: What the fake client's executions cost, each (US dollars).
COST = 0.25

_MAIN = """\
import os, sys
_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != _HERE]
sys.path.insert(0, os.path.dirname(_HERE))
import killpoints
killpoints.install(sys.argv[1:])
from orchestrator.run import supervisor
from orchestrator.start import main
_main = supervisor.main
def stage(folder, *words, **how):
    killpoints.become(["_run", folder])
    return _main(folder, *words, **how)
supervisor.main = stage
_carry_on = supervisor.carry_on
def carry_on(words, tick, **how):
    def then(root):
        killpoints.become(["_after_run"])
        tick(root)
    _carry_on(words, then, **how)
supervisor.carry_on = carry_on
sys.exit(main())
"""


class Point(NamedTuple):
    """One call of one process that changes the world, in one scenario."""

    scenario: str
    kind: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.scenario}: {self.kind} {self.number}: {self.what}"

    @property
    def call(self) -> str:
        """The kind of call."""
        return " ".join(self.what.split()[: 2 if self.what.startswith("git") else 1])


class Scenario(NamedTuple):
    """A piece of the product's life, begun by one tick."""

    name: str
    #: Makes the project and says what the client does.
    begin: Callable[[World], None]
    #: Looks whether all has come out as it must.
    check: Callable[[World], None]
    #: How often the client is executed, whatever is killed.
    executions: int
    #: The kinds of process that are killed; what others do is another scenario's.
    kinds: tuple[str, ...]


def shadow(folder: Path) -> Path:
    """Make a copy of the package that counts its points; return its program.

    A copy, so that a long run is not disturbed by whoever goes on editing.
    """
    checkout, package = TESTS.parent, folder / "orchestrator"
    for name in ("orchestrator", "plugin", "skills", "hooks", ".claude-plugin"):
        # With the bytecode: without it the first process would compile everything. Not what another
        # test is just writing: Python's file beside it, and the product's.
        unfinished = shutil.ignore_patterns("*.pyc.[0-9]*", ".*.tmp")
        shutil.copytree(checkout / name, folder / name, ignore=unfinished)
    shutil.copy(TESTS / "killpoints.py", folder)
    (package / "__main__.py").write_text(_MAIN)
    return package / "__main__.py"


# --- recording ---------------------------------------------------------------------------------


def record(scenario: Scenario, world: World) -> list[Point]:
    """Play a scenario undisturbed; return its points, in the order of kinds and numbers."""
    with _played(scenario, world) as log:
        _settle(world)
        _assert_all(scenario, world)
        return [
            Point(scenario.name, kind, number, what)
            for kind in scenario.kinds
            for number, what in enumerate(_met(log, kind))
        ]


def recorded(folder: Path, scenario: Scenario, program: Path) -> list[Point]:
    """Return a scenario's points, recorded once for all processes that share `folder`."""
    folder.mkdir(exist_ok=True)
    kept = folder / f"{scenario.name}.json"
    with open(folder / f"{scenario.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            # Templates of its own: another process may record another scenario at the same time.
            templates = folder / f"{scenario.name}-templates"
            with world_at(folder / scenario.name, templates, program) as world:
                kept.write_text(json.dumps(record(scenario, world)))
    return [Point(*each) for each in json.loads(kept.read_text())]


@contextlib.contextmanager
def world_at(folder: Path, templates: Path, program: Path) -> Iterator[World]:
    """Give a world whose product is `program`; when all is well nothing of it stays."""
    world = World(folder, templates)
    world.product = program
    try:
        yield world
    finally:
        world.end()
    shutil.rmtree(folder)


def _met(log: Path, kind: str) -> list[str]:
    try:
        content = (log / kind).read_text()
    except FileNotFoundError:
        return []
    return [content[at : at + WIDTH].strip() for at in range(0, len(content), WIDTH)]


@contextlib.contextmanager
def _played(scenario: Scenario, world: World, at: str = "") -> Iterator[Path]:
    """Begin a scenario with one tick, which is under way then; give the folder of its points."""
    log = world.folder / "points"
    log.mkdir()
    scenario.begin(world)
    before = of_the_human(world)
    words = {"KILL_LOG": str(log), **({"KILL_AT": at} if at else {})}
    tick = world.start("tick", **words)
    try:
        yield log
    finally:
        out, err = tick.communicate(timeout=PATIENCE)
    assert tick.returncode in (0, -9), f"the tick said: {out}{err}"
    assert of_the_human(world) == before, "something of the human's was touched"


# --- killing -----------------------------------------------------------------------------------


def strike(
    scenario: Scenario, point: Point, world: World, tell: Callable[[Point | None], object]
) -> None:
    """Play a scenario, kill at a point, tick once, and look.

    What was killed is told as soon as that is known: None when the point was not met.

    Every second point is followed by its tick at once, while orphans live; the others when all is
    quiet.
    """
    with _played(scenario, world, f"{point.kind} {point.number}") as log:
        killed = log / "killed"
        wait_until(lambda: killed.exists() or _is_quiet(world), "the kill, or the end", every=0.1)
        if not killed.exists():
            tell(None)
            _assert_all(scenario, world)
            return
        said = json.loads(killed.read_text())
        tell(point._replace(kind=said["kind"], what=said["what"]))
        if point.number % 2:
            _settle(world)
        assert_in_one_place(world)
        _one_tick(world)
        _settle(world)
        _assert_all(scenario, world, torn=said["what"].endswith("events.jsonl in part"))


def _one_tick(world: World) -> None:
    """Let one tick happen: one that finds another at work is none."""
    done = wait_until(
        lambda: (found := world.ok("tick")).out != "another tick is active\n" and found,
        "the tick's lock to be free",
    )
    assert "bug" not in done.err


def _settle(world: World) -> None:
    wait_until(
        lambda: _is_quiet(world),
        lambda: f"not at an end: {world.processes()} {world.places()}",
        every=0.1,
    )


def _is_quiet(world: World) -> bool:
    """Whether nothing runs in the world's name, looked at twice: an exec hides for a moment."""
    for _ in range(2):
        if world.processes():
            return False
        time.sleep(0.03)
    return True


# --- what must hold ----------------------------------------------------------------------------


def _assert_all(scenario: Scenario, world: World, *, torn: bool = False) -> None:
    assert_in_one_place(world)
    assert_sound(world, torn=torn)
    starts = [(each["task"], each["run"]) for each in world.starts()]
    assert len(starts) == scenario.executions, f"work was done twice, or not at all: {starts}"
    scenario.check(world)


def assert_in_one_place(world: World) -> None:
    """Every task lies in exactly one state."""
    names = [name for found in world.places().values() for name in found]
    assert len(names) == len(set(names)), f"a task in two states: {world.places()}"
    assert "TASK-00000001.md" in names, f"a task is lost: {world.places()}"


def assert_sound(world: World, *, torn: bool = False) -> None:
    """Nothing is lost, doubled, stuck or left over, whatever the tasks' own fate."""
    world.assert_never_at_once()
    _assert_commits_are_kept(world)
    _assert_history_reads(world, torn)
    _assert_nothing_is_left(world)
    status = world.status()
    assert not status["problems"], status["problems"]
    assert not status["running"], status["running"]
    assert not world.places()["claimed"]
    costs = [COST * len(world.ledger("end", agent=name)) for name in _agents(world)]
    assert status["totals"]["cost_usd"] == sum(costs), "a run was counted twice, or never"


def _agents(world: World) -> list[str]:
    config = json.loads((world.home_folder / "agents.yaml").read_text())
    return [agent["name"] for agent in config["agents"]]


def _assert_commits_are_kept(world: World) -> None:
    """Each commit that the client made is on a ref, once."""
    kept = world.git("log", "--all", "--format=%H").split()
    for commit in world.ledger("commit"):
        assert kept.count(commit["sha"]) == 1, f"a commit is lost: {commit}"
    subjects = world.git("log", "--all", "--format=%s").splitlines()
    for commit in world.ledger("commit"):
        assert subjects.count(commit["message"]) == 1, f"a commit is there twice: {commit}"


def _assert_history_reads(world: World, torn: bool) -> None:
    """The history parses, and tells of each run how it began and how it ended."""
    told = []
    unreadable = 0
    for line in (world.home_folder / "events.jsonl").read_text().splitlines():
        try:
            told.append(json.loads(line))
        except ValueError:
            unreadable += 1
    assert unreadable <= int(torn), "a line of the history cannot be read"
    for start in world.starts():
        words = {each["event"] for each in told if each.get("run") == start["run"]}
        assert words & {"start", "restart"}, f"the history does not know that {start['run']} began"
        assert words & {"finish", "requeue", "fail", "block"}, f"nor how {start['run']} ended"
    _assert_runs_ended(world)


def _assert_runs_ended(world: World) -> None:
    """Every run that anybody knows of is at its end; at most one was never more than a folder."""
    stillborn = 0
    for folder in (world.home_folder / "agents").glob("*/runs/*"):
        path = folder / "run.json"
        record = json.loads(path.read_text()) if path.exists() else {"status": "starting"}
        stillborn += record["status"] == "starting" and record.get("supervisor") is None
        assert record["status"] in ("finished", "starting"), f"a run is not at its end: {record}"
    assert stillborn <= 1


def _assert_nothing_is_left(world: World) -> None:
    """No git lock is left, nor an unknown worktree, nor a rescue's index."""
    for home in (world.root / ".git", world.remote):
        assert not [str(path) for path in home.rglob("*.lock")]
    listed = world.git("worktree", "list", "--porcelain").splitlines()
    folders = [line.split(" ", 1)[1] for line in listed if line.startswith("worktree ")]
    # The landing worktree is kept between merges.
    allowed = {str(world.root), str(world.home_folder / "cache" / "landing")} | {
        str(world.home_folder / "agents" / name / "worktree") for name in _agents(world)
    }
    assert set(folders) <= allowed, f"a worktree is left over: {folders}"
    assert not list((world.home_folder / "agents").glob("*/rescue.index*"))
    assert not list(world.home_folder.rglob("*set-aside*"))
    assert world.git("fsck", "--no-dangling", "--no-progress") == ""


def assert_delivered(world: World, task: str) -> dict[str, Any]:
    """The task is done and has its proof: a pushed commit with one pull request (returned)."""
    assert world.where(task) == ["done"], f"{world.places()}\n{world.text(task)}"
    [pr] = [pr for pr in _pull_requests(world) if pr["task"] == task]
    assert pr["head"] == world.sha(pr["branch"])
    # The remote's branch goes after the merge.
    gone = [""] if pr["state"] == "merged" else []
    assert world.remote_sha(pr["branch"]) in [pr["head"], *gone]
    return pr


def _pull_requests(world: World) -> list[dict[str, Any]]:
    """Return the local forge's records; of the one that stands for GitHub what `pr list` says."""
    if _hub(world).exists():
        return list(world.prs())
    folder = world.home_folder / "shared" / "prs"
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def _hub(world: World) -> Path:
    """Where the stand-in for GitHub has its state."""
    return world.folder / "github.json"


# --- the scenarios -----------------------------------------------------------------------------

TASK = "TASK-00000001"
#: What an agent does that looks first whether an earlier attempt did it.
WORK = {"steps": [["work_once"]]}
_WHOLE_RUN = ("tick", "prepare", "client", "watch", "conclude", "after-run")


def _create(world: World, **config: Any) -> None:
    world.create(checks=["test -f app.py"], kept_today=False, **config)
    make_a_mess(world)
    assert world.add("Survive everything") == TASK


def create_with_review(world: World, **review: Any) -> None:
    _create(
        world,
        agents=[world.agent("impl-1"), world.agent("review-1", "reviewer")],
        review={"after": ["implement"], "max_rounds": 3, **review},
    )
    world.script(TASK, WORK)


def _check_review(world: World) -> None:
    pr = assert_delivered(world, TASK)
    assert (pr["state"], pr["verdict"]) == ("open", "approved")
    assert len(world.commits_about(TASK)) == 1
    assert len(world.places()["done"]) == 2, "one review, and only one"


def _begin_failing_check(world: World) -> None:
    _create(world)
    world.configure(checks=["test ! -e broken.txt"])
    world.script(
        TASK,
        {"steps": [["write", "broken.txt"], ["commit", "broken"]]},
        {"steps": [["git", "rm", "-q", "broken.txt"], ["commit", "fixed"]]},
    )


def _check_failing_check(world: World) -> None:
    assert_delivered(world, TASK)
    assert world.task(TASK)["attempts"] == 1, "exactly the failed check is charged"


def _begin_leftovers(world: World) -> None:
    """The first attempt claims to be done and has committed nothing."""
    _create(world)
    leave = [["write", "staged.txt", "staged\n"], ["git", "add", "staged.txt"]]
    leave += [["append", "app.py", "# unfinished\n"], ["write", "new.txt", "untracked\n"]]
    world.script(TASK, {"steps": leave}, WORK)


def _check_leftovers(world: World) -> None:
    assert_delivered(world, TASK)
    assert world.task(TASK)["attempts"] == 1
    first, _ = world.starts(TASK)
    ref = f"refs/orchestrator/rescue/{first['run']}"
    # A rescue that was killed may have made a second ref; whatever people are told of is whole.
    for told in {ref, *re.findall(r"kept under ([^\s\"]+)", world.text(TASK))}:
        assert world.git("show", f"{told}:new.txt") == "untracked"
        assert world.git("show", f"{told}:staged.txt") == "staged"
        assert "# unfinished" in world.git("show", f"{told}:app.py")
    assert f"what is not on the branch is kept under {ref}" in world.text(TASK)
    assert ref in world.seen(TASK)["instructions"]


def _begin_landing(world: World) -> None:
    """The base moves while the agent is at work, so that what lands is a merge."""
    create_with_review(world, auto_merge=True)
    colleague = world.folder / "colleague"
    world.git("clone", "-q", str(world.remote), str(colleague), cwd=world.folder)
    (colleague / "theirs.txt").write_text("theirs\n")
    world.git("add", "-A", cwd=colleague)
    world.git("commit", "-q", "-m", "a colleague's", cwd=colleague)
    world.git("push", "-q", "origin", "HEAD:refs/heads/theirs", cwd=colleague)
    move = ["call", "git", "--git-dir", str(world.remote), "update-ref"]
    move += ["refs/heads/main", world.sha("HEAD", cwd=colleague)]
    world.script(TASK, {"steps": [["work_once"], move]})


def _check_landing(world: World) -> None:
    pr = assert_delivered(world, TASK)
    assert (pr["state"], pr["verdict"]) == ("merged", "approved")
    on_main = world.git("log", "--format=%s", "main", cwd=world.remote).splitlines()
    for subject in ("a colleague's", f"work on {TASK}", f"Merge {pr['branch']}: {pr['title']}"):
        assert on_main.count(subject) == 1, on_main


def _begin_github(world: World) -> None:
    url = "https://github.com/owner/repo.git"
    create_with_review(world)
    config = json.loads((world.home_folder / "agents.yaml").read_text())
    world.configure(**{**config, "forge": "github"})
    world.git("remote", "set-url", "origin", url)
    world.git("config", f"url.{world.remote}.insteadOf", url)
    gh = world.bin / "gh"
    gh.write_text(f"#!/bin/sh\n{warm_gh.STARTED}\n")
    gh.chmod(0o755)
    _hub(world).write_text(json.dumps({"remote": str(world.remote)}))
    world.environment["FAKE_GH_STATE"] = str(_hub(world))


def _check_github(world: World) -> None:
    assert_delivered(world, TASK)
    [pr] = json.loads(_hub(world).read_text())["prs"]
    assert len(pr["comments"]) == 1, f"the verdict was not given once: {pr['comments']}"
    assert len(world.places()["done"]) == 2


def _begin_set_up(world: World) -> None:
    """Each command of the set-up leaves a file that git ignores; a landing is set up, too."""
    _begin_landing(world)
    append(world.root / ".git" / "info" / "exclude", "created\ninstalled\n")
    config = json.loads((world.home_folder / "agents.yaml").read_text())
    config |= {
        "checks": ["cmp README.md installed && cmp README.md created"],
        "hooks": {"after_create": "cp README.md created", "before_run": "test -e installed"},
        "setup": {"command": "cp README.md installed", "when_changed": ["README.md"]},
    }
    world.configure(**config)


def _begin_submodule(world: World) -> None:
    """The first attempt leaves changes and a commit in a submodule, and commits nothing else."""
    _create(world)
    library = world.folder / "library.git"
    world.git("clone", "-q", "--bare", str(world.remote), str(library), cwd=world.folder)
    add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
    world.git(*add, str(library), "lib")
    world.git("commit", "-q", "-m", "the library", "--", ".gitmodules", "lib")
    world.git("push", "-q", "origin", "main")
    commit = "cd lib && echo committed > committed.txt && git add . && git commit -qm inside"
    leave = [["call", "sh", "-c", commit], ["append", "lib/app.py", "# unfinished\n"]]
    world.script(TASK, {"steps": leave}, WORK)


def _check_submodule(world: World) -> None:
    assert_delivered(world, TASK)
    lib = world.root / "lib"
    names = "--format=%(refname)"
    refs = world.git("for-each-ref", names, "refs/orchestrator/rescue/", cwd=lib).split()
    kept = [world.git("ls-tree", "--name-only", ref, cwd=lib).split() for ref in refs]
    assert any("committed.txt" in listed for listed in kept), "the commit is lost"
    texts = [world.git("show", f"{ref}:app.py", cwd=lib) for ref in refs]
    assert any("# unfinished" in text for text in texts), "the changes are lost"
    worktree = world.home_folder / "agents" / "impl-1" / "worktree"
    assert world.git("status", "--porcelain", cwd=worktree) == ""
    assert not (worktree / "lib" / "committed.txt").exists()


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("review", create_with_review, _check_review, 2, _WHOLE_RUN),
        Scenario("failing-check", _begin_failing_check, _check_failing_check, 2, _WHOLE_RUN),
        Scenario("leftovers", _begin_leftovers, _check_leftovers, 2, _WHOLE_RUN),
        Scenario("submodule", _begin_submodule, _check_submodule, 2, ("prepare", "conclude")),
        Scenario("landing", _begin_landing, _check_landing, 2, ("landing", "after-run")),
        Scenario("set-up", _begin_set_up, _check_landing, 2, ("prepare", "conclude", "landing")),
        Scenario("github", _begin_github, _check_github, 2, ("conclude", "after-run")),
    )
}
