"""What the client of a run is given: the money that it may cost, and git's settings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.layout import Layout
from orchestrator.model.config import Agent, Budgets, Config
from orchestrator.run import launch


@pytest.mark.parametrize(
    ("own", "run_usd", "task_usd", "expected"),
    [
        (None, None, None, None),
        (None, 5.0, None, 5.0),
        (2.0, 5.0, None, 2.0),
        (7.0, 5.0, None, 7.0),  # the agent's own cap replaces the usual one
        (None, None, 4.0, 3.0),  # its task has cost 1 USD
        (2.0, 5.0, 4.0, 2.0),
        (7.0, 5.0, 4.0, 3.0),
        (None, 5.0, 4.0, 3.0),
    ],
)
def test_a_run_may_cost_its_cap_and_no_more_than_what_is_left_for_its_task(
    own: float | None, run_usd: float | None, task_usd: float | None, expected: float | None
) -> None:
    job: Any = SimpleNamespace(
        agent=Agent("a", "implementer", 0)._replace(budget_usd=own),
        config=Config(budgets=Budgets(run_usd=run_usd, task_usd=task_usd)),
        task=SimpleNamespace(cost_usd=1.0),
    )
    assert launch._budget(job) == expected


def test_an_agents_git_asks_for_no_signature(project: Layout) -> None:
    job: Any = SimpleNamespace(layout=project, role=SimpleNamespace(delivers="pull_request"))
    settings = launch._agents_git(job, ())
    assert {name: settings[name] for name in settings if "gpg" in name.lower()} == {
        "commit.gpgSign": "false",
        "tag.gpgSign": "false",
    }
