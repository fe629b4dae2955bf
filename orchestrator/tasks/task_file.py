"""A task's file: how it is read, new files, and the names derived from a task.

A file is the person's part (title, header, body: reference 3), then the machine's part (`history`).
"""

from collections.abc import Collection, Iterable

from orchestrator.model.config import Config
from orchestrator.model.errors import TaskFileError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import iso, parse_time
from orchestrator.model.work import PRIORITIES, Entry, Task
from orchestrator.tasks import header, history
from orchestrator.tasks.history import MARKER
from orchestrator.text.alphabets import CONTROL

#: Maximum bytes of title, header and body together (reference 3).
MAX_TASK_BYTES = 1 << 20
#: Maximum bytes of a file with its history, and so the most that a reader needs to read. The
#: distance to MAX_TASK_BYTES ensures that the tool's own lines never make a task malformed.
MAX_BYTES = 4 * MAX_TASK_BYTES
MAX_TITLE = 200
#: Most characters of the words of a title in the name of a branch.
SLUG = 40
#: The header field of a part: the task that its agent split (`tasks.parts`).
PARENT = "PARENT"
#: Maximum ids in DEPENDS_ON: each is looked up in every tick.
MAX_DEPENDENCIES = 100

#: What is between the ids in DEPENDS_ON, like blanks.
_BETWEEN = str.maketrans(dict.fromkeys(",[]\"'", " "))


class TaskFile(NamedTuple):
    """A task's file as read. Only `parse` and `new` create it."""

    id: str
    #: For display: one line, no control characters.
    title: str
    #: The header in order, with keys as written, unknown keys and repeated keys.
    fields: header.Fields
    #: The text between the header (and the blank line that ends it) and the history.
    body: str
    history: tuple[Entry, ...]
    #: The whole file.
    raw: bytes
    #: The header by key in upper case, without control characters; the first of equal keys counts.
    known: dict[str, str]

    def get(self, key: str) -> str | None:
        """Return a header value by its key in any case, fit for display; None if empty."""
        return self.known.get(key.upper()) or None


def parse(data: bytes, name: str) -> TaskFile:
    """Return a task's file from its bytes and its file name (`fix login bug.md`).

    Raises only TaskFileError, whose text is the reason why this cannot be a task.
    """
    end, marker = history.split(data)
    if end > MAX_TASK_BYTES or len(data) > MAX_BYTES:
        raise TaskFileError("it is over 1 MiB", "move details to other files and name them here")
    try:
        text = data[:end].decode()
    except UnicodeDecodeError as error:
        message = f"it is not UTF-8 text (byte {error.start})"
        raise TaskFileError(message, "save it as UTF-8") from None
    if "\0" in text:
        raise TaskFileError("it has a NUL byte, so it is not a text file")
    task_id, heading, fields, body = header.read(text)
    return _check(
        TaskFile(
            task_id or id_of_name(name),
            header.visible(heading),
            fields,
            text[body:],
            tuple(history.entries(data[marker:])),
            data,
            header.by_key(fields),
        )
    )


def _check(file: TaskFile) -> TaskFile:
    if not file.title:
        hint = "write `# Title` or `# [ID] Title` as its first line, below any front matter"
        raise TaskFileError("it has no title", hint)
    if not is_id(file.id):
        allowed = "letters, digits, `.`, `_`, `-`, at most 64"
        if _has_letters_of_id(file.id):
            allowed = "a branch is named after it, so no `..`, and no `.` or `.lock` at the end"
        message = f"its id {file.id[:80]!r} cannot be used: {allowed}"
        raise TaskFileError(message, "write the title line as `# [ID] Title`")
    if file.get("ROLE") is None:
        hint = "write `ROLE: implement` under the title, before any other text"
        raise TaskFileError("it has no ROLE in its header", hint)
    if (number := len(dependencies(file.get("DEPENDS_ON")))) > MAX_DEPENDENCIES:
        message = f"it has {number} ids in DEPENDS_ON, more than {MAX_DEPENDENCIES}"
        hint = "let it depend on a task that depends on some of them"
        raise TaskFileError(message, hint)
    return file


def dependencies(value: str | None) -> tuple[str, ...]:
    """Return the ids in a value of DEPENDS_ON: separated by commas or blanks, in brackets or not.

    Each id is in it once.
    """
    if value is None or value.lower() in ("none", "-"):
        return ()
    return tuple(dict.fromkeys(value.translate(_BETWEEN).split()))


def is_id(text: str) -> bool:
    """Return whether this can be a task's id (reference 3, and `git check-ref-format`)."""
    return _has_letters_of_id(text) and not (".." in text or text.endswith((".", ".lock")))


def _has_letters_of_id(text: str) -> bool:
    words = text.replace(".", "_").replace("-", "_")
    return len(text) <= 64 and text.isascii() and text[:1].isalnum() and f"_{words}".isidentifier()


def id_of_name(name: str) -> str:
    """Return the id that a file's name stands for (`fix login bug.md` is `fix-login-bug`)."""
    import re

    stem = name[:-3] if name.lower().endswith(".md") else name
    text = re.sub(r"\.\.+", ".", re.sub(r"[^A-Za-z0-9._-]+", "-", stem)).lstrip("-._")
    return re.sub(r"\.(?=lock$)", "-", text[:64].rstrip("-."))


def summarise(file: TaskFile, state: str, where: str, mtime: float) -> Task:
    """Return header and history as the task that the planner sees.

    The store supplies the state, and the task's place for display (`where`). `mtime` (epoch
    seconds) replaces a missing CREATED.
    """
    created, priority = file.get("CREATED"), file.get("PRIORITY") or "P2"
    task = Task(
        id=file.id,
        title=file.title,
        role=file.get("ROLE") or "",
        state=state,
        where=where,
        priority=priority.upper() if priority.upper() in PRIORITIES else priority,
        branch=file.get("BRANCH"),
        created=parse_time(created) if created else mtime,
        created_by=file.get("CREATED_BY"),
        depends_on=dependencies(file.get("DEPENDS_ON")),
        reviews=file.get("REVIEWS"),
        head=file.get("HEAD"),
        pr=file.get("PR"),
        header=file.known,
    )
    task = history.fold(file.history, task)
    # After a crash, a claim may stand in a file that the store did not move.
    left = task.claimed_by is not None and state != "claimed"
    return task._replace(claimed_by=None) if left else task


def entry(now: float, event: str, **fields: object) -> Entry:
    """Return an event at `now` (epoch seconds); fields that are None are left out."""
    kept = {name: value for name, value in fields.items() if value is not None}
    return Entry(iso(now) or "", event, kept)


def with_entry(data: bytes, name: str, entry: Entry) -> tuple[TaskFile, bytes]:
    """Add an event to a file's history; return the new file, and the bytes to append to `data`.

    The bytes are empty if the history ends with the same event of the same run: a crash occurred
    between the append and the move. Raises TaskFileError.
    """
    file = parse(data, name)
    last = file.history[-1] if file.history else None
    run = entry.fields.get("run")
    if last and run is not None and (last.event, last.fields.get("run")) == (entry.event, run):
        return file, b""
    line = history.append(data, entry)
    return file._replace(history=(*file.history, entry), raw=data + line), line


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
    """Return a new task in the plain format. An empty value or None gets no line; `extra` is last.

    Raises TaskFileError if a value would not be read back as it was given.
    """
    ids = tuple(depends_on)
    check_values((id, *ids), title, role, priority or "P2", body)
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


def check_values(ids: Iterable[str], title: str, role: str, priority: str, body: str) -> None:
    """Raise TaskFileError for a value that a person gives and that a task cannot have."""
    for wrong in (text for text in ids if not is_id(text)):
        message = f"{wrong[:80]!r} cannot be a task id"
        raise TaskFileError(message, "use letters, digits, `.`, `_`, `-`")
    if not title.strip() or len(title) > MAX_TITLE or not CONTROL.isdisjoint(title):
        message = f"a title is one line of 1 to {MAX_TITLE} characters, no control characters"
        raise TaskFileError(message, "put details into the body")
    if priority.upper() not in PRIORITIES:
        message = f"unknown priority {priority[:80]!r}"
        raise TaskFileError(message, f"use one of {', '.join(PRIORITIES)}")
    if not role.strip():
        raise TaskFileError("a task needs a role", "name the role of its agents, e.g. `implement`")
    if "\0" in body:
        raise TaskFileError("the body has a NUL byte, so it is not text")
    if any(line.startswith(MARKER) and line.strip() == MARKER for line in body.split("\n")):
        message = f"the body has the line `{MARKER}`, which begins a task's history"
        raise TaskFileError(message, "indent that line")


def _field(key: str, value: str) -> str:
    if not header.is_key(key) or not CONTROL.isdisjoint(value):
        raise TaskFileError(f"the header cannot hold {key[:80]!r}: {value[:80]!r}")
    return f"{key}: {value}"


def title_key(title: str) -> str:
    """Return a key that equal titles share: case and the number of blanks do not matter."""
    return " ".join(title.casefold().split())


def fits(search: str, title: str, task_id: str) -> bool:
    """Return whether a search finds a task: by a part of its title or of its id, in any case."""
    return title_key(search) in title_key(title) or search.strip().lower() in task_id.lower()


def slug(text: str) -> str:
    """Return `text` as ASCII words joined by `-`, at most SLUG characters; may be empty."""
    import re

    if not text.isascii():
        import unicodedata

        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if len(words) > SLUG:
        words = words[: SLUG + 1].rpartition("-")[0] or words[:SLUG]
    return words


def branch_name(
    task_id: str,
    title: str,
    prefix: str = Config().branch_prefix,
    bases: Collection[str | None] = (),
) -> str:
    """Return a task's branch, `<prefix><task-id>-<slug>`: a valid ref, and no branch of `bases`.

    It has at most 105 characters more than `prefix`, which the configuration has checked.
    """
    words = slug(title)
    name = f"{prefix}{task_id}-{words}" if words else f"{prefix}{task_id}"
    # The prefix `ma` and the task `in` give `main`: work on it would be merged without a review.
    while name in bases:
        name += "-task"
    return name
