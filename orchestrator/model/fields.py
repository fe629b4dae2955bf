"""`NamedTuple` as in `typing`, for programs that are short: a class costs little until it is used.

`typing.NamedTuple` compiles a constructor for each class, and checks the type of each field. That
was a tenth of the time of `status`, which loads 90 of these classes and makes instances of 30. Here
the constructor, which is that of `collections.namedtuple`, is compiled when the first instance is
made, without the class around it. Type checkers see `typing.NamedTuple`.
"""

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
else:
    #: The descriptor that `collections.namedtuple` reads a field with.
    _Field = type(namedtuple("_One", "field").field)

    class _Kind(type):
        """Makes the fields of a class from its annotations."""

        def __new__(mcs, name, bases, body):
            kind = super().__new__(mcs, name, bases, {"__slots__": (), **body})
            kind._fields = kind.__match_args__ = tuple(kind.__annotations__)
            kind._places = {each: place for place, each in enumerate(kind._fields)}
            kind._field_defaults = {each: body[each] for each in kind._fields if each in body}
            for place, each in enumerate(kind._fields):
                setattr(kind, each, _Field(place, f"Alias for field number {place}"))
            return kind

    class NamedTuple(tuple, metaclass=_Kind):
        """The base of a class whose annotations are its fields, in their order."""

        def __new__(cls, *values, **named):
            defaults = cls._field_defaults.values()
            # A field without a default after one with a default is an error, as in `typing`.
            if [*cls._field_defaults] != [*cls._fields[len(cls._fields) - len(defaults) :]]:
                raise TypeError(f"{cls.__name__}: a field without a default follows one with it")
            names = "".join(f"{each}, " for each in cls._fields)
            # The text holds names of fields only.
            new = eval(f"lambda _cls, {names}: _new(_cls, ({names}))", {"_new": tuple.__new__})
            new.__name__ = new.__qualname__ = "__new__"
            new.__defaults__ = (*defaults,)
            cls.__new__ = new
            return cls(*values, **named)

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, **named):
            values, place_of = list(self), self._places
            for name, value in named.items():
                if name not in place_of:
                    raise ValueError(f"{type(self).__name__} has no field {name}")
                values[place_of[name]] = value
            return tuple.__new__(type(self), values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            shown = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({shown})"

        def __getnewargs__(self):
            return tuple(self)
