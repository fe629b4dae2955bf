"""What others can put before us: a repository's commits, and what lies where our own state should.

A clone's author knows everything but this machine: nothing that came with a commit may run, be
believed or lead our writing elsewhere. The model of the threats is SECURITY.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
import runs
from conftest import git, tree
from harness import World

from orchestrator.config import load, roles
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError, SystemFault
from orchestrator.project import agent_memory, mark, run_record
from orchestrator.run import instructions, prompts
from orchestrator.system import files

Cli = Callable[..., Any]
world = harness.world


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the user's that nothing of ours has any business in."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "bashrc").write_text("alias ll='ls -l'\n")
    return folder


# --- links where our files should be -----------------------------------------------------------

LINKED_FOLDERS = {
    "the whole home": ".orchestrator",
    "agents": ".orchestrator/agents",
    "one agent": ".orchestrator/agents/impl-agent-1",
    "its runs": ".orchestrator/agents/impl-agent-1/runs",
    "its worktree": ".orchestrator/agents/impl-agent-1/worktree",
    "shared": ".orchestrator/shared",
    "the queue": ".orchestrator/shared/queue",
    "a state": ".orchestrator/shared/queue/claimed",
    "pull requests": ".orchestrator/shared/prs",
    "pull requests on GitHub": ".orchestrator/shared/prs/github",
    "the cache": ".orchestrator/cache",
}
LINKED_FILES = {
    "events": ".orchestrator/events.jsonl",
    "the tick's lock": ".orchestrator/scheduler.lock",
    "an agent's lock": ".orchestrator/agents/impl-agent-1/lock",
    "the queue's lock": ".orchestrator/shared/queue/.lock",
}


def laid(layout: Layout, name: str, target: Path) -> Path:
    """Put a link in the place of a file or folder; what was there lies in the target."""
    path = Path(layout.root, name)
    if path.is_dir():
        path.rename(target / "moved")
        target = target / "moved"
    elif path.exists():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("name", [*LINKED_FOLDERS.values(), *LINKED_FILES.values()])
def test_a_link_in_the_place_of_our_state_is_refused_and_not_written_through(
    project: Layout, cli: Cli, victim: Path, name: str
) -> None:
    file = name in LINKED_FILES.values()
    path = laid(project, name, victim / "bashrc" if file else victim)
    before = tree(victim)
    for words in (("tick",), ("init", "--start"), ("run", "impl-agent-1")):
        done = cli(*words)
        assert done.code == 1, words
        assert "symbolic link" in done.err
        assert str(path) in done.err
    assert cli("task", "add", "--title", "A title", "--role", "implement").code == 1
    assert "symbolic link" in cli("doctor").out
    assert cli("status").code == 0
    assert tree(victim) == before


@pytest.mark.parametrize("name", ["hold.json", "prs/1.json"])
def test_a_link_in_the_place_of_a_record_is_none_and_is_replaced(
    project: Layout, cli: Cli, victim: Path, name: str
) -> None:
    (victim / "record").write_text(json.dumps({"code": "x", "message": "y", "since": 1}))
    Path(project.shared, name).symlink_to(victim / "record")
    before = tree(victim)
    assert cli("tick").code == 0
    assert cli("status").code == 0
    assert tree(victim) == before


@pytest.mark.parametrize("name", ["CLAUDE.md", ".gitignore"])
def test_init_writes_through_no_link_that_leads_out_of_the_project(
    repo: Path, cli: Cli, victim: Path, name: str
) -> None:
    (repo / name).symlink_to(victim / "bashrc")
    before = tree(victim)
    done = cli("init")
    assert done.code == 1
    assert name in done.err
    assert tree(victim) == before


def test_init_writes_no_skills_into_a_folder_elsewhere(repo: Path, cli: Cli, victim: Path) -> None:
    (repo / ".claude").symlink_to(victim)
    before = tree(victim)
    assert cli("init").code == 1
    assert tree(victim) == before
    assert cli("init", "--no-commands").code == 0


def test_a_link_within_the_project_is_followed_as_people_mean_it(repo: Path, cli: Cli) -> None:
    (repo / "AGENTS.md").write_text("Be kind.\n")
    (repo / "CLAUDE.md").symlink_to("AGENTS.md")
    assert cli("init").code == 0
    assert (repo / "CLAUDE.md").is_symlink()
    assert ".agent-instructions.md" in (repo / "AGENTS.md").read_text()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device", "link to itself"])
def test_odd_files_in_the_place_of_state_keep_nobody_waiting(
    project: Layout, cli: Cli, kind: str
) -> None:
    agent = Path(project.agent("impl-agent-1"))
    agent.mkdir(parents=True)
    cache = Path(project.cache)
    names = ["idle", "config", "prs.json"]
    paths = [cache / name for name in names]
    paths += [Path(project.hold), agent / "state.json", Path(project.prs, "1.json")]
    paths += [Path(project.state("incoming"), "odd.md")]
    for path in paths:
        if path.exists():
            path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero" if kind == "link to a device" else path)
    for words in (
        ("status",),
        ("doctor",),
        ("task", "list"),
        ("pr", "list"),
        ("tick", "--dry-run"),
    ):
        assert cli(*words).code in (0, 1), words


@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize("name", LINKED_FILES.values())
def test_what_is_no_file_in_the_place_of_a_file_of_ours_is_named_and_stops_nothing_else(
    project: Layout, cli: Cli, name: str, kind: str
) -> None:
    path = Path(project.root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    for words in (("tick",), ("task", "add", "A title"), ("agent", "pause", "--all")):
        done = cli(*words)
        assert done.code == 1, words
        assert f"{path} is not a regular file" in done.err
        assert f"mv {path} " in done.err
    assert f"{name} is not a regular file" in cli("status").out
    assert cli("task", "list").code == 0


def test_a_folder_in_the_place_of_any_cached_file_is_named_by_a_path_that_exists(
    project: Layout, cli: Cli
) -> None:
    cli("tick")
    Path(project.idle_stamp).unlink(missing_ok=True)  # a tick that finds it uses no other file
    refused = []
    for name in sorted(entry.name for entry in os.scandir(project.cache) if entry.is_file()):
        path = Path(project.cache, name)
        kept = path.read_bytes()
        path.unlink()
        path.mkdir()
        if (done := cli("tick")).code == 1:
            refused.append(name)
            named = re.findall(rf"{re.escape(project.cache)}/[^\s:]+", done.err)
            assert str(path) in named
            assert all(os.path.lexists(each) for each in named if not each.endswith("-1")), named
        path.rmdir()
        path.write_bytes(kept)
        Path(project.idle_stamp).unlink(missing_ok=True)
    assert "look.lock" in refused


def test_an_agent_whose_memory_is_a_folder_is_named(project: Layout, cli: Cli) -> None:
    path = Path(project.agent_state("impl-agent-1"))
    path.mkdir(parents=True)
    for command in ("status", "doctor"):
        said = f"{path.relative_to(project.root)} is not a regular file"
        assert said in cli(command).out


def odd(path: Path, kind: str, secret: Path) -> None:
    """Put something into the place of a configuration file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        # The name of a socket may have about 100 bytes.
        with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    elif kind == "sparse file":
        with path.open("wb") as file:
            file.truncate(2 << 30)
    elif kind == "link to a link":
        (path.parent / "between").symlink_to(secret)
        path.symlink_to("between")
    elif kind == "link to git's file":
        path.symlink_to(os.path.relpath(path.parents[1] / ".git" / "config", path.parent))
    else:
        path.symlink_to("/dev/zero" if kind == "link to a device" else secret)


ODD = (
    "pipe",
    "folder",
    "socket",
    "sparse file",
    "link",
    "link to a link",
    "link to git's file",
    "link to a device",
)


@pytest.mark.parametrize("kind", ODD)
def test_odd_files_in_the_place_of_configuration_are_neither_read_nor_waited_for(
    project: Layout, cli: Cli, victim: Path, kind: str
) -> None:
    secret = victim / "agents.yaml"
    secret.write_text("paused: true\nagents: [{name: stolen, role: implementer}]\n")
    before = tree(victim)
    odd(Path(project.config), kind, secret)
    said = cli("status").out
    assert "config_error" in said
    assert project.config in said or "agents.yaml" in said
    assert "stolen" not in cli("agent", "list").out
    assert cli("tick").code == 1
    assert cli("agent", "set", "stolen", "model=opus").code == 1
    assert cli("agent", "pause", "--all").code == 0
    assert cli("doctor").code == 0
    assert tree(victim) == before


@pytest.mark.parametrize("kind", ODD)
def test_failure_38_odd_files_in_the_place_of_texts_for_agents_reach_no_prompt(
    project: Layout, victim: Path, kind: str
) -> None:
    secret = victim / "secret.md"
    secret.write_text("---\ntakes: implement\ntools: [Read]\n---\nthe secret\n")
    for path in (project.global_instructions, f"{project.roles}/own.md"):
        odd(Path(path), kind, secret)
    own_skill = Path(project.commands, "implementing.md")
    odd(own_skill, kind, secret)
    with pytest.raises(SystemFault, match=re.escape(project.global_instructions)) as fault:
        instructions.global_instructions(project)
    assert fault.value.code == "config_error"
    known, problems = roles.load(project.roles)
    assert "own" not in known
    assert [p.message for p in problems if "own.md" in p.message]
    with pytest.raises(OrchestratorError, match="cannot be read"):
        prompts.skill(project.commands, "implementing")


def test_links_within_the_project_are_followed_in_texts_for_agents(
    project: Layout, tmp_path: Path
) -> None:
    texts = Path(project.root, "texts")
    texts.mkdir()
    (texts / "own.md").write_text("---\ntakes: implement\ntools: [Read]\n---\nWork.\n")
    (texts / "all.md").write_text("Be kind.\n")
    Path(project.global_instructions).symlink_to("../texts/between.md")
    (texts / "between.md").symlink_to("all.md")
    Path(project.roles).symlink_to("../texts")
    assert instructions.global_instructions(project) == "Be kind.\n"
    known, problems = roles.load(project.roles)
    assert known["own"].brief == "Work."
    # A folder that is a link out of the project is no better than a file.
    Path(project.roles).unlink()
    texts.rename(tmp_path / "elsewhere")
    Path(project.roles).symlink_to(tmp_path / "elsewhere")
    known, problems = roles.load(project.roles)
    assert "own" not in known
    assert any("leads out of the project" in p.message for p in problems)


def what_it_is(path: Path) -> tuple[int, ...]:
    found = os.lstat(path)
    return (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns)


@pytest.mark.parametrize("kind", ["pipe", "sparse file", "link"])
def test_init_reads_no_odd_file_of_a_person_and_leaves_it_as_it_is(
    repo: Path, cli: Cli, victim: Path, kind: str
) -> None:
    for name in ("CLAUDE.md", ".orchestrator/commands/enqueue.md"):
        odd(repo / name, kind, victim / "bashrc")
        before = what_it_is(repo / name)
        done = cli("init")
        assert done.code == 1
        assert name in done.err
        assert what_it_is(repo / name) == before
        (repo / name).unlink()
    assert cli("init").code == 0


def test_a_task_with_a_second_name_elsewhere_is_written_only_in_the_queue(
    project: Layout, cli: Cli, tmp_path: Path
) -> None:
    own = tmp_path / "notes.md"
    own.write_text("# [T-1] A task\n\nROLE: implement\n\n## Context\nText.\n")
    before = (own.read_text(), os.stat(own).st_mtime_ns)
    os.link(own, os.path.join(project.state("incoming"), "T-1.md"))
    assert cli("task", "cancel", "T-1").code == 0
    assert (own.read_text(), os.stat(own).st_mtime_ns) == before
    assert "cancelled" in Path(project.state("failed"), "T-1.md").read_text()


# --- state that came with a commit -------------------------------------------------------------


def committed(root: Path, name: str, content: bytes | str) -> None:
    """Have the clone's author commit a file where git is told to ignore it."""
    path = root / ".orchestrator" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o755)
    git(root, "add", "--force", str(path))
    git(root, "commit", "--quiet", "--message", "Nothing to see here")


def test_init_drops_the_cache_that_it_finds(repo: Path, cli: Cli) -> None:
    committed(repo, "cache/bin/git", "#!/bin/sh\ntouch /tmp/never\n")
    committed(repo, "cache/idle", "2")
    assert cli("init").code == 0
    assert os.listdir(Layout(str(repo)).cache) == []


def test_a_project_that_another_user_set_up_is_not_said_to_be_without_a_set_up(
    project: Layout, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`init` would not help: it cannot write in the other user's folders."""
    path, read = mark.mark_path(project), mark.files.read_json
    # As the user of these tests may read every file (root), or owns it.
    monkeypatch.setattr(mark.files, "read_json", lambda at: None if at == path else read(at))
    monkeypatch.setattr(mark.os, "access", lambda at, _: at != path)
    done = cli("task", "add", "Add a sum")
    assert done.code == 1
    assert "set this project up" in done.err
    assert "run: orchestrator init" not in done.err


def test_an_init_done_again_keeps_the_cache(project: Layout, cli: Cli) -> None:
    assert cli("tick").code == 0
    before = os.listdir(project.cache)
    assert before
    assert cli("init").code == 0
    assert set(before) <= set(os.listdir(project.cache))


def tracked_findings(cli: Cli) -> list[dict[str, Any]]:
    return [f for f in cli("doctor", "--json").json["findings"] if f["code"] == "tracked_state"]


def test_the_doctor_names_what_git_tracks_of_our_state(project: Layout, cli: Cli) -> None:
    found = tracked_findings(cli)
    assert [f["level"] for f in found] == ["ok"]
    committed(Path(project.root), "cache/idle", "x")
    committed(Path(project.root), "shared/queue/incoming/a task.md", "# x\n\nROLE: implement\n")
    committed(Path(project.root), "roles/own.md", "---\ntakes: x\ntools: [Read]\n---\nDo.\n")
    found = tracked_findings(cli)
    assert [f["level"] for f in found] == ["warn", "warn"]
    assert "cache/idle" in found[0]["message"]
    assert "'.orchestrator/shared/queue/incoming/a task.md'" in found[1]["hint"]


def hostile_run(layout: Layout, canary: Path, status: str, key: str | None) -> str:
    """Leave a run that is prepared, as its supervisor would start it; return its folder."""
    folder = layout.run("impl-agent-1", "evil")
    files.make_folder(folder)
    argv = ["/bin/sh", "-c", f"touch {canary}"]
    plan = {"argv": argv, "cwd": layout.root, "environment": {}}
    files.write_json(os.path.join(folder, run_record.LAUNCH), plan)
    files.write_atomic(os.path.join(folder, run_record.PROMPT), b"")
    settings = load.settings(layout, write_cache=False).config.agents[0]._asdict()
    record: dict[str, Any] = {"created": 1.0, "status": status, "settings": settings}
    if key is not None:
        record["key"] = key
    runs.lay_out(layout, "impl-agent-1", "evil", **record)
    state = agent_memory.AgentState(run="evil", last_started=1.0)
    agent_memory.write(layout, "impl-agent-1", state)
    return folder


@pytest.mark.parametrize("key", [None, "", "0123456789abcdef"])
@pytest.mark.parametrize("status", ["starting", "running", "concluding"])
def test_a_run_that_came_with_a_commit_starts_nothing(
    project: Layout, cli: Cli, tmp_path: Path, status: str, key: str | None
) -> None:
    canary = tmp_path / "canary"
    hostile_run(project, canary, status, key)
    assert cli("tick", "--json").code == 0
    assert agent_memory.read(project, "impl-agent-1").run != "evil"
    assert not canary.exists()


def test_a_supervisor_takes_up_only_what_was_begun_here(project: Layout, tmp_path: Path) -> None:
    """The same, asked of the supervisor."""
    from orchestrator.run import supervisor

    canary = tmp_path / "canary"
    folder = hostile_run(project, canary, "starting", "wrong")
    assert supervisor.main(folder, small=True) is None
    record, key = run_record.read(folder), mark.key(project)
    assert record is not None
    assert record.status == "starting"
    assert record.supervisor is None
    assert record._replace(key=key).is_of_clone(folder, key)
    assert not record.is_of_clone(folder, key)
    elsewhere = os.path.join(os.path.dirname(folder), "other")
    assert not record._replace(key=key).is_of_clone(elsewhere, key)


def test_a_configuration_that_came_with_a_commit_is_not_the_last_good_one(
    project: Layout, cli: Cli
) -> None:
    assert cli("tick").code == 0
    good = Path(project.last_good_config).read_bytes()
    seal, _, data = good.partition(b"\n")
    assert load.last_good(project) is not None
    _, _, rest = seal.partition(b"|")
    for key in (b"", b"0" * 32):
        Path(project.last_good_config).write_bytes(key + b"|" + rest + b"\n" + data)
        assert load.last_good(project) is None


def test_each_set_up_has_a_key_of_its_own_and_keeps_it(project: Layout, cli: Cli) -> None:
    key = mark.key(project)
    assert len(key) == 32
    assert cli("init").code == 0
    assert mark.key(project) == key
    assert stat.S_IMODE(os.stat(mark.mark_path(project)).st_mode) == 0o600
    assert cli("init", "--uninstall").code == 0
    assert mark.key(project) == ""
    assert cli("init").code == 0
    assert mark.key(project) not in ("", key)


RECORDS: list[Any] = [
    {"id": 7, "branch": 5, "state": []},
    {"id": "../../agents", "task": None, "branch": "--upload-pack=x", "base": "-", "head": "--x",
     "title": "\x1b[2J", "state": "open"},
    {"id": "1", "task": 3, "branch": None, "base": None, "head": None, "title": None,
     "state": "open"},
    {"id": "1", "task": {}, "branch": "a", "base": "b", "head": "c", "title": [], "state": "open",
     "verdict": 5, "url": {}},
    {"id": "1", "task": "x", "branch": "agent/\n/x", "base": "*", "head": "HEAD", "title": "t",
     "state": "merged"},
    {"id": "1", "task": "x", "branch": "agent/x", "base": "main", "head": "0" * 40, "title": "t",
     "state": "nonsense"},
    [], 5, None, "x",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(RECORDS)))
def test_any_record_of_a_pull_request_is_shown_or_passed_over(
    project: Layout, cli: Cli, number: int
) -> None:
    Path(project.prs, "1.json").write_text(json.dumps(RECORDS[number]))
    for words in (
        ("pr", "list"),
        ("pr", "show", "1"),
        ("pr", "diff", "1"),
        ("status",),
        ("inbox",),
        ("clean", "--dry-run"),
    ):
        done = cli(*words)
        assert done.code in (0, 1), words
        assert "\x1b" not in done.out + done.err
    assert cli("tick").code == 0
    assert cli("pr", "approve", "1").code in (0, 1)
    assert cli("pr", "checkout", "1").code in (0, 1)
    assert cli("pr", "merge", "1").code in (0, 1)
    assert cli("pr", "close", "1").code in (0, 1)


STATES: list[Any] = [
    {"run": "../../../../etc", "last_started": "x"},
    {"run": "a/b", "supervisor": {"pid": 1, "identity": "x"}},
    {"run": "x\x00y"},
    {"run": "\ud800"},
    {"run": "-rf", "supervisor": {"pid": -1, "identity": None}, "totals": {"runs": "many"}},
    {"run": "gone", "restarts": 10**30, "spend": {"2024-01-01": "x"}, "failures": -5},
    {"run": "n" * 5000},
    {"last_started": float("inf"), "last_finished": float("nan"), "last_reason": "\x1b[2J"},
]


@pytest.mark.parametrize("number", range(len(STATES)))
def test_any_memory_of_an_agent_stops_nobody(project: Layout, cli: Cli, number: int) -> None:
    folder = Path(project.agent("impl-agent-1"))
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(STATES[number]))
    for words in (("status",), ("agent", "show", "impl-agent-1"), ("logs", "impl-agent-1")):
        done = cli(*words)
        assert done.code in (0, 1), words
        assert "\x1b" not in done.out + done.err
    report = cli("tick", "--json")
    assert [a["agent"] for a in report.json["actions"] if a["action"] in ("start", "skip")] == [
        "impl-agent-1", "test-agent", "pm-agent",
    ]  # fmt: skip
    assert not [p for p in report.json["problems"] if p["code"] == "bug"]


# --- a repository's own programs ---------------------------------------------------------------


def test_a_run_writes_through_no_link_and_starts_no_program_of_the_repository(
    world: World, tmp_path: Path
) -> None:
    """From the claim to the pull request, on a branch whose author tried what git can carry."""
    world.create()
    canary, bashrc = tmp_path / "canary", tmp_path / "bashrc"
    bashrc.write_text("alias ll='ls -l'\n")
    program = world.root / "evil.sh"
    # Notes who started it: ours say `core.quotePath`; an agent's own git may run what it likes.
    note = f"tr '\\0' ' ' </proc/$PPID/cmdline >>{canary}; echo >>{canary}"
    program.write_text(f"#!/bin/sh\n{note}\ncat\n")
    program.chmod(0o755)
    (world.root / ".worktreeinclude").symlink_to(bashrc)
    (world.root / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    (world.root / ".gitmodules").write_text(
        f'[submodule "x"]\n\tpath = x\n\turl = -u./evil.sh\n\tupdate = !touch {canary}\n'
    )
    hooks = world.root / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-checkout", "pre-push", "post-merge", "reference-transaction"):
        (hooks / name).write_text(program.read_text())
        (hooks / name).chmod(0o755)
    world.git("add", "--force", "-A")
    world.git("commit", "-qm", "Nothing to see here")
    world.git("push", "-q")
    # What an agent without a sandbox may leave in the repository's own folder.
    world.git("config", "core.hooksPath", str(hooks))
    world.git("config", "core.fsmonitor", str(program))
    world.git("config", "core.pager", str(program))
    world.git("config", "diff.external", str(program))
    world.git("config", "gpg.program", str(program))
    world.git("config", "commit.gpgSign", "true")
    world.git("config", "core.editor", str(program))
    world.git("config", "alias.status", f"!{program}")
    for name in ("post-checkout", "pre-push", "reference-transaction", "post-index-change"):
        own = world.root / ".git" / "hooks" / name
        own.parent.mkdir(exist_ok=True)
        own.write_text(program.read_text())
        own.chmod(0o755)
    canary.unlink(missing_ok=True)
    task = world.add("Write something")
    quietly = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    steps = [["write", "new.txt"], [*quietly, "add", "new.txt"], [*quietly, "commit", "-qm", "New"]]
    world.script("default", {"steps": steps})
    world.tick_until_in("done", task)
    world.quiet()
    started = canary.read_text().splitlines() if canary.exists() else []
    assert not [line for line in started if "core.quotePath" in line]
    [pr] = world.prs()
    assert world.remote_sha(pr["branch"]) == pr["head"]
    added = world.git("--no-pager", "diff", "--no-ext-diff", "--name-only", "main", pr["head"])
    assert added == "new.txt"
    assert bashrc.read_text() == "alias ll='ls -l'\n"


# --- objects that an agent puts in the place of others -----------------------------------------


def test_failure_41_nobody_is_shown_other_work_than_what_is_delivered(world: World) -> None:
    """A commit is shown, checked and merged as it is, and not as `git replace` or grafts say."""
    world.create(
        agents=[world.agent("impl-1"), world.agent("rev-1", "reviewer")],
        review={"after": ["implement"], "auto_merge": True},
        checks=["git show HEAD:TASK-00000001.txt && ! git cat-file -e HEAD:harmless.txt"],
    )
    hide = (
        "echo harmless > harmless.txt; git add harmless.txt; tree=$(git write-tree); git reset -q; "
        'rm harmless.txt; git replace HEAD "$(git commit-tree "$tree" -m harmless)"; '
        'git rev-parse HEAD > "$(git rev-parse --git-common-dir)/info/grafts"'
    )
    world.script("TASK-00000001", {"steps": [["work"], ["call", "sh", "-c", hide]]})
    show = ["git", "ls-tree", "--name-only", "HEAD"]
    world.script("rev-1", {"steps": [["call", *show]]})
    task = world.add("Looks harmless")
    world.tick_until(lambda: [pr for pr in world.prs() if pr["state"] == "merged"], "the merge")
    [seen] = world.ledger("call", argv=show)
    assert "harmless.txt" not in seen["out"]
    assert world.task(task)["attempts"] == 0
    assert world.git("cat-file", "-t", f"main:{task}.txt", cwd=world.remote) == "blob"
