"""Named tuples as JSON objects, and back: the state files of this program.

A state file may be damaged, or written by another version. Unknown keys are ignored, and a value
of the wrong type counts as missing. Imported by the waiting supervisor, so it imports little.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

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
    values: dict[str, Any] = {}
    fields: Any = kind
    defaults: Mapping[str, object] = getattr(kind, "_field_defaults", {})
    for name, wanted, exact, number in _fields(fields):
        if name not in found and name in defaults:
            continue
        value: Any = found.get(name)
        is_number = type(value) is number and -LARGEST < value < LARGEST
        # Most fields of a long history fit as they are.
        if not is_number and type(value) not in exact:
            value = _fitted(wanted, value)
        if value is not _MISSING:
            values[name] = value
        elif name not in defaults:
            return None
    return kind(**values)


@cache
def _fields(kind: Any) -> list[tuple[str, Any, tuple[type, ...], Any]]:
    """Return name and type of each field, and the types of values that fit it as they are.

    The last is `int` or `float` if numbers of that type fit within the bounds of numbers.
    """
    found = []
    for name, wanted in kind.__annotations__.items():
        optional = get_origin(wanted) is UnionType and len(get_args(wanted)) == 2
        parts = get_args(wanted) if optional and type(None) in get_args(wanted) else (wanted,)
        exact = tuple(part for part in parts if part in (str, type(None)))
        number = next((part for part in parts if part in (int, float)), None)
        found.append((name, wanted, exact, number))
    return found


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
