"""Writes the agent's instructions and prompt. Both stay in the run's folder, for people."""

from __future__ import annotations

import os

from orchestrator.client import registry
from orchestrator.errors import OrchestratorError
from orchestrator.git import repository
from orchestrator.layout import Layout
from orchestrator.model import OUTCOMES, Task, ports
from orchestrator.project import run_record
from orchestrator.run import prompts
from orchestrator.run.job import Job
from orchestrator.run.prompts import Facts, UnderReview
from orchestrator.system import files
from orchestrator.tasks import history, parts, stores


def write(job: Job) -> None:
    """Write the instructions and the prompt. Raises OrchestratorError and OSError."""
    facts = _facts(job)
    text, prompt = prompts.instructions(facts).encode(), prompts.prompt(facts).encode()
    job.journal.put(run_record.INSTRUCTIONS, text)
    files.write_atomic(os.path.join(job.path, ".agent-instructions.md"), text, flush=False)
    job.journal.put(run_record.PROMPT, prompt)


def _facts(job: Job) -> Facts:
    record, client = job.record, registry.of_config(job.config)
    listed, may_add = _parts(job)
    return Facts(
        agent=job.agent,
        role=job.role,
        task=job.task,
        body=job.file.body if job.file else "",
        history=history.attempts(job.file.history) if job.file else [],
        config=job.config,
        base=record.base,
        base_commit=record.base_commit,
        branch=record.branch,
        ports=ports(job.config, job.agent),
        worktree=job.path,
        project=job.layout.root,
        run_id=record.id,
        attempt=record.attempt,
        rescue=_earlier_rescue(job),
        review=_under_review(job),
        global_instructions=_global_instructions(job.layout),
        checks=job.config.checks,
        resumed=bool(record.resume),
        confined=job.is_confined,
        writes=bool({*client.writing_tools} & {*job.role.tools}),
        report=client.report,
        parts=listed,
        may_add=may_add,
    )


def _parts(job: Job) -> tuple[list[Task], int]:
    """Return the parts that the run's task has, and how many the run may add to them."""
    if job.task is None or "split" not in OUTCOMES[job.role.delivers]:
        return [], 0
    store = stores.of_project(job.layout)
    found = parts.of(store, job.task.id)
    try:
        return found, parts.room(store, job.task, found, job.config.split)
    except OrchestratorError:
        return found, 0


def _earlier_rescue(job: Job) -> str | None:
    """Return the ref with the uncommitted changes of the latest earlier run that left any."""
    for entry in reversed(job.file.history if job.file else ()):
        run_id = entry.fields.get("run")
        if entry.event == "claimed" and run_id != job.record.id:
            ref = f"{repository.RESCUE}{run_id}"
            if repository.resolve(job.layout.root, ref):
                return ref
    return None


def _under_review(job: Job) -> UnderReview | None:
    review = job.record.review
    if review is None or job.task is None:
        return None
    title, body = review.title, ""
    if job.task.reviews:
        store = stores.of_project(job.layout)
        try:
            original = store.find(job.task.reviews)
            title, body = original.title, store.read(original).body
        except OrchestratorError:
            body = "(the task is gone)"
    start, base = job.record.start, job.record.base_commit
    return UnderReview(review.id, review.branch, start, review.base, base, title, body)


def _global_instructions(layout: Layout) -> str:
    try:
        with open(layout.global_instructions, encoding="utf-8", errors="replace") as file:
            return file.read(1_000_000)
    except FileNotFoundError:
        return ""
