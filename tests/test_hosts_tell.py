"""What waits for a person on several machines: every host shows it, and one host tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from both_stores import attendants
from harness import World, wait_until, world  # noqa: F401  (a fixture)
from shared_hosts import Behind
from test_hosts_that_fail import behind, behind_of  # noqa: F401  (fixtures)
from test_several_machines import Hosts, hosts  # noqa: F401  (a fixture)

ASKS = {"steps": [], "report": {"outcome": "needs_human", "summary": "?", "question": "Which?"}}


def noting(folder: Path) -> tuple[dict[str, Any], Path]:
    """Return settings with a program that notes what it is told, and the file of its notes."""
    program, notes = folder / "tell", folder / "told"
    program.write_text(f"#!/bin/sh\ncat >> {notes}\necho >> {notes}\n")
    program.chmod(0o755)
    return {"command": [str(program)]}, notes


def told(several: list[World], notes: Path) -> list[Any]:
    """Return what the program was told, when no process of the hosts is about to tell more."""
    wait_until(
        lambda: not [p for host in several for p in attendants(host, others=True)],
        lambda: str([p.cmdline() for host in several for p in attendants(host, others=True)]),
    )
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [json.loads(line) for line in lines if line]


def test_one_host_tells_what_waits_and_tells_it_again_when_it_comes_again(
    hosts: Hosts,  # noqa: F811
    tmp_path: Path,
) -> None:
    notify, notes = noting(tmp_path)
    one = hosts.begin(notify=notify, agents=[World.agent("impl-1", host="one")])
    two = hosts.another("two", notify=notify, agents=[World.agent("impl-1", host="one")])
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, ASKS, ASKS)
    one.tick_until(lambda: hosts.state(task) == "blocked", "the question")
    for host in (two, one, two):
        host.ok("tick")
        assert [item["id"] for item in host.json("inbox")] == [task]
    [first] = told([one, two], notes)
    assert (first["kind"], first["task"], first["host"] in ("one", "two")) == (
        *("question", task),
        True,
    )

    two.ok("inbox", "answer", task, "The second.", "--no-tick")
    one.tick_until(lambda: len(one.starts(task)) == 2, "the second attempt")
    two.ok("tick")
    one.tick_until(lambda: hosts.state(task) == "blocked", "the second question")
    for host in (two, one, two):
        host.ok("tick")
    assert [each["kind"] for each in told([one, two], notes)] == ["question", "question"]


def test_the_question_of_an_agent_is_in_the_inbox_of_every_host(
    hosts: Hosts,  # noqa: F811
    tmp_path: Path,
) -> None:
    notify, notes = noting(tmp_path)
    agents = [World.agent("pm", "product_manager", host="two", interval_seconds=600)]
    one = hosts.begin(notify=notify, agents=agents)
    two = hosts.another("two", notify=notify, agents=agents)
    two.script("pm", ASKS)
    two.tick_until(lambda: two.json("inbox"), "the question")
    one.ok("tick")
    [here], [there] = one.json("inbox"), two.json("inbox")
    assert (here["id"], here["host"], here["text"]) == ("agent:pm@two", "two", "Which?")
    assert (there["id"], there["host"]) == ("agent:pm", "two")
    assert here["since"] is not None
    assert one.status()["waiting_for_you"] == 1
    assert "orchestrator agent resume pm" in one.ok("inbox").out
    assert [each["text"] for each in told([one, two], notes)] == ["Which?"]
    assert "the host two follows" in one.ok("inbox", "dismiss", "agent:pm@two", "--no-tick").out
    assert one.json("inbox") == []
    two.ok("tick")
    assert two.json("inbox") == []


def test_an_agent_that_was_paused_is_resumed_from_another_host_while_its_host_is_down(
    hosts: Hosts,  # noqa: F811
) -> None:
    agents = [World.agent("pm", "product_manager", host="two")]
    settings: dict[str, Any] = {"agents": agents, "retry": {"max_attempts": 1}}
    one, two = hosts.begin(**settings), hosts.another("two", **settings)
    two.script("pm", {"steps": [], "report": {"outcome": "failed", "summary": "No."}}, {})
    two.tick_until(lambda: two.json("inbox"), "the pause")
    [item] = one.json("inbox")
    assert (item["id"], item["kind"]) == ("agent:pm@two", "escalation")
    hosts.go_down()
    hosts.heartbeat_stops("two")
    one.ok("tick")
    assert [row["alive"] for row in one.json("hosts")] == [True, False]
    assert one.json("inbox") == [item]
    assert one.json("agent", "resume", "pm", "--no-tick")["woken"] == ["pm"]
    assert one.json("agent", "resume", "pm", "--no-tick")["woken"] == []
    assert one.json("inbox") == []
    assert two.json("agent", "show", "pm")["suspended"] is not None
    two.tick_until(lambda: len(two.starts()) > 1, "the next run")
    assert two.json("agent", "show", "pm")["suspended"] is None


def test_one_host_sends_the_report_of_a_day(hosts: Hosts, tmp_path: Path) -> None:  # noqa: F811
    notify, notes = noting(tmp_path)
    notify["report"] = "00:00"
    several = [hosts.begin(notify=notify, agents=[])]
    several.append(hosts.another("two", notify=notify, agents=[]))
    for host in (*several, *several):
        host.ok("tick")
    assert [each["kind"] for each in told(several, notes)] == ["report"]


def test_each_host_tells_once_per_outage_that_the_database_is_gone(
    behind: Behind,  # noqa: F811
    tmp_path: Path,
) -> None:
    notify, notes = noting(tmp_path)
    several = [behind.begin(notify=notify, agents=[])]
    several.append(behind.another("two", notify=notify, agents=[]))
    for host in several:
        host.ok("tick")
    behind.proxy.go_away()
    several[0].json("tick", "--dry-run")
    for host in (*several, *several):
        assert [problem["code"] for problem in host.tick()["problems"]] == ["store_unreachable"]
    assert len(told(several, notes)) == 2  # while it lasts: an outage that is over is not told
    behind.proxy.is_closed = False
    assert several[0].tick()["problems"] == []
    behind.proxy.go_away()
    several[0].ok("tick")
    found = told(several, notes)
    assert sorted(each["host"] for each in found) == ["one", "one", "two"]
    assert {(each["kind"], each["code"]) for each in found} == {("problem", "store_unreachable")}
