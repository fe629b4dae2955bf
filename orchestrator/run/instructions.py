"""Writes the agent's instructions and prompt. Both stay in the run's folder, for people."""

from __future__ import annotations

import os
from collections.abc import Iterator

from orchestrator.client import registry
from orchestrator.git import aside, base_branch, index, repository, submodules
from orchestrator.layout import Layout
from orchestrator.model.config import OUTCOMES, ports
from orchestrator.model.errors import OrchestratorError, SystemFault
from orchestrator.model.work import Given, PullRequest, Task
from orchestrator.project import run_record
from orchestrator.pulls import forges, overlap, verdicts
from orchestrator.run import prompts, rounds
from orchestrator.run.job import Job
from orchestrator.run.prompts import Facts, UnderReview
from orchestrator.system import files
from orchestrator.tasks import history, parts, stores
from orchestrator.text import quoting

#: The name of the instructions in the worktree.
NAME = ".agent-instructions.md"
#: In the cache: the last base commit that has no instructions.
_CHECKED = "base-without-instructions"
#: Maximum bytes of `global-instructions.md`.
MOST_INSTRUCTIONS = 1 << 20
_CORRECT = "put a text file there, or remove it; until then no run starts"


def refusal(job: Job, head: str) -> str | None:
    """Return why work is refused that contains the instructions; None if it does not."""
    # Asks git only if the index of the worktree, which is at `head`, may have them.
    if not (index.may_track(job.path, NAME) and repository.has_path(job.layout.root, head, NAME)):
        return None
    return f"{NAME} is the scheduler's and must not be committed: git rm -r --cached {NAME}"


def require_absent(job: Job) -> None:
    """Raise SystemFault if the base has committed instructions, before a branch is cut from it.

    A run would overwrite them, and its agent would commit the prompt. Git is asked once per commit.
    """
    base, checked = job.record.base_commit or "", os.path.join(job.layout.cache, _CHECKED)
    if not base or files.holds(checked, base.encode()):
        return
    if repository.has_path(job.layout.root, base, NAME):
        message = f"{job.record.base} has a committed {NAME}, which the scheduler writes for a run"
        hint = f"git rm -r --cached {NAME}, then commit and push: git is to ignore it"
        raise SystemFault(message, hint, code="instructions_committed")
    files.make_folder(job.layout.cache)
    files.write_atomic(checked, base.encode(), flush=False)


def write(job: Job) -> None:
    """Write the instructions and the prompt. Raises OrchestratorError and OSError."""
    facts = _facts(job)
    text, prompt = prompts.instructions(facts).encode(), prompts.prompt(facts).encode()
    job.journal.put(run_record.INSTRUCTIONS, text)
    aside.make_way(job.path, NAME)
    files.write_atomic(os.path.join(job.path, NAME), text, flush=False)
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
        cut=_cut(job),
        replaced=_replaced(job),
        pushed=_pushed(job),
        review=_under_review(job),
        global_instructions=global_instructions(job.layout),
        checks=job.config.checks,
        resumed=bool(record.resume),
        confined=job.is_confined,
        writes=bool({*client.writing_tools} & {*job.role.tools}),
        report=client.report,
        not_set_up=record.not_set_up,
        parts=listed,
        may_add=may_add,
        submodules=os.path.isfile(os.path.join(job.path, submodules.LIST)),
    )


def _parts(job: Job) -> tuple[list[Task], int]:
    """Return the parts that the run's task has, and how many the run may add to them."""
    if job.task is None or "split" not in OUTCOMES[job.role.delivers]:
        return [], 0
    store = stores.of_project(job.layout)
    claims = history.claims(job.file.history if job.file else ())
    # Only a run adds parts to its own task. A look for parts reads every waiting task.
    is_first = all(run_id == job.record.id for _, run_id, _ in claims)
    found = [] if is_first else parts.of(store, job.task.id)
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


def _cut(job: Job) -> str | None:
    """Return the commit that the branch was cut from, unless the base has it."""
    start, base = job.record.start, job.record.base_commit
    if job.record.branch is None or start is None or base is None or start == base:
        return None
    return None if repository.is_ancestor(job.layout.root, start, base) else start


def _replaced(job: Job) -> str | None:
    """Return the ref of commits that commits of others replaced, if any is still missing.

    This run's start or that of an earlier attempt moved the branch.
    """
    root, refs = job.layout.root, [job.record.replaced]
    for agent, run_id, _ in history.claims(job.file.history if job.file else ()):
        earlier = run_record.read(job.layout.run(agent, run_id))
        refs.append(earlier.replaced if earlier else None)
    if not any(refs):
        return None
    tip = base_branch.tip(root, job.record.branch) or ""
    for ref in filter(None, refs):
        commit = repository.resolve(root, ref)
        if commit and not repository.is_ancestor(root, commit, tip):
            return ref
    return None


def _pushed(job: Job) -> str | None:
    """Return the newest commit of the branch that is pushed; None if no commit of it is."""
    record, root = job.record, job.layout.root
    if record.branch is None or record.there is None or record.base_commit is None:
        return None
    tip = base_branch.tip(root, record.branch) or ""
    on_branch = repository.is_ancestor(root, record.there, tip)
    if on_branch and not repository.is_ancestor(root, record.there, record.base_commit):
        return record.there
    return None


def _under_review(job: Job) -> UnderReview | None:
    review = job.record.review
    if review is None or job.task is None:
        return None
    title, body, original = review.title, "", None
    given: list[Given] = [*review.reviews]
    told: list[dict[str, str]] = []
    if job.task.reviews:
        store = stores.of_project(job.layout)
        try:
            original = store.find(job.task.reviews)
            file = store.read(original)
            title, body = original.title, file.body
            given = [*verdicts.given(file.history), *given]
            told = rounds.told(file.history, review.reviews)
        except OrchestratorError:
            body = "(the task is gone)"
    root, start, base = job.layout.root, job.record.start, job.record.base_commit
    since = rounds.last_reviewed(given, start)
    since = since and repository.resolve(root, since)
    below = bool(since and start) and repository.is_ancestor(root, since or "", start or "")
    notes = (*_built_on(job, original), *_overlaps(job, review))
    return UnderReview(
        review.id, review.branch, start, review.base, base, title, body, told, since, below, notes
    )


def _built_on(job: Job, task: Task | None) -> Iterator[str]:
    """Yield a note if the work under review contains other work that is not merged."""
    cut = history.cut(stores.of_project(job.layout).read(task).history) if task else None
    start, base = job.record.start, job.record.base_commit
    if not (cut and start and base) or repository.is_ancestor(job.layout.root, cut, base):
        return
    if repository.is_ancestor(job.layout.root, cut, start):
        yield (
            f"It is built on {quoting.inline(cut)}: work of other tasks, which has reviews of its "
            f"own. Review what comes after it: {quoting.inline(f'git diff {cut} {start}')}"
        )


def _overlaps(job: Job, review: PullRequest) -> Iterator[str]:
    """Yield a note for each other work that changes the same lines."""
    radar = overlap.Radar(job.layout, job.config, keep=True)
    # As of the last tick: this is a hint for the reviewer, and no reason to ask git again.
    for each in radar.overlaps(forges.of_project(job.layout, job.config).book.list()):
        if review.id in (each.one.pr, each.other.pr):
            other = each.other if each.one.pr == review.id else each.one
            names = ", ".join(quoting.inline(name) for name in each.files[:10])
            lines = "lines of" if each.by_line else "files:"
            yield f"Also at work: {other.where} of {other.task} changes the same {lines} {names}"


def global_instructions(layout: Layout) -> str:
    """Return the instructions for every agent; no file is no instruction.

    Raises SystemFault for a file that cannot be used: no agent may start with less than it says.
    """
    path = layout.global_instructions
    try:
        data = files.read_inside(path, layout.root, MOST_INSTRUCTIONS + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SystemFault(f"{path}: {error.strerror}", _CORRECT, code="config_error") from None
    if len(data) > MOST_INSTRUCTIONS:
        said = f"{path} is larger than {MOST_INSTRUCTIONS >> 10} KiB"
        raise SystemFault(said, _CORRECT, code="config_error")
    return data.decode(errors="replace")
