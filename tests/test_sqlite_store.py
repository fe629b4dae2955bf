"""The seam of the queue: the contract, and whole commands, on a queue in a database."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import harness
from conftest import CHECKOUT
from harness import World, shadow
from sqlite_store import SqliteStore
from store_contract import StoreContract

from orchestrator.layout import Layout
from orchestrator.model.work import Task

world = harness.world

#: Each process of the product keeps the queue in the database.
IN_A_DATABASE = f"""
sys.path.append({str(CHECKOUT / "tests")!r})
from orchestrator.tasks import stores
from sqlite_store import SqliteStore
stores.KINDS["sqlite"] = SqliteStore
"""


def in_a_database(world: World, **config: Any) -> None:
    world.create(init=False)
    world.home_folder.mkdir()
    world.configure(store="sqlite", **config)
    world.ok("init", "--schedule", "none", "--no-commands", "--start")


class TestSqliteStore(StoreContract):
    kind = SqliteStore

    def spoil(self, layout: Layout, task: Task) -> None:
        with closing(sqlite3.connect(f"{layout.shared}/queue.db")) as base, base:
            base.execute("UPDATE tasks SET file = ? WHERE id = ?", (b"", task.id))


def test_a_task_travels_through_a_queue_in_a_database(world: World, tmp_path: Path) -> None:
    world.product = shadow(tmp_path / "shadow", IN_A_DATABASE, forked=True)
    in_a_database(world)
    assert not world.queue.exists()

    task = world.add("Say hello", "implement", "--priority", "P1")
    assert [row["id"] for row in world.json("task", "list")] == [task]
    assert world.ok("explain", task).out
    world.tick_until(lambda: world.task(task)["state"] == "done", "the task is done")

    shown = world.task(task)
    events = [event["event"] for event in shown["history"]]
    assert (events[0], events[-1], shown["pr"]) == ("claimed", "done", "1")
    assert shown["path"] == f"{world.home_folder}/shared/queue.db: {task}"
    assert world.status()["queue"] == {**dict.fromkeys(harness.STATES, 0), "done": 1}
    assert world.commits_about(task)

    world.ok("task", "move", task, "incoming")
    assert world.task(task)["state"] == "incoming"
    world.ok("task", "cancel", task)
    assert world.status()["queue"]["incoming"] == 0
    found = {(f["code"], f["level"]) for f in world.json("doctor")["findings"]}
    assert ("task_malformed", "ok") in found
    assert not world.queue.exists()
    world.ok("init", "--uninstall")
    assert SqliteStore(Layout(str(world.root))).find(task).title == "Say hello"


def test_a_tick_without_work_takes_the_idle_path_until_the_database_changes(
    world: World, tmp_path: Path
) -> None:
    world.product = shadow(tmp_path / "shadow", IN_A_DATABASE, forked=True)
    in_a_database(world, paused=True)
    stamp = Path(Layout(str(world.root)).idle_stamp)
    # A stamp is left once every file is older than a tick of the file system's clock.
    harness.wait_until(lambda: (world.ok("tick"), stamp.exists())[1], "a stamp is left", 20)
    old = time.time() - 1000
    os.utime(stamp, (old, old))
    world.ok("tick")
    assert stamp.stat().st_mtime == old, "the tick was not idle"
    world.add("Say hello", "implement", "--priority", "P1")
    assert not stamp.exists()
