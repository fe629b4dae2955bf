"""Reference 5 and 6: the JSON's keys and types, reason codes, exit codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import harness
import pytest
from conftest import CHECKOUT
from harness import World, wait_until

world = harness.world

TEXT, NUMBER, WHOLE, FLAG, LIST, MAP = str, (int, float), int, bool, list, dict
TIME = "time"


def maybe(kind: Any) -> tuple[str, Any]:
    return ("maybe", kind)


def check(value: Any, shape: dict[str, Any], where: str) -> None:
    """Hold a JSON object against exactly these keys and types."""
    assert isinstance(value, dict), f"{where}: {value!r}"
    assert set(value) == set(shape), f"{where}: {set(value) ^ set(shape)}"
    for name, kind in shape.items():
        item, place = value[name], f"{where}.{name}"
        if isinstance(kind, tuple) and kind[0] == "maybe":
            if item is None:
                continue
            kind = kind[1]
        if isinstance(kind, dict):
            check(item, kind, place)
        elif kind == TIME:
            assert isinstance(item, str), place
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", item), (
                f"{place}: {item}"
            )
        else:
            assert isinstance(item, kind), f"{place}: {item!r}"
            if kind in (WHOLE, NUMBER):
                assert not isinstance(item, bool), place


def described(command: str) -> dict[str, Any]:
    """Return the keys of a command's JSON in section 6 of the reference: lists, or anything."""
    text = (CHECKOUT / "docs" / "reference.md").read_text()
    row = rf"^\| {re.escape(command)} \| (?:list of )?`{{(.+?)}}`"
    [value] = re.findall(row, text, re.MULTILINE)
    keys = re.sub(r"\{[^}]*\}", "", re.sub(r"\[[^]]*\]", "[]", value))
    return {name: LIST if more else object for name, more in re.findall(r'"(\w+)"(: \[)?', keys)}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One project for commands that change nothing in it."""
    with harness.scratch(tmp_path_factory.mktemp("shared"), tmp_path_factory) as made:
        made.create()
        made.add("Something")
        yield made


TASK = {
    "id": TEXT,
    "title": TEXT,
    "role": TEXT,
    "priority": TEXT,
    "branch": TEXT,
    "created": TIME,
    "created_by": maybe(TEXT),
    "state": TEXT,
    "path": TEXT,
    "attempts": WHOLE,
    "not_before": maybe(TIME),
    "depends_on": LIST,
    "claimed_by": maybe(TEXT),
    "reason": maybe(TEXT),
    "work_branch": maybe(TEXT),
    "pr": maybe((int, str)),
}
PROBLEM = {"code": TEXT, "message": TEXT, "hint": maybe(TEXT)}
AGENT = {
    **described("`status`, `agents`"),
    "name": TEXT,
    "role": TEXT,
    "state": TEXT,
    "reason": maybe(TEXT),
    "due_in_seconds": maybe(NUMBER),
    "run": maybe(TEXT),
    "task": maybe(TEXT),
    "last_outcome": maybe(TEXT),
}
RUNNING = {
    **described("`status`, `running`"),
    "run": TEXT,
    "agent": TEXT,
    "task": maybe(TEXT),
    "pid": WHOLE,
    "started": TIME,
    "age_seconds": NUMBER,
    "branch": maybe(TEXT),
    "worktree": TEXT,
    "cost_usd": maybe(NUMBER),
}
STATUS = {
    **described("`status`"),
    "queue": dict.fromkeys(harness.STATES, WHOLE),
    "limits": MAP,
    "open_prs": maybe(WHOLE),
    "open_prs_age_seconds": maybe(WHOLE),
    "waiting_for_you": WHOLE,
    "totals": {
        "runs": WHOLE,
        "input_tokens": maybe(WHOLE),
        "output_tokens": maybe(WHOLE),
        "cost_usd": maybe(NUMBER),
        "seconds_running": NUMBER,
    },
    "scheduler": {"last_tick": maybe(TIME), "age_seconds": maybe(NUMBER), "stale": maybe(FLAG)},
    "fault": maybe(MAP),
}
ACTION = {
    "action": TEXT,
    "agent": maybe(TEXT),
    "task": maybe(TEXT),
    "run": maybe(TEXT),
    "reason": maybe(TEXT),
}
ACTIONS = {"start", "skip", "finish", "requeue", "block", "fail", "stop", "deliver"}
PR = {
    "id": (int, str),
    "task": maybe(TEXT),
    "branch": TEXT,
    "base": TEXT,
    "head": TEXT,
    "title": TEXT,
    "state": TEXT,
    "verdict": maybe(TEXT),
    "url": maybe(TEXT),
}
INBOX = {
    "id": TEXT,
    "kind": TEXT,
    "task": maybe(TEXT),
    "run": maybe(TEXT),
    "text": TEXT,
    "since": TIME,
}


def check_status(status: Any) -> None:
    check(status, STATUS, "status")
    for agent in status["agents"]:
        check(agent, AGENT, "agents[]")
    for running in status["running"]:
        check(running, RUNNING, "running[]")
    for retrying in status["retrying"]:
        shape = {"task": TEXT, "attempt": WHOLE, "not_before": maybe(TIME), "error": maybe(TEXT)}
        check(retrying, shape, "retrying[]")
    for problem in status["problems"]:
        check(problem, PROBLEM, "problems[]")


def check_tick(report: Any, agents: int) -> None:
    check(report, {"actions": LIST, "problems": LIST}, "tick")
    for action in report["actions"]:
        check(action, ACTION, "actions[]")
        assert action["action"] in ACTIONS
    decided = [a["agent"] for a in report["actions"] if a["action"] in ("start", "skip")]
    assert len(decided) == len(set(decided)) == agents, report["actions"]
    for problem in report["problems"]:
        check(problem, PROBLEM, "problems[]")


def test_the_shapes_through_the_life_of_a_few_tasks(world: World) -> None:
    world.create(
        agents=[
            World.agent("impl-1"),
            World.agent("impl-2"),
            World.agent("pm-1", "product_manager", interval_seconds=86400),
        ],
        retry={"max_attempts": 2, "backoff_seconds": 60},
    )
    check_status(world.status())  # before any tick
    assert world.status()["totals"]["runs"] == 0
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    world.script("pm-1", {})
    task = world.add("Goes well")
    check_tick(world.tick(), 3)
    world.tick_until(lambda: world.running(task))
    status = world.status()
    check_status(status)
    [running] = [run for run in status["running"] if run["task"] == task]
    [start] = world.starts(task)
    assert running["pid"] == start["parent"], "the pid is the supervisor's"
    assert running["run"] == start["run"]
    assert running["branch"] == start["branch"]
    assert running["worktree"] == start["cwd"]
    [agent] = [a for a in status["agents"] if a["name"] == running["agent"]]
    assert (agent["reason"], agent["run"], agent["task"]) == ("running", start["run"], task)
    shown = world.task(task)
    check(shown, {**TASK, "body": TEXT, "history": LIST}, "task show")
    assert (shown["state"], shown["claimed_by"]) == ("claimed", running["agent"])
    assert shown["work_branch"] == start["branch"]
    assert shown["path"].endswith(f"claimed/{task}.md")
    failing = world.add("Goes wrong")
    world.script(failing, {"steps": [], "report": {"outcome": "failed", "summary": "No."}})
    asking = world.add("Asks")
    question = {"outcome": "needs_human", "summary": "?", "question": "Which one?"}
    world.script(asking, {"steps": [], "report": question})
    world.tick_until(lambda: world.where(asking) == ["blocked"])
    # A tick after a run may still hold the lock: then this tick does nothing.
    check_tick(wait_until(lambda: (found := world.tick())["actions"] and found, "a tick"), 3)
    status = world.status()
    check_status(status)
    assert len(status["retrying"]) == len(status["blocked"]) == 1
    for item in world.json("inbox"):
        check(item, INBOX, "inbox[]")
        assert item["kind"] in ("question", "approval", "escalation")
    world.open("go")
    world.tick_until_in("done", task)
    world.quiet()
    check_tick(world.tick(), 3)
    for listed in world.json("task", "list"):
        check(listed, TASK, "task list[]")
    for agent in world.json("agent", "list"):
        check(agent, AGENT, "agent list[]")
    [pr] = world.prs()
    check(pr, PR, "pr list[]")
    assert pr["state"] == "open"
    assert world.task(task)["pr"] is not None
    status = world.status()
    assert status["queue"] == {"incoming": 1, "claimed": 0, "blocked": 1, "done": 1, "failed": 0}
    assert status["open_prs"] == 1
    assert status["totals"]["input_tokens"] == 100 * status["totals"]["runs"]
    assert status["totals"]["cost_usd"] == 0.25 * status["totals"]["runs"]


@pytest.mark.parametrize("subject", ["impl-1", "task"])
def test_explain_shows_the_same_codes_plain_and_as_json(world: World, subject: str) -> None:
    world.create(paused=True)
    task = world.add("Why not?")
    word = task if subject == "task" else subject
    found = world.json("explain", word)
    check(found, {"subject": TEXT, "verdict": TEXT, "rules": LIST}, "explain")
    for rule in found["rules"]:
        shape = {
            "code": TEXT,
            "ok": FLAG,
            "detail": TEXT,
            "until": maybe(TIME),
            "hint": maybe(TEXT),
        }
        check(rule, shape, "rules[]")
    plain = world.ok("explain", word).out
    for rule in found["rules"]:
        assert rule["code"] in plain
    if subject == "impl-1":
        assert next(r["code"] for r in found["rules"] if r["ok"] is False) == "system_paused"
        assert world.tick()["actions"][0]["reason"] == "system_paused"


def test_a_skip_gives_the_first_reason_in_the_contracts_order(world: World) -> None:
    world.create(paused=True, agents=[World.agent("impl-1", paused=True)])

    def reason() -> str:
        [action] = world.tick()["actions"]
        assert action["action"] == "skip"
        return str(action["reason"])

    assert reason() == "system_paused"
    world.configure(agents=[World.agent("impl-1", paused=True)])
    assert reason() == "paused"
    world.configure()
    assert reason() == "no_matching_task"
    limits = {"max_claimed": 0, "max_open_prs": 0}
    world.add("Held by everything")
    world.configure(queue_limits=limits, budgets={"daily_usd": 0})
    assert reason() == "budget_exhausted"
    world.configure(queue_limits=limits)
    assert reason() == "max_claimed"
    world.configure(queue_limits={"max_open_prs": 0})
    assert reason() == "max_open_prs"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status"], 0),
        (["doctor"], 0),
        (["task", "list"], 0),
        (["tick", "--dry-run"], 0),
        (["--version"], 0),
        (["--help"], 0),
        ([], 2),
        (["frobnicate"], 2),
        (["statsu"], 2),
        (["task"], 2),
        (["task", "add"], 2),
        (["task", "add", "--title"], 2),
        (["task", "list", "--frobnicate"], 2),
        (["tick", "extra"], 2),
        (["tick", "--wait", "soon"], 2),
        (["tick", "--wait", "nan"], 2),
        (["tick", "--wait", "-5"], 2),
        (["init", "--host", "No Name"], 2),
        (["run"], 2),
        (["stop"], 2),
        (["run", "nobody"], 1),
        (["stop", "nobody"], 1),
        (["explain", "nothing"], 1),
        (["task", "show", "nothing"], 1),
        (["task", "retry", "nothing"], 1),
        (["task", "cancel", "nothing"], 1),
        (["logs", "nothing"], 1),
        (["pr", "show", "99"], 1),
        (["pr", "merge", "99"], 1),
        (["pr", "close", "99"], 1),
        (["task", "add", "--title", "x", "--role", "implement", "--body-file", "/no/such"], 1),
        (["--project", "/no/such/folder", "status"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes(shared: World, words: list[str], code: int) -> None:
    world = shared
    before = world.places()
    done = world.run(*words)
    assert done.code == code, done
    if code:
        assert done.err.strip()
        assert len(words) < 2 or len(done.err.strip().splitlines()) <= 12
        as_json = world.run(*words, "--json")
        assert as_json.code == code
        check(
            as_json.json, {"error": {"code": TEXT, "message": TEXT, "hint": maybe(TEXT)}}, "error"
        )
    assert world.places() == before


def test_add_rejects_wrong_values_in_one_sentence(world: World) -> None:
    world.create()
    good = ["task", "add", "--title", "T", "--role", "implement"]
    for words in (
        [*good, "--priority", "urgent"],
        [*good, "--branch", "no such branch"],
        [*good, "--depends-on", "../../x"],
        ["task", "add", "--title", "", "--role", "implement"],
        ["task", "add", "--title", "two\nlines", "--role", "implement"],
        ["task", "add", "--title", "T", "--role", "implementer or so"],
    ):
        done = world.run(*words)
        assert done.code in (1, 2), done
        assert done.err.strip()
    assert world.places()["incoming"] == []


def test_no_colour_and_no_tables_where_there_is_no_terminal(world: World) -> None:
    world.create()
    task = world.add("Plain")
    del world.environment["NO_COLOR"]
    for words in (
        ["status"],
        ["task", "list"],
        ["task", "show", task],
        ["agent", "list"],
        ["doctor"],
    ):
        done = world.run(*words, FORCE_COLOR="")
        assert "\x1b" not in done.out + done.err
        assert not set("┃│╭─") & set(done.out)


def test_logs_show_what_a_run_did(world: World) -> None:
    world.create()
    say = {"type": "assistant", "message": {"content": [{"type": "text", "text": "HELLOTHERE"}]}}
    world.script("default", {"steps": [["say", say], ["work"]]})
    task = world.add("Logged")
    world.tick_until_in("done", task)
    [start] = world.starts(task)
    for word in (task, "impl-1", start["run"]):
        assert "HELLOTHERE" in world.ok("logs", word).out
    raw = world.ok("logs", task, "--raw").out
    assert '"type": "result"' in raw


def test_history_is_one_json_object_a_line(world: World) -> None:
    import json

    world.create(retry={"max_attempts": 2, "backoff_seconds": 0})
    good, bad = world.add("Good"), world.add("Bad")
    world.script(bad, {"steps": [], "report": {"outcome": "failed", "summary": "No."}})
    world.tick_until(lambda: world.where(good) == ["done"] and world.where(bad) == ["failed"])
    world.quiet()  # the file moves first, its line comes next
    lines = (world.home_folder / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert all(isinstance(event, dict) for event in events)
    about = [event for event in events if bad in event.values()]
    assert len(about) >= 4, "two claims, a requeue and a failure"
