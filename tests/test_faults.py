"""Reference 7 and failures 6: the machine and its services fail, and no work is charged or lost.

Each fault strikes a whole project, stays for several ticks and is fixed. What must hold is the
same for all of them (`hold_out`, `recover`): no attempt is counted, one problem says what to do,
each tick tries again with one run, and every task reaches `done` without help.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import pytest
import warm_gh
from full_disk import Disk
from harness import World, is_alive, shadow, wait_until

from orchestrator.tick import hold

world = harness.world

#: A single charge would end a task in failed.
STRICT = {"max_attempts": 1, "backoff_seconds": 0, "max_backoff_seconds": 300}
GITHUB = "https://github.com/owner/repo.git"


def problems(world: World) -> list[dict[str, Any]]:
    return list(world.status()["problems"])


def requeued(world: World, task: str) -> list[dict[str, Any]]:
    return [event for event in world.task(task)["history"] if event["event"] == "requeued"]


def starts_of(report: Any) -> list[str]:
    return [action["agent"] for action in report["actions"] if action["action"] == "start"]


def assert_nobody_paid(world: World, tasks: list[str]) -> None:
    assert world.places()["failed"] == []
    for task in tasks:
        shown = world.task(task)
        assert (shown["state"], shown["attempts"]) == ("incoming", 0), world.text(task)
        assert all(event["charged"] is False for event in requeued(world, task))


def assert_one_problem(world: World, said: str) -> None:
    """One problem is shown; it names the fault, and its hint says what to do about it."""
    found = problems(world)
    assert len(found) == 1, found
    assert said in found[0]["message"], found
    hint = found[0]["hint"] or ""
    assert len(hint) > 15, found
    generic = hold.ANY_HINT
    assert hint != generic, "the hint does not say what to do"


def hold_out(world: World, tasks: list[str], said: str, rounds: int = 4) -> None:
    """Tick through a fault: after the first tick at most one run at a time tries again."""
    for number in range(rounds):
        started = starts_of(world.tick())
        world.quiet()
        assert len(started) <= 1 or number == 0, started
    world.ok("tick")
    world.quiet()
    assert_one_problem(world, said)
    assert_nobody_paid(world, tasks)


def recover(world: World, tasks: list[str]) -> None:
    """The fault is fixed: all ends in done, each commit there once, and no problem is left."""
    world.tick_until_in("done", *tasks)
    world.quiet()
    for task in tasks:
        assert world.task(task)["attempts"] <= 1
        assert len(world.commits_about(task)) == 1
        [pr] = [pr for pr in world.prs() if pr["task"] == task]
        assert pr["head"] == world.remote_sha(pr["branch"])
    assert len(world.prs()) == len(tasks)
    world.tick_until(lambda: not problems(world), "the last problem to go")
    world.assert_never_at_once()
    assert_no_leftovers(world)


def assert_no_leftovers(world: World) -> None:
    """Nothing half-written lies about, and no supervisor met what nobody foresaw."""
    half = [path for path in world.home_folder.rglob(".*.tmp") if "worktree" not in path.parts]
    assert half == []
    for log in world.home_folder.glob("agents/*/runs/*/supervisor.log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def two_agents() -> list[dict[str, Any]]:
    return [World.agent("impl-1"), World.agent("impl-2")]


# --- the table ---------------------------------------------------------------------------------


class Fault:
    """Something that fails: how it is arranged, how it strikes, how it is fixed."""

    #: What `status` says of it.
    said = ""

    def arrange(self, world: World) -> None:
        """Prepare what is to fail; the project is configured."""

    def strike(self, world: World, tasks: list[str]) -> None:
        raise NotImplementedError

    def fix(self, world: World) -> None:
        raise NotImplementedError


class ClientMissing(Fault):
    said = "client_missing"

    def arrange(self, world: World) -> None:
        self.client = world.bin / "the-client"
        world.configure(retry=STRICT, agents=two_agents(), claude={"command": [str(self.client)]})

    def strike(self, world: World, tasks: list[str]) -> None:
        assert not self.client.exists()

    def fix(self, world: World) -> None:
        words = " ".join(f"'{word}'" for word in (*harness.PYTHON, str(harness.FAKE_CLIENT)))
        self.client.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        self.client.chmod(0o755)


class Service(Fault):
    """The service answers the client with an error."""

    def __init__(self, status: int, said: str) -> None:
        self.status, self.said = status, said

    def strike(self, world: World, tasks: list[str]) -> None:
        error = {"is_error": True, "terminal_reason": "api_error", "result": "API Error"}
        result = {**error, "api_error_status": self.status}
        world.script("default", {"steps": [], "report": None, "result": result, "exit": 1})

    def fix(self, world: World) -> None:
        world.script("default", {})


class GitMissing(Fault):
    said = "git"

    def arrange(self, world: World) -> None:
        """A PATH on which `git` is one file of ours."""
        tools = world.folder / "tools"
        tools.mkdir()
        for name in ("sh", "env", "cat"):
            (tools / name).symlink_to(str(shutil.which(name)))
        self.git = world.bin / "git"
        self.git.symlink_to(str(shutil.which("git")))
        world.environment["PATH"] = f"{world.bin}:{tools}"

    def strike(self, world: World, tasks: list[str]) -> None:
        self.git.rename(self.git.with_name("away"))

    def fix(self, world: World) -> None:
        self.git.with_name("away").rename(self.git)


class RefLocked(Fault):
    """Another git holds the branches' locks for long."""

    said = "lock"

    def hold(self, world: World, *paths: Path) -> None:
        self.locks = paths
        for lock in paths:
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.touch()
        words = ("git", "cat-file", "--batch")
        self.git = subprocess.Popen(words, cwd=world.root, stdin=subprocess.PIPE)

    def strike(self, world: World, tasks: list[str]) -> None:
        folder = world.root / ".git" / "refs" / "heads" / "agent"
        self.hold(world, *(folder / f"{task}-task-{n}.lock" for n, task in enumerate(tasks)))

    def fix(self, world: World) -> None:
        self.git.communicate()
        assert all(lock.exists() for lock in self.locks), "a living git held them"


class RemoteRefLocked(RefLocked):
    """The same for what is fetched."""

    def strike(self, world: World, tasks: list[str]) -> None:
        world.git("update-ref", "-d", "refs/remotes/origin/main")
        self.hold(world, world.root / ".git" / "refs" / "remotes" / "origin" / "main.lock")


class RemoteGone(Fault):
    said = "remote_unreachable"

    def strike(self, world: World, tasks: list[str]) -> None:
        world.remote.rename(world.folder / "away.git")

    def fix(self, world: World) -> None:
        (world.folder / "away.git").rename(world.remote)


FAULTS: dict[str, Callable[[], Fault]] = {
    "the client is missing": ClientMissing,
    "nobody is signed in": lambda: Service(401, "authentication_failed"),
    "requests are limited": lambda: Service(429, "rate_limit"),
    "the service is overloaded": lambda: Service(529, "overloaded"),
    "the service fails": lambda: Service(500, "server_error"),
    "git is missing": GitMissing,
    "the branches are locked": RefLocked,
    "the remote's branches are locked here": RemoteRefLocked,
    "the remote cannot be reached": RemoteGone,
}
QUICK = (
    "the client is missing",
    "the remote cannot be reached",
)


@pytest.mark.parametrize("name", harness.variants(FAULTS, *QUICK))
def test_failure_06_a_fault_charges_nobody_shows_one_problem_and_passes(
    world: World, name: str
) -> None:
    fault = FAULTS[name]()
    world.create(retry=STRICT, agents=two_agents())
    fault.arrange(world)
    tasks = [world.add(f"Task {n}") for n in range(2)]
    fault.strike(world, tasks)
    hold_out(world, tasks, fault.said)
    fault.fix(world)
    recover(world, tasks)


# --- faults that strike while a run is at work --------------------------------------------------


def at_work(world: World, *, agents: int = 2, done: bool = False, **config: Any) -> list[str]:
    """Have clients make their commits and wait for the gate `go`; return their tasks.

    `done`: they wait with their result written.
    """
    names = [World.agent(f"impl-{n}") for n in range(1, agents + 1)]
    world.configure(retry=STRICT, agents=names, **config)
    waiting = ["wait", "go"]
    script = {"steps": [["work_once"]], "after": [waiting]}
    world.script("default", script if done else {"steps": [["work_once"], waiting]})
    tasks = [world.add(f"Task {n}") for n in range(agents)]
    word = "end" if done else "commit"
    world.tick_until(lambda: len(world.ledger(word)) == agents, "the work")
    return tasks


def remote_lock(world: World, task: str) -> Path:
    """Lock a task's branch at the remote, as a git that works there does."""
    branch = world.task(task)["work_branch"]
    lock = world.remote / "refs" / "heads" / f"{branch}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    return lock


@pytest.mark.slow
def test_branches_that_are_locked_at_the_remote_are_pushed_when_they_are_free(
    world: World,
) -> None:
    world.create()
    tasks = at_work(world)
    locks = [remote_lock(world, task) for task in tasks]
    world.open("go")
    wait_until(lambda: len(world.ledger("end")) == 2, "the clients' end")
    world.quiet()
    hold_out(world, tasks, "could not store the push")
    for lock in locks:
        lock.unlink()
    recover(world, tasks)
    assert len(world.starts()) == 2, "the work was done, and paid for, once"


@pytest.mark.parametrize(
    "moment",
    harness.variants(
        ["before the push", "back between two ticks, and gone again"], "before the push"
    ),
)
def test_a_remote_that_goes_away_under_a_run_is_waited_for(world: World, moment: str) -> None:
    world.create()
    tasks = at_work(world)
    away = world.folder / "away.git"
    world.remote.rename(away)
    world.open("go")
    wait_until(lambda: len(world.ledger("end")) == 2, "the clients' end")
    world.quiet()
    hold_out(world, tasks, "remote_unreachable", rounds=2)
    if "again" in moment:
        away.rename(world.remote)
        world.remote.rename(away)
        hold_out(world, tasks, "remote_unreachable", rounds=2)
    away.rename(world.remote)
    recover(world, tasks)
    assert len(world.starts()) == 2, "the work was done, and paid for, once"


def test_git_that_goes_missing_under_a_run_is_waited_for(world: World) -> None:
    world.create()
    fault = GitMissing()
    fault.arrange(world)
    tasks = at_work(world, done=True)
    fault.strike(world, tasks)
    world.open("go")
    world.quiet()
    hold_out(world, tasks, "git_missing", rounds=2)
    fault.fix(world)
    recover(world, tasks)
    # What the branch holds could not be looked at; the conversations go on all the same.
    assert len({start["session"] for start in world.starts()}) == 2


def test_locks_that_a_persons_git_left_in_the_checkout_hold_nobody_up(world: World) -> None:
    world.create(retry=STRICT)
    locks = [world.root / ".git" / name for name in ("index.lock", "HEAD.lock", "config.lock")]
    for lock in locks:
        lock.touch()
    task = world.add("Task 0")
    world.tick_until_in("done", task)
    assert requeued(world, task) == []
    # The settings are the whole repository's, and the agents' own git needs them.
    assert [lock.name for lock in locks if lock.exists()] == ["index.lock", "HEAD.lock"]
    for lock in locks[:2]:
        lock.unlink()
    recover(world, [task])


def test_locks_that_a_killed_git_left_in_a_worktree_hold_nobody_up(world: World) -> None:
    world.create(retry=STRICT)
    first, second = world.add("Task 0"), None
    world.tick_until_in("done", first)
    world.quiet()
    [own] = (world.root / ".git" / "worktrees").iterdir()
    for name in ("index.lock", "HEAD.lock"):
        (own / name).touch()
    second = world.add("Task 1")
    world.tick_until_in("done", second)
    assert requeued(world, second) == []
    recover(world, [first, second])


# --- the forge ---------------------------------------------------------------------------------


class Forge:
    """GitHub as the fake `gh` keeps it, and a `gh` that fails, hangs or talks rubbish on wish."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state, self.mode = world.folder / "github.json", world.folder / "gh-mode"
        self.state.write_text(json.dumps({"remote": str(world.remote), "prs": []}))
        real = warm_gh.line()
        gh = world.bin / "gh"
        gh.write_text(
            "#!/bin/sh\n"
            f'read -r mode only < "{self.mode}" 2>/dev/null\n'
            'case "$only" in "" | "$2") ;; *) mode= ;; esac\n'
            'case "$mode" in\n'
            '  exits) echo "HTTP 502: Bad Gateway (https://api.github.com/graphql)" >&2; exit 1;;\n'
            "  hangs) exec sleep 300;;\n"
            "  rubbish) echo '<html>Bad gateway</html>'; exit 0;;\n"
            f"esac\n{real}\n"
        )
        gh.chmod(0o755)
        world.environment["FAKE_GH_STATE"] = str(self.state)
        world.git("remote", "set-url", "origin", GITHUB)
        world.git("config", f"url.{world.remote}.insteadOf", GITHUB)

    def fail(self, mode: str) -> None:
        """Let `gh` fail. `exits create` lets only `gh pr create` fail."""
        self.mode.write_text(mode + "\n")

    def fix(self) -> None:
        self.mode.unlink()

    def prs(self) -> list[dict[str, Any]]:
        return list(json.loads(self.state.read_text())["prs"])


@pytest.fixture
def hub(world: World) -> Forge:
    """A project on GitHub."""
    world.create(retry=STRICT, agents=two_agents(), forge="github")
    made = Forge(world)
    edge = IMPATIENT.format(mode=str(made.mode))
    world.product = shadow(world.folder / "shadow", edge, forked=True)
    return made


#: While `gh` hangs, it has a second: nobody wants to wait for the product's minute.
IMPATIENT = """
from orchestrator.system import commands
_run = commands.run
def _impatient(words, *, timeout, **options):
    hangs = words[0] == "gh" and os.path.exists({mode!r})
    return _run(words, timeout=1.0 if hangs else timeout, **options)
commands.run = _impatient
"""


@pytest.mark.parametrize("mode", harness.variants(["exits", "hangs", "rubbish"], "hangs"))
def test_a_forge_that_fails_starts_nothing_and_is_asked_again_at_each_tick(
    world: World, hub: Forge, mode: str
) -> None:
    world.ok("tick")
    hub.fail(mode)
    tasks = [world.add(f"Task {n}") for n in range(2)]
    for _ in range(3):
        report = world.tick()
        assert starts_of(report) == []
        assert [problem["code"] for problem in report["problems"]] == ["open_prs_unknown"]
    assert world.status()["open_prs"] is None
    what = "forge_failed: the answer of gh" if mode == "rubbish" else "forge_failed: gh"
    assert_one_problem(world, what)
    assert_nobody_paid(world, tasks)
    hub.fix()
    world.tick_until_in("done", *tasks)
    assert sorted(pr["body"].split()[-1] for pr in hub.prs()) == sorted(tasks)
    world.tick_until(lambda: not problems(world), "the problem to go")
    assert len(world.starts()) == 2


@pytest.mark.parametrize("mode", harness.variants(["exits", "hangs", "rubbish"], "exits"))
@pytest.mark.parametrize("only", ["", "create"], ids=["every call fails", "opening fails"])
def test_a_forge_that_fails_at_delivery_gets_the_pull_request_later(
    world: World, hub: Forge, mode: str, only: str
) -> None:
    tasks = at_work(world, forge="github")
    hub.fail(f"{mode} {only}")
    world.open("go")
    wait_until(lambda: len(world.ledger("end")) == 2, "the clients' end")
    world.quiet()
    for _ in range(2):
        assert len(starts_of(world.tick())) <= 1
        world.quiet()
    assert_one_problem(world, "forge_failed")
    assert_nobody_paid(world, tasks)
    assert hub.prs() == []
    hub.fix()
    world.tick_until_in("done", *tasks)
    assert sorted(pr["body"].split()[-1] for pr in hub.prs()) == sorted(tasks)
    world.tick_until(lambda: not problems(world), "the problem to go")
    assert len(world.starts()) == 2, "the work was done, and paid for, once"


def test_work_that_a_person_merged_before_its_pull_request_was_opened_is_done(
    world: World, hub: Forge
) -> None:
    tasks = at_work(world, forge="github")
    hub.fail("exits create")
    world.open("go")
    wait_until(lambda: len(world.ledger("end")) == 2, "the clients' end")
    world.quiet()
    world.git("fetch", "-q", "origin")
    for task in tasks:
        [branch] = world.git("branch", "-r", "--list", f"origin/agent/{task}-*").split()
        world.git("merge", "-q", "--no-ff", "-m", "by hand", branch)
    world.git("push", "-q", "origin", "main")
    hub.fix()
    world.tick_until_in("done", *tasks)
    assert [world.task(task)["attempts"] for task in tasks] == [0, 0]
    assert len(world.starts()) == 2, "the work was done, and paid for, once"
    assert hub.prs() == []


# --- the disk ----------------------------------------------------------------------------------


@pytest.fixture
def disk(world: World) -> Iterator[Disk]:
    """A disk of 24 MiB for the world's project; its remote and its client's notes lie elsewhere."""
    made = Disk(world.folder / "disk", "24m", 4000)
    made.path.mkdir()
    made.mount()
    world.root = made.path / "project"
    world.home_folder = world.root / ".orchestrator"
    world.queue = world.home_folder / "shared" / "queue"
    try:
        yield made
    finally:
        made.free()
        world.end()
        made.unmount()


def tick_in_vain(world: World, times: int = 3) -> None:
    """Tick on a disk that takes nothing: each says so, and starts nothing."""
    for _ in range(times):
        done = world.run("tick", "--json")
        assert done.code == 1, done
        report = done.json
        assert {action["action"] for action in report["actions"]} == {"skip"}
        assert [problem["code"] for problem in report["problems"]] == ["system_fault"]


#: By name: how a disk comes to take no more.
FULL: dict[str, Callable[[Disk], None]] = {
    "no space": Disk.fill,
    "no inodes": Disk.take_all_inodes,
}
#: Works once, so that a second execution finds the first one's commit.
CAREFUL = {"steps": [["work_once"]]}


@pytest.mark.parametrize("how", harness.variants(FULL, "no space"))
@pytest.mark.parametrize(
    "ticked",
    [pytest.param(False, id="before the first tick", marks=pytest.mark.slow), True],
    ids=lambda ticked: "later" if ticked is True else None,
)
@pytest.mark.root  # mounts a disk
def test_a_disk_that_is_full_before_a_tick_starts_nothing_until_it_is_freed(
    world: World, disk: Disk, how: str, ticked: bool
) -> None:
    world.create(retry=STRICT, agents=two_agents())
    world.script("default", CAREFUL)
    earlier = [world.add("Task 0")] if ticked else []
    if earlier:
        world.tick_until_in("done", *earlier)
        world.quiet()
    tasks = [world.add(f"Task {n}") for n in range(1, 3)]
    FULL[how](disk)
    seen = len(world.starts())
    tick_in_vain(world)
    assert_one_problem(world, "disk_full")
    assert_nobody_paid(world, tasks)
    assert len(world.starts()) == seen
    world.refused("task", "add", "--title", "One more", "--role", "implement")
    disk.free()
    recover(world, [*earlier, *tasks])
    assert all(requeued(world, task) == [] for task in tasks)


#: The brake, with the name of the agent whose run it ends.
BRAKES = (["agent", "pause", "--all", "--stop"], ["stop", "impl-1"])


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_remote_that_disappears_is_a_problem_from_the_tick_that_meets_it_until_it_returns(
    world: World, how: str
) -> None:
    world.create()
    task = world.add("Its pull request waits for a person")
    world.tick_until_in("done", task)
    world.quiet()
    away, url = world.folder / "away.git", world.git("remote", "get-url", "origin").strip()
    if how == "deleted":
        world.remote.rename(away)
    else:
        world.git("remote", "set-url", "origin", str(away))
    for _ in range(2):
        world.ok("tick")
        [problem] = problems(world)
        assert problem["code"] == "remote_unreachable"
        assert str(away if how == "moved" else world.remote) in problem["message"]
        assert "the remote 'origin' cannot be reached" in world.run("doctor").out
    if how == "deleted":
        away.rename(world.remote)
    else:
        world.git("remote", "set-url", "origin", url)
    world.tick_until(lambda: not problems(world), "the remote to be seen")
    assert [pr["state"] for pr in world.prs()] == ["open"]


@pytest.mark.parametrize("words", BRAKES, ids=" ".join)
@pytest.mark.parametrize("how", FULL)
@pytest.mark.root  # mounts a disk
def test_the_brake_ends_clients_on_a_disk_that_takes_nothing(
    world: World, disk: Disk, how: str, words: list[str]
) -> None:
    """A client that fills the disk must not keep people from ending it."""
    world.create()
    world.script("default", {"steps": [["wait", "never"]]})
    task = world.add("Fills the disk")
    world.tick_until(lambda: world.running(task), "the client")
    FULL[how](disk)
    said = world.refused(*words).err
    assert world.running() == []
    assert "nothing is paused" in said
    assert "df" in said
    disk.free()
    world.ok(*words)
    world.tick_until_in("incoming", task)
    assert world.task(task)["attempts"] == 0


@pytest.mark.parametrize("how", harness.variants(FULL, "no space"))
@pytest.mark.root  # mounts a disk
def test_a_disk_that_fills_while_clients_work_costs_no_attempt(
    world: World, disk: Disk, how: str
) -> None:
    world.create()
    world.configure(retry=STRICT, agents=two_agents())
    waiting = ["wait", "go"]
    steps = [waiting, ["write", "big.txt", "x" * 100_000], ["work_once"]]
    world.script("default", {"steps": steps}, CAREFUL)
    tasks = [world.add(f"Task {n}") for n in range(2)]
    world.tick()
    wait_until(lambda: len(world.running()) == 2, "both to run")
    FULL[how](disk)
    world.open("go")
    clients = [start["pid"] for start in world.starts()]
    wait_until(lambda: not any(map(is_alive, clients)), "the clients' end")
    tick_in_vain(world)
    assert_one_problem(world, "disk_full")
    assert world.places()["failed"] == []
    assert [world.task(task)["attempts"] for task in tasks] == [0, 0]
    disk.free()
    recover(world, tasks)
    for task in tasks:
        assert [event["charged"] for event in requeued(world, task)] in ([], [False])


@pytest.mark.parametrize("how", harness.variants(FULL, "no space"))
@pytest.mark.root  # mounts a disk
def test_a_disk_that_fills_before_delivery_loses_no_finished_work(
    world: World, disk: Disk, how: str
) -> None:
    world.create()
    tasks = at_work(world, done=True)
    FULL[how](disk)
    world.open("go")
    clients = [start["pid"] for start in world.starts()]
    wait_until(lambda: not any(map(is_alive, clients)), "the clients' end")
    tick_in_vain(world, times=6)
    assert_one_problem(world, "disk_full")
    assert world.places()["failed"] == []
    assert [world.task(task)["attempts"] for task in tasks] == [0, 0]
    disk.free()
    recover(world, tasks)


@pytest.mark.root  # mounts a disk
def test_a_disk_that_is_too_small_for_a_worktree_is_waited_for(world: World, disk: Disk) -> None:
    world.create()
    (world.root / "big.bin").write_bytes(random.Random(7).randbytes(5_000_000))
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "Something big")
    world.git("push", "-q", "origin", "main")
    world.configure(retry=STRICT, agents=two_agents())
    world.script("default", CAREFUL)
    tasks = [world.add(f"Task {n}") for n in range(2)]
    disk.fill(but=3_000_000)
    hold_out(world, tasks, "unable to write file big.bin")
    assert "df" in problems(world)[0]["hint"], "git does not say why it is unable"
    disk.free()
    recover(world, tasks)


@pytest.mark.root  # mounts a disk
def test_a_disk_that_becomes_read_only_is_waited_for(world: World, disk: Disk) -> None:
    world.create(retry=STRICT, agents=two_agents())
    world.script("default", CAREFUL)
    first = world.add("Task 0")
    world.tick_until_in("done", first)
    world.quiet()
    tasks = [world.add(f"Task {n}") for n in range(1, 3)]
    disk.read_only(True)
    before = harness.fingerprint(world.home_folder)
    tick_in_vain(world)
    assert_one_problem(world, "disk_read_only")
    for words in (["status"], ["task", "list"], ["doctor"], ["explain", "impl-1"], ["inbox"]):
        world.ok(*words)
    found = [each for each in world.json("doctor")["findings"] if each["code"] == "permissions"]
    assert found
    assert all("mount its disk writable" in each["hint"] for each in found), found
    for words in (["agent", "pause", "--all"], ["run", "impl-1"], ["task", "cancel", tasks[0]]):
        said = world.refused(*words).err
        assert words[0] == "run" or "mount its disk writable" in said
    assert harness.fingerprint(world.home_folder) == before
    disk.read_only(False)
    recover(world, [first, *tasks])


# --- closed folders ----------------------------------------------------------------------------

#: Root may write everywhere, so the product is told that it may not write in one folder.
CLOSED = """
import os
_allowed = getattr(os.access, "allowed", os.access)
def _access(path, mode, **more):
    return not str(path).endswith({end!r}) and _allowed(path, mode, **more)
_access.allowed = _allowed
os.access = _access
"""


def test_nothing_is_claimed_while_the_queue_is_closed_and_no_event_is_told(
    world: World, tmp_path: Path
) -> None:
    world.create(agents=two_agents())
    task = world.add("Waits")
    before = world.task(task)
    product, folder = world.product, world.queue / "incoming"
    world.product = harness.shadow(
        tmp_path / "shadow", CLOSED.format(end="/queue/incoming"), forked=True
    )
    for _ in range(2):
        done = world.run("tick", "--json")
        assert done.code == 1
        assert {each["reason"] for each in done.json["actions"]} == {"system_fault"}
        [problem] = done.json["problems"]
        assert (problem["code"], problem["message"]) == (
            "permissions",
            f"{folder} cannot be written",
        )
    agents = world.json("agent", "list")
    assert [(each["state"], each["reason"]) for each in agents] == [("waiting", "system_fault")] * 2
    world.product = product
    assert world.task(task) == before
    assert not list(world.home_folder.glob("agents/*/runs/*"))
    world.tick_until_in("done", task)


def test_an_agent_whose_folder_cannot_be_used_leaves_its_task_to_another(world: World) -> None:
    world.create(agents=two_agents())
    first, second = (each["name"] for each in two_agents())
    runs = world.home_folder / "agents" / first / "runs"
    runs.parent.mkdir(parents=True)
    runs.touch()
    task = world.add("For anybody")
    report = world.tick()
    assert [(each["agent"], each["action"]) for each in report["actions"]] == [
        (first, "skip"),
        (second, "start"),
    ]
    [problem] = [each for each in report["problems"] if each["code"] == "permissions"]
    assert problem["message"] == f"{runs} is not a folder: {first} starts no run"
    assert problem["hint"] == f"move it aside: mv {runs} {runs}-1"
    verdict = world.json("explain", first)["verdict"]
    assert verdict == f"does not start: system_fault ({runs} is not a folder)"
    assert problem["message"] in [each["message"] for each in world.status()["problems"]]
    world.tick_until_in("done", task)
