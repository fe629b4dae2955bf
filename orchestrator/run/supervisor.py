"""The supervisor: one small process that owns one run from its first file to its last.

A tick forks it. It goes through three stages under one process id. Each stage starts from the run's
journal, the two later stages in a fresh process image (exec):

    prepare   worktree, branch, instructions; then the client is started
    watch     waits for the client, or ends it when it passes a limit
    conclude  outcome, checks, push, pull request

Then it becomes a tick, so that the next work starts at once. This needs no further image: most of
what a tick imports is already there. If it is killed, the next tick starts
it again, and it continues where the journal stops. While it waits it should hold little memory, so
this module imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from orchestrator.project import run_record
from orchestrator.run import watch
from orchestrator.run.journal import Journal
from orchestrator.system import locks, process

#: The files of this program when it started: another version may replace them during a run.
_STARTED = process.program_stamp()


def main(folder: str, lock_descriptor: int | None = None) -> str | None:
    """Continue the run in `folder` from the stage in its journal.

    `lock_descriptor` is the agent's lock, handed from stage to stage. Returns the project's folder
    when the run has ended: this process is to become a tick there. Returns None if another process
    owns the run. Otherwise the process becomes the next stage.
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
            _become_stage(folder, lock)
    elif me != before:
        journal.write_surely(journal.record)
    if journal.record.status == "running":
        _become_stage(watch.watch(journal), lock)
    if journal.record.status == "concluding":
        from orchestrator.run import conclude

        conclude.conclude(journal)
    lock.close()
    os.chdir(journal.record.project)
    if process.program_stamp() != _STARTED:
        # What the tick still has to import would be of another version.
        _become_tick(journal.record.project)
    return journal.record.project


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
        # The run ended before its client started. Nothing of the parent's memory goes along.
        root = main(folder)
        if root is not None:
            _become_tick(root)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(1)


def _become_stage(folder: str, lock: locks.Lock) -> None:
    """Become the run's next stage in a fresh process image; the lock stays held."""
    os.set_inheritable(lock.descriptor, True)
    _become("_run", folder, str(lock.descriptor))


def _become_tick(root: str) -> None:
    """Become the tick after a run, which waits for a tick that runs already."""
    _become("_after_run", root)


def _become(*arguments: str) -> None:
    words = [*process.own_program(), *arguments]
    os.execv(words[0], words)
