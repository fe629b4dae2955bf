"""What a story of `tests/test_model.py` is made of: times, configurations, tasks, ends of runs."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import strategies as st
from reference import Task

#: The last Sundays of March and October 2031 at 01:00 UTC: the clocks change. And a plain day.
SPRING, AUTUMN, PLAIN = 1_932_598_800, 1_950_742_800, 1_940_000_400
STARTS = (SPRING - 5400, AUTUMN - 5400, PLAIN)
STEPS = (0, 1, 7, 60, 300, 1800, 5400, 8 * 3600, 86_400, -1, -60, -1800, -8 * 3600)
ROLES = {
    "impl-1": "implementer",
    "impl-2": "implementer",
    "impl-3": "implementer",
    "test-1": "tester",
    "rev-1": "reviewer",
    "rev-2": "reviewer",
    "pm-1": "product_manager",
    "night-1": "implementer",
}
BROKEN = (
    None,
    "agents: [",
    "agnets: []\n",
    "agents:\n  - {name: impl-1, role: implementer, interval_seconds: often}\n",
    "agents: []\nqueue_limits: {max_claimed: -1}\n",
    "\x00",
)
MALFORMED = {
    "not UTF-8": b"\xff\xfe no UTF-8",
    "no title": b"no title at all\n",
    "no role": b"# [no-role] A title\n\nPRIORITY: P0\n\n",
    "no id": b"# [bad id!] A title\n\nROLE: implement\n\n",
    "a hidden id": b"# [.hidden] A title\n\nROLE: implement\n\n",
    "too long": b"# [big] Too long\n\nROLE: implement\n\n" + b"x" * (1 << 20),
    "torn": b"---\nROLE: [implement\n---\n# [torn] Front matter\n",
    "a folder": b"",
}
VERDICTS = {
    "implementer": ("done", "done", "done", "no_change", "failed", "failed", "needs_human"),
    "tester": ("done", "done", "no_change", "failed", "needs_human"),
    "reviewer": ("approved", "changes_requested", "changes_requested", "failed", "needs_human"),
    "product_manager": ("no_change", "failed", "failed", "needs_human"),
}
ACCIDENTS = ("usage_limit", "system_fault", "interrupted", "interrupted", "stopped", None)
#: Above this many tasks in a story, nobody adds any.
MANY = 9

picks = st.integers(0, 59)


seldom = st.sampled_from((*(False,) * 15, True))
tasks = st.tuples(
    st.sampled_from(("implement", "implement", "implement", "test", "review", "cook")),
    st.sampled_from(("P0", "P1", "P2", "P2", "P3", "urgent")),
    st.integers(0, 3),
    st.one_of(st.just([]), st.just([]), st.just([]), st.lists(picks, max_size=2)),
    st.integers(0, 2),
)
targets = st.sampled_from(("incoming", "blocked", "done", "failed"))


@st.composite
def configurations(draw: Any) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(ROLES)), min_size=3, max_size=7, unique=True))
    every = st.sampled_from((1, 1, 60, 3600))
    agents = []
    for name in names:
        agent: dict[str, Any] = {"name": name, "role": ROLES[name]}
        if name == "night-1":
            agent["schedule"] = "30 2 * * *"
        else:
            agent["interval_seconds"] = draw(every)
        agents.append({**agent, "paused": draw(seldom)})
    return {
        "paused": draw(seldom),
        "queue_limits": {
            "max_incoming": draw(st.sampled_from((2, 20))),
            "max_claimed": draw(st.sampled_from((1, 2, 5))),
            "max_open_prs": draw(st.sampled_from((0, 1, 2, 10, 10))),
        },
        "max_starts": draw(st.sampled_from((1, 2, 20, 20))),
        "base_branch": "main",
        "forge": "local",
        "claude": {"command": ["never-started"]},
        "retry": {
            "max_attempts": draw(st.sampled_from((1, 2, 3))),
            "backoff_seconds": draw(st.sampled_from((0, 10, 100))),
            "max_backoff_seconds": draw(st.sampled_from((15, 300))),
        },
        "budgets": {
            "daily_usd": draw(st.sampled_from((None, None, None, 2))),
            "task_usd": draw(st.sampled_from((None, None, 1))),
        },
        "review": {
            "after": draw(st.sampled_from((["implement", "test"], ["implement"], []))),
            "max_rounds": draw(st.sampled_from((0, 1, 3))),
        },
        "agents": agents,
    }


def written(task: Task, body: str, front_matter: bool) -> bytes:
    """Return a task's file as a person writes it."""
    fields = {"ROLE": task.role, "PRIORITY": task.priority}
    fields["CREATED"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(task.created))
    fields["X_OF_MY_OWN"] = "kept"
    if task.depends_on:
        fields["DEPENDS_ON"] = ", ".join(task.depends_on)
    lines = "\n".join(f"{key}: {value}" for key, value in fields.items())
    title = f"# [{task.id}] A title of {task.id}"
    if front_matter:
        return f"---\n{lines}\n---\n{title}\n{body}".encode()
    return f"{title}\n\n{lines}\n\n{body}".encode()


def plain_configuration(*names: str, **changes: Any) -> dict[str, Any]:
    """Return a configuration in which these agents are held back by nothing."""
    return {
        "paused": False,
        "queue_limits": {"max_incoming": 20, "max_claimed": 5, "max_open_prs": 10},
        "max_starts": 20,
        "base_branch": "main",
        "forge": "local",
        "claude": {"command": ["never-started"]},
        "retry": {"max_attempts": 2, "backoff_seconds": 0, "max_backoff_seconds": 300},
        "budgets": {"daily_usd": None, "task_usd": None},
        "review": {"after": ["implement"], "max_rounds": 3},
        "agents": [
            {"name": name, "role": ROLES[name], "interval_seconds": 1, "paused": False}
            for name in names
        ],
        **changes,
    }
