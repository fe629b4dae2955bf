"""Edits of `agents.yaml` by commands: text in, text out, and only the lines that must change.

The text is never dumped again: each edit is spliced in at the positions of the YAML nodes, so that
comments, order, quoting, indentation and line ends stay the user's, byte for byte. Each result is
read again and compared with what was meant; a file too clever for this (an anchor in the way, say)
is refused, never bent. Whether the values make sense is for `config.parse` to say.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import ConfigError, NotFound, OrchestratorError, UsageError

FILE = ".orchestrator/agents.yaml"
MAX_NODES = 50_000
MAX_DEPTH = 30

#: A node of PyYAML: `id` (scalar, sequence or mapping), `value`, `start_mark`, `end_mark`.
Node = Any
Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


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
    """Return `text` with an agent at the end of `agents`, laid out as the one before it.

    Raises as `set_values` does, and for a name that is taken.
    """
    source = _Source(text)
    if name in source.agents():
        hint = f"change it with: orchestrator agent set {name} key=value"
        raise OrchestratorError(f"there is an agent {name!r} already", hint, code="agent_exists")
    entry = {"name": name, "role": role, **values}
    meant = {} if source.data is None else source.data
    if not isinstance(meant, dict) or not isinstance(meant.get("agents"), list | None):
        raise OrchestratorError(f"cannot add an agent: {FILE} has no list of agents")
    meant["agents"] = [*(meant.get("agents") or []), _data(entry)]
    if source.root is None or source.child(source.root, "agents") is None:
        source = _Source(_insert(source, source.root, "agents", []))
    agents = source.child(source.root, "agents")
    append = _append if agents.id == "sequence" and agents.value else _fill
    return _verified(append(source, agents, entry), meant, f"agents, {name}")


def remove_agent(text: str, name: str) -> str:
    """Return `text` without that agent's entry, and without the comments that are its own; or raise
    `NotFound`.

    Its own are those inside the entry, and those right above unless it is the first, where they may
    speak of the whole list.
    """
    source = _Source(text)
    index = _position(source, name)
    meant: Any = source.data
    del meant["agents"][index]
    agents = source.child(source.root, "agents")
    return _verified(_cut(source, agents, index), meant, f"agents, {name}")


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


# --- reading: nodes, and where in the text their content ends -----------------------------------


class _Source:
    """A text with its nodes, its data for comparing, and the places of its tokens."""

    def __init__(self, text: str) -> None:
        import yaml

        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"
        try:
            self.root: Node = yaml.compose(text, Loader=yaml.SafeLoader)
            tokens: list[Any] = [
                t for t in yaml.scan(text, Loader=yaml.SafeLoader) if _has_content(t)
            ]
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            why = getattr(error, "problem", None) or "cannot be read"
            raise ConfigError([f"{FILE}:{line}: not YAML: {why}"], "correct this line") from error
        self.starts = [token.start_mark.index for token in tokens]
        self.tokens = tokens
        self.budget = MAX_NODES
        self.data = None if self.root is None else self.plain(self.root)
        indent = re.search(r"(?m)^[\w-]+:[^\n]*\n(  +)[\w-]+:", text)
        #: By how many spaces the file indents one mapping in another.
        self.step = len(indent[1]) if indent else 2

    def plain(self, node: Node, depth: int = 0) -> Any:
        """Return a node as dicts, lists and (tag, text) pairs, aliases written out."""
        self.budget -= 1
        if self.budget < 0 or depth > MAX_DEPTH:
            raise ConfigError([f"{FILE}:{node.start_mark.line + 1}: too large or too deep"])
        if node.id == "mapping":
            return {str(key.value): self.plain(value, depth + 1) for key, value in node.value}
        if node.id == "sequence":
            return [self.plain(item, depth + 1) for item in node.value]
        return None if node.tag == _TAG + "null" else (node.tag, node.value)

    def agents(self) -> list[str | None]:
        """Return the agents' names by position, None for an entry without."""
        found = self.data.get("agents") if isinstance(self.data, dict) else None
        entries = found if isinstance(found, list) else []
        names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
        return [name[1] if isinstance(name, tuple) else None for name in names]

    def child(self, node: Node, step: str | int) -> Node:
        if isinstance(step, int):
            return node.value[step]
        return next((value for key, value in node.value if key.value == step), None)

    def content_end(self, limit: int) -> int:
        """Return where the last token that begins before `limit` ends, comments not counted."""
        token = self.tokens[bisect_left(self.starts, limit) - 1]
        span = self.text[token.start_mark.index : token.end_mark.index]
        return int(token.start_mark.index) + len(span.rstrip())

    def entry(self, mapping: Node, key: str) -> tuple[int, int]:
        """Return where an entry's `:` ends, and where its content does."""
        keys = [each for each, _ in mapping.value]
        index = next(i for i, each in enumerate(keys) if each.value == key)
        after = [each.start_mark.index for each in keys[index + 1 : index + 2]]
        colon = self.text.index(":", keys[index].end_mark.index) + 1
        return colon, self.content_end(after[0] if after else _inner_end(mapping))

    def items(self, sequence: Node) -> list[tuple[int, int]]:
        """Return where each item's dash (in flow style: it itself) is, and its content's end."""
        first, last = sequence.start_mark.index, _inner_end(sequence)
        if sequence.flow_style:
            starts = [item.start_mark.index for item in sequence.value]
        else:
            inside = [t for t in self.tokens if first <= t.start_mark.index < last]
            dashes = [t.start_mark for t in inside if t.id == "-"]
            starts = [mark.index for mark in dashes if mark.column == dashes[0].column]
        limits = [*starts[1:], last]
        return [(start, self.content_end(end)) for start, end in zip(starts, limits, strict=True)]

    def line_end(self, at: int) -> int:
        found = re.compile(r"\r?\n|\Z").search(self.text, at)
        return found.start() if found else len(self.text)

    def column(self, at: int) -> int:
        return at - (self.text.rfind("\n", 0, at) + 1)

    def past_comments(self, at: int, column: int) -> int:
        """Return the end of the line at `at`, or of the comments below it deeper than `column`."""
        deeper = re.compile(rf"(\r?\n[ ]{{{column + 1},}}#[^\r\n]*)+")
        found = deeper.match(self.text, self.line_end(at))
        return found.end() if found else self.line_end(at)


def _has_content(token: Any) -> bool:
    return bool(token.end_mark.index > token.start_mark.index and token.id != ",")


def _inner_end(node: Node) -> int:
    return int(node.end_mark.index) - (1 if node.flow_style else 0)


def _position(source: _Source, name: str) -> int:
    names = source.agents()
    if name not in names:
        raise NotFound("agent", name, [each for each in names if each])
    return names.index(name)


# --- writing ------------------------------------------------------------------------------------


def _flow(value: object, style: str | None = None) -> str:
    """Return a value as YAML on one line, fit for any place; `style` quotes text that way."""
    import yaml

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    quote = style if isinstance(value, str) else None
    if isinstance(value, str) and re.search("[\n\r\x85\u2028\u2029]", value):
        quote = '"'  # Only there are line ends kept as they are, and on one line.
    dumped = yaml.safe_dump(
        [value], default_flow_style=True, default_style=quote, width=math.inf, allow_unicode=True
    )
    return str(dumped)[1:-2]


def _lines(values: Mapping[str, object], pad: str, step: int = 2) -> list[str]:
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found += [f"{pad}{_flow(key)}:", *_lines(value, pad + " " * step, step)]
        else:
            found.append(f"{pad}{_flow(key)}: {_flow(value)}")
    return found


def _data(value: object) -> Any:
    return _Source(_flow(value)).data


def _verified(text: str, meant: Any, what: str) -> str:
    try:
        found = _Source(text).data
    except ConfigError:
        found = None
    if found != meant:
        hint = f"edit {FILE} by hand: an anchor or an unusual layout is in the way"
        raise OrchestratorError(f"cannot change {what} and nothing else", hint, code="edit_refused")
    return text


def _set(text: str, spot: Path, value: object) -> str:
    source, rest = _Source(text), list(spot)
    node, what = source.root, _spelt(spot)
    here = meant = {} if source.data is None else source.data
    while len(rest) > 1 and _inside(here, rest[0]) is not None:
        node, here = source.child(node, rest[0]), here[rest.pop(0)]
    key, *inner = map(str, rest)
    if not isinstance(here, dict) or [key, *inner] != rest:
        raise OrchestratorError(f"cannot set {what}: {key} would not stand in a mapping")
    for name in reversed(inner):
        value = {name: value}
    data = _data(value)
    if key in here and here[key] == data:
        return text
    there = key in here
    here[key] = data
    write = _replace if there else _insert
    return _verified(write(source, node, key, value), meant, what)


def _spelt(spot: Path) -> str:
    words = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in spot)
    return "".join(words).removeprefix(".")


def _inside(data: Any, step: Any) -> Any:
    try:
        return data[step] if isinstance(data, dict | list) else None
    except (LookupError, TypeError):
        return None


def _insert(source: _Source, node: Node | None, key: str, value: object) -> str:
    """Return the text with a new key in a mapping: last, but at the top level before `agents`."""
    text, newline = source.text, source.newline
    if node is None or node.id != "mapping":
        joint = "" if not text or text.endswith("\n") else newline
        return text + joint + "".join(line + newline for line in _lines({key: value}, ""))
    if node.flow_style:
        at = source.content_end(_inner_end(node))
        comma = ", " if node.value else ""
        return f"{text[:at]}{comma}{_flow(key)}: {_flow(value)}{text[at:]}"
    names = [each.value for each, _ in node.value]
    limit = _inner_end(node)
    if node is source.root and "agents" in names[1:]:
        limit = node.value[names.index("agents")][0].start_mark.index
    at = source.line_end(source.content_end(limit))
    lines = _lines({key: value}, " " * int(node.value[0][0].start_mark.column), source.step)
    return text[:at] + "".join(newline + line for line in lines) + text[at:]


def _replace(source: _Source, node: Node, key: str, value: object) -> str:
    """Return the text with another value for a key; text stays quoted the way it was."""
    text, old = source.text, source.child(node, key)
    colon, end = source.entry(node, key)
    if old.id != "scalar" and not old.flow_style and old.start_mark.index > colon:
        line_end = source.line_end(colon)
        return f"{text[:colon]} {_flow(value)}{text[colon:line_end]}{text[source.line_end(end) :]}"
    new = _flow(value, old.style if old.id == "scalar" and old.style in ("'", '"') else None)
    start, end = old.start_mark.index, max(colon, end)
    if not colon < start < end:  # Empty, or an alias.
        start, new = colon, " " + new
    blanks = re.compile(r"  +(?=#)").match(text, end)
    if blanks:  # A comment stays in its column.
        width = max(len(blanks[0]) + end - start - len(new), 2)
        return f"{text[:start]}{new}{' ' * width}{text[blanks.end() :]}"
    return text[:start] + new + text[end:]


def _fill(source: _Source, agents: Node, entry: Mapping[str, object]) -> str:
    """Return the text with the first entry of an empty list."""
    if source.root is None or source.root.flow_style:
        return _replace(source, source.root, "agents", [entry])
    colon, end = source.entry(source.root, "agents")
    text = source.text[:colon] + source.text[max(colon, end) :]
    at = _Source(text).line_end(colon)
    return text[:at] + source.newline + _item(source, entry, 2, " ") + text[at:]


def _append(source: _Source, agents: Node, entry: Mapping[str, object]) -> str:
    """Return the text with one more entry in a list, laid out like the last one."""
    text, items, last = source.text, source.items(agents), agents.value[-1]
    start, end = items[-1]
    if agents.flow_style:
        return f"{text[:end]}, {_flow(entry)}{text[end:]}"
    column = source.column(start)
    at = source.past_comments(end, column)
    apart = len(items) > 1 and re.search(r"\n[ \t]*\r?\n", text[items[-2][1] : start])
    joint = source.newline * (2 if apart else 1)
    found = re.compile(r" +").match(text, start + 1)
    gap = found[0] if found else " "
    if last.id == "mapping" and last.flow_style:
        return f"{text[:at]}{joint}{' ' * column}-{gap}{_flow(entry)}{text[at:]}"
    return text[:at] + joint + _item(source, entry, column, gap) + text[at:]


def _item(source: _Source, entry: Mapping[str, object], column: int, gap: str) -> str:
    inner = " " * (column + 1 + len(gap))
    lines = _lines(entry, inner, source.step)
    return source.newline.join([" " * column + "-" + gap + lines[0].lstrip(), *lines[1:]])


def _cut(source: _Source, agents: Node, index: int) -> str:
    """Return the text without one item of a list."""
    text, items = source.text, source.items(agents)
    start, end = items[index]
    if agents.flow_style:
        if len(items) == 1:
            return _replace(source, source.root, "agents", [])
        if index:
            return text[: items[index - 1][1]] + text[end:]
        return text[:start] + text[items[1][0] :]
    column = source.column(start)
    before, after = text[: start - column], text[source.past_comments(end, column) :]
    after = after.removeprefix(source.newline)
    if len(items) == 1:
        colon = source.entry(source.root, "agents")[0]
        before = f"{text[:colon]} []{text[colon : start - column]}"
    if index:
        before = re.sub(rf"(?<=\n)([ ]{{{column}}}#[^\n]*\n)+\Z", "", before)
    if re.search(r"\n[ \t]*\r?\n\Z", before):
        # The item stood between blank lines: one of the two goes with it.
        after = re.sub(r"\A([ \t]*\r?\n)+", "", after)
        if not after:
            before = before.rstrip() + source.newline
    return before + after
