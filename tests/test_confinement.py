"""`claude.sandbox: true`: what the client is told, and what its commands can then do.

The settings are always tested. That they hold is asked of the real client, where bubblewrap works.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import needs
import pytest
from harness import World
from test_real_client import (  # noqa: F401 (fixtures)
    IMPLEMENTER,
    REVIEWER,
    Project,
    api,
    bash,
    project,
    report,
    results,
)

from orchestrator.client.claude import probe, sandbox
from orchestrator.client.claude.adapter import Claude
from orchestrator.model.config import Config

world = harness.world


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that is not below /dev, which a sandbox makes anew."""
    with tempfile.TemporaryDirectory(prefix="confined-", dir="/var/tmp") as folder:
        yield Path(folder).resolve()


@functools.cache
def refusal(bwrap: str) -> str:
    """Return what bwrap says where the machine lets it make no sandbox; "" where it can."""
    words = (bwrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
    done = subprocess.run((*words, "true"), capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


@pytest.fixture
def bwrap() -> None:
    if sys.platform != "linux":
        pytest.skip("the sandbox is tried on Linux only")
    needs.program("socat", "socat")
    refused = refusal(needs.program("bwrap", "bubblewrap"))
    if refused:
        pytest.skip(f"bwrap cannot run here: {refused}")


def told(world: World, **config: Any) -> dict[str, Any]:
    """Run one task with a configuration; return the settings that its client was given."""
    world.create(**config)
    role = config["agents"][0]["role"] if "agents" in config else "implementer"
    task = world.add("Do it", {"implementer": "implement", "reviewer": "review"}[role])
    world.tick_until(lambda: world.starts(task))
    [launch] = world.home_folder.glob("agents/*/runs/*/launch.json")
    argv = json.loads(launch.read_text())["argv"]
    return dict(json.loads(argv[argv.index("--settings") + 1]))


COMMAND = [*harness.PYTHON, str(harness.FAKE_CLIENT)]


def test_a_sandbox_that_is_wanted_is_asked_for_without_a_way_out(world: World) -> None:
    world.environment["ANTHROPIC_API_KEY"] = "x"
    settings = told(world, claude={"command": COMMAND, "sandbox": True})
    box = settings["sandbox"]
    assert box["enabled"] is True
    assert box["failIfUnavailable"] is True
    assert box["allowUnsandboxedCommands"] is False
    git_folder = str(world.root / ".git")
    assert box["filesystem"]["allowWrite"] == [git_folder]
    own = (folder.name for folder in (world.root / ".git" / "worktrees").iterdir())
    leading = [f"worktrees/{name}/{file}" for name in own for file in ("commondir", "gitdir")]
    assert leading
    for name in ("hooks", "config", "orchestrator.json", "HEAD", "index", *leading):
        assert os.path.join(git_folder, name) in box["filesystem"]["denyWrite"]
    assert os.path.join(git_folder, "refs/stash") not in box["filesystem"]["denyWrite"]
    assert {"name": "ANTHROPIC_API_KEY", "mode": "deny"} in box["credentials"]["envVars"]


def test_without_the_word_the_client_is_told_nothing_of_a_sandbox(world: World) -> None:
    assert "sandbox" not in told(world)


def test_a_role_that_only_reads_needs_none(world: World) -> None:
    agents = [World.agent("rex", "reviewer")]
    settings = told(world, claude={"command": COMMAND, "sandbox": True}, agents=agents)
    assert "sandbox" not in settings


def test_the_persons_own_ignored_files_stay_ignored(world: World) -> None:
    world.create(claude={"command": COMMAND, "sandbox": True})
    own = world.root.parent / "ignored"
    own.write_text("*.log\nsecret")
    world.git("config", "core.excludesFile", str(own))
    task = world.add("Do it")
    world.tick_until(lambda: world.starts(task))
    [ignore] = world.home_folder.glob("agents/*/runs/*/ignore")
    assert ignore.read_text().startswith("*.log\nsecret\n/.bash_profile\n")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS brings its own sandbox")
def test_the_doctor_names_the_programs_that_are_missing(tmp_path: Path) -> None:
    found = probe.sandbox_programs(Claude(), {"PATH": str(tmp_path)})
    assert (found.code, found.level) == ("sandbox", "fail")
    assert "bwrap and socat" in found.message
    for name in sandbox.PROGRAMS:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert probe.sandbox_programs(Claude(), {"PATH": str(tmp_path)}).level == "ok"
    assert Config().client_sandbox is False


# --- asked of the real client ------------------------------------------------------------------

Fixture = pytest.mark.usefixtures("bwrap")


def configure(project: Project, *agents: dict[str, Any]) -> None:  # noqa: F811
    project.configure(*agents, claude={"command": [str(project.client)], "sandbox": True})


@pytest.mark.client
@Fixture
def test_a_confined_agent_works_and_reaches_nothing_else(project: Project) -> None:  # noqa: F811
    configure(project, IMPLEMENTER)
    project.add("TASK-1", "Make two a 2")
    outside, hidden = project.folder / "outside", project.hidden
    git_folder = project.root / ".git"
    home = project.home / ".bashrc"
    attempts = [
        f"touch {outside}", f"touch {home}", f"touch {project.root}/app.txt.new",
        f"touch {hidden}/shared/queue/incoming/X.md", f"touch {hidden}/events.jsonl",
        f"touch {hidden}/agents/other", f"echo >> {hidden}/agents.yaml",
        f"touch {git_folder}/hooks/post-commit", f"touch {git_folder}/config",
        f"touch {git_folder}/orchestrator.json", "git config core.fsmonitor /bin/false",
        f"echo x >>{git_folder}/HEAD", f"rm {git_folder}/index",
        f"sh -c 'for f in {git_folder}/worktrees/*/commondir; do echo x >$f || exit 1; done'",
        f"sh -c 'for f in {git_folder}/worktrees/*; do echo >$f/config.worktree || exit 1; done'",
        f"sh -c 'touch {outside}'", "curl -s -m 2 http://127.0.0.1:1/",
    ]  # fmt: skip
    project.api.script("", [
        *map(bash, attempts),
        {"name": "Write", "input": {"file_path": str(outside), "content": "x"}},
        {"name": "Bash", "input": {"command": f"touch {outside}", "description": "x",
                                   "dangerouslyDisableSandbox": True}},
        bash("env"),
        bash("cat /proc/*/environ | tr '\\0' '\\n' | grep -c ANTHROPIC_API_KEY"),
        bash("echo 2 > app.txt && echo x > $TMPDIR/x && git add --all && git commit -qm Two"),
        bash("git status --short"),
        bash("orchestrator task add --title 'A next one' --role implement"),
        report("done"),
    ])  # fmt: skip
    before = (git_folder / "config").read_bytes(), (hidden / "agents.yaml").read_bytes()
    project.run_once()
    said = results(project.api.conversations()[-1])
    for attempt, answer in zip(attempts, said, strict=False):
        refused = (
            "Read-only", "denied", "could not", "Exit code", "can't open", "Permission", "busy",
        )  # fmt: skip
        assert any(word in answer for word in refused), (attempt, answer)
    assert not outside.exists()
    assert not home.exists()
    assert not (git_folder / "hooks" / "post-commit").exists()
    assert not list((hidden / "agents").glob("other"))
    assert before == ((git_folder / "config").read_bytes(), (hidden / "agents.yaml").read_bytes())
    environment, count, _, status, _ = said[len(attempts) + 2 :][:5]
    assert "ANTHROPIC_API_KEY" not in environment
    assert count.splitlines()[-1] == "0" or "Exit code" in count
    assert status in ("", "(Bash completed with no output)")
    # And its work is delivered like any other.
    assert project.tasks("done") == ["TASK-1"], project.story()
    head = project.pull_request()["head"]
    assert project.git("diff", "--name-only", "main", head) == "app.txt"
    # The follow-up came into the queue by our own command, which stands outside.
    titles = [path.read_text() for path in (hidden / "shared/queue/incoming").glob("*.md")]
    assert any("A next one" in text for text in titles)


@pytest.mark.client
@Fixture
def test_a_reviewer_is_not_confined_and_still_writes_nothing(project: Project) -> None:  # noqa: F811
    configure(project, REVIEWER)
    project.add("TASK-1", "Look", role="review")
    target = project.folder / "outside"
    project.api.script("", [bash(f"touch {target}"), bash("git log -1 --format=%s"),
                            report("approved")])  # fmt: skip
    project.run_once()
    said = results(project.api.conversations()[-1])
    assert "denied" in said[0]
    assert "Set orchestrator up" in said[1]
    assert not target.exists()


@pytest.mark.client
@pytest.mark.skipif(sys.platform != "linux", reason="macOS brings its own sandbox")
def test_where_no_sandbox_can_start_no_agent_does_and_no_task_pays(
    project: Project,  # noqa: F811
    tmp_path: Path,
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "sh", "bash", "env", "cat", "ls", "uname", "which", "ps"):
        found = shutil.which(name)
        if found:
            (tools / name).write_text(f'#!/bin/sh\nexec {found} "$@"\n')
            (tools / name).chmod(0o755)
    project.environment["PATH"] = str(tools)
    configure(project, IMPLEMENTER)
    project.add("TASK-1", "Make two a 2")
    project.api.script("", [report("no_change")])
    project.run_once()
    assert project.tasks("incoming") == ["TASK-1"]
    hold = project.hold()
    assert hold is not None
    assert hold["message"].startswith("sandbox_unavailable: ")
    assert "claude.sandbox: false" in hold["hint"]
    assert project.requeued("TASK-1")[-1]["charged"] is False
    assert not project.api.conversations()
