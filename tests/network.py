"""A cable between two networks of a test's own: network namespaces of Linux, which need root.

A process that holds a namespace is all that there is of it: when it ends, the namespace is gone,
and so is the cable. The network of the machine is not touched.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import needs
import pytest

#: The addresses of the two ends, and what both are in.
NEAR, FAR, BOTH = "10.77.0.2", "10.77.0.1", "10.77.0.0/30"


class Cable:
    """Two networks, each with one end of a cable."""

    def __init__(self, near: int, far: int) -> None:
        """`near` and `far` are the processes that hold the networks."""
        #: The words that run a program in one of the networks.
        self.near, self.far = (["nsenter", f"--net=/proc/{pid}/ns/net"] for pid in (near, far))
        _run(
            *self.near,
            "ip",
            "link",
            "add",
            "near",
            "type",
            "veth",
            "peer",
            "far",
            "netns",
            str(far),
        )
        for inside, name, address in ((self.near, "near", NEAR), (self.far, "far", FAR)):
            _run(*inside, "ip", "address", "add", f"{address}/30", "dev", name)
            for link in (name, "lo"):
                _run(*inside, "ip", "link", "set", link, "up")

    def pull(self) -> None:
        """Take the cable out: nothing arrives any more, and the near end notices it."""
        _run(*self.far, "ip", "link", "set", "far", "down")

    def plug(self) -> None:
        _run(*self.far, "ip", "link", "set", "far", "up")

    def filter(self, wanted: bool) -> None:
        """Drop what the far end says, as a firewall does; what the near end says arrives."""
        _run(*self.far, "ip", "route", "add" if wanted else "delete", "blackhole", NEAR)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


@contextmanager
def cable() -> Iterator[Cable]:
    """Yield a cable; where namespaces are not allowed, the test is skipped by name."""
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    for program, package in (
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
    ):
        needs.program(program, package)
    holders = []
    try:
        for _ in range(2):
            words = ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"]
            holder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            holders.append(holder)
            if not holder.stdout.readline():
                pytest.skip(f"no network of its own: {holder.stderr.read().decode().strip()}")
        yield Cable(*(holder.pid for holder in holders))
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()
