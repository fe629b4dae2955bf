"""The tokens of a run, from the counts in Claude Code's result lines. Pure.

`modelUsage` has the subagents' tokens, and those of an answer that passed the budget; `usage` has
neither. Up to 2.1.257 both are of the run alone; later `modelUsage` is of the whole conversation,
and `model_usage_since_last_result` is of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.snapshot import ModelUse

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


def of_result(result: dict[str, Any]) -> tuple[Tokens, bool]:
    """Return the tokens of the last result line, and whether earlier runs are included."""
    usage, models = _counted(result.get("usage"), _USAGE), of_models(result.get("modelUsage"))
    return (usage, False) if models == UNKNOWN else (models, models != usage)


def by_model(found: object, others: Mapping[str, ModelUse]) -> dict[str, ModelUse]:
    """Return what each model cost: the sums of `others` and of one mapping of a result line."""
    total = dict(others)
    for name, counts in found.items() if isinstance(found, dict) else ():
        given, made = _counted(counts, _MODEL_USAGE)
        cost = amount(counts.get("costUSD")) if isinstance(counts, dict) else None
        old = total.get(name, ModelUse())
        total[name] = ModelUse(
            old.cost_usd + (cost or 0.0),
            old.input_tokens + (given or 0),
            old.output_tokens + (made or 0),
        )
    return total


def amount(value: object) -> float | None:
    """Return a number of dollars or seconds; None for anything else, NaN or a negative number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e12 else None


def added(first: Tokens, second: Tokens) -> Tokens:
    """Return the sums of what is known."""
    return _total((first[0], second[0])), _total((first[1], second[1]))


def of_models(found: object) -> Tokens:
    """Return the sums of the tokens in one mapping of a result line, by model."""
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
