"""What killed processes leave: temporary files and folders, git's locks, refs of a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator

from orchestrator.git import abandoned_locks, stashes
from orchestrator.layout import Layout
from orchestrator.model.fields import NamedTuple
from orchestrator.project import agent_memory, run_record, unsettled
from orchestrator.pulls import landing
from orchestrator.system import files, left_files, locks
from orchestrator.tasks import stores

#: Seconds after which a temporary file has lost the process that wrote it.
ABANDONED = 3600.0


class Item(NamedTuple):
    """One thing that the product made; `drop` says whether it is removed, `why` the reason."""

    #: worktree, set-aside, branch, rescue, damaged, leftover or lock.
    kind: str
    name: str
    drop: bool
    why: str
    #: The commit of a branch or a rescue ref when it was judged.
    commit: str = ""


def found(layout: Layout, now: float) -> list[Item]:
    """Judge temporary files and folders, and held stashes: a killed process leaves them."""
    items = []
    # Before the look at the runs: a run that begins after that look has no refs among these.
    held = stashes.held(layout.root)
    at_work = unsettled.runs(layout).values()
    for path in folders(layout.cache, "base-"):
        run_id = os.path.basename(path).removeprefix("base-")
        in_use = run_id in at_work or _is_at_work(layout, run_id)
        why = "its run's checks may be using it" if in_use else "its run has finished"
        items.append(Item("leftover", path, not in_use, why))
    for path in folders(layout.cache, "landing-"):
        in_use = locks.is_locked(landing.lock_path(layout))
        why = "something is being merged" if in_use else "nothing is being merged"
        items.append(Item("leftover", path, not in_use, why))
    items += _held(layout, held, at_work)
    why = "its writer was killed"
    items += [Item("leftover", path, True, why) for path in _beside(layout, now - ABANDONED)]
    return items


def git_locks(common: str) -> list[Item]:
    """Judge git's lock files in a common git folder, except for those of the person's checkout."""
    there = [*abandoned_locks.shared(common), *abandoned_locks.of_upkeep(common)]
    in_use = bool(there and abandoned_locks.users(common, there))
    why = "a running git may hold it" if in_use else "a git that was killed left it"
    return [Item("lock", path, not in_use, why) for path in there]


def _held(layout: Layout, held: dict[str, list[str]], at_work: Collection[str]) -> Iterator[Item]:
    """Judge the refs that hold a person's stashes during a run."""
    listed = stashes.current(layout.root) if held else {}
    for run_id, commits in held.items():
        drop, why = True, "its run has finished"
        lost = [commit for commit in commits if commit not in listed]
        if run_id in at_work or _is_at_work(layout, run_id):
            drop, why = False, "its run may take away what it holds"
        elif lost:
            ref = shlex.quote(f"{stashes.HELD}{run_id}/{lost[0]}")
            drop, why = False, f"your stashes have lost {lost[0][:12]}, or you dropped it"
            why += f"; to get it back: git stash store {lost[0]}; to drop: git update-ref -d {ref}"
        yield Item("leftover", f"{stashes.HELD}{run_id}", drop, why)


def _is_at_work(layout: Layout, run_id: str) -> bool:
    records = (run_record.read(layout.run(name, run_id)) for name in agent_memory.names(layout))
    return any(record is not None and record.is_at_work() for record in records)


def _beside(layout: Layout, before: float) -> list[str]:
    """Return the temporary files that are left in the folders where the product writes."""
    places = [layout.home, layout.shared, layout.prs, layout.cache]
    for name in agent_memory.names(layout):
        places += [layout.agent(name), *folders(layout.runs(name), "")]
    paths = [path for folder in places for path in left_files.in_folder(folder, before)]
    store = stores.of_project(layout)
    if store.host is None and os.path.exists(layout.moving_here):
        paths.append(layout.moving_here)  # the move was killed after its last step
    return [*store.leftovers(before), *paths]


def folders(where: str, prefix: str) -> list[str]:
    """Return the paths of a folder's sub-folders whose names begin with `prefix`."""
    return [os.path.join(where, name) for name in files.folders(where) if name.startswith(prefix)]
