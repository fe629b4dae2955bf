"""The memory of a supervisor that waits for its client, beside the bare interpreter asleep."""

from __future__ import annotations

import statistics
import subprocess
import time

from benchmarks.report import Aim, Broken, Row
from benchmarks.scratch import Scratch
from orchestrator.run import supervisor

ROUNDS = 3
AIM = Aim(20.0, of_ratio=False)
#: Seconds after which a waiting process holds what it will hold.
SETTLED = supervisor.SMALL_AFTER + 1.5


def measure(scratch: Scratch) -> list[Row]:
    """Return the rows of memory: resident, and what only this process holds."""
    agents = "agents:\n  - {name: one, role: implementer, interval_seconds: 0.001}\n"
    project = scratch.new_project(10, remote=True, config=agents)
    sleep = [scratch.plain, "-c", "import time; time.sleep(600)"]
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    for _ in scratch.rounds(ROUNDS):
        sleeper = scratch.start(sleep)
        task = project.add_task()
        _, tick = project.start_run(scratch.launcher_tick)
        time.sleep(SETTLED)
        record = project.run_of(task)
        if record.status != "running" or record.supervisor is None:
            raise Broken(f"the run of {task} is {record.status} while its client waits")
        ours.append(memory(record.supervisor.pid))
        bare.append(memory(sleeper))
        project.finish_run(task, tick)
    rows = []
    for key, name in (("Rss", "resident"), ("Pss", "its share (PSS)"), ("Private", "private")):
        if key not in ours[0]:
            continue
        figure, beside = (statistics.median(each[key] for each in side) for side in (ours, bare))
        aim = AIM if key == "Rss" else None
        against = "the bare interpreter asleep"
        rows.append(Row(f"waiting supervisor, {name}", figure, "MB", beside, against, aim))
    return rows


def memory(pid: int) -> dict[str, float]:
    """Return a process's memory in MB (2**20 bytes) by kind: Rss, and on Linux Pss and Private."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            kilobytes = {
                words[0].rstrip(":"): float(words[1]) for words in map(str.split, list(file)[1:])
            }
    except OSError:
        done = subprocess.run(
            ("ps", "-o", "rss=", "-p", str(pid)), capture_output=True, text=True, check=False
        )
        if not done.stdout.strip():
            raise Broken(f"the memory of process {pid} cannot be read") from None
        return {"Rss": float(done.stdout) / 1024}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    found = {"Rss": kilobytes["Rss"], "Pss": kilobytes["Pss"], "Private": private}
    return {name: amount / 1024 for name, amount in found.items()}
