"""`explain`: why an agent does not run or a task is not claimed, every rule with its verdict."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import NamedTuple

from orchestrator.cli import context, output
from orchestrator.cli.command import argument, command
from orchestrator.client.claude.transcript import one_line
from orchestrator.errors import NotFound
from orchestrator.layout import Layout
from orchestrator.model import STATES, Agent, Config, Rule, Snapshot, Task
from orchestrator.plan import planner
from orchestrator.project import mark
from orchestrator.tasks.store import Malformed, Store
from orchestrator.tick.problems import find_problems, is_overdue, last_tick

#: What a person can do about a rule that is not ok. `agent` is whose rule it is, `first` the first
#: word of its detail, `role` what is missing.
_NEXT = {
    "config_error": "see what is wrong: orchestrator doctor",
    "system_paused": "let everything go on: orchestrator agent resume --all",
    "paused": "let it go on: orchestrator agent resume {agent}",
    "running": "see what it does: orchestrator logs {agent}",
    "not_due": "start it now: orchestrator run {agent}",
    "usage_limit": "nothing: it goes on by itself when the limit resets",
    "system_fault": "find the fault: orchestrator doctor (then it goes on by itself)",
    "budget_exhausted": "wait for tomorrow, or raise budgets.daily_usd in agents.yaml",
    "max_incoming": "let the queue drain, or: orchestrator limits set max_incoming=N",
    "max_claimed": "let claimed tasks end, or: orchestrator limits set max_claimed=N",
    "open_prs_unknown": "find out why the forge cannot be asked: orchestrator doctor",
    "max_open_prs": "merge or close some: orchestrator pr list",
    "blocked_by_dependency": "see why that is: orchestrator explain {first}",
    "backoff": "nothing: it is tried again by itself",
    "no_matching_task": "give it one: orchestrator task add --title '...' --role {role}",
    "no_matching_agent": "add one: orchestrator agent add NAME --role {role}",
    "queue_order": "nothing: its turn comes (PRIORITY: P0 is first)",
    "task_malformed": "mend or move that file",
}


class Explanation(NamedTuple):
    """Why a subject is as it is: one sentence, the next step, and every rule."""

    subject: str
    verdict: str
    next_step: str | None
    rules: tuple[Rule, ...]


@command("explain", argument("subject", metavar="AGENT|TASK"))
def explain(arguments: Namespace) -> None:
    """Explain why an agent does not start, or a task is not claimed: every rule with its verdict.

    examples:
      orchestrator explain impl-agent-1
      orchestrator explain TASK-a1b2c3d4
      orchestrator explain 'fix login bug.md'     a file that is not accepted as a task
    """
    layout = context.layout(arguments)
    loaded, seen = context.look(layout)
    now = context.now()
    found = explanation(layout, arguments.subject, loaded.config, seen.snapshot, now)
    if arguments.json:
        rules = [rule._asdict() for rule in found.rules]
        output.show_json({"subject": found.subject, "verdict": found.verdict, "rules": rules})
        return
    output.out(f"{found.subject}: {found.verdict}")
    if found.next_step:
        output.out(f"  {found.next_step}")
    for rule in found.rules:
        detail = one_line(rule.detail, 500)
        output.out(f"  {'ok' if rule.ok else 'NO'}  {rule.code:22} {detail}".rstrip())
    for problem in find_problems(layout, loaded, seen, now):
        if problem.code in ("not_initialised", "tick_stale"):
            output.out(f"The scheduler does not run: {problem.message}")
            output.out(f"  {problem.hint}")
    if last_tick(layout) is None and not is_overdue(layout, now):
        output.out(f"The scheduler has not run yet: {mark.first_tick(layout)}")


def explanation(
    layout: Layout, subject: str, config: Config, snapshot: Snapshot, now: float
) -> Explanation:
    """Explain an agent, a task, or a file of the queue that is none. Raises NotFound."""
    agent = next((a for a in config.agents if a.name == subject), None)
    if agent is not None:
        return _of_agent(agent, config, snapshot, now)
    store = Store(layout)
    listings = {state: store.list(state) for state in STATES[:3]}
    for state in listings:
        for task in listings[state].tasks:
            if task.id == subject or _is_file(task.path, subject):
                return _of_task(task, config, snapshot, now)
    try:
        return _of_task(store.find(subject), config, snapshot, now)
    except NotFound:
        pass
    for state in STATES:
        listing = listings.get(state) or store.list(state)
        for bad in listing.malformed:
            if _is_file(bad.path, subject):
                return _of_malformed(bad)
        for task in listing.tasks:
            if _is_file(task.path, subject):
                return _of_task(task, config, snapshot, now)
    waiting = [task.id for listing in listings.values() for task in listing.tasks]
    raise NotFound("agent or task", subject, [*(a.name for a in config.agents), *waiting])


def _is_file(path: str, subject: str) -> bool:
    """Whether a subject names a file: by its path, its name, or its name without `.md`."""
    name = os.path.basename(path)
    return subject in (path, name, name[:-3]) or os.path.abspath(subject) == path


# --- agents ------------------------------------------------------------------------------------


def _of_agent(agent: Agent, config: Config, snapshot: Snapshot, now: float) -> Explanation:
    rules, task = _judged(agent, config, snapshot, now)
    refusal = next((rule for rule in rules if not rule.ok), None)
    if refusal is None:
        what = f"takes {task.id}" if task else "starts"
        return Explanation(agent.name, f"{what} at the next tick", None, tuple(rules))
    verb = "is running" if refusal.code == "running" else "does not start"
    verdict = f"{verb}: {refusal.code} ({refusal.detail})"
    role = snapshot.roles.get(agent.role)
    step = _step(refusal, agent.name, (role.takes if role else None) or "ROLE")
    return Explanation(agent.name, verdict, step, tuple(rules))


def _step(refusal: Rule, agent: str, role: str) -> str | None:
    first = refusal.detail.partition(" ")[0].rstrip(":;,")
    return _NEXT.get(refusal.code, "").format(agent=agent, role=role, first=first) or None


def _judged(
    agent: Agent, config: Config, snapshot: Snapshot, now: float
) -> tuple[list[Rule], Task | None]:
    """Judge an agent as `planner.plan` does: after those that are configured before it."""
    room = planner.Room(snapshot)
    for earlier in config.agents[: agent.position]:
        rules, task = planner.judge(earlier, snapshot, config, now, room)
        if all(rule.ok for rule in rules):
            room.take(task, snapshot)
    return planner.judge(agent, snapshot, config, now, room)


# --- tasks -------------------------------------------------------------------------------------


def _of_task(task: Task, config: Config, snapshot: Snapshot, now: float) -> Explanation:
    if task.state != "incoming":
        verdict, step = _elsewhere(task)
        rule = Rule("waiting", False, f"the task is in {task.state}")
        return Explanation(task.id, verdict, step, (rule,))
    rules = planner.explain_task(task, snapshot, config, now)
    chosen = next((rule for rule in rules if rule.code == "claimable"), None)
    if chosen is not None and all(rule.ok for rule in rules[:3]):
        return Explanation(task.id, f"waits: {chosen.detail}", None, tuple(rules))
    refusal = next((rule for rule in rules if not rule.ok), rules[-1])
    agent = refusal.detail.partition(":")[0]
    taker = next((r.name for r in snapshot.roles.values() if r.takes == task.role), None)
    step = _step(refusal, agent, taker or "ROLE")
    if refusal.code == "no_matching_agent" and taker is None:
        step = f"no role takes {task.role}: correct its ROLE, or write .orchestrator/roles/NAME.md"
    verdict = f"is not claimed: {refusal.code} ({refusal.detail})"
    return Explanation(task.id, verdict, step, tuple(rules))


def _elsewhere(task: Task) -> tuple[str, str | None]:
    """The verdict on a task that does not wait, and what to do."""
    why = (task.error or task.reason or "").strip().partition("\n")[0]
    match task.state:
        case "claimed":
            by = task.claimed_by or "somebody"
            return f"is claimed by {by}", f"see what it does: orchestrator logs {task.id}"
        case "blocked":
            asked = one_line(task.question or why or "no question is recorded", 500)
            step = f"answer it: orchestrator inbox answer {task.id} '...'"
            return f"waits for a person: {asked}", step
        case "failed" if task.reason == "cancelled":
            return "was cancelled", f"to have it done after all: orchestrator task retry {task.id}"
        case "failed":
            step = f"see orchestrator logs {task.id}; then: orchestrator task retry {task.id}"
            return f"failed: {why or 'no reason is recorded'}", step
        case _ if task.pr:
            return f"is done, in pull request {task.pr}", f"orchestrator pr show {task.pr}"
    return "is done, without a pull request", None


def _of_malformed(bad: Malformed) -> Explanation:
    rule = Rule("task_malformed", False, bad.reason)
    name = os.path.basename(bad.path)
    step = f"{_NEXT['task_malformed']}: {bad.path}"
    return Explanation(name, f"is no task: {bad.reason}", step, (rule,))
