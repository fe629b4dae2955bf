"""The stamp that a tick leaves: by it, `idle` knows that the next ticks have nothing to do."""

import math
from collections.abc import Callable

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.work import PullRequest
from orchestrator.tasks import stores
from orchestrator.tasks.store import Watched

#: Seconds after which a whole tick sees which waiting tasks were edited in place, if there are more
#: than an idle tick looks at.
EDITS_UNSEEN = 300.0


def leave(
    layout: Layout,
    config: Config,
    seen: Snapshot,
    prs: list[PullRequest] | None,
    now: float,
    wake: float | None,
    number: str,
    news: Callable[[], str],
) -> None:
    """Leave the stamp of a tick at `now` that did nothing, with what a session is told until then.

    No stamp is left unless nothing can happen until `wake` (None: forever), or until a file or the
    shared queue (its number) changes. An agent at work here and a fault that is being probed need
    whole ticks. If the forge or a remote elsewhere must be asked of an open pull request, the stamp
    says so.
    """
    if any(run.host is None for run in seen.runs) or seen.hold is not None:
        return
    watched, asks = _watched(layout, config, seen, prs)
    if watched is None or bool(number) != (seen.host is not None):
        return
    if config.issues.label is not None:
        from orchestrator.pulls import issues

        wake = min(wake or math.inf, issues.next_look(layout, config, now))
    if config.notify.command and config.notify.report:
        from orchestrator.tick import daily

        wake = min(wake or math.inf, daily.next_time(config.notify.report, now))
    if not watched.sees_edits:
        wake = min(wake or math.inf, now + EDITS_UNSEEN)
    wake = wake or now + idle.LONGEST
    idle.write_stamp(layout.idle_stamp, now, wake, [*watched.paths], number, news(), asks=asks)


def _watched(
    layout: Layout, config: Config, seen: Snapshot, prs: list[PullRequest] | None
) -> tuple[Watched | None, bool]:
    """Return the paths that show each change of what the tick read; None if there are no such.

    And whether they show it only after something elsewhere was asked. `prs` are the pull requests,
    if the tick looked for each open one.
    """
    store, asks = stores.of_project(layout), False
    try:
        store.keep_waiting(surely=True)
    except OSError:
        return None, False  # what is kept may be old
    queue = store.watched()
    if queue is None or seen.open_prs is None:
        return None, False
    own = [layout.config, layout.hold, layout.prs, layout.roles]
    # What other processes than ticks find wrong.
    own += [layout.landing_fault, layout.notify_fault, layout.checkout_changed]
    if seen.open_prs:
        if prs is None or (config.overlap == "hold" and seen.waiting):
            return None, False  # which lines a pull request changes decides what starts
        from orchestrator.pulls import watched

        try:
            found = watched.of(layout, config, [pr for pr in prs if pr.state == "open"])
        except (OSError, OrchestratorError):
            return None, False  # the next tick asks again, and reports what is wrong
        if found is None or seen.open_prs > sum(pr.state == "open" for pr in prs):
            return None, False
        own += found.paths
        asks = found.asks
    return queue._replace(paths=(*own, *queue.paths)), asks
