"""The machine's memory: whether it ran out.

The waiting supervisor loads this module, so it imports nothing heavy.
"""

# No `from __future__ import annotations`, for the reason that `model` gives.

#: The stable word for this fault.
WORD = "out_of_memory"
#: What programs say when they got no memory: strerror(3) in the C locale, git, Python, the shell's
#: fork. A program that passes its own limit ("heap out of memory") does not show a lack of memory.
SAID = ("Cannot allocate memory", "Out of memory, ", "MemoryError", "fork: retry: Resource")
#: Linux counts the processes that it killed because no memory was left (vm/vmstat.c).
_COUNTERS = "/proc/vmstat"


def kills() -> int | None:
    """Return how many processes this machine has killed for lack of memory since it started.

    None where the system does not count them.
    """
    try:
        with open(_COUNTERS, encoding="ascii") as file:
            rows = (line.split() for line in file)
            return next((int(row[1]) for row in rows if row[0] == "oom_kill"), None)
    except (OSError, ValueError):
        return None
