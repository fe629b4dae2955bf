"""The names of `model.annotations` say of a type what those of `typing` say."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from orchestrator.model import annotations


@pytest.mark.parametrize(
    "write",
    [
        lambda names: names.Literal["a", "b"],
        lambda names: dict[str, names.Any],
        lambda names: tuple[int, ...],
        lambda names: Mapping[str, tuple[int, str]],
        lambda names: int | str | None,
        lambda names: names.IO[bytes],
        lambda names: str,
    ],
)
def test_the_parts_of_a_type_are_the_same(write: Callable[[Any], Any]) -> None:
    small, large = write(annotations), write(typing)
    assert _name(annotations.get_origin(small)) == _name(typing.get_origin(large))
    assert [*map(_name, annotations.get_args(small))] == [*map(_name, typing.get_args(large))]


def _name(part: object) -> object:
    """Return the name of a class; `typing.Any` and what stands for it have different ones."""
    if part in (typing.Any, annotations.Any):
        return "Any"
    return getattr(part, "__name__", part) if isinstance(part, type) else str(part).split(".")[-1]


def test_a_literal_can_be_missing() -> None:
    kind: Any = annotations.Literal["a"] | None
    assert annotations.get_origin(kind) is types.UnionType
    assert annotations.get_args(annotations.get_args(kind)[0]) == ("a",)
