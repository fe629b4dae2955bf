"""`NamedTuple` as in `typing`, for programs that are short: a class costs little.

`typing.NamedTuple` compiles a constructor for each class, and checks the type of each field. That
was a tenth of the time of `status`, which loads 90 of these classes and makes a few instances of
30 of them. Type checkers see `typing.NamedTuple`.
"""

from collections import namedtuple
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    #: The descriptor that `collections.namedtuple` reads a field with.
    _Field = type(namedtuple("_One", "field").field)

    @cache
    def _field(place):
        """Return what reads the field in this place, for all classes."""
        return _Field(place, f"Alias for field number {place}")

    class _Kind(type):
        """Makes the fields of a class from its annotations."""

        def __new__(mcs, name, bases, body):
            kind = super().__new__(mcs, name, bases, {"__slots__": (), **body})
            kind._fields = kind.__match_args__ = fields = tuple(kind.__annotations__)
            kind._field_defaults = {each: body[each] for each in fields if each in body}
            if (*kind._field_defaults,) != fields[len(fields) - len(kind._field_defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one with it")
            for place, each in enumerate(fields):
                setattr(kind, each, _field(place))
            return kind

    class NamedTuple(tuple, metaclass=_Kind):
        """The base of a class whose annotations are its fields, in their order."""

        def __new__(cls, *values, **named):
            if named or len(values) != len(cls._fields):
                given, rest = {**cls._field_defaults, **named}, cls._fields[len(values) :]
                if len(values) > len(cls._fields) or not named.keys() <= {*rest} <= given.keys():
                    raise TypeError(f"{cls.__name__} has the fields {', '.join(cls._fields)}")
                values = (*values, *map(given.__getitem__, rest))
            return tuple.__new__(cls, values)

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, **named):
            values, fields = list(self), self._fields
            for name, value in named.items():
                if name not in fields:
                    raise ValueError(f"{type(self).__name__} has no field {name}")
                values[fields.index(name)] = value
            return tuple.__new__(type(self), values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            shown = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({shown})"

        def __getnewargs__(self):
            return tuple(self)
