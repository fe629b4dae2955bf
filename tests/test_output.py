"""What the command line prints reaches the reader of a pipe at once."""

from __future__ import annotations

import errno
import io
import json
import sys
from collections.abc import Callable

import pytest

from orchestrator.cli import main, output


def test_a_sentence_on_a_terminal_ends_its_lines_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setattr(output, "size", lambda: (20, 24))
    output.prose("short\n\n- one two three four five\n/a/path/that/is/too/long/for/it", 4)
    assert capsys.readouterr().out.splitlines() == [
        "short",
        "",
        "- one two three four",
        "    five",
        "/a/path/that/is/too/long/for/it",
    ]


@pytest.mark.parametrize(
    ("show", "shown"),
    [
        (lambda: output.out("a line"), b"a line\n"),
        (lambda: output.show_json([1]), b"[\n  1\n]\n"),
        (lambda: output.table(("a", "b"), [(1, None)]), b"A  B\n1  -\n"),
        (lambda: output.copy(b"bytes\xff\n"), b"bytes\xff\n"),
    ],
)
def test_what_is_printed_is_flushed(
    show: Callable[[], None], shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = io.BytesIO()
    with io.TextIOWrapper(io.BufferedWriter(pipe), encoding="utf-8") as stdout:  # type: ignore[arg-type]
        monkeypatch.setattr(sys, "stdout", stdout)
        show()
        assert pipe.getvalue() == shown


def test_what_takes_long_is_said_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output.progress("for a pipe")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with output.caught() as found:
        output.progress("for the page")
    output.progress("for a person")
    assert capsys.readouterr().err == "for a person\n"
    assert found.warnings == []


def test_json_is_ascii_whatever_a_title_holds(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"title": "\u202eright\u2066 \x9b31m red \x1b[31m \u00fc"}
    output.show_json(value)
    said = capsys.readouterr().out
    assert said.isascii()
    assert said.replace("\n", "").isprintable()
    assert json.loads(said) == value


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.EACCES, "check its owner"),
        (errno.EROFS, "mount its disk writable"),
        (errno.ENOSPC, "free space"),
        (errno.EIO, "check its owner"),
    ],
)
def test_an_error_of_a_file_says_what_to_do_about_this_error(number: int, step: str) -> None:
    refused = main.refusal(OSError(number, "text of the system", "/a/file"))
    assert refused is not None
    assert refused.message == "/a/file: text of the system"
    assert step in (refused.hint or "")
