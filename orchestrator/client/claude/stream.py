"""The run's outcome, from the client's stream of JSON lines and the end of its process. Pure.

Sources: the client's behaviour (tests/test_real_client.py runs it) and its documentation of
headless mode. Only a parsed `result` line is a success, an exit code is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.client import outcomes
from orchestrator.client.claude import limit_text, startup, tokens
from orchestrator.client.claude.tokens import Tokens, amount
from orchestrator.client.protocol import Ended
from orchestrator.model.annotations import Any
from orchestrator.model.config import Role
from orchestrator.model.snapshot import ModelUse, Outcome, UsageWindow
from orchestrator.model.times import parse_time
from orchestrator.system import files

#: Words of the `error` field that blame the account or the service, not the work.
_SYSTEM_ERRORS = {
    "authentication_failed": "the client is not signed in",
    "oauth_org_not_allowed": "the account's organisation does not allow this",
    "account_on_hold": "the account is on hold",
    "verification_required": "the account must be verified",
    "billing_error": "there is a billing problem with the account",
    "rate_limit": "the service is limiting requests",
    "overloaded": "the service is overloaded",
    "model_not_found": "the model that the agent is set to does not exist for this account",
    "server_error": "the service failed",
    "cloud_credential_error": "the cloud credentials were refused",
}
#: The same by HTTP status, for lines that lack the word.
_SYSTEM_STATUS = {
    401: "authentication_failed",
    402: "billing_error",
    403: "oauth_org_not_allowed",
    404: "model_not_found",
    429: "rate_limit",
    503: "overloaded",
    529: "overloaded",
}

#: The usage windows that are kept (2.1.332 also reports others, by model).
_WINDOWS = ("five_hour", "seven_day")
#: The caps of the client that end a run after an answer.
_CAPS = ("error_max_budget_usd", "error_max_turns")
#: The words for the end of a run by a hook that answers `"continue": false`.
_HOOK_ENDS = ("hook_stopped", "stop_hook_prevented")

# --- the stream --------------------------------------------------------------------------------


class Stream:
    """What a run's stream said, line by line."""

    result: dict[str, Any] | None = None
    #: The last structured report; a later result line may lack it.
    report: dict[str, Any] | None = None
    session: str | None = None
    #: The last `error` word, and whether the run waited to try again when the stream ended.
    error: str | None = None
    retrying = False
    #: Whether the agent gave an answer.
    answered = False
    #: Whether the usage limit is reached, and when it resets (epoch seconds).
    limited = False
    limit_reset: float | None = None
    #: When the client wrote its last line with a time (epoch seconds).
    at: float | None = None
    #: The report in the agent's last answer, as the id of the call and its input. A budget that is
    #: used up ends the run before the client puts the report into the result line.
    answer: tuple[object, dict[str, Any]] | None = None
    #: The tokens of this run by its result lines, if the client counts them for the run alone.
    own: Tokens = tokens.UNKNOWN
    #: The model of the agent itself; subagents can have others.
    model: str | None = None

    def __init__(self) -> None:
        #: The account's usage windows, by name.
        self.usage: dict[str, UsageWindow] = {}
        #: What each model cost by the result lines, if the client counts it for the run alone.
        self.models: dict[str, ModelUse] = {}

    def feed(self, line: str) -> None:
        """Read one line. Lines that are not a JSON object are ignored."""
        event = files.json_object(line)
        if event is None:
            return
        kind = event.get("type")
        if isinstance(event.get("session_id"), str):
            self.session = event["session_id"]
        self.at = parse_time(str(event.get("timestamp"))) or self.at
        self.retrying = kind == "system" and event.get("subtype") == "api_retry"
        if kind in ("assistant", "user") and not event.get("parent_tool_use_id"):
            self.answer = _answer(event, self.answer)
        if kind == "system" and isinstance(event.get("model"), str):
            self.model = event["model"]
        if kind == "result":
            self.result = event
            alone = event.get("model_usage_since_last_result")
            self.own = tokens.added(self.own, tokens.of_models(alone))
            self.models = tokens.by_model(alone, self.models)
            report = event.get("structured_output")
            self.report = report if isinstance(report, dict) else self.report
        elif self.retrying:
            self.error = _error_word(event.get("error"), event.get("error_status")) or self.error
        elif kind == "assistant":
            # An answer without an error: whatever was retried before it has passed.
            error = event.get("error")
            self.error = (_error_word(error, None) or str(error)) if error else None
            self.answered = self.answered or not error
        elif kind == "rate_limit_event":
            info = event.get("rate_limit_info")
            if isinstance(info, dict):
                self.limited = info.get("status") == "rejected"
                self.limit_reset = amount(info.get("resetsAt"))
                self.usage |= _windows(info.get("unifiedWindows"))


def _answer(
    event: dict[str, Any], before: tuple[object, dict[str, Any]] | None
) -> tuple[object, dict[str, Any]] | None:
    """Return the agent's report after one more message; `before` is the report until then."""
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    blocks = [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []
    if event.get("type") == "user":
        # The client refuses a report that does not fit the schema.
        refused = any(
            before and b.get("tool_use_id") == before[0] and b.get("is_error") is True
            for b in blocks
        )
        return None if refused else before
    for block in blocks:
        given = block.get("input")
        if block.get("name") == "StructuredOutput" and isinstance(given, dict):
            return block.get("id"), given
    return None


def _windows(found: object) -> dict[str, UsageWindow]:
    """Return the usage windows of a `rate_limit_event`: those that `pace` knows."""
    windows = {}
    for name in _WINDOWS:
        window = found.get(name) if isinstance(found, dict) else None
        if isinstance(window, dict):
            share, resets = amount(window.get("utilization")), amount(window.get("resetsAt"))
            if share is not None and resets is not None:
                windows[name] = UsageWindow(share, resets)
    return windows


def read(lines: Iterable[str]) -> Stream:
    """Read the lines of a run's stream."""
    stream = Stream()
    for line in lines:
        stream.feed(line)
    return stream


def _error_word(word: object, status: object) -> str | None:
    if isinstance(word, str) and word in _SYSTEM_ERRORS:
        return word
    if not isinstance(status, int):
        return None
    return _SYSTEM_STATUS.get(status) or ("server_error" if status >= 500 else None)


# --- the outcome -------------------------------------------------------------------------------


def outcome(stream: Stream, ended: Ended, role: Role | None, commits: int) -> Outcome:
    """Return how a run ended (see `protocol.Client.outcome`).

    A parsed result outranks everything that happened to the process afterwards (failures 1, 3).
    """
    result = stream.result or {}
    (given, made), adds_up = _tokens(stream)
    session, began = _session(stream, ended)
    return _verdict(stream, ended, role, commits)._replace(
        session=session,
        began=began,
        usage=stream.usage,
        model=stream.model,
        models=stream.models or tokens.by_model(result.get("modelUsage"), {}),
        cost_usd=amount(result.get("total_cost_usd")),
        input_tokens=given,
        output_tokens=made,
        adds_up=adds_up,
    )


def _verdict(stream: Stream, ended: Ended, role: Role | None, commits: int) -> Outcome:
    if limited := _limit_in_words(stream):
        return limited
    if stream.result is not None and stream.result.get("is_error") is False:
        if stream.report is None:
            if _is_cut_short(stream.result):
                why = _complaint(stream.result)
                return Outcome("failed", f"client_error: a hook ended the run: {why}")
            return outcomes.unreported(stream.result.get("result"), role, commits)
        return outcomes.reported(stream.report, role)
    if stream.limited and stream.limit_reset:
        return Outcome(
            "usage_limit", "usage_limit: the account's limit is reached", until=stream.limit_reset
        )
    fault, hint = _system_error(stream)
    if fault:
        return Outcome("system_fault", fault, hint=hint)
    if _is_forgotten(stream):
        # The work is not the cause: a client that is killed early keeps no conversation.
        return Outcome("stopped", "no_result: the conversation to continue is gone")
    if _is_refused(stream, ended):
        return Outcome("stopped", "no_result: the service refuses the conversation to continue")
    if stream.result is None:
        return outcomes.without_result(ended)
    if str(stream.result.get("terminal_reason")).startswith("aborted"):  # SIGINT in mid-answer
        return Outcome("interrupted", "no_result: the client was interrupted")
    if stream.answer and stream.result.get("subtype") in _CAPS:
        report = stream.answer[1]
        if outcomes.is_report(report, role):
            return outcomes.reported(report, role)
    return Outcome("failed", f"client_error: {_complaint(stream.result)}")


def _is_cut_short(result: Mapping[str, Any]) -> bool:
    """Whether a hook of the person refused the prompt, so no turn began, or ended the run.

    2.1.332 calls this a success; the commits on the branch are of an earlier run, or half-done.
    """
    return result.get("num_turns") == 0 or result.get("terminal_reason") in _HOOK_ENDS


def _limit_in_words(stream: Stream) -> Outcome | None:
    """Return the outcome of a run that a usage limit ended, if only a text says so."""
    result = stream.result or {}
    text, report = result.get("result"), stream.report or stream.answer
    if report or stream.limited or any(_tokens(stream)[0]) or not limit_text.is_limit(text):
        return None
    until = limit_text.reset(str(text), stream.at)
    if until is None:
        return Outcome("system_fault", f"rate_limit: {text}")
    return Outcome("usage_limit", f"usage_limit: {text}", until=until)


def _system_error(stream: Stream) -> tuple[str | None, str | None]:
    """Return the system fault that ended the run, and its hint, as far as they are known."""
    result = stream.result
    reason = (result or {}).get("startup_failure_reason")
    if refused := startup.refusal(reason, _complaint(result or {})):
        return refused
    if result is None:
        word = stream.error if stream.retrying else None
    else:
        # The status first: an overloaded service (529) is called `server_error` in words.
        word = _error_word(None, result.get("api_error_status")) or _error_word(stream.error, None)
        facts = (stream.error, result.get("terminal_reason"), result.get("api_error_status"))
        if word is None and facts == ("unknown", "api_error", None):  # a proxy broke each answer
            return f"server_error: no usable answer of the service: {_complaint(result)}", None
    return (f"{word}: {_SYSTEM_ERRORS[word]}" if word in _SYSTEM_ERRORS else None), None


def _is_forgotten(stream: Stream) -> bool:
    """Whether the run was to continue a conversation that the client no longer has."""
    return "No conversation found" in str((stream.result or {}).get("errors"))


def _is_refused(stream: Stream, ended: Ended) -> bool:
    """Whether the service refused the conversation that the run was to continue.

    The client could not write it whole (on a full disk, 2.1.332 keeps a message without content),
    or it has become too long. The next run begins a new one.
    """
    is_bad = (stream.result or {}).get("api_error_status") in (400, 413)
    return ended.resumed and is_bad and not stream.answered


def _session(stream: Stream, ended: Ended) -> tuple[str | None, bool]:
    """Return the conversation that the next run can continue, and whether the client began it."""
    reason = (stream.result or {}).get("startup_failure_reason")
    if reason and reason not in startup.OF_THE_CONVERSATION:
        return None, False  # the id in this stream is of a conversation that does not exist
    is_lost = reason or _is_forgotten(stream) or _is_refused(stream, ended)
    return (None if is_lost else stream.session), True


def _complaint(result: Mapping[str, Any]) -> str:
    errors = result.get("errors")
    said = "; ".join(map(str, errors)) if isinstance(errors, list) and errors else None
    text = said or result.get("result") or "it gave no reason"
    return f"{result.get('subtype', 'error')}: {str(text)[:500]}"


def _tokens(stream: Stream) -> tuple[Tokens, bool]:
    """Return the tokens, and whether they are those of the whole conversation."""
    if stream.own != tokens.UNKNOWN:
        return stream.own, False
    return tokens.of_result(stream.result or {})
