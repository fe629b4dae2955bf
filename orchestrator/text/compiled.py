"""Runs the shipped templates without Jinja2, whose import takes longer than the rest of a run.

`make templates` has Jinja2 translate each shipped template into a function of
`text/shipped_templates.py`, and puts the names below in the place of Jinja2's own. Only those that
the shipped templates use are here. Jinja2 itself renders the user's templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.model.annotations import Any, NoReturn


class TemplateError(Exception):
    """A template uses something that it was not given."""


class Context(dict[str, Any]):
    """The variables of one rendering, and the names that every template may use."""

    def __missing__(self, name: str) -> NoReturn:
        raise TemplateError(f"{name!r} is undefined")


def loop_context(items: Iterable[Any]) -> Iterator[tuple[Any, dict[str, int]]]:
    """Yield items, each with what a template sees of the round: its number, if it is the last."""
    whole = list(items)
    return ((item, {"index": i, "last": i == len(whole)}) for i, item in enumerate(whole, 1))


def text(*parts: object) -> str:
    return "".join(map(str, parts))


def join(parts: Iterable[object], separator: str) -> str:
    return separator.join(map(str, parts))


def replace(text: object, old: str, new: str) -> str:
    return str(text).replace(old, new)


def attribute(value: Any, name: str) -> Any:
    """Return an attribute, or an item of that name."""
    try:
        return getattr(value, name)
    except AttributeError:
        return item(value, name)


def item(value: Any, key: Any) -> Any:
    try:
        return value[key]
    except (TypeError, LookupError):
        raise TemplateError(f"{type(value).__name__} has no {key!r}") from None
