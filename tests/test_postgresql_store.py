"""The queue in PostgreSQL: the contract of every store, and what only several hosts show."""

from __future__ import annotations

import pytest
from postgresql import in_schema, server  # noqa: F401  (a fixture)
from store_contract import StoreContract

from orchestrator.database import session
from orchestrator.layout import Layout
from orchestrator.model import Task
from orchestrator.tasks.postgresql_store import PostgresqlStore
from orchestrator.tasks.store import Store


def opened(layout: Layout, base: str) -> PostgresqlStore:
    address = in_schema(base, layout.root)
    return PostgresqlStore(layout, session.of(address))


class TestPostgresqlStore(StoreContract):
    @pytest.fixture(autouse=True)
    def of_server(self, server: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
        def kind(layout: Layout) -> Store:
            return opened(layout, server)

        monkeypatch.setattr(type(self), "kind", staticmethod(kind), raising=False)

    def spoil(self, layout: Layout, task: Task) -> None:
        found = self.kind(layout)
        assert isinstance(found, PostgresqlStore)
        found._session.rows("UPDATE orchestrator_tasks SET file = '' WHERE id = %s", task.id)
