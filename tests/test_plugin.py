"""The plugin as people have it: installed into the real client, its skills invoked, its hook run.

Only the model is scripted. The launcher finds an environment that is ready, so nothing is fetched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copies
import pytest
import yaml
from conftest import CHECKOUT, git, set_up_long_ago, tree
from messages_api import MessagesAPI, Request
from real_client import client_environment, require_client
from test_skills import FOR_AGENTS, FOR_PEOPLE

import orchestrator
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.work import Entry, PullRequest
from orchestrator.pulls.local import Local
from orchestrator.tasks import stores

#: What a marketplace would hand out; not the tests, nor what lies about in a checkout.
PARTS = (".claude-plugin", "bin", "hooks", "orchestrator", "plugin", "skills")
FILES = ("CHANGELOG.md", "LICENSE", "README.md", "requirements.lock")
#: Tokens that all skills together may cost every session of everybody who has the plugin.
MOST_TOKENS = 900
#: Milliseconds of its own that the hook may take where there is nothing for it to do.
MOST_MILLISECONDS = 20

client = pytest.mark.client


def copy_of_the_plugin(folder: Path) -> Path:
    for part in PARTS:
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / part, folder / part, ignore=skipped)
    for name in FILES:
        shutil.copy2(CHECKOUT / name, folder / name)
    return folder


def ready_home(folder: Path) -> Path:
    """A home whose environment for this version is made: the one that the tests run in."""
    environment = folder / ".local" / "share" / "orchestrator" / orchestrator.__version__ / "venv"
    environment.mkdir(parents=True)
    for name in os.listdir(sys.prefix):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / ".complete").touch()
    return folder


@dataclass
class Machine:
    """A person's machine: a home with the client, and maybe the plugin, in it."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def plugin(self) -> Path:
        return self.folder / "plugin"

    @property
    def launcher(self) -> Path:
        return self.plugin / "bin" / "orchestrator"

    def environment(self, url: str = "http://127.0.0.1:9", **more: str) -> dict[str, str]:
        return {**client_environment(self.home, url), "GIT_CONFIG_NOSYSTEM": "1", **more}

    def client(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call the client for its own sake: `plugin install ...`."""
        command = [str(require_client()), *words]
        return subprocess.run(
            command, env=self.environment(), cwd=self.folder, capture_output=True, text=True
        )

    def orchestrator(self, cwd: Path, *words: str) -> str:
        done = subprocess.run(
            [str(self.launcher), *words],
            env=self.environment(),
            cwd=cwd,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def session(
        self,
        cwd: Path,
        prompt: str,
        turns: Sequence[Turn] = (),
        resume: str | None = None,
        **environment: str,
    ) -> Session:
        """Hold one session: a prompt, and what the model then calls, one thing after another.

        `resume` is the id of an earlier one that goes on.
        """
        options = ["--resume", resume] if resume else []

        def answer(request: Request) -> Any:
            outputs = [_text(block["content"]) for block in request.tool_results]
            if len(outputs) >= len(turns):
                return "Done."
            turn = turns[len(outputs)]
            wanted = turn(outputs) if callable(turn) else turn
            if isinstance(wanted, str):
                wanted = {"name": "Bash", "input": {"command": wanted, "description": "scripted"}}
            return wanted

        with MessagesAPI(answer) as api:
            done = subprocess.run(
                [str(require_client()), "-p", "--output-format", "json", *options],
                input=prompt,
                env=self.environment(api.url, **environment),
                cwd=cwd,
                capture_output=True,
                text=True,
            )
            try:
                said = json.loads(done.stdout)
            except ValueError:
                pytest.fail(f"{prompt}: {done.stdout}{done.stderr}")
            result = said if isinstance(said, dict) else said[-1]
            return Session(result, api.conversations())

    def prompts(self, cwd: Path, texts: list[str]) -> tuple[list[str], list[Request]]:
        """Say one thing after another in one session; return what was answered, and the requests.

        One start of the client for all: but what an earlier skill may do, a later one may too.
        """
        said = [{"type": "user", "message": {"role": "user", "content": text}} for text in texts]
        words = [
            "-p",
            "--input-format",
            "stream-json",
            "--output-format",
            "stream-json",
            "--verbose",
        ]
        with MessagesAPI(lambda request: "Done.") as api:
            done = subprocess.run(
                [str(require_client()), *words],
                input="".join(f"{json.dumps(each)}\n" for each in said),
                env=self.environment(api.url),
                cwd=cwd,
                capture_output=True,
                text=True,
            )
            events = [json.loads(line) for line in done.stdout.splitlines()]
            answers = [event["result"] for event in events if event["type"] == "result"]
            return answers, api.conversations()


@dataclass
class Session:
    """What the client reported, and what the model was sent."""

    result: dict[str, Any]
    requests: list[Request]

    @property
    def sent(self) -> str:
        """Everything that was said to the model, as one text."""
        assert self.requests, self.result
        return json.dumps(self.requests[-1].body, ensure_ascii=False)

    @property
    def skill(self) -> str:
        """The expanded text of the skill: the last prompt before the model's first answer."""
        assert self.requests, self.result
        return self.requests[0].prompts[-1]

    @property
    def outputs(self) -> list[str]:
        """What the calls returned; fails if one was denied or went wrong."""
        assert self.result["permission_denials"] == []
        results = self.requests[-1].tool_results
        assert [_text(r["content"]) for r in results if r.get("is_error")] == []
        return [_text(result["content"]) for result in results]


#: A command, a whole tool call, or what makes one of them from the outputs so far.
Turn = str | dict[str, Any] | Callable[[list[str]], str]


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine with the plugin's files on it, but not installed."""
    folder = tmp_path_factory.mktemp("machine")
    copy_of_the_plugin(folder / "plugin")
    ready_home(folder / "home")
    return Machine(folder)


@pytest.fixture(scope="module")
def machine(bare: Machine) -> Machine:
    """The same with the plugin installed, as a person does it."""
    for words in (
        ("plugin", "marketplace", "add", str(bare.plugin)),
        ("plugin", "install", "orchestrator@orchestrator"),
    ):
        done = bare.client(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    return bare


@pytest.fixture(scope="module")
def set_up(
    bare: Machine, templates: dict[str, copies.Kept], tmp_path_factory: pytest.TempPathFactory
) -> copies.Kept:
    """What `folder` starts from: made once by the launcher, then copied for each test."""
    root = templates["repo"].write(tmp_path_factory.mktemp("set-up") / "project")
    bare.orchestrator(root, "init", "--no-commands")
    bare.orchestrator(root, "task", "add", "--title", "Say good morning", "--role", "implement")
    return copies.Kept(root)


@pytest.fixture
def folder(set_up: copies.Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that is set up, with one task in its queue and the whole system paused."""
    root = set_up.write(tmp_path / "project")
    monkeypatch.chdir(root)
    os.utime(root / ".git" / "orchestrator.json")  # `init` was just now
    return root


def tasks(folder: Path, state: str) -> list[str]:
    queue = folder / ".orchestrator" / "shared" / "queue"
    return sorted(path.stem for path in (queue / state).glob("*.md"))


def settings(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / ".orchestrator" / "agents.yaml").read_text())


def agents(folder: Path) -> dict[str, dict[str, Any]]:
    return {agent["name"]: agent for agent in settings(folder)["agents"]}


# --- installing --------------------------------------------------------------------------------


@client
def test_the_directory_would_take_the_plugin_without_a_remark(bare: Machine) -> None:
    done = bare.client("plugin", "validate", "--strict", "--profile", "directory", str(bare.plugin))
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.lower()


@client
def test_installed_it_has_every_skill_and_costs_each_session_little(machine: Machine) -> None:
    said = machine.client("plugin", "details", "orchestrator").stdout
    assert all(name in said for name in FOR_PEOPLE)
    tokens = said.partition("Always-on:")[2].split()[0]
    assert int(tokens.strip("~").replace(",", "")) <= MOST_TOKENS


@client
def test_from_a_git_url_it_is_installed_whole_and_only_by_a_client_that_can_run_it(
    bare: Machine, tmp_path: Path
) -> None:
    """The address is one that git reads from a bare repository on this disk."""
    work, stored = copy_of_the_plugin(tmp_path / "work"), tmp_path / "stored.git"
    git(work, "init", "--quiet", "--initial-branch=main")
    person = ("-c", "user.name=P", "-c", "user.email=p@example.com")
    git(work, "add", ".")
    git(work, *person, "commit", "--quiet", "--message", "As published")
    git(tmp_path, "clone", "--quiet", "--bare", str(work), str(stored))
    url = "https://git.example.com/somebody/orchestrator.git"
    for version, is_enough in ((None, True), (">=999.0.0", False)):
        if version is not None:
            manifest = work / ".claude-plugin" / "plugin.json"
            told = json.loads(manifest.read_text()) | {"engines": {"claude-code": version}}
            manifest.write_text(json.dumps(told))
            git(work, *person, "commit", "--quiet", "--all", "--message", "For a later client")
            git(work, "push", "--quiet", str(stored), "main")
        person_s = Machine(tmp_path / f"machine-{is_enough}")
        person_s.home.mkdir(parents=True)
        setting = f'[url "file://{stored}"]\n\tinsteadOf = {url}\n'
        (person_s.home / ".gitconfig").write_text(setting)
        assert person_s.client("plugin", "marketplace", "add", url).returncode == 0
        done = person_s.client("plugin", "install", "orchestrator@orchestrator")
        said = done.stdout + done.stderr
        found = list(person_s.home.glob(".claude/plugins/cache/*/*/*/bin/orchestrator"))
        assert (done.returncode == 0) == is_enough, said
        if is_enough:
            assert [os.access(path, os.X_OK) for path in found] == [True]
        else:
            assert "claude update" in said
            assert found == []


def test_the_icon_is_a_square_picture_of_the_wanted_size() -> None:
    data = (CHECKOUT / ".claude-plugin" / "icon.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(data[place : place + 4]) for place in (16, 20))
    assert width == height
    assert 512 <= width <= 2048
    assert len(data) < 2 << 20


# --- the skills --------------------------------------------------------------------------------


@client
def test_enqueue_adds_a_task_can_take_it_back_and_may_do_nothing_else(
    machine: Machine, folder: Path
) -> None:
    add = (
        "orchestrator task add --title 'Refuse empty names' --role implement --priority P1 "
        "--body-file - <<'EOF'\n## Context\nIt's `app.py`, $HOME > all.\nEOF"
    )
    [first] = tasks(folder, "incoming")
    done = machine.session(
        folder,
        "/orchestrator:enqueue refuse empty names",
        [
            add,
            lambda outputs: f"orchestrator task cancel {outputs[0].strip()}",
            "orchestrator agent pause --all",
            "touch made",
        ],
    )
    assert "The user's request: refuse empty names" in done.skill
    assert "Say good morning" in done.skill
    assert "When you add a task" in done.skill
    added, cancelled, *_ = done.requests[-1].tool_results
    assert not added.get("is_error")
    assert not cancelled.get("is_error")
    assert len(done.result["permission_denials"]) == 2
    assert not (folder / "made").exists()
    new = _text(added["content"]).strip()
    assert tasks(folder, "incoming") == [first]
    assert tasks(folder, "failed") == [new]
    text = (folder / ".orchestrator/shared/queue/failed" / f"{new}.md").read_text()
    assert "PRIORITY: P1" in text
    assert "It's `app.py`, $HOME > all." in text


@client
def test_skills_that_look_have_all_they_need_and_change_nothing(
    machine: Machine, folder: Path
) -> None:
    [task] = tasks(folder, "incoming")
    looks: dict[str, tuple[list[Turn], str]] = {
        "queue-status": (
            [
                "orchestrator status",
                f"orchestrator task show {task}",
                "orchestrator task list --state incoming",
                "orchestrator pr list",
            ],
            "1 waiting",
        ),
        "agent-status tester": (["orchestrator agent show test-agent"], "test-agent"),
        "explain why is nothing happening": (
            [
                f"orchestrator explain {task}",
                "orchestrator explain impl-agent-1",
                "orchestrator tick --dry-run",
            ],
            "system_paused",
        ),
        "doctor": (["orchestrator doctor"], "FAIL"),
    }

    def look(words: str) -> Session:
        return machine.session(folder, f"/orchestrator:{words}", looks[words][0])

    before = settings(folder)
    with ThreadPoolExecutor(4) as pool:
        sessions = dict(zip(looks, pool.map(look, looks), strict=True))
    for words, done in sessions.items():
        turns, said = looks[words]
        assert len(done.outputs) == len(turns)
        assert said in done.skill
        assert words.partition(" ")[2] in done.skill
    assert settings(folder) == before
    assert tasks(folder, "incoming") == [task]


@client
def test_add_agent_adds_one_and_takes_it_away(machine: Machine, folder: Path) -> None:
    seen = {}

    def remove(_: list[str]) -> str:
        seen.update(agents(folder))
        return "orchestrator agent remove impl-agent-2"

    add = "orchestrator agent add impl-agent-2 --role implementer interval_seconds=300"
    done = machine.session(folder, "/orchestrator:add-agent a second implementer", [add, remove])
    assert "undo: orchestrator agent remove impl-agent-2" in done.outputs[0]
    assert "review-agent" in done.skill
    assert seen["impl-agent-2"]["interval_seconds"] == 300
    assert "impl-agent-2" not in agents(folder)


@client
def test_pause_agent_pauses_and_resumes(machine: Machine, folder: Path) -> None:
    seen = []

    def look_then(command: str) -> Callable[[list[str]], str]:
        return lambda _: seen.append(settings(folder)) or command

    turns: list[Turn] = [
        "orchestrator agent pause test-agent",
        "orchestrator agent resume --all",
        look_then("orchestrator agent pause --stop test-agent"),
        "orchestrator agent resume test-agent",
        "orchestrator agent pause --all --stop",
    ]
    done = machine.session(folder, "/orchestrator:pause-agent the tester", turns)
    assert "undo: orchestrator agent resume test-agent" in done.outputs[0]
    assert seen[0]["paused"] is False
    assert next(a["name"] for a in seen[0]["agents"] if a.get("paused")) == "test-agent"
    assert settings(folder)["paused"] is True
    assert not agents(folder)["test-agent"].get("paused")


@client
def test_retry_failed_looks_at_why_and_puts_tasks_back(machine: Machine, folder: Path) -> None:
    [task] = tasks(folder, "incoming")
    machine.orchestrator(folder, "task", "move", task, "failed")
    seen = []

    def look_then(command: str) -> Callable[[list[str]], str]:
        return lambda _: seen.append(tasks(folder, "incoming")) or command

    turns: list[Turn] = [
        f"orchestrator task show {task}",
        f"orchestrator task retry {task}",
        look_then(f"orchestrator task cancel {task}"),
        # As the skill says: what a person cancelled is among them.
        look_then("orchestrator task retry --all"),
    ]
    done = machine.session(folder, f"/orchestrator:retry-failed {task}", turns)
    assert task in done.skill.partition("## Steps")[0]
    assert "is in incoming again" in done.outputs[1]
    assert seen == [[task], []]
    assert tasks(folder, "incoming") == [task]


def pull_request(folder: Path, task: str) -> None:
    """Let an approved pull request of a done task wait for a person, as a reviewer leaves it."""
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Set orchestrator up")
    git(folder, "switch", "--quiet", "--create", f"agent/{task}-work")
    (folder / "morning.txt").write_text("good\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Say it")
    head = git(folder, "rev-parse", "HEAD")
    git(folder, "switch", "--quiet", "main")
    layout = Layout(str(folder))
    prs = Local(layout, Config())
    wanted = PullRequest("", task, f"agent/{task}-work", "main", head, "Say good morning", "open")
    prs.open(wanted, "Why")
    store = stores.of_project(layout)
    fields = {"run": "R-review", "reviewer": "rev-1", "verdict": "approved", "head": head}
    store.note(store.find(task), Entry("2026-01-01T00:00:00Z", "review", fields))


@client
def test_inbox_does_what_the_person_decided(machine: Machine, folder: Path) -> None:
    [done_one] = tasks(folder, "incoming")
    add = ("task", "add", "--role", "implement", "--title")
    asked = machine.orchestrator(folder, *add, "Ask").strip()
    gone = machine.orchestrator(folder, *add, "Go away").strip()
    stuck = machine.orchestrator(folder, *add, "Wait", "--depends-on", gone).strip()
    machine.orchestrator(folder, "task", "cancel", gone)
    machine.orchestrator(folder, "task", "move", done_one, "done")
    machine.orchestrator(folder, "task", "move", asked, "blocked")
    remember(folder, "test-agent", suspended="it failed three times")
    pull_request(folder, done_one)
    answer = f"orchestrator inbox answer {asked} - <<'EOF'\nIt's fine: keep \"it\" & go on.\nEOF"
    turns: list[Turn] = [
        "orchestrator inbox",
        f"orchestrator task show {asked}",
        "orchestrator pr show 1",
        answer,
        "orchestrator inbox approve pr:1",
        f"orchestrator inbox dismiss {stuck}",
        "orchestrator agent resume test-agent",
        "orchestrator inbox",
    ]
    done = machine.session(folder, f"/orchestrator:inbox {asked} it's fine", turns)
    first = done.outputs[0]
    assert all(item in first for item in (stuck, "pr:1", "agent:test-agent"))
    assert asked in done.skill.partition("## Steps")[0]
    assert "is in incoming again, with your answer" in done.outputs[3]
    assert tasks(folder, "incoming") == sorted([asked, stuck])
    text = (folder / ".orchestrator/shared/queue/incoming" / f"{asked}.md").read_text()
    assert "keep" in text
    assert "is merged" in done.outputs[4]
    assert (folder / "morning.txt").exists()
    assert "nothing waits for you" in done.outputs[7]


@client
def test_tuning_reads_the_history_and_sets_what_was_decided(machine: Machine, folder: Path) -> None:
    limits = "orchestrator limits set max_claimed=3 max_open_prs=8"
    done = machine.session(
        folder, "/orchestrator:tune-backpressure", ["orchestrator _history --days 30", limits]
    )
    assert '"tasks_in": 1,' in done.skill
    assert "max_open_prs" in done.skill.partition("## Steps")[0]
    assert "undo: orchestrator limits set max_claimed=5 max_open_prs=10" in done.outputs[1]
    assert settings(folder)["queue_limits"]["max_claimed"] == 3
    turns: list[Turn] = [
        "orchestrator agent set test-agent interval_seconds=240",
        "orchestrator agent set pm-agent schedule='0 3 * * *' interval_seconds=null",
    ]
    done = machine.session(folder, "/orchestrator:tune-intervals tester", turns)
    assert '"median_idle_wait_seconds": ' in done.skill
    assert "interval_seconds 0 -> 240" in done.outputs[0]
    assert agents(folder)["test-agent"]["interval_seconds"] == 240
    assert agents(folder)["pm-agent"]["schedule"] == "0 3 * * *"


@client
def test_setup_leads_from_nothing_to_agents_that_may_start(machine: Machine, repo: Path) -> None:
    seen = {}

    def uninstall(_: list[str]) -> str:
        assert (repo / ".git" / "orchestrator.json").exists()
        seen.update(settings(repo))
        return "orchestrator init --uninstall"

    config = repo / ".orchestrator" / "agents.yaml"
    edit = {"file_path": str(config), "old_string": "checks: []", "new_string": 'checks: ["true"]'}
    turns: list[Turn] = [
        "git branch -a",
        "git remote -v",
        "orchestrator init --no-commands",
        {"name": "Read", "input": {"file_path": str(config)}},
        {"name": "Edit", "input": edit},
        "orchestrator agent remove pm-agent",
        "orchestrator agent set impl-agent-1 model=sonnet",
        "orchestrator agent add impl-agent-2 --role implementer",
        "orchestrator agent list",
        "orchestrator init --no-commands --schedule none",
        "orchestrator agent resume --all",
        "orchestrator doctor",
        uninstall,
    ]
    done = machine.session(repo, "/orchestrator:setup", turns)
    assert "not_initialised" in done.skill.partition("## Steps")[0]
    assert len(done.outputs) == len(turns)
    assert seen["checks"] == ["true"]
    assert seen["paused"] is False
    names = {agent["name"] for agent in seen["agents"]}
    assert names == {"impl-agent-1", "impl-agent-2", "review-agent", "test-agent"}
    assert not (repo / ".claude").exists()
    assert not (repo / ".git" / "orchestrator.json").exists()


@client
def test_every_skill_loads_where_nothing_is_set_up_and_the_agents_are_in_nobodys_menu(
    machine: Machine, repo: Path, tmp_path: Path
) -> None:
    people, hidden = sorted(FOR_PEOPLE), sorted(FOR_AGENTS)
    for where, names in ((repo, people + hidden), (tmp_path, ["doctor", "enqueue", "setup"])):
        said, requests = machine.prompts(where, [f"/orchestrator:{name}" for name in names])
        shown = [name for name in names if name in FOR_PEOPLE]
        assert said[: len(shown)] == ["Done."] * len(shown)
        assert all("can only be invoked by Claude" in each for each in said[len(shown) :])
        assert len(said) == len(names)
        for name, request in zip(shown, requests, strict=True):
            text = request.prompts[-1]
            assert f"/skills/{name}\n" in text
            assert "## What to tell the user" in text
        assert not (where / ".orchestrator").exists()


@client
def test_installed_by_pip_its_skills_are_commands_of_the_project(
    repo: Path, tmp_path: Path
) -> None:
    """What pip puts on PATH is all that there is: no plugin, no launcher."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "orchestrator").symlink_to(Path(sys.prefix) / "bin" / "orchestrator")
    other = Machine(tmp_path)
    other.home.mkdir()
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(
        ["orchestrator", "init"],
        cwd=repo,
        env=other.environment(**path),
        check=True,
        capture_output=True,
    )
    add = "orchestrator task add --title 'One' --role test --body-file - <<'EOF'\nWhy.\nEOF"
    done = other.session(repo, "/enqueue a test", [add], **path)
    assert "When you add a task" in done.skill
    assert tasks(repo, "incoming") == [done.outputs[0].strip()]


@client
def test_as_a_submodule_its_skills_are_commands_of_the_project(
    bare: Machine, repo: Path, tmp_path: Path
) -> None:
    """Nothing is installed here, and nothing of it is on PATH."""
    ready_home(tmp_path / "home")
    other = Machine(tmp_path)
    shutil.copytree(bare.plugin, repo / "orchestrator")
    start = [sys.executable, "orchestrator/orchestrator/init.py"]
    subprocess.run(start, cwd=repo, env=other.environment(), check=True, capture_output=True)
    launcher = "orchestrator/bin/orchestrator"
    add = f"{launcher} task add --title 'One' --role test --body-file - <<'EOF'\nWhy.\nEOF"
    done = other.session(repo, "/enqueue a test", [add])
    assert "When you add a task" in done.skill
    assert tasks(repo, "incoming") == [done.outputs[0].strip()]
    done = other.session(repo, "/pause-agent", [f"{launcher} agent pause --all"])
    assert "impl-agent-1" in done.skill
    assert done.outputs


# --- the hook ----------------------------------------------------------------------------------

NEWS = "Orchestrator: "


def remember(folder: Path, agent: str, **values: str) -> None:
    """Let the scheduler's memory of an agent hold these values."""
    path = folder / ".orchestrator" / "agents" / agent / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


@client
def test_a_session_is_told_what_waits_and_ticks(machine: Machine, folder: Path) -> None:
    below = folder / "docs"
    below.mkdir()
    remember(folder, "pm-agent", question="EVIL?")
    set_up_long_ago(folder)
    done = machine.session(below, "Wait a moment.", ["sleep 3"])
    assert f"{NEWS}1 question waiting; /orchestrator:inbox" in done.sent
    told = "the scheduler has never run, so no agent starts; /orchestrator:doctor"
    assert f"{NEWS}{told}" in done.sent
    assert "EVIL" not in done.sent
    lock = folder / ".orchestrator" / "scheduler.lock"
    assert time.time() - lock.stat().st_mtime < 60
    again = machine.session(folder, "Go on.", resume=done.result["session_id"])
    news = again.sent.rpartition("tool_result")[2]
    assert f"{NEWS}1 question waiting; /orchestrator:inbox" in news
    assert "the scheduler has never run" not in news


@client
def test_a_session_elsewhere_or_of_our_own_agents_is_told_nothing(
    machine: Machine, folder: Path, tmp_path: Path
) -> None:
    set_up_long_ago(folder)
    assert NEWS in machine.session(folder, "Hello.").sent
    lock = folder / ".orchestrator" / "scheduler.lock"
    ticked = lock.stat().st_mtime if lock.exists() else None
    done = machine.session(folder, "Wait.", ["sleep 2"], ORCHESTRATOR_RUN_ID="r-1")
    assert NEWS not in done.sent
    assert (lock.stat().st_mtime if lock.exists() else None) == ticked
    assert NEWS not in machine.session(tmp_path, "Hello.").sent


@client
def test_a_clone_that_nobody_set_up_is_told_once_and_never_ticks(
    machine: Machine, folder: Path, tmp_path: Path
) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "With agents")
    git(tmp_path, "clone", "--quiet", str(folder), "clone")
    clone = tmp_path / "clone"
    before = tree(clone)
    first = machine.session(clone, "Wait.", ["sleep 2"])
    assert f"{NEWS}this project has background agents, but they are not set up" in first.sent
    assert NEWS not in machine.session(clone, "Hello.").sent
    assert tree(clone) == before


# --- the hook's script by itself ---------------------------------------------------------------


@dataclass
class Hook:
    """The script, run as the client runs it."""

    machine: Machine

    def __call__(self, word: str, cwd: Path, **changes: str) -> str:
        """Run it; return what it printed. It must succeed and be silent on standard error."""
        environment = {
            **self.machine.environment(),
            "CLAUDE_PROJECT_DIR": str(cwd),
            "CLAUDE_PLUGIN_DATA": str(self.machine.folder / "data"),
            **changes,
        }
        done = subprocess.run(
            ["/bin/sh", str(self.machine.plugin / "hooks" / "session-start"), word],
            env=environment,
            cwd=cwd,
            input="{}",
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
def hook(bare: Machine) -> Hook:
    shutil.rmtree(bare.folder / "data", ignore_errors=True)
    return Hook(bare)


def test_the_hook_takes_next_to_no_time_where_it_has_nothing_to_do(hook: Hook, repo: Path) -> None:
    deep = repo / "a" / "b" / "c"
    deep.mkdir(parents=True)
    took = []
    for _ in range(20):
        start = time.perf_counter()
        assert hook("news", deep) == ""
        took.append(time.perf_counter() - start)
    assert min(took) * 1000 < MOST_MILLISECONDS


def test_the_hook_is_of_the_main_worktree_wherever_a_session_is(hook: Hook, folder: Path) -> None:
    git(folder, "worktree", "add", "--quiet", "../linked")
    linked = folder.parent / "linked"
    below = linked / "below"
    below.mkdir()
    inner = folder / "orchestrator"
    inner.mkdir()
    (inner / ".git").write_text("gitdir: ../.git/modules/orchestrator\n")
    assert hook("news", folder) == ""
    set_up_long_ago(folder)
    for place in (folder, linked, below, inner):
        assert "the scheduler has never run" in hook("news", place), place
    for word in ("news", "tick"):
        assert hook(word, folder, ORCHESTRATOR_RUN_ID="r-1") == "", "the session of an agent"
    assert not (folder / ".orchestrator" / "scheduler.lock").exists()
    assert hook("tick", below) == ""
    lock = folder / ".orchestrator" / "scheduler.lock"
    ticked = lock.stat().st_mtime_ns
    assert hook("news", folder) == ""
    assert hook("tick", folder, ORCHESTRATOR_RUN_ID="r-1") == ""
    assert lock.stat().st_mtime_ns == ticked, "the session of an agent ticked"


def test_the_hook_tells_once_of_a_clone_that_nobody_set_up(hook: Hook, folder: Path) -> None:
    (folder / ".git" / "orchestrator.json").unlink()
    assert hook("tick", folder) == ""
    assert "they are not set up in this clone" in hook("news", folder)
    assert hook("news", folder) == ""
    assert not (folder / ".orchestrator" / "scheduler.lock").exists()


def test_the_hook_counts_what_waits_and_quotes_nobody(hook: Hook, folder: Path) -> None:
    assert hook("tick", folder) == ""
    queue = folder / ".orchestrator" / "shared" / "queue"
    for number in (1, 2):
        text = f"# [F-{number}] EVIL\n\nROLE: implement\n\n## Context\nEVIL\n"
        (queue / "incoming" / f"F-{number}.md").write_text(text)
    (queue / "incoming" / "EVIL.md").write_text("EVIL, not a task")
    assert hook("news", folder) == f"{NEWS}problems: task_malformed; /orchestrator:doctor\n"
    remember(folder, "impl-agent-1", suspended="EVIL")
    remember(folder, "test-agent", question="EVIL")
    remember(folder, "pm-agent", question="EVIL")
    waiting, wrong = hook("news", folder).splitlines()
    told = "2 questions waiting, 1 agent paused after failures; /orchestrator:inbox"
    assert waiting == f"{NEWS}{told}"
    assert wrong == f"{NEWS}problems: task_malformed; /orchestrator:doctor"
    os.utime(folder / ".orchestrator" / "scheduler.lock", (1, 1))
    said = hook("news", folder)
    assert "the scheduler has not run for " in said
    assert "EVIL" not in said


@pytest.mark.parametrize("broken", ["mark", "config", "home", "data", "launcher", "git", "state"])
def test_whatever_is_broken_the_hook_succeeds(
    hook: Hook, folder: Path, broken: str, tmp_path: Path
) -> None:
    changes = {}
    if broken == "mark":
        (folder / ".git" / "orchestrator.json").write_text("{")
    elif broken == "config":
        (folder / ".orchestrator" / "agents.yaml").write_text("agents: [")
    elif broken == "home":
        changes["HOME"] = "/nonexistent"
    elif broken == "data":
        (folder / ".git" / "orchestrator.json").unlink()
        changes["CLAUDE_PLUGIN_DATA"] = "/dev/null/data"
    elif broken == "launcher":
        copy = copy_of_the_plugin(tmp_path / "plugin")
        (copy / "bin" / "orchestrator").unlink()
        hook = Hook(Machine(tmp_path))
    elif broken == "git":
        shutil.rmtree(folder / ".git")
        (folder / ".git").write_text("nonsense")
    else:
        shutil.rmtree(folder / ".orchestrator" / "shared")
        (folder / ".orchestrator" / "shared").write_text("a file")
    said = hook("news", folder, **changes)
    assert all(line.startswith(NEWS) for line in said.splitlines())
    assert len(said.splitlines()) <= 2


def test_no_session_waits_for_an_environment_to_be_made(
    hook: Hook, folder: Path, tmp_path: Path
) -> None:
    home = tmp_path / "empty"
    home.mkdir()
    assert hook("news", folder, HOME=str(home)) == ""
    assert list(home.iterdir()) == []
