"""What each role must not be able to do, as a table, asked of the real client.

One run a role: the model tries everything, and the client's answers and the disk tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_real_client import (  # noqa: F401 (fixtures)
    IMPLEMENTER,
    MANAGER,
    REVIEWER,
    TESTER,
    Project,
    api,
    bash,
    project,
    report,
    results,
)

from orchestrator.config import roles
from orchestrator.model.config import Role

DENIED = ("denied", "inside a run", "--restricted confines", "No such tool", "not enabled")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Role]:
    known, problems = roles.load(str(tmp_path_factory.mktemp("none") / "roles"))
    assert not problems
    return known


# --- the lists ---------------------------------------------------------------------------------


def test_no_role_has_a_tool_that_outlives_its_run_or_reaches_the_network(
    shipped: dict[str, Role],
) -> None:
    for role in shipped.values():
        assert set(role.tools) <= {"Bash", "Edit", "Read", "Write", "Glob", "Grep"}, role.name


def test_file_tools_write_below_the_worktree_only(shipped: dict[str, Role]) -> None:
    for role in shipped.values():
        writing = {rule for rule in role.allow if rule.startswith(("Edit", "Write"))}
        expected = {"Edit(./**)", "Write(./**)"} if role.delivers == "pull_request" else set()
        assert writing == expected, role.name


def test_roles_that_read_may_call_what_is_named_and_it_is_short(shipped: dict[str, Role]) -> None:
    rules = {name: {r for r in shipped[name].allow if r.startswith("Bash")} for name in shipped}
    assert rules["reviewer"] == set()
    assert rules["product_manager"] == {
        "Bash(orchestrator task add *)",
        "Bash(orchestrator task list *)",
        "Bash(orchestrator task show *)",
        "Bash(orchestrator status *)",
    }


# --- asked of the real client ------------------------------------------------------------------


def write(path: Path) -> dict[str, Any]:
    return {"name": "Write", "input": {"file_path": str(path), "content": "x"}}


def edit(path: Path) -> dict[str, Any]:
    old = path.read_text()
    return {"name": "Edit", "input": {"file_path": str(path), "old_string": old, "new_string": "x"}}


def read(path: Path) -> dict[str, Any]:
    return {"name": "Read", "input": {"file_path": str(path)}}


def forbidden(project: Project, agent: str) -> list[dict[str, Any]]:  # noqa: F811
    """What no role may do."""
    hidden, there = project.hidden, project.worktree(agent)
    other = hidden / "agents" / "other"
    return [
        bash("git push origin HEAD:refs/heads/sneaked"),
        bash("gh pr merge 1"),
        bash("gh auth token"),
        bash("git config core.fsmonitor /bin/false"),
        bash("git worktree add ../sneaked"),
        bash("orchestrator pr merge 1"),
        bash("orchestrator agent set ann budget_usd=1000"),
        bash("orchestrator task move TASK-1 done"),
        bash("orchestrator agent resume --all"),
        bash("orchestrator inbox approve 1"),
        write(other / "state.json"),
        write(there / ".." / "sneaked.json"),
        write(project.queue / "incoming" / "SNEAKED.md"),
        write(project.root / "sneaked.txt"),
        write(project.home / ".bashrc"),
        # The client takes an edit of what was read only; roles that read must not even read it.
        read(hidden / "agents.yaml"),
        edit(hidden / "agents.yaml"),
        read(project.root / "app.txt"),
        edit(project.root / "app.txt"),
    ]


READS_ONLY = [
    bash("touch sneaked.txt"),
    bash("git log --output=sneaked.txt"),
    bash("git log -1 > sneaked.txt"),
    bash("git commit --allow-empty -m sneaked"),
    bash("git branch sneaked"),
    bash("sh -c 'touch sneaked.txt'"),
    bash('python3 -c \'open("sneaked.txt", "w")\''),
]
TABLE = [(IMPLEMENTER, "implement"), (TESTER, "test"), (REVIEWER, "review"), (MANAGER, None)]


@pytest.mark.client
@pytest.mark.parametrize(("agent", "takes"), TABLE, ids=[str(a["role"]) for a, _ in TABLE])
def test_what_a_role_must_not_do_is_refused(
    project: Project,  # noqa: F811
    agent: dict[str, Any],
    takes: str | None,
) -> None:
    name = str(agent["name"])
    project.configure(agent)
    (project.hidden / "agents" / "other").mkdir(parents=True)
    if takes:
        project.add("TASK-1", "Try it all", role=takes)
    reads_only = takes in ("review", None)
    calls = forbidden(project, name) + (READS_ONLY if reads_only else [])
    if reads_only:
        calls += [write(project.worktree(name) / "sneaked.txt"), read(project.home / "secret")]
    (project.home / "secret").write_text("canary-of-the-home\n")
    before = (project.hidden / "agents.yaml").read_bytes(), project.git("rev-parse", "--all")
    project.api.script("", [*calls, report("failed")])
    project.run_once()
    said = results(project.api.conversations()[-1])
    assert len(said) == len(calls)
    for call, answer in zip(calls, said, strict=True):
        if call["name"] == "Read" and not reads_only:
            continue
        assert any(word in answer for word in DENIED), (call, answer)
        assert "canary-of-the-home" not in answer
    assert not list(project.folder.rglob("*sneaked*"))
    assert not list(project.folder.rglob("SNEAKED*"))
    assert not (project.home / ".bashrc").exists()
    assert list(project.remote_branches()) == ["main"]
    after = (project.hidden / "agents.yaml").read_bytes()
    assert after == before[0]
