"""Issues on GitHub as tasks (reference 9): one task per issue with the configured label, for ever.

Comments on an issue have a mark, so that no comment is posted again after a crash.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping

from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.config import Config
from orchestrator.model.errors import NotFound, OrchestratorError, SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Problem
from orchestrator.model.times import iso
from orchestrator.model.work import Task
from orchestrator.project import faults
from orchestrator.pulls import forges, github_repo, github_rows, issue_text
from orchestrator.pulls.gh import TICK_TIMEOUT, Gh, Refusal
from orchestrator.pulls.github_people import People
from orchestrator.pulls.issue_text import Issue
from orchestrator.system import files, records
from orchestrator.tasks import parts, stores, task_file
from orchestrator.tasks.task_file import entry

#: Seconds between two looks at the issues. A permission is remembered for one look, its lack for
#: longer: the issues of people without it are listed again at each look.
EVERY, REFUSED_KEPT = 300.0, 3600.0
#: Issues of one page, and the most that are looked at.
PAGE, MOST = 100, 1000
#: The most requests of one tick about single issues and authors: others wait for the tick.
ASKED = 20
_FIELDS = "number,title,body,author,labels,url"
#: How a task's id begins, and the state of an issue that GitHub does not know any more.
_ID, _GONE = "GH-", "DELETED OR TRANSFERRED"


class Known(NamedTuple):
    """Whether a login may write to the repository, and when that was asked."""

    may_write: bool
    asked: float


class Kept(NamedTuple):
    """The file of a `Memory`."""

    #: When issues were last asked for.
    asked: float = 0.0
    #: By the number of an issue that became a task: what the issue was told.
    made: Mapping[str, tuple[str, ...]] = {}
    authors: Mapping[str, Known] = {}


class Memory:
    """What outlasts a tick. A task whose file a person removed is not made again."""

    def __init__(self, layout: Layout) -> None:
        self._path = os.path.join(layout.shared, "issues.json")
        self.kept = records.build(Kept, files.read_json(self._path) or {}) or Kept()

    def change(self, **changes: Any) -> None:
        self.kept = self.kept._replace(**changes)
        files.make_folder(os.path.dirname(self._path))
        files.write_json(self._path, records.plain(self.kept))

    def tell(self, number: int, *what: str) -> None:
        """Note that an issue became a task, and what the issue was told of it."""
        told = (*self.kept.made.get(str(number), ()), *what)
        self.change(made={**self.kept.made, str(number): told})


def next_look(layout: Layout, config: Config, now: float) -> float:
    """Return when issues are asked for again (epoch seconds); infinity if they never are."""
    if config.issues.label is None or config.paused:
        return math.inf
    return min(Memory(layout).kept.asked, now) + EVERY


def problem(layout: Layout, config: Config) -> Problem | None:
    """Return why issues do not become tasks, if they should; asks nobody."""
    if config.issues.label is None:
        return None
    if not forges.of_project(layout, config).is_elsewhere:
        message = "issues.label is set, but the forge of this project is local"
        hint = "set `forge: github`, or `issues: {label: null}`, in .orchestrator/agents.yaml"
        return Problem("config_error", message, hint)
    return faults.read(_fault(layout))


def _fault(layout: Layout) -> str:
    return os.path.join(layout.cache, "issues-fault.json")


class Follower:
    """Follows the issues in one tick, under the scheduler's lock."""

    def __init__(self, layout: Layout, settings: Settings, now: float) -> None:
        self._layout, self._config, self._now = layout, settings.config, now
        self._store = stores.of_project(layout)
        self._memory = Memory(layout)
        self._left = ASKED
        found = github_repo.of_remote(layout, self._config.remote)
        if found is None:
            message = f"the remote {self._config.remote!r} is not on GitHub"
            raise SystemFault(message, "set `remote` in agents.yaml", code="forge_failed")
        self._gh = Gh(layout, found)
        self._people = People(self._gh)

    def follow(self, settled: Collection[str]) -> Iterator[tuple[str, str]]:
        """Carry out what is due; yield the task and the reason of each change.

        `settled` are the tasks whose runs this tick settled. Raises OrchestratorError.
        """
        due = self._now - EVERY >= self._memory.kept.asked or self._memory.kept.asked > self._now
        numbers = [int(each[3:]) for each in settled if re.fullmatch(rf"{_ID}\d{{1,9}}", each)]
        listed: list[Issue] = []
        fault: Refusal | None = None
        if due := due and not self._config.paused:
            # Noted first: a failing gh is asked again at the next look, not at each tick.
            self._memory.change(asked=self._now)
            listed = self._listed()
            try:
                yield from self._make(listed)
            except Refusal as error:
                # Who may write is not told: the issues of the tasks still hear what happens.
                fault = error
            numbers = [issue.number for issue in listed]
        for number in numbers:
            yield from self._tell(number)
        if due:
            # Last: tasks whose issues only lost their label are asked about at each look.
            yield from self._cancel({issue.number for issue in listed})
        if fault is not None:
            raise fault

    def _listed(self) -> list[Issue]:
        """Return the open issues with the label, in one request if they fit one page."""
        listed: list[Issue] = []
        for limit in (PAGE, MOST):
            words = ("issue", "list", "--state", "open", "--limit", str(limit))
            label = ("--label", _quoted(self._config.issues.label or ""), "--json", _FIELDS)
            listed = issue_text.listed(self._gh.json(*words, *label, timeout=TICK_TIMEOUT))
            if len(listed) < limit:
                break
        return listed

    def _make(self, listed: list[Issue]) -> Iterator[tuple[str, str]]:
        for issue in sorted(listed, key=lambda each: (each.priority, each.number)):
            if str(issue.number) in self._memory.kept.made:
                continue
            if not self._has_room():
                return
            if self._may_write(issue.author) is True and self._add(issue):
                yield f"{_ID}{issue.number}", f"issue {issue.number} on GitHub"

    def _has_room(self) -> bool:
        waiting = sum(len(self._store.list(state).tasks) for state in ("incoming", "claimed"))
        return waiting < self._config.queue_limits.max_incoming

    def _add(self, issue: Issue) -> bool:
        """Add the issue's task; return whether it is new."""
        name = f"{_ID}{issue.number}"
        file = task_file.new(
            name,
            issue.title or f"Issue {issue.number}",
            "implement",
            issue.priority,
            None,
            iso(self._now) or "",
            f"github:{issue.author}",
            (),
            issue_text.body(issue),
            (("ISSUE", str(issue.number)),),
        )
        try:
            with self._store.change():
                # The limit is checked under the lock, because others may add at the same time.
                added = self._has_room() and not self._exists(name)
                if added:
                    self._store.add(file)
        except OrchestratorError as error:
            if error.code != "duplicate_task":
                raise
            added = False
        if added or self._exists(name):
            self._memory.tell(issue.number)
        return added

    def _exists(self, name: str) -> bool:
        return self._store.get(name) is not None

    def _may_write(self, login: str) -> bool | None:
        """Return whether a login may write to the repository, also as a member of an organization.

        None: this tick asks no more.
        """
        if self._config.issues.any_author:
            return True
        if issue_text.LOGIN.fullmatch(login) is None:
            return False
        known = self._memory.kept.authors.get(login)
        kept = EVERY if known is not None and known.may_write else REFUSED_KEPT
        if known is not None and 0 <= self._now - known.asked < kept:
            return known.may_write
        if not self._may_ask():
            return None
        known = Known(self._people.may_write(login), self._now)
        self._memory.change(authors={**self._memory.kept.authors, login: known})
        return known.may_write

    def _cancel(self, listed: set[int]) -> Iterator[tuple[str, str]]:
        """Cancel the tasks that still wait for a first delivery and whose issues are closed."""
        waiting = [
            (int(task.id[3:]), task)
            for task in self._store.list("incoming").tasks
            if re.fullmatch(rf"{_ID}\d{{1,9}}", task.id) and task.pr is None
        ]
        for number, task in waiting:
            is_gone = number not in listed and str(number) in self._memory.kept.made
            ended = self._view(number).get("state") if is_gone and self._may_ask() else None
            if ended not in ("CLOSED", _GONE):
                continue
            reason = f"issue {number} was {ended.lower()}"
            self._store.move(task, "failed", entry(self._now, "cancelled", reason=reason))
            yield task.id, reason

    def _tell(self, number: int) -> Iterator[tuple[str, str]]:
        """Comment on an issue, if its task is in a state that the issue was not told yet."""
        told = self._memory.kept.made.get(str(number))
        task = self._store.get(f"{_ID}{number}") if told is not None else None
        if told is None or task is None:
            return
        what = issue_text.told(task)
        if what is None or what in told or not self._may_ask():
            return
        mark = f"<!-- orchestrator: {task.id} {what} -->"
        show = self._config.issues.show_questions
        said = issue_text.comment(what, task, self._links(task), show_question=show)
        try:
            posted = github_rows.rows_of(self._view(number), "comments")
            # A stranger who posts the mark first does not silence the product. gh 2.23 does not
            # say whose a comment is.
            own = (each for each in posted if each.get("viewerDidAuthor") is not False)
            if not any(mark in str(each.get("body")) for each in own):
                words = ("issue", "comment", str(number), "--body-file", "-")
                self._gh.run(*words, stdin=f"{said}\n\n{mark}\n")
        except (Refusal, NotFound) as error:
            # The issue is locked or gone: asking again would change nothing.
            yield task.id, f"issue {number} takes no comment: {error.message[-200:]}"
        self._memory.tell(number, what)

    def _may_ask(self) -> bool:
        """Return whether this tick may ask about another issue or author, and count it."""
        self._left -= 1
        return self._left >= 0

    def _links(self, task: Task) -> list[str]:
        """Return the addresses of the pull requests of a task, or of its parts."""
        book = forges.of_project(self._layout, self._config).book
        whole = [task] if task.pr else parts.recorded(self._store, task)
        found = [book.get(each.pr) for each in whole if each.pr]
        return [pr.url or pr.id for pr in found if pr is not None]

    def _view(self, number: int) -> Mapping[str, object]:
        words = ("issue", "view", str(number), "--json", "state,comments")
        try:
            found = self._gh.json(*words, timeout=TICK_TIMEOUT)
        except NotFound:
            return {"state": _GONE}
        return found if isinstance(found, dict) else {}


def _quoted(label: str) -> str:
    """Return a label as gh reads it: as a row of CSV."""
    return '"{}"'.format(label.replace('"', '""')) if '"' in label else label


def follow(
    layout: Layout, settings: Settings, now: float, settled: Collection[str]
) -> list[tuple[str, str]]:
    """Carry out what is due about issues; return the task and the reason of each change.

    A failure of the forge is kept until a later look succeeds (`problem`). Raises OSError.
    """
    done: list[tuple[str, str]] = []
    try:
        if not forges.of_project(layout, settings.config).is_elsewhere:
            return done
        done.extend(Follower(layout, settings, now).follow(settled))
    except OrchestratorError as error:
        faults.keep(_fault(layout), error)
        return done
    files.remove(_fault(layout))
    return done
