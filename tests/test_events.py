"""docs/events.md is the schema of `events.jsonl`.

Here the code is compared with that page; `harness.world` compares what each scenario wrote.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import events_schema
import pytest
from conftest import CHECKOUT
from events_schema import faults, kinds, types

from orchestrator.account import ledger
from orchestrator.layout import Layout
from orchestrator.model.snapshot import VERDICTS
from orchestrator.project import events

START = {"at": "2026-01-02T03:04:05Z", "event": "start", "agent": "a", "run": "R", "v": 1}


def written() -> Iterator[tuple[str, set[str]]]:
    """Yield the word of each event that the code writes as a literal, and its fields so written."""
    for path in (CHECKOUT / "orchestrator").rglob("*.py"):
        source = path.read_text()
        if not re.search(r"events\.append|context\.record_event|self\._event", source):
            continue  # parsing takes long
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            match ast.unparse(node.func), node.args:
                case "events.append", [_, _, ast.Constant(str(word))]:
                    given: set[str] = set()
                case "context.record_event", [_, ast.Constant(str(word))]:
                    given = {"by"}
                case "self._event", [ast.Constant(str(word))]:
                    given = set()
                case _:
                    continue
            yield word, given | {keyword.arg for keyword in node.keywords if keyword.arg}


def test_every_event_in_the_code_is_documented_and_no_other() -> None:
    found = list(written())
    assert len(found) > 20
    for word, fields in found:
        assert any(fields <= has | may for has, may in kinds()[word]), (word, fields)
    # The words of planned actions are written as variables.
    assert set(kinds()) == {word for word, _ in found} | set(ledger.ENDS) - {"stop"}


def test_every_field_has_a_type_and_a_meaning_and_no_other_has() -> None:
    used = {name for forms in kinds().values() for has, may in forms for name in has | may}
    assert set(types()) == used | {"at", "event", "v"}
    assert set(types().values()) <= set(events_schema.FITS)
    page = (CHECKOUT / "docs" / "events.md").read_text()
    [row] = re.findall(r"^\| `verdict` .*", page, re.MULTILINE)
    assert set(VERDICTS) <= set(re.findall(r"`(\w+)`", row))
    assert f"now {events.VERSION}." in page


def test_a_line_says_its_version_and_fits_the_page(project: Layout) -> None:
    events.append(project, 0.0, "start", agent="a", run="R", task=None)
    events.append(
        project, 0.0, "finish", agent="a", run="R", verdict="done", seconds=None, cost_usd=None
    )
    lines = Path(project.events).read_text().splitlines()
    assert [json.loads(line)["v"] for line in lines] == [events.VERSION] * 2
    assert faults(lines) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": "begin"},
        {"colour": "red"},
        {"agent": None},
        {"task": 3},
        {"at": "yesterday"},
        {"event": "finish"},
    ],
)
def test_the_check_sees_what_is_not_documented(wrong: dict[str, object]) -> None:
    assert faults([json.dumps(START)]) == []
    assert faults([json.dumps(START | wrong)]) != []
    # A line of a version before the schema, and an incomplete line, are no faults.
    assert faults([json.dumps({**START, **wrong, "v": None}), '{"at": ']) == []


def test_the_example_of_the_page_fits_it() -> None:
    page = (CHECKOUT / "docs" / "events.md").read_text()
    [block] = re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)
    assert json.loads(block)["v"] == events.VERSION
    assert faults([block]) == []
