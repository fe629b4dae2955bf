"""The page's server: who may see it, what it answers, what it changes; reading changes nothing."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import uvicorn
from conftest import CHECKOUT, Done
from harness import PATIENCE, wait_until
from rows import each_row
from starlette.testclient import TestClient
from test_cli_tasks import add

from orchestrator.cli.served import Served, command_line
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError, UsageError
from orchestrator.page import changes, gate, regions, render, server
from orchestrator.page.api import CHANGES
from orchestrator.page.app import application
from orchestrator.system import process
from orchestrator.tasks.file_store import FileStore

Cli = Callable[..., Done]
HOME = "http://127.0.0.1:8765"
TOKEN = "the-token"


def opened(layout: Layout, *, read_only: bool = False, enter: bool = True) -> TestClient:
    """Return a browser that has exchanged the token for the cookie, or has not yet."""
    app = application(Served(layout), layout, token=TOKEN, port=8765, read_only=read_only)
    client = TestClient(app, base_url=HOME, follow_redirects=False)
    if enter:
        assert client.get(f"/?token={TOKEN}").status_code == 303
    return client


@pytest.fixture
def page(project: Layout) -> Iterator[TestClient]:
    with opened(project) as client:
        yield client


def posted(page: TestClient, path: str, **body: object) -> Any:
    answer = page.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- who may see it ------------------------------------------------------------------------------


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_never_get(
    project: Layout,
) -> None:
    client = opened(project, enter=False)
    for path in ("/", "/api/status", "/metrics", "/static/page.css", "/nowhere"):
        assert client.get(path).status_code == 401
    assert client.post("/api/tasks/add", json={"title": "a"}).status_code == 401
    for wrong in ("/?token=", "/?token=nearly", f"/api/status?token={TOKEN}", f"/#token={TOKEN}"):
        assert client.get(wrong).status_code == 401
    answer = client.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    flags = answer.headers["set-cookie"].partition(";")[2].replace(" ", "").split(";")
    assert set(flags) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert TOKEN not in answer.headers["set-cookie"]
    assert client.get("/").status_code == 200
    # The token holds until the server ends: a second browser can use it.
    client.cookies.clear()
    assert client.get("/").status_code == 401
    assert client.get(f"/?token={TOKEN}").status_code == 303


def test_the_token_for_the_browser_that_is_opened_holds_once(project: Layout) -> None:
    app = application(Served(project), project, token=TOKEN, port=8765, read_only=True)
    client, once = TestClient(app, base_url=HOME, follow_redirects=False), app.one_time_token()
    assert client.get(f"/?token={once}").status_code == 303
    client.cookies.clear()
    assert client.get(f"/?token={once}").status_code == 401


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8765", None, 200),
        ("localhost:9000", None, 200),  # through a tunnel
        ("LOCALHOST:8765", "http://localhost:8765", 200),
        ("[::1]:8765", "http://[::1]:8765", 200),
        ("127.0.0.1", "http://127.0.0.1", 200),
        ("example.org:8765", None, 403),
        ("127.0.0.1.example.org", None, 403),
        ("127.0.0.1:8765@example.org", None, 403),
        ("localhost:8765", "null", 403),
        ("localhost:8765", "http://example.org", 403),
        ("localhost:8765", "http://localhost:8766", 403),
        ("localhost:8765", "https://localhost:8765", 403),
        ("localhost:8765", "", 403),
        ("", None, 403),
    ],
)
def test_only_names_of_this_machine_and_its_own_pages_get_an_answer(
    page: TestClient, host: str, origin: str | None, status: int
) -> None:
    more = {} if origin is None else {"Origin": origin}
    # The cookie is sent by hand: the test's browser knows it for one name only.
    cookie = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    headers = {"Host": host, "Cookie": cookie, **more}
    page.cookies.clear()
    for path in ("/api/limits", "/static/page.js"):
        assert page.get(path, headers=headers).status_code == status


def test_a_foreign_name_is_refused_before_the_token_is_looked_at(project: Layout) -> None:
    client = opened(project, enter=False)
    answer = client.get(f"/?token={TOKEN}", headers={"Host": "rebound.example.org"})
    assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)


def test_every_answer_forbids_scripts_and_data_from_elsewhere(project: Layout) -> None:
    client = opened(project)
    for path in ("/", "/api/limits", "/nowhere", "/static/page.js", "/part/board"):
        headers = client.get(path).headers
        policy = dict(
            each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    client.cookies.clear()
    assert "content-security-policy" in client.get("/").headers


def test_no_template_needs_what_the_policy_forbids() -> None:
    templates = os.path.join(render.FOLDER, "templates")
    for name in set(os.listdir(templates)) - {"export.html"}:  # the server never shows it
        with open(os.path.join(templates, name), encoding="utf-8") as file:
            text = file.read()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|hx-on|hx-vals=.js:", text), name
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), name
        assert not re.search(r"(src|href|action|hx-get|hx-post)=\"(https?:)?//", text), name


# --- what it answers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/status", ("status",)),
        ("/api/tasks", ("task", "list")),
        ("/api/tasks?state=incoming&limit=2", ("task", "list", "--state", "incoming", "--limit=2")),
        ("/api/tasks?q=second", ("task", "list", "--search", "second")),
        ("/api/tasks/{id}", ("task", "show", "{id}")),
        ("/api/agents", ("agent", "list")),
        ("/api/agents/test-agent", ("agent", "show", "test-agent")),
        ("/api/runs", ("runs",)),
        ("/api/prs", ("pr", "list")),
        ("/api/inbox", ("inbox",)),
        ("/api/costs", ("costs",)),
        ("/api/costs?by=agent&since=2d", ("costs", "--by", "agent", "--since", "2d")),
        ("/api/limits", ("limits",)),
        ("/api/explain/{id}", ("explain", "{id}")),
    ],
)
def test_an_answer_is_what_the_command_prints_as_json(
    page: TestClient, cli: Cli, path: str, words: tuple[str, ...]
) -> None:
    task_id = add(cli, title="The first")
    add(cli, title="The second")
    answer = page.get(path.format(id=task_id))
    printed = cli(*(word.format(id=task_id) for word in words), "--json")
    assert printed.code == 0
    assert answer.status_code == 200

    def steady(value: Any) -> Any:
        """Leave out what changes between two looks."""
        if isinstance(value, dict):
            moving = ("until", "since", "verdict")
            pairs = ((k, v) for k, v in value.items() if not k.endswith("seconds"))
            return {k: steady(v) for k, v in pairs if k not in moving}
        return [steady(each) for each in value] if isinstance(value, list) else value

    assert steady(answer.json()) == steady(json.loads(printed.out))


def test_a_page_of_tasks_follows_the_page_before_it(page: TestClient, cli: Cli) -> None:
    ids = [add(cli, title=f"Number {number}") for number in range(5)]
    for task_id in ids[:3]:
        assert cli("task", "move", task_id, "done").code == 0
    seen, after = [], ""
    while rows := page.get(f"/api/tasks?limit=2{after}").json():
        assert len(rows) <= 2
        seen += [row["id"] for row in rows]
        after = f"&after={rows[-1]['id']}"
    assert sorted(seen) == sorted(ids)
    assert {*seen[:2]} == {*ids[3:]}  # unfinished tasks first


@each_row(
    ("path", "status", "code"),
    [
        ("/api/tasks/TASK-none", 404, "not_found"),
        ("/api/nothing", 404, "not_found"),
        ("/api/status/one", 404, "not_found"),
        ("/api/tasks?limit=many", 400, "usage"),
        ("/api/tasks?limit=0", 400, "usage"),
        ("/api/tasks?stat=done", 400, "usage"),
        ("/api/tasks?state=gone", 400, "usage"),
        ("/api/costs?by=moon", 400, "usage"),
        ("/api/costs?by=day&by=agent", 400, "usage"),
        ("/api/status?json=1", 400, "usage"),
        ("/api/explain", 404, "not_found"),
        # A read neither sends a message, nor lasts forever.
        ("/api/report?notify=true", 400, "usage"),
        ("/api/runs/impl-agent-1?follow=true", 400, "usage"),
    ],
)
def test_a_wrong_question_is_told_so_as_on_the_command_line(
    page: TestClient, path: str, status: int, code: str
) -> None:
    answer = page.get(path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["hint"] is None or not error["hint"].endswith("known: ")


def test_metrics_are_the_commands_text(page: TestClient, cli: Cli) -> None:
    answer = page.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'orchestrator_tasks{state="incoming"} 0' in answer.text.splitlines()


def test_metrics_of_a_project_that_was_moved_away_are_refused(
    page: TestClient, project: Layout
) -> None:
    os.rename(project.root, project.root + "-moved")
    answer = page.get("/metrics")
    os.rename(project.root + "-moved", project.root)
    assert (answer.status_code, "no folder" in answer.json()["error"]["message"]) == (409, True)


def test_reading_changes_no_file(
    project: Layout, cli: Cli, page: TestClient, unchanged: Callable[[], None]
) -> None:
    for path in ("/", "/metrics", "/api/runs", "/api/costs", "/api/report", "/api/agents"):
        assert page.get(path).status_code == 200
    for region in regions.REGIONS:
        assert page.get(f"/part/{region.name}").status_code == 200
    unchanged()


# --- what it changes -----------------------------------------------------------------------------


def test_a_change_is_the_command_with_its_refusals(page: TestClient, cli: Cli) -> None:
    body = "One.\n\nTwo: ünicode."
    task_id = posted(page, "/api/tasks/add", title="--force", body=body, priority="P1")["id"]
    shown = page.get(f"/api/tasks/{task_id}").json()
    assert (shown["title"], shown["priority"]) == ("--force", "P1")
    assert shown["body"].strip() == body
    again = page.post("/api/tasks/add", json={"title": "--force"})
    assert again.status_code == 409
    error = json.loads(cli("task", "add", "--title=--force", "--json").out)["error"]
    assert again.json() == {"error": error}
    posted(page, f"/api/tasks/{task_id}/set", priority="P0", title="Another = title")
    posted(page, f"/api/tasks/{task_id}/move", state="blocked")
    shown = page.get(f"/api/tasks/{task_id}").json()
    assert (shown["title"], shown["priority"], shown["state"]) == (
        *("Another = title", "P0", "blocked"),
    )


def test_a_noun_is_understood_in_both_numbers_and_a_new_task_needs_no_verb(
    page: TestClient,
) -> None:
    task_id = posted(page, "/api/tasks", title="New")["id"]
    assert posted(page, f"/api/task/{task_id}/cancel")[0]["state"] == "failed"
    assert page.get(f"/api/task/{task_id}").json()["reason"] == "cancelled"
    answer = page.post("/api/pr/9/request_changes", json={"text": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_found")


def test_agents_and_limits_are_set_with_the_values_of_json(page: TestClient) -> None:
    posted(page, "/api/agents/impl-agent-1/set", interval_seconds=90, model="opus", paused=True)
    settings = page.get("/api/agents/impl-agent-1").json()["settings"]
    assert (settings["interval_seconds"], settings["model"], settings["paused"]) == (
        90,
        "opus",
        True,
    )
    posted(page, "/api/agents/impl-agent-1/set", model=None)
    assert page.get("/api/agents/impl-agent-1").json()["settings"]["model"] is None
    posted(page, "/api/limits/set", max_claimed=2)
    assert page.get("/api/limits").json()["max_claimed"] == 2
    posted(page, "/api/agents/pause", all=True)
    assert {row["state"] for row in page.get("/api/agents").json()} == {"paused"}


@each_row(
    ("path", "body", "status", "code"),
    [
        ("/api/tasks/TASK-none/retry", "{}", 409, "not_found"),
        ("/api/tasks/TASK-none/retry", "", 409, "not_found"),
        ("/api/tasks/add", "{}", 409, "usage"),
        ("/api/tasks/add", '{"title": "a", "colour": 1}', 409, "usage"),
        ("/api/tasks/add", '{"title": "a\\u0000b"}', 409, "usage"),
        ("/api/tasks/add", '{"title": "\\ud800"}', 409, "usage"),
        ("/api/tasks/add", '{"title": "a", "priority": "P9"}', 409, "usage"),
        ("/api/tasks/add", '{"title": {"a": 1}}', 409, "usage"),
        ("/api/tasks/add", '{"title": "a", "edit": true}', 409, "usage"),
        ("/api/tasks/add", '{"title": "a", "body_file": "/etc/passwd"}', 409, "usage"),
        ("/api/tasks/add", '{"title": "a", "body": "b", "body_file": "-"}', 409, "usage"),
        ("/api/tasks/TASK-none/edit", '{"file": "/etc/passwd"}', 409, "usage"),
        ("/api/tasks/add", '{"title": ["a", "b"]}', 409, "usage"),
        ("/api/tasks/add", '{"title": true}', 409, "usage"),
        ("/api/tasks/add", '{"title": "a", "body": ["b"]}', 409, "usage"),
        ("/api/tasks/add", '{"title": "a", "force": "perhaps"}', 409, "usage"),
        ("/api/tasks/add", '{"title": NaN}', 400, "usage"),
        ("/api/agents/impl-agent-1/set", '{"name": "evil"}', 409, "usage"),
        ("/api/tasks/add", "[1]", 400, "usage"),
        ("/api/tasks/add", "{", 400, "usage"),
        ("/api/tasks/add", "\udcff", 400, "usage"),
        ("/api/tasks/TASK-none/paint", "{}", 404, "not_found"),
        ("/api/walls/1/paint", "{}", 404, "not_found"),
        ("/api/agents/nobody/pause", "{}", 409, "not_found"),
        ("/api/inbox/pr:9/approve", "{}", 409, "not_found"),
    ],
)
def test_a_refused_change_has_the_error_of_the_command(
    page: TestClient,
    unchanged: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: str,
    status: int,
    code: str,
) -> None:
    monkeypatch.setenv("EDITOR", "sleep 600 #")  # no change opens it
    answer = page.post(path, content=body.encode(errors="surrogateescape"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    unchanged()


def test_a_page_that_only_reads_refuses_every_change(
    project: Layout, unchanged: Callable[[], None]
) -> None:
    client = opened(project, read_only=True)
    for path in ("/api/tasks/add", "/api/tasks/x/retry", "/api/agents/x/run", "/api/no/thing"):
        answer = client.post(path, json={"title": "a"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only")
    assert client.get("/api/status").status_code == 200
    unchanged()


def test_a_page_that_only_reads_shows_no_control_that_changes(project: Layout, cli: Cli) -> None:
    task = add(cli)
    paths = [*(region.name for region in regions.REGIONS), f"tasks/{task}", "agents/impl-agent-1"]
    shown, all_controls = opened(project, read_only=True), opened(project)
    for path in paths:
        answer = shown.get(f"/part/{path}")
        assert answer.status_code == 200, path
        assert not re.search("data-post|draggable", answer.text), path
    changing = [path for path in paths if "data-post" in all_controls.get(f"/part/{path}").text]
    assert {"board", "agents", f"tasks/{task}", "agents/impl-agent-1"} <= set(changing)


def test_every_control_of_the_page_asks_for_a_change_that_there_is() -> None:
    """As the templates write it: most controls are shown only in some states of the project."""
    asked = set()
    for path in sorted((CHECKOUT / "orchestrator" / "page" / "templates").glob("*.html")):
        text = path.read_text()
        nouns = re.findall(r'set path = "/api/([a-z]+)/', text)
        verbs = re.findall(r'path ~ "/([a-z-]+)"|data-post="\{\{ path \}\}/([a-z-]+)"', text)
        asked |= {(noun, one or other) for noun in nouns for one, other in verbs}
        whole = r'"/api/([a-z]+)/(?:\{name\}/|" ~ [^~"]+ ~ "/)?([a-z-]+)"'
        asked |= set(re.findall(whole, text))
    assert len(asked) > 15
    assert {(noun, verb) for noun, verb in asked if verb not in CHANGES.get(noun, {})} == set()


def test_no_value_becomes_an_option() -> None:
    words = command_line("task cancel", "--all", {}, "--json")
    assert words == ["task", "cancel", "--json", "--", "--all"]
    words = command_line(
        "task set", "--x", {"title": "--json", "depends_on": ["a", "b"], "pr": None}
    )
    assert words == ["task", "set", "--", "--x", "title=--json", "depends_on=a, b", "pr="]
    words = command_line("agent pause", None, {"all": True, "stop": False})
    assert words == ["agent", "pause", "--all"]
    with pytest.raises(UsageError, match="takes no 'title'"):
        command_line("task retry", "x", {"title": "y"})
    with pytest.raises(OrchestratorError, match="128 KiB"):
        command_line("task set", "x", {"title": "y" * 200_000})


# --- what changed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("task", "add", "New"), "queue"),
        (("task", "set", "{id}", "priority=P0"), "events"),
        (("agent", "pause", "impl-agent-1"), "config"),
        (("tick",), "tick"),
    ],
)
def test_each_change_is_seen_by_the_times_of_files(
    project: Layout, cli: Cli, words: tuple[str, ...], part: str
) -> None:
    task_id = add(cli)
    before = changes.marks(project)
    assert changes.differences(before, changes.marks(project)) == []
    assert cli(*(word.format(id=task_id) for word in words)).code == 0
    assert part in changes.differences(before, changes.marks(project))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("shared/prs/1.json", "prs"),
        ("shared/prs/github/1.json", "prs"),  # each forge that is not local has a folder
        ("agents/impl-agent-1/state.json", "agents"),
        ("shared/hold.json", "tick"),
        ("cache/not-landed.json", "tick"),
        ("roles/mine.md", "config"),
    ],
)
def test_each_record_of_the_project_belongs_to_a_part(
    project: Layout, name: str, part: str
) -> None:
    path = os.path.join(project.home, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    before = changes.marks(project)
    with open(path, "w", encoding="utf-8") as file:
        file.write("{}")
    assert part in changes.differences(before, changes.marks(project))


def test_the_stream_tells_of_a_change(
    project: Layout, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.01)

    async def told() -> list[str]:
        stream = changes.stream(project)
        hello = await anext(stream)
        add(cli)
        change = await asyncio.wait_for(anext(stream), 30)
        await stream.aclose()
        return [hello, change]

    hello, change = asyncio.run(told())
    assert "event: hello\n" in hello
    assert change.startswith("event: change\ndata: ")
    assert change.endswith("\n\n")
    assert "queue" in json.loads(change.partition("data: ")[2].splitlines()[0])["changed"]
    # A person sees it within two seconds, with the time to load the region again.
    monkeypatch.undo()
    assert changes.POLL_SECONDS <= 1


def test_a_listener_sees_by_the_ids_of_the_stream_that_it_missed_a_change(
    project: Layout, cli: Cli, page: TestClient
) -> None:
    async def hello() -> str:
        stream = changes.stream(project)
        found = re.search("^id: ([0-9a-f]+)$", await anext(stream), re.MULTILINE)
        await stream.aclose()
        assert found is not None
        return found[1]

    shown = re.search('data-seen="([0-9a-f]+)"', page.get("/").text)
    assert shown is not None
    assert asyncio.run(hello()) == shown[1]
    add(cli)
    assert asyncio.run(hello()) != shown[1]


# --- what is shown -------------------------------------------------------------------------------


HOSTILE = "<img src=x onerror=alert(1)> \u202eevil\u2066 \x1b[31mred {{ 7*7 }} </bdi>"


def test_hostile_texts_are_shown_as_text(page: TestClient, cli: Cli) -> None:
    add(cli, title=re.sub("[^ -~]", "", HOSTILE))
    shown = page.get("/part/board").text
    assert "<img" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    assert "{{ 7*7 }} &lt;/bdi&gt;" in shown


@pytest.mark.parametrize("template", ["{{ text }}", "{{ text|bdi }}", '<a title="{{ text }}">'])
def test_what_a_template_shows_is_escaped_and_visible(template: str) -> None:
    shown = render.environment().from_string(template).render(text=HOSTILE + '"')
    assert "&lt;img src=x onerror=alert(1)&gt; \\u202eevil\\u2066 \\x1b[31mred {{ 7*7 }}" in shown
    assert "&#34;" in shown


def test_a_region_shows_why_it_cannot_be_shown(project: Layout, page: TestClient) -> None:
    os.remove(project.config)
    answer = page.get("/part/pull-requests")
    assert answer.status_code == 200
    assert page.get("/part/problems").status_code == 200
    assert page.get("/part/nothing").status_code == 404


# --- the process ---------------------------------------------------------------------------------


def test_the_server_ends_at_once_with_open_streams_and_a_change_under_way(
    project: Layout, cli: Cli
) -> None:
    server = subprocess.Popen(
        [*process.own_program(), "dashboard", "--json", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    printed = ""
    while not printed.endswith("}\n"):
        line = server.stdout.readline()
        assert line, server.stderr and server.stderr.read()
        printed += line
    address = urlsplit(json.loads(printed)["url"])
    assert (address.hostname, address.fragment) == ("127.0.0.1", "")

    def asked(method: str, path: str, **more: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=60)
        connection.request(method, path, **more)
        return connection

    first = asked("GET", f"/?{address.query}")
    cookie = (first.getresponse().getheader("set-cookie") or "").partition(";")[0]
    events = asked("GET", "/api/events", headers={"Cookie": cookie})
    stream = events.getresponse()
    assert (stream.getheader("content-type") or "").startswith("text/event-stream")
    assert stream.readline() == b"retry: 1000\n"
    queue = FileStore(project)
    with queue.change():
        # The command waits for the queue's lock, for 30 seconds.
        body = json.dumps({"title": "Under way"})
        late = asked("POST", "/api/tasks", headers={"Cookie": cookie}, body=body)
        wait_until(lambda: children(server.pid), "the command's process")
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=25)
        assert (server.returncode, out, err) == (0, "", "")
    added = wait_until(lambda: queue.list("incoming").tasks, "the end of the command")
    assert added[0].title == "Under way"
    for connection in (first, events, late):
        connection.close()


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children()


def test_a_port_in_use_is_refused_with_what_to_do(cli: Cli, project: Layout) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = cli("dashboard", "--port", str(port), "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"]["code"] == "port_in_use"


def test_an_agent_may_not_serve_a_page_that_changes(
    cli: Cli, project: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_RUN_ID", "20260101T000000Z-aaaaaa")
    monkeypatch.setenv("ORCHESTRATOR_PROJECT", project.root)
    done = cli("dashboard", "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"]["code"] == "refused_in_run"


def test_the_origin_of_a_request_is_compared_whole() -> None:
    assert gate.is_own(["localhost:1"], ["http://LOCALHOST:1"])
    assert not gate.is_own(["localhost:1", "localhost:1"], [])
    assert not gate.is_own(["localhost:1"], ["http://localhost:1", "http://localhost:1"])
    assert not gate.is_own([], [])


def test_a_server_that_ends_closes_the_connections_of_requests_without_an_answer() -> None:
    asked, never = threading.Event(), asyncio.Event()

    async def answers_never(scope: object, receive: object, send: object) -> None:
        asked.set()
        await never.wait()

    config = uvicorn.Config(answers_never, log_level="error", lifespan="off", ws="none")
    made, listening = server.Server(config), server.bound(0)
    listening.listen()
    thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert asked.wait(PATIENCE)
            made.handle_exit(signal.SIGTERM, None)  # status 500 would say that it failed
            assert client.recv(1000) == b""
    finally:
        made.handle_exit(signal.SIGTERM, None)
        thread.join()
