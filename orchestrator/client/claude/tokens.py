"""The tokens of a run, from the counts in Claude Code's result lines. Pure.

`modelUsage` has the subagents' tokens, and those of an answer that passed the budget; `usage` has
neither. Up to 2.1.257 both are of the run alone; later `modelUsage` is of the whole conversation,
and `model_usage_since_last_result` is of the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Input tokens (with those from the cache) and output tokens; None is not known.
Tokens = tuple[int | None, int | None]
UNKNOWN: Tokens = (None, None)
#: The names of the counts, that of the output last.
_USAGE = (
    "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens",
)  # fmt: skip
_MODEL_USAGE = (
    "inputTokens", "cacheCreationInputTokens", "cacheReadInputTokens", "outputTokens",
)  # fmt: skip


def since_last(result: dict[str, Any]) -> Tokens:
    """Return the tokens of this run that a result line counts alone."""
    return _of_models(result.get("model_usage_since_last_result"))


def of_result(result: dict[str, Any]) -> tuple[Tokens, bool]:
    """Return the tokens of the last result line, and whether earlier runs are included."""
    usage, models = _counted(result.get("usage"), _USAGE), _of_models(result.get("modelUsage"))
    return (usage, False) if models == UNKNOWN else (models, models != usage)


def added(first: Tokens, second: Tokens) -> Tokens:
    """Return the sums of what is known."""
    return _total((first[0], second[0])), _total((first[1], second[1]))


def _of_models(found: object) -> Tokens:
    total = UNKNOWN
    for each in found.values() if isinstance(found, dict) else ():
        total = added(total, _counted(each, _MODEL_USAGE))
    return total


def _counted(usage: object, names: tuple[str, ...]) -> Tokens:
    if not isinstance(usage, dict):
        return UNKNOWN
    *given, made = (_count(usage.get(name)) for name in names)
    return _total(given), made


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _count(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1e12
    return value if is_count else None  # type: ignore[return-value]
