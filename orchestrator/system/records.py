"""Named tuples as JSON objects, and back: the state files of this program.

A state file may be damaged, or written by another version. Unknown keys are ignored, and a value
of the wrong type counts as missing. Imported by the waiting supervisor, so it imports little.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from types import UnionType

from orchestrator.model.annotations import Any, Literal, TypeVar, get_args, get_origin
from orchestrator.model.fields import NamedTuple

_T = TypeVar("_T")
_MISSING = object()
#: Seconds, dollars and tokens are below this; infinity and NaN are not.
LARGEST = 1e300


def plain(value: object) -> object:
    """Return a value as JSON has it: a named tuple, at any depth, becomes an object."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def build(kind: type[_T], found: object) -> _T | None:
    """Return a named tuple of class `kind` from a JSON object, or from a list of its values.

    A field that is missing, or has a value of the wrong type, gets its default. Returns None if
    such a field has no default.
    """
    if isinstance(found, list):
        found = dict(zip(kind.__annotations__, found, strict=False))
    if not isinstance(found, Mapping):
        return None
    # The rows of a long history have few shapes: most fields need no look at their type.
    fields: Any = kind
    wanted = _wanted(fields, tuple(found), tuple(map(type, found.values())))
    values: dict[str, Any] = {name: found[name] for name in wanted.same}
    numbers = {name: found[name] for name, _ in wanted.numbers}
    if all(-LARGEST < number < LARGEST for number in numbers.values()):
        return _refitted(kind, values | numbers, found, wanted.others)
    return _refitted(kind, values, found, (*wanted.numbers, *wanted.others))


class _Wanted(NamedTuple):
    """What an object of one shape has of the fields of a class."""

    #: Fields whose values fit as they are.
    same: tuple[str, ...]
    #: Fields, each with its type, that fit if the numbers are within the bounds.
    numbers: tuple[tuple[str, Any], ...]
    #: The other fields, each with its type, without those that are missing and have a default.
    others: tuple[tuple[str, Any], ...]


@lru_cache(maxsize=1024)
def _wanted(kind: Any, names: tuple[str, ...], types: tuple[type, ...]) -> _Wanted:
    """Return what an object with these names, and values of these types, has of a class."""
    given = dict(zip(names, types, strict=True))
    same, numbers, others = [], [], []
    for name, wanted in kind.__annotations__.items():
        if name not in given and name in kind._field_defaults:
            continue
        optional = get_origin(wanted) is UnionType and len(get_args(wanted)) == 2
        parts = get_args(wanted) if optional and type(None) in get_args(wanted) else (wanted,)
        if given.get(name) in (str, type(None)) and given[name] in parts:
            same.append(name)
        elif given.get(name) in (int, float) and given[name] in parts:
            numbers.append((name, wanted))
        else:
            others.append((name, wanted))
    return _Wanted(tuple(same), tuple(numbers), tuple(others))


def _refitted(
    kind: type[_T],
    values: dict[str, Any],
    found: Mapping[str, Any],
    fields: Iterable[tuple[str, Any]],
) -> _T | None:
    """Return an instance with these values, and with those of `fields` as far as they fit."""
    for name, wanted in fields:
        value = _fitted(wanted, found.get(name))
        if value is not _MISSING:
            values[name] = value
        elif name not in kind._field_defaults:  # type: ignore[attr-defined]
            return None
    return kind(**values)


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


def _fitted(kind: Any, value: Any) -> object:
    """Return the value as a value of the type; _MISSING if it is not of that type.

    JSON has neither tuples nor named tuples: lists and objects stand for them. True and False are
    no numbers, and neither is a number that is not finite.
    """
    origin, arguments = _parts(kind)
    if origin is Literal:
        return value if value in arguments else _MISSING
    if origin is tuple:
        found = [_fitted(arguments[0], x) for x in value] if isinstance(value, list) else [_MISSING]
        return _MISSING if _MISSING in found else tuple(found)
    if origin is Mapping:
        pairs = value.items() if isinstance(value, Mapping) else ()
        return {k: fit for k, x in pairs if (fit := _fitted(arguments[1], x)) is not _MISSING}
    if arguments:  # a union
        fits = (_fitted(each, value) for each in arguments)
        return next((fit for fit in fits if fit is not _MISSING), _MISSING)
    if hasattr(kind, "_fields"):
        built = build(kind, value)
        return _MISSING if built is None else built
    if isinstance(value, bool) and kind not in (bool, object):
        return _MISSING
    if kind in (int, float):
        number = isinstance(value, int | kind) and abs(value) < LARGEST
        return kind(value) if number else _MISSING
    return value if isinstance(value, kind) else _MISSING
