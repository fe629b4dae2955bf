"""Git's locks of worktrees that a run has (`git worktree lock`): written as git writes them.

Read by commands that start no git, so this module imports next to nothing. Each lock is in git's
own folder for its worktree (gitrepository-layout(5), `worktrees/<id>/locked`).
"""

import itertools
import os
from collections.abc import Iterator

from orchestrator.git import place

#: How the reason of a lock begins that the product put on a worktree.
OURS = "orchestrator: "


def reason(run_id: str, agent: str) -> str:
    """Return the reason of the lock on the worktree of a run."""
    return f"{OURS}run {run_id} of {agent}"


def held(root: str) -> Iterator[tuple[str, str, str]]:
    """Yield the path of each worktree that is locked for a run, with the run's id and its agent.

    Also those that are gone: git keeps a folder of its own for each.
    """
    for folder in itertools.filterfalse(os.path.islink, place.of_worktrees(root)):
        match place.words(os.path.join(folder, "locked")).removeprefix(OURS).split():
            case ["run", run_id, "of", agent]:
                back = place.words(os.path.join(folder, "gitdir"))
                yield os.path.dirname(os.path.join(folder, back)), run_id, agent
