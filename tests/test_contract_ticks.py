"""CONTRACT 8: any number of ticks at once; limits hold at every instant."""

from __future__ import annotations

import harness
from harness import Sampler, World

world = harness.world


def test_twenty_ticks_at_once_execute_each_task_exactly_once(world: World) -> None:
    names = [f"impl-{n}" for n in range(6)]
    limits = {"max_incoming": 50, "max_claimed": 3, "max_open_prs": 50}
    world.create(agents=[world.agent(name) for name in names], queue_limits=limits)
    tasks = [world.add(f"Task number {n}") for n in range(12)]

    def all_done() -> bool:
        return len(world.places()["done"]) == len(tasks)

    with Sampler(lambda: len(world.places()["claimed"])) as claimed:
        for _ in range(20):
            ticks = [world.start("tick") for _ in range(20)]
            for tick in ticks:
                out, err = tick.communicate(timeout=60)
                assert tick.returncode == 0, (out, err)
            if all_done():
                break
        world.tick_until(all_done, "all tasks in done")
    world.quiet()
    for task in tasks:
        assert world.where(task) == ["done"]
        assert len(world.starts(task)) == 1
        assert len(world.commits_about(task)) == 1
    assert max(claimed.answers) <= 3
    world.assert_never_at_once(most=3)
    assert len(world.prs()) == len(tasks)
