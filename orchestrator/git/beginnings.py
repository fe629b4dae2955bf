"""The commits that a history begins with, by which a project is known on several machines."""

import re
from collections.abc import Iterable

from orchestrator.git import remotes, repository
from orchestrator.git.base_branch import QUIETLY
from orchestrator.git.call import lines, run
from orchestrator.model.errors import OrchestratorError

#: What git says if the remote answers, and does not have a commit that was asked for.
_LACKS = "not our ref"


def first_commits(root: str) -> tuple[str, ...]:
    """Return the commits that branches of this repository begin with: they have no parent here.

    In a shallow clone, these are those at which its history is cut off. () without a commit, or if
    git fails.
    """
    try:
        words = ("rev-list", "--max-parents=0", "HEAD", "--branches", "--remotes", "--")
        done = run(root, *words)
        return tuple(lines(done.out)) if done.code == 0 else ()
    except OrchestratorError:
        return ()


def shared(root: str, commits: Iterable[str]) -> list[str] | None:
    """Return which of these commits of another clone this repository has; one of them is enough.

    A shallow clone asks its remotes. Returns None if it is not known: a remote gives no answer.
    """
    wanted = [each for each in commits if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", each)]
    try:
        here = [each for each in wanted if repository.resolve(root, f"{each}^{{commit}}")]
        if here or not repository.is_shallow(root):
            return here
        is_sure = True
        for remote in lines(run(root, "remote").out):
            for each in wanted:
                # Most often a commit without a parent: then nothing else of the clone changes.
                words = ("fetch", *QUIETLY, "--depth=1", remote, each)
                done = run(root, *words, timeout=remotes.TICK_TIMEOUT)
                if done.code == 0:
                    return [each]
                is_sure = is_sure and _LACKS in done.err
        return [] if is_sure else None
    except OrchestratorError:
        return None
