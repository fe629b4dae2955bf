"""The run record: its statuses, and `run.json`."""

from __future__ import annotations

import errno
import itertools
import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import runs
from conftest import CHECKOUT

from orchestrator.layout import Layout
from orchestrator.model.snapshot import Outcome
from orchestrator.project import run_record
from orchestrator.project.run_record import ClientProcess, Ended, RunRecord, Status, Steps
from orchestrator.run.journal import Journal
from orchestrator.system import files
from orchestrator.system.process import ProcessId

#: Records of real runs.
KEPT = {path.stem: path for path in (CHECKOUT / "tests" / "golden" / "records").glob("*.json")}
STATUSES: tuple[Status, ...] = get_args(Status)
RUN = "20260101T000000Z-aaaaaa"


def kept(name: str, folder: Path, **changes: Any) -> tuple[dict[str, Any], RunRecord]:
    """Return a record as JSON, with some changes, and as it is read."""
    found = {**json.loads(KEPT[name].read_text()), **changes}
    (folder / "run.json").write_text(json.dumps(found))
    record = run_record.read(str(folder))
    assert record is not None
    return found, record


def written(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text()))


# --- statuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), list(itertools.product(STATUSES, repeat=2)))
def test_a_write_that_the_table_does_not_allow_raises_and_changes_nothing(
    tmp_path: Path, before: Status, after: Status
) -> None:
    folder = runs.lay_out(Layout(str(tmp_path)), "ann", RUN, status=before)
    record = run_record.read(str(folder))
    assert record is not None
    changed = record._replace(status=after, title="changed")
    if after in run_record.TRANSITIONS[before]:
        run_record.write(str(folder), changed)
        assert run_record.read(str(folder)) == changed
    else:
        with pytest.raises(run_record.NotAllowed, match=f"{before} to {after}"):
            run_record.write(str(folder), changed)
        assert run_record.read(str(folder)) == record


def test_a_run_goes_on_to_its_end_and_never_back() -> None:
    order = list(run_record.TRANSITIONS)
    assert tuple(order) == STATUSES
    for status, following in run_record.TRANSITIONS.items():
        assert all(order.index(each) >= order.index(status) for each in following)
        assert {status, "finished"} <= set(following)


def test_a_supervisor_that_was_overtaken_does_not_take_a_finished_run_back(
    tmp_path: Path,
) -> None:
    folder = runs.lay_out(Layout(str(tmp_path)), "ann", RUN, status="running")
    record = run_record.read(str(folder))
    assert record is not None
    run_record.write(str(folder), record._replace(status="finished", outcome=Outcome("stopped")))
    with pytest.raises(run_record.NotAllowed):
        Journal(str(folder), record).write_surely(record._replace(status="concluding"))
    assert written(folder)["outcome"]["verdict"] == "stopped"


def test_the_journal_waits_while_the_disk_is_full_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs.lay_out(Layout(str(tmp_path)), "ann", RUN, status="running")
    record = run_record.read(str(folder))
    assert record is not None
    failures = [errno.ENOSPC, errno.EROFS]

    def failing(path: str, value: object) -> None:
        if failures:
            number = failures.pop()
            raise OSError(number, os.strerror(number))
        write_json(path, value)

    write_json = files.write_json
    monkeypatch.setattr(files, "write_json", failing)
    monkeypatch.setattr(Journal, "PAUSE", 0.0)
    journal = Journal(str(folder), record)
    journal.write_surely(record._replace(status="concluding"))
    assert not failures
    assert written(folder)["status"] == "concluding"
    failures.append(errno.EACCES)
    with pytest.raises(PermissionError):
        journal.write_surely(record._replace(status="finished"))


# --- run.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KEPT)
def test_a_record_is_read_whole_and_written_back(tmp_path: Path, name: str) -> None:
    found, record = kept(name, tmp_path)
    run_record.write(str(tmp_path), record)
    again = written(tmp_path)
    assert run_record.read(str(tmp_path)) == record
    assert again == found


def test_what_a_record_says_of_a_run_is_known(tmp_path: Path) -> None:
    _, record = kept("done", tmp_path)
    assert record.settings.max_runtime_seconds == 3600
    client = ClientProcess(26048, "00443926:482427", 1795960248.634722, since=5021.25)
    assert record.client == client
    assert record.supervisor == ProcessId(26017, "00443926:482416")
    assert record.ended == Ended(exit_code=0, at=1795960248.915749)
    assert record.steps == Steps(None, record.tip, record.tip, "1")
    assert record.undelivered is not None
    assert record.undelivered.told.summary == "Did the work."
    assert record.outcome is not None
    assert (record.outcome.pr, record.outcome.cost_usd) == ("1", 0.25)
    assert record.seconds() == pytest.approx(3.75, abs=0.01)
    _, record = kept("review", tmp_path)
    assert record.review is not None
    assert record.review.task == "TASK-00000001"
    _, record = kept("running", tmp_path)
    assert (record.status, record.commits, record.outcome, record.seconds()) == (
        "running", 0, None, None
    )  # fmt: skip


def test_a_key_that_only_another_version_knows_survives(tmp_path: Path) -> None:
    _, record = kept("running", tmp_path, host={"name": "one"})
    run_record.write(str(tmp_path), record._replace(status="concluding"))
    assert written(tmp_path)["host"] == {"name": "one"}


@pytest.mark.parametrize(
    "damage",
    [
        {"id": 5}, {"agent": None}, {"created": "now"}, {"created": True}, {"status": "odd"},
        {"status": ["running"]}, {"settings": {}}, {"settings": None}, {"project": None},
        {"attempt": "1"}, {"task": 7},
    ],
)  # fmt: skip
def test_a_record_without_what_a_run_needs_is_no_record(
    tmp_path: Path, damage: dict[str, Any]
) -> None:
    found = {**json.loads(KEPT["running"].read_text()), **damage}
    (tmp_path / "run.json").write_text(json.dumps(found))
    assert run_record.read(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("client", {"pid": 0}), ("client", {"pid": -1, "identity": "x"}), ("client", "x"),
        ("supervisor", {"identity": "x"}), ("outcome", {"odd": 1}), ("outcome", []),
        ("ended", 5), ("undelivered", {"head": "a"}), ("finished", "soon"), ("finished", 1e999),
        ("review", {"id": "1"}),
    ],
)  # fmt: skip
def test_a_damaged_part_of_a_record_is_as_if_it_were_missing(
    tmp_path: Path, key: str, value: Any
) -> None:
    _, record = kept("done", tmp_path, **{key: value})
    assert getattr(record, key) is None


def test_seconds_are_null_when_nobody_saw_the_end_and_never_negative(tmp_path: Path) -> None:
    _, record = kept("done", tmp_path)
    assert record._replace(finished=None).seconds() is None
    assert record._replace(finished=record.created - 60).seconds() == 0.0
