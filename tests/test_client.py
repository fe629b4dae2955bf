"""What the client's lines and its end mean, and the words that it is started with."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from orchestrator.client import outcomes
from orchestrator.client.claude import command, limit_text, startup
from orchestrator.client.claude import stream as streams
from orchestrator.client.claude.adapter import Claude
from orchestrator.client.claude.stream import Stream
from orchestrator.client.protocol import Assignment, Ended
from orchestrator.config import roles
from orchestrator.guard import client_environment
from orchestrator.model.config import Agent, Role
from orchestrator.model.snapshot import VERDICTS, Outcome, UsageWindow
from orchestrator.pulls import forges

SESSION = "11111111-2222-4333-8444-555555555555"


def shipped() -> dict[str, Role]:
    known, problems = roles.load("/nowhere")
    assert not problems
    return {n: r._replace(deny=forges.denied(r.deny)) for n, r in known.items()}


ROLES = shipped()
IMPL, REVIEWER, PM = (ROLES[name] for name in ("implementer", "reviewer", "product_manager"))

# --- lines as the client writes them (measured) ------------------------------------------------

Line = dict[str, Any]
INIT: Line = {"type": "system", "subtype": "init", "session_id": SESSION, "tools": ["Bash"]}
WORK: Line = {"type": "assistant", "message": {"content": [{"type": "text", "text": "On it."}]}}


def call(outcome: object, **more: Any) -> Line:
    """The agent's call that reports, as it is in the stream before the client accepts it."""
    given = {"outcome": outcome, "summary": "Did it.", **more}
    block = {"type": "tool_use", "id": "toolu_1", "name": "StructuredOutput", "input": given}
    return {"type": "assistant", "message": {"content": [block]}, "parent_tool_use_id": None}


def answer(is_error: bool) -> Line:
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x", "is_error": is_error}
    return {"type": "user", "message": {"content": [block]}, "parent_tool_use_id": None}


def retry(word: str, status: int | None) -> Line:
    more = {"attempt": 1, "max_retries": 3, "error_status": status, "error": word}
    return {"type": "system", "subtype": "api_retry", "session_id": SESSION, **more}


def synthetic(word: str) -> Line:
    said = {"model": "<synthetic>", "content": [{"type": "text", "text": "Failed"}]}
    return {"type": "assistant", "message": said, "error": word, "is_api_error_message": True}


def limit(status: str, resets: float | None = None) -> Line:
    info = {"status": status, **({"resetsAt": resets} if resets else {})}
    return {"type": "rate_limit_event", "rate_limit_info": info, "session_id": SESSION}


def result(**fields: Any) -> Line:
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "terminal_reason": "completed",
        "api_error_status": None,
        "result": "All done.",
        "total_cost_usd": 0.25,
        "usage": {
            "input_tokens": 5,
            "cache_creation_input_tokens": 20,
            "cache_read_input_tokens": 300,
            "output_tokens": 41,
        },
        "session_id": SESSION,
        **fields,
    }


def report(outcome: object, **more: Any) -> Line:
    return result(structured_output={"outcome": outcome, "summary": "Did it.", **more})


def failed(status: int | None, **more: Any) -> Line:
    facts = {"is_error": True, "terminal_reason": "api_error", "api_error_status": status}
    return result(**facts, result="API Error", total_cost_usd=0, **more)


def ended_badly(subtype: str, reason: str, *errors: str) -> Line:
    return result(subtype=subtype, is_error=True, terminal_reason=reason, errors=list(errors))


def in_words(text: str, is_error: bool = True, **usage: int) -> Line:
    """A result of a client that reports a limit only as a text."""
    return result(
        result=text, is_error=is_error, usage={"input_tokens": 0, "output_tokens": 0, **usage}
    )


CAPPED = ended_badly("error_max_budget_usd", "budget_exhausted", "Reached maximum budget ($3)")
RC0, RC1 = Ended(exit_code=0), Ended(exit_code=1)
RESET = 1_795_342_527

#: lines, the process's end, role, commits -> verdict, and how the reason begins
TABLE: dict[str, tuple[list[Line], Ended, Role, int, str, str | None]] = {
    # What the agent reports.
    "done": ([INIT, WORK, report("done")], RC0, IMPL, 2, "done", None),
    "no change": ([INIT, report("no_change")], RC0, IMPL, 0, "no_change", None),
    "a question": ([report("needs_human", question="Which?")], RC0, IMPL, 0, "needs_human", None),
    "given up": ([report("failed")], RC0, IMPL, 1, "failed", "client_error: "),
    "given up without a word": (
        [report("failed", summary="")],
        RC0,
        IMPL,
        1,
        "failed",
        "client_error: the agent reported failed",
    ),
    "approved": ([report("approved")], RC0, REVIEWER, 0, "approved", None),
    "changes": ([report("changes_requested")], RC0, REVIEWER, 0, "changes_requested", None),
    "a product manager's done": ([report("done")], RC0, PM, 0, "no_change", None),
    "an implementer approves": ([report("approved")], RC0, IMPL, 1, "failed", "client_error: "),
    "a reviewer is done": ([report("done")], RC0, REVIEWER, 0, "failed", "client_error: "),
    "an outcome of another type": ([report(["done"])], RC0, IMPL, 1, "failed", "client_error: "),
    # No report: the commits speak.
    "silent with commits": ([result()], RC0, IMPL, 1, "done", None),
    "silent without commits": ([result()], RC0, IMPL, 0, "failed", "no_commits"),
    "a silent reviewer": ([result()], RC0, REVIEWER, 0, "failed", "no_result"),
    "a silent product manager": ([result()], RC0, PM, 0, "no_change", None),
    "a report that is no object": ([result(structured_output=[])], RC0, IMPL, 1, "done", None),
    # A hook refused the prompt, or ended the run: the commits do not speak.
    "a prompt that a hook refuses": (
        [
            result(
                num_turns=0,
                terminal_reason=None,
                result="UserPromptSubmit operation blocked by hook:\n[check]: no",
            )
        ],
        RC0,
        IMPL,
        1,
        "failed",
        "client_error: a hook ended the run: success: UserPromptSubmit operation blocked",
    ),
    "a hook after a tool ends the run": (
        [INIT, WORK, result(num_turns=2, terminal_reason="hook_stopped", result="")],
        RC0,
        IMPL,
        1,
        "failed",
        "client_error: a hook ended the run",
    ),
    "a hook at the end ends the run": (
        [INIT, WORK, result(num_turns=2, terminal_reason="stop_hook_prevented", result="")],
        RC0,
        PM,
        0,
        "failed",
        "client_error: a hook ended the run",
    ),
    "a hook after the report": (
        [INIT, WORK, report("done") | {"terminal_reason": "stop_hook_prevented"}],
        RC0,
        IMPL,
        1,
        "done",
        None,
    ),
    # The result line decides, whatever the process did.
    "a result and exit code 1": ([report("done")], RC1, IMPL, 1, "done", None),
    "a result and a kill": ([report("done")], Ended(signal=9), IMPL, 1, "done", None),
    "a result, then stopped": (
        [report("done")],
        Ended(stopped_for="stopped"),
        IMPL,
        1,
        "done",
        None,
    ),
    "a result, then lingered": (
        [report("no_change")],
        Ended(signal=15, stopped_for="lingered"),
        IMPL,
        0,
        "no_change",
        None,
    ),
    "success that is an error": ([failed(None)], RC0, IMPL, 3, "failed", "client_error: success"),
    "a result without is_error": (
        [{"type": "result", "subtype": "success"}],
        RC0,
        IMPL,
        3,
        "failed",
        "client_error",
    ),
    "a report before a last result without one": (
        [INIT, report("done"), INIT, WORK, result()],
        RC0,
        IMPL,
        1,
        "done",
        None,
    ),
    "a report before a last result with an error": (
        [report("done"), INIT, ended_badly("error_max_turns", "max_turns", "Reached (2)")],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error: error_max_turns: Reached (2)",
    ),
    # The client's own limits are the work's.
    "turns used up": (
        [INIT, WORK, ended_badly("error_max_turns", "max_turns", "Reached maximum")],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error: error_max_turns",
    ),
    "dollars used up": (
        [ended_badly("error_max_budget_usd", "budget_exhausted")],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error: error_max_budget_usd",
    ),
    # A report in the last answer counts, although the answer passed a cap.
    "dollars used up by the report": ([WORK, call("done"), CAPPED], RC1, IMPL, 1, "done", None),
    "turns used up by the report": (
        [call("no_change"), answer(False), ended_badly("error_max_turns", "max_turns")],
        RC1,
        IMPL,
        0,
        "no_change",
        None,
    ),
    **{
        f"dollars used up, {name}": ([*lines, CAPPED], RC1, IMPL, 1, "failed", "client_error: ")
        for name, lines in {
            "and a report that the client refused": [call("done"), answer(True)],
            "and a report of another role": [call("approved")],
            "and a report without a summary": [call("done", summary=None)],
            "and work after a report": [call("done"), answer(True), WORK],
            "and a report of a subagent": [call("done") | {"parent_tool_use_id": "toolu_0"}],
            "and an agent that gave up": [call("failed")],
        }.items()
    },
    "a report, then a failure that is no cap": (
        [call("done"), ended_badly("error_during_execution", "x", "It broke")],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error: error_during_execution: It broke",
    ),
    "a report, then a kill": (
        [call("done")],
        Ended(signal=9),
        IMPL,
        1,
        "interrupted",
        "no_result",
    ),
    # Only the words say it.
    "a limit in words": (
        [in_words("Claude AI usage limit reached|1795342527")],
        RC1,
        IMPL,
        0,
        "usage_limit",
        "usage_limit: Claude AI usage limit reached",
    ),
    "a limit in the words of a success": (
        [in_words("5-hour limit reached|1795342527", is_error=False)],
        RC0,
        IMPL,
        0,
        "usage_limit",
        "usage_limit",
    ),
    "a limit in words without its reset": (
        [in_words("You've hit your weekly limit")],
        RC1,
        IMPL,
        0,
        "system_fault",
        "rate_limit: You've hit your weekly limit",
    ),
    "an agent that says the same": (
        [in_words("Usage limit reached|1795342527", is_error=False, output_tokens=9)],
        RC0,
        IMPL,
        1,
        "done",
        None,
    ),
    "an agent that reports and says the same": (
        [report("done") | {"usage": {}, "result": "Usage limit reached|1795342527"}],
        RC0,
        IMPL,
        1,
        "done",
        None,
    ),
    "no valid report in five tries": (
        [ended_badly("error_max_structured_output_retries", "completed")],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error: error_max_structured_output_retries",
    ),
    # The account and the service.
    "401": (
        [retry("authentication_failed", 401), synthetic("authentication_failed"), failed(401)],
        RC1,
        IMPL,
        0,
        "system_fault",
        "authentication_failed",
    ),
    "not signed in": (
        [synthetic("authentication_failed"), failed(None)],
        RC1,
        IMPL,
        0,
        "system_fault",
        "authentication_failed",
    ),
    "403": (
        [synthetic("oauth_org_not_allowed"), failed(403)],
        RC1,
        IMPL,
        0,
        "system_fault",
        "oauth_org_not_allowed",
    ),
    "429": (
        [retry("rate_limit", 429), synthetic("rate_limit"), failed(429)],
        RC1,
        IMPL,
        1,
        "system_fault",
        "rate_limit",
    ),
    "a used-up subscription": (
        [limit("rejected", RESET), synthetic("rate_limit"), failed(429)],
        RC1,
        IMPL,
        1,
        "usage_limit",
        "usage_limit",
    ),
    "a used-up subscription, killed": (
        [INIT, limit("rejected", RESET)],
        Ended(exit_code=143),
        IMPL,
        1,
        "usage_limit",
        "usage_limit",
    ),
    "a used-up limit without its reset": (
        [limit("rejected"), synthetic("rate_limit"), failed(429)],
        RC1,
        IMPL,
        1,
        "system_fault",
        "rate_limit",
    ),
    "a limit that was lifted meanwhile": (
        [limit("rejected", RESET), WORK, report("done"), limit("allowed")],
        RC0,
        IMPL,
        1,
        "done",
        None,
    ),
    "a lifted limit and a failure of the work": (
        [limit("rejected", RESET), limit("allowed"), WORK, ended_badly("error_max_turns", "x")],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error",
    ),
    "529": (
        [retry("overloaded", 529), synthetic("server_error"), failed(529)],
        RC1,
        IMPL,
        0,
        "system_fault",
        "overloaded",
    ),
    "500": (
        [retry("server_error", 500), synthetic("server_error"), failed(500)],
        RC1,
        IMPL,
        0,
        "system_fault",
        "server_error",
    ),
    "599": ([synthetic("unknown"), failed(599)], RC1, IMPL, 0, "system_fault", "server_error"),
    "no credit": (
        [synthetic("billing_error"), failed(400)],
        RC1,
        IMPL,
        0,
        "system_fault",
        "billing_error",
    ),
    "404": (
        [synthetic("model_not_found"), failed(404)],
        RC1,
        IMPL,
        0,
        "system_fault",
        "model_not_found",
    ),
    "connection refused": (
        [retry("unknown", None), synthetic("server_error"), failed(None)],
        RC1,
        IMPL,
        0,
        "system_fault",
        "server_error",
    ),
    "a connection that breaks in mid-answer": (
        [INIT, WORK, synthetic("unknown"), failed(None)],
        RC1,
        IMPL,
        1,
        "system_fault",
        "server_error: no usable answer of the service: success: API Error",
    ),
    "an answer that is too long": (
        [INIT, WORK, synthetic("max_output_tokens"), failed(None)],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error",
    ),
    "a refusal of the model": (
        [INIT, WORK, synthetic("invalid_request"), failed(None)],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error",
    ),
    "413 of a continued conversation": (
        [INIT, synthetic("invalid_request"), failed(413)],
        RC1._replace(resumed=True),
        IMPL,
        1,
        "stopped",
        "no_result: the service refuses the conversation",
    ),
    "400": ([synthetic("unknown"), failed(400)], RC1, IMPL, 1, "failed", "client_error"),
    "400 of a continued conversation": (
        [INIT, synthetic("invalid_request"), failed(400)],
        RC1._replace(resumed=True),
        IMPL,
        1,
        "stopped",
        "no_result: the service refuses the conversation",
    ),
    "400 after an answer in a continued conversation": (
        [INIT, WORK, synthetic("invalid_request"), failed(400)],
        RC1._replace(resumed=True),
        IMPL,
        1,
        "failed",
        "client_error",
    ),
    "a prompt too long": (
        [synthetic("invalid_request"), {**failed(400), "terminal_reason": "prompt_too_long"}],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error",
    ),
    "a fault that passed, and then no turns left": (
        [retry("overloaded", 529), WORK, ended_badly("error_max_turns", "max_turns")],
        RC1,
        IMPL,
        1,
        "failed",
        "client_error: error_max_turns",
    ),
    "a fault that passed, and then a good end": (
        [retry("server_error", 500), WORK, report("done")],
        RC0,
        IMPL,
        1,
        "done",
        None,
    ),
    # It did not start.
    **{
        reason: (
            [
                ended_badly("error_during_execution", "x", "Fix me")
                | {"startup_failure_reason": reason}
            ],
            RC1,
            IMPL,
            0,
            "system_fault",
            startup.CODES.get(reason, reason) + ": ",
        )
        for reason in (*startup.REFUSALS, "a_reason_of_a_newer_client")
    },
    # Cut off.
    "SIGINT": (
        [INIT, ended_badly("error_during_execution", "aborted_streaming")],
        RC0,
        IMPL,
        1,
        "interrupted",
        "no_result",
    ),
    "SIGTERM": ([INIT, WORK], Ended(exit_code=143), IMPL, 1, "interrupted", "no_result"),
    "SIGKILL": ([INIT, WORK], Ended(signal=9), IMPL, 1, "interrupted", "no_result"),
    "a shell's 137": ([INIT], Ended(exit_code=137), IMPL, 1, "interrupted", "no_result"),
    "SIGHUP": ([INIT, WORK], Ended(exit_code=129), IMPL, 1, "interrupted", "no_result"),
    "an abort": ([INIT, WORK], Ended(exit_code=134), IMPL, 1, "interrupted", "no_result"),
    "no signal": ([INIT, WORK], Ended(exit_code=255), IMPL, 1, "failed", "no_result"),
    "git's 128": ([INIT, WORK], Ended(exit_code=128), IMPL, 1, "failed", "no_result"),
    "nobody saw the end": ([INIT, WORK], Ended(), IMPL, 1, "interrupted", "no_result"),
    "exit 0 without a result": (
        [INIT, WORK],
        RC0,
        IMPL,
        1,
        "failed",
        "no_result: the client exited 0",
    ),
    "exit 1 without a line": (
        [],
        Ended(exit_code=1, stderr="Input must be provided\n"),
        IMPL,
        0,
        "failed",
        "no_result: the client exited 1 without a result; it said: Input must be provided",
    ),
    "a lost conversation": (
        [ended_badly("error_during_execution", "x", f"No conversation found with ID: {SESSION}")],
        RC1,
        IMPL,
        0,
        "stopped",
        "no_result",
    ),
    # Ended by us.
    "stopped": ([INIT], Ended(143, None, "stopped"), IMPL, 1, "stopped", "stopped"),
    "stalled": ([INIT], Ended(143, None, "stalled"), IMPL, 1, "failed", "stalled"),
    "timed out": ([INIT], Ended(None, 9, "timed_out"), IMPL, 1, "failed", "timed_out"),
    "too much": (
        [INIT],
        Ended(143, None, "too_much_output"),
        IMPL,
        1,
        "failed",
        "client_error: too_much_output",
    ),
    "stalled while the service is overloaded": (
        [INIT, WORK, retry("overloaded", 529)],
        Ended(143, None, "stalled"),
        IMPL,
        1,
        "system_fault",
        "overloaded",
    ),
    "killed while the service is overloaded": (
        [INIT, retry("server_error", 503)],
        Ended(signal=9),
        IMPL,
        1,
        "system_fault",
        "server_error",
    ),
    # Not even started.
    "no client": (
        [],
        Ended(127, start_error="claude: No such file or directory"),
        IMPL,
        0,
        "system_fault",
        "client_missing: claude: No such file",
    ),
}


def read(lines: list[Line]) -> Stream:
    stream = Stream()
    for line in lines:
        stream.feed(json.dumps(line) + "\n")
    return stream


@each_row("name", TABLE)
def test_lines_and_the_processs_end_make_the_outcome(name: str) -> None:
    lines, ended, role, commits, verdict, reason = TABLE[name]
    outcome = streams.outcome(read(lines), ended, role, commits)
    assert outcome.verdict == verdict, outcome.reason
    if reason is None:
        assert outcome.reason is None
    else:
        assert (outcome.reason or "").startswith(reason)


@each_row(
    ("status", "word"),
    [
        (401, "authentication_failed"),
        (402, "billing_error"),
        (403, "oauth_org_not_allowed"),
        (404, "model_not_found"),
        (429, "rate_limit"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "overloaded"),
        (529, "overloaded"),
        (400, "client_error"),  # the request itself: the work's
        (413, "client_error"),
    ],
)
def test_a_status_says_whether_the_account_the_service_or_the_work_failed(
    status: int, word: str
) -> None:
    """In the last line only, as of a client whose stream has no word for it."""
    outcome = streams.outcome(read([INIT, failed(status)]), RC1, IMPL, 1)
    assert (outcome.reason or "").partition(":")[0] == word
    assert outcome.verdict == ("failed" if word == "client_error" else "system_fault")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [("rejected", "usage_limit"), ("allowed_warning", "failed"), ("allowed", "failed")],
)
def test_only_a_limit_that_is_reached_ends_a_run(status: str, verdict: str) -> None:
    lines = [limit(status, RESET), WORK, ended_badly("error_max_turns", "max_turns")]
    assert streams.outcome(read(lines), RC1, IMPL, 1).verdict == verdict


def test_every_reason_of_a_failure_begins_with_a_word_of_the_contract() -> None:
    words = ("stalled", "timed_out", "no_result", "client_error", "no_commits")
    for lines, ended, role, commits, verdict, _ in TABLE.values():
        outcome = streams.outcome(read(lines), ended, role, commits)
        if verdict == "failed":
            assert (outcome.reason or "").startswith(words)


@each_row("reason", [*startup.REFUSALS, "a_reason_of_a_newer_client"])
def test_a_client_that_does_not_start_says_what_to_do(reason: str) -> None:
    lines, *_ = TABLE[reason]
    outcome = streams.outcome(read(lines), RC1, IMPL, 0)
    assert len(outcome.hint or "") > 12
    assert "Fix me" in (outcome.reason or "")
    # The conversation is unchanged, unless the conversation is what cannot be continued.
    lost = reason in startup.OF_THE_CONVERSATION
    assert (outcome.session, outcome.began) == (None, lost)


def test_a_usage_limit_says_when_it_resets() -> None:
    outcome = streams.outcome(read([limit("rejected", RESET), failed(429)]), RC1, IMPL, 0)
    assert outcome.until == RESET
    for name in ("done", "401", "stalled"):
        lines, ended, role, commits, *_ = TABLE[name]
        assert streams.outcome(read(lines), ended, role, commits).until is None


def test_the_usage_windows_are_reported() -> None:
    """As measured with a subscription; other windows and other shapes are left out."""
    windows = {
        "five_hour": {"utilization": 0.42, "resetsAt": RESET, "status": "allowed"},
        "seven_day": {"utilization": 0.81, "resetsAt": RESET + 1, "status": "allowed"},
        "seven_day_opus": {"utilization": 0.1, "resetsAt": RESET, "status": "allowed"},
    }
    line = limit("allowed", RESET)
    line["rate_limit_info"]["unifiedWindows"] = windows
    outcome = streams.outcome(read([line, report("done")]), RC0, IMPL, 1)
    known = {"five_hour": UsageWindow(0.42, RESET), "seven_day": UsageWindow(0.81, RESET + 1)}
    assert outcome.usage == known
    # A later line may have only some of them, or nonsense.
    for later in (
        {"five_hour": {"utilization": 0.5, "resetsAt": RESET}},
        {"five_hour": 1},
        [],
        None,
    ):
        again = {**line, "rate_limit_info": {"status": "allowed", "unifiedWindows": later}}
        outcome = streams.outcome(read([line, again, report("done")]), RC0, IMPL, 1)
        assert outcome.usage["seven_day"] == known["seven_day"]
    assert streams.outcome(read([report("done")]), RC0, IMPL, 1).usage == {}


def test_the_texts_of_a_report_are_kept() -> None:
    line = report("changes_requested", feedback="The tests lie.", question=None)
    outcome = streams.outcome(read([line]), RC0, REVIEWER, 0)
    assert (outcome.summary, outcome.feedback, outcome.question) == (
        "Did it.",
        "The tests lie.",
        None,
    )


def test_a_question_that_was_forgotten_is_the_summary() -> None:
    outcome = streams.outcome(read([report("needs_human")]), RC0, IMPL, 0)
    assert outcome.question == "Did it."
    outcome = streams.outcome(read([report("needs_human", question="A or B?")]), RC0, IMPL, 0)
    assert outcome.question == "A or B?"


def test_texts_without_end_are_cut() -> None:
    endless = "x" * (outcomes.TEXT_LIMIT * 3)
    outcome = streams.outcome(read([report("done", feedback=endless)]), RC0, IMPL, 1)
    assert outcome.feedback == "x" * outcomes.TEXT_LIMIT
    line = ended_badly("error_x", "x", endless)
    assert len(streams.outcome(read([line]), RC1, IMPL, 1).reason or "") < 1000


def test_cost_tokens_and_conversation_are_kept_whatever_came_of_the_run() -> None:
    for line in (report("done"), ended_badly("error_max_turns", "max_turns")):
        outcome = streams.outcome(read([INIT, line]), RC0, IMPL, 1)
        assert (outcome.cost_usd, outcome.input_tokens, outcome.output_tokens) == (0.25, 325, 41)
        assert outcome.session == SESSION


def models(given: int, made: int) -> dict[str, Any]:
    """Two models: the agent's, and a subagent's."""
    counts = {"inputTokens": given - 4, "outputTokens": made - 1, "cacheReadInputTokens": 1}
    return {"big": counts, "small": {"inputTokens": 3, "outputTokens": 1, "costUSD": 0.1}}


@each_row(
    ("lines", "tokens", "adds_up"),
    [
        ([result()], (325, 41), False),
        ([result(modelUsage={})], (325, 41), False),
        ([result(modelUsage=models(900, 90))], (900, 90), True),
        # As in 2.1.257: the run's own.
        ([result(modelUsage={"m": {"inputTokens": 325, "outputTokens": 41}})], (325, 41), False),
        # As in 2.1.332: the conversation's, and the run's own.
        (
            [result(modelUsage=models(900, 90), model_usage_since_last_result=models(300, 30))],
            (300, 30),
            False,
        ),
        (
            [
                result(modelUsage=models(900, 90), model_usage_since_last_result=models(300, 30)),
                result(modelUsage=models(905, 92), model_usage_since_last_result=models(5, 2)),
            ],
            (305, 32),
            False,
        ),
        ([result(modelUsage={"m": "x"}, usage=None)], (None, None), False),
        ([result(modelUsage={"m": {"inputTokens": True}}, usage=[])], (None, None), False),
    ],
)
def test_tokens_are_those_of_every_model(
    lines: list[Line], tokens: tuple[int, int], adds_up: bool
) -> None:
    outcome = streams.outcome(read(lines), RC0, IMPL, 1)
    assert (outcome.input_tokens, outcome.output_tokens, outcome.adds_up) == (*tokens, adds_up)


SAID = datetime(2026, 12, 31, 18, 0, tzinfo=UTC)


@each_row(
    ("text", "until"),
    [
        ("Claude AI usage limit reached|1795342527", 1795342527),
        ("You've hit your 5-hour limit · resets 9:14pm (UTC)", SAID.replace(hour=21, minute=14)),
        ("You\u2019ve hit your session limit · resets 3am (UTC)", SAID + timedelta(hours=9)),
        ("You've hit your limit · resets 6pm (UTC)", SAID),
        ("You've hit your limit · resets 8pm (Europe/Berlin)", SAID + timedelta(hours=1)),
        ("You've hit your limit · resets 12am (UTC)", SAID + timedelta(hours=6)),
        (
            "You've hit your weekly limit · resets Jan 3, 9am (UTC)",
            SAID + timedelta(days=2, hours=15),
        ),
        ("You've hit your limit · resets Feb 31, 9am (UTC)", None),
        ("You've hit your limit · resets 9am (Mars/Base)", None),
        ("You've hit your limit", None),
    ],
)
def test_the_reset_of_a_limit_is_read_from_its_text(text: str, until: object) -> None:
    assert limit_text.is_limit(text)
    wanted = until.timestamp() if isinstance(until, datetime) else until
    assert limit_text.reset(text, SAID.timestamp()) == wanted
    if "|" not in text:
        assert limit_text.reset(text, None) is None


@pytest.mark.parametrize(
    "text",
    [
        "API Error: Server is temporarily limiting requests (not your usage limit)",
        "I added a check: when the rate limit is reached, the job waits.",
        "You've hit your stride with this design, and its limits are documented.",
        "Usage limit reached" + " and so on" * 50,
        "",
        None,
        7,
    ],
)
def test_other_texts_are_no_limit(text: object) -> None:
    assert not limit_text.is_limit(text)


def test_what_was_not_said_is_not_known_rather_than_nothing() -> None:
    outcome = streams.outcome(read([INIT, WORK]), Ended(signal=9), IMPL, 0)
    assert (outcome.cost_usd, outcome.input_tokens, outcome.output_tokens) == (None, None, None)
    assert outcome.session == SESSION
    assert streams.outcome(Stream(), Ended(signal=9), IMPL, 0).session is None


@pytest.mark.parametrize("cost", ["NaN", "1e999", "-1", "true", '"5"', "null", "[]"])
def test_a_cost_that_is_no_amount_of_money_is_not_known(cost: str) -> None:
    stream = Stream()
    stream.feed(f'{{"type": "result", "is_error": false, "total_cost_usd": {cost}}}')
    assert streams.outcome(stream, RC0, PM, 0).cost_usd is None


@pytest.mark.parametrize("reset", ["NaN", "1e999", "-1", "true", '"soon"', "null"])
def test_a_limit_without_a_moment_of_reset_is_tried_again_like_any_fault(reset: str) -> None:
    stream = Stream()
    info = f'{{"status": "rejected", "resetsAt": {reset}}}'
    stream.feed(f'{{"type": "rate_limit_event", "rate_limit_info": {info}}}')
    stream.feed(json.dumps(failed(429)))
    assert streams.outcome(stream, RC1, IMPL, 0).verdict == "system_fault"


@pytest.mark.parametrize("case", ["a lost conversation", "400 of a continued conversation"])
def test_a_conversation_that_is_lost_or_refused_is_not_continued_again(case: str) -> None:
    lines, ended, role, commits, *_ = TABLE[case]
    assert streams.outcome(read(lines), ended, role, commits).session is None


@each_row("exit_code", [None, 0, 1, 127, 137, 143])
@each_row("signal", [None, 2, 9, 15])
@each_row("stopped_for", [None, "stopped", "stalled", "timed_out"])
def test_no_end_of_the_process_changes_what_a_good_result_says(
    exit_code: int | None, signal: int | None, stopped_for: str | None
) -> None:
    ended = Ended(exit_code, signal, stopped_for)
    good = streams.outcome(read([report("done")]), RC0, IMPL, 1)
    assert streams.outcome(read([report("done")]), ended, IMPL, 1) == good


# --- lines that are none -----------------------------------------------------------------------

NOISE = [
    "",
    "\n",
    "Warning: something\n",
    "[]\n",
    "null\n",
    "7\n",
    '"result"\n',
    "{",
    '{"type": "result", "is_error": fal',
    '{"type": ["result"]}\n',
    '{"type": "result2"}\n',
    '{"type": "rate_limit_event", "rate_limit_info": "rejected"}\n',
    '{"type": "rate_limit_event"}\n',
    '{"type": "assistant", "error": {"a": 1}}\n',
    '{"type": "system", "subtype": "api_retry"}\n',
    '{"session_id": 5}\n',
    "[" * 100_000 + "\n",
    '{"a":' * 100_000 + "\n",
]


@each_row("number", range(len(NOISE)))
def test_lines_that_say_nothing_are_passed_over(number: int) -> None:
    stream = Stream()
    for line in (json.dumps(INIT), NOISE[number], json.dumps(report("done")), NOISE[number]):
        stream.feed(line)
    outcome = streams.outcome(stream, RC0, IMPL, 1)
    assert (outcome.verdict, outcome.session, outcome.cost_usd) == ("done", SESSION, 0.25)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 600) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
FIELDS = (
    "structured_output is_error subtype errors result api_error_status error_status error usage "
    "session_id total_cost_usd terminal_reason rate_limit_info"
)
any_line = st.fixed_dictionaries(
    {"type": st.sampled_from(["result", "assistant", "system", "rate_limit_event"])},
    optional=dict.fromkeys(FIELDS.split(), json_values),
)


@settings(max_examples=examples(0.6))
@given(st.lists(any_line, max_size=3), st.sampled_from([IMPL, REVIEWER, PM]))
def test_no_shape_of_a_line_makes_anything_but_an_outcome(lines: list[Line], role: Role) -> None:
    outcome = streams.outcome(read(lines), RC1, role, 0)
    assert outcome.verdict in VERDICTS
    assert isinstance(outcome.reason, str | None)
    assert isinstance(outcome.cost_usd, float | None)
    assert isinstance(outcome.until, float | None)
    # All of it goes into run.json and comes back from there.
    assert Outcome(**json.loads(json.dumps(outcome._asdict()))).verdict == outcome.verdict


def test_a_stream_is_read_to_its_torn_end() -> None:
    whole = "".join(json.dumps(line) + "\n" for line in (INIT, WORK, report("done")))
    lines = io.StringIO(whole + '{"type":"result","is_error":tr')
    assert Claude().outcome(lines, RC0, IMPL, 1).verdict == "done"
    lines = io.StringIO("\ufffd\ufffd\n" + whole[:-30])
    assert Claude().outcome(lines, Ended(signal=9), IMPL, 1).verdict == "interrupted"
    assert vars(streams.read(())) == vars(Stream())


# --- how it is started -------------------------------------------------------------------------

AGENT = Agent("a", "any", 0)


def argv(role: Role, agent: Agent = AGENT, **more: Any) -> list[str]:
    facts: dict[str, Any] = {"command": ("claude",), "budget_usd": 5, "plugin": "/plugin"}
    facts |= {"task": "TASK-1", **more}
    paths = {"folder": "/run", "instructions": "/run/instructions.md", "prompt": "/run/prompt.md"}
    return command.arguments(Assignment(agent=agent, role=role, **paths, **facts), SESSION)


def schema(*outcomes: str) -> str:
    text = {"type": "string"}
    properties = {
        "outcome": {"type": "string", "enum": list(outcomes)},
        **dict.fromkeys(("summary", "feedback", "question"), text),
    }
    whole = {
        "type": "object",
        "properties": properties,
        "required": ["outcome", "summary"],
        "additionalProperties": False,
    }
    return json.dumps(whole, separators=(",", ":"))


def common(turns: int, outcomes: tuple[str, ...]) -> list[str]:
    return [
        "claude",
        "-p",
        *("--output-format", "stream-json", "--verbose"),
        *("--session-id", SESSION),
        *("--name", "TASK-1 a"),
        *("--permission-mode", "dontAsk", "--strict-mcp-config"),
        *("--append-system-prompt-file", "/run/instructions.md"),
        *("--system-prompt-snapshot", "off"),
        *("--json-schema", schema(*outcomes)),
        *("--max-turns", str(turns)),
        *("--max-budget-usd", "5"),
        *("--plugin-dir", "/plugin"),
        *("--settings", json.dumps(SETTINGS, separators=(",", ":"))),
    ]


#: These outrank the person's settings.
SETTINGS = {
    "crossSessionInbound": "refuse",
    "worktree": {"baseRef": "head"},
    "env": {
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_CRON": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_STARTUP_FAILURE_RESULTS": "1",
        "CLAUDE_CODE_PLUGIN_DIR_WATCH": "0",
        "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
        "CLAUDE_CODE_RETRY_WATCHDOG": "0",
    },
}
FINDS = ("done", "no_change", "needs_human", "failed")
WORKS = ("done", "no_change", "split", "needs_human", "failed")
JUDGES = ("approved", "changes_requested", "needs_human", "failed")
WRITING = [
    *("--setting-sources", "user,project"),
    *("--tools", "Bash,Edit,Read,Write,Glob,Grep"),
    *("--allowedTools", "Bash,Edit(./**),Read,Write(./**),Glob,Grep"),
    "--disallowedTools",
    "Bash(git push *),Bash(git push),Bash(gh *),Bash(gh),Bash(git switch *),Bash(git stash *),"
    "Bash(git stash),Bash(git worktree *),Bash(git config *)",
]
GOLDEN: dict[str, list[str]] = {
    "implementer": [*common(200, WORKS), *WRITING],
    "tester": [*common(150, WORKS), *WRITING],
    "reviewer": [
        *common(80, JUDGES),
        "--restricted",
        *("--tools", "Bash,Read,Glob,Grep"),
        *("--allowedTools", "Read,Glob,Grep"),
    ],
    "product_manager": [
        *common(60, FINDS),
        "--restricted",
        *("--tools", "Bash,Read,Glob,Grep"),
        "--allowedTools",
        "Read,Glob,Grep,Bash(orchestrator task add *),Bash(orchestrator task list *),"
        "Bash(orchestrator task show *),Bash(orchestrator status *)",
    ],
}


def test_there_is_a_golden_command_for_every_shipped_role() -> None:
    assert GOLDEN.keys() == ROLES.keys()


@pytest.mark.parametrize("name", GOLDEN)
def test_each_shipped_role_is_started_with_exactly_these_words(name: str) -> None:
    assert argv(ROLES[name]) == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_no_role_is_offered_the_network_nor_a_way_round_permissions(name: str) -> None:
    words = argv(ROLES[name])
    offered = words[words.index("--tools") + 1].split(",")
    assert not {"WebFetch", "WebSearch", "Agent", "Task", "Skill", "SendMessage"} & set(offered)
    assert "--dangerously-skip-permissions" not in words
    assert words[words.index("--permission-mode") + 1] == "dontAsk"


@pytest.mark.parametrize("name", ["reviewer", "product_manager"])
def test_who_only_reads_has_no_tool_and_no_rule_that_writes(name: str) -> None:
    words = argv(ROLES[name])
    offered = words[words.index("--tools") + 1]
    allowed = words[words.index("--allowedTools") + 1]
    assert "--restricted" in words
    assert "Write" not in offered
    assert "Edit" not in offered
    # A rule for a git command would let `--output=FILE` write; the client allows reading itself.
    rules = [rule for rule in allowed.split(",") if rule.startswith("Bash")]
    assert all(rule.startswith("Bash(orchestrator ") for rule in rules)


def test_an_agents_own_settings_stand_before_the_roles_and_the_projects() -> None:
    words = argv(IMPL, AGENT._replace(model="opus", max_turns=7))
    for option, value in (("--model", "opus"), ("--max-turns", "7")):
        assert words[words.index(option) + 1] == value
        assert words.count(option) == 1


def test_what_is_not_set_is_not_said() -> None:
    words = argv(IMPL._replace(max_turns=None, deny=()), budget_usd=None, plugin=None)
    for option in (
        "--model",
        "--max-turns",
        "--max-budget-usd",
        "--plugin-dir",
        "--disallowedTools",
    ):
        assert option not in words


def test_a_run_has_the_name_of_its_agent_and_of_its_task() -> None:
    for task, name in (("T-2", "T-2 a"), (None, "a")):
        words = argv(IMPL, task=task)
        assert words[words.index("--name") + 1] == name


def test_a_conversation_is_gone_on_with_under_its_own_id() -> None:
    words = argv(IMPL, resume=SESSION)
    assert words[words.index("--resume") + 1] == SESSION
    assert "--session-id" not in words
    fresh, same = (
        [w for w in x if w not in ("--resume", "--session-id")] for x in (argv(IMPL), words)
    )
    assert fresh == same


def test_the_command_prefix_is_taken_word_by_word() -> None:
    prefix = ("env", "A=b c", "claude", "--setting-sources", "")
    words = argv(IMPL, command=prefix)
    assert words[:6] == [*prefix, "-p"]


@pytest.mark.parametrize("role", ROLES.values(), ids=lambda role: role.name)
def test_what_may_be_reported_is_what_the_schema_allows(role: Role) -> None:
    allowed = outcomes.schema(role)["properties"]["outcome"]["enum"]
    for verdict in {*VERDICTS, "?"}:
        outcome = streams.outcome(read([report(verdict)]), RC0, role, 1)
        refused = "cannot report" in (outcome.reason or "")
        assert refused is (verdict not in allowed)


# --- the environment it is started in ----------------------------------------------------------

SURROUNDING = {
    "AI_AGENT": "claude-code_2-1-332_agent",
    "CLAUDECODE": "1",
    "CLAUDE_PID": "4711",
    "CLAUDE_CODE_SESSION_ID": "x",
    "CLAUDE_CODE_CHILD_SESSION": "1",
    "CLAUDE_PROJECT_DIR": "/elsewhere",
    "CLAUDE_PLUGIN_ROOT": "/elsewhere",
    "CLAUDE_ENV_FILE": "/elsewhere/hook.sh",
    "CLAUDE_CODE_ENTRYPOINT": "cli",
    "CLAUDE_CODE_RETRY_WATCHDOG": "1",
    "CLAUDE_CODE_RETRY_WATCHDOG_MAX_WAIT_MS": "1",
    "CLAUDE_CODE_SIMPLE": "1",
    "GIT_DIR": "/elsewhere/.git",
    "GIT_WORK_TREE": "/elsewhere",
    "GIT_INDEX_FILE": "/elsewhere/index",
    "GIT_COMMON_DIR": "/elsewhere",
    "GIT_OBJECT_DIRECTORY": "/elsewhere",
    "GIT_PREFIX": "sub/",
}


def environment(base: dict[str, str], extra: dict[str, str]) -> dict[str, str]:
    kept, dropped = Claude().sign_in_names(base), Claude.session_names
    return client_environment.for_client(base, extra, kept=kept, dropped=dropped)


def test_a_client_knows_nothing_of_the_session_and_the_repository_around_us() -> None:
    kept = {"PATH": "/bin", "HOME": "/home/me", "CLAUDE_CODE_OAUTH_TOKEN": "t", "LANG": "C"}
    clean = environment({**SURROUNDING, **kept}, {})
    assert not SURROUNDING.keys() & clean.keys()
    assert kept.items() <= clean.items()


def test_a_clients_background_work_and_prompts_are_off() -> None:
    clean = environment({}, command.environment({}))
    assert SETTINGS["env"].items() <= clean.items()  # type: ignore[attr-defined]
    assert clean["GIT_TERMINAL_PROMPT"] == "0"
    assert command.environment({"CLAUDE_CODE_MAX_RETRIES": "9"})["CLAUDE_CODE_MAX_RETRIES"] == "9"


def test_a_persons_environment_file_is_read_before_the_secrets_are_removed() -> None:
    paths = ("/run", "/run/instructions.md", "/run/prompt.md")
    variables = {"CLAUDE_ENV_FILE": "/my env.sh"}
    given = Assignment(("claude",), AGENT, IMPL, *paths, variables=variables, hidden=("KEY",))
    launch = Claude().launch(given)
    assert launch.environment["CLAUDE_ENV_FILE"] == "/run/before-commands.sh"
    lines = launch.files["before-commands.sh"].splitlines()
    assert lines[1:] == ["[ ! -r '/my env.sh' ] || . '/my env.sh'", "unset KEY"]


SETTINGS_ENV = {
    "ANTHROPIC_API_KEY": "k",
    "ANTHROPIC_MODEL": "m",
    "CLAUDE_CODE_USE_BEDROCK": 1,
    "AWS_PROFILE": "p",
    "HTTPS_PROXY": "http://proxy:1",
    "CLAUDE_CODE_RETRY_WATCHDOG": "1",
    "GOOGLE_APPLICATION_CREDENTIALS": "x",
    "OTHER_TOKEN": "x",
    "ANTHROPIC_AUTH_TOKEN": True,
}


def test_the_sign_in_of_the_persons_settings_reaches_every_role(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(
        json.dumps({"env": SETTINGS_ENV, "apiKeyHelper": "get-key", "hooks": {"Stop": []}})
    )
    variables = {"CLAUDE_CONFIG_DIR": str(tmp_path)}
    assert Claude().settings_variables(variables) == {
        "ANTHROPIC_API_KEY": "k",
        "ANTHROPIC_MODEL": "m",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "AWS_PROFILE": "p",
        "HTTPS_PROXY": "http://proxy:1",
    }
    for role in ROLES.values():
        paths = ("/run", "/run/instructions.md", "/run/prompt.md")
        started = Claude().launch(Assignment(("claude",), AGENT, role, *paths, variables=variables))
        given = started.argv[started.argv.index("--settings") + 1]
        assert ("get-key" in given, given == "/run/settings.json") == (False, role.restricted)
        settings = json.loads(started.files["settings.json"] if role.restricted else given)
        # Other roles read the person's settings themselves.
        assert settings.get("apiKeyHelper") == ("get-key" if role.restricted else None)
        assert "hooks" not in settings
    (tmp_path / "settings.json").write_text("[")
    assert Claude().settings_variables(variables) == {}


def test_a_runs_own_variables_have_the_last_word() -> None:
    clean = environment({"ORCHESTRATOR_AGENT": "old"}, {"ORCHESTRATOR_AGENT": "new"})
    assert clean["ORCHESTRATOR_AGENT"] == "new"


def test_git_settings_are_given_as_gits_own_variables() -> None:
    assert client_environment.as_git_config({"a.b": "1", "remote.o.pushurl": "no"}) == {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "a.b",
        "GIT_CONFIG_VALUE_0": "1",
        "GIT_CONFIG_KEY_1": "remote.o.pushurl",
        "GIT_CONFIG_VALUE_1": "no",
    }
