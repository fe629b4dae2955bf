"""The swim lanes: a lane per agent, a bar per run, its outcome by colour and by shape. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import parse_time
from orchestrator.page.plots import marker, picture, text
from orchestrator.text.quoting import visible
from orchestrator.text.words import count, span

Row = dict[str, Any]
#: The size in the units of the view box; the lanes begin right of the agents' names.
WIDTH, LEFT, TOP, HIGH = 1000, 160, 26, 24
#: The width of the lanes; the sign of a run that ended just now needs some room right of them.
LANE = WIDTH - LEFT - 8
#: Bars in one picture. Beyond that, runs of one kind that end close together share a sign.
MOST_BARS = 2500
#: The shortest bar that is seen beside its sign.
SEEN = 3
#: Characters of an agent's name beside its lane.
NAME_SHOWN = 22
HOUR, DAY = 3600, 86_400


class Kind(NamedTuple):
    """Outcomes that look the same."""

    name: str
    colour: str
    shape: str
    verdicts: tuple[str, ...]


KINDS = (
    Kind("did its work", "good", "circle", ("done", "no_change", "split", "approved")),
    Kind("asked for changes or a person", "warn", "triangle", ("changes_requested", "needs_human")),
    Kind("failed", "bad", "cross", ("failed",)),
    Kind("stopped or interrupted", "quiet", "square", ("stopped", "interrupted", "moved")),
    Kind("usage limit or system fault", "held", "diamond", ("usage_limit", "system_fault")),
    Kind("at work", "link", "chevron", ()),
)
LEGEND = {kind.name: (kind.colour, kind.shape) for kind in KINDS}
_BY_VERDICT = {verdict: kind for kind in KINDS for verdict in kind.verdicts}
_AT_WORK, _OTHER = KINDS[-1], KINDS[3]


class Bar(NamedTuple):
    """One or more runs of an agent that are drawn as one bar, in the units of the view box."""

    lane: int
    start: float
    end: float
    kind: Kind
    runs: list[Row]


def lanes(agents: Sequence[Row], start: float, end: float) -> Markup:
    """Return the picture of a period (epoch seconds); `agents` as `history --json` has them."""
    height = TOP + HIGH * max(len(agents), 1) + 4
    parts = [*_ticks(start, end, height)]
    for lane, agent in enumerate(agents):
        y = TOP + HIGH * lane
        name = str(agent["agent"])
        short = name if len(name) <= NAME_SHOWN else f"{name[: NAME_SHOWN - 1]}…"
        parts.append(Markup('<path class="grid" d="M0 {}H{}"/>').format(y + HIGH, WIDTH))
        parts.append(text(0, y + 16, short))
    drawn = bars(agents, start, end)
    parts += [_drawn(bar) for bar in drawn]
    runs = sum(len(agent["runs"]) for agent in agents)
    said = f"{count(runs, 'run')} of {count(len(agents), 'agent')}. The table below lists runs."
    return picture("lanes", "What each agent ran when", said, WIDTH, height, parts)


def bars(agents: Sequence[Row], start: float, end: float, most: int = MOST_BARS) -> list[Bar]:
    """Return the bars; with more than `most`, runs that end within ever wider steps share one."""
    step = 1
    while len(found := list(_bars(agents, start, end, step))) > most and step < WIDTH:
        step *= 2
    return found


def _bars(agents: Sequence[Row], start: float, end: float, step: int) -> Iterator[Bar]:
    scale = LANE / (end - start)
    for lane, agent in enumerate(agents):
        shared: dict[tuple[int, str], Bar] = {}
        for run in agent["runs"]:
            began, ended = parse_time(run["started"]), parse_time(run["ended"] or "")
            left = max(((began or start) - start) * scale, 0.0)
            right = min(((ended or end) - start) * scale, float(LANE))
            if right < 0 or left > LANE:
                continue
            kind = _AT_WORK if ended is None else _BY_VERDICT.get(run["outcome"], _OTHER)
            key = int(right // step), kind.name
            bar = shared.get(key, Bar(lane, WIDTH, LEFT, kind, []))
            bar.runs.append(run)
            ends = min(bar.start, LEFT + left), max(bar.end, LEFT + right)
            shared[key] = bar._replace(start=ends[0], end=ends[1])
        yield from shared.values()


def _drawn(bar: Bar) -> Markup:
    """Return a bar with its sign at the end; the sign alone where a bar would not be seen."""
    y = TOP + HIGH * bar.lane + HIGH // 2
    run = bar.runs[0]
    on = f"on {run['host']}" if "host" in run else ""
    facts = (run["task"] or "no task", run["outcome"] or "at work", _took(run), on)
    said = " ".join(filter(None, facts))
    if len(bar.runs) > 1:
        said = f"{count(len(bar.runs), 'run')}: {bar.kind.name}; the first: {said}"
    wide = round(bar.end - bar.start, 1)
    if len(bar.runs) > 1 or wide < SEEN:
        return marker(bar.kind.shape, bar.kind.colour, bar.end, y, said)
    shape = Markup(
        '<g><title>{}</title><rect class="bar {}" x="{}" y="{}" width="{}" height="8"/>{}</g>'
    )
    sign = marker(bar.kind.shape, bar.kind.colour, bar.end, y)
    return shape.format(visible(said), bar.kind.colour, round(bar.start, 1), y - 4, wide, sign)


def _took(run: Row) -> str:
    began, ended = parse_time(run["started"] or ""), parse_time(run["ended"] or "")
    return "" if began is None or ended is None else f"({span(ended - began)})"


def _ticks(start: float, end: float, height: int) -> Iterator[Markup]:
    """Yield the lines of the time axis: hours of a day, or days; in local time."""
    scale = LANE / (end - start)
    for at, words in moments(start, end):
        x = round(LEFT + (at - start) * scale, 1)
        yield Markup('<path class="grid" d="M{} {}V{}"/>').format(x, TOP - 6, height)
        yield text(x, 14, words, "end" if x > WIDTH - 40 else "middle")


def moments(start: float, end: float) -> Iterator[tuple[float, str]]:
    """Yield round local times of a period, about eight, each with its words."""
    year, month, day = time.localtime(start)[:3]
    minutes = 10 if end - start <= 2 * HOUR else 180
    if end - start > 2 * DAY:
        minutes = 1440 * max(round((end - start) / DAY / 8), 1)
    number = 0
    while True:
        at = time.mktime((year, month, day, 0, number * minutes, 0, 0, 0, -1))
        if at >= end:
            return
        here = time.localtime(at)
        if at >= start:
            yield at, time.strftime("%H:%M" if here.tm_hour or here.tm_min else "%a %m-%d", here)
        number += 1
