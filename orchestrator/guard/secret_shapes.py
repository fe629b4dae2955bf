"""What secrets look like in a text: found in values of variables, withheld from texts of agents.

The list is `secret_shapes.toml`. It cannot know every secret; SECURITY.md describes its limits.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

import functools
import os
import re
from typing import Any, NamedTuple

from orchestrator.model import Outcome

LIST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "secret_shapes.toml")
#: No known secret is shorter, with its context.
SHORTEST = 8


class Shape(NamedTuple):
    """One kind of secret, as the list describes it."""

    name: str
    hints: tuple[str, ...]
    pattern: str
    source: str
    examples: tuple[str, ...]

    def can_be_in(self, lower: str) -> bool:
        """Return whether a text, in lower case, may contain such a secret."""
        return any(hint in lower for hint in self.hints)


@functools.cache
def shapes() -> tuple[Shape, ...]:
    """Return the list."""
    import tomllib

    with open(LIST, "rb") as file:
        rows = tomllib.load(file)["shape"]
    return tuple(
        Shape(
            row["name"],
            tuple(row["hints"]),
            row["pattern"],
            row["source"],
            tuple("".join(parts) for parts in row["examples"]),
        )
        for row in rows
    )


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)


def found(text: str) -> str | None:
    """Return the name of a secret that the text contains; None without one."""
    lower = text.lower() if len(text) >= SHORTEST else ""
    return next(
        (x.name for x in shapes() if x.can_be_in(lower) and _compiled(x.pattern).search(text)), None
    )


def withheld(text: str) -> str:
    """Return the text with `[withheld: NAME]` in the place of each secret that is found.

    A text without secrets is returned as it is. The time grows linearly with the text.
    """
    lower = text.lower() if len(text) >= SHORTEST else ""
    for shape in shapes() if lower else ():
        if shape.can_be_in(lower):
            text = _compiled(shape.pattern).sub(functools.partial(_mask, shape.name), text)
    return text


def without_secrets(outcome: Outcome) -> Outcome:
    """Return the outcome of a run with what is withheld from its texts.

    Everything that the product stores or shows of a run, or publishes, begins with these texts.
    """
    texts = ("reason", "summary", "feedback", "question")
    found = ((name, getattr(outcome, name)) for name in texts)
    safe: dict[str, Any] = {name: withheld(text) for name, text in found if text}
    return outcome._replace(**safe)


def _mask(name: str, match: re.Match[str]) -> str:
    group = 1 if match.re.groups else 0
    start, end = (position - match.start() for position in match.span(group))
    return f"{match[0][:start]}[withheld: {name}]{match[0][end:]}"
