"""The page in a real browser (Debian's chromium): every kind of action, and what a person sees.

Waiting is the browser's: `expect` looks again until its limit.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import axe_playwright_python
import harness
import needs
import psutil
import pytest
from harness import ONCE, PATIENCE, World, wait_until
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

AXE = (Path(axe_playwright_python.__path__[0]) / "axe.min.js").read_text(encoding="utf-8")
#: Without the nodes that pass, each of which takes as long as one that does not.
RUN_AXE = "axe.run({resultTypes: ['violations']})"
#: Returns what makes the page wider than its window.
OUTSIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
    [...document.querySelectorAll("main *, header *")]
        .filter((each) => each.getBoundingClientRect().right > innerWidth && !each.closest(
            ".wide, .board, .side, .transcript, .unseen"))
        .map((each) => each.outerHTML.slice(0, 120))"""
#: Features that the browser does without: pages of its own, which it would draw in each window, a
#: process in reserve, and requests to its makers. The list replaces Playwright's list.
WITHOUT = (
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "SpareRendererForSitePerProcess",
    "AimEnabled",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
)
HOSTILE = "<b onclick=alert(1)>bold</b><script>alert(2)</script> \u202eright\u2066 \x1b[31mred"
Open = Callable[..., Page]
world = harness.world


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = needs.program("chromium", "chromium")
    with sync_playwright() as playwright:
        # Its own sandbox needs rights that containers do not give.
        words = ["--no-sandbox", "--disable-gpu", "--disable-software-rasterizer"]
        words += ["--in-process-gpu", f"--disable-features={','.join(WITHOUT)}"]
        found = playwright.chromium.launch(executable_path=program, args=words)
        yield found
        found.close()


@pytest.fixture
def serve(world: World, browser: Browser) -> Iterator[Open]:
    """Return a function that opens the page of the world's project; each call is a new browser.

    What the browser complains about, a dialog, and a request to elsewhere fail the test.
    """
    server = None
    address = ""
    contexts, wrong = [], []

    def opened(path: str = "/", *words: str, **options: object) -> Page:
        nonlocal server, address
        if server is None:
            server = world.start("dashboard", "--json", "--port", "0", *words)
            assert server.stdout is not None
            printed = ""
            while not printed.endswith("}\n"):
                line = server.stdout.readline()
                assert line, server.stderr and server.stderr.read()
                printed += line
            address = json.loads(printed)["url"]
        context = browser.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        home = address.partition("?")[0]
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("request", lambda asked: asked.url.startswith(home) or wrong.append(asked.url))
        if path == "/":
            page.goto(address)
        else:
            assert context.request.get(address).ok  # the context gets the page's cookie
            page.goto(home.rstrip("/") + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    said = ""
    if server is not None:
        server.terminate()
        _, said = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
    # The console notes a refused change, which is an answer with an error's status, and a stream or
    # a request that ended with its server.
    noted = ("status of 409", "net::ERR_", "htmx:afterRequest", "htmx:sendError")
    assert [text for text in wrong if not any(each in text for each in noted)] == [], said


expect.set_options(timeout=PATIENCE * 1000)


def region(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


#: In so high a window nothing is scrolled. The browser looks for what is dragged where the button
#: went down, and Playwright would scroll the target into view after that.
HIGH: dict[str, object] = {"viewport": {"width": 1280, "height": 3000}}


def loaded(page: Page) -> Page:
    """Wait until every part of the page has its contents."""
    expect(page.get_by_text("Loading …")).to_have_count(0)
    return page


def test_the_board_adds_moves_finds_and_cancels_by_mouse_and_by_keyboard(
    world: World, serve: Open
) -> None:
    world.create(agents=[world.agent("impl-1", paused=True)])
    first = world.add("Sort the list", "implement", "--depends-on", "")
    page, other = serve(**HIGH), serve()
    board = region(page, "Board")
    card = board.locator(f"#card-{first}")

    # Two open pages stay in step.
    board.get_by_text("Add a task").click()
    board.get_by_label("Title").fill("Paint the <wall>")
    board.get_by_label("Text").fill("Blue.\n\nTwice.")
    board.get_by_role("button", name="Add the task").click()
    expect(region(other, "Board").get_by_role("link", name="Paint the <wall>")).to_be_visible()
    other.close()

    # What the command line adds with --force is a second button.
    board.get_by_text("Add a task").click()
    board.get_by_label("Title").fill("Paint the <wall>")
    board.get_by_role("button", name="Add the task").click()
    board.get_by_role("button", name="Add it anyway").click()
    expect(board.get_by_role("link", name="Paint the <wall>")).to_have_count(2)

    # By mouse: to another priority, then to another state.
    card.drag_to(board.locator("[data-drop-priority=P0]"))
    expect(board.locator("[data-drop-priority=P0]").locator(f"#card-{first}")).to_be_visible()
    assert world.task(first)["priority"] == "P0"
    card.drag_to(board.locator("[data-drop-state=blocked]"))
    expect(board.locator(f"[data-drop-state=blocked] #card-{first}")).to_be_visible()
    assert world.where(first) == ["blocked"]

    # By keyboard: the same through the card's menu.
    card.get_by_label(f"Actions for {first}").focus()
    page.keyboard.press("Enter")
    card.get_by_label(f"New state of {first}").select_option("incoming")
    card.get_by_role("button", name=f"Move {first}").focus()
    page.keyboard.press("Enter")
    expect(board.locator(f"[data-drop-state=incoming] #card-{first}")).to_be_visible()
    expect(card.locator("details[open]")).to_have_count(0)
    card.get_by_label(f"Actions for {first}").click()
    card.get_by_label(f"Priority of {first}", exact=True).select_option("P3")
    card.get_by_role("button", name=f"Set the priority of {first}").click()
    expect(board.locator(f"[data-drop-priority=P3] #card-{first}")).to_be_visible()
    expect(card.locator("details[open]")).to_have_count(0)

    # A refusal says what the command says.
    card.drag_to(board.locator("[data-drop-state=claimed]"))
    expect(page.get_by_role("alert")).to_contain_text("only a run claims a task")
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_have_count(0)

    board.get_by_label("Search").fill("wall")
    expect(card).to_have_count(0)
    expect(board.get_by_role("link", name="Paint the <wall>")).to_have_count(2)
    expect(board.get_by_role("heading", name="incoming 2 of 3")).to_be_visible()
    board.get_by_label("Search").fill("")
    page.on("dialog", lambda dialog: dialog.accept())
    card.get_by_label(f"Actions for {first}").click()
    card.get_by_role("button", name=f"Cancel {first}").click()
    expect(board.locator(f"[data-drop-state=failed] #card-{first}")).to_be_visible()
    assert world.task(first)["reason"] == "cancelled"
    board.get_by_role("button", name="Retry all").click()
    expect(board.locator(f"[data-drop-state=incoming] #card-{first}")).to_be_visible()


def test_agents_are_paused_run_stopped_and_set(world: World, serve: Open) -> None:
    world.create(agents=[world.agent("impl-1", interval_seconds=ONCE)])
    world.script("default", {"steps": [["wait", "go"]]})
    task = world.add("Work")
    page = serve()
    agents = region(page, "Agents")
    row = agents.locator("#agent-impl-1")
    world.ok("agent", "pause", "impl-1")
    fix = "Run the command orchestrator agent resume impl-1"
    region(page, "Problems").get_by_role("button", name=fix).click()
    expect(row.get_by_role("button", name="Pause impl-1")).to_be_visible()
    row.get_by_role("button", name="Run now impl-1").click()
    expect(row).to_contain_text("works on a task")
    # The command ends although its run goes on.
    expect(page.get_by_role("status").filter(has_text="impl-1 is started.")).to_be_visible()
    expect(row.get_by_role("link", name=task)).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Stop impl-1").click()
    expect(row.get_by_role("button", name="Resume impl-1")).to_be_visible()
    wait_until(lambda: world.where(task) == ["incoming"], "the task is in incoming")
    row.get_by_role("button", name="Resume impl-1").click()
    expect(row.get_by_role("button", name="Pause impl-1")).to_be_visible()
    # A button that has the focus says what it does now.
    agents.get_by_role("button", name="Pause the project").focus()
    world.ok("agent", "pause", "--all")
    resume = agents.get_by_role("button", name="Resume the project")
    expect(resume).to_have_text("Resume the project")
    resume.click()
    expect(agents.get_by_role("button", name="Pause the project")).to_be_visible()
    agents.get_by_text("Add an agent").click()
    agents.get_by_label("Name").fill("test-2")
    agents.get_by_label("Its role").fill("tester")
    agents.get_by_role("button", name="Add the agent").click()
    expect(agents.locator("#agent-test-2")).to_contain_text("tester")
    agents.get_by_text("Limits of the queue").click()
    agents.get_by_label("max_claimed").fill("2")
    agents.get_by_role("button", name="Set the limits").click()
    expect(agents).to_contain_text("of 2 claimed")
    row.get_by_role("link", name="Settings of impl-1").click()
    page.get_by_label("interval_seconds").fill("120")
    page.get_by_label("model").first.fill("opus")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status").filter(has_text="The settings are changed.")).to_be_visible()
    settings = world.json("agent", "show", "impl-1")["settings"]
    assert (settings["interval_seconds"], settings["model"]) == (120, "opus")


def test_a_question_is_answered_and_a_pull_request_reviewed_and_merged(
    world: World, serve: Open
) -> None:
    reviewer = world.agent("review-1", "reviewer", paused=True)
    world.create(agents=[world.agent("impl-1"), reviewer])
    question = {"outcome": "needs_human", "summary": "s", "question": "Which colour? <i>x</i>"}
    asks, works = world.add("Ask"), world.add("Deliver")
    world.script(asks, {"report": question}, {"steps": [["work"]]})
    world.script(
        works, {"steps": [["write", "code.py", "def f():\n    return '<b>'\n"], ["commit"]]}
    )
    world.tick_until(lambda: world.where(asks) == ["blocked"] and len(world.prs()) == 1)
    page = serve()
    inbox = region(page, "Inbox")
    item = inbox.locator(f"#item-{asks}")
    expect(item).to_contain_text("Which colour? <i>x</i>")
    expect(page).to_have_title(re.compile(r"^\(\d\) project"))
    answer = item.get_by_label(f"Your answer to {asks}")
    answer.fill("Blue, half wri")
    world.add("Something else happens meanwhile")
    expect(region(page, "Board")).to_contain_text("Something else happens")
    assert answer.input_value() == "Blue, half wri"  # a refresh keeps what is being typed
    answer.press_sequentially("tten")
    item.get_by_role("button", name="Answer", exact=True).click()
    expect(item).to_have_count(0)
    assert "Blue, half written" in world.text(asks)

    region(page, "Pull requests").get_by_role("link", name="1", exact=True).click()
    changes = region(page, "Changes")
    expect(changes.locator(".hl .k").first).to_have_text("def")
    expect(changes).to_contain_text("return '<b>'")
    page.get_by_label("Request changes").fill("Not <b>.")
    page.get_by_role("button", name="Request changes").click()
    expect(region(page, "Pull request 1")).to_contain_text("changes requested")
    assert world.where(works) == ["incoming"]
    page.get_by_role("button", name="Approve 1").click()
    expect(region(page, "Pull request 1").locator(".state-approved").first).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Merge 1").click()
    expect(region(page, "Pull request 1").locator(".state-merged")).to_be_visible()
    assert world.prs()[0]["state"] == "merged"


def test_words_stay_when_their_item_is_settled_by_somebody_else_and_a_lost_server_is_told(
    world: World, serve: Open
) -> None:
    world.create()
    question = {"outcome": "needs_human", "summary": "s", "question": "Which <i>x</i>?"}
    world.script("default", {"report": question})
    asks, also = world.add("Ask"), world.add("Ask, too")
    world.tick_until(lambda: world.where(asks) == world.where(also) == ["blocked"])
    world.ok("agent", "pause", "--all")
    gone = world.add("Go away")
    stuck = world.add("Wait", "implement", "--depends-on", gone)
    page = serve()
    inbox, tab = region(page, "Inbox"), page.context.new_page()
    tab.goto(page.url)
    loaded(tab)
    item = inbox.locator(f"#item-{asks}")
    expect(item).to_contain_text("Which <i>x</i>?")
    # The headline says each fact once, with room between.
    words = item.locator("p").first.inner_text().split()
    assert (words[:2], words.count(asks)) == (["question", asks], 1)
    # The tab and the navigation say how much waits.
    expect(page).to_have_title(re.compile(r"^\(2\) project"))
    number = page.get_by_role("navigation").get_by_role("link", name="Inbox")
    expect(number).to_have_text("Inbox2")
    answer = item.get_by_label(f"Your answer to {asks}")
    answer.fill("Blue, half wri")
    page.keyboard.press("Tab")
    world.ok("task", "cancel", gone)
    expect(inbox.locator(f"#item-{stuck}")).to_be_visible()
    # One of the tabs listens, and tells the other.
    expect(region(tab, "Inbox").locator(f"#item-{stuck}")).to_be_visible()
    locks = page.evaluate("navigator.locks.query().then((x) => [x.held.length, x.pending.length])")
    assert locks == [1, 1]
    tab.close()
    expect(answer).to_have_value("Blue, half wri")
    world.ok("inbox", "answer", asks, "Red.")
    expect(item).to_contain_text("settled or removed meanwhile")
    expect(answer).to_have_value("Blue, half wri")
    answer.fill("")
    page.keyboard.press("Tab")  # the item may be gone by now
    world.add("Something else changes")
    expect(item).to_have_count(0)
    other = inbox.locator(f"#item-{also}")
    other.get_by_label(f"Your answer to {also}").fill("Green.")
    other.get_by_role("button", name="Answer", exact=True).click()
    expect(other).to_have_count(0)
    assert "Green." in world.text(also)

    expect(item.page.locator("#link")).to_be_hidden()
    [server] = [each for each in world.processes() if "dashboard" in each.cmdline()]
    server.terminate()
    wait_until(lambda: server.status() == psutil.STATUS_ZOMBIE, "the end of the server")
    expect(item.page.locator("#link")).to_be_visible()


def test_more_tabs_than_a_browser_has_connections_stay_in_step(world: World, serve: Open) -> None:
    world.create(agents=[world.agent("impl-1", paused=True)])
    first = serve()
    tabs = [first.context.new_page() for _ in range(8)]
    for tab in tabs:
        tab.goto(first.url)
        loaded(tab)
    world.add("Told by the first tab")
    for tab in tabs:
        expect(region(tab, "Board")).to_contain_text("Told by the first tab")
    first.close()
    world.add("Told by another tab")
    for tab in tabs:
        expect(region(tab, "Board")).to_contain_text("Told by another tab")


def test_a_transcript_of_any_size_is_followed_and_hostile_texts_stay_texts(
    world: World, serve: Open
) -> None:
    world.create()
    said = {"type": "assistant", "message": {"content": [{"type": "text", "text": HOSTILE}]}}
    many = ["print", 2_000_000]
    steps = [["say", said], many, ["wait", "go"], ["say", said], ["wait", "end"], ["work"]]
    world.script("default", {"steps": steps})
    task = world.add("Talk", "implement", "--body", HOSTILE.replace("\x1b", ""))
    world.tick()
    run = wait_until(lambda: world.status()["running"], "a run")[0]["run"]
    stream = Path(world.home_folder, "agents", "impl-1", "runs", run, "stream.jsonl")
    wait_until(lambda: stream.exists() and stream.stat().st_size > 2_000_000, "the stream")
    page = serve(f"/runs/{run}")
    lines = page.get_by_label("Transcript", exact=True).locator("li")
    expect(lines.first).to_be_visible()
    assert lines.count() < 200  # only the end
    expect(page.get_by_role("button", name="Earlier")).to_be_visible()
    world.open("go")
    shown = page.get_by_label("Transcript", exact=True).get_by_text("<script>alert(2)</script>")
    expect(shown.first).to_be_visible()
    text = shown.first.inner_text()
    assert HOSTILE.startswith(text[:30])
    assert "\\x1b[31mred" in text
    assert "\\u202eright\\u2066" in text
    before = lines.count()
    page.get_by_role("button", name="Earlier").click()
    expect(lines).not_to_have_count(before)
    world.open("end")
    expect(region(page, f"Run {run}")).to_contain_text("done")
    page.goto(page.url.partition("/runs/")[0] + f"/tasks/{task}")
    expect(region(page, f"Task {task}")).to_contain_text("<script>alert(2)</script>")
    assert page.locator("main script, main b").count() == 0
    expect(page.get_by_role("heading", name=f"Attempt: {run}")).to_be_visible()


@pytest.mark.parametrize("views", ["one or more", "all"])
def test_every_page_is_clean_for_screen_readers_and_fits_its_window(
    world: World, serve: Open, views: str
) -> None:
    world.create()
    question = {"outcome": "needs_human", "summary": "s", "question": "Which colour?"}
    asks, works = world.add("Ask"), world.add("Deliver")
    world.script(asks, {"report": question})
    world.script(works, {"steps": [["write", "code.py", "x = 1\n" * 30], ["commit"]]})
    world.tick_until(lambda: world.where(asks) == ["blocked"] and len(world.prs()) == 1)
    world.add("Wait", "implement", "--depends-on", asks)
    run = world.json("runs")[0]["run"]
    desk, phone = (1280, 900, "light"), (360, 740, "dark")
    pages = {
        f"/tasks/{works}": [desk],
        f"/runs/{run}": [phone],
        "/prs/1": [desk],
        "/agents/impl-1": [phone],
        "": [phone],
    }
    page = serve(f"/tasks/{works}")
    home = page.url.removesuffix(f"/tasks/{works}")
    for path, wanted in pages.items():
        if page.url != home + path:
            page.goto(home + path)
        loaded(page)
        page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        page.evaluate(AXE)
        for width, height, colours in [desk, phone] if views == "all" else wanted:
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
            found = page.evaluate(RUN_AXE)["violations"]
            assert [(each["id"], [n["html"] for n in each["nodes"]]) for each in found] == [], path
            assert page.evaluate(OUTSIDE) == [], path
    for name in ("Board", "Agents", "Pull requests", "Inbox", "History", "Costs", "Problems"):
        expect(region(page, name)).to_have_count(1)
    # Each button of an agent is in sight, also on a phone.
    page.reload()
    row = loaded(page).locator("#agent-impl-1")
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 740})
        for button in row.get_by_role("button").all():
            box = button.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= width


def test_a_task_is_edited_again_and_again_and_only_what_was_changed(
    world: World, serve: Open
) -> None:
    world.create(agents=[world.agent("impl-1", paused=True)])
    task = world.add("Sort the list")
    page = serve(f"/tasks/{task}")
    contents = region(page, f"Task {task}")
    for number, text in enumerate(("First\n\n- [ ] a <b>", "Second")):
        contents.get_by_text("Edit", exact=True).click()
        contents.get_by_label("Text").fill(text)
        contents.get_by_label("Title").fill(f"Title {number}")
        world.run("task", "set", task, f"priority=P{number}")
        expect(contents.get_by_label("Priority")).to_have_value(f"P{number}")
        assert contents.get_by_label("Text").input_value() == text  # the update kept it
        contents.get_by_role("button", name="Save").click()
        expect(contents.get_by_role("heading", name=f"Title {number}")).to_be_visible()
        expect(contents.locator("details[open]")).to_have_count(0)
        found = world.task(task)
        assert (found["title"], found["body"].strip()) == (f"Title {number}", text)
        assert found["priority"] == f"P{number}"
        expect(contents.locator("pre").first).to_have_text(text)


def test_a_page_that_only_reads_has_no_control_that_changes(world: World, serve: Open) -> None:
    world.create()
    task = world.add("Look")
    page = serve("/", "--read-only")
    home = page.url.rstrip("/")
    for path in ("", f"/tasks/{task}", "/agents/impl-1"):
        page.goto(home + path)
        loaded(page)
        assert page.locator("form[data-post], [draggable=true]").count() == 0, path


def test_ten_thousand_finished_tasks_are_pages(world: World, serve: Open) -> None:
    world.create()
    done = world.queue / "done"
    done.mkdir(exist_ok=True)
    text = "# [T-{n:05}] Number {n:05}\n\nROLE: implement\nCREATED: 2024-01-15T10:30:00Z\n\nText.\n"
    for n in range(10_000):
        path = done / f"T-{n:05}.md"
        path.write_text(text.format(n=n))
        os.utime(path, (1_700_000_000 + n,) * 2)
    page = serve()
    column = region(page, "Board").locator("[data-drop-state=done]")
    cards = column.locator("[data-task]")
    expect(cards.first).to_contain_text("Number 09999")
    expect(column.get_by_role("heading", name=re.compile("10,000"))).to_be_visible()
    number = cards.count()
    assert number <= 20
    column.get_by_role("button", name="Older").click()
    expect(cards.first).to_contain_text(f"Number {9999 - number:05}")
    region(page, "Board").get_by_label("Search").fill("number 00042")
    expect(cards).to_have_count(1)
    expect(cards.first).to_contain_text("Number 00042")


def test_the_history_is_zoomed_the_costs_are_split_and_both_are_sent_as_a_file(
    world: World, serve: Open, browser: Browser, tmp_path: Path
) -> None:
    world.create()
    task = world.add("Deliver")
    world.script(task, {"steps": [["write", "code.py", "x = 1"], ["commit"]]})
    world.tick_until(lambda: len(world.prs()) == 1)
    page = loaded(serve())
    history, costs = region(page, "History"), region(page, "Costs")
    expect(history.get_by_role("img", name="What each agent ran when")).to_be_visible()
    # A project of some seconds needs no week.
    expect(history.get_by_role("heading", name="an hour")).to_be_visible()
    page.locator("#history-tools select").select_option("week")
    expect(history.get_by_role("heading", name="a week")).to_be_visible()
    history.get_by_text("Table of runs").click()
    expect(history.get_by_role("cell", name="impl-1").first).to_be_visible()
    page.locator("#costs-tools select").first.select_option("agent")
    expect(costs.get_by_role("rowheader", name="impl-1")).to_be_visible()
    # A run that ends later is seen without a reload, and the chosen view stays.
    other = world.add("Deliver more")
    world.script(other, {"steps": [["write", "more.py", "x = 1"], ["commit"]]})
    world.tick_until(lambda: len(world.prs()) == 2)
    expect(history.get_by_role("cell", name=other).first).to_be_visible()
    expect(history.get_by_role("heading", name="a week")).to_be_visible()
    # As a file it makes no request, and is as clean.
    file = tmp_path / "sent.html"
    assert world.run("dashboard", "--export", str(file)).code == 0
    asked: list[str] = []
    sent = browser.new_page(viewport={"width": 360, "height": 740})
    sent.on("request", lambda request: asked.append(request.url))
    sent.goto(file.as_uri())
    expect(region(sent, "Board")).to_contain_text("Deliver more")
    expect(region(sent, "History").get_by_role("img").first).to_be_visible()
    sent.evaluate(AXE)
    assert [each["id"] for each in sent.evaluate(RUN_AXE)["violations"]] == []
    assert sent.evaluate(OUTSIDE) == []
    assert asked == [file.as_uri()]
    sent.close()
