"""What the agents of a storm do: scripts of the client's stand-in, picked by numbers."""

from __future__ import annotations

from typing import Any

from chaos import odd

#: Words by which the checker knows that a script, and no fault, made an attempt fail.
SCRIPTED = "Scripted failure."
#: The file that the project's check refuses.
BROKEN = "broken.txt"
#: The message of the commit that adds that file.
BREAKS = "broken"
_GOOD: dict[str, Any] = {"steps": [["work_once"]]}
#: Leaves a change that is not committed, and prints its blob as `odd` does.
LEAVE_A_CHANGE = (
    "echo $ORCHESTRATOR_RUN_ID > dirty-$ORCHESTRATOR_RUN_ID.txt && "
    'echo "left $(git hash-object dirty-$ORCHESTRATOR_RUN_ID.txt)"'
)
_LEAVE = ["call", "sh", "-c", LEAVE_A_CHANGE]
_FAILED = {"outcome": "failed", "summary": SCRIPTED}
_FAILS: dict[str, Any] = {"steps": [_LEAVE], "report": _FAILED}
_FIX = ["call", "git", "rm", "-q", "--ignore-unmatch", BROKEN]
_ASKS = {"steps": [], "report": {"outcome": "needs_human", "question": "Which?", "summary": "Q."}}
_NOTHING = {"steps": [], "report": {"outcome": "no_change", "summary": "Nothing to do."}}
#: The base's own lines of a file that both sides change are given up for the branch's.
_TAKE_OURS = ["call", "git", "merge", "-q", "--no-edit", "-X", "ours", "origin/main"]
Tale = list[dict[str, Any]]
#: What executions of one task do, one after the other; the last repeats. With weights.
_PLAIN: tuple[tuple[int, Tale], ...] = (
    (12, [_GOOD]),
    # A change that is not committed for a while: a kill may come before its commit.
    (10, [{"steps": [_LEAVE, ["chatter", 1.0], ["work_once"], ["chatter", 1.0]]}]),
    (10, [_FAILS, _GOOD]),
    (2, [_FAILS]),
    (
        4,
        [
            # As the first README: a squash of what repairs this keeps nothing of its own.
            {"steps": [["write", BROKEN, "# A project\n"], ["commit", BREAKS]]},
            {"steps": [_FIX, ["commit", "fixed"], ["work_once"]]},
        ],
    ),
    (4, [_ASKS, _GOOD]),
    (2, [_NOTHING]),
    (4, [{"steps": [["spawn", False, True], ["spawn", True, True], ["work_once"]]}]),
    (
        4,
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
        4,
        [
            {"steps": [["append", "app.py", "# an agent's\n"], ["work_once"]]},
            {"steps": [_TAKE_OURS, ["work_once"]]},
        ],
    ),
    (2, [_GOOD, {"steps": [["git", "commit", "-q", "--amend", "-m", "amended"]]}]),
)


def _odd(way: odd.Way) -> tuple[tuple[int, Tale], ...]:
    """Return what agents do that leave a worktree in this way, after work and without work."""
    leave = ["call", *odd.argv(way)]
    return (
        (1, [{"steps": [["work_once"], leave]}, _GOOD]),
        (1, [{"steps": [leave], "report": _FAILED}, _GOOD]),
    )


TALES = (*_PLAIN, *(tale for way in odd.WAYS for tale in _odd(way)))
#: The submodule of a project that has one.
LIBRARY = "lib"
#: Takes in the base's commit of the submodule, and puts a commit of its own on top.
_BUMP = (
    "git merge -q --no-edit origin/main || { git add -A && git commit -qm merged; }; "
    f"git submodule --quiet update; cd {LIBRARY} && here=$ORCHESTRATOR_RUN_ID.txt && "
    'echo "$here of the library" > "$here" && git add -A && git commit -qm "of $here" && '
    f'echo "left $(git hash-object "$here")" && cd .. && git add {LIBRARY} && git commit -qm bump'
)
#: Leaves a commit and a change in the submodule, and does not name them in the project.
_LEAVE_INSIDE = (
    f"cd {LIBRARY} && echo $ORCHESTRATOR_RUN_ID committed > inside.txt && git add -A && "
    'git commit -qm inside && echo "left $(git hash-object inside.txt)" && '
    'echo $ORCHESTRATOR_RUN_ID changed > inside.txt && echo "left $(git hash-object inside.txt)"'
)
_IN_THE_LIBRARY: tuple[Tale, ...] = (
    [{"steps": [["call", "sh", "-c", _BUMP], ["work_once"]]}, _GOOD],
    [{"steps": [["call", "sh", "-c", _LEAVE_INSIDE]], "report": _FAILED}, _GOOD],
    [{"steps": [["work_once"], ["call", "sh", "-c", _LEAVE_INSIDE]]}],
    [{"steps": [["work_once"], ["call", "git", "rm", "-q", LIBRARY]]}],
    [{"steps": [["call", "rm", "-f", f"{LIBRARY}/.git"], ["work_once"]]}, _GOOD],
)
#: What an agent does that adds tasks.
ADDS: Tale = [
    {"steps": [["call", "sh", "-c", 'orchestrator task add "From $ORCHESTRATOR_RUN_ID"']]}
]
REVIEWS: tuple[Tale, ...] = (
    [{}],
    [{}],
    [{"report": {"outcome": "changes_requested", "feedback": "Shorter.", "summary": "No."}}, {}],
)


def tale(pick: float, *, library: bool = False) -> Tale:
    """Return what executions of a task do; `pick` is from 0 to below 1.

    `library`: whether the project has a submodule, which a third of the tasks then changes.
    """
    if library and pick < 1 / 3:
        return _IN_THE_LIBRARY[int(pick * 3 * len(_IN_THE_LIBRARY))]
    tales = [tale for weight, tale in TALES for _ in range(weight)]
    return tales[int(pick * len(tales))]


def reviews(pick: float) -> Tale:
    """Return what reviews of a task's work do; `pick` is from 0 to below 1."""
    return REVIEWS[int(pick * len(REVIEWS))]
