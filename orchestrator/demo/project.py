"""Makes the throw-away project: a person's checkout with work under way, and a bare remote beside.

The user's own git configuration stays out of it, for all that happens in the demonstration: the
project has an identity of its own, and works for somebody who has none.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.demo import shop
from orchestrator.errors import OrchestratorError
from orchestrator.guard import client_environment
from orchestrator.layout import Layout
from orchestrator.system import commands, files, process

#: Marks every process of a demonstration with its folder.
MARK = "ORCHESTRATOR_DEMO"
#: Seconds for one command of the set-up.
TIMEOUT = 60.0

_CONFIG = """\
# The demonstration's agents. The client is a script: see its source for what a client must do.
base_branch: main
forge: local
checks: [{checks}]
claude:
  command: [{client}]
review: {{after: [implement, test], max_rounds: 3, auto_merge: true}}
retry: {{max_attempts: 3, backoff_seconds: 1, max_backoff_seconds: 5}}
agents:
  - {{name: pm-agent, role: product_manager, interval_seconds: 60}}
  - {{name: impl-agent-1, role: implementer, interval_seconds: 1}}
  - {{name: test-agent, role: tester, interval_seconds: 1}}
  - {{name: review-agent, role: reviewer, interval_seconds: 1}}
"""


#: An identity, and nothing of what a user's own files say is ignored or converted.
_GIT_CONFIG = {
    "user.name": "A Shopkeeper",
    "user.email": "shopkeeper@example.invalid",
    "core.excludesFile": os.devnull,
    "core.attributesFile": os.devnull,
}


@dataclass(frozen=True)
class Place:
    """Where a demonstration takes place, and the environment of all its processes."""

    folder: str
    environment: dict[str, str]

    @property
    def root(self) -> str:
        """The person's checkout."""
        return os.path.join(self.folder, "shop")

    @property
    def remote(self) -> str:
        return os.path.join(self.folder, "shop.git")

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    def command(self, *words: str) -> list[str]:
        """Return the argument vector of one of our own commands."""
        return [*process.own_program(), *words]


def at(folder: str, base: Mapping[str, str]) -> Place:
    """Return the place of a demonstration in `folder`; `base` is our own environment."""
    clean = {
        k: v
        for k, v in client_environment.for_git(base).items()
        if not k.startswith("ORCHESTRATOR_")
    }
    clean.update({"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", MARK: folder})
    clean.setdefault("PATH", os.defpath)
    return Place(folder, clean)


def create(place: Place) -> None:
    """Make the project, set it up with `init`, and fill its queue. Raises OrchestratorError."""
    root = place.root
    for name, text in shop.FILES.items():
        _write(os.path.join(root, name), text)
    _git(place, "init", "--quiet", "--initial-branch=main")
    for key, value in _GIT_CONFIG.items():
        _git(place, "config", key, value)
    _git(place, "add", "--all")
    _git(place, "commit", "--quiet", "-m", "A till for a small shop")
    _git(place, "clone", "--quiet", "--bare", root, place.remote)
    _git(place, "remote", "add", "origin", place.remote)
    _git(place, "fetch", "--quiet", "origin")
    _write(place.layout.config, config_text())
    _run(place, *place.command("init", "--start", "--no-commands", "--schedule", "none"))
    _git(place, "add", "--all")
    _git(place, "commit", "--quiet", "-m", "Set up orchestrator")
    _git(place, "push", "--quiet", "--set-upstream", "origin", "main")
    # A person is at work here: a change that is not committed, and a file that git does not know.
    _write(os.path.join(root, "IDEAS.md"), shop.FILES["IDEAS.md"] + "- opening hours on receip")
    _write(os.path.join(root, "notes.txt"), "call the paper supplier\n")
    for name, text in shop.TASKS.items():
        _write(os.path.join(place.layout.state("incoming"), name), text)


def config_text() -> str:
    """Return the project's agents.yaml."""
    agent = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.py")
    checks = _quoted(shlex.join((sys.executable, "-E", "-m", "unittest", "-q")))
    client = ", ".join(map(_quoted, (sys.executable, "-I", "-S", agent)))
    return _CONFIG.format(checks=checks, client=client)


def _quoted(text: str) -> str:
    """Return text as a YAML scalar in single quotes."""
    return "'" + text.replace("'", "''") + "'"


def checkout_print(place: Place) -> str:
    """Return a fingerprint of the person's checkout: every file, the index and the branch."""
    seen = hashlib.sha256()
    for folder, folders, names in os.walk(place.root):
        if folder == place.root:
            folders[:] = [name for name in folders if name not in (".git", ".orchestrator")]
        folders.sort()
        for name in sorted(names):
            _add_file(seen, os.path.join(folder, name))
    for name in ("HEAD", "index", "refs/heads/main", "config"):
        _add_file(seen, os.path.join(place.root, ".git", name))
    return seen.hexdigest()


def _add_file(seen: hashlib._Hash, path: str) -> None:
    seen.update(f"{path}\0{os.lstat(path).st_mode}\0".encode())
    with open(path, "rb") as file:
        seen.update(hashlib.sha256(file.read()).digest())


def _write(path: str, text: str) -> None:
    files.make_folder(os.path.dirname(path))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _git(place: Place, *arguments: str) -> None:
    _run(place, "git", *arguments)


def _run(place: Place, *argv: str) -> None:
    try:
        done = commands.run(argv, cwd=place.root, environment=place.environment, timeout=TIMEOUT)
    except FileNotFoundError:
        raise OrchestratorError(
            f"the demonstration needs {argv[0]}, and it is not on PATH",
            f"install {argv[0]}, then: orchestrator demo",
        ) from None
    except subprocess.SubprocessError as error:
        raise OrchestratorError(str(error)) from error
    if done.code != 0:
        said = (done.err or done.out).strip()[-500:]
        raise OrchestratorError(
            f"setting up the demonstration in {place.folder} failed: {shlex.join(argv[:3])}: {said}"
        )
