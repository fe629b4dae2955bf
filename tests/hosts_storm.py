"""A storm over hosts that share a queue: hosts, processes, connections and the database fail."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable

import psutil
from harness import World
from postgresql import Cluster
from shared_hosts import LIMITS, Behind

NAMES = ("one", "two", "three")
#: Seconds for which a host is cut off by `cut_off`: longer than its lease.
CUT_OFF = 90.0
#: The settings of each host.
SETTINGS = {
    "agents": [World.agent(f"impl-{number}") for number in range(4)],
    "queue_limits": LIMITS,
    "retry": {"max_attempts": 50, "backoff_seconds": 0, "max_backoff_seconds": 1},
}


class Storm:
    """Deeds against the hosts of a test, which tick all the time."""

    def __init__(self, hosts: Behind, own: Cluster, seed: int) -> None:
        self.hosts, self._own, self.chance = hosts, own, random.Random(seed)
        #: How often each deed was done.
        self.done: dict[str, int] = {}
        self._cut_off: list[threading.Timer] = []
        hosts.interrupts = 10_000  # a killed host interrupts each of its runs
        hosts.begin(**SETTINGS)
        for name in NAMES[1:]:
            hosts.another(name, **SETTINGS)

    def rage(
        self, deeds: dict[str, int], seconds: float, pause: float, also: Callable[[], object]
    ) -> None:
        """Do deeds, each with its weight, for some seconds, with a pause after each.

        A tick comes after each half of it.
        """
        end = time.monotonic() + seconds
        with self.hosts.watched(), self.hosts.ticking(pause / 2):
            while time.monotonic() < end:
                time.sleep(pause)
                [deed] = self.chance.choices([*deeds], [*deeds.values()])
                self.done[deed] = self.done.get(deed, 0) + 1
                getattr(self, deed)()
                also()
            for timer in self._cut_off:
                timer.join()

    # --- the deeds ---

    def kill_host(self) -> None:
        name = self.chance.choice(NAMES)
        self.hosts.kill(self.hosts.named(name))
        self.hosts.heartbeat_stops(name)

    def _some_process(self) -> list[psutil.Process]:
        """Return a process of any host, if there is one."""
        found = [each for host in self.hosts.all for each in self.hosts.processes_of(host)]
        return [self.chance.choice(found)] if found else []

    def kill_process(self) -> None:
        for process in self._some_process():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def suspend(self) -> None:
        for process in self._some_process():
            with contextlib.suppress(psutil.Error):
                process.suspend()
                time.sleep(1)
                process.resume()

    def cut(self) -> None:
        self.hosts.proxy.cut()

    def silence(self) -> None:
        self.hosts.proxy.mute.add(name := f"orchestrator {self.chance.choice(NAMES)}")
        time.sleep(1)
        self.hosts.proxy.mute.discard(name)

    def cut_off(self) -> None:
        """Cut one host off for minutes, with its agents at work; no other host meanwhile."""
        if any(timer.is_alive() for timer in self._cut_off):
            return
        self.hosts.was_away = True
        mute = self.hosts.proxy.mute
        mute.add(name := f"orchestrator {self.chance.choice(NAMES)}")
        self._cut_off.append(threading.Timer(CUT_OFF, mute.discard, [name]))
        self._cut_off[-1].start()

    def restart(self) -> None:
        self._own.stop()
        time.sleep(0.5)
        self._own.start()

    def kill_database(self) -> None:
        self._own.kill()
        time.sleep(0.5)
        self._own.start()
