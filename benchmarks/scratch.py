"""The scratch folder that everything is measured in: a home, an environment, projects, processes.

Fresh files only: ext4 makes files many times slower for a while after a mass delete, so nothing is
deleted before the end. Whatever was started here is ended here.
"""

from __future__ import annotations

import contextlib
import os
import platform
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orchestrator
from benchmarks.report import Broken
from orchestrator.layout import Layout
from orchestrator.project import agent_memory, run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.setup import init_project
from orchestrator.system import files, process
from orchestrator.tasks import stores, task_file
from orchestrator.tasks.task_file import TaskFile

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = str(ROOT / "bin" / "orchestrator")
#: Longest wait for anything that the product is expected to do; seconds.
PATIENCE = 30.0

#: A client that says when its first instruction runs, waits for the word, and reports.
_CLIENT = """#!/bin/sh
echo started >{started}
read -r word <{release}
echo '{{"type": "result", "subtype": "success", "is_error": false, "result": "", \
"structured_output": {{"outcome": "no_change", "summary": "measured"}}}}'
"""


class Scratch:
    """One run's scratch folder. Entering it changes this process's environment and folder."""

    def __init__(self, folder: Path, rounds: float, seconds: float) -> None:
        self.folder = folder
        #: What each measure's number of rounds is multiplied with, and its share of time.
        self._rounds, self._seconds = rounds, seconds
        self._fewest = 1 if rounds < 1 else 2
        #: A plain virtual environment's interpreter: the yardstick of every start.
        self.plain = str(folder / "plain" / "bin" / "python")
        self._environment = folder / "data" / "orchestrator" / orchestrator.__version__ / "venv"
        #: The same interpreter, as `bin/orchestrator` starts it.
        self.python = str(self._environment / "bin" / "python")
        self.tick = [self.python, "-I", "-S", str(ROOT / "orchestrator" / "__main__.py"), "tick"]
        self.launcher_tick = [LAUNCHER, "tick"]
        #: What the last program said that was timed.
        self.output = str(folder / "output")
        self._projects: list[Project] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._numbers: dict[str, int] = {}

    def prepare(self) -> None:
        """Make home, interpreters and environment. Raises Broken."""
        if sys.prefix == sys.base_prefix:
            raise Broken("no virtual environment: run it by `make bench`")
        # Any of these would spoil start-up, or point the product at the user's own things.
        for name in list(os.environ):
            if name.startswith(("PYTHON", "GIT_", "ORCHESTRATOR_", "XDG_", "__PYVENV")):
                del os.environ[name]
        home = self.folder / "home"
        home.mkdir()
        os.environ.update(HOME=str(home), XDG_DATA_HOME=str(self.folder / "data"))
        (home / ".gitconfig").write_text("[user]\n\tname = bench\n\temail = bench@localhost\n")
        venv.EnvBuilder(symlinks=True).create(self.folder / "plain")
        self._environment.mkdir(parents=True)
        for entry in os.scandir(sys.prefix):
            if entry.name != ".complete":
                (self._environment / entry.name).symlink_to(entry.path)
        shutil.copyfile(ROOT / "requirements.lock", self._environment / ".complete")
        os.chdir(self.folder)
        self.timed([LAUNCHER, "--version"])
        if (self._environment.parent / "setup.lock").exists():
            raise Broken(f"{LAUNCHER} did not take the environment that was made for it")

    def rounds(self, number: int) -> Iterator[int]:
        """Count a measure's rounds: fewer in quick mode, and when its share of time is over."""
        deadline = time.monotonic() + self._seconds
        for count in range(max(round(number * self._rounds), 3)):
            if count >= self._fewest and time.monotonic() > deadline:
                return
            yield count

    @property
    def is_smoke(self) -> bool:
        """Whether this run only shows that the measures work, for the tests."""
        return not self._rounds

    def scaled(self, number: int) -> int:
        """Return how much of something to do: half in quick mode, an eighth of it for a look."""
        return number if self._rounds >= 1 else number // (2 if self._rounds else 8)

    def new_folder(self, name: str) -> Path:
        """Make a folder that nothing lay in before."""
        self._numbers[name] = number = self._numbers.get(name, 0) + 1
        made = self.folder / f"{name}-{number}"
        made.mkdir()
        return made

    def new_project(self, files: int, *, remote: bool, config: str) -> Project:
        """Make a git repository and set it up with the given `agents.yaml`."""
        made = Project(self, self.new_folder("project"), files, remote, config)
        self._projects.append(made)
        return made

    def timed(self, argv: Sequence[str]) -> float:
        """Run a program to its end in the current folder; return the seconds. Raises Broken."""
        log = self.output
        began = time.perf_counter()
        pid = spawn(argv, log)
        _, status = os.waitpid(pid, 0)
        seconds = time.perf_counter() - began
        if status != 0:
            said = Path(log).read_text(errors="replace")[-500:]
            raise Broken(f"{' '.join(argv)}: status {status}: {said}")
        return seconds

    def start(self, argv: Sequence[str]) -> int:
        """Start a program that is ended with this folder; return its pid."""
        self._children.append(subprocess.Popen(argv))
        return self._children[-1].pid

    def close(self) -> None:
        """End what was started and is still there, then remove the folder."""
        for child in self._children:
            child.kill()
            child.wait()
        for made in self._projects:
            made.end_runs()
        os.chdir("/")
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def entered(parent: str | None, rounds: float, seconds: float) -> Iterator[Scratch]:
    """Make a scratch folder on a real disk, and remove it with all that it started."""
    folder = parent or tempfile.gettempdir()
    if parent is None and filesystem(folder) == "tmpfs" and os.path.isdir("/var/tmp"):
        folder = "/var/tmp"  # where nothing is durable, durable figures mean nothing
    made = Scratch(
        Path(tempfile.mkdtemp(prefix="orchestrator-bench-", dir=folder)), rounds, seconds
    )
    try:
        made.prepare()
        yield made
    finally:
        signal.alarm(0)
        made.close()


def spawn(argv: Sequence[str], log: str) -> int:
    """Start a program the cheapest way there is, its output going to a file; return its pid."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(argv[0], list(argv), os.environ, file_actions=actions)


def git(cwd: Path | str, *arguments: str) -> str:
    """Run git for setting something up, outside every measurement; return its output."""
    done = subprocess.run(("git", *arguments), cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise Broken(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def wait_for(what: str, happened: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until something has happened. Raises Broken when it takes over `patience` seconds."""
    deadline = time.monotonic() + patience
    while not happened():
        if time.monotonic() > deadline:
            raise Broken(f"waited {patience:.0f} s in vain: {what}")
        time.sleep(0.005)


def task_number(number: int) -> TaskFile:
    """Return the file of a task for an implementer."""
    return task_file.new(
        f"TASK-{number:08x}",
        f"Benchmark number {number}",
        "implement",
        None,
        None,
        "2026-01-01T00:00:00Z",
        None,
        (),
        "## Context\nNothing is to be changed.\n",
    )


class Project:
    """A user's project with its client: a shell script that this process lets go on."""

    def __init__(
        self, scratch: Scratch, folder: Path, files: int, remote: bool, config: str
    ) -> None:
        self._scratch = scratch
        self.folder = folder
        self.root = folder / "repository"
        self.layout = Layout(str(self.root))
        self._tasks = 0
        self._started, self._release = self._make_client()
        self._make_repository(files, remote)
        init_project.init(self.layout, time.time(), start=True, commands=False)
        client = f"claude: {{command: [{self.client}]}}\n"
        Path(self.layout.config).write_text(f"base_branch: main\nforge: local\n{client}{config}")

    def _make_client(self) -> tuple[int, int]:
        descriptors = []
        for name in ("started", "release"):
            os.mkfifo(self.folder / name)
            # Held open for both directions: neither the client nor we ever wait for the other end.
            descriptors.append(os.open(self.folder / name, os.O_RDWR | os.O_CLOEXEC))
        self.client = str(self.folder / "client")
        text = _CLIENT.format(started=self.folder / "started", release=self.folder / "release")
        Path(self.client).write_text(text)
        os.chmod(self.client, 0o755)
        return descriptors[0], descriptors[1]

    def _make_repository(self, files: int, remote: bool) -> None:
        self.root.mkdir()
        git(self.root, "init", "--quiet", "--initial-branch=main")
        for number in range(files):
            path = self.root / f"part{number // 10}" / f"file{number}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"def f{number}() -> int:\n    return {number}\n" * 20)
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message=first")
        if remote:
            git(self.folder, "init", "--quiet", "--bare", "--initial-branch=main", "remote.git")
            git(self.root, "remote", "add", "origin", str(self.folder / "remote.git"))
            git(self.root, "push", "--quiet", "--set-upstream", "origin", "main")

    def add_task(self) -> str:
        """Put a task for an implementer into the queue; return its id."""
        self._tasks += 1
        file = task_number(self._tasks)
        stores.of_project(self.layout).add(file)
        return file.id

    def start_run(self, argv: Sequence[str]) -> tuple[float, int]:
        """Start a tick; return the seconds to the client's first instruction, and the tick's pid.

        The clock is this process's alone: the client writes to a pipe that we wait at.
        """
        os.chdir(self.root)
        began = time.perf_counter()
        pid = spawn(argv, str(self.folder / "output"))
        return self.seconds_to_client(began, pid), pid

    def client_start(self) -> float:
        """Return the seconds that the client alone needs to its first instruction."""
        began = time.perf_counter()
        pid = spawn([self.client], str(self.folder / "output"))
        seconds = self.seconds_to_client(began, pid)
        self.release()
        os.waitpid(pid, 0)
        return seconds

    def seconds_to_client(self, began: float, starter: int | None = None) -> float:
        """Return the seconds since `began` to the first instruction of a client that is started.

        `starter` is the process that starts it. Raises Broken if it fails, or takes too long.
        """
        deadline = began + PATIENCE
        while not select.select([self._started], [], [], 0.5)[0]:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            ended = os.waitid(os.P_PID, starter, options) if starter else None
            failed = ended is not None and ended.si_status != 0
            if failed or time.perf_counter() > deadline:
                said = (self.folder / "output").read_text(errors="replace")[-500:].strip()
                raise Broken(f"no client was started; the tick said: {said}")
        seconds = time.perf_counter() - began
        os.read(self._started, 64)
        return seconds

    def release(self) -> None:
        """Let the client go on to its report."""
        os.write(self._release, b"go\n")

    def finish_run(self, task: str, tick: int | None = None) -> RunRecord:
        """Let the client end; wait until its run is settled and no process of it is left.

        `tick` is the child of this process that started it.
        """
        self.release()
        if tick is not None:
            os.waitpid(tick, 0)
        done = os.path.join(self.layout.state("done"), f"{task}.md")
        wait_for(f"{task} in done/", lambda: os.path.exists(done))
        record = self.run_of(task)
        wait_for("the supervisor's end", lambda: not record.is_at_work())
        return record

    def run_of(self, task: str) -> RunRecord:
        """Return the record of the run that a task has or had. Raises Broken."""
        found = (record for record in self._records() if record.task == task)
        record = next(found, None)
        if record is None:
            raise Broken(f"there is no run of {task}")
        return record

    def _records(self) -> Iterator[RunRecord]:
        for name in agent_memory.names(self.layout):
            runs = self.layout.runs(name)
            for run in os.listdir(runs) if os.path.isdir(runs) else ():
                record = run_record.read(os.path.join(runs, run))
                if record is not None:
                    yield record

    def end_runs(self) -> None:
        """End supervisors, then their clients, that a broken measurement left."""
        # Whatever takes a run up now, a tick included, finds that nothing may be started.
        files.remove(self.layout.config)
        files.remove(self.layout.last_good_config)
        for record in self._records():
            supervisor, client = record.supervisor, record.client
            if supervisor and supervisor.is_alive():
                process.end(supervisor.pid, supervisor.identity or "")
            if client and client.process.is_alive():
                process.end_run(client.pid, client.identity, record.id)


# --- the machine -------------------------------------------------------------------------------


def machine_facts(scratch: Scratch) -> dict[str, str]:
    """Return what the figures depend on."""
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg())
    return {
        "python": f"{platform.python_version()} ({os.path.realpath(sys.executable)})",
        "git": git(scratch.folder, "version").removeprefix("git version "),
        "kernel": f"{platform.system()} {platform.release()}, {os.cpu_count()} processors",
        "scratch": f"{scratch.folder} ({filesystem(str(scratch.folder))})",
        "fsync": f"{_fsync_microseconds(scratch.folder):.0f} us",
        "load": load,
    }


def filesystem(folder: str) -> str:
    """Return the type of the file system that a folder lies on; "unknown" off Linux."""
    path = os.path.realpath(folder)
    best, kind = "", "unknown"
    with contextlib.suppress(OSError), open("/proc/mounts") as mounts:
        for line in mounts:
            _, point, found, *_ = line.split()
            inside = path == point or path.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, found
    return kind


def _fsync_microseconds(folder: Path) -> float:
    samples = []
    with open(folder / "fsync", "wb", buffering=0) as file:
        for _ in range(50):
            file.write(b"x" * 200)
            began = time.perf_counter()
            os.fsync(file.fileno())
            samples.append(time.perf_counter() - began)
    return statistics.median(samples) * 1e6
