"""The set-up of worktrees: what runs, when it runs again, and what follows from its failure."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from conftest import git as sh
from harness import World, wait_until

from orchestrator.git import repository, worktree
from orchestrator.guard import user_commands
from orchestrator.guard.user_commands import Checker, Stopped
from orchestrator.model.config import Agent, Config, Hooks, Setup
from orchestrator.project import worktree_setup
from orchestrator.project.worktree_setup import SetUpFailed, Site
from orchestrator.system import long_log, process

world = harness.world

#: Another process that runs these tests must not end the commands of this process.
MARK = f"set-up-of-a-test-{os.getpid()}"


class Place:
    """A worktree in a repository, set up as a run does; each command appends a word to `said`."""

    def __init__(self, repo: Path) -> None:
        self.repo, self.path = repo, repo / ".orchestrator" / "agents" / "impl" / "worktree"
        self.log, self.words = repo.parent / "setup.log", repo.parent / "said"
        (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\ninstalled\n")
        self.stop: Callable[[], object] = lambda: False
        self.say()
        self.commit("lock", "1\n")

    def say(self, **keys: Any) -> None:
        """Configure the commands; `hooks` and `setup` are given by key."""
        words = {"after_create": "A", "before_run": "B", "before_remove": "R"}
        hooks = {key: f"echo {word} >> {self.words}" for key, word in words.items()}
        setup = {"command": f"cp lock installed && echo S >> {self.words}"}
        when = {"when_changed": ("lock", "missing", "README.md")}
        given = Hooks(**{**hooks, **keys.pop("hooks", {})})
        self.config = Config(hooks=given, setup=Setup(**{**setup, **when, **keys}))

    def commit(self, name: str, text: str) -> None:
        (self.repo / name).write_text(text)
        sh(self.repo, "add", name)
        sh(self.repo, "commit", "--quiet", "--message", name)

    @property
    def site(self) -> Site:
        environment = user_commands.commands_environment(self.config)
        checker = Checker(environment, str(self.log), 30, MARK, self.stop)
        return Site(str(self.repo), str(self.path), self.config, checker, None)

    def begin(self, *, fresh: bool = False) -> bool:
        head = sh(self.repo, "rev-parse", "HEAD")
        is_new = self.site.provide(head, "R1", fresh=fresh)
        sh(self.path, "checkout", "--quiet", "--force", "--detach", head)
        self.site.set_up()
        return is_new

    def said(self) -> str:
        """Return the words of the commands that ran since the last question."""
        text = self.words.read_text() if self.words.exists() else ""
        self.words.write_text("")
        return "".join(text.split())


@pytest.fixture
def place(repo: Path) -> Place:
    return Place(repo)


def test_set_up_runs_in_a_new_worktree_and_only_before_run_runs_each_time(place: Place) -> None:
    assert place.begin()
    assert place.said() == "ASB"
    assert not place.begin()
    assert place.said() == "B"
    place.site.set_up(before_run=False)
    assert place.said() == ""


@pytest.mark.parametrize(
    "name", ["lock", "missing", pytest.param("README.md", id="a file that comes into being")]
)
def test_setup_runs_again_when_the_content_of_a_named_file_changed(place: Place, name: str) -> None:
    place.begin()
    place.commit("other.txt", "other\n")
    place.said()
    place.begin()
    assert place.said() == "B", "another file changed"
    place.commit(name, "2\n")
    place.begin()
    assert place.said() == "SB"
    os.utime(place.path / "lock")
    place.begin()
    assert place.said() == "B", "its time is not its content"


def test_a_pattern_or_a_folder_names_files_of_the_commit(place: Place) -> None:
    place.say(when_changed=("packages/*/lock", "[id].txt", "**/*.lock", "deps/"))
    place.begin()
    for name, runs in (
        ("packages/a/lock", "SB"),
        ("packages/a/lock", "SB"),
        ("packages/b/lock", "SB"),
        ("packages/a/deep/lock", "B"),
        ("a/b/c.lock", "SB"),
        ("d.txt", "SB"),
        ("[id].txt", "SB"),
        ("d.txt", "B"),
        ("deps/a/b.txt", "SB"),
        ("deps/a/b.txt", "SB"),
        ("deps.txt", "B"),
        ("other.txt", "B"),
    ):
        (place.repo / name).parent.mkdir(parents=True, exist_ok=True)
        place.said()
        place.commit(name, str(time.monotonic_ns()))
        place.begin()
        assert place.said() == runs, name
    sh(place.repo, "rm", "--quiet", "packages/b/lock")
    sh(place.repo, "commit", "--quiet", "--message", "gone")
    place.begin()
    assert place.said() == "SB"


def test_a_changed_command_runs_where_the_old_one_had_succeeded(place: Place) -> None:
    place.begin()
    (place.path / "work.txt").write_text("not committed")
    place.said()
    place.say(command=f"echo N >> {place.words}")
    place.begin()
    assert place.said() == "NB"
    place.say(hooks={"after_create": f"echo C >> {place.words}"})
    assert place.begin(), "after_create runs in a new worktree only"
    assert place.said() == "RCSB"
    [ref] = repository.refs(str(place.repo), repository.RESCUE)
    assert sh(place.repo, "show", f"{ref}:work.txt") == "not committed"


@pytest.mark.parametrize("key", ["after_create", "before_run", "setup"])
def test_a_failed_set_up_runs_again_and_says_which_command_failed(place: Place, key: str) -> None:
    failing = f"test ! -e tried; touch tried; {{ echo it broke; exit 3; }} >&2 # {place.words}"
    if key == "setup":
        place.say(command=failing)
    else:
        place.say(hooks={key: failing})
    with pytest.raises(SetUpFailed, match="exited 3: it broke") as caught:
        place.begin()
    name = "setup.command" if key == "setup" else f"hooks.{key}"
    assert caught.value.message.startswith(name)
    assert name in (caught.value.hint or "")
    assert caught.value.code == ("setup_failed" if key == "setup" else "hook_failed")
    assert "it broke" in place.log.read_text()
    place.said()
    # It is repaired; the first try left a file, which after_create does not meet again.
    place.say() if key != "after_create" else place.say(
        hooks={"after_create": f"test ! -e tried && echo A >> {place.words}"}
    )
    place.begin()
    assert place.said() == {"after_create": "ASB", "setup": "SB", "before_run": "B"}[key]


def test_a_set_up_that_was_killed_runs_again_after_its_processes_were_ended(place: Place) -> None:
    """As `kill -9` of a supervisor leaves it: the command goes on, and nobody waits for it."""
    place.say(hooks={"after_create": "sleep 300"})
    place.stop = lambda: True
    with pytest.raises(Stopped):
        place.begin()
    left = {**os.environ, "ORCHESTRATOR_CHECK_OF": MARK}
    with subprocess.Popen(["sleep", "300"], env=left, start_new_session=True) as orphan:
        lives = f"grep -q '^State:.[^ZX]' /proc/{orphan.pid}/status && echo LIVES"
        place.say(hooks={"after_create": f"{{ {lives}; echo A; }} >> {place.words}"})
        place.stop = lambda: False
        assert place.begin(), "made anew: after_create was not complete"
        assert orphan.wait(harness.PATIENCE) < 0
    assert place.said() == "ASB", "before_remove has nothing to take down"


def test_setup_runs_again_after_after_create_did(place: Place) -> None:
    """Even in the same worktree: what the one makes, the other may have used."""
    place.begin()
    place.say(hooks={"after_create": f"echo other A >> {place.words}"})
    place.said()
    place.site.set_up()
    assert place.said() == "otherASB"


def test_a_worktree_that_was_set_aside_is_set_up_again(place: Place) -> None:
    place.begin()
    (place.path / "inner").mkdir()
    sh(place.path / "inner", "init", "--quiet")
    (place.path / "inner" / "x").write_text("x")
    sh(place.path / "inner", "add", "x")
    who = ("-c", "user.name=A", "-c", "user.email=a@x")
    sh(place.path / "inner", *who, "commit", "--quiet", "--message", "x")
    worktree.preserve(str(place.path), None, "R2")
    place.said()
    place.begin()
    assert place.said() == "ASB"


def test_a_stop_ends_the_whole_process_group_at_once(place: Place) -> None:
    pid = place.repo.parent / "pid"
    place.say(command=f"sleep 300 & echo $! > {pid}; wait")
    asked = threading.Event()
    place.stop = asked.is_set
    caught: list[BaseException] = []

    def work() -> None:
        try:
            place.begin()
        except Stopped as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: pid.exists() and pid.read_text().strip(), "the command to start")
    child = process.known(int(pid.read_text()))
    began = time.monotonic()
    asked.set()
    thread.join(harness.PATIENCE)
    assert caught
    assert time.monotonic() - began < 20, "it did not wait for the command's end"
    assert not child.is_alive()
    place.stop = lambda: False
    place.say()
    place.said()
    place.begin()
    assert place.said() == "SB"


def test_a_hook_that_takes_too_long_is_ended(place: Place) -> None:
    place.say(hooks={"before_run": "sleep 300", "timeout_seconds": 0.2})
    with pytest.raises(SetUpFailed, match=r"hooks.before_run took too long"):
        place.begin()


def test_the_output_of_a_command_does_not_fill_the_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while the command runs, nor afterwards; a command that says much is not ended."""
    most, was_cut = 100_000, place.repo.parent / "was_cut"
    monkeypatch.setattr(user_commands, "MOST_LOGGED", most)
    size = f"$(wc -c < {place.log})"
    many = f"b={size}; head -c {3 * most} /dev/zero | tr '\\0' x"
    # It writes more until a cut is whole: what is written during a cut may be lost. The lines after
    # `some` come after the last cut by size (`long_log.shorten`): that leaves room for `some`.
    more = f"head -c {most // 10} /dev/zero | tr '\\0' x"
    is_cut = f"s=$(({size} - b)); test $s -ge {most} -a $s -lt {most * 13 // 10}"
    waits = f"until {is_cut}; do test $s -gt {2 * most} || {{ {more}; }}; sleep 0.05; done"
    some = f"head -c {most // 2} /dev/zero | tr '\\0' x"
    said = f"echo first; {many}; {waits}; touch {was_cut}; {some}; echo; echo last"
    checker = place.site.checker
    assert checker.run("echo before", str(place.repo)) is None
    assert checker.run(said, str(place.repo)) is None
    assert was_cut.exists()
    text = place.log.read_bytes()
    assert len(text) < most + 2000
    assert text.startswith(b"$ echo before\nbefore\n$ echo first")
    assert b"\nfirst\nxxx" in text
    assert text.endswith(b"x\nlast\n")
    assert text.count(long_log.LEFT_OUT) == 1
    failure = checker.run(f"{many}; {waits}; {some}; echo; echo boom; exit 3", str(place.repo))
    assert failure is not None
    assert failure.output.endswith("x\nboom\n")


def test_fresh_makes_the_worktree_anew_and_loses_nothing(place: Place) -> None:
    place.begin()
    (place.path / "README.md").write_text("changed")
    (place.path / "installed.txt").write_text("new")
    place.said()
    assert place.begin(fresh=True)
    assert place.said() == "RASB"
    [ref] = repository.refs(str(place.repo), repository.RESCUE)
    assert sh(place.repo, "show", f"{ref}:README.md") == "changed"
    assert sh(place.repo, "show", f"{ref}:installed.txt") == "new"
    place.say(hooks={"before_remove": "exit 1"})
    (place.path / "kept.txt").write_text("kept")
    with pytest.raises(user_commands.SystemFault, match=r"hooks.before_remove exited 1"):
        place.begin(fresh=True)
    assert (place.path / "kept.txt").exists()


def test_without_set_up_nothing_is_recorded_or_run(place: Place) -> None:
    place.config = Config()
    place.begin()
    assert not list((place.repo / ".git" / "worktrees").rglob(worktree_setup.RECORD))
    assert not place.log.exists()


def test_what_a_damaged_record_says_is_not_believed(place: Place) -> None:
    place.begin()
    [record] = (place.repo / ".git" / "worktrees").rglob(worktree_setup.RECORD)
    record.write_text("\0\0\0")
    place.said()
    assert place.begin()
    assert place.said() == "ASB"


@pytest.mark.parametrize("other", [("/a/shop", "impl.1"), ("/b/shop", "impl-1"), ("/a/shop", "b")])
def test_each_agent_of_each_project_has_a_compose_project_of_its_own(
    other: tuple[str, str],
) -> None:
    name = user_commands.compose_project("/a/shop", "impl-1")
    assert name != user_commands.compose_project(*other)
    long = [user_commands.compose_project(f"/a/{'x' * 80}", f"impl-{n}") for n in (1, 2)]
    assert len({*long, name}) == 3
    assert all(set(each) <= {*"abcdefghijklmnopqrstuvwxyz0123456789_-"} for each in long)


def test_the_landing_has_a_compose_project_of_its_own() -> None:
    from orchestrator.layout import Layout

    config = Config(agents=(Agent("landing", "implementer", 0),))
    mine = user_commands.landing_environment(config, Layout("/p"), "/p/landing")
    theirs = user_commands.check_environment(config, config.agents[0], Layout("/p"))
    assert mine["COMPOSE_PROJECT_NAME"] != theirs["COMPOSE_PROJECT_NAME"]


# --- whole runs --------------------------------------------------------------------------------

LOCK = "setup-lock"
SHOW = ["call", "cat", "installed"]


def push_lock(world: World, text: str) -> None:
    (world.root / LOCK).write_text(f"{text}\n")
    world.git("add", LOCK)
    world.git("commit", "-q", "-m", f"lock {text}")
    world.git("push", "-q", "origin", "main")


def create(world: World, **config: Any) -> None:
    world.create()
    exclude = world.root / ".git" / "info" / "exclude"
    harness.append(exclude, "installed\n")
    push_lock(world, "one")
    command = f"cp {LOCK} installed; env > $ORCHESTRATOR_PROJECT/../of-setup; echo copied"
    given = {"setup": {"command": command, "when_changed": [LOCK]}}
    world.configure(**{**given, **config})


def environment(path: Path) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in path.read_text().splitlines() if "=" in line)


def test_a_run_starts_in_a_worktree_that_is_set_up_for_its_commit(world: World) -> None:
    checks = [f"cmp {LOCK} installed", "env > $ORCHESTRATOR_PROJECT/../of-check"]
    create(world, checks=checks, hooks={"before_run": "env > $ORCHESTRATOR_PROJECT/../of-hook"})
    show = ["call", "sh", "-c", "cat installed; env > $ORCHESTRATOR_PROJECT/../of-client"]
    world.script("default", {"steps": [show, ["work"]]})
    first = world.add("First")
    world.tick_until_in("done", first)
    push_lock(world, "two")
    second = world.add("Second")
    world.tick_until_in("done", second)
    assert [call["out"].strip() for call in world.ledger("call")] == ["one", "two"]
    assert "copied" in world.ok("logs", first).out
    kept = [environment(world.folder / f"of-{who}") for who in ("setup", "hook", "check", "client")]
    for name in ("COMPOSE_PROJECT_NAME", "AGENT_DEV_PORT", "ORCHESTRATOR_WORKTREE"):
        assert len({each[name] for each in kept}) == 1, name


def test_an_agent_that_changes_the_lock_file_is_checked_with_what_it_names(world: World) -> None:
    """A set-up that fails on the branch alone is the work's: the agent sees it, and fixes it."""
    command = f"grep -v broken {LOCK} > installed || {{ echo cannot install >&2; exit 1; }}"
    create(
        world,
        checks=[f"cmp {LOCK} installed"],
        setup={"command": command, "when_changed": [LOCK]},
    )
    world.script(
        "default",
        {"steps": [["write", LOCK, "broken\n"], ["commit", "break it"]]},
        {"steps": [["write", LOCK, "three\n"], ["commit", "fix it"]]},
    )
    task = world.add("Change the lock file")
    world.tick_until_in("done", task)
    assert world.task(task)["attempts"] == 1
    told = world.seen(task)["instructions"]
    assert "fails on this branch, and succeeds on the base" in told
    assert "cannot install" in told
    assert world.status()["problems"] == []


@pytest.mark.parametrize("key", ["setup", "before_run"])
def test_a_failing_set_up_charges_nobody_and_is_one_problem(world: World, key: str) -> None:
    bad = f"test -e {world.folder}/repaired || {{ echo no registry >&2; exit 1; }}"
    create(world, **({"setup": {"command": bad}} if key == "setup" else {"hooks": {key: bad}}))
    tasks = [world.add("One"), world.add("Two")]
    world.tick()  # until then the problem may be that no tick has run
    world.tick_until(lambda: world.status()["problems"], "the problem")
    world.quiet()
    [problem] = world.status()["problems"]
    assert "no registry" in problem["message"]
    assert ("setup.command" if key == "setup" else "hooks.before_run") in problem["hint"]
    assert [world.task(task)["attempts"] for task in tasks] == [0, 0]
    assert world.starts() == []
    (world.folder / "repaired").touch()
    world.tick_until_in("done", *tasks)
    assert world.status()["problems"] == []


def test_stop_ends_a_set_up_that_is_running(world: World) -> None:
    create(world, setup={"command": "echo $$ > ../pid; sleep 300 & wait"})
    task = world.add("Stopped")
    pid = world.home_folder / "agents" / "impl-1" / "pid"
    world.ok("tick")
    wait_until(lambda: pid.exists() and pid.read_text().strip(), "the set-up to run")
    world.ok("stop", "impl-1")
    world.quiet()
    assert world.where(task) == ["incoming"]
    assert world.task(task)["attempts"] == 0
    assert world.starts() == []


def test_a_person_starts_an_agent_over_without_git_commands(world: World) -> None:
    create(world)
    world.script("default", {"steps": [SHOW, ["work"]]})
    world.tick_until_in("done", world.add("First"))
    world.quiet()
    worktree = world.home_folder / "agents" / "impl-1" / "worktree"

    def spoil(text: str) -> None:
        (worktree / "installed").write_text("rubbish\n")
        (worktree / "notes.txt").write_text(text)

    spoil("one")
    ref = world.ok("clean", "impl-1").out.split()[-1]
    assert not worktree.exists()
    assert world.git("show", f"{ref}:notes.txt") == "one"
    assert world.json("clean", "impl-1") == {"dropped": [], "kept": []}
    world.tick_until_in("done", world.add("Second"))
    world.quiet()
    spoil("two")
    task = world.add("Third")
    world.ok("run", "impl-1", "--fresh")
    world.tick_until_in("done", task)
    assert [call["out"].strip() for call in world.ledger("call")] == ["one"] * 3
    [ref] = world.git("for-each-ref", "--format=%(refname)", "refs/orchestrator/*/*-before").split()
    assert world.git("show", f"{ref}:notes.txt") == "two"


def test_clean_refuses_the_worktree_of_a_running_agent(world: World) -> None:
    create(world)
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    task = world.add("At work")
    world.tick_until(lambda: world.running(task))
    refused = world.refused("clean", "impl-1", "--json")
    assert refused.json["error"]["code"] == "running"
    [item] = world.json("clean", "impl-1", "--dry-run")["kept"]
    assert item["why"] == "its agent is running"
    assert "did you mean 'impl-1'" in world.refused("clean", "impl1").err
    world.open("go")
    world.tick_until_in("done", task)
