"""The processes that the scheduler starts for itself: the tick after a run, landing, notifying."""

import contextlib
import time

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.project import events, mark
from orchestrator.tick import tick


def run(word: str, root: str) -> None:
    """Do what the command line `word root` of the program asks for, in the project at `root`.

    If the database with the queue is gone, it ends: the next tick of the schedule reports that.
    """
    with contextlib.suppress(StoreFault):
        if word == "_after_run":
            tick.after_run(root)
            return
        layout = Layout(root)
        # The tick that the schedule starts reports faulty symbolic links.
        if mark.is_initialised(layout) and not mark.links(layout):
            _land(layout) if word == "_land" else _notify(layout)


def _notify(layout: Layout) -> None:
    """Run the user's program for each piece of news, and for the day's report."""
    from orchestrator.tick import daily, notify

    if usable := load.usable(layout):
        notify.tell(layout, usable.notify)
        if usable.notify.command:
            daily.tell(layout, load.settings(layout, write_cache=False), time.time())


def _land(layout: Layout) -> None:
    """Merge approved pull requests; a tick follows if tasks are done, or go back to their author.

    That tick waits for no other one: what this merged may not be in the look of a waiting tick.
    """
    from orchestrator.pulls import landing, remote_branches

    config = load.usable(layout)
    if config is None:
        return
    said = landing.land_approved(layout, config, time.time())
    for line in said:
        events.append(layout, time.time(), "landing", reason=line)
    if any(line.startswith("merged") for line in said):
        for line in remote_branches.drop_merged(layout, config):
            events.append(layout, time.time(), "clean", reason=line)
    if any(line.startswith(("merged", "sent")) for line in said):
        tick.follow_up(layout)
