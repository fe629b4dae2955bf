"""Whether texts consist of a few characters, without patterns.

Most commands read only short and plain texts. Without a pattern they need not import `re`, which
took a tenth of the time of `status`.
"""

DIGITS = "0123456789"
SMALL = "abcdefghijklmnopqrstuvwxyz"
#: What follows the day in a time.
_CLOCK = f"{DIGITS}:.,+Z-"
_HEXADECIMAL = f"{DIGITS}abcdef"
#: Control characters, and the line ends of Unicode that `str.isprintable` knows.
CONTROL = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))


def consists_of(text: str, characters: str) -> bool:
    """Return whether a text has characters, and none but these.

    >>> consists_of("7f", DIGITS), consists_of("75", DIGITS), consists_of("", DIGITS)
    (False, True, False)
    """
    return text != "" and not text.strip(characters)


def is_time(text: str) -> bool:
    """Return whether a text has the form of a time (ISO 8601): `2026-01-31T`, and more."""
    day, _, clock = text.partition("T")
    numbers = day.split("-")
    has_day = [*map(len, numbers)] == [4, 2, 2] and consists_of("".join(numbers), DIGITS)
    return has_day and consists_of(clock, _CLOCK)


def is_commit(text: str) -> bool:
    """Return whether a text has the form of the full name of one of git's objects."""
    return len(text) in (40, 64) and consists_of(text, _HEXADECIMAL)
