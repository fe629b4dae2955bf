"""Plays the demonstration: ticks as cron would make them, until everything is settled.

The scheduler, the runs and the agents are processes of their own; this one starts ticks and looks.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.demo.project import MARK, Place
from orchestrator.demo.story import Scene, Story
from orchestrator.project import agent_memory

if TYPE_CHECKING:
    import psutil

#: Seconds between two ticks' starts, and between two looks.
TICK_EVERY = 0.5
LOOK_EVERY = 0.2
#: Seconds that a demonstration may take.
LIMIT = 120.0
#: So many failed ticks in a row, and it is over too.
TICKS_TO_GIVE_UP = 20
#: Seconds that the last processes get to end by themselves, and then when asked to.
LAST_STEPS = 10.0
GRACE = 2.0
#: Seconds for one `orchestrator stop --all`, and how often it is tried.
STOP_TIMEOUT = 60.0
STOP_TRIES = 3


class Play:
    """One demonstration under way. As a context manager it leaves no process behind."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._story = Story(place.layout)
        self._tick: subprocess.Popen[bytes] | None = None
        self._ticked = float("-inf")
        self._settled = False
        #: How many ticks in a row failed, up to the last one.
        self.failed_ticks = 0

    def __enter__(self) -> Play:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._end()
        except KeyboardInterrupt:  # somebody is in a hurry
            self._signal_all("kill")
            raise

    def scenes(self) -> Iterator[Scene]:
        """Keep the ticks coming and yield what is seen, until all is settled or hope is gone."""
        while True:
            self._keep_ticking()
            scene = self._story.look()
            self._settled = scene.settled
            yield scene
            if scene.settled or scene.seconds > LIMIT or self.failed_ticks >= TICKS_TO_GIVE_UP:
                return
            time.sleep(LOOK_EVERY)

    def _keep_ticking(self) -> None:
        """Start a tick each half second, as cron does each minute."""
        now = time.monotonic()
        if now - self._ticked < TICK_EVERY:
            return
        if self._tick is not None:
            code = self._tick.poll()
            if code is None:
                return
            self.failed_ticks = self.failed_ticks + 1 if code else 0
        self._ticked = now
        with open(os.path.join(self._place.folder, "ticks.log"), "ab") as log:
            self._tick = subprocess.Popen(
                self._place.command("tick"),
                cwd=self._place.root,
                env=self._place.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, who then end everything in order
            )

    def _end(self) -> None:
        """End every run that is left, and wait for all processes of the demonstration."""
        if not self._settled:
            if self._tick is not None:
                self._tick.wait(STOP_TIMEOUT)
            # A tick that was under way when we paused may have started one more run.
            for _ in range(STOP_TRIES):
                self._stop_all()
                if not self._running():
                    break
        if not self._gone_within(LAST_STEPS):
            self._signal_all("terminate")
        if not self._gone_within(GRACE):
            self._signal_all("kill")

    def _running(self) -> bool:
        layout = self._place.layout
        return any(agent_memory.read(layout, name).run for name in agent_memory.names(layout))

    def _stop_all(self) -> None:
        """Pull the emergency brake, as a person would."""
        subprocess.run(
            self._place.command("stop", "--all"),
            cwd=self._place.root,
            env=self._place.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=STOP_TIMEOUT,
            start_new_session=True,
            check=False,
        )

    def _signal_all(self, how: str) -> None:
        import psutil

        for one in self._processes():
            with contextlib.suppress(psutil.Error):
                getattr(one, how)()

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _processes(self) -> list[psutil.Process]:
        """Return the living processes that carry the demonstration's mark."""
        import psutil

        if self._tick is not None:
            self._tick.poll()  # takes its exit status
        found = []
        for one in psutil.process_iter():
            try:
                ours = one.pid != os.getpid() and one.environ().get(MARK) == self._place.folder
                if ours and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
            except (psutil.Error, OSError):
                continue
        return found
