"""The protocol of the queue. `tasks.stores` says which queue a project has.

`tasks.file_store` keeps one file per task. To keep the queue elsewhere, write another class of
this protocol; it must pass `tests/store_contract.py`.

`Sharing` is the part of it that concerns several hosts. These stay on each host's disk: the lock
of the tick (`tick.lock`), the agents' memory and run folders (`agents/`), the hold
(`shared/hold.json`) and the events (`events.jsonl`).
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from orchestrator.model.annotations import Protocol
from orchestrator.model.errors import NotFound
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import OPEN_STATES, STATES, Entry, Task
from orchestrator.tasks import task_file
from orchestrator.tasks.sharing import Sharing
from orchestrator.tasks.task_file import TaskFile

#: Looks for a task that moves to another state behind each look.
LOOKS = 10


class Malformed(NamedTuple):
    """An item of the queue that cannot be a task, and why. It has no effect on other tasks."""

    #: For display.
    where: str
    reason: str
    #: What a person can do.
    hint: str = "fix or move that file"

    def problem(self) -> Problem:
        return Problem("task_malformed", f"{self.where}: {self.reason}", self.hint)


class Listing(NamedTuple):
    """The tasks of one state in the order of claims, and the items that cannot be tasks."""

    tasks: Sequence[Task]
    malformed: tuple[Malformed, ...] = ()


class Watched(NamedTuple):
    """Paths whose file times change with the waiting tasks and with every move (`idle.mark`)."""

    paths: tuple[str, ...]
    #: Whether they also show that a person edited the file of a waiting task in place.
    sees_edits: bool = True


class Store(Sharing, Protocol):
    """The interface of a queue. Each call may raise OSError; times are epoch seconds.

    A task is in exactly one state, whichever process is killed. A change is durable when the call
    returns.
    """

    def list(self, state: str) -> Listing:
        """Return the tasks in a state, in the order of `model.task_order`."""

    def waiting(self) -> Listing:
        """Return what the next tick sees as the waiting tasks, for commands that change nothing.

        Where the last tick has left a stamp that holds, that is what it saw; as in an idle tick, an
        edit in place of one of many files may not show for five minutes (`tick.stamp`).
        """
        return self.list("incoming")

    def keep_waiting(self, *, surely: bool = False) -> None:
        """Keep what a tick has seen of the waiting tasks, for `waiting` and the next `list`.

        `surely`: the tick leaves a stamp, and `waiting` may believe what is kept while it holds.
        Raises OSError.
        """
        return None

    def counts(self, states: Iterable[str] = STATES) -> dict[str, int]:
        """Return how many items these states have; items that cannot be tasks may be included."""

    def ahead(self, *what: str) -> AbstractContextManager[object]:
        """Return a context whose first reads of `what` are made at once, where that saves time.

        `what` is a state, for `list`, or `sharing.ELSEWHERE`.
        """
        return nullcontext()

    def newest(self, most: int) -> Mapping[str, Listing]:
        """Return the finished tasks, by state, that changed last: about `most` of them."""
        return {state: self.list(state) for state in STATES if state not in OPEN_STATES}

    def browse(self, state: str, search: str = "", after: Task | None = None) -> Iterator[Task]:
        """Yield the tasks of a state, or those that follow `after`, until the caller has enough.

        The order of unfinished tasks is that of claims; finished tasks come newest first. `search`
        is a part of the title or of the id; case and blanks make no difference.
        """
        from orchestrator.model.waiting import Queue

        tasks = (self.waiting() if state == "incoming" else self.list(state)).tasks
        if state not in OPEN_STATES:
            tasks = tuple(sorted(tasks, key=lambda task: (task.created or 0, task.id)))[::-1]
        found = iter(tasks)
        if after is not None and isinstance(tasks, Queue):
            found = tasks.after(after.id)
        elif after is not None and after.id in {task.id for task in tasks}:
            found = itertools.dropwhile(lambda task: task.id != after.id, found)
            next(found)
        yield from (task for task in found if task_file.fits(search, task.title, task.id))

    def finished_parts(self, task_id: str) -> Sequence[Task]:
        """Return the finished tasks that name a task in their header field PARENT."""
        ended = (t for state in STATES if state not in OPEN_STATES for t in self.list(state).tasks)
        return [task for task in ended if task.header.get(task_file.PARENT) == task_id]

    def get(self, task_id: str) -> Task | None:
        """Return a task in any state by its id; None if there is no such task.

        A tick asks for ids that no task has, as often as a person writes them: the answer must not
        cost a look at every task.
        """
        try:
            return self.find(task_id)
        except NotFound:
            return None

    def find(self, task_id: str) -> Task:
        """Return a task in any state by its id. Raises NotFound, which names similar ids."""

    def read(self, task: Task) -> TaskFile:
        """Return a task with its body and history. Raises NotFound if it left `task.state`."""

    def whole(self, task_id: str) -> tuple[Task, TaskFile] | None:
        """Return what `get` finds, with its body and history; also a task that moves meanwhile.

        Raises TaskFileError if it cannot be read.
        """
        for _ in range(LOOKS):
            task = self.get(task_id)
            if task is None:
                break
            with suppress(NotFound):
                return task, self.read(task)
        return None

    def has_title(self, title: str, role: str | None, states: Iterable[str]) -> Task | None:
        """Return a task with this title (and role, unless None) in one of the states."""
        wanted = task_file.title_key(title)
        for state in states:
            for task in self.list(state).tasks:
                if task_file.title_key(task.title) == wanted and role in (None, task.role):
                    return task
        return None

    def change(self) -> AbstractContextManager[object]:
        """Return the lock under which every change happens; entering it nests.

        A listing stays true until the caller leaves the lock. Entering the lock removes
        `Layout.idle_stamp`, so that the next tick looks at everything. Raises LockHeld.
        """

    def add(self, file: TaskFile) -> str:
        """Put a new task into `incoming`; return `Task.where`. Raises if the id is taken."""

    def put(self, file: TaskFile, state: str, added: float) -> None:
        """Put a task as it is into a state, in place of the task with its id, if there is one.

        For a queue that moves to another store, while nobody works on it. `added` is the time (in
        epoch seconds) that replaces a missing CREATED.
        """

    def new_id(self) -> str:
        """Return an id that no task has. Later ids sort after earlier ids."""

    def claim(self, task: Task, entry: Entry, max_claimed: int) -> Task | None:
        """Move a waiting task to `claimed`; return None if the limit is reached or the task gone.

        The limit is checked under the lock that every claim takes (failures 15).
        """

    def holds(self, task_id: str, run: str) -> bool:
        """Return whether a run still has its task. Other hosts then leave it the task for now."""
        try:
            task = self.find(task_id)
        except NotFound:
            return False
        return task.state == "claimed" and task.run == run

    def move(self, task: Task, state: str, entry: Entry) -> Task:
        """Append `entry` to a task's history and move it to another state; return the new task.

        Repeating the call after a crash appends nothing twice. Raises NotFound if the task left
        `task.state`.
        """

    def note(self, task: Task, entry: Entry) -> Task:
        """Append to a task's history without moving it."""
        return self.move(task, task.state, entry)

    def rewrite(self, task: Task, text: str) -> Task:
        """Replace title, header and body of a task by `text`; its state and its history stay.

        Raises NotFound if the task left `task.state`, TaskFileError if `text` is not this task's
        (see `rewrite.with_text`).
        """

    def prepare(self) -> Sequence[str]:
        """Create what the queue needs, for `init`; a queue that exists is not changed.

        Returns the folders that were made on this disk.
        """

    def tidy(self) -> bool:
        """Do a part of what keeps the queue fast, outside the lock; return whether more is left.

        Takes some tenths of a second. Raises OSError.
        """

    def take_away(self) -> None:
        """Remove what only a scheduler needs, for `init --uninstall`. The tasks remain."""

    def places(self) -> Sequence[str]:
        """Return the paths on this disk at which the queue writes, or holds a lock.

        A symbolic link at one of them stops every change: git carries links, and a link that came
        with a commit could lead anywhere.
        """

    def watched(self) -> Watched | None:
        """Return the paths whose file times change with the waiting tasks and with every move.

        In a shared queue `number` changes instead; the paths are those of dropped files.
        Returns None if there are no such paths; then no tick takes the idle path.
        """

    def findings(self, now: float) -> Iterator[Problem]:
        """Yield problems for `doctor`: codes `permissions`, `task_malformed` and `clock`."""

    def leftovers(self, before: float) -> Sequence[str]:
        """Return files of killed writers, unchanged since `before`. Anyone may delete them."""


def of_branch(store: Store, branch: str) -> Task | None:
    """Return the task whose branch this is: the branch's name has the id of the task.

    An id is looked for at the start of the name, and after each character that no word has.
    """
    import re

    starts = [0, *(match.end() for match in re.finditer(r"[^A-Za-z0-9]", branch))]
    ends = [*(match.start() for match in re.finditer("-", branch)), len(branch)]
    for start, end in ((start, end) for start in starts for end in ends if start < end):
        task = store.get(branch[start:end])
        if task is not None and task.work_branch == branch:
            return task
    return None
