"""`logs`: which run a name means, what its transcript says, and the stream's lines one by one."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
from rows import each_row

from orchestrator.client.claude.transcript import translate
from orchestrator.client.protocol import Line
from orchestrator.layout import Layout
from orchestrator.model.work import Entry
from orchestrator.project import agent_memory, run_record
from orchestrator.system import process
from orchestrator.tasks import history, task_file
from orchestrator.text.quoting import SHORT, one_line

CHECKOUT = Path(__file__).resolve().parent.parent


def said(**event: Any) -> list[tuple[str, str]]:
    return [(line.kind, line.text) for line in translate(json.dumps(event))]


def block(**content: Any) -> dict[str, Any]:
    return {"message": {"content": [content]}}


LINES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (
        {"type": "system", "subtype": "init", "model": "opus", "tools": ["Bash", "Read"],
         "claude_code_version": "2.1.328"},
        [("start", "opus, 2 tools, client 2.1.328")],
    ),
    (
        {"type": "system", "subtype": "init", "mcp_servers": [
            {"name": "a", "status": "connected"}, {"name": "b", "status": "failed"},
            {"name": "c"}, {"name": "d", "status": "pending"}, "e"]},
        [("start", "a model"), ("error", "MCP server b: failed"),
         ("error", "MCP server c: not connected")],
    ),
    ({"type": "system", "subtype": "something_new"}, []),
    (
        {"type": "system", "subtype": "permission_denied", "tool_name": "Bash",
         "message": "Permission to use Bash\nhas been denied"},
        [("denied", "Bash: Permission to use Bash has been denied")],
    ),
    (
        {"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10,
         "retry_delay_ms": 553, "error_status": 401, "error": "authentication_failed"},
        [("retry", "1 of 10: authentication_failed 401, again in 0.6 s")],
    ),
    (
        {"type": "system", "subtype": "api_retry", "attempt": 2, "max_retries": 10,
         "retry_delay_ms": None, "error_status": None, "error": "unknown"},
        [("retry", "2 of 10: unknown")],
    ),
    (
        {"type": "system", "subtype": "model_fallback", "trigger": "server_error",
         "original_model": "claude-sonnet-4-5", "fallback_model": "claude-haiku-4-5"},
        [("retry", "claude-haiku-4-5 takes over from claude-sonnet-4-5: server_error")],
    ),
    (
        {"type": "system", "subtype": "model_fallback"},
        [("retry", "another model takes over from the model: an error of the service")],
    ),
    (
        {"type": "assistant", **block(type="text", text="I look.\nThen I leap.\n")},
        [("says", "I look.\nThen I leap.")],
    ),
    (
        {"type": "assistant", **block(type="tool_use", name="Bash",
         input={"command": "pytest -q\n", "description": "Run"})},
        [("tool", "Bash pytest -q")],
    ),
    (
        {"type": "assistant", **block(type="tool_use", name="Edit",
         input={"file_path": "/a/b.py", "old_string": "x" * 999})},
        [("tool", "Edit /a/b.py")],
    ),
    (
        {"type": "assistant", **block(type="tool_use", name="Odd", input={"deep": [1]})},
        [("tool", 'Odd {"deep": [1]}')],
    ),
    (
        {"type": "assistant", **block(type="tool_use", name="StructuredOutput",
         input={"outcome": "done", "summary": "It works."})},
        [("tool", "reports done: It works.")],
    ),
    (
        {"type": "assistant", "parent_tool_use_id": "toolu_1", **block(type="text", text="sub")},
        [("says", "(subagent) sub")],
    ),
    (
        {"type": "assistant", "error": "authentication_failed",
         **block(type="text", text="Invalid API key")},
        [("error", "authentication_failed: Invalid API key")],
    ),
    ({"type": "assistant", "error": "rate_limit", "message": None}, [("error", "rate_limit")]),
    (
        {"type": "user", **block(type="tool_result", content="one\ntwo\nthree")},
        [("result", "one (+2 lines)")],
    ),
    (
        {"type": "user", **block(type="tool_result", content=f"{'-' * 70}\nRan 7 tests\n\nOK")},
        [("result", "Ran 7 tests (+3 lines)")],
    ),
    (
        {"type": "user", **block(type="tool_result", content="---\n===")},
        [("result", "--- (+1 line)")],
    ),
    (
        {"type": "user", **block(type="tool_result", content="", is_error=True)},
        [("result", "failed: (no output)")],
    ),
    (
        {"type": "user", **block(type="tool_result", content=[{"type": "text", "text": "in"}])},
        [("result", "in")],
    ),
    ({"type": "user", "message": {"content": "Go on."}}, [("user", "Go on.")]),
    (
        {"type": "rate_limit_event", "rate_limit_info": {
            "status": "rejected", "resetsAt": 1795342527, "rateLimitType": "five_hour"}},
        [("limit", "the five hour limit is reached, resets 2026-11-22T10:15:27Z")],
    ),
    ({"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}, []),
    (
        {"type": "rate_limit_event", "rate_limit_info": {
            "status": "allowed_warning", "resetsAt": 1e300, "rateLimitType": "seven_day"}},
        [("limit", "the seven day limit is near")],
    ),
    (
        {"type": "result", "subtype": "success", "is_error": False, "result": "All done.",
         "structured_output": {"outcome": "done", "summary": "Fixed.", "feedback": "None."},
         "num_turns": 2, "total_cost_usd": 0.102576, "duration_ms": 4250,
         "permission_denials": [{"tool_name": "Bash"}]},
        [("end", "0.1026 USD, 4 s, 1 denied"), ("end", "done: Fixed."),
         ("end", "feedback: None.")],
    ),
    (
        {"type": "result", "subtype": "error_max_turns", "is_error": True,
         "errors": ["Reached maximum number of turns (2)"]},
        [("end", "ended with an error (error_max_turns)"),
         ("error", "Reached maximum number of turns (2)")],
    ),
    (
        {"type": "result", "subtype": "success", "is_error": True, "result": "Limit reached",
         "num_turns": 16},
        [("end", "ended with an error"), ("error", "Limit reached")],
    ),
]  # fmt: skip


@each_row(("event", "wanted"), LINES)
def test_each_kind_of_line_says_what_happened(
    event: dict[str, Any], wanted: list[tuple[str, str]]
) -> None:
    assert said(**event) == wanted


def test_a_line_that_is_no_json_is_shown_and_a_blank_one_is_not() -> None:
    assert translate("npm warn deprecated\n") == [Line("noise", "npm warn deprecated")]
    assert translate("[1, 2]") == [Line("noise", "[1, 2]")]
    assert translate("  \n") == []
    assert translate("[" * 100_000) != []


def test_the_time_of_a_line_is_kept() -> None:
    event = {
        "type": "assistant",
        "timestamp": "2026-01-02T03:04:05Z",
        **block(type="text", text="x"),
    }
    assert translate(json.dumps(event)) == [Line("says", "x", "2026-01-02T03:04:05Z")]


HOSTILE = [None, 0, True, "x", [], {}, [None], [{}], [{"type": 1}], {"content": 3}, 1e400, -1, [[]]]


@each_row("kind", ["system", "assistant", "user", "rate_limit_event", "result"])
@each_row("value", HOSTILE, ids=repr)
def test_no_shape_of_a_line_raises(kind: str, value: object) -> None:
    keys = [
        *("subtype", "message", "error", "tools", "attempt", "retry_delay_ms", "rate_limit_info"),
        *("structured_output", "total_cost_usd", "duration_ms", "permission_denials"),
        *("original_model", "fallback_model", "trigger", "mcp_servers"),
        *("errors", "result", "timestamp", "is_error"),
    ]
    subtypes = ("init", "permission_denied", "api_retry", "model_fallback", value)
    for subtype in subtypes:
        event = {**dict.fromkeys(keys, value), "type": kind, "subtype": subtype}
        translate(json.dumps(event))
        translate(json.dumps({**event, "message": {"content": value}}))
    for part in ("text", "tool_use", "tool_result", "thinking"):
        content = dict.fromkeys(("text", "name", "input", "content", "thinking", "is_error"), value)
        translate(json.dumps({"type": kind, **block(**{**content, "type": part})}))


def test_a_long_text_becomes_one_line_of_limited_length() -> None:
    assert one_line("a\n b\t c") == "a b c"
    assert len(one_line("word " * 1_000_000)) == SHORT
    assert one_line("x" * 10_000).endswith("…")


# --- the command -------------------------------------------------------------------------------


def a_run(layout: Layout, agent: str, run_id: str, task: str | None = None, **record: Any) -> Path:
    """Lay a run's folder out as the product does."""
    whole: dict[str, Any] = {"task": task, "title": "Fix it", "finished": 1060.0}
    whole |= {"outcome": {"verdict": "done", "summary": "Fixed.", "pr": "7", "cost_usd": 0.25}}
    folder = runs.lay_out(layout, agent, run_id, **{**whole, **record})
    events = [event for event, _ in LINES if event["type"] in ("assistant", "result")]
    (folder / "stream.jsonl").write_text(
        "".join(json.dumps(e) + "\n" for e in events[:2] + events[-3:-2])
    )
    return folder


FIRST, SECOND = "20260101T000000Z-aaaaaa", "20260102T000000Z-bbbbbb"


def test_an_agents_transcript_is_that_of_its_latest_run(
    project: Layout, cli: Callable[..., Any]
) -> None:
    a_run(project, "impl-agent-1", FIRST)
    a_run(project, "impl-agent-1", SECOND, "TASK-1")
    out = cli("logs", "impl-agent-1").out
    assert out.startswith(f"run {SECOND} of impl-agent-1, task TASK-1: Fix it\n")
    assert "says    I look.\n                 Then I leap.\n" in out
    assert "tool    Bash pytest -q\n" in out
    assert "--- ended: done\n  summary: Fixed.\n  pull request: orchestrator pr show 7\n" in out
    assert "60 s, 0.2500 USD" in out


def test_the_run_that_is_not_settled_is_the_latest_whatever_its_id(
    project: Layout, cli: Callable[..., Any]
) -> None:
    a_run(project, "impl-agent-1", FIRST)
    a_run(project, "impl-agent-1", SECOND)
    agent_memory.write(project, "impl-agent-1", agent_memory.AgentState(run=FIRST))
    assert cli("logs", "impl-agent-1").out.startswith(f"run {FIRST}")


def test_a_tasks_transcript_is_found_in_whatever_agents_folder(
    project: Layout, cli: Callable[..., Any]
) -> None:
    a_run(project, "impl-agent-1", FIRST, "TASK-1")
    a_run(project, "test-agent", SECOND, "TASK-1")
    assert cli("logs", "TASK-1").out.startswith(f"run {SECOND} of test-agent")


def test_a_run_is_found_by_the_beginning_of_its_id(
    project: Layout, cli: Callable[..., Any]
) -> None:
    a_run(project, "impl-agent-1", FIRST)
    a_run(project, "test-agent", SECOND)
    assert cli("logs", "20260101T").out.startswith(f"run {FIRST}")
    assert cli("logs", SECOND).out.startswith(f"run {SECOND}")


def test_a_beginning_that_fits_two_runs_is_refused(
    project: Layout, cli: Callable[..., Any]
) -> None:
    a_run(project, "impl-agent-1", "20260101T000000Z-aaaaaa")
    a_run(project, "test-agent", "20260101T000000Z-bbbbbb")
    done = cli("logs", "20260101T00")
    assert (done.code, done.out) == (1, "")
    assert "2 runs begin with 20260101T00" in done.err


def test_what_never_ran_says_so_and_how_to_find_out_why(
    project: Layout, cli: Callable[..., Any]
) -> None:
    task = cli("task", "add", "--title", "Fix it", "--role", "implement").out.strip()
    for subject in ("impl-agent-1", task):
        done = cli("logs", subject)
        assert done.code == 0
        assert done.out == f"{subject} has not run yet\n  see why: orchestrator explain {subject}\n"
    assert cli("logs", "impl-agent-1", "--json").json == []


@pytest.mark.parametrize("subject", ["impl-agent-2", "../impl-agent-1", "", "20990101T000000Z"])
def test_an_unknown_name_is_refused(project: Layout, cli: Callable[..., Any], subject: str) -> None:
    done = cli("logs", subject)
    assert (done.code, done.out) == (1, "")
    assert "no agent, task or run named" in done.err


def test_the_near_miss_of_an_unknown_name_is_suggested(
    project: Layout, cli: Callable[..., Any]
) -> None:
    assert "did you mean 'impl-agent-1'?" in cli("logs", "impl-agnt-1").err
    task_id = cli("task", "add", "Fix it").out.strip()
    assert cli("task", "cancel", task_id).code == 0
    for words in (("logs", task_id[:-2]), ("explain", task_id[:-2])):
        assert f"did you mean {task_id!r}?" in cli(*words).err, "also of a finished task"


def test_raw_is_the_stream_byte_for_byte(project: Layout) -> None:
    folder = a_run(project, "impl-agent-1", FIRST)
    with open(folder / "stream.jsonl", "ab") as stream:
        stream.write(b'{"bytes": "\xff\x1b[2J"}\nhalf a line')
    words = [sys.executable, "-m", "orchestrator", "logs", "impl-agent-1", "--raw"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(words, capture_output=True, cwd=project.root, env=environment, check=True)
    assert done.stdout == (folder / "stream.jsonl").read_bytes()


def test_json_is_the_events_as_a_list(project: Layout, cli: Callable[..., Any]) -> None:
    a_run(project, "impl-agent-1", FIRST)
    events = cli("logs", "impl-agent-1", "--json").json
    assert events[0] == {"kind": "says", "text": "I look.\nThen I leap.", "at": None}
    assert [event["kind"] for event in events] == ["says", "tool", "end", "end", "end"]


def test_control_characters_of_a_run_do_not_reach_the_terminal(
    project: Layout, cli: Callable[..., Any]
) -> None:
    folder = a_run(project, "impl-agent-1", FIRST)
    text = "\x1b]0;owned\x07\x1b[2Jred\r\u202e\x9b31m"
    event = {"type": "assistant", **block(type="text", text=text)}
    (folder / "stream.jsonl").write_text(json.dumps(event) + "\n\x1b[31mnoise\x07\n")
    out = cli("logs", "impl-agent-1").out
    assert not set(out) & set("\x1b\x07\r\u202e\x9b")
    assert "\\x1b]0;owned\\x07" in out


def test_failed_checks_show_the_end_of_their_log(project: Layout, cli: Callable[..., Any]) -> None:
    outcome = {"verdict": "failed", "reason": "checks_failed: 'make test' exited 2"}
    folder = a_run(project, "impl-agent-1", FIRST, outcome=outcome)
    (folder / "checks.log").write_text("".join(f"line {n}\n" for n in range(100)))
    (folder / "stderr.log").write_text("harmless warning\n")
    out = cli("logs", "impl-agent-1").out
    assert "--- the end of checks.log\n  line 60\n" in out
    assert "line 99" in out
    assert "harmless warning" not in out
    assert "--- ended: failed\n  reason: checks_failed: 'make test' exited 2\n" in out


def test_a_client_that_failed_shows_what_it_complained_of(
    project: Layout, cli: Callable[..., Any]
) -> None:
    outcome = {"verdict": "failed", "reason": "no_result: the client exited 1 without a result"}
    folder = a_run(project, "impl-agent-1", FIRST, outcome=outcome)
    (folder / "stream.jsonl").unlink()
    (folder / "stderr.log").write_text("error: unknown option --foo\n")
    (folder / "supervisor.log").write_text("MemoryError\n")
    out = cli("logs", "impl-agent-1").out
    assert "--- the end of stderr.log\n  error: unknown option --foo\n" in out
    assert "--- the end of supervisor.log\n  MemoryError\n" in out


def test_a_good_run_shows_no_other_logs(project: Layout, cli: Callable[..., Any]) -> None:
    folder = a_run(project, "impl-agent-1", FIRST)
    for name in ("stderr.log", "supervisor.log", "checks.log"):
        (folder / name).write_text("noise\n")
    assert "the end of" not in cli("logs", "impl-agent-1").out


def test_a_log_that_was_put_in_place_of_another_file_is_not_read(
    project: Layout, cli: Callable[..., Any], tmp_path: Path
) -> None:
    folder = a_run(project, "impl-agent-1", FIRST, outcome={"verdict": "failed", "reason": "x"})
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    (folder / "stderr.log").symlink_to(secret)
    (folder / "stream.jsonl").unlink()
    os.mkfifo(folder / "stream.jsonl")
    done = cli("logs", "impl-agent-1")
    assert done.code == 0
    assert "  secret" not in done.out


def test_a_run_whose_supervisor_is_gone_says_so(project: Layout, cli: Callable[..., Any]) -> None:
    gone = {"pid": 2**22 + 1, "identity": "x:1"}
    a_run(project, "impl-agent-1", FIRST, status="running", outcome=None, supervisor=gone)
    done = cli("logs", "impl-agent-1", "--follow")
    assert "--- no process works on it (running); the next tick continues it" in done.out


@pytest.mark.parametrize("record", ["", "[]", "{"])
def test_a_run_without_a_readable_record_still_shows_its_stream(
    project: Layout, cli: Callable[..., Any], record: str
) -> None:
    folder = a_run(project, "impl-agent-1", FIRST)
    (folder / "run.json").write_text(record)
    out = cli("logs", "impl-agent-1", "--follow").out
    assert "I look." in out
    assert "the run's record is missing or cannot be read" in out


def test_following_goes_on_until_the_run_has_ended(project: Layout) -> None:
    me = {"pid": os.getpid(), "identity": process.identity(os.getpid())}
    folder = a_run(project, "impl-agent-1", FIRST, status="running", outcome=None, supervisor=me)
    stream = folder / "stream.jsonl"
    stream.unlink()
    words = [sys.executable, "-m", "orchestrator", "logs", "impl-agent-1", "--follow"]
    child = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        text=True,
        cwd=project.root,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith("run ")
    line = json.dumps({"type": "assistant", **block(type="text", text="first")})
    stream.write_text(line + "\n" + line.replace("first", "second")[:20])
    assert child.stdout.readline().endswith("says    first\n")
    with open(stream, "a") as more:
        more.write(line.replace("first", "second")[20:] + "\n")
    assert child.stdout.readline().endswith("says    second\n")
    time.sleep(0.3)
    assert child.poll() is None
    record = json.loads((folder / "run.json").read_text())
    record |= {"status": "finished", "outcome": {"verdict": "failed", "reason": "timed_out: x"}}
    (folder / "run.json").write_text(json.dumps(record))
    rest, _ = child.communicate(timeout=10)
    assert child.returncode == 0
    assert rest.startswith("--- ended: failed\n")


def test_a_tasks_own_record_names_its_run(project: Layout, cli: Callable[..., Any]) -> None:
    a_run(project, "impl-agent-1", FIRST, "TASK-1")
    a_run(project, "test-agent", SECOND, None)
    file = task_file.new("TASK-1", "Fix it", "implement", None, None, "", None, (), "")
    data = file.raw
    claimed = Entry("2026-01-01T00:00:00Z", "claimed", {"agent": "test-agent", "run": SECOND})
    data += history.append(data, claimed)
    Path(project.state("claimed"), "TASK-1.md").write_bytes(data)
    assert cli("logs", "TASK-1").out.startswith(f"run {SECOND}")


def long_stream(folder: Path, entries: int) -> None:
    """Write a stream with a text per line, and lines that say nothing between."""
    with open(folder / "stream.jsonl", "w") as file:
        for number in range(entries):
            event = {
                "type": "assistant",
                **block(type="text", text=f"entry {number:06} " + "x" * 500),
            }
            file.write(json.dumps(event) + "\n" + json.dumps({"type": "stream_event"}) + "\n")


def shown(out: str) -> list[int]:
    return [int(number) for number in re.findall(r"entry (\d+)", out)]


@pytest.mark.parametrize("lines", [1, 7, 200, 999])
def test_only_the_last_entries_are_shown_if_they_are_asked_for(
    project: Layout, cli: Callable[..., Any], lines: int
) -> None:
    folder = a_run(project, "impl-agent-1", FIRST)
    long_stream(folder, 300)
    last = list(range(300))[-lines:]
    assert shown(cli("logs", FIRST, "--lines", str(lines)).out) == last
    assert shown(cli("logs", FIRST, "--follow", "-n", str(lines)).out) == last
    assert len(cli("logs", FIRST, "--lines", str(lines), "--json").json) == len(last)
    raw = cli("logs", FIRST, "--raw", "--lines", str(lines)).out
    assert len(raw.splitlines()) == min(lines, 600)
    with gzip.open(folder / "stream.jsonl.gz", "wb") as packed:
        packed.write((folder / "stream.jsonl").read_bytes())
    (folder / "stream.jsonl").unlink()
    assert shown(cli("logs", FIRST, "--lines", str(lines)).out) == last


def test_the_end_of_a_large_transcript_is_shown_without_reading_all_of_it(
    project: Layout, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_run(project, "impl-agent-1", FIRST) / "stream.jsonl"
    with open(path, "wb") as file:
        file.truncate(64 << 20)  # one line, without a block on the disk
        file.seek(0, os.SEEK_END)
        for number in range(50):
            event = {"type": "assistant", **block(type="text", text=f"entry {number}")}
            file.write(b"\n" + json.dumps(event).encode())
    read: list[int] = []

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            read.append(len(buffer))
            return super().readinto(buffer)

    def counted(folder: str, name: str) -> io.BufferedReader | None:
        path = os.path.join(folder, name)
        return io.BufferedReader(Counted(path)) if os.path.exists(path) else None

    monkeypatch.setattr(run_record, "open_file", counted)
    assert shown(cli("logs", FIRST, "--lines", "20").out) == list(range(30, 50))
    assert 0 < sum(read) < 1 << 20


def test_what_agents_and_tools_print_is_shown_as_text(
    project: Layout, cli: Callable[..., Any]
) -> None:
    hostile = "\x1b[2J\x1b]0;title\x07 \u202eabc\u200f \x9b31m\r"
    events = [
        {"type": "assistant", **block(type="text", text=hostile)},
        {"type": "assistant", **block(type="tool_use", name=hostile, input={"command": hostile})},
        {"type": "user", **block(type="tool_result", content=hostile)},
        {"type": "result", "subtype": hostile, "result": hostile, "is_error": True},
    ]
    stream = a_run(project, "impl-agent-1", FIRST, title=hostile) / "stream.jsonl"
    stream.write_text("".join(json.dumps(event) + "\n" for event in events))
    for options in ((), ("--lines", "9")):
        out = cli("logs", FIRST, *options).out
        assert "\\x1b[2J" in out
        assert "\\u202eabc\\u200f" in out
        assert all(character.isprintable() or character == "\n" for character in out)


@pytest.mark.parametrize("lines", ["0", "-3", "x"])
def test_a_number_of_lines_that_makes_no_sense_is_refused(
    project: Layout, cli: Callable[..., Any], lines: str
) -> None:
    assert cli("logs", "impl-agent-1", f"--lines={lines}").code == 2
