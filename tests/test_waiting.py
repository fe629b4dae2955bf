"""Many waiting tasks: what is kept of them is what their files say, whatever has happened."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import idle
from orchestrator.cli import context
from orchestrator.layout import Layout
from orchestrator.model.waiting import Kin, grouped, roles, touched, with_ids
from orchestrator.model.work import STATES, Entry, Task
from orchestrator.system import files
from orchestrator.tasks import file_store, names, task_file, waiting_index, waiting_look
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Listing

FIRST_LINE = names._first_line
NAMES = [f"T{number}" for number in range(6)]
HEADERS = ("", "PRIORITY: P0\n", "DEPENDS_ON: T1, T2\n", "ISSUE: 7\n", "PRIORITY: P3\nISSUE: 8\n")
HISTORY = (
    "\n<!-- orchestrator:history -->\n## History\n"
    '- 2026-01-01T00:01:00Z claimed {"agent": "a", "run": "R1", "branch": "agent/x"}\n'
    '- 2026-01-01T00:02:00Z requeued {"run": "R1", "charged": true, "delay": 3}\n'
)


@pytest.fixture(autouse=True)
def every_queue_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_store, "LONG", 1)
    monkeypatch.setattr(waiting_look, "CLEAR", -1.0)  # keep also what was written a moment ago


def project_in(folder: Path) -> Layout:
    layout = Layout(str(folder))
    for state in STATES:
        files.make_folder(layout.state(state))
    return layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return project_in(tmp_path)


def text(name: str, *, header: str = "", role: str = "implement", history: str = "") -> str:
    return f"# [{name}] Title of {name}\n\nROLE: {role}\n{header}\nBody.\n{history}"


def drop(layout: Layout, name: str, content: str, state: str = "incoming") -> Path:
    path = Path(layout.state(state), f"{name}.md")
    path.write_text(content)
    return path


def read_plainly(layout: Layout) -> tuple[list[Task], object]:
    """Return tasks and malformed files as a queue reads them of which nothing is kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_store, "LONG", 1_000)
        found = FileStore(layout).list("incoming")
    return [*found.tasks], found.malformed


def listed(found: Listing) -> tuple[list[Task], object]:
    """Return tasks and malformed files; check that the tasks are a whole queue."""
    tasks = [*found.tasks]
    assert len(found.tasks) == len(tasks)
    assert [found.tasks[number] for number in range(len(tasks))] == tasks
    assert with_ids(found.tasks, [task.id for task in tasks]) == {t.id: t for t in tasks}
    assert with_ids(found.tasks, ["none"]) == {}
    waits = [task for task in tasks if task.depends_on or task.run]
    assert {task.id for task in touched(found.tasks)} >= {task.id for task in waits}
    assert sum(many for _, many in roles(found.tasks)) == len(tasks)
    return tasks, found.malformed


changes = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "write", "in place", "remove", "claim", "finish", "spoil", "keep", "keep"]
        ),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.sampled_from(HEADERS),
        st.sampled_from(["implement", "test"]),
        st.sampled_from(["", "", HISTORY]),
    ),
    max_size=14,
)


@settings(max_examples=examples(1.0))
@given(changes)
def test_what_is_kept_is_what_the_files_say(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, ...]]
) -> None:
    layout = project_in(tmp_path_factory.mktemp("queue"))
    for number in range(3):
        drop(layout, f"OLD{number}", text(f"OLD{number}"))
    for what, name, task_id, header, role, history in steps:
        path = Path(layout.state("incoming"), f"{name}.md")
        content = text(task_id, header=header, role=role, history=history)
        if what == "write":
            files.write_atomic(str(path), content.encode())
        elif what == "in place":
            path.write_text(content)
        elif what == "spoil":
            path.write_text("no task")
        elif what == "remove":
            path.unlink(missing_ok=True)
        elif what == "keep":
            FileStore(layout).list("incoming")
            FileStore(layout).keep_waiting(surely=True)
        elif path.exists():
            path.rename(Path(layout.state("claimed" if what == "claim" else "done"), path.name))
        assert listed(FileStore(layout).list("incoming")) == read_plainly(layout)


def test_a_second_look_reads_no_file_that_has_not_changed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        drop(layout, name, text(name, header="PRIORITY: P2\n"))
    store = FileStore(layout)
    expected = listed(store.list("incoming"))
    store.keep_waiting(surely=True)
    read: list[str] = []
    summary = waiting_look.stored_file.summary
    monkeypatch.setattr(
        waiting_look.stored_file,
        "summary",
        lambda path, state: read.append(path) or summary(path, state),
    )
    assert listed(store.list("incoming")) == expected
    assert read == []
    # In place, and of the same size.
    changed = drop(layout, "T3", text("T3", header="PRIORITY: P0\n"))
    assert store.list("incoming").tasks[0].id == "T3"
    assert read == [str(changed)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-20] + bytes(20),
        lambda data: data.replace(b"implement", b"implanted"),
        lambda data: data.replace(b"form", b"from", 1),
        lambda data: random.Random(1).randbytes(len(data)),
    ],
    ids=["empty", "cut", "zeros", "changed", "another version", "noise"],
)
def test_a_damaged_index_is_as_no_index(layout: Layout, spoil: Callable[[bytes], bytes]) -> None:
    for name in NAMES:
        drop(layout, name, text(name))
    store = FileStore(layout)
    expected = listed(store.list("incoming"))
    store.keep_waiting(surely=True)
    path = Path(layout.waiting_index)
    assert waiting_index.kept(layout, layout.state("incoming")) is not None
    path.write_bytes(spoil(path.read_bytes()))
    assert waiting_index.kept(layout, layout.state("incoming")) is None
    assert listed(store.list("incoming")) == expected


def test_a_look_writes_nothing_and_a_short_queue_keeps_no_index(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        drop(layout, name, text(name))
    store = FileStore(layout)
    store.list("incoming")
    store.waiting()
    assert not os.path.exists(layout.waiting_index)
    # While agents work, a few changes are not worth an index.
    store.keep_waiting()
    assert not os.path.exists(layout.waiting_index)
    store.keep_waiting(surely=True)
    assert os.path.exists(layout.waiting_index)
    monkeypatch.setattr(file_store, "LONG", len(NAMES) + 1)
    store.list("incoming")
    store.keep_waiting()
    assert not os.path.exists(layout.waiting_index)


# --- the stamp of the last tick -----------------------------------------------------------------


@pytest.fixture
def stamped(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """A long queue whose index and stamp a tick has left that does not see edits in place."""
    monkeypatch.setattr(file_store, "MOST_WATCHED", 0)
    os.makedirs(os.path.join(layout.root, ".git"))
    Path(layout.root, ".git", "orchestrator.json").write_text("{}")
    for name in NAMES:
        drop(layout, name, text(name))
    return FileStore(layout)


def leave_stamp(layout: Layout) -> None:
    store, now = FileStore(layout), time.time()
    store.list("incoming")
    store.keep_waiting(surely=True)
    for state in STATES:
        os.utime(layout.state(state), (now - 60, now - 60))
    watched = store.watched()
    assert idle.write_stamp(layout.idle_stamp, now, now + 300, [*watched.paths])


def test_while_the_stamp_holds_a_command_sees_what_the_last_tick_saw(
    layout: Layout, stamped: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_stamp(layout)
    seen = listed(stamped.waiting())
    Path(layout.state("incoming"), "T3.md").write_text(text("T3", header="PRIORITY: P0\n"))
    with monkeypatch.context() as patch:
        patch.setattr(waiting_look, "listing", None)  # no look at the files
        assert listed(stamped.waiting()) == seen
    # A tick looks at each file, and so does a command that says something of one task.
    assert stamped.list("incoming").tasks[0].id == "T3"
    files.remove(layout.idle_stamp)
    assert stamped.waiting().tasks[0].id == "T3"


@pytest.mark.parametrize("what", ["added", "replaced", "claimed", "finished elsewhere", "index"])
def test_each_change_of_a_folder_and_of_the_index_is_seen_under_the_stamp(
    layout: Layout, stamped: FileStore, what: str
) -> None:
    leave_stamp(layout)
    path = Path(layout.state("incoming"), "T3.md")
    if what == "added":
        drop(layout, "NEW", text("NEW"))
    elif what == "replaced":
        files.write_atomic(str(path), text("T3", header="PRIORITY: P0\n").encode())
    elif what == "claimed":
        [task] = with_ids(stamped.list("incoming").tasks, ["T3"]).values()
        stamped.claim(task, Entry("2026-01-01T00:00:00Z", "claimed", {"run": "R1"}), 5)
    elif what == "finished elsewhere":
        drop(layout, "T3", text("T3"), "done")
    else:
        path.write_text(text("T3", header="PRIORITY: P0\n"))
        os.utime(layout.waiting_index, (1, 1))
    assert listed(stamped.waiting()) == read_plainly(layout)


def test_the_index_that_a_tick_writes_does_not_keep_it_from_leaving_a_stamp(
    layout: Layout, stamped: FileStore
) -> None:
    leave_stamp(layout)
    assert idle.is_unchanged(layout.idle_stamp)
    assert os.path.exists(layout.waiting_index)


def test_a_stamp_vouches_for_no_index_where_two_files_want_one_id(
    layout: Layout, stamped: FileStore
) -> None:
    leave_stamp(layout)
    drop(layout, "T3", text("T3"), "done")
    leave_stamp(layout)
    tasks, malformed = listed(stamped.waiting())
    assert "T3" not in {task.id for task in tasks}
    assert len(list(malformed)) == 1  # type: ignore[call-overload]


#: Commands that show the queue, the plan, or a part of them.
COMMANDS = [
    ("status", "--json"), ("status",), ("explain", "impl-agent-1", "--json"), ("explain", "T3"),
    ("explain", "T5", "--json"), ("agent", "list", "--json"), ("inbox", "--json"),
    ("task", "list", "--json"), ("task", "list", "--json", "--limit", "2", "--after", "T1"),
    ("task", "list", "--search", "of t4"), ("task", "show", "T4"), ("tick", "--dry-run", "--json"),
    ("costs", "--json"), ("limits", "--json"),
]  # fmt: skip


def test_every_command_says_the_same_with_what_a_tick_has_kept_and_without(
    project: Layout, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_store, "MOST_WATCHED", 0)
    config = Path(project.config)
    config.write_text(
        "paused: true\nbase_branch: main\nforge: local\n"
        "agents: [{name: impl-agent-1, role: implementer}]\n"
    )
    for number, name in enumerate(NAMES):
        drop(project, name, text(name, header=HEADERS[number % len(HEADERS)]))
    drop(project, "T4", text("T4", history=HISTORY))
    drop(project, "odd", "no task")
    for _ in range(10):
        old = time.time() - 60
        for top in (project.home, os.path.join(project.root, ".git")):
            for where, folders, files_there in os.walk(top):
                for each in (*folders, *files_there, "."):
                    os.utime(os.path.join(where, each), (old, old), follow_symlinks=False)
        assert cli("tick").code == 0
        if idle.is_unchanged(project.idle_stamp):
            break
    assert os.path.exists(project.waiting_index)
    assert idle.is_unchanged(project.idle_stamp)
    now = time.time()
    monkeypatch.setattr(context, "now", lambda: now)  # ages are shown, too
    kept = [cli(*words) for words in COMMANDS]
    os.unlink(project.waiting_index)
    monkeypatch.setattr(file_store, "LONG", 1_000)
    monkeypatch.setattr("orchestrator.model.waiting.SEVERAL", 1_000)
    for words, before in zip(COMMANDS, kept, strict=True):
        assert cli(*words) == before, words
        assert before.code == 0, before


# --- kin ----------------------------------------------------------------------------------------


def test_tasks_of_one_kin_differ_only_in_what_is_their_own() -> None:
    made = [
        task_file.summarise(
            task_file.parse(text(name, header=header, role=role, history=history).encode(), "x.md"),
            "incoming",
            f"/q/{name}.md",
            1.0,
        )
        for name, header, role, history in (
            ("A", "", "implement", ""),
            ("B", "DEPENDS_ON: A\n", "implement", ""),
            ("C", "", "implement", ""),
            ("D", "", "test", ""),
            ("E", "ISSUE: 1\n", "implement", ""),
            ("F", "ISSUE: 2\n", "implement", ""),
            ("G", "", "implement", HISTORY),
        )
    ]
    queue = grouped(made)
    assert [[queue.at(place).id for place in kin.places] for kin in queue.kin] == [
        ["A", "C"], ["B"], ["D"], ["E", "F"], ["G"],
    ]  # fmt: skip
    assert all(isinstance(kin, Kin) for kin in queue.kin)
    assert [*queue] == made
    assert queue[1:3] == tuple(made[1:3])
    assert [task.id for task in queue.after("E")] == ["F", "G"]
    assert [task.id for task in touched(queue)] == ["B", "G"]


# --- titles and ids -----------------------------------------------------------------------------


def test_a_title_is_looked_for_in_what_is_kept_and_in_new_and_replaced_files(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        drop(layout, name, text(name))
    drop(layout, "dropped by hand", text("T9"))
    store = FileStore(layout)
    store.list("incoming")
    store.keep_waiting(surely=True)
    files.write_atomic(os.path.join(layout.state("incoming"), "T1.md"), text("T1").upper().encode())
    files.write_atomic(
        os.path.join(layout.state("incoming"), "T2.md"), text("T2", role="x").encode()
    )
    drop(layout, "NEW", text("NEW"))
    read: list[str] = []
    monkeypatch.setattr(
        names, "_first_line", lambda path, name: read.append(name) or FIRST_LINE(path, name)
    )

    def titled(title: str) -> str | None:
        found = store.has_title(title, None, ("incoming",))
        return found and found.id

    wanted = ["Title of NEW", "title  of t3", "Title of T9", "Title of T77", "Title of T2"]
    assert [titled(title) for title in wanted] == ["NEW", "T3", "T9", None, "T2"]
    assert {*read} == {"T1.md", "T2.md", "NEW.md"}
    # An id that no task has costs no look at each file either.
    read.clear()
    assert store.get("T77") is None
    assert store.get("T9") is not None
    assert not {f"{name}.md" for name in NAMES[3:]}.intersection(read)


def keep_unchanged(layout: Layout) -> FileStore:
    """Keep what waits in a folder whose last change is long ago."""
    folder = layout.state("incoming")
    os.utime(folder, (1, 1))
    store = FileStore(layout)
    store.list("incoming")
    store.keep_waiting(surely=True)
    return store


def titled(store: FileStore, title: str) -> str | None:
    found = store.has_title(title, None, ("incoming",))
    return found and found.id


def test_a_title_and_the_number_of_an_unchanged_folder_need_no_look_at_its_files(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        drop(layout, name, text(name))
    drop(layout, "dropped by hand", text("T9"))
    drop(layout, "odd", text("odd").replace("Title of odd", "A \\n \u00e9 \t title"))
    drop(layout, "spoiled", "no task")
    store = keep_unchanged(layout)
    wanted = ["title  of t3", "Title of T9", "a \\N \u00c9 TITLE", "Title of T77", "Title"]
    with monkeypatch.context() as patch:
        for look in ("listdir", "scandir"):
            patch.setattr(os, look, lambda *_: pytest.fail("a look at the folder"))
        assert [titled(store, title) for title in wanted] == ["T3", "T9", "odd", None, None]
        assert store.counts(["incoming"]) == {"incoming": len(NAMES) + 3}


def test_the_kept_titles_are_not_believed_of_a_folder_that_has_changed(layout: Layout) -> None:
    for name in NAMES:
        drop(layout, name, text(name))
    folder = layout.state("incoming")
    changes: list[Callable[[], object]] = [
        lambda: drop(layout, "NEW", text("NEW")),
        lambda: files.write_atomic(
            f"{folder}/T1.md", text("T1").replace("of T1", "of NEW").encode()
        ),
        lambda: os.rename(drop(layout, "NEW", text("NEW"), "done"), f"{folder}/T2.md"),
    ]
    for change in changes:
        store = keep_unchanged(layout)
        assert titled(store, "Title of NEW") is None
        change()
        assert titled(store, "Title of NEW") is not None
        assert store.counts(["incoming"]) == {"incoming": len(os.listdir(folder))}
        files.remove(f"{folder}/NEW.md")
        for name in ("T1", "T2"):
            drop(layout, name, text(name))
    # What is kept lies: its mark is of another moment, or it gives a task a title that it lacks.
    kept = keep_unchanged(layout)
    drop(layout, "T3", text("T3").replace("Title", "New title"))  # in place
    assert titled(kept, "Title of T3") is None
    index = waiting_index.kept(layout, folder)
    assert index is not None
    rows = [(place, index.row(place)) for place in range(len(index.names))]
    drop(layout, "LATE", text("LATE"))
    for mark in (None, (1, 2, 0)):
        waiting_index.write(layout.waiting_index, mark, rows, ())
        assert titled(FileStore(layout), "Title of LATE") == "LATE"


def test_a_folder_that_has_just_changed_is_not_called_unchanged(layout: Layout) -> None:
    drop(layout, "T1", text("T1"))
    store = FileStore(layout)
    store.list("incoming")
    store.keep_waiting(surely=True)
    index = waiting_index.kept(layout, layout.state("incoming"))
    assert index is not None
    assert index.mark is None
    # The next look notes the folder, though no task has changed.
    assert keep_unchanged(layout).counts(["incoming"]) == {"incoming": 1}
    index = waiting_index.kept(layout, layout.state("incoming"))
    assert index is not None
    assert index.mark == idle.mark(layout.state("incoming"))
