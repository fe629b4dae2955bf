"""A task's file: parse and render as a pure pair, and what its history adds up to (CONTRACT 3).

A file is the person's part (title, header, body), then the machine's: a marker line and one line an
event. The tool only ever appends to the latter, so everything above it stays byte for byte, and a
line that a crash cut short, or wrote twice, is recognised when it is read.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import TaskFileError
from orchestrator.model import PRIORITIES, Entry, Task, parse_time

MARKER = "<!-- orchestrator:history -->"
HEADING = "## History"
#: Bytes that title, header and body may have together (CONTRACT 3).
MAX_TASK_BYTES = 1 << 20
#: Bytes that a file may have with its history, and so all that a reader needs to read. The room
#: above MAX_TASK_BYTES is so that the tool's own lines never make a task malformed.
MAX_BYTES = 4 * MAX_TASK_BYTES
MAX_TITLE = 200
_MAX_YAML = 64 << 10
_MAX_YAML_DEPTH = 8

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# `//` after the colon: a body that starts with a link.
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?!//)([^\n]*)(?:\n|\Z)")
_BLANK = re.compile(r"[ \t\r]*(?:\n|\Z)")
_BLANKS = re.compile(r"[ \t\r\n]*\n")
_HEADING = re.compile(r"#[ \t]([^\n]*)(?:\n|\Z)")
_ANY_HEADING = re.compile(r"^#[ \t]([^\n]*)", re.MULTILINE)
# `(` after the bracket: a title that starts with a link.
_BRACKET = re.compile(r"\[([^\]]*)\](?!\()(.*)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: Terminal sequences, and characters that change what a terminal shows of their neighbours.
_UNSEEN = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-_]?"
    r"|[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_WORD = re.compile(r"[^\s,\[\]\"']+")
_LINE = re.compile(r"- ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,+Z-]+) ([a-z_]+) (\{.*\})[ \t\r]*")
# What `str.splitlines` breaks at and JSON leaves as it is; and what UTF-8 cannot hold.
_ESCAPED = re.compile("[\x85\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")

_Fields = tuple[tuple[str, str], ...]
#: Id or None, title as written, fields, and the body's offset.
_Header = tuple[str | None, str, _Fields, int]


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A task's file as read. Made by `parse` and `new` only: `raw_…` and `body` are its text."""

    id: str
    #: For display: one line, no control characters.
    title: str
    #: The header in order, keys as written, unknown ones and repetitions too.
    fields: _Fields
    #: What follows the header (and the blank line that ends it) up to the history.
    body: str
    history: tuple[Entry, ...]
    #: The header is YAML front matter.
    front_matter: bool
    #: Everything before the body.
    raw_header: str
    #: The history as it stands in the file, from the line break before its marker.
    raw_history: bytes
    #: The header by key in upper case: the first of each, control characters stripped.
    known: dict[str, str] = field(repr=False, compare=False)

    def get(self, key: str) -> str | None:
        """Return a header value by its key in any case, fit for display; None if empty."""
        return self.known.get(key.upper()) or None

    @property
    def role(self) -> str:
        return self.get("ROLE") or ""

    @property
    def priority(self) -> str:
        """P0 to P3 in upper case; anything else as written; P2 when there is none."""
        text = self.get("PRIORITY") or "P2"
        upper = text.upper()
        return upper if upper in PRIORITIES else text

    @property
    def branch(self) -> str | None:
        return self.get("BRANCH")

    @property
    def created(self) -> str | None:
        return self.get("CREATED")

    @property
    def created_by(self) -> str | None:
        return self.get("CREATED_BY")

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The ids in DEPENDS_ON, each once: separated by commas or blanks, in brackets or not."""
        text = self.get("DEPENDS_ON")
        if text is None or text.lower() in ("none", "-"):
            return ()
        return tuple(dict.fromkeys(_WORD.findall(text)))


# --- reading -----------------------------------------------------------------------------------


def parse(data: bytes, name: str) -> TaskFile:
    """Read a task's file from its bytes and its file name (`fix login bug.md`).

    Raises TaskFileError, with the reason alone, when this cannot be a task; nothing else.
    """
    end, marker = _split_history(data)
    if end > MAX_TASK_BYTES or len(data) > MAX_BYTES:
        raise TaskFileError("it is over 1 MiB", "move the detail to files and name them here")
    try:
        text = data[:end].decode()
    except UnicodeDecodeError as error:
        message = f"it is not UTF-8 text (byte {error.start})"
        raise TaskFileError(message, "save it as UTF-8") from None
    if "\0" in text:
        raise TaskFileError("it has a NUL byte: that is no text file")
    start = 1 if text.startswith("\ufeff") else 0
    front_matter = text.startswith("---", start)
    read = _front_matter if front_matter else _plain_header
    task_id, heading, fields, body = read(text, start)
    return _check(
        TaskFile(
            task_id or id_of_name(name),
            _visible(heading),
            fields,
            text[body:],
            tuple(_entries(data[marker:])),
            front_matter,
            text[:body],
            data[end:],
            _by_key(fields),
        )
    )


def _check(file: TaskFile) -> TaskFile:
    if not file.title:
        raise TaskFileError("it has no title", "make its first line `# Title` or `# [ID] Title`")
    if not is_id(file.id):
        raise TaskFileError(
            f"its id {file.id[:80]!r} cannot be used: letters, digits, `.`, `_`, `-`, at most 64",
            "write the title line as `# [ID] Title`",
        )
    if file.get("ROLE") is None:
        raise TaskFileError(
            "it has no ROLE in its header",
            "write `ROLE: implement` under the title, before any other text",
        )
    return file


def _plain_header(text: str, start: int) -> _Header:
    """Return id, title, fields and the body's offset of a file in the seed's format."""
    title = _HEADING.match(text, _end(_BLANKS, text, start))
    if title is None:
        return None, "", (), len(text)
    task_id, heading = _bracket(title[1])
    position = _end(_BLANKS, text, title.end())
    fields = []
    while match := _FIELD.match(text, position):
        fields.append((match[1], match[2].strip()))
        position = match.end()
    return task_id, heading, tuple(fields), _end(_BLANK, text, position)


def _front_matter(text: str, start: int) -> _Header:
    """Return id, title, fields and the body's offset of a file with YAML front matter."""
    from frontmatter.default_handlers import YAMLHandler

    handler = YAMLHandler()
    if not handler.detect(text[start:]):
        return None, "", (), len(text)
    try:
        block, content = handler.split(text[start:])
    except ValueError:
        message = "it begins with `---`, and no second `---` ends that front matter"
        raise TaskFileError(message) from None
    fields = _yaml_fields(block)
    known = _by_key(fields)
    heading = known.get("TITLE")
    if not heading:
        found = _ANY_HEADING.search(content)
        heading = found[1] if found else ""
    task_id, title = _bracket(heading)
    if known.get("ID") and known["ID"] != task_id:
        task_id, title = known["ID"], heading
    body = len(text) - len(content)
    return task_id, title, fields, body + text.startswith("\n", body)


def _yaml_fields(block: str) -> _Fields:
    """Read front matter as text: no types to guess (`BRANCH: 1.10`), nothing to construct."""
    import yaml

    if len(block) > _MAX_YAML:
        raise TaskFileError("its front matter is over 64 KiB")
    loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        depth = 0
        for event in yaml.parse(block, Loader=loader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise TaskFileError("its front matter has a YAML anchor, alias or tag")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_YAML_DEPTH:
                raise TaskFileError("its front matter is nested too deeply")
        root = yaml.compose(block, Loader=loader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        where = f" (line {place.line + 1})" if place else ""
        raise TaskFileError(f"its front matter is not valid YAML{where}") from None
    if root is None:
        return ()
    if not isinstance(root, yaml.MappingNode):
        raise TaskFileError("its front matter is not `KEY: value` lines")
    return tuple((_yaml_text(key), _yaml_text(value)) for key, value in root.value)


def _yaml_text(node: Any) -> str:
    if isinstance(node.value, str):
        null = not node.style and node.value.lower() in ("~", "null")
        return "" if null else _SURROGATE.sub("\ufffd", node.value).strip()
    parts = (p for item in node.value for p in (item if isinstance(item, tuple) else (item,)))
    return ", ".join(map(_yaml_text, parts))


def _by_key(fields: _Fields) -> dict[str, str]:
    return {
        key.upper(): value if value.isprintable() else _visible(value)
        for key, value in reversed(fields)
    }


def _bracket(heading: str) -> tuple[str | None, str]:
    heading = heading.strip()
    match = _BRACKET.match(heading)
    return (match[1].strip(), match[2]) if match else (None, heading)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def _visible(text: str) -> str:
    if not text.isprintable():
        text = _UNSEEN.sub("", text)
    return " ".join(text.split())


def is_id(text: str) -> bool:
    """Whether this may be a task's id: CONTRACT 3, and `git check-ref-format` for one part."""
    if _ID.fullmatch(text) is None:
        return False
    return not (".." in text or text.endswith((".", ".lock")))


def id_of_name(name: str) -> str:
    """Return the id that a file's name stands for (`fix login bug.md` is `fix-login-bug`)."""
    stem = name[:-3] if name.lower().endswith(".md") else name
    text = re.sub(r"\.\.+", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", stem)).lstrip("-._")
    return re.sub(r"\.(?=lock$)", "-", text[:64].rstrip("-."))


# --- history -----------------------------------------------------------------------------------


def _split_history(data: bytes) -> tuple[int, int]:
    """Return where the person's part ends and where the last marker line starts (else the end).

    Between them is the one line break that `append` put before the marker.
    """
    marker = b"\n" + MARKER.encode()
    start = data.rfind(marker)
    while start >= 0:
        line_end = data.find(b"\n", start + 1)
        if not data[start + len(marker) : None if line_end < 0 else line_end].strip():
            crlf = data.endswith(b"\r", 0, start) and _newline(data) == b"\r\n"
            return start - crlf, start + 1
        start = data.rfind(marker, 0, start)
    return len(data), len(data)


def _newline(data: bytes) -> bytes:
    return b"\r\n" if data[: data.find(b"\n") + 1].endswith(b"\r\n") else b"\n"


def _entries(history: bytes) -> Iterator[Entry]:
    for raw in history.split(b"\n"):
        if not raw.startswith(b"- "):
            continue
        try:
            match = _LINE.fullmatch(raw.decode())
            if match is None:
                continue
            fields = json.loads(match[3], parse_constant=_refuse)
            if b"\\u" in raw:  # an escaped lone surrogate could be written nowhere
                json.dumps(fields, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            continue
        yield Entry(match[1], match[2], fields)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


# --- writing -----------------------------------------------------------------------------------


def render(task: TaskFile) -> bytes:
    """Return the file's bytes: exactly those that were parsed."""
    return (task.raw_header + task.body).encode() + task.raw_history


def history_line(entry: Entry) -> str:
    """Return an event as one line, without its line break; the fields' order is kept.

    Lone surrogates become U+FFFD. Raises ValueError or TypeError on what could not be read back.
    """
    text = json.dumps(entry.fields, ensure_ascii=False, allow_nan=False)
    text = _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", _SURROGATE.sub("\ufffd", text))
    line = f"- {entry.at} {entry.event} {text}"
    if _LINE.fullmatch(line) is None:
        raise ValueError(f"not a history entry: {line[:80]!r}")
    return line


def append(data: bytes, entry: Entry) -> bytes:
    """Return the bytes to append to a file with contents `data`, to add `entry` to its history."""
    newline = _newline(data)
    lines = [history_line(entry).encode(), b""]
    if _split_history(data)[1] == len(data):
        lines = [b"", MARKER.encode(), HEADING.encode(), *lines]
    elif not data.endswith(b"\n"):
        lines = [b"", *lines]
    return newline.join(lines)


def new(
    id: str,
    title: str,
    role: str,
    priority: str | None,
    branch: str | None,
    created: str,
    created_by: str | None,
    depends_on: Iterable[str],
    body: str,
    extra: Iterable[tuple[str, str]] = (),
) -> TaskFile:
    """Make a task in the seed's format; what is None or empty gets no line, `extra` comes last.

    Raises TaskFileError on whatever would not be read back as it was given.
    """
    ids = tuple(depends_on)
    _check_new((id, *ids), title, role, priority or "P2", body)
    known = (
        ("ROLE", role),
        ("PRIORITY", (priority or "").upper()),
        ("BRANCH", branch or ""),
        ("CREATED", created),
        ("CREATED_BY", created_by or ""),
        ("DEPENDS_ON", ", ".join(ids)),
    )
    lines = [_field(key, value) for key, value in (*(k for k in known if k[1]), *extra)]
    text = "\n".join([f"# [{id}] {title}", "", *lines, ""]) + (f"\n{body}" if body else "")
    try:
        return parse(text.encode(), f"{id}.md")
    except UnicodeEncodeError:
        raise TaskFileError("title, header or body is not UTF-8 text") from None


def _check_new(ids: Iterable[str], title: str, role: str, priority: str, body: str) -> None:
    for wrong in (text for text in ids if not is_id(text)):
        message = f"{wrong[:80]!r} cannot be a task id"
        raise TaskFileError(message, "use letters, digits, `.`, `_`, `-`")
    if not title.strip() or len(title) > MAX_TITLE or _CONTROL.search(title):
        message = f"a title is one line of 1 to {MAX_TITLE} characters, none of them a control"
        raise TaskFileError(message, "put the detail into the body")
    if priority.upper() not in PRIORITIES:
        raise TaskFileError(f"no priority {priority[:80]!r}", f"use one of {', '.join(PRIORITIES)}")
    if not role.strip():
        raise TaskFileError("a task needs a role", "say which agents it is for, `implement` say")
    if any(line.startswith(MARKER) and line.strip() == MARKER for line in body.split("\n")):
        message = f"the body has the line `{MARKER}`, which begins a task's history"
        raise TaskFileError(message, "indent that line")


def _field(key: str, value: str) -> str:
    if _KEY.fullmatch(key) is None or _CONTROL.search(value):
        raise TaskFileError(f"the header cannot hold {key[:80]!r}: {value[:80]!r}")
    return f"{key}: {value}"


# --- what it adds up to ------------------------------------------------------------------------

_FREE = {"claimed_by": None, "not_before": None, "backoff": None, "question": None}
_AFRESH = {**_FREE, "attempts": 0, "interruptions": 0}
_ENDED = {**_FREE, "interruptions": 0, "session": None, "session_agent": None}
#: What each event sets, whatever its fields; events that are not here are ignored.
_SETS: dict[str, dict[str, Any]] = {
    "claimed": _FREE,
    "requeued": {**_FREE, "interruptions": 0},
    "done": {**_ENDED, "reason": None, "error": None},
    "failed": _ENDED,
    "blocked": _ENDED,
    "answered": {"question": None, "reason": None},
    "retried": {**_AFRESH, "reason": None, "error": None},
    "cancelled": {**_FREE, "reason": "cancelled"},
    "moved": _FREE,
    "review": {},
    "reopened": _AFRESH,
    "delivered": {},
}
_SESSION = (("session", "session"), ("session_agent", "agent"))
#: What each event takes from its fields, None where the field is absent.
_TAKES = {
    "claimed": (("claimed_by", "agent"), ("run", "run")),
    "requeued": (("reason", "reason"), ("error", "error"), *_SESSION),
    "failed": (("reason", "reason"), ("error", "error")),
    "blocked": (("reason", "reason"), ("question", "question"), *_SESSION),
    "cancelled": (("error", "reason"),),
}


def summarise(file: TaskFile, state: str, path: str, mtime: float) -> Task:
    """Fold header and history into the task as the planner sees it.

    `state` and `path` are where the file lies; `mtime` (seconds) stands in for a missing CREATED.
    """
    created = file.created
    now: dict[str, Any] = {"pr": file.get("PR"), "work_branch": None}
    for entry in _once(file.history):
        _fold(now, entry)
    return Task(
        id=file.id,
        title=file.title,
        role=file.role,
        state=state,
        path=path,
        priority=file.priority,
        branch=file.branch,
        created=parse_time(created) if created else mtime,
        created_by=file.created_by,
        depends_on=file.depends_on,
        reviews=file.get("REVIEWS"),
        head=file.get("HEAD"),
        **now,
    )


def _once(history: tuple[Entry, ...]) -> Iterator[Entry]:
    """Leave out what a crash made the tool write twice: an event of a run, nobody's between."""
    seen: set[tuple[str, object]] = set()
    for entry in history:
        run = _text(entry.fields.get("run"))
        if (entry.event, run) in seen:
            continue
        if run is None or entry.event == "claimed":
            seen.clear()
        else:
            seen.add((entry.event, run))
        yield entry


def _fold(now: dict[str, Any], entry: Entry) -> None:
    event, fields = entry.event, entry.fields
    if event not in _SETS:
        return
    interruptions = now.get("interruptions", 0)
    now.update(_SETS[event])
    for name, key in _TAKES.get(event, ()):
        now[name] = _text(fields.get(key))
    now["pr"] = _text(fields.get("pr")) or now["pr"]
    if event in ("claimed", "delivered"):
        now["work_branch"] = now["work_branch"] or _text(fields.get("branch"))
    elif event in ("requeued", "failed") and fields.get("charged") is True:
        now["attempts"] = now.get("attempts", 0) + 1
    if event == "requeued":
        now["not_before"] = parse_time(_text(fields.get("not_before")) or "")
        now["backoff"] = _seconds(fields.get("delay"))
        now["interruptions"] = interruptions + 1 if fields.get("interrupted") is True else 0
    elif event == "review" and fields.get("verdict") == "changes_requested":
        now["review_rounds"] = now.get("review_rounds", 0) + 1


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value or None if isinstance(value, str) else None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e12 else None


def attempts_text(file: TaskFile) -> list[dict[str, str]]:
    """Return what the next prompt leads with, in time order: `{"at", "kind", "text"}`.

    `kind` is attempt (reason and error), review (its feedback), question or answer.
    """
    told: list[dict[str, str]] = []
    for entry in _once(file.history):
        fields = {key: _text(value) or "" for key, value in entry.fields.items()}
        if entry.event in ("requeued", "failed"):
            both = (fields.get("reason", ""), fields.get("error", ""))
            kind, text = "attempt", ": ".join(filter(None, both))
        elif entry.event in ("review", "reopened"):
            kind, text = "review", fields.get("feedback", "")
        elif entry.event == "blocked":
            kind, text = "question", fields.get("question", "")
        elif entry.event == "answered":
            kind, text = "answer", fields.get("text", "")
        else:
            continue
        # A task is reopened with the feedback of the review before.
        repeated = entry.event == "reopened" and any(t["text"] == text for t in told[-1:])
        if text and not repeated:
            told.append({"at": entry.at, "kind": kind, "text": text})
    return told


# --- names -------------------------------------------------------------------------------------


def title_key(title: str) -> str:
    """Return what two equal titles share: case and runs of blanks do not count."""
    return " ".join(title.casefold().split())


def slug(text: str, limit: int = 40) -> str:
    """Return `text` as ASCII words joined by `-`, at most `limit` characters; maybe empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if len(words) > limit:
        words = words[: limit + 1].rpartition("-")[0] or words[:limit]
    return words


def branch_name(task_id: str, title: str) -> str:
    """Return a task's branch, `agent/<task-id>-<slug>`: a valid ref of at most 111 characters."""
    words = slug(title)
    return f"agent/{task_id}-{words}" if words else f"agent/{task_id}"
