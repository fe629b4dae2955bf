"""What one tick did: its actions, and what went wrong with each of them."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Action, Problem
from orchestrator.system import disk, memory


class Report:
    """What a tick did. `held` means that another tick was active, and this tick did nothing."""

    def __init__(
        self,
        actions: Iterable[Action] = (),
        problems: Iterable[Problem] = (),
        *,
        held: bool = False,
        good: bool = True,
    ) -> None:
        self.actions = list(actions)
        self.problems = list(problems)
        self.held = held
        #: False when the configuration is broken or one of the tick's actions failed.
        self.good = good
        #: An unexpected exception: the command line writes it to a log.
        self.bug: Exception | None = None

    def apply(self, action: Action, act: Callable[[Action], Action | None]) -> None:
        """Apply one action alone: an error is recorded on it and does not stop other actions."""
        try:
            done = act(action)
            if done is not None:
                self.actions.append(done)
        except Exception as error:  # a bad task, agent or branch must not stop others (failures 14)
            self.note(" ".join(filter(None, (action.action, action.agent, action.task))), error)
            self.good = False
            if not isinstance(error, OrchestratorError | OSError | MemoryError):
                self.bug = error
            if action.action == "start":
                self.actions.append(action._replace(action="skip", reason="system_fault"))

    def note(self, what: str, error: Exception) -> None:
        """Report an error as a problem of `what`."""
        self.problems.append(_problem(what, error))

    @contextlib.contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Report an error that is no bug as a problem of `what`; the tick goes on after it."""
        try:
            yield
        except (OSError, OrchestratorError) as error:
            self.note(what, error)


def _problem(what: str, error: Exception) -> Problem:
    if isinstance(error, OrchestratorError):
        return Problem(error.code, f"{what}: {error.message}", error.hint)
    if isinstance(error, MemoryError):
        return Problem(memory.WORD, f"{what}: this process could not get more memory", memory.HINT)
    if isinstance(error, OSError):
        said, hint = disk.explained(error)
        return Problem("system_fault", f"{what}: {said}", hint)
    return Problem("bug", f"{what}: {type(error).__name__}: {error}", "please report this")
