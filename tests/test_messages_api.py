"""The stand-in for the Messages API, tested with plain HTTP and with the real client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from messages_api import Fault, MessagesAPI, Request, Silence
from real_client import client_environment, find_client, require_client

#: How long a run may take before the test is called hung; one takes about a second.
PATIENCE_SECONDS = 60

OUTCOME_SCHEMA = {
    "type": "object",
    "properties": {"outcome": {"type": "string", "enum": ["done", "failed"]}},
    "required": ["outcome"],
}


def bash(command: str) -> dict[str, Any]:
    return {"name": "Bash", "input": {"command": command, "description": "scripted"}}


def long_command() -> dict[str, Any]:
    """A command that writes its process id into `started.txt`, whole, and then goes on for long."""
    return bash("echo $$ > started.tmp && mv started.tmp started.txt; exec sleep 600")


def rejected_limit(resets_at: int) -> Fault:
    """What the service answers when a subscription's five hours are used up."""
    limit = "anthropic-ratelimit-unified"
    headers = {
        f"{limit}-status": "rejected",
        f"{limit}-reset": str(resets_at),
        f"{limit}-representative-claim": "five_hour",
    }
    return Fault(429, "limit reached", headers)


@dataclass
class Outcome:
    """What one run of the client left behind."""

    code: int
    lines: list[dict[str, Any]]
    stderr: str

    def of_type(self, *kinds: str) -> list[dict[str, Any]]:
        """The lines whose type or subtype is one of `kinds`."""
        return [x for x in self.lines if {x["type"], x.get("subtype")} & set(kinds)]

    @property
    def result(self) -> dict[str, Any]:
        return self.of_type("result")[-1]

    @property
    def error(self) -> str | None:
        """The last `error` word of an assistant line."""
        return next((x["error"] for x in reversed(self.of_type("assistant")) if "error" in x), None)


@dataclass
class Room:
    """A clean room: a repository, a home of its own, the client and the environment it gets."""

    client: Path
    folder: Path
    api: MessagesAPI
    more_environment: dict[str, str | None] = field(default_factory=dict)

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def start(self, *flags: str, prompt: str = "Do it.", cwd: Path | None = None) -> Started:
        """Start the client as the product does: prompt from a file, both outputs into files."""
        environment: dict[str, str | None] = {
            **client_environment(self.folder / "home", self.api.url),
            **self.more_environment,
        }
        stem = self.folder / uuid.uuid4().hex
        (prompt_file := stem.with_suffix(".prompt")).write_text(prompt)
        command = [str(self.client), "-p", "--output-format", "stream-json", "--verbose"]
        command += ["--strict-mcp-config", "--permission-mode", "dontAsk", *flags]
        with (
            prompt_file.open("rb") as stdin,
            stem.with_suffix(".out").open("wb") as stdout,
            stem.with_suffix(".err").open("wb") as stderr,
        ):
            process = subprocess.Popen(
                command,
                cwd=cwd or self.repository,
                env={name: value for name, value in environment.items() if value is not None},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        return Started(process, stem)

    def run(self, *flags: str, prompt: str = "Do it.", cwd: Path | None = None) -> Outcome:
        return self.start(*flags, prompt=prompt, cwd=cwd).finish()


@dataclass
class Started:
    """A client under way."""

    process: subprocess.Popen[bytes]
    stem: Path

    def finish(self) -> Outcome:
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
        text = self.stem.with_suffix(".out").read_text()
        assert text == "" or text.endswith("\n"), "the last line is cut short"
        lines = [json.loads(line) for line in text.splitlines()]
        return Outcome(code, lines, self.stem.with_suffix(".err").read_text())


@pytest.fixture
def api() -> Iterator[MessagesAPI]:
    with MessagesAPI() as api:
        yield api


@pytest.fixture
def room(tmp_path: Path, api: MessagesAPI) -> Room:
    room = Room(require_client(), tmp_path, api)
    (tmp_path / "home").mkdir()
    room.repository.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=room.repository, check=True)
    (room.repository / "greeting.txt").write_text("hello\n")
    return room


def follow(api: MessagesAPI, *turns: Any) -> None:
    """Let every conversation follow these turns."""
    api.script("", turns)


# --- the stand-in alone -----------------------------------------------------------------------


def post(api: MessagesAPI, body: Any, **headers: str) -> tuple[int, Any]:
    """Send one message request; give status and parsed answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"anthropic-version": "2023-06-01", "x-api-key": "dummy", **headers}
    request = urllib.request.Request(f"{api.url}/v1/messages", data, sent)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    tools = [{"name": "Bash", "input_schema": {"type": "object"}}]
    return {"model": "m", "max_tokens": 9, "tools": tools, "messages": list(messages), **fields}


USER = {"role": "user", "content": "Do it."}
CALL = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}],
}


def results(*identities: str) -> dict[str, Any]:
    blocks = [{"type": "tool_result", "tool_use_id": name, "content": "ok"} for name in identities]
    return {"role": "user", "content": blocks}


def test_without_an_api_key_a_request_is_refused(api: MessagesAPI) -> None:
    status, answer = post(api, body(USER), **{"x-api-key": ""})
    assert (status, answer["error"]["type"]) == (401, "authentication_error")


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param({"messages": [USER], "max_tokens": 9}, id="no model"),
        pytest.param(body(), id="no message"),
        pytest.param(body(CALL), id="the assistant speaks first"),
        pytest.param(body({"role": "user", "content": ""}), id="an empty message"),
        pytest.param(body(USER, CALL, USER), id="a call without its result"),
        pytest.param(body(USER, CALL), id="a call left open"),
        pytest.param(body(USER, results("toolu_1")), id="a result without its call"),
        pytest.param(body(USER, CALL, results("toolu_1"), CALL), id="one call's id twice"),
    ],
)
def test_what_the_service_refuses_is_refused(api: MessagesAPI, malformed: Any) -> None:
    follow(api, "Done.")
    status, answer = post(api, malformed)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_a_script_is_taken_up_where_the_conversation_stands(api: MessagesAPI) -> None:
    follow(api, [bash("one"), bash("two")], "Half way.", bash("three"), "Done.")
    talk: list[dict[str, Any]] = [USER]
    seen: list[Any] = []
    for _ in range(4):
        status, answer = post(api, body(*talk))
        assert status == 200, answer
        blocks = answer["content"]
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        seen.append([block.get("text") or block["input"]["command"] for block in blocks])
        assert answer["stop_reason"] == ("tool_use" if calls else "end_turn")
        talk += [{"role": "assistant", "content": blocks}, results(*calls) if calls else USER]
    assert seen == [["one", "two"], ["Half way."], ["three"], ["Done."]]


def test_a_fault_with_a_count_strikes_so_often_and_then_the_script_goes_on(
    api: MessagesAPI,
) -> None:
    follow(api, Fault(529, times=2), "Done.")
    assert [post(api, body(USER))[0] for _ in range(3)] == [529, 529, 200]


def test_side_requests_are_answered_and_do_not_consume_the_script(api: MessagesAPI) -> None:
    follow(api, "Done.")
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    form = {"format": {"type": "json_schema", "schema": schema}}
    _, side = post(api, body(USER, tools=[], output_config=form))
    _, answer = post(api, body(USER))
    assert json.loads(side["content"][0]["text"]) == {"title": "Scripted work"}
    assert answer["content"][0]["text"] == "Done."
    assert len(api.conversations()) == 1


def test_the_clients_web_search_is_a_side_request(api: MessagesAPI) -> None:
    follow(api, "Done.")
    search = [{"type": "web_search_20250305", "name": "web_search"}]
    _, answer = post(api, body(USER, tools=search))
    assert answer["content"][0]["text"] != "Done."


def test_a_marker_is_not_looked_for_in_the_clients_own_reminders(api: MessagesAPI) -> None:
    api.script("TASK-1", ["One."])
    api.script("TASK-2", ["Two."])
    reminder = "<system-reminder>Untracked files: TASK-1.txt</system-reminder>"
    blocks = [{"type": "text", "text": text} for text in (reminder, "Work on TASK-2.")]
    _, answer = post(api, body({"role": "user", "content": blocks}))
    assert answer["content"][0]["text"] == "Two."


def test_a_conversation_that_no_script_fits_is_refused_with_its_opening(api: MessagesAPI) -> None:
    api.script("TASK-1", ["Done."])
    status, answer = post(api, body(USER))
    assert status == 400
    assert "Do it." in answer["error"]["message"]


# --- with the real client ---------------------------------------------------------------------


@pytest.mark.client
def test_one_round_trip_ends_with_a_result_that_counts_tokens_and_cost(room: Room) -> None:
    follow(room.api, "All done.")
    outcome = room.run()
    assert outcome.code == 0, outcome.stderr
    assert outcome.result["subtype"] == "success"
    assert outcome.result["result"] == "All done."
    assert outcome.result["usage"]["input_tokens"] > 0
    assert outcome.result["total_cost_usd"] > 0
    (request,) = room.api.conversations()
    assert "Do it." in request.opening


@pytest.mark.client
def test_a_bash_call_writes_a_file_and_its_output_reaches_the_model(room: Room) -> None:
    follow(room.api, bash("cat greeting.txt | tee copy.txt"), "All done.")
    outcome = room.run("--tools", "Bash", "--allowedTools", "Bash")
    assert outcome.result["result"] == "All done."
    assert (room.repository / "copy.txt").read_text() == "hello\n"
    assert room.api.conversations()[-1].tool_results[0]["content"] == "hello"


@pytest.mark.client
def test_several_calls_in_one_turn_are_each_answered(room: Room) -> None:
    follow(room.api, [bash("echo one"), bash("echo two")], "All done.")
    outcome = room.run("--tools", "Bash", "--allowedTools", "Bash")
    assert outcome.result["result"] == "All done."
    # The client runs them side by side and answers in the order in which they end.
    told = [block["content"] for block in room.api.conversations()[-1].tool_results]
    assert sorted(told) == ["one", "two"]


@pytest.mark.client
def test_agents_at_once_each_follow_their_own_script(room: Room) -> None:
    names = ["TASK-1", "TASK-2", "TASK-3"]
    for name in names:
        room.api.script(name, [bash(f"echo {name} > {name}.txt"), f"{name} is done."])
    flags = ("--tools", "Bash", "--allowedTools", "Bash")
    started = [room.start(*flags, prompt=f"Work on {name}.") for name in names]
    outcomes = [one.finish() for one in started]
    assert [one.result["result"] for one in outcomes] == [f"{name} is done." for name in names]
    assert [(room.repository / f"{name}.txt").read_text() for name in names] == [
        f"{name}\n" for name in names
    ]


@pytest.mark.client
def test_a_json_schema_gives_structured_output_and_ends_the_run(room: Room) -> None:
    call = {"name": "StructuredOutput", "input": {"outcome": "done"}}
    follow(room.api, bash("cat greeting.txt"), call)
    outcome = room.run("--json-schema", json.dumps(OUTCOME_SCHEMA))
    assert outcome.code == 0
    assert outcome.result["structured_output"] == {"outcome": "done"}
    assert "StructuredOutput" in room.api.conversations()[0].tools


@pytest.mark.client
def test_without_a_call_of_structured_output_the_result_has_none(room: Room) -> None:
    follow(room.api, "I am done.", "Really.")
    outcome = room.run("--json-schema", json.dumps(OUTCOME_SCHEMA))
    assert outcome.result["is_error"] is False
    assert "structured_output" not in outcome.result


@pytest.mark.client
def test_a_tool_that_is_not_listed_is_denied_and_reported(room: Room) -> None:
    follow(room.api, bash("touch forbidden.txt"), bash("git status --short"), "All done.")
    outcome = room.run("--tools", "Bash")
    assert not (room.repository / "forbidden.txt").exists()
    assert [line["tool_name"] for line in outcome.of_type("permission_denied")] == ["Bash"]
    assert [x["tool_input"]["command"] for x in outcome.result["permission_denials"]] == [
        "touch forbidden.txt"
    ]
    denied, allowed = room.api.conversations()[-1].tool_results
    assert denied["is_error"] is True
    assert "greeting.txt" in allowed["content"]


@pytest.mark.client
@pytest.mark.parametrize(
    ("fault", "error", "retries"),
    [
        pytest.param(Fault(401, "invalid x-api-key"), "authentication_failed", 1, id="signed out"),
        pytest.param(Fault(429, "slow down"), "rate_limit", 1, id="too fast"),
        # The word at the end is not "overloaded": only the status tells it apart.
        pytest.param(Fault(529, "Overloaded"), "server_error", 1, id="overloaded"),
        pytest.param(Fault(400, "something is wrong"), "unknown", 0, id="bad request"),
        pytest.param(
            Fault(400, "Your credit balance is too low to access the Anthropic API."),
            "billing_error",
            0,
            id="no credit",
        ),
    ],
)
def test_a_fault_ends_as_an_api_error_after_the_retries(
    room: Room, fault: Fault, error: str, retries: int
) -> None:
    room.more_environment["CLAUDE_CODE_MAX_RETRIES"] = "1"
    follow(room.api, fault)
    outcome = room.run()
    assert outcome.code == 1
    assert outcome.error == error
    assert outcome.result["is_error"] is True
    assert outcome.result["terminal_reason"] == "api_error"
    assert outcome.result["api_error_status"] == fault.status
    assert [line["error_status"] for line in outcome.of_type("api_retry")] == (
        [fault.status] * retries
    )


@pytest.mark.client
def test_an_overload_that_passes_does_not_hurt_the_run(room: Room) -> None:
    follow(room.api, bash("cat greeting.txt"), Fault(529, times=1), "All done.")
    outcome = room.run()
    assert [line["error"] for line in outcome.of_type("api_retry")] == ["overloaded"]
    assert outcome.result["result"] == "All done."


@pytest.mark.client
def test_a_used_up_subscription_tells_when_it_resets_and_is_not_retried(room: Room) -> None:
    resets_at = int(time.time()) + 3600
    follow(room.api, rejected_limit(resets_at))
    # Only a subscription's sign-in has such limits: with an API key the client tells no reset.
    room.more_environment |= {"ANTHROPIC_API_KEY": None, "CLAUDE_CODE_OAUTH_TOKEN": "dummy"}
    outcome = room.run()
    assert outcome.code == 1
    (event,) = outcome.of_type("rate_limit_event")
    assert event["rate_limit_info"]["status"] == "rejected"
    assert event["rate_limit_info"]["resetsAt"] == resets_at
    assert event["rate_limit_info"]["rateLimitType"] == "five_hour"
    assert outcome.result["api_error_status"] == 429
    assert len(room.api.conversations()) == 1


@pytest.mark.client
def test_a_client_that_is_not_signed_in_says_so_without_a_request(room: Room) -> None:
    room.more_environment["ANTHROPIC_API_KEY"] = None
    outcome = room.run()
    assert outcome.error == "authentication_failed"
    assert outcome.result["is_error"] is True
    assert room.api.conversations() == []


def awaiting_the_second_answer(api: MessagesAPI) -> bool:
    requests = api.conversations()
    return bool(requests) and len(requests[-1].tool_results) == 1


def interrupt(
    room: Room, session: str, happened: Callable[[MessagesAPI], Any], number: int
) -> Outcome:
    """Start a conversation, and send the signal once `happened`."""
    started = room.start("--session-id", session, "--tools", "Bash", "--allowedTools", "Bash")
    try:
        room.api.wait_for(happened, PATIENCE_SECONDS)
        os.kill(started.process.pid, number)
    finally:
        outcome = started.finish()
    return outcome


@pytest.mark.client
def test_sigterm_leaves_whole_lines_and_no_result(room: Room) -> None:
    follow(room.api, bash("cat greeting.txt"), Silence())
    outcome = interrupt(room, str(uuid.uuid4()), awaiting_the_second_answer, signal.SIGTERM)
    assert outcome.code == 143
    assert outcome.of_type("result") == []
    assert len(outcome.of_type("assistant")) == 1


@pytest.mark.client
def test_sigterm_ends_the_command_that_bash_runs(room: Room) -> None:
    mark = room.repository / "started.txt"
    follow(room.api, long_command())
    outcome = interrupt(room, str(uuid.uuid4()), lambda _: mark.exists(), signal.SIGTERM)
    assert outcome.code == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def interrupted_script(request: Request) -> Any:
    """A first run that never ends, and a second one that is asked to go on."""
    if "Go on." in request.prompts:
        return "Resumed."
    return Silence() if request.tool_results else bash("cat greeting.txt")


@pytest.mark.client
@pytest.mark.parametrize("elsewhere", [False, True], ids=["the same folder", "another folder"])
def test_an_interrupted_conversation_resumes_in(room: Room, elsewhere: bool) -> None:
    """The session is found by its id alone, whatever the cwd."""
    room.api.script("", interrupted_script)
    session = str(uuid.uuid4())
    interrupt(room, session, awaiting_the_second_answer, signal.SIGTERM)
    other = room.folder / "elsewhere"
    other.mkdir()
    cwd = other if elsewhere else None
    outcome = room.run("--resume", session, prompt="Go on.", cwd=cwd)
    assert outcome.result["result"] == "Resumed."
    assert outcome.result["session_id"] == session
    resumed = room.api.conversations()[-1]
    assert "Do it." in resumed.opening
    assert [block["content"] for block in resumed.tool_results] == ["hello"]


@pytest.mark.client
def test_a_call_cut_off_by_sigkill_is_told_to_the_resumed_conversation(room: Room) -> None:
    mark = room.repository / "started.txt"
    session = str(uuid.uuid4())
    follow(room.api, long_command(), "Yes.")
    interrupt(room, session, lambda _: mark.exists(), signal.SIGKILL)
    # The command leads a process group of its own: whoever kills the client must look for it.
    os.kill(int(mark.read_text()), signal.SIGKILL)
    outcome = room.run("--resume", session, prompt="Go on.")
    assert outcome.result["result"] == "Yes."
    (told,) = room.api.conversations()[-1].tool_results
    assert "interrupted" in told["content"]


@pytest.mark.client
def test_resume_takes_no_session_id_and_a_used_one_cannot_start_again(room: Room) -> None:
    follow(room.api, "One.", "Two.")
    session = str(uuid.uuid4())
    assert room.run("--session-id", session).result["result"] == "One."
    again = room.run("--session-id", session)
    assert (again.code, again.lines) == (1, [])
    assert "already in use" in again.stderr
    both = room.run("--resume", session, "--session-id", session)
    assert (both.code, both.lines) == (1, [])
    assert "--fork-session" in both.stderr
    assert room.run("--resume", session).result["result"] == "Two."


@pytest.mark.client
def test_an_unknown_conversation_is_an_error_result(room: Room) -> None:
    outcome = room.run("--resume", str(uuid.uuid4()))
    assert outcome.code == 1
    assert outcome.result["subtype"] == "error_during_execution"
    assert "No conversation found" in outcome.result["errors"][0]


# --- finding the client -----------------------------------------------------------------------


def without_client(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("real_client.CLIENT_FOLDER", folder)
    assert find_client() is None


def test_without_the_client_a_test_is_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_client(monkeypatch, tmp_path)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require_client()


def test_without_the_client_a_test_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_client(monkeypatch, tmp_path)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        require_client()
