"""What the page asks of the command line: it reads, and changes, only through commands."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from orchestrator.layout import Layout
from orchestrator.model.annotations import Any, Protocol
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.page import changes

#: Seconds for which an answer may be shown again while nothing in the project changes.
BELIEVED = 1.0


class Refused(OrchestratorError):
    """A command ended with an error; the fields are those of its `error` object."""


class Answer(NamedTuple):
    """What a command that changed something said."""

    #: What it prints with `--json`.
    value: Any
    #: The lines on its standard error: warnings.
    said: tuple[str, ...] = ()


class Reads(Protocol):
    """The read commands of one project. Threads may call these at once.

    `words` name a command, as in `task add`; `subject` is its first positional argument; `values`
    are its other arguments by name, and the pairs of a command that takes `key=value`.
    """

    def read(
        self, words: str, values: Mapping[str, object] | None = None, subject: str | None = None
    ) -> Any:
        """Return what a read command prints with `--json`. Raises OrchestratorError."""


class Commands(Reads, Protocol):
    """All commands of one project, with the parameters of `Reads`."""

    def text(self, words: str) -> str:
        """Return what a read command prints. Raises OrchestratorError."""

    def change(
        self, words: str, values: Mapping[str, object], subject: str | None = None
    ) -> Answer:
        """Run a command that changes something, to its end. Raises OrchestratorError."""


class Remembered(Reads):
    """Reads whose answers are used again until something in the project changes."""

    def __init__(self, commands: Reads, layout: Layout) -> None:
        self._commands, self._layout = commands, layout
        self._answers: dict[object, tuple[float, changes.Marks, Any]] = {}
        self._locks: dict[object, threading.Lock] = {}

    def read(
        self, words: str, values: Mapping[str, object] | None = None, subject: str | None = None
    ) -> Any:
        key = words, subject, repr(sorted((values or {}).items()))
        # Whoever asks for the same at the same time waits for the one answer.
        with self._locks.setdefault(key, threading.Lock()):
            marks, now = changes.marks(self._layout), time.monotonic()
            at, before, value = self._answers.get(key, (0.0, None, None))
            if before == marks and now - at <= BELIEVED:
                return value
            value = self._commands.read(words, values, subject)
            if len(self._answers) > 200:
                self._answers.clear()
                self._locks.clear()
            self._answers[key] = now, marks, value
            return value
