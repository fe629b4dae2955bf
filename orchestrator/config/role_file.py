"""One role's file: policy as YAML front matter, which is checked, and a brief as a Jinja2 body.

All problems are reported together, with their lines. YAML and Jinja2 are imported when needed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from orchestrator.client import registry
from orchestrator.config.yaml_values import boolean, each, number, one_of, paths, text
from orchestrator.model.annotations import Any
from orchestrator.model.config import OUTCOMES, Role
from orchestrator.model.errors import ConfigError, did_you_mean
from orchestrator.text.yaml_nodes import BAD, Check, Node, Reading

#: Maximum bytes of a role's file.
MAX_BYTES = 64 << 10

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
#: `Bash`, `Bash(git push *)`, `mcp__server__*`: the client splits lists at commas outside brackets.
_RULE = r"[A-Za-z][A-Za-z0-9_-]{0,127}\*?(\([^()\x00-\x1f\x7f]{1,500}\))?"


@functools.lru_cache(maxsize=64)  # one command reads the same roles up to six times
def parse(data: bytes, path: str, name: str, shipped: Role | None) -> Role:
    """Return the role in a file; a missing key is taken from the `shipped` role of the same name.

    A process parses the same content once. Raises ConfigError with every problem.
    """
    reading = Reading(path, _hint(path))
    source = reading.decode(data, MAX_BYTES)
    block, body = reading.front_matter(source) or ("", source)
    root = reading.compose(block, aliases=False)
    values = {} if root is None else reading.section(root, "", _KEYS)
    if not re.fullmatch(NAME, name):
        reading.wrong(0, "", f"{name[:80]!r} cannot be the name of a role")
    if values.get("name", name) not in (BAD, name):
        said = f"the file is {name}.md: write {name!r} or omit the key"
        reading.wrong(reading.lines["name"], "name", said)
    brief = body.strip("\n")
    line = source.count("\n", 0, len(source) - len(body.lstrip("\n"))) + 1
    inherited = shipped._asdict() if shipped is not None else {}
    if shipped is not None and not brief.strip():
        brief, line, path = shipped.brief, shipped.line, shipped.path
    values = {**inherited, **values, "name": name, "brief": brief, "line": line, "path": path}
    _check_whole(reading, values)
    reading.check()
    values.setdefault("delivers", "nothing" if values["takes"] is None else "pull_request")
    lists = {key: tuple(values.get(key, ())) for key in ("tools", "allow", "deny")}
    return Role(**{**values, **lists})


def _check_whole(reading: Reading, values: Mapping[str, Any]) -> None:
    """Report missing parts of a role, and keys that contradict each other."""
    for key, example in (("takes", "takes: implement"), ("tools", "tools: [Read, Glob, Grep]")):
        if key not in values:
            reading.wrong(1, key, f"missing; write for example '{example}'")
    if not values["brief"].strip():
        reading.wrong(values["line"], "", "there is no brief below the front matter")
    delivers = values.get("delivers", "nothing")
    if values.get("takes", BAD) is None and delivers not in (BAD, "nothing"):
        reading.wrong(1, "delivers", f"without a task (takes: null) a role has no {delivers}")


def check_brief(role: Role) -> None:
    """Raise ConfigError if the brief is not a valid Jinja2 template."""
    from orchestrator.text import templates

    problem = templates.syntax_error(role.brief, role.path, role.line)
    if problem is not None:
        raise ConfigError([problem], _hint(role.path))


def _hint(path: str) -> str:
    return f"correct {path}; until then no agent has that role"


# --- the keys ----------------------------------------------------------------------------------


def _list(item: Check, what: str) -> Check:
    """Return a check for a list; repeated items are dropped."""

    def check(reading: Reading, node: Node, where: str) -> Any:
        if node.id != "sequence":
            return reading.expected(node, where, what)
        return tuple(dict.fromkeys(each(reading, node, where, item)))

    return check


def _tool(reading: Reading, node: Node, where: str) -> Any:
    """Find typing errors: a client may ignore a tool that it does not know, without a message."""
    tool = text(r"[A-Za-z][A-Za-z0-9_-]{0,127}", "a tool")(reading, node, where)
    tools = [name for client in registry.CLIENTS.values() for name in client.tools]
    known = tool is BAD or tool in tools
    hint = "" if known else did_you_mean(tool, tools, "", cutoff=0.8)
    if not hint:
        return tool
    return reading.wrong(node, where, f"unknown tool {tool!r}; {hint}")


_WORD = "a word of letters, digits, '.', '_', '-'"
_RULES = _list(text(_RULE, "a permission rule like 'Bash(git push *)'"), "a list of rules")
_KEYS: dict[str, Check] = {
    "name": text(NAME, _WORD),
    "description": text(r"[^\t\n\r\x85]{0,200}", "one line of at most 200 characters"),
    "takes": text(NAME, f"{_WORD}, or null", null=True),
    "delivers": one_of(OUTCOMES),
    "tools": _list(_tool, "a list of tools"),
    "allow": _RULES,
    "deny": _RULES,
    "restricted": boolean,
    "max_turns": number(1, 10_000, whole=True, null=True),
    "mcp_config": paths,
    "settings": paths,
}
