"""Reference 7 and failures 1, 2, 6: a system fault costs no attempt and loses no work."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import harness
import pytest
from harness import World, wait_until

world = harness.world

MISSING = "no-such-program-at-all --check"


def requeued(world: World, task: str) -> list[dict[str, object]]:
    return [e for e in world.task(task)["history"] if e["event"] == "requeued"]


def events(world: World, word: str) -> list[dict[str, object]]:
    path = world.home_folder / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == word]


def test_work_that_only_could_not_be_delivered_is_delivered_without_the_client(
    world: World,
) -> None:
    world.create(checks=[MISSING])
    task = world.add("Add a thing")
    world.tick_until(lambda: len(requeued(world, task)) >= 2, "put back twice")
    assert len(world.starts(task)) == 1
    assert [fields["charged"] for fields in requeued(world, task)][:2] == [False, False]
    assert [p["code"] for p in world.status()["problems"]].count("system_fault") == 1
    world.configure(checks=["true"])
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 1
    (pr,) = world.prs()
    assert world.remote_sha(pr["branch"]) == pr["head"]
    world.tick_until(lambda: not world.status()["problems"], "the fault is over")


def test_commits_that_came_since_are_not_delivered_as_the_earlier_runs_work(world: World) -> None:
    world.create(checks=[MISSING])
    task = world.add("Add a thing")
    world.tick_until(lambda: requeued(world, task), "put back")
    world.run("agent", "pause", "--all", "--stop")
    branch = world.task(task)["work_branch"]
    tree, parent = world.git("rev-parse", f"{branch}^{{tree}}").strip(), world.sha(branch)
    newer = world.git("commit-tree", tree, "-p", parent, "-m", "A person's")
    world.git("update-ref", f"refs/heads/{branch}", newer)
    world.configure(checks=["true"])
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 2


def test_a_run_that_met_a_fault_does_not_call_the_next_probe(world: World) -> None:
    world.create(
        claude={"command": ["/nowhere/claude"]},
        queue_limits={"max_claimed": 1},
        agents=[World.agent("impl-1"), World.agent("impl-2")],
    )
    world.add("One")
    world.add("Two")
    world.tick()
    wait_until(lambda: len(events(world, "requeue")) == 1, lambda: "settled", harness.PATIENCE)
    world.quiet()
    assert len(events(world, "start")) == 1
    assert [a["action"] for a in world.tick()["actions"]].count("start") == 1


def test_a_check_that_is_killed_is_run_once_more_and_says_nothing_about_the_work(
    world: World, tmp_path: Path
) -> None:
    mark = shlex.quote(str(tmp_path / "killed-once"))
    world.create(checks=[f"test -e {mark} || {{ touch {mark}; kill -9 $$; }}"])
    task = world.add("Add a thing")
    world.tick_until_in("done", task)
    assert requeued(world, task) == []


def test_a_check_that_is_always_killed_interrupts_first_and_then_costs_an_attempt(
    world: World,
) -> None:
    world.create(checks=["kill -9 $$"], retry={"max_attempts": 1, "backoff_seconds": 0})
    task = world.add("Add a thing")
    world.tick_until_in("failed", task)
    assert [fields["charged"] for fields in requeued(world, task)] == [False]
    assert world.task(task)["reason"].startswith("no_result")


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"run": 7, "supervisor": null}'])
def test_a_run_goes_on_though_its_agents_memory_is_lost(world: World, junk: str) -> None:
    world.create()
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    task = world.add("Add a thing")
    world.tick()
    wait_until(lambda: world.running(task), lambda: "running", harness.PATIENCE)
    memory = world.home_folder / "agents" / "impl-1" / "state.json"
    memory.write_text(junk)
    assert [a["action"] for a in world.tick()["actions"]] == ["skip"]
    world.open("go")
    world.tick_until_in("done", task)
    world.tick_until(lambda: json.loads(memory.read_text())["totals"]["runs"] == 1, "it counts")
    assert len(world.starts(task)) == 1
    assert requeued(world, task) == []


def test_a_fault_dated_ahead_of_the_clock_is_ended_by_a_good_run(world: World) -> None:
    world.create()
    hold = world.home_folder / "shared" / "hold.json"
    ahead = {"code": "system_fault", "message": "m", "hint": None, "since": time.time() + 28_800}
    hold.write_text(json.dumps(ahead))
    task = world.add("Add a thing")
    world.tick_until_in("done", task)
    world.tick_until(lambda: not hold.exists(), "the hold is over")


def test_a_review_of_a_pull_request_that_was_merged_meanwhile_is_not_run(world: World) -> None:
    agents = [World.agent("impl-1"), World.agent("rev-1", "reviewer", paused=True)]
    world.create(agents=agents)
    task = world.add("Add a thing")
    world.tick_until_in("done", task)
    (waiting,) = [t["id"] for t in world.json("task", "list") if t["state"] == "incoming"]
    world.ok("pr", "merge", "1")
    world.configure(agents=[agents[0], World.agent("rev-1", "reviewer")])
    world.tick_until_in("done", waiting)
    assert world.starts(waiting) == []


#: By name: what a person does to `.orchestrator/roles/` while a client works.
ROLE_ACCIDENTS = {
    "its file is broken": lambda roles: (roles / "implementer.md").write_text(
        "---\ntools: 7\n---\n"
    ),
    "its file is gone": lambda roles: (roles / "scribe.md").unlink(),
}


def under_a_lost_role(world: World, how: str, **script: object) -> tuple[str, Callable[[], object]]:
    """Have a client end while its role is away; return the task, and what brings the role back."""
    roles = world.home_folder / "roles"
    roles.mkdir(exist_ok=True)
    scribe = "---\ntakes: implement\ntools: [Read]\n---\nWrite.\n"
    (roles / "scribe.md").write_text(scribe)
    own = "scribe" if "gone" in how else "implementer"
    # A second charge, and it would be over.
    strict = {"max_attempts": 1, "backoff_seconds": 0}
    agents = [World.agent("impl-1", own), World.agent("impl-2", own, paused=True)]
    world.configure(agents=agents, retry=strict)
    world.script("default", {"steps": [["work"], ["write", "draft.txt"], ["wait", "go"]], **script})
    task = world.add("Add a thing")
    world.tick_until(lambda: world.ledger("commit"), "the work")
    ROLE_ACCIDENTS[how](roles)
    world.open("go")
    wait_until(lambda: world.ledger("end"), lambda: "the client's end", harness.PATIENCE)
    world.quiet()
    world.run("tick")
    assert world.where(task) == ["incoming"]
    fixed = scribe if own == "scribe" else ""
    path = roles / f"{own}.md"
    return task, lambda: path.write_text(fixed) if fixed else path.unlink()


@pytest.mark.parametrize("how", ROLE_ACCIDENTS)
def test_a_run_that_loses_its_role_keeps_what_it_cost_and_is_delivered_when_that_is_back(
    world: World, how: str
) -> None:
    world.create()
    task, fix = under_a_lost_role(world, how)
    (put_back,) = requeued(world, task)
    assert (put_back["charged"], put_back["reason"]) == (False, "role_broken")
    assert (put_back["cost_usd"], put_back["session"]) == (0.25, world.starts()[0]["session"])
    totals = world.status()["totals"]
    assert (totals["runs"], totals["cost_usd"]) == (1, 0.25)
    assert (totals["input_tokens"], totals["output_tokens"]) == (100, 10)
    assert world.sha(f"refs/orchestrator/rescue/{put_back['run']}"), "what was not committed"
    fix()
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 1, "the work was done, and paid for, once"
    (pr,) = world.prs()
    assert [pr["head"]] == world.commits_about(task)
    assert world.status()["totals"]["cost_usd"] == 0.25
    world.tick_until(lambda: not world.status()["problems"], "the fault is over")


def test_a_run_that_loses_its_role_before_its_report_goes_on_in_its_conversation(
    world: World,
) -> None:
    world.create()
    task, fix = under_a_lost_role(world, "its file is broken", report=None)
    fix()
    world.script("default", {"steps": [["work_once"]]})
    world.tick_until_in("done", task)
    first, second = world.starts(task)
    assert (second["session"], second["resumed"]) == (first["session"], True)
    assert world.status()["totals"]["runs"] == 2
