"""Hosts that fail, and a database that fails: killed, suspended, cut off, slow, silent, full."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from both_stores import attendants
from chaos import seen
from database_proxy import Link, Proxy, kill_sender, proxy
from harness import World, scratch, shadow, wait_until, world  # noqa: F401  (a fixture)
from hosts_storm import Storm
from postgresql import cluster, in_schema
from shared_hosts import Behind
from store_contract import claim, entry, new_task

from orchestrator.database import connection, schema, session
from orchestrator.database.connection import Unreachable
from orchestrator.layout import Layout
from orchestrator.model.snapshot import Hold
from orchestrator.project import faults
from orchestrator.system import files
from orchestrator.tasks.postgresql_store import PostgresqlStore


def through(between: Proxy, folder: Path) -> PostgresqlStore:
    layout = Layout(str(folder))
    os.makedirs(layout.cache)
    store = PostgresqlStore(layout, session.of(in_schema(between.base, str(folder))))
    store.prepare()
    return store


@pytest.mark.parametrize(
    ("said", "hint", "resumes"),
    [
        ("fe_sendauth: no password supplied", "password file", True),
        ('FATAL:  password authentication failed for user "host"', "password file", True),
        ("Connection refused", "whether the server answers", True),
        ('FATAL:  database "tem" does not exist', "create the database", False),
        ('FATAL:  role "ada" does not exist', "create the role", False),
    ],
)
def test_a_connection_that_fails_says_what_to_correct(said: str, hint: str, resumes: bool) -> None:
    address = "postgresql://db.example/team"
    with pytest.raises(Unreachable) as caught, connection.translated(address, lambda: None):
        raise psycopg.OperationalError(f"connection failed: {said}")
    assert hint in str(caught.value.hint)
    assert ("work resumes automatically" in str(caught.value.hint)) == resumes


def test_a_database_without_an_answer_is_given_up_and_asked_again_later(
    tmp_path: Path,
    server: str,
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


@pytest.fixture
def behind_of(
    world: World,  # noqa: F811
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Behind]]:
    """Return hosts that reach the server at an address through a proxy."""
    with ExitStack() as stack:

        def more(name: str) -> World:
            (tmp_path / name).mkdir()
            return stack.enter_context(scratch(tmp_path / name, tmp_path_factory))

        def made(base: str) -> Behind:
            between = stack.enter_context(proxy(base))
            return Behind(world, base, between, str(tmp_path), more)

        yield made


@pytest.fixture
def behind(behind_of: Callable[[str], Behind], server: str) -> Behind:
    return behind_of(server)


#: What is done to the process that sends an exchange, or to its whole host.
KINDS = ("process", "host", "connection")
#: A task's life has about as many exchanges, from the first tick until its pull request is open.
EXCHANGES = 100
QUICK, SLOW = (34, 65), 5


def struck() -> list[Any]:
    """Return the exchanges at which something is struck, as parameters of a test."""
    found = []
    for number in range(1, EXCHANGES + 1):
        mark = pytest.mark.slow if number % SLOW == 0 else pytest.mark.crash
        found.append(number if number in QUICK else pytest.param(number, marks=mark))
    return found


@pytest.mark.parametrize("number", struck())
def test_what_is_struck_at_an_exchange_with_the_database_costs_no_work(
    behind: Behind, number: int
) -> None:
    kind = KINDS[number % len(KINDS)]
    one = behind.begin()
    behind.another("two")
    task = one.add("Say hello", "implement", "--no-tick")
    gone: list[str] = []

    def strike(link: Link) -> None:
        if kind == "connection":
            link.close()
        elif kind == "process":
            kill_sender(link)
        else:
            gone.append(link.name.removeprefix("orchestrator "))
            behind.kill(behind.named(gone[0]))

    behind.proxy.at(number, strike)
    wait_until(lambda: behind.tick() or not behind.proxy.is_armed, "the exchange is reached")
    if gone:
        behind.heartbeat_stops(gone[0])
        others = [host for host in behind.all if host is not behind.named(gone[0])]
        wait_until(lambda: behind.tick(*others) or behind.is_done(task), "another host does it")
    behind.rest(task)
    assert [e for e in behind.task(task)[1].history if e.fields.get("charged")] == []


WAITS = {"steps": [["work"], ["wait", "go"]]}
#: The limit after which a database without an answer is given up, for tests of whole processes.
_IMPATIENT = """
from orchestrator.database import access
_at = access.at
def at(layout, found):
    session = _at(layout, found)
    from orchestrator.database import connection
    connection.MOST_MUTE = 0.5
    return session
access.at = at
"""


def test_a_supervisor_that_was_suspended_past_its_lease_delivers_nothing(behind: Behind) -> None:
    one = behind.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    one.tick_until(lambda: one.ledger("commit"), "the run of the first host waits")
    behind.was_away, suspended = True, behind.processes_of(one)
    for process in suspended:
        process.suspend()
    two = behind.another("two")
    behind.heartbeat_stops("one")
    wait_until(lambda: behind.tick(two) or behind.is_done(task), "the other host does it")
    head = behind.one.remote_sha(behind.task(task)[0].work_branch or "")
    one.open("go")
    for process in suspended:
        process.resume()
    wait_until(lambda: outcomes(one) == ["stopped"], "the late run ends, before any tick")
    behind.rest(task)
    assert sorted(row["outcome"] for row in one.json("runs")) == ["done", "stopped"]
    assert one.remote_sha(behind.task(task)[0].work_branch or "") == head


def outcomes(host: World) -> list[str]:
    """Return the verdicts of the ended runs of a host."""
    found = [run["outcome"] for run in seen.runs(host.home_folder) if run["status"] == "finished"]
    return sorted(each["verdict"] for each in found)


def test_the_first_tick_after_an_outage_leaves_no_pause_of_a_run_that_met_it(
    behind: Behind,
) -> None:
    one = behind.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    one.tick_until(lambda: one.ledger("commit"), "the run waits")
    behind.proxy.go_away()
    one.open("go")
    wait_until(lambda: outcomes(one) == ["system_fault"], "the run meets the outage")
    wait_until(lambda: not attendants(one, others=True), "the tick after the run meets it, too")
    behind.proxy.is_closed = False
    assert one.tick()["problems"] == []
    behind.rest(task)
    assert len(one.starts(task)) == 1


@pytest.mark.slow
def test_a_host_that_was_cut_off_for_longer_than_its_lease_delivers_nothing(
    behind: Behind,
) -> None:
    one = behind.one
    one.product = shadow(one.folder / "shadow", _IMPATIENT)
    behind.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    one.tick_until(lambda: one.ledger("commit"), "the run of the first host waits")
    behind.was_away = True
    behind.proxy.mute.add("orchestrator one")
    two = behind.another("two")
    behind.heartbeat_stops("one")
    wait_until(lambda: behind.tick(two) or behind.is_done(task), "the other host does it")
    [problem] = one.tick()["problems"]
    assert problem["code"] == "store_unreachable"
    one.open("go")
    wait_until(lambda: outcomes(one), "the run meets the silent database")
    behind.proxy.mute.clear()
    behind.rest(task)
    assert "done" not in outcomes(one)


@pytest.mark.slow
def test_while_the_database_is_silent_runs_go_on_and_deliver_once(
    behind: Behind, tmp_path: Path
) -> None:
    """The cheap half: `test_a_database_without_an_answer_is_given_up_and_asked_again_later`."""
    one = behind.one
    one.product = shadow(one.folder / "shadow", _IMPATIENT)
    behind.begin(checks=[f"until test -e {tmp_path}/silent; do sleep 0.1; done"])
    task = one.add("Say hello", "implement", "--no-tick")
    one.tick_until(lambda: one.ledger("end"), "the client has ended, the checks run")
    behind.proxy.mute.add("*")
    [problem] = wait_until(lambda: one.tick()["problems"], "a tick that has the lock")
    assert problem["code"] == "store_unreachable"
    (tmp_path / "silent").touch()
    wait_until(lambda: outcomes(one) == ["system_fault"], "the run meets the silent database")
    behind.proxy.mute.clear()
    behind.rest(task)
    assert (behind.events(task).count("requeued"), len(one.starts(task))) == (1, 1)


_FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END; $$;
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON orchestrator_tasks
    EXECUTE FUNCTION full_disk();
"""


def test_a_full_database_is_one_problem_and_the_work_is_delivered_when_it_has_room(
    behind: Behind, tmp_path: Path
) -> None:
    one = behind.begin(checks=[f"until test -e {tmp_path}/full; do sleep 0.1; done"])
    task = one.add("Say hello", "implement", "--no-tick")
    one.tick_until(lambda: one.ledger("end"), "the client has ended, the checks run")
    behind.script(_FULL)
    assert one.refused("task", "add", "--title", "Another", "--json").json["error"]["code"] == (
        "store_unreachable"
    )
    (tmp_path / "full").touch()
    # The run delivers: it changes no task. Its end cannot be written to the task.
    wait_until(lambda: outcomes(one), "the run ends")
    ticked = wait_until(lambda: one.run("tick", "--json").json["problems"], "a tick has the lock")
    [problem] = ticked
    assert (problem["code"], "extend file" in problem["message"]) == ("store_unreachable", True)
    assert behind.task(task)[0].state == "claimed"
    behind.script("DROP FUNCTION full_disk CASCADE")
    behind.rest(task)
    assert len(one.starts(task)) == 1


def test_a_slow_database_costs_time_and_nothing_else(behind: Behind) -> None:
    one = behind.begin()
    one.add("Say hello", "implement", "--no-tick")
    behind.proxy.delay = 0.02
    before = behind.proxy.exchanges
    one.ok("tick")
    assert behind.proxy.exchanges - before < 50, "a tick asks too often"
    one.tick_until(lambda: one.status()["queue"]["done"] == 1, "the task is done")
    behind.proxy.delay = 0
    [task] = [task.id for task in behind.store.list("done").tasks]
    behind.rest(task)
    assert behind.events(task) == ["claimed", "done"]


_FORGETS = """
CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END; $$;
CREATE TRIGGER forget BEFORE INSERT ON orchestrator_pull_requests
    FOR EACH ROW EXECUTE FUNCTION forget();
"""


def test_a_delivery_that_the_database_has_lost_is_made_again_without_the_client(
    behind: Behind,
) -> None:
    """As after a failover to a standby that lacked it: `tests/test_database_failover.py`."""
    one = behind.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    behind.script(_FORGETS)
    one.tick_until(lambda: "requeued" in behind.events(task), "the loss is noticed")
    assert behind.task(task)[1].history[1].fields["reason"] == "delivery_lost"
    behind.script("DROP FUNCTION forget CASCADE")
    behind.rest(task)
    assert len(one.starts(task)) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_storm_over_three_hosts_loses_and_doubles_nothing(
    behind_of: Callable[[str], Behind],
) -> None:
    with cluster() as own:
        storm = Storm(hosts := behind_of(own.base), own, seed=15)
        hosts.one.script("default", {"steps": [["sleep", 2.5], ["work_once"]]})
        tasks = [hosts.one.add(f"Change number {n}", "implement", "--no-tick") for n in range(9)]
        deeds = {"kill_process": 4, "cut": 2, "kill_host": 1, "suspend": 1, "silence": 1}
        storm.rage(deeds | {"restart": 1}, 25, 0.5, lambda: None)
        hosts.rest(*tasks, limit=100)
        assert any("requeued" in hosts.events(task) for task in tasks), "a calm storm"


def test_a_claim_and_a_completion_wait_twice_each_for_the_database(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # After 5 s, a session asks once more whether the queue is open: on a busy machine, here.
    monkeypatch.setattr(schema, "BELIEVED", float("inf"))
    with proxy(server) as between:
        store = through(between, tmp_path)
        store.attend(())
        store.add(new_task())
        task = store.find("T1")
        before = between.exchanges
        claimed = claim(store, task)
        assert claimed is not None
        assert between.exchanges - before == 2
        store.move(claimed, "done", entry("done", "R1"))
        assert between.exchanges - before == 4


@pytest.mark.parametrize("code", ["store_unreachable", "remote_failed"])
def test_a_tick_that_reaches_the_database_ends_the_hold_of_an_outage_only(
    behind: Behind, code: str
) -> None:
    one = behind.begin(agents=[])
    layout = Layout(str(one.root))
    hold = Hold("system_fault", f"{code}: no answer", "a hint", time.time())
    files.write_json(layout.hold, hold._asdict())
    one.ok("tick")
    assert (faults.read_hold(layout) is None) == (code == "store_unreachable")
