"""Checks of single YAML values: numbers, texts, words, lists, sections. `Reading` calls them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.errors import did_you_mean
from orchestrator.text.yaml_nodes import (
    BAD,
    TAG,
    UNPRINTABLE,
    Check,
    Node,
    Reading,
    is_null,
    is_text,
    shown,
)

#: YAML 1.1's words for true and false.
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9_]*)?(\.[0-9_]*)?([eE][-+]?[0-9]+)?")


def number(
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    whole: bool = False,
    null: bool = False,
) -> Check:
    """Return a check for a decimal number from `low` (with `above`: more than `low`) to `high`."""
    bounds = f"{'above' if above else 'of at least'} {low}"
    bounds += f" and at most {high}" if high < math.inf else ""
    what = f"a {'whole ' if whole else ''}number {bounds}{' or null' if null else ''}"

    def check(reading: Reading, node: Node, where: str) -> Any:
        if null and is_null(node):
            return None
        is_plain = node.id == "scalar" and not (is_text(node) and node.style)
        value = decimal(node.value) if is_plain else None
        fits = value is not None and (value > low if above else value >= low) and value <= high
        if not fits or (whole and not isinstance(value, int)):
            return reading.expected(node, where, what)
        return value

    return check


def decimal(text: str) -> float | None:
    """Return a decimal number such as `1e3`, or None, as for `010`, `1:30` and `.inf`."""
    if len(text) > 40:
        return None
    try:
        if _INT.fullmatch(text):
            return int(text)
        value = float(text) if _FLOAT.fullmatch(text) else math.inf
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def text(pattern: str = r"(?s)(?=.*\S).+", what: str = "text", *, null: bool = False) -> Check:
    """Return a check for a string of printable text that matches `pattern` as a whole."""
    shape = re.compile(pattern)

    def check(reading: Reading, node: Node, where: str) -> Any:
        if null and is_null(node):
            return None
        if is_text(node):
            if shape.fullmatch(node.value) and not re.search(UNPRINTABLE, node.value):
                return node.value
        elif node.id == "scalar" and not is_null(node):
            return reading.expected(node, where, f"{what} (in quotes)")
        return reading.expected(node, where, what)

    return check


def one_of(words: Collection[str]) -> Check:
    """Return a check for one of `words`; the problem suggests the nearest word."""
    what = " or ".join((", ".join(list(words)[:-1]), list(words)[-1]))

    def check(reading: Reading, node: Node, where: str) -> Any:
        if is_text(node) and node.value in words:
            return node.value
        hint = did_you_mean(node.value, words, "") if node.id == "scalar" else ""
        return reading.expected(node, where, what, hint)

    return check


def paths(reading: Reading, node: Node, where: str) -> Any:
    """Check for a path, or a list of paths, from the project's folder or absolute."""
    one = text(r"(?!-)[^\s].{0,999}", "the path of a file")
    return texts(one, "the path of a file, or a list of paths")(reading, node, where)


def boolean(reading: Reading, node: Node, where: str) -> Any:
    """Check for one of YAML 1.1's words for true and false, in any case."""
    if node.id == "scalar" and node.tag == TAG + "bool" and node.value.lower() in BOOLEANS:
        return BOOLEANS[node.value.lower()]
    return reading.expected(node, where, "true or false")


def texts(item: Check, what: str, split: Callable[[str], list[str]] = lambda text: [text]) -> Check:
    """Return a check for a list, or for one text that `split` turns into a list."""

    def check(reading: Reading, node: Node, where: str) -> Any:
        if node.id == "sequence":
            return tuple(each(reading, node, where, item))
        if not is_text(node):
            return reading.expected(node, where, what)
        value = item(reading, node, where)
        try:
            return value if value is BAD else tuple(split(value))
        except ValueError as error:
            return reading.wrong(node, where, f"{str(error).lower()}: {shown(node)}")

    return check


def each(reading: Reading, node: Node, where: str, check: Check) -> Iterable[Any]:
    """Yield the result of `check` for each item of a sequence."""
    for index, entry in enumerate(node.value):
        reading.visit(entry, 0)
        yield check(reading, entry, f"{where}[{index}]")


def section(make: Callable[..., Any], table: Mapping[str, Check]) -> Check:
    """Return a check for a mapping with the keys of `table`; `make` creates the value."""
    return lambda reading, node, where: make(**reading.section(node, where, table))
