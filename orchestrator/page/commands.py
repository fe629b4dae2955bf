"""What the page asks of the command line: it reads, and changes, only through commands."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.annotations import Any, Protocol
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple


class Refused(OrchestratorError):
    """A command ended with an error; the fields are those of its `error` object."""


class Answer(NamedTuple):
    """What a command that changed something said."""

    #: What it prints with `--json`.
    value: Any
    #: The lines on its standard error: warnings.
    said: tuple[str, ...] = ()


class Commands(Protocol):
    """The commands of one project. Threads may call these at once.

    `words` name a command, as in `task add`; `subject` is its first positional argument; `values`
    are its other arguments by name, and the pairs of a command that takes `key=value`.
    """

    def read(
        self, words: str, values: Mapping[str, object] | None = None, subject: str | None = None
    ) -> Any:
        """Return what a read command prints with `--json`. Raises OrchestratorError."""

    def text(self, words: str) -> str:
        """Return what a read command prints. Raises OrchestratorError."""

    def change(
        self, words: str, values: Mapping[str, object], subject: str | None = None
    ) -> Answer:
        """Run a command that changes something, to its end. Raises OrchestratorError."""
