"""What the contract's tests share: a scratch project, the product as processes, and patience.

Everything here knows the product by its contract only: files, commands, JSON. Each test has its own
folder with a home, a bare remote, the project and the fake client's folder; when it ends, whatever
still runs in that folder's name is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import commits
import copies
import events_schema
import psutil
import pytest
import warm
import warm_gh
from copies import Kept

TESTS = Path(__file__).resolve().parent
PRODUCT = warm.PRODUCT
FAKE_CLIENT = TESTS / "fake_client.py"
PYTHON = warm.PYTHON
#: Seconds after which a condition that does not come about fails the test.
PATIENCE = 40.0
STATES = ("incoming", "claimed", "blocked", "done", "failed")
#: An interval after which no agent becomes due again within a test.
ONCE = 86_400


def wait_until(
    condition: Callable[[], Any],
    what: str | Callable[[], str] = "",
    limit: float = PATIENCE,
    every: float = 0.03,
) -> Any:
    """Return the condition's first true value; fail the test when it does not come in time."""
    deadline = time.monotonic() + limit
    while True:
        began = time.monotonic()
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            said = what() if callable(what) else what or condition
            pytest.fail(f"not within {limit:g} s: {said}", pytrace=True)
        # Asking takes at most a fifth of the processor from what is waited for.
        time.sleep(max(every, 4 * (time.monotonic() - began)))


def variants(values: Iterable[Any], *quick: Any) -> list[Any]:
    """Return a test's parameters, of which all but the `quick` ones are for `make slow`."""
    return [v if v in quick else pytest.param(v, marks=pytest.mark.slow) for v in values]


#: What `from_template` keeps, by its `template`: the folders, and where the remote was.
_TEMPLATES: dict[Path, tuple[list[Kept | None], str]] = {}


def from_template(template: Path, root: Path, remote: Path, make: Callable[[], object]) -> None:
    """Have `make` make a project in `root`, maybe with a `remote`; later copy what it made.

    `template` is the name of the copies, for all processes of a run of the tests: a path that only
    one set of tests uses.
    """
    made = []

    def make_and_keep(path: Path) -> None:
        make()
        kept = [Kept(path) if path.exists() else None for path in (root, remote)]
        path.write_bytes(pickle.dumps((kept, str(remote))))
        made.append(path)

    if template not in _TEMPLATES:
        name = f"{template.name}-{zlib.crc32(bytes(template)):08x}"
        _TEMPLATES[template] = pickle.loads(copies.once(name, make_and_keep).read_bytes())
    if made:
        return
    kept, there = _TEMPLATES[template]
    for copy, path in zip(kept, (root, remote), strict=True):
        if copy:
            copy.write(path)
    settings = root / ".git" / "config"
    settings.write_text(settings.read_text().replace(there, str(remote)))


class Done:
    """A command that has ended."""

    def __init__(self, argv: list[str], code: int, out: str, err: str) -> None:
        self.argv, self.code, self.out, self.err = argv, code, out, err

    def __repr__(self) -> str:
        return f"{self.argv} -> {self.code}\n--- stdout\n{self.out}--- stderr\n{self.err}"

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.out)
        except ValueError:
            raise AssertionError(f"no JSON on standard output: {self!r}") from None


class World:
    """One scratch project, its remote, its fake client, and the product working in it."""

    def __init__(self, folder: Path, templates: Path) -> None:
        self.folder, self.templates = folder, templates
        self._added = 0
        #: Processes that are not of this world. (Numbers go round only after thousands of others.)
        self._older = {*psutil.pids()}
        #: What is run as the product.
        self.product = PRODUCT
        #: The words of a program that runs the product somewhere else (`network`).
        self.inside: list[str] = []
        self.home = folder / "home"
        self.root = folder / "project"
        self.remote = folder / "remote.git"
        self.fake = folder / "fake"
        self.bin = folder / "bin"
        for path in (self.home, self.fake / "scripts", self.fake / "gates", self.bin):
            path.mkdir(parents=True)
        (self.home / ".gitconfig").write_text(
            "[user]\n\tname = A Person\n\temail = person@example.org\n"
            "[init]\n\tdefaultBranch = main\n[commit]\n\tgpgsign = false\n"
            '[protocol "file"]\n\tallow = always\n[advice]\n\tdetachedHead = false\n'
            + commits.GIT_CONFIG
        )
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "NO_COLOR": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "FAKE_CLIENT_HOME": str(self.fake),
        }
        self.home_folder = self.root / ".orchestrator"
        self.queue = self.home_folder / "shared" / "queue"

    # --- making the project ---

    def create(
        self, *, remote: bool = True, init: bool = True, kept_today: bool = True, **config: Any
    ) -> World:
        """Make the repository (and its remote), set it up, and configure one implementer.

        Set up once in a session, then copied: most tests are about what comes afterwards. With
        `kept_today`, no run ends with the daily upkeep, which takes six processes of git.
        """
        template = self.templates / f"remote-{remote}-init-{init}"
        from_template(template, self.root, self.remote, lambda: self._make(remote, init))
        if init:
            self.configure(**config)
        if init and kept_today:
            memory = self.home_folder / "cache" / "keeping.json"
            memory.parent.mkdir(0o700, exist_ok=True)
            memory.touch(0o600)
            memory.write_text(json.dumps({"at": time.time()}))
        return self

    def _make(self, remote: bool, init: bool) -> None:
        self.git("init", "-q", "-b", "main", str(self.root), cwd=self.folder)
        (self.root / "README.md").write_text("# A project\n")
        (self.root / "app.py").write_text("def answer():\n    return 42\n")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "first")
        if remote:
            self.git("init", "-q", "--bare", "-b", "main", str(self.remote), cwd=self.folder)
            self.git("remote", "add", "origin", str(self.remote))
            self.git("push", "-q", "-u", "origin", "main")
            self.git("remote", "set-head", "origin", "main")
        if init:
            self.ok("init", "--schedule", "none", "--no-commands", "--start")

    def configure(self, **changes: Any) -> None:
        """Write agents.yaml whole. JSON is YAML."""
        config: dict[str, Any] = {
            "paused": False,
            "base_branch": "main",
            "base_port": 43000,
            "claude": {"command": [*PYTHON, str(FAKE_CLIENT)]},
            "retry": {"max_attempts": 3, "backoff_seconds": 0, "max_backoff_seconds": 300},
            "forge": "local",
            "agents": [self.agent("impl-1")],
        }
        config.update(changes)
        self.write_config(json.dumps(config, indent=2))

    def write_config(self, text: str) -> None:
        aside = self.home_folder / "agents.yaml.aside"
        aside.write_text(text)
        os.replace(aside, self.home_folder / "agents.yaml")

    @staticmethod
    def agent(name: str, role: str = "implementer", **more: Any) -> dict[str, Any]:
        return {"name": name, "role": role, "interval_seconds": 0.1, **more}

    def on_github(self, **state: Any) -> Path:
        """Put the stand-in for GitHub into the place of the remote; return its state file."""
        url, path = "https://github.com/owner/repo.git", self.folder / "github.json"
        path.write_text(json.dumps({"remote": str(self.remote), "prs": [], **state}))
        self.environment["FAKE_GH_STATE"] = str(path)
        gh = self.bin / "gh"
        gh.write_text(f"#!/bin/sh\n{warm_gh.line()}\n")
        gh.chmod(0o755)
        commits.readdress(self.root, self.remote, url)
        return path

    # --- git ---

    def git(self, *arguments: str, cwd: Path | None = None, good: bool = True) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if good and done.returncode:
            raise AssertionError(f"git {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip() if not done.returncode else ""

    def sha(self, name: str, cwd: Path | None = None) -> str:
        """Return the commit that a name means, "" for none."""
        if known := commits.read(cwd or self.root, name):
            return known
        return self.git("rev-parse", "--verify", "-q", f"{name}^{{commit}}", cwd=cwd, good=False)

    def remote_sha(self, branch: str) -> str:
        return self.sha(f"refs/heads/{branch}", cwd=self.remote)

    def commits_about(self, task: str) -> list[str]:
        """Return the distinct commits of the default behaviour for a task, wherever they lie."""
        lines = self.git("log", "--all", "--format=%H %s").splitlines()
        return [line.split()[0] for line in lines if line.endswith(f" work on {task}")]

    # --- the product ---

    def start(self, *words: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.inside, *PYTHON, str(self.product), *words],
            cwd=cwd or self.root,
            env={**self.environment, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, cwd: Path | None = None, stdin: str = "", **env: str) -> Done:
        """Run the product; it has a minute."""
        done = warm.run(
            self.product,
            words,
            cwd=cwd or self.root,
            env={**self.environment, **env},
            stdin=stdin,
            timeout=60,
            inside=self.inside,
        )
        found = Done(list(words), done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in found.err + found.out, f"a traceback was shown: {found!r}"
        assert found.code != 3, f"a bug was met: {found!r}"
        return found

    def ok(self, *words: str, **options: Any) -> Done:
        done = self.run(*words, **options)
        assert done.code == 0, f"should have succeeded: {done!r}"
        return done

    def refused(self, *words: str, code: int = 1, **options: Any) -> Done:
        """Run a command that must be refused, with words on standard error."""
        done = self.run(*words, **options)
        assert done.code == code, f"should have ended with {code}: {done!r}"
        assert done.err.strip(), f"refused without a word: {done!r}"
        return done

    def json(self, *words: str, **options: Any) -> Any:
        return self.ok(*words, "--json", **options).json

    def tick(self, **options: Any) -> Any:
        return self.json("tick", **options)

    def status(self) -> Any:
        return self.json("status")

    def add(self, title: str, role: str = "implement", *words: str, **options: Any) -> str:
        """Add a task and return its id: as a dropped file, or with more words by the command."""
        if words or options:
            words = ("task", "add", "--title", title, "--role", role, *words)
            return str(self.json(*words, **options)["id"])
        self._added += 1
        task = f"TASK-{self._added:08x}"
        fields = f"ROLE: {role}\nPRIORITY: P2\nBRANCH: main\nCREATED: 2024-01-15T10:30:00Z\n"
        text = f"# [{task}] {title}\n\n{fields}CREATED_BY: human\n\n## Context\nText.\n"
        self.drop(f"{task}.md", text)
        return task

    def task(self, task: str) -> Any:
        return self.json("task", "show", task)

    def drop(self, name: str, text: str | bytes, state: str = "incoming") -> Path:
        """Put a file into the queue by hand."""
        folder = self.queue / state
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        aside = folder / f".{name[:100]}.aside"
        aside.write_bytes(text if isinstance(text, bytes) else text.encode())
        os.replace(aside, path)
        return path

    def places(self) -> dict[str, list[str]]:
        """Return the names of the task files in each state. A listing that raced is done again."""
        while True:
            first, second = self._listing(), self._listing()
            if first == second:
                return first

    def _listing(self) -> dict[str, list[str]]:
        return {
            state: sorted(
                entry.name
                for entry in os.scandir(self.queue / state)
                if entry.name.endswith(".md") and not entry.name.startswith(".")
            )
            if (self.queue / state).is_dir()
            else []
            for state in STATES
        }

    def where(self, task: str) -> list[str]:
        """Return the states in which a task's file lies: one, if all is well."""
        return [state for state, names in self.places().items() if f"{task}.md" in names]

    def text(self, task: str) -> str:
        [state] = self.where(task)
        return (self.queue / state / f"{task}.md").read_bytes().decode()

    def shown_place(self, task: str, state: str) -> str:
        """Return the end of the `path` that commands show for a task."""
        return f"/{state}/{task}.md"

    def tick_until(
        self, condition: Callable[[], Any], what: str = "", limit: float = PATIENCE
    ) -> Any:
        """Tick, as a schedule would but faster, until something is so.

        A tick takes more of the processor than what most tests wait for, so the next tick comes
        when something was written to the log, and otherwise after a second.
        """
        log = self.home_folder / "events.jsonl"
        last, before = -1.0, -1

        def look() -> Any:
            nonlocal last, before
            found = condition()
            size = log.stat().st_size if log.exists() else 0
            if not found and time.monotonic() - last > (1.0 if size == before else 0.2):
                done = self.run("tick")
                assert done.code == 0, done
                last, before = time.monotonic(), size
            return found

        return wait_until(look, lambda: f"{what}: {self.places()}", limit)

    def tick_until_in(self, state: str, *tasks: str, limit: float = PATIENCE) -> None:
        self.tick_until(
            lambda: all(self.where(task) == [state] for task in tasks),
            f"{tasks} in {state}",
            limit,
        )

    def prs(self) -> Any:
        return self.json("pr", "list")

    # --- the fake client ---

    def script(self, name: str, *behaviours: dict[str, Any], whole: bool = False) -> None:
        """Say what executions of a task, agent, role or `default` do, one after the other.

        With `whole`, one that was killed is done again.
        """
        found: Any = list(behaviours) if len(behaviours) > 1 else behaviours[0]
        text = json.dumps({"whole": list(behaviours)} if whole else found)
        aside = self.fake / "scripts" / f".{name}.aside"
        aside.write_text(text)
        os.replace(aside, self.fake / "scripts" / f"{name}.json")

    def open(self, gate: str) -> None:
        (self.fake / "gates" / gate).touch()

    def ledger(self, event: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Return what the fake client noted, filtered."""
        try:
            text = (self.fake / "ledger.jsonl").read_text()
        except FileNotFoundError:
            return []
        # Of a line that is being written, a reader may see a part.
        records = [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
        return [
            record
            for record in records
            if event in (None, record["event"])
            and all(record.get(name) == value for name, value in fields.items())
        ]

    def starts(self, task: str | None = None) -> list[dict[str, Any]]:
        return self.ledger("start", **({"task": task} if task else {}))

    def running(self, task: str | None = None) -> list[dict[str, Any]]:
        """Return the executions that are alive."""
        ended = {record["pid"] for record in self.ledger("end")}
        return [
            record
            for record in self.starts(task)
            if record["pid"] not in ended and is_alive(record["pid"])
        ]

    def seen(self, task: str, count: int = -1) -> dict[str, str]:
        """Return what an execution of a task was given, by name: prompt, instructions, system."""
        record = self.starts(task)[count]
        folder = self.fake / "seen" / f"{record['run']}-{record['count']}"
        return {path.name: path.read_text() for path in folder.iterdir()}

    def assert_never_at_once(self, most: int | None = None) -> None:
        """No two executions of one task or one agent were alive at once, and never too many."""
        assert not self.ledger("refused"), self.ledger("refused")
        for record in self.ledger("rivals"):
            for rival in record["rivals"]:
                assert record["agent"] != rival["agent"], f"one agent twice: {record}"
                assert record["task"] is None or record["task"] != rival["task"], (
                    f"one task twice: {record}"
                )
            if most is not None:
                assert len(record["rivals"]) < most, f"more than {most} at once: {record}"

    # --- processes ---

    def supervisor(self, task: str) -> int:
        """Return the pid of a task's supervisor, as `status` gives it."""
        [found] = [run for run in self.status()["running"] if run["task"] == task]
        return int(found["pid"])

    def processes(self) -> list[psutil.Process]:
        """Return every process that runs in this world's name."""
        return processes_with("FAKE_CLIENT_HOME", self.fake, self._older)

    def quiet(self) -> None:
        """Wait until nothing runs in this world's name."""
        wait_until(lambda: not self.processes(), "everything to end")

    def end(self) -> None:
        for gate in ("go", "never"):
            self.open(gate)
        for _ in range(20):
            found = self.processes()
            if not found:
                return
            for process in found:
                try:
                    process.kill()
                except psutil.Error:
                    continue
            psutil.wait_procs(found, timeout=1)


def _environment(pid: int) -> bytes:
    """Return the environment of a process, with a zero byte on both sides of each variable.

    That of a zombie is empty.
    """
    if sys.platform == "linux":  # psutil takes ten times as long
        with open(f"/proc/{pid}/environ", "rb", 0) as file:
            return b"\0" + file.read()
    pairs = psutil.Process(pid).environ().items()
    return b"".join(b"\0" + os.fsencode(f"{name}={value}") for name, value in pairs) + b"\0"


def processes_with(name: str, value: Path, older: Collection[int] = ()) -> list[psutil.Process]:
    """Return the processes, but for the `older`, in whose environment a variable has this value."""
    word = b"\0%s=%s\0" % (os.fsencode(name), os.fsencode(value))
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if pid not in older and word in _environment(pid):
                found.append(psutil.Process(pid))
    return found


def shadow(folder: Path, edge: str, *, forked: bool = False) -> Path:
    """Make a copy of the product whose start also does what `edge` says; return its main file.

    For what lies at the product's edge and cannot be arranged outside: the clock, a time limit of
    a minute. Every process of the product starts by this file, for it looks beside its own modules.
    If it is `forked`, `World.run` forks its commands (`warm`): `edge` then finds every module
    imported, and runs again in a process that becomes another process of the product.
    """
    package = folder / "orchestrator"
    package.mkdir(parents=True)
    for path in PRODUCT.parent.iterdir():
        if path.name not in ("__main__.py", "__pycache__"):
            (package / path.name).symlink_to(path)
    for name in ("plugin", "skills"):
        (folder / name).symlink_to(PRODUCT.parent.parent / name)
    main = "\nif __name__ =="
    before, found, after = PRODUCT.read_text().partition(main)
    assert found
    made = package / "__main__.py"
    made.write_text(f"{before}\n{edge}\n{found}{after}")
    if forked:
        warm.FORKED.add(made)
    return made


_CLOCK = """
import time
_true = getattr(time.time, "true", time.time)
def _moved():
    try:
        with open({path!r}) as file:
            return _true() + float(file.read())
    except OSError:
        return _true()
_moved.true = _true
time.time = _moved
"""


def movable_clock(folder: Path) -> tuple[Path, Callable[[float], None]]:
    """Make a product whose clock can be moved; return its main file, and a function that does.

    The function takes the seconds that the clock is to be off, in every process of the product.
    """
    path = folder / "clock"

    def move(seconds: float) -> None:
        aside = path.with_suffix(".aside")
        aside.write_text(str(seconds))
        aside.replace(path)

    return shadow(folder / "shadow", _CLOCK.format(path=str(path)), forked=True), move


def append(path: Path, text: str) -> None:
    """Add text to a file."""
    with path.open("a") as file:
        file.write(text)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to one process; one that has just ended is no error."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A folder to make a project in: call `create`. Nothing survives the test."""
    yield from of_a_test(World(tmp_path, templates(tmp_path_factory)))


def of_a_test(made: World) -> Iterator[World]:
    """Yield a world; then end it, and check the events that it leaves."""
    with ended(made):
        yield made
        log = made.home_folder / "events.jsonl"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    assert events_schema.faults(lines) == []


def templates(factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the projects that `World.create` copies: one for all workers."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "contract-templates"


@contextlib.contextmanager
def scratch(folder: Path, factory: pytest.TempPathFactory) -> Iterator[World]:
    with ended(World(folder, templates(factory))) as made:
        yield made


@contextlib.contextmanager
def ended(made: World) -> Iterator[World]:
    try:
        yield made
    finally:
        made.end()


def fingerprint(folder: Path, *, skip: tuple[str, ...] = ()) -> dict[str, str]:
    """Return kind, mode and content of everything below a folder, but for what is skipped."""
    found = {}
    for where, folders, names in os.walk(folder):
        here = Path(where).relative_to(folder)
        # What is skipped may change while this looks, so it is not even entered.
        folders[:] = [name for name in folders if str(here / name) not in skip]
        for name in (*folders, *names):
            if str(here / name) not in skip:
                found[str(here / name)] = _seal(folder / here / name)
    return found


def _seal(path: Path) -> str:
    if path.is_symlink():
        return f"link {os.readlink(path)}"
    if not path.is_file():
        return "folder"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"file {path.stat().st_mode:o} {digest}"


class Sampler:
    """Looks at something again and again in a thread, and keeps each answer that was new."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self.look, self.answers = look, []  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.is_set():
            answer = self.look()
            if not self.answers or answer != self.answers[-1]:
                self.answers.append(answer)
            time.sleep(0.004)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
