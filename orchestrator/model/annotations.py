"""The names of `typing` that annotations need, for programs that are short.

`import typing` makes a hundred classes: a sixth of the time of `status`. No annotation is evaluated
when a command runs, except those of `model.fields` and `system.records`, so each name stands for
something small here. Type checkers see `typing`.
"""

from types import GenericAlias, UnionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO as IO
    from typing import Any as Any
    from typing import ClassVar as ClassVar
    from typing import Generic as Generic
    from typing import Literal as Literal
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import TypeVar as TypeVar
    from typing import cast as cast
    from typing import get_args as get_args
    from typing import get_origin as get_origin
else:
    Any = NoReturn = Protocol = object

    class Generic:
        """The base of a class whose name is followed by brackets."""

        def __class_getitem__(cls, arguments):
            return GenericAlias(cls, arguments)

    class IO(Generic):
        """The type of a file object."""

    class ClassVar(Generic):
        """Marks an attribute of the class."""

    class Literal(Generic):
        """The type of one of several values."""

    def TypeVar(name, **how):
        """Return what stands for any type."""
        return object

    def cast(kind, value):
        """Return the value, which type checkers take to be of that kind."""
        return value

    def get_args(kind):
        """Return the types or values in the brackets of a type, or the types of a union."""
        return getattr(kind, "__args__", ())

    def get_origin(kind):
        """Return what stands before the brackets; for a union, its class."""
        return UnionType if isinstance(kind, UnionType) else getattr(kind, "__origin__", None)
