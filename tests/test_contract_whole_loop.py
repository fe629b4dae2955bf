"""Many tasks from implementation to main, on both forges: each ends landed or with a person.

Among them are dependencies, two conflicts, branches that fail only together, a reviewer who objects
twice, one who never agrees, a person who rebases a branch, a stranger's pull request of the same
branch name, and a base that fails its checks for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
from typing import Any

import both_stores
import harness
import psutil
import pytest
import warm
from harness import World

world = both_stores.world
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKS = [
    "! { test -e three.txt && test -e four.txt; }",
    "! test -e broken.txt",
]
NO = {"outcome": "changes_requested", "summary": "No.", "feedback": "Again."}
#: No review ends before the test lets it.
OBJECTS = {"steps": [["wait", "review"]], "report": NO}
AGREES = {"steps": [["wait", "review"]], "report": {"outcome": "approved", "summary": "Fine."}}
#: Seconds for the whole story.
LIMIT = 400.0


def write(name: str, text: str, *more: list[Any]) -> dict[str, Any]:
    return {"steps": [*more, ["write", name, text], ["commit", f"{name} of {text.strip()}"]]}


#: An author who is sent back because of a conflict merges the base and keeps both.
RESOLVES = {
    "steps": [
        ["git", "fetch", "-q", "origin"],
        ["git", "merge", "-q", "-X", "ours", "-m", "resolved", "origin/main"],
    ]
}
#: A run that was killed may have removed the file: what it left is kept for the next run.
REMOVE = ["git", "rm", "--ignore-unmatch"]
SCRIPTS: dict[str, list[dict[str, Any]]] = {
    "left": [write("same.txt", "left\n"), RESOLVES],
    "right": [write("same.txt", "right\n"), RESOLVES],
    "up": [write("other.txt", "up\n"), RESOLVES],
    "down": [write("other.txt", "down\n"), RESOLVES],
    "three": [write("three.txt", "three\n"), write("trois.txt", "t\n", [*REMOVE, "three.txt"])],
    "four": [write("four.txt", "four\n"), write("quatre.txt", "q\n", [*REMOVE, "four.txt"])],
    "first": [write("first.txt", "1\n")],
    "second": [write("second.txt", "2\n")],
    "argued": [write("argued.txt", f"{n}\n") for n in range(4)],
    "never": [write("never.txt", f"{n}\n") for n in range(5)],
    # A person rebases its branch during the second run.
    "rebased": [
        write("rebased.txt", "r\n"),
        write("rebased2.txt", "r\n", ["wait", "rebased"]),
        write("rebased3.txt", "r\n"),
    ],
}


def story(world: World, **more: Any) -> None:
    more = {"retry": {"backoff_seconds": 0.5, "max_backoff_seconds": 2}, **more}
    roles = {"impl-1": "implementer", "impl-2": "implementer", "rev-1": "reviewer"}
    world.create(kept_today=False)
    world.configure(
        agents=[world.agent(name, role) for name, role in roles.items()],
        review={"after": ["implement"], "auto_merge": True, "max_rounds": 3},
        checks=CHECKS,
        queue_limits={"max_incoming": 50, "max_claimed": 10, "max_open_prs": 30},
        **more,
    )
    for name, behaviours in SCRIPTS.items():
        world.script(name, *behaviours, whole=True)
    world.script("reviewer", AGREES)
    world.script("review-of-argued", OBJECTS, OBJECTS, AGREES, whole=True)
    world.script("review-of-never", OBJECTS)
    world.script("review-of-rebased", OBJECTS, AGREES, whole=True)


def add_all(world: World) -> None:
    for name in SCRIPTS:
        depends = "DEPENDS_ON: first\n" if name == "second" else ""
        text = f"# [{name}] Do {name}\n\nROLE: implement\nPRIORITY: P2\n{depends}\nText.\n"
        world.drop(f"{name}.md", text)


def persons_clone(world: World) -> Any:
    other = world.folder / "person"
    world.git("clone", "-q", str(world.remote), str(other), cwd=world.folder)
    return other


def push_file(world: World, where: Any, *words: str) -> None:
    world.git("pull", "-q", "--rebase", "origin", "main", cwd=where)
    world.git(*words, cwd=where)
    world.git("commit", "-q", "-m", "By a person", cwd=where)
    push_main(world, where)


def push_main(world: World, where: Any) -> None:
    """Push HEAD to main; the landing may push at the same time, as on a real remote."""

    def pushed() -> bool:
        world.git("pull", "-q", "--rebase", "origin", "main", cwd=where)
        with contextlib.suppress(AssertionError):
            world.git("push", "-q", "origin", "HEAD:main", cwd=where)
            return True
        return False

    harness.wait_until(pushed, "the push to main")


def rebase_by_hand(world: World, branch: str) -> None:
    """What GitHub's "Update with rebase" does to a branch."""
    where = world.folder / "rebaser"
    world.git("clone", "-q", str(world.remote), str(where), cwd=world.folder)
    world.git("checkout", "-q", branch, cwd=where)
    (where / "unrelated.txt").write_text("x\n")
    world.git("checkout", "-q", "main", cwd=where)
    world.git("add", "unrelated.txt", cwd=where)
    world.git("commit", "-q", "-m", "Main moves", cwd=where)
    push_main(world, where)
    world.git("checkout", "-q", branch, cwd=where)
    world.git("rebase", "-q", "main", cwd=where)
    world.git("push", "-q", "--force", "origin", branch, cwd=where)


def passes(world: World, commit: str) -> bool:
    names = set(world.git("ls-tree", "--name-only", commit, cwd=world.remote).split())
    return not {"three.txt", "four.txt"} <= names and "broken.txt" not in names


def landed(world: World) -> dict[str, str]:
    return {pr["task"]: pr["state"] for pr in world.prs()}


class Killer(threading.Thread):
    """Kills a process of the product, or a client, now and then.

    The commands that the test itself started are left alone: their answers are asserted.
    """

    def __init__(self, world: World, times: int) -> None:
        super().__init__(daemon=True)
        self.world, self.times, self.killed = world, times, 0
        self.stopped = threading.Event()
        self.random = random.Random(7)

    def run(self) -> None:
        while self.killed < self.times and not self.stopped.wait(self.random.uniform(0.3, 1.5)):
            with contextlib.suppress(psutil.Error, IndexError):
                one = self.random.choice(self.world.processes())
                if os.getpid() in (parent.pid for parent in one.parents()):
                    continue
                one.kill()
                self.killed += 1


def play(world: World, *, charged: bool = False) -> None:
    person = persons_clone(world)
    add_all(world)
    free = [name for name in SCRIPTS if name != "second"]
    world.tick_until(lambda: set(landed(world)) >= set(free), "everything to be delivered", LIMIT)
    (person / "broken.txt").write_text("x\n")
    push_file(world, person, "add", "broken.txt")
    red = world.remote_sha("main")
    world.open("review")
    world.tick_until(
        lambda: [p for p in world.status()["problems"] if p["code"] == "base_red"],
        "the red base",
        LIMIT,
    )
    assert world.remote_sha("main") == red, "nothing lands on a red base"
    world.tick_until(lambda: len(world.starts("rebased")) > 1, "rework", LIMIT)
    push_file(world, person, "rm", "-q", "broken.txt")
    rebase_by_hand(world, world.task("rebased")["work_branch"])
    world.open("rebased")
    green = world.remote_sha("main")

    def settled() -> bool:
        states = landed(world)
        return all(states.get(name) == "merged" for name in SCRIPTS if name != "never")

    world.tick_until(settled, "everything to land", LIMIT)
    world.tick_until(lambda: world.where("never") == ["blocked"], "a person to be asked", LIMIT)
    commits = world.git("rev-list", "--first-parent", f"{green}..main", cwd=world.remote).split()
    assert all(passes(world, commit) for commit in commits)
    [item] = world.json("inbox")
    assert (item["task"], item["kind"]) == ("never", "escalation")
    for name in SCRIPTS:
        task = world.task(name)
        assert charged or task["attempts"] == 0, f"{name} was charged: {task['history']}"
        if name == "never":
            continue
        assert task["state"] == "done"
        approved = [e for e in task["history"] if e.get("verdict") == "approved"]
        [pr] = [pr for pr in world.prs() if pr["task"] == name]
        assert approved[-1]["head"] == pr["head"], f"{name}: another commit was approved"
    assert world.sha("HEAD") == world.sha("main"), "the person's checkout is where it was"
    world.assert_never_at_once()


def test_everything_lands_or_waits_for_a_person(world: World) -> None:
    story(world)
    play(world)


def test_kills_at_random_moments_change_nothing_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The killer knows the test's own commands by their parent: a forked one has another parent.
    monkeypatch.setattr(warm, "_can_be_warm", lambda *_: False)
    story(world, retry={"max_attempts": 20, "backoff_seconds": 0.2, "max_backoff_seconds": 1})
    killer = Killer(world, 60)
    killer.start()
    try:
        play(world, charged=True)
    finally:
        killer.stopped.set()
        killer.join()
    assert killer.killed > 10


@pytest.mark.parametrize("methods", ["merge", "squash"])
def test_the_same_on_github(world: World, methods: str) -> None:
    story(world, forge="github")
    stranger = {
        "number": 1,
        "headRefName": "agent/first-do-first",
        "baseRefName": "main",
        "headRefOid": world.sha("main"),
        "title": "A stranger's own work",
        "body": "",
        "state": "OPEN",
        "url": "https://github.com/owner/repo/pull/1",
        "reviewDecision": "",
        "comments": [],
        "isCrossRepository": True,
        "headRepositoryOwner": {"login": "stranger"},
    }
    state = world.on_github(prs=[stranger], methods=[methods])
    play(world)
    assert [pr["id"] for pr in world.prs() if pr["id"] == "1"] == []
    assert json.loads(state.read_text())["prs"][0]["state"] == "OPEN"
