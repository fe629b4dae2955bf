"""Reads that several regions and several open pages share."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.page import changes
from orchestrator.page.commands import Answer, Commands

#: Seconds for which an answer may be shown again while nothing in the project changes.
BELIEVED = 1.0


class Remembered(Commands):
    """Commands whose answers are used again until something in the project changes."""

    def __init__(self, commands: Commands, layout: Layout) -> None:
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

    def text(self, words: str) -> str:
        return self._commands.text(words)

    def change(
        self, words: str, values: Mapping[str, object], subject: str | None = None
    ) -> Answer:
        return self._commands.change(words, values, subject)
