"""Edits of `agents.yaml` change the lines that they must, and not one byte besides."""

from __future__ import annotations

import contextlib
import difflib

import pytest
import yaml
from conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from orchestrator.config import edit, keys
from orchestrator.model.errors import ConfigError, NotFound, OrchestratorError, UsageError

FILE = """\
# Limits: ask Kim before raising them.
queue_limits:
    max_incoming: 20      # twenty
    max_open_prs:   10

checks: ["make   test",  'a' ]
hooks: {after_create: "npm ci", timeout_seconds: 60}  # slow

# The team
agents:
    # plans
-   name: pm-agent
    role: product_manager
    # model: opus

# writes code
-   name: "impl"
    role: 'implementer'   # a very long comment: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    interval_seconds: 180
    model: 'sonnet'

-   {name: t, role: tester}
    # max_turns: 5
# the end
"""


def changes(old: str, new: str) -> list[str]:
    """Return the lines taken out (`-…`) and put in (`+…`)."""
    lines = difflib.ndiff(old.splitlines(keepends=True), new.splitlines(keepends=True))
    return [line[0] + line[2:].rstrip("\r\n") for line in lines if line[0] in "+-"]


# --- set ----------------------------------------------------------------------------------------

SET = [
    ((), {"queue_limits.max_incoming": 5}, ["-    max_incoming: 20      # twenty",
                                            "+    max_incoming: 5       # twenty"]),
    (("queue_limits",), {"max_open_prs": 0}, ["-    max_open_prs:   10", "+    max_open_prs:   0"]),
    (("queue_limits",), {"max_claimed": 3}, ["+    max_claimed: 3"]),
    ((), {"hooks.after_create": "make x"}, [
        '-hooks: {after_create: "npm ci", timeout_seconds: 60}  # slow',
        '+hooks: {after_create: "make x", timeout_seconds: 60}  # slow']),
    (("hooks",), {"before_remove": "a, b"}, [
        '-hooks: {after_create: "npm ci", timeout_seconds: 60}  # slow',
        "+hooks: {after_create: \"npm ci\", timeout_seconds: 60, before_remove: 'a, b'}  # slow"]),
    ((), {"checks": ["x y", "a: b"]}, ["-checks: [\"make   test\",  'a' ]",
                                       "+checks: [x y, 'a: b']"]),
    ((), {"review.max_rounds": 2, "review.auto_merge": True},
     ["+review: {max_rounds: 2, auto_merge: true}"]),
    (("agents", 1), {"model": "opus"}, ["-    model: 'sonnet'", "+    model: 'opus'"]),
    (("agents", 1), {"model": None}, ["-    model: 'sonnet'", "+    model: null"]),
    (("agents", 0), {"model": "opus"}, ["+    model: opus"]),
    (("agents", 2), {"budget_usd": 1.5}, ["-    {name: t, role: tester}".replace("-    ", "--   "),
                                          "+-   {name: t, role: tester, budget_usd: 1.5}"]),
]  # fmt: skip


@each_row(("path", "values", "wanted"), SET)
def test_a_set_value_changes_its_own_line_only(
    path: edit.Path, values: dict[str, object], wanted: list[str]
) -> None:
    assert changes(FILE, edit.set_values(FILE, path, values)) == wanted


def test_setting_what_is_there_already_changes_nothing() -> None:
    values: dict[str, object] = {"queue_limits.max_incoming": 20, "checks": ["make   test", "a"]}
    assert edit.set_values(FILE, (), values) == FILE
    assert edit.set_agent(FILE, "impl", {"model": "sonnet"}) == FILE


def test_paused_goes_before_the_agents_and_is_found_again() -> None:
    once = edit.set_paused(FILE, True)
    assert changes(FILE, once) == ["+paused: true"]
    assert once.index("paused: true") < once.index("# The team")
    assert changes(once, edit.set_paused(once, False)) == ["-paused: true", "+paused: false"]


def test_limits_are_set_together() -> None:
    found = edit.set_values(FILE, ("queue_limits",), {"max_incoming": 1, "max_claimed": 2})
    assert yaml.safe_load(found)["queue_limits"] == {
        "max_incoming": 1,
        "max_open_prs": 10,
        "max_claimed": 2,
    }


def test_a_schedule_can_take_the_place_of_an_interval() -> None:
    values = {"interval_seconds": None, "schedule": "*/5 * * * *"}
    found = edit.set_agent(FILE, "impl", values)
    assert keys.parse(found).agents[1].schedule == "*/5 * * * *"


def test_an_agent_that_is_not_there_is_not_found_with_the_nearest_name() -> None:
    with pytest.raises(NotFound) as caught:
        edit.set_agent(FILE, "imple", {"paused": True})
    assert caught.value.hint == "did you mean 'impl'?"


@each_row(
    ("before", "values", "after"),
    [
        ("", {"paused": True}, "paused: true\n"),
        ("# hi", {"paused": True}, "# hi\npaused: true"),
        ("paused:\n", {"paused": True}, "paused: true\n"),
        ("paused:  # why\n", {"paused": True}, "paused: true  # why\n"),
        ("{}", {"paused": True}, "{paused: true}"),
        ("{a: 1}  # c", {"paused": True}, "{a: 1, paused: true}  # c"),
        ("review:\n", {"review.max_rounds": 2}, "review: {max_rounds: 2}\n"),
        ("a: 1", {"b": 2}, "a: 1\nb: 2"),
        ("a: 1\r\nb: 2\r\n", {"c": "x"}, "a: 1\r\nb: 2\r\nc: x\r\n"),
        ("a: |\n  x\n  y\n\nb: 1\n", {"a": "z"}, "a: z\n\nb: 1\n"),
        ("a: |\n  # x\n  y\n", {"b": 2}, "a: |\n  # x\n  y\nb: 2\n"),
        ("a: one\n  two\nb: 1\n", {"a": 3}, "a: 3\nb: 1\n"),
        ("x-i: &i 5\na: *i\n", {"b.c": 6}, "x-i: &i 5\na: *i\nb: {c: 6}\n"),
        (
            "x-i: &i {n: 5}\na:\n  b: *i  # c\n",
            {"a.d": 6},
            "x-i: &i {n: 5}\na:\n  b: *i  # c\n  d: 6\n",
        ),
        ("a: {b: 1,}\n", {"a.c": 2}, "a: {b: 1, c: 2,}\n"),
        ("a: {\n  b: 1  # one\n}\n", {"a.c": 2}, "a: {\n  b: 1, c: 2  # one\n}\n"),
        (
            '{\n  "a": 1,\n  "b": {}\n}\n',
            {"paused": True, "a": 2},
            '{\n  "a": 2,\n  "b": {}, paused: true\n}\n',
        ),
        ("a: é\nb: 1\n", {"b": "ü: \U0001f600"}, "a: é\nb: 'ü: \U0001f600'\n"),
        ("a: 1\n...\n", {"b": 2}, "a: 1\nb: 2\n...\n"),
        ("'a': 1\n", {"a": 2}, "'a': 2\n"),
        ("---\n# c\na: on\nb: 1\n", {"b": 2}, "---\n# c\na: on\nb: 2\n"),
        ("\ufeff# c\r\na: 1  # d", {"a": 10}, "\ufeff# c\r\na: 10  # d"),
        ("a: [\n  1,  2\n]  # c\nb: ~\n", {"b": 2}, "a: [\n  1,  2\n]  # c\nb: 2\n"),
        ("a: 010\nb: 1_0\nc:   1e3\nd: y\n", {"d": "on"}, "a: 010\nb: 1_0\nc:   1e3\nd: 'on'\n"),
        (
            "l:\n  - {a: 1}  # why\n  - b: 1\n    c: 2\nd: 1\n",
            {"d": 2},
            "l:\n  - {a: 1}  # why\n  - b: 1\n    c: 2\nd: 2\n",
        ),
        (
            "a:\n    b: 1\nl:\n  - b: 1\n    c:\n      d: 1\n\n# e\nf: 1\n",
            {"a.c": 2},
            "a:\n    b: 1\n    c: 2\nl:\n  - b: 1\n    c:\n      d: 1\n\n# e\nf: 1\n",
        ),
    ],
)
def test_other_layouts_are_edited_in_place(
    before: str, values: dict[str, object], after: str
) -> None:
    assert edit.set_values(before, (), values) == after


def test_the_parser_in_python_finds_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def edited() -> list[str]:
        texts = [edit.set_values(FILE, path, values) for path, values, _ in SET]
        texts += [edit.remove_agent(FILE, name) for name in ("pm-agent", "impl", "t")]
        return [edit.add_agent(text, "new", "r", {}) for text in texts]

    found = edited()
    monkeypatch.delattr("yaml.CSafeLoader", raising=False)
    assert edited() == found


@each_row(
    ("text", "path", "key"),
    [
        ("x-a: &a {b: 1}\nc: *a\n", ("c",), "b"),
        ("a: 1\n", ("a",), "b"),
        ("a: [1]\n", ("a",), "b"),
        ("a: [{b: 1}]\n", ("a", 3), "b"),
        ("- a\n", (), "paused"),
        ("x-i: &i 5\na: *i\n", (), "a"),
        ("x-a: &a 1\nb: *a\n", (), "x-a"),
        ("a:\n  - 1\n  - 2\n", (), "a"),
        ("a: |  # why\n  x\n", (), "a"),
        ("a: [  # why\n  1]\n", (), "a"),
    ],
)
def test_an_edit_that_would_change_something_else_is_refused(
    text: str, path: edit.Path, key: str
) -> None:
    with pytest.raises(OrchestratorError):
        edit.set_values(text, path, {key: 9})


@pytest.mark.parametrize(
    "text", ["a: [", "a: 'x", "a:\n\tb: 1", "[" * 5000, "a: 1\n---\nb: 1", "\x00"]
)
def test_a_text_that_is_not_yaml_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        edit.set_paused(text, True)
    assert caught.value.problems[0].startswith(".orchestrator/agents.yaml:")


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["x-0: &a0 {k: v}"] + [f"x-{i}: &a{i} [{f'*a{i - 1}, ' * 9}]" for i in range(1, 20)]
    with pytest.raises(ConfigError, match="too large once its aliases"):
        edit.set_paused("\n".join(lines), True)
    with pytest.raises(ConfigError, match="inside its own anchor"):
        edit.set_paused("x-a: &a [*a]", True)


# --- add and remove -----------------------------------------------------------------------------


def test_an_added_agent_is_laid_out_like_those_before_it() -> None:
    found = edit.add_agent(FILE, "new", "reviewer", {"max_turns": 5})
    added = ["+-   name: new", "+    role: reviewer", "+    max_turns: 5"]
    assert changes(FILE, found) == ["+", *added]
    assert found.endswith(
        "    # max_turns: 5\n\n-   name: new\n    role: reviewer\n    max_turns: 5\n# the end\n"
    )

    blocks = FILE[: FILE.index("-   {name: t")]
    grown = edit.add_agent(blocks, "new", "reviewer", {"max_turns": 5})
    assert [line for line in changes(blocks, grown) if line != "+"] == added
    assert [each.name for each in keys.parse(grown).agents] == ["pm-agent", "impl", "new"]


@each_row(
    ("before", "after"),
    [
        ("", "agents:\n  - name: n\n    role: r\n"),
        ("agents: []  # none\n", "agents:     # none\n  - name: n\n    role: r\n"),
        ("agents:\n", "agents:\n  - name: n\n    role: r\n"),
        ("agents: null\nx-a: 1\n", "agents:\n  - name: n\n    role: r\nx-a: 1\n"),
        ("paused: true", "paused: true\nagents:\n  - name: n\n    role: r"),
        ("agents: [{name: a}]\n", "agents: [{name: a}, {name: n, role: r}]\n"),
        ("{agents: []}\n", "{agents: [{name: n, role: r}]}\n"),
        ("agents:\n- name: a\n", "agents:\n- name: a\n- name: n\n  role: r\n"),
        ("agents:\n  - name: a", "agents:\n  - name: a\n  - name: n\n    role: r"),
        ("agents:\r\n- name: a\r\n", "agents:\r\n- name: a\r\n- name: n\r\n  role: r\r\n"),
        (
            "agents:\n- name: a\n  # b: 1\n# end\n",
            "agents:\n- name: a\n  # b: 1\n- name: n\n  role: r\n# end\n",
        ),
    ],
)
def test_an_agent_is_added_to_any_list(before: str, after: str) -> None:
    assert edit.add_agent(before, "n", "r", {}) == after


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(OrchestratorError, match="already") as caught:
        edit.add_agent(FILE, "t", "tester", {})
    assert caught.value.code == "agent_exists"


def test_a_list_of_agents_that_is_none_is_refused() -> None:
    with pytest.raises(OrchestratorError, match="no list of agents"):
        edit.add_agent("agents: 5\n", "n", "r", {})


REMOVED = [
    ("pm-agent", ["--   name: pm-agent", "-    role: product_manager", "-    # model: opus"]),
    ("impl", [
        "-# writes code",
        '--   name: "impl"',
        "-    role: 'implementer'   # a very long comment: " + "x" * 40,
        "-    interval_seconds: 180",
        "-    model: 'sonnet'",
        "-",
    ]),
    ("t", ["--   {name: t, role: tester}", "-    # max_turns: 5"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "gone"), REMOVED)
def test_a_removed_agent_takes_its_own_comments_along_and_no_others(
    name: str, gone: list[str]
) -> None:
    assert sorted(changes(FILE, edit.remove_agent(FILE, name))) == sorted(gone)


@each_row(
    ("before", "after"),
    [
        ("agents:\n- name: n\n", "agents: []\n"),
        (
            "agents:  # c\n  # d\n  - name: n\n    role: r\nx-a: 1\n",
            "agents: []  # c\n  # d\nx-a: 1\n",
        ),
        ("agents: [{name: n}]\n", "agents: []\n"),
        ("agents: [{name: n}, {name: a}]\n", "agents: [{name: a}]\n"),
        ("agents: [{name: a}, {name: n}]\n", "agents: [{name: a}]\n"),
        ("agents:\r\n- name: n\r\n- name: a\r\n", "agents:\r\n- name: a\r\n"),
        ("agents:\n- name: a\n\n- name: n\n", "agents:\n- name: a\n"),
        ("agents:\n- name: a\n\n- name: n\n\n- name: b\n", "agents:\n- name: a\n\n- name: b\n"),
        ("agents:\n- name: a\n- name: n", "agents:\n- name: a"),
        ("agents:\n- name: n\n\n# end\nb: 1\n", "agents: []\n\n# end\nb: 1\n"),
    ],
)
def test_an_agent_is_removed_from_any_list(before: str, after: str) -> None:
    assert edit.remove_agent(before, "n") == after


def test_an_agent_whose_anchor_is_in_use_is_not_removed() -> None:
    text = "agents:\n- &a {name: n, role: r}\n- {<<: *a, name: b}\n"
    with pytest.raises(OrchestratorError, match="without changing something else") as caught:
        edit.remove_agent(text, "n")
    assert caught.value.code == "edit_refused"


@pytest.mark.parametrize("text", [FILE[: FILE.index("\n-   {name: t")], "agents:\n- name: a\n"])
def test_adding_and_removing_an_agent_gives_back_the_same_text(text: str) -> None:
    assert edit.remove_agent(edit.add_agent(text, "new", "r", {"a": 1}), "new") == text


# --- any values, any agents ---------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from(
        ["on", "null", "~", "010", "1:30", "2024-01-01", "*/5 * * * *", "a: b", "# x", ""]
    ),
)


@given(
    st.sampled_from([0, 1, 2]),
    st.sampled_from(["model", "paused", "new"]),
    VALUES | st.lists(VALUES),
)
def test_any_value_is_read_back_as_it_was_given(index: int, key: str, value: object) -> None:
    found = edit.set_values(FILE, ("agents", index), {key: value})
    assert yaml.safe_load(found)["agents"][index][key] == value
    kept = [line for line in FILE.splitlines() if line in found.splitlines()]
    assert len(kept) >= len(FILE.splitlines()) - 1


@settings(max_examples=examples(0.5))
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_the_comments_survive_any_row_of_edits(steps: list[tuple[int, bool]]) -> None:
    text, names = FILE, ["pm-agent", "impl", "t"]
    for number, (which, add) in enumerate(steps):
        if add:
            names.append(f"n{number}")
            text = edit.add_agent(text, names[-1], "tester", {"max_turns": number + 1})
        elif names:
            text = edit.set_agent(text, names[which % len(names)], {"paused": True})
            text = edit.remove_agent(text, names.pop(which % len(names)))
    for comment in (
        "# Limits: ask Kim",
        "# twenty",
        "# slow",
        "# The team",
        "# the end",
    ):
        assert comment in text
    assert [each.name for each in keys.parse(text).agents] == names


@given(
    st.text()
    | st.lists(st.sampled_from(["a: 1", "b:", "  - x", "  c: {}", "# d", ""])).map("\n".join)
)
def test_any_text_is_edited_or_refused(text: str) -> None:
    with contextlib.suppress(OrchestratorError):
        assert yaml.safe_load(edit.set_paused(text, True))["paused"] is True


# --- key=value ----------------------------------------------------------------------------------


@each_row(
    ("text", "key", "value"),
    [
        ("max_turns=20", "max_turns", 20),
        ("review.max_rounds=2", "review.max_rounds", 2),
        ("budget_usd=1.5", "budget_usd", 1.5),
        ("backoff=1e3", "backoff", 1000.0),
        ("model=null", "model", None),
        ("model=", "model", None),
        ("paused=true", "paused", True),
        ("paused=off", "paused", False),
        ("schedule=*/5 * * * *", "schedule", "*/5 * * * *"),
        ("name='5'", "name", "5"),
        ('model="a b"', "model", "a b"),
        ("hook=[ -f x ] && make", "hook", "[ -f x ] && make"),
        ("hook=echo a: b # c", "hook", "echo a: b # c"),
        ("hook=A=1 make", "hook", "A=1 make"),
        ("a=010", "a", "010"),
        ("a=12:30", "a", "12:30"),
        ("a=2024-01-01", "a", "2024-01-01"),
        ("a=.inf", "a", ".inf"),
        (" a = b ", "a", "b"),
    ],
)
def test_an_assignment_is_typed_as_yaml_types_it(text: str, key: str, value: object) -> None:
    found = edit.parse_assignment(text)
    assert found == (key, value)
    assert type(found[1]) is type(value)


@pytest.mark.parametrize("text", ["max_turns", "", "=5", "a b=5", "a.=5", ".a=5"])
def test_an_assignment_without_key_or_sign_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        edit.parse_assignment(text)
    assert caught.value.exit_code == 2


@given(st.text())
def test_any_assignment_is_read_or_wrong_usage(value: str) -> None:
    key, _ = edit.parse_assignment(f"a={value}")
    assert key == "a"
