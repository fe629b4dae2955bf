"""`docs/reference.md`: what it says about commands, keys, JSON and codes is so."""

from __future__ import annotations

import argparse
import ast
import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import test_contract_json as shapes
from conftest import CHECKOUT
from rows import each_row
from test_config import flat

from orchestrator.cli import argument_parser
from orchestrator.client import registry
from orchestrator.config import keys as config_keys
from orchestrator.model.config import Agent
from orchestrator.plan import rules
from orchestrator.plan.rule import Verdict

REFERENCE = (CHECKOUT / "docs" / "reference.md").read_text()


def section(heading: str) -> str:
    """Return the text below a heading of the reference, up to the next of its rank or above."""
    marks = heading.partition(" ")[0]
    [_, rest] = REFERENCE.split(f"\n{heading}\n")
    return re.split(rf"^#{{2,{len(marks)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a text's table rows; `\\|` is no border."""
    found = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line[:1] == "|"]
    cells = [[cell.strip().replace("\\|", "|") for cell in row] for row in found]
    return [row for row in cells if row[0].startswith("`")]


# --- section 4: keys and defaults --------------------------------------------------------------


def keys() -> dict[str, Any]:
    """Return every key of the configuration as the reference writes it, with its default."""
    found: dict[str, Any] = {}
    for client in registry.CLIENTS:
        found |= flat(config_keys.parse(f"{client}: {{}}\nagents: []"))
    fields = (name for name in Agent._fields if name != "position")
    of_agents = {f"agents[].{name}": Agent._field_defaults.get(name) for name in fields}
    return {**found, "agents": (), **of_agents}


KEYS = {row[0].strip("`"): row[1].strip("`") for row in rows(section("## 4. agents.yaml"))}


def test_the_reference_has_every_key_of_the_configuration_and_no_other() -> None:
    assert set(KEYS) == set(keys())
    top = {key.partition(".")[0].partition("[")[0] for key in KEYS}
    assert top == set(config_keys._TOP)


@each_row("key", sorted(key for key, default in KEYS.items() if default))
def test_a_default_in_the_reference_is_the_configurations_own(key: str) -> None:
    names = "agents: [{name: a, role: b}]\n"
    if key.startswith("agents[]."):
        name = key.removeprefix("agents[].")
        said = f"agents: [{{name: a, role: b, {name}: {KEYS[key]}}}]\n"
        assert config_keys.parse(said) == config_keys.parse(names)
        return
    group, _, name = key.partition(".")
    said = f"{group}: {{{name}: {KEYS[key]}}}" if name else f"{key}: {KEYS[key]}"
    without = f"{group}: {{}}" if name else ""  # the section of a client chooses the client
    assert config_keys.parse(f"{names}{said}\n") == config_keys.parse(f"{names}{without}\n")


# --- section 5: commands -----------------------------------------------------------------------


class Usage(NamedTuple):
    """What a command takes: its options, and the names of its positional arguments."""

    options: frozenset[str]
    positional: frozenset[str]


def known_commands() -> dict[str, Usage]:
    """Return what each command of the program takes, by its words; "orchestrator" for none."""
    return {words: _usage(command) for words, command in _commands(argument_parser.build([]), "")}


def _commands(
    found: argparse.ArgumentParser, words: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    inner = [a for a in found._actions if isinstance(a, argparse._SubParsersAction)]
    # A group such as `task` does nothing by itself.
    if not words or found.get_default("command") is not None:
        yield words or "orchestrator", found
    for action in inner:
        for name, below in action.choices.items():
            if not name.startswith("_"):
                yield from _commands(below, f"{words} {name}".strip())


def _usage(command: argparse.ArgumentParser) -> Usage:
    options, positional = set(), set()
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        if action.option_strings:
            options |= {o for o in action.option_strings if o.startswith("--") and o != "--help"}
        else:
            positional.add(str(action.metavar or action.dest))
    return Usage(frozenset(options), frozenset(positional))


def written_commands() -> dict[str, Usage]:
    found = {}
    for usage, _ in rows(section("## 5. Commands")):
        text = usage.strip("`")
        words = re.match(r"[a-z]+( [a-z]+(-[a-z]+)*(?![a-z]*=))*", text)
        assert words, usage
        rest = text[words.end() :]
        options = frozenset(re.findall(r"--[a-z][a-z-]*", rest))
        # An option's value is written behind it, in capitals too.
        bare = re.sub(r"--[a-z][a-z-]*( \[?[A-Z]\w*(\|[A-Z]\w*)*\]?)?", "", rest)
        found[words[0]] = Usage(options, frozenset(re.findall(r"key=value|[A-Z|]{2,}", bare)))
    return found


def test_the_reference_has_every_command_and_option_and_no_other() -> None:
    known, written = known_commands(), written_commands()
    assert set(written) == set(known)
    for words, usage in known.items():
        assert written[words].options == usage.options, words
        if words != "orchestrator":
            assert {p.strip("|") for p in written[words].positional} == usage.positional, words


# --- section 6: JSON and codes -----------------------------------------------------------------


def shown_keys(command: str) -> set[str]:
    [value] = [row[1] for row in rows(section("## 6. JSON")) if row[0] == command]
    return set(re.findall(r'"(\w+)"', value))


def names_in(shape: dict[str, Any]) -> set[str]:
    inner = (names_in(kind) for kind in shape.values() if isinstance(kind, dict))
    return set(shape).union(*inner)


@each_row(
    ("command", "shape"),
    [
        ("`task list`", shapes.TASK),
        ("`status`", shapes.STATUS),
        ("`status`, `agents`", shapes.AGENT),
        ("`status`, `running`", shapes.RUNNING),
        ("`status`, `problems`", shapes.PROBLEM),
        ("`tick`", {"actions": shapes.ACTION, "problems": list}),
        ("`inbox`", shapes.INBOX),
        ("`pr list`", shapes.PR),
    ],
)
def test_the_json_in_the_reference_is_what_the_contract_tests_check(
    command: str, shape: dict[str, Any]
) -> None:
    assert shown_keys(command) == names_in(shape)


@functools.cache
def strings_in(source: str) -> set[str]:
    """Return every string constant in a module, and the first word of those with a colon."""
    nodes = ast.walk(ast.parse(source))
    found = [node.value for node in nodes if isinstance(node, ast.Constant)]
    strings = [value for value in found if isinstance(value, str)]
    return {*strings, *(value.partition(":")[0] for value in strings)}


def test_the_rules_of_explain_have_the_keys_in_the_reference() -> None:
    assert shown_keys("`explain`") == {"subject", "verdict", "rules", *Verdict._fields}


def test_the_reasons_to_skip_are_in_the_order_of_the_rules() -> None:
    first_table = section("### Reason codes").partition("`explain TASK`")[0]
    written = [row[0].strip("`") for row in rows(first_table)]
    judged = [rule.code for rule in rules.RULES if rule.kind in ("agent", "choice")]
    assert written == judged


def test_every_code_in_the_reference_is_one_of_the_products() -> None:
    modules = [path.read_text() for path in (CHECKOUT / "orchestrator").rglob("*.py")]
    for heading in ("### Reason codes", "### Error codes", "### Findings of `doctor`"):
        codes = {code for row in rows(section(heading)) for code in re.findall(r"`(\w+)`", row[0])}
        assert codes
        for source in modules:
            if any(f'"{code}' in source for code in codes):  # to parse them all takes long
                codes -= strings_in(source)
        assert codes == set()


def test_every_code_of_an_error_and_of_a_finding_is_in_the_reference() -> None:
    """Codes are written as `code="..."`, `code = "..."`, or as the first argument of a finding."""
    pattern = re.compile(
        r"""\b(?:code ?= ?|CODE = |(?:ok|warn|fail|SetupError)\(\s*)"([a-z]+(?:_[a-z]+)*)\""""
    )
    modules = [path.read_text() for path in (CHECKOUT / "orchestrator").rglob("*.py")]
    used = {code for source in modules for code in pattern.findall(source)}
    assert {"check_killed", "ref_broken", "python_missing", "git_identity"} <= used
    after_json = section("## 6. JSON").partition("\n### ")[2]
    names = (row[0] for row in rows(after_json))
    written = {word for name in names for word in re.findall(r"`(\w+)`", name)}
    assert used - written == set()
