"""The database is on a disk that is really full: data, write-ahead log and all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from full_disk import Disk
from harness import wait_until, world  # noqa: F401  (a fixture)
from postgresql import Cluster
from shared_hosts import Behind
from test_hosts_that_fail import behind_of, outcomes  # noqa: F401  (a fixture)

pytestmark = [pytest.mark.slow, pytest.mark.root]

#: What keeps the files of a server small.
SMALL = {
    "min_wal_size": "32MB",
    "max_wal_size": "32MB",
    "shared_buffers": "8MB",
    "max_connections": "60",
}


@pytest.fixture
def on_disk() -> Iterator[tuple[Cluster, Disk]]:
    """A server whose folder is a small disk."""
    folder = Path(tempfile.mkdtemp(prefix="orch-disk-"))
    disk = Disk(folder, "100m", 8000)
    disk.mount()
    try:
        folder.chmod(0o755)  # the server is another user
        (folder / "pg").mkdir()
        own = Cluster(str(folder / "pg"), SMALL)
        try:
            yield own, disk
        finally:
            own.stop()
    finally:
        disk.unmount()
        shutil.rmtree(folder)


def test_work_waits_for_room_on_the_disk_of_the_database_and_is_delivered_once(
    on_disk: tuple[Cluster, Disk],
    behind_of: Callable[[str], Behind],  # noqa: F811
    tmp_path: Path,
) -> None:
    own, disk = on_disk
    hosts = behind_of(own.base)
    one = hosts.begin(checks=[f"until test -e {tmp_path}/full; do sleep 0.1; done"])
    hosts.another("two")
    tasks = [one.add("Say hello", "implement", "--no-tick")]
    one.tick_until(lambda: one.ledger("end"), "the client has ended, the checks run")
    disk.fill()
    body = tmp_path / "body"
    body.write_bytes(bytes(range(33, 127)) * 5000)
    words = ("task", "add", "--body-file", str(body), "--no-tick", "--json", "--title")

    def is_refused() -> bool:
        done = one.run(*words, f"Another {len(tasks)}")
        if done.code == 0:
            tasks.append(done.json["id"])
            return False
        assert done.json["error"]["code"] == "store_unreachable", done
        return True

    wait_until(is_refused, "the disk of the database is full")
    (tmp_path / "full").touch()
    # The first record of a pull request needs a page that the disk does not have.
    wait_until(lambda: outcomes(one) == ["system_fault"], "the run cannot deliver")
    [problem] = wait_until(lambda: one.status()["problems"], "a problem is shown")
    assert "store_unreachable" in (problem["code"], problem["message"].partition(":")[0])
    disk.free()
    if not own.is_up:  # it ended itself, because it could not write its log
        own.start()
    hosts.rest(*tasks)
    assert len(one.starts(tasks[0])) == 1
