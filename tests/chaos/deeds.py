"""What happens in a storm, decided by its seed alone: pure, and the same at every replay.

What a deed meets is not decided here: which processes live at that instant is the operating
system's choice. So a deed holds numbers, and picks by them among what it finds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

Found = TypeVar("Found")

#: What is done to processes, the clock, the disk, the remote and GitHub, with weights.
FAULTS = {
    "kill_tick": 5,
    "kill_supervisor": 7,
    "kill_client": 6,
    "kill_run": 4,
    "kill_git": 12,
    "stop_tick": 2,
    "stop_supervisor": 2,
    "stop_client": 2,
    "many_ticks": 4,
    "move_clock": 4,
    "fill_disk": 3,
    "disk_read_only": 2,
    "remote_away": 3,
    "remote_refuses": 2,
    "remote_hook_killed": 2,
    "remote_slow": 2,
    "github_fails": 4,
    "github_hangs": 2,
    "hold_lock": 4,
    "lack_memory": 3,
    "upgrade": 2,
    "rename_base": 2,
}
#: What people do, with weights.
PEOPLE = {
    "add_task": 24,
    "edit_task": 2,
    "retry_task": 3,
    "cancel_task": 2,
    "move_task": 1,
    "pause_agent": 2,
    "resume_agents": 5,
    "pause_all": 1,
    "resume_all": 3,
    "stop_agent": 1,
    "run_agent": 1,
    "set_limits": 2,
    "break_configuration": 2,
    "answer": 4,
    "approve": 4,
    "request_changes": 2,
    "merge": 4,
    "close": 1,
    "push_fix_up": 3,
    "rebase_branch": 2,
    "merge_by_hand": 3,
    "delete_branch": 1,
    "push_to_base": 3,
    "edit_checkout": 4,
    "git_gc": 2,
    "git_prune": 1,
    "git_repack": 2,
    "git_tidy": 2,
    "own_branch": 3,
    "look": 3,
    "clean": 2,
}
WEIGHTS = {**FAULTS, **PEOPLE}
#: Deeds that a storm needs root for.
ROOT = ("fill_disk", "disk_read_only")
#: Deeds for which the project must be on GitHub.
GITHUB = ("github_fails", "github_hangs")


class Deed(NamedTuple):
    """One thing that happens."""

    number: int
    kind: str
    #: From 0 to below 1: which of what is there.
    pick: float
    #: From 0 to below 1: how.
    how: float
    #: Seconds until the next deed.
    pause: float
    #: For how many deeds a fault lasts.
    lasts: int

    def of(self, found: Sequence[Found]) -> Found:
        """Return the one of `found` (not empty) that the deed picks."""
        return found[int(self.pick * len(found))]

    def way(self, ways: Sequence[Found]) -> Found:
        """Return one of `ways` (not empty), independently of `of`."""
        return ways[int(self.how * len(ways))]


class Setting(NamedTuple):
    """The project that a storm is played in."""

    github: bool
    auto_merge: bool
    merge_method: str
    dependencies: str
    #: The tasks that are there at its beginning, as picks of their tales.
    tasks: tuple[float, ...]
    #: Whether the project has a submodule.
    library: bool


def setting(seed: str) -> Setting:
    """Return the project of a storm."""
    chance = random.Random(f"setting {seed}")
    return Setting(
        github=chance.random() < 0.5,
        auto_merge=chance.random() < 0.6,
        merge_method=chance.choice(("auto", "merge", "squash", "rebase")),
        dependencies=chance.choice(("merged", "delivered")),
        tasks=tuple(chance.random() for _ in range(chance.randint(4, 8))),
        library=chance.random() < 0.4,
    )


def deeds(seed: str, count: int) -> list[Deed]:
    """Return what happens in a storm: its first `count` deeds."""
    chance = random.Random(f"deeds {seed}")
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    return [
        Deed(
            number,
            chance.choices(kinds, weights)[0],
            chance.random(),
            chance.random(),
            round(chance.uniform(0.05, 0.7), 2),
            chance.randint(1, 4),
        )
        for number in range(count)
    ]
