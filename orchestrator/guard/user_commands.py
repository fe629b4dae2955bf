"""The user's own commands: how checks and hooks run, and the environment that they get."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import cache

from orchestrator.guard import client_environment, secret_names, secret_shapes
from orchestrator.layout import Layout
from orchestrator.model.config import Agent, Config, ports
from orchestrator.model.errors import SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files, long_log, memory, process

#: A shell's exit code for "there is no such program".
COMMAND_NOT_FOUND = 127
#: Exit codes (of a shell and of Popen) of a check that was killed by SIGKILL or SIGTERM. Other
#: signals come from a crash of the program itself, which is a failure of the check.
KILLED = (128 + 9, 128 + 15, -9, -15)
#: Maximum characters of a failed check's output in the task and in the next prompt.
OUTPUT_KEPT = 4000
#: Maximum bytes of one command's output in its log. The command may write more: it is not ended,
#: and the middle of its output is left out.
MOST_LOGGED = 4 << 20


#: What the common tools say when a dependency is not installed: a shell, Python, Node.js,
#: TypeScript, Ruby, Go, PHP, Elixir, Maven.
_LACKING = (
    r"command not found|: not found$|ModuleNotFoundError|No module named|Cannot find module"
    r"|Cannot find package|ERR_MODULE_NOT_FOUND|Bundler::GemNotFound|Could not find gem"
    r"|no required module provides package|vendor/autoload\.php|Unchecked dependencies for"
    r"|No such file or directory.*(\.venv|node_modules)|(\.venv|node_modules).*No such file"
)
_SET_UP = (
    "If a dependency is missing: `setup` in agents.yaml names the command that prepares a worktree,"
    " such as setup: {command: npm ci, when_changed: [package-lock.json]}"
)


class Stopped(Exception):
    """A person stopped the run during its checks."""


class Failure(NamedTuple):
    """A check that did not pass. `code` is None if it timed out."""

    command: str
    code: int | None
    output: str
    #: Variables that its output names but that it did not get, because they look like secrets.
    lacked: tuple[str, ...] = ()

    @property
    def program_is_missing(self) -> bool:
        return self.code == COMMAND_NOT_FOUND

    @property
    def was_killed(self) -> bool:
        return self.code in KILLED

    @property
    def how(self) -> str:
        return "took too long" if self.code is None else f"exited {self.code}"

    @property
    def lacks_dependency(self) -> bool:
        """Whether the check probably failed because the worktree is not set up."""
        import re

        found = re.search(_LACKING, self.output, re.MULTILINE)
        return self.program_is_missing or found is not None

    def __str__(self) -> str:
        said = f"{self.command!r} {self.how}\n{self.output}".rstrip()
        hints = (secret_names.hint(self.lacked), _SET_UP if self.lacks_dependency else "")
        return "\n".join((said, *filter(None, hints)))


class Checker(NamedTuple):
    """Runs checks: with an environment, a log for output, a time limit, and a stop request."""

    environment: Mapping[str, str]
    log: str
    #: Seconds for each command.
    timeout: float
    #: The mark of the processes (`processes.MARKS`), which finds them again.
    mark: str
    should_stop: Callable[[], object] = lambda: False

    def first_failure(self, commands: tuple[str, ...], cwd: str) -> Failure | None:
        """Run commands one after the other in `cwd` until one fails. Raises Stopped."""
        for command in commands:
            failure = self.run(command, cwd)
            if failure is not None and (failure.was_killed or memory.named_in(failure.output)):
                # Memory shortage, a person or a shutdown killed it, not the work; or it lacked
                # space, which may be there again. Run it again.
                failure = self.run(command, cwd)
            if failure is not None:
                return failure
        return None

    def run(self, command: str, cwd: str) -> Failure | None:
        """Run one shell command; None when it exits 0. Raises Stopped."""
        import subprocess

        files.append_line(self.log, f"$ {command}")
        with open(self.log, "a+b", buffering=0) as out:
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
                in_time = self._wait(child.pid, out.fileno(), began)
            finally:
                # End all processes of the check, so that they cannot disturb the next check.
                process.signal_group(child.pid, signal.SIGKILL)
                code = child.wait()
                process.end_run(None, None, self.mark)
                long_log.cut(out.fileno(), began, MOST_LOGGED)
        if in_time and code == 0:
            return None
        with open(self.log, "rb") as file:
            file.seek(began)
            output = file.read().decode(errors="replace")
        output = secret_shapes.withheld(output[-2 * OUTPUT_KEPT :])[-OUTPUT_KEPT:]
        lacked = secret_names.named_in(command + output, os.environ, self.environment)
        return Failure(command, code if in_time else None, output, tuple(lacked))

    def _wait(self, pid: int, log: int, began: int) -> bool:
        """Wait for a check to end, without reaping it; return False if it timed out.

        Meanwhile its output, which begins at a byte of the open log, must not fill the disk.
        """
        deadline = time.monotonic() + self.timeout
        pause = 0.005
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if self.should_stop():
                raise Stopped
            if time.monotonic() > deadline:
                return False
            if os.fstat(log).st_size > began + 2 * MOST_LOGGED:
                long_log.shorten(log, began, MOST_LOGGED)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        return True


def commands_environment(config: Config) -> dict[str, str]:
    """Return the environment of checks and hooks, which may run code that an agent wrote.

    So it has only the secrets that `environment.allow` names, and not the client's sign-in.
    """
    return client_environment.for_git(
        secret_names.without_secrets(os.environ, config.environment_allow)
    )


def landing_environment(config: Config, layout: Layout, path: str) -> dict[str, str]:
    """Return the environment of checks and hooks in the landing worktree (reference 9.12).

    Its ports come after those of the last agent, so that no agent's server has them.
    """
    # No agent can have this name.
    nobody = Agent(".landing", "", len(config.agents))
    return {**check_environment(config, nobody, layout), "ORCHESTRATOR_WORKTREE": path}


def check_environment(config: Config, agent: Agent, layout: Layout) -> dict[str, str]:
    """Return the environment of the user's own commands in an agent's worktree (reference 9.12)."""
    return {**commands_environment(config), **place(config, agent, layout)}


def place(config: Config, agent: Agent, layout: Layout) -> dict[str, str]:
    """Return the variables that keep an agent's commands apart from those of other agents."""
    return {
        **{name: str(port) for name, port in ports(config, agent).items()},
        "ORCHESTRATOR_PROJECT": layout.root,
        "ORCHESTRATOR_WORKTREE": layout.worktree(agent.name),
        "COMPOSE_PROJECT_NAME": compose_project(layout.root, agent.name),
    }


@cache
def compose_project(root: str, agent: str) -> str:
    """Return a name for Docker Compose that no other project or agent of this machine has."""
    import hashlib
    import re

    # Of both: the readable part is cut off, and several names of agents give the same text.
    digest = hashlib.sha256(os.fsencode(f"{root}\0{agent}")).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9_-]", "-", f"{os.path.basename(root)}-{agent}".lower())
    return f"o{digest}-{name}"[:60]


def before_remove(config: Config, cwd: str, variables: Mapping[str, str]) -> None:
    """Run the user's `hooks.before_remove` in a worktree, if it is set. Raises SystemFault."""
    from orchestrator.system import commands

    command = config.hooks.before_remove
    if command is None:
        return
    words = ("/bin/sh", "-c", command)
    timeout = config.hooks.timeout_seconds
    done = commands.run(words, cwd=cwd, environment=dict(variables), timeout=timeout)
    if done.code != 0:
        said = secret_shapes.withheld((done.err or done.out).strip()[-3000:])[-300:]
        what = "took too long" if done.code is None else f"exited {done.code}: {said}"
        lacked = secret_names.named_in(command + said, os.environ, variables)
        why = f"hooks.before_remove {what} {secret_names.hint(lacked)}".rstrip()
        raise SystemFault(why, "fix `hooks.before_remove` in agents.yaml", code="hook_failed")
