"""The server of `warm.py`: it has imported the product, and forks a process for each command.

Run by path with `-I -S`, as the product is. Its arguments are the product's main file, maybe
"database", and the descriptor of the socket to listen at, with zeros before it that make room for
other arguments. It ends with the process whose descriptor (pidfd_open(2)) is its standard input.

A command's process has all that a started process would have: the arguments, the folder, the
environment (also in /proc/PID/environ, where the product and the tests look for the processes of a
run) and the standard streams; it executes the product's main file. When the product replaces itself
by another of its processes (`exec`), the same process executes the main file again, without what
`exec` takes away: descriptors that are not inheritable, and signal handlers. In the same way, the
child that a run forks for its client becomes the stand-in for the client, `fake_client.py`. The
processes that the product starts detached (the attendant, those that land and notify) are forked by
the server, too; they also show their arguments, in /proc/PID/cmdline.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import re
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from importlib.abc import InspectLoader
from types import CodeType
from typing import Any, NoReturn, TextIO

#: Modules that start the program; a command's process executes them, nobody imports them.
ENTRIES = ("orchestrator.__main__", "orchestrator.bootstrap", "orchestrator.init")
ENTRIES += ("orchestrator.scheduler", "orchestrator.demo.agent")
#: Modules that few commands import, with large libraries. A fork takes the longer the more the
#: server holds, so a process that needs one of these imports it.
SELDOM = ("orchestrator.cli.otlp", "orchestrator.page.")
#: Modules that every command imports whose project has its queue in a database, and no other.
OF_A_DATABASE = (
    "orchestrator.database.",
    "orchestrator.tasks.hosts_store",
    "orchestrator.tasks.postgresql_store",
    "orchestrator.tasks.task_rows",
)
#: Modules that know something about the start of their process: each process executes them anew.
#: (The stamp of the program's files changes when Python first writes bytecode into a room.)
OF_A_START = ("orchestrator.run.supervisor",)
#: What an interpreter reads once, at its start, with the values that the server was started with.
AT_START = {"LANG": "C.UTF-8"}
READ_AT_START = ("LANG", "LC_", "PYTHON")
#: Bytes for which there is room in a command's environment.
ROOM = 60_000
FAKE_CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_client.py")
#: A configuration that is read before the first fork.
CONFIG = "agents: [{name: a, role: implementer}]"
#: What the stand-in for the client imports in most executions.
OF_THE_CLIENT = ("json", "re", "signal", "subprocess", "uuid")


class Script:
    """A Python file that is read once and executed again and again."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.code: CodeType = compile(file.read(), path, "exec")

    def execute(self, words: list[str]) -> NoReturn:
        """Be a process of this script from its first line to its exit."""
        sys.argv[:] = [self.path, *words]
        code = 1
        try:
            exec(self.code, {"__name__": "__main__", "__file__": self.path, "__package__": None})
            code = 0
        except SystemExit as wish:
            code = wish.code if isinstance(wish.code, int) else int(wish.code is not None)
            if isinstance(wish.code, str):
                print(wish.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(_finish(code))


class Program:
    """The product, imported and ready to be executed again and again."""

    def __init__(self, main: str, with_database: bool = False) -> None:
        self.main, self.client = Script(main), Script(FAKE_CLIENT)
        self.mains = {main: self.main}
        self.path = list(sys.path)
        sys.path.insert(0, os.path.dirname(os.path.dirname(main)))
        importlib.import_module("orchestrator.start")._add_libraries()
        package = importlib.import_module("orchestrator")
        left_out = SELDOM if with_database else SELDOM + OF_A_DATABASE
        for module in pkgutil.walk_packages(package.__path__, "orchestrator."):
            if module.name not in ENTRIES and not module.name.startswith(left_out):
                importlib.import_module(module.name)
        for name in ("ctypes", "frontmatter", "jinja2", "psutil", "yaml", *OF_THE_CLIENT):
            importlib.import_module(name)
        #: Each with its code. (`importlib.reload` looks for the file first, which takes longer.)
        self.anew = [(sys.modules[name], _code_of(name)) for name in OF_A_START]
        self.process = importlib.import_module("orchestrator.system.process")
        self._exec, self._exec_with = os.execv, os.execvpe
        self._spawn = self.process.spawn_detached
        #: Where this server listens.
        self.address: str | bytes = ""
        self._prepare_first_uses()
        with contextlib.redirect_stdout(io.StringIO()):  # what the first use of argparse prepares
            importlib.import_module("orchestrator.cli.main").main(["--version"])
        gc.collect()
        gc.freeze()  # the children share these pages

    @staticmethod
    def _prepare_first_uses() -> None:
        """Do here what otherwise each process does at the first use of a class."""
        fields = importlib.import_module("orchestrator.model.fields")
        for kind in fields.NamedTuple.__subclasses__():
            kind(*kind._fields)  # compiles its constructor
        for value in ({}, [], "", b"", 1, None):
            for kind in (Iterable, Mapping, Sequence, Set):
                isinstance(value, kind)
        # Regular expressions are compiled at their first use: those of most commands and runs here.
        roles, _ = importlib.import_module("orchestrator.config.roles").load(f"{FAKE_CLIENT}.roles")
        importlib.import_module("orchestrator.config.keys").parse(CONFIG, roles=roles)
        list(importlib.import_module("orchestrator.system.locks").held(()))
        for name in [name for name in sys.modules if name.startswith("orchestrator.")]:
            for constant, value in vars(sys.modules[name]).items():
                is_pattern = constant[0] == "_" and constant.isupper() and isinstance(value, str)
                if is_pattern and not set(value).isdisjoint("([{\\*+"):
                    with contextlib.suppress(re.error):  # a text of another kind
                        re.compile(value)

    def choose(self, main: str) -> None:
        """Execute this main file from now on: the product's, or that of a shadow of it."""
        self.main = self.mains[main] if main in self.mains else Script(main)
        self.mains[main] = self.main

    def execute(self, words: list[str]) -> NoReturn:
        """Be the product's process from its first line to its exit."""
        sys.path[:] = self.path
        for module, code in self.anew:
            exec(code, module.__dict__)
        os.execv, os.execvpe = self._become, self._become_client  # type: ignore[assignment]
        self.process.spawn_detached = self._fork_detached
        self.main.execute(words)

    def _become(self, path: str, words: list[str]) -> NoReturn:
        """In the place of `os.execv`."""
        start = self.process.own_program()
        if [path, *words[: len(start)]] != [start[0], *start]:
            self._exec(path, words)
        _forget_as_exec()
        self.execute(words[len(start) :])

    def _become_client(self, path: str, words: list[str], environment: dict[str, str]) -> NoReturn:
        """In the place of `os.execvpe`."""
        start = [sys.executable, "-I", "-S", FAKE_CLIENT]
        known = [path, *words[: len(start)]] == [start[0], *start]
        if not known or not fits(environment):
            self._exec_with(path, words, environment)
        os.environ.clear()
        os.environ.update(environment)
        _forget_as_exec()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        sys.stdin, sys.stdout, sys.stderr = map(_opened_anew, (sys.stdin, sys.stdout, sys.stderr))
        self.client.execute(words[len(start) :])

    def _fork_detached(self, argv: Sequence[str], environment: Mapping[str, str], log: str) -> int:
        """In the place of `process.spawn_detached`."""
        start = self.process.own_program()
        if [*argv[: len(start)]] != start or not fits(environment):
            return int(self._spawn(argv, environment, log))
        asked = {"main": self.main.path, "words": argv[len(start) :], "cwd": os.getcwd()}
        asked |= {"env": dict(environment), "as": argv}
        with contextlib.ExitStack() as opened:
            connection = opened.enter_context(socket.socket(socket.AF_UNIX))
            null = opened.enter_context(open(os.devnull, "rb"))
            out = opened.enter_context(open(log, "ab", opener=_opened_for_us))
            connection.connect(self.address)
            request = json.dumps(asked).encode() + b"\n"
            socket.send_fds(connection, [request[:1]], [null.fileno(), *[out.fileno()] * 2])
            connection.sendall(request[1:])
            return int(connection.recv(32))  # once the process can be found by its environment


def _opened_for_us(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _code_of(name: str) -> CodeType:
    loader = sys.modules[name].__loader__
    assert isinstance(loader, InspectLoader)
    code = loader.get_code(name)
    assert code is not None
    return code


def _opened_anew(stream: TextIO) -> TextIO:
    """Return a stream of the same descriptor, without what the old one has read or not written."""
    number, mode = stream.fileno(), stream.mode
    buffering = 1 if number == 2 else -1
    return open(number, mode, buffering, stream.encoding, stream.errors, closefd=False)


def _forget_as_exec() -> None:
    """Lose what `exec` takes away, and let this process show its new environment."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            normal = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, normal)
    if database := sys.modules.get("orchestrator.database.session"):
        database._SESSIONS.by_address.clear()  # closes its connections
    for name in os.listdir("/proc/self/fd"):
        _close_as_exec(int(name))
    show_environment()
    gc.enable()


def _close_as_exec(descriptor: int) -> None:
    try:
        if not os.get_inheritable(descriptor):
            os.close(descriptor)
    except OSError:  # the listing's own descriptor
        return


def _finish(code: int) -> int:
    """Do what the interpreter does at its end; return the exit code."""
    threading._shutdown()  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = 120
    return code


def fits(environment: Mapping[str, str]) -> bool:
    """Return whether a forked process can have this environment as a started one would."""
    at_start = {name: environment[name] for name in environment if name.startswith(READ_AT_START)}
    size = sum(len(os.fsencode(f"{name}={value}")) + 1 for name, value in environment.items())
    return at_start == AT_START and size < ROOM


def show_environment() -> None:
    """Write this process's environment over the one that it started with (proc(5), environ)."""
    _show(47, b"".join(b"%s=%s\0" % pair for pair in os.environb.items()))  # env_start, env_end


def show_arguments(words: Sequence[str]) -> None:
    """Write these arguments over those that this process started with (proc(5), cmdline)."""
    _show(45, b"".join(os.fsencode(word) + b"\0" for word in words))  # arg_start and arg_end


def _show(field: int, block: bytes) -> None:
    """Write a block into the memory whose bounds are two fields of /proc/self/stat."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    first, after = int(fields[field]), int(fields[field + 1])
    if len(block) > after - first:
        raise ValueError("the block is longer than the room that was made for it")
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(first)
        memory.write(block.ljust(after - first, b"\0"))


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Read one request: a line of JSON, and the command's three standard streams.

    Return None if its sender was killed meanwhile: tests kill processes at any instant.
    """
    text, descriptors = b"", array.array("i")
    while not text.endswith(b"\n"):
        try:
            part, found, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(3 * 4))
        except ConnectionResetError:
            part, found = b"", []
        if not part:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        text += part
        for _level, _kind, data in found:
            descriptors.frombytes(data)
    return json.loads(text), list(descriptors)


def be_command(
    program: Program, request: dict[str, Any], streams: list[int], asking: socket.socket
) -> NoReturn:
    """In the forked process: take the place of a process that was started for this command."""
    try:
        for descriptor, stream in enumerate(streams):
            os.dup2(stream, descriptor)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        show_environment()
        if "as" in request:
            os.setsid()
            show_arguments(request["as"])
        asking.sendall(b"%d\n" % os.getpid())
        os.closerange(3, 256)
        gc.enable()
        program.execute(request["words"])
    finally:
        os._exit(127)


def serve(program: Program, listener: socket.socket) -> None:
    """Answer each connection with the pid of its command, then with the command's wait status."""
    running: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as ready:
        ready.register(0, selectors.EVENT_READ, "end")
        ready.register(listener, selectors.EVENT_READ, "command")
        while True:
            for key, _ in ready.select():
                if key.data == "end":
                    return
                if key.data == "command":
                    connection = listener.accept()[0]
                    if (received := receive(connection)) is None:
                        connection.close()
                        continue
                    request, streams = received
                    program.choose(request["main"])
                    pid = os.fork()
                    if pid == 0:
                        be_command(program, request, streams, connection)
                    for stream in streams:
                        os.close(stream)
                    ended = os.pidfd_open(pid)
                    ready.register(ended, selectors.EVENT_READ, "ended")
                    running[ended] = pid, connection
                    continue
                ready.unregister(key.fd)
                os.close(key.fd)
                pid, connection = running.pop(key.fd)
                with connection:
                    status = os.waitpid(pid, 0)[1]
                    try:
                        connection.sendall(b"%d\n" % status)
                    except BrokenPipeError:  # a detached process, or a test that timed out
                        continue


def main() -> None:
    gc.disable()
    main_file, *kind, descriptor = sys.argv[1:]
    program = Program(main_file, kind == ["database"])
    with socket.socket(fileno=int(descriptor)) as listener:
        program.address = listener.getsockname()
        serve(program, listener)


if __name__ == "__main__":
    main()
