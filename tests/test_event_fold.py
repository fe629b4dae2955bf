"""What is kept of a long history gives what reading every event gives, and is only a hint."""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import World
from test_event_reading import BEGIN, END, everything, fill

from orchestrator.account import fold, ledger
from orchestrator.account.facts import TIMES, Facts
from orchestrator.account.ledger import EndedRun
from orchestrator.account.totals import Totals
from orchestrator.layout import Layout
from orchestrator.model.times import parse_time
from orchestrator.project import event_fold, events
from orchestrator.tasks.file_store import FileStore

world = harness.world
#: Times (epoch seconds) from which on the facts about tasks are compared.
SINCE = (0.0, BEGIN, (BEGIN + END) / 2, END - 7200, END)
#: An event that ends a run, and what stands for its time and its cost in a lie.
AT, USD = "2026-01-01T00:00:00Z", 0.25
END_OF_RUN: dict[str, Any] = {"agent": "impl-1", "role": "implementer", "cost_usd": USD}
LIED_AT, LIED_USD = 1767229999.0, 9.5


def both(layout: Layout) -> object:
    """Return what is read with the help of what is kept."""
    with fold.opened(layout) as past:
        runs, facts = [*map(past.runs, SINCE)], [*map(past.facts, SINCE)]
        return _shown(past.totals(), runs, facts)


def totals(layout: Layout) -> Totals:
    with fold.opened(layout) as past:
        return past.totals()


def from_events(layout: Layout) -> object:
    """Return the same from every event."""
    every = everything(layout)
    runs = [ledger.collect(every, since) for since in SINCE]
    return _shown(Totals(ledger.read(layout)), runs, [Facts(every)] * len(SINCE))


def _shown(totals: Totals, runs: list[list[EndedRun]], facts: list[Facts]) -> object:
    most = totals.costliest_task()  # without the order of equal costs
    costs = {role: each for role, each in totals.finished.items() if each}
    return costs, most and most["cost_usd"], runs, [*map(_told, facts, SINCE)]


def _told(facts: Facts, since: float) -> object:
    """Return what the facts say about the tasks of a period, without their costs."""
    times = {name: facts.times(name, since) for name in TIMES}
    tasks = {task for each in times.values() for task in each}
    return times, {task: facts.of(task).values()[: len(TIMES) + 2] for task in tasks}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_kept_changes_no_result(project: Layout, seed: int) -> None:
    fill(project, seed)
    data = Path(project.events).read_bytes()
    whole = from_events(project)
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
                told = {"task": f"T-{number}", "run": f"{name}{number}", **END_OF_RUN}
                file.write(json.dumps({"at": AT, "event": "finish", **told}) + "\n")
    fold.keep(project)
    assert both(project) == from_events(project)
    _kept_with(str(parse_time(AT)), str(LIED_AT))(project)
    _kept_with(str(USD * 2), str(LIED_USD))(project)
    _kept_with(f",{USD},", ",9.99,")(project)
    return project


def _kept_with(old: str, new: str, most: int = -1) -> Callable[[Layout], None]:
    """Return a function that replaces text after the first line of what is kept."""

    def change(layout: Layout) -> None:
        first, _, rest = Path(layout.events_fold).read_text().partition("\n")
        assert old in rest
        Path(layout.events_fold).write_text(f"{first}\n{rest.replace(old, new, most)}")

    return change


def test_what_is_kept_is_used_and_the_events_after_it_are_added(
    lied: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = {**END_OF_RUN, "run": "new", "verdict": "done"}
    events.append(lied, BEGIN, "finish", **new, task="T-1")
    events.append(lied, BEGIN, "fail", **{**new, "run": "other"}, task="T-new")
    monkeypatch.delattr(ledger, "read")
    monkeypatch.delattr(events, "read")
    costs = [USD, *[LIED_USD] * 39, LIED_USD + USD]
    assert totals(lied).finished == {"implementer": costs}
    with fold.opened(lied) as past:
        runs, facts = past.runs(BEGIN), past.facts(BEGIN)
    assert [run.told.run for run in runs if run.told.cost_usd == USD] == ["new", "other"]
    assert len(runs) == 82
    assert (facts.of("T-0").done, facts.of("T-1").done) == (LIED_AT, BEGIN)
    assert facts.of("T-new").failed == BEGIN


def test_what_is_kept_of_a_run_that_ended_again_is_not_used(lied: Layout) -> None:
    """A tick that was killed wrote the end of a run; the next tick writes it again."""
    again = {**END_OF_RUN, "run": f"{lied.events}39", "task": "T-39"}
    events.append(lied, BEGIN, "finish", **again)
    assert totals(lied).finished == {"implementer": [USD * 2] * 40}


def _edit(layout: Layout) -> None:
    with open(layout.events, "r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"x")


def _replace_file(layout: Layout) -> None:
    shutil.copyfile(layout.events, f"{layout.events}.new")
    os.replace(f"{layout.events}.new", layout.events)


def _cut(layout: Layout) -> None:
    os.truncate(layout.events, os.path.getsize(layout.events) // 2)


def _kept_by(key: str, value: object) -> Callable[[Layout], None]:
    def change(layout: Layout) -> None:
        first, *rest = Path(layout.events_fold).read_text().splitlines()
        text = "\n".join((json.dumps({**json.loads(first), key: value}), *rest, ""))
        Path(layout.events_fold).write_text(text)

    return change


def _only(lines: int) -> Callable[[Layout], None]:
    def change(layout: Layout) -> None:
        kept = Path(layout.events_fold).read_text().splitlines(keepends=True)
        Path(layout.events_fold).write_text("".join(kept[:lines]))

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_edit, id="a line before the place was edited"),
        pytest.param(_replace_file, id="the file was replaced"),
        pytest.param(_cut, id="the file was cut"),
        pytest.param(lambda layout: events.rotate(layout, 1), id="the file was rotated"),
        pytest.param(lambda layout: os.unlink(layout.events_before), id="the older file is gone"),
        pytest.param(lambda layout: os.utime(layout.events_before), id="the older file changed"),
        pytest.param(_kept_by("key", "another clone"), id="it is of another clone"),
        pytest.param(_kept_by("version", "0.0.1"), id="it is of another version"),
        pytest.param(_kept_by("offset", "many"), id="the place is damaged"),
        pytest.param(_kept_by("sizes", [1, 2]), id="the sizes are damaged"),
        pytest.param(_kept_by("sizes", 3), id="the sizes are of another form"),
        pytest.param(_kept_with('"\t:[', '"\t:{'), id="the lines are damaged"),
        pytest.param(
            _kept_with('"implementer",', '"implementer",0,'), id="the lines have one more value"
        ),
        pytest.param(_kept_with('"\t:[', "\0" * 4), id="a power cut left zeros"),
        pytest.param(_kept_with("[", "{", 1), id="the sums are damaged"),
        pytest.param(_kept_with("[", "2", 1), id="the sums are no JSON"),
        pytest.param(_only(10), id="a power cut left the first lines"),
        pytest.param(_only(0), id="a power cut left nothing"),
        pytest.param(lambda layout: os.unlink(layout.events_fold), id="it is missing"),
    ],
)
def test_a_lie_is_not_believed_once_anything_differs(
    lied: Layout, change: Callable[[Layout], None]
) -> None:
    assert both(lied) != from_events(lied)
    change(lied)
    events.append(lied, BEGIN, "finish", **END_OF_RUN, task="T-1", run="new")
    assert both(lied) == from_events(lied)


def test_a_lie_is_not_believed_where_the_queue_is_shared(
    lied: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"at": AT, "event": "finish", **END_OF_RUN, "run": "R", "task": "T-b"}
    monkeypatch.setattr(FileStore, "events", lambda self, most: iter([json.dumps(told).encode()]))
    monkeypatch.setattr(FileStore, "host", "here")
    assert totals(lied).finished == {"implementer": [USD, *[USD * 2] * 40]}


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
    assert not os.path.exists(layout.events_fold)
    world.run("_after_run", str(world.root))
    assert os.path.exists(layout.events_fold)
    most = world.json("costs")["budgets"]["costliest_task"]
    assert most == {"task": "T-1", "cost_usd": 2.5}
