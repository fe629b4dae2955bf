"""Averages, as `statistics` has them: its import alone takes as long as half a start of Python."""

from __future__ import annotations

from collections.abc import Collection


def mean(values: Collection[float]) -> float:
    """Return the arithmetic mean of at least one value."""
    return sum(values) / len(values)


def median(values: Collection[float]) -> float:
    """Return the middle of at least one value."""
    return quartiles(values)[1]


def quartiles(values: Collection[float]) -> tuple[float, float, float]:
    """Return the three quartiles of at least one value; the extremes are among the values.

    These are the `statistics.quantiles` of four groups by the method "inclusive".
    """
    ordered = sorted(values)
    last = len(ordered) - 1

    def part(quarter: int) -> float:
        place, rest = divmod(quarter * last, 4)
        return (ordered[place] * (4 - rest) + ordered[min(place + 1, last)] * rest) / 4

    return part(1), part(2), part(3)
