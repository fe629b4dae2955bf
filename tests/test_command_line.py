"""Command lines that are read without argparse mean what they mean to argparse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from orchestrator.cli import argument_parser, command_line, parser
from orchestrator.model.errors import UsageError

argument_parser.build([])  # loads the modules of all commands
NAMES = sorted(parser.COMMANDS)
OPTIONS = sorted(
    {
        name
        for _, _, arguments in parser.COMMANDS.values()
        for each in arguments
        for names, _ in (each if isinstance(each, list) else [each])
        for name in names
        if name[0] == "-"
    }
)
VALUES = (
    *("T-1", "impl-1", "a b", "key=value", "3", "0.5", "P1", "p1", "day", "done", "bash", "agents"),
    *("-", "", "-1", "--", "-x", "--json", "--json=1", "--project", "--project=/p", "--help"),
)


def lines() -> st.SearchStrategy[list[str]]:
    """Return lines of a command: arguments that fit it, in any order, and strange words."""

    def of(name: str) -> st.SearchStrategy[list[str]]:
        listed = parser.COMMANDS[name][2]
        flat = [a for each in listed for a in (each if isinstance(each, list) else [each])]
        some = [st.sampled_from([[word] for word in (*VALUES, *OPTIONS)]), *map(fitting, flat)]
        parts = st.lists(st.one_of(some[1:] or some), max_size=4, unique_by=tuple)
        strange = st.one_of(st.just([]), st.just([]), some[0]).map(lambda word: [word])
        mixed = st.tuples(parts, strange).map(lambda pair: pair[0] + pair[1])
        rest = mixed.flatmap(st.permutations).map(lambda found: [w for part in found for w in part])
        return rest.map(lambda words: [*name.split(), *words])

    return st.sampled_from(NAMES).flatmap(of)


def fitting(argument: parser.Argument) -> st.SearchStrategy[list[str]]:
    """Return the words of one argument."""
    names, how = argument
    value = st.sampled_from([str(each) for each in how.get("choices", VALUES[:6])])
    if names[0][0] != "-":
        return value.map(lambda word: [word])
    if "action" in how and how["action"] != "append":
        return st.sampled_from([[name] for name in names])
    name = st.sampled_from(names)
    return st.builds(lambda n, v: [n, v], name, value) | st.builds("{}={}".format, name, value).map(
        lambda word: [word]
    )


def outcome(line: list[str]) -> dict[str, Any] | None:
    """Return what argparse makes of a line; None for a refusal and for help."""
    try:
        found = vars(argument_parser.parse(line))
    except (UsageError, SystemExit):
        return None
    return {name: value for name, value in found.items() if name not in ("parser", "rest")}


@settings(max_examples=examples(4))
@given(lines())
def test_a_line_that_is_read_without_argparse_means_the_same(line: list[str]) -> None:
    found = command_line.plain(line)
    if found is not None:
        assert vars(found) == outcome(line)


@each_row(
    "line",
    [
        ["status"],
        ["status", "--json"],
        ["--json", "status"],
        ["--project", "/p", "status"],
        ["inbox"],
        ["inbox", "answer", "T-1", "Yes"],
        ["task", "add", "A title", "--force", "--no-tick"],
        ["task", "add", "--title", "A title", "--depends-on", "T-1", "--depends-on=T-2", "--json"],
        ["task", "add", "A title", "--priority", "p1", "--body-file", "-"],
        ["task", "list", "--state", "done", "--limit", "3"],
        ["agent", "add", "impl-2", "--role", "implementer", "model=opus"],
        ["report", "--since", "1d"],
        ["logs", "impl-1", "-n", "20"],
        ["_news"],
    ],
    ids=" ".join,
)
def test_usual_lines_need_no_argparse(line: list[str]) -> None:
    found = command_line.plain(line)
    if line[0].startswith("--"):
        assert found is None, "an option before the command is for argparse"
    else:
        assert found is not None
        assert vars(found) == outcome(line)


def test_argparse_is_not_even_loaded() -> None:
    root = Path(__file__).resolve().parent.parent
    usual = (["status", "--json"], ["task", "add", "A title"], ["_news"])
    script = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        f"from orchestrator.cli import command_line, main\n"
        f"for words in {usual!r}: command_line.parse(words)\n"
        "print(*({'argparse', 'gettext'} & set(sys.modules)))"
    )
    said = subprocess.check_output([sys.executable, "-I", "-c", script], text=True)
    assert said == "\n"


def test_a_command_leaves_nothing_of_a_clients_session_in_its_environment(
    cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", "/the/persons")
    monkeypatch.setenv("CLAUDE_ENV_FILE", "/the/persons")
    assert cli("--version").code == 0
    assert os.environ["CLAUDE_ENV_FILE"] == "/the/persons", "there is no session"
    monkeypatch.setenv("CLAUDECODE", "1")
    monkeypatch.setenv("CLAUDE_CODE_ENTRYPOINT", "cli")
    assert cli("--version").code == 0
    left = {name for name in os.environ if name.startswith("CLAUDE")}
    assert left == {"CLAUDE_CONFIG_DIR"}


def test_what_a_person_interrupts_ends_without_words(
    cli: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "parse", interrupted)
    done = cli("logs", "impl-1", "--follow")
    assert (done.code, done.out, done.err) == (130, "", "")
