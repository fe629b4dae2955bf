"""The supervisor: one small process that owns one run from its first file to its last.

It is forked off by a tick and goes through three stages under one process id, each starting from
what the run's journal says, the later ones in a fresh process image (exec):

    prepare (runner)  worktree, branch, instructions; then the client is started
    watch   (here)    the client is waited for, or ended when it passes a limit
    conclude (runner) outcome, checks, push, pull request

Then it becomes a tick, so that the next work starts at once. Killed at any instant, it is started
again by the next tick and goes on where the journal stops. While it waits it holds little memory,
which is why this module imports next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from orchestrator.client import registry
from orchestrator.guard import client_environment
from orchestrator.project import run_record
from orchestrator.project.run_record import ClientProcess, Ended, Journal
from orchestrator.system import disk, files, locks, process

if TYPE_CHECKING:
    from orchestrator.model import Agent
    from orchestrator.system.aside import Aside

#: Bytes of output after which a run is taken for a runaway.
MAX_OUTPUT = 512 * 1024 * 1024
#: Bytes of a line of output that are looked at together.
MAX_LINE = 16 * 1024 * 1024
#: Seconds that the client may live on after its result line (background work can hold it open).
LINGER_SECONDS = 60.0
#: Longest time between two looks at the clock and the output.
POLL_SECONDS = 1.0


def main(folder: str, lock_descriptor: int | None = None, writer: Aside | None = None) -> int:
    """Go on with the run in `folder`, from wherever its journal says it is.

    `lock_descriptor` is the agent's lock, handed from stage to stage; `writer` is what got a head
    start on the run's instructions. Returns only when somebody
    else has the run in hand; otherwise the process becomes the next stage, or a tick.
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
        from orchestrator.run import runner

        if runner.prepare(journal, writer):  # writes the record first, while git works
            launch(journal)
            become(folder, lock)
    elif me != before:
        journal.write_surely(journal.record)
    if journal.record.status == "running":
        become(watch(journal), lock)
    if journal.record.status == "concluding":
        from orchestrator.run import runner

        runner.conclude(journal)
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
    from orchestrator.run import headstart

    writer = headstart.take()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        if writer is not None:
            writer.close()
        return pid
    try:
        os.setsid()
        process.close_all_but(*(writer.descriptors if writer else ()))
        _redirect(0, os.devnull, os.O_RDONLY)
        log = os.path.join(folder, run_record.SUPERVISOR_LOG)
        _redirect(1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(1, 2)
        main(folder, writer=writer)
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


def launch(journal: Journal) -> None:
    """Start the client; the record names it before it executes its first instruction.

    The child waits on a pipe until its pid is in the journal. If this process dies before that, the
    child reads the pipe's end and exits: no client runs that the record does not name.
    """
    plan = files.read_json(journal.path(run_record.LAUNCH))
    if plan is None:
        raise RuntimeError(f"{journal.folder}: {run_record.LAUNCH} is missing")
    client = registry.named(plan.get("client"))
    variables = client_environment.for_client(
        os.environ,
        plan["environment"],
        plan.get("allow", ()),
        kept=client.sign_in_names(os.environ),
        dropped=client.session_names,
    )
    go_read, go_write = os.pipe()
    error_read, error_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_write)
        _become_client(journal, plan, variables, go_read, error_write)
    os.close(go_read)
    os.close(error_write)
    started = ClientProcess(child, process.identity(child), time.time())
    journal.write_surely(journal.record._replace(client=started, status="running"))
    os.write(go_write, b"1")
    os.close(go_write)
    with os.fdopen(error_read, "rb") as errors:
        said = errors.read().decode(errors="replace")
    if said:
        started = started._replace(start_error=said)
        journal.write_surely(journal.record._replace(client=started))


def _become_client(
    journal: Journal, plan: dict[str, Any], variables: dict[str, str], go: int, errors: int
) -> None:
    """In the forked child: wait for the word, then turn into the client. Never returns."""
    program = plan["argv"][0]
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if os.read(go, 1) == b"1":
            _redirect(0, plan["stdin"], os.O_RDONLY)
            output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            _redirect(1, journal.path(run_record.STREAM), output)
            _redirect(2, journal.path(run_record.STDERR), output)
            os.chdir(plan["cwd"])
            os.execvpe(program, plan["argv"], variables)
    except OSError as error:
        os.write(errors, f"{program}: {error.strerror}".encode())
    finally:
        os._exit(127)


def _redirect(number: int, path: str, flags: int) -> None:
    descriptor = os.open(path, flags, 0o600)
    os.dup2(descriptor, number)
    os.close(descriptor)


def watch(journal: Journal) -> str:
    """Wait for the client's end, or end it when it passes a limit; write down what happened.

    The client may not be a child of this process, when an earlier supervisor died: then its end is
    seen by its identity, and its exit code stays unknown. Returns the run's folder, which may have
    been moved meanwhile.
    """
    process.adopt_orphans()
    # The run's files stay in reach wherever a person moves the project meanwhile.
    os.chdir(journal.folder)
    record = journal.record
    if record.client is None:
        raise RuntimeError(f"{journal.folder}: the record names no client")
    waiting = _Waiting(record.client, record.settings)
    limit = waiting.until_over()
    pid, identity, me = record.client.pid, record.client.identity, os.getpid()
    if limit:
        process.end_run(pid, identity, record.id, reap=waiting.poll, keeper=me)
    waiting.finish()
    # What the client left behind, wherever it hides, ends with it.
    process.end_run(None, None, record.id, reap=waiting.reap_adopted, keeper=me)
    journal.folder = os.getcwd()
    for name in (run_record.STREAM, run_record.STDERR):
        files.flush(journal.path(name))  # must not be lost where the record says that it ended
    short = disk.shortage(journal.folder)
    ended = Ended(waiting.exit_code, waiting.signal, limit, short, time.time())
    journal.write_surely(record._replace(ended=ended, status="concluding"))
    return journal.folder


class _Waiting:
    """The wait for one client, from within the run's folder."""

    def __init__(self, client: ClientProcess, limits: Agent) -> None:
        self.pid, self.identity = client.pid, client.identity
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.limits = limits
        self._outputs = (run_record.STREAM, run_record.STDERR)
        self._client = registry.named((files.read_json(run_record.LAUNCH) or {}).get("client"))
        self._result_at: float | None = None
        self._offset = 0
        self._wake, wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_write, False)
        # Signals only wake the loop below, which looks at the world itself.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(wake_write)

    def until_over(self) -> str | None:
        """Wait; return the limit that was passed, or None when the client ended by itself."""
        # Monotonic: neither a changed clock nor a sleeping laptop makes a run look old.
        began = changed = time.monotonic()
        size = -1
        runtime, stall = self.limits.max_runtime_seconds, self.limits.stall_seconds
        step = min([POLL_SECONDS, *(x / 4 for x in (runtime, stall) if x)])
        while not self.poll():
            if run_record.stop_reason(os.curdir):
                return "stopped"
            now = time.monotonic()
            latest = self._output_size()
            if latest != size:
                size, changed = latest, now
                self._look_for_result(now)
            if self._result_at is not None:
                if now - self._result_at > LINGER_SECONDS:
                    return "lingered"
            elif now - began > runtime:
                return "timed_out"
            elif stall and now - changed > stall:
                return "stalled"
            elif size > MAX_OUTPUT:
                return "too_much_output"
            if select.select([self._wake], [], [], step)[0]:
                os.read(self._wake, 512)
        return None

    def poll(self) -> bool:
        """Return whether the client is dead; its exit status is left for `finish`."""
        self.reap_adopted()
        try:
            # Not reaped yet: while it is a zombie nobody else can get its process group's id.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
        except ChildProcessError:
            return not process.is_alive(self.pid, self.identity)
        return True

    def reap_adopted(self) -> None:
        """Let go of the client's orphans that have ended."""
        wanted = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, wanted)) and ended.si_pid != self.pid:
                os.waitpid(ended.si_pid, 0)

    def finish(self) -> None:
        """End what is left of the client's process group, and reap the client."""
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return  # not our child: its id may be somebody else's by now
        process.kill_group(self.pid)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            self.signal = os.WTERMSIG(status)
        else:
            self.exit_code = os.WEXITSTATUS(status)

    def _output_size(self) -> int:
        total = 0
        for path in self._outputs:
            try:
                total += os.stat(path).st_size
            except FileNotFoundError:
                continue
        return total

    def _look_for_result(self, now: float) -> None:
        """Note when the stream's last line has come."""
        try:
            with open(self._outputs[0], "rb") as stream:
                stream.seek(self._offset)
                # A line that is not whole yet is read again.
                while (line := stream.readline(MAX_LINE)).endswith(b"\n") or len(line) == MAX_LINE:
                    self._offset += len(line)
                    if self._client.is_last_line(line):
                        self._result_at = now
        except FileNotFoundError:
            return
