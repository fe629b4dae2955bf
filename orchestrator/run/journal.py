"""A run's folder as its supervisor uses it: the record, and how the client is started.

The waiting supervisor loads this module, so it imports nothing heavy.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import os
import time
from collections.abc import Mapping

from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Outcome
from orchestrator.project import run_record
from orchestrator.project.run_record import RunRecord
from orchestrator.system import disk, files, records


class Plan(NamedTuple):
    """How the client is started: `launch.json`, which holds no secret."""

    argv: tuple[str, ...]
    cwd: str
    #: Variables that are added to those of the supervisor.
    environment: Mapping[str, str]
    #: The file that is the client's standard input.
    stdin: str = os.devnull
    #: The client's name.
    client: str | None = None
    #: Variables of the supervisor that the client gets although they look like secrets.
    allow: tuple[str, ...] = ()


class Journal:
    """A run's folder and record. Only the run's supervisor writes the record."""

    #: Seconds between two attempts to write to a full disk.
    PAUSE = 0.5

    def __init__(self, folder: str, record: RunRecord) -> None:
        self.folder = folder
        self.record = record

    def path(self, name: str) -> str:
        """Return the path of a file in the run's folder."""
        return os.path.join(self.folder, name)

    def put(self, name: str, data: bytes) -> None:
        """Write a file that the client needs, atomically, but do not flush it to the disk.

        The client waits for these files. After a power cut the record, which is flushed, says
        either that no client was started, and then the files are written again, or that a client
        was started, and this client is gone.
        """
        files.write_atomic(self.path(name), data, flush=False)

    def plan(self) -> Plan | None:
        """Return how the run's client was started; None if no client was started."""
        return records.build(Plan, files.read_json(self.path(run_record.LAUNCH)))

    def write(self, record: RunRecord) -> None:
        """Write a new state of the record. Raises as `run_record.write`."""
        self.record = record
        run_record.write(self.folder, record)

    def write_surely(self, record: RunRecord) -> None:
        """Write a new state of the record; wait while the disk is full or read-only.

        Only the supervisor knows how its client ended: without the record, that is lost.
        """
        while True:
            try:
                self.write(record)
                return
            except OSError as error:
                if error.errno not in disk.ERRORS:
                    raise
            time.sleep(self.PAUSE)

    def finish(self, outcome: Outcome) -> None:
        """Record how the run ended, without secrets. From then on, only ticks act on the run."""
        from orchestrator.guard import secret_shapes

        outcome, now = secret_shapes.without_secrets(outcome), time.time()
        self.write_surely(self.record._replace(outcome=outcome, finished=now, status="finished"))
