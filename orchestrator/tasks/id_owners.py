"""Which file of the queue is a task, if several files have its id.

A task in a later state keeps its id, whatever a person drops into an earlier state. Of the files in
one state, the file that is named for the id keeps it.
"""

import os
from collections.abc import Collection, Iterable, Mapping

from orchestrator.model.work import STATES, Task, task_order
from orchestrator.tasks import names, stored_file
from orchestrator.tasks.names_cache import Row, is_other
from orchestrator.tasks.store import Listing, Malformed

#: From so many tasks on, a look at a whole folder is faster than one at each of their names in it.
MOST_ASKED = 500


def listing(
    state: str, folders: Mapping[str, str], found: Iterable[Task | Malformed | None]
) -> Listing:
    """Return the tasks of a state, from what each of its files says; `folders` is by state."""
    rivals: dict[str, list[Task]] = {}
    malformed = []
    for task in found:
        if isinstance(task, Malformed):
            malformed.append(task)
        elif task is not None:
            rivals.setdefault(task.id, []).append(task)
    tasks = []
    owners = _in_later_states(state, folders, rivals)
    for task_id, several in rivals.items():
        owner = owners.get(task_id)
        if owner is None:
            first = min(several, key=lambda t: (not t.where.endswith(f"/{t.id}.md"), t.where))
            tasks.append(first)
            owner = first.where
        malformed += [_refused(t.where, task_id, owner) for t in several if t.where != owner]
    return Listing(tuple(sorted(tasks, key=task_order)), tuple(sorted(malformed)))


def _in_later_states(
    state: str, folders: Mapping[str, str], ids: Collection[str]
) -> dict[str, str]:
    """Return the files in later states that are named for some of these ids, by id."""
    later = [folders[other] for other in STATES[STATES.index(state) + 1 :]]
    if len(ids) < MOST_ASKED:
        paths = ((task_id, f"{at}/{task_id}.md") for at in reversed(later) for task_id in ids)
        return {task_id: path for task_id, path in paths if os.path.lexists(path)}
    # Many files are looked for in the lists of the folders.
    there = ((at, name) for at in reversed(later) for name in names.listed(at))
    return {name[:-3]: f"{at}/{name}" for at, name in there if name[:-3] in ids}


def finished_malformed(
    state: str, folders: Mapping[str, str], rows: Mapping[str, Row]
) -> tuple[Malformed, ...]:
    """Return the files of a state that cannot be tasks; `rows` are its files (`names.Index`).

    Only the files are read whose rows do not say of which task they are.
    """
    later = {
        name: os.path.join(folders[other], name)
        for other in reversed(STATES[STATES.index(state) + 1 :])
        for name in names.listed(folders[other])
    }
    others = {name for name, row in rows.items() if is_other(row)}
    owners: dict[str, str] = {}
    malformed = []
    for name in sorted(others.union(filter(rows.__contains__, later))):
        path = os.path.join(folders[state], name)
        task = stored_file.summary(path, state) if name in others else None
        if isinstance(task, Malformed):
            malformed.append(task)
            continue
        task_id = task.id if task else name[:-3]
        is_named = f"{task_id}.md" in rows and f"{task_id}.md" not in others
        first = os.path.join(folders[state], f"{task_id}.md") if is_named else path
        owner = later.get(f"{task_id}.md") or owners.setdefault(task_id, first)
        if owner != path:
            malformed.append(_refused(path, task_id, owner))
    return tuple(malformed)


def _refused(path: str, task_id: str, owner: str) -> Malformed:
    return Malformed(path, f"its id {task_id} is already used by {owner}")
