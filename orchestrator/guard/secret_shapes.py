"""What secrets look like in a text: found in values of variables, withheld from texts of agents.

`guard.known_shapes` has the list. It cannot know every secret; SECURITY.md describes its limits.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import re
from collections.abc import Iterator, Sequence

from orchestrator.guard.known_shapes import ROWS
from orchestrator.model.annotations import Any
from orchestrator.model.snapshot import Outcome

#: No known secret is shorter, with its context.
SHORTEST = 8
#: A terminal sequence (a colour), with its escape character as it is or as a text writes it: in
#: JSON, in a string of Python or of a shell, by `cat -v`.
_SEQUENCE = re.compile(
    r"(?:(?:\x1b|\\{1,20}(?:u001[bB]|x1[bB]|0?33|e)|\^\[)\[|\x9b)[0-?]{0,40}[ -/]{0,4}[@-~]"
)
#: A character as a string of JSON or of a program writes it: the letter of a line break must not be
#: taken for the beginning of the word behind it. A quote stays as it is, because it ends a value.
_ESCAPE = re.compile(r"\\{1,20}(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[a-z])")
#: The same in an address (RFC 3986, section 2.1), also if the address is part of another address.
_PERCENT = re.compile(r"%(?:25){0,5}[0-9A-Fa-f]{2}")


def found(text: str) -> str | None:
    """Return the name of a secret that the text contains; None without one."""
    return next((name for name, _, _ in _spans(text)), None)


def withheld(text: str) -> str:
    """Return the text with `[withheld: NAME]` in the place of each secret that is found.

    A text without secrets is returned as it is. The time grows linearly with the text.
    """
    parts, done = [], 0
    # Of two that overlap, the first in the text gives the name, and all of both is withheld.
    for name, start, end in sorted(_spans(text), key=lambda span: (span[1], -span[2])):
        if start >= done:
            parts += [text[done:start], f"[withheld: {name}]"]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def _spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and end of each secret, as often as it is found."""
    if len(text) < SHORTEST:
        return
    for view, places in _views(text):
        lower = view.lower()
        for name, hints, pattern, _ in ROWS:
            if any(hint in lower for hint in hints):
                for match in re.finditer(pattern, view, re.MULTILINE):
                    start, end = match.span(1 if match.re.groups else 0)
                    yield name, places[start], places[end - 1] + 1


def _views(text: str) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield the text in the ways in which it may be read, each with its characters' places.

    A secret may begin directly behind an escape, or have a colour in its middle.
    """
    plain = range(len(text))
    blank = _ESCAPE.sub(_blank, _SEQUENCE.sub(_blank, text))
    yield blank, plain
    if "%" in text:
        yield _PERCENT.sub(_blank, blank), plain
    gaps = [match.span() for match in _SEQUENCE.finditer(text)]
    if gaps:
        ends = [0, *(end for _, end in gaps)], [*(start for start, _ in gaps), len(text)]
        places = [place for start, end in zip(*ends, strict=True) for place in range(start, end)]
        yield "".join(blank[place] for place in places), places


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def without_secrets(outcome: Outcome) -> Outcome:
    """Return the outcome of a run with what is withheld from its texts.

    Everything that the product stores or shows of a run, or publishes, begins with these texts.
    """
    texts = ("reason", "summary", "feedback", "question")
    found = ((name, getattr(outcome, name)) for name in texts)
    safe: dict[str, Any] = {name: withheld(text) for name, text in found if text}
    return outcome._replace(**safe)
