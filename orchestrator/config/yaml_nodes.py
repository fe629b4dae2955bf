"""YAML read strictly: nodes with their marks, each value checked or blamed, bombs refused.

A file is composed to nodes, never constructed, so that every problem has its line and no text runs
code, loops or takes for ever. A `Check` takes a node and its path; it returns the value or blames
it, and reading goes on: all problems are found in one pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from orchestrator.errors import ConfigError, near_miss

#: A node of PyYAML: `id` (scalar, sequence or mapping), `tag`, `value`, `start_mark`, `style`.
Node = Any

MAX_BYTES = 1 << 20
MAX_DEPTH = 30
#: Nodes looked at, aliases and merges counted each time they are used: a bomb ends here.
MAX_NODES = 50_000
MAX_PROBLEMS = 100

TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = {TAG + word for word in ("null", "bool", "int", "float", "str")}
UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Stands for a value that was blamed: nothing with one in it is ever returned.
BAD: Any = object()


class Reading:
    """One reading of one file: its problems, the line of each key, and what it may still cost.

    `names` are what a value may have to be one of, for the checks that ask; None takes any.
    """

    def __init__(self, path: str, names: Collection[str] | None = None) -> None:
        self.path = path
        self.names = names
        self.problems: list[tuple[int, str]] = []
        self.lines: dict[str, int] = {}
        self.visited = 0

    def wrong(self, line: int, where: str, message: str) -> Any:
        """Blame a line, at the key's path `where`; return BAD. Raises when that is enough."""
        text = f"{self.path}:{line}: {where + ': ' if where else ''}{message}"
        self.problems.append((line, text))
        if len(self.problems) >= MAX_PROBLEMS:
            self.problems.append(
                (line, f"{self.path}:{line}: there may be more; reading ended here")
            )
            raise self.error()
        return BAD

    def expected(self, node: Node, where: str, what: str) -> Any:
        """Blame a node for not being `what`; return BAD."""
        return self.wrong(line_of(node), where, f"expected {what}, found {shown(node)}")

    def error(self) -> ConfigError:
        """Return every problem so far, in the order of the lines."""
        found = [text for _, text in sorted(self.problems, key=lambda problem: problem[0])]
        return ConfigError(found, f"correct {self.path}; until then nothing new is started")

    def visit(self, node: Node, depth: int) -> None:
        """Count a node that is looked at; raises ConfigError at the first one too many."""
        self.visited += 1
        if self.visited > MAX_NODES or depth > MAX_DEPTH:
            self.wrong(line_of(node), "", "too large once its aliases are followed")
            raise self.error()

    def pairs(self, node: Node, where: str, depth: int = 0) -> dict[str, tuple[Node, Node]]:
        """Return a mapping's keys with their key and value nodes, merge keys (`<<`) followed."""
        found: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key, value in node.value:
            self.visit(key, depth)
            if key.tag == TAG + "merge":
                merged += value.value if value.id == "sequence" else [value]
            elif key.id != "scalar":
                self.expected(key, where, "text as a key")
            elif key.value in found:
                first = line_of(found[key.value][0])
                self.wrong(line_of(key), _join(where, key.value), f"twice; first on line {first}")
            else:
                found[key.value] = (key, value)
        for source in merged:
            self.visit(source, depth)
            if source.id != "mapping":
                self.expected(source, _join(where, "<<"), "a mapping to merge")
                continue
            for name, pair in self.pairs(source, where, depth + 1).items():
                found.setdefault(name, pair)
        return found

    def section(self, node: Node, where: str, table: Mapping[str, Check]) -> dict[str, Any]:
        """Return a mapping's checked values by key; keys beginning `x-` are the user's own."""
        if node.id != "mapping":
            self.expected(node, where, "a mapping of keys to values")
            return {}
        values = {}
        for key, (key_node, value) in self.pairs(node, where).items():
            spot = _join(where, key)
            self.lines[spot] = line_of(key_node)
            if key in table:
                values[key] = table[key](self, value, spot)
            elif not key.startswith("x-"):
                near = near_miss(key[:80].lower(), table)
                hint = f"; did you mean {near!r}?" if near else f" (known: {', '.join(table)})"
                self.wrong(line_of(key_node), spot, "unknown key" + hint)
        return values


def line_of(node: Node) -> int:
    """Return the line, from 1, that a node begins on."""
    return int(node.start_mark.line) + 1


def _join(where: str, key: str) -> str:
    word = key if re.fullmatch(r"[\w<.-]{1,80}", key) else repr(key[:80])
    return f"{where}.{word}" if where else word


def shown(node: Node) -> str:
    """Return a node as problems show it, cut at 60 characters."""
    if node.id != "scalar":
        return "a list" if node.id == "sequence" else "a mapping"
    if node.tag == TAG + "null":
        return "null"
    text = node.value if len(node.value) <= 60 else node.value[:57] + "..."
    return repr(text) if node.tag == TAG + "str" else str(text)


#: Takes a node and its path; returns the value, or blames it and returns BAD.
Check = Callable[[Reading, Node, str], Any]


def is_null(node: Node) -> bool:
    """Whether a node is `null`, `~` or nothing at all."""
    return bool(node.id == "scalar" and node.tag == TAG + "null")


# --- the document -------------------------------------------------------------------------------


def compose(reading: Reading, text: bytes | str) -> Node | None:
    """Return the document's root node, or None for an empty one; raises `ConfigError`."""
    import yaml

    source = _decoded(reading, text)
    # The C parser is ten times faster, and not in every build of PyYAML.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    root: Node | None = None
    try:
        _refuse(reading, yaml.parse(source, Loader=loader))
        if not reading.problems:
            root = yaml.compose(source, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        why = error.problem or error.context
        if error.context_mark and error.problem:
            why = f"{error.context} from line {error.context_mark.line + 1}, {why}"
        lines = source.splitlines()
        if line <= len(lines) and re.match(r" *\t", lines[line - 1]):
            why = "a tab cannot indent; use spaces"
        reading.wrong(line, "", f"not YAML: {why}")
    except (yaml.YAMLError, ValueError) as error:  # ValueError: chr() in the parser in Python
        reading.wrong(1, "", f"not YAML: {error}")
    if reading.problems:
        raise reading.error()
    return root


def _decoded(reading: Reading, text: bytes | str) -> str:
    source = text if isinstance(text, str) else ""
    if len(text) > MAX_BYTES:
        reading.wrong(1, "", f"larger than {MAX_BYTES} bytes")
    elif isinstance(text, bytes):
        try:
            source = text.decode()
        except UnicodeDecodeError as error:
            reading.wrong(text.count(b"\n", 0, error.start) + 1, "", "not UTF-8 text")
    odd = UNPRINTABLE.search(source)
    if odd and not reading.problems:
        line = source.count("\n", 0, odd.start()) + 1
        reading.wrong(line, "", f"a control character, {odd[0]!r}")
    if reading.problems:
        raise reading.error()
    return source.removeprefix("\ufeff")


def _refuse(reading: Reading, events: Iterable[Any]) -> None:
    """Blame what `yaml.compose` would take too long over, or must not take: depth, loops, tags."""
    import yaml

    anchors: list[str | None] = []
    for count, event in enumerate(events):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionEndEvent):
            anchors.pop()
        elif isinstance(event, yaml.AliasEvent) and event.anchor in anchors:
            reading.wrong(line, "", f"*{event.anchor} stands inside its own anchor")
        elif isinstance(event, yaml.CollectionStartEvent):
            anchors.append(event.anchor)
        tag = getattr(event, "tag", None)
        if tag is not None and not (isinstance(event, yaml.ScalarEvent) and tag in _SCALAR_TAGS):
            reading.wrong(line, "", f"the tag {tag!r} is not allowed")
        if len(anchors) > MAX_DEPTH or count > MAX_NODES * 2:
            reading.wrong(
                line, "", "nested too deeply" if anchors[MAX_DEPTH:] else "too many values"
            )
            return
