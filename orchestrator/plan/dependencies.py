"""Dependencies: whether a task that another task waits for is finished, and cycles. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PullRequest, Task
from orchestrator.plan.rule import Judged

#: How the verdict on a dependency begins that only a person can end, and the verdict on an id that
#: no task has.
BROKEN = "broken"
UNKNOWN_TASK = f"{BROKEN}: there is no such task"
#: Levels of parts that are looked at: only a history edited by hand has more.
_DEEPEST = 100


def closure(
    tasks: Iterable[Task],
    find: Callable[[str], Task | None],
    prs: Collection[PullRequest] | None,
) -> dict[str, Task | None]:
    """Return the tasks, and by id what they wait for, directly or not; None for an unknown id.

    A task waits for its dependencies, and a task that was split for its parts. What a finished task
    depended on is left out: it holds nothing back any more.
    """
    by_id = {pr.id: pr for pr in prs or ()}
    found: dict[str, Task | None] = {task.id: task for task in tasks}
    left = [other for task in found.values() if task for other in _needs(task)]
    while left:
        task_id = left.pop()
        if task_id in found:
            continue
        task = found[task_id] = find(task_id)
        if task is not None:
            left += task.parts if _is_finished(task, by_id) else _needs(task)
    return found


def _needs(task: Task) -> tuple[str, ...]:
    return (*task.depends_on, *task.parts)


def verdicts(
    wanted: Collection[str],
    found: Mapping[str, Task | None],
    prs: Collection[PullRequest] | None,
    *,
    delivered: bool = False,
) -> dict[str, str]:
    """Return "met", "waiting: ..." or "broken: ..." for each wanted task id.

    `found` is the `closure` of the tasks that want them. `prs` is None if the forge did not list
    its pull requests. With `delivered`, an open pull request of a done task is enough.
    """
    by_id = {pr.id: pr for pr in prs or ()}
    circles = circular(found, by_id)
    landed = _Landed(by_id, prs is not None, delivered)
    return {
        task_id: "broken: it is part of a cycle"
        if task_id in circles
        else _dependency(found[task_id], found, landed)
        for task_id in wanted
    }


def judged(task: Task, known: Mapping[str, str], conflict: str | None) -> Judged:
    """Return whether a waiting task may start; `known` has the verdicts on its dependencies.

    `conflict` says why their work cannot be the task's base.
    """
    unmet = [other for other in task.depends_on if known.get(other) != "met"]
    if not unmet:
        step = f"see what it depends on: orchestrator task show {task.id}"
        return Judged(conflict is None, conflict or "every dependency is met", about=step)
    why = "; ".join(f"{other} ({known.get(other, 'unknown')})" for other in unmet)
    # What a person has to end comes first: waiting for the others is no use before that.
    worst = min(unmet, key=lambda other: not known.get(other, "").startswith(BROKEN))
    step = f"see why it is not met: orchestrator explain {worst}"
    if known.get(worst) == UNKNOWN_TASK:
        left = ",".join(x for x in task.depends_on if known.get(x) != UNKNOWN_TASK)
        step = f"correct its DEPENDS_ON: orchestrator task set {task.id} depends_on={left}"
    return Judged(False, why, about=step)


def circular(found: Mapping[str, Task | None], prs: Mapping[str, PullRequest]) -> set[str]:
    """Return the unfinished tasks that depend on themselves; `prs` is by id."""
    known = [task for task in found.values() if task]
    graph = {t.id: t.parts if _is_finished(t, prs) else _needs(t) for t in known}
    return _in_circles(graph)


def levels(task: Task, found: Mapping[str, Task | None]) -> list[list[str]]:
    """Return the ids that a task depends on: directly, through these, and so on.

    `found` is the `closure` of the task. Each id is at its first level.
    """
    result: list[list[str]] = []
    seen: set[str] = set()
    level = [each for each in task.depends_on if each in found]
    while level:
        level = list(dict.fromkeys(level))
        result.append(level)
        seen |= {*level}
        known = [below for each in level if (below := found[each])]
        level = [o for each in known for o in each.depends_on if o in found and o not in seen]
    return result


def _is_finished(task: Task, prs: Mapping[str, PullRequest]) -> bool:
    pr = pull_request(task, prs)
    merged = task.merged if pr is None else pr.state == "merged"
    return task.state == "failed" or (task.state == "done" and (_delivered(task) is None or merged))


def _delivered(task: Task) -> str | None:
    """Return the pull request that a task delivered: a review names the one that it reviewed."""
    return None if task.reviews else task.pr


def pull_request(task: Task, prs: Mapping[str, PullRequest]) -> PullRequest | None:
    """Return a task's pull request. Another forge may have another one of the same number."""
    pr = prs.get(_delivered(task) or "")
    return pr if pr is None or pr.task in (None, task.id) else None


def progress(parts: Sequence[Task]) -> str:
    """Return how far a split task is, for people: `split into 3 parts, 1 finished, 1 failed`."""
    finished = sum(part.state == "done" for part in parts)
    failed = [part.reason == "cancelled" for part in parts if part.state == "failed"]
    said = [f"split into {len(parts)} part{'s' * (len(parts) != 1)}", f"{finished} finished"]
    words = {"failed": failed.count(False), "cancelled": failed.count(True)}
    return ", ".join([*said, *(f"{n} {word}" for word, n in words.items() if n)])


class _Landed(NamedTuple):
    """The pull requests by id, whether the forge listed them, and whether delivery is enough."""

    prs: Mapping[str, PullRequest]
    forge_known: bool
    delivered: bool


def _dependency(
    task: Task | None,
    found: Mapping[str, Task | None],
    landed: _Landed,
    above: tuple[str, ...] = (),
) -> str:
    """Return the verdict on a task; `above` are the tasks that it is a part of."""
    if task is None:
        return UNKNOWN_TASK
    if task.state == "failed":
        return f"broken: it failed ({task.reason or 'no reason given'})"
    if task.state == "blocked" and task.parts:
        return f"waiting: it is {progress([t for p in task.parts if (t := found.get(p))])}"
    if task.state != "done":
        return f"waiting: it is in {task.state}"
    own = _pull_request(task, landed)
    if len(above) > _DEEPEST:
        return f"{BROKEN}: its parts have parts, more than {_DEEPEST} levels deep"
    for part in task.parts if own == "met" else ():
        # A history edited by hand can make a loop.
        other = None if part in (*above, task.id) else found.get(part)
        word, _, why = _dependency(other, found, landed, (*above, task.id)).partition(": ")
        if word != "met":
            return f"{word}: its part {part}: {why}"
    return own


def _pull_request(task: Task, landed: _Landed) -> str:
    if _delivered(task) is None:
        return "met"
    pr = pull_request(task, landed.prs)
    if pr is None and task.merged:
        return "met"  # on a forge that the project used before
    if pr is None:
        known = "is gone" if landed.forge_known else "cannot be looked up now"
        if task.pr in landed.prs:  # of another task: numbers start again on another forge
            known = "is on another forge (see orchestrator pr list)"
        return f"waiting: its pull request {task.pr} {known}"
    if pr.state == "closed":
        return f"broken: its pull request {task.pr} was closed"
    if pr.state == "merged" or landed.delivered:
        return "met"
    return f"waiting: its pull request {task.pr} is {pr.state}"


def _in_circles(graph: Mapping[str, tuple[str, ...]]) -> set[str]:
    """Return the tasks that depend on themselves through their dependencies."""
    # Removing the tasks without remaining dependencies leaves the cycles and the tasks that depend
    # on them; the same in the other direction leaves only the cycles.
    left = {task: {other for other in others if other in graph} for task, others in graph.items()}
    for _ in range(2):
        turned: dict[str, set[str]] = {task: set() for task in left}
        for task, others in left.items():
            for other in others:
                turned[other].add(task)
        number = {task: len(others) for task, others in left.items()}
        free = [task for task, others in number.items() if not others]
        for task in free:  # it grows
            for other in turned[task]:
                number[other] -= 1
                if not number[other]:
                    free.append(other)
        gone = set(free)
        left = {task: others - gone for task, others in turned.items() if task not in gone}
    return set(left)
