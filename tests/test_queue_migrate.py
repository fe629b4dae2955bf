"""`queue migrate`: the queue moves between files and a database, and nothing is lost."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done
from postgresql import in_schema
from store_contract import entry, new_task

from orchestrator.config import change
from orchestrator.database import access, schema, session, this_host
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.model.work import STATES, PullRequest
from orchestrator.pulls import shared_book
from orchestrator.tasks import stores, task_file
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.postgresql_store import PostgresqlStore
from orchestrator.tasks.task_file import TaskFile
from orchestrator.upkeep import migrate

Cli = Callable[..., Done]


@pytest.fixture
def address(server: str, tmp_path: Path) -> str:
    return in_schema(server, str(tmp_path))


def filled(layout: Layout) -> dict[str, Any]:
    """Put a task into every state, an odd file, and a pull request; return what the queue shows."""
    store = stores.of_project(layout)
    for state in STATES:
        store.add(new_task(f"in-{state}", f"Ünicode {state}", priority="P1"))
        store.move(store.find(f"in-{state}"), state, entry("moved", to=state))
    # Nobody has this claim: a person moved the file there.
    store.move(store.find("in-claimed"), "incoming", entry("requeued", "R1", charged=True))
    Path(layout.state("incoming"), "fix login bug.md").write_text("# Fix login\nROLE: implement\n")
    os.utime(Path(layout.state("incoming"), "fix login bug.md"), (1e9, 1e9))
    Path(layout.state("done"), "odd.md").write_text("no task")
    book = shared_book.of_project(layout, "local")
    book.write(PullRequest("1", "in-done", "b", "main", "a1", "Title", "open"), "The body.")
    return shown(layout)


def shown(layout: Layout) -> dict[str, Any]:
    store = stores.of_project(layout)
    book = shared_book.of_project(layout, "local")
    return {
        task.id: (task._replace(where=""), store.read(task).raw)
        for state in STATES
        for task in store.list(state).tasks
    } | {"prs": [(pr._replace(url=None), book.body(pr.id)) for pr in book.every()]}


def test_a_queue_moves_to_a_database_and_back_without_loss(
    cli: Cli, project: Layout, address: str
) -> None:
    before = filled(project)
    dry = cli("queue", "migrate", "--to", address, "--dry-run", "--json").json
    assert (dry["dry_run"], dry["tasks"]["incoming"], dry["pull_requests"]) == (True, 3, 1)
    assert shown(project) == before
    assert not schema.is_there(session.of(address))

    done = cli("queue", "migrate", "--to", address, "--json")
    assert done.code == 0, done.err
    assert [os.path.basename(path) for path in done.json["left"]] == ["odd.md"]
    assert access.of_project(project) is not None
    assert shown(project) == before
    jobs = session.of(address).rows(
        "SELECT queue_name, status::text FROM procrastinate_jobs WHERE queue_name LIKE 'in-%%'"
    )
    assert sorted(jobs) == [
        ("in-blocked", "aborted"),
        ("in-claimed", "todo"),
        ("in-done", "succeeded"),
        ("in-failed", "failed"),
        ("in-incoming", "todo"),
    ]
    assert (Path(done.json["kept"]) / "queue" / "done" / "odd.md").exists()

    done = cli("queue", "migrate", "--to", "files", "--json")
    assert (done.code, done.json["left"]) == (0, [])
    assert access.of_project(project) is None
    assert shown(project) == before
    with pytest.raises(StoreFault, match="was moved to the files of"):
        schema.require(session.of(address))
    closed = stores.at(project, session.of(address))
    session.of(address).open_at = -math.inf
    for refused in (lambda: closed.list("done"), lambda: closed.add(new_task("late"))):
        with pytest.raises(StoreFault, match="was moved"):
            refused()
    assert cli("queue", "migrate", "--to", address).code == 0
    assert shown(project) == before
    assert stray_jobs(address) == []


def stray_jobs(address: str) -> Any:
    """Return the jobs that the engine may fetch in place of the job of a task."""
    return session.of(address).rows(
        "SELECT id, queue_name FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
        " AND id NOT IN (SELECT job FROM orchestrator_tasks WHERE job IS NOT NULL)"
    )


def killed(layout: Layout, to: str, module: Any, step: str, calls: int) -> None:
    """Start a move in a process that ends at a call of a function, as by `kill -9`."""
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        return
    code = 1  # it was not killed
    try:
        whole, left = getattr(module, step), [calls]

        def cut(*words: Any, **named: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os._exit(9)
            return whole(*words, **named)

        setattr(module, step, cut)
        migrate.migrate(layout, to, dry_run=False)
    finally:
        os._exit(code)


@pytest.mark.parametrize(
    ("module", "step", "calls"),
    [
        (PostgresqlStore, "put", 3),
        (migrate, "_copy_records", 1),
        (migrate, "_require_same", 1),
        (migrate, "_end", 1),
        (migrate, "_finish", 1),
        (schema, "end_copy", 1),
    ],
)
def test_a_move_to_a_database_that_was_killed_goes_on(
    cli: Cli, project: Layout, address: str, module: Any, step: str, calls: int
) -> None:
    before = filled(project)
    killed(project, address, module, step, calls)
    if step in ("_finish", "end_copy"):
        with pytest.raises(StoreFault, match="is not complete"):
            schema.require(session.of(address))
    else:
        assert shown(project) == before
    assert cli("queue", "migrate", "--to", address).code == 0
    assert shown(project) == before
    schema.require(session.of(address))
    assert stray_jobs(address) == []


@pytest.mark.parametrize(
    ("module", "step", "calls"),
    [
        (FileStore, "put", 3),
        (migrate, "_require_same", 1),
        (schema, "move_away", 1),
        (change, "apply", 1),
        (migrate, "_arrived", 1),
    ],
)
def test_a_move_back_to_files_that_was_killed_goes_on(
    cli: Cli, project: Layout, address: str, module: Any, step: str, calls: int
) -> None:
    before = filled(project)
    assert cli("queue", "migrate", "--to", address).code == 0
    killed(project, "files", module, step, calls)
    if step == "apply":  # the database is closed, and agents.yaml still names it
        with pytest.raises(StoreFault, match="was moved"):
            schema.require(session.of(address))
    if step == "_arrived":  # only the mark of the move is left
        assert shown(project) == before
        assert os.path.exists(project.moving_here)
        assert project.moving_here in cli("clean", "--dry-run").out
        assert cli("queue", "migrate", "--to", address).code == 0
        assert not os.path.exists(project.moving_here)
        return
    done = cli("queue", "migrate", "--to", "files", "--json")
    assert (done.code, done.json["left"]) == (0, [])
    assert access.of_project(project) is None
    assert shown(project) == before


def test_a_dry_run_of_the_move_back_changes_nothing(
    cli: Cli, project: Layout, address: str
) -> None:
    before = filled(project)
    assert cli("queue", "migrate", "--to", address).code == 0
    source = Path(project.config).read_bytes()
    dry = cli("queue", "migrate", "--to", "files", "--dry-run", "--json").json
    assert (dry["dry_run"], dry["tasks"]["incoming"], dry["pull_requests"]) == (True, 3, 1)
    assert Path(project.config).read_bytes() == source
    assert not FileStore(project).is_there()
    schema.require(session.of(address))
    assert shown(project) == before


def test_a_task_that_did_not_arrive_as_it_is_ends_the_move_in_both_directions(
    cli: Cli, project: Layout, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled(project)
    for to, store in ((address, PostgresqlStore), ("files", FileStore)):
        whole = store.put

        def put(self: Any, file: TaskFile, state: str, added: float, whole: Any = whole) -> None:
            damaged = file.raw.replace(b"# [in-done]", b"# [in-done] Not")
            whole(self, task_file.parse(damaged, f"{file.id}.md"), state, added)

        with monkeypatch.context() as patch:
            patch.setattr(store, "put", put)
            refused = cli("queue", "migrate", "--to", to, "--json")
        assert refused.code == 1, refused.out
        assert "in-done" in refused.json["error"]["message"]
        assert shown(project) == before
        assert cli("queue", "migrate", "--to", to).code == 0
        assert shown(project) == before


def test_a_target_with_tasks_is_refused_and_so_is_the_place_where_the_queue_is(
    cli: Cli, project: Layout, address: str
) -> None:
    filled(project)
    other = stores.at(project, session.of(address))
    other.prepare()
    other.add(new_task("mine"))
    for more in ((), ("--dry-run",)):
        refused = cli("queue", "migrate", "--to", address, "--json", *more)
        assert (refused.code, refused.json["error"]["code"]) == (1, "not_empty")
    assert other.find("mine").state == "incoming"
    same = cli("queue", "migrate", "--to", "files", "--json")
    assert (same.code, same.json["error"]["code"]) == (1, "wrong_state")
    wrong = cli("queue", "migrate", "--to", "postgresql://a:secret@db/x")
    assert (wrong.code, "secret" in wrong.err, "PGPASSWORD" in wrong.err) == (2, False, True)


def test_the_environment_may_give_the_address_with_another_role_but_no_other_database(
    cli: Cli, project: Layout, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the role that owns the tables, or for a password."""
    in_file = re.sub(r"//(\w+@)?", "//no_such_role@", address, count=1)
    FileStore(project).add(new_task("mine"))
    monkeypatch.setenv("ORCHESTRATOR_STORE", re.sub(r"/\w+[?]", "/other?", address))
    refused = cli("queue", "migrate", "--to", in_file)
    assert (refused.code, "another database" in refused.err) == (2, True)
    monkeypatch.setenv("ORCHESTRATOR_STORE", address)
    assert cli("queue", "migrate", "--to", in_file).code == 0
    assert in_file in Path(project.config).read_text()
    assert [row["id"] for row in cli("task", "list", "--json").json] == ["mine"]


def test_it_is_refused_while_a_run_is_at_work(cli: Cli, project: Layout, address: str) -> None:
    from orchestrator.project import agent_memory

    memory = agent_memory.read(project, "impl-agent-1")
    agent_memory.write(project, "impl-agent-1", memory._replace(run="R1"))
    for more in ((), ("--dry-run",)):
        refused = cli("queue", "migrate", "--to", address, *more, "--json")
        assert (refused.code, refused.json["error"]["code"]) == (1, "running")
        assert "impl-agent-1 here" in refused.json["error"]["message"]


def test_the_move_back_is_refused_while_another_host_has_a_run(
    cli: Cli, project: Layout, address: str
) -> None:
    filled(project)
    assert cli("queue", "migrate", "--to", address).code == 0
    other = Layout(str(Path(project.root).parent / "other"))
    os.makedirs(other.cache)
    this_host.write(other, "two")
    store = PostgresqlStore(other, session.of(address))
    store.attend(())
    assert store.begin("impl-agent-1", "R1")
    for more in ((), ("--dry-run",)):
        refused = cli("queue", "migrate", "--to", "files", *more, "--json")
        assert (refused.code, refused.json["error"]["code"]) == (1, "running")
        assert "impl-agent-1 on the host two" in refused.json["error"]["message"]
    store.end("impl-agent-1", "R1", {})
    assert cli("queue", "migrate", "--to", "files").code == 0
