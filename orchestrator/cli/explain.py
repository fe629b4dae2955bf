"""`explain`: why an agent does not run or a task is not claimed, every rule with its verdict."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, argument, command
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound
from orchestrator.model.fields import NamedTuple
from orchestrator.model.times import iso
from orchestrator.model.work import STATES, PullRequest, Task
from orchestrator.plan import dependencies
from orchestrator.plan.planner import Plan, plan
from orchestrator.plan.rows import refusal
from orchestrator.plan.rule import Verdict
from orchestrator.plan.stuck import is_for_people
from orchestrator.project import mark
from orchestrator.pulls import forges, overlap, states
from orchestrator.pulls.movers import REMOVED, Move, of_task
from orchestrator.tasks import parts, stores
from orchestrator.tasks.store import Store
from orchestrator.text.quoting import one_line
from orchestrator.text.words import count
from orchestrator.tick import inbox, observe
from orchestrator.tick.problems import find_problems, is_overdue, last_tick

SUBJECT = "the name of an agent, the id of a task, pr:N for the task of a pull request, or a file \
in the queue that is not accepted as a task"
#: The problems with which ticks do not run, or come to nothing.
_NO_TICK = ("not_initialised", "tick_stale", "permissions", "memory_withheld")
#: Levels of dependencies that are shown.
MOST_LEVELS = 19


class Explanation(NamedTuple):
    """The verdict on a subject: one sentence, and every rule."""

    subject: str
    verdict: str
    rules: tuple[Verdict, ...]

    @property
    def next_step(self) -> str | None:
        """The hint of the first rule that is not ok; of another one if only a person ends that."""
        refused = refusal(self.rules)
        later = (rule for rule in self.rules if not rule.ok and is_for_people(rule))
        return next(later, refused).hint if refused else None


@command("explain", argument("subject", metavar="AGENT|TASK", help=SUBJECT))
def explain(arguments: Namespace) -> None:
    """Say why an agent does not start, or why a task is not claimed: each rule and its verdict."""
    layout = context.reading(arguments)
    loaded, now = load.settings(layout, write_cache=False), context.now()
    prs = states.counted(layout, loaded.config)
    names = {agent.name for agent in loaded.config.agents}
    # What is said of a task follows from its file as it is now.
    seen = observe.observe(layout, loaded, now, prs, surely=arguments.subject not in names)
    planned = plan(seen.snapshot, loaded.config, now)
    moves = inbox.survey(layout, loaded, seen, planned=planned).moves
    subject = _task_of(layout, loaded, arguments.subject) or arguments.subject
    found = explanation(layout, loaded, subject, planned, moves)
    if arguments.json:
        rules = [{**v._asdict(), "until": iso(v.until)} for v in found.rules]
        output.show_json({"subject": found.subject, "verdict": found.verdict, "rules": rules})
        return
    output.out(f"{found.subject}: {found.verdict}")
    if found.next_step:
        output.out(f"  {found.next_step}")
    # Of a task that does not wait, the verdict says everything.
    for rule in found.rules if [rule.code for rule in found.rules] != ["waiting"] else ():
        detail = one_line(rule.detail, 500)
        output.out(f"  {'ok' if rule.ok else 'NO'}  {rule.code:22} {detail}".rstrip())
    is_agent = found.subject in planned.agents
    for line in () if is_agent else _around(layout, loaded, found.subject, prs, moves):
        output.out(one_line(line, 500))
    for problem in find_problems(layout, loaded, seen, now):
        if problem.code in _NO_TICK:
            output.out(f"The scheduler does not run: {problem.message}")
            output.out(f"  {problem.hint}")
    if last_tick(layout) is None and not is_overdue(layout, now):
        output.out(mark.first_tick(layout))


def _task_of(layout: Layout, loaded: Settings, name: str) -> str | None:
    """Return the task of a pull request that is named as the inbox names it, such as `pr:3`."""
    number = name.removeprefix("pr:")
    pr = forges.of_project(layout, loaded.config).book.get(number) if number != name else None
    return pr.task if pr else None


def _around(
    layout: Layout,
    loaded: Settings,
    subject: str,
    prs: list[PullRequest] | None,
    moves: Mapping[str, Move],
) -> Iterator[str]:
    """Yield who moves a task's pull request, what the task depends on, one line per level, and
    which works overlap with its work."""
    find = stores.of_project(layout).get
    task = find(subject)
    if task is None:
        return
    move = of_task(moves, task)
    if move and task.state != "done":  # of finished work, this is the verdict
        yield f"pull request {task.pr}: {move.text}"
    found = dependencies.closure([task], find, prs)
    prs = forges.with_merged(layout, loaded.config, prs, found.values())
    levels = dependencies.levels(task, found)
    delivered = loaded.config.dependencies == "delivered"
    for level in levels[:MOST_LEVELS]:
        verdicts = dependencies.verdicts(level, found, prs, delivered=delivered)
        said = (f"{each} ({_state(layout, loaded, found[each], verdicts[each])})" for each in level)
        yield f"{'depends on' if level is levels[0] else 'through that, on'}: {'; '.join(said)}"
    if len(levels) > MOST_LEVELS:
        yield f"and so on, {count(len(levels) - MOST_LEVELS, 'level')} more"
    for each in overlap.Radar(layout, loaded.config).overlaps(prs):
        if task.id in (each.one.task, each.other.task):
            yield f"overlap: {each}"


def _state(layout: Layout, loaded: Settings, task: Task | None, verdict: str) -> str:
    if task is None or verdict != "met":
        return verdict
    if not task.pr:
        return "met: done"
    return f"met: done, pull request {forges.of_task(layout, loaded.config, task)[0]}"


def explanation(
    layout: Layout, loaded: Settings, subject: str, planned: Plan, moves: Mapping[str, Move]
) -> Explanation:
    """Explain an agent, a task, or a file of the queue that is not a task. Raises NotFound.

    A file is named by its path, its name, or its name without `.md`. `moves` says who moves each
    open pull request next.
    """
    if subject in planned.agents:
        return _of_agent(subject, planned)
    store = stores.of_project(layout)
    with contextlib.suppress(NotFound):
        return _of_task(layout, loaded, store.find(subject), planned, moves)
    listings = {state: store.list(state) for state in STATES}
    for each in (item for listing in listings.values() for part in listing for item in part):
        name = os.path.basename(each.where)
        if subject in (each.where, name, name[:-3]) or os.path.abspath(subject) == each.where:
            if isinstance(each, Task):
                return _of_task(layout, loaded, each, planned, moves)
            step = f"{each.hint}: {each.where}"
            rule = Verdict("task_malformed", False, each.reason, hint=step)
            return Explanation(name, f"is not a task: {each.reason}", (rule,))
    known = [task.id for listing in listings.values() for task in listing.tasks]
    raise NotFound("agent or task", subject, [*planned.agents, *known])


def _of_agent(name: str, planned: Plan) -> Explanation:
    rules = planned.agents[name]
    if refused := refusal(rules):
        is_running = refused.code == "running"
        verb = "is running" if is_running else f"does not start: {refused.code}"
        return Explanation(name, f"{verb} ({refused.detail})", rules)
    task = next(a.task for a in planned.actions if a.action == "start" and a.agent == name)
    return Explanation(name, f"{f'takes {task}' if task else 'starts'} at the next tick", rules)


def _of_task(
    layout: Layout, loaded: Settings, task: Task, planned: Plan, moves: Mapping[str, Move]
) -> Explanation:
    rules = planned.tasks.get(task.id)
    if task.state != "incoming" or rules is None:
        store = stores.of_project(layout)
        name, pr = forges.of_task(layout, loaded.config, task) if task.pr else (None, None)
        of_split = parts.waits(task)
        move = of_task(moves, task)
        verdict, step = _of_split(store, task) if of_split else elsewhere(store, task, move, name)
        if task.state == "done" and name and pr is None and not (task.merged or task.reviews):
            gone = forges.unrecorded(task)
            verdict, step = f"is done, but {gone.message}", gone.hint
        rule = Verdict("waiting", False, f"the task is in {task.state}", hint=step)
        return Explanation(task.id, verdict, (rule,))
    if refused := refusal(rules):
        verdict = f"is not claimed: {refused.code} ({refused.detail})"
        return Explanation(task.id, verdict, rules)
    agent = next(a.agent for a in planned.actions if a.action == "start" and a.task == task.id)
    return Explanation(task.id, f"waits: {agent} takes it at the next tick", rules)


def _of_split(store: Store, task: Task) -> tuple[str, str]:
    """Return the verdict on a task that waits for its parts, and the next step."""
    found = parts.recorded(store, task)
    listed = ", ".join(f"{part.id} ({part.state})" for part in found)
    verdict = f"waits for its parts: {dependencies.progress(found)}: {listed}"
    if failed := parts.broken(found):
        return verdict, f"a part failed: orchestrator task retry {failed[0].id}"
    left = next((part for part in found if part.state != "done"), None)
    return verdict, f"orchestrator explain {left.id}" if left else "the next tick finishes it"


def elsewhere(
    store: Store, task: Task, move: Move | None, pr: str | None
) -> tuple[str, str | None]:
    """Return the verdict on a task that the plan does not know as waiting, and the next step.

    `move` says who moves its pull request next; None if it has no open pull request. `pr` is the
    pull request as a person names it.
    """
    why = (task.error or task.reason or "").strip().partition("\n")[0]
    removed = f" ({REMOVED})" if inbox.is_dismissed(store, task) else ""
    match task.state:
        case "incoming":
            return "waits: the task was added while this command ran", None
        case "claimed":
            by = task.claimed_by or "an unknown agent"
            return f"is claimed by {by}", f"see what it does: orchestrator logs {task.id}"
        case "blocked":
            asked = one_line(task.question or why or "no question is recorded", 500)
            step = f"answer it: orchestrator inbox answer {task.id} '...'"
            if inbox.was_moved(store, task):
                return "was moved to blocked by hand", _back(task)
            return f"waits for a person{removed}: {asked}", step
        case "failed" if task.reason == "cancelled":
            return "was cancelled", f"to do it anyway: orchestrator task retry {task.id}"
        case "failed" if inbox.was_moved(store, task):
            return "was moved to failed by hand", _back(task)
        case "failed":
            step = f"see orchestrator logs {task.id}; then: orchestrator task retry {task.id}"
            return f"failed{removed}: {why or 'no reason is recorded'}", step
        case _ if pr and task.reviews and move and move.by == "reviewer":
            # Its review ended after the pull request was looked at.
            return f"is done; it reviewed pull request {pr}", f"orchestrator pr show {pr}"
        case _ if pr and move:
            step = move.step or f"orchestrator pr show {pr}"
            return f"is done; pull request {pr}: {move.text}", step
        case _ if pr:
            ended = f"; pull request {pr} is merged" if task.merged else f", in pull request {pr}"
            return f"is done{ended}", f"orchestrator pr show {pr}"
    return "is done, without a pull request", None


def _back(task: Task) -> str:
    return f"to let an agent take it: orchestrator task move {task.id} incoming"
