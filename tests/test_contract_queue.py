"""Reference 3: tasks as files, their order, what is not a task, and how they are added."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import both_stores
import harness
import pytest
from harness import ONCE, World

world = both_stores.world


def task_text(name: str, **fields: str) -> str:
    lines = "".join(f"{key}: {value}\n" for key, value in {"ROLE": "implement", **fields}.items())
    return f"# [{name}] Task {name}\n\n{lines}\n## Context\nText.\n"


def problems(world: World, code: str = "task_malformed") -> list[str]:
    return [p["message"] for p in world.status()["problems"] if p["code"] == code]


def test_tasks_are_claimed_by_priority_then_creation_then_name_and_unreadable_values_last(
    world: World,
) -> None:
    agents = [World.agent("impl-1")]
    world.create(agents=agents, queue_limits={"max_claimed": 1, "max_open_prs": 99})
    old, new = "2024-01-01T00:00:00Z", "2024-06-01T00:00:00Z"
    expected = [
        ("e-p0-new", {"PRIORITY": "P0", "CREATED": new}),
        ("d-p1-old", {"PRIORITY": "P1", "CREATED": old}),
        ("c-p1-new", {"PRIORITY": "P1", "CREATED": new}),
        ("a-p2-name", {"PRIORITY": "P2", "CREATED": old}),
        ("b-p2-none", {"CREATED": old}),
        ("z-p3", {"PRIORITY": "P3", "CREATED": old}),
        ("a-unreadable", {"PRIORITY": "urgent!!", "CREATED": old}),
    ]
    for name, fields in reversed(expected):
        world.drop(f"{name}.md", task_text(name, **fields))
    world.tick_until(lambda: len(world.places()["done"]) == len(expected))
    order = [start["task"] for start in world.starts()]
    assert order == [name for name, _ in expected]


def test_an_unreadable_creation_time_sorts_last_within_its_priority(world: World) -> None:
    world.create()
    world.drop("a-bad.md", task_text("a-bad", PRIORITY="P1", CREATED="yesterday-ish"))
    world.drop("b-good.md", task_text("b-good", PRIORITY="P1", CREATED="2030-01-01T00:00:00Z"))
    world.tick_until(lambda: len(world.places()["done"]) == 2)
    assert [start["task"] for start in world.starts()] == ["b-good", "a-bad"]


def test_a_file_dropped_by_hand_is_a_task_named_by_its_file(world: World) -> None:
    world.create()
    world.drop("fix login bug.md", "# Fix the login bug\n\nROLE: implement\n\nIt hurts.\n")
    [listed] = world.json("task", "list")
    assert listed["id"] == "fix-login-bug"
    assert listed["title"] == "Fix the login bug"
    assert listed["state"] == "incoming"
    assert listed["priority"] == "P2"
    assert listed["branch"] == "main"
    world.tick_until(lambda: len(world.places()["done"]) == 1)
    [shown] = world.json("task", "list")
    assert (shown["id"], shown["state"]) == ("fix-login-bug", "done")
    assert world.prs()[0]["branch"].startswith("agent/fix-login-bug-")
    assert "It hurts." in world.text("fix-login-bug")


def test_front_matter_is_read_with_keys_in_any_case(world: World) -> None:
    world.create()
    world.drop(
        "fm.md",
        "---\nrole: implement\nPriority: P0\nBRANCH: main\ncreated: 2024-01-15T10:30:00Z\n"
        "created_by: someone\ntitle: With front matter\n---\n# [FM-1] With front matter\n\nBody.\n",
    )
    listed = [task for task in world.json("task", "list") if task["title"] == "With front matter"]
    assert len(listed) == 1, world.json("task", "list")
    assert listed[0]["priority"] == "P0"
    assert listed[0]["created"] == "2024-01-15T10:30:00Z"
    world.tick_until(lambda: len(world.places()["done"]) == 1)


def test_the_body_never_sets_a_field_and_survives_every_move_byte_for_byte(world: World) -> None:
    world.create()
    body = (
        "## Context\nROLE: tester\nPRIORITY: P0\nDEPENDS_ON: nobody\n\n"
        "    tabs\tand trailing   \r\nunicode ü \u2028 ✓\n\n\n```\n# [OTHER-1] not a title\n```\n"
        "## History\nmine\n---\nend without newline"
    )
    header = "# [TASK-1] A body of its own\n\nROLE: implement\nX-COLOUR: blue\nEstimate: 3d\n\n"
    world.drop("TASK-1.md", (header + body).encode())
    before = world.task("TASK-1")
    assert before["role"] == "implement"
    assert before["priority"] == "P2"
    assert before["depends_on"] == []
    assert before["body"] == body
    world.tick_until_in("done", "TASK-1")
    text = world.text("TASK-1")
    assert body in text
    assert "X-COLOUR: blue" in text
    assert "Estimate: 3d" in text
    after = world.task("TASK-1")
    assert after["body"] == body
    assert after["history"]
    assert "impl-1" in str(after["history"])


MALFORMED: dict[str, tuple[str, bytes]] = {
    "not UTF-8": ("latin.md", b"# [LATIN-1] Caf\xe9\n\nROLE: implement\n\n"),
    "no title": ("untitled.md", b"just some notes\nROLE: implement\n"),
    "no role": ("roleless.md", b"# [NR-1] No role\n\nPRIORITY: P1\n\nText\n"),
    "an id that is a path": ("path.md", b"# [../../etc/passwd] Evil\n\nROLE: implement\n\n"),
    "an id that git refuses": ("lock.md", b"# [abc.lock] Evil\n\nROLE: implement\n\n"),
    "an id with two dots": ("dots.md", b"# [a..b] Evil\n\nROLE: implement\n\n"),
    "an id that is too long": ("long.md", b"# [" + b"a" * 65 + b"] Long\n\nROLE: implement\n\n"),
    "over one MiB": ("big.md", b"# [BIG-1] Big\n\nROLE: implement\n\n" + b"x" * (1 << 20)),
    "empty": ("empty.md", b""),
    "only NUL bytes": ("nul.md", b"\0" * 100),
}


@pytest.fixture(scope="module")
def malformed(
    store: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A project with every kind of bad file and one good task, after that was done."""
    folder = tmp_path_factory.mktemp("malformed")
    with harness.ended(both_stores.made(store, request, folder, tmp_path_factory)) as made:
        made.create(queue_limits={"max_incoming": 1})
        for name, content in MALFORMED.values():
            made.drop(name, content)
        # Bad files count nowhere: max_incoming is 1, and this is not refused.
        good = made.add("A good one", "implement", "--priority", "P3")
        made.tick_until_in("done", good)
        yield made


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_file_that_cannot_be_a_task_stays_is_reported_and_blocks_nothing(
    malformed: World, kind: str
) -> None:
    name, content = MALFORMED[kind]
    assert (malformed.queue / "incoming" / name).read_bytes() == content
    messages = [message for message in problems(malformed) if f"/{name}" in message]
    assert len(messages) == 1, problems(malformed)
    assert len(messages[0]) > len(name) + 25, "no reason is given"


def test_malformed_files_count_nowhere_and_doctor_tells_them_too(malformed: World) -> None:
    status = malformed.status()
    assert status["queue"] == {"incoming": 0, "claimed": 0, "blocked": 0, "done": 1, "failed": 0}
    assert len(malformed.json("task", "list")) == 1
    said = malformed.run("doctor").out
    assert [name for name, _ in MALFORMED.values() if name not in said] == []


def test_an_id_that_another_file_already_has_is_malformed(world: World) -> None:
    world.create()
    world.drop("one.md", task_text("SAME-1"))
    world.tick_until(lambda: len(world.places()["done"]) == 1)
    again = world.drop("two.md", task_text("SAME-1"))
    world.ok("tick")
    assert again.exists()
    assert any("two.md" in message for message in problems(world))
    world.quiet()
    assert len(world.starts("SAME-1")) == 1


def test_of_two_new_files_with_one_id_at_most_one_is_executed(world: World) -> None:
    world.create()
    world.drop("one.md", task_text("SAME-2"))
    world.drop("two.md", task_text("SAME-2", PRIORITY="P3"))
    for _ in range(3):
        world.ok("tick")
        world.quiet()
    assert len(world.starts("SAME-2")) <= 1
    assert len(problems(world)) >= 1
    names = [name for found in world.places().values() for name in found]
    assert len(names) == 2


def test_a_task_whose_role_nobody_has_waits_and_holds_nobody(world: World) -> None:
    world.create()
    world.drop("odd.md", task_text("ODD-1", ROLE="paint", PRIORITY="P0"))
    task = world.add("A good one")
    world.tick_until_in("done", task)
    assert world.task("ODD-1")["state"] == "incoming"


def test_files_that_are_no_markdown_and_hidden_ones_are_no_tasks(world: World) -> None:
    world.create()
    world.drop("notes.txt", task_text("NOTE-1"))
    world.drop(".hidden.md", task_text("HID-1"))
    (world.queue / "incoming" / "folder.md").mkdir()
    world.ok("tick")
    assert [t["id"] for t in world.json("task", "list") if t["id"] in ("NOTE-1", "HID-1")] == []


def test_task_add_writes_the_seeds_format(world: World) -> None:
    world.create(agents=[World.agent("impl-1", paused=True)])
    world.ok("task", "add", "--title", "Base", "--role", "implement")
    [base] = world.json("task", "list")
    words = ["--priority", "P1", "--branch", "main", "--depends-on", base["id"]]
    added = world.ok(
        *("task", "add", "--title", "Add input validation", "--role", "implement", *words),
        *("--body-file", "-", "--json"),
        stdin="## Context\nWhy.\n\n## Acceptance Criteria\n- [ ] One\n",
    ).json
    assert set(added) == {"id", "path"}
    assert added["path"].endswith(world.shown_place(added["id"], "incoming"))
    text = world.text(added["id"])
    lines = text.splitlines()
    assert lines[0] == f"# [{added['id']}] Add input validation"
    assert lines[1] == ""
    assert lines[2] == "ROLE: implement"
    fields = dict(line.split(": ", 1) for line in lines[2 : lines.index("", 2)])
    assert fields["PRIORITY"] == "P1"
    assert fields["BRANCH"] == "main"
    assert fields["DEPENDS_ON"] == base["id"]
    assert fields["CREATED"].endswith("Z")
    assert fields["CREATED_BY"]
    assert text.endswith("## Acceptance Criteria\n- [ ] One\n")
    plain = world.ok("task", "add", "--title", "Third", "--role", "test").out.strip()
    assert plain in [task["id"] for task in world.json("task", "list")]


@pytest.mark.parametrize("title", ["Fix the bug", "fix THE  bug", "  Fix the   bug "])
def test_the_same_title_and_role_waiting_is_refused_as_duplicate(world: World, title: str) -> None:
    world.create(agents=[World.agent("impl-1", paused=True)])
    world.add("Fix the bug")
    words = ("task", "add", "--title", title, "--role", "implement")
    refused = world.refused(*words, "--json")
    assert refused.json["error"]["code"] == "duplicate_task"
    world.ok("task", "add", "--title", title, "--role", "test")
    world.ok(*words, "--force")


def test_cancel_and_move_are_the_humans_override(world: World) -> None:
    world.create(agents=[World.agent("impl-1", paused=True)])
    task = world.add("Not needed")
    world.ok("task", "cancel", task)
    assert world.where(task) == ["failed"]
    assert world.task(task)["reason"].startswith("cancelled")
    for state in ("done", "blocked", "incoming", "failed"):
        world.ok("task", "move", task, state)
        assert world.where(task) == [state]
    world.refused("task", "move", task, "nowhere", code=2)
    world.refused("task", "move", "no-such-task", "done")


def test_retry_all_puts_failed_and_blocked_tasks_back(world: World) -> None:
    world.create(agents=[World.agent("impl-1", paused=True)])
    tasks = [world.add(f"Task {n}") for n in range(3)]
    world.ok("task", "cancel", tasks[0])
    world.ok("task", "move", tasks[1], "blocked")
    world.ok("task", "retry", "--all")
    assert all(world.where(task) == ["incoming"] for task in tasks)


# --- dependencies ------------------------------------------------------------------------------


def skips(world: World) -> dict[str, Any]:
    return {a["agent"]: a["reason"] for a in world.tick()["actions"] if a["action"] == "skip"}


def test_a_dependency_is_met_when_its_pull_request_is_merged(world: World) -> None:
    world.create()
    first = world.add("First")
    second = world.add("Second", "implement", "--depends-on", first)
    world.tick_until_in("done", first)
    world.tick_until(lambda: skips(world).get("impl-1") == "blocked_by_dependency")
    assert not world.starts(second)
    [pr] = world.prs()
    world.ok("pr", "merge", str(pr["id"]))
    world.tick_until_in("done", second)
    merged = world.starts(second)[0]["head"]
    assert world.git("show", f"{merged}:{first}.txt"), "cut from a base without the dependency"


def test_a_dependency_that_ended_without_a_pull_request_is_met(world: World) -> None:
    world.create()
    first = world.add("First")
    second = world.add("Second", "implement", "--depends-on", first)
    world.script(first, {"steps": [], "report": {"outcome": "no_change", "summary": "Nothing."}})
    world.tick_until_in("done", second)


@pytest.mark.parametrize("kind", ["failed", "cancelled", "unknown", "circle"])
def test_a_dependency_that_cannot_be_met_is_one_inbox_item(world: World, kind: str) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("dep-1", {"steps": [], "report": {"outcome": "failed", "summary": "No."}})
    if kind == "circle":
        world.drop("dep-1.md", task_text("dep-1", DEPENDS_ON="dep-2"))
    elif kind != "unknown":
        world.drop("dep-1.md", task_text("dep-1"))
    world.drop("dep-2.md", task_text("dep-2", DEPENDS_ON="dep-1"))
    if kind == "cancelled":
        world.ok("task", "cancel", "dep-1")
    if kind == "failed":
        world.tick_until_in("failed", "dep-1")
    items = world.tick_until(lambda: world.json("inbox"))
    for _ in range(3):
        world.ok("tick")
    items = world.json("inbox")
    tasks = [item["task"] for item in items]
    assert len(tasks) == len(set(tasks)), items
    assert "dep-2" in tasks or kind == "circle", items
    assert not world.starts("dep-2")
    for item in items:
        assert set(item) == {"id", "kind", "task", "run", "text", "since"}


def test_an_agent_that_never_ran_is_due_and_one_that_ran_is_not(world: World) -> None:
    world.create(agents=[World.agent("impl-1", interval_seconds=ONCE)])
    first, second = world.add("First"), world.add("Second")
    world.tick_until_in("done", first)
    world.quiet()
    assert skips(world) == {"impl-1": "not_due"}
    [agent] = world.status()["agents"]
    assert 0 < agent["due_in_seconds"] <= ONCE
    assert world.where(second) == ["incoming"]
    world.ok("run", "impl-1")
    world.tick_until_in("done", second)
