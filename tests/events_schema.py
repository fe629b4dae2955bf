"""docs/events.md as a check: which of a project's events are not as that page says."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from conftest import CHECKOUT

from orchestrator.project import events

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


FITS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "time": lambda value: isinstance(value, str) and TIME.fullmatch(value) is not None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "seconds": lambda value: value is None or (_is_number(value) and value >= 0),
    "dollars": lambda value: value is None or (_is_number(value) and value >= 0),
    "texts": _are_texts,
    "names": lambda value: value == "all" or _are_texts(value),
    "objects": lambda value: isinstance(value, list) and all(isinstance(x, dict) for x in value),
    "object": lambda value: isinstance(value, dict),
}


def _rows(heading: str) -> Iterator[list[str]]:
    text = (CHECKOUT / "docs" / "events.md").read_text()
    below = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for line in below.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def _names(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


@functools.cache
def kinds() -> dict[str, list[tuple[set[str], set[str]]]]:
    """Return the forms that each event may have: the fields that it has, and those it may have."""
    found: dict[str, list[tuple[set[str], set[str]]]] = {}
    for names, _, fields, also in _rows("Events"):
        for name in sorted(_names(names)):
            found.setdefault(name, []).append((_names(fields), _names(also)))
    return found


@functools.cache
def types() -> dict[str, str]:
    """Return the type of each field."""
    return {name.strip("`"): kind for name, kind, _ in _rows("Fields")}


def faults(lines: Iterable[str]) -> list[str]:
    """Return what is not documented in lines of this version; other lines are left out."""
    return [fault for line in lines for fault in _faults(line)]


def _faults(line: str) -> Iterator[str]:
    try:
        event = json.loads(line)
    except ValueError:
        return
    if not isinstance(event, dict) or event.get("v") != events.VERSION:
        return
    fields = set(event) - {"at", "event", "v"}
    forms = kinds().get(event.get("event", ""), [])
    if not any(has <= fields <= has | may for has, may in forms):
        yield f"not in docs/events.md: {line}"
    for name in sorted(set(event) & set(types())):
        if not FITS[types()[name]](event[name]):
            yield f"{name} is no {types()[name]}: {line}"
