"""What happens in a storm, decided by its seed alone: pure, and the same at every replay.

What a deed meets is not decided here: which processes live at that instant is the operating
system's choice. So a deed holds numbers, and picks by them among what it finds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

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


def setting(seed: str) -> Setting:
    """Return the project of a storm."""
    chance = random.Random(f"setting {seed}")
    return Setting(
        github=chance.random() < 0.5,
        auto_merge=chance.random() < 0.6,
        merge_method=chance.choice(("auto", "merge", "squash", "rebase")),
        dependencies=chance.choice(("merged", "delivered")),
        tasks=tuple(chance.random() for _ in range(chance.randint(4, 8))),
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


# --- what the agents do ------------------------------------------------------------------------

#: Words by which the checker knows that a script, and no fault, made an attempt fail.
SCRIPTED = "Scripted failure."
#: What a hook of the remote says that refuses every push.
REFUSED = "no pushes today"
#: The file that the project's check refuses.
BROKEN = "broken.txt"
_GOOD: dict[str, Any] = {"steps": [["work_once"]]}
#: Leaves a change that is not committed; what it holds is told by the run that did it.
LEAVE_A_CHANGE = "echo $ORCHESTRATOR_RUN_ID > dirty-$ORCHESTRATOR_RUN_ID.txt"
_LEAVE = ["call", "sh", "-c", LEAVE_A_CHANGE]
_FAILS = {
    "steps": [_LEAVE],
    "report": {"outcome": "failed", "summary": SCRIPTED},
}
_FIX = ["call", "git", "rm", "-q", "--ignore-unmatch", BROKEN]
_ASKS = {"steps": [], "report": {"outcome": "needs_human", "question": "Which?", "summary": "Q."}}
_NOTHING = {"steps": [], "report": {"outcome": "no_change", "summary": "Nothing to do."}}
#: The base's own lines of a file that both sides change are given up for the branch's.
_TAKE_OURS = ["call", "git", "merge", "-q", "--no-edit", "-X", "ours", "origin/main"]
#: What executions of one task do, one after the other; the last repeats. With weights.
TALES: tuple[tuple[int, list[dict[str, Any]]], ...] = (
    (6, [_GOOD]),
    # A change that is not committed for a while: a kill may come before its commit.
    (5, [{"steps": [_LEAVE, ["chatter", 1.0], ["work_once"], ["chatter", 1.0]]}]),
    (5, [_FAILS, _GOOD]),
    (1, [_FAILS]),
    (
        2,
        [
            # As the first README: a squash of what repairs this keeps nothing of its own.
            {"steps": [["write", BROKEN, "# A project\n"], ["commit", "broken"]]},
            {"steps": [_FIX, ["commit", "fixed"], ["work_once"]]},
        ],
    ),
    (2, [_ASKS, _GOOD]),
    (1, [_NOTHING]),
    (2, [{"steps": [["spawn", False, True], ["spawn", True, True], ["work_once"]]}]),
    (
        2,
        [
            {
                "steps": [
                    *(["git", "checkout", "-q", "--detach"], _LEAVE, ["commit", "left detached"]),
                    *(["git", "checkout", "-q", "-"], ["work_once"]),
                ]
            }
        ],
    ),
    (
        2,
        [
            {"steps": [["append", "app.py", "# an agent's\n"], ["work_once"]]},
            {"steps": [_TAKE_OURS, ["work_once"]]},
        ],
    ),
    (1, [_GOOD, {"steps": [["git", "commit", "-q", "--amend", "-m", "amended"]]}]),
)
#: What an agent does that adds tasks.
ADDS: list[dict[str, Any]] = [
    {"steps": [["call", "sh", "-c", 'orchestrator task add "From $ORCHESTRATOR_RUN_ID"']]}
]
REVIEWS: tuple[list[dict[str, Any]], ...] = (
    [{}],
    [{}],
    [{"report": {"outcome": "changes_requested", "feedback": "Shorter.", "summary": "No."}}, {}],
)


def tale(pick: float) -> list[dict[str, Any]]:
    """Return what executions of a task do; `pick` is from 0 to below 1."""
    tales = [tale for weight, tale in TALES for _ in range(weight)]
    return tales[int(pick * len(tales))]


def reviews(pick: float) -> list[dict[str, Any]]:
    """Return what reviews of a task's work do; `pick` is from 0 to below 1."""
    return REVIEWS[int(pick * len(REVIEWS))]
