"""Several machines with one queue: separate homes and clones, one remote, one real PostgreSQL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from both_stores import attendants
from harness import STATES, World, is_alive, scratch, wait_until, world  # noqa: F401  (a fixture)
from postgresql import COUNTED, cluster, in_schema
from test_schedule import add_crontab

from orchestrator.database import session, this_host
from orchestrator.layout import Layout
from orchestrator.system import files
from orchestrator.tasks.postgresql_store import PostgresqlStore
from orchestrator.tick import attendant

#: The files that `init` writes beside the configuration and the name of the host.
WRITTEN_BY_INIT = (".gitignore", "CLAUDE.md", ".git/info/exclude", ".git/orchestrator.json")


def kill_attendants(host: World) -> None:
    for process in attendants(host):
        process.kill()
        wait_until(lambda process=process: not is_alive(process.pid), "it is killed")


class Hosts:
    """The hosts of one test: `one` first, the others are clones of its remote."""

    def __init__(self, one: World, address: str, more: Callable[[str], World]) -> None:
        self.one, self.address, self._more = one, address, more

    def begin(self, **config: Any) -> World:
        self.one.create()
        shutil.rmtree(self.one.queue)  # which only a queue in files has
        return self._join(self.one, "one", config)

    def another(self, name: str, **config: Any) -> World:
        """Return another host: a clone of the same remote, below another home."""
        host = self._cloned(name)
        for path in WRITTEN_BY_INIT:
            shutil.copyfile(self.one.root / path, host.root / path)
        for folder in ("agents", "cache", "shared/prs"):
            (host.home_folder / folder).mkdir(parents=True)
        return self._join(host, name, config)

    def _cloned(self, name: str) -> World:
        host = self._more(name)
        host.git("clone", "-q", str(self.one.remote), str(host.root), cwd=host.folder)
        host.remote, host.fake = self.one.remote, self.one.fake
        host.environment["FAKE_CLIENT_HOME"] = str(host.fake)
        return host

    def _join(self, host: World, name: str, config: dict[str, Any]) -> World:
        """Let a host with the files that `init` writes join the queue, as `init --host` does.

        That command takes five times as long; `test_one_project` has it.
        """
        host.configure(store=self.address, **config)
        layout = Layout(str(host.root))
        this_host.write(layout, name)
        PostgresqlStore(layout, self._session).prepare()
        return host

    def _set_up(self, host: World, name: str, config: dict[str, Any]) -> World:
        """Let a repository join the queue by the command."""
        host.home_folder.mkdir(exist_ok=True)
        host.configure(store=self.address, **config)
        host.ok("init", "--schedule", "none", "--no-commands", "--start", "--host", name)
        return host

    @property
    def _session(self) -> session.Session:
        """The test's own session in the database."""
        return session.of(self.address)

    def sql(self, query: str, *values: object) -> Any:
        return self._session.rows(query, *values)

    def state(self, task: str) -> str:
        """Return the state of a task without a command: a test may ask again and again."""
        return str(self.sql("SELECT state FROM orchestrator_tasks WHERE id = %s", task)[0][0])

    def go_down(self) -> None:
        """Kill the attendants of all hosts, when no run is at work.

        A tick that is under way (after a run, or of an attendant that was killed) starts another
        attendant, so they are killed until nothing is left.
        """

        def is_down() -> bool:
            kill_attendants(self.one)
            return not self.one.processes()

        wait_until(is_down, "no process of a host is left")

    def silent(self, name: str, seconds: float = 61) -> None:
        """Make a host's last heartbeat older; its attendant, which a tick started, is killed."""
        wait_until(lambda: attendants(self.one), "an attendant")
        kill_attendants(self.one)
        self.heartbeat_stops(name, seconds)

    def heartbeat_stops(self, name: str, seconds: float = 61) -> None:
        """Let a host count as dead now: no minute has to pass."""
        self.sql(
            "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - %s * interval '1 s'"
            " FROM orchestrator_hosts WHERE worker = id AND name = %s RETURNING 1",
            *(seconds, name),
        )


@pytest.fixture
def hosts(
    world: World,  # noqa: F811
    server: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hosts]:
    with ExitStack() as stack:

        def more(name: str) -> World:
            folder = tmp_path / name
            folder.mkdir()
            return stack.enter_context(scratch(folder, tmp_path_factory))

        yield Hosts(world, in_schema(server, str(tmp_path)), more)


def test_a_task_travels_to_done_over_the_database(hosts: Hosts) -> None:
    one = hosts.begin()
    task = one.add("Say hello", "implement", "--priority", "P1")
    assert [row["id"] for row in one.json("task", "list")] == [task]
    assert not one.queue.exists()
    one.tick_until(lambda: hosts.state(task) == "done", "the task is done")
    shown = one.task(task)
    events = [event["event"] for event in shown["history"]]
    assert (events, shown["pr"]) == (["claimed", "done"], "1")
    assert one.status()["queue"] == {**dict.fromkeys(STATES, 0), "done": 1}
    assert [pr["id"] for pr in one.prs()] == ["1"]
    assert one.commits_about(task)
    jobs = hosts.sql("SELECT queue_name, task_name, status::text, attempts FROM procrastinate_jobs")
    assert jobs == [(task, "implement", "succeeded", 1)]


def test_a_file_that_a_person_drops_is_a_task_for_every_host(hosts: Hosts) -> None:
    one = hosts.begin(agents=[])
    dropped = one.drop("fix login bug.md", "# Fix the login\n\nROLE: implement\n")
    one.drop("odd.md", "no task")
    [problem] = one.tick()["problems"]
    assert (problem["code"], "odd.md" in problem["message"]) == ("task_malformed", True)
    assert not dropped.exists()
    two = hosts.another("two")
    assert two.task("fix-login-bug")["title"] == "Fix the login"
    again = one.drop("fix-login-bug.md", "# Another\n\nROLE: implement\n")
    one.ok("tick")
    assert again.exists()
    assert two.task("fix-login-bug")["title"] == "Fix the login"


WAITS = {"steps": [["work"], ["wait", "go"]]}


def test_two_hosts_share_the_tasks_and_no_limit_is_exceeded(hosts: Hosts) -> None:
    limits = {"max_incoming": 20, "max_claimed": 2, "max_open_prs": 10}
    agents = [World.agent(name) for name in ("impl-1", "impl-2", "impl-3")]
    one = hosts.begin(agents=agents, queue_limits=limits)
    two = hosts.another("two", agents=agents, queue_limits=limits)
    tasks = [one.add(f"Change number {number}", "implement", "--no-tick") for number in range(4)]

    def finished() -> bool:
        one.ok("tick")
        two.ok("tick")
        return all(hosts.state(task) == "done" for task in tasks)

    wait_until(finished, lambda: str(two.json("task", "list")))
    one.assert_never_at_once(limits["max_claimed"])
    assert two.json("task", "list", "--all") == one.json("task", "list", "--all")
    assert two.prs() == one.prs()
    assert sorted(pr["task"] for pr in two.prs()) == sorted(tasks)
    assert {r["run"] for r in one.json("runs")} == {r["run"] for r in two.json("runs")}
    assert sorted(r["task"] for r in two.json("runs")) == sorted(tasks)
    assert two.json("costs")["total"] == one.json("costs")["total"]
    for task in tasks:
        assert [e["event"] for e in two.task(task)["history"]] == ["claimed", "done"]
        assert len(one.starts(task)) == 1
        assert one.commits_about(task)
    assert not one.queue.exists()
    jobs = hosts.sql("SELECT queue_name, status::text, attempts FROM procrastinate_jobs")
    assert sorted(jobs) == sorted((task, "succeeded", 1) for task in tasks)


def test_the_tasks_of_a_dead_host_return_and_its_late_run_delivers_nothing(hosts: Hosts) -> None:
    one = hosts.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS, {})
    one.tick_until(lambda: one.ledger("commit"), "the run of the first host waits")
    two = hosts.another("two")
    [row] = two.status()["running"]
    assert (row["task"], row["host"], row["pid"]) == (task, "one", None)
    assert two.json("agent", "list")[0]["reason"] == "running"
    two.ok("tick")
    assert two.task(task)["claimed_by"] == "impl-1"
    refused = two.refused("task", "cancel", task, "--json").json
    assert (refused["error"]["code"], "host one" in refused["error"]["message"]) == (
        "running",
        True,
    )

    hosts.silent("one")
    two.tick_until(lambda: hosts.state(task) == "done", "the other host did the task")
    head = two.remote_sha(two.task(task)["work_branch"])
    history = two.task(task)["history"]
    assert [e["event"] for e in history] == ["claimed", "requeued", "claimed", "done"]
    assert (history[1]["charged"], history[1]["reason"]) == (False, "host_gone")
    assert [e["host"] for e in history if e["event"] == "claimed"] == ["one", "two"]
    assert "only there" in two.seen(task)["instructions"]

    one.tick_until(lambda: not one.status()["running"], "the late run is stopped")
    assert sorted(r["outcome"] for r in one.json("runs")) == ["done", "stopped"]
    assert two.remote_sha(two.task(task)["work_branch"]) == head
    assert two.task(task)["history"] == history
    assert len(two.prs()) == 1


def test_a_run_that_lost_its_task_during_the_checks_pushes_nothing(
    hosts: Hosts, tmp_path: Path
) -> None:
    checks = [f"touch {tmp_path}/began; until test -e {tmp_path}/checked; do sleep 0.1; done"]
    one = hosts.begin(checks=checks)
    task = one.add("Say hello", "implement", "--no-tick")
    one.tick_until(lambda: (tmp_path / "began").exists(), "the checks run")
    two = hosts.another("two", agents=[World.agent("test-1", "tester")])
    hosts.silent("one")
    two.ok("tick")
    assert two.task(task)["state"] == "incoming"
    one.ok("agent", "pause", "--all")  # or it would take the task again
    (tmp_path / "checked").touch()
    wait_until(lambda: one.json("runs"), "the late run is settled")
    assert [r["outcome"] for r in one.json("runs")] == ["stopped"]
    assert one.git("ls-remote", str(one.remote), "refs/heads/agent/*") == ""
    assert two.prs() == []
    assert one.task(task)["attempts"] == 0


def test_an_agent_runs_only_on_its_host(hosts: Hosts) -> None:
    agents = [World.agent("impl-1", host="two")]
    one = hosts.begin(agents=agents)
    task = one.add("Say hello", "implement", "--no-tick")
    one.ok("tick")
    assert one.json("agent", "list")[0]["reason"] == "other_host"
    assert "runs on the host two; this host is one" in one.ok("explain", "impl-1").out
    two = hosts.another("two", agents=agents)
    two.tick_until(lambda: hosts.state(task) == "done", "the task is done")


def test_two_clones_cannot_work_under_one_name(hosts: Hosts) -> None:
    one = hosts.begin()
    one.ok("tick")
    two = hosts.another("one")
    [problem] = two.tick()["problems"]
    assert problem["code"] == "host_taken"
    assert "init --host NAME" in problem["hint"]
    two.ok("init", "--host", "two")
    assert two.tick()["problems"] == []


def test_an_agent_without_tasks_runs_on_one_host_and_at_its_interval(hosts: Hosts) -> None:
    agents = [World.agent("pm", "product_manager", interval_seconds=600)]
    one = hosts.begin(agents=agents)
    two = hosts.another("two", agents=agents)
    one.script("pm", {"steps": [["wait", "go"]]})
    one.tick_until(lambda: one.starts(), "the run waits")
    two.ok("tick")
    assert two.json("agent", "list")[0]["reason"] == "running"
    one.open("go")
    one.tick_until(lambda: not one.status()["running"], "the run is settled")
    two.ok("tick")
    assert two.json("agent", "list")[0]["reason"] == "not_due"
    assert len(one.starts()) == 1


def test_the_budget_of_a_day_is_one_for_all_hosts(hosts: Hosts) -> None:
    one = hosts.begin(budgets={"daily_usd": 0.2})
    one.add("Say hello", "implement", "--no-tick")
    one.tick_until(lambda: one.status()["queue"]["done"] == 1, "the task is done")
    two = hosts.another("two", budgets={"daily_usd": 0.2})
    two.add("Say hello again", "implement", "--no-tick")
    two.ok("tick")
    assert two.json("agent", "list")[0]["reason"] == "budget_exhausted"


def test_a_host_is_shown_with_heartbeat_and_agents_and_keeps_its_runs_when_it_was_silent(
    hosts: Hosts,
) -> None:
    one = hosts.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    one.script(task, WAITS)
    one.tick_until(lambda: one.ledger("commit"), "the run waits")
    two = hosts.another("two", max_starts=7)
    two.ok("tick")
    rows = {row["name"]: row for row in two.json("hosts")}
    assert set(rows) == {"one", "two"}
    assert all(row["alive"] and row["version"] for row in rows.values())
    [running] = rows["one"]["running"]
    assert (running["agent"], running["task"]) == ("impl-1", task)
    assert [row["differences"] for row in rows.values()] == [["max_starts"], []]
    assert "differs from here in max_starts" in two.ok("hosts").out
    assert "on the host one: stop it there" in two.ok("stop", "impl-1").out
    hosts.silent("one")
    assert [row["alive"] for row in two.json("hosts")] == [False, True]
    assert "dead" in two.ok("hosts").out
    found = [f for f in two.json("doctor")["findings"] if f["code"] == "store_unreachable"]
    assert [(f["level"], "this host is two" in f["message"]) for f in found] == [("ok", True)]
    # It was suspended for an hour, and nobody else ticked.
    hosts.heartbeat_stops("one", 3600)
    one.ok("tick")
    two.ok("tick")
    assert [row["alive"] for row in two.json("hosts")] == [True, True]
    one.open("go")
    one.tick_until(lambda: hosts.state(task) == "done", "the task is done")
    assert len(one.starts(task)) == 1


def test_while_the_database_is_gone_runs_go_on_and_deliver_once(
    world: World,  # noqa: F811
    tmp_path: Path,
) -> None:
    with cluster() as own:
        world.create(init=False)
        world.home_folder.mkdir()
        checks = [f"until test -e {tmp_path}/down; do sleep 0.1; done"]
        world.configure(store=in_schema(own.base, "outage"), checks=checks)
        world.ok("init", "--schedule", "none", "--no-commands", "--start", "--host", "one")
        task = world.add("Say hello", "implement", "--no-tick")
        world.tick_until(lambda: world.ledger("end"), "the client has ended, the checks run")

        own.stop()
        # The tick that the attendant started for the new task may still hold the lock.
        [problem] = wait_until(lambda: world.tick()["problems"], "a tick that has the lock")
        assert (problem["code"], problem["hint"] is not None) == ("store_unreachable", True)
        [action] = wait_until(lambda: world.tick()["actions"], "a tick that has the lock")
        assert (action["action"], action["reason"]) == ("skip", "system_fault")
        shown = world.status()
        assert [p["code"] for p in shown["problems"]] == ["store_unreachable"]
        assert [run["task"] for run in shown["running"]] == [task]
        assert "store_unreachable" in world.ok("status").out
        assert world.refused("task", "list", "--json").json["error"]["code"] == "store_unreachable"
        assert "store_unreachable" in {f["code"] for f in world.json("doctor")["findings"]}
        (tmp_path / "down").touch()
        wait_until(lambda: attendants(world, others=True) == [], "the run meets the outage")
        logs = [*world.home_folder.rglob("supervisor.log"), *world.home_folder.rglob("*.out")]
        assert logs
        assert "Traceback" not in "".join(path.read_text() for path in logs)

        own.start()
        world.tick_until(lambda: world.task(task)["state"] == "done", "the work is delivered")
        history = world.task(task)["history"]
        assert [e["event"] for e in history] == ["claimed", "requeued", "claimed", "done"]
        assert history[1]["charged"] is False
        assert (len(world.starts(task)), len(world.prs())) == (1, 1)
        assert world.tick()["problems"] == []


def scheduled(host: World) -> None:
    """Give a host a schedule that never runs, so that it has an attendant; wait for that."""
    add_crontab(host).write_text(f"FAKE_CLIENT_HOME={host.fake}\n")
    host.ok("init", "--schedule", "cron")
    host.ok("tick")
    pulse = host.root / ".orchestrator/cache/pulse"
    wait_until(lambda: attendants(host) and pulse.exists(), "the attendant listens")


def test_a_task_of_one_host_starts_at_once_on_another(hosts: Hosts) -> None:
    agents = [World.agent("impl-1", host="two", interval_seconds=0)]
    one = hosts.begin(agents=agents)
    two = hosts.another("two", agents=agents)
    scheduled(two)
    one.add("Say hello", "implement", "--no-tick")
    wait_until(lambda: one.starts(), "the client starts on the other host")
    wait_until(lambda: one.status()["queue"]["done"] == 1, "the task is done")


def idle_stamp(host: World) -> Path:
    """Have a host tick until a tick found nothing to do; return the stamp that it left."""
    stamp = host.root / ".orchestrator/cache/idle"

    def stamped() -> bool:
        host.ok("tick")
        return stamp.exists()

    wait_until(stamped, "a tick finds nothing to do")
    return stamp


def test_a_tick_that_finds_nothing_changed_sends_one_statement_or_none(
    world: World,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        own = stack.enter_context(cluster(**COUNTED))

        def more(name: str) -> World:
            (tmp_path / name).mkdir()
            return stack.enter_context(scratch(tmp_path / name, tmp_path_factory))

        hosts = Hosts(world, in_schema(own.base, "idle"), more)
        agents = [World.agent("impl-1", host="one")]
        one, two = hosts.begin(agents=agents), hosts.another("two", agents=agents)
        stamp = idle_stamp(one)
        heard = hosts.sql("SELECT last_tick FROM orchestrator_hosts WHERE name = 'one'")
        before = len(own.statements("one"))
        one.ok("tick")
        [statement] = own.statements("one")[before:]
        assert "orchestrator_changes" in statement
        assert hosts.sql("SELECT last_tick FROM orchestrator_hosts WHERE name = 'one'") > heard

        task = two.add("Say hello", "implement", "--no-tick")
        one.ok("tick")
        assert not stamp.exists()
        assert one.task(task)["state"] != "incoming"
        one.tick_until(lambda: hosts.state(task) == "done", "the task is done")
        [pr] = one.prs()
        one.ok("pr", "close", pr["id"])

        # The attendant vouches for the queue: a tick needs no connection. A new one does so at
        # once, and that of the run with its next heartbeat.
        kill_attendants(one)
        scheduled(one)
        stamp = idle_stamp(one)
        wait_until(
            lambda: stamp.read_bytes().split(b"\0")[3] == pulse(one), "the attendant vouches"
        )
        before = len(own.statements("one"))
        one.ok("tick")
        one.ok("tick")
        between = own.statements("one")[before:]
        assert [s for s in between if "orchestrator_changes" not in s] == []
        assert len(between) <= 1  # the attendant's heartbeat
        # Another host's change is heard at once, and so is the end of the database.
        two.ok("pr", "merged", pr["id"])
        wait_until(lambda: not pulse(one), "the attendant vouches no longer")


def test_an_attendant_that_ends_vouches_no_longer(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)  # it leaves the folder
    answers = iter([True, False])
    monkeypatch.setattr(attendant, "is_needed", lambda *_: next(answers))

    def beat(layout: Layout, _load: object) -> bool:
        files.write_atomic(layout.pulse, b"7")
        return True

    monkeypatch.setattr(attendant, "_beat", beat)
    attendant.attend(project.root, lambda: pytest.fail("forked"))
    assert not os.path.exists(project.pulse)


def pulse(host: World) -> bytes:
    path = host.root / ".orchestrator/cache/pulse"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
