"""Dependencies: whether a task that another task waits for is finished, and cycles. Pure."""

from collections.abc import Collection, Mapping, Sequence

from orchestrator.model import PullRequest, Task


def verdicts(
    wanted: Collection[str],
    found: Mapping[str, Task],
    waiting: Collection[Task],
    prs: Collection[PullRequest] | None,
) -> dict[str, str]:
    """Return "met", "waiting: ..." or "broken: ..." for each wanted task id.

    `found` has the tasks of the wanted ids that exist, and their parts. `prs` is None if the forge
    did not list its pull requests.
    """
    by_id = {pr.id: pr for pr in prs or ()}
    # A task that was split waits for its parts.
    split = [task for task in found.values() if task.parts]
    graph = {task.id: (*task.depends_on, *task.parts) for task in (*split, *waiting)}
    circles = _in_circles(graph)
    return {
        task_id: "broken: it is part of a cycle"
        if task_id in circles
        else _dependency(found.get(task_id), found, by_id, prs is not None)
        for task_id in wanted
    }


def progress(parts: Sequence[Task]) -> str:
    """Return how far a split task is, for people: `split into 3 parts, 1 finished`."""
    finished = sum(part.state in ("done", "failed") for part in parts)
    return f"split into {len(parts)} part{'s' * (len(parts) != 1)}, {finished} finished"


def _dependency(
    task: Task | None,
    found: Mapping[str, Task],
    prs: dict[str, PullRequest],
    forge_known: bool,
) -> str:
    if task is None:
        return "broken: there is no such task"
    if task.state == "failed":
        return f"broken: it failed ({task.reason or 'no reason given'})"
    if task.state == "blocked" and task.parts:
        return f"waiting: it is {progress([found[p] for p in task.parts if p in found])}"
    if task.state != "done":
        return f"waiting: it is in {task.state}"
    own = _pull_request(task, prs, forge_known)
    # Without the task itself, so that a history edited by hand cannot make a loop.
    others = {key: other for key, other in found.items() if key != task.id} if task.parts else {}
    for part in task.parts if own == "met" else ():
        word, _, why = _dependency(others.get(part), others, prs, forge_known).partition(": ")
        if word != "met":
            return f"{word}: its part {part}: {why}"
    return own


def _pull_request(task: Task, prs: dict[str, PullRequest], forge_known: bool) -> str:
    if task.pr is None:
        return "met"
    pr = prs.get(task.pr)
    if pr is None:
        known = "is gone" if forge_known else "cannot be looked up now"
        return f"waiting: its pull request {task.pr} {known}"
    if pr.state == "closed":
        return f"broken: its pull request {task.pr} was closed"
    return "met" if pr.state == "merged" else f"waiting: its pull request {task.pr} is {pr.state}"


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
