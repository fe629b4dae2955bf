"""What the store promises to be durable is there after a power cut, on a real ext4.

What the image of a file system holds at an instant is what a disk would hold had the power gone
then: the copy of it that is mounted goes through the file system's own recovery.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_contract import claim, entry, new_task

from orchestrator.layout import Layout
from orchestrator.model import STATES
from orchestrator.store import Store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="loop devices are Linux's")

LONG = "x" * 6000


class Disk:
    """An ext4 file system in an image, mounted."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "image"
        self._cuts: list[Path] = []
        self.path = folder / "disk"
        self.path.mkdir()
        with open(self._image, "wb") as file:
            file.truncate(16 << 20)
        self._try("mkfs.ext4", "-q", "-F", self._image)
        self._mount(self._image)

    def cut(self) -> None:
        """Keep what the disk holds now."""
        self._cuts.append(self._image.with_name(f"cut{len(self._cuts)}"))
        subprocess.run(["cp", "--sparse=always", self._image, self._cuts[-1]], check=True)

    def after_each_cut(self) -> Iterator[int]:
        """Mount what each cut left, one after the other."""
        for number, image in enumerate(self._cuts):
            self.unmount()
            self._mount(image)
            yield number

    def unmount(self) -> None:
        subprocess.run(["umount", self.path], check=True)

    def _mount(self, image: Path) -> None:
        self._try("mount", "-o", "loop", image, self.path)

    @staticmethod
    def _try(*words: str | Path) -> None:
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip(f"there is no {words[0]} here")
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path)
    yield found
    found.unmount()


def test_every_change_that_returned_is_there_after_a_power_cut(disk: Disk) -> None:
    layout = Layout(str(disk.path / "project"))
    for state in STATES:
        os.makedirs(layout.state(state))
    store = Store(layout)
    promised: list[dict[str, bytes]] = []

    def cut_after(change: Callable[[], object]) -> None:
        change()
        disk.cut()
        promised.append(_queue(layout))

    for number in range(3):
        task_id = f"T{number}"
        cut_after(lambda task_id=task_id: store.add(new_task(task_id)))
        cut_after(lambda task_id=task_id: claim(store, store.find(task_id)))
    # Dropped by hand a moment ago, the file is on no disk yet when it is claimed.
    Path(layout.state("incoming"), "by hand.md").write_text(f"# By hand\n\nROLE: test\n\n{LONG}\n")
    cut_after(lambda: claim(store, store.find("by-hand")))
    ends = (
        ("done", entry("done", "R1", summary="short")),
        ("incoming", entry("requeued", "R1", reason="no_result", error=LONG)),
        ("failed", entry("failed", "R1", reason="checks_failed", error="ü" * 500)),
    )
    for number, (state, event) in enumerate(ends):
        cut_after(lambda n=number, s=state, e=event: store.move(store.find(f"T{n}"), s, e))
    store.locked().close()
    assert len(promised) == 10
    for number in disk.after_each_cut():
        assert _queue(layout) == promised[number], f"after change {number}"


def _queue(layout: Layout) -> dict[str, bytes]:
    found = Path(layout.queue).rglob("*.md")
    return {
        path.relative_to(layout.queue).as_posix(): path.read_bytes()
        for path in found
        if not path.name.startswith(".")
    }
