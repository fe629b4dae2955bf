"""Modules that are loaded when they are used: a command pays only for what it does."""

import sys


class Later:
    """Stands for a module of this program, and loads it when one of its names is used.

    For type checkers, and for readers, the module is imported beside it as usual:

        if TYPE_CHECKING:
            from orchestrator.git import repository
        else:
            repository = Later("git.repository")
    """

    def __init__(self, name: str) -> None:
        self._name = f"orchestrator.{name}"

    def __getattr__(self, name: str) -> object:
        __import__(self._name)
        return getattr(sys.modules[self._name], name)
