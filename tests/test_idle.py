"""The tick with nothing to do: over in a moment, and never when something could have changed."""

from __future__ import annotations

import json
import marshal
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT
from conftest import git as sh

from orchestrator import idle
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Hold, RunView, Snapshot
from orchestrator.model.work import PullRequest
from orchestrator.pulls import states
from orchestrator.pulls.book import Book
from orchestrator.system import files, locks
from orchestrator.tasks import file_store
from orchestrator.tick import observe
from orchestrator.tick.stamp import EDITS_UNSEEN, leave

PAUSED = """\
paused: true
base_branch: main
forge: local
agents:
  - name: impl-agent-1
    role: implementer
"""
WAITING = b"# [T1] Fix it\n\nROLE: implement\n"


def age(layout: Layout) -> None:
    """Make everything old enough for a second change to show in its file times."""
    old = time.time() - 60
    remote = os.path.join(layout.root, "..", "remote.git")
    for top in (layout.home, os.path.join(layout.root, ".git"), remote):
        for where, folders, names in os.walk(top):
            for name in (*folders, *names, "."):
                path = os.path.join(where, name)
                if not path.endswith("scheduler.lock"):
                    os.utime(path, (old, old))


@pytest.fixture
def quiet(project: Layout, cli: Callable[..., Any]) -> Layout:
    """A project in which a whole tick has just found nothing to do."""
    Path(project.config).write_text(PAUSED)
    Path(project.state("incoming"), "T1.md").write_bytes(WAITING)
    Path(project.state("blocked"), "T2.md").write_bytes(WAITING.replace(b"T1", b"T2"))
    files.make_folder(project.roles)
    assert cli("tick").code == 0  # writes what a first tick writes
    age(project)
    assert cli("tick").code == 0
    assert os.path.exists(project.idle_stamp)
    return project


def test_a_tick_that_found_nothing_leaves_word_and_the_next_one_is_over_at_once(
    quiet: Layout,
) -> None:
    os.utime(quiet.scheduler_lock, (1, 1))
    assert idle.nothing_to_do()
    assert os.stat(quiet.scheduler_lock).st_mtime > time.time() - 30


QUESTION = b"""# [T3] Which colour

ROLE: implement

<!-- orchestrator:history -->
## History
- 2026-01-01T00:02:00Z blocked {"question": "Which?"}
"""
TOLD = "Orchestrator: 1 question waiting; /orchestrator:inbox\n"


@pytest.fixture
def asked(quiet: Layout, cli: Callable[..., Any]) -> Layout:
    """A quiet project in which a question waits."""
    Path(quiet.state("blocked"), "T3.md").write_bytes(QUESTION)
    age(quiet)
    assert cli("tick").code == 0
    assert os.path.exists(quiet.idle_stamp)
    return quiet


def test_a_session_is_told_what_the_last_tick_left(asked: Layout, cli: Callable[..., Any]) -> None:
    assert idle.news() == cli("_news").out == TOLD


def test_a_lie_in_the_stamp_is_told_only_while_nothing_changes(
    asked: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = Path(asked.idle_stamp)
    stamp.write_bytes(stamp.read_bytes().replace(TOLD.encode(), b"A lie.\n"))
    command = [sys.executable, "-I", "-S", os.path.join(CHECKOUT, "orchestrator", "__main__.py")]

    def told() -> str:
        return subprocess.check_output([*command, "_news"], text=True)

    assert told() == idle.news() == "A lie.\n"
    with monkeypatch.context() as patch:
        patch.setenv("ORCHESTRATOR_RUN_ID", "R1")
        assert idle.news() is None
        assert told() == "", "an agent's own session is told nothing"
    _edit(os.path.join(asked.state("incoming"), "T1.md"))
    assert idle.news() is None
    assert told() == TOLD


@pytest.mark.parametrize("name", ["landing_fault", "notify_fault", "checkout_changed"])
def test_what_another_process_finds_wrong_is_told(asked: Layout, name: str) -> None:
    Path(getattr(asked, name)).write_text("{}")
    assert idle.news() is None


@pytest.mark.parametrize("words", [["tick"], ["_news"], ["status", "--json"]])
def test_a_folder_that_was_deleted_under_the_command_is_named(
    tmp_path: Path, words: list[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = str(CHECKOUT / "orchestrator" / "__main__.py")
    command = ("sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", sys.executable, program, *words)
    done = subprocess.run(command, cwd=gone, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "orchestrator: the current folder does not exist any more\n  go to"
    )
    assert done.stdout == "" or json.loads(done.stdout)["error"]["code"] == "no_project"
    assert ("--json" in words) is (done.stdout != "")


def test_it_is_known_from_any_folder_of_the_project(
    quiet: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(quiet.root, "a", "b")
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert idle.nothing_to_do()


def _edit(path: str, data: bytes = b"\n") -> None:
    with open(path, "ab") as file:
        file.write(data)


def _same_size(path: str) -> None:
    """Change a file in place, its size and its inode staying as they are."""
    with open(path, "r+b") as file:
        file.write(file.read()[:1])


def _move(layout: Layout) -> None:
    os.rename(
        os.path.join(layout.state("incoming"), "T1.md"),
        os.path.join(layout.state("failed"), "T1.md"),
    )


def _swap(layout: Layout) -> None:
    """Put another file of the same size and time in a task's place."""
    path = os.path.join(layout.state("incoming"), "T1.md")
    found = os.stat(path)
    other = path.replace("incoming/T1.md", "other")
    Path(other).write_bytes(Path(path).read_bytes().replace(b"Fix", b"Mix"))
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(other, path)


CHANGES: dict[str, Callable[[Layout], object]] = {
    "a task dropped in": lambda at: _edit(os.path.join(at.state("incoming"), "x.md"), WAITING),
    "a task edited": lambda at: _edit(os.path.join(at.state("incoming"), "T1.md")),
    "a task edited in place": lambda at: _same_size(os.path.join(at.state("incoming"), "T1.md")),
    "a task replaced": _swap,
    "a task deleted": lambda at: os.unlink(os.path.join(at.state("incoming"), "T1.md")),
    "a task moved": _move,
    "a blocked task deleted": lambda at: os.unlink(os.path.join(at.state("blocked"), "T2.md")),
    "a task put into done": lambda at: _edit(os.path.join(at.state("done"), "T3.md"), WAITING),
    "a task put into claimed": lambda at: _edit(os.path.join(at.state("claimed"), "T3.md")),
    "the configuration edited": lambda at: _edit(at.config),
    "the configuration edited in place": lambda at: _same_size(at.config),
    "the configuration deleted": lambda at: os.unlink(at.config),
    "a role added": lambda at: _edit(os.path.join(at.roles, "painter.md")),
    "a hold": lambda at: files.write_json(at.hold, {"code": "usage_limit"}),
    "a pull request": lambda at: files.write_json(os.path.join(at.prs, "1.json"), {"id": "1"}),
    "a state's folder deleted": lambda at: os.rmdir(at.state("claimed")),
    "the stamp deleted": lambda at: os.unlink(at.idle_stamp),
    "the lock deleted": lambda at: os.unlink(at.scheduler_lock),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_kind_of_change_makes_the_next_tick_a_whole_one(quiet: Layout, change: str) -> None:
    assert idle.nothing_to_do()
    CHANGES[change](quiet)
    assert not idle.nothing_to_do()


COMMANDS = [
    ("task", "add", "--title", "New", "--role", "implement"),
    ("task", "cancel", "T1"),
    ("task", "move", "T1", "blocked"),
    ("task", "retry", "T2"),
    ("agent", "pause", "impl-agent-1"),
    ("agent", "resume", "impl-agent-1"),
    ("agent", "set", "impl-agent-1", "interval_seconds=7"),
    ("limits", "set", "max_claimed=1"),
    ("init",),
    ("init", "--uninstall"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_that_changes_something_is_seen_by_the_next_tick(
    quiet: Layout, cli: Callable[..., Any], words: tuple[str, ...]
) -> None:
    done = cli(*words)
    assert done.code == 0, done.err
    if words == ("init",):  # nothing was left to do
        return
    assert not idle.nothing_to_do()


@pytest.mark.parametrize(
    "words", [("status",), ("task", "list"), ("agent", "list"), ("tick", "--dry-run"), ("doctor",)]
)
def test_commands_that_only_read_leave_the_word_standing(
    quiet: Layout, cli: Callable[..., Any], words: tuple[str, ...]
) -> None:
    cli(*words)
    assert idle.nothing_to_do()


# --- an open pull request ----------------------------------------------------------------------

DELIVERED = b"""# [D1] Delivered

ROLE: implement

<!-- orchestrator:history -->
## History
- 2026-01-01T00:02:00Z done {"pr": "1", "branch": "agent/D1-it"}
"""


@pytest.fixture
def delivered(
    project: Layout, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Layout:
    """A project with a remote on this machine, a pull request and a waiting task."""
    own = shutil.copy(Path.home() / ".gitconfig", tmp_path)  # one test changes it
    os.utime(own, (time.time() - 60,) * 2)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(own))
    root, remote = Path(project.root), tmp_path / "remote.git"
    sh(tmp_path, "init", "--quiet", "--bare", str(remote))
    sh(root, "remote", "add", "origin", str(remote))
    sh(root, "checkout", "--quiet", "-b", "agent/D1-it")
    Path(root, "work").write_text("done\n")
    sh(root, "add", "work")
    sh(root, "commit", "--quiet", "--message=work")
    head = sh(root, "rev-parse", "HEAD")
    sh(root, "push", "--quiet", "origin", "main", "agent/D1-it")
    sh(root, "checkout", "--quiet", "main")
    Path(project.config).write_text(
        PAUSED.replace("paused: true", "queue_limits: {max_open_prs: 1}")
    )
    Path(project.state("incoming"), "T1.md").write_bytes(WAITING)
    Path(project.state("done"), "D1.md").write_bytes(DELIVERED)
    files.make_folder(project.roles)
    files.make_folder(project.prs)
    pr = PullRequest("1", "D1", "agent/D1-it", "main", head, "Delivered", "open")
    Book(project.prs).write(pr, "")
    leave_stamp(project, cli)
    return project


def leave_stamp(layout: Layout, cli: Callable[..., Any]) -> None:
    """Run ticks until they have nothing to do; in real life a minute is between two of them."""
    for _ in range(2):
        age(layout)
        done = cli("tick")
        assert done.code == 0, done.err


def remote_of(layout: Layout) -> Path:
    return Path(layout.root).parent / "remote.git"


def _review(layout: Layout, _: Callable[..., Any]) -> None:
    path = os.path.join(layout.state("done"), "D1.md")
    _edit(path, b'- 2026-01-01T00:03:00Z review {"pr": "1", "verdict": "approved"}\n')


#: In an order in which each can follow the ones before.
OF_PULL_REQUESTS: dict[str, Callable[[Layout, Callable[..., Any]], object]] = {
    "it is approved": lambda at, cli: cli("pr", "approve", "1"),
    "its record is edited in place": lambda at, _: _same_size(os.path.join(at.prs, "1.json")),
    "a review is written into its task by hand": _review,
    "the base moves here": lambda at, _: _move_ref(at.root, "refs/heads/main"),
    "a fetch of a person": lambda at, _: _move_ref(at.root, "refs/remotes/origin/main"),
    "it is merged at the remote": lambda at, _: _move_ref(remote_of(at), "refs/heads/main"),
    "its branch is deleted here": lambda at, _: sh(
        Path(at.root), "branch", "--quiet", "-D", "agent/D1-it"
    ),
    "its branch is deleted at the remote": lambda at, _: sh(
        remote_of(at), "update-ref", "-d", "refs/heads/agent/D1-it"
    ),
    "a person's configuration of git": lambda at, _: sh(
        Path(at.root), "config", "--global", "url.https://example.org/.insteadOf", "/"
    ),
    "the remote is another one": lambda at, _: sh(
        Path(at.root), "remote", "set-url", "origin", "https://example.org/x.git"
    ),
    "the remote is gone": lambda at, _: remote_of(at).rename(remote_of(at).with_name("gone")),
}


def _move_ref(repository: str | Path, ref: str) -> None:
    sh(Path(repository), "update-ref", ref, "refs/heads/agent/D1-it")


def test_every_change_of_an_open_pull_request_makes_the_next_tick_a_whole_one(
    delivered: Layout, cli: Callable[..., Any]
) -> None:
    found = os.fsdecode(Path(delivered.idle_stamp).read_bytes()).split("\0")[8::2]
    names = [os.path.join(delivered.home, name) for name in found]
    for what, change in OF_PULL_REQUESTS.items():
        now = time.time()
        for name in filter(os.path.exists, names):
            os.utime(name, (now - 60, now - 60))
        assert idle.write_stamp(delivered.idle_stamp, now, now + 600, names)
        assert idle.nothing_to_do()
        change(delivered, cli)
        assert not idle.nothing_to_do(), what


def test_commands_that_read_start_no_git_for_pull_requests_that_the_stamp_names(
    delivered: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load.settings(delivered, write_cache=False).config

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refused)
    found = states.known(delivered, config)
    assert found is not None
    assert [(pr.id, pr.state) for pr in found] == [("1", "open")]


def test_commands_that_read_ask_git_if_the_stamp_does_not_hold(delivered: Layout) -> None:
    config = load.settings(delivered, write_cache=False).config
    _move_ref(delivered.root, "refs/remotes/origin/main")
    found = states.known(delivered, config)
    assert os.path.exists(delivered.idle_stamp), "it says what was, not what is"
    assert found is not None
    assert [(pr.id, pr.state) for pr in found] == [("1", "merged")]


NOT_ONLY_HERE = {
    "another host": ("remote", "set-url", "origin", "https://example.org/x.git"),
    "another program": ("config", "remote.origin.uploadpack", "git-upload-pack"),
    "another place of pushes": ("remote", "set-url", "--push", "origin", "host:x.git"),
}


@pytest.mark.parametrize("why", NOT_ONLY_HERE)
def test_if_the_state_of_a_pull_request_is_not_in_files_here_no_tick_rests_without_asking(
    delivered: Layout, cli: Callable[..., Any], why: str
) -> None:
    sh(Path(delivered.root), *NOT_ONLY_HERE[why])
    leave_stamp(delivered, cli)
    assert not idle.nothing_to_do()


def test_a_tick_that_did_not_ask_the_remote_leaves_no_stamp(
    delivered: Layout, cli: Callable[..., Any]
) -> None:
    """What changed there since the last look would stay unseen as long as the stamp holds."""
    with locks.Lock(delivered.look_lock):
        leave_stamp(delivered, cli)
    assert not os.path.exists(delivered.idle_stamp)
    leave_stamp(delivered, cli)
    assert os.path.exists(delivered.idle_stamp)


def test_a_pull_request_that_is_to_be_merged_automatically_needs_whole_ticks(
    delivered: Layout, cli: Callable[..., Any]
) -> None:
    _edit(delivered.config, b"review: {auto_merge: true}\n")
    leave_stamp(delivered, cli)
    assert idle.nothing_to_do()
    assert cli("pr", "approve", "1").code == 0
    leave_stamp(delivered, cli)
    assert not os.path.exists(delivered.idle_stamp)


def test_of_many_waiting_tasks_an_edit_in_place_is_seen_within_minutes(
    quiet: Layout, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_store, "MOST_WATCHED", 0)
    leave_stamp(quiet, cli)
    _edit(os.path.join(quiet.state("incoming"), "T1.md"))
    assert idle.nothing_to_do()
    later = time.time() + EDITS_UNSEEN
    monkeypatch.setattr(time, "time", lambda: later)
    assert not idle.nothing_to_do()


def test_inside_a_run_nothing_is_taken_for_granted(
    quiet: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PROJECT", quiet.root)
    assert not idle.nothing_to_do()


def test_while_another_tick_is_at_work_nothing_is_recorded(quiet: Layout) -> None:
    os.utime(quiet.scheduler_lock, (1, 1))
    with locks.Lock(quiet.scheduler_lock):
        assert not idle.nothing_to_do()
    assert os.stat(quiet.scheduler_lock).st_mtime == 1


def test_a_linked_worktree_a_bare_folder_and_an_agents_worktree_are_not_the_project(
    quiet: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked, inside = tmp_path / "linked", Path(quiet.worktree("impl-agent-1"))
    sh(Path(quiet.root), "worktree", "add", "--quiet", "--detach", str(linked))
    sh(Path(quiet.root), "worktree", "add", "--quiet", "--detach", str(inside))
    for folder in (linked, inside, tmp_path, Path("/")):
        monkeypatch.chdir(folder)
        assert not idle.nothing_to_do()


def test_the_program_itself_takes_the_short_way(quiet: Layout) -> None:
    os.utime(quiet.scheduler_lock, (1, 1))
    words = (sys.executable, "-I", "-S", str(CHECKOUT / "orchestrator" / "__main__.py"), "tick")
    done = subprocess.run(words, cwd=quiet.root, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.stat(quiet.scheduler_lock).st_mtime > time.time() - 30


# --- the stamp ---------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The least that an idle tick looks at; returns the stamp's path."""
    (tmp_path / ".git").mkdir()
    initialised = tmp_path / ".git" / "orchestrator.json"
    initialised.write_text("{}")
    os.utime(initialised, (time.time() - 3600,) * 2)
    (tmp_path / ".orchestrator" / "cache").mkdir(parents=True)
    (tmp_path / ".orchestrator" / "scheduler.lock").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".orchestrator" / "cache" / "idle"


def stamp(
    path: Path, written: float = 0, wake: float = 600, watched: tuple[Path, ...] = ()
) -> bool:
    """Leave a stamp, its times relative to now; then look."""
    now = time.time()
    if not idle.write_stamp(str(path), now + written, now + wake, [str(p) for p in watched]):
        return False
    return idle.nothing_to_do()


@pytest.mark.parametrize(
    ("written", "wake", "trusted"),
    [
        (0, 600, True),
        (-300, 5, True),
        (0, -0.001, False),
        (-300, -1, False),
        (60, 600, False),  # the clock was moved back
        (86_400, 90_000, False),
        (-idle.LONGEST - 1, 600, False),  # nothing is trusted for longer
    ],
)
def test_a_stamp_is_trusted_from_when_it_was_written_until_something_is_due(
    bare: Path, written: float, wake: float, trusted: bool
) -> None:
    assert stamp(bare, written, wake) is trusted


@pytest.mark.parametrize(
    ("seconds_ago", "left"), [(60, True), (1, True), (0.05, False), (0, False)]
)
def test_no_stamp_is_left_so_soon_after_a_change_that_the_next_might_not_show(
    bare: Path, tmp_path: Path, seconds_ago: float, left: bool
) -> None:
    watched = tmp_path / "task.md"
    watched.touch()
    now = time.time()
    os.utime(watched, (now - seconds_ago, now - seconds_ago))
    assert idle.write_stamp(str(bare), now, now + 600, [str(watched)]) is left
    assert bare.exists() is left


def test_a_file_from_the_future_is_looked_at_each_time(bare: Path, tmp_path: Path) -> None:
    watched = tmp_path / "task.md"
    watched.touch()
    os.utime(watched, (time.time() + 3600,) * 2)
    assert not stamp(bare, watched=(watched,))


def test_what_was_not_there_is_watched_too(bare: Path, tmp_path: Path) -> None:
    missing = tmp_path / "hold.json"
    assert stamp(bare, watched=(missing,))
    missing.touch()
    assert not idle.nothing_to_do()


NOW = f"{time.time():.0f}"
GARBAGE = [
    b"",
    b"\0" * 200,
    b"garbage",
    b"3\0" + NOW.encode(),
    b"3\x000\x009e9",
    b"3\x00nan\x00nan\0/a\0-",
    b"3\x00-inf\x00inf\0/a\0-",
    b"3\x00" + b"1" * 5000 + b"\x009e9",
    b"\xff\xfe\0\0\0",
    marshal.dumps((1, 0.0, 9e9, {})),
]


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_a_damaged_stamp_is_no_stamp(bare: Path, number: int) -> None:
    bare.write_bytes(GARBAGE[number])
    assert not idle.nothing_to_do()


def committed(bare: Path, **replaced: str) -> None:
    """Leave the stamp that somebody elsewhere would write who knows all but this disk's facts."""
    now = time.time()
    proof = str(bare.parent.parent.parent / ".git" / "orchestrator.json")
    fields = {"version": idle.VERSION, "written": repr(now - 5), "wake": repr(now + 300)}
    fields |= {"number": "", "said": "", "asks": "", "proof": proof, "known": "1 2 3", **replaced}
    bare.write_bytes(os.fsencode("\0".join(fields.values())))


def test_a_stamp_that_came_with_a_commit_stops_no_tick(bare: Path) -> None:
    proof = idle.mark(str(bare.parent.parent.parent / ".git" / "orchestrator.json"))
    assert proof is not None
    committed(bare, known="{} {} {}".format(*proof))
    assert idle.nothing_to_do()  # it is only this line that nobody elsewhere can write
    inode, changed, size = proof
    for known in ("1 2 3", "-", "", "None", f"{inode} {changed + 1} {size}", f"{inode + 1} 0 0"):
        committed(bare, known=known)
        assert not idle.nothing_to_do()
    right = "{} {} {}".format(*proof)
    committed(bare, known=right, proof="/etc/hostname")
    assert not idle.nothing_to_do()
    committed(bare, known=right, wake=repr(time.time() + 9e9))
    assert not idle.nothing_to_do()


def test_without_the_mark_of_a_set_up_no_stamp_holds(bare: Path) -> None:
    os.unlink(bare.parent.parent.parent / ".git" / "orchestrator.json")
    assert not stamp(bare)
    committed(bare, known="-")
    assert not idle.nothing_to_do()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "huge"])
def test_only_a_small_regular_file_is_read_as_a_stamp(
    bare: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "link":
        assert stamp(bare)
        bare.rename(tmp_path / "elsewhere")
        bare.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(bare)
    elif kind == "folder":
        bare.mkdir()
    else:
        assert stamp(bare)
        with open(bare, "ab") as file:
            file.truncate(1 << 30)
    assert not idle.nothing_to_do()


def test_a_stamp_is_written_whole(bare: Path) -> None:
    for _ in range(3):
        assert stamp(bare)
    assert os.listdir(bare.parent) == ["idle"]


def test_a_stamp_names_what_a_tick_reads_and_no_stamp_is_left_during_a_fault(
    project: Layout,
) -> None:
    settings, path = load.settings(project, write_cache=False), Path(project.idle_stamp)
    now = time.time() + 5  # what changes after the look leaves no stamp
    seen = observe.observe(project, settings, now, []).snapshot

    def is_left(snapshot: Snapshot) -> bool:
        path.unlink(missing_ok=True)
        leave(project, settings.config, snapshot, [], now, None, "", lambda: "")
        return path.exists()

    assert not is_left(seen._replace(hold=Hold("system_fault", "gone", "fix it", now)))
    assert not is_left(seen._replace(runs=(RunView("R1", "a", None, False, True, 0),)))
    assert is_left(seen)
    watched = path.read_text()
    for name in ("config", "hold", "prs", "roles", "landing_fault", "notify_fault"):
        assert f"\0{os.path.relpath(getattr(project, name), project.home)}\0" in watched, name
