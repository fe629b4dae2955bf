"""The interface of every kind of schedule, and the common code of the kinds that use files."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from glob import escape, glob

from orchestrator.model.annotations import ClassVar, Literal
from orchestrator.model.errors import OrchestratorError
from orchestrator.schedule.entry import Entry
from orchestrator.system import commands, files

#: Seconds for one call of a schedule's own program.
_TIMEOUT = 30.0
#: The state of an entry; `bare` means that its script is missing.
State = Literal["there", "changed", "bare", "gone"]


class Kind(ABC):
    """A kind of schedule, of the user whose environment this process has.

    Methods raise OrchestratorError if the schedule's own program refuses, and OSError.
    """

    #: The schedule's own program, and what to do on a machine without it.
    program: ClassVar[str]
    instead: ClassVar[str]
    #: How a long-lived token, in the variable `name`, reaches the clients of this schedule's ticks.
    token_place: ClassVar[str]

    def require(self) -> None:
        """Raise OrchestratorError if this kind of schedule is not available."""
        if shutil.which(self.program) is None:
            raise unavailable(f"this machine has no {self.program} program", self.instead)

    @abstractmethod
    def put(self, entry: Entry) -> list[str]:
        """Schedule the entry's script for each minute; return the changes."""

    @abstractmethod
    def take(self, name: str) -> list[str]:
        """Remove the entry of this name; return the changes."""

    @abstractmethod
    def has_any(self) -> bool:
        """Return whether any project of this user has an entry."""

    @abstractmethod
    def state(self, entry: Entry) -> State:
        """Return the state of the entry."""

    @abstractmethod
    def environment(self, name: str, token: str) -> dict[str, str]:
        """Return the variables that the schedule adds to an entry's bare environment.

        `token` is the variable of the client's token, for schedules that list no variables.
        """

    def warnings(self) -> list[str]:
        """Return warnings about a valid entry."""
        return []


class FileKind(Kind):
    """A schedule whose entries are files in one folder, which the schedule's own program loads."""

    #: Commands that succeed if an entry is loaded, that load it, that unload it, and that follow
    #: the removal of its files; with places for its `name`, the `folder` and the `user` (an id).
    check: ClassVar[str]
    load: ClassVar[tuple[str, ...]]
    unload: ClassVar[str]
    forget: ClassVar[str] = "true"

    @property
    @abstractmethod
    def folder(self) -> str: ...

    @abstractmethod
    def texts(self, entry: Entry) -> dict[str, bytes]:
        """Return the text of each file of an entry, by its path."""

    def put(self, entry: Entry) -> list[str]:
        if self.state(entry) == "there" and self._run(self.check, entry.name)[0]:
            return []
        self._run(self.unload, entry.name)
        os.makedirs(self.folder, exist_ok=True)
        texts = self.texts(entry)
        for path, text in texts.items():
            files.write_atomic(path, text, 0o644)
        for command in self.load:
            is_done, said = self._run(command, entry.name)
            if not is_done:
                self.take(entry.name)
                raise OrchestratorError(
                    f"`{command.split()[0]}` failed: {said}",
                    "use --schedule cron instead",
                    code="schedule_failed",
                )
        return list(texts)

    def take(self, name: str) -> list[str]:
        found = self._files(name)
        if found:
            self._run(self.unload, name)
            for path in found:
                files.remove(path)
            self._run(self.forget, name)
        return found

    def has_any(self) -> bool:
        return bool(self._files("?" * 12))

    def state(self, entry: Entry) -> State:
        if self._is(self.texts(entry)):
            return "there"
        return "changed" if self._files(entry.name) else "gone"

    def _is(self, texts: dict[str, bytes]) -> bool:
        return all(files.holds(path, text) for path, text in texts.items())

    def _files(self, name: str) -> list[str]:
        pattern = os.path.join(escape(self.folder), "**", f"*orchestrator?{name}.*")
        return sorted(path for path in glob(pattern, recursive=True) if not os.path.isdir(path))

    def _run(self, command: str, name: str) -> tuple[bool, str]:
        places = {"name": name, "folder": self.folder, "user": os.getuid()}
        return run(*(word.format(**places) for word in command.split()))


def run(*words: str) -> tuple[bool, str]:
    """Run a program; return whether it succeeded, and its output."""
    try:
        done = commands.run(words, cwd=os.sep, environment=os.environ, timeout=_TIMEOUT)
    except OSError as error:
        return False, error.strerror or str(error)
    return done.code == 0, (done.err.strip() or done.out.strip() or "no reason given")


def unavailable(message: str, hint: str) -> OrchestratorError:
    return OrchestratorError(message, hint, code="schedule_unavailable")
