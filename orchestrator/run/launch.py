"""How a client is started: its arguments, its environment, and the start itself."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Sequence

from orchestrator.client import registry
from orchestrator.client.protocol import Assignment, Client, Confinement, command
from orchestrator.git import call, closed_pushes, repository, submodules, worktree
from orchestrator.git import settings as git_settings
from orchestrator.guard import client_environment, secret_names, user_commands
from orchestrator.layout import Layout, resources
from orchestrator.project import checkout_changed, mark, run_record
from orchestrator.project.run_record import ClientProcess
from orchestrator.pulls import forges
from orchestrator.run import client_files
from orchestrator.run.job import Job
from orchestrator.run.journal import Journal, Plan
from orchestrator.system import files, process, records


def write(job: Job) -> Plan:
    """Decide how the client is started; write that and the client's files into the run's folder."""
    client = registry.of_config(job.config)
    launch = client.launch(_assignment(job, client))
    for name, text in launch.files.items():
        job.journal.put(name, text.encode())
    job.journal.record = job.record._replace(session=launch.session)
    plan = Plan(
        tuple(launch.argv),
        job.path,
        {**_environment(job, launch.ignored), **launch.environment},
        launch.stdin,
        client.name,
        job.config.environment_allow,
    )
    checkout_changed.note(job.layout, job.folder)
    data = json.dumps(records.plain(plan)).encode()
    job.journal.put(run_record.LAUNCH, data)
    return plan


def _assignment(job: Job, client: Client) -> Assignment:
    project, named = job.layout.root, (job.role, job.agent)
    root, allow = resources(), job.config.environment_allow
    known = {**os.environ, **client.settings_variables(os.environ)}
    return Assignment(
        command(client, job.config),
        job.agent,
        job.role._replace(deny=forges.denied(job.role.deny)),
        job.folder,
        instructions=job.journal.path(run_record.INSTRUCTIONS),
        prompt=job.journal.path(run_record.PROMPT),
        task=job.record.task,
        mcp_configs=tuple(client_files.read(project, (n for x in named for n in x.mcp_config))),
        settings=tuple(client_files.read(project, (n for x in named for n in x.settings))),
        resume=job.record.resume or None,
        plugin=root if os.path.isdir(os.path.join(root, "skills")) else None,
        budget_usd=_budget(job),
        variables=os.environ,
        hidden=secret_names.hidden_from_commands(known, allow, client.sign_in_names(known)),
        confinement=_confinement(job) if job.is_confined else None,
    )


def _confinement(job: Job) -> Confinement:
    """Commands may write git's folder, but not the files in it that git runs or trusts."""
    folder = repository.git_folder(job.layout.root)
    protected = ("hooks", "config", "config.worktree", "info", mark.MARK)
    places = (folder, *submodules.git_folders(job.path))
    paths = [os.path.join(place, name) for place in places for name in protected]
    # The person's own. A path that is missing would get a device file in its place, which git
    # would take for a ref. `packed-refs` stays open: git replaces it, and the command would go on
    # to see the old one.
    own = ("HEAD", "index", "logs/HEAD", "refs/stash", "logs/refs/stash")
    there = [path for path in (os.path.join(folder, x) for x in own) if os.path.exists(path)]
    return Confinement((folder,), (*paths, *there, *worktree.leading_files(job.layout.root)))


def _budget(job: Job) -> float | None:
    """Return the US dollars that the run may cost: its own cap, or what is left for its task."""
    own, caps = job.agent.budget_usd, job.config.budgets
    limits = [caps.run_usd if own is None else own]
    if caps.task_usd is not None and job.task is not None:
        limits.append(caps.task_usd - job.task.cost_usd)
    return min((limit for limit in limits if limit is not None), default=None)


def _environment(job: Job, ignored: Sequence[str]) -> dict[str, str]:
    """Return the run's own variables (reference 7), which are added to the supervisor's."""
    record = job.record
    variables = {
        "ORCHESTRATOR_AGENT": job.agent.name,
        "ORCHESTRATOR_ROLE": job.agent.role,
        "ORCHESTRATOR_RUN_ID": record.id,
        "ORCHESTRATOR_TASK_ID": record.task or "",
        "PATH": os.pathsep.join((_own_command(job.layout), os.environ.get("PATH", os.defpath))),
        **user_commands.place(job.config, job.agent, job.layout),
        **client_environment.as_git_config(_agents_git(job, ignored)),
        **_closed_remotes(job),
        **checkout_changed.variables(job.folder),
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
    if not job.record.id.endswith("0"):
        # After each commit, git starts a process that looks whether it is to pack: in one run of
        # 16, that is often enough.
        settings["maintenance.auto"] = "false"
    if job.role.delivers == "verdict":
        # By default a diff shows of a submodule only that it has another commit, and the client
        # refuses reviewers the options of `git diff` that show more.
        settings["diff.submodule"] = "diff"
    if ignored:
        settings["core.excludesFile"] = _ignore_file(job, ignored)
    settings |= closed_pushes.for_agent(job.layout.root)
    return settings


def _closed_remotes(job: Job) -> dict[str, str]:
    """Write the files that close remotes on this disk to the agent's git; return its variables."""
    # They are the same in most runs of an agent.
    folder = job.layout.agent(job.agent.name)
    texts = closed_pushes.texts(job.layout.root, folder)
    for name, text in texts.items():
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # an agent can put anything there: it is replaced
            if files.holds(path, text):
                continue
        files.write_atomic(path, text, flush=False)
    return closed_pushes.variables(folder) if texts else {}


def _ignore_file(job: Job, ignored: Sequence[str]) -> str:
    """Write the run's ignore file for git: the user's own file, and the `ignored` paths."""
    known = git_settings.find(job.layout.root, "core.excludesFile").get("core.excludesFile")
    # Where git looks without that setting: gitignore(5).
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    theirs = os.path.expanduser(known[-1] if known else os.path.join(config, "git", "ignore"))
    try:
        own = files.read_regular(os.path.realpath(theirs)).decode(errors="surrogateescape")
    except OSError:
        own = ""  # git ignores a file that is missing or that it may not read
    path = os.path.join(job.folder, "ignore")
    text = "\n".join([own.rstrip("\n"), *(f"/{name}" for name in ignored), ""])
    files.write_atomic(path, text.encode("utf-8", "surrogateescape"))
    return path


def _own_command(layout: Layout) -> str:
    """Make sure that a folder holds an `orchestrator` command; return the folder for PATH.

    It is the first folder of the PATH. Its name has a part that no commit can know: otherwise a
    folder that came with a commit could replace an agent's `git`, or its client.
    """
    folder = os.path.join(layout.cache, f"bin-{mark.key(layout)[:8]}")
    path = os.path.join(folder, "orchestrator")
    text = f'#!/bin/sh\nexec {shlex.join(process.own_program())} "$@"\n'.encode()
    if not files.holds(path, text):
        files.make_folder(folder)
        files.write_atomic(path, text, 0o700)
    return folder


# --- the start ---


def start(journal: Journal, plan: Plan) -> None:
    """Start the client; the record names it before it executes its first instruction.

    The child waits on a pipe until its pid is in the journal. If this process dies before that, the
    child reads the end of the pipe and exits, so every client that runs is in a record.
    """
    client = registry.named(plan.client)
    known = {**os.environ, **client.settings_variables(os.environ)}
    variables = client_environment.for_client(
        known,
        plan.environment,
        plan.allow,
        kept=client.sign_in_names(known),
        dropped=client.session_names,
    )
    process.adopt_orphans()  # before there are any (`watch`)
    go_read, go_write = os.pipe()
    error_read, error_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_write)
        _become_client(journal, plan, variables, go_read, error_write)
    os.close(go_read)
    os.close(error_write)
    identity, since = process.identity(child), time.monotonic()
    started = ClientProcess(child, identity, time.time(), since=since)
    journal.write_surely(journal.record._replace(client=started, status="running"))
    os.write(go_write, b"1")
    os.close(go_write)
    with os.fdopen(error_read, "rb") as errors:
        said = errors.read().decode(errors="replace")
    if said:
        started = started._replace(start_error=said)
        journal.write_surely(journal.record._replace(client=started))


def _become_client(
    journal: Journal, plan: Plan, variables: dict[str, str], go: int, errors: int
) -> None:
    """In the forked child: wait for the go-ahead, then become the client. Never returns."""
    program = plan.argv[0]
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if os.read(go, 1) == b"1":
            process.redirect(0, plan.stdin, os.O_RDONLY)
            output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            process.redirect(1, journal.path(run_record.STREAM), output)
            process.redirect(2, journal.path(run_record.STDERR), output)
            os.chdir(plan.cwd)
            os.execvpe(program, plan.argv, variables)
    except OSError as error:
        os.write(errors, f"{program}: {error.strerror}".encode())
    except BaseException as error:
        # An argument that cannot be passed on, no memory, a signal: nothing that the work did.
        os.write(errors, f"{program}: {type(error).__name__}: {error}".encode(errors="replace"))
    finally:
        os._exit(127)
