"""The supervisor: one small process that owns one run from its first file to its last.

A tick forks it. It goes through three stages under one process id. Each stage starts from the run's
journal:

    prepare   worktree, branch, instructions; then the client is started
    watch     waits for the client, or ends it when it passes a limit
    conclude  outcome, checks, push, pull request

Then it becomes a tick, so that the next work starts at once. If it is killed, the next tick starts
it again, and it continues where the journal stops.

The forked process has the imports of the tick and needs no other image, with three exceptions. Then
it becomes a fresh image (exec): if the client takes longer than SMALL_AFTER, because a supervisor
that waits should hold little memory (so this module imports next to nothing); if the program was
replaced meanwhile, because the next stage should be that of the new version; and after MOST_FORKS
runs, because each leaves something in memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from orchestrator.model.annotations import NoReturn
from orchestrator.project import run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.run import watch
from orchestrator.run.journal import Journal
from orchestrator.system import locks, process

#: Seconds of waiting for a client after which it is waited for in a small image. (The import of the
#: program takes as much CPU time as the rest of a run.)
SMALL_AFTER = 5.0
#: Runs that may follow each other in forks of one image.
MOST_FORKS = 20
#: The forks that lie between this process and the start of its image.
_forks = 0
#: The files of this program when it started: another version may replace them during a run.
_STARTED = process.program_stamp()


def main(folder: str, lock_descriptor: int | None = None, *, small: bool) -> list[str] | None:
    """Carry out the stage of the run in `folder` that its journal names.

    `lock_descriptor` is the agent's lock, handed from stage to stage. `small` says that this image
    has imported next to nothing: it may wait for long. Returns the command line with which this
    process continues: that of the next stage, or of the tick after the run. Returns None if another
    process owns the run. If a fresh image is due, the process becomes that.
    """
    agent_folder = os.path.dirname(os.path.dirname(folder))
    # Waits one second: other processes take the lock for a moment, to see whether it is held.
    lock = locks.Lock(os.path.join(agent_folder, "lock"), wait=1.0)
    if lock_descriptor is not None:
        lock.descriptor = lock_descriptor
        os.set_inheritable(lock_descriptor, False)
    is_owner = True
    try:
        lock.__enter__()
    except (locks.LockHeld, FileNotFoundError):  # the agent's folder was deleted
        is_owner = False
    record = run_record.read(folder)
    if record is None and lock_descriptor is not None and not run_record.is_withheld(folder):
        # The folder was deleted since the last stage: no other process would find the client.
        process.end_run(None, None, os.path.basename(folder), keeper=os.getpid())
    if not is_owner or record is None or record.status == "finished":
        return None
    try:
        return _stage(folder, record, lock, small=small)
    except OSError:
        # A folder that a person moved is the current one.
        if os.path.isdir(folder) or os.path.exists(run_record.RECORD):
            raise
    # The folder was deleted, and with it the record: no other process would find the client.
    process.end_run(None, None, record.id, keeper=os.getpid())
    lock.close()
    return _tick_after(record.project)


def _stage(folder: str, record: RunRecord, lock: locks.Lock, *, small: bool) -> list[str] | None:
    """Carry out the stage that the record names; as `main`, which holds the lock.

    Raises FileNotFoundError if the folder is deleted meanwhile.
    """
    root = os.path.abspath(os.path.join(folder, *[os.pardir] * 5))
    # A supervisor that only waits starts nothing, and should stay small.
    if record.status != "running" and not record.is_of_clone(folder, _key_of(root)):
        return None
    if not _is_same_folder(record.project, root):
        # A person moved the project: the folder where it was no longer belongs to this run.
        record = record._replace(project=root, moved=True)
    me, before = process.known(os.getpid()), record.supervisor
    journal = Journal(folder, record._replace(supervisor=me))
    if record.status == "starting":
        # From the beginning, even if an earlier supervisor had finished the preparation: after a
        # power cut, what git wrote may be lost.
        from orchestrator.run import launch, prepare

        plan = prepare.prepare(journal)
        if plan is not None:
            launch.start(journal, plan)
            return _next_stage(folder, lock)
    elif me != before:
        journal.write_surely(journal.record)
    if journal.record.status == "running":
        ended = watch.watch(journal, None if small else SMALL_AFTER)
        words = _next_stage(journal.folder, lock)
        if not ended:
            become(words)
        return words
    if journal.record.status == "concluding":
        from orchestrator.run import conclude

        conclude.conclude(journal)
    lock.close()
    return _tick_after(journal.record.project)


def _tick_after(project: str) -> list[str] | None:
    """Return the command line of the tick after the run; None if the project was deleted.

    This tick waits for a tick that runs already, so that it sees the end of this run.
    """
    try:
        os.chdir(project)
    except FileNotFoundError:
        return None
    return ["_after_run", project]


def _next_stage(folder: str, lock: locks.Lock) -> list[str]:
    """Return the command line of the run's next stage; the lock stays held."""
    os.set_inheritable(lock.descriptor, True)
    return ["_run", folder, str(lock.descriptor)]


def carry_on(words: list[str], tick: Callable[[str], object], *, small: bool) -> None:
    """Carry out a command line, and those that follow: stages of a run, then a tick.

    `tick` is called with the project's folder.
    """
    following: list[str] | None = words
    while following is not None:
        if process.program_stamp() != _STARTED or (_forks > MOST_FORKS and len(following) > 2):
            become(following)
        if following[0] != "_run":
            tick(following[1])
            return
        folder, *descriptor = following[1:]
        following = main(folder, *map(int, descriptor), small=small)


def _key_of(root: str) -> str:
    """Return the key of the clone in `root`: a run's folder is ROOT/.orchestrator/agents/..."""
    from orchestrator.layout import Layout
    from orchestrator.project import mark

    return mark.key(Layout(root))


def _is_same_folder(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


class Gate:
    """Holds supervisors back until it is closed, or until the process that made it has ended."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()

    def close(self) -> None:
        """Let the supervisors begin."""
        os.close(self._writing)
        os.close(self._reading)

    def wait(self) -> None:
        """In a forked process: return when no process keeps the gate closed any more."""
        os.close(self._writing)
        os.read(self._reading, 1)


def start(folder: str, tick: Callable[[str], object], gate: Gate | None = None) -> int:
    """Fork a detached supervisor for the run in `folder`; return its pid.

    A fork, because the tick has already loaded what the run needs. At the run's end, `tick` is
    called with the project's folder. The child has a session of its own and no inherited
    descriptor, so the end of the tick's pipes cannot break it. It begins when `gate` is open.
    """
    load()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        if gate is not None:
            gate.wait()
        os.closerange(3, 4096)
        process.redirect(0, os.devnull, os.O_RDONLY)
        log = os.path.join(folder, run_record.SUPERVISOR_LOG)
        process.redirect(1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(1, 2)
        _count_fork()
        carry_on(["_run", folder], tick, small=False)
        os._exit(0)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(1)


def load() -> None:
    """Import what each run needs: once, and not in each of the processes that are forked."""
    import ctypes  # noqa: F401
    import encodings.ascii  # for `memory.kills`  # noqa: F401
    import hashlib  # noqa: F401
    import subprocess  # noqa: F401

    from orchestrator.client import registry
    from orchestrator.git import drivers  # noqa: F401
    from orchestrator.run import conclude, prepare  # noqa: F401
    from orchestrator.text import templates
    from orchestrator.upkeep import retention  # noqa: F401

    templates.load()
    for client in registry.CLIENTS.values():
        client.load()


def _count_fork() -> None:
    global _forks
    _forks += 1


def become(words: list[str]) -> NoReturn:
    """Become the program with another command line, in a fresh process image."""
    program = process.own_program()
    os.execv(program[0], [*program, *words])
