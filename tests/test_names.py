"""What is remembered of finished tasks' files: a hint; a lie in it finds no wrong task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_store import put

from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound
from orchestrator.model.work import STATES
from orchestrator.system import files
from orchestrator.tasks import names, stored_file
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.task_file import entry


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(str(tmp_path))
    for state in STATES:
        files.make_folder(found.state(state))
    return found


@pytest.fixture
def store(layout: Layout) -> FileStore:
    return FileStore(layout)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember from few files on, and forget at once what this process saw."""
    monkeypatch.setattr(names, "MANY", 3)
    monkeypatch.setattr(names, "BELIEVED", -1.0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files whose contents were read."""
    found: list[str] = []
    whole, head = stored_file.content, names._first_line

    def note_whole(path: str) -> object:
        found.append(os.path.basename(path))
        return whole(path)

    def note_head(path: str, name: str) -> str:
        found.append(name)
        return head(path, name)

    monkeypatch.setattr(stored_file, "content", note_whole)
    monkeypatch.setattr(names, "_first_line", note_head)
    return found


def finished(layout: Layout, number: int) -> None:
    for n in range(number):
        put(layout, "done", f"T{n}.md", b"# [T%d] Title %d\nROLE: implement\n" % (n, n))


def test_an_id_that_no_task_has_is_looked_up_without_reading_a_finished_task(
    layout: Layout, store: FileStore, read: list[str]
) -> None:
    finished(layout, 9)
    assert store.get("NOBODY") is None
    assert len(read) == 9
    store.tidy()
    read.clear()
    assert store.get("NOBODY") is None
    assert store.has_title("No such title", None, ("done",)) is None
    assert read == []
    put(layout, "done", "new.md", b"# [NEW-1] Dropped there by a person\nROLE: implement\n")
    found = store.get("NEW-1")
    assert found is not None
    assert set(read) == {"new.md"}


def test_a_task_is_found_whose_file_has_another_name(layout: Layout, store: FileStore) -> None:
    finished(layout, 4)
    put(layout, "done", "fix login.md", b"# [L-1] Fix the login\nROLE: implement\n")
    put(layout, "done", "no bracket.md", b"# Fix it\nROLE: implement\n")
    for _ in range(2):  # the second time from the cache
        assert store.find("L-1").title == "Fix the login"
        assert store.find("no-bracket").title == "Fix it"
        found = store.has_title("fix THE  login", "implement", ("incoming", "done"))
        assert found is not None
        assert found.id == "L-1"
        store.tidy()
    assert os.path.exists(f"{layout.queue_names}-done")


def test_a_cache_that_lies_finds_no_task_that_is_not_there(
    layout: Layout, store: FileStore
) -> None:
    finished(layout, 4)
    store.tidy()
    Path(f"{layout.queue_names}-done").write_text(
        "T1.md\t1\tanother title\tP\nGONE.md\t1\ttitle of a file that is gone\tP\n"
        "T2.md\tx\tbroken line\t\nT3.md\nnonsense\n\0\n"
    )
    assert store.has_title("another title", None, ("done",)) is None
    assert store.has_title("title of a file that is gone", None, ("done",)) is None
    assert store.get("GONE") is None
    assert store.finished_parts("P") == []
    assert store.find("T1").title == "Title 1"
    assert [task.id for task in store.newest(9)["done"].tasks] == ["T0", "T1", "T2", "T3"]
    assert list(store.findings(0.0)) == []


def test_a_cache_that_hides_a_task_hides_it_from_no_command_that_names_it(
    layout: Layout, store: FileStore
) -> None:
    finished(layout, 4)
    store.tidy()
    path = put(layout, "done", "T1.md", b"# [OTHER] Title 1\nROLE: implement\n")
    assert store.find("OTHER").where == path
    with pytest.raises(NotFound):
        store.find("T1")


def test_doctor_reads_a_finished_task_again_that_changed(layout: Layout, store: FileStore) -> None:
    finished(layout, 4)
    store.tidy()
    put(layout, "done", "T1.md", b"# [T1] Title 1\n\nno role\n")
    put(layout, "failed", "T2.md", b"# [T2] Title 2\nROLE: implement\n")
    put(layout, "done", "again.md", b"# [T0] Title 0\nROLE: implement\n")
    said = [problem.message for problem in store.findings(0.0)]
    assert len(said) == 3
    assert "T1.md: it has no ROLE" in said[0] + said[1] + said[2]
    assert any("done/T2.md: its id T2 is already used by" in each for each in said)
    assert any("again.md: its id T0 is already used by" in each for each in said)


def test_doctor_compares_the_times_of_the_newest_and_once_a_day_those_of_all(
    layout: Layout, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(layout, 6)
    for n in range(6):
        os.utime(os.path.join(layout.state("done"), f"T{n}.md"), (1000 + n, 1000 + n))
    store.tidy()
    monkeypatch.setattr(names, "MOST", 2)
    for n in (1, 4):
        put(layout, "done", f"T{n}.md", b"# [T%d] Changed in place\n\nno role\n" % n)
    [found] = [problem.message for problem in store.findings(0.0)]
    assert "T4.md: it has no ROLE" in found
    os.utime(f"{layout.queue_names}-done", (0, 0))
    assert len([*store.findings(0.0)]) == 2


def test_the_cache_of_a_version_that_kept_no_list_of_names_is_completed(
    layout: Layout, store: FileStore
) -> None:
    finished(layout, 4)
    put(layout, "done", "P.md", b"# [P] Part\nROLE: test\nPARENT: T1\n")
    store.tidy()
    cache = Path(f"{layout.queue_names}-done")
    rows = cache.read_text()
    cache.write_text(rows.removesuffix("\n"))
    for name in ("list", "sum"):
        Path(f"{cache}-{name}").unlink()
    assert [part.id for part in store.finished_parts("T1")] == ["P"]
    store.tidy()
    assert cache.read_text() == rows
    assert [part.id for part in store.finished_parts("T1")] == ["P"]
    assert len(store.newest(9)["done"].tasks) == 5


def test_a_look_at_very_many_files_is_remembered_in_bounded_steps(
    layout: Layout, store: FileStore, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MOST", 5)
    finished(layout, 13)
    for expected in (5, 5, 3, 0):
        read.clear()
        store.tidy()
        assert len(read) == expected
        assert store.get("NOBODY") is None


def test_the_newest_finished_tasks_are_those_that_finished_last(
    layout: Layout, store: FileStore
) -> None:
    finished(layout, 8)
    for n in range(8):
        os.utime(os.path.join(layout.state("done"), f"T{n}.md"), (1000 + n, 1000 + n))
    for _ in range(2):  # the second time from the cache
        assert [t.id for t in store.newest(3)["done"].tasks] == ["T5", "T6", "T7"]
        store.tidy()
    put(layout, "failed", "F.md", b"# [F] Failed\nROLE: implement\n")
    found = store.newest(3)
    assert [t.id for t in found["failed"].tasks] == ["F"]
    assert [t.id for t in found["done"].tasks] == ["T6", "T7"]


def dated(layout: Layout, number: int) -> None:
    """Make finished tasks T0, T1, ... that finished one after the other."""
    for n in range(number):
        text = f"# [T{n}] Title {n}\nROLE: implement\nCREATED: 2026-01-01T00:00:00Z\n"
        os.utime(put(layout, "done", f"T{n}.md", text.encode()), (1000 + n, 1000 + n))


def test_a_task_that_finished_again_is_the_newest_one(layout: Layout, store: FileStore) -> None:
    dated(layout, 8)
    store.tidy()
    moved = store.move(store.find("T1"), "incoming", entry(2000.0, "reopened"))
    store.rewrite(moved, "# [T1] Another title\nROLE: implement\nCREATED: 2026-01-01T00:00:00Z\n")
    store.move(store.find("T1"), "done", entry(3000.0, "done"))
    for _ in range(3):  # the cache is as before, and is written again
        assert {t.id for t in store.newest(3)["done"].tasks} == {"T6", "T7", "T1"}
        assert [t.id for t in store.browse("done")][:3] == ["T1", "T7", "T6"]
        assert store.has_title("Another title", None, ("done",)) is not None
        store.tidy()
        os.utime(f"{layout.queue_names}-done", (0, 0))


def test_a_task_that_leaves_while_the_cache_is_written_is_new_when_it_returns(
    layout: Layout, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated(layout, 8)
    look = names.look

    def look_and_leave(*given: Any, **named: Any) -> Mapping[str, str]:
        rows = look(*given, **named)
        if "most" in named:
            store.move(store.find("T1"), "incoming", entry(2000.0, "reopened"))
        return rows

    store.tidy()
    os.utime(f"{layout.queue_names}-done", (0, 0))  # it is written once a day
    with monkeypatch.context() as patch:
        patch.setattr(names, "look", look_and_leave)
        store.tidy()
    store.move(store.find("T1"), "done", entry(3000.0, "done"))
    assert [t.id for t in store.browse("done")][:2] == ["T1", "T7"]


def test_a_page_of_finished_tasks_looks_at_the_times_of_new_files_only(
    layout: Layout, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dated(layout, 8)
    store.tidy()
    put(layout, "done", "NEW.md", b"# [NEW] New\nROLE: implement\n")
    asked: list[str] = []
    mtime = names.mtime
    monkeypatch.setattr(names, "mtime", lambda path: (asked.append(path), mtime(path))[1])
    assert [t.id for t in store.browse("done")][:3] == ["NEW", "T7", "T6"]
    assert [t.id for t in store.browse("done", after=store.find("T7"))][:2] == ["T6", "T5"]
    assert {os.path.basename(path) for path in asked} == {"NEW.md", "T7.md"}
    # A copy of an old file is not the newest; a person gives files any names.
    os.utime(os.path.join(layout.state("done"), "NEW.md"), (1003.5, 1003.5))
    os.utime(put(layout, "done", "my notes.md", b"# [MINE] Mine\nROLE: test\n"), (1002.5, 1002.5))
    assert [t.id for t in store.browse("done")][3:7] == ["T4", "NEW", "T3", "MINE"]
    assert [t.id for t in store.browse("done", after=store.find("MINE"))] == ["T2", "T1", "T0"]


def test_finished_tasks_are_counted_and_the_newest_named_without_listing_their_folder(
    layout: Layout, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "NEWEST", 3)
    finished(layout, 8)
    for n in range(8):
        os.utime(os.path.join(layout.state("done"), f"T{n}.md"), (1000 + n, 1000 + n))
    store.tidy()
    listed: list[str] = []
    whole = names.listed

    def note(folder: str) -> list[str]:
        listed.append(os.path.basename(folder))
        return whole(folder)

    monkeypatch.setattr(names, "listed", note)
    assert store.counts()["done"] == 8
    assert [t.id for t in store.newest(3)["done"].tasks] == ["T5", "T6", "T7"]
    assert "done" not in listed
    # More than are remembered, then a change of the folder: both need its list.
    assert len(store.newest(5)["done"].tasks) == 5
    assert "done" in listed
    put(layout, "done", "new.md", b"# [NEW] New\nROLE: implement\n")
    os.unlink(os.path.join(layout.state("done"), "T7.md"))
    put(layout, "done", "newer.md", b"# [NEWER] Newer\nROLE: implement\n")
    assert store.counts()["done"] == 9
    assert {t.id for t in store.newest(2)["done"].tasks} == {"NEW", "NEWER"}
    store.tidy()
    listed.clear()
    assert [part.id for part in store.finished_parts("T0")] == []
    assert "done" not in listed
    for broken in ("", "[]", '{"mark": [1], "count": 1, "newest": []}', '{"mark": 1}'):
        Path(f"{layout.queue_names}-done-sum").write_text(broken)
        assert store.counts()["done"] == 9


def test_the_finished_parts_of_a_task_are_found_among_many_that_are_not_read(
    layout: Layout, store: FileStore, read: list[str]
) -> None:
    finished(layout, 6)
    for name, state in (("P1", "done"), ("P2", "failed")):
        put(layout, state, f"{name}.md", b"# [%s] Part\nROLE: test\nPARENT: T9\n" % name.encode())
    put(layout, "done", "other name.md", b"# [P3] Part\nROLE: test\nparent: T9\n")
    for wanted in (set(), {"P1.md", "P2.md", "other name.md"}):  # the second time from the cache
        read.clear()
        assert sorted(part.id for part in store.finished_parts("T9")) == ["P1", "P2", "P3"]
        assert not wanted or set(read) == wanted
        store.tidy()
