"""The regions of what is going on: problems, the inbox, the board, agents and pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound
from orchestrator.model.work import OPEN_STATES, PRIORITIES, STATES
from orchestrator.page.commands import Reads

Row = dict[str, Any]
Query = Mapping[str, str]
#: Why an agent does not start, in other words than those of the reason code.
WORDS = {
    "config_error": "agents.yaml is broken",
    "system_paused": "the project is paused",
    "other_host": "runs on another machine",
    "running": "works on a task",
    "not_due": "waits for its next turn",
    "usage_limit": "the account's usage limit is reached",
    "pace": "held back by `pace`",
    "system_fault": "a system fault keeps it from starting",
    "budget_exhausted": "the budget is used up",
    "max_incoming": "the queue is full",
    "max_claimed": "enough tasks are claimed",
    "open_prs_unknown": "the forge does not answer",
    "max_open_prs": "enough pull requests are open",
    "blocked_by_dependency": "its tasks wait for other tasks",
    "backoff": "its tasks wait after a failure",
    "overlap": "its tasks change the same lines as others",
    "not_before": "its tasks start at a later time",
    "no_matching_task": "there is no task for its role",
    "max_starts": "starts at one of the next ticks",
}
#: What keeps all agents from a start until a person, or the next day, ends it; and how.
HALTS = {
    "system_paused": ("The project is paused: no agent starts.", "orchestrator agent resume --all"),
    "paused": ("Every agent is paused.", ""),
    "budget_exhausted": ("Today's budget is used up: no agent starts before midnight.", ""),
    "pace": ("The setting pace in agents.yaml holds new runs.", ""),
}
#: More agents than these are listed by their states, as `status` lists them.
FEW_AGENTS = 8
ORDER = ("running", "paused", "ready", "waiting")
#: What a hint quotes: a word of a file, or a whole command.
_QUOTED = re.compile("(`[^`]+`)")
#: A command in a hint: from the program's name to the end of the words that a shell would take.
_COMMAND = re.compile(r"orchestrator(?: (?:'[^']*'|[\w@%+=:,./<>*-]*[\w@%+=/>*-]))+")

#: Finished pull requests that are shown; `pr list` itself has only the newest merged ones.
MOST_FINISHED = 50


def pieces(hint: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a hint in their order: `text`, `code` or `command`, and the words. Pure.

    A command is to be copied; a code is what the hint quotes in backticks.
    """
    for piece in _QUOTED.split(hint):
        is_quoted = len(piece) > 2 and piece[0] == piece[-1] == "`"
        said, place = piece.strip("`") if is_quoted else piece, 0
        for found in _COMMAND.finditer(said):
            verb = found[0].split()[1]
            if not (verb[0].isalpha() or verb[0] == "-") or (is_quoted and found[0] != said):
                continue
            if text := said[place : found.start()]:
                yield "text", text
            yield "command", found[0]
            place = found.end()
        if left := said[place:]:
            yield "code" if is_quoted else "text", left


#: Commands that the page runs at a click, by their words: the noun in the address, and the verb.
_CLICKS = {
    ("agent", "resume"): ("agents", "resume"),
    ("task", "retry"): ("tasks", "retry"),
    ("pr", "approve"): ("prs", "approve"),
    ("pr", "merge"): ("prs", "merge"),
    ("inbox", "approve"): ("inbox", "approve"),
}


def click(command: str) -> Row | None:
    """Return the request that is a command of a hint; None for commands that are typed. Pure.

    The command must name one thing, or all of them; `ID` and the like are not names.
    """
    _, *words = command.split()
    found = _CLICKS.get((words[0], words[1])) if len(words) == 3 else None
    if found is None:
        return None
    noun, verb = found
    if words[2] == "--all":
        return {"path": f"/api/{noun}/{verb}", "body": {"all": True}}
    if words[2].startswith("-") or words[2] in ("ID", "NAME", "AGENT"):
        return None
    return {"path": f"/api/{noun}/{quote(words[2], safe='')}/{verb}", "body": {}}


def problems(commands: Reads, query: Query) -> Row:
    """Return what is wrong, what cannot start, and the limits."""
    status = commands.read("status")
    stuck: dict[tuple[str, str | None], list[str]] = {}
    for row in status["cannot_start"]:
        stuck.setdefault((row["message"], row["hint"]), []).append(row["task"])
    reasons = {row["reason"] for row in status["agents"]}
    halt = next(iter(reasons)) if len(reasons) == 1 else None
    return {"status": status, "stuck": stuck, "halt": HALTS.get(halt) if halt else None}


def inbox(commands: Reads, query: Query) -> Row:
    """Return what waits for a person."""
    return {"items": commands.read("inbox")}


def agents(commands: Reads, query: Query) -> Row:
    """Return every agent with its reason in words, and the queue's limits."""
    status = commands.read("status")
    rows = status["agents"]
    if len(rows) > FEW_AGENTS:
        # Stable: agents of one state stay in the order of agents.yaml.
        rows = sorted(rows, key=lambda row: ORDER.index(row["state"]))
    running = {row["agent"]: row for row in status["running"]}
    return {
        "agents": [{**row, "words": words(row), "now": running.get(row["name"])} for row in rows],
        "limits": status["limits"],
        "is_paused": any(row["reason"] == "system_paused" for row in rows),
        "queue": status["queue"],
        "open_prs": status["open_prs"],
    }


def words(row: Row) -> str:
    """Return why an agent does not start, in words."""
    reason: str | None = row["reason"]
    if reason is None:
        return "starts at the next tick"
    return WORDS.get(reason, reason.replace("_", " "))


def pull_requests(commands: Reads, query: Query) -> Row:
    """Return the pull requests, the open ones first."""
    prs = commands.read("pr list")
    return {
        "open_ones": [pr for pr in prs if pr["state"] == "open"],
        "others": [pr for pr in prs if pr["state"] != "open"][::-1],
        "most": MOST_FINISHED,
    }


#: Cards of a column: of unfinished tasks, and of one page of finished tasks.
OPEN_CARDS, FINISHED_CARDS = 200, 20
#: The states that a person may move a task to; only a run claims a task.
TARGETS = tuple(state for state in STATES if state != "claimed")


def board(commands: Reads, query: Query) -> Row:
    """Return the board's columns. The query has `q`, `role`, `done_after` and `failed_after`."""
    status = commands.read("status")
    shared: Row = {"search": query.get("q") or None, "role": query.get("role") or None}
    columns = [_column(commands, state, shared, query) for state in STATES]
    why = {row["task"]: row for row in status["cannot_start"]}
    questions = {row["task"]: row for row in status["blocked"]}
    counts = status["queue"]
    return {
        "columns": columns,
        "counts": counts,
        "is_searched": any(shared.values()),
        "why": why,
        "questions": questions,
        "states": {task["id"]: task["state"] for column in columns for task in column["tasks"]},
        "targets": TARGETS,
        "priorities": PRIORITIES,
    }


def _column(commands: Reads, state: str, shared: Row, query: Query) -> Row:
    finished = state not in OPEN_STATES
    most = FINISHED_CARDS if finished else OPEN_CARDS
    after = (query.get(f"{state}_after") or None) if finished else None
    # One more than is shown tells whether there are more.
    asked = {**shared, "state": state, "limit": most + 1, "after": after}
    try:
        tasks = commands.read("task list", asked)
    except NotFound:  # the task after which this page begins was removed meanwhile
        if after is None:
            raise
        after = None
        tasks = commands.read("task list", {**asked, "after": None})
    shown = tasks[:most]
    lanes = [{"priority": None, "tasks": shown}]
    if state == "incoming":
        known = [
            {"priority": p, "tasks": [t for t in shown if t["priority"] == p]} for p in PRIORITIES
        ]
        others = [t for t in shown if t["priority"] not in PRIORITIES]
        lanes = [*known, *([{"priority": None, "tasks": others}] if others else [])]
    return {
        "state": state,
        "tasks": shown,
        "lanes": lanes,
        "after": after,
        "next": shown[-1]["id"] if len(tasks) > most else None,
        "is_finished": finished,
    }
