"""Big tasks: an agent splits its task into parts, and the task is finished when the parts are."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import PRODUCT, PYTHON, World
from store_contract import entry, new_task

from orchestrator.layout import Layout
from orchestrator.model.config import Split
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import PullRequest, Task
from orchestrator.plan import dependencies
from orchestrator.tasks import parts, stores
from orchestrator.tick import split

world = harness.world
COMMAND = shlex.join([*PYTHON, str(PRODUCT)])
SPLIT = {"outcome": "split", "summary": "Too big for one pull request."}


def shell(text: str) -> list[str]:
    return ["call", "sh", "-c", text]


def part(title: str, *words: str) -> str:
    words = ("task", "add", "--parent", "--title", title, "--role", "implement", *words)
    return f"{COMMAND} {shlex.join(words)}"


def parts_of(world: World, task: str) -> list[dict[str, Any]]:
    return [each for each in world.json("task", "list") if each["created_by"] == "impl-1"]


#: What the agents of the parts do: they work after the test opens a gate.
GATED = {"steps": [["wait", "go"], ["work"]]}


def split_in_two(
    world: World, default: dict[str, Any] = GATED, **config: Any
) -> tuple[str, str, str]:
    """Let an agent split a task into two parts, the second of which needs the first."""
    world.create(**config)
    world.script("default", default)
    both = f'{part("First half")} > id && {part("Second half")} --depends-on "$(cat id)"'
    task = world.add("Much work")
    world.script(task, {"steps": [shell(both), shell("rm id")], "report": SPLIT})
    world.tick_until(lambda: world.where(task) == ["blocked"])
    first, second = parts_of(world, task)
    if first["title"] != "First half":
        first, second = second, first
    return task, first["id"], second["id"]


# --- the whole way -----------------------------------------------------------------------------


def test_a_split_task_is_done_when_its_parts_are(world: World) -> None:
    task, first, second = split_in_two(world)
    assert f"PARENT: {task}\n" in world.text(first)
    assert world.task(second)["depends_on"] == [first]
    assert world.json("inbox") == []
    assert "split into 2 parts, 0 finished" in world.ok("explain", task).out
    assert "split into 2 parts, 0 finished" in world.ok("status").out
    assert "split into 2 parts, 0 finished" in world.ok("task", "show", task).out
    world.open("go")
    world.tick_until_in("done", first)
    # The first part's pull request is open, so the second part waits, and so does the task.
    assert world.where(task) == ["blocked"]
    assert "1 finished" in world.ok("explain", task).out
    world.ok("pr", "merge", "1")
    world.tick_until_in("done", second, task)
    shown = world.task(task)
    assert shown["pr"] is None
    [done] = [event for event in shown["history"] if event["event"] == "done"]
    assert done["summary"] == (
        f"split into 2 parts, 2 finished: {first} 'First half' (pull request 1); "
        f"{second} 'Second half' (pull request 2)"
    )
    assert [event["charged"] for event in shown["history"] if "charged" in event] == []


def test_a_dependent_of_a_split_task_waits_for_the_merge_of_every_part(world: World) -> None:
    task, first, second = split_in_two(world)
    after = world.add("Needs it", "implement", "--depends-on", task)
    world.open("go")
    world.tick_until_in("done", first)
    world.ok("pr", "merge", "1")
    world.tick_until_in("done", task)
    world.tick()
    assert world.where(after) == ["incoming"]
    said = world.ok("explain", after).out
    assert f"its part {second}: its pull request 2 is open" in said
    world.ok("pr", "merge", "2")
    world.tick_until_in("done", after)


def test_a_failed_part_asks_a_person_once_and_its_retry_finishes_the_task(world: World) -> None:
    gives_up = {"report": {"outcome": "failed", "summary": "I cannot."}}
    task, first, second = split_in_two(world, gives_up, retry={"max_attempts": 1})
    world.tick_until_in("failed", first)
    [item] = world.json("inbox")
    assert (item["id"], item["kind"]) == (task, "escalation")
    assert first in item["text"]
    assert "I cannot." in item["text"]
    assert f"orchestrator task retry {first}" in world.ok("inbox").out
    world.script(first, {"steps": [["work"]]})
    world.ok("task", "retry", first)
    world.tick_until_in("done", first)
    # No agent reviews the part: its pull request waits for a person.
    assert [item["kind"] for item in world.json("inbox")] == ["approval"]
    world.ok("task", "cancel", second)
    world.tick()
    [_, item] = world.json("inbox")
    assert item["id"] == task
    world.ok("inbox", "dismiss", task)
    assert [item["kind"] for item in world.json("inbox")] == ["approval"]


def test_commits_of_a_split_task_are_kept_and_named(world: World) -> None:
    world.create()
    task = world.add("Much work")
    steps = [["work"], shell(part("The rest"))]
    world.script(task, {"steps": steps, "report": SPLIT})
    world.tick_until_in("done", task)
    [mine] = world.commits_about(task)
    shown = world.task(task)
    summary = shown["history"][-1]["summary"]
    assert summary.endswith(f"Its own commits are kept on {shown['work_branch']}")
    assert world.sha(shown["work_branch"]) == mine
    assert [pr["task"] for pr in world.prs()] == [parts_of(world, task)[0]["id"]]


def test_split_without_a_part_is_a_failed_attempt(world: World) -> None:
    world.create(retry={"max_attempts": 1})
    task = world.add("Much work")
    world.script(task, {"report": SPLIT})
    world.tick_until_in("failed", task)
    assert "added no part" in world.task(task)["history"][-1]["error"]


def test_after_a_kill_the_next_attempt_is_told_which_parts_exist(world: World) -> None:
    world.create()
    task = world.add("Much work")
    killed = {"steps": [shell(part("First half")), shell("kill -9 $PPID"), ["sleep", 60]]}
    again = [shell(part("First half")), shell(part("Second half"))]
    world.script(task, killed, {"steps": again, "report": SPLIT})
    # Its parts can be done, and the task with them, before this test looks again.
    world.tick_until(lambda: len(world.task(task).get("parts", ())) == 2)
    world.tick_until(lambda: world.where(task) in (["blocked"], ["done"]))
    codes = [call["code"] for call in world.ledger("call")]
    assert codes[0] == 0
    assert codes[-2:] == [1, 0]
    titles = sorted(each["title"] for each in world.task(task)["parts"])
    assert titles == ["First half", "Second half"]
    seen = sorted((world.fake / "seen").glob("*/instructions"))
    texts = [path.read_text() for path in seen if f"Your task `{task}`" in path.read_text()]
    assert any(re.search(r"^TASK-\w+ \(\w+\): First half$", text, re.M) for text in texts)
    assert any("at most 5;" in text for text in texts)
    assert any("at most 4 more;" in text for text in texts)


# --- limits ------------------------------------------------------------------------------------


def refusals(world: World, task: str, *titles: str) -> list[str]:
    """Let the agent of a task add parts; return the code of each refusal."""
    adds = [shell(f"{part(title, '--json')}") for title in titles]
    world.script(task, {"steps": adds, "report": SPLIT})
    world.tick_until(lambda: len(world.ledger("end")) > 0)
    calls = [json.loads(call["out"]) for call in world.ledger("call")]
    return [call["error"]["code"] if "error" in call else "added" for call in calls]


def test_a_task_has_at_most_so_many_parts_whatever_the_queue_holds(world: World) -> None:
    world.create(split={"max_tasks": 2}, queue_limits={"max_incoming": 1, "max_claimed": 1})
    task = world.add("Much work")
    assert refusals(world, task, "One", "Two", "Three") == ["added", "added", "split_tasks"]


def test_without_depth_no_task_is_split(world: World) -> None:
    world.create(split={"max_depth": 0}, retry={"max_attempts": 1})
    task = world.add("Much work")
    assert refusals(world, task, "One") == ["split_depth"]
    world.tick_until_in("failed", task)
    [text] = [p.read_text() for p in (world.fake / "seen").glob("*/instructions")]
    assert "`split`" not in text


def test_only_the_run_of_a_task_splits_it(world: World) -> None:
    world.create()
    task = world.add("Much work")
    words = ("task", "add", "--title", "x", "--role", "implement", "--parent")
    world.refused(*words, code=2)
    run = {"ORCHESTRATOR_RUN_ID": "R1", "ORCHESTRATOR_AGENT": "impl-1"}
    done = world.refused(*words, "--json", **run, ORCHESTRATOR_TASK_ID=task)
    assert done.json["error"]["code"] == "refused_in_run"
    done = world.refused(*words, "OTHER", "--json", **run, ORCHESTRATOR_TASK_ID=task)
    assert done.json["error"]["code"] == "refused_in_run"


def test_depth_is_counted_along_the_parents(tmp_path: Path) -> None:
    store = stores.of_project(Layout(str(tmp_path)))
    above = None
    for name in ("A", "B", "C"):
        store.add(new_task(name, extra=(("PARENT", above),) if above else ()))
        above = name
    tasks = {name: store.find(name) for name in "ABC"}
    for depth, allowed in ((0, ""), (1, "A"), (2, "AB"), (3, "ABC")):
        for name, task in tasks.items():
            if name in allowed:
                assert parts.room(store, task, [], Split(max_depth=depth)) == 5
                continue
            with pytest.raises(OrchestratorError, match=f"task {name} may not be split"):
                parts.room(store, task, [], Split(max_depth=depth))


# --- deciding ----------------------------------------------------------------------------------

PRS = [PullRequest(str(n), None, f"agent/{n}", "main", "a" * 40, "t", "open") for n in (1, 2)]
MERGED = [pr._replace(state="merged") for pr in PRS]


def met(*listed: Task, prs: list[PullRequest] = PRS) -> str:
    parent = Task("P", "Much work", "implement", "done", "", parts=tuple(t.id for t in listed))
    found: dict[str, Task | None] = {task.id: task for task in (parent, *listed)}
    return dependencies.verdicts(["P"], found, prs)["P"]


def done(name: str, pr: str | None = None, **more: Any) -> Task:
    return Task(name, name, "implement", "done", "", pr=pr)._replace(**more)


@pytest.mark.parametrize(
    ("listed", "prs", "expected"),
    [
        ([done("A", "1"), done("B", "2")], MERGED, "met"),
        ([done("A"), done("B", "1")], MERGED, "met"),
        ([done("A", "1"), done("B", "2")], PRS, "waiting: its part A: its pull request 1 is open"),
        ([done("A"), done("B", state="incoming")], PRS, "waiting: its part B: it is in incoming"),
        ([done("A", state="failed", reason="x")], PRS, "broken: its part A: it failed (x)"),
        ([done("A", parts=("P",))], PRS, "broken: it is part of a cycle"),
    ],
)
def test_a_split_task_is_a_met_dependency_when_all_its_parts_are(
    listed: list[Task], prs: list[PullRequest], expected: str
) -> None:
    assert met(*listed, prs=prs) == expected


def test_the_progress_of_a_split_task_tells_failed_parts_from_finished_ones() -> None:
    listed = [done("A"), done("B", state="failed"), done("C", state="incoming")]
    assert dependencies.progress(listed[:1]) == "split into 1 part, 1 finished"
    assert dependencies.progress(listed) == "split into 3 parts, 1 finished, 1 failed"
    listed.append(done("D", state="failed", reason="cancelled"))
    said = dependencies.progress(listed)
    assert said == "split into 4 parts, 1 finished, 1 failed, 1 cancelled"


def test_a_part_that_failed_or_was_cancelled_is_broken() -> None:
    listed = [done("A"), done("B", state="failed"), done("C", state="incoming")]
    listed.append(done("D", state="failed", reason="cancelled"))
    assert [part.id for part in parts.broken(listed)] == ["B", "D"]


def test_a_split_task_is_finished_once_every_part_is_done(project: Layout) -> None:
    store = stores.of_project(project)
    for name in ("T1", "A", "B"):
        store.add(new_task(name))
    waits = {"reason": parts.WAITS, "parts": ["A", "B"], "branch": "agent/T1"}
    store.move(store.find("T1"), "blocked", entry("blocked", "R1", **waits))
    assert list(split.finish(store, 0.0)) == []
    store.move(store.find("A"), "done", entry("done", "R2"))
    assert list(split.finish(store, 0.0)) == []
    store.move(store.find("B"), "failed", entry("failed", "R3"))
    assert list(split.finish(store, 0.0)) == [], "a person is asked about the part"
    store.move(store.find("B"), "incoming", entry("retried"))
    store.move(store.find("B"), "done", entry("done", "R4"))
    [action] = split.finish(store, 0.0)
    assert (action.action, action.task) == ("finish", "T1")
    task = store.find("T1")
    assert task.state == "done"
    said = str(store.read(task).history[-1].fields["summary"])
    assert "2 finished" in said
    assert "Its own commits are kept on agent/T1" in said


def test_a_part_that_needs_the_task_that_waits_for_it_is_a_cycle() -> None:
    parent = Task("P", "", "implement", "blocked", "", reason="split", parts=("A",))
    needs = [Task("A", "", "implement", "incoming", "", depends_on=("D",))]
    needs.append(Task("D", "", "implement", "incoming", "", depends_on=("P",)))
    found: dict[str, Task | None] = {task.id: task for task in (parent, *needs)}
    said = dependencies.verdicts(["P", "D"], found, [])
    assert set(said.values()) == {"broken: it is part of a cycle"}


def test_a_chain_of_split_tasks_is_finished_in_one_tick_and_once(tmp_path: Path) -> None:
    store = stores.of_project(Layout(str(tmp_path)))
    for name, below in (("A", "B"), ("B", "C")):
        store.add(new_task(name))
        store.move(store.find(name), "blocked", entry("blocked", reason="split", parts=[below]))
    store.add(new_task("C"))
    assert list(split.finish(store, 0.0)) == []
    store.move(store.find("C"), "done", entry("done"))
    assert [action.task for action in split.finish(store, 0.0)] == ["B", "A"]
    assert list(split.finish(store, 0.0)) == []
    assert {store.find(name).state for name in "ABC"} == {"done"}
