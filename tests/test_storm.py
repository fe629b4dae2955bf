"""Reference 8.2 and 8.3 in a crowd: many ticks at once, many tasks, many agents, a lean client."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import STATES, Sampler, World, wait_until

world = harness.world

CLIENT = Path(__file__).with_name("storm_client.sh")
KINDS = ("commits", "fails", *["only"] * 8)
TICKS = 20


class Storm:
    """A world with its tasks, and what a thread sees of it all the while."""

    def __init__(self, world: World, tasks: int, agents: int, most: int) -> None:
        self.world, self.most = world, most
        for name in ("live", "failed"):
            (world.fake / name).mkdir()
        world.create(
            kept_today=False,
            claude={"command": ["/bin/sh", str(CLIENT)]},
            agents=[world.agent(f"impl-{n}") for n in range(agents)],
            queue_limits={"max_claimed": most, "max_open_prs": tasks, "max_incoming": tasks},
        )
        self.tasks = [f"t{n:03}-{KINDS[n % len(KINDS)]}" for n in range(tasks)]
        for task in self.tasks:
            world.drop(f"{task}.md", f"# [{task}] Task {task}\n\nROLE: implement\n\nText.\n")

    def look(self) -> tuple[int, int]:
        """How many tasks are claimed, and how many clients live, at this instant."""
        live = [name for name in os.listdir(self.world.fake / "live") if name.startswith("task=")]
        claimed = os.listdir(self.world.queue / "claimed")
        return sum(name.endswith(".md") for name in claimed), len(live)

    def blow(self, limit: float) -> float:
        """Twenty ticks at once, until everything is done; return the seconds that it took."""
        began = time.monotonic()
        with Sampler(self.look) as sampled:
            while self.is_left():
                ticks = [self.world.start("tick") for _ in range(TICKS)]
                for tick in ticks:
                    out, err = tick.communicate(timeout=limit)
                    assert tick.returncode == 0, (out, err)
                assert time.monotonic() - began < limit, self.counts()
                # Each run's end calls the next tick. These are for what only a schedule would see.
                self.wait_for_progress()
        seconds = time.monotonic() - began
        self.world.quiet()
        self.peak = tuple(map(max, zip(*sampled.answers, strict=True)))
        return seconds

    def wait_for_progress(self) -> None:
        """Wait until all is done, or for a second in which nothing at all was executed."""
        before, since = -1, time.monotonic()
        while self.is_left() and time.monotonic() - since < 1:
            now = len(self.executions())
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.05)

    def is_left(self) -> bool:
        return any(self.counts()[state] for state in ("incoming", "claimed"))

    def counts(self) -> dict[str, int]:
        return {state: len(names) for state, names in self.world.places().items()}

    def executions(self) -> list[str]:
        try:
            return (self.world.fake / "executions").read_text().splitlines()
        except FileNotFoundError:
            return []

    def assert_all_is_as_it_should_be(self) -> None:
        """Each task executed as often as its outcome asks, no limit passed, nothing left over."""
        executed = Counter(line.split()[0] for line in self.executions())
        assert executed == {task: 1 + task.endswith("-fails") for task in self.tasks}
        assert not (self.world.fake / "rivals").exists(), (self.world.fake / "rivals").read_text()
        claimed, live = self.peak
        assert claimed <= self.most
        assert live <= self.most
        assert self.counts() == {**dict.fromkeys(STATES, 0), "done": len(self.tasks)}
        for task in self.tasks:
            if task.endswith("-commits"):
                assert len(self.world.commits_about(task)) == 1
        assert sorted(pr["task"] for pr in self.world.prs()) == [
            task for task in self.tasks if task.endswith("-commits")
        ]
        assert self.world.processes() == []
        self.assert_history_is_whole()

    def assert_history_is_whole(self) -> None:
        lines = (self.world.home_folder / "events.jsonl").read_text().splitlines()
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        started = Counter(event["task"] for event in events if event["event"] == "start")
        assert started == {task: 1 + task.endswith("-fails") for task in self.tasks}


@pytest.mark.timeout(400)
def test_a_small_storm_of_ticks_executes_each_task_as_often_as_it_asks(world: World) -> None:
    storm = Storm(world, tasks=20, agents=10, most=6)
    storm.blow(limit=380)
    storm.assert_all_is_as_it_should_be()


@pytest.mark.crash
@pytest.mark.timeout(2400)
def test_a_storm_of_500_tasks_and_50_agents_executes_each_as_often_as_it_asks(
    world: World, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    storm = Storm(world, tasks=500, agents=50, most=20)
    seconds = storm.blow(limit=2000)
    executed = len(storm.executions())
    wait_until(lambda: not world.processes())
    storm.assert_all_is_as_it_should_be()
    said = f"{executed} executions in {seconds:.0f} s, {executed / seconds:.1f} a second"
    record_property("storm", said)
    with capsys.disabled():
        print(f"\nA storm: {said}; at most {storm.peak} claimed and alive")
