"""The supervisor: one small process that owns one run from its first file to its last.

A tick forks it. It goes through three stages under one process id. Each stage starts from the run's
journal:

    prepare   worktree, branch, instructions; then the client is started
    watch     waits for the client, or ends it when it passes a limit
    conclude  outcome, checks, push, pull request

Then it becomes a tick, so that the next work starts at once. If it is killed, the next tick starts
it again, and it continues where the journal stops.

While it waits it should hold little memory, so `watch` begins in a fresh process image (exec), and
this module imports next to nothing. What follows continues in that image, unless the program was
replaced meanwhile: then each following stage is that of the new version.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from orchestrator.project import run_record
from orchestrator.run import watch
from orchestrator.run.journal import Journal
from orchestrator.system import locks, process

#: The files of this program when it started: another version may replace them during a run.
_STARTED = process.program_stamp()


def main(folder: str, lock_descriptor: int | None = None) -> list[str] | None:
    """Carry out the stage of the run in `folder` that its journal names.

    `lock_descriptor` is the agent's lock, handed from stage to stage. Returns the command line with
    which this process continues: that of the next stage, or of the tick after the run. Returns None
    if another process owns the run.
    """
    agent_folder = os.path.dirname(os.path.dirname(folder))
    # Waits one second: other processes take the lock for a moment, to see whether it is held.
    lock = locks.Lock(os.path.join(agent_folder, "lock"), wait=1.0)
    if lock_descriptor is not None:
        lock.descriptor = lock_descriptor
        os.set_inheritable(lock_descriptor, False)
    try:
        lock.__enter__()
    except locks.LockHeld:
        return None
    record = run_record.read(folder)
    if record is None or record.status == "finished":
        return None
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
        return _next_stage(watch.watch(journal), lock)
    if journal.record.status == "concluding":
        from orchestrator.run import conclude

        conclude.conclude(journal)
    lock.close()
    # The tick waits for a tick that runs already, so that it sees the end of this run.
    os.chdir(journal.record.project)
    return ["_after_run", journal.record.project]


def _next_stage(folder: str, lock: locks.Lock) -> list[str]:
    """Return the command line of the run's next stage; the lock stays held."""
    os.set_inheritable(lock.descriptor, True)
    return ["_run", folder, str(lock.descriptor)]


def is_replaced() -> bool:
    """Return whether another version has taken the program's place since this process started."""
    return process.program_stamp() != _STARTED


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


def start(folder: str) -> int:
    """Fork a detached supervisor for the run in `folder`; return its pid.

    A fork, because the tick has already loaded what the first stage needs: the client starts
    sooner. The child has a session of its own and no inherited descriptor, so the end of the tick's
    pipes cannot break it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.closerange(3, 4096)
        process.redirect(0, os.devnull, os.O_RDONLY)
        log = os.path.join(folder, run_record.SUPERVISOR_LOG)
        process.redirect(1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(1, 2)
        words = main(folder)
        if words is not None:
            become(words)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(1)


def become(words: list[str]) -> NoReturn:
    """Become the program with another command line, in a fresh process image."""
    program = process.own_program()
    os.execv(program[0], [*program, *words])
