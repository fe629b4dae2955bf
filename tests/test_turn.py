"""Which host begins a tick first when a task waits (`turn`): an order that all hosts compute."""

from __future__ import annotations

import pytest

from orchestrator.tasks.sharing import Offer, Peer
from orchestrator.tick import turn

ANY = ("implement",)


def waits(*hosts: Peer, tasks: int = 1, first: str = "T0") -> dict[str, float | None]:
    """Return what each host waits, for tasks of the role `implement`."""
    offered = (first, *(f"T{number}" for number in range(1, tasks)))
    offer = Offer(tuple((task, "implement") for task in offered), hosts)
    return {peer.name: turn.wait(offer, peer.name) for peer in hosts}


def fleet(number: int) -> list[Peer]:
    return [Peer(f"host-{each}", 0, ANY) for each in range(number)]


@pytest.mark.parametrize("tasks", [1, 3])
def test_as_many_hosts_begin_at_once_as_there_are_tasks_and_the_next_follow(tasks: int) -> None:
    found = sorted(wait for wait in waits(*fleet(6), tasks=tasks).values() if wait is not None)
    assert found == [turn.STEP * (place // tasks) for place in range(6)][: 4 * tasks] + [
        turn.STEP * turn.STEPS + turn.APART * place for place in range(6 - 4 * tasks)
    ]


def test_different_tasks_go_to_different_hosts_first() -> None:
    firsts = set()
    for number in range(60):
        found = waits(*fleet(4), first=f"TASK-{number:08x}")
        firsts |= {name for name, wait in found.items() if wait == 0}
    assert len(firsts) == 4


def test_a_host_with_runs_lets_idle_hosts_go_first_and_a_full_host_goes_last() -> None:
    two = ("implement", "implement")
    found = waits(Peer("full", 1, ANY), Peer("busy", 1, two), Peer("idle", 0, ANY))
    assert found == {"idle": 0.0, "busy": turn.STEP, "full": 2 * turn.STEP}


def test_a_host_without_a_fitting_agent_begins_no_tick_and_holds_up_no_other() -> None:
    hosts = [Peer("tests", 0, ("test",)), Peer("paused", 0, ()), Peer("fits", 5, ANY)]
    assert waits(*hosts) == {"tests": None, "paused": None, "fits": 0.0}


def test_a_host_that_has_told_nothing_yet_may_fit() -> None:
    assert waits(Peer("new", 0, None)) == {"new": 0.0}
    assert turn.wait(Offer((("T1", "implement"),)), "unknown") == 0.0


def test_without_a_task_no_host_begins_a_tick() -> None:
    assert turn.wait(Offer((), tuple(fleet(2))), "host-0") is None


def test_behind_dead_hosts_the_wait_has_a_bound() -> None:
    """A host that cannot act costs one step; behind some of them, all other hosts follow."""
    found = sorted(wait for wait in waits(*fleet(16)).values() if wait is not None)
    assert len(found) == 16
    assert found[1] == turn.STEP
    assert found[turn.STEPS] == turn.STEP * turn.STEPS <= 1.0
    assert found[-1] < 1.3


def test_of_very_many_hosts_not_all_ask_at_the_same_moment() -> None:
    assert turn.spread(turn.AT_ONCE) == 0
    assert turn.spread(1000) > 10
