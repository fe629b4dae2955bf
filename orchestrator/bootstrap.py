"""Creates the environment that ``bin/orchestrator`` runs in, once per version and user.

The launcher runs this with the first suitable Python on PATH, only if the environment is missing or
older than ``requirements.lock``. If no Python is suitable, another Python reports the problem; so
this file uses only the standard library and the syntax of Python 3.8. Messages go to standard
error, because standard output belongs to the command that follows.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

OLDEST_PYTHON = (3, 11)
#: The modules that a complete environment must be able to import.
MODULES = ("cronsim", "frontmatter", "jinja2", "psutil", "rich", "yaml")
#: pip's settings for the source of packages, which a company's mirror needs. Other settings
#: (PIP_USER, PIP_TARGET, PIP_REQUIRE_HASHES ...) could redirect or prevent the installation.
KEPT_PIP_SETTINGS = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"),
    *("PIP_CERT", "PIP_CLIENT_CERT", "PIP_TRUSTED_HOST", "PIP_PROXY", "PIP_KEYRING_PROVIDER"),
    *("PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_CACHE_DIR", "PIP_NO_CACHE_DIR"),
)
#: Seconds until a program that hangs is killed.
VENV_SECONDS, PIP_SECONDS = 300, 900
#: Seconds to wait for a set-up by another process: longer than a set-up can last.
LOCK_SECONDS = 2 * VENV_SECONDS + PIP_SECONDS + 60

MARKER = ".complete"
#: What needs an optional extra; `requirements-<extra>.lock` has its packages.
EXTRAS = {"web": "dashboard", "otel": "traces", "postgresql": "store: postgresql://..."}
AGAIN = "then run the same command again"


class SetupError(Exception):
    """The environment could not be created.

    The arguments are a stable code, the failure with its place, and the next step. The last two are
    sentences without a full stop.
    """


def clean_environment() -> dict[str, str]:
    """Return this process's environment without variables that configure Python or pip."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PIP_", "__PYVENV_")) or name in KEPT_PIP_SETTINGS
    }
    # A variable overrides pip's configuration files, where `user = true` would break the install.
    kept["PIP_USER"] = "0"
    return kept


def run(command: list[str], seconds: float) -> tuple[bool, str]:
    """Run a program without input, for a limited number of seconds.

    Returns whether it succeeded, and its output from both streams. Never raises.
    """
    try:
        process = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            timeout=seconds,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return False, f"it did not end within {seconds} seconds"
    except OSError as error:
        return False, str(error)
    return process.returncode == 0, process.stdout


def reason(output: str) -> str:
    """Return the reason of a failure from a program's output: the last error, or the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no message"])[-1].rstrip(".")


def find_python() -> str:
    """Return the path of this Python, which the environment will use.

    Raises SetupError if this Python is too old or cannot create virtual environments.
    """
    path = getattr(sys, "_base_executable", None) or sys.executable
    name = f"Python {'.'.join(map(str, sys.version_info[:3]))} ({path})"
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            "python_missing",
            f"no Python 3.11 or newer was found on PATH, the newest is {name}",
            f"Install it (Debian and Ubuntu: apt install python3 python3-venv), {AGAIN}",
        )
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        raise SetupError(
            "venv_missing",
            f"{name} cannot create virtual environments: its venv or ensurepip module is missing",
            f"Install it (Debian and Ubuntu: apt install python3-venv), {AGAIN}",
        )
    # The versioned name is preferred. If a system upgrade removes that Python, the launcher sees a
    # dangling link, whereas "python3" would become another Python, which cannot import the
    # environment's packages.
    versioned = os.path.join(os.path.dirname(path), "python{}.{}".format(*sys.version_info))
    return versioned if os.access(versioned, os.X_OK) else os.path.realpath(path)


def is_current(environment: Path, lock_text: bytes) -> bool:
    """Return whether the environment is complete and was created from this lock file."""
    try:
        made_from = (environment / MARKER).read_bytes()
    except OSError:
        return False
    return made_from == lock_text and os.access(environment / "bin" / "python", os.X_OK)


def touch_marker(environment: Path, lock_file: Path) -> None:
    """Give the marker the lock file's time, even if that time is ahead of the clock."""
    newest = max(time.time_ns(), lock_file.stat().st_mtime_ns)
    os.utime(environment / MARKER, ns=(newest, newest))


@contextlib.contextmanager
def held(lock: Path, version: str) -> Iterator[None]:
    """Hold a lock that the system releases when this process dies.

    Raises SetupError if another process holds it for longer than a set-up can last.
    """
    with lock.open("a") as file:
        for second in range(LOCK_SECONDS):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if second == 0:
                say(f"Waiting for another process that sets up orchestrator {version} ...")
            time.sleep(1)
        else:
            raise SetupError(
                "setup_busy",
                f"another process has held {lock} for too long",
                f"End that process, {AGAIN}",
            )
        yield


def build(environment: Path, lock_file: Path, log: Path) -> None:
    """Create a virtual environment with the locked packages in an empty folder, and test it.

    Raises SetupError; the output of pip remains in ``log``.
    """
    python = find_python()
    made, output = run([python, "-I", "-m", "venv", str(environment)], VENV_SECONDS)
    if not made:
        raise SetupError(
            "venv_failed",
            f"{python} could not create a virtual environment: {reason(output)}",
            f"Repair it (Debian and Ubuntu: apt install python3-venv), {AGAIN}",
        )
    inside = [str(environment / "bin" / "python"), "-I"]
    install(environment, ["--requirement", str(lock_file)], f"the packages of {lock_file}", log)
    imported, output = run([*inside, "-c", "import " + ", ".join(MODULES)], VENV_SECONDS)
    if not imported:
        raise SetupError(
            "packages_failed",
            f"the packages are installed but cannot be imported: {reason(output)}",
            f"Check that {python} is complete and fits this machine, {AGAIN}",
        )


def add_extra(extra: str, environment: Path, lock_file: Path) -> None:
    """Install the packages of an extra into the environment, and say which. Raises SetupError.

    A killed installation is repeated by the next call. The environment stays usable.
    """
    if not lock_file.is_file():
        raise SetupError("incomplete_copy", f"{lock_file} is missing", "Reinstall orchestrator")
    folder = environment.parent
    with held(folder / "setup.lock", folder.name):
        wanted = [line for line in lock_file.read_text().splitlines() if line[:1].isalpha()]
        say(f"Installing the libraries of `{EXTRAS[extra]}` (once, {len(wanted)} packages) ...")
        for number, package in enumerate(wanted, 1):
            say(f"  {number} of {len(wanted)}: {package}")
            named, log = f"{package} of {lock_file}", folder / f"setup-{extra}.log"
            install(environment, ["--no-deps", package], named, log)


def install(environment: Path, what: list[str], named: str, log: Path) -> None:
    """Let the environment's pip install something; its output goes to a log. Raises SetupError."""
    pip = [str(environment / "bin" / "python"), "-I", "-m", "pip"]
    pip += ["--quiet", "--disable-pip-version-check", "--no-input", "install"]
    installed, output = run([*pip, *what], PIP_SECONDS)
    log.write_text(output, encoding="utf-8")
    if not installed:
        raise SetupError(
            "packages_failed",
            f"pip could not install {named}: {reason(output)} (pip's full output is in {log})",
            f"Check the network, or pip's proxy and index settings, {AGAIN}",
        )


def remove_leftovers(folder: Path) -> None:
    """Remove replaced environments and leftovers of killed set-ups."""
    for leftover in folder.glob("venv.*-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def set_up(version: str, environment: Path, lock_file: Path) -> None:
    """Update the environment if it is not current. Several processes may call this at once.

    If the process is killed, the environment is unchanged. Raises SetupError, and OSError if the
    folder cannot be written.
    """
    lock_text = lock_file.read_bytes()
    if is_current(environment, lock_text):
        # A current environment also works in a home that is now read-only.
        with contextlib.suppress(OSError):
            touch_marker(environment, lock_file)
        return
    folder = environment.parent
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / "setup.lock", version):
        if is_current(environment, lock_text):
            return
        say(f"Setting up orchestrator {version} (once) ...")
        remove_leftovers(folder)
        made = Path(tempfile.mkdtemp(prefix="venv.new-", dir=folder))
        try:
            build(made, lock_file, folder / "setup.log")
            (made / MARKER).write_bytes(lock_text)
            touch_marker(made, lock_file)
            # After a power cut, the marker must not exist without the files.
            os.sync()
            if os.path.lexists(environment):
                environment.rename(Path(tempfile.mkdtemp(prefix="venv.old-", dir=folder), "venv"))
            made.rename(environment)
        finally:
            remove_leftovers(folder)


def say(text: str) -> None:
    """Write a message to standard error, so that it never mixes with the command's output."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Set up for ``VERSION ENVIRONMENT [THE COMMAND'S ARGUMENTS]``; return the exit code.

    For ``--extra ENVIRONMENT EXTRA``, add the packages of an optional extra to the environment.
    """
    version, environment, *command = arguments
    lock_file = Path(__file__).resolve().parent.parent / "requirements.lock"
    try:
        if version == "--extra":
            extra_lock = lock_file.with_name(f"requirements-{command[0]}.lock")
            add_extra(command[0], Path(environment), extra_lock)
            return 0
        if not environment:
            raise SetupError(
                "home_unset",
                "HOME is not set, so there is no folder for the environment",
                f"Set HOME, or XDG_DATA_HOME to a folder's absolute path, {AGAIN}",
            )
        if not lock_file.is_file():
            raise SetupError(
                "incomplete_copy", f"{lock_file} is missing", f"Reinstall orchestrator, {AGAIN}"
            )
        set_up(version, Path(environment), lock_file)
    except SetupError as error:
        code, message, hint = error.args
    except OSError as error:
        code = "data_folder_unwritable"
        message = f"cannot write {error.filename or environment}: {error.strerror or error}"
        hint = f"Free disk space or set XDG_DATA_HOME to a folder that you can write, {AGAIN}"
    except KeyboardInterrupt:
        return 130
    else:
        return 0
    say(f"orchestrator: {message}. {hint}.")
    if "--json" in command:
        print(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
