"""Any bytes in the place of a file of ours, or of an answer from outside, raise nothing unforeseen.

A target a parser: it takes bytes, and raises its module's own error or nothing. Bounded by the
processor's time: `FUZZ_SECONDS` for each target, however fast the machine is.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conftest
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from orchestrator import idle
from orchestrator.cli import tuning
from orchestrator.client import registry
from orchestrator.client.protocol import Ended
from orchestrator.config import edit, keys
from orchestrator.config import last_good as saved
from orchestrator.config import role_file as roles
from orchestrator.git import checkout, overlap
from orchestrator.layout import Layout
from orchestrator.model.config import Config, Role
from orchestrator.model.errors import ConfigError, OrchestratorError, SystemFault, TaskFileError
from orchestrator.model.work import Given, PullRequest, Task
from orchestrator.project import agent_memory, faults
from orchestrator.project import events as project_events
from orchestrator.project import run_record as run_records
from orchestrator.pulls import github_repo, issue_text, issues
from orchestrator.pulls.gh import Gh, Repository
from orchestrator.pulls.github import GitHub
from orchestrator.pulls.local import Local
from orchestrator.schedule import cron
from orchestrator.schedule.entry import Entry
from orchestrator.setup import ecosystems, facts
from orchestrator.system import files
from orchestrator.tasks import header, history, rewrite
from orchestrator.tasks import task_file as task_files
from orchestrator.tasks.file_store import FileStore

#: Seconds of the processor for each target: a twentieth in `make test`.
SECONDS = float(os.environ.get("FUZZ_SECONDS") or conftest.examples(1) / 500)

#: `make slow` gives these tests more time, as the other property tests.
pytestmark = pytest.mark.hypothesis

ROLE = Role(name="x", takes="x", delivers="pull_request", tools=(), allow=(), deny=(), brief="x")
Target = Callable[[bytes, Path], object]


def layout(folder: Path) -> Layout:
    """A project of which only what a target needs is there."""
    found = Layout(str(folder))
    for path in (found.prs, found.cache, found.state("incoming"), found.agent("ann")):
        os.makedirs(path, exist_ok=True)
    os.makedirs(folder / ".git", exist_ok=True)
    (folder / ".git" / "orchestrator.json").write_text("{}")
    return found


# --- one a parser ------------------------------------------------------------------------------


def task_file(data: bytes, _: Path) -> None:
    with contextlib.suppress(TaskFileError):
        file = task_files.parse(data, "x.md")
        task_files.summarise(file, "incoming", "/x.md", 0.0)


def task_history(data: bytes, _: Path) -> None:
    told = list(history.entries(data))
    history.fold(told, Task("t", "T", "implement", "incoming", "/t.md"))
    history.attempts(told)
    history.split(data)


def task_header(data: bytes, _: Path) -> None:
    with contextlib.suppress(TaskFileError):
        header.by_key(header.read(data.decode(errors="replace")).fields)


def task_set(data: bytes, _: Path) -> None:
    with contextlib.suppress(TaskFileError):
        file = task_files.parse(data, "x.md")
        text = rewrite.with_fields(file, {"TITLE": "New", "PRIORITY": "P0", "BRANCH": ""})
        after = rewrite.with_text(data, "x.md", text)
        assert (after.id, after.title, after.get("PRIORITY")) == (file.id, "New", "P0")
        assert (after.body, after.history, after.get("ROLE")) == (
            file.body,
            file.history,
            file.get("ROLE"),
        )


def package_files(data: bytes, _: Path) -> None:
    texts = dict.fromkeys(facts.READ, data.decode(errors="replace"))
    ecosystems.detect([*texts, "a/test_x.py"], texts)


def queue(data: bytes, folder: Path) -> None:
    found = layout(folder)
    Path(found.state("incoming"), "x.md").write_bytes(data)
    FileStore(found).list("incoming")


def agents_yaml(data: bytes, _: Path) -> None:
    with contextlib.suppress(ConfigError):
        keys.parse(data)


def agents_yaml_edited(data: bytes, _: Path) -> None:
    text = data.decode(errors="replace")
    with contextlib.suppress(OrchestratorError):
        edit.set_paused(text, True)


def role_file(data: bytes, _: Path) -> None:
    with contextlib.suppress(ConfigError):
        roles.check_brief(roles.parse(data, "/x.md", "x", None))


def stream(data: bytes, _: Path) -> None:
    for client in registry.CLIENTS.values():
        lines = io.StringIO(data.decode(errors="replace"))
        client.outcome(lines, Ended(exit_code=0), ROLE, 0)


def last_line(data: bytes, _: Path) -> None:
    for client in registry.CLIENTS.values():
        assert client.is_last_line(data) in (True, False)


def readable_stream(data: bytes, _: Path) -> None:
    for line in data.decode(errors="replace").split("\n"):
        for client in registry.CLIENTS.values():
            client.translate(line)


def events(data: bytes, folder: Path) -> None:
    found = layout(folder)
    Path(found.events).write_bytes(data)
    tuning.numbers(project_events.read(found, tuning.MOST_READ), Config(), 0.0, 9e9)


def run_record(data: bytes, folder: Path) -> None:
    (folder / "run.json").write_bytes(data)
    record = run_records.read(str(folder))
    if record is not None:
        record.is_of_clone(str(folder), "x")
        assert record.status in run_records.TRANSITIONS
        assert record.seconds() is None or record.seconds() >= 0
        run_records.write(str(folder), record)
        assert run_records.read(str(folder)) is not None


def stop_word(data: bytes, folder: Path) -> None:
    (folder / run_records.STOP).write_bytes(data)
    assert run_records.stop_reason(str(folder))


def agent_state(data: bytes, folder: Path) -> None:
    found = layout(folder)
    Path(found.agent_state("ann")).write_bytes(data)
    state = agent_memory.read(found, "ann")
    assert state.run is None or files.is_plain_name(state.run)


def hold(data: bytes, folder: Path) -> None:
    found = layout(folder)
    Path(found.hold).write_bytes(data)
    faults.read_hold(found)


def pull_request(data: bytes, folder: Path) -> None:
    found = layout(folder)
    Path(found.prs, "1.json").write_bytes(data)
    for pr in Local(found, Config()).refresh():
        assert pr.id == "1"


def diff(data: bytes, folder: Path) -> None:
    found = overlap.parse(data)
    assert found.lines >= 0
    assert overlap.touched(found, found) == sorted(found.files)


def git_trace(data: bytes, folder: Path) -> None:
    path = folder / "trace.jsonl"
    path.write_bytes(data)
    found = checkout.traced(str(path))
    assert checkout.worked_in(found, str(folder), "main") in (True, False)
    assert checkout.configured(found) in (True, False)


def github_repository(data: bytes, folder: Path) -> None:
    found = layout(folder)
    Path(found.cache, "forge.json").write_bytes(data)
    github_repo.find(found, [])


def gh(data: bytes, folder: Path) -> None:
    class Said(Gh):
        def run(self, *_: str, **__: object) -> str:
            return data.decode(errors="replace")

    forge_ = GitHub(layout(folder), Config())
    forge_.__dict__ |= {"_repository": Repository("github.com", "o", "r"), "_fork": None}
    forge_.__dict__["_gh"] = Said(layout(folder), forge_._repository)
    pr = PullRequest("1", "T1", "agent/T1", "main", "a" * 40, "Fix", "open")
    forge_.book.write(pr, "")
    review = Given("rev", "agent", "approved", "a" * 40)
    asked: list[Callable[[], object]] = [
        forge_.refresh,
        lambda: forge_.show("1"),
        lambda: forge_.feedback(pr),
        lambda: forge_.open(pr, "body"),
        lambda: forge_.post(pr, review),
        forge_.methods,
        lambda: forge_.merge(pr, "a" * 40, "merge", str),
    ]
    for ask in asked:
        with contextlib.suppress(OrchestratorError):
            ask()


def github_issues(data: bytes, folder: Path) -> None:
    found = layout(folder)
    os.makedirs(found.shared, exist_ok=True)
    Path(found.shared, "issues.json").write_bytes(data)
    memory = issues.Memory(found)
    memory.tell(1, "asked")
    assert memory.kept.made["1"][-1:] == ("asked",)
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError):
        return
    for row in rows if isinstance(rows, list) else [rows]:
        with contextlib.suppress(SystemFault):
            issue = issue_text.read(row)
            title, by = issue.title or "x", f"github:{issue.author}"
            text = issue_text.body(issue)
            file = task_files.new(
                "GH-1", title, "implement", issue.priority, None, "", by, (), text
            )
            assert file.body == text


def idle_stamp(data: bytes, folder: Path) -> None:
    found = layout(folder)
    Path(found.idle_stamp).write_bytes(data)
    with contextlib.suppress(OSError, ValueError):
        assert idle._holds(found.idle_stamp, time.time()) is None


def last_good(data: bytes, _: Path) -> None:
    assert saved.load(data) is None


def crontab_block(data: bytes, _: Path) -> None:
    entry = Entry("cron", "x", "/bin", "/data/bin/orchestrator")
    data = data.replace(b"p1", entry.name.encode())
    rest = cron.without(data, entry.name)
    assert cron.without(rest, entry.name) == rest
    kept = data.replace(b"orchestrator", b"") + b"\n"
    assert cron.without(kept + cron.block(entry), entry.name) == kept


# --- what they are given -----------------------------------------------------------------------

GH_ROW = {
    "number": 1,
    "headRefName": "agent/T1",
    "baseRefName": "main",
    "headRefOid": "a" * 40,
    "title": "x",
    "state": "OPEN",
    "url": "u",
    "body": "b",
    "isCrossRepository": False,
    "headRepositoryOwner": {"login": "o"},
    "mergeCommit": {"oid": "b" * 40},
    "reviews": [
        {
            "author": {"login": "ada"},
            "authorAssociation": "OWNER",
            "state": "APPROVED",
            "submittedAt": "2026-01-01T00:00:00Z",
            "commit": {"oid": "a" * 40},
        }
    ],
    "statusCheckRollup": [
        {
            "name": "ci",
            "status": "COMPLETED",
            "conclusion": "FAILURE",
            "detailsUrl": "/actions/runs/1",
        },
        {"context": "lint", "state": "FAILURE", "startedAt": "2026-01-01T00:00:00Z"},
    ],
}
FILES: dict[str, tuple[Target, list[Any]]] = {
    "task file": (task_file, [
        b"# [T1] Fix\n\nROLE: implement\nPRIORITY: P1\nDEPENDS_ON: A, B\n\n## x\nBody\n",
        b"---\nid: T1\ntitle: Fix\nrole: implement\n---\nBody\n",
    ]),
    "history": (task_history, [
        b"x\n\n## History\n- 2024-01-15T10:30:00Z claimed {\"agent\": \"a\", \"run\": \"r\"}\n"
        b"- 2024-01-15T10:30:00Z requeued {\"charged\": true, \"not_before\": 5}\n",
    ]),
    "header": (task_header, [b"# [T1] Fix\nROLE: x\n", b"---\nrole: [x]\n? y\n: !!z\n---\n"]),
    "header, changed": (task_set, [
        b"# [T1] Fix\r\n\r\nROLE: x\r\n\r\nText\r\n", b"# A\nROLE: x",
        b"---\ntitle: A\nrole: x\nx-y: [1, 2]\n---\n\nText\n",
        b"# A\nROLE: x\n\n<!-- orchestrator:history -->\n## History\n",
    ]),
    "package files": (package_files, [
        {"packageManager": "pnpm@9", "scripts": {"test": "jest", "build": "tsc"}},
        b"[project]\nname = 'x'\n[project.optional-dependencies]\ndev = []\n[tool.poetry]\n",
        b"test: all\n\ttrue\n", b"[" * 3000, b"x = " + b"[" * 3000,
    ]),
    "queue": (queue, [b"# [T1] Fix\n\nROLE: implement\n"]),
    "agents.yaml": (agents_yaml, [
        b"paused: false\nagents:\n  - {name: a, role: b, schedule: '0 3 * * *'}\n",
        b"x-a: &a [*a]\nchecks: [x]\nclaude: {command: 'a b'}\nagents: []\n",
    ]),
    "agents.yaml, edited": (agents_yaml_edited, [b"# c\npaused: no # x\nagents:\n- name: a\n"]),
    "role": (role_file, [
        b"---\ntakes: x\ntools: [Read]\nallow: [Bash(git log *)]\n---\n{% for a in b %}{% endfor %}"
    ]),
    "stream": (stream, [
        {"type": "result", "is_error": False, "structured_output": {"outcome": "done"},
         "usage": {"input_tokens": 5}, "total_cost_usd": 1.5, "session_id": "x"},
        {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 5}},
        {"type": "assistant", "error": "rate_limit", "message": {"content": []}},
        {"type": "system", "subtype": "api_retry", "error": "x", "error_status": 429},
    ]),
    "last line": (last_line, [{"type": "result"}]),
    "readable stream": (readable_stream, [
        {"type": "assistant", "message": {"content": [{"type": "text", "text": "x"},
         {"type": "tool_use", "name": "Bash", "input": {"command": "x"}}]}},
        {"type": "user", "message": {"content": [{"type": "tool_result", "content": "x"}]}},
        {"type": "result", "is_error": True, "errors": ["x"], "num_turns": 5},
    ]),
    "events": (events, [
        {"at": "2024-01-15T10:30:00Z", "event": "start", "agent": "a", "task": "t", "run": "r"},
        {"at": "2024-01-15T10:31:00Z", "event": "finish", "agent": "a", "cost_usd": 1, "run": "r"},
        {"at": "2024-01-15T10:29:00Z", "event": "added", "task": "t", "by": "pm"},
    ]),
    "run.json": (run_record, [
        {"id": "r", "agent": "a", "role": "x", "task": None, "created": 1, "status": "running",
         "steps": {"pushed": "a"}, "client": {"pid": 5, "identity": "x"}, "finished": 5, "x": 1,
         "project": "/p", "settings": {"name": "a", "role": "x", "position": 0}, "attempt": 1,
         "outcome": {"verdict": "done"}, "ended": {"disk": ["disk_full", "why", "hint"]},
         "undelivered": {"told": {"verdict": "done", "cost_usd": 1}, "head": "b"}},
    ]),
    "stop": (stop_word, [b"stopped"]),
    "state.json": (agent_state, [
        {"run": "r", "last_started": 5, "supervisor": {"pid": 5}, "totals": {"runs": 1},
         "spend": {"2024-01-15": 5}},
    ]),
    "git's trace": (git_trace, [
        b'{"event":"start","sid":"s","argv":["git","push",".","HEAD:main"]}\n'
        b'{"event":"def_repo","sid":"s","worktree":"/w"}\n'
        b'{"event":"cmd_name","sid":"s","name":"push"}\n',
        b'{"event":"start","sid":"s","argv":["git","config","a.b","c"]}\n'
        b'{"event":"def_repo","sid":"s","worktree":"\\u0000"}\n'
        b'{"event":"def_repo","sid":"t","worktree":"/w\\ud800"}\n'
        b'{"event":"cmd_name","sid":"t","name":"push"}\n'
        b'{"event":"cmd_name","sid":"s","name":"config"}\n',
    ]),
    "hold.json": (hold, [{"code": "x", "message": "y", "since": 1, "until": 5, "hint": "z"}]),
    "pull request": (pull_request, [
        {"id": "1", "task": "t", "branch": "agent/x", "base": "main", "head": "a" * 40,
         "title": "x", "state": "open", "verdict": None, "url": None, "reviewed": None},
    ]),
    "diff": (diff, [
        b"diff --git a/x b/x\nindex 1..2\n--- a/x\n+++ b/x\n@@ -1,2 +3 @@ f\n-a\n-b\n+c\n",
        b'diff --git "a/\\303\\274" "b/\\303\\274"\nnew file mode 100644\n@@ -0,0 +1 @@\n+x\n',
    ]),
    "repository": (github_repository, [
        {"key": "x", "asked": 1.0, "host": "h", "owner": "o", "name": "n", "known": True},
    ]),
    "gh": (gh, [
        [GH_ROW],
        GH_ROW,
        {"headRefOid": "a", "reviews": [{"body": "b"}], "comments": [{"body": "b"}]},
        {"mergeCommitAllowed": True, "squashMergeAllowed": False, "rebaseMergeAllowed": None},
        {"data": {"repository": {"pullRequest": {"reviewThreads": {"nodes": [
            {"id": "T", "isResolved": False, "path": "x", "line": 1, "comments": {"totalCount": 1,
             "nodes": [{"author": {"login": "a"}, "authorAssociation": "OWNER", "body": "b"}]}}]},
            "commits": {"nodes": [{"commit": {"statusCheckRollup": {"contexts": {"nodes": [
                {"name": "ci", "isRequired": True}]}}}}]}}}}},
    ]),
    "issues": (github_issues, [
        [{"number": 1, "title": "x", "body": "b", "author": {"login": "a"}, "url": "https://x/1",
          "labels": [{"name": "P1"}]}],
        {"asked": 1.5, "made": {"1": ["asked"]}, "authors": {"a": {"may_write": True}}},
    ]),
    "idle stamp": (idle_stamp, [
        b"4\x001.0\x002.0\x00\x00/x\x001 2 3",
        b"4\x00nan\x00inf\x007\x00/x\x00-",
    ]),
    "crontab": (crontab_block, [
        b"MAILTO=x\n# >>> orchestrator p1 >>> x\n* * * * * cd /x tick >/dev/null 2>&1\n",
        b"# <<< orchestrator p1 <<<\n# >>> orchestrator p2 >>> y\n0 0 * * * z\n",
    ]),
    "last good": (last_good, [b"orchestrator-config-1 5 5\n[]"]),
}  # fmt: skip

SCRAPS = [
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\x1b[2J", b"\r", b"\n", b"---\n", b"{", b"}", b"[", b"]",
    b'"', b"'", b"&a ", b"*a", b"!!x ", b"- ", b": ", b"#", b"null", b"true", b"-1", b"1e999",
    b"NaN", b"Infinity", b"9" * 400, b"\\ud800", b"{{", b"{%", b"%}", b"../", b"\xe2\x80\xae",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 1.5, 10**30, float("inf"), float("nan"), "", "x", "\ud800", "\x1b[2J",
    "../..", "-x", [], {}, [[]], {"": None}, ["x", 5, None], {"pid": 5},
]  # fmt: skip


def changed(value: Any, chance: random.Random) -> Any:
    """Return JSON like `value`, with something in it of another kind, or gone."""
    if chance.random() < 0.15:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        kept = {k: changed(v, chance) for k, v in value.items() if chance.random() > 0.05}
        return kept
    if isinstance(value, list):
        return [changed(item, chance) for item in value] * chance.choice((1, 1, 1, 2))
    return value


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return bytes with pieces cut out, doubled, exchanged, or put in."""
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.randint(0, len(data)) for _ in range(2))
        to = min(to, at + 20)
        piece = chance.choice((b"", data[at:to] * 2, chance.choice(SCRAPS), chance.randbytes(3)))
        data = data[:at] + piece + data[to:]
    return data


def examples(known: list[Any], chance: random.Random) -> Iterator[bytes]:
    """Yield file after file without end."""
    while True:
        chosen = chance.sample(known, chance.randint(1, len(known)))
        parts = [
            part if isinstance(part, bytes) else json.dumps(changed(part, chance)).encode()
            for part in chosen
        ]
        whole = b"\n".join(parts)
        yield whole if chance.random() < 0.4 else damaged(whole, chance)


@pytest.mark.parametrize("name", FILES)
def test_what_is_like_a_file_of_ours_raises_nothing_unforeseen(name: str, tmp_path: Path) -> None:
    target, known = FILES[name]
    number = int(os.environ.get("FUZZ_SEED") or random.randrange(1 << 32))
    until = time.process_time() + SECONDS
    tried = 0
    for data in examples(known, random.Random(number)):
        try:
            target(data, tmp_path)
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={number}, after {tried} others, with {data!r}")
            raise
        tried += 1
        if time.process_time() > until:
            break
    assert tried


@pytest.mark.parametrize("name", FILES)
def test_any_bytes_at_all_raise_nothing_unforeseen(name: str, tmp_path: Path) -> None:
    target, _ = FILES[name]

    @settings(
        max_examples=max(conftest.examples(1), int(30 * SECONDS)),
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.binary(max_size=300) | st.text(max_size=100).map(lambda t: t.encode("utf-8", "replace"))
    )
    def tried(data: bytes) -> None:
        target(data, tmp_path)

    tried()
