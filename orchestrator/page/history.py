"""The regions History and Costs: periods that a person chose, their pictures and tables."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date, timedelta

from markupsafe import Markup

from orchestrator.model.annotations import Any
from orchestrator.model.times import parse_time
from orchestrator.page import lanes, plots
from orchestrator.page.commands import Reads
from orchestrator.page.plots import Series
from orchestrator.page.render import dollars
from orchestrator.text.words import span

Row = dict[str, Any]
Query = Mapping[str, str]
DAY = 86_400
#: The zooms of the swim lanes: seconds, what they are called, and the days that the plots show.
ZOOMS = {
    "hour": (3600, "an hour", 14),
    "day": (DAY, "a day", 14),
    "week": (7 * DAY, "a week", 28),
    "month": (28 * DAY, "four weeks", 84),
}
#: The widest zoom that is chosen for a person: a young project shows less than a week.
WIDEST_FIT = "week"
#: Runs, and rows of costs, that a table shows.
MOST_RUNS, MOST_COSTS = 50, 50
#: What a day counts; where all are zero, there is nothing to draw.
COUNTED = ("added", "done", "merged", "failed", "runs")
BY = ("day", "agent", "role", "task", "model")
SINCE = {"today": "today", "7d": "7 days", "30d": "30 days", "90d": "90 days"}


def history(commands: Reads, query: Query) -> Row:
    """Return the swim lanes and the plots of the period that `zoom` and `until` (a day) choose."""
    zoom = query.get("zoom", "")
    end, chosen = _end(query.get("until", ""), time.time())
    plotted = end - ZOOMS[zoom if zoom in ZOOMS else WIDEST_FIT][2] * DAY
    found = commands.read("history", {"since": _local(plotted), "until": _local(end)})
    begins = parse_time(found["history_begins"] or "")
    if zoom not in ZOOMS:
        zoom = fitting(None if begins is None else end - begins)
    start = end - ZOOMS[zoom][0]
    agents = _inside(found["agents"], start)
    runs = [{**run, "agent": agent["agent"]} for agent in agents for run in agent["runs"]]
    runs.sort(key=lambda run: run["started"], reverse=True)
    return {
        "zoom": zoom,
        "zooms": ZOOMS,
        "until": chosen,
        "lanes": lanes.lanes(agents, start, end),
        "legend": plots.legend(lanes.LEGEND),
        "plots": pictures(found["days"]),
        "days": found["days"],
        "something": any(day[name] for day in found["days"] for name in COUNTED),
        "runs": runs[:MOST_RUNS],
        "more_runs": len(runs[MOST_RUNS:]),
        "shared": any("host" in run for run in runs),
        "begins": found["history_begins"] if begins is not None and begins > plotted else None,
    }


def fitting(age: float | None) -> str:
    """Return the narrowest zoom that shows a history of this age (seconds; None: no history)."""
    names = list(ZOOMS)[: list(ZOOMS).index(WIDEST_FIT)]
    wide = (name for name in names if age is not None and 0 < age <= ZOOMS[name][0])
    return next(wide, WIDEST_FIT)


def _end(text: str, now: float) -> tuple[float, str]:
    """Return where the period ends (epoch seconds), and the chosen day; the day is "" for now."""
    try:
        day = date.fromisoformat(text) + timedelta(days=1)
        end = time.mktime((day.year, day.month, day.day, 0, 0, 0, 0, 0, -1))
    except (ValueError, OverflowError):
        return float(int(now) + 1), ""
    # A day before the epoch holds nothing, and a command refuses it.
    return (end, text) if 100 * DAY < end <= now else (float(int(now) + 1), "")


def _local(at: float) -> str:
    """Return a time as commands read it; with the zone, because an hour of autumn comes twice."""
    return time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(at))


def _inside(agents: list[Row], start: float) -> list[Row]:
    """Return the agents with only the runs that worked after `start` (epoch seconds)."""
    found = []
    for agent in agents:
        runs = [
            run
            for run in agent["runs"]
            if run["ended"] is None or (parse_time(run["ended"]) or 0.0) >= start
        ]
        if runs:
            found.append({**agent, "runs": runs})
    return found


def pictures(days: list[Row]) -> list[Row]:
    """Return the plots of days (as `history --json` has them), each with its title and legend."""
    names = [day["day"] for day in days]

    def values(key: str) -> list[float | None]:
        return [day[key] for day in days]

    def whole(value: float) -> str:
        return f"{value:g}"

    def made(name: str, title: str, series: list[Series], *more: Any) -> Row:
        drawn = plots.plot(f"plot-{name}", title, names, series, *more)
        signs = {each.name: (each.colour, each.shape) for each in series}
        return {"title": title, "svg": drawn, "legend": plots.legend(signs) if series[1:] else ""}

    counts = [
        Series("added", values("added"), "link", "square"),
        Series("done", values("done"), "held", "triangle"),
        Series("merged", values("merged"), "good", "circle"),
        Series("failed", values("failed"), "bad", "cross"),
    ]
    took = [
        Series("until done", values("seconds_to_done"), "held", "triangle"),
        Series("until merged", values("seconds_to_merged"), "good", "circle"),
    ]
    rounds = [Series("rounds", values("review_rounds"), "warn", "triangle")]
    success = [Series("runs", values("success"), "good", "circle")]
    cost = [Series("cost", values("cost_usd"), "link", "square")]
    return [
        made("throughput", "Throughput: tasks per day", counts, whole),
        made("lead", "Lead time since a task was added (median)", took, span, plots.TIME_STEPS),
        made("success", "Success rate of runs", success, "{:.0%}".format),
        made("rounds", "Review rounds of merged tasks (mean)", rounds, whole),
        made("cost", "Cost per day", cost, dollars),
    ]


def costs(commands: Reads, query: Query) -> Row:
    """Return what runs cost, by what `by` and `since` choose; only the dearest of many rows."""
    by, since = query.get("by", ""), query.get("since", "")
    by, since = by if by in BY else "day", since if since in SINCE else "7d"
    found = commands.read("costs", {"by": by, "since": since})
    rows = found["rows"]
    if by != "day":
        rows = sorted(rows, key=lambda row: (-row["cost_usd"], row["key"]))
    kept = rows[-MOST_COSTS:] if by == "day" else rows[:MOST_COSTS]
    most = max((row["cost_usd"] for row in kept), default=0.0)
    return {
        "costs": found,
        "rows": [{**row, "bar": share(row["cost_usd"], most)} for row in kept],
        "more_rows": len(rows) - len(kept),
        "by": by,
        "bys": BY,
        "since": since,
        "sinces": SINCE,
    }


def share(amount: float, most: float) -> Markup:
    """Return a bar that shows an amount as its share of the largest; the figure is beside it."""
    wide = round(100 * amount / most, 1) if most > 0 else 0
    return Markup(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="link" width="{}" height="8"/></svg>'
    ).format(wide)
