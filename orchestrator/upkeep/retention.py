"""Retention: how much finished work is kept, as `retention` in agents.yaml says.

A tick that settled runs removes a few of the oldest run folders of their agents, and rotates the
history: the tick holds the lock, so it does little each time. The process at the end of a run does
the rest after its tick, outside the lock: it compresses long streams, and once a day it removes
merged branches and leftovers of killed processes, as `clean` would.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from os.path import join

from orchestrator.config import load
from orchestrator.git import base_branch, packing, repository
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Action
from orchestrator.model.work import PullRequest
from orchestrator.project import agent_memory, events, run_record, unsettled
from orchestrator.pulls import forges
from orchestrator.system import files, locks
from orchestrator.tasks import stores

if TYPE_CHECKING:
    from orchestrator.upkeep.leftovers import Item

#: Run folders of one agent that one tick removes: some milliseconds.
MOST_AT_ONCE = 10
#: Steps of the queue's upkeep after one run: enough for 200,000 finished tasks.
MOST_STEPS = 100
#: Merged branches that stay until they are `retention.days` old.
MOST_BRANCHES = 1_000
#: Bytes from which a stream is compressed: shorter streams stay readable with any tool.
LONG_STREAM = 1_000_000
#: Bytes at which a shared log is rotated.
LONG_LOG = 1_000_000
MEGABYTE = 1_000_000
#: Days of the diary of ticks that are kept.
KEPT_DAYS = 62
DAY = 86_400.0
#: Actions that settle a run.
_SETTLING = ("finish", "requeue", "block", "fail")
#: In these states, the last run of a task is still needed: a retry or an answer continues from it.
_REFERRING = ("incoming", "claimed", "blocked", "failed")


def settled(actions: Iterable[Action]) -> list[tuple[str, str]]:
    """Return the agent and the id of each run that a tick's actions settled."""
    return [(a.agent, a.run) for a in actions if a.action in _SETTLING and a.agent and a.run]


# --- under the tick's lock ---------------------------------------------------------------------


def prune(layout: Layout, config: Config, agents: Iterable[str]) -> list[OSError]:
    """Remove old run folders of these agents, and rotate a long history.

    Call it under the scheduler's lock. Returns the errors of folders that cannot be removed. If the
    queue is busy for very long, nothing is removed: the next settled run tries again.
    """
    events.rotate(layout, config.retention.events_mb * MEGABYTE)
    # An id begins with the time of its run.
    ids = {name: files.folders(layout.runs(name)) for name in set(agents)}
    beyond = {
        name: found[: max(len(found) - config.retention.runs, 0)] for name, found in ids.items()
    }
    if not any(beyond.values()):
        return []
    try:
        kept = _referred_to(layout)
    except locks.LockHeld:
        return []
    return [e for name, run_ids in beyond.items() for e in _remove(layout, name, run_ids, kept)]


def _referred_to(layout: Layout) -> set[str | None]:
    """Return the runs that tasks and agents still refer to."""
    states = agent_memory.every(layout, surely=True).values()
    kept = {state.last_run for state in states} | {*unsettled.runs(layout).values()}
    store = stores.of_project(layout)
    # Under the lock: a task that a person moves meanwhile must not be missed between two listings.
    with store.change():
        for state in _REFERRING:
            kept.update(task.run for task in store.list(state).tasks)
    return kept


def _remove(layout: Layout, agent: str, run_ids: list[str], kept: set[str | None]) -> list[OSError]:
    """Remove the folders of the first of these runs, except `kept`; return what went wrong."""
    removed = 0
    failures: list[OSError] = []
    for run_id in run_ids:
        folder = layout.run(agent, run_id)
        record = run_record.read(folder)
        # The processes of a run may live although no task refers to it.
        if run_id in kept or (record is not None and record.is_at_work()):
            continue
        try:
            files.remove_tree(folder)
            removed += 1
        except OSError as error:
            failures.append(error)
        if removed == MOST_AT_ONCE:
            break
    return failures


# --- after a run, outside the lock -------------------------------------------------------------


def after_run(layout: Layout, actions: Iterable[Action], now: float) -> None:
    """Compress the long streams of the runs that a tick settled; once a day, do the rest too.

    `now` is epoch seconds. A failure becomes an event of the project's history.
    """
    if not os.path.isdir(layout.cache):
        return  # an uninstall removed it meanwhile: do not create anything there again
    lock = locks.Lock(os.path.join(layout.cache, "keeping.lock"))
    # If it is held, the process at another run's end is doing this.
    with contextlib.suppress(locks.LockHeld), lock:
        try:
            for agent, run_id in settled(actions):
                _pack(layout, agent, run_id)
            _keep_flat(layout)
            _once_a_day(layout, now)
        except (OrchestratorError, OSError) as error:
            events.append(layout, now, "clean", reason=f"failed: {error}")


def _keep_flat(layout: Layout) -> None:
    """Do what keeps ticks and commands as fast as in a new project.

    All of it at once, so that a project with a long history is slow for one run only; no lock that
    others wait for is held longer than for some tenths of a second.
    """
    store = stores.of_project(layout)
    for _ in range(MOST_STEPS):
        if not store.tidy():
            break
    if config := load.usable(layout):
        forges.put_away(layout, config, forges.AT_ONCE)
    packing.pack(layout.root)


def _once_a_day(layout: Layout, now: float) -> None:
    memory_path = os.path.join(layout.cache, "keeping.json")
    memory = files.read_json(memory_path) or {}
    at = memory.get("at")
    # A time in the future does not count.
    if isinstance(at, int | float) and 0 <= now - at < DAY:
        return
    # Written first, so that a failure is not repeated at the end of every run.
    files.write_json(memory_path, {"at": now})
    _rotate_logs(layout)
    with contextlib.suppress(FileNotFoundError):
        for day in sorted(os.listdir(layout.ticks))[:-KEPT_DAYS]:
            files.remove(join(layout.ticks, day))
    config = load.usable(layout)
    if config is None:
        return
    from orchestrator.pulls import remote_branches
    from orchestrator.pulls import states as pull_states
    from orchestrator.upkeep import clean, leftovers

    for name in agent_memory.names(layout):
        for run_id in files.folders(layout.runs(name)):
            _pack(layout, name, run_id)
    prs = pull_states.known(layout, config)
    items = leftovers.found(layout, now)
    if prs is not None:
        # Not in the file that the end of each run reads: there can be tens of thousands.
        merged_path = os.path.join(layout.cache, "keeping-merged.json")
        known = files.read_json(merged_path) or memory.get("merged")
        merged, since = _merged(layout, config, prs, known, now)
        items += _due(layout, config, merged, {name: now - at for name, (_, at) in since.items()})
        files.write_json(merged_path, since)
    for line in remote_branches.drop_merged(layout, config, prs, every=True):
        events.append(layout, now, "clean", reason=line)
    for item in clean.carry_out(layout, config, prs or [], items):
        told = {"kind": item.kind, "name": item.name, "commit": item.commit or None}
        events.append(layout, now, "clean", reason=item.why, **told)


def _rotate_logs(layout: Layout) -> None:
    """Rotate long logs; one old file of each is kept."""
    from orchestrator.pulls import landing

    files.put_aside(layout.schedule_log, f"{layout.schedule_log}.1", LONG_LOG)
    # A check's output is read from the offset at which it began: not while a check may run.
    with contextlib.suppress(locks.LockHeld), landing.lock(layout, 0.0):
        for path in (join(layout.cache, "landing.log"), join(layout.cache, "landing.out")):
            files.put_aside(path, f"{path}.1", LONG_LOG)


def _merged(
    layout: Layout, config: Config, prs: list[PullRequest], known: object, now: float
) -> tuple[list[Item], dict[str, tuple[str, float]]]:
    """Return the merged branches, and since when each is known to be merged.

    Forges differ in what they say about the time of a merge, and a branch may have no pull request:
    so the time at which the branch was first found merged, at that commit, counts.
    """
    from orchestrator.upkeep import branches

    items = [item for item in branches.judged(layout, config, prs) if item.drop]
    before = known if isinstance(known, dict) else {}
    since: dict[str, tuple[str, float]] = {}
    for item in items:
        match before.get(item.name):
            case [item.commit, int() | float() as seen] if seen <= now:
                since[item.name] = (item.commit, seen)
            case _:
                since[item.name] = (item.commit, now)
    return items, since


def _due(
    layout: Layout, config: Config, merged: list[Item], ages: Mapping[str, float]
) -> list[Item]:
    """Return the merged branches that go today; `ages` are the seconds since each was merged.

    Each push and each fetch of git reads all refs. So beyond MOST_BRANCHES the oldest ones go
    early, if the base has all their commits: `git branch NAME COMMIT` brings such a branch back.
    """
    limit = config.retention.days * DAY
    due = [item for item in merged if ages[item.name] >= limit]
    # The later names first among those of one day: the ids of tasks count up.
    young = [item for item in reversed(merged) if ages[item.name] < limit]
    older = sorted(young, key=lambda item: ages[item.name])[MOST_BRANCHES:]
    if not older:
        return due
    base = config.base_branch or "HEAD"
    tip = base_branch.branch_commit(layout.root, base_branch.remote_of(layout, config), base)
    if tip is None:
        return due
    alone = repository.outside(layout.root, {item.commit for item in older}, {tip})
    return [*due, *(item for item in older if item.commit not in alone)]


def _pack(layout: Layout, agent: str, run_id: str) -> None:
    """Compress a long stream of a settled run. A kill at any instant leaves a complete file."""
    folder = layout.run(agent, run_id)
    path = os.path.join(folder, run_record.STREAM)
    try:
        if (
            os.lstat(path).st_size < LONG_STREAM
            or agent_memory.read(layout, agent, surely=True).run == run_id
        ):
            return
        import gzip
        from shutil import copyfileobj

        record = run_record.read(folder)
        if record is not None and record.status == "finished":
            with (
                files.open_regular(path) as plain,
                files.replacing(join(folder, run_record.PACKED_STREAM)) as packed,
                gzip.GzipFile("", "wb", fileobj=packed, compresslevel=6) as out,
            ):
                copyfileobj(plain, out, 1 << 20)
            os.unlink(path)
    except FileNotFoundError:
        return  # the run has no stream, or a tick removed the run's folder meanwhile
