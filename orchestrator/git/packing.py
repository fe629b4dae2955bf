"""The packing of loose refs: with thousands of them, each look at refs reads thousands of files.

Git's own maintenance is off in the product's calls: it would work in a person's repository at any
moment, for minutes. The product does only the cheap part of it.
"""

import os

from orchestrator.git import abandoned_locks, place
from orchestrator.git.call import run
from orchestrator.system import files

#: Loose refs from which they are packed; a look at so many takes some milliseconds.
LOOSE = 500
#: Seconds for the packing; 500 refs take milliseconds. A repository with 100,000 of them, which is
#: packed for the first time, can take minutes on a busy disk: git must not be killed then.
TIMEOUT = 3600.0


def pack(root: str) -> bool:
    """Pack the refs of a repository if many are loose; return whether that was done.

    Git keeps every ref readable at each instant of it, also if it is killed (git-pack-refs(1)).
    Another git that wants to write packed refs waits for it. Raises SystemFault.
    """
    folder = place.common_folder(root)
    _remove_torn(folder)
    if not _are_many_loose(os.path.join(folder, "refs")):
        return False
    return run(root, "pack-refs", "--all", timeout=TIMEOUT).code == 0


def _remove_torn(folder: str) -> None:
    """Remove what a git that was killed left of new packed refs: no git would write them again.

    Git writes that file under a lock.
    """
    lock = os.path.join(folder, "packed-refs.lock")
    if os.path.exists(f"{folder}/packed-refs.new") and abandoned_locks.free([lock], folder):
        files.remove(f"{folder}/packed-refs.new")


def _are_many_loose(refs: str) -> bool:
    number = 0
    for _, _, names in os.walk(refs):
        number += len(names)
        if number >= LOOSE:
            return True
    return False
