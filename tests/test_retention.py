"""What is over is kept for as long as `retention` says, and what is nowhere else for ever."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
import runs
from conftest import git
from harness import World

from orchestrator.config import load
from orchestrator.git import repository, stashes, work_branch
from orchestrator.layout import Layout
from orchestrator.model.config import Config, Retention
from orchestrator.model.snapshot import Action
from orchestrator.model.work import Entry, PullRequest
from orchestrator.project import agent_memory, events, run_record
from orchestrator.project.agent_memory import AgentState
from orchestrator.pulls import landing, states
from orchestrator.pulls.local import Local
from orchestrator.system import files, locks
from orchestrator.system import process as processes
from orchestrator.tasks import file_store, task_file
from orchestrator.tasks.file_store import FileStore
from orchestrator.upkeep import branches as merged_branches
from orchestrator.upkeep import clean, leftovers, retention

world = harness.world

AGENT = "impl-agent-1"
AT = "2026-11-22T09:00:00Z"
NOW = 1_795_338_000.0
FEW = Config(retention=Retention(runs=3))


def run_id(number: int) -> str:
    return f"20260101T{number:06}Z-aaaaaa"


def a_run(layout: Layout, number: int, task: str | None = None, **more: Any) -> str:
    """Lay out the folder of a run; return its id."""
    name = run_id(number)
    folder = runs.lay_out(layout, AGENT, name, task=task, **more)
    Path(folder, run_record.STREAM).write_text('{"type": "result"}\n')
    return name


def kept(layout: Layout) -> list[str]:
    return sorted(os.listdir(layout.runs(AGENT)))


def a_task(layout: Layout, task_id: str, run: str, state: str, **fields: object) -> None:
    """Put a task into a state as its run left it."""
    store = FileStore(layout)
    new = task_file.new(task_id, task_id, "implement", None, None, AT, None, (), "Text.\n")
    store.add(new)
    claimed = {"agent": AGENT, "run": run, "branch": f"agent/{task_id}"}
    task = store.claim(store.find(task_id), Entry(AT, "claimed", claimed), 99)
    assert task is not None
    words = {"incoming": "requeued", "claimed": "delivered"}
    event = Entry(AT, words.get(state, state), {"run": run, "agent": AGENT, **fields})
    store.move(task, state, event)


# --- run folders -------------------------------------------------------------------------------


def test_the_newest_runs_stay_and_the_oldest_go_first(project: Layout) -> None:
    ids = [a_run(project, number) for number in range(8)]
    assert retention.prune(project, FEW, [AGENT]) == []
    assert kept(project) == ids[-3:]
    assert retention.prune(project, FEW, [AGENT]) == []
    assert kept(project) == ids[-3:]


def test_only_agents_whose_runs_were_settled_are_looked_at(project: Layout) -> None:
    ids = [a_run(project, number) for number in range(8)]
    retention.prune(project, FEW, ["test-agent", "pm-agent"])
    assert kept(project) == ids


def test_a_late_start_with_many_folders_takes_away_a_bounded_number_each_time(
    project: Layout,
) -> None:
    ids = [a_run(project, number) for number in range(3 + 2 * retention.MOST_AT_ONCE + 5)]
    for left in (retention.MOST_AT_ONCE + 5, 5, 0):
        retention.prune(project, FEW, [AGENT])
        assert kept(project) == ids[-(3 + left) :]


@pytest.mark.parametrize("state", ["incoming", "claimed", "blocked", "failed"])
def test_the_run_that_a_task_or_the_inbox_still_speaks_of_stays(
    project: Layout, state: str
) -> None:
    old = a_run(project, 0, "T1")
    a_task(project, "T1", old, state, undelivered=old)
    ids = [a_run(project, number) for number in range(1, 9)]
    retention.prune(project, FEW, [AGENT])
    assert kept(project) == [old, *ids[-3:]]


def test_the_runs_of_tasks_that_are_done_or_gone_are_not_kept_for_their_sake(
    project: Layout,
) -> None:
    a_task(project, "T1", a_run(project, 0, "T1"), "done")
    a_run(project, 1, "deleted")
    ids = [a_run(project, number) for number in range(2, 5)]
    retention.prune(project, FEW, [AGENT])
    assert kept(project) == ids


def test_many_runs_that_stay_do_not_keep_the_others_from_going(project: Layout) -> None:
    many = retention.MOST_AT_ONCE + 5
    referred = [a_run(project, number, f"T{number}") for number in range(many)]
    for number, run in enumerate(referred):
        a_task(project, f"T{number}", run, "failed")
    ids = [a_run(project, number) for number in range(many, many + 6)]
    retention.prune(project, FEW, [AGENT])
    assert kept(project) == [*referred, *ids[-3:]]


def test_a_run_that_is_not_settled_and_an_agents_last_one_stay(project: Layout) -> None:
    ids = [a_run(project, number) for number in range(8)]
    agent_memory.write(project, AGENT, AgentState(run=ids[1], last_run=ids[3]))
    retention.prune(project, FEW, [AGENT])
    assert kept(project) == [ids[1], ids[3], *ids[-3:]]


@pytest.mark.parametrize("who", ["supervisor", "client"])
def test_a_run_that_lives_stays_though_nobody_remembers_it(project: Layout, who: str) -> None:
    me = {"pid": os.getpid(), "identity": processes.identity(os.getpid())}
    living = a_run(project, 0, status="running", **{who: me})
    reused = a_run(project, 1, status="running", **{who: {**me, "identity": "another"}})
    ids = [a_run(project, number) for number in range(2, 5)]
    retention.prune(project, FEW, [AGENT])
    assert reused not in kept(project)
    assert kept(project) == [living, *ids]


def test_a_folder_that_a_killed_tick_had_half_removed_goes_the_next_time(project: Layout) -> None:
    ids = [a_run(project, number) for number in range(4)]
    os.unlink(os.path.join(project.run(AGENT, ids[0]), "run.json"))
    retention.prune(project, FEW, [AGENT])
    assert kept(project) == ids[-3:]


def test_while_the_queue_is_busy_for_long_no_run_goes(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_store, "LOCK_WAIT", 0.0)
    ids = [a_run(project, number) for number in range(8)]
    with locks.Lock(os.path.join(project.queue, ".lock")):
        assert retention.prune(project, FEW, [AGENT]) == []
    assert kept(project) == ids


def test_a_folder_that_cannot_be_removed_is_told_and_stops_no_other(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [a_run(project, number) for number in range(8)]
    remove = files.remove_tree

    def refusing(path: str) -> None:
        if path.endswith(ids[0]):
            raise PermissionError(13, "Permission denied", path)
        remove(path)

    monkeypatch.setattr(files, "remove_tree", refusing)
    (error,) = retention.prune(project, FEW, [AGENT])
    assert ids[0] in str(error)
    assert kept(project) == [ids[0], *ids[-3:]]


def test_a_run_folder_that_is_a_link_is_neither_followed_nor_counted(
    project: Layout, tmp_path: Path
) -> None:
    ids = [a_run(project, number) for number in range(1, 5)]
    (tmp_path / "precious").mkdir()
    Path(project.runs(AGENT), run_id(0)).symlink_to(tmp_path / "precious")
    retention.prune(project, FEW, [AGENT])
    assert kept(project) == [run_id(0), *ids[-3:]]
    assert (tmp_path / "precious").is_dir()


def test_a_tick_that_settles_a_run_keeps_the_newest_and_logs_say_what_is_gone(
    world: World,
) -> None:
    world.create(kept_today=False, retention={"runs": 2})
    tasks = [world.add(f"Task {number}") for number in range(3)]
    world.tick_until_in("done", *tasks)
    world.quiet()
    runs = sorted(os.listdir(world.home_folder / "agents" / "impl-1" / "runs"))
    all_runs = [start["run"] for start in world.starts()]
    assert runs == sorted(all_runs)[-2:]
    assert "--- ended: done" in world.ok("logs", runs[0]).out
    assert (world.home_folder / "cache" / "keeping.json").exists(), "a run's end looks further"
    first = world.starts()[0]
    told = f"run {first['run']} of impl-1, task {first['task']}, which ended done, is no longer"
    for subject in (first["run"], first["task"]):
        assert world.ok("logs", subject).out.startswith(told)
        assert world.json("logs", subject) == []
    world.refused("logs", "20200101T000000Z-000000")


# --- the history -------------------------------------------------------------------------------


def test_a_history_that_has_grown_too_large_begins_anew_and_both_parts_are_read(
    project: Layout,
) -> None:
    config = Config(retention=Retention(events_mb=0.001))
    events.append(project, NOW, "first", text="x" * 1000)
    retention.prune(project, config, [])
    events.append(project, NOW, "second")
    retention.prune(project, config, [])
    assert told(project) == ["first", "second"]
    events.append(project, NOW, "third", text="x" * 1000)
    retention.prune(project, config, [])
    assert told(project) == ["second", "third"]
    assert not os.path.exists(project.events)


def told(layout: Layout, most: int = 1 << 20) -> list[str]:
    return [json.loads(line)["event"] for line in events.lines(layout, most)]


def test_of_a_long_history_the_newest_bytes_are_read_across_both_parts(project: Layout) -> None:
    line = len(b'{"at": "2026-11-22T09:00:00Z", "event": "e0", "v": 1}\n')
    for number in range(4):
        events.append(project, NOW, f"e{number}")
        if number == 1:
            assert events.rotate(project, 1)
    assert told(project) == ["e0", "e1", "e2", "e3"]
    assert told(project, 3 * line + 5) == ["e1", "e2", "e3"]
    assert told(project, 2 * line) == ["e2", "e3"]
    assert told(project, line + 5) == ["e3"]


def test_a_history_that_begins_anew_while_it_is_opened_is_read_once(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    events.append(project, NOW, "older")
    events.rotate(project, 1)
    events.append(project, NOW, "newer")
    opened = events.opened

    def slowly(path: str) -> Any:
        found = opened(path)
        if path == project.events:
            assert events.rotate(project, 1)
        return found

    monkeypatch.setattr(events, "opened", slowly)
    assert told(project) == ["newer"]


def test_the_numbers_of_the_last_days_count_what_was_put_aside(
    project: Layout, cli: Callable[..., Any]
) -> None:
    events.append(project, time.time(), "added", task="T1")
    assert events.rotate(project, 1)
    events.append(project, time.time(), "added", task="T2")
    assert cli("_history", "--json").json["tasks_in"] == 2


# --- long streams ------------------------------------------------------------------------------

LINE = '{"type": "assistant", "message": {"content": [{"type": "text", "text": "I look."}]}}\n'


@pytest.fixture
def long_run(project: Layout, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a settled run whose stream is worth packing."""
    monkeypatch.setattr(retention, "LONG_STREAM", 1000)
    folder = Path(project.run(AGENT, a_run(project, 0)))
    (folder / run_record.STREAM).write_text(LINE * 100)
    return folder


def ended(folder: Path) -> list[Action]:
    return [Action("finish", AGENT, None, folder.name)]


def test_a_long_stream_is_packed_after_its_run_and_logs_read_it_as_before(
    project: Layout, long_run: Path, cli: Callable[..., Any]
) -> None:
    words = [("logs", AGENT), ("logs", AGENT, "--json"), ("logs", AGENT, "--follow")]
    before = [cli(*each).out for each in words]
    raw = cli("logs", AGENT, "--raw").out
    retention.after_run(project, ended(long_run), NOW)
    assert sorted(os.listdir(long_run)) == ["run.json", run_record.PACKED_STREAM]
    assert gzip.decompress((long_run / run_record.PACKED_STREAM).read_bytes()).decode() == raw
    assert (long_run / run_record.PACKED_STREAM).stat().st_mode & 0o077 == 0
    assert [cli(*each).out for each in words] == before
    assert cli("logs", AGENT, "--raw").out == raw == LINE * 100


def test_short_streams_and_those_of_runs_that_are_not_over_stay_as_they_are(
    project: Layout, long_run: Path
) -> None:
    agent_memory.write(project, AGENT, AgentState(run=long_run.name))
    retention.after_run(project, ended(long_run), NOW)
    agent_memory.write(project, AGENT, AgentState())
    runs.lay_out(project, AGENT, long_run.name, status="running")
    retention.after_run(project, ended(long_run), NOW)
    runs.lay_out(project, AGENT, long_run.name)
    (long_run / run_record.STREAM).write_text(LINE)
    retention.after_run(project, ended(long_run), NOW)
    assert (long_run / run_record.STREAM).read_text() == LINE
    assert not (long_run / run_record.PACKED_STREAM).exists()


def test_packing_that_was_killed_before_the_plain_stream_was_gone_is_done_again(
    project: Layout, long_run: Path, cli: Callable[..., Any]
) -> None:
    (long_run / run_record.PACKED_STREAM).write_bytes(b"of a time before")
    assert cli("logs", AGENT, "--raw").out == LINE * 100
    retention.after_run(project, ended(long_run), NOW)
    assert cli("logs", AGENT, "--raw").out == LINE * 100
    assert not (long_run / run_record.STREAM).exists()


def test_a_disk_that_is_full_leaves_the_plain_stream_and_a_word_in_the_history(
    project: Layout, long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    retention.after_run(project, ended(long_run), NOW)
    assert (long_run / run_record.STREAM).read_text() == LINE * 100
    assert sorted(os.listdir(long_run)) == ["run.json", run_record.STREAM]
    assert "No space left" in Path(project.events).read_text()


def test_streams_that_nobody_packed_at_their_end_are_packed_once_a_day(
    project: Layout, long_run: Path
) -> None:
    load.settings(project, write_cache=True)
    retention.after_run(project, [], NOW)
    assert (long_run / run_record.PACKED_STREAM).exists()


# --- once a day --------------------------------------------------------------------------------


@pytest.fixture
def cleaned(project: Layout) -> Layout:
    """A project whose configuration a tick has seen, with one merged branch of an agent's."""
    load.settings(project, write_cache=True)
    git(Path(project.root), "branch", "agent/T1-x")
    merged(project, "agent/T1-x")
    return project


def merged(layout: Layout, branch: str) -> PullRequest:
    tip = git(Path(layout.root), "rev-parse", branch)
    wanted = PullRequest("", None, branch, "main", tip, "A title", "open")
    forge = Local(layout, Config())
    pr = forge.open(wanted, "")
    forge.book.record(pr.id, state="merged")
    return pr


def branches(layout: Layout) -> list[str]:
    return git(Path(layout.root), "for-each-ref", "--format=%(refname:short)", "refs/heads").split()


def after_days(layout: Layout, *days: float) -> None:
    for day in days:
        retention.after_run(layout, [], NOW + day * retention.DAY)


def test_a_merged_branch_goes_by_itself_when_it_was_merged_for_long_enough(cleaned: Layout) -> None:
    tip = git(Path(cleaned.root), "rev-parse", "agent/T1-x")
    after_days(cleaned, 0, 10, 29.5)
    assert branches(cleaned) == ["agent/T1-x", "main"]
    after_days(cleaned, 30.6)
    assert branches(cleaned) == ["main"]
    event = json.loads(Path(cleaned.events).read_text().splitlines()[-1])
    assert (event["event"], event["name"], event["commit"]) == ("clean", "agent/T1-x", tip)


def test_of_very_many_merged_branches_the_oldest_go_early_if_the_base_has_their_commits(
    cleaned: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_BRANCHES", 2)
    monkeypatch.setattr(merged_branches, "MOST_BRANCHES", 2)
    root = Path(cleaned.root)
    git(root, "checkout", "--quiet", "-b", "agent/T0-squashed")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "More")
    git(root, "checkout", "--quiet", "main")
    merged(cleaned, "agent/T0-squashed")
    after_days(cleaned, 0)
    for day in range(1, 6):
        git(root, "branch", f"agent/T{day + 1}-x")
        merged(cleaned, f"agent/T{day + 1}-x")
        work_branch.remember(cleaned.root, f"agent/T{day + 1}-x", git(root, "rev-parse", "main"))
        after_days(cleaned, day)
    assert branches(cleaned) == ["agent/T0-squashed", "agent/T5-x", "agent/T6-x", "main"]
    assert [*repository.refs(cleaned.root, work_branch.OWN)] == [
        f"{work_branch.OWN}agent/{name}-x" for name in ("T5", "T6")
    ]
    after_days(cleaned, 30.1)
    assert "agent/T0-squashed" not in branches(cleaned)


def test_a_branch_that_moves_while_others_are_removed_stays(cleaned: Layout) -> None:
    root = Path(cleaned.root)
    tip = git(root, "rev-parse", "main")
    for name in ("agent/T2-x", "agent/T3-x"):
        git(root, "branch", name)
    git(root, "commit", "--quiet", "--allow-empty", "--message", "More")
    git(root, "branch", "--force", "agent/T2-x", "main")
    heads = {f"refs/heads/agent/T{n}-x": tip for n in (1, 2, 3, 4)}
    assert repository.delete_refs(cleaned.root, heads) == {
        "refs/heads/agent/T1-x",
        "refs/heads/agent/T3-x",
    }
    assert branches(cleaned) == ["agent/T2-x", "main"]


def test_a_branch_that_got_commits_counts_anew_and_stays_as_long_as_it_has_some(
    cleaned: Layout,
) -> None:
    after_days(cleaned, 0)
    root = Path(cleaned.root)
    git(root, "checkout", "--quiet", "agent/T1-x")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "More")
    git(root, "checkout", "--quiet", "main")
    after_days(cleaned, 40, 80)
    assert "agent/T1-x" in branches(cleaned)
    git(root, "merge", "--quiet", "agent/T1-x")
    after_days(cleaned, 81, 110)
    assert "agent/T1-x" in branches(cleaned)
    after_days(cleaned, 111.5)
    assert "agent/T1-x" not in branches(cleaned)


def test_nothing_goes_more_than_once_a_day_nor_with_a_clock_that_was_moved_back_for_ever(
    cleaned: Layout,
) -> None:
    Path(cleaned.config).write_text(Path(cleaned.config).read_text() + "retention: {days: 0}\n")
    load.settings(cleaned, write_cache=True)
    after_days(cleaned, 0)
    assert branches(cleaned) == ["main"]
    git(Path(cleaned.root), "branch", "agent/T1-x")
    after_days(cleaned, 0.9)
    assert "agent/T1-x" in branches(cleaned)
    after_days(cleaned, -5)
    assert branches(cleaned) == ["main"]


def test_a_time_ahead_of_the_clock_makes_no_branch_stay_longer_than_it_may(
    cleaned: Layout,
) -> None:
    after_days(cleaned, 1000, 0, 31)
    assert branches(cleaned) == ["main"]


def test_what_clean_would_keep_does_not_go_by_itself(cleaned: Layout, tmp_path: Path) -> None:
    root = Path(cleaned.root)
    git(root, "worktree", "add", "--quiet", str(tmp_path / "a persons"), "agent/T1-x")
    git(root, "branch", "agent/T2-x")
    merged(cleaned, "agent/T2-x")
    a_task(cleaned, "T2-x", "R1", "failed")
    store = FileStore(cleaned)
    store.move(store.find("T2-x"), "incoming", Entry(AT, "retried", {}))
    git(root, "branch", "a-persons", "main")
    after_days(cleaned, 0, 40)
    assert branches(cleaned) == ["a-persons", "agent/T1-x", "agent/T2-x", "main"]


def test_worktrees_and_rescued_work_never_go_by_themselves(cleaned: Layout) -> None:
    root = Path(cleaned.root)
    git(root, "update-ref", "refs/orchestrator/rescue/R1", "main")
    worktree = cleaned.worktree("no-longer-configured")
    git(root, "worktree", "add", "--quiet", "--detach", worktree, "main")
    config = load.settings(cleaned, write_cache=False).config
    prs = states.known(cleaned, config) or []
    would_go = {i.kind for i in clean.plan(cleaned, config, prs, NOW) if i.drop}
    assert would_go == {"branch", "rescue", "worktree"}
    after_days(cleaned, 0, 40)
    assert git(root, "for-each-ref", "refs/orchestrator/rescue")
    assert os.path.isdir(worktree)


def test_while_one_runs_end_is_at_it_another_leaves_it_alone(cleaned: Layout) -> None:
    with locks.Lock(os.path.join(cleaned.cache, "keeping.lock")):
        after_days(cleaned, 0)
    assert not os.path.exists(os.path.join(cleaned.cache, "keeping.json"))


def test_what_killed_processes_left_goes_the_next_day(cleaned: Layout) -> None:
    root = Path(cleaned.root)
    folder = cleaned.run(AGENT, a_run(cleaned, 0))
    wheres = [*map(cleaned.state, ("incoming", "done")), cleaned.prs, cleaned.cache, cleaned.home]
    wheres += [cleaned.agent(AGENT), folder, cleaned.shared]
    old = [Path(where, ".something.json.4711.tmp") for where in wheres]
    young = [Path(where, ".other.json.4712.tmp") for where in wheres]
    for path in (*old, *young):
        path.touch()
        os.utime(path, (0, NOW - (leftovers.ABANDONED + 1 if path in old else 10)))
    base = Path(cleaned.cache, "base-20260101T000000Z-bbbbbb")
    git(root, "worktree", "add", "--quiet", "--detach", str(base), "main")
    (base / "made by a check").touch()
    retention.after_run(cleaned, [], NOW)
    assert [path for path in old if path.exists()] == []
    assert [path for path in young if not path.exists()] == []
    assert not base.exists()
    assert len(git(root, "worktree", "list").splitlines()) == 1


def test_held_stashes_of_a_run_that_ended_without_a_comparison_are_let_go(cleaned: Layout) -> None:
    root = Path(cleaned.root)

    def held() -> list[str]:
        return [name.split("/")[3] for name in repository.refs(cleaned.root, stashes.HELD)]

    (root / "README.md").write_text("changed")
    git(root, "stash", "push", "--quiet")
    [kept] = stashes.current(cleaned.root)
    for run_id in ("R1", "R2"):
        stashes.hold(cleaned.root, run_id, [kept])
    agent_memory.write(cleaned, AGENT, AgentState(run="R2"))
    retention.after_run(cleaned, [], NOW)
    assert held() == ["R2"]
    # An agent took the stash away, and its run was settled without a look at the stashes.
    git(root, "stash", "drop", "--quiet")
    agent_memory.write(cleaned, AGENT, AgentState())
    after_days(cleaned, 2)
    assert held() == ["R2"]
    [item] = leftovers.found(cleaned, NOW)
    assert f"to get it back: git stash store {kept}" in item.why
    git(root, "stash", "store", kept)
    after_days(cleaned, 4)
    assert held() == []


def test_long_logs_begin_anew_but_not_one_that_is_being_written_to(cleaned: Layout) -> None:
    paths = [Path(cleaned.home, "schedule.log"), Path(cleaned.cache, "landing.log")]
    for path in paths:
        path.write_bytes(b"x" * (retention.LONG_LOG + 1))
    Path(cleaned.cache, "landing.out").write_text("short\n")
    with landing.lock(cleaned, 0.0):
        after_days(cleaned, 0)
    assert [path.exists() for path in paths] == [False, True]
    after_days(cleaned, 2)
    assert [path.exists() for path in paths] == [False, False]
    assert all(Path(f"{path}.1").stat().st_size > retention.LONG_LOG for path in paths)
    assert Path(cleaned.cache, "landing.out").exists()


def test_nothing_is_made_again_where_an_uninstall_took_the_cache_away(cleaned: Layout) -> None:
    shutil.rmtree(cleaned.cache)
    after_days(cleaned, 0)
    assert not os.path.exists(cleaned.cache)
