"""What the commands and the page show of several machines, on each of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import World, movable_clock, wait_until, world  # noqa: F401  (a fixture)
from playwright.sync_api import expect
from postgresql import cluster, in_schema
from starlette.testclient import TestClient
from test_page import opened
from test_page_browser import HIGH, Open, browser, loaded, region, serve  # noqa: F401  (fixtures)
from test_several_machines import WAITS, Hosts, hosts  # noqa: F401  (a fixture)

from orchestrator.cli import served
from orchestrator.database import session, this_host
from orchestrator.layout import Layout
from orchestrator.page import changes
from orchestrator.system import process
from orchestrator.tasks.postgresql_store import PostgresqlStore


@pytest.fixture
def page_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that opens the page of a host, in this process.

    The commands that the page starts are forked (`warm`).
    """

    def open_page(host: World) -> TestClient:
        start = process.own_program()

        def run(argv: list[str], *, stdin: Any, **_: object) -> subprocess.CompletedProcess[bytes]:
            assert argv[: len(start)] == start
            done = host.run(*argv[len(start) :], stdin=stdin.read().decode())
            return subprocess.CompletedProcess(
                argv, done.code, done.out.encode(), done.err.encode()
            )

        monkeypatch.setattr(served, "subprocess", SimpleNamespace(run=run))
        for name in ("HOME", "FAKE_CLIENT_HOME", "PATH"):
            monkeypatch.setenv(name, host.environment[name])
        return opened(Layout(str(host.root)))

    return open_page


def both(hosts: Hosts) -> tuple[World, World, str, str]:  # noqa: F811
    """Return two hosts: the first delivered a task, the second has one at work."""
    agents = [World.agent("impl-1", host="one"), World.agent("impl-2", host="two")]
    one = hosts.begin(agents=agents)
    done = one.add("Say hello", "implement", "--no-tick")
    one.tick_until(lambda: hosts.state(done) == "done", "the first task is done")
    two = hosts.another("two", agents=agents)
    waits = two.add("Say goodbye", "implement", "--no-tick")
    two.script(waits, WAITS)
    two.tick_until(lambda: two.starts(waits), "the run of the second host is at work")
    return one, two, done, waits


def test_each_host_shows_which_host_has_a_run_and_what_all_of_them_came_to(
    hosts: Hosts,  # noqa: F811
    page_of: Any,
) -> None:
    one, two, done, waits = both(hosts)
    [ended] = two.json("runs")
    assert (ended["task"], ended["host"]) == (done, "one")
    assert one.json("runs") == [ended]
    assert "one" in two.ok("runs").out.splitlines()[1].split()
    for host in (one, two):
        [row] = host.status()["running"]
        assert (row["task"], row["host"], row["age_seconds"] is not None) == (waits, "two", True)
        assert f"{waits} on two, for" in host.ok("status").out
        assert host.task(waits)["host"] == "two"
        assert "host" not in host.task(done)
        told = host.json("report")
        assert [(row["task"], row["host"]) for row in told["delivered"]] == [(done, "one")]
        assert told["host"] == ("one" if host is one else "two")
        assert "(on one)" in host.ok("report").out
        lanes = {lane["agent"]: lane["runs"] for lane in host.json("history")["agents"]}
        assert [(run["host"], run["outcome"]) for run in lanes["impl-1"]] == [("one", "done")]
        assert [(run["host"], run["outcome"]) for run in lanes["impl-2"]] == [("two", None)]
        assert host.status()["totals"]["runs"] == 1
        assert host.json("agent", "show", "impl-1")["totals"]["runs"] == 1
    assert "on the host two" in one.ok("logs", "impl-2").out
    for name in ("runs_total", "cost_usd_total", "tokens_total"):
        of_one, of_two = (
            [line for line in host.ok("metrics").out.splitlines() if f"_{name}{{" in line]
            for host in (one, two)
        )
        # A host has a line of zero for an agent that it has started and that has not ended.
        assert of_one == [line for line in of_two if not line.endswith(" 0.0")]
    assert one.json("costs")["total"] == two.json("costs")["total"]

    page = page_of(one)
    assert "impl-2</bdi></a> on two" in page.get("/part/board").text.replace(
        "<bdi>two</bdi>", "two"
    )
    assert "two" in page.get("/part/agents").text
    assert ">Host<" in page.get("/part/history").text
    assert "<bdi>one</bdi>" in page.get("/part/agents/impl-1").text
    run = one.status()["running"][0]["run"]
    assert "is on the host two" in page.get(f"/part/runs/{run}").text
    assert page.get("/api/runs").json() == one.json("runs")


def test_the_page_sees_and_makes_changes_in_the_shared_queue(
    hosts: Hosts,  # noqa: F811
    page_of: Any,
) -> None:
    agents = [World.agent("impl-1", host="two")]
    one = hosts.begin(agents=agents)
    two = hosts.another("two", agents=agents)
    page, here = page_of(one), Layout(str(one.root))

    def news_of(act: Any) -> list[str]:
        before = changes.marks(here)
        act()
        return changes.differences(before, changes.marks(here))

    def post(path: str, **body: object) -> Any:
        answer = page.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    asks = two.add("Ask something", "implement", "--no-tick")
    two.script(asks, {"steps": [], "report": {"outcome": "needs_human", "question": "Which?"}}, {})
    two.tick_until(lambda: hosts.state(asks) == "blocked", "the question")
    assert [item["text"] for item in page.get("/api/inbox").json()] == ["Which?"]
    post(f"/api/inbox/{asks}/answer", text="The second.")
    assert two.task(asks)["state"] == "incoming"
    assert "The second." in two.ok("task", "show", asks).out
    two.tick_until(lambda: hosts.state(asks) == "done", "the task is done")
    [pr] = page.get("/api/prs").json()
    assert {"queue", "prs", "events"} <= set(news_of(lambda: two.ok("pr", "approve", pr["id"])))
    post(f"/api/prs/{pr['id']}/request-changes", text="Louder, please.")
    assert two.prs()[0]["verdict"] == "changes_requested"

    made = post("/api/tasks/add", title="From the page", priority="P2")["id"]
    post(f"/api/tasks/{made}/set", priority="P0")
    assert two.task(made)["priority"] == "P0"
    post(f"/api/tasks/{made}/move", state="blocked")
    assert two.task(made)["state"] == "blocked"
    post(f"/api/tasks/{made}/retry")
    assert two.task(made)["state"] == "incoming"
    assert "queue" in news_of(lambda: two.ok("task", "cancel", made))
    refused = page.post(f"/api/tasks/{made}/move", json={"state": "claimed"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "wrong_state")


def test_the_page_says_that_the_database_is_gone_and_goes_on_when_it_is_back(
    world: World,  # noqa: F811
    page_of: Any,
) -> None:
    with cluster() as own:
        world.create(init=False)
        world.home_folder.mkdir()
        world.configure(store=in_schema(own.base, "page"))
        world.ok("init", "--schedule", "none", "--no-commands", "--start", "--host", "one")
        task = world.add("Say hello", "implement", "--no-tick")
        page, here = page_of(world), Layout(str(world.root))
        before = changes.marks(here)
        own.stop()
        assert "queue" in changes.differences(before, changes.marks(here))
        assert page.get("/").status_code == 200
        assert "failed" in page.get("/part/board").text
        assert "store_unreachable" in page.get("/part/problems").text
        answer = page.get("/api/tasks")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "store_unreachable")
        own.start()
        assert changes.marks(here) == before
        assert task in page.get("/part/board").text


@pytest.mark.slow
def test_a_browser_drives_the_queue_of_two_hosts(hosts: Hosts, serve: Open) -> None:  # noqa: F811
    """Drag, answer, retry, approve and merge on one host; the other host does the work."""
    agents = [World.agent("impl-1", host="two")]
    one = hosts.begin(agents=agents)
    two = hosts.another("two", agents=agents)
    page = serve(**HIGH)
    board, inbox = region(page, "Board"), region(page, "Inbox")
    task = two.add("Say hello", "implement", "--no-tick")
    card = board.locator(f"#card-{task}")
    expect(card).to_be_visible()  # the other host's task comes without a reload
    card.drag_to(board.locator("[data-drop-priority=P0]"))
    expect(board.locator("[data-drop-priority=P0]").locator(f"#card-{task}")).to_be_visible()
    assert two.task(task)["priority"] == "P0"
    card.drag_to(board.locator("[data-drop-state=blocked]"))
    expect(board.locator(f"[data-drop-state=blocked] #card-{task}")).to_be_visible()
    card.get_by_label(f"Actions for {task}").click()
    card.get_by_role("button", name=f"Retry {task}").click()
    expect(board.locator(f"[data-drop-state=incoming] #card-{task}")).to_be_visible()

    asks = {"steps": [], "report": {"outcome": "needs_human", "question": "Which of them?"}}
    two.script(task, asks, WAITS)
    two.tick_until(lambda: hosts.state(task) == "blocked", "the question")
    expect(inbox).to_contain_text("Which of them?")
    inbox.get_by_label("Answer").first.fill("The second.")
    inbox.get_by_role("button", name="Answer").first.click()
    wait_until(lambda: two.task(task)["state"] == "incoming", "the answer")
    two.tick_until(lambda: len(two.starts(task)) == 2, "the second run")
    expect(card).to_contain_text("impl-1 on two")
    expect(region(page, "Agents").locator("#agent-impl-1")).to_contain_text("on two")
    other = serve(f"/runs/{one.status()['running'][0]['run']}")
    expect(other.get_by_role("main")).to_contain_text("is on the host two")
    two.open("go")
    two.tick_until(lambda: hosts.state(task) == "done", "the task is done")

    [pr] = one.prs()
    shown = serve(f"/prs/{pr['id']}")
    loaded(shown)
    about = region(shown, f"Pull request {pr['id']}")
    about.get_by_role("button", name=f"Approve {pr['id']}").click()
    wait_until(lambda: two.prs()[0]["verdict"] == "approved", "the verdict")
    expect(about).to_contain_text("approved")
    shown.once("dialog", lambda dialog: dialog.accept())
    about.get_by_role("button", name=f"Merge {pr['id']}").click()
    wait_until(lambda: two.prs()[0]["state"] == "merged", "the merge")
    expect(region(page, "Pull requests")).to_contain_text("merged")
    region(page, "History").get_by_text("Table of runs").click()
    expect(region(page, "History").get_by_role("columnheader", name="Host")).to_be_visible()


def test_hosts_names_the_settings_that_differ(hosts: Hosts) -> None:  # noqa: F811
    one = hosts.begin(queue_limits={"max_claimed": 3}, checks=["true"])
    two = hosts.another("two", agents=[World.agent("impl-1", model="opus"), World.agent("impl-2")])
    (two.root / ".orchestrator/roles").mkdir()
    (two.root / ".orchestrator/roles/tester.md").write_text("Test it.\n")
    one.ok("tick")
    two.ok("tick")
    differ = ["agents.impl-1.model", "agents.impl-2", "checks", "queue_limits.max_claimed"]
    for host, name, other in ((one, "one", "two"), (two, "two", "one")):
        rows = {row["name"]: row["differences"] for row in host.json("hosts")}
        assert rows == {name: [], other: [*differ, "roles.tester"]}
        assert "checks and 2 more" in host.ok("hosts").out
    hosts.sql("UPDATE orchestrator_hosts SET version = '0.0.9' WHERE name = 'two' RETURNING 1")
    assert "0.0.9 (here " in one.ok("hosts").out
    # The command that says which host to update works with tables of another version, too.
    hosts.sql("UPDATE orchestrator_schema SET version = 99 RETURNING 1")
    refused = one.refused("task", "add", "More", "--json").json["error"]
    assert (refused["code"], "orchestrator hosts" in refused["hint"]) == ("store_not_set_up", True)
    assert "0.0.9 (here " in one.ok("hosts").out


def test_what_an_agent_remembers_on_a_host_with_a_wrong_clock_has_the_times_of_this_host(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there, here = Layout(str(tmp_path / "there")), Layout(str(tmp_path / "here"))
    address = in_schema(server, str(tmp_path))
    stores = [PostgresqlStore(each, session.of(address)) for each in (there, here)]
    for layout, store in zip((there, here), stores, strict=True):
        os.makedirs(layout.cache)
        this_host.write(layout, os.path.basename(layout.root))
        store.prepare()
    true = time.time
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: true() - 3600)
        started = time.time() - 5
        stores[0].end("pm", "R1", {"last_started": started, "last_finished": None, "failures": 1})
    [(host, agent, memory)] = stores[1].elsewhere().memories
    assert (host, agent, memory["failures"], memory["last_finished"]) == ("there", "pm", 1, None)
    assert isinstance(memory["last_started"], float)
    assert true() - 5 - 60 < memory["last_started"] < true() - 5


@pytest.mark.slow
def test_a_host_whose_clock_is_an_hour_off_holds_up_no_other_and_is_held_up_by_no_other(
    hosts: Hosts,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The database's clock decides who is dead, when an agent is due and when a task returns."""
    agents = [World.agent("pm", "product_manager", interval_seconds=600), World.agent("impl-1")]
    settings = {"agents": agents, "retry": {"max_attempts": 3, "backoff_seconds": 2}}
    one, two = hosts.begin(**settings), hosts.another("two", **settings)
    product, move = movable_clock(tmp_path / "ahead")
    two.product = product
    move(3600)
    two.tick_until(lambda: two.starts(), "the agent without tasks runs there")
    two.tick_until(lambda: not two.status()["running"], "its run is settled")
    one.ok("tick")
    for host in (one, two):
        assert [row["alive"] for row in host.json("hosts")] == [True, True]
        assert all(row["heartbeat_age_seconds"] < 60 for row in host.json("hosts"))
        [pm] = [row for row in host.json("agent", "list") if row["name"] == "pm"]
        assert pm["reason"] == "not_due"
        # Less than the interval: the time since its start on the other host counts.
        assert 0 < pm["due_in_seconds"] < 600
    task = one.add("Say hello", "implement", "--no-tick")
    two.script(task, {"steps": [], "report": {"outcome": "failed", "summary": "no"}}, {})
    two.tick_until(lambda: two.task(task)["attempts"] == 1, "the first attempt fails there")
    one.tick_until(lambda: hosts.state(task) == "done", "the second attempt is done here")
    claims = [e["host"] for e in one.task(task)["history"] if e["event"] == "claimed"]
    assert claims == ["two", "one"]


def test_a_task_that_the_database_does_not_give_out_yet_is_asked_for_again(
    hosts: Hosts,  # noqa: F811
) -> None:
    """The clock of a host may be ahead: for the host, a retried task waits no longer."""
    one = hosts.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    later = "UPDATE procrastinate_jobs SET scheduled_at = now() + %s * interval '1 s' RETURNING 1"
    hosts.sql(later, 3600)
    [skip] = one.tick()["actions"]
    assert (skip["action"], one.task(task)["state"]) == ("skip", "incoming")
    assert not (one.root / ".orchestrator/cache/idle").exists()
    hosts.sql(later, 0)
    one.ok("tick")
    assert one.task(task)["state"] != "incoming"
