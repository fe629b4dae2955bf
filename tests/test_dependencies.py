"""Dependencies: when they are met, cycles, and work on top of delivered work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Done
from conftest import git as sh
from harness import World, scratch
from store_contract import entry, new_task
from test_landing import NOW
from test_landing import World as Landing

from orchestrator.git import contents, repository
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import Entry, PullRequest, Task
from orchestrator.plan import dependencies
from orchestrator.pulls import cuts, landing
from orchestrator.tasks import history


def task(task_id: str, state: str, *depends_on: str, pr: str | None = None) -> Task:
    return Task(task_id, task_id, "implement", state, "", depends_on=depends_on, pr=pr)


def pull_request(pr_id: str, state: str, head: str = "a" * 40) -> PullRequest:
    return PullRequest(pr_id, None, f"agent/{pr_id}", "main", head, "T", state)


def judged(
    tasks: list[Task], prs: list[PullRequest], wanted: str, *, delivered: bool = False
) -> str:
    by_id = {each.id: each for each in tasks}
    found = dependencies.closure(
        [each for each in tasks if each.state == "incoming"], by_id.get, prs
    )
    return dependencies.verdicts([wanted], found, prs, delivered=delivered)[wanted]


@pytest.mark.parametrize(
    ("state", "pr", "merged", "delivered"),
    [
        ("done", "open", "waiting: its pull request 1 is open", "met"),
        ("done", "merged", "met", "met"),
        ("done", "closed", "broken: its pull request 1 was closed", None),
        ("done", None, "met", "met"),
        # Sent back for rework: what it delivered is not what it will deliver.
        ("incoming", "open", "waiting: it is in incoming", None),
        ("claimed", "open", "waiting: it is in claimed", None),
        ("failed", "open", "broken: it failed (no reason given)", None),
    ],
)
def test_when_a_dependency_is_met(state: str, pr: str | None, merged: str, delivered: str) -> None:
    tasks = [task("A", state, pr="1" if pr else None), task("B", "incoming", "A")]
    prs = [pull_request("1", pr)] if pr else []
    assert judged(tasks, prs, "A") == merged
    assert judged(tasks, prs, "A", delivered=True) == (delivered or merged)


def test_a_dependency_on_a_review_is_met_when_the_review_is_done() -> None:
    """Its `pr` is that of the work that it reviewed, which may be open, merged or closed."""
    waits = task("B", "incoming", "REVIEW-a")
    prs = [pull_request("1", "open")._replace(task="A")]
    for state, verdict in (("done", "met"), ("incoming", "waiting: it is in incoming")):
        review = task("REVIEW-a", state, pr="1")._replace(reviews="A")
        assert judged([review, waits], prs, "REVIEW-a") == verdict


@pytest.mark.parametrize("state", ["incoming", "claimed", "blocked", "done"])
def test_a_cycle_is_one_through_unfinished_tasks_in_any_state(state: str) -> None:
    prs = [pull_request("1", "open")]
    tasks = [task("A", state, "B", pr="1"), task("B", "incoming", "A")]
    assert judged(tasks, prs, "A") == "broken: it is part of a cycle"


def test_a_finished_task_closes_no_cycle() -> None:
    tasks = [task("A", "done", "B", pr="1"), task("B", "incoming", "A")]
    assert judged(tasks, [pull_request("1", "merged")], "A") == "met"


def test_a_task_that_depends_on_itself_is_a_cycle() -> None:
    assert judged([task("A", "incoming", "A")], [], "A") == "broken: it is part of a cycle"


def test_what_depends_on_a_cycle_is_not_part_of_it() -> None:
    tasks = [task("A", "incoming", "B"), task("B", "blocked", "A"), task("C", "incoming", "A")]
    assert judged(tasks, [], "C") == "waiting: it is in incoming"
    assert judged(tasks, [], "A") == "broken: it is part of a cycle"


@pytest.mark.parametrize("last", [(), ("T0",)], ids=["chain", "cycle"])
def test_thousands_of_tasks_that_depend_on_each_other_are_judged(last: tuple[str, ...]) -> None:
    number = 20_000
    tasks = [task(f"T{n}", "incoming", f"T{n + 1}") for n in range(number)]
    tasks.append(task(f"T{number}", "incoming", *last))
    by_id = {each.id: each for each in tasks}
    found = dependencies.closure(tasks, by_id.get, [])
    assert dependencies.circular(found, {}) == (set(by_id) if last else set())


def test_a_history_edited_by_hand_nests_parts_deeply_and_in_a_loop_without_harm() -> None:
    deep = [task(f"T{n}", "done")._replace(parts=(f"T{n + 1}",)) for n in range(3000)]
    root = task("R", "incoming", "T0")
    assert judged([root, *deep], [], "T0").startswith("broken: its part T1: its part T2: ")
    loop = [task("T0", "done")._replace(parts=("B",)), task("B", "done")._replace(parts=("T0",))]
    assert judged([root, *loop], [], "T0").startswith("broken: ")


def test_the_levels_of_a_chain_name_each_task_once() -> None:
    tasks = [
        task("A", "incoming", "B", "C"),
        task("B", "incoming", "C", "D"),
        task("C", "incoming", "E"),
        task("D", "done", "F"),
        task("E", "incoming", "A"),
    ]
    by_id = {each.id: each for each in tasks}
    found = dependencies.closure(tasks[:1], by_id.get, [])
    assert dependencies.levels(tasks[0], found) == [["B", "C"], ["D", "E"], ["A"]]


# --- where the branch is cut from ----------------------------------------------------------------


class Delivered(Landing):
    """Works of several tasks, with `dependencies: delivered`."""

    @staticmethod
    def default_config() -> Config:
        return Landing.default_config()._replace(dependencies="delivered")

    def cut(self, *depends_on: str, ask: bool = True) -> cuts.Cut | None:
        waiting = task("W", "incoming", *depends_on)
        prs = self.forge.refresh()
        found = dependencies.closure([waiting], self.store.find, prs)
        return cuts.find(self.layout, self.config, [waiting], found, prs, ask=ask).get("W")

    def depend(self, name: str, changes: dict[str, str], *depends_on: str) -> PullRequest:
        """Deliver work that is cut from what its dependencies delivered."""
        cut = self.cut(*depends_on)
        assert cut
        assert cut.commit
        self.store.add(new_task(name, depends_on=depends_on))
        self.store.move(
            self.store.find(name), "claimed", entry("claimed", "R", agent="a", cut=cut.commit)
        )
        head = self.branch(name, changes, cut.commit)
        wanted = PullRequest("", name, f"agent/{name}", "main", head, f"Title of {name}", "open")
        pr = self.forge.open(wanted, "body")
        self.store.move(self.store.find(name), "done", entry("done", "R", pr=pr.id, head=head))
        self.judge(name, "approved", head)
        return pr


@pytest.fixture
def world(repo: Path, tmp_path: Path) -> Delivered:
    remote = tmp_path / "remote.git"
    sh(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    sh(repo, "remote", "add", "origin", str(remote))
    sh(repo, "push", "--quiet", "origin", "main")
    return Delivered(repo, remote)


def test_the_branch_is_cut_from_the_commit_that_the_dependency_delivered(world: Delivered) -> None:
    pr = world.deliver("A", {"a.txt": "a\n"})
    assert world.cut("A") == cuts.Cut(pr.head)


def test_of_several_dependencies_the_others_are_merged_in_once_and_alike(world: Delivered) -> None:
    one, two = world.deliver("A", {"a.txt": "a\n"}), world.deliver("B", {"b.txt": "b\n"})
    cut = world.cut("A", "B")
    assert cut
    assert cut.commit
    parents = sh(world.repo, "log", "-1", "--format=%P", cut.commit).split()
    assert parents == [one.head, two.head]
    assert sh(world.repo, "ls-tree", "--name-only", cut.commit).split()[-2:] == ["a.txt", "b.txt"]
    assert contents.stacked(str(world.repo), (one.head, two.head)) == cut.commit
    assert world.cut("A", "B", ask=False) == cut


def test_the_base_is_merged_in_if_a_dependency_was_merged_already(world: Delivered) -> None:
    first = world.deliver("A", {"a.txt": "a\n"})
    world.deliver("B", {"b.txt": "b\n"}, approved=False)
    assert world.land() == [f"merged {first.id} as {world.main()[:12]}"]
    sh(world.repo, "fetch", "--quiet")
    cut = world.cut("A", "B")
    assert cut
    assert cut.commit
    assert {"a.txt", "b.txt"} <= set(sh(world.repo, "ls-tree", "--name-only", cut.commit).split())


def test_a_squashed_dependency_does_not_conflict_with_work_on_top_of_it(world: Delivered) -> None:
    squashing(world)
    world.deliver("A", {"a.txt": "1\n2\n"})
    second = world.depend("B", {"a.txt": "1\n2 of B\n"}, "A")
    world.deliver("C", {"c.txt": "c\n"}, approved=False)
    world.land()
    sh(world.repo, "fetch", "--quiet")
    cut = world.cut("A", "C", "B")
    assert cut
    assert cut.commit
    assert sh(world.repo, "show", f"{cut.commit}:a.txt") == "1\n2 of B"
    assert {"a.txt", "c.txt"} <= set(sh(world.repo, "ls-tree", "--name-only", cut.commit).split())
    assert repository.is_ancestor(str(world.repo), second.head, cut.commit)
    assert world.cut("A", "C", "B", ask=False) == cut


def test_dependencies_that_conflict_are_named_with_their_files(world: Delivered) -> None:
    for name in ("A", "B"):
        world.deliver(name, {"a.txt": f"{name}\n", f"{name}.txt": "x\n"})
    cut = world.cut("A", "B")
    assert cut == cuts.Cut(None, "what its dependencies delivered conflicts in: a.txt")
    assert world.cut("A", "B", ask=False) == cut


def test_a_command_that_reads_makes_no_merge(world: Delivered) -> None:
    world.deliver("A", {"a.txt": "a\n"})
    world.deliver("B", {"b.txt": "b\n"})
    before = sh(world.repo, "count-objects", "-v")
    assert world.cut("A", "B", ask=False) == cuts.Cut()
    assert sh(world.repo, "count-objects", "-v") == before


# --- landing -------------------------------------------------------------------------------------


def test_a_pull_request_lands_after_that_of_its_dependency(world: Delivered) -> None:
    world.deliver("A", {"a.txt": "a\n"}, approved=False)
    top = world.depend("B", {"b.txt": "b\n"}, "A")
    assert world.land() == []
    assert world.state(top) == ("open", "approved")
    with pytest.raises(OrchestratorError, match="B depends on A, whose pull request 1 is open"):
        landing.merge(world.layout, world.config, top, NOW)
    world.judge("A", "approved", world.forge.show("1").head)
    assert [line[:8] for line in world.land()] == ["merged 1"]
    assert [line[:8] for line in world.land()] == ["merged 2"]
    assert world.has("b.txt")


def test_a_dependent_lands_although_its_dependency_was_squashed(world: Delivered) -> None:
    world.config = world.config._replace(review=world.config.review._replace(merge_method="squash"))
    world.deliver("A", {"a.txt": "a\n"})
    world.depend("B", {"b.txt": "b\n"}, "A")
    world.land()
    assert [line[:8] for line in world.land()] == ["merged 2"]
    assert world.has("b.txt")


def test_a_dependent_lands_although_its_dependency_was_reworked(world: Delivered) -> None:
    first = world.deliver("A", {"a.txt": "a\n"})
    world.depend("B", {"b.txt": "b\n"}, "A")
    head = world.branch("A", {"a.txt": "better\n"})
    world.forge.book.write(first._replace(head=head))
    world.judge("A", "approved", head)
    world.land()
    assert [line[:8] for line in world.land()] == ["merged 2"]
    assert sh(world.repo, "show", f"{world.main()}:a.txt") == "better"


def squashing(world: Delivered) -> None:
    world.config = world.config._replace(review=world.config.review._replace(merge_method="squash"))


def test_work_on_the_same_lines_lands_after_its_squashed_dependency(world: Delivered) -> None:
    squashing(world)
    world.deliver("A", {"a.txt": "1\n2\n3\n"})
    middle = world.depend("B", {"a.txt": "1\n2\n3 of B\n"}, "A")
    last = world.depend("C", {"a.txt": "1 of C\n2\n3 of B\n"}, "B")
    world.land()
    world.push_to_main({"elsewhere.txt": "x\n"})
    world.land()
    new = world.forge.show(middle.id).head
    assert new != middle.head
    parents = sh(world.repo, "log", "-1", "--format=%P", new).split()
    assert parents[0] == middle.head, "the author's commit was rewritten"
    assert [line[:8] for line in world.land()] == ["merged 3"]
    assert [world.forge.show(pr).state for pr in ("1", "2", "3")] == ["merged"] * 3
    assert sh(world.repo, "show", f"{world.main()}:a.txt") == "1 of C\n2\n3 of B"
    assert world.has("elsewhere.txt")
    assert sh(world.remote or world.repo, "rev-list", "--merges", "--count", "main") == "0"
    assert world.store.read(world.store.find("C")).history[-1].fields["of"] == last.head
    assert not [e for t in "BC" for e in history_of(world, t) if e.event == "reopened"]


def history_of(world: Delivered, name: str) -> Iterator[Entry]:
    yield from world.store.read(world.store.find(name)).history


def test_what_a_rework_removed_does_not_come_back_with_the_dependent(world: Delivered) -> None:
    squashing(world)
    first = world.deliver("A", {"a.txt": "a\n", "wrong.txt": "x\n"})
    world.depend("B", {"b.txt": "b\n"}, "A")
    gone = world.repo.parent / "gone"
    sh(world.repo, "worktree", "add", "--quiet", "--detach", str(gone), first.head)
    sh(gone, "rm", "--quiet", "wrong.txt")
    sh(gone, "commit", "--quiet", "--message", "Without it")
    head = sh(gone, "rev-parse", "HEAD")
    sh(world.repo, "worktree", "remove", "--force", str(gone))
    sh(world.repo, "push", "--quiet", "origin", f"{head}:refs/heads/{first.branch}")
    sh(world.repo, "update-ref", f"refs/heads/{first.branch}", head)
    world.forge.book.write(first._replace(head=head))
    world.judge("A", "approved", head)
    world.land()
    assert [line[:8] for line in world.land()] == ["merged 2"]
    assert world.has("b.txt")
    assert not world.has("wrong.txt")


def test_a_true_conflict_with_reworked_work_goes_back_to_its_author(world: Delivered) -> None:
    squashing(world)
    first = world.deliver("A", {"a.txt": "a\n"})
    top = world.depend("B", {"a.txt": "a of B\n"}, "A")
    head = world.branch("A", {"a.txt": "better\n"})
    world.forge.book.write(first._replace(head=head))
    world.judge("A", "approved", head)
    world.land()
    [said] = world.land()
    assert said.startswith("sent 2 back: agent/B conflicts with main")
    assert world.store.find("B").state == "incoming"
    assert sh(world.remote or world.repo, "rev-parse", top.branch) == top.head


def test_a_dependent_of_closed_work_does_not_land_by_itself(world: Delivered) -> None:
    first = world.deliver("A", {"a.txt": "a\n"})
    world.depend("B", {"b.txt": "b\n"}, "A")
    world.forge.close(first.id)
    assert world.land() == []
    assert not world.has("b.txt")


# --- commands, and the whole product -------------------------------------------------------------


def test_task_add_names_a_cycle_at_once(cli: Any, project: Layout) -> None:
    for name, other in (("A", "B"), ("B", "A")):
        text = f"# [{name}] Title {name}\n\nROLE: implement\nDEPENDS_ON: {other}\n"
        Path(project.state("incoming"), f"{name}.md").write_text(text)
    done: Done = cli("task", "add", "--title", "T", "--role", "implement", "--depends-on", "A")
    assert done.code == 0
    assert "warning: the task cannot start" in done.err
    assert "in a cycle: A, B" in done.err
    shown = cli("explain", done.out.strip()).out
    assert "depends on: A (broken: it is part of a cycle)" in shown
    assert "through that, on: B (broken: it is part of a cycle)" in shown


def test_explain_is_bounded(cli: Any, project: Layout) -> None:
    for number in range(40):
        text = f"# [T{number}] Title {number}\n\nROLE: implement\nDEPENDS_ON: T{number + 1}\n"
        Path(project.state("incoming"), f"T{number}.md").write_text(text)
    lines = cli("explain", "T0").out.splitlines()
    chain = [line for line in lines if line.startswith(("depends on", "through that", "and so on"))]
    assert len(chain) == 20
    assert chain[1] == "through that, on: T2 (waiting: it is in incoming)"
    assert chain[-1] == "and so on, 21 levels more"


@pytest.fixture
def project_world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with scratch(tmp_path, tmp_path_factory) as made:
        yield made


def test_work_starts_on_top_of_delivered_work_and_only_its_own_commits_count(
    project_world: World,
) -> None:
    world = project_world
    world.create(dependencies="delivered", agents=[World.agent("impl-1"), World.agent("impl-2")])
    first = world.add("First")
    second = world.add("Second", "implement", "--depends-on", first)
    third = world.add("Third", "implement", "--depends-on", second)
    nothing = {"steps": [], "report": {"outcome": "done", "summary": "Nothing."}}
    world.script(third, nothing, {})
    world.tick_until_in("done", first, second, third)
    by_task = {pr["task"]: pr for pr in world.prs()}
    heads = [by_task[each]["head"] for each in (first, second, third)]
    assert {pr["base"] for pr in by_task.values()} == {"main"}
    assert world.git("rev-parse", f"{heads[1]}~1") == heads[0]
    assert world.starts(second)[0]["head"] == heads[0]
    assert heads[0] in world.seen(second)["instructions"]
    # The first attempt of the third task committed nothing: what it was cut from is not its work.
    assert len(world.starts(third)) == 2
    assert "no_commits" in world.text(third)
    refused = world.refused("pr", "merge", str(by_task[second]["id"]))
    assert f"{second} depends on {first}" in refused.err
    for each in (first, second, third):
        world.ok("pr", "merge", str(by_task[each]["id"]))
    assert world.git("show", f"{world.remote_sha('main')}:{third}.txt")


def test_on_github_work_on_top_of_squashed_work_is_updated_by_landing_and_by_its_next_run(
    project_world: World,
) -> None:
    world = project_world
    world.create(forge="github", dependencies="delivered")
    world.on_github(methods=["squash"])
    first = world.add("First")
    second = world.add("Second", "implement", "--depends-on", first)
    third = world.add("Third", "implement", "--depends-on", second)
    for name in (first, second, third):
        world.script(name, {"steps": [["write", "shared.txt", f"{name}\n"], ["commit", name]]})
    world.tick_until_in("done", first, second, third)
    by_task = {pr["task"]: pr for pr in world.prs()}
    world.ok("pr", "merge", str(by_task[first]["id"]))
    world.ok("pr", "merge", str(by_task[second]["id"]))
    [row] = [pr for pr in world.prs() if pr["task"] == second]
    assert row["state"] == "merged"
    assert row["head"] != by_task[second]["head"]
    # The third task gets another run: it starts from the updated branch.
    world.script(third, {"steps": [["work"]]})
    world.ok("pr", "request-changes", str(by_task[third]["id"]), "Add a file.")
    world.tick_until(lambda: len(world.starts(third)) == 2, "the rework")
    world.tick_until_in("done", third)
    start = world.starts(third)[1]["head"]
    parents = world.git("log", "-1", "--format=%P", start).split()
    assert parents == [by_task[third]["head"], world.remote_sha("main")]
    world.ok("pr", "approve", str(by_task[third]["id"]))
    world.ok("pr", "merge", str(by_task[third]["id"]))
    assert world.git("show", f"{world.remote_sha('main')}:shared.txt") == third
    assert world.task(third)["attempts"] == 0


def test_a_person_is_asked_once_what_becomes_of_work_on_top_of_closed_work(
    project_world: World,
) -> None:
    world = project_world
    world.create(dependencies="delivered")
    first = world.add("First")
    second = world.add("Second", "implement", "--depends-on", first)
    world.tick_until_in("done", first, second)
    by_task = {pr["task"]: pr["id"] for pr in world.prs()}
    # No agent reviews: each pull request waits for a person.
    assert [item["task"] for item in world.json("inbox")] == [first, second]
    world.ok("pr", "close", str(by_task[first]))
    [item] = world.json("inbox")
    assert (item["id"], item["kind"]) == (second, "escalation")
    assert f"contains commits of {first}, whose pull request 1 was closed" in item["text"]
    world.ok("inbox", "dismiss", second)
    assert world.json("inbox") == []
    # A person may still want it.
    world.ok("pr", "merge", str(by_task[second]))
    assert world.git("show", f"{world.remote_sha('main')}:{first}.txt")


def test_no_run_is_paid_for_while_the_dependencies_conflict(project_world: World) -> None:
    world = project_world
    world.create(dependencies="delivered")
    one, two = world.add("One"), world.add("Two")
    for each in (one, two):
        world.script(each, {"steps": [["write", "same.txt", each], ["commit", f"work on {each}"]]})
    world.tick_until_in("done", one, two)
    third = world.add("Third", "implement", "--depends-on", f"{one},{two}")
    world.ok("tick")
    world.ok("tick")
    [rule] = [
        rule
        for rule in world.json("explain", third)["rules"]
        if rule["code"] == "blocked_by_dependency"
    ]
    assert not rule["ok"]
    assert rule["detail"] == "what its dependencies delivered conflicts in: same.txt"
    assert not world.starts(third)


def test_the_cut_of_a_task_is_that_of_the_claim_that_made_its_branch() -> None:
    entries = [entry("claimed", "R1", cut="a"), entry("claimed", "R2")]
    assert history.cut(entries) == "a"
    assert history.cut([]) is None
