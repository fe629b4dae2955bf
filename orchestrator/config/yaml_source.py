"""The text of `agents.yaml` for edits: the position of each node, and the splices.

PyYAML's marks give the positions. A scalar or a flow collection is replaced in place, a key or an
agent is added on its own lines, an agent is removed with its lines. Every other byte is kept.
Changes of any other layout are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from orchestrator.config.keys import FILE
from orchestrator.model.annotations import Any
from orchestrator.model.errors import ConfigError, NotFound, OrchestratorError
from orchestrator.text.yaml_nodes import Node, Reading, is_null

#: Keys and list positions, from the top.
Path = tuple[str | int, ...]


class Source:
    """A text, its values (`data`), and its edits. `checked` must confirm each edit."""

    def __init__(self, text: str) -> None:
        self.bom = text[: text.startswith("\ufeff")]
        self.newline = "\r\n" if 0 < text.count("\n") == text.count("\r\n") else "\n"
        self.text = text.removeprefix("\ufeff").replace(self.newline, "\n")
        reading = Reading(FILE, "correct this line")
        self.root: Any = reading.compose(self.text)
        self.data: Any = None if self.root is None else _data(reading, self.root)

    def checked(self, text: str, meant: object) -> str:
        """Return an edited text in its final form. Raises unless its values equal `meant`."""
        try:
            if Source(text).data == meant:
                return self.bom + text.replace("\n", self.newline)
        except ConfigError as error:
            raise _refused() from error
        raise _refused()

    def names(self) -> list[str | None]:
        """Return the agents' names by position; None for an entry without a name."""
        found = self.data.get("agents") if isinstance(self.data, dict) else None
        names = [each.get("name") if isinstance(each, dict) else None for each in found or ()]
        return [name[1] if isinstance(name, tuple) else None for name in names]

    def position(self, name: str) -> int:
        """Return an agent's position. Raises NotFound."""
        names = self.names()
        if name not in names:
            raise NotFound("agent", name, [each for each in names if each])
        return names.index(name)

    # --- edits ---

    def put(self, node: Node | None, spot: Path, value: object) -> str:
        """Return the text with a value at `spot`, a path below a node."""
        if node is None or (is_null(node) and node is self.root):
            return _added(self.text, len(self.text.rstrip("\n")), _pair(spot, value))
        if is_null(node) and spot:
            return self._replace(node, f"{{{_pair(spot, value)}}}")
        if not spot:
            if _is_block(node):
                raise _refused()
            return self._replace(node, _rendered(value, getattr(node, "style", None)))
        if isinstance(spot[0], int):
            return self.put(node.value[spot[0]], spot[1:], value)
        found = [each for key, each in node.value if key.value == spot[0]]
        if found:
            return self.put(found[-1], spot[1:], value)
        if node.flow_style:
            return self._append(node, _pair(spot, value))
        first = node.value[0][0]
        start = first.start_mark.index
        indent = " " * (start - self._line(first))
        # The new key goes below the last key with a value of one line: above `agents`.
        for key, each in reversed(node.value):
            if not _is_block(each):
                end = max(key.end_mark.index, self._span(each)[1])  # An alias ends at its anchor.
                return _added(self.text, end, indent + _pair(spot, value))
        return self._splice(start, start, f"{_pair(spot, value)}\n{indent}")

    def add(self, entry: Mapping[str, object]) -> str:
        """Return the text with an entry at the end of `agents`, which is a list."""
        colon, agents = self._agents()
        if agents.flow_style and (agents.value or self.root.flow_style):
            return self._append(agents, _rendered(entry))
        if agents.flow_style:
            text = self._splice(colon, self._span(agents)[1], "")
            return _added(text, colon, _entry("  - ", entry))
        last = len(agents.value) - 1
        above = self.text[: self._line(agents.value[last])]
        apart = last and re.search(r"\n[ \t]*\n( *#[^\n]*\n)*\Z", above)
        new = _entry(self._dash(agents.value[last]), entry)
        return _added(self.text, self._below(agents, last), f"\n{new}" if apart else new)

    def remove(self, index: int) -> str:
        """Return the text without an agent and its comments."""
        colon, agents = self._agents()
        if agents.flow_style:  # With the comma before it, or after the first of several.
            spans = [self._span(each) for each in agents.value]
            start = spans[index - 1][1] if index else spans[0][0]
            end = spans[index][1] if index or len(spans) == 1 else spans[1][0]
            return self._splice(start, end, "")
        entry = agents.value[index]
        above, below = self.text[: self._line(entry)], self.text[self._below(agents, index) + 1 :]
        if index:
            column = self._dash(entry).index("-")
            above = re.sub(rf"(?m)(?:^ {{{column}}}#[^\n]*\n)+\Z", "", above)
        if re.search(r"\n[ \t]*\n\Z", above):  # Remove the blank lines on one side.
            below = re.sub(r"\A([ \t]*\n)+", "", below)
        if not below:
            above = re.sub(r"\n([ \t]*\n)+\Z", "\n", above)
            above = above if self.text.endswith("\n") else above[:-1]
        if len(agents.value) == 1:
            above = f"{above[:colon]} []{above[colon:]}"
        return above + below

    def _replace(self, node: Node, new: str) -> str:
        """Return the text with `new` in place of a scalar or flow collection."""
        start, end = self._span(node)
        return self._splice(start, end, " " * self.text.endswith(":", 0, start) + new)

    def _append(self, collection: Node, new: str) -> str:
        """Return the text with one more item in a flow collection."""
        if not collection.value:
            at = collection.start_mark.index + 1
            return self._splice(at, at, new)
        last = collection.value[-1]
        at = self._span(last if collection.id == "sequence" else last[1])[1]
        return self._splice(at, at, f", {new}")

    def _splice(self, start: int, end: int, new: str) -> str:
        """Return the text with one piece replaced; a comment behind it keeps its column."""
        old, rest = self.text[start:end], self.text[end:]
        if "\n" in old and "#" in old:  # This may be a comment, which would be lost.
            raise _refused()
        blanks = re.match(r"[ \t]{2,}(?=#)", rest)
        if blanks:
            width = len(old) + blanks.end() - len(new)
            rest = " " * max(width, 2) + rest[blanks.end() :]
        return self.text[:start] + new + rest

    # --- where a node is ---

    def _agents(self) -> tuple[int, Node]:
        """Return the first offset at which the value of `agents` may begin, and its node."""
        key, agents = [pair for pair in self.root.value if pair[0].value == "agents"][-1]
        return self.text.find(":", key.end_mark.index) + 1, agents

    def _span(self, node: Node) -> tuple[int, int]:
        """Return the offsets at which a scalar or a flow collection begins and ends."""
        start, end = node.start_mark.index, node.end_mark.index
        return start, start + len(self.text[start:end].rstrip())

    def _line(self, node: Node) -> int:
        """Return the offset of the line in which a node begins."""
        return self.text.rfind("\n", 0, node.start_mark.index) + 1

    def _dash(self, entry: Node) -> str:
        """Return the text before an entry of a list in block style: blanks, `-`, blanks."""
        found = self.text[self._line(entry) : entry.start_mark.index]
        if not re.fullmatch(" *- +", found):
            raise _refused()
        return found

    def _below(self, agents: Node, index: int) -> int:
        """Return the offset at which an agent's lines and its deeper indented comments end."""
        later = [each.start_mark for each in agents.value[index + 1 :]] or [agents.end_mark]
        deeper = self._dash(agents.value[index]).index("-") + 1
        lines = re.compile(rf"[^\n]*(?:\s*\n {{{deeper},}}[^\s][^\n]*)*")
        found = lines.match(self.text, self._line(agents.value[index]), later[0].index)
        return found.end() if found else 0


def _is_block(node: Node) -> bool:
    """Whether a node is a mapping or a sequence in block style."""
    return node.id != "scalar" and not node.flow_style


def _refused() -> OrchestratorError:
    hint = f"edit {FILE} by hand: it has an anchor or an unusual layout"
    message = "cannot make this change without changing something else"
    return OrchestratorError(message, hint, code="edit_refused")


def _data(reading: Reading, node: Node, depth: int = 0) -> Any:
    """Return a node of PyYAML as dicts, lists and (tag, text) pairs, with aliases expanded."""
    reading.visit(node, depth)
    if node.id == "mapping":
        return {str(key.value): _data(reading, each, depth + 1) for key, each in node.value}
    if node.id == "sequence":
        return [_data(reading, each, depth + 1) for each in node.value]
    return None if is_null(node) else (node.tag, node.value)


def plain(value: object) -> Any:
    """Return a value in the form of `Source.data`."""
    import yaml

    return _data(Reading(FILE), yaml.representer.SafeRepresenter().represent_data(value))


# --- values as YAML -----------------------------------------------------------------------------


def _rendered(value: object, style: str | None = None) -> str:
    """Return a value as YAML on one line for a flow collection. `style` is the quotes of text."""
    import yaml

    options: Any = {"allow_unicode": True, "sort_keys": False, "width": math.inf}
    wanted = style if isinstance(value, str) and style in ("'", '"') else None
    text = ""
    for quotes in (wanted, '"'):
        dumped = yaml.safe_dump([value], default_flow_style=True, default_style=quotes, **options)
        text = str(dumped).strip()[1:-1]
        if not re.search("[\n\x85\u2028\u2029]", text):
            break
    return text


def _pair(spot: Path, value: object) -> str:
    """Return `key: value`; the keys after the first key nest the value."""
    for key in reversed(spot[1:]):
        value = {key: value}
    return f"{spot[0]}: {_rendered(value)}"


def _entry(dash: str, entry: Mapping[str, object]) -> str:
    """Return an entry of a list in block style."""
    return dash + ("\n" + " " * len(dash)).join(_pair((key,), each) for key, each in entry.items())


def _added(text: str, at: int, lines: str) -> str:
    """Return a text with `lines` added below the line that contains the offset `at`."""
    end = f"{text}\n".find("\n", at)
    return f"{text[:end]}\n{lines}{text[end:]}" if end else f"{lines}\n{text}"
