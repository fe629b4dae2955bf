"""`fields.NamedTuple` behaves as `typing.NamedTuple` does, as far as the product relies on it."""

from __future__ import annotations

import copy
import typing
from collections.abc import Callable
from typing import Any

import pytest
from rows import each_row

from orchestrator.model.fields import NamedTuple


def lazy() -> Any:
    """Make a class of the product."""

    class Lazy(NamedTuple):
        """A class of the product."""

        name: str
        size: int | None = None
        words: tuple[str, ...] = ()

        @property
        def label(self) -> str:
            return f"{self.name}!"

    return Lazy


class Typed(typing.NamedTuple):
    """The same class of the standard library."""

    name: str
    size: int | None = None
    words: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name}!"


Kind = Callable[..., Any]


@each_row(
    "use",
    [
        lambda kind: kind("a"),
        lambda kind: kind(size=2, name="a"),
        lambda kind: kind("a", 2, ("b",)).words,
        lambda kind: kind("a").label,
        lambda kind: kind("a")._replace(words=("c",), name="b"),
        lambda kind: kind("a", 3)._asdict(),
        lambda kind: kind._make(["a", 1, ()]),
        lambda kind: repr(kind("a", 2)).partition("(")[2],
        lambda kind: kind("a") == ("a", None, ()),
        lambda kind: hash(kind("a", 1)),
        lambda kind: copy.deepcopy(kind("a", 1)),
        lambda kind: (kind._fields, kind._field_defaults, kind.__match_args__),
        lambda kind: hasattr(kind("a"), "__dict__"),
        lambda kind: sorted([kind("b"), kind("a")], key=lambda each: each.name),
        lambda kind: kind.__doc__ is not None,
    ],
)
def test_a_use_has_the_same_result(use: Callable[[Kind], Any]) -> None:
    assert use(lazy()) == use(Typed)


@each_row(
    "wrong",
    [
        lambda kind: kind(),
        lambda kind: kind("a", 1, (), 4),
        lambda kind: kind("a", other=1),
        lambda kind: kind("a", name="b"),
        lambda kind: kind("a")._replace(other=1),
        lambda kind: kind._make(["a", 1, (), 4]),
        lambda kind: setattr(kind("a"), "name", "b"),
        lambda kind: setattr(kind("a"), "other", "b"),
    ],
)
def test_a_wrong_use_is_the_same_error(wrong: Callable[[Kind], Any]) -> None:
    errors = []
    for kind in (lazy(), Typed):
        with pytest.raises((TypeError, ValueError, AttributeError)) as found:
            wrong(kind)
        errors.append(found.type)
    assert errors[0] is errors[1]


def test_a_pattern_takes_the_fields_by_place() -> None:
    Lazy = lazy()
    match Lazy("a", 2):
        case Lazy(name, size):
            assert (name, size) == ("a", 2)


def test_a_field_without_a_default_cannot_follow_a_default() -> None:
    with pytest.raises(TypeError, match="without a default"):
        type(lazy())("Wrong", (NamedTuple,), {"__annotations__": {"a": int, "b": int}, "a": 1})
