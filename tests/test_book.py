"""Records of merged pull requests are put away, and nothing that needs one misses it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import harness
import pytest

from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import NotFound
from orchestrator.model.work import PullRequest, Task
from orchestrator.pulls import book, forges
from orchestrator.pulls.book import Book
from orchestrator.system import locks, remembered

world = harness.world


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "KEPT", 2)
    monkeypatch.setattr(book, "SLACK", 0)


@pytest.fixture
def records(tmp_path: Path) -> Book:
    return Book(str(tmp_path / "prs"))


def add(where: Book, number: int, state: str = "merged", *, followed: bool = True) -> PullRequest:
    name = f"T{number}"
    pr = PullRequest(
        str(number), name, f"agent/{name}", "main", "a" * 40, name, state,
        url=where.path(str(number)), followed=followed,
    )  # fmt: skip
    where.write(pr, f"text {number}")
    return pr


def numbers(where: Book) -> list[int]:
    return [int(pr.id) for pr in where.list()]


def test_only_merged_ones_whose_tasks_know_it_are_put_away_and_the_newest_stay(
    records: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 4, 5, 6, 7):
        add(records, number)
    add(records, 2, "open")
    add(records, 3, followed=False)
    add(records, 8, "closed")
    held: list[int] = []
    locked = records.locked

    def note() -> locks.Lock:
        held.append(len(numbers(records)))
        return locked()

    monkeypatch.setattr(records, "locked", note)
    records.put_away(2)
    assert numbers(records) == [2, 3, 6, 7, 8]
    assert held == [8, 7, 6], "others can take the lock after each two records"
    assert [int(pr.id) for pr in records.every()] == [1, 2, 3, 4, 5, 6, 7, 8]
    records.put_away(100)
    assert numbers(records) == [2, 3, 6, 7, 8]


def test_what_is_put_away_is_found_with_its_text_and_its_number_stays_taken(records: Book) -> None:
    before = [add(records, number) for number in range(1, 5)]
    records.put_away(100)
    os.unlink(records.path("3"))
    os.unlink(records.path("4"))
    found = records.find("2")
    assert found._replace(url=None) == before[1]._replace(url=None)
    assert found.url is not None
    assert json.loads(Path(found.url).read_text())["body"] == "text 2"
    assert records.body("2") == "text 2"
    assert records.free_number() == 3
    with pytest.raises(NotFound):
        records.find("5")


def test_a_person_takes_back_what_was_put_away(records: Book) -> None:
    for number in range(1, 5):
        add(records, number)
    records.say_merged("1")
    records.put_away(100)
    records.take_back("1")
    assert numbers(records) == [1, 3, 4]
    assert records.find("1").state == "open"
    assert len(records.every()) == 4
    assert records.body("1") == "text 1"


def test_after_a_crash_between_two_steps_the_newer_record_counts(records: Book) -> None:
    for number in range(1, 5):
        add(records, number)
    records.put_away(100)
    away = Path(records.folder, "merged", "1.json").read_text()
    records.take_back("1")
    Path(records.folder, "merged", "1.json").write_text(away)
    assert records.find("1").state == "open"
    assert [pr.state for pr in records.every()] == ["open", "merged", "merged", "merged"]


def test_a_task_that_depends_on_old_work_still_sees_how_its_pull_request_ended(
    project: Layout,
) -> None:
    where = Book(project.prs)
    for number in range(1, 5):
        add(where, number)
    where.put_away(100)
    tasks = [Task("T1", "t", "implement", "done", "", pr="1"), None]
    config = Config(forge="local")
    found = forges.with_merged(project, config, where.list(), tasks)
    assert found is not None
    assert [(pr.id, pr.state) for pr in found] == [
        ("3", "merged"),
        ("4", "merged"),
        ("1", "merged"),
    ]
    assert forges.with_merged(project, config, None, tasks) is None


def test_a_new_number_needs_no_look_at_what_was_put_away_but_never_repeats_one_of_it(
    records: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        add(records, number)
    records.put_away(100)
    whole = records._numbers

    def of_new_ones(*, away: bool = False) -> set[int]:
        assert not away, "a look at old records"
        return whole()

    monkeypatch.setattr(records, "_numbers", of_new_ones)
    assert records.free_number() == 6
    monkeypatch.setattr(records, "_numbers", whole)
    os.unlink(records.path("5"))
    os.unlink(records.path("4"))
    add(records, 2, "open")
    assert records.free_number() == 4


def test_a_record_is_parsed_once_per_process_and_again_after_each_change(
    records: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "CLEAR", -1.0)  # remember also what was written a moment ago
    parsed: list[object] = []
    whole = book.from_record

    def note(record: dict[str, object]) -> PullRequest | None:
        parsed.append(record["id"])
        return whole(record)

    monkeypatch.setattr(book, "from_record", note)
    add(records, 1, "open")
    for _ in range(3):
        assert [pr.state for pr in records.list()] == ["open"]
        assert book.damaged(records.folder) == []
    assert parsed == ["1"]
    records.record("1", state="closed")
    assert records.find("1").state == "closed"
    path = Path(records.path("1"))
    path.write_text(path.read_text().replace("closed", "merged"))  # in place, by a person
    os.utime(path, ns=(1, 1))
    assert records.find("1").state == "merged"
    path.write_text("{")
    assert [where for where, _ in book.damaged(records.folder)] == [str(path)]
    assert records.list() == []


def test_only_records_that_may_be_of_a_branch_are_looked_at_for_its_open_pull_request(
    records: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "CLEAR", -1.0)
    for number, state in ((1, "open"), (2, "closed"), (3, "open")):
        add(records, number, state)
    records.list()
    looked: list[str] = []
    look = book._seen_or_none

    def note(path: str) -> book.Seen | None:
        looked.append(os.path.basename(path))
        return look(path)

    monkeypatch.setattr(book, "_seen_or_none", note)
    assert records.open_on("agent/T2") is None
    assert looked == ["2.json"]
    add(records, 2, "open")  # another process opens it again
    add(records, 4, "open")
    looked.clear()
    found = [records.open_on(f"agent/T{number}") for number in (2, 4)]
    assert [pr and pr.id for pr in found] == ["2", "4"]
    assert records.open_on("agent/T5") is None
    assert "1.json" not in looked
