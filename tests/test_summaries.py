"""A long queue's listing that reads only what has changed gives what reading everything gives."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from orchestrator.layout import Layout
from orchestrator.tasks import listing_cache
from orchestrator.tasks import store as store_module
from orchestrator.tasks.store import Listing, Store

TEXT = "# [{id}] Number {number}\n\nROLE: {role}\nPRIORITY: P{rank}\n\nBody\n"


@pytest.fixture
def queue(tmp_path: Path) -> Layout:
    layout = Layout(str(tmp_path / "project"))
    for state in ("incoming", "claimed", "blocked", "done", "failed"):
        os.makedirs(layout.state(state))
    os.makedirs(layout.cache)
    os.makedirs(os.path.join(layout.root, ".git"))
    Path(layout.root, ".git", "orchestrator.json").write_text("{}")
    for number in range(listing_cache.LEAST + 20):
        drop(layout, f"T{number}", number)
    return layout


def drop(layout: Layout, task_id: str, number: int, role: str = "implement") -> Path:
    path = Path(layout.state("incoming")) / f"{task_id}.md"
    path.write_text(TEXT.format(id=task_id, number=number, role=role, rank=number % 4))
    return path


def settle() -> None:
    """Let the last change become one that a later change cannot hide behind."""
    time.sleep(listing_cache._SETTLED / 1e9 * 1.5)


def remembered(layout: Layout) -> Listing:
    return Store(layout).list("incoming", remember=True)


def afresh(layout: Layout) -> Listing:
    shutil.rmtree(layout.cache)
    os.makedirs(layout.cache)
    return Store(layout).list("incoming")


def test_what_did_not_change_is_not_read_again(
    queue: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    first = remembered(queue)
    read: list[str] = []
    real = store_module._read
    monkeypatch.setattr(store_module, "_read", lambda path: read.append(path) or real(path))
    changed = drop(queue, "T7", 7, role="test")
    second = remembered(queue)
    assert read == [str(changed)]
    assert {t.id: t.role for t in second.tasks} == {
        **{t.id: t.role for t in first.tasks},
        "T7": "test",
    }


def test_a_change_in_quick_succession_is_seen(queue: Layout) -> None:
    # Within one tick of the file system's clock, and of the same size.
    for role in ("review", "deploy") * 20:
        path = drop(queue, "T3", 3, role=role)
        found = next(t for t in remembered(queue).tasks if t.id == "T3")
        assert found.role == role, path


def test_any_changes_by_hand_are_seen(queue: Layout) -> None:
    chance = random.Random(7)
    folder = Path(queue.state("incoming"))
    for turn in range(12):
        settle()
        for _ in range(chance.randrange(1, 9)):
            path = folder / f"T{chance.randrange(listing_cache.LEAST + 20)}.md"
            match chance.randrange(6):
                case 0:
                    path.unlink(missing_ok=True)
                case 1:
                    path.write_text("no task at all")
                case 2:
                    path.write_text(TEXT.format(id="T1", number=1, role="implement", rank=0))
                case 3 if path.exists():
                    os.replace(path, folder / f"moved-{turn}.md")
                case 4 if path.exists():
                    os.replace(path, Path(queue.state("done")) / path.name)
                case _:
                    drop(queue, f"new-{turn}", turn)
        assert remembered(queue) == Store(queue).list("incoming") == afresh(queue)
        remembered(queue)


@pytest.mark.parametrize("at", [0, 5, -1])
def test_a_damaged_memory_is_none(queue: Layout, at: int) -> None:
    settle()
    good = remembered(queue)
    kept = Path(queue.cache) / "incoming.summaries"
    data = bytearray(kept.read_bytes())
    data[at] ^= 1
    kept.write_bytes(data)
    assert Store(queue).list("incoming") == good


def test_a_project_that_was_moved_names_its_files_where_they_are_now(
    queue: Layout, tmp_path: Path
) -> None:
    settle()
    remembered(queue)
    os.rename(queue.root, tmp_path / "elsewhere")
    found = remembered(Layout(str(tmp_path / "elsewhere"))).tasks
    assert found
    assert all(task.path.startswith(str(tmp_path / "elsewhere")) for task in found)


def test_a_reader_leaves_nothing_and_a_full_disk_stops_nothing(
    queue: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    Store(queue).list("incoming")
    assert os.listdir(queue.cache) == []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert len(remembered(queue).tasks) == listing_cache.LEAST + 20
    assert os.listdir(queue.cache) == []
