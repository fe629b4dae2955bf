"""Checks: the user's own commands, run by the scheduler's side before anything is delivered."""

# No `from __future__ import annotations`, for the reason that `model` gives.

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from orchestrator.guard import client_environment, secret_names
from orchestrator.layout import Layout
from orchestrator.model import Agent, Config, ports
from orchestrator.system import files, process

#: A shell's exit code for "there is no such program".
COMMAND_NOT_FOUND = 127
#: How a check ends that somebody killed (a shell's codes, and Popen's): SIGKILL and SIGTERM. Other
#: signals are a program's own doing: a crash is a verdict.
KILLED = (128 + 9, 128 + 15, -9, -15)
#: Characters of a failed check's output that go into the task and the next prompt.
OUTPUT_KEPT = 4000


class Stopped(Exception):
    """A person ended the run during its checks."""


class Failure(NamedTuple):
    """A check that did not pass. `code` is None when its time was over."""

    command: str
    code: int | None
    output: str
    #: Variables that it speaks of and was not given, for they look like secrets.
    lacked: tuple[str, ...] = ()

    @property
    def program_is_missing(self) -> bool:
        return self.code == COMMAND_NOT_FOUND

    @property
    def was_killed(self) -> bool:
        return self.code in KILLED

    def __str__(self) -> str:
        how = "took too long" if self.code is None else f"exited {self.code}"
        said = f"{self.command!r} {how}\n{self.output}".rstrip()
        return f"{said}\n{secret_names.hint(self.lacked)}".rstrip()


class Checker(NamedTuple):
    """How checks are run: where their output goes, for how long, and who may end them."""

    environment: Mapping[str, str]
    log: str
    #: Seconds for each command.
    timeout: float
    #: What the processes are marked with (`processes.MARKS`), to find them again.
    mark: str
    should_stop: Callable[[], object] = lambda: False

    def first_failure(self, commands: tuple[str, ...], cwd: str) -> Failure | None:
        """Run commands one after the other in `cwd` until one fails. Raises Stopped."""
        for command in commands:
            failure = self.run(command, cwd)
            if failure is not None and failure.was_killed:
                # Out of memory, a person, a shutdown: that says nothing about the work. Once more.
                failure = self.run(command, cwd)
            if failure is not None:
                return failure
        return None

    def run(self, command: str, cwd: str) -> Failure | None:
        """Run one shell command; None when it exits 0. Raises Stopped."""
        import subprocess

        files.append_line(self.log, f"$ {command}")
        with open(self.log, "ab") as out:
            began = out.seek(0, os.SEEK_END)
            child = subprocess.Popen(
                ("/bin/sh", "-c", command),
                cwd=cwd,
                env={**self.environment, "ORCHESTRATOR_CHECK_OF": self.mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                process_group=0,
            )
            try:
                in_time = self._wait(child.pid)
            finally:
                # Whatever the check started ends with it: the next one begins on a quiet machine.
                process.kill_group(child.pid)
                code = child.wait()
                process.end_run(None, None, self.mark)
        if in_time and code == 0:
            return None
        with open(self.log, "rb") as file:
            file.seek(began)
            output = file.read().decode(errors="replace")[-OUTPUT_KEPT:]
        lacked = secret_names.named_in(command + output, os.environ, self.environment)
        return Failure(command, code if in_time else None, output, tuple(lacked))

    def _wait(self, pid: int) -> bool:
        """Wait for a check to end, without reaping it; False when its time is over."""
        deadline = time.monotonic() + self.timeout
        pause = 0.005
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if self.should_stop():
                raise Stopped
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        return True


def commands_environment(config: Config) -> dict[str, str]:
    """The environment of checks and hooks: what they run may be code that an agent wrote.

    So it holds no secret but those that `environment.allow` names, nor the client's sign-in.
    """
    return client_environment.for_git(
        secret_names.without_secrets(os.environ, config.environment_allow)
    )


def check_environment(config: Config, agent: Agent, layout: Layout) -> dict[str, str]:
    """The environment of the user's own commands: the agent's ports and worktree.

    Not the run's own variables: a project's tests may run orchestrator themselves.
    """
    variables = commands_environment(config)
    variables.update({name: str(port) for name, port in ports(config, agent).items()})
    variables["ORCHESTRATOR_WORKTREE"] = layout.worktree(agent.name)
    return variables
