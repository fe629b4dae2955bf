"""A shared queue belongs to one project, and says so; its hosts have names that are right."""

from __future__ import annotations

import os
import time
from pathlib import Path

import harness
import postgresql
import pytest
import test_several_machines
from harness import World, wait_until
from postgresql import in_schema
from test_several_machines import Hosts

from orchestrator.database import access, session
from orchestrator.layout import Layout
from orchestrator.project import events
from orchestrator.tasks import stores
from orchestrator.upkeep import migrate

# Fixtures; `hosts` needs the other two.
world, cluster, hosts = harness.world, postgresql.cluster, test_several_machines.hosts
READS = (
    *(("status",), ("task", "list"), ("task", "show", "x"), ("inbox",), ("runs",), ("costs",)),
    *(("pr", "list"), ("report",), ("metrics",), ("history",), ("agent", "list"), ("audit",)),
    *(("hosts",), ("explain", "impl-1"), ("clean", "--dry-run")),
)


def another_project(hosts: Hosts) -> World:
    """Return a second project, with the `store` of the first one copied into its agents.yaml."""
    other = hosts._more("other")
    other.create(remote=False, init=False)
    other.git("commit", "-q", "--amend", "-m", "another first commit")
    other.home_folder.mkdir()
    other.configure(store=hosts.address)
    return other


def test_a_second_project_does_not_join_the_queue_of_the_first(hosts: Hosts) -> None:
    one = hosts.begin()
    task = one.add("Say hello", "implement", "--no-tick")
    other = another_project(hosts)
    refused = other.refused("init", "--schedule", "none", "--start", "--json").json["error"]
    assert refused["code"] == "other_project"
    roots = [host.git("rev-list", "--max-parents=0", "HEAD")[:12] for host in (other, one)]
    assert all(root in refused["message"] for root in roots)
    assert "orchestrator hosts adopt" in refused["hint"]
    # Set up before the line was copied.
    other.configure()
    other.ok("init", "--schedule", "none", "--start")
    other.configure(store=hosts.address)
    assert {p["code"] for p in other.tick()["problems"]} == {"other_project"}
    assert other.starts() == []
    assert "other_project" in [p["code"] for p in other.status()["problems"]]
    assert "other_project" in [x["code"] for x in other.json("doctor")["findings"]]
    for words in (
        ("task", "list"),
        ("task", "add", "Mine"),
        ("task", "show", task),
        ("pr", "close", "1"),
        ("runs",),
    ):
        assert other.refused(*words, "--json").json["error"]["code"] == "other_project"
    assert [row["name"] for row in one.json("hosts")] == []
    # A person says that it is right after all.
    assert other.json("hosts", "adopt")["project"]
    assert [row["id"] for row in other.json("task", "list")] == [task]
    one.tick_until(lambda: hosts.state(task) == "done", "the first project goes on")


def test_each_clone_of_a_project_joins_whatever_its_form(hosts: Hosts) -> None:
    one = hosts.begin(agents=[])
    task = one.add("Say hello", "implement", "--no-tick")
    two = hosts._set_up(hosts._cloned("two"), "two", {"agents": []})
    shallow = hosts._more("shallow")
    one.git("commit", "-q", "--allow-empty", "-m", "second")
    one.git("push", "-q", "origin", "main")
    url = f"file://{one.remote}"
    shallow.git("clone", "-q", "--depth=1", url, str(shallow.root), cwd=shallow.folder)
    hosts._set_up(shallow, "shallow", {"agents": []})
    # On a branch with a history of its own, such as that of a web site.
    two.git("checkout", "-q", "--orphan", "pages")
    two.git("commit", "-q", "--allow-empty", "-m", "pages")
    (two.home_folder / "host.json").unlink()
    two.ok("init", "--host", "two")
    for host in (one, two, shallow):
        assert [row["id"] for row in host.json("task", "list")] == [task]
        assert host.tick()["problems"] == []


def shallow_clone(hosts: Hosts, name: str, of: World) -> World:
    """Return a clone of a project's remote that has its last commit only."""
    of.git("commit", "-q", "--allow-empty", "-m", f"last before {name}")
    of.git("push", "-q", "origin", "HEAD:main")
    made = hosts._more(name)
    url = f"file://{of.remote}"
    made.git("clone", "-q", "--depth=1", url, str(made.root), cwd=made.folder)
    return made


@pytest.mark.parametrize("when", ["before its set-up", "after its set-up"])
def test_a_shallow_clone_of_another_project_does_not_join(hosts: Hosts, when: str) -> None:
    one = hosts.begin(agents=[])
    other = hosts._more("other")
    other.create(init=False)
    other.git("commit", "-q", "--amend", "-m", "another first commit")
    # A remote without the first commit of the other project, which `create` has copied.
    other.remote = other.folder / "fresh.git"
    other.git("clone", "-q", "--bare", f"file://{other.root}", str(other.remote))
    other.git("remote", "set-url", "origin", str(other.remote))
    shallow = shallow_clone(hosts, "shallow", other)
    shallow.home_folder.mkdir()
    words = ("init", "--schedule", "none", "--start")
    if when == "before its set-up":
        shallow.configure(store=hosts.address)
        refused = shallow.refused(*words, "--json").json["error"]
        assert refused["code"] == "other_project"
    else:
        shallow.configure()
        shallow.ok(*words)
        shallow.configure(store=hosts.address)
    if when == "after its set-up":
        assert {p["code"] for p in shallow.tick()["problems"]} == {"other_project"}
        assert shallow.refused("task", "add", "Mine", "--json").json["error"]["code"] == (
            "other_project"
        )
        # A person says that it is right after all.
        shallow.ok("hosts", "adopt")
        assert shallow.json("task", "list") == []
        assert shallow.tick()["problems"] == []
    assert one.tick()["problems"] == []


def test_a_queue_whose_first_host_is_a_shallow_clone_is_that_of_its_project(hosts: Hosts) -> None:
    source = hosts._more("source")
    source.create(init=False)
    first = shallow_clone(hosts, "first", source)
    hosts._set_up(first, "first", {"agents": []})
    task = first.add("Say hello", "implement", "--no-tick")
    assert another_project(hosts).refused("init", "--json").json["error"]["code"] == "other_project"
    whole = hosts._more("whole")
    whole.git("clone", "-q", str(source.remote), str(whole.root), cwd=whole.folder)
    hosts._set_up(whole, "whole", {"agents": []})
    later = shallow_clone(hosts, "later", source)
    hosts._set_up(later, "later", {"agents": []})
    for host in (first, whole, later):
        assert [row["id"] for row in host.json("task", "list")] == [task]


def test_a_queue_of_an_earlier_version_belongs_to_the_first_host_that_is_set_up(
    hosts: Hosts,
) -> None:
    one = hosts.begin(agents=[])
    hosts.sql("UPDATE orchestrator_schema SET project = NULL RETURNING 1")
    (one.home_folder / "host.json").unlink()
    one.ok("init", "--host", "one")
    assert another_project(hosts).refused("init", "--json").json["error"]["code"] == "other_project"


@pytest.mark.parametrize("how", ["no schema", "no row", "another schema"])
def test_no_command_takes_a_database_without_tables_for_an_empty_queue(
    hosts: Hosts,
    how: str,
) -> None:
    one = hosts.begin()
    one.add("Say hello", "implement", "--no-tick")
    if how == "no schema":
        name = session.of(hosts.address).identifier()
        session.of(hosts.address).connection.execute(f"DROP SCHEMA {name} CASCADE".encode())
    elif how == "no row":
        hosts.sql("DELETE FROM orchestrator_schema RETURNING 1")
    else:
        one.configure(store=hosts.address.replace("t_", "t_x"))
    [told] = [p for p in one.status()["problems"] if p["code"] == "store_not_set_up"]
    assert "correct `store` in agents.yaml" in told["hint"]
    assert one.status()["queue"]["incoming"] is None
    for words in READS:
        done = one.run(*words)
        said = done.out + done.err
        shows_nothing = words == ("hosts",) and how == "no row"  # it shows the hosts, not the queue
        if words[0] == "clean":
            assert done.code == 1, done
        elif words != ("audit",) and not shows_nothing:
            assert "has no queue" in said, (words, done)
        assert "All is well" not in said
        assert "ignored" not in done.err
    refused = one.refused("task", "add", "More", "--json").json["error"]
    assert refused["code"] == "store_not_set_up"


def test_a_queue_moves_to_a_database_without_tables(
    world: World,
    server: str,
    tmp_path: Path,
) -> None:
    world.create()
    world.write_config("agents: []\nforge: local\n")
    task = world.add("Say hello")
    address = in_schema(server, str(tmp_path))
    layout = Layout(str(world.root))
    migrate.migrate(layout, address, dry_run=True)
    migrate.migrate(layout, address, dry_run=False)
    assert stores.of_project(layout).find(task).state == "incoming"
    own = world.git("rev-list", "--max-parents=0", "HEAD")
    assert session.of(address).rows("SELECT project FROM orchestrator_schema") == [(own,)]
    assert access.of_project(layout) is not None


def hosts_of(world: World) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in world.json("hosts")}


def test_a_host_without_a_schedule_is_not_called_dead(hosts: Hosts) -> None:
    one, two = hosts.begin(agents=[]), hosts.another("two", agents=[])
    for host in (one, two):
        host.ok("tick")
    hosts.heartbeat_stops("two")
    found = hosts_of(one)["two"]
    assert (found["alive"], found["scheduled"]) == (False, False)
    said = one.ok("hosts").out
    assert "no schedule" in said
    assert "dead" not in said
    hosts.sql("UPDATE orchestrator_hosts SET facts = facts || '{\"scheduled\": true}' RETURNING 1")
    assert "dead" in one.ok("hosts").out


def test_a_host_that_is_gone_can_be_removed_from_the_list(hosts: Hosts) -> None:
    one = hosts.begin(agents=[World.agent("impl-1", host="one")])
    two = hosts.another("two", agents=[World.agent("impl-1", host="two")])
    task = two.add("Say hello", "implement", "--no-tick")
    two.tick_until(lambda: hosts.state(task) == "done", "the task is done")
    wait_until(lambda: not two.status()["running"], "the run is settled")
    two.ok("tick")
    runs = one.json("runs")
    assert [run["host"] for run in runs] == ["two"]
    assert one.refused("hosts", "remove", "two", "--json").json["error"]["code"] == "running"
    hosts.go_down()
    hosts.heartbeat_stops("two")
    assert "did you mean 'two'?" in one.refused("hosts", "remove", "twoo").err
    assert one.json("hosts", "remove", "two") == {"name": "two", "removed": True}
    assert "two" not in hosts_of(one)
    assert one.json("runs") == runs, "what it did stays"
    # It comes back: it is in the list again, and nothing is counted twice.
    two.add("More", "implement", "--no-tick")  # no idle tick, which may ask nobody
    two.tick_until(lambda: not two.json("task", "list", "--state", "incoming"), "a whole tick")
    assert hosts_of(one)["two"]["alive"]
    assert [run for run in one.json("runs") if run["task"] == task] == runs


def test_a_host_that_was_away_for_long_publishes_no_event_twice(
    hosts: Hosts,
) -> None:
    one, two = hosts.begin(agents=[]), hosts.another("two", agents=[])
    events.append(Layout(str(two.root)), time.time(), "resumed", agents="all")
    for host in (one, two):
        host.ok("tick")
    hosts.sql(
        "UPDATE orchestrator_hosts SET worker = NULL, last_tick = now() - interval '50 days'"
        " WHERE name = 'two' RETURNING 1"
    )
    one.add("A change", "implement", "--no-tick")  # so that the next tick is a whole one
    one.ok("tick")
    assert "two" not in hosts_of(one), "it is shown for 30 days"
    [(published,)] = hosts.sql("SELECT published FROM orchestrator_hosts WHERE name = 'two'")
    assert published, "its events are kept for 62 days"


def test_the_hosts_of_an_earlier_queue_are_not_in_the_list_of_the_next(
    hosts: Hosts,
) -> None:
    one, two = hosts.begin(agents=[]), hosts.another("two", agents=[])
    for host in (one, two):
        host.ok("tick")
    one.ok("queue", "migrate", "--to", "files")
    hosts.heartbeat_stops("two")
    one.ok("queue", "migrate", "--to", hosts.address)
    one.ok("tick")
    assert list(hosts_of(one)) == ["one"]


def test_a_name_that_a_living_host_has_or_that_no_host_has_is_told(
    hosts: Hosts,
) -> None:
    one = hosts.begin(agents=[World.agent("impl-1", host="build-2")])
    one.ok("init", "--host", "build-1")
    one.ok("tick")
    two = hosts.another("two", agents=[World.agent("impl-1", host="biuld-1")])
    before = harness.fingerprint(two.root)
    refused = two.refused("init", "--host", "build-1", "--schedule", "none", "--json")
    assert refused.json["error"]["code"] == "host_taken"
    assert "another clone works as the host 'build-1'" in refused.err
    assert "init --host NAME" in refused.err
    assert harness.fingerprint(two.root) == before
    one.ok("init", "--host", "build-1")  # its own name
    here = two.home_folder / "host.json"
    own = here.read_text()
    here.write_text(own.replace('"two"', '"build-1"'))  # as two machines of one name have it
    assert "host_taken" in two.ok("init").err
    assert "host_taken" in [x["code"] for x in two.json("doctor")["findings"]]
    here.write_text(own)
    told = two.ok("init").err
    assert "host_taken" not in told
    assert "'biuld-1', but no host of that name has run a tick; did you mean 'build-1'?" in told
    # The next host of a series joins later.
    assert "unknown_host" not in one.ok("init").err
    [found] = [x for x in one.json("doctor")["findings"] if x["code"] == "unknown_host"]
    assert found["hint"] == "on that host: orchestrator init --host build-2"


def test_the_commands_of_hosts_need_a_shared_queue(world: World) -> None:
    world.create(agents=[])
    for words in (("remove", "x"), ("adopt",)):
        refused = world.refused("hosts", *words, "--json").json["error"]
        assert refused["code"] == "wrong_state"
    assert os.path.exists(world.queue)
    assert len(world.json("hosts", "list")) == 1
