"""What is kept of a long history gives what reading every event gives, and is only a hint."""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import harness
import pytest
from harness import World
from test_event_reading import BEGIN, everything, fill

from orchestrator.account import fold, ledger
from orchestrator.account.history import Facts
from orchestrator.account.totals import Totals
from orchestrator.layout import Layout
from orchestrator.project import event_fold, events
from orchestrator.tasks.file_store import FileStore

world = harness.world
LIE = {"runs": [["a-liar", "done", 99]], "tasks": {}, "newest": []}


def both(layout: Layout) -> tuple[object, object]:
    """Return what is read with the help of what is kept, without the order of equal costs."""
    totals, facts = fold.totals(layout), fold.facts(layout)
    return _shown(totals), facts.kept()


def _shown(totals: Totals) -> object:
    finished = {role: sorted(costs) for role, costs in totals.finished().items()}
    most = totals.costliest_task()
    return totals.runs, finished, most and most["cost_usd"]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_kept_changes_no_result(project: Layout, seed: int) -> None:
    fill(project, seed)
    data = Path(project.events).read_bytes()
    every = everything(project)
    whole = _shown(Totals(ledger.collect(every, 0.0).runs)), Facts(every).kept()
    Path(project.events).write_bytes(b"")
    for start in range(0, len(data), len(data) // 4 + 1):
        part = data[start : start + len(data) // 4 + 1]
        with open(project.events, "ab") as file:
            file.write(part[: len(part) // 2])
        fold.keep(project)  # in the middle of a line, too
        with open(project.events, "ab") as file:
            file.write(part[len(part) // 2 :])
    assert both(project) == whole
    fold.keep(project)
    assert both(project) == whole


@pytest.fixture
def lied(project: Layout) -> Layout:
    """A project in which what is kept says something wrong, with a proof that is right."""
    for name in (project.events_before, project.events):
        with open(name, "w") as file:
            for number in range(40):
                told = {"at": "2026-01-01T00:00:00Z", "event": "finish", "run": f"{name}{number}"}
                file.write(json.dumps({**told, "agent": "impl-1", "verdict": "done"}) + "\n")
    fold.keep(project)
    assert fold.totals(project).runs == {("impl-1", "done"): 80}
    kept = Path(project.events_fold).read_text().splitlines()
    kept[1] = json.dumps(LIE)
    Path(project.events_fold).write_text("".join(f"{line}\n" for line in kept))
    return project


def test_what_is_kept_is_used_and_the_events_after_it_are_added(
    lied: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    events.append(lied, BEGIN, "finish", run="new", agent="impl-1", verdict="failed")
    monkeypatch.delattr(ledger, "read")
    assert fold.totals(lied).runs == {("a-liar", "done"): 99, ("impl-1", "failed"): 1}


def _edit(layout: Layout) -> None:
    with open(layout.events, "r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"x")


def _replace_file(layout: Layout) -> None:
    shutil.copyfile(layout.events, f"{layout.events}.new")
    os.replace(f"{layout.events}.new", layout.events)


def _cut(layout: Layout) -> None:
    os.truncate(layout.events, os.path.getsize(layout.events) // 2)


def _repeat(layout: Layout) -> None:
    """A tick that was killed wrote the end of a run; the next tick writes it again."""
    Path(layout.events_fold).write_text(
        Path(layout.events_fold).read_text().replace('"newest": []', '"newest": ["R1"]')
    )
    events.append(layout, BEGIN, "finish", run="R1", agent="impl-1", verdict="done")


def _kept_by(key: str, value: object) -> Callable[[Layout], None]:
    def change(layout: Layout) -> None:
        first, *rest = Path(layout.events_fold).read_text().splitlines()
        text = "\n".join((json.dumps({**json.loads(first), key: value}), *rest, ""))
        Path(layout.events_fold).write_text(text)

    return change


def _write(text: str, line: int = 1) -> Callable[[Layout], None]:
    def change(layout: Layout) -> None:
        kept = Path(layout.events_fold).read_text().splitlines()
        Path(layout.events_fold).write_text("\n".join((*kept[:line], text)))

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_edit, id="a line before the place was edited"),
        pytest.param(_replace_file, id="the file was replaced"),
        pytest.param(_cut, id="the file was cut"),
        pytest.param(_repeat, id="a run that is in it ended again"),
        pytest.param(lambda layout: events.rotate(layout, 1), id="the file was rotated"),
        pytest.param(lambda layout: os.unlink(layout.events_before), id="the older file is gone"),
        pytest.param(lambda layout: os.utime(layout.events_before), id="the older file changed"),
        pytest.param(_kept_by("key", "another clone"), id="it is of another clone"),
        pytest.param(_kept_by("version", "0.0.1"), id="it is of another version"),
        pytest.param(_kept_by("offset", "many"), id="the place is damaged"),
        pytest.param(_write("{"), id="a part of it is damaged"),
        pytest.param(_write('{"runs": 3}'), id="a part of it is of another form"),
        pytest.param(_write("{", line=0), id="the first line is damaged"),
        pytest.param(lambda layout: os.unlink(layout.events_fold), id="it is missing"),
    ],
)
def test_a_lie_is_not_believed_once_anything_differs(
    lied: Layout, change: Callable[[Layout], None]
) -> None:
    change(lied)
    assert both(lied) == (_shown(Totals(ledger.read(lied))), Facts(everything(lied)).kept())
    assert ("a-liar", "done") not in fold.totals(lied).runs


def test_a_lie_is_not_believed_where_the_queue_is_shared(
    lied: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = b'{"at": "2026-01-01T00:00:00Z", "event": "finish", "run": "R", "agent": "b"}\n'
    monkeypatch.setattr(FileStore, "events", lambda self, most: iter([line]))
    monkeypatch.setattr(FileStore, "host", "here")
    assert fold.totals(lied).runs == {("impl-1", "done"): 80, ("b", "-"): 1}


def test_what_is_kept_is_written_again_when_many_events_are_new(
    lied: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not event_fold.is_due(lied), "a short history is read as fast"
    monkeypatch.setattr(event_fold, "MANY", 500)
    assert not event_fold.is_due(lied)
    for number in range(5):
        events.append(lied, BEGIN, "finish", run=f"new{number}", agent="impl-1", verdict="done")
    assert event_fold.is_due(lied)
    fold.keep(lied)
    assert not event_fold.is_due(lied)
    events.rotate(lied, 1)
    assert event_fold.is_due(lied)


def test_the_process_after_a_run_keeps_what_the_events_came_to(world: World) -> None:
    world.create()
    layout = Layout(str(world.root))
    told = {"at": "2026-01-01T00:00:00Z", "event": "finish", "run": "R1", "agent": "impl-1"}
    with open(layout.events, "a") as file:
        file.write(json.dumps({**told, "task": "T-1", "cost_usd": 2.5}) + "\n")
        file.write(f'{{"x": "{"." * event_fold.MANY}"}}\n')
    assert event_fold.read(layout, 1) is None
    world.run("_after_run", str(world.root))
    assert event_fold.read(layout, 1) is not None
    most = world.json("costs")["budgets"]["costliest_task"]
    assert most == {"task": "T-1", "cost_usd": 2.5}
