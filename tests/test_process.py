"""Processes are known by id and start time, started detached, and ended with all they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import CHECKOUT
from rows import each_row

from orchestrator.system import commands, locks, process, processes, waits

#: Of this process alone: tests beside this one end what bears their own.
RUN = f"20261122T090000Z-abcdef-{os.getpid()}"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start shell commands in groups of their own, and end whatever is left of them."""
    started: list[subprocess.Popen[bytes]] = []

    def shell(text: str, **variables: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            ("/bin/sh", "-c", text),
            env={"PATH": os.environ["PATH"], **variables},
            process_group=0,
            stdin=subprocess.DEVNULL,
        )
        started.append(child)
        return child

    yield shell
    for child in started:
        process.signal_group(child.pid, signal.SIGKILL)
        child.wait()
    process.end_run(None, None, RUN, grace=0)


def wait_for(condition: Callable[[], object], limit: float = 20) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def pid_in(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


# --- who is alive ------------------------------------------------------------------------------


def test_a_living_process_keeps_its_identity_and_a_dead_one_has_none(start: Start) -> None:
    child = start("exec sleep 60")
    known = process.identity(child.pid)
    assert known
    assert process.identity(child.pid) == known
    assert process.is_alive(child.pid, known)
    child.kill()
    child.wait()
    assert process.identity(child.pid) is None
    assert not process.is_alive(child.pid, known)


def test_another_process_with_the_same_id_is_another_process(start: Start) -> None:
    one, other = start("exec sleep 60"), start("exec sleep 60")
    wait_for(lambda: process.identity(other.pid))
    assert not process.is_alive(one.pid, f"{process.identity(one.pid)}1")
    assert process.identity(os.getpid()) != process.identity(one.pid)
    assert not process.is_alive(one.pid, process.identity(os.getpid()))


@each_row("pid", [0, -1, None, 2**22 + 1])
@each_row("known", [None, "", "x:1"])
def test_what_is_no_process_is_not_alive(pid: int | None, known: str | None) -> None:
    assert not process.is_alive(pid, known)
    if pid is not None:
        assert process.identity(pid) is None


def test_a_name_full_of_brackets_hides_no_start_time(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen((odd, "60"))
    try:
        wait_for(lambda: b") R" in Path(f"/proc/{child.pid}/stat").read_bytes())
        known = process.identity(child.pid)
        assert known
        assert known.rpartition(":")[2].isdigit()
        assert int(known.rpartition(":")[2]) > 100
    finally:
        child.kill()
        child.wait()


# --- started detached --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_detached_process_has_a_session_a_log_and_exactly_the_environment_it_was_given(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    code = (
        "import os, sys; print(os.getsid(0) == os.getpid(), sorted(os.environ), "
        "sys.stdin.read() == '', flush=True); print('err', file=sys.stderr)"
    )
    words = [sys.executable, "-I", "-S", "-c", code]
    pid = process.spawn_detached(words, {"A": "1", "LC_ALL": "C"}, str(log))
    assert os.waitpid(pid, 0)[1] == 0
    assert log.read_text().split("\n")[:2] == ["True ['A', 'LC_ALL'] True", "err"]
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_detached_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; from orchestrator.system import process; "
        "print(process.spawn_detached(['/bin/sleep', '60'], os.environ, sys.argv[1]), flush=True); "
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        (sys.executable, "-c", code, tmp_path / "log"),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    pid = int(done.stdout)
    known = process.identity(pid)
    assert known
    process.end(pid, known)
    assert process.identity(pid) is None


def test_a_program_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        process.spawn_detached(["/no/such/program"], {}, str(tmp_path / "log"))


# --- ended -------------------------------------------------------------------------------------


def test_a_run_ends_with_its_whole_group(start: Start, tmp_path: Path) -> None:
    child = start(f"sh -c 'echo $$ > {tmp_path}/inner; exec sleep 60' & exec sleep 60")
    inner = pid_in(tmp_path / "inner")
    process.end_run(child.pid, process.identity(child.pid), RUN, reap=child.poll)
    assert child.returncode == -signal.SIGTERM
    wait_for(lambda: process.identity(inner) is None)


def test_what_left_the_group_is_found_by_the_runs_mark(start: Start, tmp_path: Path) -> None:
    for name in processes.MARKS:
        path = tmp_path / name
        start(f"setsid sh -c 'echo $$ > {path}; exec sleep 60' & wait", **{name: RUN})
        inner = pid_in(path)
        assert inner in process.marked(RUN)
        process.end_run(None, None, RUN)
        assert process.identity(inner) is None


def test_who_does_not_listen_is_made_to_end_after_the_grace(start: Start, tmp_path: Path) -> None:
    deaf = f"trap '' TERM; echo $$ > {tmp_path}/deaf; while :; do sleep 60; done"
    child = start(deaf, ORCHESTRATOR_RUN_ID=RUN)
    pid_in(tmp_path / "deaf")
    process.end_run(child.pid, process.identity(child.pid), RUN, grace=0.1, reap=child.poll)
    assert child.wait(10) == -signal.SIGKILL
    assert list(process.marked(RUN)) == []


def test_a_run_that_listens_is_not_waited_for_any_longer(start: Start) -> None:
    child = start("exec sleep 60", ORCHESTRATOR_RUN_ID=RUN)
    began = time.monotonic()
    process.end_run(child.pid, process.identity(child.pid), RUN, grace=30, reap=child.poll)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "other", [f"{RUN}0", RUN[:-1], "", f"x{RUN}"], ids=["longer", "shorter", "none", "before it"]
)
def test_no_other_runs_process_is_touched(start: Start, other: str) -> None:
    child = start("exec sleep 60", ORCHESTRATOR_RUN_ID=other, NOT_OURS=f"ORCHESTRATOR_RUN_ID={RUN}")
    wait_for(lambda: b"sleep" in Path(f"/proc/{child.pid}/cmdline").read_bytes())
    process.end_run(None, None, RUN, grace=0.1)
    assert child.poll() is None


def test_a_reused_process_id_is_left_alone(start: Start) -> None:
    child = start("exec sleep 60")
    process.end_run(child.pid, "another-boot:1", RUN, grace=0.1)
    process.end_run(child.pid, None, RUN, grace=0.1)
    process.end(child.pid, "another-boot:1", grace=0.1)
    assert child.poll() is None


def test_ending_what_is_gone_does_nothing() -> None:
    began = time.monotonic()
    process.end_run(2**22 + 1, "x:1", RUN)
    process.end_run(None, None, RUN)
    assert time.monotonic() - began < 5


def test_we_never_end_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from orchestrator.system import process; "
        "process.end_run(None, None, sys.argv[1]); "
        "print(list(process.marked(sys.argv[1])))"
    )
    done = subprocess.run(
        (sys.executable, "-c", code, RUN),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "ORCHESTRATOR_RUN_ID": RUN},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n")


# --- short commands ----------------------------------------------------------------------------


def run(text: str, timeout: float = 30, stdin: str | None = None) -> commands.Finished:
    words = ("/bin/sh", "-c", text)
    return commands.run(words, cwd="/", environment=os.environ, timeout=timeout, stdin=stdin)


def test_a_short_command_gives_its_code_and_both_outputs() -> None:
    assert run("echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert run("cat", stdin="ünï\n") == (0, "ünï\n", "")
    assert run("cat") == (0, "", "")
    assert run("printf '\\377x'").out == "\ufffdx"
    assert run("kill -9 $$").code == -9


def test_large_outputs_and_inputs_do_not_get_stuck() -> None:
    text = "x" * 1_000_000
    assert run("cat; cat /dev/zero | head -c 1000000 >&2", stdin=text).out == text


def test_what_a_command_reads_is_whole_even_if_we_are_killed_meanwhile() -> None:
    """The reader of a pipe would take for the whole what came before we died."""
    assert run("test -f /dev/stdin", stdin="text").code == 0


def test_a_command_that_takes_too_long_is_ended_with_its_group(tmp_path: Path) -> None:
    done = run(f"sh -c 'echo $$ > {tmp_path}/inner; exec sleep 60'; true", timeout=0.5)
    assert done == (None, "", "")
    inner = pid_in(tmp_path / "inner")
    wait_for(lambda: process.identity(inner) is None)


def test_a_person_is_told_what_a_command_waits_for_and_its_output_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []

    def tell(what: str, left: float) -> None:
        told.append((what, left))
        if len(told) == 2:
            (tmp_path / "go").touch()

    for name, value in (("FIRST", 0.05), ("NEXT", 0.02), ("tell", tell)):
        monkeypatch.setattr(waits, name, value)
    script = f"echo one; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo two"
    argv = ("/bin/sh", "-c", script, "https://ada:secret@host/x", "-q", "main", "more")
    done = commands.run(argv, cwd="/", environment=dict(os.environ), timeout=30)
    assert (done.code, done.out) == (0, "one\ntwo\n")
    assert {what for what, _ in told} == {"sh https://host/x main"}
    assert [left for _, left in told[:2]] == pytest.approx([29.95, 29.93])


def test_a_person_is_told_of_the_process_that_holds_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "lock")
    held, told = locks.Lock(path), []

    def tell(what: str, left: float) -> None:
        told.append(what)
        held.close()

    monkeypatch.setattr(waits, "FIRST", 0.05)
    monkeypatch.setattr(waits, "tell", tell)
    with held, locks.Lock(path, 30.0):
        assert [f"process {os.getpid()} (" in told[0], told[0].endswith(path)] == [True, True]
        held.descriptor = locks.opened(str(tmp_path / "other"))  # for its end


def test_a_child_that_keeps_the_pipe_open_holds_nobody_up(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(f"setsid sh -c 'echo $$ > {tmp_path}/inner; exec sleep 60' & sleep 60", timeout=0.5)
    assert done.code is None
    assert time.monotonic() - began < 10
    inner = pid_in(tmp_path / "inner")
    os.kill(inner, signal.SIGKILL)


def test_a_program_or_folder_that_is_not_there_is_an_error_of_the_machine(tmp_path: Path) -> None:
    for words, cwd in ((("/no/such",), "/"), (("/bin/true",), str(tmp_path / "gone"))):
        with pytest.raises(FileNotFoundError):
            commands.run(words, cwd=cwd, environment={}, timeout=1)


def test_a_stopped_process_continues_with_its_descendants(start: Start, tmp_path: Path) -> None:
    child = start(f"setsid sleep 60 & echo $! > {tmp_path}/pid; wait")
    below = pid_in(tmp_path / "pid")
    for pid in (below, child.pid):
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda pid=pid: process.is_stopped(pid))
    process.continue_stopped(child.pid)
    wait_for(lambda: not process.is_stopped(child.pid) and not process.is_stopped(below))


def test_a_stopped_process_is_asked_to_end_and_hears_it(start: Start, tmp_path: Path) -> None:
    child = start(
        f"trap 'echo asked > {tmp_path}/said; exit 3' TERM; echo $$ > {tmp_path}/pid; "
        "while :; do sleep 0.05; done"
    )
    pid_in(tmp_path / "pid")
    child.send_signal(signal.SIGSTOP)
    wait_for(lambda: process.is_stopped(child.pid))
    known = process.identity(child.pid) or ""
    process.end(child.pid, known, grace=20)
    assert child.wait(20) == 3
    assert (tmp_path / "said").read_text() == "asked\n"


# --- what a starter passes on ------------------------------------------------------------------

_IGNORES = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-c", os.environ["SAYS"], sys.argv[-1]])
"""
_SAYS = """
import os, subprocess, sys
sys.argv = ["orchestrator", "--version"]
from orchestrator.start import main
code = main()
opened = os.open(os.devnull, os.O_RDONLY)
print("one more line")
ended = subprocess.call("exit 3", shell=True)
os.write(int(sys.orig_argv[-1]), f"{code} {opened > 2} {ended}".encode())
"""


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", ""])
def test_whatever_a_starter_ignores_or_closes_exit_codes_and_files_are_right(closed: str) -> None:
    read, write = os.pipe()
    told = subprocess.Popen(
        ("sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", _IGNORES, str(write)),
        cwd=CHECKOUT,
        env={**os.environ, "SAYS": _SAYS},
        stdout=subprocess.DEVNULL,
        pass_fds=(write,),
    )
    os.close(write)
    with os.fdopen(read) as said:
        assert said.read() == "0 True 3"
    assert told.wait() == 0
