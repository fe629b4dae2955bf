"""A task's header: id, title and fields, in the plain format or as YAML front matter.

The header may be written by hand, so this module is lenient (reference 3): it refuses only front
matter that cannot be read at all. `task_file` checks that the necessary fields are present.
"""

import re
from collections.abc import Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.errors import ConfigError, TaskFileError
from orchestrator.model.fields import NamedTuple

#: Maximum characters of front matter.
_MAX_YAML = 64 << 10

# `//` after the colon means that this is a link at the start of the body.
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?!//)([^\n]*)(?:\n|\Z)")
_BLANK = re.compile(r"[ \t\r]*(?:\n|\Z)")
_HEADING = re.compile(r"(?:[ \t\r\n]*\n)?#[ \t]([^\n]*)(?:\n|\Z)(?:[ \t\r\n]*\n)?")
_ANY_HEADING = re.compile(r"^#[ \t]([^\n]*)", re.MULTILINE)
# `(` after the bracket means that the title starts with a link.
_BRACKET = re.compile(r"\[([^\]]*)\](?!\()(.*)", re.DOTALL)
#: Terminal sequences, and characters that change how a terminal shows the characters around them.
_UNSEEN = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-_]?"
    r"|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SURROGATE = "[\ud800-\udfff]"

Fields = tuple[tuple[str, str], ...]


class Header(NamedTuple):
    """A header as read: strings as written, without the blanks around them."""

    #: None if the title has no id.
    id: str | None
    title: str
    fields: Fields
    #: The offset at which the body begins.
    body: int


def read(text: str) -> Header:
    """Return the header at the beginning of a task's text. Raises TaskFileError."""
    start = 1 if text.startswith("\ufeff") else 0
    return (_front_matter if text.startswith("---", start) else _plain_header)(text, start)


def _plain_header(text: str, start: int) -> Header:
    """Return id, title, fields and the body's offset of a file in the plain format."""
    title = _HEADING.match(text, start)
    if title is None:
        return Header(None, "", (), len(text))
    task_id, heading = _bracket(title[1])
    position, fields = title.end(), []
    while match := _FIELD.match(text, position):
        fields.append((match[1], match[2].strip()))
        position = match.end()
    blank = _BLANK.match(text, position)
    return Header(task_id, heading, tuple(fields), blank.end() if blank else position)


def _front_matter(text: str, start: int) -> Header:
    """Return id, title, fields and the body's offset of a file with YAML front matter."""
    from orchestrator.text.yaml_nodes import Reading

    reading = Reading("its front matter")
    try:
        found = reading.front_matter(text[start:])
        if found is None:
            return Header(None, "", (), len(text))
        block, content = found
        root = reading.compose(block, limit=_MAX_YAML, aliases=False)
    except ConfigError as error:
        raise TaskFileError(error.problems[0]) from None
    if root is not None and root.id != "mapping":
        raise TaskFileError("its front matter is not `KEY: value` lines")
    # Values stay text, because YAML types would change them (`BRANCH: 1.10`).
    pairs = root.value if root is not None else ()
    fields = tuple((_yaml_text(key), _yaml_text(value)) for key, value in pairs)
    known = by_key(fields)
    heading = known.get("TITLE")
    if not heading:
        above = _ANY_HEADING.search(content)
        heading = above[1] if above else ""
    task_id, title = _bracket(heading)
    if known.get("ID") and known["ID"] != task_id:
        task_id, title = known["ID"], heading
    body = len(text) - len(content)
    return Header(task_id, title, fields, body + text.startswith("\n", body))


def _yaml_text(node: Any) -> str:
    if isinstance(node.value, str):
        null = not node.style and node.value.lower() in ("~", "null")
        return "" if null else re.sub(_SURROGATE, "\ufffd", node.value).strip()
    parts = (p for item in node.value for p in (item if isinstance(item, tuple) else (item,)))
    return ", ".join(map(_yaml_text, parts))


def replaced(text: str, task_id: str, title: str | None, values: Mapping[str, str]) -> str:
    """Return a task's text with a title (None: the same) and header fields, by upper-case key.

    An empty value removes a field. All other bytes of the plain format stay; front matter becomes
    the plain format, with the same fields and the same body. Raises TaskFileError.
    """
    start = 1 if text.startswith("\ufeff") else 0
    if text.startswith("---", start):
        found = _front_matter(text, start)
        kept = [(k, visible(v)) for k, v in found.fields if k.upper() not in ("ID", "TITLE")]
        lines = "".join(f"{key}: {value}\n" for key, value in kept)
        text = f"# [{task_id}] {visible(found.title)}\n\n{lines}\n{text[found.body :]}"
        start = 0
    heading = _HEADING.match(text, start)
    assert heading is not None
    newline = "\r\n" if heading[1].endswith("\r") else "\n"
    head = text[: heading.end()]
    if title is not None:
        line = f"[{task_id}] {title}" + newline[:-1]
        head = text[: heading.start(1)] + line + text[heading.end(1) : heading.end()]
    lines, position, left = "", heading.end(), dict(values)
    while match := _FIELD.match(text, position):
        key, position = match[1].upper(), match.end()
        if key not in values:
            lines += match[0]
        elif value := left.pop(key, ""):
            lines += f"{match[1]}: {value}{newline}"
    if lines and not lines.endswith("\n"):
        lines += newline
    lines += "".join(f"{key}: {value}{newline}" for key, value in left.items() if value)
    return head + lines + text[position:]


def by_key(fields: Fields) -> dict[str, str]:
    """Return the fields, fit for display, by key in upper case; the first of equal keys counts."""
    return {
        key.upper(): value if value.isprintable() else visible(value)
        for key, value in reversed(fields)
    }


def _bracket(heading: str) -> tuple[str | None, str]:
    heading = heading.strip()
    match = _BRACKET.match(heading)
    return (match[1].strip(), match[2]) if match else (None, heading)


def title_line(line: str) -> tuple[str | None, str]:
    """Return id and title of a line `# [ID] Title`; no title if the line is another one."""
    title = _HEADING.fullmatch(line)
    task_id, heading = _bracket(title[1]) if title else (None, "")
    return task_id, visible(heading)


def visible(text: str) -> str:
    """Return text on one line, without invisible characters and terminal sequences."""
    if not text.isprintable():
        text = re.sub(_UNSEEN, "", text)
    return " ".join(text.split())
