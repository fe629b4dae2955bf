"""`python -m benchmarks`: measure, and print the table. A missed aim is no failure."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable

from benchmarks import (
    at_once,
    claim_complete,
    client_start,
    commands,
    crowd,
    disk_use,
    finished_task,
    growth,
    idle_tick,
    landing,
    minute_tick,
    peers,
    report,
    scratch,
    slow_remote,
    waiting_supervisor,
)
from benchmarks.report import Broken, Row

MEASURES: dict[str, Callable[[scratch.Scratch], list[Row]]] = {
    # First: they wait for all children of this process, and later measures leave some at work.
    "growth": growth.measure,
    "commands": commands.measure,
    "idle": idle_tick.measure,
    "minute": minute_tick.measure,
    "task": finished_task.measure,
    "crowd": crowd.measure,
    "peers": peers.measure,
    "memory": waiting_supervisor.measure,
    "start": client_start.measure,
    "at_once": at_once.measure,
    "claim": claim_complete.measure,
    "landing": landing.measure,
    "remote": slow_remote.measure,
    # Last: it deletes many files, after which making some is slow for a while.
    "disk": disk_use.measure,
}
#: Seconds until it is given up; seconds for each loop; the share of each loop's rounds.
WHOLE = (1_800, 15.0, 1.0)
QUICK = (600, 2.0, 0.3)
#: One round of each loop.
SMOKE = (170, 0.0, 0.0)


class GivenUp(Exception):
    """The time is over, or somebody wants us to end: what was measured by then is shown."""


def main() -> int:
    """Measure what the command line names; return 1 only if a measurement itself broke."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measure", nargs="*", help=f"which: {', '.join(MEASURES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, some minutes")
    parser.add_argument(
        "--smoke", action="store_true", help="one round of a little: do the measures still work?"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--seconds",
        type=int,
        help=f"give up after this time (default: {WHOLE[0]:,}; less with --quick and --smoke)",
    )
    parser.add_argument("--folder", help="where to make the scratch folder (default: temporary)")
    arguments = parser.parse_args()
    unknown = set(arguments.measure) - MEASURES.keys()
    if unknown:
        parser.error(f"no measure named {', '.join(sorted(unknown))}")
    if arguments.folder and not os.path.isdir(arguments.folder):
        parser.error(f"there is no folder {arguments.folder}")
    limit, share, rounds = SMOKE if arguments.smoke else QUICK if arguments.quick else WHOLE
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _give_up)
    signal.alarm(arguments.seconds or limit)
    began = time.monotonic()
    rows: list[Row] = []
    broken: dict[str, str] = {}
    facts: dict[str, str] = {}
    try:
        with scratch.entered(arguments.folder, rounds, share) as here:
            facts = scratch.machine_facts(here)
            for name in arguments.measure or MEASURES:
                if sys.stderr.isatty():
                    print(f"measuring {name} ...", file=sys.stderr)
                try:
                    rows += MEASURES[name](here)
                except Broken as error:
                    broken[name] = str(error)
    except (Broken, GivenUp) as error:
        broken["all"] = str(error)
    facts["took"] = f"{time.monotonic() - began:.0f} s"
    _show(facts, rows, broken, as_json=arguments.json)
    return 1 if broken else 0


def _give_up(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise GivenUp("it took too long" if number == signal.SIGALRM else "it was ended")


def _show(facts: dict[str, str], rows: list[Row], broken: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        records = [row.record() for row in rows]
        print(json.dumps({"facts": facts, "rows": records, "broken": broken}, indent=1))
        return
    for name, fact in facts.items():
        print(f"{name + ':':9} {fact}")
    if rows:
        print(f"\n{report.table(rows)}")
    for name, why in broken.items():
        print(f"\nBROKEN {name}: {why}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
