"""The supervisor: one small process that owns one run from its first file to its last.

It is forked off by a tick and goes through three stages under one process id, each starting from
what the run's journal says, the later ones in a fresh process image (exec):

    prepare   worktree, branch, instructions; then the client is started
    watch     the client is waited for, or ended when it passes a limit
    conclude  outcome, checks, push, pull request

Then it becomes a tick, so that the next work starts at once. Killed at any instant, it is started
again by the next tick and goes on where the journal stops. While it waits it holds little memory,
which is why this module imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from orchestrator.project import run_record
from orchestrator.run import watch
from orchestrator.run.journal import Journal
from orchestrator.system import locks, process

if TYPE_CHECKING:
    pass


def main(folder: str, lock_descriptor: int | None = None) -> int:
    """Go on with the run in `folder`, from wherever its journal says it is.

    `lock_descriptor` is the agent's lock, handed from stage to stage. Returns only if another
    process owns the run; otherwise the process becomes the next stage, or a tick.
    """
    agent_folder = os.path.dirname(os.path.dirname(folder))
    # A second of patience: others take the lock for a moment, to see whether it is held.
    lock = locks.Lock(os.path.join(agent_folder, "lock"), wait=1.0)
    if lock_descriptor is not None:
        lock.descriptor = lock_descriptor
        os.set_inheritable(lock_descriptor, False)
    try:
        lock.__enter__()
    except locks.LockHeld:
        return 0
    record = run_record.read(folder)
    if record is None or record.status == "finished":
        return 0
    root = os.path.abspath(os.path.join(folder, *[os.pardir] * 5))
    # A supervisor that only waits starts nothing, and should stay small.
    if record.status != "running" and not record.is_of_clone(folder, _key_of(root)):
        return 0
    if not _is_same_folder(record.project, root):
        # A person moved the project: the folder where it was no longer belongs to this run.
        record = record._replace(project=root, moved=True)
    me, before = process.known(os.getpid()), record.supervisor
    journal = Journal(folder, record._replace(supervisor=me))
    if record.status == "starting":
        # From the beginning, even if an earlier supervisor had finished its preparation: if the
        # machine went down after that, what git wrote may be lost.
        from orchestrator.run import launch, prepare

        plan = prepare.prepare(journal)
        if plan is not None:
            launch.start(journal, plan)
            become(folder, lock)
    elif me != before:
        journal.write_surely(journal.record)
    if journal.record.status == "running":
        become(watch.watch(journal), lock)
    if journal.record.status == "concluding":
        from orchestrator.run import conclude

        conclude.conclude(journal)
    lock.close()
    become_tick(journal.record.project)
    return 0


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

    A fork, because the tick has loaded already what the first stage needs: the client starts
    sooner by an interpreter's start and its imports. The child has a session of its own and no
    descriptor of ours but its log, so no pipe of ours can break under it.
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
        main(folder)
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(1)


def become(folder: str, lock: locks.Lock) -> None:
    """Become the run's next stage: same process, fresh image, the lock still held."""
    os.set_inheritable(lock.descriptor, True)
    words = [*process.own_program(), "_run", folder, str(lock.descriptor)]
    os.execv(words[0], words)


def become_tick(project: str) -> None:
    """Become a tick that waits for a tick under way, so that this run's end is surely seen."""
    os.chdir(project)
    words = [*process.own_program(), "_after_run", project]
    os.execv(words[0], words)
