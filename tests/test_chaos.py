"""The storms of `make chaos`: some of them, and the checker itself.

`make test` plays a small storm. `make slow` plays storms of fixed seeds, and begins no storm after
20 seconds.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from chaos import deeds, invariants, odd, scripts, storm
from chaos.invariants import Commit, End, Moment, blob
from rows import each_row

#: Seeds of `make slow`, in this order: with the local forge, and with that of GitHub.
SEEDS = ("ci-3", "ci-48", "ci-5", "ci-0")
#: Seconds after which no further storm begins.
SECONDS = 20
#: Deeds of each of these storms, and of the storm of `make test`.
DEEDS = 25
FEW = 6

RUN = "20260101T000000Z-1"
MOMENT = Moment(
    {"incoming": [], "claimed": [], "blocked": ["asks"], "done": ["well"], "failed": ["fails"]},
    frozenset({"asks", "well", "fails"}),
    most_claimed=1,
)
KILLED = {"verdict": "interrupted", "interrupted": True}
SOUND = End(
    moment=MOMENT,
    ledger=[
        {"event": "start", "run": RUN, "task": "well", "agent": "a"},
        {"event": "commit", "run": RUN, "task": "breaks", "message": scripts.BREAKS},
        {"event": "rivals", "run": RUN, "task": "well", "agent": "a", "rivals": []},
        {"event": "call", "run": RUN, "argv": ["sh"], "out": f"left {blob(b'kept')}\n"},
        {"event": "calling", "run": RUN, "agent": "a", "argv": odd.argv(odd.WAYS[4])},
        {"event": "end", "run": RUN, "task": "well", "agent": "a"},
    ],
    histories={
        "asks": [{"event": "blocked", "run": RUN, "interrupted": False}],
        "well": [
            {"event": "requeued", "run": "1", "verdict": "interrupted", "interrupted": True},
            {
                "event": "requeued",
                "run": "2",
                "charged": True,
                "verdict": "interrupted",
                "interrupted": True,
            },
            {"event": "done", "run": "3"},
        ],
        "breaks": [
            {"event": "requeued", "charged": True, "error": "checks_failed", "interrupted": False}
        ],
        "fails": [
            {"event": "failed", "run": "4", "charged": True, "error": f"x: {scripts.SCRIPTED}"}
        ],
    },
    commits=[
        Commit("c1", "run 3", frozenset({"b1"})),
        # Amended: its contents are elsewhere.
        Commit("c2", "run 3", frozenset({"b1"}), frozenset({"c0"})),
        # What that was built on.
        Commit("c0", "run 2", frozenset({"b0"})),
    ],
    reachable=frozenset({"c1"}),
    objects=frozenset({"c1", "b1", blob(b"kept")}),
    status={"totals": {"cost_usd": 0.25}, "problems": [{"code": "checkout_changed"}]},
    inbox=[
        {"id": "asks", "task": "asks", "kind": "question"},
        {"id": "fails", "task": "fails", "kind": "escalation"},
        {"id": "pr:1", "task": "well", "kind": "approval"},
    ],
    prs=[
        {"id": "1", "task": "well", "state": "open"},
        {"id": "2", "task": "next", "state": "open"},
    ],
    explained={"next": ["blocked_by_dependency"]},
    depends_on={"next": ["well", "asks"]},
    most_open=2,
    fatal_kills=2,
    base_was_broken=False,
    runs=[{"id": RUN, "agent": "a", "status": "finished", "outcome": {"cost_usd": 0.25}}],
    leftovers=[],
    set_aside=["agents/a/worktree.set-aside-1"],
    fsck=[],
)


def rival(**who: str | None) -> dict[str, Any]:
    """A start that found another client alive."""
    other = {"agent": "b", "task": "other", **who}
    return {"event": "rivals", "run": RUN, "task": "well", "agent": "a", "rivals": [other]}


def charged(error: str, **more: Any) -> dict[str, list[dict[str, Any]]]:
    """The history of a task with one failed attempt."""
    event = {"event": "requeued", "run": "1", "charged": True, "error": error, "interrupted": False}
    return {**SOUND.histories, "well": [{**event, **more}]}


def places(**states: list[str]) -> Moment:
    return MOMENT._replace(places={**MOMENT.places, **states})


SPOILED: dict[str, tuple[str, dict[str, Any]]] = {
    "a kill that interrupts twice": ("1 kills interrupted 2 runs", {"fatal_kills": 1}),
    "two states": ("well is in claimed and done", {"moment": places(claimed=["well"])}),
    "a lost task": ("well is lost", {"moment": places(done=[])}),
    "two claims": (
        "2 tasks are claimed, 1 may be",
        {"moment": places(claimed=["x", "y"])._replace(known=frozenset())},
    ),
    "one task twice": ("was alive", {"ledger": [rival(task="well")]}),
    "one agent twice": ("was alive", {"ledger": [rival(agent="a", task=None)]}),
    "a refused client": (
        "refused: in use",
        {"ledger": [{"event": "refused", "why": "in use"}]},
    ),
    "a lost commit": (
        "commit c1 of run 3 is lost",
        {"reachable": frozenset(), "objects": frozenset()},
    ),
    "a commit that nobody saw": (
        "commit c3 of run 3 is lost",
        {"commits": [Commit("c3", "run 3", None)]},
    ),
    "a lost change": ("the uncommitted change of run", {"objects": frozenset({"b1"})}),
    "a fault is charged": (
        "well was charged for run 1: client_error: no space",
        {"histories": charged("client_error: no space")},
    ),
    "a check that nothing broke": ("well was charged", {"histories": charged("checks_failed")}),
    "a first interruption is charged": (
        "well was charged",
        {"histories": charged("killed", interrupted=True)},
    ),
    "costs": ("status says 0.25 USD, the records of the runs say 0", {"runs": []}),
    "an unfinished run": (
        "run 9 of a is running",
        {"runs": [*SOUND.runs, {"id": "9", "agent": "a", "status": "running"}]},
    ),
    "a lock": ("left behind: index.lock", {"leftovers": ["index.lock"]}),
    "a worktree set aside": (
        "2 worktrees of a were set aside, 1 runs left one for it",
        {"set_aside": [f"agents/a/worktree.set-aside-{n}" for n in (1, 2)]},
    ),
    "a bad object": ("git fsck: missing blob", {"fsck": ["missing blob"]}),
    "a problem": (
        "a problem is left: system_fault: git fails",
        {
            "status": {
                **SOUND.status,
                "problems": [{"code": "system_fault", "message": "git fails"}],
            }
        },
    ),
    "an empty inbox": ("asks is blocked, and not in the inbox", {"inbox": SOUND.inbox[1:]}),
    "a silent failure": (
        "fails failed, and is not in the inbox",
        {"inbox": [SOUND.inbox[0], SOUND.inbox[2]]},
    ),
    "a silent pull request": ("pull request 1 of well is open", {"inbox": SOUND.inbox[:2]}),
    "a task that waits": ("waits waits in incoming", {"explained": {"waits": []}}),
    "a dependency that is done": (
        "next waits in incoming",
        {"depends_on": {"next": ["well"]}, "prs": [{**SOUND.prs[0], "state": "merged"}]},
    ),
    "a limit that is not reached": (
        "waits in incoming: max_open_prs",
        {"explained": {"waits": ["max_open_prs"]}, "most_open": 3},
    ),
    "too many pull requests": ("2 pull requests are open, 1 may be", {"most_open": 1}),
    "a task that waits in vain": ("in incoming: backoff", {"explained": {"waits": ["backoff"]}}),
}


def test_the_checker_finds_nothing_wrong_with_what_is_sound() -> None:
    assert invariants.at_the_end(SOUND) == []


@each_row("kind", SPOILED)
def test_the_checker_finds(kind: str) -> None:
    said, change = SPOILED[kind]
    wrong = invariants.at_the_end(SOUND._replace(**change))
    assert any(said in each for each in wrong), wrong


def test_every_sentence_of_the_checker_is_one_that_some_storm_could_break() -> None:
    broken = {
        holds.__name__
        for _, change in SPOILED.values()
        for spoiled in [SOUND._replace(**change)]
        for holds in (*invariants.ALWAYS, *invariants.AT_REST)
        if holds(spoiled.moment if holds in invariants.ALWAYS else spoiled)  # type: ignore[arg-type]
    }
    assert broken == {holds.__name__ for holds in (*invariants.ALWAYS, *invariants.AT_REST)}


def test_a_seed_decides_the_same_at_every_replay_and_a_longer_storm_begins_alike() -> None:
    assert deeds.deeds("7-1", 50) == deeds.deeds("7-1", 50) == deeds.deeds("7-1", 80)[:50]
    assert deeds.setting("7-1") == deeds.setting("7-1")
    assert deeds.deeds("7-1", 50) != deeds.deeds("7-2", 50)


def test_each_deed_of_the_table_has_its_function() -> None:
    from chaos.faults import Faults
    from chaos.people import People

    assert [name for name in deeds.FAULTS if not hasattr(Faults, name)] == []
    assert [name for name in deeds.PEOPLE if not hasattr(People, name)] == []
    assert {each.kind for each in deeds.deeds("all", 5000)} == deeds.WEIGHTS.keys()


@pytest.mark.timeout(3600)  # of a storm that waits for a busy machine
def test_a_small_storm_breaks_nothing(tmp_path: Path) -> None:
    play("ci-5", tmp_path, FEW)


@pytest.mark.timeout(3600)
def test_storms_of_fixed_seeds_break_nothing(tmp_path: Path) -> None:
    until = time.monotonic() + SECONDS
    for seed in SEEDS:
        play(seed, tmp_path)
        if time.monotonic() > until:
            break


@pytest.mark.root  # mounts a disk
@pytest.mark.timeout(3600)
def test_a_storm_with_a_disk_that_fills_breaks_nothing(tmp_path: Path) -> None:
    play("ci-disk", tmp_path)


def play(seed: str, folder: Path, count: int = DEEDS) -> None:
    """Play a storm; fail with its story."""
    report = storm.play(seed, folder / seed, count)
    assert not report.wrong, f"{report.wrong}\n{(report.folder / 'story.txt').read_text()}"
    assert report.figures["runs"] > 0
