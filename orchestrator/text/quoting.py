"""Quotes of other people's text: in fences that it cannot close, without invisible characters."""

from __future__ import annotations

#: The most characters of one quoted text, unless a template sets another limit.
LIMIT = 20_000
#: The most characters of a text that is shown on one line.
SHORT = 160

#: Patterns, which are compiled when they are used, of terminal sequences, and of characters that
#: are invisible or change how their neighbours look: control characters, direction marks, Unicode
#: tags, lone surrogates.
_TERMINAL = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[@-_]?"
)
_UNSEEN = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_LONGEST_FENCE = 100
_LONG_RUN = f"`{{{_LONGEST_FENCE},}}"


def clipped(text: str, limit: int) -> str:
    """Return `text`; if it has over `limit` characters, a note replaces its middle."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def cleaned(text: str) -> str:
    """Return `text` with plain line ends, without terminal sequences and invisible characters."""
    return _seen(text.replace("\r\n", "\n").replace("\r", "\n"))


def _seen(text: str) -> str:
    # Most texts are printable, and cost no compilation of the patterns.
    if text.isprintable():
        return text
    import re

    return re.sub(_UNSEEN, "", re.sub(_TERMINAL, "", text))


def visible(text: str) -> str:
    """Return text with each character that is not seen, but line breaks and tabs, as an escape.

    These are control characters, direction marks and the like; an escape is as Python's `\\x1b`.
    """
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def fenced(text: str, limit: int = LIMIT) -> str:
    """Return `text` as a fenced block that its lines cannot close, without invisible characters.

    Sequences of over 99 backticks are cut to 99, because the fence must be longer.
    """
    import re

    text = clipped(cleaned(text).strip("\n"), limit)
    text = re.sub(_LONG_RUN, "`" * (_LONGEST_FENCE - 1), text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text or '(nothing)'}\n{fence}"


def inline(text: object, limit: int = 300) -> str:
    """Return `text` as inline code on one line, which the text cannot close."""
    line = " ".join(_seen(str(text)).split()) or "(nothing)"
    return "`" + clipped(line.replace("`", "'"), limit).replace("\n", " ") + "`"


def one_line(text: str, limit: int = SHORT) -> str:
    """Return a text on one line, its blanks joined, cut to `limit` characters."""
    # Only a part is read: a result can have megabytes.
    words = " ".join(text[: 4 * limit].split())
    if len(words) <= limit and len(text) <= 4 * limit:
        return words
    return words[: limit - 1] + "…"
