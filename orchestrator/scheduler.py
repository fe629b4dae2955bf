"""`python orchestrator/orchestrator/scheduler.py`: the same as `orchestrator tick`."""

import os
import sys

if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from orchestrator.start import main

    sys.exit(main(["tick", *sys.argv[1:]]))
