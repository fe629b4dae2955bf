"""The daily report (`notify.report`): when it is due, and that it is sent once per day.

A tick that sees that the report is due leaves a request beside the other news. The process that
takes the request first writes down the day: a crash loses this day's report, and never sends it
twice. A day is a local date, so a change of the time zone does not repeat it.
"""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import os
import time

from orchestrator.account import narrative
from orchestrator.account.narrative import Report, Waiting
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Notify
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import UTC, datetime, timedelta
from orchestrator.pulls import states
from orchestrator.system import files, records
from orchestrator.system.later import Later
from orchestrator.tasks import stores
from orchestrator.text import words
from orchestrator.text.words import local
from orchestrator.tick import inbox, observe
from orchestrator.tick.observe import Observation

if TYPE_CHECKING:
    from orchestrator.tick import notify
else:
    notify = Later("tick.notify")

#: Characters of a report that the program is given.
KEPT = 20_000
#: The longest period of a report, and the period of the first, in seconds.
LONGEST, FIRST = 8 * 86_400.0, 86_400.0


class Sent(NamedTuple):
    """The last report that was sent: its local day, and its time in seconds since the epoch."""

    day: str
    at: float


def due(at: str | None, last: Sent | None, now: float) -> str | None:
    """Return the local day whose report is due at `now`; None if no report is due. Pure.

    `at` is a local time such as `08:00`, `last` the last report that was sent. On a day on which
    the clock skips this time, the report is due after the gap.
    """
    here = time.localtime(now)
    if at is None or time.strftime("%H:%M", here) < at:
        return None
    day = words.day(now)
    return None if last and _counts(last, now) and last.day >= day else day


def _counts(last: Sent, now: float) -> bool:
    """Whether the day of the last report can be right: no clock was far ahead when it was sent.

    Another time zone can have the date of tomorrow.
    """
    return last.day <= (_local(now) + timedelta(days=1)).date().isoformat()


def next_time(at: str, now: float) -> float:
    """Return the next time (seconds since the epoch) that is the local time `at`. Pure."""
    hour, minute = map(int, at.split(":"))
    moment = _local(now).replace(hour=hour, minute=minute, second=0, microsecond=0)
    if moment.timestamp() <= now:
        moment += timedelta(days=1)
    return moment.timestamp()


def _local(at: float) -> datetime:
    """Return local date and time, without a zone: its `timestamp` follows the zone's rules."""
    return datetime.fromtimestamp(at, UTC).astimezone().replace(tzinfo=None)


def sent(layout: Layout) -> Sent | None:
    """Return the last report that was sent; None before the first."""
    return records.build(Sent, files.read_json(_memory(layout)))


def _memory(layout: Layout) -> str:
    return os.path.join(layout.cache, "report-sent.json")


def _request(layout: Layout) -> str:
    return os.path.join(layout.cache, "report-due.json")


def note(layout: Layout, wanted: Notify, now: float) -> bool:
    """Leave a request if the report is due; return whether there is one. Raises OSError."""
    path = _request(layout)
    if wanted.report is None:
        files.remove(path)
    if day := due(wanted.report, sent(layout), now):
        files.write_json(path, {"day": day})
    return os.path.exists(path)


def account(
    layout: Layout, loaded: Settings, seen: Observation, since: float, now: float
) -> Report:
    """Return what happened between two times (seconds since the epoch), and what waits."""
    waiting = [
        Waiting(i.id, i.kind, i.task, i.text, i.since, inbox.next_step(layout, i))
        for i in inbox.survey(layout, loaded, seen).items
    ]
    prs = inbox.pull_requests(layout, loaded, seen)
    return narrative.collect(layout, prs, waiting, since, now)


def tell(layout: Layout, loaded: Settings, now: float) -> None:
    """Send the report that was asked for, if another process does not. Raises OSError."""
    before = sent(layout)
    day = (files.read_json(_request(layout)) or {}).get("day")
    if not isinstance(day, str):
        return
    since = _begins(before, now)
    seen = observe.observe(layout, loaded, now, states.counted(layout, loaded.config))
    found = account(layout, loaded, seen, since, now)
    if not _take(layout, Sent(day, now)):
        return
    failure = send(layout, loaded.config.notify, found.markdown, since, now)
    notify.remember(layout, failure)
    if failure is not None and not failure.started:
        # Nobody was told: a later tick tries again.
        files.write_json(_request(layout), {"day": day})
        files.write_json(_memory(layout), before._asdict() if before else {})
        stores.of_project(layout).give_back([_shared(day)])


def _take(layout: Layout, new: Sent) -> bool:
    """Take the request, and remember its day; return False if that day's report was sent."""
    before = sent(layout)
    is_new = not (before and _counts(before, new.at) and before.day >= new.day)
    if is_new:
        # Before the request goes: a tick that sees neither would ask once more.
        files.write_json(_memory(layout), new._asdict())
    try:
        os.unlink(_request(layout))
    except FileNotFoundError:
        return False
    return is_new and bool(stores.of_project(layout).take([_shared(new.day)]))


def _shared(day: str) -> str:
    """Return what the first of several hosts takes: one of them sends the report of a day."""
    return f"report {day}"


def _begins(before: Sent | None, now: float) -> float:
    """Return where the period of a report begins: at the last report, if that is not long ago."""
    recent = before is not None and now - LONGEST < before.at < now
    return before.at if before and recent else now - FIRST


def send(
    layout: Layout, wanted: Notify, markdown: str, since: float, now: float
) -> "notify.Failure | None":
    """Give a report to the user's program; return how that failed, or None."""
    hint = f"orchestrator report --since '{local(since)}'"
    text = markdown
    if len(text) > KEPT:
        text = f"{text[:KEPT].rpartition(chr(10))[0]}\n\n(The rest: {hint})\n"
    day = words.day(now)
    return notify.run(layout, wanted, notify.News("report", day, None, None, text, hint))
