"""Waits of this process of which a person is told: for a command, or for a lock."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import os
from collections.abc import Callable, Sequence

#: Seconds of a wait after which it is told, and until it is told again.
FIRST, NEXT = 1.0, 10.0


def nobody(what: str, left: float) -> None:
    """Tell nobody."""


#: Called with what this process waits for, and the most seconds that are left of the wait.
tell: Callable[[str, float], None] = nobody


def named(argv: Sequence[str]) -> str:
    """Return a command in three words at most: without options, and without passwords of URLs."""
    import re

    words, given = [os.path.basename(argv[0])], iter(argv[1:])
    for word in given:
        if word == "-c":
            next(given, None)  # a setting of git, or the text of a shell's command
        elif not word.startswith("-"):
            words.append(re.sub(r"(?<=://)[^/\s@]*@", "", word))
    return " ".join(words[:3])
