"""What a benchmark says: each figure beside its yardstick of the same run, ratio and aim."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


class Broken(Exception):
    """A measurement could not be made, or would have measured something else than it says."""


@dataclass(frozen=True)
class Aim:
    """What a figure should reach: a bound for its ratio to the yardstick, or for the figure."""

    limit: float
    at_most: bool = True
    of_ratio: bool = True

    def is_met(self, row: Row) -> bool | None:
        figure = row.ratio if self.of_ratio else row.figure
        if figure is None:
            return None
        return figure <= self.limit if self.at_most else figure >= self.limit

    def text(self, unit: str) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{sign} {self.limit:g} {'x' if self.of_ratio else unit}"


@dataclass(frozen=True)
class Row:
    """One line of the report."""

    measure: str
    figure: float
    #: ms, MB or pairs/s: the figure's and the yardstick's.
    unit: str
    yardstick: float | None
    #: What the yardstick is.
    against: str
    #: None: shown for what it explains, with nothing to reach.
    aim: Aim | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.figure / self.yardstick if self.yardstick else None

    @property
    def ok(self) -> bool | None:
        return None if self.aim is None else self.aim.is_met(self)

    def record(self) -> dict[str, Any]:
        """Return the row for JSON."""
        aim = self.aim.text(self.unit) if self.aim else None
        return {**asdict(self), "aim": aim, "ratio": self.ratio, "ok": self.ok}


def spread(samples: Sequence[float], unit: str = "ms", scale: float = 1e3) -> str:
    """Return the number of samples and their middle half, for a row's note."""
    if len(samples) < 4:
        return f"{len(samples)} rounds"
    low, _, high = (_number(each * scale) for each in statistics.quantiles(samples, n=4))
    return f"{len(samples)} rounds, half of them {low} to {high} {unit}"


def milliseconds(
    measure: str,
    samples: Sequence[float],
    yardstick: Sequence[float],
    against: str,
    aim: Aim | None = None,
    note: str = "",
) -> Row:
    """Return the row of a duration: medians of samples in seconds, shown in milliseconds."""
    figure, beside = (statistics.median(each) * 1e3 for each in (samples, yardstick))
    # What a busy machine spoils least.
    best = f"at best {min(samples) * 1e3:.3g} against {min(yardstick) * 1e3:.3g} ms"
    text = "; ".join(filter(None, (spread(samples), best, note)))
    return Row(measure, figure, "ms", beside, against, aim, text)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as lines of text with aligned columns; notes go below."""
    head = ("", "figure", "yardstick", "ratio", "aim", "")
    cells = [head, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        padded = [row[0].ljust(widths[0])]
        padded += [text.rjust(width) for text, width in zip(row[1:4], widths[1:4], strict=True)]
        padded += [text.ljust(width) for text, width in zip(row[4:], widths[4:], strict=True)]
        lines.append("  ".join(padded).rstrip())
    lines.append("")
    lines += [f"{row.measure}: against {row.against}; {row.note}".rstrip("; ") for row in rows]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {True: "ok", False: "MISSED", None: ""}[row.ok]
    return (
        row.measure,
        f"{_number(row.figure)} {row.unit}",
        "" if row.yardstick is None else f"{_number(row.yardstick)} {row.unit}",
        "" if row.ratio is None else f"{row.ratio:.2f} x",
        "" if row.aim is None else row.aim.text(row.unit),
        verdict,
    )


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"
