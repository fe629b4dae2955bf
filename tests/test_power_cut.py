"""What the store promises to be durable is there after a power cut, on a real ext4.

What the image of a file system holds at an instant is what a disk would hold had the power gone
then: the copy of it that is mounted goes through the file system's own recovery.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import crash
import needs
import pytest
from harness import World, wait_until
from store_contract import claim, entry, new_task

from orchestrator.layout import Layout
from orchestrator.model.work import STATES
from orchestrator.tasks.file_store import FileStore

pytestmark = [
    pytest.mark.root,  # mounts a disk
    pytest.mark.skipif(sys.platform != "linux", reason="loop devices are Linux's"),
]

LONG = "x" * 6000


class Disk:
    """An ext4 file system in an image, mounted."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "image"
        self._cuts: list[Path] = []
        self.path = folder / "disk"
        self.path.mkdir()
        with open(self._image, "wb") as file:
            file.truncate(32 << 20)
        self._try(needs.program("mkfs.ext4", "e2fsprogs"), "-q", "-F", self._image)
        self._mount(self._image)

    def cut(self) -> bool:
        """Keep what the disk holds now. Returns False if it is written to meanwhile."""
        copy = self._image.with_name(f"cut{len(self._cuts)}")
        subprocess.run(["cp", "--sparse=always", self._image, copy], check=True)
        # A copy with parts from before and after a write would be of no instant: it could have the
        # name of a file without the content that was flushed before the name was given.
        if is_of_one_instant := filecmp.cmp(self._image, copy, shallow=False):
            self._cuts.append(copy)
        return is_of_one_instant

    def after_each_cut(self, most: int | None = None) -> Iterator[int]:
        """Mount what each cut left, one after the other; of many, `most` from the first on."""
        step = 1 if most is None else -(-len(self._cuts) // most)
        for number, image in list(enumerate(self._cuts))[::step]:
            self.unmount()
            self._mount(image)
            yield number

    def unmount(self) -> None:
        """Take it from its folder, when the last process has let go of it."""
        subprocess.run(["umount", self.path], check=True)

    def _mount(self, image: Path) -> None:
        self._try("mount", "-o", "loop", image, self.path)

    @staticmethod
    def _try(*words: str | Path) -> None:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
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
    store = FileStore(layout)
    promised: list[dict[str, bytes]] = []

    def cut_after(change: Callable[[], object]) -> None:
        change()
        wait_until(disk.cut, "a moment without a write")
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
    store.change().close()
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


# --- a run, from its claim to what lands ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_work_that_a_power_cut_ends_at_any_time_is_done_once_and_lands(
    disk: Disk, tmp_path: Path
) -> None:
    """Git flushes little by itself: a cut could leave empty objects, refs of zeros, and locks."""
    world = World(disk.path / "world", tmp_path / "templates")
    try:
        crash.create_with_review(world, auto_merge=True)
        world.script(crash.TASK, {"steps": [["work_once"]]})
        os.sync()
        with _cutting(disk):
            world.ok("tick")
            crash._settle(world)
        for number in disk.after_each_cut(most=8):
            _age_locks(world.folder)
            for _ in range(12):
                world.ok("tick")
                crash._settle(world)
                if [pr["state"] for pr in world.prs()] == ["merged"]:
                    break
            pr = crash.assert_delivered(world, crash.TASK)
            assert (pr["state"], pr["verdict"]) == ("merged", "approved"), f"after cut {number}"
            subjects = world.git("log", "--format=%s", "main", cwd=world.remote).splitlines()
            assert subjects.count(f"work on {crash.TASK}") == 1, f"after cut {number}"
            crash.assert_in_one_place(world)
            assert not world.status()["problems"], f"after cut {number}"
            for repository in (world.root, world.remote):
                fsck = world.git("fsck", "--no-dangling", "--no-progress", cwd=repository)
                assert fsck == "", f"after cut {number}"
    finally:
        world.end()


@contextlib.contextmanager
def _cutting(disk: Disk) -> Iterator[None]:
    """Cut the power once and again while the block runs, as often as there is time."""
    over = threading.Event()

    def cut_on() -> None:
        while not (disk.cut() and over.is_set()):
            pass

    thread = threading.Thread(target=cut_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _age_locks(folder: Path) -> None:
    """Let the locks be from before the machine started: here it never went down."""
    for lock in folder.rglob("*.lock"):
        os.utime(lock, (0, 0))
