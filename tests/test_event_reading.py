"""The fast ways to read the events give what reading everything gives."""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import json
import random
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import events_schema
import pytest
from harness import variants
from rows import each_row

from orchestrator.account import history, ledger, narrative
from orchestrator.account.facts import TIMES, Facts
from orchestrator.layout import Layout
from orchestrator.model.times import iso, parse_time
from orchestrator.project import events
from orchestrator.system import records

Event = Mapping[str, object]
BEGIN, STEP, COUNT = 1_750_000_000.0, 300.0, 600
END = BEGIN + STEP * COUNT
WORDS = sorted(events_schema.kinds())
#: Lines that `append` did not write, or that a fault left: without a run, and with one.
BROKEN = (
    b'{"at": "2025-06-15T15:0\n',
    b"\n",
    b'\xff{"at": "2025-06-15T15:06:40Z", "event": "finish"}\n',
)
STRANGE = (
    *BROKEN,
    b'{"event":"finish","at":"2025-06-15T15:06:40Z","run":"S1","agent":"a"}\n',
    b'{"at": "2025-06-15T17:06:40+02:00", "event": "finish", "run": "S2", "agent": "a"}\n',
    b'{"at": "1970-01-01T00:00:09Z", "event": "finish", "run": "S3", "agent": "a"}\n',
)


def fill(layout: Layout, seed: int) -> None:
    """Write both files of events: lines are up to `LATE` late, and a few are strange.

    With an even seed, runs end again and again; with an odd seed, each ends once.
    """
    chance, again = random.Random(seed), seed % 2 == 0
    lines = []
    for number in range(COUNT):
        at = BEGIN + STEP * number - chance.choice((0, 0, 0, events.LATE - STEP))
        fields = {
            "run": f"R{chance.randrange(COUNT) if again else number}",
            "agent": f"impl-{chance.randrange(3)}",
            "task": f"T-{chance.randrange(COUNT)}",
            "verdict": chance.choice(("done", "failed", "approved")),
            "state": chance.choice(("done", "failed", "incoming")),
            "reason": chance.choice(("merged", "closed")),
            "review": f"T-{chance.randrange(COUNT)}",
            "pr": chance.choice((None, "3")),
            "role": chance.choice((None, "implementer", "tester")),
            "cost_usd": chance.choice((None, 0.25, 1.5)),
            "checks": chance.choice((None, ["make test"])),
            "models": chance.choice((None, {"small": {"cost_usd": 0.25, "input_tokens": 3}})),
        }
        word = chance.choice((*WORDS, *ledger.ENDS * 3))
        event = {"at": iso(at), "event": word, **fields, "v": events.VERSION}
        lines.append(json.dumps(event).encode() + b"\n")
        if chance.random() < 0.05:
            lines.append(chance.choice(STRANGE if again else BROKEN))
    cut = chance.choice((0, COUNT // 3, COUNT - 3))
    for path, part in ((layout.events_before, lines[:cut]), (layout.events, lines[cut:])):
        with open(path, "wb") as file:
            file.writelines(part)


@pytest.fixture(params=variants(range(4), 0, 3))
def filled(
    request: pytest.FixtureRequest, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> Layout:
    monkeypatch.setattr(events, "BLOCK", 1024)
    monkeypatch.setattr(ledger, "RECENT", 20 * STEP)
    fill(project, request.param)
    return project


def everything(layout: Layout) -> list[Event]:
    return list(events.read(layout, events.MOST_READ))


def fresh(told: Iterable[Event], since: float) -> list[Event]:
    return [each for each in told if (parse_time(str(each.get("at"))) or 0.0) >= since]


def test_a_period_is_read_from_the_end_without_a_difference(filled: Layout) -> None:
    told = everything(filled)
    for since in (BEGIN, BEGIN + 1, (BEGIN + END) / 2, END - 5 * events.LATE, END, END + 1e6):
        found = list(events.read(filled, events.MOST_READ, since=since))
        assert fresh(found, since) == fresh(told, since)
        assert ledger.read(filled, since) == ledger.collect(told, since)
    recent = list(events.read(filled, events.MOST_READ, since=END - 2 * events.LATE))
    assert len(recent) < len(told) / 3, "the older lines are not read"


def test_events_of_some_kinds_are_all_events_of_these_kinds(filled: Layout) -> None:
    told = everything(filled)
    found = list(events.read(filled, events.MOST_READ, kinds=("finish", "added")))
    assert found == [each for each in told if each["event"] in ("finish", "added")]


def test_the_history_and_the_report_need_no_other_kinds(filled: Layout) -> None:
    told, prs = everything(filled), {"T-1": "1"}
    few = list(events.read(filled, events.MOST_READ, kinds=history.KINDS))
    assert ledger.collect(few, BEGIN) == ledger.collect(told, BEGIN)
    of_few, of_all = Facts(few), Facts(told)
    for name in TIMES:
        times = of_all.times(name, 0.0)
        assert of_few.times(name, 0.0) == times
        assert [of_few.of(task).values() for task in times] == [
            of_all.of(task).values() for task in times
        ]
    few = list(events.read(filled, events.MOST_READ, kinds=narrative.KINDS))
    runs = ledger.collect(told, BEGIN)
    assert narrative.ends(runs, few, BEGIN, prs) == narrative.ends(runs, told, BEGIN, prs)


@pytest.mark.parametrize("agent", [None, "impl-1", "nobody"])
def test_the_newest_runs_are_those_of_the_whole_history(filled: Layout, agent: str | None) -> None:
    def fits(run: ledger.EndedRun) -> bool:
        return agent in (None, run.told.agent)

    told = everything(filled)
    for since in (0.0, (BEGIN + END) / 2, END):
        whole = list(filter(fits, ledger.collect(told, since)))
        for number in (1, 10, COUNT):
            read = partial(ledger.read, filled)
            found, are_more = ledger.newest(read, since, (BEGIN, END), number, fits)
            assert found == whole[-number:]
            assert are_more == (len(whole) > number)


def test_the_history_begins_with_the_first_line_that_has_a_time(project: Layout) -> None:
    assert ledger.begins(project) is None
    with open(project.events, "wb") as file:
        file.write(b'damaged\n{"event": "x"}\n{"at": "2026-01-01T00:00:00Z", "event": "x"}\n')
    assert iso(ledger.begins(project)) == "2026-01-01T00:00:00Z"


class Each(NamedTuple):
    """A field of each type that has a way of its own."""

    text: str | None = "missing"
    whole: int | None = -1
    real: float | None = -1.0
    certain: float = -1.0


@each_row(
    ("value", "built"),
    [
        (None, (None, None, None, -1.0)),
        ("x", ("x", -1, -1.0, -1.0)),
        (5, ("missing", 5, 5.0, 5.0)),
        (0.5, ("missing", -1, 0.5, 0.5)),
        (True, ("missing", -1, -1.0, -1.0)),
        (float("nan"), ("missing", -1, -1.0, -1.0)),
        (float("inf"), ("missing", -1, -1.0, -1.0)),
        (10**301, ("missing", -1, -1.0, -1.0)),
        ([], ("missing", -1, -1.0, -1.0)),
    ],
)
def test_a_value_fits_a_field_by_its_type(value: Any, built: tuple[object, ...]) -> None:
    found = records.build(Each, dict.fromkeys(Each._fields, value))
    assert found == built
    assert found is not None
    assert [*map(type, found)] == [*map(type, built)]


ODD_LINES = [
    b"",
    b"no json\n",
    b'{"at": "2026-01-01T00:00:00Z"',
    b'{"event": "a"},{"event": "b"}\n',
    b'{"event": "\n',
    b'"}\n',
    b'{"event":\n',
    b"[1, 2]\n",
    b'{"event": "\xff"}\n',
    '{"event": "é"}\n'.encode("utf-16"),
    b"[" * 5_000 + b"\n",
    b'{"event": NaN}\n',
]


def test_lines_that_cannot_be_read_hide_no_other_line(project: Layout) -> None:
    rng = random.Random(7)
    good = [f'{{"event": "start", "run": "{n}"}}\n'.encode() for n in range(1_200)]
    lines = [*good]
    for odd in ODD_LINES * 3:
        lines.insert(rng.randrange(len(lines) + 1), odd if odd.endswith(b"\n") else odd + b"\n")
    with open(project.events, "wb") as file:
        file.writelines(lines)
    # `NaN` is no JSON, but Python reads it; UTF-16 is split at its line feed.
    found = [event for event in everything(project) if event.get("event") == "start"]
    assert [event["run"] for event in found] == [str(n) for n in range(1_200)]
    alone = map(_alone, b"".join(lines).splitlines(True))
    # Not a number is not equal to itself.
    wanted = repr([each for each in alone if isinstance(each, dict)])
    assert repr([*map(dict, everything(project))]) == wanted


def _alone(line: bytes) -> Any:
    """Read one line as a reader of single lines does."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def test_an_event_of_the_period_is_read_though_many_late_lines_follow_it(project: Layout) -> None:
    """A line has the time at which its tick began: a long tick writes after later ones."""
    since = 1_767_268_800.0
    events.append(project, since + 5, "looked", number=1)
    late = "x" * 1000
    for _ in range(3 * events.BLOCK // 1000):
        events.append(project, since - 600, "looked", number=2, text=late)
    found = [event["number"] for event in events.read(project, events.MOST_READ, since=since)]
    assert found[0] == 1
