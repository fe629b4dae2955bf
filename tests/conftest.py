"""What every test has: a home of its own, and on request a repository, a project, the command line.

Real git and real files in a temporary folder. Whatever touches the developer's own home fails the
test: first in the act, and once more at its end in case the product swallowed that. A process that
a test started ends with the test, so a test that timed out does not fail its neighbours.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import commits
import copies
import hypothesis
import pytest
import quick_variants
from crash_plugin import (  # noqa: F401  (pytest's hooks)
    pytest_configure,
    pytest_configure_node,
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_unconfigure,
)

if TYPE_CHECKING:
    from orchestrator.layout import Layout
    from orchestrator.model.config import Config
    from orchestrator.model.work import PullRequest

CHECKOUT = Path(__file__).resolve().parent.parent
_REAL_HOME = os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)
_HOME_NAME = "/" + os.path.basename(_REAL_HOME)
#: A folder in memory, where Linux has one, and bytes that a run of all tests may need there.
_MEMORY, _ROOM = "/dev/shm", 2 << 30


def in_memory() -> bool:
    """Return whether the temporary folders of tests can be in memory.

    The product syncs what it writes, and on a disk that takes a fifth of the tests' time.
    """
    try:
        there = os.statvfs(_MEMORY)
    except OSError:
        return False
    has_room = there.f_bavail * there.f_frsize > _ROOM
    return has_room and not there.f_flag & os.ST_NOEXEC and os.access(_MEMORY, os.W_OK)


if in_memory():
    tempfile.tempdir = _MEMORY
copies.share()

#: Below a home, what running the tests may well touch: this checkout, Python, temporary files.
_OURS = tuple(
    os.path.realpath(path)
    for path in (
        CHECKOUT,
        sys.prefix,
        sys.base_prefix,
        tempfile.gettempdir(),
        *filter(None, sys.path),
    )
)
#: For each audit event of Python, which arguments are the paths that it touches, each with the
#: argument that is the descriptor of the folder to which a relative path belongs. The target of a
#: symbolic link is text: only the link's own path is touched.
_EVENTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
}
#: Variables of the developer, of git or of a surrounding run. Tests get none of them: with
#: PYTHONUNBUFFERED, for example, a missing flush shows only on other machines.
_FOREIGN = ("GIT_", "ORCHESTRATOR_", "PYTHON", "XDG_")
_touched: list[str] = []
_guarding = False

AGENTS_YAML = """\
# The agents of this project.
paused: false
base_branch: main
forge: local
queue_limits: {max_incoming: 20, max_claimed: 5, max_open_prs: 10}

agents:
  # Writes the code.
  - name: impl-agent-1
    role: implementer
    interval_seconds: 60
  - name: test-agent
    role: tester
    interval_seconds: 120  # twice as long
  - name: pm-agent
    role: product_manager
    interval_seconds: 600
"""


class TouchedRealHome(RuntimeError):
    """A test reached for the developer's own home."""


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def touched(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """Return the absolute paths that an audit event touches.

    A path relative to an open folder is left out: opening that folder was an event of its own.
    """
    found = []
    for place, descriptor in _EVENTS.get(event, ()):
        path = arguments[place]
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        elif not isinstance(path, str):
            continue
        if path[:1] == "/" or descriptor is None or arguments[descriptor] == -1:
            found.append(os.path.abspath(path))
    return found


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if not _guarding or event not in _EVENTS:
        return
    if event == "open":
        # Tests open many files: an absolute path into the home has the home's name.
        path = arguments[0]
        if isinstance(path, str) and path[:1] == "/" and _HOME_NAME not in path:
            return
    for path in touched(event, arguments):
        if _within(path, _REAL_HOME) and not any(_within(path, ours) for ours in _OURS):
            _touched.append(path)
            raise TouchedRealHome(path)


sys.addaudithook(_guard)

# A shell's background job ignores SIGINT, and so would each process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Examples per property test: `make test` draws few, `make slow` many.
_EXAMPLES = {"quick": 25, "thorough": 200}
for _profile, _number in _EXAMPLES.items():
    # No test depends on speed: a busy machine is no reason for an example to be too slow.
    hypothesis.settings.register_profile(
        _profile,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        max_examples=_number,
    )
hypothesis.settings.load_profile("quick")


def examples(share: float) -> int:
    """Return a number of examples: this share of what the profile in use draws."""
    return max(1, round(share * hypothesis.settings.default.max_examples))


# What collection makes stays to the end. A look at it by the garbage collector takes a third of a
# second, and there is such a look now and then in every worker.
gc.disable()
#: Python's own thresholds are for programs that keep little: at each of them the collector would
#: look again at the syntax trees and pages that a test holds.
_GARBAGE = (10_000, 20, 50)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    gc.enable()


#: The ids of all tests, if pytest was not told to run only some files.
ALL_TESTS = pytest.StashKey[list[str]]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play the tests of a module that says `import both_stores` over both stores of tasks."""
    if (both_stores := getattr(metafunc.module, "both_stores", None)) is not None:
        both_stores.play(metafunc)


@pytest.hookimpl(tryfirst=True)  # before pytest selects by mark
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what only `make slow` runs, and skip by name the tests that need root."""
    if {Path(config.rootpath, word).resolve() for word in config.args} == {CHECKOUT / "tests"}:
        config.stash[ALL_TESTS] = [item.nodeid for item in items]
    # The longest tests begin first: at the end, the others would wait for them.
    items.sort(key=lambda item: not item.nodeid.startswith("tests/test_crash.py"))
    for item in items:
        if quick_variants.is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)
        if os.geteuid() != 0 and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip("needs root: run make test or .ci/run as root"))


@pytest.fixture(scope="session")
def scratch_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for all tests of this process."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(commits.GIT_CONFIG)
    return home


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a database in which the tests of this process may create schemas."""
    from postgresql import some_server  # its libraries take a fifth of a second

    with some_server() as base:
        yield base


@pytest.fixture(autouse=True)
def own_home(scratch_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that is not the developer's, and an environment without `_FOREIGN` variables."""
    global _guarding
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(scratch_home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(scratch_home / ".gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    _touched.clear()
    _guarding = True
    try:
        yield scratch_home
    finally:
        _guarding = False
    assert not _touched, f"a test touched the real home: {_touched}"


@pytest.fixture(autouse=True)
def own_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the processes that a test started and close their pipes, also after a time limit.

    What stays open is a `ResourceWarning`, which is an error, in whichever test runs when Python
    collects the garbage.
    """
    started: list[subprocess.Popen[Any]] = []
    make = subprocess.Popen.__init__

    def make_and_note(process: subprocess.Popen[Any], *words: Any, **options: Any) -> None:
        make(process, *words, **options)
        started.append(process)

    monkeypatch.setattr(subprocess.Popen, "__init__", make_and_note)
    yield
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # unsent input of a dead process
                    pipe.close()


def refresh(layout: Layout, config: Config, *, after_run: bool = False) -> list[PullRequest] | None:
    """Look at the forge and the remotes, and record what they say, as a tick does."""
    from orchestrator.pulls import look, states

    return states.record(layout, config, look.look(layout, config, after_run=after_run))


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it says.

    The commit of a branch that has a file of its own is read from there: tests ask for it more than
    a thousand times.
    """
    if arguments[0] == "rev-parse" and len(arguments) == 2:
        known = commits.read(folder, arguments[1])
        if known and known != arguments[1]:
            return known
    done = subprocess.run(
        ("git", *arguments), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="session")
def templates(scratch_home: Path) -> dict[str, copies.Kept]:
    """What `repo`, `remote` and `project` start from: made once, then copied for each test."""
    folder = copies.once("templates", lambda folder: _make_templates(folder, scratch_home))
    return {name: copies.Kept(folder / name) for name in ("repo", "remote", "project")}


def _make_templates(folder: Path, home: Path) -> None:
    root = folder / "repo"
    root.mkdir(parents=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)},
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
    }

    def run(*command: str, cwd: Path = root) -> None:
        subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL)

    run("git", "init", "--quiet", "--initial-branch=main", "--template=")
    run("git", "config", "user.name", "A Person")
    run("git", "config", "user.email", "person@example.com")
    (root / ".git" / "info").mkdir()
    (root / "README.md").write_text("# A project\n")
    run("git", "add", ".")
    run("git", "commit", "--quiet", "--message", "The first commit")
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder / "remote"))
    run("git", "push", "--quiet", str(folder / "remote"), "main")
    project = shutil.copytree(root, folder / "project")
    run(sys.executable, "-m", "orchestrator", "init", "--start", cwd=project)
    (project / ".orchestrator" / "agents.yaml").write_text(AGENTS_YAML)
    for path in filter(Path.is_file, root.rglob("*")):  # keep only what `init` wrote
        there = project / path.relative_to(root)
        assert there.read_bytes() == path.read_bytes(), f"init changed {there}"
        there.unlink()


@pytest.fixture
def repo(
    templates: dict[str, copies.Kept], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A fresh repository with one commit, whose folder is the current one."""
    root = templates["repo"].write(tmp_path / "project")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def remote(templates: dict[str, copies.Kept], repo: Path, tmp_path: Path) -> Path:
    """A bare repository, the `origin` of `repo`, with its branch `main`."""
    bare = templates["remote"].write(tmp_path / "remote.git")
    own = repo / ".git"
    with (own / "config").open("a") as settings:
        fetch = "+refs/heads/*:refs/remotes/origin/*"
        settings.write(f'[remote "origin"]\n\turl = "{bare}"\n\tfetch = {fetch}\n')
    tip = (own / "refs" / "heads" / "main").read_text()
    if (bare / "refs" / "heads" / "main").read_text() == tip:  # as after `git push`
        tracked = own / "refs" / "remotes" / "origin" / "main"
        tracked.parent.mkdir(parents=True)
        tracked.write_text(tip)
    else:
        git(repo, "push", "--quiet", "origin", "main")
    return bare


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command line in this process: `cli("task", "list")`."""
    from orchestrator.cli.main import main

    def run(*words: str) -> Done:
        capsys.readouterr()
        code = main(list(words))
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Done(code, said.out, said.err)

    return run


@pytest.fixture
def project(templates: dict[str, copies.Kept], repo: Path) -> Any:
    """The repository after `init --start`, with three agents; returns its layout."""
    from orchestrator.layout import Layout

    templates["project"].write(repo)
    os.utime(repo / ".git" / "orchestrator.json")  # `init` was just now
    return Layout(str(repo))


def set_up_long_ago(root: str | Path) -> None:
    """Let the `init` of a project lie so far back that there should have been a tick since."""
    os.utime(Path(root, ".git", "orchestrator.json"), (time.time() - 36_000,) * 2)


def tree(folder: str | Path) -> dict[str, str]:
    """Return every file below a folder with a digest of its mode and contents (`.git` left out)."""
    found = {}
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        for name in (*folders, *names):
            path = os.path.join(where, name)
            mode = os.lstat(path).st_mode
            content = b""
            if os.path.islink(path):
                content = os.readlink(path).encode()
            elif os.path.isfile(path):
                content = Path(path).read_bytes()
            found[os.path.relpath(path, folder)] = f"{mode:o} {hashlib.sha256(content).hexdigest()}"
    return found


@pytest.fixture
def unchanged(project: Any) -> Callable[[], None]:
    """Return a function that fails if any file of the project changed since the test began.

    Lock files without contents, and the folder of throw-away things, do not count.
    """

    def now() -> dict[str, str]:
        skipped = (".orchestrator/cache", ".orchestrator/shared/queue/.lock")
        return {
            path: seal for path, seal in tree(project.root).items() if not path.startswith(skipped)
        }

    before = now()
    return lambda: _assert_same(before, now())


@pytest.fixture
def refuses(cli: Callable[..., Done], unchanged: Callable[[], None]) -> Callable[..., None]:
    """Return a function that fails unless a command is refused in one sentence, without a change.

    Its parameters are the words of the command, the exit code, and a part of what is said.
    """

    def check(words: tuple[str, ...], code: int, said: str) -> None:
        done = cli(*words)
        assert done.code == code, done.err
        assert sum(line.startswith("orchestrator: ") for line in done.err.splitlines()) == 1
        assert said in done.err
        with_json = cli(*words, "--json")
        assert with_json.code == code
        assert set(with_json.json["error"]) == {"code", "message", "hint"}
        unchanged()

    return check


def _assert_same(before: dict[str, str], after: dict[str, str]) -> None:
    assert after == before
