"""The entry point of `bin/orchestrator`, `python -m orchestrator` and the product's own processes.

Python compiles the file that it is started with at each start, so this file is short: the bytecode
of `start.py` is kept.
"""

import os
import sys

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
if not __package__ and os.path.dirname(_PACKAGE) not in sys.path:
    # Run by path: the package's own folder must not be on the path, its parent must.
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != _PACKAGE]
    sys.path.insert(0, os.path.dirname(_PACKAGE))

from orchestrator.start import run  # noqa: E402

if __name__ == "__main__":
    run()
