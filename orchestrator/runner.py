"""One run: what is laid out before the client starts, and what is made of it when it has ended.

`prepare` and `conclude` are the supervisor's two heavy stages. Both start from the run's journal
and may be killed and started again anywhere: each step asks first whether it is already done.
"""

from __future__ import annotations

import os
import shlex
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator import (
    checks,
    client,
    delivery,
    environment,
    files,
    forge,
    git,
    process,
    roles,
    runrecord,
    settings,
    taskfile,
    worktree,
)
from orchestrator.errors import GitError, NotFound, OrchestratorError, SystemFault
from orchestrator.layout import Layout
from orchestrator.model import Agent, Config, Outcome, Role, Task, ports
from orchestrator.runrecord import Record
from orchestrator.store import Store
from orchestrator.taskfile import TaskFile

#: Bytes of the client's last words that are kept as a reason.
STDERR_KEPT = 4000


@dataclass
class Job:
    """A run with everything that it is about."""

    folder: str
    record: Record
    layout: Layout
    config: Config
    agent: Agent
    role: Role
    task: Task | None
    file: TaskFile | None
    #: The worktree.
    path: str

    @classmethod
    def load(cls, folder: str, record: Record) -> Job:
        """Read what the run is about. Raises OrchestratorError when something of it is gone."""
        layout = Layout(record["project"])
        config = settings.last_good(layout)
        if config is None:
            raise OrchestratorError("the configuration cannot be read", "orchestrator doctor")
        agent = Agent(**record["settings"])
        known, _ = roles.load(layout.roles, layout.cache, write_cache=False)
        role = known.get(record["role"])
        if role is None:
            raise NotFound("role", record["role"], known)
        task = file = None
        if record["task"]:
            store = Store(layout)
            task = store.find(record["task"])
            file = store.read(task)
        path = layout.worktree(agent.name)
        return cls(folder, record, layout, config, agent, role, task, file, path)

    @property
    def is_ours(self) -> bool:
        """Whether the task is still claimed by this very run (a person may have moved it)."""
        if self.record["task"] is None:
            return True
        try:
            task = Store(self.layout).find(self.record["task"])
        except NotFound:
            return False
        return task.state == "claimed" and task.run == self.record["id"]

    def save(self) -> None:
        runrecord.write(self.folder, self.record)


def finish(folder: str, record: Record, outcome: Outcome) -> None:
    """Write down how the run ended: from here on only a tick touches the run."""
    record["outcome"] = asdict(outcome)
    record["finished"] = time.time()
    record["status"] = "finished"
    runrecord.write(folder, record)


def _fault(error: OrchestratorError | OSError) -> Outcome:
    """The outcome of a run that the machine, a service or the configuration got in the way of."""
    if isinstance(error, OSError):
        return Outcome("system_fault", f"system_fault: {error.filename}: {error.strerror}")
    hint = f" ({error.hint})" if error.hint else ""
    return Outcome("system_fault", f"{error.code}: {error.message}{hint}")


# --- before the client -------------------------------------------------------------------------


def prepare(folder: str, record: Record) -> None:
    """Lay out worktree, branch, instructions and launch plan; leave the run `prepared`.

    A fault of the system finishes the run instead, with nobody charged.
    """
    try:
        if runrecord.stop_reason(folder):
            finish(folder, record, Outcome("stopped", "stopped: by a person"))
            return
        job = Job.load(folder, record)
        if not job.is_ours:
            # Killed between its record and its claim, the tick left a run that has no task.
            gone = Outcome("interrupted", "no_result: its task was never claimed, or moved away")
            finish(folder, record, gone)
            return
        warming = threading.Thread(target=roles.warm_up)
        warming.start()
        try:
            fresh = _lay_out(job)
        finally:
            warming.join()
        _run_hook(job, fresh)
        _write_instructions(job)
        _write_launch(job)
        record["status"] = "prepared"
        job.save()
    except BadBase as error:
        finish(folder, record, Outcome("failed", f"client_error: {error.message}"))
    except worktree.BranchHeld as error:
        finish(folder, record, Outcome("needs_human", question=error.message))
    except (OrchestratorError, OSError) as error:
        # A broken template, a full disk, a git that fails: nothing that the task could help.
        finish(folder, record, _fault(error))


class BadBase(OrchestratorError):
    """The branch that a task starts from does not exist."""

    code = "no_base"


def _lay_out(job: Job) -> bool:
    """Bring worktree and branch into the state the run starts from; return whether it is new."""
    record, root = job.record, job.layout.root
    review = _pull_request_under_review(job)
    base = review.base if review else delivery.base_branch(job.config, job.task)
    branch = None
    if review is None and job.task is not None:
        branch = job.task.work_branch or taskfile.branch_name(job.task.id, job.task.title)
    mentioned = [name for name in (base, branch, review.branch if review else None) if name]
    known = git.settings(root, f"remote.{job.config.remote}.url", "user.email")
    remote = job.config.remote if f"remote.{job.config.remote}.url".lower() in known else None
    theirs = delivery.fetch(job.layout, remote, mentioned) if remote else {}
    heads = git.refs(root, *(f"refs/heads/{name}" for name in mentioned))
    ours = {ref.removeprefix("refs/heads/"): commit for ref, commit in heads.items()}
    base_commit = theirs.get(base) or ours.get(base)
    if base_commit is None:
        raise BadBase(f"its base branch {base!r} does not exist")
    start = base_commit
    if review is not None:
        start = theirs.get(review.branch) or ours.get(review.branch) or review.head
    record.update(branch=branch, base=base, base_commit=base_commit, start=start, remote=remote)
    record["identity"] = "user.email" in known
    record["review"] = asdict(review) if review else None
    fresh = _check_out(job, branch, start, ours, theirs)
    if os.path.realpath(git.toplevel(job.path)) != os.path.realpath(job.path):
        raise GitError(f"{job.path} is not the top of a worktree")
    worktree.bring_included(root, job.path)
    return fresh


def _check_out(
    job: Job, branch: str | None, start: str, ours: dict[str, str], theirs: dict[str, str]
) -> bool:
    root = job.layout.root
    fresh = worktree.ensure(root, job.path, start)
    if not fresh and worktree.preserve(job.path, None, f"{job.record['id']}-before").dirty:
        git.clean(job.path)
    if branch is not None:
        here, there = ours.get(branch), theirs.get(branch)
        worktree.take_up_branch(root, job.path, branch, start, here, there)
    elif not fresh:
        git.detach(job.path, start)
    return fresh


def _pull_request_under_review(job: Job) -> Any:
    """Return the pull request that a review task is about; None for other roles."""
    if job.role.delivers != "verdict" or job.task is None or job.task.pr is None:
        return None
    return forge.of_project(job.layout, job.config).show(job.task.pr)


def _run_hook(job: Job, fresh: bool) -> None:
    """Run `hooks.after_create` in a new worktree; a failing one is a fault of the system."""
    command = job.config.hooks.after_create
    if not fresh or command is None:
        return
    done = process.run(
        ("/bin/sh", "-c", command),
        cwd=job.path,
        environment=delivery.check_environment(job.config, job.agent, job.layout),
        timeout=job.config.hooks.timeout_seconds,
    )
    if done.code != 0:
        # Made again next time, so that the hook gets its second chance.
        git.remove_worktree(job.layout.root, job.path)
        said = (done.err or done.out).strip()[-300:]
        what = "took too long" if done.code is None else f"exited {done.code}: {said}"
        raise SystemFault(f"hooks.after_create {what}", "mend the hook", code="hook_failed")


def _write_instructions(job: Job) -> None:
    record, task = job.record, job.task
    history = taskfile.attempts_text(job.file) if job.file else []
    variables: dict[str, Any] = {
        "agent": job.agent,
        "role": job.role,
        "task": task,
        "body": job.file.body if job.file else "",
        "history": history,
        "config": job.config,
        "base": record["base"],
        "base_commit": record["base_commit"],
        "branch": record["branch"],
        "ports": ports(job.config, job.agent),
        "worktree": job.path,
        "project": job.layout.root,
        "run_id": record["id"],
        "attempt": record["attempt"],
        "rescue": _earlier_rescue(job),
        "review": _review_variables(job),
        "global_instructions": _global_instructions(job.layout),
        "checks": job.config.checks,
        "resumed": bool(record.get("resume")),
    }
    text = roles.instructions(variables).encode()
    files.write_atomic(os.path.join(job.path, ".agent-instructions.md"), text)
    files.write_atomic(os.path.join(job.folder, runrecord.INSTRUCTIONS), text)
    prompt = roles.prompt(variables).encode()
    files.write_atomic(os.path.join(job.folder, runrecord.PROMPT), prompt)


def _earlier_rescue(job: Job) -> str | None:
    """Return the ref that keeps what the attempt before left uncommitted."""
    if job.file is None:
        return None
    earlier = [e.fields.get("run") for e in job.file.history if e.event == "claimed"]
    for run_id in reversed([x for x in earlier if x != job.record["id"]]):
        ref = f"{git.RESCUE}{run_id}"
        if git.resolve(job.layout.root, ref):
            return ref
    return None


def _review_variables(job: Job) -> dict[str, Any] | None:
    review = job.record.get("review")
    if review is None or job.task is None:
        return None
    title, body = review["title"], ""
    if job.task.reviews:
        store = Store(job.layout)
        try:
            original = store.find(job.task.reviews)
            title, body = original.title, store.read(original).body
        except (NotFound, OrchestratorError):
            body = "(the task is gone)"
    return {
        "pr": review["id"],
        "branch": review["branch"],
        "head": job.record["start"],
        "base": review["base"],
        "base_commit": job.record["base_commit"],
        "task_title": title,
        "task_body": body,
    }


def _global_instructions(layout: Layout) -> str:
    try:
        with open(layout.global_instructions, encoding="utf-8", errors="replace") as file:
            return file.read(1_000_000)
    except FileNotFoundError:
        return ""


def _write_launch(job: Job) -> None:
    record = job.record
    resume = bool(record.get("resume"))
    session = record["resume"] if resume else _new_conversation()
    record["session"] = session
    root = roles.resources()
    plugin = root if os.path.isdir(os.path.join(root, "skills")) else None
    argv = client.command(
        job.config.claude_command,
        job.agent,
        job.role,
        job.config.budgets,
        session=session,
        resume=resume,
        instructions=os.path.join(job.folder, runrecord.INSTRUCTIONS),
        plugin=plugin,
    )
    variables = {
        "ORCHESTRATOR_AGENT": job.agent.name,
        "ORCHESTRATOR_ROLE": job.agent.role,
        "ORCHESTRATOR_RUN_ID": record["id"],
        "ORCHESTRATOR_TASK_ID": record["task"] or "",
        "ORCHESTRATOR_PROJECT": job.layout.root,
        "ORCHESTRATOR_WORKTREE": job.path,
        "PATH": os.pathsep.join((_own_command(job.layout), os.environ.get("PATH", os.defpath))),
        **{name: str(port) for name, port in ports(job.config, job.agent).items()},
        **environment.as_git_config(_agents_git(job)),
    }
    if not record["identity"]:
        for who in ("AUTHOR", "COMMITTER"):
            variables[f"GIT_{who}_NAME"] = job.agent.name
            variables[f"GIT_{who}_EMAIL"] = f"{job.agent.name}@orchestrator.localhost"
    plan = {"argv": argv, "cwd": job.path, "environment": variables}
    files.write_json(os.path.join(job.folder, runrecord.LAUNCH), plan)


def _new_conversation() -> str:
    """A random UUID (RFC 9562, version 4): the uuid module takes long to import."""
    bits = bytearray(os.urandom(16))
    bits[6] = bits[6] & 0x0F | 0x40
    bits[8] = bits[8] & 0x3F | 0x80
    text = bits.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _agents_git(job: Job) -> dict[str, str]:
    """Git settings for the agent: no signing prompts, and pushing is the scheduler's work."""
    settings = {"commit.gpgSign": "false", "tag.gpgSign": "false"}
    if job.record["remote"]:
        pushurl = f"remote.{job.record['remote']}.pushurl"
        settings[pushurl] = "the-scheduler-pushes-when-the-run-is-done"
        # Git adds ours to a remote's own push addresses: those lead nowhere too.
        for number, address in enumerate(git.push_addresses(job.layout.root, job.record["remote"])):
            settings[f"url.{settings[pushurl]}/{number}.insteadOf"] = address
    return settings


def _own_command(layout: Layout) -> str:
    """Make sure that a folder holds an `orchestrator` command; return the folder for PATH."""

    folder = os.path.join(layout.cache, "bin")
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


# --- after the client --------------------------------------------------------------------------


def conclude(folder: str, record: Record) -> None:
    """Make the outcome of an ended client, deliver what is done, and leave the run `finished`."""
    try:
        outcome = _conclude(Job.load(folder, record))
    except (OrchestratorError, OSError) as error:
        outcome = _fault(error)
    finish(folder, record, outcome)


def _conclude(job: Job) -> Outcome:
    record = job.record
    rescued = None
    if git.is_worktree(job.path):
        kept = worktree.preserve(job.path, record["branch"], record["id"])
        rescued = kept.ref
        record["steps"]["rescued"] = rescued
        job.save()
        if kept.dirty:
            git.clean(job.path)
    tip = delivery.tip(job.layout.root, record)
    commits = git.count_commits(job.layout.root, record["base_commit"], tip) if tip else 0
    stream = client.read_stream(os.path.join(job.folder, runrecord.STREAM))
    outcome = client.outcome(stream, _ended(job), job.role, commits)
    if git.is_worktree(job.path):
        git.detach(job.path, tip or record["start"])
    record["commits"] = commits
    job.save()
    if outcome.verdict == "done" and job.is_ours:
        outcome = _deliver(job, outcome, tip, commits, rescued)
    if job.role.delivers == "verdict":
        reviewed = job.task.pr if job.task else None
        outcome = replace(outcome, head=record.get("start"), pr=reviewed)
    return outcome


def _deliver(
    job: Job, outcome: Outcome, tip: str | None, commits: int, rescued: str | None
) -> Outcome:
    """Deliver what is done; a fault on the way leaves what the run cost and its conversation."""
    try:
        return delivery.deliver(job.folder, job.record, job, outcome, tip, commits, rescued)
    except checks.Stopped:
        return replace(outcome, verdict="stopped", reason="stopped: by a person")
    except (OrchestratorError, OSError) as error:
        return replace(outcome, verdict="system_fault", reason=_fault(error).reason)


def _ended(job: Job) -> client.Ended:
    ended = job.record.get("ended") or {}
    return client.Ended(
        exit_code=ended.get("exit_code"),
        signal=ended.get("signal"),
        stopped_for=ended.get("stopped_for"),
        start_error=ended.get("start_error"),
        stderr=_tail(os.path.join(job.folder, runrecord.STDERR)),
    )


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - STDERR_KEPT, 0))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
