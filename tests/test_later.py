"""A module that stands for another loads it at its first use."""

from __future__ import annotations

import sys

import pytest

from orchestrator.system import later


def test_a_module_is_loaded_when_one_of_its_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "orchestrator.text.words", raising=False)
    words = later.Later("text.words")
    assert "orchestrator.text.words" not in sys.modules
    assert words.count(2, "task") == "2 tasks"  # type: ignore[operator]
    assert "orchestrator.text.words" in sys.modules


def test_a_name_that_the_module_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        later.Later("text.words").no_such_name  # noqa: B018
