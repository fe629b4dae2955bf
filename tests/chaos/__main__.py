"""`make chaos`: storms for some seconds, with figures; the first that is broken ends it."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from chaos import deeds, storm

#: Deeds of one storm. More storms find more than longer ones: each has its own project.
DEEDS = 60


def main(words: list[str]) -> int:
    """Play storms; return 1 if one is broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="no storm begins after these")
    parser.add_argument("--seed", default="", help="replays the same storms; else a new one")
    parser.add_argument("--deeds", type=int, default=DEEDS, help="deeds per storm")
    parser.add_argument("--on", action="store_true", help="go on after a storm that is broken")
    given = parser.parse_args(words)
    # Also a storm that is stopped ends its processes and gives its disk back.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("stopped"))
    first = given.seed or f"{int(time.time())}-0"
    name, _, number = first.rpartition("-")
    if not name:
        name, number = number, "0"
    return _storms(name, int(number), given.seconds, given.deeds, given.on)


def _storms(name: str, number: int, seconds: float, count: int, on: bool) -> int:
    if os.geteuid() != 0:
        print(f"Left out, because it needs root: {', '.join(deeds.ROOT)}")
    began, figures, broken = time.monotonic(), Counter[str](), 0
    while not broken or on:
        if figures["storms"] and time.monotonic() - began > seconds:
            break
        report = storm.play(f"{name}-{number}", Path(tempfile.mkdtemp(prefix="chaos-")), count)
        figures["storms"] += 1
        figures.update(report.figures)
        _tell(report)
        broken += bool(report.wrong)
        number += 1
    _sum_up(figures, time.monotonic() - began, broken)
    return int(bool(broken))


def _tell(report: storm.Report) -> None:
    """Print one line for a storm; of one that is broken, everything that finds the reason."""
    figures = report.figures
    print(
        f"storm {report.seed}: {'BROKEN' if report.wrong else 'ok'}, {report.seconds:.0f} s, "
        f"{figures['runs']} runs, {figures['kills']} kills, "
        f"rest after {figures['ticks to rest']} ticks",
        flush=True,
    )
    if not report.wrong:
        shutil.rmtree(report.folder)
        return
    print((report.folder / "story.txt").read_text())
    print(f"The project is kept in {report.folder}")
    print(f"To play it again: make chaos SEED={report.seed} SECONDS=0")
    print("The same seed decides the same; which process it meets is the system's choice.")


def _sum_up(figures: Counter[str], seconds: float, broken: int) -> None:
    kinds = {name: figures.pop(name, 0) for name in deeds.WEIGHTS}
    print(f"{figures.pop('storms')} storms in {seconds:.0f} s, {broken} broken")
    print(", ".join(f"{name}: {count}" for name, count in sorted(figures.items())))
    print(", ".join(f"{name}: {count}" for name, count in kinds.items() if count))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
