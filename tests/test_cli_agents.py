"""`agent` and `limits`: looking, and edits of `agents.yaml` that lose none of the user's text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import runs
import warm
from conftest import AGENTS_YAML, Done, tree
from rows import each_row

from orchestrator.config import change, keys
from orchestrator.layout import Layout
from orchestrator.project import agent_memory
from orchestrator.system import files, locks
from orchestrator.tick import stop

Cli = Callable[..., Done]

ROW_KEYS = ["name", "role", "state", "reason", "due_in_seconds", "run", "task", "last_outcome"]


def text_of(layout: Layout) -> str:
    return Path(layout.config).read_text()


def remember(layout: Layout, agent: str, **fields: object) -> None:
    agent_memory.write(layout, agent, agent_memory.read(layout, agent)._replace(**fields))


def row(cli: Cli, name: str) -> dict[str, object]:
    rows = cli("agent", "list", "--json").json
    found: dict[str, object] = next(row for row in rows if row["name"] == name)
    return found


# --- looking -----------------------------------------------------------------------------------


def test_the_list_has_exactly_the_contracts_shape(cli: Cli, project: Layout) -> None:
    rows = cli("agent", "list", "--json").json
    assert [list(row) for row in rows] == [ROW_KEYS] * 3
    assert rows[0] == {
        "name": "impl-agent-1",
        "role": "implementer",
        "state": "waiting",
        "reason": "no_matching_task",
        "due_in_seconds": 0,
        "run": None,
        "task": None,
        "last_outcome": None,
    }
    assert (rows[2]["name"], rows[2]["state"], rows[2]["reason"]) == ("pm-agent", "ready", None)


def test_an_agent_that_ran_is_due_after_its_interval(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.context.now", lambda: 1_000_000.0)
    remember(project, "pm-agent", last_started=999_900.5, last_outcome="no_change")
    found = row(cli, "pm-agent")
    assert (found["state"], found["reason"], found["due_in_seconds"]) == ("waiting", "not_due", 491)
    assert found["last_outcome"] == "no_change"


def test_states_and_reasons_are_those_of_the_planner(cli: Cli, project: Layout) -> None:
    remember(project, "test-agent", run="20260101T000000Z-abcdef")
    assert row(cli, "test-agent")["state"] == "running"
    assert row(cli, "test-agent")["run"] == "20260101T000000Z-abcdef"
    remember(project, "pm-agent", suspended="failed 3 times in a row")
    assert (row(cli, "pm-agent")["state"], row(cli, "pm-agent")["reason"]) == ("paused", "paused")
    cli("agent", "pause", "--all")
    assert row(cli, "impl-agent-1")["reason"] == "system_paused"
    assert row(cli, "impl-agent-1")["state"] == "paused"
    assert row(cli, "test-agent")["state"] == "running"
    assert "orchestrator agent resume --all" in cli("tick", "--dry-run").out


def test_two_agents_never_seem_ready_for_one_task(cli: Cli, project: Layout) -> None:
    cli("agent", "add", "impl-agent-2", "--role", "implementer")
    cli("task", "add", "--title", "T", "--role", "implement")
    states = {row["name"]: row["state"] for row in cli("agent", "list", "--json").json}
    assert (states["impl-agent-1"], states["impl-agent-2"]) == ("ready", "waiting")


def test_show_tells_settings_ports_and_totals(cli: Cli, project: Layout) -> None:
    found = cli("agent", "show", "test-agent", "--json").json
    assert list(found)[: len(ROW_KEYS)] == ROW_KEYS
    assert found["settings"]["interval_seconds"] == 120
    assert found["ports"]["AGENT_DEV_PORT"] == 41010
    assert found["totals"]["runs"] == 0
    shown = cli("agent", "show", "test-agent").out
    assert "interval_seconds: 120" in shown
    assert "mcp_config: []" in shown


def test_without_a_file_the_list_says_what_to_do_about_that(cli: Cli, project: Layout) -> None:
    Path(project.config).unlink()
    done = cli("agent", "list")
    assert done.out == ""
    assert done.err.splitlines()[1:] == ["  run: orchestrator init"]


def test_with_a_broken_file_the_list_still_works_and_says_so(cli: Cli, project: Layout) -> None:
    assert cli("tick").code in (0, 1)
    Path(project.config).write_text(AGENTS_YAML.replace("role: tester", "role: tster"))
    done = cli("agent", "list")
    assert done.code == 0
    assert "did you mean 'tester'?" in done.err
    assert "impl-agent-1" in done.out
    assert row(cli, "impl-agent-1")["reason"] == "config_error"


# --- add, set, remove --------------------------------------------------------------------------


def test_add_appends_an_agent_and_keeps_every_other_byte(cli: Cli, project: Layout) -> None:
    done = cli("agent", "add", "night", "--role", "tester", "schedule=0 3 * * *", "model=opus")
    assert done.code == 0, done.err
    assert "orchestrator agent remove night" in done.out
    assert text_of(project) == AGENTS_YAML + (
        "  - name: night\n    role: tester\n    schedule: 0 3 * * *\n    model: opus\n"
    )


def test_settings_may_stand_before_the_role(cli: Cli, project: Layout) -> None:
    words = ("agent", "add", "x", "interval_seconds=5", "--role", "tester", "model=opus")
    assert cli(*words).code == 0
    assert "interval_seconds: 5\n    model: opus\n" in text_of(project)


def test_set_changes_one_value_and_says_how_to_undo_it(cli: Cli, project: Layout) -> None:
    done = cli("agent", "set", "test-agent", "interval_seconds=60")
    assert done.code == 0
    assert text_of(project) == AGENTS_YAML.replace("s: 120  # twice", "s: 60   # twice")
    assert "interval_seconds 120 -> 60" in done.out
    undo = done.out.split("undo: orchestrator ")[1].split()
    assert cli(*undo).code == 0
    assert text_of(project) == AGENTS_YAML


def test_remove_takes_only_that_agent_and_can_be_undone(cli: Cli, project: Layout) -> None:
    before = keys.parse(AGENTS_YAML)
    done = cli("agent", "remove", "pm-agent")
    assert done.code == 0
    assert "pm-agent" not in text_of(project)
    assert "# Writes the code." in text_of(project)
    undo = done.out.split("undo: orchestrator ")[1].split()
    assert cli(*undo).code == 0
    assert keys.parse(text_of(project)) == before


def test_removing_one_from_the_middle_warns_of_the_ports(cli: Cli, project: Layout) -> None:
    assert "the ports of later agents" in cli("agent", "remove", "test-agent").err


def test_a_running_agent_is_not_removed(
    cli: Cli, project: Layout, unchanged: Callable[[], None]
) -> None:
    remember(project, "pm-agent", run="20260101T000000Z-abcdef")
    before = tree(project.root)
    done = cli("agent", "remove", "pm-agent")
    assert done.code == 1
    assert "orchestrator stop pm-agent" in done.err
    assert text_of(project) == AGENTS_YAML
    assert tree(project.root) == before


def test_the_files_mode_survives_an_edit(cli: Cli, project: Layout) -> None:
    os.chmod(project.config, 0o664)
    assert cli("agent", "pause", "pm-agent").code == 0
    assert os.stat(project.config).st_mode & 0o777 == 0o664


def test_a_link_in_the_project_is_read_and_not_written_through(cli: Cli, project: Layout) -> None:
    real = Path(project.root, "agents.yaml")
    os.rename(project.config, real)
    os.symlink(os.path.join("..", "agents.yaml"), project.config)
    before = real.read_text()
    assert "pm-agent" in cli("agent", "list").out
    for words in (("pause", "pm-agent"), ("set", "pm-agent", "model=opus"), ("remove", "pm-agent")):
        done = cli("agent", *words, "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "edit_refused"), words
        assert f"edit {real}" in done.json["error"]["hint"]
    assert (real.read_text(), os.path.islink(project.config)) == (before, True)
    # The emergency brake works always: the file takes the place of the link.
    assert cli("agent", "pause", "--all").code == 0
    assert (real.read_text(), os.path.islink(project.config)) == (before, False)
    assert "paused: true" in text_of(project)


def test_edits_at_once_lose_none(cli: Cli, project: Layout) -> None:
    words = ("agent", "add", "--role", "tester")
    done = warm.at_once(project.root, *((*words, f"a{number}") for number in range(8)))
    assert [each.returncode for each in done] == [0] * 8
    names = {agent.name for agent in keys.parse(text_of(project)).agents}
    assert {f"a{number}" for number in range(8)} < names


def test_a_file_somebody_else_holds_for_long_is_said(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch, unchanged: Callable[[], None]
) -> None:
    monkeypatch.setattr(change, "LOCK_WAIT", 0.05)
    files.make_folder(project.cache)
    lock = locks.Lock(os.path.join(project.cache, "config.lock"))
    with lock:
        done = cli("agent", "set", "pm-agent", "model=opus", "--json")
        unchanged()
        assert cli("agent", "pause", "pm-agent").code == 0, "the brake does not need the lock"
    lock.close()
    assert (done.code, done.json["error"]["code"]) == (1, "lock_held")


# --- pause and resume --------------------------------------------------------------------------


def test_pause_and_resume_of_one_agent(cli: Cli, project: Layout) -> None:
    done = cli("agent", "pause", "impl-agent-1", "pm-agent")
    assert done.code == 0
    assert "undo: orchestrator agent resume impl-agent-1 pm-agent" in done.out
    paused = {agent.name: agent.paused for agent in keys.parse(text_of(project)).agents}
    assert paused == {"impl-agent-1": True, "test-agent": False, "pm-agent": True}
    assert cli("agent", "resume", "impl-agent-1", "pm-agent").code == 0
    assert not any(agent.paused for agent in keys.parse(text_of(project)).agents)


def test_pause_all_is_the_top_levels_key_and_back(cli: Cli, project: Layout) -> None:
    assert cli("agent", "pause", "--all").code == 0
    assert text_of(project) == AGENTS_YAML.replace("paused: false", "paused: true")
    one = cli("agent", "resume", "pm-agent")
    assert "the whole system is still paused" in one.out
    assert cli("agent", "resume", "--all").code == 0
    assert keys.parse(text_of(project)).paused is False


def test_resume_all_names_those_that_stay_paused(cli: Cli, project: Layout) -> None:
    cli("agent", "pause", "test-agent")
    cli("agent", "pause", "--all")
    assert "orchestrator agent resume test-agent" in cli("agent", "resume", "--all").out


def test_stop_all_offers_to_resume_only_what_it_paused(cli: Cli, project: Layout) -> None:
    cli("agent", "pause", "test-agent")
    said = cli("stop", "--all").out
    assert "orchestrator agent resume impl-agent-1 pm-agent\n" in said
    assert {row(cli, name)["state"] for name in ("pm-agent", "test-agent")} == {"paused"}


def test_resume_all_says_how_to_resume_what_stop_all_paused(cli: Cli, project: Layout) -> None:
    cli("stop", "--all")
    said = cli("agent", "resume", "--all").out
    names = [agent.name for agent in keys.parse(text_of(project)).agents]
    assert said.startswith("not paused: the project\n")
    assert f"orchestrator agent resume {' '.join(names)}\n" in said
    cli("agent", "resume", *names)
    assert not any(agent.paused for agent in keys.parse(text_of(project)).agents)


def test_stop_says_where_the_task_went_and_how_to_end_it(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.lay_out(project, "pm-agent", "R1", task="TASK-1")
    monkeypatch.setattr("orchestrator.tick.stop.end_runs", lambda *_: {"pm-agent": "R1"})
    said = cli("stop", "pm-agent").out
    assert "TASK-1 is in the queue again" in said
    assert "orchestrator task cancel TASK-1\n" in said


def test_stop_says_that_the_run_ended_by_itself_before_it_could_be_stopped(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.lay_out(project, "pm-agent", "R1", task="TASK-1", outcome={"verdict": "done"})
    Path(project.state("done"), "TASK-1.md").write_text("# [TASK-1] Title\n\nROLE: implement\n")
    monkeypatch.setattr("orchestrator.tick.stop.end_runs", lambda *_: {"pm-agent": "R1"})
    said = cli("stop", "pm-agent").out
    assert "run R1 of pm-agent ended before it could be stopped: done\n" in said
    assert "TASK-1 is in done" in said
    assert "queue again" not in said


def test_the_name_that_agent_set_lacks_is_asked_for(cli: Cli, project: Layout) -> None:
    refused = cli("agent", "set", "model=opus", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "usage")
    assert "orchestrator agent set NAME model=opus" in refused.json["error"]["hint"]
    refused = cli("agent", "set", "notify.command=x", "--json")
    assert f"edit {project.config}" in refused.json["error"]["hint"]


def test_pause_with_stop_ends_what_runs(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str] | None] = []

    def end_runs(layout: Layout, names: list[str] | None, reason: str) -> dict[str, str]:
        asked.append(names)
        return {"pm-agent": "R1"}

    monkeypatch.setattr(stop, "end_runs", end_runs)
    remember(project, "pm-agent", run=None)
    done = cli("agent", "pause", "--all", "--stop", "--json")
    assert done.json == {"paused": "all", "stopped": {"pm-agent": "R1"}}
    cli("agent", "pause", "--stop", "pm-agent")
    assert asked == [None, ["pm-agent"]]


def test_resume_ends_the_pause_that_the_scheduler_gave(cli: Cli, project: Layout) -> None:
    for words in (("pm-agent",), ("--all",)):
        remember(project, "pm-agent", suspended="failed 3 times in a row", failures=3)
        files.make_folder(project.cache)
        Path(project.idle_stamp).write_bytes(b"x")
        done = cli("agent", "resume", *words)
        assert done.code == 0
        assert "pm-agent had been paused by the scheduler" in done.out
        state = agent_memory.read(project, "pm-agent")
        assert (state.suspended, state.failures) == (None, 0)
        assert not os.path.exists(project.idle_stamp)


def test_an_agents_memory_is_not_written_while_a_tick_is_at_work(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "TICK_WAIT", 0.05)
    remember(project, "pm-agent", suspended="failed 3 times in a row")
    lock = locks.Lock(project.scheduler_lock)
    with lock:
        done = cli("agent", "resume", "pm-agent", "--json")
    lock.close()
    assert (done.code, done.json["error"]["code"]) == (1, "lock_held")
    assert agent_memory.read(project, "pm-agent").suspended


BROKEN = {
    "not YAML": "paused: false  # the brake\nagents: [\n",
    "not YAML, no brake yet": "agents:\n  - name: [\n",
    "no UTF-8": b"paused: false\nagents: []\nx-note: \xff\n",
    "a wrong value": "paused: false\nagents: []\nbase_port: many\n",
    "an unknown key": "agents: []\npausd: true\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_the_emergency_brake_holds_with_a_broken_file(
    cli: Cli, project: Layout, text: str | bytes
) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    Path(project.config).write_bytes(data)
    done = cli("agent", "pause", "--all")
    assert done.code == 0
    assert "broken" in done.err
    after = Path(project.config).read_bytes()
    assert b"\npaused: true" in b"\n" + after
    assert after.replace(b"paused: true\n", b"").replace(b"true", b"false").count(b"\n") >= 1
    kept = [line for line in data.splitlines() if not line.startswith(b"paused")]
    assert [line for line in after.splitlines() if not line.startswith(b"paused")] == kept


def test_the_brake_without_a_file_says_that_nothing_starts(cli: Cli, project: Layout) -> None:
    os.unlink(project.config)
    done = cli("agent", "pause", "--all")
    assert done.code == 0
    assert "no run starts" in done.out
    assert not os.path.exists(project.config)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"paused: false # why\r\nagents: []\r\n", b"paused: true # why\r\nagents: []\r\n"),
        (b"paused:\nagents: []\n", b"paused: true\nagents: []\n"),
        (b"agents: [", b"paused: true\nagents: ["),
        (b"# note\n---\nagents: [\n", b"# note\n---\npaused: true\nagents: [\n"),
        (b"\xef\xbb\xbfagents: [\n", b"\xef\xbb\xbfpaused: true\nagents: [\n"),
        (b"agents:\n  - paused: false\n", b"paused: true\nagents:\n  - paused: false\n"),
        (b"", b"paused: true\n"),
    ],
)
def test_the_brake_edits_bytes(text: bytes, wanted: bytes) -> None:
    assert change.braked(text) == wanted
    assert change.braked(wanted) == wanted


def test_a_stop_is_never_held_up_by_the_file(cli: Cli, project: Layout) -> None:
    assert change.pause(project, "pm-agent")
    assert not change.pause(project, "removed-agent")
    Path(project.config).write_text("agents: [\n")
    assert not change.pause(project, "pm-agent")
    assert change.pause(project, None)


# --- limits ------------------------------------------------------------------------------------


def test_limits_as_json_are_the_three(cli: Cli, project: Layout) -> None:
    wanted = {"max_incoming": 20, "max_claimed": 5, "max_open_prs": 10}
    assert cli("limits", "--json").json == wanted


def test_limits_are_set_at_their_place(cli: Cli, project: Layout) -> None:
    done = cli("limits", "set", "max_claimed=3", "max_open_prs=7")
    assert done.code == 0
    assert "max_claimed 5 -> 3, max_open_prs 10 -> 7" in done.out
    assert "undo: orchestrator limits set max_claimed=5 max_open_prs=10" in done.out
    wanted = AGENTS_YAML.replace("claimed: 5", "claimed: 3").replace("prs: 10", "prs: 7")
    assert text_of(project) == wanted


def test_limits_show_how_much_is_used(cli: Cli, project: Layout) -> None:
    cli("task", "add", "--title", "T", "--role", "test")
    lines = cli("limits").out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["max_incoming", "20", "1"],
        ["max_claimed", "5", "0"],
        ["max_open_prs", "10", "0"],
    ]


# --- wrong input -------------------------------------------------------------------------------

SET = ("agent", "set", "pm-agent")


@each_row(
    ("words", "code", "said"),
    [
        (("agent",), 2, "no command given"),
        (("queue",), 2, "for example: orchestrator queue migrate --help"),
        (("queue", "migrate", "--to", "files"), 1, "the queue is in files already"),
        (
            ("queue", "migrate", "--to", "db.example"),
            2,
            "an address that begins with postgresql://",
        ),
        (("agent", "lst"), 2, "did you mean 'list'?"),
        (("agent", "show", "pm-agnt"), 1, "did you mean 'pm-agent'?"),
        (("agent", "show"), 2, "NAME"),
        (("agent", "add", "x"), 2, "--role"),
        (("agent", "add", "x", "--role", "testr"), 1, "did you mean 'tester'?"),
        (("agent", "add", "pm-agent", "--role", "tester"), 1, "already"),
        (("agent", "add", "PM-Agent", "--role", "tester"), 1, "name"),
        (("agent", "add", "a/b", "--role", "tester"), 1, "expected a name"),
        (("agent", "add", "x", "--role", "tester", "modle=opus"), 1, "did you mean 'model'?"),
        (("agent", "add", "x", "--role", "tester", "role=tester"), 2, "the role is given twice"),
        (("agent", "add", "x", "--role", "tester", "fast"), 2, "expected key=value"),
        (("agent", "remove", "nobody"), 1, "no agent named 'nobody'"),
        (("agent", "set", "nobody", "model=opus"), 1, "no agent named 'nobody'"),
        ((*SET,), 2, "nothing to set"),
        ((*SET, "interval_secnds=5"), 1, "did you mean 'interval_seconds'?"),
        ((*SET, "interval_seconds=soon"), 1, "expected a number"),
        ((*SET, "interval_seconds=-5"), 1, "expected a number"),
        ((*SET, "schedule=0 3 * * *"), 1, "there is also a schedule"),
        ((*SET, "schedule=whenever"), 1, "schedule"),
        ((*SET, "role=revewer"), 1, "did you mean 'reviewer'?"),
        ((*SET, "name=other"), 2, "an agent's name cannot change"),
        ((*SET, "interval_seconds"), 2, "expected key=value"),
        ((*SET, "--mdel"), 2, "unrecognized arguments"),
        (("agent", "pause"), 2, "name agents, or give --all"),
        (("agent", "pause", "pm-agent", "--all"), 2, "not both"),
        (("agent", "pause", "pm-agent", "nobody"), 1, "no agent named 'nobody'"),
        (("agent", "resume", "nobody"), 1, "no agent named 'nobody'"),
        (("limits", "st"), 2, "did you mean 'set'?"),
        (("limits", "set"), 2, "key=value"),
        (("limits", "set", "20"), 2, "for example: max_claimed=3"),
        ((*SET, "--model", " "), 2, "unrecognized arguments: --model ' '"),
        (("limits", " "), 2, "there is no command ' '"),
        (("status", " "), 2, "unrecognized arguments: ' '"),
        (("limits", "set", "max_incomin=3"), 1, "did you mean 'max_incoming'?"),
        (("limits", "set", "max_incoming=-1"), 1, "expected a whole number"),
        (("limits", "set", "max_incoming=many"), 1, "expected a whole number"),
    ],
)
def test_wrong_input_gets_one_sentence_and_changes_nothing(
    refuses: Callable[..., None], words: tuple[str, ...], code: int, said: str
) -> None:
    refuses(words, code, said)


def test_the_line_of_an_error_is_that_of_the_file_and_not_of_the_refused_edit(
    cli: Cli, project: Layout
) -> None:
    text = AGENTS_YAML + "base_port: many\n"
    Path(project.config).write_text(text)
    done = cli("agent", "add", "late-agent", "--role", "tester")
    assert done.code == 1
    assert f"agents.yaml:{text.count(chr(10))}: base_port" in done.err
    assert Path(project.config).read_text() == text


@pytest.mark.parametrize(
    "words",
    [
        ("agent", "add", "x", "--role", "tester"),
        ("agent", "set", "pm-agent", "model=opus"),
        ("agent", "remove", "pm-agent"),
        ("agent", "resume", "--all"),
        ("limits", "set", "max_claimed=3"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("broken", ["not YAML", "a wrong value", "missing"])
def test_a_broken_file_is_refused_with_what_is_wrong_in_it(
    cli: Cli, project: Layout, words: tuple[str, ...], broken: str
) -> None:
    text = AGENTS_YAML + ("x: [\n" if broken == "not YAML" else "base_port: many\n")
    if broken == "missing":
        os.unlink(project.config)
    else:
        Path(project.config).write_text(text)
    done = cli(*words)
    assert done.code == 1
    assert "agents.yaml" in done.err
    assert ("orchestrator init" if broken == "missing" else "correct") in done.err
    assert os.path.exists(project.config) == (broken != "missing")
    if broken != "missing":
        assert text_of(project) == text


def test_a_command_may_fix_a_broken_file(cli: Cli, project: Layout) -> None:
    Path(project.config).write_text(
        AGENTS_YAML.replace("interval_seconds: 600", "interval_seconds: x")
    )
    assert cli("agent", "set", "pm-agent", "interval_seconds=600").code == 0
    assert text_of(project) == AGENTS_YAML
