"""The page of a project whose pull requests are on GitHub: opinions, changes and merges arrive."""

from __future__ import annotations

import json

import harness
import pytest
from harness import World
from playwright.sync_api import expect
from test_page_browser import Open, browser, loaded, region, serve

__all__ = ["browser", "serve"]
world = harness.world
pytestmark = pytest.mark.slow


def test_a_pull_request_on_github_is_read_sent_back_approved_and_merged(
    world: World, serve: Open
) -> None:
    world.create(forge="github")
    state = world.on_github()
    task = world.add("Deliver")
    world.script(
        task,
        {"steps": [["write", "code.py", "x = 1\n"], ["commit"]]},
        {"steps": [["write", "code.py", "x = 2\n"], ["commit"]]},
    )
    world.tick_until(lambda: len(world.prs()) == 1, "a pull request")
    [pr] = world.prs()
    page = serve(f"/prs/{pr['id']}")
    loaded(page)
    shown = region(page, f"Pull request {pr['id']}")
    changes = region(page, "Changes")
    expect(changes).to_contain_text("x = 1")
    shown.get_by_label("Request changes").first.fill("Make it two, please.")
    shown.get_by_role("button", name="Request changes").click()
    expect(page.locator("#said")).to_contain_text("Changes are requested.")
    [said] = json.loads(state.read_text())["prs"][0]["comments"]
    assert "Make it two, please." in said["body"]
    world.tick_until(lambda: len(world.starts(task)) == 2, "rework")
    world.tick_until(lambda: world.task(task)["state"] == "done", "the second delivery")
    expect(changes).to_contain_text("x = 2")
    shown.get_by_role("button", name="Approve 1").click()
    page.once("dialog", lambda dialog: dialog.accept())
    shown.get_by_role("button", name="Merge 1").click()
    world.tick_until(lambda: world.prs()[0]["state"] == "merged", "the merge")
    assert json.loads(state.read_text())["prs"][0]["state"] == "MERGED"
    expect(shown).to_contain_text("merged")
