"""What a host learns of the other hosts, and does about it, in this process and without a database.

The hosts and their database are in `test_several_machines.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.project import agent_memory
from orchestrator.project.agent_memory import AgentState, Totals
from orchestrator.project.memories import everywhere, totals
from orchestrator.system import files
from orchestrator.tasks import stores
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.sharing import Elsewhere, Offer, Peer, Pulse
from orchestrator.tick import attendant, observe, soon, turn

AGENT = "impl-agent-1"

Cli = Callable[..., Any]


@pytest.fixture
def memories(project: Layout, monkeypatch: pytest.MonkeyPatch) -> float:
    """What an agent remembers on this host and on two others; returns the time of now."""
    now = time.time()
    today = time.strftime("%Y-%m-%d", time.localtime(now))

    def state(cost: float, started: float) -> AgentState:
        return AgentState(spend={today: cost}, last_started=started, totals=Totals(runs=1))

    agent_memory.write(project, AGENT, state(0.5, now - 30))
    others = (("two", state(0.25, now - 10)), ("three", state(1.0, now - 20)))
    there = Elsewhere((), tuple((host, AGENT, agent_memory.values(s)) for host, s in others))
    monkeypatch.setattr(FileStore, "elsewhere", lambda _: there)
    return now


def test_the_cost_of_a_day_and_the_last_start_are_those_of_all_hosts(
    project: Layout, memories: float
) -> None:
    settings = load.settings(project, write_cache=False)
    seen = observe.observe(project, settings, memories, None).snapshot
    assert seen.spent_today_usd == 1.75
    assert seen.agents[AGENT].last_started == memories - 10
    assert totals(everywhere(project))[AGENT].runs == 3


@pytest.mark.usefixtures("memories")
def test_costs_and_doctor_count_what_the_other_hosts_spent(project: Layout, cli: Cli) -> None:
    text = Path(project.config).read_text()
    Path(project.config).write_text(f"budgets: {{daily_usd: 1.5}}\n{text}")
    assert cli("costs", "--json").json["budgets"]["spent_today_usd"] == 1.75
    assert "spent today: 1.75 of 1.5 USD" in cli("costs").out
    assert "1.75 of 1.5 USD spent today" in cli("doctor").out


WAITS = (("T1", "implement"),)


class Shared:
    """A shared queue as the attendant sees it: it answers each wait with the next of these."""

    host = "one"

    def __init__(self, *answers: bool | None, offers: Sequence[Offer] = ()) -> None:
        self.answers, self.offers = list(answers), list(offers)

    def listen(self) -> bool | None:
        return None

    def pulse(self, _: float) -> Pulse:
        return Pulse("7", 2)

    def wait(self, _: float) -> bool | None:
        if not self.answers:
            raise StoreFault("gone")
        return self.answers.pop(0)

    def offer(self) -> Offer:
        return self.offers.pop(0) if self.offers else Offer(WAITS, (Peer("one", 0, None),))


@pytest.fixture
def beat(project: Layout, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], int]:
    """Return a function that sends a heartbeat to a queue; it returns how many ticks it began."""
    monkeypatch.setattr(attendant, "AGAIN", 0.0)
    monkeypatch.setattr(turn, "STEP", 0.001)
    files.make_folder(project.cache)

    def beaten(shared: Any) -> int:
        begun: list[Layout] = []
        monkeypatch.setattr(soon, "begin", lambda layout, _: begun.append(layout))
        monkeypatch.setattr(stores, "of_project", lambda _: shared)
        assert attendant._beat(project, lambda: pytest.fail("no tick begins in this process"))
        return len(begun)

    return beaten


def test_a_change_that_may_be_work_begins_a_tick_at_once(beat: Callable[[Any], int]) -> None:
    assert beat(Shared(True)) == 1
    assert beat(Shared(False, None, True, True)) == 2
    assert beat(Shared(False, None)) == 0


def test_a_host_whose_turn_comes_later_begins_no_tick_for_a_task_that_was_claimed(
    beat: Callable[[Any], int],
) -> None:
    peers = (Peer("one", 5, None), Peer("two", 0, None))  # the other host has fewer runs
    waits, gone = Offer(WAITS, peers), Offer((), peers)
    assert beat(Shared(True, offers=[waits, gone])) == 0
    assert beat(Shared(True, offers=[waits, waits])) == 1
    assert beat(Shared(True, offers=[gone])) == 0


def test_no_tick_believes_the_attendant_after_a_change_or_a_fault(
    beat: Callable[[Any], int], project: Layout
) -> None:
    seen = []

    class Looking(Shared):
        def wait(self, seconds: float) -> bool | None:
            seen.append(os.path.exists(project.pulse))
            return super().wait(seconds)

    beat(Looking(None, False, None))
    assert seen == [True, True, False, False]
    beat(Looking(None))
    assert seen[4:] == [True, True]
    assert not os.path.exists(project.pulse)
