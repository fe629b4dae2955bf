"""`orchestrator.tasks.task_file`: every byte of a person's task survives, and history adds up."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rows import each_row

from orchestrator.model.errors import TaskFileError
from orchestrator.model.times import parse_time
from orchestrator.model.work import Entry, Task
from orchestrator.tasks import header, history, task_file
from orchestrator.tasks.history import HEADING, MARKER, NAME_REFUSED, append
from orchestrator.tasks.task_file import TaskFile, new, parse

SEED = b"""# [TASK-a1b2c3d4] Add input validation

ROLE: implement
PRIORITY: P1
BRANCH: main
CREATED: 2024-01-15T10:30:00Z
CREATED_BY: pm-agent

## Context
Background and motivation...

## Acceptance Criteria
- [ ] Criterion 1
- [ ] Criterion 2
"""
SMALL = b"# Fix it\nROLE: implement\n"
AT = "2026-11-22T09:00:00Z"


def seen(file: TaskFile) -> Task:
    """Return what the planner sees of a file."""
    return task_file.summarise(file, "incoming", "x.md", 1.0)


def with_history(*entries: tuple[str, dict[str, object]], data: bytes = SMALL) -> TaskFile:
    for event, fields in entries:
        data += append(data, Entry(AT, event, fields))
    return parse(data, "fix-it.md")


def fold(*entries: tuple[str, dict[str, object]], data: bytes = SMALL) -> Task:
    return task_file.summarise(with_history(*entries, data=data), "claimed", "/q/x.md", 7.0)


def refusal(data: bytes, name: str = "x.md") -> str:
    with pytest.raises(TaskFileError) as caught:
        parse(data, name)
    return str(caught.value)


@pytest.mark.parametrize("data", [SMALL, SMALL.rstrip(b"\n"), SMALL.replace(b"\n", b"\r\n")])
def test_an_entry_is_added_once_per_run_and_the_new_file_is_what_is_written(data: bytes) -> None:
    first = Entry("2026-11-22T09:00:00Z", "requeued", {"run": "R1", "charged": True})
    written = data
    for event, length in ((first, 1), (first, 1), (first._replace(fields={"run": "R2"}), 2)):
        file, line = task_file.with_entry(written, "x.md", event)
        written += line
        assert len(file.history) == length
        assert file.raw == written
        assert parse(written, "x.md") == file


# --- reading -----------------------------------------------------------------------------------


def test_the_seeds_own_example_is_read_as_it_means() -> None:
    task = parse(SEED, "whatever.md")
    assert (task.id, task.title) == ("TASK-a1b2c3d4", "Add input validation")
    assert (seen(task).role, seen(task).priority, task.get("BRANCH")) == ("implement", "P1", "main")
    assert (task.get("CREATED"), task.get("CREATED_BY")) == ("2024-01-15T10:30:00Z", "pm-agent")
    assert task.body.startswith("## Context\n")
    assert task.body.endswith("- [ ] Criterion 2\n")
    assert (seen(task).depends_on, task.history) == ((), ())


def test_the_seeds_example_is_what_the_tool_writes() -> None:
    body = parse(SEED, "x.md").body
    made = new(
        "TASK-a1b2c3d4",
        "Add input validation",
        "implement",
        "P1",
        "main",
        "2024-01-15T10:30:00Z",
        "pm-agent",
        (),
        body,
    )
    assert made.raw == SEED


@each_row(
    ("name", "expected"),
    [
        ("fix login bug.md", "fix-login-bug"),
        ("Fix  (login)  bug!.md", "Fix-login-bug"),
        ("v1.2 notes.md", "v1.2-notes"),
        ("--x--.md", "x"),
        ("a..b.md", "a.b"),
        ("yarn.lock.md", "yarn-lock"),
        ("_draft.md", "draft"),
        ("README.MD", "README"),
        ("x" * 80 + ".md", "x" * 64),
        ("x" * 63 + "-y.md", "x" * 63),
        ("日本 login.md", "login"),
    ],
)
def test_without_an_id_in_the_title_the_files_name_becomes_one(name: str, expected: str) -> None:
    assert parse(SMALL, name).id == expected
    assert parse(SMALL, f"{expected}.md").id == expected


@each_row(
    ("data", "reason"),
    [
        (b"", "no title"),
        (b"\n\n", "no title"),
        (b"ROLE: implement\n\n# Late title\n", "no title"),
        (b"#Fix\nROLE: implement\n", "no title"),
        (b"# \nROLE: implement\n", "no title"),
        (b"# [a1]\nROLE: implement\n", "no title"),
        (b"# \x1b[31m\x1b[0m\nROLE: implement\n", "no title"),
        (b"# Fix\n", "no ROLE"),
        (b"# Fix\n\nROLE:\n", "no ROLE"),
        (b"# Fix\n\nSome words first.\nROLE: implement\n", "no ROLE"),
        (b"# Fix\n\n## Notes\nROLE: implement\n", "no ROLE"),
        (b"# Fix\nPRIORITY: P1\n\nROLE: implement\n", "no ROLE"),
        (b"# [a b] Fix\nROLE: implement\n", "id 'a b'"),
        (b"# [../x] Fix\nROLE: implement\n", "id '../x'"),
        (
            b"# [a..b] Fix\nROLE: implement\n",
            "id 'a..b' cannot be used: a branch is named",
        ),
        (b"# [a.lock] Fix\nROLE: implement\n", "id 'a.lock'"),
        (b"# [a.] Fix\nROLE: implement\n", "id 'a.'"),
        (b"# [-a] Fix\nROLE: implement\n", "id '-a'"),
        (b"# [" + b"a" * 65 + b"] Fix\nROLE: implement\n", "id 'aaaa"),
        (b"# Caf\xe9\nROLE: implement\n", "not UTF-8 text (byte 5)"),
        ("# Fix\nROLE: implement\n".encode("utf-16"), "not UTF-8"),
        (b"# Fix\nROLE: implement\n\nnul\0l", "NUL"),
        (SMALL + b"x" * (1 << 20), "over 1 MiB"),
        (SMALL + b"DEPENDS_ON: %s\n" % b" ".join(b"A%d" % n for n in range(101)), "101 ids"),
        (b"---\nrole: implement\n# Fix\n", "no second `---`"),
        (b"---\nrole: implement\n---\nno heading\n", "no title"),
        (b"---\ntitle: Fix\n---\nROLE: implement\n", "no ROLE"),
        (b"---\n---\n# Fix\n", "no ROLE"),
        (b"---\n- a\n---\n# Fix\n", "not `KEY: value`"),
        (b"---\nrole: [\n---\n# Fix\n", "not YAML"),
        (b"---\nrole: &a x\nb: *a\n---\n# Fix\n", "anchor"),
        (b"---\nrole: !!python/name:os.system x\n---\n# Fix\n", "tag"),
        (b"---\nrole: " + b"[" * 30000 + b"\n---\n# Fix\n", "nested too deeply"),
        (b"---\n" + b"a: b\n" * 20000 + b"role: x\n---\n# Fix\n", "larger than 64 KiB"),
        (b"--- x\nrole: implement\n---\n# Fix\n", "no title"),
    ],
)
def test_what_cannot_be_a_task_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    assert reason in refusal(data)


def test_a_name_that_leaves_no_id_is_refused_with_the_way_out() -> None:
    with pytest.raises(TaskFileError) as caught:
        parse(SMALL, "修复.md")
    assert caught.value.hint is not None
    assert "[ID]" in caught.value.hint


@each_row(
    ("text", "fields", "body"),
    [
        ("# T\nROLE: x\n\nROLE: y\n", {"ROLE": "x"}, "ROLE: y\n"),
        ("# T\n\n\nROLE: x\nA: b\n\n\nbody", {"ROLE": "x", "A": "b"}, "\nbody"),
        ("# T\nROLE: x\n## Now\n\nA: b\n", {"ROLE": "x", "A": None}, "## Now\n\nA: b\n"),
        ("# T\nROLE: x\nwords\nA: b\n", {"ROLE": "x", "A": None}, "words\nA: b\n"),
        ("# T\nROLE: x\nhttps://e.org\n", {"ROLE": "x", "HTTPS": None}, "https://e.org\n"),
        ("# T\nROLE: x\n A: b\n", {"A": None}, " A: b\n"),
        ("# T\nROLE: x\nROLE: y\n", {"ROLE": "x"}, ""),
        ("# T\nrole:x\nJira-Key: AB-1\nUrl: http://e.org\n", {"Role": "x", "JIRA-KEY": "AB-1"}, ""),
        ("\n \n# T\nROLE: x", {"ROLE": "x"}, ""),
        ("# T\nROLE: x\n \t\nbody", {"ROLE": "x"}, "body"),
    ],
)
def test_the_header_ends_where_the_contract_says(
    text: str, fields: dict[str, str | None], body: str
) -> None:
    for newline in ("\n", "\r\n"):
        task = parse(text.replace("\n", newline).encode(), "t.md")
        assert {key: task.get(key) for key in fields} == fields
        assert task.body == body.replace("\n", newline)


def test_a_repeated_key_is_kept_and_the_first_one_counts() -> None:
    task = parse(b"# T\nRole: x\nROLE: y\nX-Mine:  1 \n", "t.md")
    assert task.fields == (("Role", "x"), ("ROLE", "y"), ("X-Mine", "1"))
    assert seen(task).role == "x"


def test_a_byte_order_mark_is_tolerated() -> None:
    for data in (SEED, b"---\nrole: implement\ntitle: Fix\n---\nbody"):
        task = parse(b"\xef\xbb\xbf" + data, "x.md")
        assert (seen(task).role, task.body) == ("implement", parse(data, "x.md").body)


@pytest.mark.parametrize(
    ("heading", "title"),
    [
        ("  Fix \t the   bug ", "Fix the bug"),
        ("\x1b[31mFix\x1b[0m \x1b]0;owned\x07it\x07", "Fix it"),
        ("Fix \x9b2Jit\u2028now", "Fix it now"),
        ("\u202egnp.exe", "gnp.exe"),
        ("Familie 👩‍👩‍👧 grüßen", "Familie 👩‍👩‍👧 grüßen"),
        ("[a link](https://e.org) breaks", "[a link](https://e.org) breaks"),
    ],
)
def test_a_title_is_cleaned_for_display(heading: str, title: str) -> None:
    data = f"# {heading}\nROLE: x\n".encode()
    assert parse(data, "t.md").title == title


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("TASK-0badf00d, TASK-12345678", ("TASK-0badf00d", "TASK-12345678")),
        ("a b,,a", ("a", "b")),
        ("[a, 'b']", ("a", "b")),
        ("none", ()),
        ("", ()),
    ],
)
def test_dependencies_are_ids_each_once(value: str, expected: tuple[str, ...]) -> None:
    task = parse(f"# T\nROLE: x\nDEPENDS_ON: {value}\n".encode(), "t.md")
    assert seen(task).depends_on == expected


# --- front matter ------------------------------------------------------------------------------


def test_front_matter_bears_the_same_keys_in_any_case() -> None:
    data = b"""---
Id: TASK-1
title: "Fix: the login"
role: implement
Priority: p0
BRANCH: 1.10
created: 2024-01-15 10:30:00
depends_on: [a, 0123]
assignee:
  name: x
---

ROLE: of the body

---
more
"""
    task = parse(data, "x.md")
    assert (task.id, task.title, seen(task).role) == ("TASK-1", "Fix: the login", "implement")
    known = seen(task)
    assert (known.priority, known.branch, known.depends_on) == ("P0", "1.10", ("a", "0123"))
    assert task.body.endswith("ROLE: of the body\n\n---\nmore\n")
    summary = task_file.summarise(task, "incoming", "p", 1.0)
    assert summary.created == parse_time("2024-01-15T10:30:00Z")


@each_row(
    ("head", "body", "expected"),
    [
        ("role: x", "# [A-1] Fix", ("A-1", "Fix")),
        ("role: x", "words\n\n# Fix\n", ("file", "Fix")),
        ("role: x\ntitle: '[A-1] Fix'", "# Other", ("A-1", "Fix")),
        ("role: x\nid: B-2\ntitle: '[WIP] Fix'", "", ("B-2", "[WIP] Fix")),
        ("role: x\nid: A-1", "# [A-1] Fix", ("A-1", "Fix")),
        ("role: x\nid: ~\ntitle: null", "# Fix", ("file", "Fix")),
        ("role: x\nid: 0042\ntitle: 2024-13-45", "", ("0042", "2024-13-45")),
        ("role: x\nROLE: y\ntitle: |\n  two\n  lines", "", ("file", "two lines")),
    ],
)
def test_a_front_matter_files_name_and_title(
    head: str, body: str, expected: tuple[str, str]
) -> None:
    for newline in ("\n", "\r\n"):
        data = f"---\n{head}\n---\n{body}".replace("\n", newline).encode()
        task = parse(data, "file.md")
        assert (task.id, task.title, seen(task).role) == (*expected, "x")
        assert task.body == body.replace("\n", newline)


# --- writing -----------------------------------------------------------------------------------

LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=60)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True).filter(task_file.is_id)
KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,12}", fullmatch=True)
BODY = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.lists(
    st.sampled_from(
        ["ROLE: y", "# [b] T", "## H", "---", "", "\r", f" {MARKER}", HEADING, "- x", "é"]
    )
).map("\n".join)


@st.composite
def tasks(draw: st.DrawFn) -> TaskFile:
    return new(
        draw(IDS),
        draw(LINE.filter(lambda text: header.visible(text) != "")),
        draw(LINE.filter(lambda text: header.visible(text) != "")),
        draw(st.sampled_from(["P0", "p3", None])),
        draw(LINE | st.none()),
        AT,
        draw(LINE | st.none()),
        draw(st.lists(IDS, max_size=3)),
        draw(BODY.filter(lambda text: MARKER not in text.splitlines())),
        draw(st.lists(st.tuples(KEYS, LINE), max_size=3)),
    )


@given(tasks())
def test_a_new_file_is_parsed_back_the_same(task: TaskFile) -> None:
    assert parse(task.raw, f"{task.id}.md") == task


@given(IDS, BODY.filter(lambda text: MARKER not in text.splitlines()))
def test_a_new_task_holds_what_it_was_given(task_id: str, body: str) -> None:
    task = new(task_id, "A title", "x", "p1", "b", AT, "me", ["d"], body, [("REVIEWS", "a")])
    known = seen(task)
    assert (known.id, known.title, known.role, known.priority) == (task_id, "A title", "x", "P1")
    assert (task.get("BRANCH"), task.get("CREATED"), task.get("CREATED_BY")) == ("b", AT, "me")
    assert (known.depends_on, known.reviews, task.body) == (("d",), "a", body)


PIECES = st.sampled_from(
    b"# [A-1] T|# T|ROLE: x|---|role: x|\xef\xbb\xbf|\r||## H|a: &b [*b]|\0|\xff|title: T".split(
        b"|"
    )
    + f'{MARKER}|{HEADING}|- {AT} requeued {{"charged": true}}|- {AT} x {{'.encode().split(b"|")
)
FILES = st.binary() | st.lists(PIECES).map(b"\n".join)


@given(FILES, st.text())
@example(b'---\nrole: "\\uD800"\ntitle: T\n---\n', "x.md")
@example(b"---\nrole: x\ntitle: T\nn: " + b"9" * 5000 + b"\n---\n", "x.md")
@example(b"---\n? [a]\n: x\nrole: {a: [b, c]}\ntitle: T\n---\n", "x.md")
def test_any_bytes_are_a_task_or_a_refusal(data: bytes, name: str) -> None:
    try:
        task = parse(data, name)
    except TaskFileError:
        return
    assert data[: history.split(data)[0]].endswith(task.body.encode())
    assert task_file.is_id(task.id)
    summary = task_file.summarise(task, "incoming", "p", 0.0)
    f"{summary} {history.attempts(task.history)}".encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
TEXT = st.text(st.characters(codec="utf-8"))
ENTRIES = st.builds(
    Entry,
    st.just(AT),
    st.from_regex("[a-z_]+", fullmatch=True),
    st.dictionaries(TEXT, TEXT | st.integers(-(2**40), 2**40) | st.booleans() | st.none()),
)


@given(FILES, st.lists(ENTRIES, min_size=1, max_size=3))
def test_appending_adds_to_the_history_and_changes_nothing_else(
    noise: bytes, entries: list[Entry]
) -> None:
    front = b"---\nrole: x\ntitle: T\n---\n"
    for data in (noise, SMALL + noise, front + noise, SEED.replace(b"\n", b"\r\n") + noise):
        try:
            before = parse(data, "x.md")
        except TaskFileError:
            continue
        for entry in entries:
            data += append(data, entry)
        after = parse(data, "x.md")
        assert after.history == (*before.history, *entries)
        assert (after.body, after.fields) == (before.body, before.fields)
        assert data[: history.split(data)[0]].endswith(after.body.encode())


def test_a_file_with_history_looks_as_the_documentation_says() -> None:
    data = SMALL + append(SMALL, Entry(AT, "claimed", {"agent": "a", "run": "r"}))
    data += append(data, Entry(AT, "done", {"run": "r", "summary": "Grüße\nzwei"}))
    assert data.decode() == (
        "# Fix it\nROLE: implement\n\n<!-- orchestrator:history -->\n## History\n"
        '- 2026-11-22T09:00:00Z claimed {"agent": "a", "run": "r"}\n'
        '- 2026-11-22T09:00:00Z done {"run": "r", "summary": "Grüße\\nzwei"}\n'
    )


@each_row("newline", ["\n", "\r\n"])
@each_row("end", ["", "\n", "\n\n", "no end", "\r"])
def test_history_keeps_the_files_newlines_and_the_bodys_last_bytes(newline: str, end: str) -> None:
    text = "# T\nROLE: x\n\nbody".replace("\n", newline) + end
    data = text.encode() + append(text.encode(), Entry(AT, "retried"))
    data += append(data, Entry(AT, "retried"))
    assert parse(data, "t.md").body == "body" + end
    assert data[len(text) :].count(b"\n") == data[len(text) :].count(newline.encode())
    assert len(parse(data, "t.md").history) == 2


@given(TEXT)
@example("a\u2028b\u2029c\x85d\x0be\x1cf\r\n")
def test_a_history_line_is_one_line_for_every_reader(text: str) -> None:
    line = history.line(Entry(AT, "answered", {"text": text}))
    assert len(line.splitlines()) == 1


def test_a_lone_surrogate_is_replaced_for_it_could_be_written_nowhere() -> None:
    assert with_history(("answered", {"text": "a\udcffb"})).history[0].fields == {
        "text": "a\ufffdb"
    }
    forged = SMALL + append(SMALL, Entry(AT, "x")) + f'- {AT} y {{"a": "\\ud800"}}\n'.encode()
    assert [entry.event for entry in parse(forged, "x.md").history] == ["x"]


@pytest.mark.parametrize(
    "entry",
    [
        Entry("yesterday", "done"),
        Entry(AT, "Not a word"),
        Entry(AT, "done\n"),
        Entry(AT, "done", {"cost": float("nan")}),
    ],
)
def test_an_entry_that_could_not_be_read_back_is_not_written(entry: Entry) -> None:
    with pytest.raises(ValueError, match=r"history|JSON"):
        history.line(entry)


def test_the_last_marker_line_counts_and_the_rest_is_body() -> None:
    body = f"about {MARKER}\n{MARKER}\n## History\n- {AT} retried {{}}\n"
    data = SMALL + f"\n{body}\n{MARKER}\n- {AT} done {{}}\nwords\n".encode()
    task = parse(data, "x.md")
    assert task.body == body
    assert [entry.event for entry in task.history] == ["done"]
    assert f"about {MARKER}\n" in parse(SMALL + f"\nabout {MARKER}\n".encode(), "x.md").body


def test_a_line_cut_short_by_a_crash_is_ignored_and_the_next_one_is_read() -> None:
    whole = SMALL + append(SMALL, Entry(AT, "claimed", {"agent": "ä", "run": "r"}))
    kept = len(SMALL) + len(f"\n{MARKER}")
    for cut in range(kept, len(whole) + 1):
        data = whole[:cut]
        data += append(data, Entry(AT, "retried"))
        events = [entry.event for entry in parse(data, "x.md").history]
        assert events == (["claimed", "retried"] if cut >= len(whole) - 1 else ["retried"])
    zeroed = whole + b"\0" * 40
    assert [e.event for e in parse(zeroed, "x.md").history] == ["claimed"]


def test_the_tools_own_history_never_makes_a_task_too_large() -> None:
    data = SMALL + b"\n" + b"x" * ((1 << 20) - len(SMALL) - 1)
    data += append(data, Entry(AT, "requeued", {"error": "e" * 100_000}))
    assert len(data) > 1 << 20
    assert len(parse(data, "x.md").history) == 1


@each_row(
    ("change", "reason"),
    [
        ({"id": "a b"}, "task id"),
        ({"depends_on": ["ok", "../x"]}, "task id"),
        ({"title": " "}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"title": "\x1b[31mred"}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "\udcff"}, "UTF-8"),
        ({"role": ""}, "role"),
        ({"role": "x\nPRIORITY: P0"}, "ROLE"),
        ({"priority": "urgent"}, "urgent"),
        ({"branch": "a\nb"}, "BRANCH"),
        ({"extra": [("A B", "x")]}, "A B"),
        ({"extra": [("A", "x\ny")]}, "header"),
        ({"body": f"x\n{MARKER}\n"}, "history"),
        ({"body": f"x\r\n{MARKER}\r\n"}, "history"),
        ({"body": "nul\0"}, "NUL"),
        ({"body": "\udcff"}, "UTF-8"),
        ({"body": "x" * (1 << 20)}, "1 MiB"),
    ],
)
def test_a_new_task_is_refused_when_it_would_not_be_read_back(
    change: dict[str, object], reason: str
) -> None:
    good: dict[str, object] = {"id": "A-1", "title": "T", "role": "x", "priority": None}
    good |= {"branch": None, "created": AT, "created_by": None, "depends_on": (), "body": ""}
    new(**good)  # type: ignore[arg-type]
    with pytest.raises(TaskFileError, match=reason):
        new(**good | change)  # type: ignore[arg-type]


# --- what it adds up to ------------------------------------------------------------------------

Event = tuple[str, dict[str, object]]
CLAIMED: Event = ("claimed", {"agent": "impl-1", "run": "r1", "branch": "agent/a-b"})
REQUEUED: Event = (
    "requeued",
    {"run": "r1", "charged": True, "reason": "checks_failed", "error": "red", "delay": 10}
    | {"not_before": "2026-11-22T09:00:10Z", "session": "s", "agent": "impl-1"},
)


@each_row(
    ("entries", "expected"),
    [
        ([], {"attempts": 0, "created": 7.0, "priority": "P2", "work_branch": None, "pr": None}),
        ([CLAIMED], {"claimed_by": "impl-1", "run": "r1", "work_branch": "agent/a-b"}),
        (
            [CLAIMED, REQUEUED],
            {"claimed_by": None, "run": "r1", "attempts": 1, "reason": "checks_failed"}
            | {"error": "red", "backoff": 10.0, "not_before": 1795338010.0}
            | {"session": "s", "interruptions": 0},
        ),
        (
            [CLAIMED, REQUEUED, ("claimed", {"agent": "b", "run": "r2", "branch": "other"})],
            {"not_before": None, "backoff": None, "work_branch": "agent/a-b", "attempts": 1}
            | {"session": "s", "claimed_by": "b", "run": "r2", "reason": None, "error": None},
        ),
        (
            [("requeued", {"run": "r1", "charged": False, "reason": "usage_limit"})],
            {"attempts": 0, "reason": "usage_limit", "not_before": None},
        ),
        (
            [("requeued", {"run": r, "interrupted": True, "charged": r == "2"}) for r in "12"],
            {"interruptions": 2, "attempts": 1},
        ),
        (
            [("requeued", {"run": "1", "interrupted": True}), ("requeued", {"run": "2"})],
            {"interruptions": 0},
        ),
        (
            [CLAIMED, REQUEUED, ("done", {"run": "r2", "pr": 12, "head": "abc"})],
            {"pr": "12", "reason": None, "error": None, "not_before": None, "head": None},
        ),
        (
            [CLAIMED, REQUEUED, ("failed", {"run": "r2", "reason": "no_result", "charged": True})],
            {"attempts": 2, "reason": "no_result", "error": None, "claimed_by": None},
        ),
        ([("failed", {"reason": "dependency"})], {"attempts": 0, "reason": "dependency"}),
        (
            [CLAIMED, ("blocked", {"run": "r1", "question": "Which?", "reason": "needs_human"})],
            {"question": "Which?", "reason": "needs_human", "claimed_by": None},
        ),
        ([("blocked", {"question": "?"}), ("answered", {"text": "A"})], {"question": None}),
        (
            [CLAIMED, REQUEUED, ("failed", {"reason": "x", "charged": True}), ("retried", {})],
            {"attempts": 0, "interruptions": 0, "not_before": None, "backoff": None}
            | {"work_branch": "agent/a-b"},
        ),
        (
            [
                ("requeued", {"run": "1", "verdict": "moved", "charged": False}),
                ("requeued", {"run": "2", "verdict": "moved", "charged": True}),
                ("requeued", {"run": "3", "verdict": "system_fault", "cost_usd": 0.2}),
                ("requeued", {"run": "4", "verdict": "system_fault", "cost_usd": 0}),
                ("requeued", {"run": "5", "verdict": "usage_limit", "cost_usd": 1}),
                ("requeued", {"run": "6", "verdict": "interrupted", "interrupted": True}),
                ("requeued", {"run": "7", "verdict": "moved"}),
                ("requeued", {"run": "8", "verdict": ["odd"]}),
                ("review", {"run": "9", "verdict": "approved"}),
                ("review", {"run": "10", "verdict": "changes_requested", "reviewer": "scheduler"}),
                ("requeued", {"run": "11", "verdict": "system_fault", "first": True}),
                ("requeued", {"run": "12", "verdict": "interrupted", "first": True}),
                ("blocked", {"run": "13", "question": "?"}),
            ],
            {
                "uncharged": {
                    "moved": 2,
                    "system_fault": 1,
                    "interrupted": 2,
                    "review": 1,
                    "first_fault": 1,
                }
            },
        ),
        *(
            ([("requeued", {"run": "1", "verdict": "moved"}), end], {"uncharged": {}})
            for end in (
                ("done", {"run": "2"}),
                ("answered", {"text": "A"}),
                ("retried", {}),
                ("reopened", {"feedback": "f"}),
                ("moved", {"from": "blocked", "to": "incoming"}),
                ("review", {"run": "p", "verdict": "approved", "kind": "person"}),
            )
        ),
        # The next claim asks for it: the branch gets another name.
        *(
            ([("blocked", {"reason": NAME_REFUSED}), end], {"reason": NAME_REFUSED})
            for end in (
                ("answered", {"text": "A"}),
                ("retried", {}),
                ("moved", {"from": "blocked", "to": "incoming"}),
            )
        ),
        ([("blocked", {"reason": NAME_REFUSED}), ("answered", {}), CLAIMED], {"reason": None}),
        ([("blocked", {"reason": "ref_broken"}), ("answered", {})], {"reason": None}),
        ([("cancelled", {"reason": "not needed"})], {"reason": "cancelled", "error": "not needed"}),
        ([CLAIMED, ("moved", {"from": "claimed", "to": "incoming"})], {"claimed_by": None}),
        (
            [("review", {"run": r, "verdict": "changes_requested"}) for r in "12"]
            + [("review", {"run": "3", "verdict": "approved"})],
            {"review_rounds": 2},
        ),
        (
            [CLAIMED, REQUEUED, ("reopened", {"feedback": "f", "round": 1, "pr": "p1"})],
            {"attempts": 0, "not_before": None, "pr": "p1"},
        ),
        (
            [("delivered", {"pr": "p1", "head": "h", "branch": "b"}), ("done", {"run": "r"})],
            {"pr": "p1", "work_branch": "b"},
        ),
        ([("delivered", {"pr": "p1"}), ("reopened", {"pr": "p2"})], {"pr": "p2"}),
        (
            [
                ("requeued", {"run": "1", "cost_usd": 0.5}),
                ("blocked", {"run": "2", "cost_usd": 1}),
                ("requeued", {"run": "3"}),
                ("failed", {"run": "4", "cost_usd": -7}),
            ],
            {"cost_usd": 1.5},
        ),
        ([("failed", {"run": "1", "cost_usd": 0.5}), ("retried", {})], {"cost_usd": 0.0}),
        ([("requeued", {"cost_usd": 1e12, "delay": -1e12})], {"cost_usd": 0.0, "backoff": None}),
        ([("unheard_of", {"pr": "p", "charged": True})], {"pr": None, "attempts": 0}),
        (
            [("requeued", {"delay": "x", "not_before": 5, "charged": "yes", "error": [1]})],
            {"attempts": 0, "backoff": None, "not_before": None, "error": None},
        ),
    ],
)
def test_history_adds_up(
    entries: list[tuple[str, dict[str, object]]], expected: dict[str, object]
) -> None:
    task = fold(*entries)
    assert {name: getattr(task, name) for name in expected} == expected


def test_an_event_that_a_crash_wrote_twice_counts_once() -> None:
    assert fold(CLAIMED, CLAIMED, REQUEUED, REQUEUED).attempts == 1
    second: Event = ("claimed", {"agent": "impl-1", "run": "r1"})
    assert fold(CLAIMED, REQUEUED, second, REQUEUED).attempts == 2


def test_the_header_gives_what_history_does_not() -> None:
    data = b"# T\nROLE: review\nREVIEWS: A-1\nHEAD: abc\nPR: 7\nPRIORITY: p0\nCREATED: once\n"
    task = task_file.summarise(parse(data, "t.md"), "incoming", "/q/t.md", 7.0)
    assert (task.reviews, task.head, task.pr) == ("A-1", "abc", "7")
    assert (task.priority, task.created) == ("P0", None)
    assert (task.state, task.where, task.branch) == ("incoming", "/q/t.md", None)
    odd = seen(parse(b"# T\nROLE: x\nPRIORITY: urgent\n", "t.md"))
    assert odd.priority == "urgent"


def test_the_next_prompt_is_told_what_happened_in_order() -> None:
    told = history.attempts(
        with_history(
            CLAIMED,
            REQUEUED,
            REQUEUED,
            ("blocked", {"run": "r2", "question": "Which?"}),
            ("answered", {"text": "The second"}),
            ("review", {"round": 1, "run": "r3", "verdict": "changes_requested", "feedback": "No"}),
            ("reopened", {"round": 1, "feedback": "No"}),
            ("failed", {"run": "r4", "reason": "timed_out"}),
            ("retried", {}),
        ).history
    )
    assert [(item["kind"], item["text"]) for item in told] == [
        ("attempt", "checks_failed: red"),
        ("question", "Which?"),
        ("answer", "The second"),
        ("review", "No"),
        ("attempt", "timed_out"),
    ]
    assert {item["at"] for item in told} == {AT}


@pytest.mark.parametrize(
    ("reason", "error", "told"),
    [
        ("no_result", "no_result: the client exited 1", "no_result: the client exited 1"),
        ("no_result", "no_result", "no_result"),
        ("run_gone", "no_result: its run is gone", "run_gone: no_result: its run is gone"),
        ("stalled", "stalled_out", "stalled: stalled_out"),
        ("stalled", "", "stalled"),
        ("", "red", "red"),
    ],
)
def test_a_reason_with_which_its_error_begins_is_told_once(
    reason: str, error: str, told: str
) -> None:
    happened: Event = ("requeued", {"run": "r1", "reason": reason, "error": error})
    assert [item["text"] for item in history.attempts(with_history(happened).history)] == [told]


# --- names -------------------------------------------------------------------------------------


def test_titles_compare_without_case_and_runs_of_blanks() -> None:
    assert task_file.title_key(" Fix  the\tSTRASSE ") == task_file.title_key("fix the straße")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Add input validation", "add-input-validation"),
        ("Café: crème & co.", "cafe-creme-co"),
        ("修复", ""),
        ("word " * 20, "word-word-word-word-word-word-word-word"),
        ("x" * 50, "x" * 40),
        (f"{'a' * 20} {'b' * 19}", f"{'a' * 20}-{'b' * 19}"),
        (f"{'a' * 20} {'b' * 20}", "a" * 20),
    ],
)
def test_a_slug_is_plain_words(text: str, expected: str) -> None:
    assert task_file.slug(text) == expected


@given(IDS, LINE)
def test_a_branch_name_is_short_and_plain(task_id: str, title: str) -> None:
    name = task_file.branch_name(task_id, title)
    assert name.startswith(f"agent/{task_id}")
    assert len(name) <= 111
    assert task_file.is_id(name.removeprefix("agent/")[:64].rstrip("-."))


def test_the_branch_of_a_task_is_never_a_base_branch() -> None:
    assert task_file.branch_name("in", "", "ma", ("main", None)) == "main-task"
    assert task_file.branch_name("in", "", "ma", ("main", "main-task")) == "main-task-task"
    assert task_file.branch_name("in", "", "ma", ("dev", None)) == "main"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("task_id", ["A-1", "a.b_c", "x" * 64, "0", "HEAD", "a.locks"])
@pytest.mark.parametrize("title", ["", "修复", "x.lock", "a..b~^:?*[\\", "word " * 30])
def test_git_accepts_every_branch_name(task_id: str, title: str) -> None:
    name = task_file.branch_name(task_id, title)
    subprocess.run(["git", "check-ref-format", "--branch", name], check=True, timeout=10)


# --- speed -------------------------------------------------------------------------------------


def test_ten_thousand_headers_are_read_in_well_under_two_seconds() -> None:
    start = time.process_time()
    for _ in range(2000):
        task_file.summarise(parse(SEED, "x.md"), "incoming", "p", 0.0)
    assert time.process_time() - start < 0.4


@pytest.mark.parametrize(
    "data",
    [
        SMALL + MARKER.encode() * 30_000,
        b"\n" * 1_000_000 + SMALL,
        b"# T\n" + b" " * 1_000_000 + b"x",
        b"# " + b"\x1b]0" * 250_000 + b"\nROLE: x\n",
        b"---\n" + b"--- x\n" * 150_000,
        SMALL + f"\n{MARKER}\n- {AT} x ".encode() + b'{"a": ' + b"[" * 900_000 + b"}",
    ],
)
def test_no_file_takes_long_to_be_read_or_refused(data: bytes) -> None:
    start = time.process_time()
    with contextlib.suppress(TaskFileError):
        task_file.summarise(parse(data, "x.md"), "incoming", "p", 0.0)
    assert time.process_time() - start < 1.0
