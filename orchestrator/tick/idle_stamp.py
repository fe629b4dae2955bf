"""The stamp that a tick with nothing to do leaves for the next ticks (read by `idle`)."""

from collections.abc import Sequence

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model import Action, Problem, PullRequest
from orchestrator.system import files
from orchestrator.tasks import stores
from orchestrator.tick.observe import Observation

#: Problems that only a changed file can solve, or that an idle tick itself solves.
_STILL = ("tick_stale", "task_malformed", "agent_suspended")


def leave(
    layout: Layout,
    seen: Observation,
    prs: Sequence[PullRequest] | None,
    actions: Sequence[Action],
    problems: Sequence[Problem],
    now: float,
    wake: float | None,
) -> None:
    """Leave a stamp if nothing can happen until `wake` (None: forever), or until a file changes.

    No stamp is left while an agent runs, a fault is being probed, or a pull request is open: a
    whole tick is needed to see a merge that happens elsewhere.
    """
    files.remove(layout.idle_stamp)
    busy = any(action.action != "skip" for action in actions)
    if busy or any(problem.code not in _STILL for problem in problems):
        return
    if seen.snapshot.runs or seen.snapshot.hold is not None:
        return
    if prs is None or any(pr.state == "open" for pr in prs):
        return
    queue = stores.of_project(layout).watched()
    if queue is not None:
        watched = [layout.config, layout.hold, layout.prs, layout.roles, *queue]
        idle.write_stamp(layout.idle_stamp, now, wake or now + idle.LONGEST, watched)
