"""Reference 2 and 5: which project a command means, init, uninstall, clones, scripts by path."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import harness
import pytest
from harness import PRODUCT, World, fingerprint

world = harness.world


def test_init_is_idempotent_and_never_overwrites_what_the_user_edited(world: World) -> None:
    world.create(init=False)
    (world.root / "CLAUDE.md").write_text("# My rules\nBe kind.\n")
    (world.root / ".gitignore").write_text("*.pyc")
    world.ok("init", "--schedule", "none")
    assert world.status()["agents"][0]["reason"] == "system_paused", "a new project is paused"
    (world.home_folder / "agents.yaml").write_text("# mine\npaused: true\nagents: []\n")
    commands = sorted((world.root / ".claude" / "commands").rglob("*.md"))
    assert commands
    commands[0].write_text("mine too\n")
    before = fingerprint(world.root)
    done = world.ok("init", "--schedule", "none")
    assert fingerprint(world.root) == before
    assert done.out.strip()
    claude = (world.root / "CLAUDE.md").read_text()
    assert claude.startswith("# My rules\nBe kind.\n")
    assert claude.count(".agent-instructions.md") == 1
    ignore = (world.root / ".gitignore").read_text()
    assert ignore.startswith("*.pyc\n")


def test_init_names_each_thing_that_it_writes_outside(world: World) -> None:
    world.create(init=False)
    before = set(fingerprint(world.root))
    said = world.ok("init", "--schedule", "none").out
    written = set(fingerprint(world.root)) - before
    for name in ("agents.yaml", "CLAUDE.md", ".gitignore", ".git/info/exclude", ".claude/commands"):
        assert name in said
    outside = {name.split("/")[0] for name in written if not name.startswith(".orchestrator")}
    assert outside <= {".gitignore", "CLAUDE.md", ".claude", ".git"}
    text = (world.home_folder / "agents.yaml").read_text()
    assert "paused: true" in text
    assert "daily_usd" in text
    assert "resume" in said, "the next step is on the screen"
    first = {"pm-agent", "impl-agent-1", "test-agent", "review-agent"}
    assert {agent["name"] for agent in world.status()["agents"]} == first


def test_init_says_exactly_what_to_commit_until_it_is_committed(world: World) -> None:
    world.create(init=False)
    (world.root / "AGENTS.md").write_text("# Ours\n")
    (world.root / "CLAUDE.md").symlink_to("AGENTS.md")
    world.git("add", "--all")
    world.git("commit", "--quiet", "--message", "agents")
    (world.root / "mine.txt").write_text("not the set-up\n")
    world.git("add", "mine.txt")
    said = world.ok("init").out
    commands = [line.strip() for line in said.splitlines() if line.startswith("    git")][:2]
    named = world.json("init")["to_commit"]
    assert {".gitignore", ".orchestrator/agents.yaml", "AGENTS.md"} <= set(named)
    for command in commands:
        subprocess.run(shlex.split(command), cwd=world.root, env=world.environment, check=True)
    assert sorted(world.git("diff", "--name-only", "HEAD^", "HEAD").split()) == named
    assert world.git("status", "--porcelain") == "A  mine.txt", "a person's own staged work stays"
    assert world.json("init")["to_commit"] == []
    assert "git add" not in world.ok("init").out


@pytest.mark.parametrize("name", [b"new\nline", b"not-\xff-utf8"])
def test_init_refuses_a_folder_whose_path_no_text_can_name(world: World, name: bytes) -> None:
    world.create(init=False)
    folder = os.path.join(os.fsencode(world.folder), name)
    os.rename(world.root, folder)
    done = world.refused("init", cwd=Path(os.fsdecode(folder)))
    assert "rename the folder" in done.err
    assert not os.path.exists(os.path.join(folder, b".orchestrator"))


def test_init_names_no_removed_file_to_commit(world: World) -> None:
    world.create(init=False)
    world.ok("init")
    world.git("add", "--all")
    world.git("commit", "--quiet", "--message", "set-up")
    world.git("rm", "-r", "--quiet", ".claude/commands")
    world.git("rm", "--quiet", "--cached", "CLAUDE.md")
    said = world.ok("init", "--no-commands").out
    [command] = [line.strip() for line in said.splitlines() if line.startswith("    git add")]
    assert ".claude" not in command
    subprocess.run(shlex.split(command), cwd=world.root, env=world.environment, check=True)


def test_a_new_claude_md_does_not_hide_agents_md(world: World) -> None:
    world.create(init=False)
    claude, agents = world.root / "CLAUDE.md", world.root / "AGENTS.md"
    world.ok("init", "--no-commands")
    alone = claude.read_text()
    assert "@AGENTS.md" not in alone
    # A set-up from before AGENTS.md came gets the import too, once.
    agents.write_text("# Ours\n")
    assert "import of AGENTS.md" in world.ok("init", "--no-commands").out
    assert claude.read_text() == f"{alone}@AGENTS.md\n"
    assert "CLAUDE.md" not in world.ok("init", "--no-commands").out.partition("Next:")[0]
    world.ok("init", "--uninstall")
    assert not claude.exists()
    # What a person wrote stays as it is, also an import of the person's.
    claude.write_text("@AGENTS.md\n")
    world.ok("init", "--no-commands")
    assert claude.read_text() == f"@AGENTS.md\n\n{alone}"
    world.ok("init", "--uninstall")
    assert claude.read_text() == "@AGENTS.md\n"
    assert agents.read_text() == "# Ours\n"


@pytest.mark.parametrize("remote", [True, False])
def test_without_a_base_branch_work_starts_from_the_branch_of_init_not_the_current_one(
    world: World, remote: bool
) -> None:
    world.create(remote=remote)
    if remote:
        world.git("remote", "set-head", "origin", "--delete")
    world.git("checkout", "-q", "-b", "a-persons-own")
    world.ok("init", "--schedule", "none")
    world.configure(base_branch=None)
    task = world.add("Starts from main", "implement", "--priority", "P1")
    world.tick_until_in("done", task)
    assert [pr["base"] for pr in world.prs()] == ["main"]


def test_git_ignores_everything_but_the_committed_configuration(world: World) -> None:
    world.create()
    task = world.add("Leaves files")
    world.tick_until_in("done", task)
    (world.home_folder / "global-instructions.md").write_text("x\n")
    for name in ("commands", "roles"):
        (world.home_folder / name).mkdir(exist_ok=True)
        (world.home_folder / name / "mine.md").write_text("x\n")
    shown = world.git("ls-files", "--others", "--exclude-standard", ".orchestrator").split()
    assert sorted(shown) == [
        ".orchestrator/agents.yaml",
        ".orchestrator/commands/mine.md",
        ".orchestrator/global-instructions.md",
        ".orchestrator/roles/mine.md",
    ]


def test_uninstall_takes_out_what_init_put_in_and_keeps_the_queue(world: World) -> None:
    world.create(init=False)
    (world.root / "CLAUDE.md").write_text("# My rules\n")
    before = fingerprint(world.root, skip=(".git",))
    exclude = world.root / ".git" / "info" / "exclude"
    excluded = exclude.read_text() if exclude.exists() else ""
    world.ok("init", "--schedule", "none", "--start")
    world.configure()
    task = world.add("Stays")
    dirty = {"steps": [["write", "precious.txt"]], "report": {"outcome": "failed", "summary": "No"}}
    world.script("default", dirty)
    world.configure(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.tick_until_in("failed", task)
    world.quiet()
    run = world.starts(task)[0]["run"]
    world.ok("init", "--uninstall")
    assert world.where(task) == ["failed"], "the queue was thrown away"
    after = fingerprint(world.root, skip=(".git", ".orchestrator"))
    assert after == {k: v for k, v in before.items() if not k.startswith(".orchestrator")}
    assert (exclude.read_text() if exclude.exists() else "").strip() == excluded.strip()
    rescued = world.git("for-each-ref", "refs/orchestrator/rescue").count(run)
    worktree = world.home_folder / "agents" / "impl-1" / "worktree" / "precious.txt"
    assert rescued or worktree.exists(), "uncommitted work of an agent is lost"
    world.run("tick")
    assert len(world.starts(task)) == 1


@pytest.mark.parametrize("place", ["subfolder", "linked worktree", "agent's worktree", "submodule"])
def test_from_anywhere_the_project_is_the_main_worktree(world: World, place: str) -> None:
    world.create()
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "the configuration is committed")
    world.git("push", "-q", "origin", "main")
    task = world.add("Seen from everywhere")
    if place == "subfolder":
        folder = world.root / "a" / "b"
        folder.mkdir(parents=True)
    elif place == "linked worktree":
        folder = world.folder / "linked"
        world.git("worktree", "add", "-q", "-b", "linked", str(folder))
        assert (folder / ".orchestrator" / "agents.yaml").exists()
    elif place == "agent's worktree":
        world.tick_until_in("done", task)
        world.quiet()
        folder = world.home_folder / "agents" / "impl-1" / "worktree"
        assert (folder / ".orchestrator" / "agents.yaml").exists()
    else:
        library = world.folder / "library"
        world.git("init", "-q", str(library), cwd=world.folder)
        world.git("commit", "-q", "--allow-empty", "-m", "library", cwd=library)
        world.git("submodule", "add", "-q", str(library), "library")
        folder = world.root / "library"
    assert [t["id"] for t in world.json("task", "list", cwd=folder)] == [task]
    assert world.json("status", cwd=folder)["agents"][0]["name"] == "impl-1"
    second = world.add("Added from there", cwd=folder)
    assert world.where(second) == ["incoming"]
    world.ok("tick", cwd=folder)
    world.tick_until_in("done", second)
    assert [t["id"] for t in world.json("--project", str(folder), "task", "list", cwd=world.folder)]


@pytest.mark.parametrize("kind", ["no repository", "bare", "unborn", "not set up"])
@pytest.mark.parametrize(
    "words", [["tick"], ["task", "add", "--title", "x", "--role", "implement"]]
)
def test_where_there_is_no_project_one_sentence_says_so(
    world: World, kind: str, words: list[str]
) -> None:
    folder = world.folder / "place"
    folder.mkdir()
    if kind == "bare":
        world.git("init", "-q", "--bare", cwd=folder)
    if kind in ("unborn", "not set up"):
        world.git("init", "-q", cwd=folder)
    if kind == "not set up":
        world.git("commit", "-q", "--allow-empty", "-m", "x", cwd=folder)
    before = fingerprint(folder)
    done = world.refused(*words, cwd=folder)
    assert len(done.err.strip().splitlines()) <= 3
    assert fingerprint(folder) == before


def test_a_folder_that_is_not_there_is_named_with_the_next_step(world: World) -> None:
    world.create()
    refused = world.refused("--project", "/nonexistent", "status").err
    assert refused.splitlines() == [
        "orchestrator: there is no folder /nonexistent",
        "  name your project's folder: orchestrator --project DIR ...",
    ]


@pytest.mark.parametrize("kind", ["no repository", "bare", "unborn"])
def test_init_refuses_politely_where_no_worktree_can_be_made(world: World, kind: str) -> None:
    folder = world.folder / "place"
    folder.mkdir()
    if kind != "no repository":
        world.git("init", "-q", *(["--bare"] if kind == "bare" else []), cwd=folder)
    before = fingerprint(folder)
    done = world.refused("init", "--schedule", "none", cwd=folder)
    assert len(done.err.strip().splitlines()) <= 3
    assert fingerprint(folder) == before


def test_failure_21_a_clone_runs_nothing_until_its_person_ran_init_there(world: World) -> None:
    world.create()
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "configured")
    world.git("push", "-q", "origin", "main")
    clone = world.folder / "clone"
    world.git("clone", "-q", str(world.remote), str(clone), cwd=world.folder)
    incoming = clone / ".orchestrator" / "shared" / "queue" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "evil.md").write_text("# [evil] Evil\n\nROLE: implement\n\n")
    before = fingerprint(clone, skip=(".git/index",))
    done = world.run("tick", cwd=clone)
    assert done.code in (0, 1)
    assert "init" in done.out + done.err
    for words in (["run", "impl-1"], ["run", "impl-1", "--task", "evil"]):
        world.refused(*words, cwd=clone)
    world.quiet()
    assert world.starts() == []
    assert fingerprint(clone, skip=(".git/index",)) == before
    world.ok("init", "--schedule", "none", cwd=clone)
    world.ok("tick", cwd=clone)
    harness.wait_until(lambda: world.starts("evil"), "now it may run")
    world.quiet()


def test_an_unwritable_project_is_one_sentence_and_loses_nothing(world: World) -> None:
    world.create()
    task = world.add("Stays")
    # Root may write anywhere: a file where a folder is needed refuses everybody.
    agents = world.home_folder / "agents"
    shutil.rmtree(agents, ignore_errors=True)
    agents.write_text("in the way\n")
    for words in (["tick"], ["status"], ["run", "impl-1"], ["doctor"]):
        assert world.run(*words).code in (0, 1)
    assert world.where(task) == ["incoming"]
    agents.unlink()
    world.tick_until_in("done", task)


# --- the entry points by path ---------------------------------------------------------------


@pytest.fixture
def submodule(world: World) -> World:
    """A project that has this checkout as its submodule `orchestrator/`."""
    checkout = PRODUCT.parent.parent
    product = world.folder / "product"
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split("\0")
    names = [name for name in listed if name] or [
        ".gitignore",
        *(
            str(path.relative_to(checkout))
            for part in ("orchestrator", "plugin", "skills", "hooks", "bin")
            for path in (checkout / part).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ),
    ]
    for name in names:
        if (checkout / name).is_file() and not name.startswith("tests/"):
            (product / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, product / name)
    world.git("init", "-q", cwd=product)
    world.git("add", "-A", cwd=product)
    world.git("commit", "-q", "-m", "product", cwd=product)
    world.create(init=False)
    world.git("submodule", "add", "-q", str(product), "orchestrator")
    world.git("commit", "-q", "-m", "submodule")
    world.git("push", "-q", "origin", "main")
    return world


def by_path(world: World, script: str, *words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, f"orchestrator/orchestrator/{script}", *words],
        cwd=cwd or world.root,
        env=world.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_seeds_two_scripts_work_verbatim_from_the_superproject(submodule: World) -> None:
    world = submodule
    by_path(world, "init.py")
    assert (world.home_folder / "agents.yaml").exists()
    assert not (world.root / "orchestrator" / ".orchestrator").exists()
    world.configure()
    world.drop("first.md", "# [first] First\n\nROLE: implement\n\n")
    by_path(world, "scheduler.py")

    def look() -> bool:
        by_path(world, "scheduler.py")
        return world.where("first") == ["done"]

    harness.wait_until(look, "the task to be done", every=0.2)
    world.quiet()
    assert len(world.starts("first")) == 1
    assert world.git("status", "--porcelain", cwd=world.root / "orchestrator") == ""
    by_path(world, "init.py")


def test_inside_the_submodule_the_superproject_is_meant(submodule: World) -> None:
    world = submodule
    world.ok("init", "--schedule", "none", "--start", cwd=world.root / "orchestrator")
    assert (world.home_folder / "agents.yaml").exists()
    assert world.json("task", "list", cwd=world.root / "orchestrator" / "orchestrator") == []


def move(world: World) -> Path:
    """Move the project to another place; return where it was."""
    before = world.root
    world.root = before.rename(world.folder / "elsewhere")
    world.home_folder = world.root / ".orchestrator"
    world.queue = world.home_folder / "shared" / "queue"
    return before


@pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "its supervisor killed"])
@pytest.mark.parametrize("there", ["nothing", "a clone"])
def test_work_that_was_done_when_the_project_is_moved_is_delivered_from_its_new_place(
    world: World, supervised: bool, there: str
) -> None:
    world.create(checks=["test -f README.md"])
    world.script("default", {"steps": [["work"], ["write", "draft.txt"], ["wait", "go"]]})
    task = world.add("Moved under way")
    world.tick_until(lambda: world.ledger("commit"), "the work")
    if not supervised:
        harness.kill(world.supervisor(task))
    before = move(world)
    if there == "a clone":
        world.git("clone", "-q", str(world.remote), str(before))
    world.open("go")
    harness.wait_until(lambda: world.ledger("end"), "the client's end")
    world.tick_until_in("done", task)
    world.quiet()
    assert len(world.starts(task)) == 1
    (pr,) = world.prs()
    assert [pr["head"]] == world.commits_about(task) == [world.remote_sha(pr["branch"])]
    drafts = list(world.home_folder.glob("agents/*/worktree.set-aside-*/draft.txt"))
    assert len(drafts) == 1, "what was not committed is put aside"
    assert before.exists() is (there == "a clone")
    assert not (before / ".orchestrator" / "agents").exists()
    for log in world.home_folder.glob("agents/*/runs/*/supervisor.log"):
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    "script",
    [{}, {"report": None}, {"report": {"outcome": "failed", "summary": "git finds nothing"}}],
    ids=["done, without a commit", "no report", "failed"],
)
def test_a_client_that_could_not_work_where_the_project_was_is_not_charged(
    world: World, script: dict[str, object]
) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("default", {"steps": [["wait", "go"]], **script}, {"steps": [["work"]]})
    task = world.add("Moved under way")
    world.tick_until(lambda: world.running(task), "the run")
    move(world)
    world.open("go")
    world.tick_until_in("done", task)
    assert len(world.starts(task)) == 2


def test_a_run_is_stopped_though_its_project_was_moved(world: World) -> None:
    world.create(agents=[World.agent("impl-1", stall_seconds=600)])
    world.script("default", {"steps": [["ignore_sigterm"], ["hang"]]})
    task = world.add("Moved under way")
    world.tick_until(lambda: world.running(task), "the run")
    move(world)
    world.ok("stop", "--all")
    world.tick_until(lambda: world.where(task) == ["incoming"], "the task to go back")
    world.quiet()
    assert world.task(task)["attempts"] == 0
