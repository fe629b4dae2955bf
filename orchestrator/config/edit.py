"""Edits of `agents.yaml` by commands: text in, text out, and only the lines that must change.

Each edit is made twice: to the values, which gives the expected result, and to the text (`Source`).
The new text is read again and refused unless it has exactly the expected values, so an unusual file
is never written wrong. `keys.parse` checks whether values are valid.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping

from orchestrator.config.keys import FILE
from orchestrator.config.yaml_source import Path, Source, plain
from orchestrator.config.yaml_values import BOOLEANS, decimal
from orchestrator.model.errors import OrchestratorError, UsageError


def set_values(text: str, path: Path, values: Mapping[str, object]) -> str:
    """Return `text` with `values` set in the mapping at `path` (keys and list positions).

    A key of `values` may be dotted (`review.max_rounds`). A value is None, a bool, a number, text
    or a list of these. Missing mappings on the path are created. Raises `ConfigError` if the text
    is not YAML, `OrchestratorError` if it cannot be edited without changing something else.
    """
    for key, value in values.items():
        text = _set(text, (*path, *key.split(".")), value)
    return text


def set_agent(text: str, name: str, values: Mapping[str, object]) -> str:
    """Return `text` with `values` set in an agent's entry, as `set_values`. Raises `NotFound`."""
    return set_values(text, ("agents", Source(text).position(name)), values)


def set_paused(text: str, value: bool) -> str:
    """Return `text` with the top level's `paused` set, as `set_values`."""
    return set_values(text, (), {"paused": value})


def _set(text: str, spot: Path, value: object) -> str:
    source = Source(text)
    inner = meant = copy.deepcopy(source.data) or {}
    try:
        for step in spot[:-1]:
            if isinstance(step, str) and inner.get(step) is None:
                inner[step] = {}
            inner = inner[step]
        inner[spot[-1]] = plain(value)
    except (AttributeError, LookupError, TypeError):
        what = ".".join(map(str, spot))
        raise OrchestratorError(f"cannot set {what}: its parent is not a mapping") from None
    if meant == source.data:
        return text
    return source.checked(source.put(source.root, spot, value), meant)


def add_agent(text: str, name: str, role: str, values: Mapping[str, object]) -> str:
    """Return `text` with an agent at the end of `agents`.

    Raises as `set_values`, and OrchestratorError if an agent has this name already.
    """
    source = Source(text)
    if name in source.names():
        hint = f"change it with: orchestrator agent set {name} key=value"
        raise OrchestratorError(f"there is an agent {name!r} already", hint, code="agent_exists")
    meant = copy.deepcopy(source.data) or {}
    listed = meant.get("agents") or [] if isinstance(meant, dict) else None
    if not isinstance(listed, list):
        raise OrchestratorError(f"cannot add an agent: {FILE} has no list of agents")
    if not listed:
        source = Source(set_values(text, (), {"agents": []}))
    entry = {"name": name, "role": role, **values}
    meant["agents"] = [*listed, plain(entry)]
    return source.checked(source.add(entry), meant)


def remove_agent(text: str, name: str) -> str:
    """Return `text` without an agent's entry and its comments. Raises `NotFound`.

    These are the comments inside it and directly above it; those above the first entry remain,
    because they may describe the whole list.
    """
    source = Source(text)
    index = source.position(name)
    meant = copy.deepcopy(source.data)
    del meant["agents"][index]
    return source.checked(source.remove(index), meant)


def parse_assignment(text: str, example: str = "max_turns=20") -> tuple[str, object]:
    """Return key and value of a `key=value` argument; the value is read as in YAML (`20`, `null`).

    A value in quotes is text. Raises `UsageError` without a `=` or a key.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise UsageError(f"expected key=value, found {text!r}", f"for example: {example}")
    if re.fullmatch("(['\"]).*\\1", value):
        return key, value[1:-1]
    if value.lower() in ("", "~", "null"):
        return key, None
    if value.lower() in BOOLEANS:
        return key, BOOLEANS[value.lower()]
    number = decimal(value)
    return key, value if number is None else number
