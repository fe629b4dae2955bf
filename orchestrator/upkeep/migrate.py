"""Moving a queue between the files of this machine and a database, in both directions.

The source stays as it is until every task and every record of a pull request was read back from
the target and compared. A move that is interrupted begins again: nobody works with a target that is
not complete. The last step sets `store` in agents.yaml; then the source is put aside.

The libraries for a database are there once `access.at` has returned; so what needs them is imported
after it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from orchestrator.config import change, edit
from orchestrator.database import access, address, this_host
from orchestrator.database.address import FILES
from orchestrator.layout import Layout
from orchestrator.model.config import FORGES
from orchestrator.model.errors import OrchestratorError, UsageError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import STATES
from orchestrator.project import agent_memory, unsettled
from orchestrator.pulls import shared_book
from orchestrator.system import files, locks
from orchestrator.tasks import stores
from orchestrator.tasks.file_store import FileStore
from orchestrator.tasks.store import Store


class Moved(NamedTuple):
    """What a move did, or would do."""

    source: str
    target: str
    #: The number of tasks by state.
    tasks: dict[str, int]
    pull_requests: int
    #: Files of the source that are not tasks; they stay where they are.
    left: tuple[str, ...]
    #: Where the files of the source are now; None for a database, or in a dry run.
    kept: str | None = None


def migrate(layout: Layout, to: str, *, dry_run: bool) -> Moved:
    """Move the queue to `to`: `files`, or an address. Raises OrchestratorError and OSError.

    The address that `ORCHESTRATOR_STORE` gives to the same database is used, as it is later on.
    """
    source, target = _places(layout, to)
    if source == target:
        moved = _counted(layout, source, to)
        return moved if dry_run else moved._replace(kept=_finish(layout, target))
    if dry_run:
        _require_quiet(layout, source, target)
        if target != FILES:
            _require_free(layout, target)
        return _counted(layout, source, to)
    with ExitStack() as held:
        held.enter_context(locks.Lock(layout.scheduler_lock, wait=locks.LONGEST_WAIT))
        if source == FILES:
            _arrived(layout)  # a move to files was killed after its last step
        before = _store(layout, source)
        held.enter_context(before.change())
        _require_quiet(layout, source, target)
        moved = _counted(layout, source, to)  # the files that are copied are not left
        after = _begun(layout, target)
        for state in STATES:
            for task in before.list(state).tasks:
                after.put(before.read(task), state, task.created or time.time())
        _copy_records(layout, source, target)
        _share_memories(layout, after)
        _require_same(layout, source, target)
        return moved._replace(kept=_end(layout, source, target, to))


def _places(layout: Layout, to: str) -> tuple[str, str]:
    """Return where the queue is, and where it is to be. Raises UsageError."""
    if to != FILES and not address.is_address(to):
        message = "--to takes files, or an address that begins with postgresql://"
        raise UsageError(message, "for example: --to files")
    if to != FILES and (why := address.wrong(to)):
        hint = address.PASSWORD_HINT if why == address.HAS_PASSWORD else "for example: files"
        raise UsageError(f"the queue cannot be moved to {address.shown(to)}: {why}", hint)
    source, target = address.of_project(layout, os.environ), address.chosen(to, os.environ)
    if address.differ(to, target):
        message = f"{address.VARIABLE} names another database than --to: {address.shown(target)}"
        raise UsageError(message, f"unset {address.VARIABLE}, or correct it")
    if FILES not in (source, to):
        session = access.at(layout, source)
        from orchestrator.database import schema

        if schema.is_there(session) and schema.is_copying(session):
            return source, source  # interrupted after its last check: only the end is missing
    if (source == FILES) == (to == FILES):
        where = "files" if to == FILES else "a database"
        hint = "see where it is: orchestrator doctor"
        if to not in (FILES, source):
            hint += "; to move it to another database, first: orchestrator queue migrate --to files"
        raise OrchestratorError(f"the queue is in {where} already", hint, code="wrong_state")
    return source, target


def _store(layout: Layout, place: str) -> Store:
    return stores.at(layout, _session(layout, place), moves=True)


def _require_quiet(layout: Layout, *places: str) -> None:
    """Raise OrchestratorError while any host has a run."""
    found = [f"{name} here" for name in unsettled.runs(layout)]
    for place in places:
        if place != FILES:
            session = access.at(layout, place)
            from orchestrator.database import hosts, schema

            known = hosts.leases(session) if schema.is_there(session) else ()
            found += [f"{lease.agent} on the host {lease.host}" for lease in known]
    if found:
        message = f"runs are at work: {', '.join(dict.fromkeys(found))}"
        hint = "first on each host: orchestrator agent pause --all, then wait; or stop --all"
        raise OrchestratorError(message, hint, code="running")


def _require_free(layout: Layout, target: str) -> None:
    """Raise OrchestratorError if the database to move to has a queue with tasks; change nothing."""
    session = access.at(layout, target)
    from orchestrator.database import schema

    if schema.is_there(session):
        schema.require_free(session)


def _begun(layout: Layout, target: str) -> Store:
    """Return the store to move to, empty. Raises OrchestratorError if it has tasks of its own."""
    store = _store(layout, target)
    if target != FILES:
        session = access.at(layout, target)
        from orchestrator.database import schema

        schema.begin_copy(session, functools.partial(this_host.note_project, layout))
        return store
    store.prepare()
    if sum(store.counts().values()) and not os.path.exists(layout.moving_here):
        message = f"{layout.shared} has a queue with tasks already"
        hint = "move the folder `queue` in it aside"
        raise OrchestratorError(message, hint, code="not_empty")
    files.write_atomic(layout.moving_here, b"")
    return store


def _records(layout: Layout, place: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the records of pull requests at a place, each with its forge."""
    for forge in FORGES:
        book = shared_book.at(layout, _session(layout, place), forge)
        for pr in book.every():
            record = book.raw(pr.id)
            if record.get("url") == book.path(pr.id):
                record = {**record, "url": None}
            yield forge, record


def _session(layout: Layout, place: str) -> shared_book.MaybeSession:
    return None if place == FILES else access.at(layout, place)


def _copy_records(layout: Layout, source: str, target: str) -> None:
    for forge, record in _records(layout, source):
        book = shared_book.at(layout, _session(layout, target), forge)
        number = str(record["id"])
        has_own = record.get("url") is None
        with book.locked():
            book.put(number, {**record, "url": book.path(number)} if has_own else record)


def _share_memories(layout: Layout, store: Store) -> None:
    """Let the other hosts know what agents did here: intervals and the day's costs are global."""
    for name in agent_memory.names(layout):
        store.end(name, "", agent_memory.values(agent_memory.read(layout, name, surely=True)))


def _digests(layout: Layout, place: str) -> dict[str, str]:
    """Return a digest of every task, with its state, and of every record of a pull request."""
    store, found = _store(layout, place), {}
    for state in STATES:
        for task in store.list(state).tasks:
            found[task.id] = f"{state} {hashlib.sha256(store.read(task).raw).hexdigest()}"
    for forge, record in _records(layout, place):
        text = repr(sorted(record.items(), key=lambda pair: pair[0]))
        found[f"{forge}:{record['id']}"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def _require_same(layout: Layout, source: str, target: str) -> None:
    before, after = (_digests(layout, place) for place in (source, target))
    if before != after:
        keys = before.keys() | after.keys()
        wrong = sorted(key for key in keys if before.get(key) != after.get(key))
        message = f"not moved: {len(wrong)} of {len(before)} differ at the target: {wrong[0]}"
        raise OrchestratorError(message, "try again; if it repeats, please report this")


def _counted(layout: Layout, source: str, target: str) -> Moved:
    store = _store(layout, source)
    listings = {state: store.list(state) for state in STATES}
    return Moved(
        source if source == FILES else address.shown(source),
        target if target == FILES else address.shown(target),
        {state: len(listing.tasks) for state, listing in listings.items()},
        sum(1 for _ in _records(layout, source)),
        tuple(bad.where for listing in listings.values() for bad in listing.malformed),
    )


def _end(layout: Layout, source: str, target: str, to: str) -> str | None:
    """Switch this clone to `to`; return where the files of the source are now.

    After an interruption, one of the two queues is closed, and the next `migrate` goes on.
    """
    if target == FILES:
        session = access.at(layout, source)
        from orchestrator.database import schema

        schema.move_away(session, f"the files of {layout.root}")
    change.apply(layout, lambda text: edit.set_values(text, (), {"store": to}))
    if target != FILES:
        return _finish(layout, target)
    _arrived(layout)
    return None


def _arrived(layout: Layout) -> None:
    """Note that the queue of files is whole."""
    files.remove(layout.moving_here)


def _finish(layout: Layout, target: str) -> str | None:
    """Put the source's files aside, and open the queue in the database."""
    session = access.at(layout, target)
    from orchestrator.database import schema

    kept = _put_aside(layout)
    schema.end_copy(session)
    return kept


def _put_aside(layout: Layout) -> str | None:
    """Rename the folders of the queue of files, so that no file in them counts any more."""
    queue = FileStore(layout)
    if not queue.is_there():
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = files.free_name(os.path.join(layout.shared, f"moved-{stamp}"))
    files.make_folder(kept)
    if os.path.isdir(layout.prs):
        os.rename(layout.prs, os.path.join(kept, "prs"))
    queue.put_aside(kept)
    files.make_folder(layout.prs)
    return kept
