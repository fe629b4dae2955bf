"""Reference 7: what costs an attempt, what does not, and what a retry is given."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import Any

import both_stores
import harness
import pytest
from harness import World, is_alive, shadow, wait_until

world = both_stores.world

FAILED = {"outcome": "failed", "summary": "Could not find the FLUXCAPACITOR."}
DAY = 86_400
API_ERROR = {"is_error": True, "terminal_reason": "api_error", "result": "API Error"}


def skip_reasons(world: World) -> dict[str, str]:
    return {a["agent"]: a["reason"] for a in world.tick()["actions"] if a["action"] == "skip"}


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"steps": [["work"]], "result": None}, "no_result"),
        ({"steps": [["work"]], "result": None, "exit": 1}, "no_result"),
        ({"steps": [["raw", '{"type": "resu']], "result": None}, "no_result"),
        (
            {
                "steps": [["work"]],
                "report": None,
                "result": {"subtype": "error_max_turns", "is_error": True, "errors": ["turns"]},
            },
            "client_error",
        ),
        (
            {"report": None, "result": {"subtype": "error_during_execution", "is_error": True}},
            "client_error",
        ),
        ({"steps": [], "report": {"outcome": "done", "summary": "Liar."}}, "no_commits"),
        ({"steps": [], "report": None}, ""),
        ({"steps": [["work"]], "report": FAILED}, ""),
    ],
    ids=[
        "no result line",
        "no result line and exit 1",
        "half a result line",
        "an error subtype though there are commits",
        "an error without a report",
        "done without a commit",
        "no report and no commit",
        "the agent says failed",
    ],
)
def test_failure_05_a_failure_of_the_work_costs_an_attempt_and_ends_in_failed_with_its_reason(
    world: World, behaviour: dict[str, Any], reason: str
) -> None:
    world.create(retry={"max_attempts": 2, "backoff_seconds": 0})
    world.script("default", behaviour)
    task = world.add("Will not work")
    world.tick_until_in("failed", task)
    world.quiet()
    world.ok("tick")
    shown = world.task(task)
    assert shown["reason"].startswith(reason)
    assert shown["reason"].strip()
    assert shown["attempts"] == 2
    assert len(world.starts(task)) == 2
    assert [item["task"] for item in world.json("inbox")] == [task]
    assert world.prs() == []


@pytest.mark.parametrize(
    "behaviour",
    [
        {"steps": [["work"]], "exit": 1},
        {"steps": [["work"]], "report": None},
        {"steps": [["raw", "no json\n\x00\udcff\n[1]\n"], ["work"], ["stderr", "noise"]]},
        {"steps": [["print", 20_000_000], ["work"]]},
        {"steps": [["work"]], "after": [["kill", 9]]},
    ],
    ids=[
        "exit code 1 after a good result",
        "no report but commits",
        "noise in the stream",
        "twenty megabytes of stream",
        "killed after its result",
    ],
)
def test_failure_03_the_result_line_decides_and_not_the_exit_code(
    world: World, behaviour: dict[str, Any]
) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("default", behaviour)
    task = world.add("Works")
    world.tick_until(lambda: world.where(task) in (["done"], ["failed"]))
    assert world.where(task) == ["done"], world.text(task)
    assert len(world.commits_about(task)) == 1
    assert len(world.starts(task)) == 1


def test_no_change_is_done_without_a_pull_request(world: World) -> None:
    world.create()
    report = {"outcome": "no_change", "summary": "Already so."}
    world.script("default", {"steps": [], "report": report})
    task = world.add("Already there")
    world.tick_until_in("done", task)
    assert world.prs() == []
    assert world.task(task)["pr"] is None


def test_the_error_of_an_attempt_leads_the_next_and_its_commits_are_kept(world: World) -> None:
    world.create()
    world.script(
        "default",
        {"steps": [["write", "half.txt"], ["commit", "half"]], "report": FAILED},
        {"steps": [["write", "rest.txt"], ["commit", "rest"]]},
    )
    body = "\n## Context\nBODYTEXT\n"
    path = world.folder / "body.md"
    path.write_text(body)
    task = world.add("Two halves", "implement", "--body-file", str(path))
    world.tick_until_in("done", task)
    first, second = world.starts(task)
    given = world.seen(task)["instructions"]
    assert "FLUXCAPACITOR" in given
    assert given.index("FLUXCAPACITOR") < given.index("BODYTEXT")
    assert "FLUXCAPACITOR" not in world.seen(task, 0)["instructions"]
    assert second["branch"] == first["branch"]
    [pr] = world.prs()
    log = world.git("log", "--format=%s", f"main..{pr['branch']}").splitlines()
    assert log == ["rest", "half"]
    assert "FLUXCAPACITOR" in str(world.task(task)["history"])


def test_uncommitted_changes_of_an_attempt_are_kept_under_a_rescue_ref_and_told(
    world: World,
) -> None:
    world.create()
    world.script(
        "default",
        {
            "steps": [
                ["write", "precious.txt", "not committed"],
                ["append", "app.py", "# changed\n"],
                ["write", "staged.txt", "in the index"],
                ["git", "add", "staged.txt"],
            ],
            "report": FAILED,
        },
        {"steps": [["work"]]},
    )
    world.git("config", "commit.gpgsign", "false")
    task = world.add("Messy")
    world.tick_until_in("done", task)
    first = world.starts(task)[0]
    ref = f"refs/orchestrator/rescue/{first['run']}"
    assert world.git("show", f"{ref}:precious.txt") == "not committed"
    assert world.git("show", f"{ref}:staged.txt") == "in the index"
    assert "# changed" in world.git("show", f"{ref}:app.py")
    assert ref in world.seen(task)["instructions"] + world.seen(task)["prompt"]
    assert world.starts(task)[1]["status"] == "", "the retry started in a dirty worktree"


def test_commits_made_on_a_detached_head_are_not_lost(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    steps = [["git", "checkout", "-q", "--detach"], ["write", "lost.txt"], ["commit", "detached"]]
    world.script("default", {"steps": steps})
    task = world.add("Detached")
    world.tick_until(lambda: world.where(task) in (["done"], ["failed"]))
    other = world.add("The next one in the same worktree")
    world.script("default", {})
    world.tick_until_in("done", other)
    [made] = [c for c in world.ledger("commit") if c["message"] == "detached"]
    assert world.git("for-each-ref", "--contains", made["sha"]), "no ref holds the commit"


def test_backoff_doubles_up_to_its_maximum(world: World) -> None:
    world.create(retry={"max_attempts": 4, "backoff_seconds": 1, "max_backoff_seconds": 2})
    world.script("default", {"steps": [], "report": FAILED})
    task = world.add("Again and again")
    world.tick_until_in("failed", task)
    waits = [event for event in world.task(task)["history"] if event["event"] == "requeued"]
    assert [event["delay"] for event in waits] == [1, 2, 2]
    for event in waits:
        wait = datetime.fromisoformat(event["not_before"]) - datetime.fromisoformat(event["at"])
        assert 0 <= wait.total_seconds() - event["delay"] < 1, "`at` is in whole seconds"
    ends, starts = world.ledger("end"), world.starts(task)
    gaps = [start["at"] - end["at"] for end, start in zip(ends, starts[1:], strict=False)]
    assert len(gaps) == 3
    for gap, least in zip(gaps, (1, 2, 2), strict=True):
        assert gap >= least - 0.05, gaps


def test_a_task_in_backoff_is_told_as_retrying_and_holds_only_itself(world: World) -> None:
    world.create(retry={"max_attempts": 3, "backoff_seconds": 500, "max_backoff_seconds": 90})
    world.script("default", {"steps": [], "report": FAILED})
    task = world.add("Waits")
    world.tick_until(lambda: len(world.ledger("end")) == 1 and world.where(task) == ["incoming"])
    world.tick_until(lambda: skip_reasons(world).get("impl-1") == "backoff")
    [retrying] = world.status()["retrying"]
    assert set(retrying) == {"task", "attempt", "not_before", "error"}
    assert retrying["task"] == task
    assert "FLUXCAPACITOR" in retrying["error"]
    wait = datetime.fromisoformat(retrying["not_before"]) - datetime.now(UTC)
    assert 0 < wait.total_seconds() <= 90, "the maximum is 90 s"
    world.script("default", {})
    other = world.add("Not held")
    world.tick_until_in("done", other)
    assert world.where(task) == ["incoming"]


def test_task_retry_counts_from_zero_again_and_keeps_the_history(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("default", {"steps": [], "report": FAILED})
    task = world.add("Second chance")
    world.tick_until_in("failed", task)
    history = world.task(task)["history"]
    assert history
    world.script("default", {})
    world.ok("task", "retry", task)
    shown = world.task(task)
    assert (shown["state"], shown["attempts"]) == ("incoming", 0)
    assert "FLUXCAPACITOR" in str(shown["history"])
    world.tick_until_in("done", task)


@pytest.mark.parametrize(
    ("agent", "behaviour", "reason"),
    [
        ({"stall_seconds": 1}, {"steps": [["work_once"], ["hang"]]}, "stalled"),
        (
            {"stall_seconds": 1},
            {"steps": [["work_once"], ["ignore_sigterm"], ["spawn", True, True], ["hang"]]},
            "stalled",
        ),
        (
            {"max_runtime_seconds": 2, "stall_seconds": 0},
            {"steps": [["chatter", 60]]},
            "timed_out",
        ),
    ],
    ids=["silent", "silent and deaf with a grandchild in its own session", "too long"],
)
def test_a_run_past_its_limits_is_ended_with_all_it_started(
    world: World, agent: dict[str, Any], behaviour: dict[str, Any], reason: str
) -> None:
    retry = {"max_attempts": 1, "backoff_seconds": 0}
    world.create(retry=retry, agents=[World.agent("impl-1", **agent)])
    world.script("default", behaviour)
    task = world.add("Hangs")
    world.tick_until_in("failed", task)
    assert world.task(task)["reason"].startswith(reason)
    [start] = world.starts(task)
    for pid in [start["pid"], *(s["child"] for s in world.ledger("spawn"))]:
        assert not is_alive(pid)


def test_a_client_that_lingers_after_its_result_is_done_and_not_stalled(world: World) -> None:
    agents = [World.agent("impl-1", stall_seconds=1, max_runtime_seconds=60)]
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0}, agents=agents)
    after = [["spawn", False, True], ["sleep", 4], ["kill", 9]]
    world.script("default", {"steps": [["work"]], "after": after})
    task = world.add("Lingers")
    world.tick_until(lambda: world.where(task) in (["done"], ["failed"]))
    assert world.where(task) == ["done"], world.text(task)
    [spawned] = world.ledger("spawn")
    assert not is_alive(spawned["child"])


#: A second instead of a minute.
SHORT_LINGER = "from orchestrator.run import watch\nwatch.LINGER_SECONDS = 1\n"


def test_the_words_of_a_last_line_within_another_line_do_not_end_a_run(world: World) -> None:
    world.product = shadow(world.folder / "shadow", SHORT_LINGER, forked=True)
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    answer = {"type": "user", "tool_use_result": {"type": "result", "rows": 3}}
    world.script("default", {"steps": [["say", answer], ["chatter", 3], ["work"]]})
    task = world.add("Asks a database")
    world.tick_until(lambda: world.where(task) in (["done"], ["failed"]))
    assert world.where(task) == ["done"], world.text(task)


def test_a_client_that_lives_on_after_its_last_line_is_ended(world: World) -> None:
    world.product = shadow(world.folder / "shadow", SHORT_LINGER, forked=True)
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("default", {"steps": [["work"]], "after": [["hang"]]})
    task = world.add("Lives on")
    world.tick_until_in("done", task)
    [start] = world.starts(task)
    assert not is_alive(start["pid"])


def test_a_client_that_dies_by_a_signal_is_tried_again_and_ends_in_failed(world: World) -> None:
    """Interruption or failure of the work: the first is not charged, for ever is not either."""
    world.create(retry={"max_attempts": 2, "backoff_seconds": 0})
    world.script("default", {"steps": [["work_once"], ["kill", 15]]})
    task = world.add("Dies")
    world.tick_until_in("failed", task)
    assert 2 <= len(world.starts(task)) <= 3


# --- failures of the system --------------------------------------------------------------------


def test_a_missing_client_charges_nobody_and_the_queue_resumes(world: World) -> None:
    client = world.bin / "the-client"
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.configure(
        retry={"max_attempts": 1, "backoff_seconds": 0}, claude={"command": [str(client)]}
    )
    tasks = [world.add(f"Task {n}") for n in range(2)]
    for _ in range(4):
        world.ok("tick")
        time.sleep(0.3)  # a run that fails at once may be under way; any number of ticks is right
    world.quiet()
    world.ok("tick")
    world.quiet()
    for task in tasks:
        assert world.where(task) != ["failed"]
        assert world.task(task)["attempts"] == 0
    problems = [p for p in world.status()["problems"] if "the-client" in p["message"]]
    assert len(problems) == 1, world.status()["problems"]
    fake = [*harness.PYTHON, str(harness.FAKE_CLIENT)]
    words = " ".join(f"'{word}'" for word in fake)
    client.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    client.chmod(0o755)
    world.tick_until_in("done", *tasks)


@pytest.mark.parametrize(
    ("error", "status"),
    [("authentication_failed", 401), ("overloaded", 529), ("server_error", 500)],
)
def test_a_fault_of_the_service_charges_nobody_and_resumes_by_itself(
    world: World, error: str, status: int
) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    fault = {
        "steps": [["say", {"type": "assistant", "error": error, "message": {"content": []}}]],
        "report": None,
        "result": {**API_ERROR, "api_error_status": status},
        "exit": 1,
    }
    world.script("default", fault)
    task = world.add("Unlucky")
    world.tick_until(lambda: len(world.ledger("end")) >= 2)
    world.script("default", {})
    world.tick_until_in("done", task)
    assert world.prs()[0]["task"] == task


def test_while_the_system_is_at_fault_each_tick_tries_with_one_run_only(world: World) -> None:
    agents = [World.agent(f"impl-{n}") for n in range(3)]
    world.create(agents=agents)
    fault = {
        "report": None,
        "steps": [["sleep", 0.3]],
        "result": {**API_ERROR, "api_error_status": 529},
        "exit": 1,
    }
    world.script("default", fault)
    tasks = [world.add(f"Task {n}") for n in range(3)]
    world.tick_until(lambda: world.ledger("end"))
    seen = len(world.starts())
    while len(world.starts()) < seen + 4:
        report = world.tick()
        started = [a["agent"] for a in report["actions"] if a["action"] == "start"]
        assert len(started) <= 1
        time.sleep(0.1)
    known = {start["run"] for start in world.starts()[: max(seen, 3)]}
    for record in world.ledger("rivals"):
        if record["run"] not in known:
            assert record["rivals"] == []
    problems = [p for p in world.status()["problems"] if p["code"] == "system_fault"]
    assert len(problems) == 1
    world.script("default", {})
    world.tick_until_in("done", *tasks)


def test_failure_18_a_usage_limit_waits_for_its_reset_and_goes_on_in_the_same_conversation(
    world: World,
) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.product, move = harness.movable_clock(world.folder)
    info = {"status": "rejected", "resetsAt": int(time.time()) + DAY, "rateLimitType": "five_hour"}
    limit = {
        "steps": [["work"], ["say", {"type": "rate_limit_event", "rate_limit_info": info}]],
        "report": None,
        "result": {**API_ERROR, "api_error_status": 429},
        "exit": 1,
    }
    world.script("default", limit, {"steps": []})
    task = world.add("Limited")
    world.ok("tick")
    world.quiet()
    assert world.where(task) == ["incoming"]
    assert world.task(task)["attempts"] == 0
    for seconds in (0, DAY / 2):
        move(seconds)
        assert skip_reasons(world) == {"impl-1": "usage_limit"}
        limits = [p["message"] for p in world.status()["problems"] if p["code"] == "usage_limit"]
        again = datetime.fromtimestamp(info["resetsAt"], UTC).strftime("%Y-%m-%d %H:%M")
        assert limits == [f"the account's limit is reached; runs start again at {again}"]
    move(DAY)
    assert [p for p in world.status()["problems"] if p["code"] == "usage_limit"] == []
    world.tick_until_in("done", task)
    first, second = world.starts(task)
    assert second["resumed"]
    assert second["session"] == first["session"]


def test_a_usage_limit_that_never_seems_to_reset_is_tried_again_after_a_month(
    world: World,
) -> None:
    """As after a clock that was years behind when the limit was reached."""
    world.create()
    world.product, move = harness.movable_clock(world.folder)
    info = {"status": "rejected", "resetsAt": int(time.time()) + 3000 * DAY}
    said = ["say", {"type": "rate_limit_event", "rate_limit_info": info}]
    result = {**API_ERROR, "api_error_status": 429}
    world.script("default", {"steps": [said], "report": None, "result": result, "exit": 1}, {})
    task = world.add("Limited")
    world.ok("tick")
    world.quiet()
    assert skip_reasons(world) == {"impl-1": "usage_limit"}
    move(31 * DAY)
    assert skip_reasons(world) == {"impl-1": "usage_limit"}
    move(33 * DAY)
    world.tick_until_in("done", task)


def test_an_unreachable_remote_charges_nobody_and_delivery_resumes(world: World) -> None:
    world.create(retry={"max_attempts": 1, "backoff_seconds": 0})
    world.script("default", {"steps": [["work_once"], ["wait", "go"]]})
    task = world.add("No network")
    world.tick_until(lambda: world.running(task))
    away = world.folder / "away.git"
    world.remote.rename(away)
    world.open("go")
    wait_until(lambda: world.ledger("end"), "the client's end")
    for _ in range(3):
        world.quiet()
        world.ok("tick")
    world.quiet()
    assert world.where(task) in (["incoming"], ["claimed"])
    assert world.task(task)["attempts"] == 0
    assert len([p for p in world.status()["problems"] if p["code"] == "system_fault"]) == 1
    away.rename(world.remote)
    world.tick_until_in("done", task)
    [pr] = world.prs()
    assert pr["head"] == world.remote_sha(pr["branch"])
    assert len(world.commits_about(task)) == 1
    assert len(world.starts(task)) == 1, "the work was done, and paid for, once"
    assert [p for p in world.status()["problems"] if p["code"] == "system_fault"] == []


def test_a_check_whose_program_is_missing_on_the_base_too_charges_nobody(world: World) -> None:
    retry = {"max_attempts": 1, "backoff_seconds": 0}
    world.create(retry=retry, checks=["no-such-program-anywhere --strict"])
    world.script("default", {"steps": [["work_once"]]})
    task = world.add("Checked by nothing")
    world.tick_until(lambda: world.ledger("end"))
    for _ in range(2):
        world.quiet()
        world.ok("tick")
    world.quiet()
    assert world.where(task) in (["incoming"], ["claimed"])
    assert world.task(task)["attempts"] == 0
    program = world.bin / "no-such-program-anywhere"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    world.tick_until_in("done", task)


def test_a_missing_git_is_one_clear_sentence(world: World) -> None:
    world.create()
    empty = world.folder / "empty"
    empty.mkdir()
    for name in ("sh", "env"):
        (empty / name).symlink_to(str(shutil.which(name)))
    for words in (["status"], ["doctor"], ["task", "list"], ["tick"]):
        done = world.run(*words, PATH=str(empty))
        assert done.code in (0, 1)
