"""What secrets look like: each shape of the list is found in variables and withheld from texts."""

from __future__ import annotations

import json
import re._constants as sre
import re._parser as sre_parse
from typing import Any, NamedTuple

import harness
import pytest
from harness import World
from rows import each_row
from secret_examples import EXAMPLES

from orchestrator.guard import secret_names, secret_shapes
from orchestrator.guard.known_shapes import ROWS
from orchestrator.model.snapshot import Outcome

world = harness.world


class Shape(NamedTuple):
    """A row of the list."""

    name: str
    hints: tuple[str, ...]
    pattern: str
    source: str


SHAPES = [Shape(*row) for row in ROWS]
NAMES = [shape.name for shape in SHAPES]


def secret(name: str) -> str:
    """Return the first example of a shape."""
    return EXAMPLES[name][0]


@each_row("shape", SHAPES, ids=NAMES)
def test_a_secret_of_each_shape_is_withheld_and_not_passed_on(shape: Shape) -> None:
    assert len({*NAMES}) == len(NAMES)
    assert shape.source
    for example in EXAMPLES[shape.name]:
        text = f"It says: {example} and goes on."
        shown = secret_shapes.withheld(text)
        assert f"[withheld: {shape.name}]" in shown
        assert shown.startswith("It says: ")
        # Of a key whose end was cut off, nobody knows where it ends.
        assert shown.endswith(" and goes on.") or (
            shape.name == "private key" and "END" not in text
        )
        assert secret_shapes.withheld(shown) == shown
        assert secret_names.is_secret("HARMLESS", example)
        # A line of the client's stream stays a line of JSON, whatever the secret stands beside.
        line = json.dumps({"text": text, "more": f'"{example}"', "next": ["x"]})
        kept = json.loads(secret_shapes.withheld(line))
        assert kept["next"] == ["x"]
        assert "withheld" in kept["text"]
        assert "withheld" in kept["more"]


HARMLESS = [
    "task-0123456789abcdefghij0123 is done, see risk-assessment-of-the-old-module",
    "Fixed in 0123456789abcdef0123456789abcdef01234567 (agent/TASK-a1b2c3d4-fix-the-key)",
    "git@github.com:owner/repo.git and https://github.com/owner/repo.git",
    "https://me@git.example/repo and http://[::1]:8080/x@y",
    "postgres://me@localhost:5432/app and redis://cache:6379",
    "https://example.org/page?monkey=banana&page=2&sort=key",
    "https://example.org/?token=$TOKEN&key=<your key>",
    'The header is "Authorization: Bearer " and the token of the caller.',
    "-----BEGIN PUBLIC KEY-----\nabcdefghij0123456789\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\nabcdefghij0123456789\n-----END CERTIFICATE-----",
    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "01234567-89ab-cdef-0123-456789abcdef",
    "sk-learn-contrib, scikit-learn and sk_test are names; npm_config_cache is a variable",
    "eyJ is how a web token begins; see eyJhbGciOiJIUzI1NiJ9",
    "https://discord.com/developers/docs and https://hooks.slack.com/ are pages",
    "password = None if not given; PASSWORD_MIN_LENGTH=12; --password=PROMPT",
    "PASSWORD=PROMPT, TOKEN=$TOKEN, API_KEY=${KEY1}, MAX_OUTPUT_TOKENS=32000, TOKEN=<paste 1 here>",
    "password: str = read_1(); client_secret = load(); Cookie: we store 1; --token takes 1",
    "docs at https://example.org/hooks/abc and https://a-long-user-name@git.example/repo",
    "login first, then the password; SKU 0123456789abcdef0123456789abcdef",
    r"C:\new\temp\file and \\server\share, 100% of 3%20b",
    "",
]


@each_row("text", HARMLESS)
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert secret_shapes.withheld(text) == text
    assert secret_shapes.found(text) is None


def test_only_the_secret_itself_is_withheld_where_the_rest_says_what_it_was_for() -> None:
    shown = secret_shapes.withheld("git clone https://me:" + "hunter22@git.example/o/r.git failed")
    expected = "git clone https://me:[withheld: password in an address]@git.example/o/r.git failed"
    assert shown == expected
    shown = secret_shapes.withheld("GET /x?page=2&access" + "_token=hunter22&sort=up")
    assert shown == "GET /x?page=2&access_token=[withheld: password in a query]&sort=up"


def test_two_secrets_beside_each_other_are_both_withheld() -> None:
    for each in (secret("GitHub token"), secret("JSON web token"), secret("Stripe key")):
        assert secret_shapes.withheld(f"{each} {each}\n{each}").count("[withheld: ") == 3


COLOURS = ["\x1b[31m", "\x9b1m", r"\x1b[1m", r"\u001b[0;31m", r"\033[1;31m", r"\e[31m", "^[[31m"]
ESCAPES = [r"\n", r"\t", r"\\n", r"\u0020", r"\x20", r"\"", "%20", "%3D", "%253D"]


@each_row("name", ["Stripe key", "AWS key", "GitHub token", "JSON web token"])
@each_row("before", [*COLOURS, *ESCAPES])
def test_a_secret_directly_behind_an_escape_is_withheld(name: str, before: str) -> None:
    text = f"It says {before}{secret(name)} here"
    assert secret_shapes.withheld(text) == f"It says {before}[withheld: {name}] here"
    assert secret_shapes.found(text) == name


@pytest.mark.parametrize("colour", ["\x1b[01;31m\x1b[K", r"\u001b[m\u001b[K", r"\x1b[0m"])
def test_a_secret_with_a_colour_in_its_middle_is_withheld_whole(colour: str) -> None:
    key = secret("Stripe key")
    text = f"{colour}found: {key[:8]}{colour}{key[8:]} {colour}end"
    assert secret_shapes.withheld(text) == f"{colour}found: [withheld: Stripe key] {colour}end"


# --- the time ----------------------------------------------------------------------------------


def _parts(parsed: Any) -> Any:
    """Yield every operation of a parsed pattern, with the operations inside it."""
    for operation, argument in parsed:
        yield operation, argument
        for inner in argument if isinstance(argument, tuple | list) else ():
            if isinstance(inner, sre_parse.SubPattern):
                yield from _parts(inner)
            elif isinstance(inner, list):
                for branch in inner:
                    if isinstance(branch, sre_parse.SubPattern):
                        yield from _parts(branch)


@each_row("shape", SHAPES, ids=NAMES)
def test_the_time_of_a_pattern_grows_no_faster_than_the_text(shape: Shape) -> None:
    """Every repetition has an upper bound, so the work at each position of a text has one, too."""
    refused = {sre.ASSERT, sre.ASSERT_NOT, sre.GROUPREF, sre.GROUPREF_EXISTS}
    for operation, argument in _parts(sre_parse.parse(shape.pattern)):
        assert operation not in refused
        if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT):
            assert argument[1] != sre.MAXREPEAT
            # Inside a repetition, a second one is short: the bounds multiply.
            inner = [a[1] for o, a in _parts(argument[2]) if o is sre.MAX_REPEAT]
            assert argument[1] * max(inner, default=1) <= 40_000


@each_row("shape", SHAPES, ids=NAMES)
def test_a_long_text_of_beginnings_is_read_to_its_end(shape: Shape) -> None:
    beginnings = [example[: len(example) // 2] for example in EXAMPLES[shape.name]]
    for part in (*beginnings, *shape.hints, *(f"{hint}-" for hint in shape.hints)):
        text = part * (5_000 // len(part)) + "\n" + EXAMPLES[shape.name][0]
        assert f"[withheld: {shape.name}]" in secret_shapes.withheld(text)


# --- where texts of agents are stored and shown ------------------------------------------------


def test_every_text_of_an_outcome_is_without_secrets() -> None:
    token = secret("Slack token")
    given = Outcome("done", reason=token, summary=f"a {token}", feedback=token, question=token)
    made = secret_shapes.without_secrets(given)
    assert token not in repr(made)
    assert made.verdict == "done"
    assert made.summary == "a [withheld: Slack token]"
    assert secret_shapes.without_secrets(Outcome("done")) == Outcome("done")


def test_failure_36_a_secret_that_an_agent_tells_is_stored_and_shown_nowhere(world: World) -> None:
    hook, key = secret("chat hook").rpartition("/")[2], secret("Stripe key")
    world.create(checks=["cat leak; test -e second"], review={"after": []})
    summary = f"Posts to {secret('chat hook')} with {key}"
    steps, more = [["write", "leak", key], ["commit"]], [["write", "second"], ["commit"]]
    report = {"outcome": "done", "summary": summary}
    world.script("default", {"steps": steps, "report": report}, {"steps": more, "report": report})
    task = world.add("Post a message")
    world.tick_until_in("done", task)
    world.quiet()
    told = world.run("task", "show", task).out
    assert "[withheld: chat hook]" in told
    shown = [told, world.run("status", "--json").out, world.run("inbox").out]
    shown += [world.run("logs", task, *more).out for more in ((), ("--raw",), ("--json",))]
    shown += [world.run("pr", "show", pr["id"]).out for pr in world.prs()]
    for text in shown:
        assert key not in text
        assert hook not in text
    holding = [
        path.name
        for path in world.home_folder.rglob("*")
        if path.is_file() and "worktree" not in path.parts and key.encode() in path.read_bytes()
    ]
    # What the client and the checks wrote themselves stays, closed to other accounts.
    assert {*holding} == {"stream.jsonl", "checks.log"}
