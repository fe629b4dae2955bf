"""Landing: what is merged is what was reviewed and passes together; the rest goes back."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import commits
import pytest
from conftest import git as sh
from conftest import refresh, tree
from store_contract import entry, new_task

from orchestrator.git import remotes, repository, worktree_commands
from orchestrator.layout import Layout
from orchestrator.model.config import Config, Hooks, Retention, Review, Setup
from orchestrator.model.errors import GitError, NotFound, OrchestratorError, SystemFault
from orchestrator.model.work import STATES, Given, PullRequest, RemoteCheck, Task
from orchestrator.project import faults as system_faults
from orchestrator.pulls import (
    book,
    landing,
    landing_queue,
    look,
    merging,
    remote_branches,
    review,
    states,
    verdicts,
)
from orchestrator.pulls.local import Local
from orchestrator.system import files
from orchestrator.tasks import history
from orchestrator.tasks.file_store import FileStore
from orchestrator.upkeep import branches

NOW = 1_800_000_000.0
tips = remotes.tips


def by_others(remote: Path, branch: str, changes: Mapping[str, str | None]) -> str:
    """Commit to a branch of the remote, as somebody else's push does; return the commit."""
    ref, author = f"refs/heads/{branch}", commits.SOMEBODY_ELSE
    return commits.commit(remote, ref, changes, base=ref, message="Elsewhere", author=author)


class World:
    """A repository with branches of agents, a pull request and a done task for each."""

    def __init__(self, repo: Path, remote: Path | None) -> None:
        self.repo, self.remote = repo, remote
        self.layout = Layout(str(repo))
        for folder in (*map(self.layout.state, STATES), self.layout.prs, self.layout.cache):
            files.make_folder(folder)
        (repo / ".git" / "info" / "exclude").write_text(".orchestrator/\n")
        self.config = self.default_config()
        self.store = FileStore(self.layout)
        self.forge = Local(self.layout, self.config)

    @staticmethod
    def default_config() -> Config:
        return Config(
            base_branch="main", forge="local", review=Review(auto_merge=True, max_rounds=2)
        )

    def branch(self, task: str, changes: Mapping[str, str | None], base: str = "main") -> str:
        """Commit changes on a task's branch as an agent does; return the commit."""
        return commits.commit(
            self.repo,
            f"refs/heads/agent/{task}",
            changes,
            base=commits.read(self.repo, f"agent/{task}") or base,
            message=f"Work on {task}",
            push=self.remote,
        )

    def deliver(
        self,
        task: str,
        changes: Mapping[str, str | None],
        *,
        approved: bool = True,
        base: str = "main",
        **facts: Any,
    ) -> PullRequest:
        head = self.branch(task, changes, base)
        wanted = PullRequest("", task, f"agent/{task}", "main", head, f"Title of {task}", "open")
        pr = self.forge.open(wanted, "body")
        self.store.add(new_task(task, **facts))
        self.store.move(
            self.store.find(task), "done", entry("done", f"R-{task}", pr=pr.id, head=head)
        )
        if approved:
            self.judge(task, "approved", head, "Good.")
        return self.forge.show(pr.id)

    def judge(self, task: str, verdict: str, head: str, text: str = "") -> Task:
        """A reviewer's verdict, as the end of its run records it."""
        given = Given("rev-1", "agent", verdict, head, text)
        found = self.store.find(task)
        run = f"{verdict}-{head[:8]}"
        return review.record_verdict(self.store, self.config, found, given, now=NOW - 1, run=run)

    def push_to_main(self, changes: Mapping[str, str | None]) -> str:
        """Somebody else's push."""
        assert self.remote
        return by_others(self.remote, "main", changes)

    def land(self, later: float = 0.0, **config: Any) -> list[str]:
        """Land what is approved, `later` seconds after NOW."""
        said = landing.land_approved(self.layout, self.config._replace(**config), NOW + later)
        assert len(files.folders(str(self.repo / ".git" / "worktrees"))) <= 1
        return said

    def main(self) -> str:
        return sh(self.remote or self.repo, "rev-parse", "main")

    def has(self, file: str) -> bool:
        where = self.remote or self.repo
        return file in sh(where, "ls-tree", "--name-only", "main").split("\n")

    def state(self, pr: PullRequest) -> tuple[str, str | None]:
        now = next(
            each for each in states.known(self.layout, self.config) or () if each.id == pr.id
        )
        return now.state, now.verdict


@pytest.fixture
def world(repo: Path, remote: Path) -> World:
    return World(repo, remote)


@pytest.fixture
def alone(repo: Path) -> World:
    """The same without a remote."""
    return World(repo, None)


# --- merging -----------------------------------------------------------------------------------


def test_what_is_approved_is_merged_and_the_persons_checkout_is_not_touched(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    world.push_to_main({"b.txt": "b\n"})
    (world.repo / "README.md").write_text("mine, unsaved\n")
    (world.repo / "note.txt").write_text("mine, new\n")

    def persons() -> Any:
        mine = {p: s for p, s in tree(world.repo).items() if not p.startswith(".orchestrator")}
        refs = repository.refs(str(world.repo), "refs/heads")
        return mine, refs, sh(world.repo, "status", "--porcelain=v2", "--branch")

    before = persons()
    assert [line.split()[:2] for line in world.land()] == [["merged", pr.id]]
    assert persons() == before
    assert world.state(pr) == ("merged", "approved")
    assert world.has("a.txt")
    assert world.has("b.txt")
    assert sh(world.remote or world.repo, "rev-parse", "main^2") == pr.head


def test_a_branch_that_is_ahead_of_its_base_lands_as_a_merge_commit(world: World) -> None:
    before, pr = world.main(), world.deliver("T1", {"a.txt": "a\n"})
    world.land()
    assert sh(world.repo, "rev-parse", "origin/main^1", "origin/main^2").split() == [
        before,
        pr.head,
    ]


@pytest.mark.parametrize("method", ["squash", "rebase"])
def test_the_configured_method_decides_how_commits_land(world: World, method: str) -> None:
    world.branch("T1", {"a.txt": "a\n"})
    pr, before = world.deliver("T1", {"b.txt": "b\n"}), world.push_to_main({"c.txt": "c\n"})
    said = world.land(review=world.config.review._replace(merge_method=method))
    assert said[0].startswith(f"merged {pr.id}")
    made = sh(world.remote or world.repo, "rev-list", f"{before}..main").split()
    assert len(made) == {"squash": 1, "rebase": 2}[method]
    assert world.state(pr) == ("merged", "approved")
    assert all(world.has(name) for name in ("a.txt", "b.txt", "c.txt"))
    assert pr.head not in made


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("fast_forward", ["false", "only"])
def test_no_setting_of_the_persons_decides_what_a_landing_makes(
    world: World, method: str, fast_forward: str
) -> None:
    """With `rebase.updateRefs`, git moves each branch that points to a commit that it rebases."""
    settings = {
        "merge.ff": fast_forward,
        "merge.log": "true",  # a merge in a worktree, also by the methods that need no worktree
        "rebase.updateRefs": "true",
        "rebase.autoSquash": "true",
        "i18n.commitEncoding": "ISO-8859-1",
        "i18n.logOutputEncoding": "ISO-8859-1",
    }
    for key, value in settings.items():
        sh(world.repo, "config", key, value)
    first = world.branch("T1", {"a.txt": "a\n"})
    sh(world.repo, "branch", "the-persons-own", first)
    pr, before = world.deliver("T1", {"b.txt": "b\n"}), world.push_to_main({"c.txt": "c\n"})
    pr = pr._replace(title=f"Müller's {pr.task}")
    with world.forge.book.locked():
        world.forge.book.write(pr)
    sh(world.repo, "branch", "the-persons-other", pr.head)
    said = world.land(review=world.config.review._replace(merge_method=method))
    assert said[0].startswith(f"merged {pr.id}")
    made = sh(world.remote or world.repo, "rev-list", f"{before}..main", f"^{pr.head}").split()
    assert len(made) == {"merge": 1, "squash": 1, "rebase": 2}[method]
    told = sh(world.repo, "-c", "i18n.logOutputEncoding=UTF-8", "log", "--format=%s", *made[:1])
    assert f"Müller's {pr.task}" in told or method == "rebase"
    names = ("the-persons-own", "the-persons-other", pr.branch)
    assert sh(world.repo, "rev-parse", *names).split() == [first, pr.head, pr.head]


def test_all_that_is_approved_lands_one_after_the_other(world: World) -> None:
    prs = [world.deliver(f"T{n}", {f"{n}.txt": "x\n"}) for n in range(3)]
    assert len(world.land()) == 3
    assert all(world.state(pr)[0] == "merged" for pr in prs)
    assert all(world.has(f"{n}.txt") for n in range(3))
    assert world.land() == []


@pytest.mark.parametrize("verdict", [None, "changes_requested"])
def test_what_is_not_approved_stays(world: World, verdict: str | None) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"}, approved=False)
    if verdict:
        world.judge("T1", verdict, pr.head)
    assert world.land() == []
    assert world.state(pr) == ("open", verdict)
    assert not world.has("a.txt")


def test_a_draft_does_not_land_until_it_is_ready(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    with world.forge.book.locked():
        world.forge.book.write(pr._replace(draft=True))
    assert world.land() == []
    with pytest.raises(OrchestratorError, match="is a draft") as refused:
        landing.merge(world.layout, world.config, world.forge.show(pr.id), NOW)
    assert refused.value.code == "draft"
    with world.forge.book.locked():
        world.forge.book.write(pr)
    assert world.land()[0].startswith("merged")


def rewrite(world: World, pr: PullRequest) -> None:
    with world.forge.book.locked():
        world.forge.book.write(pr)


def test_a_required_check_that_runs_delays_the_merge_and_is_no_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    check = RemoteCheck("ci", "pending", required=True)
    running = pr._replace(checks=(check,))
    rewrite(world, running)

    def refuse(*_: Any) -> None:
        raise OrchestratorError("not yet, and not by --auto", code="merge_refused")

    with monkeypatch.context() as patch:
        patch.setattr(Local, "merge", refuse)
        assert "not by --auto" in world.land()[0]
    assert system_faults.read(world.layout.landing_fault) is None
    assert world.land(later=1000) == [], "it waits for the check"
    # A conflict, and a check that is not required, show without waiting.
    for other in (pr._replace(checks=(check,), mergeable=False), pr._replace(checks=(CHECK,))):
        assert landing_queue.awaited(other) == []
    rewrite(world, pr._replace(checks=(check._replace(state="passed"),)))
    assert world.land(later=1000)[0].startswith("merged")


CHECK = RemoteCheck("docs", "pending", required=False)


@pytest.mark.parametrize("when", ["before", "during its checks"])
def test_a_pull_request_that_a_person_retargets_on_the_forge_is_checked_with_its_new_base(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    main = world.main()
    red = world.push_to_main({"broken.txt": "x\n"})
    assert world.remote
    sh(world.remote, "update-ref", "refs/heads/dev", red)
    sh(world.remote, "update-ref", "refs/heads/main", main)
    monkeypatch.setattr(Local, "is_elsewhere", True)
    check = merging.Workshop.check

    def retarget(*words: Any) -> Any:
        rewrite(world, pr._replace(base="dev"))
        return check(*words)

    if when == "before":
        rewrite(world, pr._replace(base="dev"))
    else:
        monkeypatch.setattr(merging.Workshop, "check", retarget)
    with pytest.raises(OrchestratorError, match="the checks fail on dev itself"):
        landing.merge(
            world.layout, world.config._replace(checks=("! test -e broken.txt",)), pr, NOW
        )
    assert world.main() == main
    assert sh(world.remote, "rev-parse", "dev") == red


@pytest.mark.parametrize(("field", "value"), [("draft", True), ("state", "closed")])
def test_what_a_person_changes_on_the_forge_during_the_checks_stops_the_merge(
    world: World, monkeypatch: pytest.MonkeyPatch, field: str, value: Any
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    main = world.main()
    monkeypatch.setattr(Local, "is_elsewhere", True)
    changed = pr._replace(**{field: value})
    monkeypatch.setattr(merging.Workshop, "check", lambda *_: rewrite(world, changed))
    with pytest.raises(OrchestratorError, match=r"is closed|is a draft"):
        landing.merge(world.layout, world.config, pr, NOW)
    assert world.main() == main


def test_a_merge_that_the_forge_accepts_and_never_makes_is_delayed_and_one_problem(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    with monkeypatch.context() as queue:
        queue.setattr(Local, "merge", lambda *_: None)
        assert world.land() == ["queued 1 at the forge"]
        assert world.land(later=1) == [], "it waits as after a refusal"
        assert world.land(later=1000) == ["queued 1 at the forge"]
        assert system_faults.read(world.layout.landing_fault) is None
        assert world.land(later=2000) == ["queued 1 at the forge"]
    problem = system_faults.read(world.layout.landing_fault)
    assert problem is not None
    assert problem.code == "merge_refused"
    assert "3 tries to merge 1" in problem.message
    # The problem is about the head that was tried, while nothing else delays it.
    waits = RemoteCheck("ci", "pending", required=True)
    for other, refused in (
        (pr, True),
        (pr._replace(queued=True), True),
        (pr._replace(draft=True), False),
        (pr._replace(head="b" * 40), False),
        (pr._replace(checks=(waits,)), False),
    ):
        assert landing_queue.is_refused(world.layout, [other]) is refused
    assert world.land(later=9000)[0].startswith("merged")
    assert system_faults.read(world.layout.landing_fault) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "closed"}, "did not merge 1: pull request 1 is closed"),
        ({"draft": True}, "did not merge 1: pull request 1 is a draft"),
        ({"base": "dev"}, "the checks fail on dev itself, so nothing lands: 'test ! -e red' exi"),
    ],
)
def test_what_a_person_changed_since_the_last_tick_decides(
    world: World, change: dict[str, Any], said: str
) -> None:
    """The landing knows the pull request of the last tick; the forge has the one of now."""
    pr = world.deliver("T1", {"a.txt": "a\n"})
    dev = world.branch("dev", {"red": "red\n"})
    sh(world.repo, "push", "--quiet", "origin", f"{dev}:refs/heads/dev")
    before, remote = world.main(), world.remote
    assert remote
    with world.forge.book.locked():
        world.forge.book.write(pr._replace(**change))
    config = world.config._replace(checks=("test ! -e red",))
    lander = landing.Lander(world.layout, config, NOW)
    assert lander.try_one(pr._replace(verdict="approved")).startswith(said)
    assert (world.main(), sh(remote, "rev-parse", "dev")) == (before, dev)
    lander.failures.keep_fault()
    fault = system_faults.read(world.layout.landing_fault)
    assert (fault is None) == ("base" not in change), "the next tick sees it: no problem"


def test_a_retargeted_pull_request_lands_in_its_new_base_after_its_checks(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    before = world.main()
    sh(world.repo, "push", "--quiet", "origin", "main:refs/heads/dev")
    with world.forge.book.locked():
        world.forge.book.write(pr._replace(base="dev"))
    landed = landing.merge(world.layout, world.config, pr, NOW)
    assert world.main() == before
    assert world.remote
    assert sh(world.remote, "rev-parse", "dev") == landed


def test_nothing_is_merged_unless_the_configuration_asks_for_it(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    assert world.land(review=Review(auto_merge=False)) == []
    assert world.state(pr)[0] == "open"


def test_one_landing_at_a_time(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    with landing.lock(world.layout, 0):
        assert world.land() == []
    assert world.state(pr)[0] == "open"


def test_a_pull_request_that_is_in_the_base_already_is_marked_and_nothing_is_pushed(
    world: World,
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    sh(world.repo, "push", "--quiet", "origin", f"{pr.head}:main")
    assert world.land() == []
    assert world.state(pr)[0] == "merged"
    assert world.main() == pr.head


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("checks", [(), ("true",)], ids=["no checks", "checks"])
def test_commits_that_together_change_no_file_are_merged_once(
    world: World, method: str, checks: tuple[str, ...]
) -> None:
    """A task that is done a second time, for example. Git makes no squash without a change."""
    world.branch("T1", {"a.txt": "a\n"})
    pr = world.deliver("T1", {"a.txt": None})
    before = sh(world.repo, "rev-parse", f"{world.main()}^{{tree}}")
    world.land(review=world.config.review._replace(merge_method=method), checks=checks)
    assert world.state(pr)[0] == "merged"
    assert sh(world.repo, "rev-parse", f"{world.main()}^{{tree}}") == before


# --- only what was reviewed --------------------------------------------------------------------


def test_a_commit_that_no_review_has_seen_is_not_merged(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    before = world.main()
    world.branch("T1", {"sneaked.txt": "in\n"})
    assert world.land() == []
    assert world.main() == before
    assert world.state(pr)[0] == "open"
    assert world.store.find("T1").state == "done"


def test_a_commit_that_is_pushed_after_the_look_is_not_merged(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    before = world.main()
    world.branch("T1", {"sneaked.txt": "in\n"})
    lander = landing.Lander(world.layout, world.config, NOW)
    said = lander.try_one(pr)
    lander.failures.keep_fault()
    assert said == "did not merge 1: pull request 1 has commits that were not reviewed"
    assert world.main() == before
    assert system_faults.read(world.layout.landing_fault) is None, "the next tick sees the push"


def test_work_that_is_delivered_again_needs_its_approval_again(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    again = pr._replace(head=world.branch("T1", {"more.txt": "m\n"}))
    assert world.forge.open(again, "body").verdict is None
    assert world.land() == []


# --- what goes back to its author --------------------------------------------------------------


def told(world: World, task: Task) -> list[tuple[str, str]]:
    """What the task's next prompt leads with; a line written twice is told once."""
    return [(t["kind"], t["text"]) for t in history.attempts(world.store.read(task).history)]


def test_a_conflict_goes_back_to_its_author_with_the_branch_intact(world: World) -> None:
    pr = world.deliver("T1", {"README.md": "one\n"})
    other = world.deliver("T2", {"fine.txt": "f\n"})
    theirs = world.push_to_main({"README.md": "two\n"})
    said = world.land()
    assert [line.split()[0] for line in said] == ["sent", "merged"]
    task = world.store.find("T1")
    assert (task.state, task.review_rounds, task.pr) == ("incoming", 1, pr.id)
    feedback = told(world, task)[-1][1]
    assert "README.md" in feedback
    assert "main" in feedback
    assert world.state(pr) == ("open", "changes_requested")
    assert world.state(other)[0] == "merged"
    assert sh(world.repo, "rev-parse", "refs/heads/agent/T1") == pr.head
    assert sh(world.remote or world.repo, "rev-parse", "agent/T1") == pr.head
    assert sh(world.remote or world.repo, "rev-parse", "main^1") == theirs
    assert world.land() == []


def test_a_task_that_is_moved_just_when_its_conflict_is_found_stops_no_other_landing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deliver("T1", {"README.md": "one\n"})
    other = world.deliver("T2", {"fine.txt": "f\n"})
    world.push_to_main({"README.md": "two\n"})

    def moved(_: Any, task: Task, *__: Any) -> Task:
        raise NotFound("task", task.id)

    monkeypatch.setattr(FileStore, "move", moved)
    assert [line.split()[0] for line in world.land()] == ["sent", "merged"]
    assert world.state(other)[0] == "merged"


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_branch_that_was_cut_off_from_its_base_conflicts_with_it(
    alone: World, method: str
) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    # In a repository that a fetch with --depth made shallow, an amended commit has no parent.
    tree = sh(alone.repo, "rev-parse", f"{pr.head}^{{tree}}")
    root = sh(alone.repo, "commit-tree", tree, "-m", "amended")
    base = sh(alone.repo, "rev-parse", "main")
    workshop = merging.Workshop(alone.layout, alone.config)
    with pytest.raises(merging.Conflict, match="no commit in common with main"):
        workshop.merge(pr, base, root, method)
    # As long as the repository is shallow, nobody is blamed: the next fetch makes it whole.
    (alone.repo / ".git" / "shallow").write_text(f"{pr.head}\n")
    with pytest.raises(GitError, match="no commit in common in this shallow clone") as refused:
        workshop.merge(pr, base, root, method)
    assert refused.value.hint == "fetch the whole history: git fetch --unshallow"


def test_two_branches_that_pass_alone_and_fail_together_do_not_both_land(world: World) -> None:
    first = world.deliver("T1", {"a.txt": "a\n"})
    second = world.deliver("T2", {"b.txt": "b\n"})
    check = "if test -e a.txt && test -e b.txt; then echo they do not go together; exit 1; fi"
    said = world.land(checks=("test -e a.txt || test -e b.txt", check))
    assert [line.split()[0] for line in said] == ["merged", "sent"]
    assert world.state(first)[0] == "merged"
    assert world.state(second) == ("open", "changes_requested")
    assert (world.has("a.txt"), world.has("b.txt")) == (True, False)
    task = world.store.find("T2")
    assert task.state == "incoming"
    assert "they do not go together" in str(world.store.read(task).history)
    assert world.store.find("T1").state == "done"


def test_checks_run_in_the_merged_result_and_leave_nothing(world: World) -> None:
    world.deliver("T1", {"a.txt": "a\n"})
    world.push_to_main({"b.txt": "b\n"})
    checks = ("test -e a.txt && test -e b.txt && git rev-parse HEAD^2 && touch left.txt",)
    assert world.land(checks=checks)[0].startswith("merged")
    assert not world.has("left.txt")


def test_after_too_many_rounds_a_person_is_asked(world: World) -> None:
    pr = world.deliver("T1", {"README.md": "one\n"})
    world.push_to_main({"README.md": "two\n"})
    # This is the second of at most two rounds.
    world.store.note(world.store.find("T1"), entry("review", "E0", verdict="changes_requested"))
    world.land()
    task = world.store.find("T1")
    assert task.state == "blocked"
    assert task.question
    assert "README.md" in task.question
    assert world.state(pr)[0] == "open"


def test_a_task_that_a_person_moved_is_left_where_it_is(world: World) -> None:
    pr = world.deliver("T1", {"README.md": "one\n"})
    world.push_to_main({"README.md": "two\n"})
    world.store.move(world.store.find("T1"), "failed", entry("cancelled"))
    world.land()
    assert world.store.find("T1").state == "failed"
    assert world.state(pr) == ("open", "changes_requested")


def test_a_pull_request_whose_task_is_gone_lands_only_by_a_person(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    Path(world.store.find("T1").where).unlink()
    assert world.land() == []
    assert merge(world, pr) == world.main()


def test_the_remotes_branches_of_merged_work_go_unless_they_moved_on(world: World) -> None:
    one, other, kept = (world.deliver(f"T{n}", {f"{n}.txt": "x\n"}) for n in range(3))
    world.land(review=world.config.review._replace(merge_method="squash"))
    moved = world.branch("T1", {"later.txt": "x\n"})
    assert world.remote
    sh(world.remote, "update-ref", "-d", "refs/heads/agent/T2")
    refresh(world.layout, world.config)
    assert len(remote_branches.drop_merged(world.layout, world.config)) == 2
    left = sh(world.remote, "for-each-ref", "--format=%(objectname)", "refs/heads/agent").split()
    assert left == [moved]
    assert [pr.state for pr in (one, other, kept)] == ["open"] * 3
    keep = world.config._replace(retention=Retention(remote_branches="keep"))
    assert remote_branches.drop_merged(world.layout, keep) == []


def test_the_remotes_branch_of_old_work_goes_although_its_record_was_put_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "KEPT", 1)
    monkeypatch.setattr(book, "SLACK", 0)
    pr = world.deliver("T1", {"a.txt": "x\n"})
    task = world.store.find("T1")
    world.store.move(task, "done", entry("claimed", "R-T1", branch="agent/T1"))
    keep = Retention(remote_branches="keep")
    assert world.land(retention=keep) != []
    refresh(world.layout, world.config)
    where = Local(world.layout, world.config).book
    old = where.find(pr.id)._replace(followed=True)
    where.write(old)
    where.write(old._replace(id="2", branch="agent/T2"))
    where.put_away(100)
    assert [each.id for each in where.list()] == ["2"]
    assert remote_branches.drop_merged(world.layout, world.config) == []
    [said] = remote_branches.drop_merged(world.layout, world.config, every=True)
    assert said.startswith("deleted agent/T1 ")
    assert world.remote
    assert sh(world.remote, "for-each-ref", "refs/heads/agent") == ""


def pushed_by_others(world: World, branch: str, name: str) -> str:
    """Push a commit that this repository does not know to a branch of the remote."""
    assert world.remote
    return by_others(world.remote, branch, {name: "x\n"})


@pytest.mark.parametrize("lie", ["none", "base", "head", "no deletion", "kept"])
def test_what_was_just_seen_of_the_remote_is_confirmed_by_the_push(
    world: World, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a look at the remote, landing asks nothing: one push has to find out every lie."""
    remote = world.remote
    assert remote
    pr = world.deliver("T1", {"a.txt": "a\n"})
    sh(world.repo, "fetch", "--quiet", "origin")
    before, moved = world.main(), pr.head
    monkeypatch.setattr(look, "is_fresh", lambda _: True)
    if lie == "head":
        moved = pushed_by_others(world, pr.branch, "sneaked.txt")
    if lie == "base":
        world.push_to_main({"b.txt": "b\n"})
    if lie == "no deletion":
        sh(remote, "config", "receive.denyDeletes", "true")
    if lie == "kept":
        world.config = world.config._replace(retention=Retention(remote_branches="keep"))
    asked = []
    monkeypatch.setattr(remotes, "tips", lambda *words: asked.append(words) or tips(*words))
    said = world.land()
    left = repository.refs(str(remote), f"refs/heads/{pr.branch}").values()
    if lie == "head":
        assert "not reviewed" in said[0]
        assert world.main() == before
        assert [*left] == [moved], "the branch with the commits of others stays"
        return
    assert said[0].startswith("merged 1 as ")
    assert ("deleted" in said[0]) == (lie == "none")
    assert [*left] == ([] if lie == "none" else [pr.head])
    assert world.has("a.txt")
    assert world.has("b.txt") == (lie == "base")
    assert bool(asked) == (lie in ("base", "no deletion"))
    assert world.state(pr)[0] == "merged"


def test_a_worktree_of_an_earlier_landing_is_made_anew_before_anybody_is_blamed(
    world: World,
) -> None:
    """What its set-up installed is older than what the base needs now."""
    exclude = world.repo / ".git" / "info" / "exclude"
    exclude.write_text(exclude.read_text() + "installed\n")
    world.push_to_main({"lock": "1\n"})
    needs = {
        "hooks": Hooks(after_create="cp lock installed"),
        "checks": ("cmp lock installed",),
    }
    world.deliver("T1", {"a.txt": "a\n"})
    assert world.land(**needs)[0].startswith("merged")
    world.push_to_main({"lock": "2\n"})
    world.deliver("T2", {"b.txt": "b\n"})
    assert world.land(later=1000, **needs)[0].startswith("merged")


def set_up_of_lock(world: World, command: str = "cp lock installed") -> dict[str, Any]:
    """Exclude what the set-up installs; return the configuration."""
    exclude = world.repo / ".git" / "info" / "exclude"
    exclude.write_text(exclude.read_text() + "installed\n")
    world.push_to_main({"lock": "1\n"})
    setup = Setup(command=command, when_changed=("lock",))
    return {"setup": setup, "checks": ("cmp lock installed",)}


def test_the_kept_worktree_is_set_up_again_when_the_lock_file_changed(world: World) -> None:
    count = world.repo.parent / "count"
    needs = set_up_of_lock(world, f"echo >> {count}; cp lock installed")
    for number, lock in enumerate(("1\n", "1\n", "2\n")):
        world.push_to_main({"lock": lock, "n": f"{number}\n"})
        world.deliver(f"T{number}", {f"{number}.txt": "x\n"})
        assert world.land(later=number * 1000, **needs)[0].startswith("merged")
        assert len(count.read_text()) == (1, 1, 2)[number]


def test_a_merge_that_breaks_the_set_up_goes_back_to_its_author(world: World) -> None:
    needs = set_up_of_lock(world, "{ ! grep bad lock; } && cp lock installed")
    sh(world.repo, "fetch", "--quiet")
    pr = world.deliver("T1", {"lock": "bad\n"}, base="origin/main")
    assert world.land(**needs)[0].startswith("sent")
    given = verdicts.given(world.store.read(world.store.find("T1")).history)[-1]
    assert "setup.command fails on the merge with main" in given.text
    assert world.state(pr) == ("open", "changes_requested")


def test_a_set_up_that_fails_on_the_base_too_blames_nobody(world: World) -> None:
    """The registry is down: also on a base that passed its checks before."""
    down = world.repo.parent / "down"
    needs = set_up_of_lock(world, f"! test -e {down} && cp lock installed")
    world.deliver("T1", {"a.txt": "a\n"})
    assert world.land(**needs)[0].startswith("merged")
    down.touch()
    pr = world.deliver("T2", {"lock": "2\n"}, base="origin/main")
    assert "could not merge" in world.land(later=1000, **needs)[0]
    assert world.state(pr) == ("open", "approved")
    problem = system_faults.read(world.layout.landing_fault)
    assert problem is not None
    assert problem.code == "setup_failed"
    down.unlink()
    assert world.land(later=9000, **needs)[0].startswith("merged")


def test_commits_that_together_change_nothing_are_not_merged(world: World) -> None:
    world.branch("T1", {"a.txt": "a\n"})
    path = world.repo.parent / "undo"
    sh(world.repo, "worktree", "add", "--quiet", str(path), "agent/T1")
    sh(path, "revert", "--no-edit", "HEAD")
    sh(path, "push", "--quiet", "origin", "HEAD:refs/heads/agent/T1")
    wanted = PullRequest(
        "", "T1", "agent/T1", "main", sh(path, "rev-parse", "HEAD"), "Nothing", "open"
    )
    world.forge.open(wanted, "")
    prs = refresh(world.layout, world.config)
    assert [pr.state for pr in prs or ()] == ["open"]


def test_what_only_a_person_calls_merged_keeps_its_branches(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    world.forge.book.say_merged(pr.id)
    refresh(world.layout, world.config)
    assert world.state(pr)[0] == "merged"
    assert remote_branches.drop_merged(world.layout, world.config) == []
    [item] = branches.judged(
        world.layout, world.config, states.known(world.layout, world.config) or []
    )
    assert not item.drop


# --- a base that fails by itself -----------------------------------------------------------------


def test_a_base_that_fails_its_checks_stops_landing_and_blames_no_author(world: World) -> None:
    prs = [world.deliver(f"T{n}", {f"{n}.txt": "x\n"}) for n in range(2)]
    red = world.push_to_main({"broken.txt": "x\n"})
    count = world.repo.parent / "count"
    checks = (f"echo >> {count}; ! test -e broken.txt",)
    said = world.land(checks=checks)
    assert said[0].startswith("the checks fail on main itself")
    assert [world.state(pr) for pr in prs] == [("open", "approved")] * 2
    assert {world.store.find(f"T{n}").state for n in range(2)} == {"done"}
    assert world.main() == red
    problem = system_faults.read(world.layout.landing_fault)
    assert problem is not None
    assert problem.code == "base_red"
    before = count.read_text()
    world.land(later=1000, checks=checks)
    assert count.read_text() == before, "the same base is not checked twice"
    world.push_to_main({"broken.txt": None})
    assert [line.split()[0] for line in world.land(later=2000, checks=checks)] == ["merged"] * 2
    assert system_faults.read(world.layout.landing_fault) is None


def test_a_repair_of_a_red_base_lands_although_the_base_is_known_to_be_red(world: World) -> None:
    world.deliver("T1", {"a.txt": "a\n"})
    world.push_to_main({"broken.txt": "x\n"})
    count = world.repo.parent / "count"
    checks = (f"ls | xargs >> {count}; test -e repair.txt || ! test -e broken.txt",)
    assert world.land(checks=checks)[0].startswith("the checks fail on main itself")
    repair = world.deliver("T2", {"repair.txt": "x\n"})
    other = world.deliver("T3", {"b.txt": "b\n"}, approved=False)
    with pytest.raises(OrchestratorError, match="the checks fail on main itself"):
        merge(world, other, checks=checks)
    assert [line.split()[:2] for line in world.land(checks=checks)] == [["merged", repair.id]]
    checked = count.read_text().splitlines()
    assert checked.count("README.md broken.txt") == 1, "the red base itself is checked once"
    assert world.land(later=1000, checks=checks)[0].startswith("merged 1")
    assert system_faults.read(world.layout.landing_fault) is None


def test_an_approval_counts_again_when_the_branch_returns_to_its_commit(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    newer = world.branch("T1", {"b.txt": "b\n"})
    world.judge("T1", "approved", newer)
    for commit in (newer, pr.head):
        sh(world.repo, "update-ref", "refs/heads/agent/T1", commit)
        sh(world.repo, "push", "--quiet", "--force", "origin", f"{commit}:refs/heads/agent/T1")
        assert world.state(pr) == ("open", "approved")
    assert world.land()[0].startswith("merged 1")
    assert not world.has("b.txt")


def test_a_refused_merge_is_tried_again_without_its_checks(world: World) -> None:
    world.deliver("T1", {"a.txt": "a\n"})
    assert world.remote
    hook = world.remote / "hooks" / "update"
    hook.write_text('#!/bin/sh\ntest "$1" != refs/heads/main\n')
    hook.chmod(0o755)
    count = world.repo.parent / "count"
    checks = (f"echo x >> {count}",)
    assert world.land(checks=checks)
    assert world.land(later=11, checks=checks)
    assert world.land(later=15, checks=checks) == []
    hook.unlink()
    assert world.land(later=100, checks=checks)[0].startswith("merged")
    assert count.read_text() == "x\n"


def test_dependencies_land_first_then_priority_and_age_decide(world: World) -> None:
    rows = {
        "A": {"priority": "P2", "depends_on": ("D",)},
        "B": {"priority": "P0"},
        "C": {"priority": "P2"},
        "D": {"priority": "P3"},
    }
    tasks = {
        n: Task(name, name, "implement", "done", "", created=float(n), **fields)
        for n, (name, fields) in enumerate(rows.items())
    }
    prs = [
        PullRequest(str(n), task.id, f"agent/{task.id}", "main", "a" * 40, "T", "open")
        for n, task in tasks.items()
    ]
    found = landing_queue.in_order(prs, {str(n): task for n, task in tasks.items()})
    assert [pr.task for pr in found] == ["B", "C", "D", "A"]


# --- system faults ----------------------------------------------------------------------


def test_a_check_whose_program_is_missing_sends_nobody_back(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    missing = ("no-such-program-anywhere",)
    said = world.land(checks=missing)
    assert said[0].startswith("could not merge")
    assert world.state(pr) == ("open", "approved")
    assert world.store.find("T1").state == "done"
    with pytest.raises(SystemFault, match="a check's program is missing") as refused:
        merge(world, pr, checks=missing)
    assert refused.value.code == "check_program_missing"  # as before a delivery
    assert refused.value.hint


def test_a_remote_that_is_gone_or_refuses_sends_nobody_back(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    assert world.remote
    hook = world.remote / "hooks" / "update"
    hook.write_text('#!/bin/sh\ntest "$1" != refs/heads/main || { echo protected >&2; exit 1; }\n')
    hook.chmod(0o755)
    assert "refused" in world.land()[0]
    assert world.land() == [], "it waits for its next try"
    world.remote.rename(world.remote.with_name("gone.git"))
    assert "cannot be reached" in world.land(later=11)[0]
    assert world.state(pr) == ("open", "approved")
    assert world.store.find("T1").state == "done"


def test_a_base_that_the_remote_renamed_is_a_fault_and_is_not_made_again(world: World) -> None:
    world.deliver("T1", {"a.txt": "a\n"})
    assert world.remote
    sh(world.remote, "branch", "--move", "main", "trunk")
    sh(world.remote, "symbolic-ref", "HEAD", "refs/heads/trunk")
    assert "the remote 'origin' has no branch 'main'" in world.land()[0]
    kept = system_faults.read(world.layout.landing_fault)
    assert kept is not None
    assert (kept.code, "orchestrator init --base trunk" in kept.hint) == ("base_gone", True)
    assert "refs/heads/main" not in sh(world.remote, "show-ref")
    assert world.store.find("T1").state == "done"


def test_a_branch_that_is_gone_lets_the_others_land(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    world.deliver("T2", {"b.txt": "b\n"})
    assert world.remote
    sh(world.remote, "update-ref", "-d", "refs/heads/agent/T1")
    sh(world.repo, "update-ref", "-d", "refs/heads/agent/T1")
    said = world.land()
    assert [line.split()[0] for line in said] == ["could", "merged"]
    refresh(world.layout, world.config)
    assert world.state(pr)[0] == "closed"


# --- the base moves meanwhile ------------------------------------------------------------------

MOVE = """
import pathlib, subprocess, sys
other, count, times = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
done = int(count.read_text()) if count.exists() else 0
if done < times:
    count.write_text(str(done + 1))
    git = lambda *words: subprocess.run(
        ("git", "-c", "user.name=O", "-c", "user.email=o@x", *words), cwd=other, check=True)
    git("pull", "--quiet", "origin", "main")
    (other / f"moved-{done}.txt").write_text("x")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Elsewhere")
    git("push", "--quiet", "origin", "main")
"""


@pytest.fixture
def moving(world: World, tmp_path: Path) -> Callable[[int], tuple[str, ...]]:
    """A check during which somebody else pushes to the base, so many times."""
    other = tmp_path / "other"
    sh(tmp_path, "clone", "--quiet", str(world.remote), str(other))
    (tmp_path / "move.py").write_text(MOVE)

    def checks(times: int) -> tuple[str, ...]:
        words = [sys.executable, tmp_path / "move.py", other, tmp_path / "count", times]
        return (shlex.join(map(str, words)),)

    return checks


def test_a_base_that_moved_meanwhile_is_merged_with_and_checked_again(
    world: World, moving: Callable[[int], tuple[str, ...]]
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    assert world.land(checks=moving(1))[0].startswith("merged")
    assert world.has("a.txt")
    assert world.has("moved-0.txt")
    assert world.state(pr)[0] == "merged"
    assert world.repo.parent.joinpath("count").read_text() == "1"


def test_a_base_that_never_stands_still_is_tried_again_later_and_nothing_is_lost(
    world: World, moving: Callable[[int], tuple[str, ...]]
) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    said = world.land(checks=moving(landing.TRIES))
    assert said[0].startswith("could not merge")
    assert world.state(pr) == ("open", "approved")
    assert not world.has("a.txt")
    assert all(world.has(f"moved-{n}.txt") for n in range(landing.TRIES))
    assert world.land(later=11)[0].startswith("merged")


# --- by a person -------------------------------------------------------------------------------


def merge(world: World, pr: PullRequest, **config: Any) -> str:
    with landing.lock(world.layout, 1):
        return landing.merge(world.layout, world.config._replace(**config), pr, NOW)


def test_a_person_may_merge_what_no_reviewer_approved(world: World) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"}, approved=False)
    assert merge(world, pr) == world.main()
    assert world.has("a.txt")


@pytest.mark.parametrize("state", ["merged", "closed"])
def test_what_is_not_open_is_not_merged(world: World, state: str) -> None:
    pr = world.deliver("T1", {"a.txt": "a\n"})
    world.forge.book.record(pr.id, state=state)
    with pytest.raises(OrchestratorError) as refused:
        merge(world, world.forge.show(pr.id))
    assert refused.value.code == "not_open"


def test_without_a_remote_nothing_is_merged_by_itself(alone: World) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    assert alone.land() == []
    assert alone.state(pr) == ("open", "approved")


def test_without_a_remote_a_clean_checkout_is_fast_forwarded(alone: World) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    assert merge(alone, pr) == pr.head
    assert worktree_commands.state(str(alone.repo)) == (pr.head, "main", False)
    assert (alone.repo / "a.txt").read_text() == "a\n"
    assert alone.state(pr)[0] == "merged"


def test_without_a_remote_a_base_that_moved_gets_a_merge_commit(alone: World) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    (alone.repo / "b.txt").write_text("b\n")
    sh(alone.repo, "add", "--all")
    sh(alone.repo, "commit", "--quiet", "--message", "Mine")
    mine = alone.main()
    merge(alone, pr)
    assert sh(alone.repo, "rev-parse", "main^1", "main^2").split() == [mine, pr.head]
    assert worktree_commands.state(str(alone.repo)).dirty is False


@pytest.mark.parametrize(
    "change", ["unstaged", "staged", "of another file", "untracked and in the way"]
)
def test_without_a_remote_a_checkout_with_changes_is_left_byte_for_byte(
    alone: World, change: str
) -> None:
    mine = {} if change == "of another file" else {"README.md": "theirs\n"}
    pr = alone.deliver("T1", {"a.txt": "a\n", **mine})
    name = "a.txt" if change == "untracked and in the way" else "README.md"
    (alone.repo / name).write_text("mine\n")
    if change == "staged":
        sh(alone.repo, "add", "README.md")
    before = (tree(alone.repo), sh(alone.repo, "status", "--porcelain=v2", "--branch"))
    with pytest.raises(OrchestratorError) as refused:
        merge(alone, pr)
    assert name in refused.value.message
    assert refused.value.code == "checkout_not_clean"
    after = {p: s for p, s in tree(alone.repo).items() if "cache" not in p}
    assert after == {p: s for p, s in before[0].items() if "cache" not in p}
    assert sh(alone.repo, "status", "--porcelain=v2", "--branch") == before[1]
    assert alone.state(pr)[0] == "open"


def test_without_a_remote_changes_of_agents_yaml_are_kept_and_do_not_hold_a_merge(
    alone: World,
) -> None:
    config = alone.repo / ".orchestrator" / "agents.yaml"
    config.parent.mkdir(exist_ok=True)
    config.write_text("paused: true\n")
    sh(alone.repo, "add", "--force", str(config))
    sh(alone.repo, "commit", "--quiet", "--message", "The configuration")
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    config.write_text("paused: true\nforge: local\n")
    sh(alone.repo, "add", "--force", str(config))
    config.write_text("paused: false\n")
    before = sh(alone.repo, "diff"), sh(alone.repo, "diff", "--cached")
    merge(alone, pr)
    assert alone.main() == pr.head
    assert (alone.repo / "a.txt").read_text() == "a\n"
    assert (sh(alone.repo, "diff"), sh(alone.repo, "diff", "--cached")) == before


def test_without_a_remote_untracked_files_that_are_not_in_the_way_stay(alone: World) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    (alone.repo / "note.txt").write_text("mine\n")
    merge(alone, pr)
    assert (alone.repo / "note.txt").read_text() == "mine\n"
    assert (alone.repo / "a.txt").read_text() == "a\n"


def test_without_a_remote_a_base_that_nobody_has_checked_out_is_moved(alone: World) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    sh(alone.repo, "checkout", "--quiet", "-b", "mine")
    (alone.repo / "README.md").write_text("unsaved\n")
    merge(alone, pr)
    assert alone.main() == pr.head
    assert repository.current_branch(str(alone.repo)) == "mine"
    assert (alone.repo / "README.md").read_text() == "unsaved\n"


def test_without_a_remote_a_base_that_is_being_rebased_stays(alone: World) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    sh(alone.repo, "commit", "--quiet", "--allow-empty", "-m", "mine")
    before = alone.main()
    command = ("git", "rebase", "--quiet", "--keep-empty", "-x", "false", "HEAD~1")
    assert subprocess.run(command, cwd=alone.repo, capture_output=True, check=False).returncode
    with pytest.raises(OrchestratorError, match="in the middle of an operation") as refused:
        merge(alone, pr)
    assert refused.value.code == "checkout_not_clean"
    sh(alone.repo, "rebase", "--continue")
    assert alone.main() == before
    merge(alone, pr)
    assert alone.main() != before


@pytest.mark.parametrize("what", ["am", "cherry-pick", "merge", "bisect"])
def test_without_a_remote_a_base_in_an_unfinished_operation_stays(alone: World, what: str) -> None:
    """The checkout is clean; if its branch moved, git could not abort the operation."""
    pr, repo = alone.deliver("T1", {"a.txt": "a\n"}), alone.repo
    sh(repo, "switch", "--quiet", "--create", "side")
    for text in "12":
        (repo / "README.md").write_text(text)
        sh(repo, "commit", "--quiet", "--all", "--message", text)
    sh(repo, "switch", "--quiet", "main")
    (repo / "README.md").write_text("mine")
    sh(repo, "commit", "--quiet", "--all", "--message", "mine")
    match what:
        case "am":
            (repo / ".git" / "mail").write_text(sh(repo, "format-patch", "-1", "--stdout", "side"))
            begin, end = ("am", ".git/mail"), ("am", "--abort")
        case "cherry-pick":
            begin, end = ("cherry-pick", "side~1", "side"), ("cherry-pick", "--abort")
        case "merge":
            begin, end = ("merge", "--no-commit", "--strategy=ours", "side"), ("merge", "--abort")
        case _:
            begin, end = ("bisect", "start"), ("bisect", "reset")
    subprocess.run(("git", *begin), cwd=repo, capture_output=True, check=False)
    if what == "cherry-pick":  # the first is resolved, the second is to come
        sh(repo, "checkout", "--quiet", "HEAD", "--", "README.md")
        sh(repo, "commit", "--quiet", "--allow-empty", "--message", "resolved")
    before = alone.main()
    assert sh(repo, "status", "--porcelain") == ""
    with pytest.raises(OrchestratorError, match="in the middle of an operation") as refused:
        merge(alone, pr)
    assert (refused.value.code, alone.main()) == ("checkout_not_clean", before)
    sh(repo, *end)
    merge(alone, pr)


def test_without_a_remote_a_base_whose_checkout_git_has_locked_stays(alone: World) -> None:
    pr, before = alone.deliver("T1", {"a.txt": "a\n"}), alone.main()
    (alone.repo / ".git" / "index.lock").touch()
    with pytest.raises(OrchestratorError, match=r"index\.lock': File exists\.$") as refused:
        merge(alone, pr)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("let the git that works there end")
    assert alone.main() == before


def test_without_a_remote_a_base_whose_worktree_is_gone_stays(alone: World, tmp_path: Path) -> None:
    """Its disk may come back, with files of the commit that the base has now."""
    pr, before, linked = alone.deliver("T1", {"a.txt": "a\n"}), alone.main(), tmp_path / "linked"
    sh(alone.repo, "switch", "--quiet", "--create", "mine")
    sh(alone.repo, "worktree", "add", "--quiet", str(linked), "main")
    linked.rename(tmp_path / "away")
    with pytest.raises(OrchestratorError, match="linked, which is gone") as no:
        merge(alone, pr)
    assert (no.value.code, alone.main()) == ("checkout_not_clean", before)
    assert no.value.hint == "mount its disk; or, if it was deleted: git worktree prune"
    sh(alone.repo, "worktree", "prune")
    merge(alone, pr)
    assert alone.main() != before


def test_a_branch_that_is_missing_is_named_with_the_next_step(alone: World) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    sh(alone.repo, "branch", "-m", "main", "trunk")
    with pytest.raises(OrchestratorError, match="has no branch 'main'") as base:
        merge(alone, pr)
    assert base.value.code == "base_gone"
    assert "orchestrator init --base trunk" in str(base.value.hint)
    sh(alone.repo, "branch", "-m", "trunk", "main")
    sh(alone.repo, "branch", "-D", pr.branch)
    with pytest.raises(OrchestratorError, match=f"the branch {pr.branch} does not exist") as head:
        merge(alone, pr)
    assert head.value.code == "no_branch"
    assert head.value.hint == f"git branch {pr.branch} {pr.head}; or: orchestrator pr close {pr.id}"


def test_without_a_remote_checks_hold_a_merge_too(alone: World) -> None:
    pr = alone.deliver("T1", {"a.txt": "a\n"})
    before = alone.main()
    with pytest.raises(merging.CannotLand):
        merge(alone, pr, checks=("! test -e a.txt",))
    assert alone.main() == before
    with pytest.raises(SystemFault):
        merge(alone, pr, checks=("no-such-program-anywhere",))


# --- verdicts ----------------------------------------------------------------------------------


def judge(world: World, verdict: str, run: str = "V1", feedback: str = "Why.") -> Task:
    given = Given("rev", "agent", verdict, "abc", feedback)
    task = world.store.find("T1")
    return review.record_verdict(world.store, world.config, task, given, now=NOW, run=run)


@pytest.mark.parametrize(
    ("earlier", "verdict", "state", "rounds"),
    [
        (0, "approved", "done", 0),
        (0, "changes_requested", "incoming", 1),
        (1, "changes_requested", "blocked", 2),
        (1, "approved", "done", 1),
        (0, "needs_human", "done", 0),
    ],
)
def test_a_verdict_sends_the_task_where_it_belongs(
    alone: World, earlier: int, verdict: str, state: str, rounds: int
) -> None:
    alone.deliver("T1", {"a.txt": "a\n"})
    for number in range(earlier):
        note = entry("review", f"E{number}", verdict="changes_requested")
        alone.store.note(alone.store.find("T1"), note)
    task = judge(alone, verdict)
    assert (task.state, task.review_rounds) == (state, rounds)


@pytest.mark.parametrize("kept", range(1, 4))
def test_a_verdict_that_a_crash_cut_short_is_counted_once_when_repeated(
    alone: World, kept: int
) -> None:
    alone.deliver("T1", {"a.txt": "a\n"})
    whole = judge(alone, "changes_requested")
    expected = (whole.state, whole.review_rounds, told(alone, whole))
    lines = Path(whole.where).read_bytes().splitlines(keepends=True)
    # Back to done with the first lines of its history, as if the rest had never been written.
    added = lines[-2:]
    keep = [*lines[:-2], *added[: min(kept - 1, 2)]]
    Path(whole.where).unlink()
    Path(alone.layout.state("done"), "T1.md").write_bytes(b"".join(keep))
    again = judge(alone, "changes_requested")
    assert (again.state, again.review_rounds, told(alone, again)) == expected


def test_who_is_sent_back_starts_with_his_attempts_afresh_and_the_feedback(alone: World) -> None:
    alone.deliver("T1", {"a.txt": "a\n"})
    task = judge(alone, "changes_requested", feedback="The tests lie.")
    assert (task.attempts, task.not_before, task.pr) == (0, None, "1")
    assert "The tests lie." in str(alone.store.read(task).history)


def test_a_conflict_goes_back_once_though_a_person_approved_the_head(world: World) -> None:
    pr = world.deliver("T1", {"same.txt": "1\n"}, approved=False)
    world.push_to_main({"same.txt": "2\n"})
    given = Given("Ann", "person", "approved", pr.head, settles=True)
    task = world.store.find("T1")
    review.record_verdict(world.store, world.config, task, given, now=NOW - 1, run="person-1")
    assert "conflicts with main" in world.land()[0]
    assert world.store.find("T1").state == "incoming"
    assert world.land(1000) == []
    again = given._replace(by="Bob")
    task = world.store.find("T1")
    review.record_verdict(world.store, world.config, task, again, now=NOW + 2000, run="person-2")
    assert len(world.land(3000)) == 1, "a new approval is a new try"
