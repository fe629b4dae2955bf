"""JSON without the module `json`: what is read and written is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.system import json_codec
from tests.conftest import CHECKOUT, examples

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
#: Pieces of JSON, and of what is nearly JSON.
PIECES = (
    *("{", "}", "[", "]", ":", ",", '"a"', '"\\ud800"', "1", "-", "1.5e3", "NaN", "Infinity"),
    *("-Infinity", " ", "\n", "null", "tru", "\ufeff", "\xe9", "\0", '"', "\x0b"),
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
ENCODINGS = st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"))


def outcome(call: Callable[..., Any], *given: Any, **how: Any) -> str:
    """What a call returns, or the error that it raises: `nan` is not equal to itself."""
    try:
        return repr(call(*given, **how))
    except (TypeError, ValueError, RecursionError) as error:
        return repr(error)


@settings(max_examples=examples(0.5))
@given(TEXTS, ENCODINGS)
def test_texts_and_bytes_are_read_as_json_reads_them(text: str, encoding: str) -> None:
    data = text.encode(encoding, "replace")
    assert outcome(json_codec.loads, text) == outcome(json.loads, text)
    assert outcome(json_codec.loads, data) == outcome(json.loads, data)


#: What a write that was cut off, or an editor, leaves: each is another error of the parser.
BROKEN = (
    '{"a',
    '{"a"',
    '{"a": ',
    '{"a": 1',
    '{"a": 1,',
    "{a: 1}",
    "[1",
    '"\\q"',
    '"\n"',
    "{}x",
    "",
)


def test_broken_texts_are_read_as_json_reads_them_in_a_process_that_has_not_loaded_json() -> None:
    script = """
import sys
from orchestrator.system import json_codec
assert "json" not in sys.modules
for text in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "json"]:
        del sys.modules[name]
    try:
        print("read", json_codec.loads(text))
    except ValueError as error:
        print(repr(str(error)))
"""
    words = (sys.executable, "-c", script, *BROKEN)
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [repr(json_error(text)) for text in BROKEN]


def json_error(text: str) -> str:
    with pytest.raises(json.JSONDecodeError) as raised:
        json.loads(text)
    return str(raised.value)


@settings(max_examples=examples(0.5))
@given(VALUES)
def test_values_are_written_as_json_writes_them(value: object) -> None:
    assert json_codec.dumps(value) == json.dumps(value, ensure_ascii=False)
    assert json_codec.indented(value) == json.dumps(value, indent=2)
    finite = json_codec.writer(allow_nan=False)
    wanted = outcome(json.dumps, value, ensure_ascii=False, allow_nan=False)
    # Newer versions of Python name the number in the error.
    assert outcome(finite, value)[:50] == wanted[:50]


def test_what_json_cannot_write_is_an_error_with_its_words() -> None:
    for value in (object(), {"a": {1}}, [b"bytes"]):
        for write in (json_codec.dumps, json_codec.indented):
            assert outcome(write, value).split("\n")[0] == outcome(json.dumps, value)


def test_a_reader_decides_about_constants() -> None:
    def refuse(word: str) -> None:
        raise ValueError(f"not {word}")

    read = json_codec.reader(refuse)
    assert read('{"a": "NaN"}') == {"a": "NaN"}
    assert outcome(read, "[-Infinity]") == "ValueError('not -Infinity')"
