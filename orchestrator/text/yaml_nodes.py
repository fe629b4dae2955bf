"""The one YAML reader: `agents.yaml`, the front matter of role files and tasks, and edits use it.

A text is composed to nodes, never constructed. So every problem has its line, a value can be
checked or spliced in place, and no text can run code, loop or take forever. A `Check` takes a node
and its path. It returns the value, or reports a problem and reading continues, so one pass finds
all problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from orchestrator.model.annotations import Any, NoReturn
from orchestrator.model.errors import ConfigError, did_you_mean

#: A node of PyYAML: `id` (scalar, sequence or mapping), `tag`, `value`, `start_mark`, `style`.
Node = Any

MAX_BYTES = 1 << 20
MAX_DEPTH = 30
#: Nodes looked at. An alias or merge counts each time it is used, so a bomb of aliases ends here.
MAX_NODES = 50_000
MAX_PROBLEMS = 100

TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = {TAG + word for word in ("null", "bool", "int", "float", "str")}
#: Compiled when it is used, which takes longer than the import of most modules.
UNPRINTABLE = "[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
#: Replaces a value that has a problem. A result that contains it is never returned.
BAD: Any = object()


class Reading:
    """One reading of one file: its problems, the line of each key, and its remaining limits.

    `path` is the file's name in problems, `hint` says how to fix them. `names` are the values that
    a check may require, such as the existing roles; None allows any value.
    """

    def __init__(
        self, path: str, hint: str | None = None, names: Collection[str] | None = None
    ) -> None:
        self.path = path
        self.hint = hint
        self.names = names
        self.problems: list[tuple[int, str]] = []
        self.lines: dict[str, int] = {}
        self.visited = 0

    # --- problems ---

    def wrong(self, at: Node | int, where: str, message: str) -> Any:
        """Report a problem at a node or line (0: of the whole file), and a key's path; return BAD.

        Raises ConfigError at the hundredth problem.
        """
        line = at if isinstance(at, int) else line_of(at)
        spot = f"{self.path}:{line}" if line else self.path
        self.problems.append((line, f"{spot}: {where + ': ' if where else ''}{message}"))
        if len(self.problems) == MAX_PROBLEMS:
            self.fail(line, "there may be more; reading ended here")
        return BAD

    def fail(self, at: Node | int, message: str) -> NoReturn:
        """Report a problem after which reading cannot continue. Raises ConfigError."""
        self.wrong(at, "", message)
        raise self.error()

    def expected(self, node: Node, where: str, what: str, hint: str = "") -> Any:
        """Report that a node is not `what`; return BAD."""
        return self.wrong(
            node, where, f"expected {what}, found {shown(node)}{hint and f'; {hint}'}"
        )

    def error(self) -> ConfigError:
        """Return every problem so far, in the order of the lines."""
        found = [text for _, text in sorted(self.problems, key=lambda problem: problem[0])]
        return ConfigError(found, self.hint)

    def check(self) -> None:
        """Raise ConfigError if there is a problem."""
        if self.problems:
            raise self.error()

    # --- from text to nodes ---

    def decode(self, data: bytes, limit: int = MAX_BYTES) -> str:
        """Return a file's text without its byte order mark.

        Raises ConfigError: over `limit` bytes, or not UTF-8.
        """
        if len(data) > limit:
            self.fail(0, f"larger than {limit >> 10} KiB")
        try:
            return data.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            self.fail(data.count(b"\n", 0, error.start) + 1, "not UTF-8 text")

    def front_matter(self, text: str) -> tuple[str, str] | None:
        """Split a text that begins with `---` into its front matter and what is below it.

        The front matter keeps the line numbers of the text. Returns None if the first line is not a
        boundary. Raises ConfigError if no second boundary follows.
        """
        from frontmatter.default_handlers import YAMLHandler

        handler = YAMLHandler()
        opening = handler.FM_BOUNDARY.match(text)
        if opening is None:
            return None
        try:
            block, below = handler.split(text)
        except ValueError:
            self.fail(1, "it begins with `---`, but no second `---` ends the front matter")
        # The boundary includes blank lines.
        return "\n" * text.count("\n", 0, opening.end()) + block, below

    def compose(self, text: str, *, limit: int = MAX_BYTES, aliases: bool = True) -> Node | None:
        """Return the root node of a YAML text, or None for an empty one.

        Without `aliases`, anchors and tags are refused too. Raises ConfigError: not YAML, over
        `limit` characters, deep, a loop, or with a tag that is not a plain scalar's.
        """
        import yaml

        if len(text) > limit:
            self.fail(1, f"larger than {limit >> 10} KiB")
        if odd := re.search(UNPRINTABLE, text):
            self.fail(text.count("\n", 0, odd.start()) + 1, f"a control character, {odd[0]!r}")
        # The C parser is ten times faster, and not in every build of PyYAML.
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            self._refuse(yaml.parse(text, Loader=loader), aliases)
            self.check()
            return yaml.compose(text, Loader=loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            why = error.problem or error.context
            if error.context_mark and error.problem:
                why = f"{error.context} from line {error.context_mark.line + 1}, {why}"
            if re.match(r" *\t", "".join(text.splitlines()[line - 1 : line])):
                why = "a tab cannot indent; use spaces"
            self.fail(line, f"not YAML: {why}")
        except (yaml.YAMLError, ValueError) as error:  # ValueError: chr() in the parser in Python
            self.fail(1, f"not YAML: {error}")

    def _refuse(self, events: Iterable[Any], aliases: bool) -> None:
        """Report depth, loops and tags that `yaml.compose` must not read, or reads too slowly."""
        import yaml

        anchors: list[str | None] = []
        for count, event in enumerate(events):
            line = event.start_mark.line + 1
            tag, anchor = getattr(event, "tag", None), getattr(event, "anchor", None)
            if isinstance(event, yaml.CollectionEndEvent):
                anchors.pop()
            elif isinstance(event, yaml.AliasEvent) and anchor in anchors:
                self.wrong(line, "", f"*{anchor} is inside its own anchor")
            elif isinstance(event, yaml.CollectionStartEvent):
                anchors.append(anchor)
            if (tag or anchor) and not aliases:
                self.wrong(line, "", "anchors, aliases and tags are not allowed here")
            elif tag and not (isinstance(event, yaml.ScalarEvent) and tag in _SCALAR_TAGS):
                self.wrong(line, "", f"the tag {tag!r} is not allowed")
            if len(anchors) > MAX_DEPTH:
                self.fail(line, "nested too deeply")
            if count > MAX_NODES * 2:
                self.fail(line, "too many values")

    # --- from nodes to values ---

    def visit(self, node: Node, depth: int) -> None:
        """Count a node that is looked at. Raises ConfigError at the first one too many."""
        self.visited += 1
        if self.visited > MAX_NODES or depth > MAX_DEPTH:
            self.fail(node, "too large once its aliases are followed")

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
                self.wrong(key, _join(where, key.value), f"duplicate of line {first}")
            else:
                found[key.value] = (key, value)
        for source in merged:
            self.visit(source, depth)
            if source.id == "mapping":
                found = {**self.pairs(source, where, depth + 1), **found}
            else:
                self.expected(source, _join(where, "<<"), "a mapping to merge")
        return found

    def section(self, node: Node, where: str, table: Mapping[str, Check]) -> dict[str, Any]:
        """Return a mapping's checked values by key; keys that begin with `x-` are the user's."""
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
                self.wrong(key_node, spot, f"unknown key; {did_you_mean(key, table)}")
        return values


#: Takes a node and its path; returns the value, or reports a problem and returns BAD.
Check = Callable[[Reading, Node, str], Any]


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
    if is_null(node):
        return "null"
    text = node.value if len(node.value) <= 60 else node.value[:57] + "..."
    return repr(text) if is_text(node) else str(text)


def is_null(node: Node) -> bool:
    """Whether a node is `null`, `~` or nothing at all."""
    return bool(node.id == "scalar" and node.tag == TAG + "null")


def is_text(node: Node) -> bool:
    """Whether a node is a string."""
    return bool(node.id == "scalar" and node.tag == TAG + "str")
