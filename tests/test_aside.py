"""Work done aside: one message, one answer, and never a process left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

from orchestrator.system import process
from orchestrator.system.aside import Aside


def ended(pid: int, seconds: float = 10.0) -> bool:
    """Wait until a process is no more; a zombie is none."""
    deadline = time.monotonic() + seconds
    while process.identity(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def nothing() -> None:
    pass


def test_a_message_of_any_size_is_answered_once() -> None:
    sent = os.urandom(3 << 20)
    with Aside(nothing, lambda message: message[::-1]) as aside:
        aside.tell(sent)
        assert aside.answer() == sent[::-1]


def test_it_makes_ready_before_anybody_asks(tmp_path: Path) -> None:
    sign = tmp_path / "ready"
    with Aside(sign.touch, lambda _: str(sign.exists()).encode()) as aside:
        deadline = time.monotonic() + 10
        while not sign.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        aside.tell(b"?")
        assert aside.answer() == b"True"


def test_one_that_fails_or_is_killed_gives_no_answer() -> None:
    def fail(message: bytes) -> bytes:
        raise RuntimeError(message)

    with Aside(nothing, fail) as aside:
        aside.tell(b"?")
        assert aside.answer() is None
    with Aside(nothing, lambda message: message) as aside:
        os.kill(aside.pid, 9)
        assert ended(aside.pid)
        aside.tell(b"x" * (1 << 20))
        assert aside.answer() is None


def test_it_ends_when_it_is_let_go_of_without_a_question() -> None:
    with Aside(nothing, lambda _: b"never") as aside:
        pid = aside.pid
    assert ended(pid)


def test_it_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent = os.fork()
    if parent == 0:
        told.write_text(str(Aside(nothing, lambda _: b"").pid))
        os.kill(os.getpid(), 9)
    os.waitpid(parent, 0)
    assert ended(int(told.read_text()))


def test_it_holds_nothing_open_that_its_parent_had_open(tmp_path: Path) -> None:
    read, write = os.pipe()
    with Aside(nothing, lambda _: b"answer") as aside:
        os.close(write)
        assert os.read(read, 1) == b""  # nobody else has the writing end
        aside.tell(b"?")
        assert aside.answer() == b"answer"
    os.close(read)
