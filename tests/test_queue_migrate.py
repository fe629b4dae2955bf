"""`queue migrate`: the queue moves between files and a database, and nothing is lost."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done
from postgresql import in_schema, server  # noqa: F401  (a fixture)
from store_contract import entry, new_task

from orchestrator.database import access, schema, session
from orchestrator.errors import StoreFault
from orchestrator.layout import Layout
from orchestrator.model import STATES, PullRequest
from orchestrator.pulls import shared_book
from orchestrator.tasks import stores
from orchestrator.upkeep import migrate

Cli = Callable[..., Done]


@pytest.fixture
def address(server: str, tmp_path: Path) -> str:  # noqa: F811
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

    assert cli("queue", "migrate", "--to", "files").code == 0
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


@pytest.mark.parametrize("step", ["_copy_records", "_require_same", "_finish"])
def test_an_interrupted_move_goes_on_where_it_stopped(
    cli: Cli, project: Layout, address: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled(project)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(migrate, step, cut)
        assert cli("queue", "migrate", "--to", address).code == 130
    if step == "_finish":
        with pytest.raises(StoreFault, match="is not complete"):
            schema.require(session.of(address))
    else:
        assert shown(project) == before
    assert cli("queue", "migrate", "--to", address).code == 0
    assert shown(project) == before
    schema.require(session.of(address))


def test_a_target_with_tasks_is_refused_and_so_is_the_place_where_the_queue_is(
    cli: Cli, project: Layout, address: str
) -> None:
    filled(project)
    other = stores.at(project, session.of(address))
    other.prepare()
    other.add(new_task("mine"))
    refused = cli("queue", "migrate", "--to", address, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "not_empty")
    assert other.find("mine").state == "incoming"
    same = cli("queue", "migrate", "--to", "files", "--json")
    assert (same.code, same.json["error"]["code"]) == (1, "wrong_state")
    wrong = cli("queue", "migrate", "--to", "postgresql://a:secret@db/x")
    assert (wrong.code, "secret" in wrong.err, "PGPASSWORD" in wrong.err) == (2, False, True)


def test_it_is_refused_while_a_run_is_at_work(cli: Cli, project: Layout, address: str) -> None:
    from orchestrator.project import agent_memory

    memory = agent_memory.read(project, "impl-agent-1")
    agent_memory.write(project, "impl-agent-1", memory._replace(run="R1"))
    for more in ((), ("--dry-run",)):
        refused = cli("queue", "migrate", "--to", address, *more, "--json")
        assert (refused.code, refused.json["error"]["code"]) == (1, "running")
        assert "impl-agent-1 here" in refused.json["error"]["message"]
