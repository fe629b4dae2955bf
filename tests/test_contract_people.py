"""Reference 9: a person's word on a pull request, on both forges, seen from outside."""

from __future__ import annotations

import json
from typing import Any

import both_stores
import harness
import pytest
from harness import World, wait_until

world = both_stores.world

NO = {"report": {"outcome": "changes_requested", "summary": "No.", "feedback": "1. Blanks."}}
YES = {"report": {"outcome": "approved", "summary": "Fine."}}


def create(world: World, forge: str, **more: Any) -> None:
    agents = [world.agent("impl-1"), world.agent("rev-1", "reviewer")]
    world.create()
    world.configure(**{"agents": agents, "forge": forge, **more})
    if forge == "github":
        world.on_github()


def verdict(world: World) -> str | None:
    found = [pr["verdict"] for pr in world.prs()]
    return found[0] if found else None


def write(name: str) -> dict[str, Any]:
    return {"steps": [["write", name, f"{name}\n"], ["commit", name]]}


@pytest.mark.parametrize("forge", ["local", "github"])
def test_a_reviewer_is_told_every_earlier_round_and_what_a_person_decided(
    world: World, forge: str
) -> None:
    create(world, forge, review={"after": ["implement"], "max_rounds": 1})
    world.script("implementer", write("a.txt"), write("b.txt"))
    world.script("reviewer", NO, YES)
    task = world.add("Argued about")
    world.tick_until_in("blocked", task)
    [pr] = world.prs()
    world.ok("pr", "approve", pr["id"])
    assert world.where(task) == ["done"]
    assert verdict(world) == "approved"
    world.ok("pr", "request-changes", pr["id"], "Add b.txt, please.")
    world.tick_until(lambda: len(world.starts(task)) == 2, "the rework")
    assert "Add b.txt, please." in world.seen(task)["prompt"]
    world.tick_until_in("done", task)
    world.tick_until(lambda: len(world.ledger("start", role="reviewer")) == 2, "another review")
    second = world.ledger("start", role="reviewer")[1]["task"]
    told = world.seen(second)["instructions"]
    places = [told.index(said) for said in ("1. Blanks.", "A person decided", "Add b.txt, please.")]
    assert places == sorted(places)
    assert "Do not raise it again" in told[places[0] - 300 : places[0]]
    assert "Do not raise it again" not in told[places[1] :]
    assert f"git diff {pr['head']} HEAD" in told
    world.tick_until(
        lambda: len(world.json("inbox")) == 1, "the approved head to wait for a person"
    )
    [item] = world.json("inbox")
    assert (item["id"], item["kind"]) == (f"pr:{pr['id']}", "approval")
    assert "A Person requested changes: Add b.txt, please." in item["text"]
    assert world.status()["waiting_for_you"] == 1
    assert "git pull" in world.ok("inbox", "approve", item["id"]).out, "the checkout is behind"
    world.tick_until(lambda: [p["state"] for p in world.prs()] == ["merged"], "the merge")
    assert world.json("inbox") == []
    shown = world.json("pr", "show", pr["id"])
    assert [(each["kind"], each["verdict"]) for each in shown["reviews"]] == [
        ("agent", "changes_requested"),
        ("person", "approved"),
        ("person", "changes_requested"),
        ("agent", "approved"),
        ("person", "approved"),
    ]


def test_a_review_of_a_commit_that_is_no_longer_the_head_is_never_paid_for(world: World) -> None:
    create(world, "local")
    world.ok("agent", "pause", "rev-1")
    task = world.add("Pushed to by a person")
    world.tick_until_in("done", task)
    [pr] = world.prs()
    other = world.folder / "person"
    world.git("clone", "-q", str(world.remote), str(other), cwd=world.folder)
    world.git("checkout", "-q", pr["branch"], cwd=other)
    world.git("commit", "-q", "--allow-empty", "-m", "Mine", cwd=other)
    world.git("push", "-q", "origin", pr["branch"], cwd=other)
    head = world.remote_sha(pr["branch"])

    def ended() -> list[Any]:
        listed = world.json("task", "list", "--role", "review")
        return [row for row in listed if row["state"] == "done"]

    world.tick_until(ended, "the review of the old head to end")
    [old] = ended()
    assert "newer commit" in world.task(old["id"])["history"][-1]["summary"]
    world.script("reviewer", YES)
    world.ok("agent", "resume", "rev-1")
    world.tick_until(lambda: verdict(world) == "approved", "a review of the new head")
    [start] = world.ledger("start", role="reviewer")
    assert start["task"] != old["id"]
    assert world.prs()[0]["head"] == head


@pytest.mark.parametrize("forge", ["local", "github"])
def test_a_persons_approval_lands_what_a_reviewer_never_approved(world: World, forge: str) -> None:
    review = {"after": ["implement"], "max_rounds": 1, "auto_merge": True}
    create(world, forge, review=review)
    world.script("reviewer", NO)
    task = world.add("Never good enough")
    world.tick_until_in("blocked", task)
    [pr] = world.prs()
    world.ok("pr", "approve", pr["id"])
    world.tick_until(lambda: [p["state"] for p in world.prs()] == ["merged"], "the landing")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 1


def test_a_merge_by_hand_that_the_forge_has_not_told_yet_charges_no_rework(world: World) -> None:
    agents = [World.agent(f"impl-{n}", interval_seconds=harness.ONCE) for n in (1, 2)]
    world.create(forge="github", review={"after": []}, agents=agents)
    path = world.on_github()
    world.script("default", {"steps": [["work_once"]]})
    task = world.add("Merged by hand while its rework waits")
    world.tick_until_in("done", task)
    world.quiet()
    world.ok("pr", "request-changes", "1", "Shorter.", "--no-tick")
    [branch] = world.git("ls-remote", "origin", "refs/heads/agent/*").split()[1:]
    world.git("fetch", "-q", "origin", branch)
    world.git("merge", "-q", "--no-ff", "-m", "by hand", "FETCH_HEAD")
    world.git("push", "-q", "origin", "main:main")
    world.ok("tick")
    world.quiet()
    assert world.ledger("found_done"), "the rework began before the merge was known"
    assert "stopped: pull request 1 is merged: main has its head" in world.text(task)
    state = json.loads(path.read_text())
    state["prs"][0]["state"] = "MERGED"
    path.write_text(json.dumps(state))
    world.tick_until_in("done", task)
    assert world.task(task)["attempts"] == 0, world.text(task)


def test_a_verdict_counts_although_github_takes_no_word_about_the_pull_request(
    world: World,
) -> None:
    create(world, "github", review={"after": ["implement"]})
    path = world.folder / "github.json"
    world.script("reviewer", {**NO, "steps": [["wait", "locked"]]}, YES)
    task = world.add("Not to be talked about")
    world.tick_until(lambda: world.ledger("start", role="reviewer"), "the review")
    state = json.loads(path.read_text())
    state["prs"][0]["locked"] = True
    path.write_text(json.dumps(state))
    world.open("locked")
    world.tick_until(lambda: len(world.starts(task)) == 2, "the rework")
    world.tick_until(lambda: verdict(world) == "approved", "the second review")
    said = world.ok("pr", "request-changes", "1", "Shorter.", "--no-tick").err
    assert "the review counts, but it is not shown at the forge: " in said
    assert "is locked" in said


@pytest.mark.parametrize("forge", ["local", "github"])
def test_merged_by_a_persons_word_stays_merged(world: World, forge: str) -> None:
    create(world, forge, agents=[world.agent("impl-1")])
    first = world.add("First")
    world.tick_until_in("done", first)
    later = f"# [later] After it\n\nROLE: implement\nDEPENDS_ON: {first}\n\nText.\n"
    world.drop("later.md", later)
    world.tick()
    assert world.where("later") == ["incoming"]
    world.tick_until(world.prs, "the tick that sees the pull request")
    [pr] = world.prs()
    world.ok("pr", "merged", pr["id"])
    world.tick_until_in("done", "later")
    assert {pr["task"]: pr["state"] for pr in world.prs()}[first] == "merged"


def test_a_program_is_told_once_of_each_thing_that_waits(world: World) -> None:
    told = world.folder / "told"
    script = world.bin / "tell"
    script.write_text(f"#!/bin/sh\ncat >> {told}\necho >> {told}\n")
    script.chmod(0o755)
    world.create(notify={"command": [str(script)]})
    question = {"outcome": "needs_human", "summary": "?", "question": "Which one?"}
    world.script("default", {"steps": [], "report": question})
    task = world.add("Asks")
    world.tick_until_in("blocked", task)
    world.tick()

    def lines() -> list[Any]:
        return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []

    wait_until(lines, "the program to be told")
    world.tick()
    world.quiet()
    [line] = lines()
    assert (line["kind"], line["id"], line["text"]) == ("question", task, "Which one?")
    assert line["hint"] == f"orchestrator inbox answer {task} 'TEXT'"
    assert line["project"] == str(world.root)


def test_a_branch_that_returns_to_a_commit_whose_review_was_ended_is_reviewed(
    world: World,
) -> None:
    create(world, "local", review={"after": ["implement"]})
    world.ok("agent", "pause", "rev-1")
    task = world.add("Pushed to")
    world.tick_until_in("done", task)
    [pr] = world.prs()
    clone = world.folder / "person"
    world.git("clone", "-q", str(world.remote), str(clone), cwd=world.folder)
    world.git("checkout", "-q", pr["branch"], cwd=clone)
    world.git("commit", "-q", "--allow-empty", "-m", "A person's", cwd=clone)
    for commit in ("HEAD", "HEAD~1", "HEAD", "HEAD~1"):
        wanted = world.git("rev-parse", commit, cwd=clone).strip()
        world.git("push", "-q", "--force", "origin", f"{commit}:{pr['branch']}", cwd=clone)

        def waits(head: str = wanted) -> bool:
            texts = [world.text(name.removesuffix(".md")) for name in world.places()["incoming"]]
            return len(texts) == 1 and f"HEAD: {head}" in texts[0]

        world.tick_until(waits, f"one review of {commit}")
    world.ok("agent", "resume", "rev-1")
    world.script("reviewer", YES)
    world.tick_until(lambda: verdict(world) == "approved", "the approval")
    assert len(world.ledger("start", role="reviewer")) == 1
