"""The fixture `world` of the tests that hold over both stores: tasks in files, and in PostgreSQL.

A test module of the contract that says `world = both_stores.world` is played over both. Its tests
speak of tasks by `world.where`, `world.text` and `world.places`. A test whose subject is a file or
a folder of the queue is marked `files_only`, with the reason. `make test` plays `SAMPLE` over
PostgreSQL, `make slow` all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import World, of_a_test, templates, wait_until

Factory = pytest.TempPathFactory
FILES, POSTGRESQL = "files", "postgresql"
#: The tests that `make test` plays over PostgreSQL: one for each kind of behaviour.
SAMPLE = {
    "test_a_dropped_file_counts_before_any_tick",
    "test_a_task_becomes_a_pushed_branch_with_a_pull_request",
    "test_cancel_and_move_are_the_humans_override",
}


def attendants(host: World, *, others: bool = False) -> list[psutil.Process]:
    """Return the attendants of a host; or all processes that are not attendants."""
    found = []
    for process in host.processes():
        with contextlib.suppress(psutil.Error):  # it has ended
            if ("_attend" in process.cmdline()) is not others:
                found.append(process)
    return found


class SharedWorld(World):
    """A project whose queue is in a schema of its own in PostgreSQL."""

    def __init__(self, folder: Path, templates: Path, address: str) -> None:
        super().__init__(folder, templates)
        self.address = address

    @cached_property
    def _session(self) -> Any:
        from orchestrator.database import session

        return session.of(self.address)

    def create(self, *, remote: bool = True, init: bool = True, **config: Any) -> World:
        from orchestrator.database import schema

        schema.prepare(self._session)
        return super().create(remote=remote, init=init, **config)

    def configure(self, **changes: Any) -> None:
        super().configure(**{"store": self.address, **changes})

    def add(self, title: str, role: str = "implement", *words: str, **options: Any) -> str:
        if not (words or options):
            words = ("--force", "--no-tick")
        return super().add(title, role, *words, **options)

    def _listing(self) -> dict[str, list[str]]:
        """Return the tasks in the database by the names of their files, and what was dropped."""
        found = super()._listing()
        rows = self._session.rows("SELECT state, id FROM orchestrator_tasks")
        for state, task in rows:
            found[state] = sorted({*found[state], f"{task}.md"})
        return found

    def text(self, task: str) -> str:
        query = "SELECT file FROM orchestrator_tasks WHERE id = %s"
        [(data,)] = self._session.rows(query, task)
        return str(data, "utf-8")

    def quiet(self) -> None:
        """Wait until nothing but the attendant runs, which ends after its next heartbeat."""
        wait_until(lambda: not attendants(self, others=True), "everything to end")

    def shown_place(self, task: str, state: str) -> str:
        return f"#{task}"

    def end(self) -> None:
        super().end()
        self._session.close()


def play(metafunc: pytest.Metafunc) -> None:
    """Play a test that needs a store of tasks over both stores."""
    definition = metafunc.definition
    if "store" not in metafunc.fixturenames:
        return
    stores = [pytest.param(FILES, id=pytest.HIDDEN_PARAM)]
    if definition.get_closest_marker("files_only") is None:
        marks = () if definition.originalname in SAMPLE else (pytest.mark.slow,)
        stores.append(pytest.param(POSTGRESQL, marks=marks))
    metafunc.parametrize("store", stores, scope="module")


@pytest.fixture
def world(
    store: str, request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: Factory
) -> Iterator[World]:
    """A folder to make a project in: call `create`. Nothing survives the test."""
    yield from of_a_test(made(store, request, tmp_path, tmp_path_factory))


def made(store: str, request: pytest.FixtureRequest, folder: Path, factory: Factory) -> World:
    """Return a world over a store; the caller ends it."""
    if store == FILES:
        return World(folder, templates(factory))
    from postgresql import in_schema

    address = in_schema(request.getfixturevalue("server"), str(folder))
    return SharedWorld(folder, templates(factory), address)
