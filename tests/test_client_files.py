"""MCP servers and settings of the client that a role or an agent names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import test_real_client as real
from test_client import AGENT, IMPL, PM, SETTINGS, argv
from test_real_client import IMPLEMENTER, MANAGER, Project, bash, report, results

from orchestrator.client.claude.adapter import Claude
from orchestrator.client.protocol import Assignment, Launch
from orchestrator.model.errors import OrchestratorError
from orchestrator.run import client_files

api = real.api
project = real.project

#: An MCP server with one tool, on standard input and output.
SERVER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {
        "initialize": lambda: {
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "greeter", "version": "1"},
        },
        "tools/list": lambda: {
            "tools": [{"name": "greet", "description": "Greet.", "inputSchema": {"type": "object"}}]
        },
        "tools/call": lambda: {"content": [{"type": "text", "text": "hello from the server"}]},
    }.get(asked["method"], dict)()
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": answer}), flush=True)
"""


def launch(**more: Any) -> Launch:
    paths = ("/run", "/run/instructions.md", "/run/prompt.md")
    return Claude().launch(Assignment(("claude",), AGENT, IMPL, *paths, **more))


# --- the files -----------------------------------------------------------------------------------


def test_a_file_is_read_in_the_project_or_where_an_absolute_path_leads(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "a.json").write_text('{"a": 1}')
    (tmp_path / "b.json").write_text("{}")
    names = ("a.json", str(tmp_path / "b.json"))
    assert client_files.read(str(root), names) == [
        (str(root / "a.json"), {"a": 1}),
        (str(tmp_path / "b.json"), {}),
    ]
    assert client_files.read(str(root), ()) == []


@pytest.mark.parametrize("name", ["gone.json", "list.json", "bad.json", "link.json", "../b.json"])
def test_a_file_that_cannot_be_used_is_a_fault_with_its_name(tmp_path: Path, name: str) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (tmp_path / "b.json").write_text("{}")
    (root / "list.json").write_text("[]")
    (root / "bad.json").write_text("{")
    (root / "link.json").symlink_to(tmp_path / "b.json")
    with pytest.raises(OrchestratorError) as caught:
        client_files.read(str(root), [name])
    assert caught.value.code == "client_file_broken"
    assert caught.value.message.startswith(name)


# --- how the client is started ------------------------------------------------------------------


def test_what_an_agent_names_is_passed_on() -> None:
    agent = AGENT._replace(effort="high", fallback_model="sonnet,haiku")
    servers = {"mcpServers": {"git.hub": {}, "plain": {}}}
    words = argv(IMPL, agent, mcp_configs=(("/p/a.json", servers), ("/p/b.json", {})))
    for option, value in (("--effort", "high"), ("--fallback-model", "sonnet,haiku")):
        assert words[words.index(option) + 1] == value
    given = [words[place + 1] for place, word in enumerate(words) if word == "--mcp-config"]
    assert given == ["/p/a.json", "/p/b.json"]
    assert "--strict-mcp-config" in words
    rules = words[words.index("--allowedTools") + 1].split(",")
    assert rules == [*IMPL.allow, "mcp__git_hub", "mcp__plain"]


def test_settings_of_a_person_add_to_those_of_the_run_and_never_replace_them() -> None:
    mine = {"env": {"A": "1", "CLAUDE_CODE_DISABLE_CRON": "0"}, "crossSessionInbound": "accept"}
    more = {"env": {"A": "2"}, "model": "opus"}
    started = launch(settings=(("/p/a.json", mine), ("/p/b.json", more)))
    path = started.argv[started.argv.index("--settings") + 1]
    assert path == "/run/settings.json"
    ours: dict[str, Any] = SETTINGS
    assert json.loads(started.files["settings.json"]) == {
        **ours,
        "env": {"A": "2", **ours["env"]},
        "model": "opus",
    }
    assert "settings.json" not in launch().files


# --- the real client ----------------------------------------------------------------------------


@pytest.mark.client
def test_agents_use_the_servers_and_settings_that_they_name(project: Project) -> None:
    (project.folder / "server.py").write_text(SERVER)
    command = {"command": sys.executable, "args": [str(project.folder / "server.py")]}
    servers = {"my.greeter": command, "broken": {"command": "/bin/false"}}
    (project.root / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))
    (project.root / "more.json").write_text(json.dumps({"env": {"FROM_SETTINGS": "yes"}}))
    named = {"mcp_config": ".mcp.json", "settings": ["more.json"]}
    project.configure({**MANAGER, **named}, {**IMPLEMENTER, **named})
    project.add("TASK-1", "Look")
    greet = {"name": "mcp__my_greeter__greet", "input": {}}
    look = bash("echo $FROM_SETTINGS")
    project.api.script("You are ann,", [greet, look, report("no_change")])
    project.api.script("You are pam,", [greet, report("no_change")])
    project.run_once()
    assert results(project.api.conversations("You are ann,")[-1]) == [
        "hello from the server",
        "yes",
    ]
    assert results(project.api.conversations("You are pam,")[-1]) == ["hello from the server"]
    said = project.orchestrator("logs", "TASK-1").stdout
    assert "MCP server broken: failed" in said
    assert "my.greeter" not in said


def test_a_file_that_is_gone_is_one_problem_that_names_it(project: Project) -> None:
    project.configure({**IMPLEMENTER, "mcp_config": "gone.json"}, retry={"max_attempts": 1})
    project.add("TASK-1", "Look")
    project.run_once()
    hold = project.hold()
    assert hold is not None
    assert hold["message"].startswith("client_file_broken: gone.json")
    assert "correct the file" in hold["hint"]
    assert project.tasks("incoming") == ["TASK-1"]


def test_only_a_run_that_names_them_has_servers() -> None:
    assert "--mcp-config" not in argv(PM)
    assert "--effort" not in argv(PM)
