"""A run's folder: `runs/<run-id>/`, one an attempt, never overwritten.

`run.json` is the run's journal: whatever happens, the next process reads there how far it came.
Before the supervisor lives the tick writes it, afterwards only the holder of the agent's lock.
Read by the waiting supervisor, so nothing heavy is imported.
"""

from __future__ import annotations

import os
import time
from typing import Any

from orchestrator.system import disk, files, process

Record = dict[str, Any]

INSTRUCTIONS = "instructions.md"
PROMPT = "prompt.md"
STREAM = "stream.jsonl"
#: What a long stream becomes when its run is over.
PACKED_STREAM = "stream.jsonl.gz"
STDERR = "stderr.log"
SUPERVISOR_LOG = "supervisor.log"
#: How to start the client: written by `runner.prepare`, read by the supervisor.
LAUNCH = "launch.json"
#: A person's wish to end the run, and why; it outlives a supervisor that is killed.
STOP = "stop"


_NEEDED: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "agent": (str,),
    "role": (str,),
    "task": (str, type(None)),
    "created": (int, float),
    "status": (str,),
    "steps": (dict,),
}
#: What only a run that is to go on must have.
_NEEDED_TO_GO_ON: dict[str, tuple[type, ...]] = {
    "project": (str,),
    "attempt": (int,),
    "limits": (dict,),
    "settings": (dict,),
}


def can_go_on(record: Record) -> bool:
    """Return whether a supervisor can take the run up from this record."""
    return all(files.fits(record.get(name), kinds) for name, kinds in _NEEDED_TO_GO_ON.items())


def is_of_clone(record: Record, folder: str, key: str) -> bool:
    """Return whether the record in `folder` bears the clone's `key`.

    A run's folder says which program to start: what came with somebody's commit must not be
    believed.
    """
    return bool(record.get("key", "") == key and record["id"] == os.path.basename(folder))


def read(folder: str) -> Record | None:
    """Return a run's record; None when there is none, or it is none that we wrote."""
    record = files.read_json(os.path.join(folder, "run.json"))
    if record is None:
        return None
    if not all(files.fits(record.get(name), kinds) for name, kinds in _NEEDED.items()):
        return None
    for name in ("supervisor", "client", "ended", "outcome", "review"):
        if not isinstance(record.get(name), dict):
            record.pop(name, None)
    for name in ("supervisor", "client"):
        known = record.get(name, {})
        if known and not (files.fits(known.get("pid"), (int,)) and known["pid"] > 0):
            del record[name]
    return record


def is_at_work(record: Record) -> bool:
    """Return whether a process of the run lives: its supervisor, or its client."""
    known = (record.get("supervisor") or {}, record.get("client") or {})
    return any(process.is_alive(each.get("pid"), each.get("identity")) for each in known)


def write(folder: str, record: Record) -> None:
    files.write_json(os.path.join(folder, "run.json"), record)


def put(path: str, data: bytes) -> None:
    """Put a file in place that a client starts from: whole or not at all, as `files.write_atomic`.

    Not flushed to the disk, for the client waits. Whoever is killed loses nothing by that. If the
    machine goes down, the record, which is flushed, says either that no client was started: then
    `prepare` writes all of it again. Or that one was: it is gone, and who reads this later, to tell
    what it was given, does without.
    """
    files.write_atomic(path, data, flush=False)


#: Seconds between two tries of a disk that takes nothing.
DISK_PAUSE = 0.5


def write_surely(folder: str, record: Record) -> None:
    """Write a record, waiting for as long as the disk takes nothing.

    For supervisors: what they know of their client's end nobody else can find out. Raises OSError
    for any other reason.
    """
    while True:
        try:
            write(folder, record)
            return
        except OSError as error:
            if error.errno not in disk.ERRORS:
                raise
        time.sleep(DISK_PAUSE)


def stop_reason(folder: str) -> str | None:
    """Return why a person wants the run to end; None when nobody does."""
    try:
        reason = files.read_regular(os.path.join(folder, STOP))
    except FileNotFoundError:
        return None
    return reason.decode(errors="replace").strip() or "stopped"


def ask_to_stop(folder: str, reason: str) -> None:
    """Leave word that the run is to end."""
    files.write_atomic(os.path.join(folder, STOP), reason.encode())
