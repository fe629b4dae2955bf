"""The steps that the product names can be taken: each command in them works when typed."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_contract import entry
from test_people import deliver, event, put, work

from orchestrator.cli import command_line, parser
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import UsageError
from orchestrator.model.snapshot import Hold
from orchestrator.model.work import PullRequest
from orchestrator.project import agent_memory
from orchestrator.pulls.local import Local
from orchestrator.system import files
from orchestrator.tasks.file_store import FileStore

Cli = Callable[..., Any]


def add(cli: Cli, title: str, *words: str) -> str:
    added = cli("task", "add", "--title", title, "--role", "implement", *words)
    assert added.code == 0, added
    return str(added.out.strip())


def asks(layout: Layout, cli: Cli) -> None:
    put(layout, add(cli, "Asks"), "blocked", "blocked", question="Which?")


def failed(layout: Layout, cli: Cli) -> None:
    put(layout, add(cli, "Fails"), "failed", "failed", reason="no_commits", error="no_commits: 0")


def never_agrees(layout: Layout, cli: Cli) -> None:
    _, task = deliver(layout, cli, verdict="changes_requested")
    put(layout, task, "blocked", "blocked", question="How?", reason="max_rounds")


def outrun(layout: Layout, cli: Cli) -> None:
    _, task = deliver(layout, cli)
    put(layout, task, "blocked", "blocked", question="Who pushes?", reason="branch_moved")


def never_ready(layout: Layout, cli: Cli) -> None:
    first = add(cli, "First")
    second = add(cli, "Second", "--depends-on", first)
    assert second
    FileStore(layout).move(FileStore(layout).find(first), "failed", entry("cancelled"))
    files.remove(FileStore(layout).find(first).where)


def closed_below(layout: Layout, cli: Cli) -> None:
    config = Path(layout.config)
    config.write_text(f"dependencies: delivered\n{config.read_text()}")
    pr, first = deliver(layout, cli)
    top = add(cli, "On top", "--depends-on", first)
    put(layout, top, "claimed", "claimed", agent="impl-agent-1", cut=pr.head, branch=f"agent/{top}")
    _deliver(layout, cli, top, pr.branch)
    assert cli("pr", "close", pr.id).code == 0


def _deliver(layout: Layout, cli: Cli, task: str, base: str) -> None:
    head = work(Path(layout.root), f"agent/{task}", "top.txt", "top\n", base)
    wanted = PullRequest("", task, f"agent/{task}", "main", head, "On top", "open")
    pr = Local(layout, Config()).open(wanted, "")
    put(layout, task, "done", "done", pr=pr.id, head=head, branch=f"agent/{task}")


def split(layout: Layout, cli: Cli, *, gone: bool = False) -> None:
    task, part = add(cli, "Much"), add(cli, "A part")
    put(layout, part, "failed", "failed", reason="no_commits", error="no_commits: 0")
    put(layout, task, "blocked", "blocked", reason="split", parts=[part])
    if gone:
        files.remove(FileStore(layout).find(part).where)


def split_with_a_part_that_is_gone(layout: Layout, cli: Cli) -> None:
    split(layout, cli, gone=True)


def suspended(layout: Layout, cli: Cli) -> None:
    name = "impl-agent-1"
    os.makedirs(layout.agent(name), exist_ok=True)
    state = agent_memory.read(layout, name)
    agent_memory.write(layout, name, state._replace(suspended="failed 3 times in a row: stalled"))


def approved(layout: Layout, cli: Cli) -> None:
    deliver(layout, cli, verdict="approved")


def refused(layout: Layout, cli: Cli) -> None:
    hold = Hold("system_fault", "base_gone: the remote has no branch main", "push it", 1.0)
    files.write_json(layout.hold, hold._asdict())


def commands(cli: Cli) -> list[list[str]]:
    """Return the commands in the steps that `inbox` shows."""
    steps = [line.strip() for line in cli("inbox").out.splitlines() if line.startswith("  -> ")]
    assert len(steps) == 1, steps
    found = re.split(r"(?:; or)?[:;] (?=orchestrator |inbox )", steps[0].removeprefix("-> "))
    return [shlex.split(each.removeprefix("orchestrator ")) for each in found]


@pytest.mark.parametrize(
    "make",
    [
        asks,
        failed,
        never_agrees,
        outrun,
        never_ready,
        closed_below,
        split,
        split_with_a_part_that_is_gone,
        suspended,
        approved,
        refused,
    ],
)
def test_each_command_that_an_item_names_works(
    project: Layout, cli: Cli, tmp_path: Path, make: Callable[[Layout, Cli], None]
) -> None:
    make(project, cli)
    root, before = Path(project.root), tmp_path / "before"
    shutil.copytree(root, before, symlinks=True)
    named = commands(cli)
    for words in named:
        done = cli(*words)
        assert done.code == 0, (words, done)
        # The next command meets what this one met.
        os.chdir(tmp_path)
        shutil.rmtree(root)
        shutil.copytree(before, root, symlinks=True)
        os.chdir(root)
    assert named


def test_a_part_that_fails_after_the_dismissal_is_an_item_again(project: Layout, cli: Cli) -> None:
    store = FileStore(project)
    task, one, two = add(cli, "Much"), add(cli, "One"), add(cli, "Two")
    put(project, one, "failed", "failed", reason="no_commits")
    put(project, task, "blocked", "blocked", reason="split", parts=[one, two])
    store.note(store.find(task), event(4, "dismissed"))
    assert cli("inbox", "--json").json == []
    store.move(store.find(two), "failed", event(5, "cancelled"))
    [item] = cli("inbox", "--json").json
    assert item["id"] == task
    assert "split into 2 parts, 0 finished, 1 failed, 1 cancelled" in item["text"]
    assert (two in item["text"], one in item["text"]) == (True, False)


# --- every hint in the source ------------------------------------------------------------------

SOURCE = Path(parser.__file__).parents[1]
#: Texts that begin with the program's name, and are no commands.
PROSE = {
    "is not set up in this clone of 1",
    "in the clone",
    "review",  # the mark of a comment on GitHub
    "task add *",  # a permission rule of the client
    "init --schedule 1",  # the kind is filled in
    "task move 1 1",  # the state is filled in
    "first",
    "inbox approve",  # the beginning of a step, which is looked for
}


def texts(path: Path) -> Iterator[str]:
    """Yield the texts in a module that names commands; each value that is filled in is `1`."""
    source = path.read_text()
    if "orchestrator " not in source:  # names no command; parsing takes long
        return
    tree = ast.parse(source)
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for node in joined for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "1" for v in node.values)
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            yield re.sub(r"\{[a-z_.]*\}", "1", str(node.value))


def test_every_command_that_a_text_names_is_one() -> None:
    wrong, count = [], 0
    for path in sorted(SOURCE.rglob("*.py")):
        for text in texts(path):
            for found in re.finditer(r"(?<![\w/.`-])orchestrator ([a-z][^;()`\n,]*)", text):
                said = re.split(r": |  | \| | >|\. [A-Z]| \\$", found[1])[0].strip().rstrip(".:")
                said = said.replace(" ...", "")
                count += 1
                try:
                    command_line.parse(shlex.split(said))
                except (UsageError, SystemExit) as error:
                    is_help = isinstance(error, SystemExit)
                    is_cut = said.startswith("task add --title")  # goes on in the next line
                    if said not in PROSE and not is_help and not is_cut:
                        wrong.append(f"{path.name}: {said}: {error}")
    assert wrong == []
    assert count > 150
