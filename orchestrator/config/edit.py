"""Edits of `agents.yaml` by commands: text in, text out, and only the lines that must change.

ruamel.yaml makes each edit, but it lays the whole file out anew, and ties a comment to the entry
above it, to move and go with that. So it is given the text without comments, and dumps it twice: as
it is, and with the edit. Only what differs between the two goes into the user's text. Each result
is read again and compared with what was meant; a file too clever for this (an anchor in the way,
say) is refused, never bent. Whether the values make sense is for `config.parse` to say.
"""

from __future__ import annotations

import copy
import io
import itertools
import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.errors import ConfigError, NotFound, OrchestratorError, UsageError

FILE = ".orchestrator/agents.yaml"
MAX_NODES = 50_000
MAX_DEPTH = 30

Path = tuple[str | int, ...]

#: Edits some data in place, given a function that turns values into such data.
_Change = Callable[[Any, Callable[[Any], Any]], object]

_TAG = "tag:yaml.org,2002:"
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_COMMENT = re.compile(r"([ \t]*)(#[^\n]*)")
#: What ruamel.yaml raises for a file that is too clever for it, besides its own.
_STUMBLES = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
#: Stands for an agent that is being removed.
_GONE = "b7c9d1-removed"


def set_values(text: str, path: Path, values: Mapping[str, object]) -> str:
    """Return `text` with `values` set in the mapping at `path` (keys and list positions).

    A key of `values` may be dotted (`review.max_rounds`). A value is None, a bool, a number, text
    or a list of those; or a mapping, which is set key by key. Mappings missing on the way are made.
    Raises `ConfigError` when the text is not YAML, `OrchestratorError` when it cannot be edited
    without changing something else.
    """
    for key, value in values.items():
        spot = (*path, *key.split("."))
        if isinstance(value, Mapping) and value:
            text = set_values(text, spot, value)
        else:
            text = _set(text, spot, value)
    return text


def set_agent(text: str, name: str, values: Mapping[str, object]) -> str:
    """Return `text` with `values` set in that agent's entry, as `set_values`; or `NotFound`."""
    return set_values(text, ("agents", _Source(text).position(name)), values)


def set_limits(text: str, values: Mapping[str, object]) -> str:
    """Return `text` with `values` set in `queue_limits`, as `set_values`."""
    return set_values(text, ("queue_limits",), values)


def set_paused(text: str, value: bool) -> str:
    """Return `text` with the top level's `paused` set, as `set_values`."""
    return set_values(text, (), {"paused": value})


def add_agent(text: str, name: str, role: str, values: Mapping[str, object]) -> str:
    """Return `text` with an agent at the end of `agents`; raises as `set_values`, and for a name
    that is taken.
    """
    source = _Source(text)
    if name in source.names():
        hint = f"change it with: orchestrator agent set {name} key=value"
        raise OrchestratorError(f"there is an agent {name!r} already", hint, code="agent_exists")

    def change(data: Any, made: Any) -> None:
        entry = made({"name": name, "role": role, **values})
        if data.get("agents"):
            data["agents"].append(entry)
        else:
            data["agents"] = [entry]

    return source.edited(change, f"cannot add an agent: {FILE} has no list of agents")


def remove_agent(text: str, name: str) -> str:
    """Return `text` without that agent's entry, and without the comments that are its own; or raise
    `NotFound`.

    Its own are those inside the entry, and those right above unless it is the first, where they may
    speak of the whole list.
    """
    source = _Source(text)
    index, agents = source.position(name), source.agents()
    if agents.flow_style:
        return source.edited(lambda data, _: data["agents"].pop(index), "")

    def change(data: Any, made: Any) -> None:
        data["agents"][index] = made(_GONE)

    text = source.edited(change, "")
    return text if len(agents.value) > 1 else set_values(text, (), {"agents": []})


def parse_assignment(text: str) -> tuple[str, object]:
    """Read `key=value` from a command line; the value as YAML has it: `20`, `true`, `null`, text.

    What stands in quotes is text, `[a, b]` is a list. Raises `UsageError` without a `=` or a key.
    """
    import yaml

    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise UsageError(f"expected key=value, found {text!r}", "for example: max_turns=20")
    if value[:1] in ("'", '"', "["):
        try:
            found = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            return key, value  # Not YAML but a command, say: [ -f x ] && make
        items = found if isinstance(found, list) else [found]
        plain = all(item is None or isinstance(item, bool | int | float | str) for item in items)
        return key, found if plain else value
    resolver: Any = yaml.SafeLoader("")
    tag = resolver.resolve(yaml.ScalarNode, value, (True, False))
    if tag in (_TAG + "null", _TAG + "bool"):
        return key, yaml.safe_load(value)
    if len(value) <= 40 and _NUMBER.fullmatch(value) and math.isfinite(float(value)):
        return key, int(value) if value.lstrip("+-").isdigit() else float(value)
    return key, value


def _set(text: str, spot: Path, value: object) -> str:
    def change(data: Any, made: Any) -> None:
        for step in spot[:-1]:
            if isinstance(step, str) and data.get(step) is None:
                _put(data, step, made({}))
            data = data[step]
        _put(data, spot[-1], made(value))

    what = ".".join(map(str, spot))
    return _Source(text).edited(change, f"cannot set {what}: it would not stand in a mapping")


def _put(mapping: Any, key: Any, value: Any) -> None:
    """Set a key; a new one goes last, or before `agents`."""
    if key not in mapping and "agents" in list(mapping)[1:] and hasattr(mapping, "insert"):
        mapping.insert(list(mapping).index("agents"), key, value)
    else:
        mapping[key] = value


class _Source:
    """A text, what it says (`data`), and where."""

    def __init__(self, text: str) -> None:
        import yaml

        self.original = text
        self.newline = "\r\n" if 0 < text.count("\n") == text.count("\r\n") else "\n"
        self.text = text.removeprefix("\ufeff").replace(self.newline, "\n")
        self.lines = self.text.split("\n")
        self.starts = [0, *itertools.accumulate(len(line) + 1 for line in self.lines)]
        try:
            self.root: Any = yaml.compose(self.text, Loader=yaml.SafeLoader)
            events: list[Any] = list(yaml.parse(self.text, Loader=yaml.SafeLoader))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            why = getattr(error, "problem", None) or "cannot be read"
            raise ConfigError([f"{FILE}:{line}: not YAML: {why}"], "correct this line") from error
        self.data = None if self.root is None else _data(self.root, itertools.count())
        #: Where scalars, aliases and collections begin and end; those in block style only begin.
        self.spans: list[tuple[int, int]] = []
        flows = []
        for event in events:
            if hasattr(event, "flow_style"):
                flows.append(event.flow_style)
            ends = isinstance(event, yaml.CollectionEndEvent)
            if flows.pop() if ends else isinstance(event, yaml.NodeEvent):
                start, end = event.start_mark.index, event.end_mark.index
                self.spans.append((start, start + len(self.text[start:end].rstrip())))
        self.marked = [e.explicit for e in events if hasattr(e, "explicit")]
        self.rows = [(self.row(start), self.row(end)) for start, end in self.spans]
        limits = [0, *itertools.chain(*self.spans), len(self.text)]
        gaps = zip(limits[::2], limits[1::2], strict=True)
        found = (each for gap in gaps for each in _COMMENT.finditer(self.text, *gap))
        #: The comments with the blanks before them, by line.
        self.comments = {self.row(each.end()): each for each in found}
        self.words = Counter(each[2].rstrip() for each in self.comments.values())

    def row(self, index: int) -> int:
        return bisect_right(self.starts, index) - 1

    def agents(self) -> Any:
        """Return the node of the agents, if there is one."""
        pairs = self.root.value if isinstance(self.data, dict) else []
        return next((value for key, value in pairs if key.value == "agents"), None)

    def names(self) -> list[str | None]:
        """Return the agents' names by position, None for an entry without."""
        found = self.data.get("agents") if isinstance(self.data, dict) else None
        entries = found if isinstance(found, list) else []
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
        return [name[1] if isinstance(name, tuple) else None for name in names]

    def position(self, name: str) -> int:
        names = self.names()
        if name not in names:
            raise NotFound("agent", name, [each for each in names if each])
        return names.index(name)

    def edited(self, change: _Change, misplaced: str) -> str:
        """Return the text with a change; refused with `misplaced` where that does not fit in."""
        from ruamel.yaml.error import YAMLError

        meant = {} if self.data is None else copy.deepcopy(self.data)
        try:
            change(meant, _plain)
        except (AttributeError, LookupError, TypeError):
            raise OrchestratorError(misplaced) from None
        if meant == self.data:
            return self.original
        if _plain(_GONE) in (meant.get("agents") or []):
            meant["agents"] = [each for each in meant["agents"] if each != _plain(_GONE)] or None
        for step in _steps(self.bare()):
            try:
                text, gone = self._merged(*_dumped(self, change, step))
                found = _Source(text)
                lost = self.words - found.words
            except (ConfigError, YAMLError, *_STUMBLES):
                continue
            if found.data == meant and all(word in gone for word in lost):
                bom = self.original[: self.original.startswith("\ufeff")]
                return bom + text.replace("\n", self.newline)
        hint = f"edit {FILE} by hand: an anchor or an unusual layout is in the way"
        raise OrchestratorError("cannot change this and nothing else", hint, code="edit_refused")

    def bare(self) -> str:
        """Return the text without comments and without blank lines."""
        inner = {row for first, last in self.rows for row in range(first + 1, last + 1)}
        lines = [
            line[: -len(self.comments[row][0])] if row in self.comments else line
            for row, line in enumerate(self.lines)
        ]
        kept = [line for row, line in enumerate(lines) if row in inner or line.strip()]
        return "\n".join(kept) + "\n"

    def _merged(self, old: list[str], new: list[str]) -> tuple[str, str]:
        """Return the text with what makes `new` differ from `old`, a dump of the text; and what was
        taken out.
        """
        lines, dump = self.lines, _Source("\n".join(old))
        if len(dump.rows) != len(self.rows):
            raise ValueError("ruamel made another structure")
        head = _same(old, new)
        tail = _same(old[head:][::-1], new[head:][::-1])
        fresh = new[head : len(new) - tail]
        before = sum(first < head for first, _ in dump.rows)
        until = sum(first < len(old) - tail for first, _ in dump.rows)
        start = end = max((last + 1 for _, last in self.rows[:before]), default=0)
        if before < until:
            start = self.rows[before][0]
            end = 1 + max(last for _, last in self.rows[before:until])
        elif not before:
            start = end = len(lines) - (not lines[-1])
        if any(_GONE in line for line in fresh):
            return self._cut(start, end)
        if start == end and fresh[0].lstrip().startswith("-"):
            while end in self.comments and _column(lines[end]) > _column(fresh[0]):
                start = end = end + 1
            if self._blank_above_last():
                fresh.insert(0, "")
        notes = [self.comments[row] for row in range(start, end) if row in self.comments]
        if start < end and start in self.comments:  # It stays in its column.
            blanks, word = notes.pop(0).groups()
            width = len(lines[start]) - len(word) - len(fresh[0])
            fresh[0] += " " * max(width, 2) + word if len(blanks) > 1 else blanks + word
        fresh = [*(" " * _column(fresh[0]) + note[2] for note in notes), *fresh]
        return "\n".join([*lines[:start], *fresh, *lines[end:]]), ""

    def _blank_above_last(self) -> bool:
        """Whether a blank line stands above the last of several agents."""
        agents = self.agents()
        rows = agents.value[-1].start_mark.line if agents and len(agents.value) > 1 else 0
        return bool(re.search(r"\n[ \t]*(\n *#.*)*\Z", "\n".join(self.lines[:rows])))

    def _cut(self, start: int, end: int) -> tuple[str, str]:
        """Return the text without an agent's lines and its own comments, and what was taken out."""
        lines, column = self.lines, _column(self.lines[start])
        first = start == self.agents().start_mark.line
        while end in self.comments and _column(lines[end]) > column:
            end += 1
        while not first and lines[start - 1].startswith(" " * column + "#"):
            start -= 1
        gone = "\n".join(lines[start:end])
        if not lines[start - 1].strip():  # Of the blank lines around it, one side goes too.
            while end < len(lines) and not lines[end].strip():
                end += 1
        while end == len(lines) and not lines[start - 1].strip():
            start -= 1
        left = [*lines[:start], *lines[end:]]
        return "\n".join([*left, ""] if end == len(lines) and not lines[-1] else left), gone


def _data(node: Any, counter: Iterator[int], depth: int = 0) -> Any:
    """Return a node of PyYAML as dicts, lists and (tag, text) pairs, aliases written out."""
    if next(counter) >= MAX_NODES or depth > MAX_DEPTH:
        raise ConfigError([f"{FILE}:{node.start_mark.line + 1}: too large or too deep"])
    if node.id == "mapping":
        return {str(key.value): _data(each, counter, depth + 1) for key, each in node.value}
    if node.id == "sequence":
        return [_data(each, counter, depth + 1) for each in node.value]
    return None if node.tag == _TAG + "null" else (node.tag, node.value)


def _plain(value: Any) -> Any:
    """Return a value as `_Source.data` has it."""
    import yaml

    return _data(yaml.representer.SafeRepresenter().represent_data(value), itertools.count())


def _column(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _same(one: list[str], other: list[str]) -> int:
    """Return how many lines the two have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _steps(text: str) -> list[int]:
    """Return by how many spaces mappings are indented in others, the likeliest first."""
    found = re.findall(r"(?m)^( *)(- *)?[\w-]+:[^\n]*\n(?=( +)[\w-]+:)", text)
    steps = [len(inner) - len(outer) - len(dash) for outer, dash, inner in found]
    return list(dict.fromkeys([step for step in steps if step > 1] + [2]))


def _dumped(source: _Source, change: _Change, step: int) -> list[list[str]]:
    """Return the lines that ruamel makes of a text: as it is, and with a change."""
    import yaml
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.representer import RoundTripRepresenter
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

    def made(value: Any) -> Any:
        if isinstance(value, Mapping):
            return CommentedMap((made(key), made(each)) for key, each in value.items())
        if isinstance(value, list | tuple):
            items = CommentedSeq(map(made, value))
            items.fa.set_flow_style()
            return items
        if isinstance(value, str):
            dumped = yaml.safe_dump([value], allow_unicode=True, width=math.inf)
            if dumped[2] in "'\"":
                one_line = dumped[2] == "'" and dumped.count("\n") == 1
                return (SingleQuotedScalarString if one_line else DoubleQuotedScalarString)(value)
        return value

    def older(representer: Any, value: Any) -> Any:
        node = plain.represent_data(value)
        return representer.represent_scalar(node.tag, node.value)

    class Representer(RoundTripRepresenter):
        """Writes what PyYAML, which has an older YAML, reads as the same."""

    plain: Any = yaml.representer.SafeRepresenter()
    Representer.add_representer(type(None), older)
    Representer.add_representer(float, older)
    text, texts = source.bare(), []
    found = re.search(r"(?m)^agents:[^\n]*\n( *)(- *)", text)
    found = found or re.search(r"(?m)^[\w-]+:[^\n]*\n( *)(- +)", text)
    offset, dash = map(len, found.groups()) if found else (2, 2)
    editor = YAML()
    editor.Representer = Representer
    editor.preserve_quotes = editor.allow_duplicate_keys = True
    editor.brace_single_entry_mapping_in_flow_sequence = True
    editor.width = 10**9
    editor.explicit_start, editor.explicit_end = source.marked or (False, False)
    editor.indent(mapping=step, sequence=offset + dash, offset=offset)
    for edit in (lambda *_: None, change):
        data, stream = editor.load(text), io.StringIO()
        if data is None:
            data = CommentedMap()
        edit(data, made)
        if data or source.data is not None:
            editor.dump(data, stream)
        texts.append(stream.getvalue().split("\n")[:-1])
    return texts
