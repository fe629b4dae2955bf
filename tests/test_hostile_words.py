"""Words of others wherever they are shown or taken: titles, names, ids and branches."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from harness import World

from orchestrator.layout import Layout
from orchestrator.project import agent_memory
from orchestrator.tick.tick import run_tick

Cli = Callable[..., Any]
world = harness.world

# --- words that reach a terminal ---------------------------------------------------------------

LOUD = "\x1b[31mred\x1b]8;;http://x\x07\x9b2J\x07\u202egnp\x7f\r\x08"
UNSEEN = {"\x1b", "\x9b", "\x07", "\x7f", "\x08", "\u202e", "\r"}


def quiet(text: str) -> bool:
    return not UNSEEN & set(text)


def test_no_command_prints_what_could_move_the_cursor(project: Layout, cli: Cli) -> None:
    queue = Path(project.queue)
    body = f"ROLE: implement\nPRIORITY: P1\nCREATED_BY: {LOUD}\n\n{LOUD}\n\n## x\n"
    (queue / "incoming" / "T1.md").write_text(f"# [T1] A {LOUD} title\n\n{body}")
    (queue / "incoming" / f"{LOUD[:8]}.md").write_text(f"# {LOUD}\n\nROLE: implement\n")
    (queue / "incoming" / f"bad{LOUD[:8]}.md").write_text(f"{LOUD}\n")
    (queue / "done" / "T2.md").write_text(f"# [T2] A {LOUD} title\n\nROLE: {LOUD}\n")
    (queue / "blocked" / "T3.md").write_text(f"# [T3] A {LOUD} title\n\nROLE: implement\n")
    record = {"id": "1", "task": "T2", "branch": f"agent/{LOUD}", "base": "main", "head": "0" * 40,
              "title": LOUD, "state": "open", "url": LOUD, "body": LOUD}  # fmt: skip
    Path(project.prs, "1.json").write_text(json.dumps(record))
    Path(project.hold).write_text(json.dumps({"code": "x", "message": LOUD, "since": 1}))
    Path(project.events).write_text(json.dumps({"at": "x", "event": LOUD, "reason": LOUD}) + "\n")
    agent = agent_memory.AgentState(last_outcome=LOUD, last_reason=LOUD, suspended=LOUD)
    agent_memory.write(project, "impl-agent-1", agent)
    run = Path(project.run("impl-agent-1", "r1"))
    run.mkdir(parents=True)
    (run / "stream.jsonl").write_text(
        json.dumps({"type": "assistant", "message": {"content": [{"type": "text", "text": LOUD}]}})
    )
    (run / "stderr.log").write_text(LOUD)
    for words in (
        ("status",), ("task", "list"), ("task", "show", "T1"), ("task", "show", "T3"), ("inbox",),
        ("pr", "list"), ("pr", "show", "1"), ("explain", "T1"), ("explain", "impl-agent-1"),
        ("logs", "impl-agent-1"), ("logs", "r1"), ("agent", "list"), ("doctor",), ("_news",),
        ("agent", "show", "impl-agent-1"), ("clean", "--dry-run"), ("tick", "--dry-run"),
        ("_history",), ("task", "show", LOUD), ("explain", LOUD), ("logs", LOUD), ("tick",),
    ):  # fmt: skip
        done = cli(*words)
        assert quiet(done.out + done.err), words
        assert "red" in done.out + done.err or words[0] not in ("inbox", "explain"), words


NAMES = ["../../../agents.yaml", "-rf", "--help-me", "/etc/passwd", "a\nb", "\udcff\udcfe",
         "x" * 5000, ".", "..", "*", "$(id)", "T1/../T1", "\x00"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_word_in_the_place_of_an_id_is_refused_and_changes_nothing(
    project: Layout, cli: Cli, name: str, unchanged: Callable[[], None]
) -> None:
    for words in (
        ("task", "show"), ("task", "cancel"), ("task", "retry"), ("logs",), ("explain",),
        ("pr", "show"), ("pr", "merge"), ("stop",), ("run",), ("agent", "show"),
        ("inbox", "dismiss"), ("agent", "remove"),
    ):  # fmt: skip
        done = cli(*words, "--", name)
        assert done.code in (1, 2), words
        assert quiet(done.out + done.err)
    assert cli("agent", "add", "--role", "implementer", "--", name).code in (1, 2)
    unchanged()


FILES = [b"a\nb.md", b"\x1b[2J.md", b"-rf.md", b"..md", b"\xff\xfe.md", b"x" * 252 + b".md",
         b"$(touch evil).md", b"T1;.md", b" .md", b"HEAD.md"]  # fmt: skip


def test_a_file_of_any_name_is_a_task_or_reported_and_blocks_nothing(
    project: Layout, cli: Cli
) -> None:
    folder = os.fsencode(project.state("incoming"))
    for name in FILES:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"# Do it\n\nROLE: implement\n\nText\n")
    listed = cli("task", "list", "--json")
    assert listed.code == 0
    assert all(task["id"].isascii() and "/" not in task["id"] for task in listed.json)
    done = cli("status")
    assert done.code == 0
    assert quiet(done.out)
    assert {os.path.basename(os.fsencode(t["path"])) for t in listed.json} <= set(FILES)
    assert run_tick(project, time.time(), dry_run=True).good
    assert sys.getfilesystemencoding() == "utf-8"


@pytest.mark.parametrize(
    "branch", ["--upload-pack=touch x", "-", "../../x", "a b", "@{-1}", "refs/heads/main:x", "\x1b"]
)
def test_any_branch_in_a_task_starts_no_program_and_fails_only_that_task(
    world: World, branch: str
) -> None:
    world.create()
    text = f"# [T1] Do it\n\nROLE: implement\nBRANCH: {branch}\n\nText\n"
    world.drop("T1.md", text)
    good = world.add("Another one")
    world.tick_until_in("done", good)
    world.tick_until(lambda: "T1.md" not in world.places()["claimed"])
    assert not (world.root / "x").exists()
