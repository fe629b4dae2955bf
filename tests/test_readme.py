"""The README as a newcomer meets it: its order, and that every command in it is one."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest
from conftest import CHECKOUT
from rows import each_row
from test_skills import FOR_PEOPLE, PLACEHOLDERS

from orchestrator.cli import argument_parser, command_line
from orchestrator.client.claude import probe
from orchestrator.config import keys
from orchestrator.model.errors import UsageError

README = (CHECKOUT / "README.md").read_text()
#: What a person wants to know, in the order in which they want to know it.
FIRST = [
    "Two commands",
    "Installing the plugin",
    "The first real task, on your own repository",
    "What it may do to your machine, and what it can cost",
]
#: Lines that a terminal shows at once.
SCREEN = 40


def commands() -> list[str]:
    """Every command of ours: lines of console blocks without their comments, code in tables."""
    lines = re.findall(r"^\$ (?:\S*bin/)?(orchestrator .*)$", README, re.MULTILINE)
    lines += re.findall(r"`(orchestrator (?!tick = )[^`]+)`", README)
    return [line.partition("  #")[0].strip() for line in lines]


def test_it_leads_from_what_it_is_to_what_it_may_cost_in_this_order() -> None:
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert headings[: len(FIRST)] == FIRST
    opening = README.partition("\n## ")[0]
    assert len(opening.splitlines()) <= SCREEN
    assert opening.count("```") == 2, "a picture of the flow"


@each_row("command", commands())
def test_every_command_in_it_is_one(command: str) -> None:
    words = [PLACEHOLDERS.get(w, w) for w in shlex.split(command)[1:]]
    try:
        command_line.parse(words)
    except UsageError as error:
        pytest.fail(f"{error.message} ({error.hint})")


def helps(asked: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser of every command that people see, at any depth."""
    for action in asked._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                if not name.startswith("_"):
                    yield inner
                    yield from helps(inner)


def test_every_command_has_the_examples_that_it_promises() -> None:
    told = list(helps(argument_parser.build([])))
    assert len(told) > 30
    for command in told:
        _, found, examples = (command.epilog or "").partition("examples:\n")
        assert found, command.prog
        assert command.prog in examples, command.prog


def test_the_help_of_every_command_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in helps(argument_parser.build([])):
        prose = command.format_help().partition("examples:\n")[0]
        assert max(map(len, prose.splitlines())) <= 80, command.prog


def test_it_names_every_skill_for_people_and_no_other() -> None:
    [list_of_them] = re.findall(r"`/orchestrator:setup`, .*? and `[\w-]+`\.", README, re.DOTALL)
    assert set(re.findall(r"`(?:/orchestrator:)?([\w-]+)`", list_of_them)) == FOR_PEOPLE
    assert set(re.findall(r"/orchestrator:([\w-]+)", README)) <= FOR_PEOPLE


def test_the_keys_in_its_table_have_their_defaults() -> None:
    """All keys are in docs/reference.md, which `test_reference` checks."""
    table = README.partition("## Configuration")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table, re.MULTILINE))
    assert len(rows) > 5
    for key, default in rows.items():
        told = keys.parse(f"agents: []\n{key}: {default}\n")
        assert told == keys.parse("agents: []"), key


def test_it_asks_for_the_client_that_doctor_asks_for() -> None:
    assert f"Claude Code {'.'.join(map(str, probe.OLDEST))} or newer" in README
