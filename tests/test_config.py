"""`agents.yaml` is read strictly: what is right is taken, what is wrong is said with its line."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from types import NoneType
from typing import Any, get_args, get_origin
from zoneinfo import ZoneInfo

import pytest
from conftest import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import each_row

from orchestrator.client import registry
from orchestrator.config import keys, last_good
from orchestrator.model.config import (
    FORGES,
    Agent,
    Budgets,
    Config,
    Hooks,
    Issues,
    Notify,
    Pace,
    QueueLimits,
    Retention,
    Retry,
    Review,
    Role,
    Setup,
    Split,
    Submodules,
)
from orchestrator.model.errors import ConfigError, OrchestratorError
from orchestrator.plan.due import next_due, tolerance

#: A configuration in which each key has another value than its default.
MEANT = Config(
    paused=True,
    queue_limits=QueueLimits(max_incoming=21, max_claimed=6, max_open_prs=0),
    max_starts=4,
    base_branch="release/1.x",
    base_port=42000,
    client="claude",
    client_command=("claude", "--setting-sources", ""),
    client_sandbox=True,
    retry=Retry(max_attempts=4, backoff_seconds=0.5, max_backoff_seconds=60),
    budgets=Budgets(run_usd=5, daily_usd=50.5, task_usd=12),
    review=Review(after=("implement",), max_rounds=1, auto_merge=True, merge_method="squash"),
    checks=("make lint", "make test"),
    check_timeout_seconds=90,
    forge="github",
    remote="upstream",
    push_remote="mine",
    branch_prefix="bot/",
    hooks=Hooks(
        after_create="npm ci",
        before_run="npm start",
        before_remove="npm stop",
        timeout_seconds=30,
    ),
    setup=Setup(command="npm ci", when_changed=("package-lock.json", "packages/a/package.json")),
    environment_allow=("NPM_TOKEN",),
    retention=Retention(runs=7, days=2.5, events_mb=1, remote_branches="keep"),
    notify=Notify(command=("notify-send", "-a", "x"), on=("question",), report="08:00"),
    issues=Issues(label="robots", any_author=True, show_questions=True),
    split=Split(max_depth=2, max_tasks=7),
    submodules=Submodules(checkout="all", unpushed="push"),
    pace=Pace(five_hour=0.8, seven_day=0.9, hours="22:00-07:00"),
    dependencies="delivered",
    overlap="hold",
    store="postgresql://db.example/team?options=-csearch_path%3Dshop",
    agents=(
        Agent(
            name="impl-1",
            role="implementer",
            position=0,
            interval_seconds=180,
            paused=True,
            model="sonnet",
            max_turns=20,
            budget_usd=1.25,
            max_runtime_seconds=1800,
            stall_seconds=0,
            host="two",
            effort="high",
            fallback_model="sonnet,haiku",
            mcp_config=(".mcp.json",),
            settings=("agents/settings.json", "/etc/more.json"),
        ),
        Agent("nightly", "tester", position=1, interval_seconds=None, schedule="0 3 * * *"),
    ),
)


def flat(config: Config) -> dict[str, Any]:
    """Return the value of each key of agents.yaml but `agents`, by the key's full name."""
    found: dict[str, Any] = {}
    values = config._asdict()
    groups = {"client": values.pop("client"), "environment": "environment"}
    for name, value in values.items():
        group, _, key = name.partition("_")
        if group in groups:
            found[f"{groups[group]}.{key}"] = value
        elif hasattr(value, "_asdict"):
            found |= {f"{name}.{key}": inner for key, inner in value._asdict().items()}
        elif name != "agents":
            found[name] = value
    return found


def of_agent(agent: Agent) -> dict[str, Any]:
    """Return the value of each key of an agent."""
    return {name: value for name, value in agent._asdict().items() if name != "position"}


def written(config: Config) -> str:
    """Return agents.yaml with every key of a configuration, each on its own line."""
    lines, section = [], ""
    for name, value in flat(config).items():
        first, _, key = name.partition(".")
        if key and first != section:
            lines.append(f"{first}:")
        section = first
        lines.append(f"{'  ' * bool(key)}{key or first}: {json.dumps(value)}")
    lines.append("agents:")
    for each in config.agents:
        rows = [f"    {name}: {json.dumps(value)}" for name, value in of_agent(each).items()]
        lines += [f"  - {rows[0].strip()}", *rows[1:]]
    return "\n".join(lines) + "\n"


EVERY_KEY = written(MEANT)
ONE = "agents:\n- {name: a, role: r}\n"


def problems(text: str | bytes, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        keys.parse(text, **options)  # type: ignore[arg-type]
    return caught.value.problems


def agent(**values: object) -> str:
    fields = {"name": "a", "role": "r", **values}
    return "agents:\n- {" + ", ".join(f"{key}: {value}" for key, value in fields.items()) + "}\n"


# --- what is right ------------------------------------------------------------------------------


def test_issues_become_tasks_on_github_only() -> None:
    text = ONE + "issues: {label: 'good first issue'}\nforge: "
    for forge in ("auto", "github"):
        assert keys.parse(f"{text}{forge}\n").issues == Issues("good first issue")
    [problem] = problems(f"{text}local\n")
    assert "issues.label" in problem
    assert "forge: github" in problem
    assert keys.parse(f"{ONE}issues: {{label: null}}\nforge: local\n").issues == Issues()
    assert len(problems(f"{ONE}issues: {{label: 'one,two'}}\n")) == 1


def test_every_key_of_the_contract_reaches_the_configuration() -> None:
    assert keys.parse(EVERY_KEY) == MEANT
    assert keys.parse(EVERY_KEY.encode()) == MEANT
    assert keys.parse("\ufeff" + EVERY_KEY.replace("\n", "\r\n")) == MEANT


def test_no_key_of_the_example_has_its_default() -> None:
    default = keys.parse(ONE)
    changed, standard = flat(MEANT), flat(default)
    assert {name for name in changed if changed[name] == standard[name]} == set()
    given = [of_agent(each) for each in MEANT.agents]
    left = of_agent(default.agents[0]).items()
    assert {name for name, value in left if all(each[name] == value for each in given)} == set()


def test_what_is_left_out_has_the_default_of_the_contract() -> None:
    default = Config(client="claude", client_command=("claude",))
    assert keys.parse("agents: []") == default
    assert keys.parse(ONE).agents == (Agent("a", "r", 0),)


def test_the_table_of_keys_has_every_field_of_the_model() -> None:
    names = {"environment" if f.startswith("environment_") else f for f in MEANT._fields}
    names = {name for name in names if not name.startswith("client")} | {*registry.CLIENTS}
    assert set(keys._TOP) == names
    assert set(keys._AGENT) == set(MEANT.agents[0]._asdict()) - {"position"}


@each_row(
    ("text", "field", "value"),
    [
        (
            "claude: {command: nice -n 5 'my claude'}",
            "client_command",
            ("nice", "-n", "5", "my claude"),
        ),
        ("checks: make test", "checks", ("make test",)),
        ("checks: |\n  make\n  make test\n", "checks", ("make\nmake test\n",)),
        ("paused: yes", "paused", True),
        ("base_branch: null", "base_branch", None),
        ("retry: {backoff_seconds: 1e2}", "retry", Retry(backoff_seconds=100)),
        ("retry: {backoff_seconds: .5}", "retry", Retry(backoff_seconds=0.5)),
        ("review: {after: []}", "review", Review(after=())),
        ("queue_limits: {}", "queue_limits", QueueLimits()),
        (
            "x-note: {anything: [1, {x: 2}]}\nqueue_limits: {x-why: y}",
            "queue_limits",
            QueueLimits(),
        ),
    ],
)
def test_other_spellings_are_taken(text: str, field: str, value: object) -> None:
    assert getattr(keys.parse(f"{text}\n{ONE}"), field) == value


def test_anchors_aliases_and_merge_keys_work() -> None:
    text = (
        "x-slow: &slow {interval_seconds: 900, role: tester, x-why: cheap}\n"
        "x-big: &big {model: opus}\n"
        "agents:\n"
        "- {<<: *slow, name: a}\n"
        "- {name: b, interval_seconds: 5, <<: [*big, *slow]}\n"
    )
    first, second = keys.parse(text).agents
    assert (first.interval_seconds, first.role, first.model) == (900, "tester", None)
    assert (second.interval_seconds, second.role, second.model) == (5, "tester", "opus")


def test_an_interval_of_null_makes_room_for_a_schedule_and_the_reverse() -> None:
    first = keys.parse(agent(interval_seconds="null", schedule="'0 3 * * *'")).agents[0]
    second = keys.parse(agent(interval_seconds=5, schedule="null")).agents[0]
    assert (first.interval_seconds, first.schedule) == (None, "0 3 * * *")
    assert (second.interval_seconds, second.schedule) == (5, None)


# --- what is wrong ------------------------------------------------------------------------------


def each_key() -> list[tuple[int, str, str]]:
    """Return (line, indent and dash, key) for each key of EVERY_KEY."""
    found = []
    for number, line in enumerate(EVERY_KEY.splitlines(), 1):
        key, colon, _ = line.partition(":")
        word = key.lstrip(" -")
        if colon:
            found.append((number, key.removesuffix(word), word))
    return found


@pytest.mark.parametrize("slip", ["doubled", "dropped", "upper"])
def test_each_misspelt_key_is_named_with_its_line_and_the_right_word(slip: str) -> None:
    missed = []
    for line, lead, key in each_key():
        middle = len(key) // 2
        wrong = {
            "doubled": key[:middle] + key[middle] + key[middle:],
            "dropped": key[:middle] + key[middle + 1 :],
            "upper": key.upper(),
        }[slip]
        lines = EVERY_KEY.splitlines()
        lines[line - 1] = lines[line - 1].replace(lead + key, lead + wrong, 1)
        found = problems("\n".join(lines))
        start = f".orchestrator/agents.yaml:{line}: "
        end = f"{wrong}: unknown key; did you mean {key!r}?"
        if not any(each.startswith(start) and each.endswith(end) for each in found):
            missed.append((key, wrong, found))
    assert missed == []


def test_a_misspelt_agents_key_does_not_empty_the_agent_list() -> None:
    assert problems("paused: true\nagentss: []\n") == [
        ".orchestrator/agents.yaml:1: agents: missing; write 'agents: []' for none",
        ".orchestrator/agents.yaml:2: agentss: unknown key; did you mean 'agents'?",
    ]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null", "paused: true\n"])
def test_a_file_without_agents_is_an_error(text: str) -> None:
    assert problems(text) == [
        ".orchestrator/agents.yaml:1: agents: missing; write 'agents: []' for none"
    ]


def test_all_problems_come_at_once_in_the_order_of_the_lines() -> None:
    text = (
        "queue_limits:\n  max_incoming: -1\n  max_claimed: many\n"
        "agents:\n  - name: a\n    role: tester\n  - name: b\n    rle: tester\n    paused: 1\n"
    )
    found = [each.removeprefix(".orchestrator/agents.yaml:") for each in problems(text)]
    assert found == [
        "2: queue_limits.max_incoming: expected a whole number of at least 0, found -1",
        "3: queue_limits.max_claimed: expected a whole number of at least 0, found 'many'",
        "7: agents[1].role: missing",
        "8: agents[1].rle: unknown key; did you mean 'role'?",
        "9: agents[1].paused: expected true or false, found 1",
    ]


INSIDE = "expected the path of a file of the repository, found"
WHOLE_0, WHOLE_1 = "a whole number of at least 0", "a whole number of at least 1"
SECONDS = "a number above 0 and at most 31622400"
FROM_0 = SECONDS.replace("above", "of at least")
FORGE_WORDS = " or ".join((", ".join(("auto", *FORGES[:-1])), FORGES[-1]))
WRONG_VALUES = [
    ("paused: 1", "paused: expected true or false, found 1"),
    ("paused: 'true'", "paused: expected true or false, found 'true'"),
    ("paused: null", "paused: expected true or false, found null"),
    ("queue_limits: 5", "queue_limits: expected a mapping of keys to values, found 5"),
    (
        "queue_limits: {max_incoming: true}",
        f"queue_limits.max_incoming: expected {WHOLE_0}, found true",
    ),
    (
        "queue_limits: {max_claimed: 2.5}",
        f"queue_limits.max_claimed: expected {WHOLE_0}, found 2.5",
    ),
    (
        "queue_limits: {max_claimed: '2'}",
        f"queue_limits.max_claimed: expected {WHOLE_0}, found '2'",
    ),
    (
        "queue_limits: {max_claimed: 010}",
        f"queue_limits.max_claimed: expected {WHOLE_0}, found 010",
    ),
    (
        "queue_limits: {max_claimed: 1:30}",
        f"queue_limits.max_claimed: expected {WHOLE_0}, found 1:30",
    ),
    (
        "queue_limits: {max_open_prs: []}",
        f"queue_limits.max_open_prs: expected {WHOLE_0}, found a list",
    ),
    ("base_branch: -x", "base_branch: expected the name of a branch, found '-x'"),
    ("base_branch: a b", "base_branch: expected the name of a branch, found 'a b'"),
    ("base_branch: a..b", "base_branch: expected the name of a branch, found 'a..b'"),
    ("base_branch: a.lock", "base_branch: expected the name of a branch, found 'a.lock'"),
    ("base_branch: a@{1}", "base_branch: expected the name of a branch, found 'a@{1}'"),
    ("base_branch: /a", "base_branch: expected the name of a branch, found '/a'"),
    ("base_branch: a/", "base_branch: expected the name of a branch, found 'a/'"),
    ("base_branch: a/.b", "base_branch: expected the name of a branch, found 'a/.b'"),
    ('base_branch: "a\\nb"', "base_branch: expected the name of a branch, found 'a\\nb'"),
    ("base_branch: HEAD", "base_branch: expected the name of a branch, found 'HEAD'"),
    ("base_branch: 2", "base_branch: expected the name of a branch (in quotes), found 2"),
    ("remote: https://x", "remote: expected the name of a git remote, found 'https://x'"),
    (
        "forge: locale",
        f"forge: expected {FORGE_WORDS}, found 'locale'; did you mean 'local'?",
    ),
    ("forge: none", f"forge: expected {FORGE_WORDS}, found 'none'"),
    (
        "base_port: 80",
        "base_port: expected a whole number of at least 1024 and at most 65535, found 80",
    ),
    ("base_port: 65534", "base_port: 1 agents, 10 ports apart, would end at 65536, above 65535"),
    (
        "claude: {command: []}",
        "claude.command: expected a program and its arguments, found none",
    ),
    (
        "claude: {command: ''}",
        "claude.command: expected a program and its arguments, found none",
    ),
    ("claude: {command: 'a \"b'}", "claude.command: no closing quotation: 'a \"b'"),
    ("claude: {command: [a, 5]}", "claude.command[1]: expected text (in quotes), found 5"),
    ("claude: {command: 5}", "claude.command: expected a list of words, found 5"),
    ("retry: {max_attempts: 0}", f"retry.max_attempts: expected {WHOLE_1}, found 0"),
    (
        "budgets: {run_usd: -1}",
        "budgets.run_usd: expected a number of at least 0.01 or null, found -1",
    ),
    (
        "budgets: {run_usd: .inf}",
        "budgets.run_usd: expected a number of at least 0.01 or null, found .inf",
    ),
    (
        "budgets: {run_usd: .nan}",
        "budgets.run_usd: expected a number of at least 0.01 or null, found .nan",
    ),
    ("review: {after: [a, '']}", "review.after[1]: expected text, found ''"),
    ("review: {max_rounds: -1}", f"review.max_rounds: expected {WHOLE_0}, found -1"),
    ("review: {auto_merge: maybe}", "review.auto_merge: expected true or false, found 'maybe'"),
    ("checks: null", "checks: expected a list of shell commands ('[]' for none), found null"),
    ("checks: [[a]]", "checks[0]: expected text, found a list"),
    ('checks: ["a\\0b"]', "checks[0]: expected text, found 'a\\x00b'"),
    ("check_timeout_seconds: 0", f"check_timeout_seconds: expected {SECONDS}, found 0"),
    ("check_timeout_seconds: 9e9", f"check_timeout_seconds: expected {SECONDS}, found '9e9'"),
    ("hooks: {after_create: ' '}", "hooks.after_create: expected text, found ' '"),
    ("setup: {when_changed: [a, b/../../x]}", f"setup.when_changed[1]: {INSIDE} 'b/../../x'"),
    ("setup: {when_changed: [/etc/x]}", f"setup.when_changed[0]: {INSIDE} '/etc/x'"),
    ("setup: {when_changed: null}", "setup.when_changed: expected a list of files, found null"),
    ("hooks: {timeout_seconds: -1}", f"hooks.timeout_seconds: expected {SECONDS}, found -1"),
    ("? [a]\n: b", "expected text as a key, found a list"),
    ("paused: true\npaused: true", "paused: duplicate of line 1"),
    ("queue_limits: {<<: 5}", "queue_limits.<<: expected a mapping to merge, found 5"),
]


@each_row(("text", "message"), WRONG_VALUES)
def test_a_wrong_value_is_refused_and_shown(text: str, message: str) -> None:
    line = 2 if "duplicate of" in message else 1
    assert problems(f"{text}\n{ONE}") == [f".orchestrator/agents.yaml:{line}: {message}"]


AGENT_NAME = "expected a name of a-z, 0-9, '.', '_' and '-', at most 64 characters"
WRONG_AGENTS = [
    ({"name": "A"}, f"agents[0].name: {AGENT_NAME}, found 'A'"),
    ({"name": "a..b"}, f"agents[0].name: {AGENT_NAME}, found 'a..b'"),
    ({"name": "a.lock"}, f"agents[0].name: {AGENT_NAME}, found 'a.lock'"),
    ({"name": "a."}, f"agents[0].name: {AGENT_NAME}, found 'a.'"),
    ({"name": "-a"}, f"agents[0].name: {AGENT_NAME}, found '-a'"),
    ({"name": '"a\\n"'}, f"agents[0].name: {AGENT_NAME}, found 'a\\n'"),
    ({"name": 7}, f"agents[0].name: {AGENT_NAME} (in quotes), found 7"),
    ({"role": "../x"}, "agents[0].role: expected the name of a role, found '../x'"),
    ({"interval_seconds": -1}, f"agents[0].interval_seconds: expected {FROM_0} or null, found -1"),
    (
        {"interval_seconds": "null"},
        "agents[0].interval_seconds: expected a number of seconds, or null with a schedule",
    ),
    (
        {"interval_seconds": 5, "schedule": "'* * * * *'"},
        "agents[0].interval_seconds: there is also a schedule; set one to null",
    ),
    (
        {"schedule": "'0 25 * * *'"},
        "agents[0].schedule: '0 25 * * *' is not a cron expression: bad hour",
    ),
    (
        {"schedule": "'* * * * * *'"},
        "agents[0].schedule: '* * * * * *' is not a cron expression: "
        "it needs 5 fields: minute hour day-of-month month day-of-week",
    ),
    (
        {"schedule": "'0 0 31 2 *'"},
        "agents[0].schedule: '0 0 31 2 *' is not a cron expression: bad day-of-month",
    ),
    ({"model": "'a b'"}, "agents[0].model: expected the name of a model, found 'a b'"),
    ({"max_turns": 0}, f"agents[0].max_turns: expected {WHOLE_1} or null, found 0"),
    (
        {"budget_usd": "x"},
        "agents[0].budget_usd: expected a number of at least 0.01 or null, found 'x'",
    ),
    ({"max_runtime_seconds": 0}, f"agents[0].max_runtime_seconds: expected {SECONDS}, found 0"),
]


@each_row(("values", "message"), WRONG_AGENTS)
def test_a_wrong_value_of_an_agent_is_refused(values: dict[str, object], message: str) -> None:
    assert problems(agent(**values)) == [f".orchestrator/agents.yaml:2: {message}"]


@pytest.mark.parametrize("value", ["null", "{}", "5", "name"])
def test_agents_must_be_a_list(value: str) -> None:
    (problem,) = problems(f"agents: {value}")
    assert ":1: agents: expected a list of agents ('[]' for none), found " in problem


def test_two_agents_with_one_name_are_refused() -> None:
    text = "agents:\n- {name: a, role: r}\n- name: a\n  role: r\n"
    assert problems(text) == [
        ".orchestrator/agents.yaml:3: agents[1].name: 'a' is also the name of agents[0]"
    ]


def test_a_role_that_does_not_exist_is_refused_with_the_nearest() -> None:
    roles = {
        name: Role(name, "test", "nothing", (), (), (), "") for name in ("implementer", "tester")
    }
    assert keys.parse(agent(role="tester"), roles=roles).agents[0].role == "tester"
    assert problems(agent(role="implementor"), roles=roles)[0].endswith(
        "agents[0].role: unknown role 'implementor'; did you mean 'implementer'?"
    )
    assert problems(agent(role="zzz"), roles=roles)[0].endswith("'zzz'; known: implementer, tester")


@pytest.mark.parametrize(
    ("role", "given", "interval"),
    [
        ("implementer", {}, 0),
        ("product_manager", {}, 600),
        ("product_manager", {"interval_seconds": 0}, 0),
        ("product_manager", {"schedule": "'0 3 * * *'"}, None),
        ("scout", {}, 600),
    ],
)
def test_the_default_interval_is_every_tick_unless_the_role_takes_no_tasks(
    role: str, given: dict[str, Any], interval: float | None
) -> None:
    takes = {"implementer": "implement", "product_manager": None, "scout": None}
    roles = {name: Role(name, task, "nothing", (), (), (), "") for name, task in takes.items()}
    assert keys.parse(agent(role=role, **given), roles=roles).agents[0].interval_seconds == interval


BOMB = "x-0: &a0 {k: v}\n" + "".join(
    f"x-{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 20)
)
NOT_YAML = [
    ("a: 1\n\tb: 2", 2, "a tab cannot indent"),
    ("a: [1\nb: 2", 2, "not YAML"),
    ("a: 1\nb: 'x", 2, "from line 2, found unexpected end of stream"),
    ("agents: []\n---\nagents: []", 2, "another document"),
    ("agents: []\nx-a: !!python/name:os.system x", 2, "is not allowed"),
    ("agents: []\nx-a: !mine x", 2, "is not allowed"),
    ("agents: []\nx-a: !!binary aGk=", 2, "is not allowed"),
    ("agents: []\nx-a: &a\n  - *a", 3, "*a is inside its own anchor"),
    ("agents: *b", 1, "undefined alias"),
    ("[" * 200_000, 1, "nested too deeply"),
    ("agents:\n" + "- \n" * 200_000, 0, "too many values"),
    (b"agents: []\nx-a: \xff", 2, "not UTF-8"),
    ("agents: []".encode("utf-16"), 1, "not UTF-8"),
    ("agents: []\n\nx-a: \x07", 3, "a control character"),
    ("agents: []\nx-a: \ud800", 2, "a control character"),
    (" " * (1 << 20) + "#", 1, "larger than"),
    (BOMB + "agents:\n- <<: *a19\n", 0, "too large once its aliases are followed"),
]


@pytest.mark.parametrize(("text", "line", "message"), NOT_YAML)
@pytest.mark.parametrize("parser", ["C", "Python"])
def test_what_is_not_plain_yaml_becomes_a_problem_with_its_line_at_once(
    text: str | bytes, line: int, message: str, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parser == "Python":
        if message == "too many values":
            pytest.skip("takes the parser in Python some seconds")
        monkeypatch.delattr("yaml.CSafeLoader", raising=False)
        message = message.replace("found unexpected end of stream", "found unexpected end")
    started = time.monotonic()
    (problem, *_) = problems(text)
    assert message in problem
    assert f"agents.yaml:{line or ''}" in problem
    assert time.monotonic() - started < 5


def test_a_flood_of_problems_ends_after_a_hundred() -> None:
    found = problems("\n".join(f"k{i}: 1" for i in range(5000)))
    assert len(found) == 101
    assert "there may be more" in found[-1]


@given(st.one_of(st.text(), st.binary()))
def test_no_text_and_no_bytes_raise_anything_else(text: str | bytes) -> None:
    with pytest.raises(ConfigError):
        keys.parse(text)


WORDS = "agents name role paused queue_limits retry claude command hooks schedule x-a a 1 1.5 null"
MARKS = "' \" [ ] { } , : - ? & * &a *a << ! !!str | > # @ % ~ 0x1 1e3 --- ..."
SCRAPS = st.sampled_from(
    [*WORDS.split(), *MARKS.split(), "\t", "\n", "\n  ", "\n- ", ": ", "- ", " "]
)


@settings(max_examples=examples(4))
@given(st.lists(SCRAPS, max_size=40))
def test_no_yaml_like_text_raises_anything_but_a_config_error(scraps: list[str]) -> None:
    text = "".join(scraps)
    for source in (text, f"agents:\n- {text}", EVERY_KEY + text):
        with contextlib.suppress(ConfigError):
            keys.parse(source)


NUMERIC = list(re.finditer(r"(\w+): ([0-9.]+)(?=[,}\n])", EVERY_KEY))


def test_every_numeric_key_is_found() -> None:
    agents = (value for agent in MEANT.agents for value in of_agent(agent).values())
    values = (*flat(MEANT).values(), *agents)
    assert len(NUMERIC) == sum(type(value) in (int, float) for value in values)


@pytest.mark.parametrize("value", [".nan", ".NaN", "nan", "NaN", ".inf", "-.Inf", "1e999"])
def test_what_is_not_a_finite_number_is_refused_for_every_numeric_key(value: str) -> None:
    for place in NUMERIC:
        [problem] = problems(EVERY_KEY[: place.start(2)] + value + EVERY_KEY[place.end(2) :])
        said = rf"\b{place[1]}: expected a (whole )?number .*, found '?{value}'?$"
        assert re.search(said, problem)


# --- the last good configuration ----------------------------------------------------------------

TEXTS = st.text(max_size=20)
NUMBERS = st.one_of(st.integers(0, 10**12), st.floats(0, 1e9))
SIMPLE = {bool: st.booleans(), int: st.integers(), float: NUMBERS, str: TEXTS, None: st.none()}


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Draw values of a type that fields of the configuration have."""
    if hasattr(kind, "_fields"):
        fields = kind.__annotations__.items()
        return st.builds(kind, **{name: any_of(inner) for name, inner in fields})
    if get_origin(kind) is tuple:
        return st.lists(any_of(get_args(kind)[0]), max_size=3).map(tuple)
    if kinds := get_args(kind):
        return st.one_of(map(any_of, kinds))
    return SIMPLE[None if kind is NoneType else kind]


CONFIGS = any_of(Config)


def test_a_number_that_is_not_finite_is_not_cached() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            last_good.dump(MEANT._replace(budgets=Budgets(task_usd=value)), {})


ROLES = {
    "r": Role(
        "r", "implement", "pull_request", ("Read",), ("Bash(x *)",), (), "Brief é.\n", True, 5
    )
}


@given(CONFIGS)
def test_the_cache_gives_back_exactly_what_was_put_in(wanted: Config) -> None:
    found = last_good.load(last_good.dump(wanted, ROLES))
    assert found == (wanted, ROLES)
    assert repr(found) == repr((wanted, ROLES))
    assert hash(found[0]) == hash(wanted)


@given(st.binary())
def test_bytes_that_are_no_cache_are_none(data: bytes) -> None:
    assert last_good.load(data) is None


@given(st.data())
def test_a_damaged_cache_is_none(data: st.DataObject) -> None:
    good = last_good.dump(MEANT, ROLES)
    at = data.draw(st.integers(0, len(good) - 1))
    assert last_good.load(good[:at]) is None
    other = bytes([good[at] ^ data.draw(st.integers(1, 255))])
    assert last_good.load(good[:at] + other + good[at + 1 :]) is None


def test_a_cache_of_another_format_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    data = last_good.dump(MEANT, ROLES)
    monkeypatch.setattr(last_good, "_FORMAT", "orchestrator-config-0")
    assert last_good.load(data) is None


def test_the_cache_of_fifty_agents_loads_in_a_millisecond() -> None:
    many = MEANT._replace(agents=tuple(MEANT.agents[0]._replace(position=i) for i in range(50)))
    data = last_good.dump(many, ROLES)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        last_good.load(data)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.001


def test_loading_the_cache_and_an_interval_import_nothing_slow() -> None:
    code = """
import sys
from orchestrator.model import config as model
from orchestrator.config import last_good
from orchestrator.plan.due import next_due
saved = last_good.dump(model.Config(agents=(model.Agent("a", "r", 0),)), {})
next_due(last_good.load(saved)[0].agents[0], 1.0, 2.0)
print([m for m in ("yaml", "cronsim", "zoneinfo", "difflib") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- when an agent is due -----------------------------------------------------------------------

EVERY_5 = Agent("a", "r", 0, interval_seconds=300)


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        (None, 1000.0, 1000.0),
        (900.0, 1000.0, 1190.0),
        (100.0, 1000.0, 390.0),
        (99_999.0, 1000.0, 1290.0),
    ],
)
def test_an_interval_counts_from_the_last_start_and_never_from_the_future(
    last: float | None, now: float, due: float
) -> None:
    assert next_due(EVERY_5, last, now) == due


@each_row("jitter", [0.0, 0.4, 1.5, 5.0])
@each_row("interval", [0, 60, 120, 180, 600, 3600])
def test_an_agent_runs_each_interval_although_ticks_come_late_or_early(
    interval: float, jitter: float
) -> None:
    agent = Agent("a", "r", 0, interval_seconds=interval)
    ticks = [60.0 * number + (0, jitter)[number % 2] for number in range(1, 1000)]
    starts: list[float] = []
    for tick in ticks:
        if next_due(agent, starts[-1] if starts else None, tick) <= tick:
            starts.append(tick)
    between = {round((b - a) / 60) for a, b in itertools.pairwise(starts)}
    assert between == {max(interval / 60, 1)}


@pytest.mark.parametrize(
    ("interval", "seconds"), [(0, 0), (1, 0.1), (60, 6), (100, 10), (3600, 10), (86_400, 10)]
)
def test_an_interval_ends_at_most_a_tenth_and_ten_seconds_early(
    interval: float, seconds: float
) -> None:
    assert tolerance(interval) == pytest.approx(seconds)


def test_a_schedule_has_no_tolerance_so_one_match_starts_one_run() -> None:
    nightly = Agent("a", "r", 0, interval_seconds=None, schedule="0 3 * * *")
    with machine_in("UTC"):
        three = at("2026-06-10T03:00", "UTC")
        assert next_due(nightly, three - 86_400, three - 2) == three


def at(text: str, zone: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@contextlib.contextmanager
def machine_in(zone: str) -> Iterator[None]:
    """Set the time zone of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


def runs(expression: str, zone: str, start: str, count: int) -> list[str]:
    """Return the next starts of an agent that always starts on time, in wall-clock time."""
    scheduled = Agent("a", "r", 0, interval_seconds=None, schedule=expression)
    last, found = at(start, zone), []
    for _ in range(count):
        last = next_due(scheduled, last, last)
        found.append(datetime.fromtimestamp(last, ZoneInfo(zone)).strftime("%d %H:%M %Z"))
    return found


SPRING, AUTUMN = "2026-03-28T12:00", "2026-10-24T12:00"
DAYLIGHT = [
    ("30 2 * * *", SPRING, ["29 03:00 CEST", "30 02:30 CEST"]),
    ("30 2 * * *", AUTUMN, ["25 02:30 CEST", "26 02:30 CET"]),
    ("*/30 2 * * *", SPRING, ["29 03:00 CEST", "30 02:00 CEST", "30 02:30 CEST"]),
    ("*/30 2 * * *", AUTUMN, ["25 02:00 CEST", "25 02:30 CEST", "26 02:00 CET"]),
    ("0 3 * * *", SPRING, ["29 03:00 CEST", "30 03:00 CEST"]),
    ("0 3 * * *", AUTUMN, ["25 03:00 CET", "26 03:00 CET"]),
    ("0 * * * *", "2026-03-29T00:30", ["29 01:00 CET", "29 03:00 CEST", "29 04:00 CEST"]),
    ("0 * * * *", "2026-10-25T01:30", ["25 02:00 CEST", "25 02:00 CET", "25 03:00 CET"]),
    ("*/30 * * * *", "2026-10-25T02:10", ["25 02:30 CEST", "25 02:00 CET", "25 02:30 CET"]),
]


@each_row(("expression", "start", "wanted"), DAYLIGHT)
def test_daylight_saving_neither_skips_nor_doubles_a_run(
    expression: str, start: str, wanted: list[str]
) -> None:
    with machine_in("Europe/Berlin"):
        assert runs(expression, "Europe/Berlin", start, len(wanted)) == wanted


def test_a_start_in_the_repeated_hour_does_not_call_the_first_one_back() -> None:
    nightly = Agent("a", "r", 0, interval_seconds=None, schedule="45 2 * * *")
    second = at("2026-10-25T02:10", "Europe/Berlin", fold=1)
    with machine_in("Europe/Berlin"):
        assert next_due(nightly, second, second) == at("2026-10-26T02:45", "Europe/Berlin")


def test_missed_matches_are_caught_up_by_one_run() -> None:
    nightly = Agent("a", "r", 0, interval_seconds=None, schedule="0 3 * * *")
    last, now = at("2026-06-01T03:00", "Asia/Tokyo"), at("2026-06-09T12:00", "Asia/Tokyo")
    with machine_in("Asia/Tokyo"):
        assert next_due(nightly, last, now) == at("2026-06-02T03:00", "Asia/Tokyo")
        assert next_due(nightly, now, now) == at("2026-06-10T03:00", "Asia/Tokyo")


def test_a_start_ahead_of_the_clock_counts_as_now_for_a_schedule() -> None:
    nightly = Agent("a", "r", 0, interval_seconds=None, schedule="0 3 * * *")
    now = at("2026-06-09T12:00", "UTC")
    with machine_in("UTC"):
        assert next_due(nightly, now + 1e9, now) == at("2026-06-10T03:00", "UTC")


@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 */5 * * 1", "15 1,2,3 * * *", "0 0 29 2 *"]),
    st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.integers(0, 2_000_000_000),
)
def test_the_next_match_is_after_the_last_start_and_stays_the_same_until_then(
    expression: str, zone: str, last: int
) -> None:
    scheduled = Agent("a", "r", 0, interval_seconds=None, schedule=expression)
    with machine_in(zone):
        due = next_due(scheduled, last, last)
        assert last < due < last + 9 * 366 * 86_400
        between = (last + due) // 2
        if between < due:
            assert next_due(scheduled, between, between) == due


def test_the_error_says_what_to_do_next() -> None:
    with pytest.raises(OrchestratorError) as caught:
        keys.parse("")
    assert caught.value.code == "config_error"
    assert caught.value.hint == ("correct .orchestrator/agents.yaml; until then no new run starts")
