"""A disk of a test's own, which can be filled, emptied and made read-only."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import wait_until


class Disk:
    """A small file system of its own (tmpfs) that a project is made on."""

    def __init__(self, path: Path, size: str, inodes: int) -> None:
        self.path, self.size, self.inodes = path, size, inodes

    def mount(self) -> None:
        """Mount it; where that is not allowed, the test is skipped by name."""
        if sys.platform != "linux":
            pytest.skip("tmpfs is Linux's")
        options = f"size={self.size},nr_inodes={self.inodes},mode=700"
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def fill(self, but: int = 0) -> None:
        """Take every byte that is left, and give some back."""
        with open(self.path / "filler", "ab", buffering=0) as filler:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while filler.write(b"\0" * size) == size:
                        continue
            filler.truncate(max(filler.tell() - but, 0))

    def take_all_inodes(self) -> None:
        """Take every file that the disk can still hold."""
        (self.path / "fillers").mkdir()
        number = 0
        with contextlib.suppress(OSError):
            while True:
                (self.path / "fillers" / str(number)).touch()
                number += 1

    def free(self) -> None:
        """Give back what was taken."""
        (self.path / "filler").unlink(missing_ok=True)
        shutil.rmtree(self.path / "fillers", ignore_errors=True)

    def read_only(self, wanted: bool) -> None:
        command = ["mount", "-o", "remount,ro" if wanted else "remount,rw", str(self.path)]
        # Busy as long as a process that is ending has a file open for writing.
        wait_until(lambda: subprocess.run(command).returncode == 0, "the disk is mounted anew")
