"""A person's change of a task: its title, its header, its text. The history stays as it is."""

from collections.abc import Mapping

from orchestrator.model.errors import TaskFileError
from orchestrator.tasks import header, history, task_file
from orchestrator.tasks.task_file import TaskFile

#: The key with which a person sets the title, which is not a field of the header.
TITLE = "TITLE"
#: Line ends, also those of Unicode, and control characters other than a tab.
_NOT_ONE_LINE = r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]"


def text_of(file: TaskFile) -> str:
    """Return the person's part of a file: title, header and body."""
    return file.raw[: history.split(file.raw)[0]].decode()


def with_text(data: bytes, name: str, text: str) -> TaskFile:
    """Return the file with the contents `data` and the name `name`, with another person's part.

    Raises TaskFileError if the result is not a task, or is another task.
    """
    end = history.split(data)[0]
    rest = data[end:]
    before = task_file.parse(data, name)
    try:
        file = task_file.parse(text.encode() + rest, name)
    except UnicodeEncodeError:
        raise TaskFileError("it is not UTF-8 text", "save it as UTF-8") from None
    if file.id != before.id:
        message = f"its id would change from {before.id} to {file.id}"
        hint = f"keep the title line as `# [{before.id}] Title`"
        raise TaskFileError(message, hint)
    if history.split(text.encode())[1] != len(text.encode()):
        message = f"it has the line `{history.MARKER}`, which begins a task's history"
        raise TaskFileError(message, "indent or remove that line")
    _check(file, before)
    return file


def _check(file: TaskFile, before: TaskFile) -> None:
    """Raise TaskFileError for a new value that the tool would not write."""
    ids, had = (task_file.summarise(f, "incoming", "", 0.0).depends_on for f in (file, before))
    title = file.title if file.title != before.title else "unchanged"
    priority = file.get("PRIORITY")
    priority = "P2" if priority in (None, before.get("PRIORITY")) else priority
    new_ids = () if ids == had else ids
    task_file.check_values(new_ids, title, file.get("ROLE") or "", priority or "P2", "")


def with_fields(file: TaskFile, values: Mapping[str, str]) -> str:
    """Return the person's part of a file with `values` set, by upper-case key (also `TITLE`).

    An empty value removes a field. Raises TaskFileError if a value would not be read back.
    """
    import re

    rest = {key: value for key, value in values.items() if key != TITLE}
    text = header.replaced(text_of(file), file.id, values.get(TITLE), rest)
    # The rest of such a value would be read as other parts of the file.
    wrong = [key for key, value in values.items() if re.search(_NOT_ONE_LINE, value)]
    found = file if wrong else task_file.parse(text.encode(), f"{file.id}.md")
    wrong += [key for key, value in rest.items() if (found.get(key) or "") != value]
    if TITLE in values and found.title != values[TITLE]:
        wrong.append(TITLE)
    others = values.keys() | {TITLE, "ID"}
    kept = [{k: v for k, v in each.known.items() if k not in others} for each in (file, found)]
    if not wrong and (kept[0] != kept[1] or (found.id, found.body) != (file.id, file.body)):
        message = f"the header of {file.id} has a form that cannot be changed line by line"
        raise TaskFileError(message, f"edit it: orchestrator task edit {file.id}")
    if wrong:
        message = f"a task's header cannot hold this value of {wrong[0]}: {values[wrong[0]][:80]!r}"
        raise TaskFileError(message, "use one line, without control characters")
    return text


def with_body(text: str, old: str, new: str) -> str:
    """Return a person's part of a file with `new` in the place of its body, which was `old`."""
    head = text.removesuffix(old)
    if not head.endswith("\n\n"):
        head = head.rstrip("\n") + "\n\n"
    return head + new.strip("\n") + "\n"
