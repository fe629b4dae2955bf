"""Other people's words, quoted: in fences that they cannot close, with nothing in them unseen."""

from __future__ import annotations

import re

#: Characters that one quoted text may have, unless a template says otherwise.
LIMIT = 20_000
#: Characters kept of what is shown on one line.
SHORT = 160

#: Terminal sequences; and characters that are not seen, or change what is seen of their
#: neighbours: controls, direction marks, Unicode tags, lone surrogates.
_TERMINAL = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[@-_]?"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_LONGEST_FENCE = 100
_LONG_RUN = re.compile(f"`{{{_LONGEST_FENCE},}}")


def clipped(text: str, limit: int) -> str:
    """Return `text` with its middle left out, and said so, if it has over `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def fenced(text: str, limit: int = LIMIT) -> str:
    """Return `text` as a fenced block that no line of it can close, without unseen characters.

    Runs of over 99 backticks are cut to 99: nobody writes them, and the fence must be longer.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = clipped(_UNSEEN.sub("", _TERMINAL.sub("", text)).strip("\n"), limit)
    text = _LONG_RUN.sub("`" * (_LONGEST_FENCE - 1), text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text or '(nothing)'}\n{fence}"


def inline(text: object, limit: int = 300) -> str:
    """Return `text` as inline code on one line, which it cannot end."""
    line = " ".join(_UNSEEN.sub("", _TERMINAL.sub("", str(text))).split()) or "(nothing)"
    return "`" + clipped(line.replace("`", "'"), limit).replace("\n", " ") + "`"


def one_line(text: str, limit: int = SHORT) -> str:
    """Return a text on one line, its blanks joined, cut to `limit` characters."""
    # Only so much is looked at: a result can have megabytes.
    words = " ".join(text[: 4 * limit].split())
    if len(words) <= limit and len(text) <= 4 * limit:
        return words
    return words[: limit - 1] + "…"
