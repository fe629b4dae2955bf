"""Pictures of figures as SVG: plots of days, and swim lanes. Pure; colours are in `plots.css`.

Each picture has a title and a description for screen readers, and its template shows the same
figures as a table. What colour says, shape says too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from markupsafe import Markup

from orchestrator.model.fields import NamedTuple
from orchestrator.text.quoting import visible

#: Shapes around the origin: filled, or drawn as lines (see `plots.css`).
SHAPES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "square": "M-3.5-3.5h7v7h-7z",
    "triangle": "M0-4.5l4.5 8h-9z",
    "cross": "M-3.5-3.5l7 7M-3.5 3.5l7-7",
    "diamond": "M0-5l5 5l-5 5l-5-5z",
    "chevron": "M-2.5-4.5l4.5 4.5l-4.5 4.5",
}
#: Steps of an axis of seconds; longer ones are days.
TIME_STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400)
#: The size of a plot and of the area in it, in the units of its view box.
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 460, 180, 72, 10, 24
MOST_STEPS = 4


class Series(NamedTuple):
    """Figures by day, each with the colour and the shape that tell it from other series."""

    name: str
    values: Sequence[float | None]
    #: A class of `plots.css`.
    colour: str
    shape: str


def plot(
    name: str,
    title: str,
    days: Sequence[str],
    series: Sequence[Series],
    shown: Callable[[float], str],
    steps: Sequence[int] = (),
) -> Markup:
    """Return a plot: bars for one series, lines with markers for several.

    `name` makes its ids; `shown` writes a value; `steps` are the steps that its axis may have.
    """
    known = [value for each in series for value in each.values if value is not None]
    top, step = axis(max(known, default=0.0), steps)
    high = HEIGHT - TOP - BOTTOM

    def at(value: float) -> float:
        return round(TOP + high * (1 - value / top), 1)

    wide = (WIDTH - LEFT) / max(len(days), 1)
    parts = [*_axis(top, step, at, shown), *_dates(days, wide)]
    for each in series:
        drawn = _bars if len(series) == 1 else _line
        parts += drawn(each, days, wide, at, shown)
    return picture(name, title, _described(series, shown), WIDTH, HEIGHT, parts)


def picture(
    name: str, title: str, text: str, width: int, height: int, parts: Sequence[Markup]
) -> Markup:
    """Return a picture with its title and description."""
    return Markup(
        '<svg class="plot" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{n}-title {n}-text">'
        '<title id="{n}-title">{title}</title><desc id="{n}-text">{text}</desc>{parts}</svg>'
    ).format(
        w=width, h=height, n=name, title=title, text=visible(text), parts=Markup("").join(parts)
    )


def marker(shape: str, colour: str, x: float, y: float, title: str = "") -> Markup:
    """Return a shape at a place."""
    said = Markup("<title>{}</title>").format(visible(title)) if title else ""
    return Markup('<path class="{} {}" transform="translate({} {})" d="{}">{}</path>').format(
        colour, shape, round(x, 1), y, SHAPES[shape], said
    )


def text(x: float, y: float, words: str, anchor: str = "start") -> Markup:
    """Return words at a place."""
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        round(x, 1), y, anchor, visible(words)
    )


def axis(most: float, steps: Sequence[int] = ()) -> tuple[float, float]:
    """Return the upper end of an axis from 0 that holds `most`, and the step between its lines."""
    if most <= 0:
        return 1.0, 1.0
    wanted = most / MOST_STEPS
    if steps:
        fitting = (float(step) for step in steps if step >= wanted)
        step = next(fitting, steps[-1] * math.ceil(wanted / steps[-1]))
    else:
        power = 10.0 ** math.floor(math.log10(wanted))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= wanted * 0.999)
    return step * math.ceil(round(most / step, 6)), step


def _axis(
    top: float, step: float, at: Callable[[float], float], shown: Callable[[float], str]
) -> Iterator[Markup]:
    for number in range(round(top / step) + 1):
        value = number * step
        line = Markup('<path class="grid" d="M{} {}H{}"/>')
        yield line.format(LEFT, at(value), WIDTH)
        yield text(LEFT - 5, at(value) + 4, shown(value), "end")


def _dates(days: Sequence[str], wide: float) -> Iterator[Markup]:
    """Yield the days below the axis, as `11-30`, as many as there is room for."""
    every = max(math.ceil(len(days) / 7), 1)
    for place, day in enumerate(days):
        if place % every == 0:
            yield text(LEFT + wide * (place + 0.5), HEIGHT - 8, day[5:], "middle")


def _bars(
    series: Series,
    days: Sequence[str],
    wide: float,
    at: Callable[[float], float],
    shown: Callable[[float], str],
) -> Iterator[Markup]:
    bar = Markup(
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}: {}</title></rect>'
    )
    for place, (day, value) in enumerate(zip(days, series.values, strict=True)):
        if value is not None:
            x, high = round(LEFT + wide * (place + 0.15), 1), round(at(0) - at(value), 1)
            yield bar.format(
                series.colour, x, at(value), round(wide * 0.7, 1), high, day, shown(value)
            )


def _line(
    series: Series,
    days: Sequence[str],
    wide: float,
    at: Callable[[float], float],
    shown: Callable[[float], str],
) -> Iterator[Markup]:
    """Yield a line with a gap where a value is not known, and its markers."""
    path, markers, drawing = "", [], False
    for place, (day, value) in enumerate(zip(days, series.values, strict=True)):
        if value is not None:
            x = round(LEFT + wide * (place + 0.5), 1)
            path += f"{'L' if drawing else 'M'}{x} {at(value)}"
            said = f"{day}, {series.name}: {shown(value)}"
            markers.append(marker(series.shape, series.colour, x, at(value), said))
        drawing = value is not None
    yield Markup('<path class="line {}" d="{}"/>').format(series.colour, path)
    yield from markers


def _described(series: Sequence[Series], shown: Callable[[float], str]) -> str:
    """Return what the picture shows in words: the newest value and the largest."""
    found = []
    for each in series:
        known = [value for value in each.values if value is not None]
        if known:
            found.append(f"{each.name}: last {shown(known[-1])}, most {shown(max(known))}")
    return ("; ".join(found) or "no figures yet") + ". The table below has every figure."


def legend(colours: Mapping[str, tuple[str, str]]) -> Markup:
    """Return the legend of a picture: name -> colour and shape."""
    item = Markup('<li><svg class="sign" viewBox="-7 -7 14 14" aria-hidden="true">{}</svg> {}</li>')
    items = [item.format(marker(shape, c, 0, 0), name) for name, (c, shape) in colours.items()]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))
