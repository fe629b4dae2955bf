"""The actions for runs that ended or lost their supervisor. Pure functions of a snapshot."""

from collections.abc import Collection

from orchestrator.model.config import Config
from orchestrator.model.snapshot import Action, Outcome, RunView
from orchestrator.model.work import Task
from orchestrator.plan import repeats

#: How often the supervisor of one run is restarted before the run counts as lost.
MAX_RESTARTS = 3
#: The same limit for a run whose client has ended: more restarts, because the run's result exists
#: already (failures 1).
MAX_CONCLUDING_RESTARTS = 30

#: The action for a run, by the last event that it wrote to its task's history.
ENDS = {"requeued": "requeue", "failed": "fail", "blocked": "block", "done": "finish"}


def settlements(
    runs: Collection[RunView], claimed: Collection[Task], config: Config
) -> list[Action]:
    """Return the actions for runs that ended or lost their supervisor, and for claimed tasks.

    A claimed task may have no run: a person deleted the run's files or moved the task there.
    """
    actions = [action for run in runs if (action := settle(run, claimed, config))]
    for task in claimed:
        if task.claim_at == "elsewhere" or any(run.id == task.run for run in runs):
            continue
        if task.claim_at == "gone":
            actions.append(_given_back(task, config))
            continue
        if not (task.run and task.claimed_by):
            actions.append(Action("requeue", task=task.id, reason="no_result: its run is gone"))
        else:
            lost = RunView(task.run, task.claimed_by, task.id, False, True, 0)
            outcome = Outcome("interrupted", "no_result: its run is gone")
            actions.append(_verdict_action(lost, outcome, task, config))
    return actions


def _given_back(task: Task, config: Config) -> Action:
    """Return the action for a task whose host died: no agent of this host has its run."""
    reason = (
        f"host_gone: the host {task.host} was silent for too long; commits that it did not push "
        f"are only there, on {task.work_branch or 'no branch'}"
    )
    lost = RunView(task.run or "", task.claimed_by or "", task.id, False, True, 0)
    action = _verdict_action(lost, Outcome("interrupted", reason), task, config)
    return action._replace(agent=None, run=None)


def settle(run: RunView, claimed: Collection[Task], config: Config) -> Action | None:
    """Return the action for a run; None while it works normally."""
    outcome = run.outcome
    if not run.finished:
        if run.alive:
            return None
        limit = MAX_CONCLUDING_RESTARTS if run.concluding else MAX_RESTARTS
        if run.restarts < limit:
            return Action("deliver", run.agent, run.task, run.id, "supervisor_gone")
        outcome = Outcome("interrupted", f"no_result: its supervisor died {run.restarts + 1} times")
    if outcome is None:
        outcome = Outcome("interrupted", "no_result: its record cannot be read")
    task = next((t for t in claimed if t.id == run.task and t.run == run.id), None)
    return _verdict_action(run, outcome, task, config)


def _verdict_action(run: RunView, outcome: Outcome, task: Task | None, config: Config) -> Action:
    def action(word: str, delay: float | None = None, charged: bool = False) -> Action:
        return Action(word, run.agent, run.task, run.id, outcome.reason, delay, charged)

    if task is None:  # no task, or a person moved the task during the run
        return action("finish")
    if task.ended in ENDS:  # recorded already, but a kill prevented the file's move
        return action(ENDS[task.ended], charged=task.ended == "failed")
    match outcome.verdict:
        case "done" | "no_change" | "approved" | "changes_requested":
            return action("finish")
        case "needs_human" | "split":
            return action("block")
        case "usage_limit" | "stopped":
            return action("requeue")
        case "system_fault" | "moved":
            return action("block" if repeats.is_reached(task, outcome, config) else "requeue")
        case "interrupted" if task.interruptions == 0:
            return action("block" if repeats.is_reached(task, outcome, config) else "requeue")
        case _:
            attempt = task.attempts + 1
            if attempt >= config.retry.max_attempts:
                return action("fail", charged=True)
            return action("requeue", config.retry.delay(attempt), charged=True)
