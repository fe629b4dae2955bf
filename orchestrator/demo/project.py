"""Creates the throw-away project: your checkout with unfinished work, and a bare remote."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator.demo import shop
from orchestrator.git import call
from orchestrator.guard import client_environment
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.system import commands, process
from orchestrator.tasks import stores, task_file

#: Every process of a demonstration has this variable; its value is the demonstration's folder.
MARK = "ORCHESTRATOR_DEMO"
#: Seconds for one command.
TIMEOUT = 60.0

_CONFIG = """\
# The client is a script: its source shows what a client must do.
base_branch: main
forge: local
checks: [{check}]
claude: {{command: {client}}}
review: {{after: [implement, test], max_rounds: 3, auto_merge: true}}
retry: {{max_attempts: 3, backoff_seconds: 1, max_backoff_seconds: 5}}
agents:
  - {{name: pm-agent, role: product_manager, interval_seconds: 60}}
  - {{name: impl-agent-1, role: implementer, interval_seconds: 1}}
  - {{name: test-agent, role: tester, interval_seconds: 1}}
  - {{name: review-agent, role: reviewer, interval_seconds: 1}}
"""
#: Replaces your git configuration, which may lack an identity or forbid commits.
_GIT_CONFIG = """\
[user]
    name = A Shopkeeper
    email = shopkeeper@example.invalid
[core]
    excludesFile = /dev/null
    attributesFile = /dev/null
"""


class Project(NamedTuple):
    """The project of a demonstration, and the environment of all its processes."""

    folder: str
    #: Your checkout.
    root: str
    remote: str
    layout: Layout
    environment: dict[str, str]

    def run(self, *argv: str) -> str:
        """Run a command in your checkout; return its output. Raises OrchestratorError."""
        environment = self.environment
        try:
            done = commands.run(argv, cwd=self.root, environment=environment, timeout=TIMEOUT)
        except OSError as error:
            raise OrchestratorError(f"{argv[0]} cannot be started: {error.strerror}") from None
        if done.code != 0:
            said = (done.err or done.out).strip()[-500:]
            raise OrchestratorError(f"{shlex.join(argv)} failed in {self.root}: {said}")
        return done.out

    def orchestrator(self, *words: str) -> str:
        """Run one of this program's own commands, as `run` does."""
        return self.run(*process.own_program(), *words)

    def checkout(self) -> tuple[str, ...]:
        """Return the branch, commit and unfinished work of your checkout, to be compared."""
        own = ("--", ".", ":!.orchestrator")
        return (
            self.run("git", "rev-parse", "HEAD", "--abbrev-ref", "HEAD"),
            self.run("git", "status", "--porcelain", *own),
            self.run("git", "diff", "HEAD", *own),
        )


def at(folder: str, base: Mapping[str, str]) -> Project:
    """Return the project of a demonstration in `folder`; `base`: this environment."""
    clean = {
        k: v
        for k, v in client_environment.for_git(base).items()
        if not k.startswith("ORCHESTRATOR_")
    }
    clean.update(GIT_CONFIG_GLOBAL=f"{folder}/gitconfig", GIT_CONFIG_NOSYSTEM="1")
    clean[MARK] = folder
    clean.setdefault("PATH", os.defpath)
    root = os.path.join(folder, "shop")
    return Project(folder, root, f"{root}.git", Layout(root), clean)


def create(project: Project) -> None:
    """Make the project, set it up with `init`, and fill its queue. Raises OrchestratorError."""
    _write(project.folder, {"gitconfig": _GIT_CONFIG})
    _write(project.root, shop.FILES)
    call.run(project.folder, "--version")  # says what to install if there is no git
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "-m", "A till for a small shop")
    project.run("git", "clone", "--quiet", "--bare", project.root, project.remote)
    project.run("git", "remote", "add", "origin", project.remote)
    agent = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.py")
    # YAML reads JSON.
    client = json.dumps((sys.executable, "-I", "-S", agent), ensure_ascii=False)
    check = json.dumps(shlex.join((sys.executable, "-E", "-m", "unittest")), ensure_ascii=False)
    _write(project.root, {project.layout.config: _CONFIG.format(client=client, check=check)})
    project.orchestrator("init", "--start", "--no-commands", "--schedule", "none")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "-m", "Set up orchestrator")
    project.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    # Your unfinished work: one change is not committed, one file is unknown to git.
    unfinished = {
        "README.md": shop.FILES["README.md"] + "\nTo do: gift ca\n",
        "notes.txt": "paper\n",
    }
    _write(project.root, unfinished)
    store = stores.of_project(project.layout)
    for name, text in shop.TASKS.items():
        store.add(task_file.parse(text.encode(), name))


def _write(folder: str, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
