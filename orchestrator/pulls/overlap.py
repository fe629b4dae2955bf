"""The overlap radar: which pieces of live work change the same lines of the same files.

A piece of work is an agent's worktree during a run, or an open pull request. Git alone is asked,
never the forge. What two commits differ in is found out once and then remembered in a file by the
tick; commands that only read write nothing. What an agent has not committed is looked at each time.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import combinations

from orchestrator.git import overlap, ref_files
from orchestrator.git.overlap import Changes
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config, Role
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PullRequest, Task
from orchestrator.project import agent_memory, run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.system import files, records
from orchestrator.system.later import Later
from orchestrator.tasks import history, stores
from orchestrator.text.alphabets import is_commit

if TYPE_CHECKING:
    from orchestrator.git import base_branch, repository, worktree_commands
else:
    base_branch = Later("git.base_branch")
    repository = Later("git.repository")
    worktree_commands = Later("git.worktree_commands")

#: Characters of a waiting task's text that are searched for names of files.
SEARCHED = 100_000
_WORD = r"[^\s`'\"<>()\[\]{},;:!?*|]+"


class Work(NamedTuple):
    """One piece of live work."""

    #: The task's id; `pr:N` for a pull request without a task.
    task: str
    #: "pull request N" or the agent's name.
    where: str
    changes: Changes
    pr: str | None = None


class Overlap(NamedTuple):
    """Two pieces of work that change the same lines of some files, or lines close to each other."""

    one: Work
    other: Work
    files: tuple[str, ...]

    @property
    def by_line(self) -> bool:
        """Whether lines were compared; False when only the names of files were."""
        return self.one.changes.by_line and self.other.changes.by_line

    def __str__(self) -> str:
        ends = " and ".join(f"{work.task} ({work.where})" for work in (self.one, self.other))
        return f"{ends} {what(self.files, by_line=self.by_line)}"


def what(names: Collection[str], *, by_line: bool) -> str:
    """Return what two pieces of work have in common, as the end of a sentence about them."""
    lines = "lines of" if by_line else "files (too many to compare their lines):"
    return f"change the same {lines} {named(names)}"


def named(names: Collection[str]) -> str:
    """Return names of files for people, at most ten."""
    shown = [name for name, _ in zip(names, range(10), strict=False)]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


class Radar:
    """Looks at the live work of one project. `keep`: what was found out is remembered (a tick)."""

    def __init__(self, layout: Layout, config: Config, *, keep: bool = False) -> None:
        self._layout, self._config, self._keep = layout, config, keep
        self._store = stores.of_project(layout)
        self._path = os.path.join(layout.cache, "overlap.json")
        self._known = files.read_json(self._path) or {}
        self._used: dict[str, object] = {}
        self._tasks: dict[str, Task | None] = {}
        self._bases: dict[str, str | None] = {}

    def overlaps(self, prs: Iterable[PullRequest] | None, *, running: bool = True) -> list[Overlap]:
        """Return the pairs of pieces of work of different tasks that touch each other."""
        if self._config.overlap == "off":
            return []
        try:
            prs = list(prs or ())
            runs = len(list(_running(self._layout))) if running else 0
            if runs + sum(pr.state == "open" for pr in prs) < 2:
                return []  # without a question to git
            return self._pairs(self.works(prs, running=running))
        except OrchestratorError:  # git cannot be asked: that is reported elsewhere
            return []

    def _pairs(self, works: Collection[Work]) -> list[Overlap]:
        found: dict[tuple[str, str], Overlap] = {}
        for one, other in combinations(works, 2):
            if one.task == other.task or self._are_related(one.task, other.task):
                continue
            both = overlap.touched(one.changes, other.changes)
            if both:
                found.setdefault((one.task, other.task), Overlap(one, other, tuple(both)))
        return list(found.values())

    def works(self, prs: Iterable[PullRequest] | None, *, running: bool = True) -> list[Work]:
        """Return the live work: those of running agents, then the open pull requests."""
        runs = list(_running(self._layout)) if running else []
        open_prs = [pr for pr in prs or () if pr.state == "open" and not self._has_failed(pr)]
        works = [work for record in runs if (work := self._of_run(record))]
        works += [work for pr in open_prs if (work := self._of_pull_request(pr))]
        self._remember()
        return works

    # --- `overlap: hold` ---------------------------------------------------------------------

    def held(
        self,
        waiting: Iterable[Task],
        roles: Mapping[str, Role],
        prs: Iterable[PullRequest] | None,
    ) -> dict[str, str]:
        """Return why waiting tasks must not start now, by their ids (`overlap: hold`).

        A task is never held by work that waits for it, directly or not: nothing waits for ever.
        """
        opening = {role.takes for role in roles.values() if role.delivers == "pull_request"}
        tasks = [task for task in waiting if task.role in opening]
        if not tasks:
            return {}
        works = self.works(prs)
        places = _by_name(works)
        held: dict[str, str] = {}
        waits: dict[str, set[str]] = {}
        # The last first: of two that would hold each other, the one with priority is free.
        for task in reversed(tasks if works else []):
            for name, work in self._named(task, works, places):
                near = work.task == task.id or self._are_related(task.id, work.task)
                if near or self._waits(work.task, task.id, waits):
                    continue
                held[task.id] = f"{work.task} ({work.where}) is changing {name}"
                waits.setdefault(task.id, set()).add(work.task)
                break
        self._remember()
        return held

    def _named(
        self, task: Task, works: Collection[Work], places: Mapping[str, list[tuple[str, Work]]]
    ) -> Iterator[tuple[str, Work]]:
        """Yield the changed files that the task's text names, and those of its own commits."""
        try:
            body = self._store.read(task).body
        except OrchestratorError:
            body = ""
        import re

        words = re.findall(_WORD, f"{task.title}\n{body}"[:SEARCHED])
        for word in dict.fromkeys(word.removeprefix("./").rstrip(".") for word in words):
            yield from places.get(word, ())
        if not task.work_branch:
            return
        remote = self._config.push_remote or self._config.remote
        tip = base_branch.branch_commit(self._layout.root, remote, task.work_branch)
        base = base_branch.base_branch(self._config, task)
        own = self._between(tip, base, task) if tip else None
        mine = own.files if own else {}
        for work in works:
            yield from ((name, work) for name in mine if name in work.changes.files)

    def _waits(self, start: str, goal: str, waits: Mapping[str, set[str]]) -> bool:
        """Whether a task can end only after another: it depends on it, or is held by it."""
        seen, left = {start}, [start]
        while left:
            task_id = left.pop()
            task = self._task(task_id)
            further = {*(task.depends_on if task else ()), *waits.get(task_id, ())}
            if goal in further:
                return True
            left += further - seen
            seen |= further
        return False

    # --- looking -----------------------------------------------------------------------------

    def _of_run(self, record: RunRecord) -> Work | None:
        path = self._layout.worktree(record.agent)
        base = record.base_commit
        if base is None or record.task is None or not worktree_commands.is_worktree(path):
            return None
        since = repository.merge_base(path, "HEAD", self._tip(record.base or "") or base)
        since = self._since(path, "HEAD", since, self._task(record.task))
        found = overlap.changes(path, since) if since else None
        return Work(record.task, record.agent, found) if found else None

    def _of_pull_request(self, pr: PullRequest) -> Work | None:
        found = self._between(pr.head, pr.base, self._task(pr.task) if pr.task else None)
        if found is None:
            return None
        return Work(pr.task or f"pr:{pr.id}", f"pull request {pr.id}", found, pr.id)

    def _between(self, head: str, base: str, task: Task | None) -> Changes | None:
        """Return what a branch changes since it left its base."""
        tip = self._tip(base)
        if tip is None:
            return None
        key, root = f"{head} {tip}", self._layout.root
        since = self._known.get(key)
        # A file in the cache is no place from which git takes options.
        if not isinstance(since, str) or not is_commit(since):
            since = self._since(root, head, repository.merge_base(root, head, tip), task)
        if since is None:
            return None
        self._used[key] = since
        return self._changes(since, head)

    def _changes(self, since: str, head: str) -> Changes:
        """Return what changed between two commits: git is asked once, however the base moves."""
        key = f"{since} to {head}"
        found = records.build(Changes, self._known.get(key))
        # A diff that takes too long is not tried again.
        found = found or overlap.changes(self._layout.root, since, head) or Changes(by_line=False)
        self._used[key] = records.plain(found)
        return found

    def _since(self, cwd: str, head: str, base: str | None, task: Task | None) -> str | None:
        """Return where a task's own work begins: after what its branch was cut from (`cuts`)."""
        if base is None or task is None or not task.depends_on:
            return base
        cut = history.cut(self._store.read(task).history)
        on_top = cut is not None and repository.is_ancestor(cwd, cut, head)
        return cut if on_top and not repository.is_ancestor(cwd, cut or "", base) else base

    def _tip(self, base: str) -> str | None:
        if base not in self._bases:
            root, remote = self._layout.root, self._config.remote
            # A command that only reads is short: a git process would be a tenth of it.
            plain = None if self._keep else ref_files.remote_commit(root, remote, base)
            self._bases[base] = plain or base_branch.branch_commit(root, self._remote, base)
        return self._bases[base]

    @cached_property
    def _remote(self) -> str | None:
        return base_branch.remote_of(self._layout, self._config)

    def _task(self, task_id: str) -> Task | None:
        if task_id not in self._tasks:
            self._tasks[task_id] = self._store.get(task_id)
        return self._tasks[task_id]

    def _has_failed(self, pr: PullRequest) -> bool:
        task = self._task(pr.task) if pr.task else None
        return task is not None and task.state == "failed"

    def _are_related(self, one: str, other: str) -> bool:
        """Whether one task builds on the other: then their changes are no surprise."""
        return self._waits(one, other, {}) or self._waits(other, one, {})

    def _remember(self) -> None:
        if self._keep and self._used != self._known:
            files.make_folder(os.path.dirname(self._path))
            files.write_json(self._path, self._used)
            self._known = dict(self._used)


def _running(layout: Layout) -> Iterator[RunRecord]:
    """Yield the runs that work on a branch now."""
    for name in agent_memory.names(layout):
        run = agent_memory.read(layout, name).run
        record = run_record.read(layout.run(name, run)) if run else None
        if record is not None and record.branch and record.status in ("running", "concluding"):
            yield record


def _by_name(works: Iterable[Work]) -> dict[str, list[tuple[str, Work]]]:
    """Return the changed files by each way to name them: `app.py` may mean `src/app.py`.

    A word in lower case without a dot or a slash is hardly a file: `test`.
    """
    places: dict[str, list[tuple[str, Work]]] = {}
    for work in works:
        for name in work.changes.files:
            parts = name.split("/")
            for start in range(len(parts)):
                short = "/".join(parts[start:])
                if "." in short or "/" in short or not short.islower():
                    places.setdefault(short, []).append((name, work))
    return places
