"""The primary server of the queue dies, and its standby takes its place under the same address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psycopg
import pytest
from database_proxy import proxy
from harness import World, scratch, wait_until, world  # noqa: F401  (a fixture)
from postgresql import Cluster, cluster, in_schema
from shared_hosts import Behind
from test_hosts_that_fail import WAITS, outcomes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Pair(NamedTuple):
    """Hosts that know two servers by one address, and these servers."""

    hosts: Behind
    primary: Cluster
    standby: Cluster

    def fail_over(self) -> None:
        self.primary.kill()
        self.standby.promote()

    def is_caught_up(self) -> bool:
        """Return whether the standby has everything that the primary has."""
        with psycopg.connect(self.primary.base) as one, psycopg.connect(self.standby.base) as two:
            [(there,)] = one.execute("SELECT pg_current_wal_lsn()").fetchall()
            query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            [(found,)] = two.execute(query, [there]).fetchall()
        return bool(found)

    def stop_following(self) -> None:
        """From now on, the standby gets nothing of what the primary commits."""
        with psycopg.connect(self.standby.base, autocommit=True) as two:
            two.execute("ALTER SYSTEM SET primary_conninfo = ''")
            two.execute("SELECT pg_reload_conf()")
            query = "SELECT count(*) FROM pg_stat_wal_receiver"
            wait_until(lambda: two.execute(query).fetchall() == [(0,)], "the standby is alone")


@pytest.fixture
def pair(
    world: World,  # noqa: F811
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    with ExitStack() as stack:
        primary = stack.enter_context(cluster())
        standby = stack.enter_context(primary.standby())

        def more(name: str) -> World:
            (tmp_path / name).mkdir()
            found = stack.enter_context(scratch(tmp_path / name, tmp_path_factory))
            return knowing(found)

        folders = quote(f"{primary.folder},{standby.folder}", safe="")
        both = (
            f"postgresql://{primary.role}@/postgres?host={folders}&target_session_attrs=read-write"
        )

        def knowing(host: World) -> World:
            host.environment["ORCHESTRATOR_STORE"] = in_schema(both, str(tmp_path))
            return host

        between = stack.enter_context(proxy(primary.base))
        hosts = Behind(knowing(world), both, between, str(tmp_path), more)
        yield Pair(hosts, primary, standby)


def test_after_a_failover_the_run_at_work_delivers_once(pair: Pair) -> None:
    hosts = pair.hosts
    one = hosts.begin()
    hosts.another("two")
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    one.tick_until(lambda: one.ledger("commit"), "the run waits")
    wait_until(pair.is_caught_up, "the standby has the claim")
    pair.fail_over()
    one.open("go")
    hosts.rest(task)
    assert hosts.events(task).count("claimed") == 1
    assert len(one.starts(task)) == 1


def test_a_claim_that_the_standby_never_got_is_void_and_the_task_is_delivered_once(
    pair: Pair,
) -> None:
    """With asynchronous replication, what the primary confirmed last can be lost."""
    hosts = pair.hosts
    one = hosts.begin()
    hosts.another("two")
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    wait_until(pair.is_caught_up, "the standby has the task")
    pair.stop_following()
    one.tick_until(lambda: one.ledger("commit"), "the run waits")
    hosts.was_away = True
    pair.fail_over()
    assert hosts.task(task)[0].state == "incoming"
    two = hosts.named("two")
    wait_until(lambda: hosts.tick(two) or hosts.is_done(task), "the other host does it")
    head = one.remote_sha(hosts.task(task)[0].work_branch or "")
    one.open("go")
    wait_until(lambda: outcomes(one), "the run whose claim is lost ends")
    hosts.rest(task)
    assert "done" not in outcomes(one)
    assert one.remote_sha(hosts.task(task)[0].work_branch or "") == head


def deliver_on_the_primary(pair: Pair, one: World, task: str) -> None:
    """Let a run that waits deliver its work, of which the standby hears nothing but the claim."""
    wait_until(pair.is_caught_up, "the standby has the claim")
    pair.stop_following()
    one.open("go")
    wait_until(lambda: one.task(task)["state"] == "done", "the primary has the delivery")


def test_a_delivery_that_the_standby_never_got_is_found_on_the_remote(pair: Pair) -> None:
    hosts = pair.hosts
    one = hosts.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    one.tick_until(lambda: one.ledger("commit"), "the run waits")
    deliver_on_the_primary(pair, one, task)
    head = one.remote_sha(hosts.task(task)[0].work_branch or "")
    pair.fail_over()
    assert hosts.task(task)[0].state == "claimed"
    hosts.rest(task)
    assert hosts.events(task) == ["claimed", "requeued", "claimed", "done"]
    assert len(one.starts(task)) == 1, "the client was started again"
    assert [pr["head"] for pr in one.prs()] == [
        one.remote_sha(hosts.task(task)[0].work_branch or "")
    ]
    assert (
        head in one.git("rev-list", one.remote_sha(hosts.task(task)[0].work_branch or "")).split()
    )


def test_a_delivery_of_rework_that_the_standby_never_got_is_made_again(pair: Pair) -> None:
    hosts = pair.hosts
    one = hosts.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, {}, WAITS, {})
    one.tick_until(lambda: hosts.is_done(task), "the first delivery")
    one.ok("pr", "request-changes", "1", "Shorter.", "--no-tick")
    one.tick_until(lambda: len(one.ledger("commit")) == 2, "the rework waits")
    first = one.prs()[0]["head"]
    deliver_on_the_primary(pair, one, task)
    pair.fail_over()
    assert hosts.task(task)[0].state == "claimed"
    one.tick_until(lambda: hosts.is_done(task), "the rework is delivered")
    one.quiet()
    one.ok("tick")
    [pr] = one.prs()
    assert pr["state"] == "open"
    assert pr["head"] == one.remote_sha(pr["branch"]) != first
    assert len(one.starts(task)) == 2, "the client was started again"
    assert one.status()["problems"] == []


def test_on_github_a_delivery_that_the_standby_never_got_is_found_by_its_branch(pair: Pair) -> None:
    hosts = pair.hosts
    one = hosts.begin(forge="github")
    state = one.on_github()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    one.tick_until(lambda: one.ledger("commit"), "the run waits")
    deliver_on_the_primary(pair, one, task)
    pair.fail_over()
    assert hosts.task(task)[0].state == "claimed"
    one.tick_until(lambda: hosts.is_done(task), "the task is done")
    [pr] = one.tick_until(one.prs, "the pull request is seen")
    assert (pr["task"], pr["state"]) == (task, "open")
    assert pr["head"] == one.remote_sha(pr["branch"])
    assert len(json.loads(state.read_text())["prs"]) == 1
    assert len(one.starts(task)) == 1, "the client was started again"
    assert one.status()["problems"] == []
