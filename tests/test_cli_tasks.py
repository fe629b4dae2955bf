"""`task` and `inbox`, as a person and as an agent use them, on real repositories."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
import warm
from conftest import AGENTS_YAML, Done, git, tree
from rows import each_row

from orchestrator.cli import pr as pr_command
from orchestrator.cli import task as cli_task
from orchestrator.layout import Layout
from orchestrator.model.work import Entry
from orchestrator.project import agent_memory, run_record
from orchestrator.tasks.file_store import FileStore
from orchestrator.tick import stop

Cli = Callable[..., Done]

ROW_KEYS = [
    "id", "title", "role", "priority", "branch", "created", "created_by", "state", "path",
    "attempts", "not_before", "depends_on", "claimed_by", "reason", "work_branch", "pr",
]  # fmt: skip


def add(cli: Cli, title: str = "Fix it", role: str = "implement", *more: str) -> str:
    done = cli("task", "add", "--title", title, "--role", role, *more)
    assert done.code == 0, done.err
    return done.out.strip()


def state_of(layout: Layout, task_id: str) -> str:
    return FileStore(layout).find(task_id).state


def file_of(layout: Layout, task_id: str) -> str:
    return Path(FileStore(layout).find(task_id).where).read_text()


def fail(layout: Layout, task_id: str, state: str = "failed", **fields: object) -> None:
    """Bring a task to where a run would have brought it."""
    store = FileStore(layout)
    event = Entry("2026-01-01T00:00:00Z", state, {"run": "R1", **fields})
    store.move(store.find(task_id), state, event)


def claim(layout: Layout, task_id: str, agent: str = "impl-agent-1") -> str:
    """Have an agent claim a task, with a run that is not settled."""
    store = FileStore(layout)
    run = "20260101T000000Z-abcdef"
    fields = {"agent": agent, "run": run, "branch": f"agent/{task_id}-x"}
    store.move(store.find(task_id), "claimed", Entry("2026-01-01T00:00:00Z", "claimed", fields))
    runs.lay_out(layout, agent, run, status="running", task=task_id)
    agent_memory.write(layout, agent, agent_memory.read(layout, agent)._replace(run=run))
    return run


def be_agent(monkeypatch: pytest.MonkeyPatch, layout: Layout, role: str = "implementer") -> None:
    monkeypatch.setenv("ORCHESTRATOR_RUN_ID", "20260101T000000Z-abcdef")
    monkeypatch.setenv("ORCHESTRATOR_AGENT", "pm-agent")
    monkeypatch.setenv("ORCHESTRATOR_ROLE", role)
    monkeypatch.setenv("ORCHESTRATOR_PROJECT", layout.root)


def settle_by_hand(layout: Layout, ended: list[str]) -> Callable[..., None]:
    """What `stop` does, without processes: the run is over, its task back in incoming."""

    def end(_: Layout, runs: dict[str, str]) -> None:
        for agent, run in runs.items():
            state = agent_memory.read(layout, agent)
            assert state.run == run
            store = FileStore(layout)
            for task in store.list("claimed").tasks:
                if task.run == run:
                    store.move(
                        task, "incoming", Entry("2026-01-01T00:00:01Z", "requeued", {"run": "x"})
                    )
            agent_memory.write(layout, agent, state._replace(run=None))
            ended.append(agent)

    return end


# --- add ---------------------------------------------------------------------------------------


def test_add_prints_the_id_and_nothing_else(cli: Cli, project: Layout) -> None:
    done = cli("task", "add", "--title", "Fix the login form", "--role", "implement")
    assert done.code == 0
    assert re.fullmatch(r"TASK-[0-9a-f]{8}\n", done.out)


@pytest.mark.parametrize("option", ["--branch", "--depends-on"])
def test_a_field_of_an_agents_task_that_looks_like_a_secret_is_refused(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    be_agent(monkeypatch, project)
    key = "sk_" + "live_51Habcdefghij0123456789"
    done = cli("task", "add", "--title", "A", "--role", "implement", option, key)
    assert done.code == 2
    assert "Stripe key" in done.err
    assert key not in done.out + done.err
    assert os.listdir(project.state("incoming")) == []


def test_add_writes_the_seeds_format(cli: Cli, project: Layout) -> None:
    first = add(cli, "The first")
    task_id = add(
        cli, "Add input validation", "implement",
        "--priority", "p1", "--branch", "main", "--depends-on", first, "--body", "## Context\nWhy.",
    )  # fmt: skip
    text = Path(project.state("incoming"), f"{task_id}.md").read_text()
    created = re.search(r"^CREATED: (.*)$", text, re.MULTILINE)
    assert created
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created[1])
    assert text == (
        f"# [{task_id}] Add input validation\n\nROLE: implement\nPRIORITY: P1\nBRANCH: main\n"
        f"CREATED: {created[1]}\nCREATED_BY: human\nDEPENDS_ON: {first}\n\n## Context\nWhy.\n"
    )


def test_add_as_json_gives_id_and_path(cli: Cli, project: Layout) -> None:
    found = cli("task", "add", "--title", "T", "--role", "test", "--json").json
    assert list(found) == ["id", "path"]
    assert found["path"] == os.path.join(project.state("incoming"), f"{found['id']}.md")
    assert os.path.isfile(found["path"])


def test_tasks_added_within_one_second_are_listed_in_their_order(cli: Cli, project: Layout) -> None:
    ids = [add(cli, f"Task {number}") for number in range(6)]
    assert [row["id"] for row in cli("task", "list", "--json").json] == ids


def test_add_takes_its_text_from_a_file_or_standard_input(
    cli: Cli, project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.md").write_bytes(b"\xef\xbb\xbfFrom a file\n")
    one = add(cli, "One", "implement", "--body-file", str(tmp_path / "notes.md"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüße\n".encode())))
    two = add(cli, "Two", "implement", "--body-file", "-")
    assert file_of(project, one).endswith("\n\nFrom a file\n")
    assert file_of(project, two).endswith("\n\nGrüße\n")


@pytest.mark.parametrize(
    ("word", "role"),
    [("implement", "implement"), ("implementer", "implement"), ("tester", "test")],
)
def test_the_name_of_an_agents_role_means_what_it_takes(
    cli: Cli, project: Layout, word: str, role: str
) -> None:
    assert f"\nROLE: {role}\n" in file_of(project, add(cli, "T", word))


def test_a_role_of_the_users_own_is_known(cli: Cli, project: Layout) -> None:
    os.makedirs(project.roles, exist_ok=True)
    Path(project.roles, "translator.md").write_text(
        "---\ntakes: translate\ntools: [Read, Edit]\n---\nTranslate.\n"
    )
    assert "\nROLE: translate\n" in file_of(project, add(cli, "T", "translator"))


def test_an_unknown_role_can_be_forced(cli: Cli, project: Layout) -> None:
    done = cli("task", "add", "--title", "T", "--role", "paint", "--force")
    assert done.code == 0
    assert "no agent takes ROLE paint" in done.err


def test_a_second_task_of_a_title_is_refused_while_the_first_waits(
    cli: Cli, project: Layout
) -> None:
    first = add(cli, "Fix  the Login")
    done = cli("task", "add", "--title", "fix the LOGIN", "--role", "implement", "--json")
    assert done.code == 1
    assert done.json["error"]["code"] == "duplicate_task"
    assert first in done.json["error"]["message"]
    add(cli, "fix the login", "test")
    add(cli, "fix the login", "implement", "--force")
    fail(project, first)


def test_a_title_that_is_over_may_come_again(cli: Cli, project: Layout) -> None:
    fail(project, add(cli, "Again"), reason="no_commits")
    add(cli, "Again")


def test_a_full_queue_is_refused_but_not_to_force(cli: Cli, project: Layout) -> None:
    assert cli("limits", "set", "max_incoming=2").code == 0
    claim(project, add(cli, "One"))
    add(cli, "Two")
    done = cli("task", "add", "--title", "Three", "--role", "implement", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "max_incoming")
    add(cli, "Three", "implement", "--force")


def test_a_file_that_cannot_be_a_task_is_not_named_as_its_own_correction(
    cli: Cli, project: Layout
) -> None:
    Path(project.state("incoming"), "-rf.md").write_text("# [-rf] Title\n\nROLE: implement\n")
    done = cli("task", "cancel", "--", "-rf")
    assert done.code == 1
    assert "did you mean" not in done.err
    assert "orchestrator task list" in done.err


def test_malformed_files_do_not_fill_the_queue(cli: Cli, project: Layout) -> None:
    assert cli("limits", "set", "max_incoming=1").code == 0
    Path(project.state("incoming"), "bad.md").write_text("no task\n")
    add(cli)


def test_twenty_at_once_keep_to_the_limit(cli: Cli, project: Layout) -> None:
    assert cli("limits", "set", "max_incoming=7").code == 0
    words = ("task", "add", "--role", "implement", "--title")
    done = warm.at_once(project.root, *((*words, f"Task {number}") for number in range(20)))
    assert sorted(each.returncode for each in done) == [0] * 7 + [1] * 13
    assert all("max_incoming is 7" in each.stderr for each in done if each.returncode)
    assert len({each.stdout for each in done if each.stdout}) == 7
    assert len(os.listdir(project.state("incoming"))) == 7


def test_twenty_at_once_add_one_title_once(cli: Cli, project: Layout) -> None:
    words = ("task", "add", "--role", "test", "--title", "T")
    done = warm.at_once(project.root, *[words] * 20)
    assert sorted(each.returncode for each in done) == [0] + [1] * 19


def test_with_a_broken_configuration_the_last_good_limits_hold(cli: Cli, project: Layout) -> None:
    assert cli("limits", "set", "max_incoming=1").code == 0
    assert cli("tick").code == 0
    add(cli)
    Path(project.config).write_text("agents: [\n")
    done = cli("task", "add", "--title", "Two", "--role", "implement", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "max_incoming")


# --- inside a run ------------------------------------------------------------------------------


def test_an_agent_adds_to_its_project_from_a_worktree_with_another_checkout(
    cli: Cli, project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    git(Path(project.root), "worktree", "add", "--quiet", "--detach", str(elsewhere))
    (elsewhere / ".orchestrator" / "shared" / "queue" / "incoming").mkdir(parents=True)
    (elsewhere / ".orchestrator" / "agents.yaml").write_text("agents: []\n")
    be_agent(monkeypatch, project)
    monkeypatch.chdir(elsewhere)
    task_id = add(cli, "From within")
    assert "\nCREATED_BY: pm-agent\n" in file_of(project, task_id)
    assert os.listdir(elsewhere / ".orchestrator" / "shared" / "queue" / "incoming") == []


@pytest.mark.parametrize("state", ["incoming", "blocked", "done", "failed"])
def test_an_agent_cannot_repeat_a_title_of_any_state_or_role(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    task_id = add(cli, "Known")
    if state != "incoming":
        fail(project, task_id, state)
    be_agent(monkeypatch, project)
    done = cli("task", "add", "--title", "known", "--role", "test", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "duplicate_task")


def test_an_agent_cannot_force(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch, unchanged: Callable[[], None]
) -> None:
    be_agent(monkeypatch, project)
    done = cli("task", "add", "--title", "T", "--role", "test", "--force", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "refused_in_run")
    unchanged()


def test_an_agent_keeps_to_the_limits(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("limits", "set", "max_incoming=1").code == 0
    be_agent(monkeypatch, project)
    add(cli)
    done = cli("task", "add", "--title", "Two", "--role", "test", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "max_incoming")


@each_row(
    "words",
    [
        ("task", "retry", "--all"),
        ("task", "cancel", "TASK-1"),
        ("task", "move", "TASK-1", "done"),
        ("inbox", "answer", "TASK-1", "yes"),
        ("inbox", "approve", "pr:1"),
        ("inbox", "dismiss", "TASK-1"),
        ("agent", "add", "x", "--role", "tester"),
        ("agent", "remove", "pm-agent"),
        ("agent", "set", "pm-agent", "model=opus"),
        ("agent", "pause", "--all"),
        ("agent", "resume", "--all"),
        ("limits", "set", "max_claimed=50"),
        ("tick",),
        ("tick", "--wait"),
        ("init",),
        ("init", "--uninstall"),
        ("run", "pm-agent"),
        ("stop", "--all"),
        ("clean",),
        ("demo",),
    ],
)
def test_inside_a_run_nothing_else_changes_anything(
    cli: Cli,
    project: Layout,
    monkeypatch: pytest.MonkeyPatch,
    unchanged: Callable[[], None],
    words: tuple[str, ...],
) -> None:
    be_agent(monkeypatch, project)
    done = cli(*words, "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "refused_in_run")
    assert "report what you need in your result" in done.json["error"]["hint"]
    unchanged()


def test_a_restricted_agent_cannot_put_a_file_from_outside_into_a_task(
    cli: Cli, project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("token\n")
    (Path(project.root) / "inside.md").write_text("Text\n")
    (Path(project.root) / "link").symlink_to(tmp_path / "secret")
    be_agent(monkeypatch, project, "product_manager")
    monkeypatch.setenv("ORCHESTRATOR_WORKTREE", project.root)
    for path in (str(tmp_path / "secret"), "link"):
        done = cli("task", "add", "--title", "T", "--role", "test", "--body-file", path, "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "refused_in_run")
    add(cli, "T", "test", "--body-file", "inside.md")


# --- wrong input -------------------------------------------------------------------------------

ADD = ("task", "add", "--title", "T", "--role", "implement")


@each_row(
    ("words", "code", "said"),
    [
        (("task",), 2, "for example: orchestrator task list"),
        (("task", "ad"), 2, "did you mean 'add'?"),
        (("taks", "add"), 2, "did you mean 'task'?"),
        (("task", "add", "--role", "test"), 2, "a task needs a title"),
        (("task", "add", "--titel", "T", "--role", "test"), 2, "--title"),
        (("task", "add", "--title", " ", "--role", "test"), 1, "a title is one line"),
        (("task", "add", "--title", "a\nb", "--role", "test"), 1, "a title is one line"),
        (("task", "add", "--title", "x" * 201, "--role", "test"), 1, "1 to 200 characters"),
        (("task", "add", "--title", "T", "--role", "implment"), 1, "did you mean 'implement'?"),
        (("task", "add", "--title", "T", "--role", "qqq"), 1, "known: implement, review, test"),
        (("task", "add", "--title", "T", "--role", "product_manager"), 1, "take no tasks"),
        ((*ADD, "--priority", "P9"), 2, "P0"),
        ((*ADD, "--branch", "a..b"), 1, "cannot be the name of a branch"),
        ((*ADD, "--branch", "HEAD"), 1, "cannot be the name of a branch"),
        ((*ADD, "--branch", "refs/heads/main"), 1, "did you mean 'main'?"),
        ((*ADD, "--branch", "-x~1"), 2, "--branch"),
        ((*ADD, "--depends-on", "TASK-0badf00d"), 1, "no task named 'TASK-0badf00d'"),
        ((*ADD, "--force", "--depends-on", "a/b"), 1, "'a/b' cannot be a task id"),
        ((*ADD, "--body", "x", "--body-file", "-"), 2, "not allowed with"),
        ((*ADD, "--body-file", "nowhere.md"), 1, "nowhere.md: No such file"),
        ((*ADD, "--body-file", "."), 1, "Is a directory"),
        ((*ADD, "--body", "<!-- orchestrator:history -->"), 1, "begins a task's history"),
        ((*ADD, "--frce"), 2, "did you mean '--force'?"),
        (("task", "list", "--state", "incomming"), 2, "did you mean 'incoming'?"),
        (("task", "list", "--role", "implemnt"), 1, "did you mean 'implement'?"),
        (("task", "show"), 2, "ID"),
        (("task", "show", "nope"), 1, "no task named 'nope'"),
        (("task", "show", "../../agents"), 1, "no task named"),
        (("task", "retry"), 2, "name tasks, or give --all"),
        (("task", "retry", "nope"), 1, "no task named 'nope'"),
        (("task", "retry", "nope", "--all"), 2, "name tasks, or give --all"),
        (("task", "cancel"), 2, "ID"),
        (("task", "cancel", "nope"), 1, "no task named 'nope'"),
        (("task", "move", "nope", "done"), 1, "no task named 'nope'"),
        (("task", "move", "nope", "dnoe"), 2, "did you mean 'done'?"),
        (("task", "move", "nope", "claimed"), 1, "only a run claims a task"),
        (("inbox", "answr"), 2, "did you mean 'answer'?"),
        (("inbox", "answer", "nope"), 2, "TEXT"),
        (("inbox", "answer", "nope", "yes"), 1, "no inbox item named 'nope'"),
        (("inbox", "answer", "nope", " "), 2, "the text is empty"),
        (("inbox", "approve", "pr:9"), 1, "no inbox item named 'pr:9'"),
        (("inbox", "dismiss", "nope"), 1, "no inbox item named 'nope'"),
    ],
)
def test_wrong_input_gets_one_sentence_and_changes_nothing(
    refuses: Callable[..., None], words: tuple[str, ...], code: int, said: str
) -> None:
    refuses(words, code, said)


def test_the_list_shows_the_unfinished_tasks_and_the_newest_finished_ones(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_task, "NEWEST", 2)
    ids = [add(cli, f"Title {n}") for n in range(6)]
    for number, (task_id, state) in enumerate(zip(ids, ("done", "failed") * 2, strict=False)):
        fail(project, task_id, state)
        path = FileStore(project).find(task_id).where
        os.utime(path, (1000 + number, 1000 + number))
    shown = [row["id"] for row in cli("task", "list", "--json").json]
    assert shown == [ids[4], ids[5], ids[2], ids[3]]
    assert "2 older finished tasks not shown" in cli("task", "list").err
    every = [row["id"] for row in cli("task", "list", "--all", "--json").json]
    assert sorted(every) == ids
    failed = cli("task", "list", "--state", "failed")
    assert ids[1] in failed.out
    assert "not shown" not in failed.err + cli("task", "list", "--all").err


def test_more_dependencies_than_a_task_may_have_are_refused_and_few_hints_are_given(
    cli: Cli, project: Layout
) -> None:
    many = ",".join(f"NO-{n}" for n in range(101))
    done = cli("task", "add", "Fix it", "--depends-on", many, "--force")
    assert done.code == 1
    assert "101 dependencies are more than 100" in done.err
    task_id = add(cli)
    assert "more than 100" in cli("task", "set", task_id, f"depends_on={many}").err
    done = cli("task", "add", "Two", "--depends-on", many.rpartition(",")[0], "--force")
    assert done.code == 0
    assert done.err.count("the task waits until there is one") == 100
    assert done.err.count("see: orchestrator task list") == 3


@pytest.mark.parametrize(
    "words", [("task", "list"), ADD, ("agent", "list"), ("inbox",), ("task", "retry", "--all")]
)
def test_without_init_there_is_one_sentence_with_the_next_step(
    cli: Cli, repo: Path, words: tuple[str, ...]
) -> None:
    before = tree(repo)
    done = cli(*words)
    assert done.code == 1
    assert "orchestrator init" in done.err
    assert tree(repo) == before


def test_outside_a_repository_there_is_one_sentence(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("task", "list")
    assert done.code == 1
    assert done.err.startswith("orchestrator: ")


def test_without_a_configuration_add_says_what_to_do(cli: Cli, project: Layout) -> None:
    os.unlink(project.config)
    done = cli(*ADD)
    assert done.code == 1
    assert "orchestrator init" in done.err
    assert os.listdir(project.state("incoming")) == []


def test_a_text_of_over_a_mebibyte_is_refused(cli: Cli, project: Layout, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * ((1 << 20) + 1))
    done = cli(*ADD, "--body-file", str(tmp_path / "long"))
    assert done.code == 1
    assert "over 1 MiB" in done.err
    assert os.listdir(project.state("incoming")) == []


def test_a_file_that_is_no_text_is_refused(cli: Cli, project: Layout, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    done = cli(*ADD, "--body-file", str(tmp_path / "binary"))
    assert (done.code, "not UTF-8" in done.err) == (1, True)


@pytest.mark.parametrize("state", ["incoming", "done"])
def test_a_file_that_cannot_be_a_task_is_not_called_missing(
    cli: Cli, project: Layout, state: str
) -> None:
    task_id = add(cli)
    cli("task", "move", task_id, state)
    Path(FileStore(project).find(task_id).where).write_bytes(b"# Fix it\xff\n")
    for words in (("show", task_id), ("retry", task_id), ("cancel", task_id), ("edit", task_id)):
        done = cli("task", *words, "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "task_malformed"), words
        assert "is not a task: it is not UTF-8 text" in done.err
        assert "save it as UTF-8" in done.err


def test_a_task_of_another_user_is_said_to_be_one(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = add(cli)
    path, opened = FileStore(project).find(task_id).where, os.open

    def refused(name: Any, *more: Any, **named: Any) -> int:
        if name == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return opened(name, *more, **named)

    monkeypatch.setattr(os, "open", refused)  # root may read anywhere
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    os.utime(path)
    [problem] = [p for p in cli("status", "--json").json["problems"] if task_id in p["message"]]
    assert problem["code"] == "task_malformed"
    assert f"sudo chown -R $(id -un) {path}" in problem["hint"]


def test_a_near_miss_of_an_id_is_named(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    assert cli(*ADD[:3], "Other", *ADD[4:], "--depends-on", task_id[:-1]).code == 1
    done = cli(*ADD[:3], "Other", *ADD[4:], "--depends-on", task_id[:-1], "--force", "--json")
    assert done.code == 0
    [warning] = done.json["warnings"]
    assert f"no task named '{task_id[:-1]}'" in warning
    assert f"did you mean '{task_id}'?" in warning
    assert f"warning: {warning}" in done.err


# --- list and show -----------------------------------------------------------------------------


def test_the_json_of_a_task_has_exactly_the_contracts_shape(cli: Cli, project: Layout) -> None:
    task_id = add(cli, "T", "implement", "--priority", "P0")
    (row,) = cli("task", "list", "--json").json
    assert list(row) == ROW_KEYS
    created = row.pop("created")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    assert row == {
        "id": task_id,
        "title": "T",
        "role": "implement",
        "priority": "P0",
        "branch": "main",
        "created_by": "human",
        "state": "incoming",
        "path": os.path.join(project.state("incoming"), f"{task_id}.md"),
        "attempts": 0,
        "not_before": None,
        "depends_on": [],
        "claimed_by": None,
        "reason": None,
        "work_branch": None,
        "pr": None,
    }


def test_show_adds_body_and_history(cli: Cli, project: Layout) -> None:
    task_id = add(cli, "T", "implement", "--body", "## Context\nText")
    fail(project, task_id, reason="no_commits", error="no_commits: none", charged=True)
    found = cli("task", "show", task_id, "--json").json
    assert list(found) == [*ROW_KEYS, "body", "history"]
    assert found["body"] == "## Context\nText\n"
    assert found["history"] == [
        {
            "run": "R1",
            "reason": "no_commits",
            "error": "no_commits: none",
            "charged": True,
            "at": "2026-01-01T00:00:00Z",
            "event": "failed",
        }
    ]
    assert (found["state"], found["reason"], found["attempts"]) == ("failed", "no_commits", 1)


def test_show_tells_the_history_to_people_one_line_an_entry(cli: Cli, project: Layout) -> None:
    task_id = add(cli, "T")
    store, at = FileStore(project), "2026-01-01T10:00:00Z"
    agent = {"agent": "impl-agent-1", "run": "R1", "branch": "agent/x"}
    failed = {"run": "R1", "charged": True, "interrupted": False, "delay": 10.0, "session": None}
    reviewed = {"reviewer": "rev", "round": 1, "verdict": "changes_requested", "head": "0" * 40}
    for word, fields in (
        ("claimed", agent),
        ("requeued", {**failed, "reason": "no_commits", "error": "no_commits: none\nat all"}),
        ("requeued", {"run": "R2", "charged": False, "reason": "interrupted"}),
        ("review", {**reviewed, "feedback": "a.py:3\n- \x1b[31mred\x07"}),
        ("moved", {"from": "done", "to": "incoming"}),
        ("done", {"run": "R3", "summary": "It works.", "verdict": "done", "cost_usd": 0.25}),
        ("of_another_version", {"flag": True, "list": [1], "new\nline": {"a": "b\nc"}}),
    ):
        store.note(store.find(task_id), Entry(at, word, fields))
    store.note(store.find(task_id), Entry("2026-01-01T12:00:59+01:00", "retried", {}))
    said = cli("task", "show", task_id).out
    assert said.partition("History (UTC)\n")[2].splitlines() == [
        "  2026-01-01 10:00  claimed by impl-agent-1, run R1, branch agent/x",
        "  2026-01-01 10:00  put back, run R1, counts as an attempt, again after 10 s: "
        "no_commits: none at all",
        "  2026-01-01 10:00  put back, run R2, does not count as an attempt: interrupted",
        "  2026-01-01 10:00  review by rev, round 1, changes_requested, commit 000000000000: "
        r"a.py:3 - \x1b[31mred\x07",
        "  2026-01-01 10:00  moved by a person from done to incoming",
        "  2026-01-01 10:00  done, run R3, 0.2500 USD: It works.",
        '  2026-01-01 10:00  of another version, flag true, list [1], new line {"a": "b\\nc"}',
        "  2026-01-01 11:00  put back by a person, attempts counted from 0 again",
    ]


def test_a_claimed_task_has_no_reason_from_the_run_before(cli: Cli, project: Layout) -> None:
    task_id = add(cli, "T")
    event = Entry("2026-01-01T00:00:00Z", "requeued", {"run": "R1", "reason": "stalled"})
    FileStore(project).note(FileStore(project).find(task_id), event)
    assert cli("task", "show", task_id, "--json").json["reason"] == "stalled"
    claim(project, task_id)
    (row,) = cli("task", "list", "--json").json
    assert (row["state"], row["reason"]) == ("claimed", None)
    assert "stalled" not in cli("task", "list").out


def test_show_links_the_pull_request_and_says_how_to_see_the_diff(
    cli: Cli, project: Layout
) -> None:
    task_id = add(cli, "T")
    claim(project, task_id)
    fail(project, task_id, "done", pr="1")
    record = {
        "id": "1", "task": task_id, "branch": f"agent/{task_id}-x", "base": "main",
        "head": "0" * 40, "title": "T", "state": "open", "url": "https://example.com/pr/1",
    }  # fmt: skip
    Path(project.prs, "1.json").write_text(json.dumps(record))
    said = cli("task", "show", task_id).out
    assert "https://example.com/pr/1" in said
    assert "git diff main...000000000000" in said
    Path(project.prs, "1.json").write_text(json.dumps(record | {"state": "merged"}))
    said = cli("task", "show", task_id).out
    assert "orchestrator pr diff 1" in said
    assert "git diff" not in said, "after the merge, that command would show nothing"


def test_list_can_be_narrowed_to_states_and_a_role(cli: Cli, project: Layout) -> None:
    one, two = add(cli, "One"), add(cli, "Two", "test")
    fail(project, one)
    assert [r["id"] for r in cli("task", "list", "--state", "failed", "--json").json] == [one]
    both = cli("task", "list", "--state", "failed", "--state", "incoming", "--json").json
    assert [row["id"] for row in both] == [two, one]
    assert [r["id"] for r in cli("task", "list", "--role", "tester", "--json").json] == [two]
    assert cli("task", "list", "--role", "review", "--json").json == []


def test_a_file_that_is_no_task_is_named_and_the_rest_is_listed(cli: Cli, project: Layout) -> None:
    task_id = add(cli, "Good")
    Path(project.state("incoming"), "bad.md").write_bytes(b"\xff")
    done = cli("task", "list")
    assert task_id in done.out
    assert "bad.md: it is not UTF-8" in done.err


@pytest.mark.parametrize(
    "created", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "soon", "2024-01-15"]
)
def test_no_date_stops_the_list(cli: Cli, project: Layout, created: str) -> None:
    text = f"# [odd] Odd\n\nROLE: implement\nCREATED: {created}\n"
    Path(project.state("incoming"), "odd.md").write_text(text)
    assert cli("task", "list").code == 0
    assert [row["id"] for row in cli("task", "list", "--json").json] == ["odd"]


def test_control_characters_of_a_title_do_not_reach_the_terminal(cli: Cli, project: Layout) -> None:
    text = "# [x] Red \x1b[31mtitle\x07\n\nROLE: implement\n\nBody \x1b[2J\n"
    Path(project.state("incoming"), "x.md").write_text(text)
    for words in (("task", "list"), ("task", "show", "x")):
        assert "\x1b" not in cli(*words).out


def test_reading_changes_nothing(cli: Cli, project: Layout, unchanged: Callable[[], None]) -> None:
    before = tree(project.root)
    for words in (("task", "list"), ("inbox",), ("agent", "list"), ("limits",)):
        assert cli(*words).code == 0
        assert cli(*words, "--json").code == 0
    assert tree(project.root) == before


# --- retry, cancel, move -----------------------------------------------------------------------


def test_retry_puts_a_failed_task_back_with_its_history(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    fail(project, task_id, charged=True, reason="no_commits")
    done = cli("task", "retry", task_id, "--json")
    (row,) = done.json
    assert (row["id"], row["state"], row["attempts"], row["reason"]) == (
        task_id,
        "incoming",
        0,
        None,
    )
    text = file_of(project, task_id)
    assert " failed {" in text
    assert " retried {" in text


def test_retry_all_takes_failed_blocked_and_cancelled(cli: Cli, project: Layout) -> None:
    ids = [add(cli, f"Task {number}") for number in range(4)]
    fail(project, ids[0])
    fail(project, ids[1], "blocked", question="Which?")
    assert cli("task", "cancel", ids[2]).code == 0
    done = cli("task", "retry", "--all")
    assert done.code == 0
    assert [state_of(project, i) for i in ids] == ["incoming"] * 4
    assert cli("task", "retry", "--all").out == "nothing to retry\n"


def test_retry_of_several_is_all_or_nothing(cli: Cli, project: Layout) -> None:
    failed, waiting = add(cli, "One"), add(cli, "Two")
    fail(project, failed)
    done = cli("task", "retry", failed, waiting, "nope")
    assert done.code == 1
    assert f"{waiting} is in incoming" in done.err
    assert "no task named 'nope'" in done.err
    assert done.err.count("orchestrator task list") == 1
    assert state_of(project, failed) == "failed"


def test_cancel_ends_in_failed_with_its_reason(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    (row,) = cli("task", "cancel", task_id, "--json").json
    assert (row["state"], row["reason"]) == ("failed", "cancelled")
    before = file_of(project, task_id)
    assert cli("task", "cancel", task_id).code == 0
    assert file_of(project, task_id) == before


def test_a_done_task_is_not_cancelled(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    fail(project, task_id, "done")
    done = cli("task", "cancel", task_id)
    assert (done.code, f"{task_id} is in done" in done.err) == (1, True)


def test_more_work_on_a_finished_task_is_asked_for_while_its_pull_request_is_open(
    cli: Cli, project: Layout
) -> None:
    task_id = add(cli)
    fail(project, task_id, "done", pr="7", verdict="done")
    assert f"orchestrator inbox reject {task_id} 'TEXT'" in cli("task", "retry", task_id).err
    merged = Entry("2026-01-01T00:00:00Z", "merged", {"pr": "7", "head": "a" * 40})
    FileStore(project).note(FileStore(project).find(task_id), merged)
    said = cli("task", "retry", task_id).err
    assert "reject" not in said, "it would be refused"
    assert f"orchestrator task move {task_id} incoming" in said


def test_cancel_ends_the_run_of_a_claimed_task(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(stop, "end", settle_by_hand(project, ended))
    task_id = add(cli)
    run = claim(project, task_id)
    assert cli("task", "cancel", task_id).code == 0
    assert ended == ["impl-agent-1"]
    assert state_of(project, task_id) == "failed"
    assert run_record.stop_reason(project.run("impl-agent-1", run)) == "cancelled"


@pytest.mark.parametrize("state", ["incoming", "blocked", "done", "failed"])
def test_move_reaches_every_state_but_claimed(cli: Cli, project: Layout, state: str) -> None:
    task_id = add(cli)
    before = "blocked" if state == "failed" else "failed"
    assert cli("task", "move", task_id, before).code == 0
    moved = cli("task", "move", task_id, state)
    assert state_of(project, task_id) == state
    undo = moved.out.rpartition("undo: orchestrator ")[2]
    assert cli(*undo.split()).code == 0
    assert state_of(project, task_id) == before


def test_a_task_at_which_an_agent_works_is_moved_only_by_force(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(stop, "end", settle_by_hand(project, ended))
    for number, state in enumerate(("incoming", "done")):
        task_id = add(cli, f"Task {number}")
        claim(project, task_id, f"agent-{number}")
        done = cli("task", "move", task_id, state, "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "running")
        assert f"orchestrator stop agent-{number}" in done.json["error"]["hint"]
        assert state_of(project, task_id) == "claimed"
        assert cli("task", "move", task_id, state, "--force").code == 0
        assert state_of(project, task_id) == state
    assert ended == ["agent-0", "agent-1"]


def test_a_persons_decisions_stand_in_the_events(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    cli("task", "cancel", task_id)
    cli("task", "retry", task_id)
    cli("task", "move", task_id, "done")
    events = [json.loads(line) for line in Path(project.events).read_text().splitlines()]
    found = [(event["event"], event["task"], event["by"]) for event in events]
    words = ("added", "cancelled", "retried", "moved")
    assert found == [(word, task_id, "human") for word in words]


# --- inbox -------------------------------------------------------------------------------------


def inbox(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("inbox", "--json").json
    return found


def test_a_question_is_in_the_inbox_until_it_is_answered(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    fail(project, task_id, "blocked", question="Which format?")
    assert inbox(cli) == [
        {
            "id": task_id,
            "kind": "question",
            "task": task_id,
            "run": None,
            "text": "Which format?",
            "since": "2026-01-01T00:00:00Z",
        }
    ]
    assert f"orchestrator inbox answer {task_id}" in cli("inbox").out
    assert cli("inbox", "answer", task_id, "The old one.").code == 0
    assert state_of(project, task_id) == "incoming"
    assert '"text": "The old one."' in file_of(project, task_id)
    assert inbox(cli) == []


def test_an_answer_can_come_from_standard_input(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = add(cli)
    fail(project, task_id, "blocked", question="Which?")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Two\nlines\n")))
    assert cli("inbox", "answer", task_id, "-").code == 0
    assert '"text": "Two\\nlines"' in file_of(project, task_id)


@pytest.mark.parametrize("words", [("approve", "7"), ("dismiss", "7"), ("answer", "7", "Yes")])
def test_what_is_not_in_the_inbox_is_refused_in_words_that_fit(
    cli: Cli, project: Layout, words: tuple[str, ...]
) -> None:
    done = cli("inbox", *words)
    assert done.code == 1
    assert done.err == "orchestrator: no inbox item named '7'\n  see: orchestrator inbox\n"
    task_id = add(cli)
    fail(project, task_id, "blocked", question="Which?")
    near = cli("inbox", words[0], task_id[:-1], *words[2:])
    assert f"did you mean '{task_id}'?" in near.err


def test_a_pull_request_that_no_review_approved_says_how_to_merge_it_all_the_same(
    cli: Cli, project: Layout
) -> None:
    approved(project, add(cli), "none")
    done = cli("inbox", "approve", "#1")
    assert done.code == 1
    assert "pull request 1 does not wait for your approval: its author gets it back" in done.err
    assert "orchestrator pr merge 1" in done.err


def test_each_item_names_a_step_that_its_task_allows(cli: Cli, project: Layout) -> None:
    asking, failed = add(cli, "Asking"), add(cli, "Failed")
    waiting = add(cli, "Waiting", "implement", "--depends-on", failed)
    fail(project, asking, "blocked", question="How on?", reason="max_rounds")
    fail(project, failed, reason="no_commits", charged=True)
    steps = re.findall("-> orchestrator (.*);", cli("inbox").out)
    assert set(steps) == {
        f"inbox answer {asking} 'TEXT'", f"task retry {failed}", f"task cancel {waiting}"
    }  # fmt: skip
    for words in (("inbox", "answer", asking, "So."), ("task", "retry", failed)):
        assert cli(*words).code == 0
    assert cli("task", "cancel", waiting).code == 0


def test_only_blocked_tasks_are_answered(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    done = cli("inbox", "answer", task_id, "Yes")
    assert done.code == 1
    assert "has no open question: it is in incoming" in done.err


def test_too_many_rounds_of_review_are_an_escalation(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    fail(project, task_id, "blocked", question="How on?", reason="max_rounds")
    assert [(item["id"], item["kind"]) for item in inbox(cli)] == [(task_id, "escalation")]
    assert cli("inbox", "answer", task_id, "Merge it as it is.").code == 0


def test_a_failed_task_is_an_escalation_until_it_is_dismissed(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    fail(project, task_id, reason="no_commits", error="no_commits: nothing", charged=True)
    (item,) = inbox(cli)
    assert (item["id"], item["kind"]) == (task_id, "escalation")
    assert "failed after 1 attempt: no_commits: nothing" in item["text"]
    assert cli("inbox", "dismiss", task_id).code == 0
    assert inbox(cli) == []
    assert state_of(project, task_id) == "failed"
    assert cli("task", "retry", task_id).code == 0
    fail(project, task_id, reason="no_commits", run="R2")
    assert [item["id"] for item in inbox(cli)] == [task_id]


def test_what_a_person_cancelled_or_moved_asks_nothing(cli: Cli, project: Layout) -> None:
    one, two, three = (add(cli, f"Task {number}") for number in range(3))
    cli("task", "cancel", one)
    cli("task", "move", two, "failed")
    cli("task", "move", three, "blocked")
    assert inbox(cli) == []


def test_a_dependency_that_never_comes_is_one_item_for_each_task(cli: Cli, project: Layout) -> None:
    base = add(cli, "Base")
    one = add(cli, "One", "implement", "--depends-on", base)
    two = add(cli, "Two", "implement", "--depends-on", f"{one},{base}")
    assert inbox(cli) == []
    cli("task", "cancel", base)
    assert [(item["id"], item["kind"]) for item in inbox(cli)] == [
        (one, "escalation"),
        (two, "escalation"),
    ]
    assert f"{base}: it failed (cancelled)" in inbox(cli)[0]["text"]
    assert cli("inbox", "dismiss", one).code == 0
    assert [item["id"] for item in inbox(cli)] == [two]
    assert state_of(project, one) == "incoming"


def test_tasks_that_wait_for_each_other_are_items(cli: Cli, project: Layout) -> None:
    for name, other in (("a", "b"), ("b", "a"), ("c", "nowhere")):
        text = f"# [{name}] Task {name}\n\nROLE: implement\nDEPENDS_ON: {other}\n"
        Path(project.state("incoming"), f"{name}.md").write_text(text)
    texts = {item["id"]: item["text"] for item in inbox(cli)}
    assert set(texts) == {"a", "b", "c"}
    assert "cycle" in texts["a"]
    assert "no such task" in texts["c"]


def test_an_agent_that_the_scheduler_paused_is_dismissed_into_work(
    cli: Cli, project: Layout
) -> None:
    state = agent_memory.AgentState(suspended="failed 3 times in a row", failures=3, last_run="R1")
    agent_memory.write(project, "pm-agent", state)
    (item,) = inbox(cli)
    assert (item["id"], item["kind"], item["run"]) == ("agent:pm-agent", "escalation", "R1")
    refused = cli("inbox", "answer", "agent:pm-agent", "Go on")
    assert (refused.code, "only a task can be answered" in refused.err) == (1, True)
    assert cli("inbox", "dismiss", "agent:pm-agent").code == 0
    now = agent_memory.read(project, "pm-agent")
    assert (now.suspended, now.failures, now.last_run) == (None, 0, "R1")
    assert inbox(cli) == []


def approved(layout: Layout, task_id: str, verdict: str = "approved") -> None:
    root = Path(layout.root)
    git(root, "branch", f"agent/{task_id}")
    tree_id = git(root, "rev-parse", "HEAD^{tree}")
    head = git(root, "commit-tree", tree_id, "-p", "HEAD", "-m", "Work")
    git(root, "update-ref", f"refs/heads/agent/{task_id}", head)
    record = {
        "id": "1", "task": task_id, "branch": f"agent/{task_id}", "base": "main", "head": head,
        "title": "Work", "state": "open",
    }  # fmt: skip
    Path(layout.prs, "1.json").write_text(json.dumps(record))
    store, given = FileStore(layout), {"reviewer": "r", "verdict": verdict, "head": head}
    store.note(store.find(task_id), Entry("2026-01-02T03:04:05Z", "review", given))


def test_an_approved_pull_request_waits_for_a_person_who_merges_it(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = add(cli)
    fail(project, task_id, "done", pr="1")
    approved(project, task_id)
    (item,) = inbox(cli)
    assert (item["id"], item["kind"], item["task"]) == ("pr:1", "approval", task_id)
    assert item["since"] == "2026-01-02T03:04:05Z"
    merged: list[str] = []
    monkeypatch.setattr(
        pr_command, "merge_pull_request", lambda layout, pr: merged.append(pr) or ""
    )
    assert cli("inbox", "approve", "pr:1").code == 0
    assert cli("inbox", "approve", "1").code == 0
    assert merged == ["1", "1"]


def test_an_approval_can_be_dismissed(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    fail(project, task_id, "done", pr="1")
    approved(project, task_id)
    assert cli("inbox", "dismiss", "pr:1").code == 0
    assert inbox(cli) == []
    assert state_of(project, task_id) == "done"


def test_with_auto_merge_and_a_remote_nobody_is_asked(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    fail(project, task_id, "done", pr="1")
    approved(project, task_id)
    Path(project.config).write_text("review: {auto_merge: true}\n" + AGENTS_YAML)
    assert [item["id"] for item in inbox(cli)] == ["pr:1"]
    git(Path(project.root), "remote", "add", "origin", "/nowhere.git")
    assert inbox(cli) == []


def test_what_is_no_approval_is_not_approved(cli: Cli, project: Layout) -> None:
    task_id = add(cli)
    fail(project, task_id, "blocked", question="Which?")
    done = cli("inbox", "approve", task_id)
    assert (done.code, f"orchestrator inbox answer {task_id}" in done.err) == (1, True)


def test_a_page_of_the_list_is_found_by_text_state_role_and_place(
    cli: Cli, project: Layout
) -> None:
    ids = [add(cli, f"Fix the {word}", role) for word, role in
           (("login form", "implement"), ("logout", "test"), ("printer", "implement"))]  # fmt: skip
    assert cli("task", "move", ids[0], "done").code == 0

    def found(*words: str) -> list[str]:
        return [row["id"] for row in json.loads(cli("task", "list", *words, "--json").out)]

    assert found("--search", "FIX  the log") == [ids[1], ids[0]]
    assert found("--search", "log", "--role", "tester") == [ids[1]]
    assert found("--search", "log", "--state", "done") == [ids[0]]
    assert found("--limit", "2") == ids[1:]
    assert found("--limit", "2", "--after", ids[2]) == [ids[0]]
    assert found("--after", ids[0]) == []
    assert cli("task", "list", "--limit", "0").code == 2
    assert cli("task", "list", "--after", "TASK-none").code == 1


@pytest.mark.parametrize("option", ["--force", "--edit"])
def test_inside_a_run_nothing_is_forced_and_no_editor_opens(
    project: Layout,
    cli: Callable[..., Done],
    unchanged: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_RUN_ID", "r-1")
    monkeypatch.setenv("EDITOR", "touch edited; false")
    done = cli("task", "add", "A title", option)
    assert (done.code, done.out) == (1, "")
    assert f"inside a run, {option} is refused" in done.err
    unchanged()


def test_a_secret_in_the_task_of_an_agent_is_withheld_and_a_persons_is_their_own(
    project: Layout, cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    words = ("task", "add", f"Use {secret} here", "--body", f"It is {secret}.", "--json")
    own = cli(*words).json["path"]
    assert Path(own).read_text().count(secret) == 2
    monkeypatch.setenv("ORCHESTRATOR_RUN_ID", "r-1")
    agents = Path(cli(*words).json["path"]).read_text()
    assert secret not in agents
    assert agents.count("[withheld: ") == 2
    refused = cli("task", "add", "Another", "--branch", secret)
    assert (refused.code, secret in refused.out + refused.err) == (2, False)
