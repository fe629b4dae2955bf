"""What a remote says of its branches: runs that start together ask it once.

Each question takes a connection, and one run at a time asks (`base_branch.fetch`): behind fifty
others, a run would wait for fifty answers.
"""

import os
import time
from collections.abc import Sequence

from orchestrator.git import remotes
from orchestrator.layout import Layout
from orchestrator.system import files

#: Seconds for which an answer may serve other runs, and the bytes of the largest such answer.
KEPT = 10.0
MOST_BYTES = 1 << 20
#: Seconds by which the time of a file may be behind the clock (it is that of the kernel's last
#: tick).
_BEHIND = 0.01


def kept(layout: Layout, address: str, since: float, branches: Sequence[str]) -> dict[str, str]:
    """Return what a remote said of some branches, if it was asked after `since` (epoch seconds).

    {} without such an answer.
    """
    try:
        said = files.read_regular(_path(layout), MOST_BYTES).decode()
        first, _, answer = said.partition("\n")
        asked, _, of = first.partition(" ")
        is_new = since + _BEHIND < float(asked) <= time.time() < float(asked) + KEPT
    except (OSError, ValueError):  # no answer, a larger one, or a file that another program wrote
        return {}
    return remotes.picked(answer, branches) if is_new and of == address else {}


def ask(layout: Layout, address: str, branches: Sequence[str], timeout: float) -> dict[str, str]:
    """Ask a remote for the commits of some branches, and keep what it says of all branches.

    Raises SystemFault when it is out of reach.
    """
    asked = time.time()
    answer = remotes.heads(layout.root, address, timeout=timeout)
    content = f"{asked!r} {address}\n{answer}".encode()
    if len(content) <= MOST_BYTES:
        files.write_atomic(_path(layout), content, flush=False)
    return remotes.picked(answer, branches)


def _path(layout: Layout) -> str:
    return os.path.join(layout.cache, "remote-heads")
