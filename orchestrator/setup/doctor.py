"""The set-up as the scheduler will see it: every check, each with its verdict and what to do.

Looks only; nothing is changed. A finding's `code` is the word that `status` uses for the same
trouble, whether it is there or not.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping

from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.errors import OrchestratorError
from orchestrator.git import repository
from orchestrator.layout import Layout
from orchestrator.model import STATES
from orchestrator.project import agent_memory, faults, mark
from orchestrator.pulls import landing
from orchestrator.schedule.entry import LOG
from orchestrator.setup import init_project, probes, schedule_probe
from orchestrator.setup.probes import Finding
from orchestrator.system import locks
from orchestrator.tasks.store import Store
from orchestrator.tick import lock, problems
from orchestrator.upkeep import clean

#: Bytes free below which a run may fail, and below which the queue itself may.
LITTLE_SPACE, NO_SPACE = 1 << 30, 100 << 20
#: Seconds by which a recorded time may be ahead of the clock.
AHEAD = 60.0
#: How many findings of one kind are listed one by one.
MOST_LISTED = 20


def examine(layout: Layout, variables: Mapping[str, str], now: float) -> list[Finding]:
    """Return every finding about a project. `variables` are the environment, `now` is epoch."""
    loaded = load.settings(layout, write_cache=False)
    findings: list[Finding] = []
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _programs(layout, loaded, variables),
        lambda: _set_up(layout),
        lambda: _configuration(layout, loaded),
        lambda: _files(layout),
        lambda: _tracked(layout),
        lambda: _ticks(layout, now),
        lambda: _locks(layout),
        lambda: _tasks(layout),
        lambda: _memory(layout, now),
        lambda: _leftovers(layout, loaded, now),
        lambda: schedule_probe.look(layout, variables, list(findings)),
    ]
    for check in checks:
        try:
            findings += check()
        except (OrchestratorError, OSError) as error:
            findings.append(_could_not_look(error))
    return findings


def reachable(layout: Layout, variables: Mapping[str, str]) -> list[Finding]:
    """Return what is found of programs and services in this environment; asks no schedule."""
    return list(_programs(layout, load.settings(layout, write_cache=False), variables))


def without_project(error: OrchestratorError, cwd: str) -> list[Finding]:
    """Return what can be said where no project is found."""
    hint = error.hint or "go to your project, or name it with --project"
    project_finding = Finding("project", "fail", error.message, hint)
    return [probes.python(), probes.git_program(cwd), project_finding]


def _could_not_look(error: OrchestratorError | OSError) -> Finding:
    if isinstance(error, OrchestratorError):
        return Finding(error.code, "fail", error.message, error.hint or "mend that first")
    where = error.filename or "a file"
    hint = "look at its owner and its permissions"
    return Finding("permissions", "fail", f"{where}: {error.strerror or error}", hint)


def _programs(layout: Layout, loaded: Settings, variables: Mapping[str, str]) -> Iterator[Finding]:
    yield probes.python()
    git_found = probes.git_program(layout.root)
    yield git_found
    yield from probes.client(layout, loaded.config, variables)
    if git_found.level == "fail":
        return
    trust = probes.trust(layout.root)
    yield trust
    if trust.level != "fail":
        yield probes.git_identity(layout.root)
        yield probes.forge_program(layout, loaded.config, variables)
        yield probes.remote(layout, loaded.config)


# --- set-up and configuration ------------------------------------------------------------------


def _set_up(layout: Layout) -> Iterator[Finding]:
    try:
        mark.require_initialised(layout)
    except OrchestratorError as error:
        yield Finding(error.code, "fail", error.message, error.hint)
    else:
        yield Finding("not_initialised", "ok", f"set up: {layout.root}")


def _configuration(layout: Layout, loaded: Settings) -> Iterator[Finding]:
    for problem in loaded.problems:
        hint = problem.hint or "correct that in the file"
        yield Finding(problem.code, "fail", problem.message, hint)
    config = loaded.config
    if not loaded.problems:
        count = len(config.agents)
        yield Finding("config_error", "ok", f"agents.yaml is good: {count} agents")
    if not loaded.good:
        return
    if config.paused:
        resume = "when you want it to work: orchestrator agent resume --all"
        yield Finding("system_paused", "warn", "the whole system is paused", resume)
    if not config.agents:
        add = "orchestrator agent add impl-agent-1 --role implementer"
        yield Finding("no_agents", "warn", "no agent is configured: nothing will run", add)


# --- files -------------------------------------------------------------------------------------


def _files(layout: Layout) -> Iterator[Finding]:
    if not os.path.isdir(layout.home):
        yield Finding("permissions", "fail", f"{layout.home} is missing", mark.way_in(layout))
        return
    folders = [layout.home, layout.agents, *map(layout.state, STATES)]
    wrong = [found for path in folders if (found := _folder(path))]
    yield from wrong
    for path in (layout.home, layout.config):
        if os.path.lexists(path) and os.lstat(path).st_mode & stat.S_IWOTH:
            message = f"everybody on this machine may write {path}, which names programs to run"
            yield Finding("permissions", "warn", message, f"chmod o-w {path}")
    for path in init_project.own_folders(layout):
        if os.path.isdir(path) and os.stat(path).st_mode & init_project.OTHERS:
            message = f"others on this machine can look into {path}, which holds tasks and logs"
            yield Finding("permissions", "warn", message, f"chmod go= {shlex.quote(path)}")
    if not wrong:
        yield Finding("permissions", "ok", f"{layout.home} can be written")
    free = shutil.disk_usage(layout.home).free
    message = f"{free / (1 << 30):.1f} GiB free on the disk of {layout.home}"
    level = "fail" if free < NO_SPACE else "warn" if free < LITTLE_SPACE else "ok"
    yield Finding("disk", level, message, None if level == "ok" else "make room on that disk")


#: What of `.orchestrator/` belongs into commits; everything else is this machine's.
_COMMITTED = ("agents.yaml", "global-instructions.md", "commands/", "roles/")


def _tracked(layout: Layout) -> Iterator[Finding]:
    """What git tracks of our own state: whoever commits can write it, and a pull replaces it."""
    folder = ".orchestrator/"
    committed = tuple(folder + name for name in _COMMITTED)
    found = [n for n in repository.tracked(layout.root, folder) if not n.startswith(committed)]
    for name in found[:MOST_LISTED]:
        message = f"git tracks {name}, which is this machine's own: commits can replace it"
        hint = f"git rm --cached -- {shlex.quote(name)}, and commit that"
        yield Finding("tracked_state", "warn", message, hint)
    if not found:
        yield Finding("tracked_state", "ok", "git tracks nothing that is this machine's own")


def _folder(path: str) -> Finding | None:
    if not os.path.isdir(path):
        return Finding("permissions", "fail", f"{path} is missing", "run: orchestrator init")
    if not os.access(path, os.W_OK | os.X_OK):
        hint = f"give it back to yourself: chown -R $(id -un) {path}"
        return Finding("permissions", "fail", f"{path} cannot be written", hint)
    return None


def _tasks(layout: Layout) -> Iterator[Finding]:
    store, count = Store(layout), 0
    for state in STATES:
        for bad in store.list(state).malformed:
            count += 1
            if count <= MOST_LISTED:
                message = f"{bad.path}: {bad.reason}"
                yield Finding("task_malformed", "fail", message, "mend or move that file")
    if count > MOST_LISTED:
        message = f"{count - MOST_LISTED} more files in the queue are no tasks"
        yield Finding("task_malformed", "fail", message, "mend or move the ones above first")
    if count == 0:
        yield Finding("task_malformed", "ok", "every file in the queue is a task")


def _leftovers(layout: Layout, loaded: Settings, now: float) -> Iterator[Finding]:
    found = False
    configured = {agent.name for agent in loaded.config.agents}
    for name in agent_memory.names(layout):
        if loaded.good and name not in configured:
            found = True
            message = f"{layout.agent(name)} is of an agent that is not configured"
            yield Finding("leftovers", "warn", message, "see: orchestrator clean --dry-run")
    left = [item.name for item in clean.leftovers(layout, now) if item.drop]
    for path in left[:MOST_LISTED]:
        found = True
        message = f"{path} was left by a process that was killed"
        yield Finding("leftovers", "warn", message, "see: orchestrator clean --dry-run")
    if not found:
        yield Finding("leftovers", "ok", "nothing was left behind")


def _names(folder: str, wanted: Callable[[str], bool]) -> list[str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [os.path.join(folder, name) for name in sorted(names) if wanted(name)]


# --- ticks, clock and locks --------------------------------------------------------------------


def _ticks(layout: Layout, now: float) -> Iterator[Finding]:
    ticked = problems.last_tick(layout)
    install = "install the schedule: orchestrator init --schedule cron; or: orchestrator tick"
    if entry := init_project.schedule(layout):
        install = f"is {entry.kind} at work on this machine? What ticks complained of is in {LOG}"
    overdue = problems.is_overdue(layout, now)
    if not mark.is_initialised(layout):
        install = mark.way_in(layout)
    if ticked is None and overdue:
        yield Finding("tick_stale", "fail", "there never was a tick", install)
    elif ticked is None:
        yield Finding("tick_stale", "ok", init_project.first_tick(layout))
    elif overdue:
        message = f"the last tick was {(now - ticked) / 60:.0f} minutes ago"
        yield Finding("tick_stale", "fail", message, install)
    else:
        yield Finding("tick_stale", "ok", f"the last tick was {max(now - ticked, 0):.0f} s ago")
    hung = lock.hung_tick(layout, now)
    if hung is not None:
        yield Finding(hung.code, "fail", hung.message, hung.hint)


def _memory(layout: Layout, now: float) -> Iterator[Finding]:
    """Times ahead of the clock, and a hold that stops everybody."""
    hold = faults.read_hold(layout)
    if hold is not None and (hold.until is None or now < hold.until):
        yield Finding(hold.code, "fail", hold.message, hold.hint or "it goes on by itself")
    ahead = [f"the last tick of {layout.scheduler_lock}"] * _is_ahead(
        problems.last_tick(layout), now
    )
    for name in agent_memory.names(layout):
        if _is_ahead(agent_memory.read(layout, name).last_started, now):
            ahead.append(f"the last start of {name}")
    for state in ("incoming", "claimed"):
        for path in _names(layout.state(state), lambda name: name.endswith(".md")):
            if _is_ahead(os.lstat(path).st_mtime, now):
                ahead.append(path)
    for what in ahead[:MOST_LISTED]:
        message = f"{what} is ahead of this machine's clock"
        yield Finding(
            "clock", "warn", message, "look at the clock: date -u; such times count as now"
        )
    if not ahead:
        yield Finding("clock", "ok", "no recorded time is ahead of the clock")


def _is_ahead(at: float | None, now: float) -> bool:
    return at is not None and at > now + AHEAD


def _locks(layout: Layout) -> Iterator[Finding]:
    paths = [
        layout.scheduler_lock,
        os.path.join(layout.queue, ".lock"),
        os.path.join(layout.prs, ".lock"),
        os.path.join(layout.cache, "fetch.lock"),
        landing.lock_path(layout),
        *map(layout.agent_lock, agent_memory.names(layout)),
    ]
    held = [(path, holder) for path in paths if (holder := locks.holder(path))]
    for path, holder in held:
        who = f"process {holder.pid}" if holder.pid else "another process"
        since = f", which runs since {holder.since}" if holder.since else ""
        name = os.path.relpath(path, layout.home)
        yield Finding("locks", "ok", f"{name} is held by {who}{since}")
    if not held:
        yield Finding("locks", "ok", "no lock is held")
