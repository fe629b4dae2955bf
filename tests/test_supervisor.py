"""In which process image a run is carried out."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import harness
import pytest
import runs
from conftest import git as sh
from harness import World, shadow, wait_until

from benchmarks import waiting_supervisor
from orchestrator.git import drivers, settings
from orchestrator.layout import Layout
from orchestrator.project import run_record
from orchestrator.run import conclude, launch, prepare, supervisor
from orchestrator.run.journal import Journal, Plan

world = harness.world

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
#: Megabytes that a waiting supervisor may hold; the aim of `make bench`.
MOST = waiting_supervisor.AIM.limit


@pytest.mark.parametrize("fresh", ["SMALL_AFTER = 0.2", "MOST_FORKS = 0"])
def test_a_supervisor_that_waits_for_long_becomes_small_and_finishes_its_run(
    world: World, fresh: str
) -> None:
    edge = f"from orchestrator.run import supervisor\nsupervisor.{fresh}\n"
    world.product = shadow(world.folder / "shadow", edge)
    world.create()
    world.script("default", {"steps": [["wait", "go"], ["work"]]})
    task = world.add("Takes long")
    [run] = world.tick_until(lambda: world.status()["running"], "the run")
    command = Path(f"/proc/{run['pid']}/cmdline")
    wait_until(lambda: b"\0_run\0" in command.read_bytes(), "the small image")
    wait_until(lambda: waiting_supervisor.memory(run["pid"])["Rss"] < MOST, "little memory")
    world.open("go")
    world.tick_until_in("done", task)
    assert len(world.commits_about(task)) == 1
    assert len(world.starts(task)) == 1


def test_a_forged_time_hides_a_driver_only_until_the_next_stage(repo: Path) -> None:
    """The stages of a run share a process, and what git said before an agent's work is not kept."""
    config = repo / ".git" / "config"
    sh(repo, "config", "filter.x.clean", "one")
    assert drivers.for_new(str(repo), str(repo / "w"))["GIT_CONFIG_VALUE_0"].endswith("one")
    before = config.stat()
    config.write_text(config.read_text().replace("one", "two"))
    os.utime(config, ns=(before.st_atime_ns, before.st_mtime_ns))
    settings.forget()
    assert drivers.for_new(str(repo), str(repo / "w"))["GIT_CONFIG_VALUE_0"].endswith("two")


@pytest.mark.parametrize(
    ("argv", "said"),
    [(("/nowhere/x",), "/nowhere/x: No such file or directory"), (("x\0",), "ValueError")],
)
def test_a_child_that_could_not_become_the_client_says_why(
    tmp_path: Path, argv: tuple[str, ...], said: str
) -> None:
    folder = runs.lay_out(Layout(str(tmp_path)), "a", "R1", status="starting")
    found = run_record.read(str(folder))
    assert found is not None
    journal = Journal(str(folder), found)
    launch.start(journal, Plan(argv, str(tmp_path), {}))
    client = journal.record.client
    assert client is not None
    os.waitpid(client.pid, 0)
    # With this, nothing is charged (`outcomes.without_result`).
    assert said in (client.start_error or "")


@pytest.mark.parametrize("stage", ["starting", "concluding"])
def test_each_stage_asks_git_anew_for_its_settings(
    monkeypatch: pytest.MonkeyPatch, stage: str, tmp_path: Path
) -> None:
    asked: list[str] = []

    def forget() -> None:
        asked.append(stage)
        raise InterruptedError

    monkeypatch.setattr(settings, "forget", forget)
    begin = {"starting": prepare.prepare, "concluding": conclude.conclude}[stage]
    with pytest.raises(InterruptedError):
        begin(Journal(str(tmp_path), NotImplemented))
    assert asked == [stage]


@pytest.mark.parametrize("is_killed", [False, True], ids=["closed", "its maker is killed"])
def test_supervisors_wait_at_a_gate_until_its_maker_lets_go(is_killed: bool) -> None:
    reading, writing = os.pipe()
    maker = os.fork()
    if maker == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        gate = supervisor.Gate()
        for _ in range(2):  # the second one has the first one's descriptors, too
            if os.fork() == 0:
                os.write(writing, b"waits ")
                gate.wait()
                os.write(writing, b"begins")
                os._exit(0)
        signal.sigwait({signal.SIGUSR1})
        gate.close()
        signal.pause()
    os.close(writing)
    said = b""
    while len(said) < len(b"waits waits "):
        said += os.read(reading, 6)
    assert said == b"waits waits "
    assert not select.select([reading], [], [], 0.1)[0]
    os.kill(maker, signal.SIGKILL if is_killed else signal.SIGUSR1)
    while len(said) < len(b"waits waits beginsbegins"):
        said += os.read(reading, 6)
    assert said.endswith(b"beginsbegins")
    os.kill(maker, signal.SIGKILL)
    os.waitpid(maker, 0)
    os.close(reading)
