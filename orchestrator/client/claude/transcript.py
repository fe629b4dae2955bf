"""A run's stream for people: each line of the client's output as a few lines to read. Pure.

The shapes are the client's own (`stream.py` reads the same lines for the outcome). Nothing here
raises: a shape that is not known is skipped or shown as it is. Control characters are left in
place; the printer makes them harmless.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.client.claude.tokens import amount
from orchestrator.client.protocol import Line
from orchestrator.model.annotations import Any
from orchestrator.model.times import iso
from orchestrator.system import files, json_codec
from orchestrator.text.quoting import one_line
from orchestrator.text.words import count

#: The input of a tool call that is shown: the first of these that it has.
_TELLING = ("command", "file_path", "notebook_path", "pattern", "path", "url", "query", "skill")


def translate(raw: str) -> list[Line]:
    """Return what one line of the stream says, in order; [] for a line without content."""
    if not raw.strip():
        return []
    event = files.json_object(raw)
    if event is None:
        return [Line("noise", one_line(raw))]
    prefix = "(subagent) " if event.get("parent_tool_use_id") else ""
    at = _text(event.get("timestamp")) or None
    return [Line(kind, prefix + text, at) for kind, text in _said(event) if text]


def _said(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    match event.get("type"):
        case "system":
            yield from _system(event)
        case "assistant":
            yield from _assistant(event)
        case "user":
            yield from _user(event)
        case "rate_limit_event":
            yield from _limit(event.get("rate_limit_info"))
        case "result":
            yield from _result(event)


def _system(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    match event.get("subtype"):
        case "init":
            tools = event.get("tools")
            offer = f", {len(tools)} tools" if isinstance(tools, list) else ""
            version = _text(event.get("claude_code_version"))
            client = f", client {version}" if version else ""
            yield "start", f"{_text(event.get('model')) or 'a model'}{offer}{client}"
            servers = event.get("mcp_servers")
            for server in servers if isinstance(servers, list) else ():
                if not isinstance(server, dict):
                    continue
                name, state = _text(server.get("name")), _text(server.get("status"))
                # Without a server, 2.1.332 works without its tools, and ends in a success.
                if state not in ("connected", "pending"):  # a pending server may still come
                    yield "error", one_line(f"MCP server {name}: {state or 'not connected'}")
        case "permission_denied":
            said = one_line(_text(event.get("message")))
            yield "denied", f"{_text(event.get('tool_name')) or 'a tool'}: {said}"
        case "api_retry":
            delay, status = amount(event.get("retry_delay_ms")), event.get("error_status")
            wait = "" if delay is None else f", again in {delay / 1000:.1f} s"
            number = f" {status}" if isinstance(status, int) else ""
            said = f"{_text(event.get('error')) or 'error'}{number}{wait}"
            yield "retry", f"{event.get('attempt')} of {event.get('max_retries')}: {said}"
        case "model_fallback":
            model = _text(event.get("original_model")) or "the model"
            other = _text(event.get("fallback_model")) or "another model"
            why = _text(event.get("trigger")) or "an error of the service"
            yield "retry", f"{other} takes over from {model}: {why}"
        case "compact_boundary":
            yield "start", "the conversation was made shorter (compacted)"


def _assistant(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    error, blocks = _text(event.get("error")), _blocks(event)
    for block in blocks:
        match block.get("type"):
            case "text" if error:
                yield "error", f"{error}: {one_line(_text(block.get('text')))}"
            case "text":
                yield "says", _text(block.get("text")).strip()
            case "thinking":
                yield "thinks", one_line(_text(block.get("thinking")))
            case "tool_use":
                yield "tool", _call(_text(block.get("name")), block.get("input"))
    if error and not blocks:
        yield "error", error


def _call(name: str, given: object) -> str:
    """Return a tool call on one line: its name, and the part of its input that tells most."""
    values = given if isinstance(given, dict) else {}
    if name == "StructuredOutput":
        said = ": ".join(filter(None, (_text(values.get("outcome")), _text(values.get("summary")))))
        return one_line(f"reports {said}")
    whole = json_codec.dumps(values) if values else ""
    told = next((_text(values[key]) for key in _TELLING if _text(values.get(key))), whole)
    return one_line(f"{name or 'a tool'} {told}")


def _user(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for block in _blocks(event):
        if block.get("type") == "tool_result":
            yield "result", _tool_result(block)
        elif block.get("type") == "text":
            yield "user", one_line(_text(block.get("text")))


def _tool_result(block: dict[str, Any]) -> str:
    """Return the first line with a word of a tool's result, and the number of other lines."""
    content = block.get("content")
    parts = content if isinstance(content, list) else [content]
    texts = [_text(p.get("text")) if isinstance(p, dict) else _text(p) for p in parts]
    lines = "\n".join(filter(None, texts)).strip().split("\n")
    # Tools draw rules: unittest's result begins with a line of dashes.
    first = next((line for line in lines if any(map(str.isalnum, line))), lines[0])
    more = f" (+{count(len(lines) - 1, 'line')})" if lines[1:] else ""
    failed = "failed: " if block.get("is_error") is True else ""
    return failed + (one_line(first) or "(no output)") + more


def _limit(info: object) -> Iterator[tuple[str, str]]:
    if not isinstance(info, dict) or info.get("status") in (None, "allowed"):
        return
    word = "is reached" if info.get("status") == "rejected" else "is near"
    which = _text(info.get("rateLimitType")).replace("_", " ") or "usage"
    reset = iso(amount(info.get("resetsAt")) or None)
    yield "limit", f"the {which} limit {word}" + (f", resets {reset}" if reset else "")


def _result(event: dict[str, Any]) -> Iterator[tuple[str, str]]:
    report, word = event.get("structured_output"), _text(event.get("subtype"))
    is_error = event.get("is_error") is True
    # "success" only says that the client came to an end, also of work that failed.
    facts = [] if word in ("", "success") else [word]
    if is_error:
        facts = ["ended with an error" + "".join(f" ({word})" for word in facts)]
    # Not `num_turns`: it counts tool results, while `--max-turns` counts answers (2.1.332,
    # findings/turns-are-counted-in-two-ways.sh).
    cost, took = amount(event.get("total_cost_usd")), amount(event.get("duration_ms"))
    facts += [f"{cost:.4f} USD"] if cost is not None else []
    facts += [f"{took / 1000:.0f} s"] if took is not None else []
    denials = event.get("permission_denials")
    if isinstance(denials, list) and denials:
        facts.append(f"{len(denials)} denied")
    yield "end", ", ".join(facts) or "ended"
    errors = event.get("errors")
    for error in errors if isinstance(errors, list) else ():
        yield "error", one_line(str(error))
    if isinstance(report, dict):
        yield "end", f"{_text(report.get('outcome'))}: {_text(report.get('summary'))}"
        for key in ("question", "feedback"):
            if _text(report.get(key)):
                yield "end", f"{key}: {_text(report[key])}"
    elif is_error:
        yield "error", one_line(_text(event.get("result")))


def _blocks(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the blocks of a message; a plain string counts as one block of text."""
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
