"""Runs the shipped templates without Jinja2, whose import takes longer than the rest of a run.

`make templates` has Jinja2 translate each shipped template into a function of
`text/shipped_templates.py`. These functions expect the names below, which mean here what they mean
in `jinja2.runtime` and in the sandbox of `text/templates.py`. Only those that the shipped templates
use are here. Jinja2 itself renders the user's templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.model.annotations import Any, NoReturn
from orchestrator.text.quoting import clipped, fenced, inline

#: Stands for a variable that the template was not given.
missing: Any = type("missing", (), {})()


class TemplateError(Exception):
    """A template uses something that it was not given."""


class Context:
    """The variables of one rendering, and the names that every template may use."""

    eval_ctx = None

    def __init__(self, variables: Mapping[str, Any], names: Mapping[str, Any]) -> None:
        self.vars: dict[str, Any] = {**names, **variables}
        self.exported_vars: set[str] = set()

    def resolve_or_missing(self, name: str) -> Any:
        return self.vars.get(name, missing)


class Loop:
    """What a template sees of a loop: the number of this round, from 1, and whether it is last."""

    def __init__(self, index: int, *, last: bool) -> None:
        self.index, self.last = index, last


def loop_context(items: Iterable[Any], _: object) -> Iterator[tuple[Any, Loop]]:
    whole = list(items)
    return ((item, Loop(i, last=i == len(whole))) for i, item in enumerate(whole, 1))


def str_join(parts: Iterable[object]) -> str:
    return "".join(map(str, parts))


class Environment:
    """Filters and operations."""

    filters: Mapping[str, Any] = {
        "clipped": clipped,
        "fenced": fenced,
        "inline": inline,
        "int": int,
        "join": lambda _, parts, separator: separator.join(map(str, parts)),
        "replace": lambda _, text, old, new: str(text).replace(old, new),
    }
    concat = "".join

    @staticmethod
    def undefined(name: str) -> NoReturn:
        raise TemplateError(f"{name!r} is undefined")

    @staticmethod
    def getattr(value: Any, name: str) -> Any:
        """Return an attribute, or an item of that name."""
        try:
            return getattr(value, name)
        except AttributeError:
            return Environment.getitem(value, name)

    @staticmethod
    def getitem(value: Any, key: Any) -> Any:
        try:
            return value[key]
        except (TypeError, LookupError):
            raise TemplateError(f"{type(value).__name__} has no {key!r}") from None

    @staticmethod
    def call(_: Context, function: Any, *arguments: Any) -> Any:
        return function(*arguments)


environment = Environment()
