"""What the client is given: instructions, prompt, arguments, environment and our own command.

All of it is written into the run's folder, for whoever wants to know later what a run was told.
"""

from __future__ import annotations

import json
import os
import pickle
import shlex
from collections.abc import Sequence
from typing import Any

from orchestrator.client import registry
from orchestrator.client.protocol import Assignment, Client, Confinement
from orchestrator.errors import OrchestratorError
from orchestrator.git import call, repository
from orchestrator.guard import client_environment, secret_names
from orchestrator.layout import Layout, resources
from orchestrator.model import ports
from orchestrator.project import mark, run_record
from orchestrator.run import headstart
from orchestrator.run.job import Job
from orchestrator.system import files, process
from orchestrator.system.aside import Aside
from orchestrator.tasks import history
from orchestrator.tasks import store as stores


def begin(writer: Aside, job: Job) -> bytes:
    """Have the instructions and the prompt written into the run's folder; return what was asked.

    The worktree need not be there yet, but where the run starts must be known.
    """
    message = pickle.dumps((job.folder, _variables(job)))
    writer.tell(message)
    return message


def finish(writer: Aside, job: Job, message: bytes) -> None:
    """Wait until what `begin` asked for is written, and bring the instructions to the worktree.

    Raises OrchestratorError and OSError.
    """
    answer = writer.answer()
    # Without one it was killed, or met something that nobody foresaw.
    problem = pickle.loads(headstart.write(message) if answer is None else answer)
    if problem is not None:
        raise OrchestratorError(problem["message"], problem["hint"], code=problem["code"])
    with open(job.journal.path(run_record.INSTRUCTIONS), "rb") as file:
        run_record.put(os.path.join(job.path, ".agent-instructions.md"), file.read())


def _variables(job: Job) -> dict[str, Any]:
    """Return what the templates of the instructions and the prompt are filled with."""
    record, task = job.record, job.task
    told = history.attempts(job.file.history) if job.file else []
    return {
        "agent": job.agent,
        "role": job.role,
        "task": task,
        "body": job.file.body if job.file else "",
        "history": told,
        "config": job.config,
        "base": record.base,
        "base_commit": record.base_commit,
        "branch": record.branch,
        "ports": ports(job.config, job.agent),
        "worktree": job.path,
        "project": job.layout.root,
        "run_id": record.id,
        "attempt": record.attempt,
        "rescue": _earlier_rescue(job),
        "review": _review_variables(job),
        "global_instructions": _global_instructions(job.layout),
        "checks": job.config.checks,
        "resumed": bool(record.resume),
        "confined": is_confined(job),
        "writes": bool({*registry.of_config(job.config).writing_tools} & {*job.role.tools}),
    }


def _earlier_rescue(job: Job) -> str | None:
    """Return the ref that keeps what the attempt before left uncommitted."""
    if job.file is None:
        return None
    earlier = [e.fields.get("run") for e in job.file.history if e.event == "claimed"]
    for run_id in reversed([x for x in earlier if x != job.record.id]):
        ref = f"{repository.RESCUE}{run_id}"
        if repository.resolve(job.layout.root, ref):
            return ref
    return None


def _review_variables(job: Job) -> dict[str, Any] | None:
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
    return {
        "pr": review.id,
        "branch": review.branch,
        "head": job.record.start,
        "base": review.base,
        "base_commit": job.record.base_commit,
        "task_title": title,
        "task_body": body,
    }


def _global_instructions(layout: Layout) -> str:
    try:
        with open(layout.global_instructions, encoding="utf-8", errors="replace") as file:
            return file.read(1_000_000)
    except FileNotFoundError:
        return ""


def write_launch(job: Job) -> None:
    """Write how the supervisor is to start the client: arguments, folder and environment."""
    client = registry.of_config(job.config)
    launch = client.launch(_assignment(job, client))
    for name, text in launch.files.items():
        run_record.put(job.journal.path(name), text.encode())
    job.journal.record = job.record._replace(session=launch.session)
    plan = {
        "client": client.name,
        "argv": launch.argv,
        "cwd": job.path,
        "stdin": launch.stdin,
        "environment": {**_environment(job, launch.ignored), **launch.environment},
        "allow": job.config.environment_allow,
    }
    run_record.put(job.journal.path(run_record.LAUNCH), json.dumps(plan).encode())


def _assignment(job: Job, client: Client) -> Assignment:
    root, allow = resources(), job.config.environment_allow
    return Assignment(
        registry.command(job.config),
        job.agent,
        job.role,
        job.folder,
        instructions=job.journal.path(run_record.INSTRUCTIONS),
        prompt=job.journal.path(run_record.PROMPT),
        resume=job.record.resume or None,
        plugin=root if os.path.isdir(os.path.join(root, "skills")) else None,
        budget_usd=_budget(job),
        variables=os.environ,
        hidden=secret_names.hidden_from_commands(
            os.environ, allow, client.sign_in_names(os.environ)
        ),
        confinement=_confinement(job) if is_confined(job) else None,
    )


def is_confined(job: Job) -> bool:
    """Whether the run's commands are sandboxed: not those of roles that only read anyway.

    Each command that these may call is named in their role, and one of them fills the queue.
    """
    return job.config.client_sandbox and not job.role.restricted


def _confinement(job: Job) -> Confinement:
    """Commands may write git's folder, but not what is run or believed from there."""
    folder = repository.git_folder(job.layout.root)
    protected = ("hooks", "config", "config.worktree", "info", mark.MARK)
    return Confinement((folder,), tuple(os.path.join(folder, name) for name in protected))


def _budget(job: Job) -> float | None:
    """Return the US dollars that the run may cost: its own cap, or what is left for its task."""
    own, caps = job.agent.budget_usd, job.config.budgets
    run = caps.run_usd if own is None else own
    if caps.task_usd is None or job.task is None:
        return run
    left = caps.task_usd - job.task.cost_usd
    return left if run is None else min(run, left)


def _environment(job: Job, ignored: Sequence[str]) -> dict[str, str]:
    """The run's own variables (reference 7), on top of those that the supervisor has."""
    record = job.record
    variables = {
        "ORCHESTRATOR_AGENT": job.agent.name,
        "ORCHESTRATOR_ROLE": job.agent.role,
        "ORCHESTRATOR_RUN_ID": record.id,
        "ORCHESTRATOR_TASK_ID": record.task or "",
        "ORCHESTRATOR_PROJECT": job.layout.root,
        "ORCHESTRATOR_WORKTREE": job.path,
        "PATH": os.pathsep.join((_own_command(job.layout), os.environ.get("PATH", os.defpath))),
        **{name: str(port) for name, port in ports(job.config, job.agent).items()},
        **client_environment.as_git_config(_agents_git(job, ignored)),
    }
    if not record.identity:
        for who in ("AUTHOR", "COMMITTER"):
            variables[f"GIT_{who}_NAME"] = job.agent.name
            variables[f"GIT_{who}_EMAIL"] = f"{job.agent.name}@orchestrator.localhost"
    return variables


def _agents_git(job: Job, ignored: Sequence[str]) -> dict[str, str]:
    """Git settings for the agent: durable commits, no signing prompts, no pushing of its own.

    `ignored` are paths in the worktree that its git must not see.
    """
    settings = {**call.DURABLE, "commit.gpgSign": "false", "tag.gpgSign": "false"}
    if ignored:
        settings["core.excludesFile"] = _ignore_file(job, ignored)
    if job.record.remote:
        pushurl = f"remote.{job.record.remote}.pushurl"
        settings[pushurl] = "the-scheduler-pushes-when-the-run-is-done"
        # Git adds ours to a remote's own push addresses: those lead nowhere too.
        for number, address in enumerate(job.record.push_addresses):
            settings[f"url.{settings[pushurl]}/{number}.insteadOf"] = address
    return settings


def _ignore_file(job: Job, ignored: Sequence[str]) -> str:
    """Write the run's own ignore file for git: the person's, and the `ignored` paths.

    What git tracks already is not concerned.
    """
    known = repository.settings(job.layout.root, "core.excludesFile").get("core.excludesfile")
    # The place where git looks without that setting: gitignore(5).
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    theirs = os.path.expanduser(known[-1] if known else os.path.join(config, "git", "ignore"))
    try:
        with open(theirs, encoding="utf-8", errors="surrogateescape") as file:
            own = file.read()
    except OSError:
        own = ""  # git passes over one that is not there, or that it may not read
    path = os.path.join(job.folder, "ignore")
    text = "\n".join([own.rstrip("\n"), *(f"/{name}" for name in ignored), ""])
    files.write_atomic(path, text.encode("utf-8", "surrogateescape"))
    return path


def _own_command(layout: Layout) -> str:
    """Make sure that a folder holds an `orchestrator` command; return the folder for PATH.

    It stands first there, so its name is one that no commit can know: what came with one would be
    an agent's `git`, or its client.
    """
    folder = os.path.join(layout.cache, f"bin-{mark.key(layout)[:8]}")
    path = os.path.join(folder, "orchestrator")
    text = f'#!/bin/sh\nexec {shlex.join(process.own_program())} "$@"\n'.encode()
    try:
        with open(path, "rb") as file:
            if file.read() == text:
                return folder
    except FileNotFoundError:
        files.make_folder(folder)
    files.write_atomic(path, text, 0o700)
    return folder
