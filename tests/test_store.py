"""The queue as files: the contract of every store, and what only files can do wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import CHECKOUT, tree
from rows import each_row
from store_contract import StoreContract, claim, entry, new_task

from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.work import STATES, Entry, Task
from orchestrator.system import files
from orchestrator.tasks import history, stored_file
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Malformed


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return with_folders(tmp_path)


def with_folders(root: Path) -> Layout:
    found = Layout(str(root))
    for state in STATES:
        files.make_folder(found.state(state))
    files.make_folder(found.cache)
    return found


@pytest.fixture
def store(layout: Layout) -> FileStore:
    return FileStore(layout)


class TestFileStore(StoreContract):
    kind = FileStore

    def spoil(self, layout: Layout, task: Task) -> None:
        Path(task.where).write_bytes(b"")


GOOD = b"# [T1] Fix it\n\nROLE: implement\n\nBody.\n"


def put(layout: Layout, state: str, name: str, data: bytes = GOOD) -> str:
    path = os.path.join(layout.state(state), name)
    Path(path).write_bytes(data)
    return path


def bad(store: FileStore, state: str = "incoming") -> list[Malformed]:
    return list(store.list(state).malformed)


def ids(store: FileStore, state: str = "incoming") -> list[str]:
    return [task.id for task in store.list(state).tasks]


# --- files that cannot be tasks ----------------------------------------------------------------

#: name and contents -> a word of the reason
MALFORMED: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.md", b"", "title"),
    "no title": ("a.md", b"ROLE: implement\n\ntext\n", "title"),
    "an empty title": ("a.md", b"# [T1]  \n\nROLE: implement\n", "title"),
    "no role": ("a.md", b"# Fix it\n\nPRIORITY: P0\n\nROLE: implement\n", "ROLE"),
    "an empty role": ("a.md", b"# Fix it\n\nROLE:\n", "ROLE"),
    "not UTF-8": ("a.md", b"# Fix \xff\xfe it\n\nROLE: implement\n", "UTF-8"),
    "UTF-16": ("a.md", "# Fix it\n\nROLE: implement\n".encode("utf-16"), "UTF-8"),
    "a NUL": ("a.md", b"# Fix\0it\n\nROLE: implement\n", "NUL"),
    "too large": ("a.md", GOOD + b"x" * (1 << 20), "1 MiB"),
    "far too large": ("a.md", GOOD + b"x" * (5 << 20), "1 MiB"),
    "an id with a slash": ("a.md", b"# [../T1] Fix it\n\nROLE: implement\n", "id"),
    "an id that ends like a lock": ("a.md", b"# [T1.lock] Fix\n\nROLE: implement\n", "id"),
    "an id with two dots": ("a.md", b"# [T..1] Fix\n\nROLE: implement\n", "id"),
    "an id of 65 characters": ("a.md", b"# [" + b"T" * 65 + b"] Fix\n\nROLE: implement\n", "id"),
    "an option for an id": ("a.md", b"# [--force] Fix\n\nROLE: implement\n", "id"),
    "a name that gives no id": ("???.md", b"# Fix it\n\nROLE: implement\n", "id"),
    "open front matter": ("a.md", b"---\ntitle: Fix it\nrole: implement\n", "---"),
    "broken front matter": ("a.md", b"---\ntitle: [Fix\n---\nText\n", "YAML"),
}


@each_row("state", STATES)
@each_row("kind", MALFORMED)
def test_a_file_that_cannot_be_a_task_is_reported_and_left_as_it_is(
    tmp_path: Path, kind: str, state: str
) -> None:
    layout = with_folders(tmp_path / f"{state}, {kind}")
    store = FileStore(layout)
    name, data, word = MALFORMED[kind]
    path = put(layout, state, name, data)
    put(layout, state, "good.md", b"# Good\n\nROLE: implement\n")
    listing = store.list(state)
    assert [task.id for task in listing.tasks] == ["good"]
    assert [found.where for found in listing.malformed] == [path]
    assert word in listing.malformed[0].reason
    assert store.find("good").state == state
    assert Path(path).read_bytes() == data


def _symlink(path: str, layout: Layout) -> None:
    target = os.path.join(layout.root, "elsewhere.md")
    Path(target).write_bytes(GOOD)
    os.symlink(target, path)


SPECIAL: dict[str, Callable[[str, Layout], None]] = {
    "a symbolic link": _symlink,
    "a dangling link": lambda path, _: os.symlink("/nowhere", path),
    "a link to itself": lambda path, _: os.symlink(path, path),
    "a fifo": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: os.mkdir(path),
    "a link to /dev/zero": lambda path, _: os.symlink("/dev/zero", path),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_reported_and_never_waited_for(
    layout: Layout, store: FileStore, kind: str
) -> None:
    path = os.path.join(layout.state("incoming"), "T1.md")
    SPECIAL[kind](path, layout)
    put(layout, "incoming", "T2.md", GOOD.replace(b"T1", b"T2"))
    assert ids(store) == ["T2"]
    assert [found.where for found in bad(store)] == [path]
    with pytest.raises(NotFound):
        store.find("T1")
    assert os.path.lexists(path)


def test_a_task_that_moves_behind_every_look_is_found(
    layout: Layout, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look goes from the last state to the first, and the task the other way."""
    path = put(layout, "incoming", "T1.md")
    states = iter(("claimed", "done"))

    def moving(where: str, state: str) -> Task | str | None:
        nonlocal path
        target = next(states, None)
        if target:
            os.rename(path, path := os.path.join(layout.state(target), "T1.md"))
        return file_store_summary(where, state)

    file_store_summary = stored_file.summary
    monkeypatch.setattr(stored_file, "summary", moving)
    assert store.find("T1").state == "done"
    os.unlink(path)
    with pytest.raises(NotFound):
        store.find("T1")


@pytest.mark.parametrize("size", [0, 1 << 15])
def test_an_edit_that_leaves_size_and_time_is_seen(
    layout: Layout, store: FileStore, size: int
) -> None:
    """What a process remembers of a content does not stand for another content."""
    body = b"x" * size
    path = put(layout, "incoming", "T1.md", b"# [T1] One\nROLE: implement\n\n" + body)
    at = os.stat(path).st_mtime_ns
    found = store.find("T1")
    assert (found.title, store.read(found).title) == ("One", "One")
    Path(path).write_bytes(b"# [T1] Two\nROLE: implement\n\n" + body)
    os.utime(path, ns=(at, at))
    found = store.find("T1")
    assert (found.title, store.read(found).title) == ("Two", "Two")


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_reported(layout: Layout, store: FileStore) -> None:
    path = put(layout, "incoming", "T1.md")
    os.chmod(path, 0)
    assert [found.where for found in bad(store)] == [path]


def test_files_that_are_no_markdown_are_nobodys_business(layout: Layout, store: FileStore) -> None:
    for name in ("notes.txt", ".hidden.md", "T1.md~", "T1.md.swp", ".T1.md.77.tmp", "README"):
        put(layout, "incoming", name)
    listing = store.list("incoming")
    assert (listing.tasks, listing.malformed) == ((), ())
    assert store.counts()["incoming"] == 0


def test_a_file_that_is_no_task_takes_nobodys_place_among_the_claimed(
    layout: Layout, store: FileStore
) -> None:
    put(layout, "claimed", "notes.md", b"Who has what.\n")
    store.add(new_task())
    assert claim(store, store.find("T1"), limit=1) is not None


@pytest.mark.parametrize("state", ["claimed", "blocked", "done", "failed"])
def test_a_task_goes_to_a_state_whose_folder_a_person_removed(
    layout: Layout, store: FileStore, state: str
) -> None:
    store.add(new_task())
    os.rmdir(layout.state(state))
    assert store.move(store.find("T1"), state, entry("moved")).state == state


def test_leftovers_are_found_even_where_a_folder_is_missing(
    layout: Layout, store: FileStore
) -> None:
    os.rmdir(layout.state("blocked"))
    left = put(layout, "failed", ".T1.md.77.tmp")
    assert store.leftovers(time.time() + 1) == (left,)


# --- one id, several files ---------------------------------------------------------------------


def test_of_two_files_with_one_id_the_one_named_for_it_keeps_it(
    layout: Layout, store: FileStore
) -> None:
    other = put(layout, "incoming", "A copy.md")
    path = put(layout, "incoming", "T1.md")
    assert [task.where for task in store.list("incoming").tasks] == [path]
    assert [found.where for found in bad(store)] == [other]
    assert path in bad(store)[0].reason
    assert store.find("T1").where == path


def test_of_many_copies_under_other_names_one_is_the_task_and_each_time_the_same(
    layout: Layout, store: FileStore
) -> None:
    paths = {put(layout, "incoming", f"copy {n}.md") for n in range(4)}
    (task,) = store.list("incoming").tasks
    assert {task.where, *(found.where for found in bad(store))} == paths
    assert store.find("T1").where == task.where == store.list("incoming").tasks[0].where


@pytest.mark.parametrize("other", STATES[1:])
@pytest.mark.parametrize("name", ["T1.md", "dropped again.md"])
def test_a_file_dropped_with_the_id_of_a_task_elsewhere_is_not_that_task(
    layout: Layout, store: FileStore, other: str, name: str
) -> None:
    owner = put(layout, other, "T1.md")
    dropped = put(layout, "incoming", name)
    assert ids(store) == []
    assert [found.where for found in bad(store)] == [dropped]
    assert ids(store, other) == ["T1"]
    assert store.find("T1").where == owner


@pytest.mark.parametrize(
    ("one", "other"),
    [("claimed", "done"), ("claimed", "blocked"), ("blocked", "failed"), ("done", "failed")],
)
def test_a_copy_in_any_two_states_is_one_task_and_one_report(
    layout: Layout, store: FileStore, one: str, other: str
) -> None:
    put(layout, one, "T1.md")
    put(layout, other, "T1.md")
    listed = [state for state in (one, other) if ids(store, state)]
    reported = [state for state in (one, other) if bad(store, state)]
    assert len(listed) == 1
    assert len(reported) == 1
    assert store.find("T1").state == listed[0]


def test_a_move_never_overwrites_a_file_that_is_in_the_way(
    layout: Layout, store: FileStore
) -> None:
    store.add(new_task())
    task = store.find("T1")
    path = put(layout, "done", "T1.md", b"somebody's notes\n")
    before = Path(task.where).read_bytes()
    with pytest.raises(OrchestratorError) as refused:
        store.move(task, "done", entry("done", "R1"))
    assert path in refused.value.message
    assert Path(path).read_bytes() == b"somebody's notes\n"
    assert Path(task.where).read_bytes() == before


def test_a_move_that_fails_leaves_no_event_in_the_history(layout: Layout, store: FileStore) -> None:
    store.add(new_task())
    task = store.find("T1")
    before = Path(task.where).read_bytes()
    os.rmdir(layout.state("failed"))
    Path(layout.state("failed")).touch()
    with pytest.raises(FileExistsError):
        store.move(task, "failed", entry("failed"))
    assert Path(task.where).read_bytes() == before
    moved = store.move(task, "done", entry("done"))
    assert [each.event for each in store.read(moved).history] == ["done"]


def test_a_file_that_this_user_may_not_write_moves_as_a_copy(
    layout: Layout, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(layout, "incoming", "T1.md")
    os.chmod(path, 0o400)
    monkeypatch.setattr(os, "access", lambda name, _: name != path)  # root may write anywhere
    original = os.stat(path).st_ino
    moved = claim(store, store.find("T1"))
    assert moved is not None
    assert os.stat(moved.where).st_ino != original


# --- files made by hand ------------------------------------------------------------------------


def test_a_file_of_any_name_is_a_task_and_gets_its_ids_name_when_it_moves(
    layout: Layout, store: FileStore
) -> None:
    put(layout, "incoming", "fix login bug.md", b"# Fix the login\n\nROLE: implement\n")
    task = store.find("fix-login-bug")
    moved = claim(store, task)
    assert moved is not None
    assert os.path.basename(moved.where) == "fix-login-bug.md"
    assert sorted(os.listdir(layout.state("incoming"))) == []


def test_a_task_without_a_date_is_as_old_as_its_file(layout: Layout, store: FileStore) -> None:
    for name, age in (("new", 10), ("old", 5000)):
        path = put(layout, "incoming", f"{name}.md", b"# A title\n\nROLE: implement\n")
        moment = 1_700_000_000 - age
        os.utime(path, (moment, moment))
    assert ids(store) == ["old", "new"]


def test_what_is_appended_to_a_task_without_a_date_makes_it_no_younger(
    layout: Layout, store: FileStore
) -> None:
    path = put(layout, "incoming", "T1.md", b"# A title\n\nROLE: implement\n")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    claimed = store.move(store.find("T1"), "claimed", entry("claimed", "R1"))
    store.move(claimed, "incoming", entry("requeued", "R1"))
    assert store.find("T1").created == 1_700_000_000


def test_names_with_line_breaks_quotes_and_marks_are_names_like_others(
    layout: Layout, store: FileStore
) -> None:
    names = ["a\nb.md", "c 'd' \"e\".md", "-rf.md", "ünï ☃ x.md", "$(touch x).md", "a;b.md"]
    for name in names:
        put(layout, "incoming", name, b"# A title\n\nROLE: implement\n")
    listing = store.list("incoming")
    assert len(listing.tasks) + len(listing.malformed) == len(names)
    for task in listing.tasks:
        assert claim(store, task, limit=99) is not None
    left = {found.where for found in bad(store)}
    assert {
        os.path.join(layout.state("incoming"), n) for n in os.listdir(layout.state("incoming"))
    } == left


def test_the_persons_line_ends_and_missing_last_newline_survive_a_move(
    layout: Layout, store: FileStore
) -> None:
    for number, data in enumerate(
        (GOOD.replace(b"\n", b"\r\n"), GOOD.rstrip(b"\n"), b"\xef\xbb\xbf" + GOOD)
    ):
        written = data.replace(b"T1", b"T%d" % number)
        put(layout, "incoming", f"x{number}.md", written)
        task = claim(store, store.find(f"T{number}"))
        assert task is not None
        assert Path(task.where).read_bytes().startswith(written)
        assert task.claimed_by == "impl"


# --- what a crash leaves -----------------------------------------------------------------------


def _torn(data: bytes, line: bytes) -> Iterator[bytes]:
    for cut in range(len(line)):
        yield data + line[:cut]
        # After a power cut a file system may know of the length and not of the bytes.
        yield data + line[:cut] + bytes(len(line) - cut)


def test_a_history_line_cut_short_anywhere_is_as_if_it_had_not_been_written(
    layout: Layout, store: FileStore
) -> None:
    first = Entry("2026-11-22T09:00:00Z", "claimed", {"agent": "impl", "run": "R1"})
    second = Entry("2026-11-22T09:01:00Z", "requeued", {"run": "R1", "charged": True, "error": "ü"})
    data = GOOD + history.append(GOOD, first)
    for torn in _torn(data, history.append(data, second).rstrip(b"\n")):
        path = put(layout, "incoming", "T1.md", torn)
        task = store.find("T1")
        assert (task.attempts, task.run, task.state) == (0, "R1", "incoming")
        task = store.move(task, "incoming", second)
        assert task.attempts == 1
        assert [e.event for e in store.read(task).history] == ["claimed", "requeued"]
        assert Path(path).read_bytes().startswith(GOOD)


def test_a_first_history_line_cut_short_anywhere_does_no_harm(
    layout: Layout, store: FileStore
) -> None:
    first = Entry("2026-11-22T09:00:00Z", "claimed", {"agent": "impl", "run": "R1", "branch": "b"})
    for torn in _torn(GOOD, history.append(GOOD, first).rstrip(b"\n")):
        for state in ("incoming", "claimed"):
            files.remove(os.path.join(layout.state(state), "T1.md"))
        put(layout, "incoming", "T1.md", torn)
        task = store.claim(store.find("T1"), first, 5)
        assert task is not None
        assert (task.claimed_by, task.work_branch) == ("impl", "b")
        assert [e.event for e in store.read(task).history] == ["claimed"]


def test_killed_writers_leftovers_are_no_tasks_and_are_told_once_they_are_old(
    layout: Layout, store: FileStore
) -> None:
    store.add(new_task())
    left = [put(layout, state, f".T{n}.md.4711.tmp") for n, state in enumerate(STATES)]
    for kept in ("keep.tmp", "keep.4711.tmp", ".keep.tmp", ".keep.md"):
        put(layout, "incoming", kept)
    assert ids(store) == ["T1"]
    assert bad(store) == []
    assert store.leftovers(time.time() - 60) == ()
    assert set(store.leftovers(time.time() + 1)) == set(left)


def test_a_lock_file_that_somebody_left_is_in_nobodys_way(layout: Layout, store: FileStore) -> None:
    Path(layout.queue, ".lock").write_text("4711\n")
    store.add(new_task())
    assert ids(store) == ["T1"]


def test_reading_changes_nothing_on_disk(layout: Layout, store: FileStore) -> None:
    put(layout, "incoming", "good.md", b"# Good\n\nROLE: implement\n")
    put(layout, "incoming", "bad.md", b"bad")
    put(layout, "claimed", "T1.md")
    before = tree(layout.root)
    for state in STATES:
        store.list(state)
    store.read(store.find("T1"))
    store.counts()
    store.has_title("Good", None, STATES)
    store.new_id()
    assert tree(layout.root) == before


#: Claims, on a disk that has room for so many bytes of the file only.
FULL = """
import os, resource, sys
from orchestrator.layout import Layout
from orchestrator.model.work import Entry
from orchestrator.tasks.file_store import FileStore

store = FileStore(Layout(sys.argv[1]))
task = store.find("T1")
limit = os.path.getsize(task.where) + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
entry = Entry("2026-11-22T09:00:00Z", "claimed", {"agent": "impl", "run": "R1", "branch": "b"})
try:
    store.claim(task, entry, 5)
except OSError as error:
    print("no room:", error.strerror)
"""


@pytest.mark.parametrize("room", [0, 1, 40, 100])
def test_a_disk_that_fills_in_the_middle_of_a_line_moves_no_task(
    layout: Layout, store: FileStore, room: int
) -> None:
    store.add(new_task())
    done = subprocess.run(
        (sys.executable, "-c", FULL, layout.root, str(room)),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    task = store.find("T1")
    assert (task.state, task.run) == ("incoming", None)
    assert done.stdout.startswith("no room")
    taken = claim(store, task, "R2")
    assert taken is not None
    assert taken.run == "R2"


# --- several processes -------------------------------------------------------------------------

#: Claims what it can, holds it for a moment, notes how many are claimed meanwhile, and goes on.
WORKER = """
import sys
import time
from orchestrator.layout import Layout
from orchestrator.model.work import Entry
from orchestrator.tasks.file_store import FileStore

root, name, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = FileStore(Layout(root))
sys.stdin.readline()
most, number = 0, 0
while tasks := store.list("incoming").tasks:
    held = []
    for task in tasks[:2]:
        number += 1
        run = f"{name}-{number}"
        entry = Entry("2026-11-22T09:00:00Z", "claimed", {"agent": name, "run": run})
        taken = store.claim(task, entry, limit)
        most = max(most, store.counts()["claimed"])
        if taken is not None:
            held.append(taken)
            print("claimed", taken.id, flush=True)
    for taken in held:
        store.move(taken, "done", Entry(entry.at, "done", {"run": taken.run}))
print("most", most)
"""


def test_failure_15_four_processes_claim_fifty_tasks_each_once_and_never_above_the_limit(
    layout: Layout, store: FileStore
) -> None:
    expected = [f"T{number:02}" for number in range(50)]
    for task_id in expected:
        store.add(new_task(task_id))
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    workers = [
        subprocess.Popen(
            (sys.executable, "-c", WORKER, layout.root, f"w{n}", "3"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for n in range(4)
    ]
    said = []
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        out, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        said += [line.split() for line in out.splitlines()]
    assert sorted(word for kind, word in said if kind == "claimed") == expected
    assert max(int(word) for kind, word in said if kind == "most") <= 3
    assert ids(store, "done") == expected
    histories = [store.read(task).history for task in store.list("done").tasks]
    assert all([e.event for e in history] == ["claimed", "done"] for history in histories)
