"""What changed in a project, seen cheaply: file times, once per second while somebody listens."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Mapping

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.errors import StoreFault
from orchestrator.system import files
from orchestrator.tasks import stores
from orchestrator.tasks.store import Store, Watched

#: Seconds between two looks, and between two signs of life on a quiet stream.
POLL_SECONDS, ALIVE_SECONDS = 0.5, 15.0
#: A part of the project, and the state of its files.
Marks = Mapping[str, object]


def marks(layout: Layout) -> Marks:
    """Return values that change with the parts of a project: queue, agents, runs, prs, config.

    Reads no contents, and of the queue only its folders: every change in place is also an event.
    A queue that several hosts share has a number that changes with each change on any of them.
    """
    store = stores.of_project(layout)
    shared = _shared(store)
    agents, forges = files.folders(layout.agents), files.folders(layout.prs)
    faults = (
        *(layout.hold, layout.usage, layout.checkout_changed),
        *(layout.forge_fault, layout.landing_fault, layout.notify_fault),
    )
    return {
        "queue": (shared, *_queue(store, store.watched())),
        "agents": (shared, *(idle.mark(layout.agent_state(name)) for name in agents)),
        "runs": tuple(idle.mark(layout.runs(name)) for name in agents),
        "prs": (shared, *(idle.mark(os.path.join(layout.prs, n)) for n in (".", *forges))),
        "config": (idle.mark(layout.config), idle.mark(layout.roles)),
        "events": (shared, idle.mark(layout.events)),
        "tick": tuple(map(idle.mark, (layout.scheduler_lock, *faults))),
    }


def _queue(store: Store, watched: Watched | None) -> tuple[object, ...]:
    paths = watched.paths if watched else store.places()
    return tuple(map(idle.mark, paths)) or tuple(store.counts().items())


def _shared(store: Store) -> str:
    """Return what changes with a shared queue, and with the end of its database."""
    try:
        return store.news()
    except StoreFault:
        return "unreachable"


def differences(before: Marks, now: Marks) -> list[str]:
    """Return the names of the parts that changed. Pure."""
    return [name for name in now if now[name] != before.get(name)]


def digest(found: Marks) -> str:
    """Return a short text that is the same for the same marks. Pure."""
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16]


async def stream(layout: Layout) -> AsyncIterator[str]:
    """Yield server-sent events: `hello`, then `change` with the parts that changed, forever.

    The id of each is the digest of the marks: a listener that last saw another one missed a change.
    The format: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    before, said = await asyncio.to_thread(marks, layout), time.monotonic()
    yield f"retry: 1000\nevent: hello\ndata: {{}}\nid: {digest(before)}\n\n"
    while True:
        await asyncio.sleep(POLL_SECONDS)
        now = await asyncio.to_thread(marks, layout)
        changed = differences(before, now)
        before = now
        if changed:
            told = json.dumps({"changed": changed})
            yield f"event: change\ndata: {told}\nid: {digest(now)}\n\n"
        elif time.monotonic() - said > ALIVE_SECONDS:
            yield ": still here\n\n"
        else:
            continue
        said = time.monotonic()
