"""Files are written whole or not at all, lines never mix, and locks end with their process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHECKOUT

from orchestrator.cli import main
from orchestrator.system import disk, files, locks


def child(code: str, *arguments: object, **more: object) -> subprocess.Popen[str]:
    """Start a Python process that can import the product."""
    return subprocess.Popen(
        (sys.executable, "-c", code, *map(str, arguments)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        **more,  # type: ignore[call-overload]
    )


# --- whole or not at all -----------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for data in (b"one", b"", b"three" * 100_000):
        files.write_atomic(str(path), data)
        assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o700])
def test_a_file_has_the_mode_that_was_asked_for(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o022)
    try:
        files.write_atomic(str(tmp_path / "a"), b"x", mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


@pytest.mark.parametrize("flush", [True, False])
def test_what_cannot_be_written_leaves_the_old_file_and_no_leftover(
    tmp_path: Path, flush: bool
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a disk that fills meanwhile
    try:
        with pytest.raises(OSError, match="too large"):
            files.write_atomic(str(path), b"x" * 100_000, flush=flush)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]
    with pytest.raises(FileNotFoundError):
        files.write_atomic(str(tmp_path / "no" / "such" / "folder"), b"x", flush=flush)
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomic(str(path), b"new", flush=flush)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("flush", [True, False])
def test_what_lies_in_the_way_is_replaced_and_never_written_through(
    tmp_path: Path, flush: bool
) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a"
    beside = tmp_path / f".a.{os.getpid()}.tmp"
    for lay in (victim.touch, lambda: path.symlink_to(victim), lambda: os.mkfifo(path)):
        victim.write_bytes(b"precious")
        lay()
        files.write_atomic(str(path), b"new", flush=flush)
        assert path.read_bytes() == b"new"
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        path.unlink()
    for lay in (lambda: beside.symlink_to(victim), lambda: os.link(victim, beside)):
        lay()
        files.write_atomic(str(path), b"new", flush=flush)
        assert path.read_bytes() == b"new"
    assert victim.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["a", "victim"]


def test_a_link_that_somebody_laid_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".a.{os.getpid()}.tmp").symlink_to(victim)
    files.write_atomic(str(tmp_path / "a"), b"x")
    os.link(victim, tmp_path / f".a.{os.getpid()}.tmp")
    files.write_atomic(str(tmp_path / "a"), b"x")
    os.mkfifo(tmp_path / f".a.{os.getpid()}.tmp")
    files.write_atomic(str(tmp_path / "a"), b"x")
    (tmp_path / "b").symlink_to(victim)
    files.write_atomic(str(tmp_path / "b"), b"x")
    (tmp_path / "c").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        files.append_line(str(tmp_path / "c"), "x")
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("value", [{}, {"a": None}, {"ünï": [1, 2.5, True, "\u2028\n"]}])
def test_json_comes_back_as_it_was_written(tmp_path: Path, value: dict[str, object]) -> None:
    files.write_json(str(tmp_path / "a"), value)
    assert files.read_json(str(tmp_path / "a")) == value
    lines = (tmp_path / "a").read_text().split("\n")
    assert [line.split('"')[1] for line in lines[1:-2] if line] == list(value)


@pytest.mark.parametrize(
    "size", [0, 1, (1 << 14) - 1, 1 << 14, (1 << 15) + 1, 1 << 17, (1 << 20) + (1 << 15) + 1]
)
def test_a_file_is_read_whole_or_up_to_the_limit(tmp_path: Path, size: int) -> None:
    data, path = os.urandom(size), str(tmp_path / "a")
    Path(path).write_bytes(data)
    assert files.read_regular(path) == data
    for limit in (0, 1, 1 << 14, (1 << 14) + 1, 1 << 15, (1 << 15) + 2):
        assert files.read_regular(path, limit) == data[:limit]


@pytest.mark.skipif(not os.path.exists("/proc/kallsyms"), reason="no long file in /proc")
def test_a_file_that_the_system_gives_in_pieces_is_read_whole() -> None:
    assert (
        files.read_regular("/proc/kallsyms", 1 << 16)
        == Path("/proc/kallsyms").read_bytes()[: 1 << 16]
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"\0" * 100, b"[" * 100_000, b'{"a": 1}{'],
)
def test_what_is_no_json_object_is_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert files.read_json(str(tmp_path / "a")) is None
    assert files.read_json(str(tmp_path / "missing")) is None
    assert files.read_json(str(tmp_path)) is None


def test_removing_what_is_gone_is_done_already(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    files.remove(str(tmp_path / "a"))
    files.remove(str(tmp_path / "a"))
    with pytest.raises(OSError, match="irectory"):
        files.remove(str(tmp_path))


# --- lines -------------------------------------------------------------------------------------

LINES = """
import json, sys
from orchestrator.system import files
for number in range(200):
    files.append_line(sys.argv[1], json.dumps({"who": sys.argv[2], "n": number, "x": "y" * 500}))
"""


def test_lines_of_several_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writers = [child(LINES, path, n) for n in range(4)]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 4
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 800
    for who in range(4):
        assert [row["n"] for row in rows if row["who"] == str(who)] == list(range(200))


def test_a_line_after_one_that_a_crash_cut_short_stands_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "one"}\n{"event": "tw')
    files.append_line(str(path), '{"event": "three"}')
    assert '{"event": "three"}' in path.read_text().split("\n")


UNTIL_TOLD = """
import itertools, json, os, sys
from orchestrator.system import files
for number in itertools.count():
    files.append_line(sys.argv[1], json.dumps({"who": sys.argv[2], "n": number, "x": "y" * 300}))
    if os.path.exists(sys.argv[3]):
        print(number, flush=True)
        break
"""


def test_no_line_is_lost_or_torn_however_often_the_file_is_put_aside(tmp_path: Path) -> None:
    path, older, enough = (tmp_path / n for n in ("events.jsonl", "events.1.jsonl", "enough"))
    writers = [child(UNTIL_TOLD, path, n, enough) for n in range(3)]
    deadline = time.monotonic() + 60
    whole: list[str] = []
    while len(whole) < 10 and time.monotonic() < deadline:
        if files.put_aside(str(path), str(older), 2000):
            # What was put aside is whole: whoever had opened it before writes elsewhere.
            whole.append(older.read_text())
    enough.touch()
    last = [int(writer.communicate(timeout=60)[0]) for writer in writers]
    assert len(whole) == 10
    rest = path.read_text() if path.exists() else ""
    rows = [json.loads(line) for line in ("".join(whole) + rest).splitlines()]
    for who in range(3):
        assert [r["n"] for r in rows if r["who"] == str(who)] == list(range(last[who] + 1))


def test_a_line_whose_file_is_put_aside_before_it_is_locked_goes_into_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, older = tmp_path / "events.jsonl", tmp_path / "events.1.jsonl"
    path.write_text("one\n")
    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if not older.exists():
            path.rename(older)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    files.append_line(str(path), "two")
    assert (older.read_text(), path.read_text()) == ("one\n", "two\n")


def test_a_writer_that_stands_still_does_not_hold_up_who_would_put_the_file_aside(
    tmp_path: Path,
) -> None:
    path, older = tmp_path / "events.jsonl", tmp_path / "events.1.jsonl"
    path.write_text("one\n")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not files.put_aside(str(path), str(older), 1)
    assert not files.put_aside(str(path), str(older), 4)
    assert not files.put_aside(str(tmp_path / "none"), str(older), 1)
    assert path.read_text() == "one\n"
    assert files.put_aside(str(path), str(older), 3)
    assert (path.exists(), older.read_text()) == (False, "one\n")


# --- locks -------------------------------------------------------------------------------------

HOLD = """
import sys, time
from orchestrator.system import locks
lock = locks.Lock(sys.argv[1])
with lock:
    print("held", flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.readline()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = child(HOLD, path)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_refused_write_names_the_file_or_its_folder_and_never_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.write_atomic(str(path), b"x")
    assert caught.value.filename == str(path)
    path.rmdir()

    def closed(name: str, *_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr(os, "open", closed)  # root may write anywhere
    with pytest.raises(PermissionError) as refused:
        files.write_atomic(str(path), b"x")
    assert refused.value.filename == str(tmp_path)


def test_a_closed_folder_is_opened_by_its_owner_and_given_to_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    tmp_path.chmod(0o500)
    assert disk.unwritable(str(tmp_path)) == (
        f"{tmp_path} cannot be written",
        f"open it to its owner, you: chmod u+rwx {tmp_path}",
    )
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    _, step = disk.unwritable(str(tmp_path)) or ("", "")
    assert step.startswith(f"become its owner: sudo chown -R $(id -un) {tmp_path}; ")
    monkeypatch.undo()
    tmp_path.chmod(0o700)
    place = tmp_path / "a file"
    place.touch()
    said = f"move it aside: mv '{place}' '{place}-1'"
    assert disk.unwritable(str(place)) == (f"{place} is not a folder", said)


def test_an_error_names_the_folder_that_is_closed_and_the_command_that_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, closed = tmp_path / "shut" / "file", {str(tmp_path / "shut")}
    file.parent.mkdir()
    file.parent.chmod(0o500)
    monkeypatch.setattr(os, "access", lambda path, _: path not in closed)  # root may use all
    opens = f"open it to its owner, you: chmod u+rwx {tmp_path}/shut"
    for number in (errno.EACCES, errno.EPERM):
        error = OSError(number, "why", str(file))
        assert disk.explained(error) == (f"{tmp_path}/shut: why", opens)
    moved = OSError(errno.EACCES, "why", str(tmp_path / "here"), None, str(file))
    assert disk.explained(moved) == (f"{tmp_path}/shut: why", opens)
    file.parent.chmod(0o700)
    assert "lsattr -d" in disk.explained(moved)[1]  # a flag or a list of rights: not the mode
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert "use a clone of your own" in disk.explained(moved)[1]
    closed.clear()
    assert disk.explained(moved)[0] == f"{tmp_path}/here: why"


def test_an_error_says_what_is_in_the_place_of_a_folder_or_of_a_file(tmp_path: Path) -> None:
    place = tmp_path / "queue"
    place.touch()
    with pytest.raises(NotADirectoryError) as below:
        files.make_folder(str(place / "done" / "more"))
    with pytest.raises(FileExistsError) as here:
        files.make_folder(str(place))
    aside = f"move it aside: mv {place} {place}-1"
    for caught in (below, here):
        assert disk.explained(caught.value) == (f"{place}: a folder must be there", aside)
    with pytest.raises(IsADirectoryError) as folder:
        files.write_atomic(str(tmp_path), b"x")
    assert disk.explained(folder.value)[0] == f"{tmp_path}: a regular file must be there"
    assert disk.explained(OSError(errno.EAGAIN, "no more processes"))[0] == "no more processes"


def test_a_disk_that_gives_no_lock_is_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fails)
    lock = locks.Lock(str(tmp_path / "lock"))
    with pytest.raises(OSError, match="No locks available") as told, lock:
        pass
    assert told.value.filename == str(tmp_path / "lock")
    assert lock.descriptor == -1


def test_a_lock_is_held_by_one_process_until_it_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = holder(path)
    assert locks.is_locked(str(path))
    lock = locks.Lock(str(path))
    with pytest.raises(locks.LockHeld), lock:
        pytest.fail("two have it")
    assert lock.descriptor == -1, "no file stays open"
    assert other.stdin
    assert other.stdout
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "free\n"
    assert not locks.is_locked(str(path))
    with lock:
        assert locks.is_locked(str(path))
    lock.close()
    end(other)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_ends_with_its_process_and_nobody_deletes_its_file(
    tmp_path: Path, number: int
) -> None:
    path = tmp_path / "lock"
    other = holder(path)
    other.send_signal(number)
    other.wait(10)
    assert path.exists()
    assert not locks.is_locked(str(path))
    with locks.Lock(str(path)):
        pass
    end(other)


def test_a_lock_waits_as_long_as_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    other = holder(path)
    lock = locks.Lock(str(path), wait=20)
    killer = child("import os, sys, time; time.sleep(0.2); os.kill(int(sys.argv[1]), 9)", other.pid)
    with lock:
        assert other.wait(10) == -9
    lock.close()
    killer.communicate()
    end(other)


def test_a_lock_whose_file_was_taken_away_meanwhile_is_taken_on_the_new_one(tmp_path: Path) -> None:
    """Else the one that waited and the one that comes later would both hold it."""
    path = tmp_path / "lock"
    path.touch()
    waiter = locks.Lock(str(path))
    # It opened the file while that was still there.
    waiter.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    path.unlink()
    with waiter, pytest.raises(locks.LockHeld):
        locks.Lock(str(path)).__enter__()
    waiter.close()
    assert not locks.is_locked(str(path))


def test_entering_a_lock_twice_nests_and_the_last_exit_frees_it(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = locks.Lock(path)
    with lock:
        with lock:
            assert locks.is_locked(path)
        assert locks.is_locked(path)
    assert not locks.is_locked(path)
    with lock:
        assert locks.is_locked(path)
    lock.close()
    lock.close()


def test_a_lock_is_let_go_when_something_goes_wrong_inside(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = locks.Lock(path)

    def fail() -> None:
        with lock:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not locks.is_locked(path)


def test_a_process_that_we_start_does_not_keep_our_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = locks.Lock(path)
    with lock:
        left = subprocess.Popen(("sleep", "60"), close_fds=False)
    lock.close()
    try:
        assert not locks.is_locked(path)
    finally:
        left.kill()
        left.wait()


def test_looking_whether_a_lock_is_held_makes_no_file(tmp_path: Path) -> None:
    assert not locks.is_locked(str(tmp_path / "lock"))
    assert os.listdir(tmp_path) == []


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), locks.Lock(str(tmp_path / "lock")):
        pytest.fail("it followed the link")
    assert not (tmp_path / "elsewhere").exists()


needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/locks"), reason="the holder of a lock is read from /proc/locks"
)


@needs_proc
def test_who_holds_a_lock_is_named_with_pid_and_command_and_whether_it_is_stopped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    other = holder(path)
    with pytest.raises(locks.LockHeld) as held, locks.Lock(str(path)):
        pytest.fail("two have it")
    error = held.value
    assert (error.code, error.exit_code) == ("lock_held", 1)
    assert f"{path} is held by process {other.pid} ({sys.executable} -c " in error.message
    assert f"kill {other.pid}" in (error.hint or "")
    code = "import sys; from orchestrator.system import locks"
    code += f"; said = locks.LockHeld({str(path)!r}).message"
    # A run asks, too: the import of psutil takes as long as a tenth of a run.
    code += f"; sys.exit('psutil' in sys.modules or '{other.pid}' not in said)"
    subprocess.run((sys.executable, "-c", code), cwd=CHECKOUT, check=True, timeout=60)
    other.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while not locks.LockHeld(str(path)).message.endswith(", which is stopped (SIGSTOP)"):
        assert time.monotonic() < deadline
    assert f"kill -CONT {other.pid}" in (locks.LockHeld(str(path)).hint or "")
    end(other)


@needs_proc
def test_the_holders_of_several_locks_are_found_without_taking_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / name) for name in ("free", "held", "missing")]
    (tmp_path / "free").touch()
    other = holder(tmp_path / "held")
    found = dict(locks.held(paths))
    assert {path: each.pid for path, each in found.items()} == {paths[1]: other.pid}
    assert sorted(os.listdir(tmp_path)) == ["free", "held"]
    end(other)
    monkeypatch.setattr(fcntl, "flock", lambda *_: pytest.fail("it tried a free lock"))
    assert dict(locks.held(paths)) == {}


@needs_proc
def test_the_kernel_is_asked_once_for_the_holders_of_all_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer takes it 5 to 20 ms, which a tick spends under its lock."""
    paths = [str(tmp_path / name) for name in ("first", "second", "third")]
    others = [holder(Path(path)) for path in paths]
    asked, ask = [], locks._kernel_locks
    monkeypatch.setattr(locks, "_kernel_locks", lambda: asked.append(1) or ask())
    assert [each.pid for _, each in locks.held(paths)] == [other.pid for other in others]
    assert len(asked) == 1
    for other in others:
        end(other)


@needs_proc
def test_a_lock_that_outlives_its_holder_is_named_by_the_process_that_inherited_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    path.touch()
    left = subprocess.run(
        ("sh", "-c", f"exec 9<>{path}; flock 9; sleep 60 >/dev/null & echo $!"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    pid = int(left.stdout)
    found = locks.holder(str(path))
    os.kill(pid, signal.SIGKILL)
    assert found
    assert (found.pid, found.command) == (pid, "sleep 60")


def test_a_read_only_file_can_be_locked_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(0o400)
    lock = locks.Lock(str(path))
    with lock:
        assert locks.is_locked(str(path))
    lock.close()


def test_what_is_no_file_is_no_lock_and_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OSError, match=r"directory|regular") as found:
            locks.Lock(str(tmp_path / name)).__enter__()
        assert found.value.filename == str(tmp_path / name)
        with pytest.raises(OSError, match=r"directory|regular"):
            files.append_line(str(tmp_path / name), "x")


def test_a_line_is_appended_also_while_another_process_keeps_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("one\ntor")
    other = holder(path)
    files.append_line(str(path), "two")
    assert not files.put_aside(str(path), f"{path}.1", 1)
    end(other)
    assert path.read_text() == "one\ntor\ntwo\n"


def test_a_folder_of_ours_is_its_owners_alone(tmp_path: Path) -> None:
    files.make_folder(str(tmp_path / "a" / "b"))
    files.make_folder(str(tmp_path / "a" / "b"))
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_a_write_that_fails_names_its_file(tmp_path: Path) -> None:
    path, line = str(tmp_path / "state.json"), str(tmp_path / "events.jsonl")
    files.write_atomic(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as replaced:
            files.write_atomic(path, b"x" * 100)
        files.append_line(line, "nine char")
        with pytest.raises(OSError, match="File too large") as appended:
            files.append_line(line, "another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (replaced.value.filename, appended.value.filename) == (path, line)
    assert Path(path).read_bytes() == b"old"
    told = main.refusal(replaced.value)
    assert told is not None
    assert told.message == f"{path}: File too large"
    assert "ulimit -f" in (told.hint or "")
