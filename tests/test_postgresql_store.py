"""The queue in PostgreSQL: the contract of every store, and what only several hosts show."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import psycopg
import pytest
from conftest import CHECKOUT
from database_proxy import proxy
from postgresql import cluster, in_schema
from store_contract import StoreContract, claim, entry, new_task

from orchestrator.database import schema, session
from orchestrator.database.connection import NotSetUp
from orchestrator.database.engine import Jobs
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.model.work import STATES, PullRequest, Task
from orchestrator.pulls import shared_book
from orchestrator.system.locks import LockHeld
from orchestrator.tasks.postgresql_store import PostgresqlStore
from orchestrator.tasks.sharing import ELSEWHERE, Elsewhere, Offer, Peer, Pulse
from orchestrator.tasks.store import Store


def opened(layout: Layout, base: str) -> PostgresqlStore:
    address = in_schema(base, layout.root)
    return PostgresqlStore(layout, session.of(address))


def empty(known: session.Session) -> None:
    """Delete all rows of a queue but its version, as if its tables had just been made."""
    [(deletes,)] = known.rows(
        "SELECT string_agg(format('DELETE FROM %%I', tablename), ';') FROM pg_tables"
        " WHERE schemaname = current_schema()"
        " AND tablename NOT IN ('orchestrator_schema', 'orchestrator_changes')"
    )
    if deletes:  # no trigger and no foreign key: all rows go
        alone = f"SET session_replication_role = replica; {deletes}; RESET session_replication_role"
        known.connection.execute(alone.encode())


class TestPostgresqlStore(StoreContract):
    """The tables take longer to make than most tests: these tests have them one after the other."""

    @pytest.fixture(autouse=True)
    def of_server(self, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        address = in_schema(server, "contract")
        empty(session.of(address))

        def kind(layout: Layout) -> Store:
            return PostgresqlStore(layout, session.of(address))

        monkeypatch.setattr(type(self), "kind", staticmethod(kind), raising=False)

    def test_a_queue_that_is_not_there_is_empty_and_doctor_is_told(
        self, server: str, tmp_path: Path
    ) -> None:
        """An address can be wrong: then no empty queue is shown, as it is for files."""
        store = opened(Layout(str(tmp_path)), server)
        for look in (
            store.counts,
            lambda: store.list("incoming"),
            lambda: store.find("T1"),
            lambda: store.get("T1"),
            lambda: store.newest(5),
            lambda: store.has_title("A title", None, STATES),
            lambda: [*store.browse("done")],
            lambda: [*store.events(99)],
            lambda: store.elsewhere(),
        ):
            with pytest.raises(NotSetUp, match="has no queue"):
                look()
        assert "permissions" in {problem.code for problem in store.findings(time.time())}

    def spoil(self, layout: Layout, task: Task) -> None:
        found = self.kind(layout)
        assert isinstance(found, PostgresqlStore)
        found._session.rows("UPDATE orchestrator_tasks SET file = '' WHERE id = %s", task.id)


# --- what the documentation says of the database -----------------------------------------------


def sql_of(heading: str) -> str:
    """Return the SQL below a heading in bold of docs/several-machines.md."""
    text = (CHECKOUT / "docs" / "several-machines.md").read_text()
    return text.partition(f"**{heading}.**")[2].partition("```sql\n")[2].partition("```")[0]


def test_a_role_with_only_the_documented_rights_can_work_with_the_queue(
    tmp_path: Path,
) -> None:
    with cluster() as own, psycopg.connect(own.base, autocommit=True) as admin:
        admin.execute(sql_of("Roles").encode())
        layout = Layout(str(tmp_path))
        os.makedirs(layout.cache)
        owner, host = (
            session.of(own.base.replace(f"{own.role}@", f"orchestrator_{who}@"))
            for who in ("owner", "host")
        )
        with pytest.raises(StoreFault) as refused:
            schema.prepare(host)
        assert refused.value.code == "permissions"
        schema.prepare(owner)
        store = PostgresqlStore(layout, host)
        store.prepare()
        store.attend(())
        store.add(new_task())
        task = claim(store, store.find("T1"))
        assert task is not None
        store.tell(["a_problem"], {}, [])
        store.end("impl", "R1", {"spend": {}})
        store.move(task, "done", entry("done", "R1"))
        assert store.find("T1").state == "done"
        store.listen()
        assert store.pulse(0.0)
        assert store.wait(0.01) is None
        admin.execute(b"UPDATE orchestrator.procrastinate_events SET at = now() - interval '91 d'")
        admin.execute(sql_of("Retention of jobs").encode())
        assert host.rows("SELECT count(*) FROM procrastinate_jobs") == [(0,)]
        assert store.find("T1").state == "done"
        store.move(store.find("T1"), "incoming", entry("reopened"))
        again = claim(store, store.find("T1"), "R2")
        assert again is not None
        admin.execute(sql_of("Metrics").encode())
        for each in (owner, host):
            each.close()


def test_a_change_by_any_host_ends_the_wait_of_the_others_and_says_whether_it_is_work(
    tmp_path: Path,
    server: str,
) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.cache)
    store = opened(layout, server)
    store.prepare()
    store.listen()
    assert store.wait(0.01) is None
    assert not store.offer().tasks

    def elsewhere(work: Callable[[PostgresqlStore], object]) -> None:
        adding = threading.Thread(target=lambda: work(opened(layout, server)))
        adding.start()
        adding.join()

    elsewhere(lambda other: other.add(new_task()))
    assert store.wait(20) is True
    assert store.offer().tasks
    elsewhere(lambda other: claim(other, other.find("T1")))
    assert store.wait(20) is False
    assert not store.offer().tasks
    elsewhere(lambda other: other.move(other.find("T1"), "incoming", entry("requeued", "R1")))
    assert store.wait(20) is True
    elsewhere(lambda other: other.end("impl", "R1", {"spend": {}}))
    assert store.wait(20) is False
    elsewhere(lambda other: other.tell(["a_problem"], {}, ["implement"]))  # no tick reads it
    assert store.wait(0.01) is None
    assert store.offer() == Offer((("T1", "implement"),), (Peer(store.host, 0, ("implement",)),))


def test_another_project_in_the_same_database_wakes_nobody(
    tmp_path: Path,
    server: str,
) -> None:
    layouts = [Layout(str(tmp_path / name)) for name in ("a", "b")]
    stores = []
    for layout in layouts:
        os.makedirs(layout.cache)
        stores.append(opened(layout, server))
        stores[-1].prepare()
    stores[0].listen()
    stores[1].add(new_task())
    assert stores[0].wait(0.01) is None
    stores[0].add(new_task())
    assert stores[0].wait(20) is True


def test_the_number_changes_once_for_each_change_that_a_tick_reads(
    tmp_path: Path,
    server: str,
) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.cache)
    store = opened(layout, server)
    store.prepare()
    assert store.pulse(0.0) is None  # the first one registers the host
    found = store.pulse(0.0)
    assert found is not None
    assert (found.number, found.hosts) == (store.number(), 1)
    store.attend(["R0"])
    store.tell(["a_problem"], {}, [])
    assert store.pulse(0.0) == found
    book = shared_book.at(layout, session.of(in_schema(server, layout.root)), "local")
    changes: list[Callable[[], object]] = [
        lambda: store.add(new_task()),
        lambda: store.rewrite(store.find("T1"), "# [T1] Another title\n\nROLE: implement\n"),
        lambda: store.begin("pm", "R7"),
        lambda: store.end("pm", "R7", {"spend": {}}),
        lambda: book.put("1", {"id": "1"}),
    ]
    for change in changes:
        before = store.number()
        change()
        assert int(store.number()) > int(before)
    # A host that died: whoever asks must return its tasks, so the answer vouches for nothing.
    with session.of(in_schema(server, layout.root)).transaction():
        Jobs(session.of(in_schema(server, layout.root))).register()
        store._session.rows(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '61 s'"
            " WHERE id NOT IN (SELECT worker FROM orchestrator_hosts)"
        )
    assert store.pulse(0.0) == Pulse("", 1)


def test_tables_of_the_version_before_are_brought_up_to_date_and_keep_their_tasks(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.cache)
    store = opened(layout, server)
    with monkeypatch.context() as older:
        older.setattr(schema, "VERSION", 1)
        older.setattr(schema, "_STEPS", {1: schema._STEPS[1]})
        store.prepare()
        store.add(new_task())
    store._session.open_at = -math.inf
    with pytest.raises(
        NotSetUp, match=f"has version 1; this program has {schema.VERSION}"
    ) as refused:
        store.list("incoming")
    assert "orchestrator init" in str(refused.value.hint)
    store.prepare()
    assert store.find("T1").state == "incoming"
    before = store.number()
    claim(store, store.find("T1"))
    assert int(store.number()) > int(before)


def test_a_suspended_host_loses_the_lock_and_can_change_nothing(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "_SILENT", "set_config('idle_session_timeout', '300ms', false)")
    layout = Layout(str(tmp_path))
    os.makedirs(layout.cache)
    store = opened(layout, server)
    store.prepare()
    store.add(new_task())
    done = threading.Event()

    def rival() -> None:
        opened(layout, server).add(new_task("T2"))
        done.set()

    thread = threading.Thread(target=rival)
    with store.change():
        thread.start()
        assert done.wait(20)  # it got the lock while this thread was silent
        with pytest.raises(StoreFault):
            store.add(new_task("T3"))
    thread.join()
    assert [task.id for task in store.list("incoming").tasks] == ["T1", "T2"]


def test_an_earlier_queue_is_refused_with_the_command_that_upgrades_it(
    tmp_path: Path,
    server: str,
) -> None:
    layout = Layout(str(tmp_path))
    store = opened(layout, server)
    store.prepare()
    known = session.of(in_schema(server, layout.root))
    for version, step in ((0, "orchestrator init"), (99, "update this host's program")):
        known.rows("UPDATE orchestrator_schema SET version = %s", version)
        known.open_at = -math.inf
        with pytest.raises(StoreFault) as refused:
            store.add(new_task())
        assert step in (refused.value.hint or "")


def test_one_host_at_a_time_lands(tmp_path: Path, server: str) -> None:
    store = opened(Layout(str(tmp_path)), server)
    store.prepare()
    refused: list[bool] = []

    def rival() -> None:
        try:
            with opened(Layout(str(tmp_path)), server).alone("landing", 0.0):
                refused.append(False)
        except LockHeld:
            refused.append(True)

    for held in (True, False):
        with store.alone("landing", 0.0) if held else contextlib.nullcontext(), store.change():
            thread = threading.Thread(target=rival)
            thread.start()
            thread.join()
    assert refused == [True, False]


def test_all_pull_requests_are_read_by_one_statement_as_each_alone(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.cache)
    opened(layout, server).prepare()
    known = session.of(in_schema(server, layout.root))
    book = shared_book.at(layout, known, "local")
    for number in (10, 9, 1, 2):
        book.write(PullRequest(str(number), f"T{number}", "agent/x", "main", "0" * 40, "A", "open"))
    book.say_merged("1")
    book._put_away("1")
    book.put("2", {"id": "2", "state": 7})  # damaged: it hides no other
    alone = [book.get(number) for number in ("1", "9", "10")]
    assert all(alone)
    rows = Mock(wraps=known.rows)
    monkeypatch.setattr(known, "rows", rows)
    assert (book.every(), book.list()) == (alone, alone[1:])
    assert rows.call_count == 2


def test_a_text_with_characters_that_the_database_refuses_is_stored_without_them(
    tmp_path: Path,
    server: str,
) -> None:
    """Over files such a text is delivered; over a database its run met a fault again and again."""
    layout = Layout(str(tmp_path))
    os.makedirs(layout.cache)
    store = opened(layout, server)
    store.prepare()
    store.attend(())
    known = session.of(in_schema(server, layout.root))
    book = shared_book.at(layout, known, "local")
    said = "NUL \0, half \ud800, whole \U0001f600, a path C:\\u0000, \\\\"
    pr = PullRequest("1", "T1", "agent/x", "main", "0" * 40, "A", "open")
    book.write(pr, said)
    assert book.body("1") == said.replace("\0", "\ufffd").replace("\ud800", "?")
    store.end("impl", "R1", {"last_reason": said})
    assert known.rows("SELECT count(*) FROM orchestrator_memories") == [(1,)]
    with pytest.raises(StoreFault) as refused:
        known.rows("SELECT %s::jsonb", '"\\u0000"')
    assert refused.value.code == "store_refused"  # of this value, so no outage for all


def test_what_is_asked_ahead_is_one_exchange_and_a_change_makes_it_old(
    tmp_path: Path,
    server: str,
) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.cache)
    with proxy(server) as between:
        store = opened(layout, between.base)
        store.prepare()
        store.add(new_task())
        store.list("claimed")

        def look() -> tuple[int, int]:
            return len(store.list("incoming").tasks), len(store.list("claimed").tasks)

        before = between.exchanges
        with store.ahead("incoming", "claimed", ELSEWHERE):
            assert look() == (1, 0)
            assert store.elsewhere() == Elsewhere()
            assert between.exchanges - before == 1
            assert store.has_title("no such title", None, ["done"]) is None  # not asked ahead
            before += 1
            assert look() == (1, 0)
            assert between.exchanges - before == 3  # each answer is given once
        with store.ahead("incoming", "claimed"):
            assert claim(store, store.find("T1")) is not None
            assert look() == (0, 1)
        with store.ahead("incoming", "claimed"), store.change():
            before = between.exchanges
            assert look() == (0, 1)
            assert between.exchanges - before == 2  # under the lock, it is asked again
        store.move(store.find("T1"), "incoming", entry("requeued", "R1"))
        assert look() == (1, 0)


def test_a_connection_that_was_closed_while_it_was_idle_is_opened_again_for_what_is_asked_ahead(
    tmp_path: Path,
    server: str,
) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.cache)
    with proxy(server) as between:
        store = opened(layout, between.base)
        store.prepare()
        store.add(new_task())
        between.cut()
        with store.ahead("incoming", ELSEWHERE):
            assert [task.id for task in store.list("incoming").tasks] == ["T1"]
