"""Hosts that fail, and a database that fails: killed, suspended, cut off, slow, silent, full."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from database_proxy import Proxy, proxy
from postgresql import in_schema, server  # noqa: F401  (a fixture)
from store_contract import new_task

from orchestrator.database import connection, session
from orchestrator.database.connection import Unreachable
from orchestrator.layout import Layout
from orchestrator.tasks.postgresql_store import PostgresqlStore


def through(between: Proxy, folder: Path) -> PostgresqlStore:
    layout = Layout(str(folder))
    os.makedirs(layout.cache)
    store = PostgresqlStore(layout, session.of(in_schema(between.base, str(folder))))
    store.prepare()
    return store


def test_a_database_without_an_answer_is_given_up_and_asked_again_later(
    tmp_path: Path,
    server: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened, most = connection.opened, connection.MOST_MUTE

    def patient(*words: str) -> connection.Connection:
        monkeypatch.setattr(connection, "MOST_MUTE", most)
        return opened(*words)

    monkeypatch.setattr(connection, "opened", patient)
    with proxy(server) as between, caplog.at_level(logging.WARNING):
        store = through(between, tmp_path)

        def silence() -> None:
            between.silence()
            monkeypatch.setattr(connection, "MOST_MUTE", 0.1)

        silence()
        store.add(new_task())  # on a second connection: the first one had begun nothing
        silence()
        assert store.find("T1").state == "incoming"
        with store.change():
            silence()
            with pytest.raises(Unreachable):
                store.add(new_task("T2"))
        # The server ends the lock of that connection later, by itself (`MOST_SILENT`).
        assert [task.id for task in store.list("incoming").tasks] == ["T1"]
    assert not caplog.records
