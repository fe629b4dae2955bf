"""Failures 6 and 18 with the real client: what it does when the machine or the service fails it.

`test_faults` shows the same with many runs and exact moments; here it is the real stream that must
be understood.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import pytest
import test_real_client as real
from full_disk import Disk
from messages_api import Fault, Request
from test_real_client import ALWAYS, IMPLEMENTER, PATIENCE, Project, bash, commit, report

pytestmark = pytest.mark.client

api = real.api
project = real.project

#: A single charge would end the task.
STRICT = {"max_attempts": 1, "backoff_seconds": 0}
WORK = [bash("cat app.txt"), bash("echo 2 > app.txt"), commit("Two"), report("done")]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 64 MiB under everything that a test has: project, remote, the client's home."""
    made = Disk(tmp_path, "64m", 8000)
    made.mount()
    try:
        yield made
    finally:
        made.unmount()


def problems(project: Project) -> list[dict[str, Any]]:
    done = project.orchestrator("status", "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["problems"])


def assert_one_problem(project: Project, said: str) -> None:
    found = problems(project)
    assert len(found) == 1, found
    assert found[0]["message"].startswith(said), found
    assert len(found[0]["hint"] or "") > 15, found


def assert_unpaid(project: Project) -> None:
    assert project.tasks("failed") == []
    assert {fields["charged"] for fields in project.requeued("TASK-1")} <= {False}


def settled(project: Project) -> None:
    project.wait_until(lambda: not project.unsettled())


def recover(project: Project) -> None:
    project.run_until(lambda: project.tasks("done") == ["TASK-1"])
    settled(project)
    assert_unpaid(project)
    project.run_until(lambda: not problems(project))
    pr = project.pull_request()
    assert project.remote_branches()[pr["branch"]] == pr["head"]
    assert project.git("log", "--format=%s", f"main..{pr['head']}").splitlines() == ["Two"]


def strict(project: Project, **settings: Any) -> None:
    project.configure({**IMPLEMENTER, "interval_seconds": ALWAYS}, retry=STRICT, **settings)
    project.add("TASK-1", "Make two a 2")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "authentication_failed"),
        pytest.param(429, "rate_limit", marks=pytest.mark.slow),
        pytest.param(529, "overloaded", marks=pytest.mark.slow),
        pytest.param(500, "server_error", marks=pytest.mark.slow),
    ],
)
def test_a_service_that_refuses_is_one_problem_until_it_answers(
    project: Project, status: int, said: str
) -> None:
    strict(project)
    over = threading.Event()

    def refused(_: Request) -> bool:
        return not over.is_set()

    project.api.script(refused, [Fault(status)])
    project.api.script("", WORK)
    for _ in range(2):
        project.tick()
        settled(project)
    assert_one_problem(project, said)
    assert_unpaid(project)
    over.set()
    recover(project)


def test_a_client_that_is_being_replaced_is_missed_and_found_again(project: Project) -> None:
    binary = project.folder / "claude"
    strict(project, claude={"command": [str(binary)]})
    project.api.script("", WORK)
    for _ in range(3):
        project.tick()
        settled(project)
    assert_one_problem(project, "client_missing")
    assert_unpaid(project)
    binary.symlink_to(project.client)
    recover(project)


@pytest.mark.parametrize("how", harness.variants(["no space", "no inodes"], "no space"))
@pytest.mark.root  # mounts a disk
def test_a_disk_that_fills_under_the_client_costs_no_attempt(
    disk: Disk, project: Project, tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    gate = tmp_path_factory.mktemp("gates") / "go"
    strict(project)
    freed = threading.Event()
    started = bash(f"cat app.txt; until test -e {gate}; do sleep 0.02; done")

    def model(request: Request) -> Any:
        """Wait, then try until it is committed; give up like a model when the disk says no."""
        said = real.results(request)
        if not said:
            return started
        if "COMMITTED" in said[-1]:
            return report("done")
        if len(said) > 2 and not freed.is_set():
            return "I cannot write anything here."
        return bash("echo 2 > app.txt && git add -A && git commit -q -m Two && echo COMMITTED")

    project.api.script("", model)
    project.tick()
    project.api.wait_for(lambda api: len(api.conversations()) == 1, PATIENCE)
    project.wait_until(lambda: project.record("ann").get("client"))
    client = project.record("ann")["client"]["pid"]
    disk.fill() if how == "no space" else disk.take_all_inodes()
    gate.touch()
    project.wait_until(lambda: not real.psutil.pid_exists(client))
    for _ in range(4):
        done = project.orchestrator("tick", "--json")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    assert_one_problem(project, "disk_full")
    assert_unpaid(project)
    disk.free()
    freed.set()
    recover(project)
