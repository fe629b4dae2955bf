"""Edits of `agents.yaml` by commands: text in, text out, and only the lines that must change.

ruamel.yaml makes each edit. It ties comments to the entry above them and lays a whole file out
anew, so it is given the lines with content, twice: dumped as they are and dumped with the change.
Only what differs between the two goes into the user's text. Each result is read again and compared
with what was meant; a file too clever for this (an anchor in the way, say) is refused, never bent.
Whether the values make sense is for `config.parse` to say.
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

#: Turns a value into one for the data at hand.
_Make = Callable[[Any], Any]

_TAG = "tag:yaml.org,2002:"
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
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
    return set_values(text, ("agents", _position(_Source(text), name)), values)


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

    def change(data: Any, made: _Make) -> None:
        entry = made({"name": name, "role": role, **values})
        if data.get("agents"):
            data["agents"].append(entry)
        else:
            data["agents"] = [entry]

    return source.edited(change, f"cannot add an agent: {FILE} has no list of agents", added=True)


def remove_agent(text: str, name: str) -> str:
    """Return `text` without that agent's entry, and without the comments that are its own; or raise
    `NotFound`.

    Its own are those inside the entry, and those right above unless it is the first, where they may
    speak of the whole list.
    """
    source = _Source(text)
    index = _position(source, name)
    agents = source.agents
    if agents.flow_style:
        return source.edited(lambda data, _: data["agents"].pop(index), "")
    only = len(agents.value) == 1

    def change(data: Any, made: _Make) -> None:
        if made is not _plain:
            data["agents"][index] = _GONE
        elif only:
            data["agents"] = None
        else:
            del data["agents"][index]

    text = source.edited(change, "", removed=index)
    return set_values(text, (), {"agents": []}) if only else text


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
    def change(data: Any, made: _Make) -> None:
        *way, key = spot
        for step in way:
            if isinstance(step, str) and data.get(step) is None:
                _put(data, step, made({}))
            data = data[step]
        _put(data, key, made(value))

    what = ".".join(map(str, spot))
    return _Source(text).edited(change, f"cannot set {what}: it would not stand in a mapping")


def _put(mapping: Any, key: Any, value: Any) -> None:
    """Set a key: a new one goes last, or before `agents`; text stays quoted the way it was."""
    if key not in mapping and "agents" in list(mapping)[1:] and hasattr(mapping, "insert"):
        mapping.insert(list(mapping).index("agents"), key, value)
        return
    old = mapping[key] if key in mapping else None
    if type(value) is str and type(old).__name__.endswith("QuotedScalarString"):
        value = type(old)(value)
    mapping[key] = value


def _plain(value: Any) -> Any:
    """Return a value as `_Source.data` has it."""
    import yaml

    return _data(yaml.representer.SafeRepresenter().represent_data(value), itertools.count(), 0)


def _data(node: Any, counter: Iterator[int], depth: int) -> Any:
    """Return a node of PyYAML as dicts, lists and (tag, text) pairs, aliases written out."""
    if next(counter) >= MAX_NODES or depth > MAX_DEPTH:
        raise ConfigError([f"{FILE}:{node.start_mark.line + 1}: too large or too deep"])
    if node.id == "mapping":
        return {str(key.value): _data(each, counter, depth + 1) for key, each in node.value}
    if node.id == "sequence":
        return [_data(each, counter, depth + 1) for each in node.value]
    return None if node.tag == _TAG + "null" else (node.tag, node.value)


def _position(source: _Source, name: str) -> int:
    names = source.names()
    if name not in names:
        raise NotFound("agent", name, [each for each in names if each])
    return names.index(name)


def _is_note(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


class _Source:
    """A text, what it says (`data`), and where."""

    def __init__(self, text: str) -> None:
        import yaml

        self.bom = text[: text.startswith("\ufeff")]
        self.crlf = 0 < text.count("\n") == text.count("\r\n")
        self.original = text
        self.text = text[len(self.bom) :]
        if self.crlf:
            self.text = self.text.replace("\r\n", "\n")
        try:
            self.root: Any = yaml.compose(self.text, Loader=yaml.SafeLoader)
            self.spans, self.marked = _spans(self.text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            why = getattr(error, "problem", None) or "cannot be read"
            raise ConfigError([f"{FILE}:{line}: not YAML: {why}"], "correct this line") from error
        self.data = None if self.root is None else _data(self.root, itertools.count(), 0)
        self.lines = self.text.split("\n")
        at = [0, *itertools.accumulate(len(line) + 1 for line in self.lines)]
        #: The first and the last line of each of `spans`.
        self.rows = [tuple(bisect_right(at, i) - 1 for i in span) for span in self.spans]

    @property
    def agents(self) -> Any:
        """The node of the agents, if there is one."""
        pairs = self.root.value if isinstance(self.data, dict) else []
        return next((value for key, value in pairs if key.value == "agents"), None)

    def names(self) -> list[str | None]:
        """Return the agents' names by position, None for an entry without."""
        found = self.data.get("agents") if isinstance(self.data, dict) else None
        entries = found if isinstance(found, list) else []
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
        return [name[1] if isinstance(name, tuple) else None for name in names]

    def comments(self) -> Counter[str]:
        ends = [0, *(end for _, end in self.spans)]
        starts = [*(start for start, _ in self.spans), len(self.text)]
        gaps = (self.text[end:start] for end, start in zip(ends, starts, strict=True))
        return Counter(found.strip() for gap in gaps for found in re.findall("#[^\n]*", gap))

    def edited(
        self,
        change: Callable[[Any, _Make], object],
        misplaced: str,
        *,
        added: bool = False,
        removed: int | None = None,
    ) -> str:
        """Return the text with a change, which is done to what is meant and to what ruamel has."""
        meant = {} if self.data is None else copy.deepcopy(self.data)
        try:
            change(meant, _plain)
        except (AttributeError, LookupError, TypeError):
            raise OrchestratorError(misplaced) from None
        if meant == self.data:
            return self.original
        try:
            text, gone = self._merged(change, added, removed)
            found = _Source(text)
            lost = self.comments() - found.comments()
            good = found.data == meant and all(comment in gone for comment in lost)
        except Exception:  # Whatever ruamel stumbles over.
            good = False
        if not good:
            hint = f"edit {FILE} by hand: an anchor or an unusual layout is in the way"
            raise OrchestratorError(
                "cannot change this and nothing else", hint, code="edit_refused"
            )
        if self.crlf:
            text = text.replace("\n", "\r\n")
        return self.bom + text

    def _merged(
        self, change: Callable[[Any, _Make], object], added: bool, removed: int | None
    ) -> tuple[str, str]:
        """Return the text with what ruamel makes of a change, and what was taken out."""
        lines, inner = list(self.lines), set[int]()
        for first, last in self.rows:
            inner.update(range(first + 1, last + 1))
        bare = [line for i, line in enumerate(lines) if i in inner or not _is_note(line)]
        old, new = _dumped(self, "\n".join(bare) + "\n", change)
        head = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, new)))
        rest = zip(reversed(old[head:]), reversed(new[head:]))
        tail = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], rest))
        fresh = new[head : len(new) - tail]
        spans = _Source("\n".join(old)).rows
        if len(spans) != len(self.rows):
            raise ValueError("another structure")
        before = sum(first < head for first, _ in spans)
        until = sum(first < len(old) - tail for first, _ in spans)
        if before < until:
            start = self.rows[before][0]
            end = 1 + max(last for _, last in self.rows[before:until])
        elif before:
            start = end = 1 + max(last for _, last in self.rows[:before])
        else:
            start = end = len(lines) - (not lines[-1])
        notes = [i for i in range(start, end) if i not in inner and _is_note(lines[i])]
        if removed is not None:
            if fresh != [line for line in fresh if _GONE in line] or len(fresh) != 1:
                raise ValueError("more than one agent")
            return self._cut(start, end, removed > 0)
        if added and before == until:
            while end < len(lines) and _is_comment(lines[end]) > _indent(fresh[0]):
                start = end = end + 1
            if self._apart():
                fresh.insert(0, "")
        fresh += [lines[i] for i in notes if lines[i].strip()]
        return "\n".join([*lines[:start], *fresh, *lines[end:]]), ""

    def _apart(self) -> bool:
        """Whether a blank line stands above the last of several agents."""
        if self.agents is None or len(self.agents.value) < 2:
            return False
        row = self.agents.value[-1].start_mark.line
        above = itertools.takewhile(_is_note, reversed(self.lines[:row]))
        return not all(line.strip() for line in above)

    def _cut(self, start: int, end: int, with_above: bool) -> tuple[str, str]:
        """Return the text without an agent's lines and its own comments, and what was cut."""
        lines, column = self.lines, _indent(self.lines[start])
        while end < len(lines) and _is_comment(lines[end]) > column:
            end += 1
        while with_above and _is_comment(lines[start - 1]) == column:
            start -= 1
        gone = lines[start:end]
        if start and not lines[start - 1].strip():
            while end < len(lines) and not lines[end].strip():
                end += 1
        if end == len(lines):
            while start and not lines[start - 1].strip():
                start -= 1
            return "\n".join([*lines[:start], *lines[-1:][: not lines[-1]]]), "\n".join(gone)
        return "\n".join(lines[:start] + lines[end:]), "\n".join(gone)


def _is_comment(line: str) -> int:
    """Return where the comment of a line without content begins, or -1."""
    return _indent(line) if line.lstrip(" ").startswith("#") else -1


def _spans(text: str) -> tuple[list[tuple[int, int]], tuple[bool, bool]]:
    """Return where each scalar, alias and collection begins and ends (one in block style: where it
    begins), and whether the document's start and end are marked.
    """
    import yaml

    found, marked = [], [False, False]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.DocumentStartEvent | yaml.DocumentEndEvent):
            marked[isinstance(event, yaml.DocumentEndEvent)] = bool(event.explicit)
        elif isinstance(event, yaml.NodeEvent) or (
            isinstance(event, yaml.CollectionEndEvent) and end > start
        ):
            found.append((start, start + len(text[start:end].rstrip())))
    return found, (marked[0], marked[1])


def _dumped(source: _Source, text: str, change: Callable[[Any, _Make], object]) -> list[list[str]]:
    """Return the lines that ruamel makes of a text: as it is, and with a change."""
    import yaml
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.representer import RoundTripRepresenter
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, SingleQuotedScalarString

    class Representer(RoundTripRepresenter):
        """Writes what PyYAML, an older YAML, reads as the same."""

        def older(self, value: Any) -> Any:
            node = yaml.representer.SafeRepresenter().represent_data(value)
            return self.represent_scalar(node.tag, node.value)

    Representer.add_representer(type(None), Representer.older)
    Representer.add_representer(float, Representer.older)

    def made(value: Any) -> Any:
        if isinstance(value, Mapping):
            return CommentedMap((made(key), made(each)) for key, each in value.items())
        if isinstance(value, list | tuple):
            items = CommentedSeq(map(made, value))
            items.fa.set_flow_style()
            return items
        if isinstance(value, str):
            if re.search("[\n\r\x85\u2028\u2029]", value):
                return DoubleQuotedScalarString(value)
            if _plain(value) != (
                yaml.SafeLoader("").resolve(yaml.ScalarNode, value, (True, False)),
                value,
            ):
                return SingleQuotedScalarString(value)
        return value

    editor = YAML()
    editor.Representer = Representer
    editor.preserve_quotes = editor.allow_duplicate_keys = True
    editor.width = 10**9
    editor.explicit_start, editor.explicit_end = source.marked
    found = re.search(r"(?m)^[\w-]+:[^\n]*\n(  +)[\w-]+:", text)
    step = len(found[1]) if found else 2
    found = re.search(r"(?m)^agents:[^\n]*\n( *)(- *)", text) or re.search(
        r"(?m)^[\w-]+:[^\n]*\n( *)(- +)", text
    )
    offset, gap = (len(found[1]), len(found[2])) if found else (2, 2)
    editor.indent(mapping=step, sequence=offset + gap, offset=offset)
    texts = []
    for edit in (lambda *_: None, change):
        data = editor.load(text)
        stream = io.StringIO()
        if data is None:
            data = CommentedMap()
        edit(data, made)
        if data or source.data is not None:
            editor.dump(data, stream)
        texts.append(stream.getvalue().splitlines())
    return texts
