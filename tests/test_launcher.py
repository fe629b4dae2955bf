"""The launcher and its set-up, run as a user's shell runs them, each in a scratch home.

Interpreters are faked by shell scripts on a PATH that holds nothing else, so that what the network
or a missing Debian package does can be told beforehand; one test makes the real environment.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import needs
import pytest

import orchestrator

ROOT = Path(__file__).resolve().parent.parent
VERSION = orchestrator.__version__
SHELL = "/bin/sh"

#: Stands where the environment's python will: plays pip and, at last, the command itself.
FAKE_ENVIRONMENT_PYTHON = """#!/bin/sh
case "$*" in
    *"-m pip "*)
        echo "pip user=$PIP_USER target=$PIP_TARGET index=$PIP_INDEX_URL path=$PYTHONPATH" >>{log}
        {pip}
        ;;
    "-I -c "*) ;;
    *)
        echo "command $$" >>{log}
        printf '%s\\n' "$@"
        [ -t 0 ] || while read -r line; do echo "stdin: $line"; done
        ;;
esac
"""

#: Stands on PATH: answers the launcher's and the set-up's questions, and plays `-m venv`.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    "-I -c import ensurepip, "*) exit {unsuitable} ;;
    "-I -c import sys; "*) exit {too_old_to_ask} ;;
    *bootstrap.py*) exec {real} -I -c {as_this} "$@" ;;
    "-I -m venv "*)
        PATH=/usr/bin:/bin
        echo "venv" >>{log}
        mkdir -p "$4/bin"
        cp {environment_python} "$4/bin/python"
        ;;
    *) exit 1 ;;
esac
"""

#: Runs bootstrap.py as the fake interpreter would.
AS_THIS = """
import runpy, sys
sys._base_executable, sys.version_info = {path!r}, {version}
sys.modules.update({missing})
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@dataclass
class Machine:
    """A user's machine in one folder: a copy of the product, a home, and the programs on PATH."""

    folder: Path
    #: Changes to the variables of each start; None takes one away.
    variables: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.folder / "a checkout"
        self.log = self.folder / "log"
        self.programs = self.folder / "programs"
        self.data = self.folder / "home" / ".local" / "share"
        for name in ("bin/orchestrator", "orchestrator/bootstrap.py", "requirements.lock"):
            copy = self.root / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy)
        (self.root / "orchestrator" / "__main__.py").write_text("")
        (self.folder / "home").mkdir()
        self.programs.mkdir()
        readlink = shutil.which("readlink")
        assert readlink
        (self.programs / "readlink").symlink_to(readlink)

    @property
    def launcher(self) -> Path:
        return self.root / "bin" / "orchestrator"

    @property
    def lock(self) -> Path:
        return self.root / "requirements.lock"

    @property
    def environment(self) -> Path:
        return self.data / "orchestrator" / VERSION / "venv"

    @property
    def marker(self) -> Path:
        return self.environment / ".complete"

    def events(self, name: str) -> list[str]:
        """The log's lines of one kind: `venv`, `pip` or `command`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.split()[0] == name]

    def add_environment_python(self, path: Path, pip: str = ":") -> Path:
        text = FAKE_ENVIRONMENT_PYTHON.format(log=shlex.quote(str(self.log)), pip=pip)
        return write_program(path, text)

    def add_python(
        self,
        name: str = "python3",
        version: tuple[int, int, int] = (3, 12, 1),
        makes_venv: bool = True,
        pip: str = ":",
    ) -> None:
        path = self.programs / name
        source = self.add_environment_python(self.folder / f"environment-{name}", pip)
        missing = {} if makes_venv else {"ensurepip": None}
        as_this = AS_THIS.format(path=str(path), version=version, missing=missing)
        write_program(
            path,
            FAKE_PYTHON.format(
                unsuitable=int(version < (3, 11) or not makes_venv),
                too_old_to_ask=int(version < (3, 8)),
                as_this=shlex.quote(as_this),
                real=shlex.quote(sys.executable),
                log=shlex.quote(str(self.log)),
                environment_python=shlex.quote(str(source)),
            ),
        )

    def make_ready(self) -> None:
        """Lay a finished environment down, as an earlier start has made it."""
        self.add_environment_python(self.environment / "bin" / "python")
        self.marker.write_bytes(self.lock.read_bytes())

    def settings(self) -> dict[str, str]:
        merged: dict[str, str | None] = {
            "HOME": str(self.folder / "home"),
            "PATH": str(self.programs),
            **self.variables,
        }
        return {name: value for name, value in merged.items() if value is not None}

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.launcher, *arguments],
            env=self.settings(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start(
        self, *arguments: str, program: str | Path | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program or self.launcher, *arguments],
            env=self.settings(),
            cwd=cwd or self.folder,
            input="",
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def refusal(self, *arguments: str) -> str:
        """What a start says that must fail, politely and without running anything."""
        done = self.start(*arguments)
        assert done.returncode == 1, done
        assert not self.events("command")
        return done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    in_launcher = re.findall(r"^version=(.*)$", (ROOT / "bin/orchestrator").read_text(), re.M)
    plugin = json.loads((ROOT / ".claude-plugin/plugin.json").read_text())
    marketplace = json.loads((ROOT / ".claude-plugin/marketplace.json").read_text())
    assert in_launcher == [VERSION]
    assert plugin["version"] == VERSION
    assert marketplace["metadata"]["version"] == VERSION
    assert [entry["version"] for entry in marketplace["plugins"]] == [VERSION]


def test_the_lock_file_pins_every_dependency_exactly() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=]", requirement)[0] for requirement in wanted}
    assert names <= {pin.split("==")[0] for pin in pins}


# A start that finds everything ready


def test_a_ready_start_needs_no_program_but_the_environments_python(machine: Machine) -> None:
    machine.make_ready()
    machine.variables["PATH"] = str(machine.folder / "nowhere")
    done = machine.start("task", "add", "--title", "two words", "")
    assert (done.returncode, done.stderr) == (0, "")
    main = str(machine.root / "orchestrator" / "__main__.py")
    expected = ["-I", "-S", main, "task", "add", "--title", "two words", ""]
    assert done.stdout.splitlines() == expected


def test_a_ready_start_becomes_the_python_process(machine: Machine) -> None:
    machine.make_ready()
    process = machine.popen("tick")
    process.communicate(timeout=20)
    assert machine.events("command") == [f"command {process.pid}"]


def test_a_ready_start_forks_nothing_and_execs_once(machine: Machine) -> None:
    machine.make_ready()
    # A program that makes no process of its own, so that each one seen is the launcher's.
    (machine.environment / "bin" / "python").unlink()
    (machine.environment / "bin" / "python").symlink_to(shutil.which("true") or "/bin/true")
    trace = machine.folder / "trace"
    strace = needs.program("strace", "strace")
    watched = "execve,execveat,fork,vfork,clone,clone3"
    traced = subprocess.run(
        [strace, "-f", "-o", trace, "-e", f"trace={watched}", machine.launcher, "tick"],
        env=machine.settings(),
        capture_output=True,
        text=True,
        timeout=20,
    )
    if "ptrace" in traced.stderr.lower():
        pytest.skip("strace may not trace here")
    assert traced.returncode == 0
    calls = [line for line in trace.read_text().splitlines() if "(" in line]
    assert len(calls) == 2, calls
    assert re.search(r"execve\(.*bin/orchestrator", calls[0])
    assert re.search(r"execve\(.*venv/bin/python", calls[1])


@pytest.mark.parametrize(
    ("cwd", "called_as"),
    [
        (".", "a checkout/bin/orchestrator"),
        ("a checkout", "bin/orchestrator"),
        ("a checkout", "./bin/orchestrator"),
        ("a checkout/bin", "./orchestrator"),
        ("links", "{folder}/links/absolute"),
        ("links", "./relative"),
        (".", "links/link to a link"),
        (".", "{folder}/links/bin/orchestrator"),
        ("links", "bin/orchestrator"),
    ],
)
def test_the_root_is_found_however_the_launcher_is_called(
    machine: Machine, cwd: str, called_as: str
) -> None:
    machine.make_ready()
    links = machine.folder / "links"
    links.mkdir()
    (links / "absolute").symlink_to(machine.launcher)
    (links / "relative").symlink_to("../a checkout/bin/orchestrator")
    (links / "link to a link").symlink_to("relative")
    (links / "bin").symlink_to(machine.launcher.parent)
    machine.variables["CDPATH"] = str(links)
    done = machine.start(
        "tick",
        program=called_as.format(folder=machine.folder),
        cwd=machine.folder / cwd,
    )
    assert done.returncode == 0, done
    main = Path(done.stdout.splitlines()[2])
    assert main.is_absolute()
    assert main == machine.root / "orchestrator" / "__main__.py"


def test_the_root_is_found_when_the_shell_is_given_the_launchers_bare_name(
    machine: Machine,
) -> None:
    machine.make_ready()
    done = machine.start("orchestrator", program=SHELL, cwd=machine.launcher.parent)
    assert done.stdout.splitlines()[2] == str(machine.root / "orchestrator" / "__main__.py")


def test_a_relative_data_folder_counts_as_unset(machine: Machine) -> None:
    machine.make_ready()
    machine.variables["XDG_DATA_HOME"] = "relative"
    assert machine.start("tick").returncode == 0


# A start that must make the environment


def test_the_first_start_says_what_it_does_on_standard_error_alone(machine: Machine) -> None:
    machine.add_python()
    process = subprocess.run(
        [machine.launcher, "task", "add"],
        env=machine.settings(),
        input="the body\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert process.returncode == 0, process
    assert process.stderr == f"Setting up orchestrator {VERSION} (once) ...\n"
    assert process.stdout.splitlines()[3:] == ["task", "add", "stdin: the body"]
    assert machine.marker.read_bytes() == machine.lock.read_bytes()

    again = machine.start("tick")
    assert (again.returncode, again.stderr) == (0, "")
    assert len(machine.events("venv")) == 1


def test_many_first_starts_at_once_make_one_environment(machine: Machine) -> None:
    machine.add_python(pip="PATH=/usr/bin:/bin; sleep 0.5")
    processes = [machine.popen("tick") for _ in range(4)]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert len(machine.events("venv")) == len(machine.events("pip")) == 1
    assert len(machine.events("command")) == 4
    assert sum("Setting up" in text for text in said) == 1


def test_an_environment_without_its_marker_is_made_again(machine: Machine) -> None:
    machine.make_ready()
    machine.marker.unlink()
    (machine.environment / "half").write_text("")
    left_by_a_killed_start = machine.environment.with_name("venv.new-abc")
    (left_by_a_killed_start / "bin").mkdir(parents=True)
    machine.add_python()
    assert machine.start("tick").returncode == 0
    assert not (machine.environment / "half").exists()
    kept = {entry.name for entry in machine.environment.parent.iterdir()}
    assert kept == {"venv", "setup.lock", "setup.log"}


def test_a_start_killed_on_the_way_leaves_the_next_one_free_to_finish(machine: Machine) -> None:
    machine.add_python(pip="PATH=/usr/bin:/bin; sleep 60")
    process = machine.popen("tick")
    deadline = time.monotonic() + 20
    while not machine.events("pip") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    assert not machine.environment.exists()

    machine.add_python()
    assert machine.start("tick").returncode == 0
    assert len(machine.events("command")) == 1
    assert not list(machine.environment.parent.glob("venv.*"))


def test_a_lock_file_with_other_text_makes_a_new_environment(machine: Machine) -> None:
    machine.make_ready()
    machine.lock.write_text("another==1.0\n")
    machine.add_python()
    assert machine.start("tick").returncode == 0
    assert len(machine.events("venv")) == 1
    assert machine.marker.read_text() == "another==1.0\n"


@pytest.mark.parametrize("ahead_seconds", [10, 1_000_000])
def test_a_lock_file_that_is_only_newer_makes_nothing_and_is_looked_at_once(
    machine: Machine, ahead_seconds: int
) -> None:
    machine.make_ready()
    later = time.time() + ahead_seconds
    os.utime(machine.lock, (later, later))
    machine.add_python()
    assert machine.start("tick").returncode == 0
    assert machine.marker.stat().st_mtime >= machine.lock.stat().st_mtime

    machine.variables["PATH"] = str(machine.folder / "nowhere")
    assert machine.start("tick").returncode == 0
    assert not machine.events("venv")


def test_an_environment_whose_interpreter_was_removed_is_made_again(machine: Machine) -> None:
    machine.make_ready()
    (machine.environment / "bin" / "python").unlink()
    (machine.environment / "bin" / "python").symlink_to(machine.folder / "removed")
    machine.add_python()
    assert machine.start("tick").returncode == 0
    assert len(machine.events("venv")) == 1


def test_only_the_settings_that_a_mirror_needs_reach_pip(machine: Machine) -> None:
    machine.add_python()
    machine.variables |= {
        "PIP_INDEX_URL": "file:///a/mirror",
        "PIP_USER": "1",
        "PIP_TARGET": "elsewhere",
        "PYTHONPATH": "elsewhere",
    }
    assert machine.start("tick").returncode == 0
    assert machine.events("pip") == ["pip user=0 target= index=file:///a/mirror path="]


def test_an_interpreter_that_does_not_run_is_passed_by(machine: Machine) -> None:
    stub = "#!/bin/sh\necho 'command not found' >&2\nexit 127\n"
    for name in ("python3.14", "python3.13"):
        write_program(machine.programs / name, stub)
    machine.add_python("python3.12")
    assert machine.start("tick").returncode == 0


def test_a_newer_python_is_found_behind_an_old_one(machine: Machine) -> None:
    machine.add_python("python3", (3, 9, 2))
    machine.add_python("python3.11", (3, 11, 2))
    assert machine.start("tick").returncode == 0


def test_a_python_without_venv_gives_way_to_one_that_has_it(machine: Machine) -> None:
    machine.add_python("python3.13", (3, 13, 0), makes_venv=False)
    machine.add_python("python3", (3, 11, 2))
    assert machine.start("tick").returncode == 0


# A start that must say why it cannot


def test_a_machine_without_python_is_told_what_to_install(machine: Machine) -> None:
    said = machine.refusal("tick")
    assert "no Python 3.11 or newer" in said
    assert "apt install python3" in said


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 8, 18), (3, 10, 13)])
def test_a_machine_with_an_old_python_is_told_what_to_install(
    machine: Machine, version: tuple[int, int, int]
) -> None:
    machine.add_python("python3", version)
    assert "no Python 3.11 or newer" in machine.refusal("tick")


def test_a_python_without_venv_is_named_with_the_missing_package(machine: Machine) -> None:
    machine.add_python(makes_venv=False)
    said = machine.refusal("tick")
    assert str(machine.programs / "python3") in said
    assert "apt install python3-venv" in said


PIP_WITHOUT_NETWORK = (
    "echo 'WARNING: Retrying' >&2; echo 'ERROR: No matching distribution found for cronsim' >&2;"
    " echo '[notice] something else'; exit 1"
)


def test_a_failure_of_pip_is_told_in_its_own_words_and_can_be_tried_again(
    machine: Machine,
) -> None:
    machine.add_python(pip=PIP_WITHOUT_NETWORK)
    said = machine.refusal("tick")
    assert "ERROR: No matching distribution found for cronsim" in said
    assert "Check the network" in said
    assert "run the same command again" in said
    assert "[notice]" in (machine.environment.parent / "setup.log").read_text()
    assert not list(machine.environment.parent.glob("venv*"))

    machine.add_python()
    assert machine.start("tick").returncode == 0


def test_a_failed_update_keeps_the_environment_that_was_there(machine: Machine) -> None:
    machine.make_ready()
    before = machine.lock.read_bytes()
    machine.lock.write_text("another==1.0\n")
    machine.add_python(pip=PIP_WITHOUT_NETWORK)
    machine.refusal("tick")
    machine.lock.write_bytes(before)
    assert machine.start("tick").returncode == 0
    assert not machine.events("venv")[1:]


def test_packages_that_do_not_load_are_not_put_in_place(machine: Machine) -> None:
    machine.add_python()
    broken = machine.folder / "environment-python3"
    failing = "echo 'ImportError: wrong kind of machine'; exit 1"
    broken.write_text(broken.read_text().replace('"-I -c "*) ;;', f'"-I -c "*) {failing} ;;'))
    assert "ImportError: wrong kind of machine" in machine.refusal("tick")
    assert not machine.environment.exists()


def test_a_data_folder_that_cannot_be_written_is_named(machine: Machine) -> None:
    in_the_way = machine.folder / "a file"
    in_the_way.write_text("")
    machine.add_python()
    machine.variables["XDG_DATA_HOME"] = str(in_the_way)
    said = machine.refusal("tick")
    assert f"cannot write {in_the_way}" in said
    assert "XDG_DATA_HOME" in said


def test_without_a_home_the_data_folder_decides(machine: Machine) -> None:
    machine.add_python()
    machine.variables["HOME"] = None
    assert "HOME is not set" in machine.refusal("tick")
    machine.variables["XDG_DATA_HOME"] = str(machine.data)
    assert machine.start("tick").returncode == 0
    assert machine.marker.exists()


@pytest.mark.parametrize("with_python", [True, False])
def test_a_refusal_is_json_too_when_json_was_asked_for(machine: Machine, with_python: bool) -> None:
    if with_python:
        machine.add_python(version=(3, 10, 0))
    done = machine.start("status", "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "python_missing"
    assert error["message"] in done.stderr
    assert error["hint"] in done.stderr


# The real thing

STAND_IN_COMMAND = """
import sys
from pathlib import Path
print(sys.version_info >= (3, 11), sys.flags.isolated, sys.flags.no_site)
bin = Path(sys.executable).parent
sys.path += map(str, bin.parent.glob("lib/python3.*/site-packages"))
import cronsim, frontmatter, jinja2, psutil, rich, yaml
print(bin.parent, yaml.__file__.startswith(str(bin.parent)))
"""


def test_the_real_environment_is_made_whatever_the_users_python_settings(machine: Machine) -> None:
    (machine.root / "orchestrator" / "__main__.py").write_text(STAND_IN_COMMAND)
    (machine.folder / "hostile").mkdir()
    (machine.folder / "hostile" / "json.py").write_text("raise SystemExit('hostile')")
    real = machine.programs / "python3"
    write_program(real, f'#!{SHELL}\nexec {shlex.quote(sys.executable)} "$@"\n')
    mirror = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    proxy = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    machine.variables |= mirror | proxy
    machine.variables |= {
        "PYTHONPATH": str(machine.folder / "hostile"),
        "PYTHONHOME": str(machine.folder / "hostile"),
        "PYTHONWARNINGS": "error",
        "PIP_USER": "1",
        "PIP_TARGET": str(machine.folder / "hostile"),
        "PIP_REQUIRE_HASHES": "1",
    }
    done = machine.start("tick")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"Setting up orchestrator {VERSION} (once) ...\n"
    assert done.stdout.splitlines() == ["True 1 1", f"{machine.environment} True"]
    # A link to a program, not to a version manager's script.
    interpreter = (machine.environment / "bin" / "python").resolve()
    assert interpreter.read_bytes()[:2] != b"#!"

    machine.variables["PATH"] = str(machine.folder / "nowhere")
    assert machine.start("tick").stderr == ""


# The libraries of the optional extras

EXTRAS = ("web", "otel", "postgresql")


def add_extra(machine: Machine, extra: str, pip: str = ":") -> subprocess.CompletedProcess[str]:
    """Let the set-up add the libraries of an extra to an environment whose pip is faked."""
    machine.make_ready()
    machine.add_environment_python(machine.environment / "bin" / "python", pip)
    for name in EXTRAS:
        shutil.copy2(ROOT / f"requirements-{name}.lock", machine.root)
    program = str(machine.root / "orchestrator" / "bootstrap.py")
    words = ("-I", program, "--extra", str(machine.environment), extra)
    return machine.start(*words, program=sys.executable)


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_libraries_of_an_extra_are_added_with_a_word_each(machine: Machine, extra: str) -> None:
    done = add_extra(machine, extra)
    lines = (ROOT / f"requirements-{extra}.lock").read_text().splitlines()
    pins = [line for line in lines if "==" in line and line[0] != "#"]
    assert (done.returncode, done.stdout) == (0, "")
    assert [pin for pin in pins if pin in done.stderr] == pins
    assert f"{len(pins)} of {len(pins)}: {pins[-1]}" in done.stderr
    assert len(machine.events("pip")) == len(pins)
    assert machine.marker.exists()


def test_libraries_of_an_extra_that_cannot_be_installed_leave_the_environment(
    machine: Machine,
) -> None:
    done = add_extra(machine, "web", "echo 'ERROR: no network'; exit 1")
    assert done.returncode == 1
    assert "ERROR: no network" in done.stderr
    assert "setup-web.log" in done.stderr
    assert machine.marker.exists()


def test_an_extra_without_a_lock_file_is_told(machine: Machine) -> None:
    done = add_extra(machine, "none")
    assert done.returncode == 1
    assert "requirements-none.lock is missing" in done.stderr


def test_every_requirement_of_an_extra_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"dev"}
    for extra in EXTRAS:
        locks = (f"requirements-{extra}.lock", "requirements.lock")
        text = "".join((ROOT / name).read_text() for name in locks)
        names = set(re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE))
        assert {re.split(r"[\[<>=]", requirement)[0] for requirement in extras[extra]} <= names
