"""Hosts that are gone for longer than their lease, which nothing shortens: 60 real seconds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from database_proxy import proxy
from harness import World, scratch, wait_until, world  # noqa: F401  (a fixture)
from hosts_storm import NAMES, Storm
from network import BOTH, FAR, Cable, cable
from postgresql import cluster, in_schema
from shared_hosts import Behind
from test_hosts_that_fail import behind, behind_of, outcomes  # noqa: F401  (fixtures)

from orchestrator.database import hosts
from orchestrator.model.errors import StoreFault
from orchestrator.tick import attendant

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

#: The work of the host that goes away, and of the host that gets its task.
WAITS = {"steps": [["work"], ["wait", "go", 600]]}
#: Seconds for which a host is away, and for which its task may wait for another host.
AWAY, MOST = 150.0, 240.0


@pytest.fixture
def apart(
    world: World,  # noqa: F811
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Behind, Cable]]:
    """Hosts of which `one` is at the other end of a cable, and the cable."""
    with ExitStack() as stack:
        between = stack.enter_context(cable())
        own = stack.enter_context(cluster(inside=between.far, net=BOTH, listen_addresses=FAR))

        def more(name: str) -> World:
            (tmp_path / name).mkdir()
            return stack.enter_context(scratch(tmp_path / name, tmp_path_factory))

        found = Behind(world, own.base, stack.enter_context(proxy(own.base)), str(tmp_path), more)
        world.inside = between.near
        address = in_schema(f"postgresql://{own.role}@{FAR}/postgres", str(tmp_path))
        world.environment["ORCHESTRATOR_STORE"] = address
        yield found, between


def at_work(found: Behind) -> str:
    """Return a task on which the first host works; a second host is there."""
    one = found.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    one.tick_until(lambda: one.ledger("commit"), "the run of the first host waits")
    found.another("two")
    return task


def given_away(found: Behind, task: str, began: float) -> None:
    """Tick on the second host until it has done the task of the first, whose lease has ended."""
    two = found.named("two")
    wait_until(lambda: found.tick(two) or found.is_done(task), "the other host does it", MOST, 1.0)
    # The last heartbeat may have come some seconds before the host went away.
    assert time.monotonic() - began > hosts.DEAD_AFTER - 2 * attendant.BEAT


@pytest.mark.root
@pytest.mark.parametrize(("way", "ends"), [("pull", "back"), ("filter", "away")])
def test_a_host_that_was_cut_off_for_minutes_with_its_agent_at_work_delivers_nothing(
    apart: tuple[Behind, Cable], way: str, ends: str
) -> None:
    """`ends`: its agent ends after the host is back, or while the host is cut off."""
    found, between = apart
    task, one = at_work(found), found.one
    one.ok("hosts")
    began = time.monotonic()
    between.pull() if way == "pull" else between.filter(True)
    found.was_away = True
    [problem] = one.tick()["problems"]
    assert problem["code"] == "store_unreachable"
    given_away(found, task, began)
    head = one.remote_sha(found.task(task)[0].work_branch or "")
    assert one.running(task), "the agent at work was not left alone"
    if ends == "away":
        one.open("go")
        wait_until(lambda: outcomes(one), "the run meets the database that is gone", MOST)
    while time.monotonic() - began < AWAY:
        ticked = one.tick()  # of a tick beside another one, neither actions nor problems are told
        assert {each["code"] for each in ticked["problems"]} <= {"store_unreachable"}
        assert {each["reason"] for each in ticked["actions"]} <= {"system_fault"}
        time.sleep(5)
    between.plug() if way == "pull" else between.filter(False)
    one.open("go")
    found.rest(task, limit=MOST)
    assert sorted(row["outcome"] for row in one.json("runs"))[0] == "done"
    assert "done" not in outcomes(one)
    assert one.remote_sha(found.task(task)[0].work_branch or "") == head
    assert len(one.starts(task)) == 2


def test_the_task_of_a_host_that_was_killed_goes_on_elsewhere_after_the_lease(
    behind: Behind,  # noqa: F811
) -> None:
    task, began = at_work(behind), time.monotonic()
    behind.kill(behind.one)
    given_away(behind, task, began)
    behind.rest(task, limit=MOST)
    assert behind.events(task) == ["claimed", "requeued", "claimed", "done"]


def test_a_host_that_was_suspended_for_minutes_delivers_nothing(behind: Behind) -> None:  # noqa: F811
    task, began, one = at_work(behind), time.monotonic(), behind.one
    behind.was_away, suspended = True, behind.processes_of(one)
    for process in suspended:
        process.suspend()
    given_away(behind, task, began)
    head = one.remote_sha(behind.task(task)[0].work_branch or "")
    one.open("go")
    time.sleep(max(0.0, AWAY - (time.monotonic() - began)))
    for process in suspended:
        process.resume()
    wait_until(lambda: outcomes(one) == ["stopped"], "the late run ends, before any tick")
    behind.rest(task, limit=MOST)
    assert one.remote_sha(behind.task(task)[0].work_branch or "") == head


@pytest.mark.timeout(3600)
def test_a_long_storm_over_three_hosts_loses_and_doubles_nothing(
    behind_of: Callable[[str], Behind],  # noqa: F811
) -> None:
    """For STORM_SECONDS: hosts and the database are killed, a host is cut off past its lease."""
    seconds, seed = float(os.environ.get("STORM_SECONDS", "240")), os.environ.get("SEED", "15")
    with cluster() as own:
        storm = Storm(found := behind_of(own.base), own, int(seed))
        found.one.script("default", {"steps": [["sleep", 4], ["work_once"]]})
        added = 0

        def feed() -> None:
            """Have some tasks wait. A command that fails may have added its task."""
            nonlocal added
            host = found.named(storm.chance.choice(NAMES))
            with contextlib.suppress(StoreFault):
                waiting = found.sql(
                    "SELECT count(*) FROM orchestrator_tasks WHERE state = 'incoming'"
                )
                if waiting[0][0] < 4:
                    added += 1
                    host.run("task", "add", "--title", f"Change {added}", "--no-tick")

        deeds = {"kill_process": 12, "cut": 4, "kill_host": 4, "suspend": 4, "silence": 4}
        storm.rage(deeds | {"cut_off": 4, "restart": 1, "kill_database": 2}, seconds, 2.0, feed)
        tasks = [task for (task,) in found.sql("SELECT id FROM orchestrator_tasks")]
        found.rest(*tasks, limit=400)
        returned = sum(found.events(task).count("requeued") for task in tasks)
        print(f"{len(tasks)} tasks, {returned} returned; {storm.done}")
        assert returned > 2, "a calm storm"
        shown = [_shown(found.named(name)) for name in NAMES]
        assert shown[1:] == shown[:1] * 2


def _shown(host: World) -> dict[str, Any]:
    """Return what every host must show alike, when all is at rest."""
    status, report = host.status(), host.json("report", "--since", "24h")
    export = host.folder / "page.html"
    host.ok("dashboard", "--export", str(export))
    done = [row["id"] for row in host.json("task", "list", "--all")]
    page = export.read_text()
    return {
        "queue": status["queue"],
        "tasks": done,
        "prs": host.prs(),
        "costs": host.json("costs")["total"],
        "runs": sorted((row["run"], row["outcome"], row["host"]) for row in host.json("runs")),
        "delivered": sorted((row["task"], row["pr"]) for row in report["delivered"]),
        "failed": report["failed"],
        "on the page": [task for task in done if task in page],
    }
