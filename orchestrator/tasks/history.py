"""A task's history: the machine's part of its file, one line per event, and the resulting facts.

The history begins at a marker line and only grows at its end (reference 3), so the text above the
marker keeps every byte. A line that a crash truncated or doubled is recognised when it is read.
"""

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.times import parse_time
from orchestrator.model.work import Entry, Task
from orchestrator.system import files, json_codec
from orchestrator.text.alphabets import SMALL, consists_of, is_time

#: The characters of the name of an event.
_EVENT = f"{SMALL}_"
MARKER = "<!-- orchestrator:history -->"
HEADING = "## History"

# Line breaks of `str.splitlines` that JSON does not escape.
_ESCAPED = "\x85\u2028\u2029"


def split(data: bytes) -> tuple[int, int]:
    """Return two offsets: the end of the person's part, and the start of the last marker line.

    Without a marker the second offset is the end of the data. Between the two offsets is the line
    break that `append` put before the marker, or zeros: after a power cut, a file may have the
    length of an append without its bytes.
    """
    marker = b"\n" + MARKER.encode()
    start = data.rfind(marker)
    while start >= 0:
        line_end = data.find(b"\n", start + 1)
        if not data[start + len(marker) : None if line_end < 0 else line_end].strip():
            crlf = data.endswith(b"\r", 0, start) and _newline(data) == b"\r\n"
            return _without_zeros(data, start - crlf), start + 1
        start = data.rfind(marker, 0, start)
    return _without_zeros(data, len(data)), len(data)


def _without_zeros(data: bytes, end: int) -> int:
    return len(data[:end].rstrip(b"\0")) if data.endswith(b"\0", 0, end) else end


def _newline(data: bytes) -> bytes:
    return b"\r\n" if data[: data.find(b"\n") + 1].endswith(b"\r\n") else b"\n"


def entries(data: bytes) -> Iterator[Entry]:
    """Yield the events of a history's bytes. Truncated lines and other lines are skipped."""
    for raw in data.split(b"\n"):
        if not raw.startswith(b"- "):
            continue
        try:
            words = _words(raw.decode())
            if words is None:
                continue
            fields = _read(words[2])
            if b"\\u" in raw:  # an escaped lone surrogate could not be encoded
                json_codec.dumps(fields).encode()
        except (ValueError, RecursionError):
            continue
        yield Entry(words[0], words[1], fields)


def _words(line: str) -> tuple[str, str, str] | None:
    """Return time, event and fields of a line `- TIME EVENT {...}`; None for another line."""
    match line.rstrip(" \t\r").split(" ", 3):
        case ["-", at, event, fields]:
            is_object = fields[0] + fields[-1] == "{}"
            if is_object and is_time(at) and consists_of(event, _EVENT):
                return at, event, fields
    return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_read, _write = json_codec.reader(_refuse), json_codec.writer(allow_nan=False)


def line(entry: Entry) -> str:
    """Return an event as one line, without its line break; the fields keep their order.

    Lone surrogates become U+FFFD. Raises ValueError or TypeError if the line could not be read
    back.
    """
    text = _write(entry.fields)
    if not text.isascii():
        text = "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)
        for each in _ESCAPED:
            text = text.replace(each, f"\\u{ord(each):04x}")
    whole = f"- {entry.at} {entry.event} {text}"
    if _words(whole) is None:
        raise ValueError(f"not a history entry: {whole[:80]!r}")
    return whole


def append(data: bytes, entry: Entry) -> bytes:
    """Return the bytes that add `entry` to the history of a file with the contents `data`."""
    newline = _newline(data)
    lines = [line(entry).encode(), b""]
    if split(data)[1] == len(data):
        lines = [b"", MARKER.encode(), HEADING.encode(), *lines]
    elif not data.endswith(b"\n"):
        lines = [b"", *lines]
    return newline.join(lines)


# --- the resulting facts ------------------------------------------------------------------------

_FREE = {"claimed_by": None, "not_before": None, "backoff": None, "question": None}
_AFRESH: dict[str, Any] = {**_FREE, "attempts": 0, "interruptions": 0, "uncharged": {}}
_ENDED = {**_FREE, "interruptions": 0, "session": None}
#: The values that each event sets, regardless of its fields. Other events are ignored.
_SETS: dict[str, dict[str, Any]] = {
    # The result of the previous run stays in the history; it does not describe this run.
    "claimed": {**_FREE, "reason": None, "error": None, "merged": False},
    "requeued": {**_FREE, "interruptions": 0},
    "done": {**_ENDED, "reason": None, "error": None, "merged": False, "uncharged": {}},
    "merged": {"merged": True},
    "failed": _ENDED,
    "blocked": _ENDED,
    "answered": {"question": None, "reason": None, "uncharged": {}},
    "retried": {**_AFRESH, "reason": None, "error": None, "cost_usd": 0.0},
    "cancelled": {**_FREE, "reason": "cancelled"},
    "moved": {**_FREE, "uncharged": {}},
    "review": {},
    "reopened": {**_AFRESH, "reason": None, "error": None},
    "delivered": {},
}
#: Why a task is blocked whose branch has a name that the remote refuses. A person's answer keeps it
#: for the next claim, which gives the branch another name (`tick.start`).
NAME_REFUSED = "remote_refuses"
#: The events with which a run releases its task.
_ENDS = ("requeued", "failed", "blocked", "done")
#: The values that each event takes from its fields; None if the field is absent.
_TAKES = {
    "claimed": (("claimed_by", "agent"), ("run", "run"), ("host", "host")),
    "requeued": (("reason", "reason"), ("error", "error"), ("session", "session")),
    "failed": (("reason", "reason"), ("error", "error")),
    "blocked": (("reason", "reason"), ("question", "question"), ("session", "session")),
    "cancelled": (("error", "reason"),),
}


def fold(history: Iterable[Entry], task: Task) -> Task:
    """Return a task of which only the header is known, with what its history says of it.

    The header's pull request is valid until an event names another.
    """
    entry = None
    for entry in _once(history):
        task = _folded(task, entry)
    if entry is not None and entry.event in _ENDS and entry.fields.get("run") == task.run:
        task = task._replace(ended=entry.event)
    return task


def _once(history: Iterable[Entry]) -> Iterator[Entry]:
    """Skip events that a crash doubled: the same event of a run, with no other actor in between."""
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


def _folded(task: Task, entry: Entry) -> Task:
    event, fields = entry.event, entry.fields
    if event not in _SETS:
        return task
    interruptions = task.interruptions
    taken = {name: _text(fields.get(key)) for name, key in _TAKES.get(event, ())}
    now = task._replace(**{**_SETS[event], **taken}, pr=_text(fields.get("pr")) or task.pr)
    if cost := _number(fields.get("cost_usd")):
        now = now._replace(cost_usd=now.cost_usd + max(cost, 0.0))
    if event == "done" and fields.get("merged") is True:
        now = now._replace(merged=True)
    if event in ("claimed", "delivered"):
        branch, former = _text(fields.get("branch")), _text(fields.get("former"))
        # A branch whose name cannot be pushed gets another name (`tick.start`).
        renamed = branch and former and former == now.work_branch
        now = now._replace(work_branch=branch if renamed else now.work_branch or branch)
    elif event in ("requeued", "failed") and fields.get("charged") is True:
        now = now._replace(attempts=now.attempts + 1)
    if event == "requeued":
        now = now._replace(
            not_before=parse_time(_text(fields.get("not_before")) or ""),
            backoff=_number(fields.get("delay")),
            interruptions=interruptions + 1 if fields.get("interrupted") is True else 0,
        )
    elif event in ("answered", "retried") and task.reason == NAME_REFUSED:
        now = now._replace(reason=task.reason)
    elif event in ("claimed", "blocked"):
        now = now._replace(parts=_ids(fields.get("parts")))
    elif event == "review" and fields.get("verdict") == "changes_requested":
        now = now._replace(review_rounds=now.review_rounds + 1)
    return now._replace(uncharged=_uncharged(now, entry))


def _uncharged(task: Task, entry: Entry) -> Mapping[str, int]:
    """Return how often a task ended in a way that cost money but no attempt, by the kind.

    A run whose branch moved, or that was interrupted, cost money, and so did an agent's review. A
    system fault may end a run before it costs money. A person's review begins a new count.
    """
    fields, kinds = entry.fields, []
    if entry.event == "review":
        if fields.get("kind") == "person":
            return {}
        kinds = [] if fields.get("reviewer") == "scheduler" else ["review"]
    elif entry.event == "requeued" and fields.get("charged") is not True:
        ended, cost = fields.get("verdict"), _number(fields.get("cost_usd"))
        is_paid = ended in ("moved", "interrupted") or (ended == "system_fault" and cost)
        kinds = [str(ended)] if is_paid else []
        # Nobody else had met the fault then: the others' runs had ended well since the last one.
        kinds += ["first_fault"] if ended == "system_fault" and fields.get("first") is True else []
    return {**task.uncharged, **{kind: task.uncharged.get(kind, 0) + 1 for kind in kinds}}


def _text(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value or None if isinstance(value, str) else None


def _ids(value: object) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, value))) if isinstance(value, list) else ()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e12 else None


def cut(history: Iterable[Entry]) -> str | None:
    """Return the commit of dependencies that the branch was cut from since its last merge."""
    found = [(e.event, _text(e.fields.get("cut"))) for e in history]
    return next((cut for event, cut in reversed(found) if cut or event == "merged"), None)


def delivered(history: Iterable[Entry], branch: str) -> str | None:
    """Return the commit that the newest delivery of a branch pushed; None without a delivery."""
    done = [e for e in history if e.event == "done" and e.fields.get("branch") == branch]
    return _text(done[-1].fields.get("head")) if done else None


def claims(history: Iterable[Entry]) -> list[tuple[str, str, str | None]]:
    """Return agent, run and the branch's former name of each claim, newest first.

    The former name is mostly None. A claim is skipped if agent and run cannot be names of folders.
    """
    found = []
    for entry in history:
        agent, run = _text(entry.fields.get("agent")), _text(entry.fields.get("run"))
        is_plain = files.is_plain_name(agent) and files.is_plain_name(run)
        if entry.event == "claimed" and is_plain and agent and run:
            found.append((agent, run, _text(entry.fields.get("former"))))
    return found[::-1]


def why(reason: str, error: str) -> str:
    """Return a failure's reason and error as one text. Most errors begin with the reason."""
    if error == reason or error.startswith(f"{reason}:"):
        return error
    return ": ".join(filter(None, (reason, error)))


def attempts(history: Iterable[Entry]) -> list[dict[str, str]]:
    """Return the earlier attempts for the next prompt, in time order: `{"at", "kind", "text"}`.

    `kind` is attempt (reason and error), review (its feedback), question or answer.
    """
    told: list[dict[str, str]] = []
    for entry in _once(history):
        fields = {key: _text(value) or "" for key, value in entry.fields.items()}
        if entry.event in ("requeued", "failed"):
            kind, text = "attempt", why(fields.get("reason", ""), fields.get("error", ""))
        elif entry.event in ("review", "reopened"):
            kind, text = "review", fields.get("feedback", "")
        elif entry.event == "blocked":
            kind, text = "question", fields.get("question", "")
        elif entry.event == "answered":
            kind, text = "answer", fields.get("text", "")
        else:
            continue
        # A reopened task repeats the feedback of the previous review.
        repeated = entry.event == "reopened" and any(t["text"] == text for t in told[-1:])
        if text and not repeated:
            told.append({"at": entry.at, "kind": kind, "text": text})
    return told
