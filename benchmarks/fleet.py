"""Hosts for the benchmark of several machines: clones, homes and attendants on one machine."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

#: Seconds after which something that should happen is given up.
PATIENCE = 60.0
#: A client that says when its first instruction runs.
_CLIENT = """#!/bin/sh
echo started >{started}
echo '{{"type": "result", "subtype": "success", "is_error": false, "result": "", \
"structured_output": {{"outcome": "no_change", "summary": "measured"}}}}'
"""
_CRONTAB = '#!/bin/sh\nif [ "$1" = -l ]; then touch {kept}; cat {kept}; else cat >{kept}; fi\n'


class Fleet:
    """Clones of one repository, each a host with an attendant, and one that only adds tasks."""

    def __init__(self, folder: Path, address: str, number: int) -> None:
        self._folder, self._address = folder, address
        self._names = [f"h-{each}" for each in range(number)]
        home = folder / "home"
        (home / "bin").mkdir(parents=True)
        (home / ".gitconfig").write_text("[user]\n\tname = bench\n\temail = bench@localhost\n")
        path = f"{home / 'bin'}:{os.environ['PATH']}"
        self.environment = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8"}
        program(home / "bin" / "crontab", _CRONTAB.format(kept=home / "kept"))
        os.mkfifo(folder / "started")
        self._started = os.open(folder / "started", os.O_RDWR | os.O_CLOEXEC)
        program(folder / "client", _CLIENT.format(started=folder / "started"))
        self._git(folder, "init", "-q", "-b", "main", "first")
        self._git(folder / "first", "commit", "-q", "--allow-empty", "-m", "first")
        self._git(folder, "clone", "-q", "--bare", "first", "remote.git")
        for name in (*self._names, "adder"):
            self._git(folder, "clone", "-q", "remote.git", name)
            self._config(name)
            self.run(name, "init", "--host", name, "--schedule", "cron", "--start", "-y")
            self._config(name)
        for name in self._names:
            self.run(name, "tick")
        pulses = [folder / name / ".orchestrator/cache/pulse" for name in self._names]
        wait("the attendants", lambda: all(each.exists() for each in pulses))

    def _config(self, name: str) -> None:
        agent = "  - {{name: a-{0}, role: implementer, host: {0}}}\n"
        listed = "".join(map(agent.format, self._names)) or "  []\n"
        (self._folder / name / ".orchestrator").mkdir(exist_ok=True)
        (self._folder / name / ".orchestrator" / "agents.yaml").write_text(
            f"base_branch: main\nforge: local\nstore: {self._address}\nreview: {{after: []}}\n"
            f"claude: {{command: [{self._folder / 'client'}]}}\nagents:\n{listed}"
        )

    def _git(self, where: Path, *words: str) -> None:
        subprocess.run(["git", *words], cwd=where, env=self.environment, check=True)

    def run(self, name: str, *words: str) -> str:
        program = [sys.executable, "-m", "orchestrator", *words]
        place = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        done = subprocess.run(
            program,
            cwd=self._folder / name,
            env=self.environment | place,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{name}: {words}: {done.stderr[-800:]}")
        return done.stdout

    def attendants(self) -> list[psutil.Process]:
        return [p for p in self.processes() if "_attend" in p.cmdline()]

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                own = process.environ().get("HOME") == self.environment["HOME"]
                if own and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def add(self, number: int) -> tuple[float, float]:
        """Add a task; return the seconds of the command, and those to the client's start."""
        began = time.perf_counter()
        self.run("adder", "task", "add", f"Benchmark number {number}", "--no-tick")
        command = time.perf_counter() - began
        if not select.select([self._started], [], [], PATIENCE)[0]:
            raise SystemExit("no client was started")
        seconds = time.perf_counter() - began
        os.read(self._started, 64)
        return command, seconds

    def end(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def close(self) -> None:
        self.end()
        os.close(self._started)


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def wait(what: str, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE:.0f} s in vain: {what}")
        time.sleep(0.02)
