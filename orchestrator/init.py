"""`python orchestrator/orchestrator/init.py`: the same as `orchestrator init`."""

from __future__ import annotations

import os
import sys


def run() -> int:
    # Run by path: the package's own folder must not be on the path, its parent must.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from orchestrator.start import main

    return main(["init", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(run())
