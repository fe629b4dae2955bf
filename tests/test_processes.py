"""What each implementation of `system.processes` must answer; on Linux, both answer the same."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import test_process
from harness import kill
from test_process import RUN, Start, pid_in, wait_for

from orchestrator.system.processes import HERE, MARKS, Linux, Processes, Psutil

start = test_process.start


@pytest.fixture(
    params=[
        pytest.param(Linux, marks=pytest.mark.skipif(sys.platform != "linux", reason="no /proc")),
        Psutil,
    ]
)
def system(request: pytest.FixtureRequest) -> Processes:
    made: Processes = request.param()
    return made


def test_an_identity_is_of_one_living_process(system: Processes, start: Start) -> None:
    child, other = start("exec sleep 60"), start("sleep 0.1; exec sleep 60")
    known = system.identity(child.pid)
    assert known
    assert system.identity(child.pid) == known
    assert system.identity(os.getpid()) not in (None, known)
    child.kill()
    child.wait()
    assert system.identity(child.pid) is None
    assert system.identity(other.pid)
    for odd in (0, -1, 2**22 + 1):
        assert system.identity(odd) is None


def test_a_zombie_is_not_alive(system: Processes, start: Start) -> None:
    child = start("exit 0", ORCHESTRATOR_RUN_ID=RUN)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert system.identity(child.pid) is None
    assert child.pid not in system.below(os.getpid())
    assert child.pid not in set(system.marked(RUN))


def test_a_stopped_process_is_alive_and_is_told_from_one_that_runs(
    system: Processes, start: Start
) -> None:
    child = start("exec sleep 60")
    assert not system.is_stopped(child.pid)
    child.send_signal(signal.SIGSTOP)
    wait_for(lambda: system.is_stopped(child.pid))
    assert system.identity(child.pid)
    child.send_signal(signal.SIGCONT)
    wait_for(lambda: not system.is_stopped(child.pid))
    for odd in (0, -1, 2**22 + 1):
        assert not system.is_stopped(odd)


def test_a_process_is_named_by_its_command_on_one_line(system: Processes, start: Start) -> None:
    child = start("exec sleep 61")
    wait_for(lambda: system.command(child.pid) == "sleep 61")
    other = start("exec sh -c 'sleep 60; :' 'a\nb\033[1m' " + "x" * 500)
    wait_for(lambda: "xxx" in (system.command(other.pid) or ""))
    said = system.command(other.pid) or ""
    assert said.isprintable()
    assert len(said) <= 100
    assert system.command(2**22 + 1) is None


@pytest.mark.skipif(sys.platform != "linux", reason="CLOCK_BOOTTIME is Linux's")
def test_the_time_of_the_machines_start_agrees_with_the_clock(system: Processes) -> None:
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert abs(system.booted() + since - time.time()) < 2


@pytest.mark.parametrize("mark", MARKS)
def test_the_processes_of_a_run_are_found_by_its_mark(
    system: Processes, start: Start, tmp_path: Path, mark: str
) -> None:
    child = start(f"setsid sleep 60 & echo $! > {tmp_path}/pid; wait", **{mark: RUN})
    away = pid_in(tmp_path / "pid")
    start("exec sleep 60", **{mark: f"{RUN}-another"})
    wait_for(lambda: set(system.marked(RUN)) == {child.pid, away})


def test_the_runs_of_a_project_are_found_by_their_processes(
    system: Processes, start: Start, tmp_path: Path
) -> None:
    def work(project: str, agent: str, run: str) -> None:
        names = {"ORCHESTRATOR_PROJECT": project, "ORCHESTRATOR_AGENT": agent}
        start("sleep 60 & wait", **names, ORCHESTRATOR_RUN_ID=run)

    here = str(tmp_path)
    work(here, "impl-1", RUN)
    work(here, "pm-1", f"{RUN}-2")
    for names in ((f"{here}/below", "impl-1", RUN), (here, "", RUN), (here, "impl-1", "")):
        work(*names)
    wait_for(lambda: system.runs_in(here) == {("impl-1", RUN), ("pm-1", f"{RUN}-2")})
    wait_for(lambda: system.runs_in(f"{here}/below") == {("impl-1", RUN)})


def test_descendants_are_found_whatever_session_and_environment_they_have(
    system: Processes, start: Start, tmp_path: Path
) -> None:
    deep = f"env -i setsid sh -c 'sleep 60 & echo $! > {tmp_path}/pid; wait' & wait"
    child = start(deep, ORCHESTRATOR_RUN_ID=RUN)
    away = pid_in(tmp_path / "pid")
    try:
        assert away in system.below(child.pid)
        assert away not in set(system.marked(RUN))
        assert system.below(child.pid) <= system.below(os.getpid())
        assert os.getpid() not in system.below(os.getppid())
        assert child.pid not in system.below(child.pid)
    finally:
        for pid in system.below(child.pid):
            kill(pid)


def test_both_implementations_see_the_same(start: Start, tmp_path: Path) -> None:
    child = start(f"sleep 60 & echo $! > {tmp_path}/pid; wait", ORCHESTRATOR_RUN_ID=RUN)
    pid_in(tmp_path / "pid")
    other = Psutil()
    assert other.below(child.pid) == HERE.below(child.pid) != set()
    assert set(other.marked(RUN)) == set(HERE.marked(RUN)) != set()
    assert other.booted() == pytest.approx(HERE.booted(), abs=2)


def test_the_machine_started_before_now(system: Processes) -> None:
    assert 0 < system.booted() < time.time()


def test_the_processes_that_work_in_a_folder_are_found_by_place_and_by_argument(
    system: Processes, start: Start, tmp_path: Path
) -> None:
    here, other = tmp_path / "here", tmp_path / "here-not"
    for folder in (here / "below", other):
        folder.mkdir(parents=True)
    # Names of their own: any process of another user counts, and another user may run `sleep`.
    nap, look = f"nap{os.getpid()}", f"look{os.getpid()}"
    for name, program in ((nap, "sleep"), (look, "tail")):
        (tmp_path / name).symlink_to(shutil.which(program) or "")
    started = [
        start(f"cd {here}/below; exec {tmp_path}/{nap} 60"),
        start(f"cd {other}; exec {tmp_path}/{nap} 60"),
        start(f"exec {tmp_path}/{look} -f --pid={os.getpid()} --retry {here}/log 2> /dev/null"),
    ]
    places = [str(here.resolve())]
    wait_for(lambda: system.at_work(nap, places, ()) == {started[0].pid})
    wait_for(lambda: system.at_work(look, places, ()) == {started[2].pid})
    started[0].kill()
    started[0].wait()
    assert system.at_work(nap, places, ()) == set()


def test_a_process_that_ends_while_it_is_asked_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Linux refuses the folder of a process that is ending, and then has no process any more."""

    class Ending:
        pid = 1 << 22
        info: ClassVar = {"name": "git"}

        def cwd(self) -> str:
            raise psutil.AccessDenied(self.pid)

        def uids(self) -> object:
            raise psutil.NoSuchProcess(self.pid)

    monkeypatch.setattr(psutil, "process_iter", lambda attributes: iter([Ending()]))
    assert HERE.at_work("git", ["/"], (os.getuid(),)) == set()


def test_a_process_that_is_ending_works_nowhere(
    system: Processes, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For a moment it is no zombie yet, but in no folder: that is not this process's folder."""
    nap = f"nap{os.getpid()}"
    (tmp_path / nap).symlink_to(shutil.which("sleep") or "")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    child = start(f"cd {tmp_path}/here; exec ../{nap} 60")
    place = [str((tmp_path / "here").resolve())]
    wait_for(lambda: system.at_work(nap, place, ()) == {child.pid})
    monkeypatch.setattr(psutil.Process, "cwd", lambda _: "")
    assert system.at_work(nap, place, ()) == set()
