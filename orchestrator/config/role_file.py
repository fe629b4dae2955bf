"""One role's file: policy as YAML front matter, checked, and its brief as a Jinja2 body.

Every finding comes at once, with its line. YAML and Jinja2 are imported when they are used.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.errors import near_miss
from orchestrator.model import OUTCOMES, Role

#: Bytes that a role's file, or a skill's, may have.
MAX_BYTES = 64 << 10

#: The client's tools (2.1.328), for near misses only: a later client may have others.
_TOOLS = (
    "Agent", "Bash", "CronCreate", "CronDelete", "CronList", "Edit", "EnterWorktree",
    "ExitWorktree", "Glob", "Grep", "ListAgents", "Monitor", "NotebookEdit", "Read",
    "ReportFindings", "ScheduleWakeup", "SendMessage", "Skill", "Task", "TaskStop", "ToolSearch",
    "WebFetch", "WebSearch", "Workflow", "Write",
)  # fmt: skip
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_TOOL = r"[A-Za-z][A-Za-z0-9_-]{0,127}"
#: `Bash`, `Bash(git push *)`, `mcp__server__*`: the client splits lists at commas outside brackets.
_RULE = r"[A-Za-z][A-Za-z0-9_-]{0,127}\*?(\([^()\x00-\x1f\x7f]{1,500}\))?"
_MAX_TURNS = 10_000
_MAX_LIST = 200


class Wrong(Exception):
    """A role's file is wrong: every finding with its line, None where it has none."""

    def __init__(self, findings: list[tuple[int | None, str]]) -> None:
        super().__init__()
        self.findings = findings


def read(path: str, limit: int) -> bytes:
    """Return a regular file's bytes. Raises OSError, and Wrong when it has more than `limit`."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Wrong([(None, "it is no regular file")])
        data = os.read(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise Wrong([(None, f"it is over {limit >> 10} KiB")])
    return data


def parse(data: bytes, path: str, name: str, shipped: Role | None) -> Role:
    """Read a role's file; what it leaves out comes from the `shipped` role of its name.

    Raises Wrong with every finding.
    """
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Wrong([(data.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text")]) from None
    block, body, line = _split(text)
    values, findings = _policy(block, name)
    if not re.fullmatch(NAME, name):
        findings.append((None, f"{name[:80]!r} cannot be the name of a role"))
    brief = body.strip("\n")
    line += len(body) - len(body.lstrip("\n"))
    inherited = shipped._asdict() if shipped is not None else {}
    if shipped is not None and not brief.strip():
        brief, line, path = inherited["brief"], inherited["line"], inherited["path"]
    values = {**inherited, **values, "name": name, "brief": brief, "line": line, "path": path}
    findings += _missing(values)
    if findings:
        raise Wrong(findings)
    values.setdefault("delivers", "nothing" if values["takes"] is None else "pull_request")
    lists = {key: tuple(values.get(key, ())) for key in ("tools", "allow", "deny")}
    return Role(**{**values, **lists})


def _missing(values: Mapping[str, Any]) -> Iterator[tuple[int | None, str]]:
    """Yield what a role lacks, and what in it does not go together."""
    for key, example in (("takes", "takes: implement"), ("tools", "tools: [Read, Glob, Grep]")):
        if key not in values:
            yield 1, f"{key} is missing; write for example '{example}'"
    if not values["brief"].strip():
        yield values["line"], "there is no brief below the front matter"
    if "takes" in values and "delivers" in values:
        taskless = values["takes"] is None
        if taskless and values["delivers"] not in (None, "nothing"):
            yield 1, f"delivers: without a task (takes: null) there is no {values['delivers']}"


def _split(text: str) -> tuple[str, str, int]:
    """Return the front matter ('' for none), the rest, and the line that the rest begins on."""
    if not text.startswith("---"):
        return "", text, 1
    from frontmatter.default_handlers import YAMLHandler

    try:
        handler = YAMLHandler()
        opening = handler.FM_BOUNDARY.match(text)
        block, body = handler.split(text)
    except ValueError:
        raise Wrong([(1, "no second '---' ends the front matter")]) from None
    # The boundary takes blank lines in: give them back, so that lines count from the file's top.
    above = text.count("\n", 0, opening.end()) if opening else 0
    return "\n" * above + block, body, text.count("\n", 0, len(text) - len(body)) + 1


def _policy(block: str, name: str) -> tuple[dict[str, Any], list[tuple[int | None, str]]]:
    """Return the checked values of the front matter by key, and every finding in it."""
    values: dict[str, Any] = {}
    findings: list[tuple[int | None, str]] = []
    first: dict[str, int] = {}
    for key, value, line in _pairs(block):
        if first.setdefault(key, line) != line:
            findings.append((line, f"{key[:80]}: twice; first on line {first[key]}"))
        elif key == "name" and value != name:
            findings.append((line, f"name: the file is {name}.md: write {name!r} or leave it out"))
        elif key in _CHECKS:
            try:
                values[key] = _CHECKS[key](value)
            except ValueError as error:
                findings.append((line, f"{key}: {error}"))
        elif not key.startswith("x-"):
            near = near_miss(key[:80].lower(), _CHECKS)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(_CHECKS)}"
            findings.append((line, f"unknown key {key[:80]!r}; {hint}"))
    return values, findings


def _pairs(block: str) -> Iterator[tuple[str, Any, int]]:
    """Yield key, value and line of each pair of the front matter, which begins on line 1."""
    if not block.strip():
        return
    import yaml

    try:
        for event in yaml.parse(block, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise Wrong([(line, "anchors, aliases and tags are not taken here")])
        loader: Any = yaml.SafeLoader(block)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise Wrong([(2, "the front matter is not 'key: value' lines")])
        for key, value in root.value:
            line = key.start_mark.line + 1
            yield str(key.value), loader.construct_object(value, deep=True), line
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise Wrong([(mark.line + 1 if mark else 1, f"not YAML: {why}")]) from None


def check_brief(role: Role) -> None:
    """Raise Wrong when the brief is not a template at all."""
    from orchestrator.text import templates

    found = templates.syntax_error(role.brief)
    if found is not None:
        line, why = found
        raise Wrong([(line + role.line - 1, f"not Jinja2: {why}")])


# --- one value: each returns it checked, or raises ValueError with what was expected ------------


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _word(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
        raise ValueError(
            f"expected a word of letters, digits, '.', '_', '-', found {_shown(value)}"
        )
    return value


def _delivers(value: object) -> str:
    if isinstance(value, str) and value in OUTCOMES:
        return value
    near = near_miss(value, OUTCOMES) if isinstance(value, str) else None
    hint = f"; did you mean {near!r}?" if near else ""
    raise ValueError(f"expected {', '.join(OUTCOMES)}, found {_shown(value)}{hint}")


def _texts(value: object, shape: str, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MAX_LIST:
        raise ValueError(f"expected a list of {what}s, found {_shown(value)}")
    for item in value:
        if not isinstance(item, str) or not re.fullmatch(shape, item):
            raise ValueError(f"expected a {what}, found {_shown(item)}")
    return tuple(dict.fromkeys(value))


def _tools(value: object) -> tuple[str, ...]:
    """The client passes over a tool that it does not know without a word: find typing errors."""
    from difflib import get_close_matches

    tools = _texts(value, _TOOL, "tool")
    for tool in tools:
        wanted = {known.lower(): known for known in _TOOLS}
        near = wanted.get(tool.lower()) or next(iter(get_close_matches(tool, _TOOLS, 1, 0.8)), tool)
        if near != tool and tool not in _TOOLS:
            raise ValueError(f"unknown tool {tool!r}; did you mean {near!r}?")
    return tools


def _rules(value: object) -> tuple[str, ...]:
    return _texts(value, _RULE, "permission rule like 'Bash(git push *)'")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {_shown(value)}")
    return value


def _turns(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_TURNS:
        return value
    what = f"a whole number from 1 to {_MAX_TURNS} or null"
    raise ValueError(f"expected {what}, found {_shown(value)}")


def _description(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise ValueError(f"expected one line of at most 200 characters, found {_shown(value)}")
    return value


_CHECKS: dict[str, Callable[[object], Any]] = {
    "name": _word,
    "description": _description,
    "takes": lambda value: None if value is None else _word(value),
    "delivers": _delivers,
    "tools": _tools,
    "allow": _rules,
    "deny": _rules,
    "restricted": _flag,
    "max_turns": _turns,
}
