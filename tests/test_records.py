"""Named tuples as JSON and back: what is damaged counts as missing."""

# No `from __future__ import annotations`: the types of the fields are read while a test runs.

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from rows import each_row

from orchestrator.model.annotations import Literal
from orchestrator.model.config import Agent, Config
from orchestrator.model.snapshot import Hold, Outcome
from orchestrator.model.work import PullRequest
from orchestrator.project.agent_memory import AgentState
from orchestrator.project.run_record import RunRecord
from orchestrator.system import records


class Part(NamedTuple):
    number: int
    word: str | None = None


class Whole(NamedTuple):
    name: str
    task: str | None
    kind: Literal["a", "b"]
    at: float
    on: bool
    part: Part | None
    parts: tuple[Part, ...]
    words: tuple[str, ...]
    spend: Mapping[str, float]
    rest: Mapping[str, object]


GOOD = Whole(
    "x", None, "b", 1.5, True, Part(1, "one"), (Part(2), Part(3)), ("p", "q"), {"d": 2.0},
    {"z": [1, {"y": None}]},
)  # fmt: skip


def stored(value: object) -> Any:
    return json.loads(json.dumps(records.plain(value)))


def test_what_was_stored_is_built_again() -> None:
    assert stored(GOOD)["parts"] == [{"number": 2, "word": None}, {"number": 3, "word": None}]
    assert records.build(Whole, stored(GOOD)) == GOOD
    assert records.build(Whole, {**stored(GOOD), "of another version": 1}) == GOOD


def test_a_list_of_values_is_taken_in_the_order_of_the_fields() -> None:
    assert records.build(Part, [5, "five"]) == Part(5, "five")
    assert records.build(Part, [5]) == Part(5)
    assert records.build(Part, [5, "five", "more"]) == Part(5, "five")


def test_a_whole_number_becomes_a_float_where_one_is_wanted() -> None:
    built = records.build(Whole, {**stored(GOOD), "at": 3, "spend": {"d": 2}})
    assert built is not None
    assert (type(built.at), type(built.spend["d"])) == (float, float)


@each_row(
    ("name", "value"),
    [
        ("name", None), ("name", 5), ("kind", "c"), ("kind", ["a"]), ("at", "1"), ("at", True),
        ("at", math.nan), ("at", math.inf), ("at", 10**400), ("at", -(10**400)),
        ("on", 1), ("part", {"number": "1"}),
        ("part", {"number": True}), ("part", 5), ("parts", [{"number": 1}, {}]), ("parts", {}),
        ("words", ["p", None]), ("words", "pq"), ("task", 7),
    ],
)  # fmt: skip
def test_a_needed_field_of_the_wrong_type_makes_no_tuple(name: str, value: Any) -> None:
    assert records.build(Whole, {**stored(GOOD), name: value}) is None


def test_a_missing_field_is_none_where_it_may_be() -> None:
    found = stored(GOOD)
    del found["task"], found["part"]
    assert records.build(Whole, found) == GOOD._replace(part=None)
    del found["name"]
    assert records.build(Whole, found) is None


def test_a_damaged_entry_of_a_mapping_is_left_out() -> None:
    found = {**stored(GOOD), "spend": {"a": 1, "b": "x", "c": None}}
    assert records.build(Whole, found) == GOOD._replace(spend={"a": 1.0})


@pytest.mark.parametrize("found", [None, 5, "x", True])
def test_what_is_no_object_and_no_list_makes_no_tuple(found: object) -> None:
    assert records.build(AgentState, found) is None


@pytest.mark.parametrize("kind", [Agent, AgentState, Config, Hold, Outcome, PullRequest, RunRecord])
def test_every_type_of_a_field_in_a_state_file_is_understood(kind: Any) -> None:
    """A type that `build` does not know would fail at its first value."""
    for value in (None, 1, 1.5, "x", True, [], {}, [{}], {"": None}):
        records.build(kind, dict.fromkeys(kind._fields, value))
