"""What the page makes of commands' answers and of run folders: pure functions, and their HTML."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import runs
from conftest import CHECKOUT, Done, git
from test_page import opened
from test_people import deliver

from orchestrator.account import costs
from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound
from orchestrator.model.work import Entry
from orchestrator.page import diff, history, transcript, views, work
from orchestrator.page.commands import Answer, Commands, Remembered
from orchestrator.project import run_record
from orchestrator.tasks.file_store import FileStore

RUN = "20260101T000000Z-aaaaaa"


class Told(Commands):
    """Commands that answer what a test says, and note what they were asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, []

    def read(
        self, words: str, values: Mapping[str, object] | None = None, subject: str | None = None
    ) -> Any:
        self.asked.append((words, dict(values or {}), subject))
        found = self.answers[words.replace(" ", "_")]
        return found(values or {}) if callable(found) else found

    def text(self, words: str) -> str:
        return ""

    def change(
        self, words: str, values: Mapping[str, object], subject: str | None = None
    ) -> Answer:
        return Answer(None)


# --- commands in hints, words of reasons ---------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "found"),
    [
        ("fix that file", []),
        ("see: orchestrator doctor", ["orchestrator doctor"]),
        ("resume: orchestrator agent resume --all; or look", ["orchestrator agent resume --all"]),
        ("orchestrator inbox answer T 'Two words.'.", ["orchestrator inbox answer T 'Two words.'"]),
        (
            "orchestrator stop a-1 (or: orchestrator limits set max_claimed=3).",
            ["orchestrator stop a-1", "orchestrator limits set max_claimed=3"],
        ),
        ("until `orchestrator agent resume --all`.", ["orchestrator agent resume --all"]),
        ("the orchestrator's own folder", []),
    ],
)
def test_the_commands_of_a_hint_are_found(hint: str, found: list[str]) -> None:
    pieces = list(work.pieces(hint))
    assert [words for kind, words in pieces if kind == "command"] == found
    assert "".join(words for _, words in pieces) == hint.replace("`", "")


def test_what_a_hint_quotes_is_code() -> None:
    hint = "make its first line `# Title`; or `orchestrator doctor` or `see orchestrator doctor`"
    assert list(work.pieces(hint)) == [
        ("text", "make its first line "),
        ("code", "# Title"),
        ("text", "; or "),
        ("command", "orchestrator doctor"),
        ("text", " or "),
        ("code", "see orchestrator doctor"),
    ]


@pytest.mark.parametrize(
    ("command", "path", "body"),
    [
        ("orchestrator agent resume --all", "/api/agents/resume", {"all": True}),
        ("orchestrator agent resume impl-1", "/api/agents/impl-1/resume", {}),
        ("orchestrator inbox approve pr:3", "/api/inbox/pr%3A3/approve", {}),
        ("orchestrator task retry a/../b", "/api/tasks/a%2F..%2Fb/retry", {}),
    ],
)
def test_a_command_that_needs_no_typing_is_a_click(
    command: str, path: str, body: dict[str, object]
) -> None:
    assert work.click(command) == {"path": path, "body": body}


@pytest.mark.parametrize(
    "command",
    [
        "orchestrator doctor",
        "orchestrator task retry ID",
        "orchestrator task retry a b",
        "orchestrator agent resume --al",
        "orchestrator agent remove impl-1",
        "orchestrator stop --all",
    ],
)
def test_other_commands_are_typed(command: str) -> None:
    assert work.click(command) is None


def test_every_reason_code_of_an_agent_is_shown_in_words() -> None:
    from orchestrator.plan import rules

    codes = {rule.code for rule in rules.RULES if rule.kind != "task"}
    assert work.WORDS.keys() - codes == set(), "no code of these is gone"
    assert work.words({"reason": None}) == "starts at the next tick"
    assert work.words({"reason": "backoff"}) == "its tasks wait after a failure"
    assert work.words({"reason": "a_new_rule"}) == "a new rule"


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (["system_paused", "system_paused"], "The project is paused: no agent starts."),
        (["budget_exhausted"], "Today's budget is used up: no agent starts before midnight."),
        (["system_paused", "running"], None),
        (["not_due", "not_due"], None),
        ([None], None),
        ([], None),
    ],
)
def test_problems_say_what_keeps_all_agents_from_a_start(
    reasons: list[str | None], said: str | None
) -> None:
    status = {"cannot_start": [], "agents": [{"reason": reason} for reason in reasons]}
    halt = work.problems(Told(status=status), {})["halt"]
    assert (halt and halt[0]) == said


def test_many_agents_are_listed_by_their_states() -> None:
    states = ["waiting"] * 7 + ["paused", "running"]
    rows = [{"name": f"a-{n}", "state": s, "reason": s} for n, s in enumerate(states)]
    status = {"agents": rows, "running": [], "limits": {}, "queue": {}, "open_prs": 0}
    found = work.agents(Told(status=status), {})["agents"]
    assert [row["name"] for row in found][:3] == ["a-8", "a-7", "a-0"]
    status["agents"] = rows[1:]
    few = work.agents(Told(status=status), {})["agents"]
    assert [row["name"] for row in few] == [row["name"] for row in rows[1:]]


# --- the board -----------------------------------------------------------------------------------


def a_task(number: int, state: str, priority: str = "P2") -> dict[str, object]:
    return {"id": f"T-{number}", "state": state, "priority": priority}


def test_what_a_person_chooses_above_a_region_is_known() -> None:
    folder = CHECKOUT / "orchestrator" / "page" / "templates"
    zooms = re.findall(r'<option value="(\w+)"', (folder / "tools_history.html").read_text())
    assert zooms == list(history.ZOOMS)
    by = re.findall(r"<option>(\w+)<", (folder / "tools_costs.html").read_text())
    assert by == list(costs.KEYS)


def test_a_column_of_finished_tasks_is_one_page() -> None:
    def listed(values: Mapping[str, Any]) -> list[dict[str, object]]:
        number = 100 if values["state"] == "done" else 2
        return [a_task(n, values["state"], f"P{n % 4}") for n in range(number)][: values["limit"]]

    status = {"cannot_start": [], "blocked": [], "queue": {}}
    told = Told(task_list=listed, status=status)
    found = work.board(told, {"q": "x", "done_after": "T-7", "role": ""})
    columns = {column["state"]: column for column in found["columns"]}
    assert len(columns["done"]["tasks"]) == work.FINISHED_CARDS
    assert columns["done"]["next"] == f"T-{work.FINISHED_CARDS - 1}"
    assert columns["incoming"]["next"] is None
    assert [lane["priority"] for lane in columns["incoming"]["lanes"]] == ["P0", "P1", "P2", "P3"]
    asked = {values["state"]: values for words, values, _ in told.asked if words == "task list"}
    assert (asked["done"]["after"], asked["done"]["search"]) == ("T-7", "x")
    assert (asked["failed"]["after"], asked["done"]["role"]) == (None, None)


def test_a_page_of_a_column_that_followed_a_removed_task_is_the_first_page() -> None:
    def listed(values: Mapping[str, Any]) -> list[dict[str, object]]:
        if values["after"]:
            raise NotFound("task", "T-7")
        return [a_task(1, values["state"])]

    status = {"cannot_start": [], "blocked": [], "queue": {}}
    found = work.board(Told(task_list=listed, status=status), {"done_after": "T-7"})
    done = {column["state"]: column for column in found["columns"]}["done"]
    assert ([task["id"] for task in done["tasks"]], done["after"]) == (["T-1"], None)


def test_a_priority_that_is_none_of_the_four_has_its_place() -> None:
    def listed(values: Mapping[str, Any]) -> list[dict[str, object]]:
        return [a_task(1, "incoming", "urgent")] if values["state"] == "incoming" else []

    told = Told(task_list=listed, status={"cannot_start": [], "blocked": [], "queue": {}})
    lanes = work.board(told, {})["columns"][0]["lanes"]
    assert [task["id"] for lane in lanes for task in lane["tasks"]] == ["T-1"]


# --- attempts and reviews ------------------------------------------------------------------------


def test_attempts_and_reviews_stand_side_by_side_in_the_order_of_time() -> None:
    history = [
        {"event": "claimed", "at": "1", "run": "r1", "agent": "impl"},
        {"event": "done", "at": "2", "run": "r1", "summary": "Made it."},
        {"event": "review", "at": "3", "run": "r2", "reviewer": "rev"},
        {"event": "reopened", "at": "3", "run": "r2"},
        {"event": "claimed", "at": "4", "run": "r3", "agent": "impl"},
        {"event": "requeued", "at": "5", "run": "r3", "reason": "timed_out"},
    ]
    reviews = [{"at": "3", "by": "rev"}, {"at": "6", "by": "A Person", "verdict": "approved"}]
    found = views.rounds(history, reviews)
    assert [(each["kind"], each.get("run")) for each in found] == [
        *(("attempt", "r1"), ("review", "r2"), ("attempt", "r3"), ("review", None)),
    ]
    assert [end["event"] for end in found[0]["ends"]] == ["done"]
    assert found[2]["ends"][0]["reason"] == "timed_out"
    assert found[3]["by"] == "A Person"


# --- diffs ---------------------------------------------------------------------------------------

DIFF = """\
diff --git a/a.py b/a.py
index 1..2 100644
--- a/a.py
+++ b/a.py
@@ -10,3 +10,3 @@ def f():
 x = 1
-y = "<b>"
+y = "\u202e<i>"
 z = 3
\\ No newline at end of file
diff --git a/picture b/picture
new file mode 100644
Binary files /dev/null and b/picture differ
"""


def test_a_diff_is_files_with_numbered_lines() -> None:
    [code, picture], left_out = diff.files(DIFF)
    assert left_out == 0
    assert (code.name, code.added, code.removed) == ("a.py", 1, 1)
    assert [(line.kind, line.old, line.new) for line in code.lines] == [
        ("hunk", None, None),
        ("same", 10, 10),
        ("del", 11, None),
        ("add", None, 11),
        ("same", 12, 12),
        ("hunk", None, None),
    ]
    text = "".join(line.html for line in code.lines)
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "\\u202e" in text
    assert 'class="mi"' in text  # the colours of Python
    assert picture.name == "a/picture b/picture"
    assert picture.notes[-1].startswith("Binary files")


@pytest.mark.parametrize(
    "text", ["", "\n", "@@\n+x", "diff --git a/x b/x\n@@ -1 +1 @@\n\nodd\n+\n-"]
)
def test_no_text_that_is_no_diff_raises(text: str) -> None:
    diff.files(text)


def test_a_text_of_several_lines_keeps_its_colour() -> None:
    text = DIFF.replace(' x = 1\n-y = "<b>"', ' """a\n-b = 1').replace(" z = 3", ' c"""')
    lines = diff.files(text)[0][0].lines
    assert "<span" in lines[1].html
    assert all(line.html.count("<span") == line.html.count("</span") for line in lines)


def test_a_huge_diff_is_cut() -> None:
    text = "diff --git a/x b/x\n@@ -0,0 +1,9999 @@\n" + "+line\n" * 9_999
    [file], left_out = diff.files(text)
    assert left_out == 9_999 + 2 - diff.MOST_LINES
    assert file.added == diff.MOST_LINES - 2


# --- transcripts ---------------------------------------------------------------------------------


def lines_of(part: transcript.Part) -> list[str]:
    return [line.text for line in part.lines]


def said(text: str) -> bytes:
    block = {"type": "text", "text": text}
    return json.dumps({"type": "assistant", "message": {"content": [block]}}).encode() + b"\n"


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
def test_a_transcript_is_read_in_pages_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    monkeypatch.setattr(transcript, "PAGE_BYTES", 1000)
    data = b"".join(said(f"line {n}") for n in range(100))
    if is_packed:
        (tmp_path / run_record.PACKED_STREAM).write_bytes(gzip.compress(data))
    else:
        (tmp_path / run_record.STREAM).write_bytes(data)
    folder = str(tmp_path)
    part = transcript.read(folder)
    assert (part.end, part.size) == (len(data), len(data))
    seen = lines_of(part)
    while part.begin > 0:
        part = transcript.read(folder, before=part.begin)
        seen = lines_of(part) + seen
    assert seen == [f"line {n}" for n in range(100)]
    part, seen = transcript.read(folder, after=0), []
    while part.lines:
        seen += lines_of(part)
        part = transcript.read(folder, after=part.end)
    assert seen == [f"line {n}" for n in range(100)]


def test_a_line_that_is_being_written_is_shown_when_it_is_whole(tmp_path: Path) -> None:
    stream, whole = tmp_path / run_record.STREAM, said("second")
    stream.write_bytes(said("first") + whole[:20])
    part = transcript.read(str(tmp_path))
    assert lines_of(part) == ["first"]
    assert lines_of(transcript.read(str(tmp_path), after=part.end)) == []
    stream.write_bytes(said("first") + whole)
    assert lines_of(transcript.read(str(tmp_path), after=part.end)) == ["second"]


@pytest.mark.parametrize("around", [(b"", b""), (said("a"), said("z")), (said("a"), b"")])
def test_a_line_longer_than_a_page_is_passed_in_both_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: tuple[bytes, bytes]
) -> None:
    monkeypatch.setattr(transcript, "PAGE_BYTES", 500)
    first, last = around
    data = first + b"x" * 5_000 + b"\n" + last
    (tmp_path / run_record.STREAM).write_bytes(data)
    folder = str(tmp_path)
    part, seen = transcript.read(folder, after=0), []
    for _ in range(50):
        seen += lines_of(part)
        part = transcript.read(folder, after=part.end)
    assert part.end == len(data)
    assert ("z" in seen) == bool(last)
    part = transcript.read(folder)
    for _ in range(50):
        part = transcript.read(folder, before=part.begin)
    assert part.begin == 0


def test_the_first_look_has_a_screen_full_also_behind_a_huge_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcript, "PAGE_BYTES", 500)
    early = b"".join(said(f"line {n}") for n in range(100))
    (tmp_path / run_record.STREAM).write_bytes(early + b"x" * 1_800 + b"\n" + said("the end"))
    part = transcript.read(str(tmp_path))
    seen = lines_of(part)
    assert seen[-1] == "the end"
    assert {"line 98", "line 99"} <= set(seen)
    # The page before goes on where this one begins: nothing is shown twice or left out.
    whole = lines_of(transcript.read(str(tmp_path), before=part.begin)) + seen
    told = [line for line in whole if line.startswith("line ")]
    assert told == [f"line {n}" for n in range(100 - len(told), 100)]


def test_a_transcript_withholds_secrets_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    assert transcript.read(str(tmp_path)) == transcript.Part(0, 0, (), 0)
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    (tmp_path / run_record.STREAM).write_bytes(said(f"the token {secret}"))
    assert secret not in lines_of(transcript.read(str(tmp_path)))[0]


@pytest.mark.parametrize("offset", [-5, 0, 10**9])
def test_an_offset_that_is_not_in_the_stream_is_one_of_its_ends(
    tmp_path: Path, offset: int
) -> None:
    data = said("only")
    (tmp_path / run_record.STREAM).write_bytes(data)
    size, folder = len(data), str(tmp_path)
    after, before = transcript.read(folder, after=offset), transcript.read(folder, before=offset)
    assert (lines_of(after), after.end, after.size) == (["only"] * (offset <= 0), size, size)
    assert (lines_of(before), before.begin) == (["only"] * (offset > 0), 0)
    assert before.end == (size if offset > 0 else 0)


# --- a run's page --------------------------------------------------------------------------------


def test_the_page_of_a_run_shows_its_facts_its_transcript_and_its_changes(project: Layout) -> None:
    root = Path(project.root)
    start = git(root, "rev-parse", "HEAD").strip()
    (root / "others.py").write_text("merged by somebody else\n")
    git(root, "add", "others.py")
    git(root, "-c", "user.name=a", "-c", "user.email=a@e.org", "commit", "-qm", "others")
    later = git(root, "rev-parse", "HEAD").strip()
    git(root, "reset", "-q", "--hard", start)
    (root / "new.py").write_text("x = '<b>'\n")
    git(root, "add", "new.py")
    git(root, "-c", "user.name=a", "-c", "user.email=a@e.org", "commit", "-qm", "new")
    tip = git(root, "rev-parse", "HEAD").strip()
    outcome = {"verdict": "done", "summary": "Made <it>.", "cost_usd": 0.25}
    more = {"start": later, "tip": tip, "outcome": outcome, "finished": 1060.0}
    ended = {"exit_code": 3}
    folder = runs.lay_out(project, "impl-agent-1", RUN, task="T1", ended=ended, **more)
    (folder / run_record.LAUNCH).write_text(json.dumps({"environment": {"AGENT_DEV_PORT": "1"}}))
    (folder / run_record.STREAM).write_bytes(said("<script>") + b"\x1b[31m raw\n")
    (folder / run_record.STDERR).write_text("x" * 50_000 + "\nthe end of <stderr>\n")
    client = opened(project)
    shown = client.get(f"/part/runs/{RUN}").text
    assert len(shown) < 40_000
    for text in (
        "the end of &lt;stderr&gt;",
        "Made &lt;it&gt;.",
        "$0.25",
        "code 3",
        "AGENT_DEV_PORT",
        "60 s",
        "T1",
    ):
        assert text in shown
    answer = client.get(f"/runs/{RUN}/transcript")
    assert "&lt;script&gt;" in answer.text
    assert "\x1b" not in answer.text
    size = (folder / run_record.STREAM).stat().st_size
    assert int(answer.headers["orchestrator-end"]) == size
    assert client.get(f"/runs/{RUN}/transcript?after={size}").text.strip() == ""
    shown = client.get(f"/part/diff/runs/{RUN}").text
    assert "new.py" in shown
    assert "others.py" not in shown
    assert re.search("&lt;b&gt;", shown)
    for path in ("/part/runs/none", "/part/diff/runs/none", "/part/tasks/none"):
        assert "no " in client.get(path).text
    assert client.get("/runs/none/transcript").status_code == 404
    assert client.get("/walls/none").status_code == 404


def test_the_review_of_a_person_is_shown_without_a_link_to_a_run(project: Layout) -> None:
    store = FileStore(project)
    Path(project.state("incoming"), "T1.md").write_text("# Fix it\n\nROLE: implement\n")
    for kind, run in (("agent", RUN), ("person", "person-3d162d13")):
        fields = {"kind": kind, "run": run, "verdict": "approved", "by": "Ada"}
        store.note(store.find("T1"), Entry("2026-01-01T00:00:00Z", "review", fields))
    shown = opened(project).get("/part/tasks/T1").text
    assert re.findall(r'href="/runs/([^"]+)"', shown) == [RUN]
    assert shown.count("approved") > 2


def test_a_pull_request_whose_task_is_gone_has_only_the_buttons_that_work(
    project: Layout, cli: Callable[..., Done]
) -> None:
    _, task = deliver(project, cli)
    posts = 'data-post="([^"]+)"'
    found = re.findall(posts, opened(project).get("/part/inbox").text)
    assert found == [f"/api/inbox/pr%3A1/{verb}" for verb in ("approve", "reject", "dismiss")]
    Path(project.state("done"), f"{task}.md").unlink()
    found = re.findall(posts, opened(project).get("/part/inbox").text)
    assert found == ["/api/prs/1/merge", "/api/prs/1/close"]


# --- answers that are shared ---------------------------------------------------------------------


def test_a_shared_answer_holds_until_something_changes(
    project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.page.commands.BELIEVED", 1000.0)
    told = Told(status={"a": 1})
    commands = Remembered(told, project)
    assert commands.read("status") == commands.read("status") == {"a": 1}
    assert len(told.asked) == 1
    commands.read("status", {"b": 1})
    assert len(told.asked) == 2
    Path(project.config).write_text("paused: true\n")
    commands.read("status")
    assert len(told.asked) == 3
