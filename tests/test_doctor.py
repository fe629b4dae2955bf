"""`doctor`: each check by the fault that it is there for, and its step out of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import runs
from conftest import CHECKOUT, git, set_up_long_ago

from orchestrator.cli import context
from orchestrator.client import program as programs
from orchestrator.client.claude import probe, sign_in
from orchestrator.client.claude.adapter import Claude
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.finding import Finding
from orchestrator.model.snapshot import Hold
from orchestrator.project import agent_memory, run_record
from orchestrator.setup import doctor, init_project, probes, state_probe
from orchestrator.system import files, locks, process
from orchestrator.tick import held as standing
from orchestrator.tick import lock
from orchestrator.tick.tick import run_tick

Cli = Callable[..., Any]


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH, with a client that answers."""
    folder = tmp_path / "tools"
    program(folder, "claude", 'echo "2.1.328 (Claude Code)"')
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in sign_in.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    return folder


@pytest.fixture
def healthy(tools: Path, project: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A project with nothing to complain of."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    Path(project.scheduler_lock).write_text("1 gone 1.0\n")
    config = Path(project.config)
    config.write_text(config.read_text() + "checks: ['true']\n")
    return project


def findings(layout: Layout, **variables: str) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    environment = {**os.environ, **variables}
    for finding in doctor.examine(layout, environment, time.time()):
        found.setdefault(finding.code, []).append(finding)
    return found


def one(layout: Layout, code: str, **variables: str) -> Finding:
    """Return the finding that is not ok of this code, or the only one."""
    matching = findings(layout, **variables)[code]
    return next((finding for finding in matching if finding.level != "ok"), matching[0])


def test_a_healthy_project_has_nothing_to_fix(healthy: Layout, cli: Cli) -> None:
    wrong = [f for group in findings(healthy).values() for f in group if f.level != "ok"]
    assert wrong == []
    assert cli("doctor").out.startswith("Everything is fine.\n")


def test_the_json_is_a_list_of_findings(healthy: Layout, cli: Cli) -> None:
    done = cli("doctor", "--json")
    assert done.code == 0
    assert set(done.json) == {"findings"}
    for finding in done.json["findings"]:
        assert set(finding) == {"code", "level", "message", "hint"}
        assert finding["level"] in ("ok", "warn", "fail")
    codes = {finding["code"] for finding in done.json["findings"]}
    assert codes == {
        *("python", "git", "trust", "git_identity", "client", "sign_in", "forge", "remote"),
        *("not_initialised", "config_error", "permissions", "disk", "tick_stale", "locks"),
        *("task_malformed", "clock", "leftovers", "tracked_state", "no_checks"),
        "worktrees_walked",
    }


def test_a_setup_that_cannot_notice_changes_is_found(healthy: Layout) -> None:
    config = Path(healthy.config)
    text = config.read_text()
    config.write_text(
        f"setup: {{command: npm ci, when_changed: [README.md, 'READ*', lock.jsno]}}\n{text}"
    )
    assert "names lock.jsno" in one(healthy, "setup_file_missing").message
    config.write_text(f"setup: {{when_changed: [README.md]}}\n{text}")
    assert "no effect" in one(healthy, "setup_missing").message
    assert "setup_file_missing" not in findings(healthy)
    Path(healthy.root, "biome.json").write_text("{}")
    assert one(healthy, "worktrees_walked").level == "warn"


def test_files_for_the_client_are_read_as_the_start_of_a_run_does(healthy: Layout) -> None:
    config, servers = Path(healthy.config), Path(healthy.root, "mcp.json")
    agent = "{name: with-files, role: tester, mcp_config: mcp.json, settings: [lost.json]}"
    config.write_text(config.read_text().replace("agents:\n", f"agents:\n  - {agent}\n"))
    servers.write_text("{broken")
    found = findings(healthy)["client_file_broken"]
    assert [f.level for f in found] == ["fail", "fail"]
    assert "with-files cannot start: mcp.json" in found[0].message
    assert "lost.json" in found[1].message
    servers.write_text("{}")
    Path(healthy.root, "lost.json").write_text("{}")
    assert one(healthy, "client_file_broken").level == "ok"


def test_the_checks_are_tried_on_the_base_branch_only_when_asked(healthy: Layout, cli: Cli) -> None:
    config = Path(healthy.config)
    config.write_text("setup: {command: touch ready}\n" + config.read_text())
    ran = Path(healthy.root).parent / "ran"
    for check, level in ((f"test -f ready && touch {ran}", "ok"), ("echo why; exit 3", "fail")):
        config.write_text(
            re.sub("checks: .*", f"checks: [{json.dumps(check)}]", config.read_text())
        )
        assert "base_red" not in findings(healthy)
        found = cli("doctor", "--checks", "--json").json["findings"]
        [of_base] = [finding for finding in found if finding["code"] == "base_red"]
        assert of_base["level"] == level
        left = [each["message"] for each in found if each["code"] == "not_ignored"]
        assert left == (
            ["after `setup` and `checks`, git reports as new or changed: ready"] * (level == "ok")
        )
    assert ran.exists()
    assert not Path(healthy.root, "ready").exists()
    assert "'echo why; exit 3' exited 3 on main itself" in of_base["message"]
    Path(healthy.root, ".gitignore").write_text("ready\n")
    git(Path(healthy.root), "add", ".gitignore")
    git(Path(healthy.root), "commit", "-q", "-m", "Ignore what is made")
    config.write_text(config.read_text().replace("echo why; exit 3", "true"))
    assert "not_ignored" not in cli("doctor", "--checks").out
    config.write_text(config.read_text().replace("touch ready", "exit 9"))
    assert "setup_failed" in cli("doctor", "--checks").out


def test_a_claude_md_of_the_set_up_that_hides_agents_md_is_found(healthy: Layout) -> None:
    Path(healthy.root, "AGENTS.md").write_text("# Ours\n")
    line = (
        "If .agent-instructions.md exists in this directory, read and follow those instructions.\n"
    )
    Path(healthy.root, "CLAUDE.md").write_text(line)
    assert one(healthy, "agents_md_hidden").level == "warn"
    Path(healthy.root, "CLAUDE.md").write_text(f"{line}@AGENTS.md\n")
    assert "agents_md_hidden" not in findings(healthy)


def test_whatever_is_wrong_the_exit_code_is_0_and_every_fault_has_a_hint(
    project: Layout, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_long_ago(project.root)
    Path(project.config).write_text("agents: 7\nforge: github\n")
    Path(project.state("incoming"), "bad.md").write_text("")
    monkeypatch.setenv("PATH", "/nowhere")
    done = cli("doctor", "--json")
    assert done.code == 0
    wrong = [finding for finding in done.json["findings"] if finding["level"] != "ok"]
    assert {"git", "client", "config_error", "task_malformed", "tick_stale"} <= {
        finding["code"] for finding in wrong
    }
    assert all(finding["hint"] for finding in wrong)
    assert cli("doctor").code == 0


def test_outside_a_repository_it_still_says_what_it_can(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("doctor", "--json")
    assert done.code == 0
    levels = {finding["code"]: finding["level"] for finding in done.json["findings"]}
    assert levels == {"python": "ok", "git": "ok", "project": "fail"}


# --- programs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ("git version 2.30.9", "fail"),
        ("git version 2.31.0", "ok"),
        ("git version 2.39.3 (Apple Git-146)", "ok"),
        ("git version 3.0", "ok"),
        ("nonsense", "warn"),
    ],
)
def test_gits_version_is_compared_with_what_our_calls_need(
    tools: Path, tmp_path: Path, said: str, level: str
) -> None:
    program(tools, "git", f"echo '{said}'")
    assert probes.git_program(str(tmp_path)).level == level


def test_a_missing_git_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probes.git_program(str(tmp_path)).level == "fail"


def test_commits_without_a_name_are_a_warning(healthy: Layout) -> None:
    subprocess.run(("git", "config", "--unset", "user.email"), cwd=healthy.root, check=True)
    finding = one(healthy, "git_identity")
    assert finding.level == "warn"
    assert "git config --global user.email" in (finding.hint or "")


def test_the_clients_version_is_shown(healthy: Layout, tools: Path) -> None:
    finding = one(healthy, "client")
    assert (finding.level, finding.message) == ("ok", f"{tools}/claude: 2.1.328 (Claude Code)")


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("2.1.256 (Claude Code)", "fail"),
        ("1.99.999 (Claude Code)", "fail"),
        ("2.1.257 (Claude Code)", "ok"),
        ("3.0.0 (Claude Code)", "ok"),
        ("0.1 of a program of my own", "ok"),
    ],
)
def test_a_client_that_is_too_old_for_our_command_line_is_a_fault(
    healthy: Layout, tools: Path, version: str, level: str
) -> None:
    program(tools, "claude", f"echo '{version}'")
    finding = one(healthy, "client")
    assert finding.level == level
    if level == "fail":
        assert "2.1.257" in finding.message
        assert finding.hint == "claude update"


def test_the_plugin_asks_for_the_same_client_as_doctor() -> None:
    manifest = json.loads((CHECKOUT / ".claude-plugin" / "plugin.json").read_text())
    oldest = ".".join(map(str, probe.OLDEST))
    assert manifest["engines"] == {"claude-code": f">={oldest}"}


def test_a_folder_that_git_does_not_trust_is_one_fault_with_its_way_out(
    healthy: Layout, tools: Path
) -> None:
    real = shutil.which("git")
    program(tools, "git", f'GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {real} "$@"')
    finding = one(healthy, "trust")
    assert finding.level == "fail"
    assert "dubious ownership" in finding.message
    assert f"safe.directory {healthy.root}" in (finding.hint or "")
    # Not also: no base branch, no identity.
    assert "remote" not in findings(healthy)


def test_the_clients_own_arguments_come_before_the_question(healthy: Layout, tools: Path) -> None:
    program(tools, "wrapper", 'echo "$@"')
    Path(healthy.config).write_text("claude: {command: [wrapper, --fast, 'a b']}\nagents: []\n")
    assert one(healthy, "client").message == f"{tools}/wrapper: --fast a b --version"


def test_a_missing_client_is_a_fault(healthy: Layout) -> None:
    Path(healthy.config).write_text("claude: {command: [clod]}\nagents: []\n")
    finding = one(healthy, "client")
    assert (finding.level, "clod" in finding.message) == ("fail", True)


@pytest.mark.parametrize(
    ("text", "word"), [("echo broken >&2; exit 3", "exited 3: broken"), ("sleep 60", "did not end")]
)
def test_a_client_that_does_not_answer_well_is_a_warning(
    healthy: Layout, tools: Path, text: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "PROBE_TIMEOUT", 0.5)
    program(tools, "claude", text)
    finding = one(healthy, "client")
    assert finding.level == "warn"
    assert word in finding.message


def test_a_client_that_writes_where_it_stands_does_not_reach_the_checkout(
    healthy: Layout, tools: Path, tmp_path: Path
) -> None:
    program(tools, "claude", f"pwd > {tmp_path}/where; env > {tmp_path}/env; touch litter; echo 1")
    findings(healthy, ORCHESTRATOR_RUN_ID="r", CLAUDECODE="1")
    assert not os.path.exists(os.path.join(healthy.root, "litter"))
    assert not os.path.exists((tmp_path / "where").read_text().strip())
    environment = (tmp_path / "env").read_text()
    assert "ORCHESTRATOR_" not in environment
    assert "CLAUDECODE=" not in environment


@pytest.mark.parametrize(
    ("command", "variables", "file", "level"),
    [
        (("claude",), {}, False, "warn"),
        (("claude",), {"ANTHROPIC_API_KEY": "s3cret"}, False, "ok"),
        (("claude",), {"CLAUDE_CODE_OAUTH_TOKEN": "s3cret"}, False, "ok"),
        (("claude",), {"ANTHROPIC_API_KEY": ""}, False, "warn"),
        (("claude",), {}, True, "ok"),
        (("/opt/mine", "--x"), {}, False, "ok"),
    ],
)
def test_a_sign_in_is_seen_without_reading_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    variables: dict[str, str],
    file: bool,
    level: str,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    if file:
        (tmp_path / ".claude").mkdir()
        (tmp_path / ".claude/.credentials.json").touch(mode=0o000)
    config = Config(client_command=command)
    found = sign_in.finding(Claude(), config, {"HOME": str(tmp_path), **variables})
    assert found.level == level
    assert "s3cret" not in found.message


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"env": {"ANTHROPIC_API_KEY": "s3cret"}}, "ANTHROPIC_API_KEY is set in"),
        ({"env": {"CLAUDE_CODE_OAUTH_TOKEN": "s3cret"}}, "CLAUDE_CODE_OAUTH_TOKEN is set in"),
        ({"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}}, "CLAUDE_CODE_USE_BEDROCK is set in"),
        ({"apiKeyHelper": "cat s3cret"}, "apiKeyHelper is set in"),
        ({"env": {"OTHER": "s3cret"}, "apiKeyHelper": ["s3cret"]}, None),
        ({"env": "s3cret"}, None),
        ([], None),
    ],
)
def test_a_sign_in_in_the_clients_settings_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: object, shown: str | None
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude/settings.json").write_text(json.dumps(settings))
    found = sign_in.finding(Claude(), Config(client_command=("claude",)), {"HOME": str(tmp_path)})
    assert found.level == ("ok" if shown else "warn")
    assert "s3cret" not in found.message
    if shown:
        assert found.message.startswith(shown)
    else:
        assert '{"env": {"CLAUDE_CODE_OAUTH_TOKEN": "the token"}}' in (found.hint or "")


# --- forge and remote --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("exit 0", "ok", "github: the sign-in works"),
        ("exit 1", "fail", "gh is not signed in to github.com"),
        ("sleep 60", "fail", "gh did not answer in time"),
    ],
)
def test_the_forges_program_is_asked_for_its_sign_in(
    healthy: Layout,
    tools: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    level: str,
    message: str,
) -> None:
    monkeypatch.setattr(probes, "PROBE_TIMEOUT", 1.0)
    url = "https://github.com/example/project.git"
    subprocess.run(("git", "remote", "add", "origin", url), cwd=healthy.root, check=True)
    program(tools, "gh", f'test "$*" = "auth status --hostname github.com" || exit 9\n{text}')
    finding = probes.forge_program(healthy, Config(forge="github"), os.environ)
    assert (finding.level, finding.message) == (level, message)


def test_a_remote_on_github_without_gh_is_a_warning(
    healthy: Layout, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = subprocess.run(("which", "git"), capture_output=True, text=True, check=True).stdout
    program(tools, "git", f'exec {git.strip()} "$@"')
    monkeypatch.setenv("PATH", str(tools))
    url = "https://github.com/example/project.git"
    subprocess.run(("git", "remote", "add", "origin", url), cwd=healthy.root, check=True)
    finding = probes.forge_program(healthy, Config(), os.environ)
    assert (finding.level, "pull requests stay local" in finding.message) == ("warn", True)


@pytest.mark.parametrize(
    ("forge", "code", "level", "said"),
    [
        ("auto", 1, "warn", "gh is not signed in to github.example.com: pull requests stay local"),
        ("auto", 0, "ok", "github: the sign-in works"),
        ("local", 0, "ok", "although the remote is on GitHub (github.example.com)"),
    ],
)
def test_a_remote_on_github_with_a_local_forge_is_told(
    healthy: Layout, tools: Path, forge: str, code: int, level: str, said: str
) -> None:
    url = "https://github.example.com/example/project.git"
    subprocess.run(("git", "remote", "add", "origin", url), cwd=healthy.root, check=True)
    program(tools, "gh", f"exit {code}")
    finding = probes.forge_program(healthy, Config(forge=forge), os.environ)
    assert (finding.level, said in finding.message) == (level, True)


def test_a_remote_that_answers_is_fine_and_one_that_is_gone_a_fault(
    healthy: Layout, tmp_path: Path
) -> None:
    bare = tmp_path / "remote.git"
    subprocess.run(("git", "init", "-q", "--bare", bare), check=True)
    subprocess.run(("git", "remote", "add", "origin", bare), cwd=healthy.root, check=True)
    empty = one(healthy, "base_gone")
    assert (empty.level, empty.hint) == ("fail", "git push -u origin main")
    assert "is empty: nothing was pushed there" in empty.message
    subprocess.run(("git", "push", "-q", "origin", "main"), cwd=healthy.root, check=True)
    assert one(healthy, "remote").message == "the remote 'origin' answers"
    bare.rename(tmp_path / "moved")
    finding = one(healthy, "remote")
    assert finding.level == "fail"
    assert "cannot be reached" in finding.message
    assert finding.hint == "try: git ls-remote origin"


def test_the_remotes_of_a_repository_without_the_configured_one_are_named(
    healthy: Layout, tmp_path: Path
) -> None:
    assert one(healthy, "remote").level == "ok"
    for name in ("fork", "upstream"):
        subprocess.run(("git", "remote", "add", name, tmp_path), cwd=healthy.root, check=True)
    finding = one(healthy, "remote")
    assert finding.level == "warn"
    assert "no remote 'origin', but 'fork', 'upstream': branches stay" in finding.message
    assert finding.hint == (
        "to deliver work there: write `remote: fork` into .orchestrator/agents.yaml"
    )
    again = init_project.init(healthy, time.time(), start=False, commands=False)
    assert f"{finding.message}; {finding.hint}" in again.warnings


def test_a_base_branch_that_does_not_exist_is_a_fault(healthy: Layout, tmp_path: Path) -> None:
    Path(healthy.config).write_text("base_branch: trunk\nagents: []\n")
    assert "'trunk' does not exist in this repository" in one(healthy, "remote").message
    subprocess.run(("git", "init", "-q", "--bare", tmp_path / "r.git"), check=True)
    subprocess.run(
        ("git", "remote", "add", "origin", tmp_path / "r.git"), cwd=healthy.root, check=True
    )
    finding = one(healthy, "base_gone")
    assert "'origin' is empty" in finding.message
    assert str(finding.hint).startswith("set base_branch in .orchestrator/agents.yaml")


# --- the project -------------------------------------------------------------------------------


def test_a_clone_that_nobody_set_up_is_a_fault(tools: Path, repo: Path) -> None:
    finding = one(Layout(str(repo)), "not_initialised")
    assert (finding.level, finding.hint) == ("fail", "run: orchestrator init")


def test_every_error_of_the_configuration_is_a_finding_of_its_own(healthy: Layout) -> None:
    Path(healthy.config).write_text("pauzed: true\nagents: []\nbase_port: 1\n")
    found = findings(healthy)["config_error"]
    assert [finding.level for finding in found] == ["fail", "fail"]
    assert "did you mean 'paused'" in " ".join(finding.message for finding in found)


def test_a_paused_system_and_one_without_agents_are_warnings(healthy: Layout) -> None:
    Path(healthy.config).write_text("paused: true\nagents: []\n")
    assert one(healthy, "system_paused").level == "warn"
    assert one(healthy, "no_agents").level == "warn"


def test_files_that_are_no_tasks_are_named_in_every_state(healthy: Layout) -> None:
    for state in ("incoming", "claimed", "blocked", "done", "failed"):
        Path(healthy.state(state), "bad.md").write_text("no title")
    found = findings(healthy)["task_malformed"]
    assert len(found) == 5
    for index in range(50):
        Path(healthy.state("done"), f"bad{index}.md").write_text("no title")
    found = findings(healthy)["task_malformed"]
    assert len(found) == state_probe.MOST_LISTED + 1
    assert "35 more" in found[-1].message


def test_a_missing_folder_of_the_queue_is_a_fault(healthy: Layout) -> None:
    os.rmdir(healthy.state("failed"))
    finding = one(healthy, "permissions")
    assert finding.message == f"{healthy.state('failed')} is missing"


def test_a_configuration_that_everybody_may_write_is_a_warning(healthy: Layout) -> None:
    os.chmod(healthy.config, 0o666)
    finding = one(healthy, "permissions")
    assert (finding.level, finding.hint) == ("warn", f"chmod o-w {healthy.config}")


def test_a_folder_that_cannot_be_written_is_a_fault(
    healthy: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, _: path != healthy.agents)
    os.chmod(healthy.agents, 0o500)
    finding = one(healthy, "permissions")
    assert finding.message == f"{healthy.agents} cannot be written"
    assert "chmod u+rwx" in (finding.hint or "")


@pytest.mark.parametrize(
    ("free", "level"), [(5 << 30, "ok"), (500 << 20, "warn"), (10 << 20, "fail")]
)
def test_little_disk_space_is_reported(
    healthy: Layout, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert one(healthy, "disk").level == level


def test_the_age_of_the_last_tick_is_told(healthy: Layout) -> None:
    assert "the last tick was " in one(healthy, "tick_stale").message
    os.utime(healthy.scheduler_lock, (time.time() - 36_000,) * 2)
    renewed = one(healthy, "tick_stale")
    assert (renewed.level, "the set-up was renewed since then" in renewed.message) == ("ok", True)
    set_up_long_ago(healthy.root)
    finding = one(healthy, "tick_stale")
    assert (finding.level, finding.message) == ("fail", "the last tick was 10 h 00 min ago")


def test_times_ahead_of_the_clock_are_named(healthy: Layout) -> None:
    ahead = time.time() + 7200
    agent_memory.write(healthy, "impl-agent-1", agent_memory.AgentState(last_started=ahead))
    path = Path(healthy.state("incoming"), "TASK-1.md")
    path.write_text("# A\n\nROLE: implement\n")
    os.utime(path, (ahead, ahead))
    messages = " ".join(finding.message for finding in findings(healthy)["clock"])
    assert "the last start of impl-agent-1 is ahead" in messages
    assert f"{path} is ahead" in messages


def test_what_holds_everybody_up_is_a_finding(healthy: Layout) -> None:
    hold = Hold("system_fault", "authentication_failed: not signed in", None, time.time())
    files.write_json(healthy.hold, hold._asdict())
    finding = one(healthy, "system_fault")
    assert (finding.level, finding.message) == ("fail", "authentication_failed: not signed in")


def test_leftovers_of_agents_and_of_killed_processes_are_named(healthy: Layout) -> None:
    os.mkdir(healthy.agent("ended-agent"))  # `clean` has nothing to say about that
    old = healthy.worktree("old-agent")
    git(Path(healthy.root), "worktree", "add", "--quiet", "--detach", old)
    left = Path(healthy.state("incoming"), ".TASK-1.md.7.tmp")
    left.touch()
    os.mkdir(os.path.join(healthy.cache, "base-1"))
    assert len(findings(healthy)["leftovers"]) == 2, "a file that is being written is none"
    os.utime(left, (0, 0))
    assert len(findings(healthy)["leftovers"]) == 3


def test_nothing_is_a_leftover_while_the_configuration_is_broken(healthy: Layout) -> None:
    os.mkdir(healthy.agent("impl-agent-1"))
    Path(healthy.config).write_text("agents: [")
    assert one(healthy, "leftovers").level == "ok"


# --- locks -------------------------------------------------------------------------------------

HOLD_IT = """
import sys
from orchestrator.system import locks
with locks.Lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_told_with_the_process_that_holds_it(healthy: Layout) -> None:
    os.mkdir(healthy.agent("impl-agent-1"))
    path = healthy.agent_lock("impl-agent-1")
    root = str(Path(__file__).resolve().parent.parent)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD_IT, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    try:
        finding = one(healthy, "locks")
        assert finding.message.startswith("agents/impl-agent-1/lock is held by ")
        if sys.platform == "linux" and os.path.exists("/proc/locks"):
            assert f"process {child.pid}, running since " in finding.message
    finally:
        child.stdin.close()
        child.wait()
        child.stdout.close()
    assert one(healthy, "locks").message == "no lock is held"


def test_looking_at_a_lock_takes_and_makes_nothing(tmp_path: Path) -> None:
    assert locks.holder(str(tmp_path / "none")) is None
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_once_held_the_ticks_lock_is_not_hung(healthy: Layout) -> None:
    me = f"{os.getpid()} {process.identity(os.getpid())} {time.monotonic() - 3630:.3f}\n"
    Path(healthy.scheduler_lock).write_text(me)
    assert lock.trouble(healthy, time.time()) is None
    with locks.Lock(healthy.scheduler_lock) as held:
        hung = lock.trouble(healthy, time.time())
    held.close()
    assert hung is not None
    assert hung.code == "tick_hung"
    assert "60 min" in hung.message


@pytest.mark.parametrize("ahead", [0.0, 30 * 86400.0, -30 * 86400.0])
def test_a_hung_tick_is_found_whatever_the_clock_said_when_it_took_the_lock(
    healthy: Layout, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    now, up = time.time(), time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + ahead)
        with lock.taken(healthy, 0.0) as problems:
            assert problems == []
            # The clock is right again. The file's own time may be wrong.
            os.utime(healthy.scheduler_lock, (now + ahead, now + ahead))
            patch.setattr(lock, "time", SimpleNamespace(monotonic=lambda: up + 200))
            assert lock.trouble(healthy, now + 200) is None
            with lock.taken(healthy, 0.0) as second:
                assert second is None, "the clock that is set back kills no tick at work"
            patch.setattr(lock, "time", SimpleNamespace(monotonic=lambda: up + 400))
            hung = lock.trouble(healthy, now + 400)
    assert hung is not None
    assert hung.code == "tick_hung"


def test_a_process_that_is_no_tick_and_keeps_the_ticks_lock_is_named(healthy: Layout) -> None:
    before = time.time() - 1000
    Path(healthy.scheduler_lock).write_text(f"{2**22 + 1} x 1.0\n")
    held = locks.Lock(healthy.scheduler_lock)
    with held:
        os.utime(healthy.scheduler_lock, (before, before))
        found = lock.trouble(healthy, time.time())
        # A tick that has just got the lock has not written its name yet.
        assert lock.trouble(healthy, before + 100) is None
    held.close()
    assert found is not None
    assert found.code == "lock_held"
    if sys.platform == "linux":
        assert f"process {os.getpid()} (" in found.message
    assert lock.trouble(healthy, time.time()) is None


def test_a_command_that_keeps_the_ticks_lock_is_hung_like_a_tick_but_is_no_tick(
    healthy: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, later = time.time() - 100, time.monotonic() + 400
    Path(healthy.scheduler_lock).touch()
    os.utime(healthy.scheduler_lock, (before, before))
    with lock.exclusive(healthy):
        assert Path(healthy.scheduler_lock).read_text().startswith(f"{os.getpid()} ")
        monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=lambda: later))
        hung = lock.trouble(healthy, time.time() + 400)
    assert hung is not None
    assert hung.code == "tick_hung"
    assert abs(os.stat(healthy.scheduler_lock).st_mtime - before) < 1


HOLD_ALL = """
import fcntl, sys, time
files = [open(path, "r+") for path in sys.argv[1:]]
for file in files:
    fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="who holds a lock is read from /proc/locks")
def test_each_lock_of_the_project_with_a_stopped_holder_is_told(healthy: Layout) -> None:
    paths = list(standing.lock_paths(healthy))
    for path in paths:
        files.make_folder(os.path.dirname(path))
        Path(path).touch()
    child = subprocess.Popen([sys.executable, "-c", HOLD_ALL, *paths], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    child.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while not process.is_stopped(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    _, seen = context.look(healthy)
    found = list(standing.problems(healthy, seen, standing.held_locks(healthy)))
    told = [each for each in findings(healthy)["locks"] if each.level == "warn"]
    child.kill()
    child.wait()
    child.stdout.close()
    assert len(found) == len(told) == len(paths) >= 9
    assert {each.code for each in found} == {"lock_held"}
    for each in found:
        assert f"process {child.pid} (" in each.message
        assert f"kill -CONT {child.pid}" in (each.hint or "")
    assert list(standing.problems(healthy, seen, standing.held_locks(healthy))) == []


HOLD_AS_TICK = """
import fcntl, sys, time
from orchestrator.system import process
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
me = process.known(__import__("os").getpid())
file.write(f"{me.pid} {me.identity} {time.monotonic() - 400:.3f}")
file.flush()
print("held", flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="who holds a lock is read from /proc/locks")
def test_a_hung_tick_that_cannot_be_killed_is_a_problem_and_no_bug(
    healthy: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another user's process, or of one that waits for a broken disk."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD_AS_TICK, healthy.scheduler_lock],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    monkeypatch.setattr(lock, "_AFTER_KILL", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(process, "end", lambda *_: None)
        report = run_tick(healthy, time.time())
    assert (report.good, report.bug) == (False, None)
    assert report.problems[0].code == "lock_held"
    assert f"process {child.pid} (" in report.problems[0].message
    assert {action.action for action in report.actions} <= {"skip"}
    with lock.taken(healthy, 0.0) as problems:
        assert [each.code for each in problems or ()] == ["tick_hung"]
    assert child.wait(10) < 0
    child.stdout.close()


def test_a_stopped_supervisor_is_continued_once_its_run_is_over_its_time_limit(
    healthy: Layout,
) -> None:
    child = subprocess.Popen(("sleep", "100"), process_group=0)
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)  # until it has stopped
    supervisor = process.known(child.pid)._asdict()
    runs.lay_out(healthy, "impl-agent-1", "R1", status="running", supervisor=supervisor)
    record = run_record.read(healthy.run("impl-agent-1", "R1"))
    assert record is not None
    limit = record.created + record.settings.max_runtime_seconds
    assert list(standing.continue_overdue({"R1": record}, limit)) == []
    assert process.is_stopped(child.pid)
    assert list(standing.continue_overdue({"R1": record}, limit + 61)) == [record]
    deadline = time.monotonic() + 20
    while process.is_stopped(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not process.is_stopped(child.pid)
    assert list(standing.continue_overdue({"R1": record}, limit + 61)) == []
    child.kill()
    child.wait()
