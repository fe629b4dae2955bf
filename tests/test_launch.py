"""What the client of a run is given: the money that it may cost, and git's settings."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rows import each_row

from orchestrator.layout import Layout
from orchestrator.model.config import Agent, Budgets, Config
from orchestrator.run import launch
from orchestrator.system import files


@each_row(
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


def job_of(project: Layout, run: str = "20260101T000000Z-1") -> Any:
    role, record = SimpleNamespace(delivers="pull_request"), SimpleNamespace(id=run)
    return SimpleNamespace(layout=project, role=role, record=record)


def test_an_agents_git_asks_for_no_signature(project: Layout) -> None:
    settings = launch._agents_git(job_of(project), ())
    assert {name: settings[name] for name in settings if "gpg" in name.lower()} == {
        "commit.gpgSign": "false",
        "tag.gpgSign": "false",
    }


def test_in_one_run_of_sixteen_an_agents_commits_let_git_pack_the_repository(
    project: Layout,
) -> None:
    made = [launch._agents_git(job_of(project, f"run-{digit:x}"), ()) for digit in range(16)]
    told = [settings.get("maintenance.auto") for settings in made]
    assert told == [None, *["false"] * 15]


def test_what_closes_remotes_to_an_agents_git_is_written_once_and_again_after_a_change(
    project: Layout, remote: Path
) -> None:
    job: Any = SimpleNamespace(layout=project, agent=Agent("impl", "implementer", 0))
    files.make_folder(project.agent(job.agent.name))
    told = launch._closed_remotes(job)
    path = Path(told["GIT_CONFIG_SYSTEM"])
    first, text = path.stat().st_ino, path.read_text()
    launch._closed_remotes(job)
    assert path.stat().st_ino == first
    path.unlink()
    os.mkfifo(path)
    launch._closed_remotes(job)
    assert path.read_text() == text
