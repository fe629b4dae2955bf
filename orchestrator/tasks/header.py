"""A task's header: id, title and fields, in the plain format or as YAML front matter.

The header may be written by hand, so this module is lenient (reference 3): it refuses only front
matter that cannot be read at all. `task_file` checks that the necessary fields are present.
"""

from collections.abc import Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.errors import ConfigError, TaskFileError
from orchestrator.model.fields import NamedTuple

#: Maximum characters of front matter.
_MAX_YAML = 64 << 10

_ANY_HEADING = r"(?m)^#[ \t]([^\n]*)"
#: Terminal sequences, and characters that change how a terminal shows the characters around them.
_UNSEEN = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-_]?"
    r"|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SURROGATE = "[\ud800-\udfff]"

#: What a blank line may have.
_BLANKS = " \t\r"

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
    heading = _heading(text, start)
    if heading is None:
        return Header(None, "", (), len(text))
    begin, end, position = heading
    task_id, title = _bracket(text[begin:end])
    fields = []
    while (found := _field(text, position)) is not None:
        key, value, position = found
        fields.append((key, value.strip()))
    line, after = _line(text, position)
    return Header(task_id, title, tuple(fields), position if line.strip(_BLANKS) else after)


def _line(text: str, start: int) -> tuple[str, int]:
    """Return the line that begins at an offset, and the offset after its end."""
    end = text.find("\n", start)
    return (text[start:end], end + 1) if end >= 0 else (text[start:], len(text))


def _after_blank_lines(text: str, start: int) -> int:
    """Return the offset after the blank lines at an offset, each of which ends with a break."""
    while (end := text.find("\n", start)) >= 0 and not text[start:end].strip(_BLANKS):
        start = end + 1
    return start


def _heading(text: str, start: int) -> tuple[int, int, int] | None:
    """Return where the title in a line `# Title` begins and ends, and what follows it begins.

    Blank lines may be around the line. None if another line is first.
    """
    start = _after_blank_lines(text, start)
    line, after = _line(text, start)
    if line[:2] not in ("# ", "#\t"):
        return None
    return start + 2, start + len(line), _after_blank_lines(text, after)


def _field(text: str, start: int) -> tuple[str, str, int] | None:
    """Return key and value of a line `KEY: value`, and the offset after it; None if it is none."""
    line, after = _line(text, start)
    key, colon, value = line.partition(":")
    # `//` after the colon means that this is a link at the start of the body.
    return (key, value, after) if colon and is_key(key) and value[:2] != "//" else None


def is_key(text: str) -> bool:
    """Return whether a text can be the key of a field."""
    return text.isascii() and text[:1].isalpha() and text.replace("-", "_").isidentifier()


def _front_matter(text: str, start: int) -> Header:
    """Return id, title, fields and the body's offset of a file with YAML front matter."""
    import re

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
        above = re.search(_ANY_HEADING, content)
        heading = above[1] if above else ""
    task_id, title = _bracket(heading)
    if known.get("ID") and known["ID"] != task_id:
        task_id, title = known["ID"], heading
    body = len(text) - len(content)
    return Header(task_id, title, fields, body + text.startswith("\n", body))


def _yaml_text(node: Any) -> str:
    import re

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
    heading = _heading(text, start)
    assert heading is not None
    begin, end, position = heading
    newline = "\r\n" if text.endswith("\r", begin, end) else "\n"
    head = text[:position]
    if title is not None:
        head = f"{text[:begin]}[{task_id}] {title}{newline[:-1]}{text[end:position]}"
    lines, left = "", dict(values)
    while (field := _field(text, position)) is not None:
        key, before, position = field[0], position, field[2]
        if key.upper() not in values:
            lines += text[before:position]
        elif value := left.pop(key.upper(), ""):
            lines += f"{key}: {value}{newline}"
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
    task_id, bracket, title = heading[1:].partition("]")
    # `(` after the bracket means that the title starts with a link.
    if heading[:1] == "[" and bracket and title[:1] != "(":
        return task_id.strip(), title
    return None, heading


def title_line(line: str) -> tuple[str | None, str]:
    """Return id and title of a line `# [ID] Title`; no title if the line is another one."""
    is_title = line[:2] in ("# ", "#\t")
    task_id, heading = _bracket(line[2:]) if is_title else (None, "")
    return task_id, visible(heading)


def visible(text: str) -> str:
    """Return text on one line, without invisible characters and terminal sequences."""
    if not text.isprintable():
        import re

        text = re.sub(_UNSEEN, "", text)
    return " ".join(text.split())
