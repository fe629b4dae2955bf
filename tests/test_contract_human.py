"""Reference 7 and 8.5: the human's checkout, branch, index, hooks and configuration are theirs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import both_stores
import harness
import pytest
from harness import World, append, fingerprint

world = both_stores.world


def make_a_mess(world: World) -> None:
    """Staged, unstaged, untracked, ignored, renamed, deleted, stashed, executable, a link."""
    root = world.root
    for name in ("tracked.txt", "gone.txt", "moved.txt", "both.txt"):
        (root / name).write_text(f"{name}\n")
    world.git("add", "-A")
    world.git("commit", "-q", "-m", "more files")
    world.git("push", "-q", "origin", "HEAD", good=False)
    (root / "app.py").write_text("stashed\n")
    world.git("stash", "push", "-q", "app.py")
    (root / "staged.txt").write_text("staged\n")
    world.git("add", "staged.txt")
    (root / "both.txt").write_text("staged part\n")
    world.git("add", "both.txt")
    (root / "both.txt").write_text("unstaged part\n")
    (root / "tracked.txt").write_text("unstaged\n")
    (root / "gone.txt").unlink()
    world.git("mv", "moved.txt", "elsewhere.txt")
    (root / "untracked").mkdir()
    (root / "untracked" / "file").write_text("untracked\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("nowhere")
    append(root / ".git" / "info" / "exclude", "ignored.log\n")
    (root / "ignored.log").write_text("ignored\n")


def of_the_human(world: World) -> dict[str, str]:
    """Everything that is the human's: the checkout, the index, HEAD, branch, stash, config."""
    found = fingerprint(world.root, skip=(".git", ".orchestrator"))
    home = world.root / ".git"
    for name in ("index", "HEAD", "config", "info/exclude", "refs/stash", "logs/HEAD"):
        path = home / name
        found[f".git/{name}"] = path.read_bytes().hex() if path.is_file() else "none"
    for ref in ("main", "stash", "HEAD"):
        found[f"ref {ref}"] = world.sha(ref)
    found["agents.yaml"] = (world.home_folder / "agents.yaml").read_text()
    return found


@pytest.mark.parametrize(
    "where",
    harness.variants(
        ["on main", "on a branch", "detached", "in a conflict"], "on main", "in a conflict"
    ),
)
def test_failure_08_a_whole_day_leaves_the_humans_checkout_byte_identical(
    world: World, where: str
) -> None:
    world.create(
        kept_today=False,
        agents=[
            World.agent("impl-1"),
            World.agent("test-1", "tester"),
            World.agent("rev-1", "reviewer"),
        ],
        review={"after": ["implement"], "max_rounds": 2, "auto_merge": True},
        retry={"max_attempts": 2, "backoff_seconds": 0},
        checks=["test -f README.md"],
    )
    if where == "on a branch":
        world.git("checkout", "-q", "-b", "my-work")
    make_a_mess(world)
    if where == "detached":
        world.git("checkout", "-q", "--detach")
    if where == "in a conflict":
        (world.root / ".git" / "MERGE_HEAD").write_text(world.sha("HEAD") + "\n")
    before = of_the_human(world)
    ordinary = world.add("Ordinary")
    failing = world.add("Failing")
    testing = world.add("Testing", "test")
    dirty = {"steps": [["write", "dirty.txt"], ["append", "app.py", "#\n"]]}
    world.script(failing, {**dirty, "report": {"outcome": "failed", "summary": "No."}})
    world.tick_until_in("failed", failing)
    world.tick_until_in("done", ordinary, testing)
    world.tick_until(
        lambda: "merged" in [pr["state"] for pr in world.prs() if pr["task"] == ordinary]
    )
    for words in (
        ["status"],
        ["doctor"],
        ["task", "list"],
        ["pr", "list"],
        ["clean"],
        ["logs", "impl-1"],
    ):
        world.run(*words)
    world.quiet()
    after = of_the_human(world)
    assert after == before
    if where == "in a conflict":
        (world.root / ".git" / "MERGE_HEAD").unlink()


def test_the_generated_instructions_are_never_committed_nor_seen_by_git(world: World) -> None:
    world.create()
    steps = [["git", "add", "-A"], ["work"], ["call", "git", "status", "--porcelain", "--ignored"]]
    world.script("default", {"steps": steps})
    task = world.add("Adds everything")
    world.tick_until_in("done", task)
    [pr] = world.prs()
    names = world.git("ls-tree", "-r", "--name-only", pr["head"]).split()
    assert ".agent-instructions.md" not in names
    assert not [name for name in names if name.startswith(".orchestrator/")]
    assert world.starts(task)[0]["status"] == ""


def test_the_users_hooks_do_not_run_on_our_bookkeeping(world: World) -> None:
    world.create()
    log = world.folder / "hooks.log"
    names = [
        "post-checkout",
        "post-commit",
        "pre-commit",
        "post-merge",
        "pre-auto-gc",
        "post-rewrite",
    ]
    for name in (*names, "reference-transaction", "post-index-change"):
        path = world.root / ".git" / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\n[ "$IN_AGENT" ] || echo {name} "$@" >> {log}\nexit 0\n')
        path.chmod(0o755)
    # The agent's own commits may run them: only ours count here.
    client = world.bin / "client"
    words = " ".join(f"'{word}'" for word in [*harness.PYTHON, str(harness.FAKE_CLIENT)])
    client.write_text(f'#!/bin/sh\nIN_AGENT=1 exec {words} "$@"\n')
    client.chmod(0o755)
    world.configure(
        claude={"command": [str(client)]}, retry={"max_attempts": 2, "backoff_seconds": 0}
    )
    dirty = {"steps": [["write", "dirty.txt"]], "report": {"outcome": "failed", "summary": "No."}}
    world.script("default", dirty, {"steps": [["work"]]})
    task = world.add("With hooks about")
    world.tick_until_in("done", task)
    world.quiet()
    assert not log.exists(), log.read_text()


def test_signing_and_prompting_settings_of_the_user_hold_up_nothing(world: World) -> None:
    world.create()
    config = world.home / ".gitconfig"
    broken = "[commit]\n\tgpgsign = true\n[tag]\n\tgpgsign = true\n[gpg]\n\tprogram = /bin/false\n"
    config.write_text(
        config.read_text() + broken + "[push]\n\tgpgsign = if-asked\n[core]\n\teditor = cat\n"
    )
    dirty = [["write", "dirty.txt", "x"]]
    commit = ["git", "-c", "commit.gpgsign=false", "commit", "-q", "--allow-empty", "-m", "mine"]
    world.script(
        "default",
        {"steps": dirty, "report": {"outcome": "failed", "summary": "No."}},
        {"steps": [commit]},
    )
    task = world.add("Signed by nobody")
    world.tick_until_in("done", task)
    run = world.starts(task)[0]["run"]
    assert world.sha(f"refs/orchestrator/rescue/{run}")


def test_read_commands_change_nothing_on_disk(world: World) -> None:
    world.create()
    task = world.add("Looked at")
    world.tick_until_in("done", task)
    world.drop("bad.md", b"\xff\xfe")
    world.quiet()
    before = fingerprint(world.root)
    for number, words in enumerate(
        (
            ["status"],
            ["doctor"],
            ["explain", "impl-1"],
            ["explain", task],
            ["task", "list"],
            ["task", "show", task],
            ["agent", "list"],
            ["agent", "show", "impl-1"],
            ["limits"],
            ["logs", "impl-1"],
            ["logs", task],
            ["inbox"],
            ["pr", "list"],
            ["pr", "show", "1"],
            ["pr", "diff", "1"],
            ["clean", "--dry-run"],
            ["tick", "--dry-run"],
        )
    ):
        world.run(*words, *(["--json"] if number % 2 else []))
        assert fingerprint(world.root) == before, words


def test_worktrees_are_cut_from_a_detached_base_and_left_detached(world: World) -> None:
    world.create()
    task = world.add("Leaves it detached")
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    world.tick_until(lambda: world.running(task))
    [start] = world.starts(task)
    worktree = world.home_folder / "agents" / "impl-1" / "worktree"
    assert Path(start["cwd"]).resolve() == worktree.resolve()
    seen = subprocess.run(
        ("git", "rev-parse", "--show-toplevel"),
        cwd=start["cwd"],
        env={**world.environment, **start["environment"]},
        capture_output=True,
        text=True,
    )
    assert Path(seen.stdout.strip()).resolve() == worktree.resolve()
    world.open("go")
    world.tick_until_in("done", task)
    world.quiet()
    assert world.git("branch", "--show-current", cwd=worktree) == ""


def test_worktreeinclude_copies_ignored_files_and_hooks_run_in_the_worktree(world: World) -> None:
    world.create(hooks={"after_create": "pwd > from-hook.log", "before_remove": None})
    append(world.root / ".gitignore", "secret.env\n*.log\n")
    (world.root / ".worktreeinclude").write_text("secret.env\n")
    (world.root / "secret.env").write_text("TOKEN=1\n")
    world.git("add", ".gitignore", ".worktreeinclude")
    world.git("commit", "-q", "-m", "ignore")
    world.git("push", "-q", "origin", "main")
    world.script("default", {"steps": [["call", "cat", "secret.env", "from-hook.log"], ["work"]]})
    task = world.add("Needs a secret")
    world.tick_until_in("done", task)
    [call] = world.ledger("call")
    assert call["out"].startswith("TOKEN=1\n")
    assert call["out"].strip().endswith("/agents/impl-1/worktree")


@pytest.mark.files_only("git deletes the folders of the queue")
def test_a_queue_that_git_clean_deleted_is_a_problem_until_init(world: World) -> None:
    world.create()
    world.add("one")
    world.git("add", "--all")
    world.git("commit", "-q", "-m", "Set up")
    world.git("clean", "-q", "-fdx")
    assert world.tick()["problems"][0]["code"] == "queue_missing"
    [problem] = world.status()["problems"]
    assert "/queue is missing" in problem["message"]
    world.ok("init", "--schedule", "none", "--no-commands")
    assert world.status()["problems"] == []


@pytest.mark.files_only("a person deletes the file of a task")
def test_a_claimed_task_whose_file_a_person_deletes_is_no_fault_of_the_system(world: World) -> None:
    world.create()
    world.script("default", {"steps": [["work"], ["wait", "go"]]})
    task = world.add("Deleted while it is worked on")
    world.tick_until(lambda: world.running(task), "the client to run")
    (world.queue / "claimed" / f"{task}.md").unlink()
    world.open("go")
    world.quiet()
    assert world.status()["problems"] == []
    world.ok("tick")
    assert [run["outcome"] for run in world.json("runs")] == ["stopped"]
    other = world.add("Worked on all the same")
    world.tick_until_in("done", other)
    assert world.where(task) == []
    assert world.commits_about(task), "the agent's work is gone"


def test_a_delivered_task_with_a_priority_of_its_own_is_reviewed(world: World) -> None:
    agents = [World.agent("impl-1"), World.agent("rev-1", "reviewer")]
    world.create(agents=agents)
    world.drop("a.md", "# [a] A thing\n\nROLE: implement\nPRIORITY: urgent\n\nText.\n")
    world.script("reviewer", {"report": {"outcome": "approved", "summary": "Yes."}})
    world.tick_until_in("done", "a")
    world.tick_until(lambda: [p["verdict"] for p in world.prs()] == ["approved"], "its review")
