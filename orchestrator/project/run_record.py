"""A run's folder: `runs/<run-id>/`, one per attempt, never overwritten.

`run.json` is the run's journal: after a crash, the next process reads there how far the run came.
The tick writes it until the supervisor has started; after that, only the holder of the agent's lock
does. The waiting supervisor loads this module, so it imports nothing heavy.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

from orchestrator.model.annotations import IO, Literal, cast
from orchestrator.model.config import Agent
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Outcome
from orchestrator.model.work import PullRequest
from orchestrator.system import disk, files, records
from orchestrator.system.disk import Shortage
from orchestrator.system.process import ProcessId

RECORD = "run.json"
INSTRUCTIONS = "instructions.md"
PROMPT = "prompt.md"
STREAM = "stream.jsonl"
#: A long stream is compressed into this file after the run's end.
PACKED_STREAM = "stream.jsonl.gz"
STDERR = "stderr.log"
SUPERVISOR_LOG = "supervisor.log"
#: The output of the worktree's set-up, and of the checks before the delivery.
SETUP_LOG, CHECKS_LOG = "setup.log", "checks.log"
#: Bytes of a log's end that are shown.
TAIL_BYTES = 16_384
#: How the client is started: `run/journal.py`.
LAUNCH = "launch.json"
#: A person's request to end the run, with the reason; it outlives a supervisor that is killed.
STOP = "stop"

#: starting: the supervisor prepares the worktree. running: the client works. concluding: the
#: client has ended, or an earlier run did the work; delivery follows. finished: only ticks act now.
Status = Literal["starting", "running", "concluding", "finished"]
#: The statuses that may follow each status in `run.json`. A journal is also written between two
#: changes of its status, and any run can be ended at once.
TRANSITIONS: dict[Status, tuple[Status, ...]] = {
    "starting": ("starting", "running", "concluding", "finished"),
    "running": ("running", "concluding", "finished"),
    "concluding": ("concluding", "finished"),
    "finished": ("finished",),
}


class ClientProcess(NamedTuple):
    """The client's process. Times are seconds since the epoch."""

    pid: int
    identity: str | None = None
    started: float | None = None
    #: Why the program could not be started.
    start_error: str | None = None
    #: The start by `time.monotonic` (seconds), which is one clock for all processes.
    since: float | None = None

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.identity)


class Ended(NamedTuple):
    """How the client ended, as far as its supervisor saw it."""

    exit_code: int | None = None
    signal: int | None = None
    #: The limit for which the supervisor ended it.
    stopped_for: str | None = None
    #: What the machine lacked while the client worked, or at its end: space, or memory.
    disk: Shortage | None = None
    at: float | None = None


class Steps(NamedTuple):
    """Steps of the conclusion that are done, each with what came of it."""

    #: The ref with what the agent left uncommitted.
    rescued: str | None = None
    #: Commits.
    checked: str | None = None
    pushed: str | None = None
    #: A pull request's id.
    pr: str | None = None


class Undelivered(NamedTuple):
    """Finished work that a system fault kept from being delivered."""

    told: Outcome
    #: The commit to deliver.
    head: str | None = None


class RunRecord(NamedTuple):
    """What is known of one run. Times are seconds since the epoch."""

    id: str
    agent: str
    role: str
    task: str | None
    created: float
    status: Status
    #: The project's folder; the clone's key shows that the run began there.
    project: str
    #: The agent as configured when the run began: later edits do not change the run's limits.
    settings: Agent
    attempt: int
    key: str = ""
    title: str | None = None
    #: The conversation to resume, and its cost before this run (a conversation's cost adds up).
    resume: str | None = None
    resume_cost_usd: float = 0.0
    #: Whether the run is to start in a new worktree.
    fresh: bool = False
    #: Its input and output tokens before this run.
    resume_tokens: tuple[int, ...] = ()
    #: Work of an earlier run, or of this one, that is not delivered yet.
    undelivered: Undelivered | None = None
    #: The project was moved to another folder during the run.
    moved: bool = False
    supervisor: ProcessId | None = None
    # From here on: written by the preparation.
    branch: str | None = None
    base: str | None = None
    base_commit: str | None = None
    #: The commit that the worktree starts from.
    start: str | None = None
    remote: str | None = None
    #: The remote that the branch is pushed to, and its address if that is not the remote's URL.
    push_remote: str | None = None
    push_address: str | None = None
    #: The commit that the branch had at that remote.
    there: str | None = None
    #: The ref that keeps the branch's own commits, if it was moved to commits that others pushed.
    replaced: str | None = None
    #: Why the worktree is not set up, if the branch is the reason.
    not_set_up: str | None = None
    #: Whether git knows the user's name.
    identity: bool = False
    #: The pull request under review.
    review: PullRequest | None = None
    #: The conversation of this run.
    session: str | None = None
    client: ClientProcess | None = None
    # From here on: written at the client's end and by the conclusion.
    ended: Ended | None = None
    steps: Steps = Steps()
    #: The commit at the branch's tip, and the number of commits since `base_commit`.
    tip: str | None = None
    commits: int = 0
    #: The paths where these commits name another repository's commit; `.gitmodules` if changed.
    links: tuple[str, ...] = ()
    outcome: Outcome | None = None
    #: None also for a finished run whose supervisor died: nobody saw its end.
    finished: float | None = None
    #: Keys of `run.json` that only another version of this program knows.
    unknown: Mapping[str, object] = {}

    def is_at_work(self) -> bool:
        """Return whether a process of the run lives: its supervisor, or its client."""
        processes = (self.supervisor, self.client and self.client.process)
        return any(each is not None and each.is_alive() for each in processes)

    def is_of_clone(self, folder: str, key: str) -> bool:
        """Return whether the record, read from `folder`, contains the clone's `key`.

        A run's folder names a program to start. A folder that came with a commit has another key;
        that of a project that was copied during the run has the same.
        """
        is_same = self.key == key and self.id == os.path.basename(folder)
        return is_same and not self.is_elsewhere(folder)

    def is_elsewhere(self, folder: str) -> bool:
        """Return whether `folder`, of this record, is a copy: then its processes are not its own.

        The project that was copied (`cp -a`) still has the run's folder; a move leaves no folder.
        """
        inside = folder.split(os.sep)[-5:]  # as in `layout.Layout.run`
        there = os.path.join(self.project, *inside)
        try:
            return there != folder and not os.path.samefile(there, folder)
        except OSError:
            return False

    def seconds(self) -> float | None:
        """Return the run's time, 0 if the clock was moved back; None if nobody saw its end."""
        return None if self.finished is None else max(self.finished - self.created, 0.0)

    def cost(self) -> float | None:
        """Return the run's own cost in US dollars, without the conversation's earlier runs.

        None if it is not known.
        """
        told = self.outcome.cost_usd if self.outcome else None
        if told is None:
            return None
        own = told - self.resume_cost_usd
        # Old versions of the client (2.1.257) do not add up: then it is the whole amount.
        return own if own >= 0 else told


class NotAllowed(Exception):
    """The status of a run would change against `TRANSITIONS`: an error of this program."""


def read(folder: str) -> RunRecord | None:
    """Return a run's record; None if it is missing, or this program did not write it."""
    found = files.read_json(os.path.join(folder, RECORD))
    record = records.build(RunRecord, found)
    if found is None or record is None:
        return None
    if record.client is not None and record.client.pid <= 0:
        record = record._replace(client=None)
    return record._replace(unknown={k: v for k, v in found.items() if k not in record._fields})


def is_withheld(folder: str) -> bool:
    """Return whether a run's record may be there, but the disk does not give it (EIO, ESTALE)."""
    return disk.withheld(os.path.join(folder, RECORD)) is not None


def write(folder: str, record: RunRecord) -> None:
    """Write a run's record. Raises OSError, and NotAllowed for a status that may not follow."""
    before = (files.read_json(os.path.join(folder, RECORD)) or {}).get("status")
    if before in TRANSITIONS and record.status not in TRANSITIONS[before]:
        raise NotAllowed(f"{folder}: {before} to {record.status}")
    known = record._asdict()
    values = {**known.pop("unknown"), **known}
    files.write_json(os.path.join(folder, RECORD), records.plain(values))


@contextlib.contextmanager
def opened_stream(folder: str) -> Iterator[IO[bytes]]:
    """Open a run's stream; an empty stream if the run has no output yet."""
    # In this order: a stream is whole in its packed form before the plain file is removed.
    plain = open_file(folder, STREAM)
    packed = None if plain else open_file(folder, PACKED_STREAM)
    with plain or packed or open(os.devnull, "rb") as stream:
        if packed:
            import gzip

            stream = cast("IO[bytes]", gzip.GzipFile(fileobj=packed))
        yield stream


def open_file(folder: str, name: str) -> IO[bytes] | None:
    """Open a file of a run, but nothing that an agent may have put in its place."""
    try:
        return files.open_regular(os.path.join(folder, name))
    except OSError:
        return None


def tail(folder: str, name: str) -> str:
    """Return the end of one of a run's logs, without secrets; "" for a missing log."""
    from orchestrator.guard import secret_shapes

    with open_file(folder, name) or open(os.devnull, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0))
        return secret_shapes.withheld(file.read(TAIL_BYTES).decode(errors="replace"))


#: The reason of a run that a person ended.
STOPPED = "stopped: by a person"


def stop_reason(folder: str) -> str | None:
    """Return why a person wants the run to end; None if nobody does."""
    path = os.path.join(folder, STOP)
    try:
        reason = files.read_regular(path)
    except FileNotFoundError:
        return None
    except OSError:  # the disk gives no answer (EIO): that must not end a waiting supervisor
        return "stopped" if os.path.lexists(path) else None
    return reason.decode(errors="replace").strip() or "stopped"


def ask_to_stop(folder: str, reason: str) -> None:
    """Leave a request in the run's folder to end the run. Raises OSError.

    If the folder was deleted, the supervisor ends the client for that reason (`run/watch.py`).
    """
    path = os.path.join(folder, STOP)
    try:
        files.write_atomic(path, reason.encode())
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in disk.ERRORS:
            raise
        # A full disk may still take an empty file.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
