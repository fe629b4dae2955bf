"""The checks of `doctor` in the project's folder: permissions, space, tasks, times and locks."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator

from orchestrator.database import access, this_host
from orchestrator.git import repository, worktree_commands
from orchestrator.model.config import FORGES
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.project import agent_memory, mark
from orchestrator.pulls import book, forges
from orchestrator.setup import init_project
from orchestrator.setup.probes import Subject
from orchestrator.system import disk, process
from orchestrator.tasks import stores
from orchestrator.tick import held, observe, problems
from orchestrator.upkeep import leftovers as left

#: With fewer free bytes than these, a run may fail, and the queue itself may fail.
LITTLE_SPACE, NO_SPACE = 1 << 30, 100 << 20
#: Seconds by which a recorded time may be ahead of the clock.
AHEAD = 60.0
#: Maximum findings of one kind that are listed.
MOST_LISTED = 20
#: Finished tasks, the newest, whose pull requests are looked for.
MOST_FINISHED = 100
#: The files of `.orchestrator/` that belong in commits; all others belong to this machine.
_COMMITTED = ("agents.yaml", "global-instructions.md", "commands/", "roles/")


def permissions(subject: Subject) -> Iterator[Finding]:
    layout = subject.layout
    if not os.path.isdir(layout.home):
        yield fail("permissions", f"{layout.home} is missing", mark.way_in(layout))
        return
    wrong = list(_closed(subject))
    for message, hint in wrong:
        yield fail("permissions", message, hint)
    for path in (layout.home, layout.config):
        if os.path.lexists(path) and os.lstat(path).st_mode & stat.S_IWOTH:
            message = f"every user of this machine can write {path}, which names programs to run"
            yield warn("permissions", message, f"chmod o-w {path}")
    for path in init_project.own_folders(layout):
        if os.path.isdir(path) and os.stat(path).st_mode & init_project.OTHERS:
            message = f"other users of this machine can read {path}, which holds tasks and logs"
            yield warn("permissions", message, f"chmod go= {shlex.quote(path)}")
    if not wrong:
        yield ok("permissions", f"{layout.home} can be written")


def _closed(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield what cannot be written, and what to do about each."""
    layout = subject.layout
    if found := disk.unwritable(layout.home):  # the disk, for example: then all below it
        yield found
        return
    kept = (layout.shared, layout.prs, layout.cache, layout.ticks)
    places = [layout.agents, *filter(os.path.lexists, kept)]
    yield from filter(None, map(disk.unwritable, places))
    yield from _of_queue(subject, "permissions")
    agents = {agent.name for agent in subject.loaded.config.agents}
    for name in sorted(agents.union(agent_memory.names(layout))):
        yield from filter(None, [agent_memory.closed(layout, name)])


def shared_queue(subject: Subject) -> Iterator[Finding]:
    """Say whether the database of a queue that hosts share can be used."""
    session = access.of_project(subject.layout)
    if session is None:
        return
    from orchestrator.database import schema

    session.require_unshared()
    schema.require(session, functools.partial(this_host.project, subject.layout))
    name = this_host.read(subject.layout).name
    yield ok("store_unreachable", f"the queue in {session.shown} answers; this host is {name}")


def free_space(subject: Subject) -> Iterator[Finding]:
    home = subject.layout.home
    free = shutil.disk_usage(home if os.path.isdir(home) else subject.layout.root).free
    message = f"{free / (1 << 30):.1f} GiB free on the disk of {home}"
    if free >= LITTLE_SPACE:
        yield ok("disk", message)
    else:
        level = fail if free < NO_SPACE else warn
        yield level("disk", message, "free space on this disk")


def tracked(subject: Subject) -> Iterator[Finding]:
    """Find this machine's state among the files that git tracks: a pull would replace it."""
    folder = ".orchestrator/"
    committed = tuple(folder + name for name in _COMMITTED)
    names = repository.tracked(subject.layout.root, folder)
    found = [name for name in names if not name.startswith(committed)]
    for name in found[:MOST_LISTED]:
        message = f"git tracks {name}, which belongs to this machine: commits can replace it"
        hint = f"git rm --cached -- {shlex.quote(name)}, and commit that"
        yield warn("tracked_state", message, hint)
    if not found:
        yield ok("tracked_state", "git tracks no file that belongs to this machine only")


def tasks(subject: Subject) -> Iterator[Finding]:
    found = _of_queue(subject, "task_malformed")
    for message, hint in found[:MOST_LISTED]:
        yield fail("task_malformed", message, hint)
    if len(found) > MOST_LISTED:
        message = f"{len(found) - MOST_LISTED} more files in the queue are not tasks"
        yield fail("task_malformed", message, "fix or move the files above first")
    if not found:
        yield ok("task_malformed", "every file in the queue is a task")


def pull_requests(subject: Subject) -> Iterator[Finding]:
    """Find delivered tasks whose pull requests have no record: nobody reviews or lands them."""
    layout, config = subject.layout, subject.loaded.config
    damaged = [os.path.basename(x) for f in FORGES for x, _ in book.damaged(layout.records(f))]
    for task in stores.of_project(layout).newest(MOST_FINISHED)["done"].tasks:
        is_over = not task.pr or task.merged or task.reviews
        if is_over or f"{task.pr}.json" in damaged:  # `status` says what to do about a damaged one
            continue
        if forges.of_task(layout, config, task)[1] is None:
            gone = forges.unrecorded(task)
            yield fail("record_missing", gone.message, gone.hint or "")


def _of_queue(subject: Subject, code: str) -> list[tuple[str, str]]:
    """Return the messages and hints of the queue's problems with one code."""
    found = subject.queue()
    return [(problem.message, problem.hint or "") for problem in found if problem.code == code]


def lost_runs(subject: Subject) -> Iterator[Finding]:
    """Find runs whose files were deleted. Raises OSError if the disk gives no answer."""
    _, _, runs, records = observe.observe_runs(subject.layout, surely=True)
    for problem in held.lost(subject.layout, runs, records):
        yield warn(problem.code, problem.message, problem.hint or "see: orchestrator status")


def leftovers(subject: Subject) -> Iterator[Finding]:
    layout, loaded = subject.layout, subject.loaded
    configured = {agent.name for agent in loaded.config.agents}
    names = agent_memory.names(layout) if loaded.good else []
    messages = [
        f"{layout.worktree(name)} belongs to an agent that is not configured"
        for name in names
        if name not in configured and worktree_commands.is_worktree(layout.worktree(name))
    ]
    items = [item for item in left.found(layout, subject.now) if item.drop]
    messages += [f"{item.name} was left by a process that was killed" for item in items]
    for message in messages[:MOST_LISTED]:
        yield warn("leftovers", message, "see: orchestrator clean --dry-run")
    if not messages:
        yield ok("leftovers", "no leftovers")


def clock(subject: Subject) -> Iterator[Finding]:
    """Find recorded times that are ahead of the clock."""
    layout = subject.layout
    times = {f"the last tick ({layout.scheduler_lock})": problems.last_tick(layout)}
    for name in agent_memory.names(layout):
        times[f"the last start of {name}"] = agent_memory.read(layout, name).last_started
    late = [what for what, at in times.items() if (at or 0.0) > subject.now + AHEAD]
    ahead = [f"{what} is ahead of this machine's clock" for what in late]
    ahead += [message for message, _ in _of_queue(subject, "clock")]
    for message in sorted(ahead)[:MOST_LISTED]:
        yield warn("clock", message, "check the clock: date -u; such times count as now")
    if not ahead:
        yield ok("clock", "no recorded time is ahead of the clock")


def locks_held(subject: Subject) -> Iterator[Finding]:
    layout = subject.layout
    found = held.held_locks(layout)
    for path, holder in found.items():
        who = f"process {holder.pid}" if holder.pid else "another process"
        began = process.started(holder.pid) if holder.pid else None
        form = ", running since %Y-%m-%d %H:%M:%S"
        since = time.strftime(form, time.localtime(began)) if began else ""
        command = f" ({holder.command})" if holder.command else ""
        message = f"{os.path.relpath(path, layout.home)} is held by {who}{since}{command}"
        if holder.is_stopped:
            yield warn("locks", f"{message}; it is stopped (SIGSTOP)", holder.hint())
        else:
            yield ok("locks", message)
    if not found:
        yield ok("locks", "no lock is held")
