"""The overlap radar: which works change the same lines, who is held, and what is shown."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import commits
import pytest
from conftest import git as sh
from harness import World, scratch
from store_contract import entry, new_task
from test_landing import World as Landing

from orchestrator.git import base_branch, overlap
from orchestrator.git.overlap import Changes
from orchestrator.model.config import Config, Role
from orchestrator.pulls import landing_queue, states
from orchestrator.pulls.overlap import Radar
from orchestrator.run import instructions

ROLES = {
    "implementer": Role("implementer", "implement", "pull_request", (), (), (), ""),
    "reviewer": Role("reviewer", "review", "verdict", (), (), (), ""),
}
TEN = "".join(f"{n}\n" for n in range(1, 11))


# --- what a work changes -------------------------------------------------------------------------


def committed(repo: Path, changes: dict[str, str | bytes | None], since: str = "main") -> str:
    """Commit changes; None deletes a file. Return the commit."""
    return commits.commit(repo, "refs/tests/work", changes, base=since, message="Work")


def changes(repo: Path, until: str | None, since: str = "main") -> Changes:
    found = overlap.changes(str(repo), since, until)
    assert found
    return found


@pytest.fixture
def ten(repo: Path) -> Path:
    """A repository whose main branch has a file of ten lines."""
    commits.commit(repo, "refs/heads/main", {"ten.txt": TEN}, base="main", message="Ten lines")
    sh(repo, "reset", "--quiet", "--hard")
    return repo


@pytest.mark.parametrize(
    ("text", "ranges", "lines"),
    [
        (TEN.replace("3\n", "x\n", 1), ((3, 3),), 2),
        (TEN.replace("2\n3\n", ""), ((2, 3),), 2),
        (TEN.replace("5\n", "5\nx\ny\n"), ((5, 5),), 2),
        ("x\n" + TEN, ((0, 0),), 1),
        (TEN.replace("1\n", "x\n", 1).replace("9\n", "y\n"), ((1, 1), (9, 9)), 4),
        (TEN.rstrip("\n"), ((10, 10),), 2),
        # Lines that look like headers of a diff.
        (TEN.replace("4\n", "@@ -1 +1 @@\n-- a/ten.txt\ndiff --git a/x b/x\n"), ((4, 4),), 4),
    ],
)
def test_changed_lines_are_those_of_the_common_ancestor(
    ten: Path, text: str, ranges: overlap.Ranges, lines: int
) -> None:
    found = changes(ten, committed(ten, {"ten.txt": text}))
    assert found == Changes({"ten.txt": ranges}, lines)


def test_new_deleted_and_binary_files_change_as_a_whole(ten: Path) -> None:
    commit = committed(ten, {"ten.txt": None, "new.txt": "a\n", "b.bin": b"\0\1"})
    assert changes(ten, commit).files == {"ten.txt": (), "new.txt": (), "b.bin": ()}


def test_a_renamed_file_is_deleted_and_new(ten: Path) -> None:
    commit = committed(ten, {"ten.txt": None, "moved.txt": TEN})
    assert changes(ten, commit).files == {"ten.txt": (), "moved.txt": ()}


@pytest.mark.parametrize(
    "name", ["ü ber.txt", "a b/c.txt", 'quo"te.txt', "tab\there", "line\nfeed"]
)
def test_every_name_of_a_file_is_read_as_it_is(ten: Path, name: str) -> None:
    assert changes(ten, committed(ten, {name: "a\n"})).files == {name: ()}


@pytest.mark.parametrize(
    "setting",
    [
        "diff.noprefix=true",
        "diff.mnemonicPrefix=true",
        "diff.interHunkContext=50",
        "diff.context=9",
        "diff.external=/bin/false",
        "diff.renames=copies",
        "color.diff=always",
        "core.quotePath=true",
    ],
)
def test_the_users_settings_of_diff_change_nothing(ten: Path, setting: str) -> None:
    text = TEN.replace("1\n", "x\n", 1).replace("9\n", "y\n")
    commit = committed(ten, {"ten.txt": text, "ü.txt": TEN})
    sh(ten, "config", *setting.split("="))
    assert changes(ten, commit).files == {"ten.txt": ((1, 1), (9, 9)), "ü.txt": ()}


def test_a_worktree_has_uncommitted_and_new_files_and_its_index_stays(ten: Path) -> None:
    sh(ten, "checkout", "--quiet", "--detach", "main")
    (ten / ".git/info/exclude").write_text("ignored\n")
    (ten / "ten.txt").write_text(TEN.replace("7\n", "x\n"))
    (ten / "new.txt").write_text("a\n")
    (ten / "ignored").write_text("a\n")
    index = (ten / ".git/index").stat().st_mtime_ns
    assert changes(ten, None).files == {"ten.txt": ((7, 7),), "new.txt": ()}
    assert (ten / ".git/index").stat().st_mtime_ns == index


def test_of_very_many_files_only_the_names_count(ten: Path) -> None:
    many = {f"f{n}.txt": "a\n" for n in range(overlap.MAX_FILES)}
    found = changes(ten, committed(ten, {**many, "ten.txt": TEN.replace("1\n", "x\n", 1)}))
    assert (found.by_line, len(found.files), found.files["ten.txt"]) == (False, 501, ())


def test_of_a_very_large_diff_only_the_names_count(ten: Path) -> None:
    large = "".join(f"{n} {'x' * 90}\n" for n in range(30_000))
    began = time.monotonic()
    found = changes(ten, committed(ten, {"large.txt": large, "ten.txt": "x\n"}))
    assert (found.by_line, set(found.files)) == (False, {"large.txt", "ten.txt"})
    assert time.monotonic() - began < 8


def test_commits_that_are_not_there_have_no_changes(ten: Path) -> None:
    assert overlap.changes(str(ten), "main", "a" * 40) is None


@pytest.mark.parametrize(
    ("one", "other", "touch"),
    [
        (((1, 1),), ((4, 4),), True),
        (((1, 1),), ((5, 5),), False),
        (((8, 9),), ((1, 5),), True),
        (((1, 2), (50, 60)), ((20, 20), (63, 63)), True),
        ((), ((5, 5),), True),
        ((), (), True),
    ],
)
def test_changes_touch_within_three_lines(
    one: overlap.Ranges, other: overlap.Ranges, touch: bool
) -> None:
    a, b = Changes({"a": one, "x": ()}), Changes({"a": other, "y": ()})
    assert overlap.touched(a, b) == overlap.touched(b, a) == (["a"] if touch else [])


# --- who overlaps whom ---------------------------------------------------------------------------


class Works(Landing):
    """Open pull requests on a file of ten lines."""

    @staticmethod
    def default_config() -> Config:
        return Landing.default_config()._replace(overlap="hold")

    def change(self, task: str, line: int, lines: int = 1) -> None:
        """Deliver a task that replaces one line."""
        self.deliver(task, {"ten.txt": TEN.replace(f"{line}\n", "x\n" * lines, 1)})

    def pairs(self) -> list[tuple[str, str, tuple[str, ...]]]:
        found = Radar(self.layout, self.config).overlaps(self.forge.refresh())
        return [(each.one.task, each.other.task, each.files) for each in found]

    def held(self, *tasks: str) -> dict[str, str]:
        """Return why `overlap: hold` holds waiting tasks."""
        radar = Radar(self.layout, self.config, keep=True)
        waiting = [self.store.find(task) for task in tasks]
        return radar.held(waiting, ROLES, self.forge.refresh())

    def wait(self, task: str, text: str = "Text.", **more: Any) -> None:
        self.store.add(new_task(task, body=f"## Context\n{text}\n", **more))


@pytest.fixture
def works(ten: Path, remote: Path) -> Works:
    return Works(ten, remote)


def test_pull_requests_that_change_near_lines_overlap(works: Works) -> None:
    for task, line in (("A", 1), ("B", 4), ("C", 9)):
        works.change(task, line)
    assert works.pairs() == [("A", "B", ("ten.txt",))]
    works.config = works.config._replace(overlap="off")
    assert works.pairs() == []


def test_a_reviewer_is_told_of_other_work_on_the_same_lines_only(works: Works) -> None:
    for task, line in (("A", 1), ("B", 4), ("C", 9)):
        works.change(task, line)
    job: Any = SimpleNamespace(layout=works.layout, config=works.config)
    told = {pr.task: list(instructions._overlaps(job, pr)) for pr in works.forge.book.list()}
    said = "Also at work: pull request {} of {} changes the same lines of `ten.txt`"
    assert told == {"A": [said.format("2", "B")], "B": [said.format("1", "A")], "C": []}


def test_work_that_builds_on_other_work_does_not_overlap_with_it(works: Works) -> None:
    works.change("A", 1)
    works.deliver("C", {"c.txt": "c\n"})
    cut = sh(works.repo, "rev-parse", "agent/A")
    for name, line in (("B", "9"), ("D", "5")):
        works.store.add(new_task(name, depends_on=("A",)))
        found = works.store.move(
            works.store.find(name), "claimed", entry("claimed", f"R{name}", agent="a", cut=cut)
        )
        changed = sh(works.repo, "show", f"{cut}:ten.txt").replace(line, "y") + "\n"
        head = works.branch(name, {"ten.txt": changed}, cut)
        wanted = works.forge.show("1")._replace(task=name, branch=f"agent/{name}", head=head)
        pr = works.forge.open(wanted, "")
        works.store.move(found, "done", entry("done", f"R{name}", pr=pr.id, head=head))
    # B and D contain the change of line 1; their own changes are four lines apart.
    assert works.pairs() == []


def test_what_commits_differ_in_is_found_out_once(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    works.change("A", 1)
    works.change("B", 2)
    asked = []
    monkeypatch.setattr(
        overlap, "changes", lambda *words: asked.append(words) or Changes({"ten.txt": ()})
    )
    prs = works.forge.refresh()
    before = sorted(Path(works.layout.cache).iterdir())
    assert len(Radar(works.layout, works.config).overlaps(prs)) == 1
    assert (len(asked), sorted(Path(works.layout.cache).iterdir())) == (2, before)
    for _ in range(2):
        Radar(works.layout, works.config, keep=True).works(prs)
    assert len(asked) == 4
    works.branch("B", {"other.txt": "x\n"})
    changed = [pr._replace(head=sh(works.repo, "rev-parse", pr.branch)) for pr in prs]
    Radar(works.layout, works.config, keep=True).works(changed)
    assert len(asked) == 5
    # A base that moves changes nothing of what the branches changed since they left it.
    sh(works.repo, "update-ref", "refs/heads/main", committed(works.repo, {"base.txt": "x\n"}))
    Radar(works.layout, works.config, keep=True).works(changed)
    assert len(asked) == 5
    # What the file says is no word for git, and no change of another commit.
    for lie in ("--output=stolen", "HEAD", 7, None):
        for pair in list(memory := json.loads((cache := _cache(works)).read_text())):
            memory[pair] = lie
        cache.write_text(json.dumps(memory))
        asked.clear()
        Radar(works.layout, works.config, keep=True).works(changed)
        assert len(asked) == 2
        assert all(re.fullmatch("[0-9a-f]{40}", word) for words in asked for word in words[1:])


def _cache(works: Works) -> Path:
    return Path(works.layout.cache, "overlap.json")


def test_git_is_not_asked_about_a_single_work(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    works.change("A", 1)
    works.change("B", 2)
    works.forge.close("1")
    prs = works.forge.refresh()
    monkeypatch.setattr(base_branch, "remote_of", lambda *_: pytest.fail("git was asked"))
    assert Radar(works.layout, works.config).overlaps(prs) == []


# --- `overlap: hold` -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("Change `ten.txt`, please.", True),
        ("See ./ten.txt.", True),
        ("ten.txt:3 is wrong", True),
        ("(ten.txt)", True),
        ("Change tenants.txt or often.txt", False),
        ("Ten texts", False),
    ],
)
def test_a_task_is_held_while_its_text_names_a_file_in_work(
    works: Works, text: str, held: bool
) -> None:
    works.change("A", 1)
    works.wait("W", text)
    said = {"W": "A (pull request 1) is changing ten.txt"} if held else {}
    assert works.held("W") == said


def test_a_file_in_a_folder_may_be_named_by_its_end(works: Works) -> None:
    path = works.repo / "src" / "lib"
    path.mkdir(parents=True)
    sh(works.repo, "checkout", "--quiet", "--detach")
    head = committed(works.repo, {"src/lib/app.py": "a\n", "src/lib/test": "a\n"})
    sh(works.repo, "checkout", "--quiet", "main")
    sh(works.repo, "push", "--quiet", "origin", f"{head}:refs/heads/agent/A")
    sh(works.repo, "update-ref", "refs/heads/agent/A", head)
    works.deliver("A", {"x.txt": "x\n"})
    for name, text in (("B", "app.py"), ("C", "lib/app.py"), ("D", "a test"), ("E", "b/app.py")):
        works.wait(name, text)
    assert set(works.held("B", "C", "D", "E")) == {"B", "C"}


def test_a_task_is_held_for_the_files_of_its_own_earlier_commits(works: Works) -> None:
    works.change("A", 1)
    works.branch("W", {"ten.txt": TEN.replace("9\n", "x\n")})
    works.wait("W")
    task = works.store.find("W")._replace(work_branch="agent/W")
    radar = Radar(works.layout, works.config)
    assert "ten.txt" in radar.held([task], ROLES, works.forge.refresh())["W"]


def test_a_held_task_is_free_when_the_other_is_merged_closed_or_failed(works: Works) -> None:
    for name in ("A", "B", "C"):
        works.change(name, 1)
    works.wait("W", "ten.txt")
    works.forge.close("1")
    works.forge.book.record("2", state="merged")
    assert works.held("W") == {"W": "C (pull request 3) is changing ten.txt"}
    works.store.move(works.store.find("C"), "failed", entry("failed"))
    assert works.held("W") == {}


def test_two_waiting_tasks_never_hold_each_other(works: Works) -> None:
    for name in ("A", "B"):
        works.change(name, 1)
        works.store.move(works.store.find(name), "incoming", entry("reopened"))
    tasks = [works.store.find(name)._replace(work_branch=f"agent/{name}") for name in ("A", "B")]
    radar = Radar(works.layout, works.config)
    # The first in the queue goes first.
    assert radar.held(tasks, ROLES, works.forge.refresh()) == {
        "B": "A (pull request 1) is changing ten.txt"
    }


def test_no_task_is_held_by_work_that_waits_for_it(works: Works) -> None:
    works.wait("W", "ten.txt")
    works.wait("V", "Nothing.", depends_on=("W",))
    works.change("A", 1)
    file = Path(works.store.find("A").where)
    file.write_text(file.read_text().replace("ROLE: implement", "ROLE: implement\nDEPENDS_ON: V"))
    assert works.held("W", "V") == {}


def test_a_review_is_never_held(works: Works) -> None:
    works.change("A", 1)
    works.wait("W", "ten.txt", role="review")
    assert works.held("W") == {}


@pytest.mark.parametrize("mode", ["warn", "hold"])
def test_of_two_overlapping_pull_requests_the_smaller_lands_first(works: Works, mode: str) -> None:
    works.change("A", 1, lines=5)
    works.change("B", 2)
    works.change("C", 9)
    config = works.config._replace(overlap=mode)
    known = states.known(works.layout, config) or []
    found = [
        pr for pr in landing_queue.candidates(works.layout, config, known, 0.0) if pr.task != "C"
    ]
    assert [pr.task for pr in found] == (["B", "A"] if mode == "hold" else ["A", "B"])


# --- what people and reviewers see ---------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with scratch(tmp_path, tmp_path_factory) as made:
        yield made


def test_uncommitted_work_is_seen_and_the_reviewer_is_told(world: World) -> None:
    agents = [World.agent("impl-1"), World.agent("impl-2"), World.agent("rev-1", "reviewer")]
    world.create(agents=agents)
    one, two = world.add("One"), world.add("Two")
    world.script(one, {"steps": [["write", "app.py", "x = 1\n"], ["wait", "one"], ["commit"]]})
    world.script(two, {"steps": [["write", "app.py", "y = 1\n"], ["commit"]]})
    world.script("rev-1", {"steps": [["wait", "never"]]})
    world.tick_until(lambda: world.running(one), "the first works")
    world.tick_until_in("done", two)
    overlaps = world.tick_until(lambda: world.status()["overlaps"], "the overlap")
    assert overlaps == [{"a": one, "b": two, "files": ["app.py"], "by_line": True}]
    said = world.run("status").out
    assert f"overlap: {one} and {two} change the same lines of app.py" in said
    [agent] = {start["agent"] for start in world.starts(one)}
    [pr] = world.prs()
    for task in (one, two):
        shown = world.run("explain", task).out
        assert f"overlap: {one} ({agent}) and {two} (pull request {pr['id']}) change" in shown
    world.tick_until(lambda: world.ledger("start", agent="rev-1"), "the review")
    [review] = world.ledger("start", agent="rev-1")
    told = world.seen(review["task"])["instructions"]
    assert f"Also at work: {agent} of {one} changes the same lines of `app.py`" in told


def test_with_hold_a_task_waits_for_the_work_on_its_file(world: World) -> None:
    world.create(overlap="hold", agents=[World.agent("impl-1"), World.agent("impl-2")])
    one = world.add("One")
    world.script(one, {"steps": [["write", "app.py", "x = 1\n"], ["wait", "one"], ["commit"]]})
    world.tick_until(lambda: world.running(one), "the first works")
    two = world.add("Two", "implement", "--body", "Change app.py")
    world.tick_until(lambda: _rule(world, two), "held")
    rule = _rule(world, two)
    assert rule["detail"].endswith("is changing app.py")
    skipped = {a["agent"]: a["reason"] for a in world.tick()["actions"] if a["action"] == "skip"}
    assert "overlap" in skipped.values()
    world.open("one")
    world.tick_until_in("done", one)
    assert _rule(world, two)["detail"] == f"{one} (pull request 1) is changing app.py"
    assert not world.starts(two)
    world.ok("pr", "close", "1")
    world.tick_until_in("done", two)


def _rule(world: World, task: str) -> Any:
    rules = world.json("explain", task)["rules"]
    return next((rule for rule in rules if rule["code"] == "overlap" and not rule["ok"]), None)
