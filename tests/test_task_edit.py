"""`task add TITLE`, `task add --edit`, `task edit`, `task set`: a person's changes, or refused."""

from __future__ import annotations

import errno
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT, Done
from rows import each_row
from test_cli_tasks import add, claim, file_of

from orchestrator.cli import editor, task_edit
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError, TaskFileError
from orchestrator.tasks import rewrite, task_file
from orchestrator.tasks.file_store import FileStore

Cli = Callable[..., Done]


@pytest.fixture(autouse=True)
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a person wrote is kept in the system's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Make an editor that runs a sed script on the file; return the file with its calls."""

    def make(script: str) -> Path:
        program, calls = tmp_path / "an editor", tmp_path / "calls"
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{calls}\nexec sed -i -e {shlex.quote(script)} "$2"\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("EDITOR", f"'{program}' --wait")
        monkeypatch.delenv("VISUAL", raising=False)
        return calls

    return make


def kept(said: str) -> Path:
    """The file that a refusal, or an undo command, names."""
    [path] = re.findall(r"\S*/orchestrator-\S+?/[\w-]+\.md", said)[:1]
    return Path(path)


# --- task add ----------------------------------------------------------------------------------


def test_a_title_is_enough(cli: Cli, project: Layout) -> None:
    done = cli("task", "add", "Fix the login form")
    task = FileStore(project).find(done.out.strip())
    assert (task.title, task.role, task.priority) == ("Fix the login form", "implement", "P2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "try: orchestrator task add 'Fix the login form'"),
        (("Fix", "the", "form"), "try: orchestrator task add 'Fix the form'"),
        (("Fix", "--role", "test", "it's"), """try: orchestrator task add 'Fix it'"'"'s'"""),
        (("Fix", "--title", "Mend"), "give TITLE or --title TITLE"),
    ],
)
def test_a_title_that_is_not_one_word_for_the_shell_is_wrong_usage(
    cli: Cli, project: Layout, words: tuple[str, ...], said: str
) -> None:
    done = cli("task", "add", *words)
    assert done.code == 2
    assert said in done.err
    assert FileStore(project).list("incoming").tasks == ()


def test_a_new_task_is_written_in_the_editor(
    cli: Cli, project: Layout, writes: Callable[[str], Path]
) -> None:
    calls = writes("s/^# .*/# A title/; s/^PRIORITY.*/PRIORITY: p0/; s/^## Context/&\\nWhy/")
    done = cli("task", "add", "--edit", "--role", "tester")
    assert calls.read_text().startswith("--wait ")
    file = FileStore(project).read(task := FileStore(project).find(done.out.strip()))
    assert (task.title, task.role, task.priority) == ("A title", "test", "P0")
    assert "## Context\nWhy\n" in file.body
    assert (file.get("CREATED_BY"), file.id in file.raw.decode()) == ("human", True)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("s/^PRIORITY.*/NOT_BEFORE: soon/; s/^# .*/# X/", "'soon' is not a time"),
        ("s/^ROLE.*/ROLE: implementor/; s/^# .*/# X/", "did you mean 'implementer'?"),
        ("s/^PRIORITY.*/PRIORITY: high/; s/^# .*/# X/", "unknown priority 'high'"),
        ("s/^# .*//; s/^## Context/&\\nWhy/", "it has no title"),
        ("s/^## Context/&\\nWhy/", "the title is not written yet"),
    ],
)
def test_what_was_written_is_kept_if_it_is_refused(
    cli: Cli, project: Layout, writes: Callable[[str], Path], script: str, said: str
) -> None:
    writes(script)
    done = cli("task", "add", "--edit")
    assert done.code == 1
    assert said in done.err
    assert kept(done.err).read_text()
    assert f" {project.state('incoming')}" in done.err, "the hint is valid in each folder"
    assert FileStore(project).list("incoming").tasks == ()


def test_what_was_written_is_kept_if_it_cannot_be_stored(
    cli: Cli, project: Layout, writes: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = cli("task", "add", "X").out.strip()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "the queue")

    monkeypatch.setattr(FileStore, "rewrite", full)
    writes("$aMore words.")
    done = cli("task", "edit", task)
    assert done.code == 1
    assert "the queue: No space left on device" in done.err
    assert "free space" in done.err
    assert "More words." in kept(done.err).read_text()


@pytest.mark.parametrize(
    ("does", "said"),
    [("exit 3; true", "exited 3"), ("rm", "removed the file"), ("rm $1; false", "exited 1")],
)
def test_an_editor_that_fails_changes_nothing(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch, does: str, said: str
) -> None:
    monkeypatch.setenv("VISUAL", does)
    done = cli("task", "add", "--edit", "X")
    assert (done.code, said in done.err, "kept" in done.err) == (1, True, False)


def test_a_time_that_cannot_be_read_is_refused_and_one_in_a_file_is_named(
    cli: Cli, project: Layout
) -> None:
    task = cli("task", "add", "X").out.strip()
    done = cli("task", "set", task, "not_before=soon")
    assert (done.code, "'soon' is not a time" in done.err) == (1, True)
    assert "a time like 2026-01-31T08:00Z" in done.err
    assert cli("task", "set", task, "not_before=2999-01-31T08:00Z").code == 0
    assert cli("task", "show", task, "--json").json["not_before"] == "2999-01-31T08:00:00Z"
    hint = f"no action needed; to start it now: orchestrator task set {task} not_before="
    assert hint in cli("explain", task).out
    path = Path(FileStore(project).find(task).where)
    path.write_text(path.read_text().replace("2999-01-31T08:00Z", "soon"))
    said = cli("explain", task).out
    assert "no action needed" not in said
    assert f"orchestrator task set {task} not_before=2026-01-31T08:00Z" in said


def test_without_a_terminal_and_without_a_variable_no_editor_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", " ")
    with pytest.raises(OrchestratorError, match="no terminal"), editor.edited("x", "x", ""):
        pass


@pytest.mark.parametrize("words", [("task", "add", "--edit"), ("task", "set", "T1", "priority=P0")])
def test_inside_a_run_nothing_is_edited(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_RUN_ID", "R1")
    done = cli(*words, "--json")
    assert done.json["error"]["code"] == "refused_in_run"


# --- task set ----------------------------------------------------------------------------------


def test_fields_are_set_and_the_printed_command_undoes_it(cli: Cli, project: Layout) -> None:
    other, task_id = add(cli, "Other"), add(cli)
    before = file_of(project, task_id)
    words = ("priority=p0", "role=tester", "title=Fix 'it'", f"depends-on={other}")
    done = cli("task", "set", task_id, *words)
    assert done.code == 0, done.err
    task = FileStore(project).find(task_id)
    assert (task.priority, task.role, task.title) == ("P0", "test", "Fix 'it'")
    assert task.depends_on == (other,)
    [undo] = [line for line in done.out.splitlines() if "undo:" in line]
    assert cli(*shlex.split(undo.partition("undo: orchestrator ")[2])).code == 0
    assert file_of(project, task_id) == before
    changed = cli("task", "set", task_id, "priority=P1", "--json").json
    assert changed["changed"] == {"priority": {"from": "P2", "to": "P1"}}
    assert "nothing changed" in cli("task", "set", task_id, "priority=P1").out
    assert (
        "not_before none -> 2026-01-31" in cli("task", "set", task_id, "not_before=2026-01-31").out
    )


@pytest.mark.parametrize(
    ("word", "code", "said"),
    [
        ("prority=P0", 1, "did you mean 'priority'?"),
        ("priority=high", 1, "known: P0, P1, P2, P3"),
        ("role=implementor", 1, "did you mean 'implementer'?"),
        ("role=", 1, "a task needs a role"),
        ("title=", 1, "a task needs a title"),
        ("title=" + "x" * 201, 1, "a title is one line of 1 to 200"),
        ("branch=a..b", 1, "cannot be the name of a branch"),
        ("depends_on=T9", 1, "no task named 'T9'"),
        ("created_by=me", 1, "is written by orchestrator"),
        ("title=a\nROLE: x", 1, "header cannot hold this value of TITLE"),
        ("not_before=a\nROLE: x", 1, "header cannot hold this value of NOT_BEFORE"),
        ("P0", 2, "expected key=value"),
    ],
)
def test_a_wrong_value_changes_nothing_and_says_what_is_right(
    cli: Cli, project: Layout, word: str, code: int, said: str
) -> None:
    task_id = add(cli)
    before = file_of(project, task_id)
    done = cli("task", "set", task_id, word)
    assert (done.code, said in done.err) == (code, True), done.err
    assert file_of(project, task_id) == before


def test_a_task_neither_depends_on_itself_nor_takes_anothers_title(
    cli: Cli, project: Layout
) -> None:
    add(cli, "Other")
    task_id = add(cli)
    assert "cannot depend on itself" in cli("task", "set", task_id, f"depends_on={task_id}").err
    done = cli("task", "set", task_id, "title= other ", "--json")
    assert done.json["error"]["code"] == "duplicate_task"


def test_while_a_run_has_the_task_its_role_and_branch_stay(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    claim(project, task_id)
    done = cli("task", "set", task_id, "role=test")
    assert "orchestrator stop impl-agent-1" in done.err
    done = cli("task", "set", task_id, "priority=P0")
    assert (done.code, "its next attempt sees the change" in done.err) == (0, True)
    assert FileStore(project).find(task_id).claimed_by == "impl-agent-1"


# --- task edit ---------------------------------------------------------------------------------


def test_header_and_text_are_edited_and_the_history_stays(
    cli: Cli, project: Layout, writes: Callable[[str], Path]
) -> None:
    task_id = add(cli, "Fix it", "implement", "--body", "Old text.")
    claim(project, task_id)
    before = file_of(project, task_id)
    writes("s/Old/New/; s/^PRIORITY.*/PRIORITY: P1/")
    done = cli("task", "edit", task_id)
    assert "priority P2 -> P1, the text" in done.out
    assert file_of(project, task_id) == before.replace("Old", "New").replace("P2", "P1")
    cli(*shlex.split(done.out.partition("undo: orchestrator ")[2]))
    assert file_of(project, task_id) == before


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("s/^ROLE.*//", "it has no ROLE in its header"),
        ("s/^# .*/# [OTHER] Title/", "its id would change"),
        ("s/^ROLE.*/ROLE: zzz/", "no role takes tasks with ROLE 'zzz'"),
        ("s/^PRIORITY.*/PRIORITY: soon/", "unknown priority 'soon'"),
        ("$a <!-- orchestrator:history -->", "begins a task's history"),
    ],
)
def test_an_edit_that_breaks_the_header_is_refused_and_kept(
    cli: Cli, project: Layout, writes: Callable[[str], Path], script: str, said: str
) -> None:
    task_id = add(cli)
    before = file_of(project, task_id)
    writes(script)
    done = cli("task", "edit", task_id)
    assert (done.code, said in done.err) == (1, True), done.err
    assert file_of(project, task_id) == before
    path = kept(done.err)
    assert f"orchestrator task edit {task_id} --file {path}" in done.err
    path.write_text(before.replace("Fix it", "Fixed"))
    assert cli("task", "edit", task_id, "--file", str(path)).code == 0
    assert "] Fixed\n" in file_of(project, task_id)


def test_an_edit_does_not_overwrite_what_somebody_else_changed(
    cli: Cli, project: Layout, writes: Callable[[str], Path]
) -> None:
    task_id = add(cli)
    path = FileStore(project).find(task_id).where
    writes("s/Fix it/Mine/")
    script = Path(editor._command().split("'")[1])
    script.write_text(script.read_text().replace("exec", f"sed -i s/P2/P0/ {path}; exec"))
    done = cli("task", "edit", task_id, "--json")
    assert done.json["error"]["code"] == "changed_meanwhile"
    assert "] Mine\n" in kept(done.err).read_text()
    assert "PRIORITY: P0" in file_of(project, task_id)


@pytest.mark.parametrize("state", ["claimed", "blocked", "done", "failed", None])
def test_a_task_that_moved_while_the_editor_was_open_is_edited_and_that_is_said(
    cli: Cli, project: Layout, writes: Callable[[str], Path], state: str | None
) -> None:
    task_id = add(cli)
    path = FileStore(project).find(task_id).where
    moves = f"rm {path}" if state is None else f"mv {path} {project.state(state)}"
    writes("s/Fix it/Mine/")
    script = Path(editor._command().split("'")[1])
    script.write_text(script.read_text().replace("exec", f"{moves}; exec"))
    done = cli("task", "edit", task_id)
    if state is None:
        assert (done.code, "] Mine\n" in kept(done.err).read_text()) == (1, True)
        return
    assert done.code == 0
    assert f"{task_id} was in incoming; meanwhile it has moved to {state}" in done.err
    assert ("no run sees the change" in done.err) == (state in ("done", "failed"))
    assert "] Mine\n" in file_of(project, task_id)


# --- the text ----------------------------------------------------------------------------------

PLAIN = "# [T1] A title\n\nrole: implement\nX-Est: 3 days\nPRIORITY:  P1 \n\nText  \n\n- [ ] a\n"
CASES: dict[str, tuple[str, dict[str, str], str]] = {
    "a changed field": (PLAIN, {"PRIORITY": "P0"}, PLAIN.replace("PRIORITY:  P1 ", "PRIORITY: P0")),
    "the key stays as it was written": (
        PLAIN, {"ROLE": "test"}, PLAIN.replace("role: implement", "role: test"),
    ),
    "a new field": (
        PLAIN, {"BRANCH": "dev"}, PLAIN.replace("  P1 \n", "  P1 \nBRANCH: dev\n"),
    ),
    "a removed field": (PLAIN, {"X-EST": ""}, PLAIN.replace("X-Est: 3 days\n", "")),
    "a title": (PLAIN, {"TITLE": "B"}, PLAIN.replace("A title", "B")),
    "line ends of Windows": (
        PLAIN.replace("\n", "\r\n"), {"TITLE": "B", "BRANCH": "dev"},
        PLAIN.replace("A title", "B").replace("  P1 \n", "  P1 \nBRANCH: dev\n").replace(
            "\n", "\r\n"
        ),
    ),
    "a byte order mark": (
        "\ufeff" + PLAIN, {"TITLE": "B"}, "\ufeff" + PLAIN.replace("A title", "B"),
    ),
    "a title without an id": (
        PLAIN.replace("[T1] ", ""), {"TITLE": "[B] C"}, PLAIN.replace("A title", "[B] C"),
    ),
    "no line end after the last field": (
        "# A\nROLE: implement", {"PRIORITY": "P0"}, "# A\nROLE: implement\nPRIORITY: P0\n",
    ),
    "a field that stands twice": (
        "# A\nROLE: a\nROLE: b\n\nText\n", {"ROLE": "test"}, "# A\nROLE: test\n\nText\n",
    ),
    "front matter becomes the plain format": (
        "---\ntitle: A\nid: T1\nrole: implement\nx-Est: 3\n---\n\nText\n", {"PRIORITY": "P0"},
        "# [T1] A\n\nrole: implement\nx-Est: 3\nPRIORITY: P0\n\nText\n",
    ),
}  # fmt: skip


@each_row("case", CASES)
def test_only_what_is_set_changes(case: str) -> None:
    text, values, wanted = CASES[case]
    file = task_file.parse(text.encode(), "T1.md")
    found = rewrite.with_fields(file, values)
    assert found == wanted
    after = task_file.parse(found.encode(), "T1.md")
    assert (after.id, after.body) == (file.id, file.body)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "\x1b[2J", "a\u2028b"])
def test_a_value_that_would_not_be_read_back_is_refused(value: str) -> None:
    file = task_file.parse(PLAIN.encode(), "T1.md")
    for key in ("BRANCH", "TITLE"):
        with pytest.raises(TaskFileError, match=rf"cannot hold this value of {key}"):
            rewrite.with_fields(file, {key: value})


def test_a_dropped_file_keeps_its_name_and_its_time(cli: Cli, project: Layout) -> None:
    path = Path(project.state("incoming"), "fix login.md")
    path.write_text("# Fix login\nROLE: implement\n\nText\n")
    before: Any = FileStore(project).find("fix-login")
    assert cli("task", "set", "fix-login", "priority=P0").code == 0
    after = FileStore(project).find("fix-login")
    assert (after.where, after.priority, after.created) == (str(path), "P0", before.created)


def test_the_text_is_set_without_the_header_and_the_printed_command_undoes_it(
    cli: Cli, project: Layout, tmp_path: Path
) -> None:
    task_id = add(cli, "Fix it", "implement", "--body", "Before.\n\nTwice.")
    text = tmp_path / "text.md"
    text.write_text("\n\nAfter.\n\n## More\n- [ ] x")
    done = cli("task", "set", task_id, "priority=P0", "--body-file", str(text))
    assert done.code == 0
    file = FileStore(project).read(FileStore(project).find(task_id))
    assert file.body.strip() == "After.\n\n## More\n- [ ] x"
    assert (file.title, file.get("PRIORITY")) == ("Fix it", "P0")
    assert cli("task", "edit", task_id, "--file", str(kept(done.out))).code == 0
    file = FileStore(project).read(FileStore(project).find(task_id))
    assert (file.body.strip(), file.get("PRIORITY")) == ("Before.\n\nTwice.", "P2")


def test_nothing_to_set_is_wrong_usage(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    done = cli("task", "set", task_id)
    assert done.code == 2
    assert f"orchestrator task set {task_id} priority=P0" in done.err


def test_the_help_and_the_reference_name_each_field_that_people_set() -> None:
    lines = (CHECKOUT / "docs" / "reference.md").read_text().splitlines()
    [row] = [line for line in lines if line.startswith("| `task set ")]
    for name in map(str.lower, task_edit.FIELDS):
        assert re.search(rf"\b{name}\b", task_edit.set_fields.__doc__ or ""), name
        assert f"`{name}`" in row
