"""Dependencies: whether a task that another task waits for is finished, and cycles. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping

from orchestrator.model import PullRequest, Task


def closure(
    tasks: Iterable[Task],
    find: Callable[[str], Task | None],
    prs: Collection[PullRequest] | None,
) -> dict[str, Task | None]:
    """Return the tasks, and by id what they depend on, directly or not; None for an unknown id.

    What a finished task depended on is left out: it holds nothing back any more.
    """
    by_id = {pr.id: pr for pr in prs or ()}
    found: dict[str, Task | None] = {task.id: task for task in tasks}
    left = [other for task in found.values() if task for other in task.depends_on]
    while left:
        task_id = left.pop()
        if task_id in found:
            continue
        task = found[task_id] = find(task_id)
        if task is not None and not _is_finished(task, by_id):
            left += task.depends_on
    return found


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
    return {
        task_id: "broken: it is part of a cycle"
        if task_id in circles
        else _dependency(found[task_id], by_id, prs is not None, delivered)
        for task_id in wanted
    }


def circular(found: Mapping[str, Task | None], prs: Mapping[str, PullRequest]) -> set[str]:
    """Return the unfinished tasks that depend on themselves; `prs` is by id."""
    left = (task for task in found.values() if task and not _is_finished(task, prs))
    return _in_circles({task.id: task.depends_on for task in left})


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
    pr = prs.get(task.pr or "")
    merged = pr is not None and pr.state == "merged"
    return task.state == "failed" or (task.state == "done" and (task.pr is None or merged))


def _dependency(
    task: Task | None, prs: dict[str, PullRequest], forge_known: bool, delivered: bool
) -> str:
    if task is None:
        return "broken: there is no such task"
    if task.state == "failed":
        return f"broken: it failed ({task.reason or 'no reason given'})"
    if task.state != "done":
        return f"waiting: it is in {task.state}"
    if task.pr is None:
        return "met"
    pr = prs.get(task.pr)
    if pr is None:
        known = "is gone" if forge_known else "cannot be looked up now"
        return f"waiting: its pull request {task.pr} {known}"
    if pr.state == "closed":
        return f"broken: its pull request {task.pr} was closed"
    if pr.state == "merged" or delivered:
        return "met"
    return f"waiting: its pull request {task.pr} is {pr.state}"


def _in_circles(graph: dict[str, tuple[str, ...]]) -> set[str]:
    """Return the tasks that depend on themselves through their dependencies."""
    # Repeatedly removing the tasks without remaining dependencies leaves the cycles and the tasks
    # that depend on them; the same in the other direction leaves only the cycles.
    left = {task: {o for o in others if o in graph} for task, others in graph.items()}
    for _ in range(2):
        while free := {task for task, others in left.items() if not others}:
            left = {t: others - free for t, others in left.items() if t not in free}
        turned: dict[str, set[str]] = {task: set() for task in left}
        for task, others in left.items():
            for other in others:
                turned[other].add(task)
        left = turned
    return set(left)
