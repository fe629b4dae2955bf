"""The machine's memory: whether it ran out; and what programs say without memory or space.

The waiting supervisor loads this module, so it imports nothing heavy.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from orchestrator.system import disk
from orchestrator.system.disk import Shortage

#: The stable word for this fault.
WORD = "out_of_memory"
HINT = "let fewer runs work at once (queue_limits.max_claimed), or give this machine more memory"
#: What programs say when they get no memory: strerror(3) in the C locale, git, Python and Java, the
#: shell's fork, Node.js, C++, Go, Rust, the dynamic linker, the kernel (too many files), and
#: make about a killed program.
SAID = (
    r"(?i:cannot allocate memory)|Out of memory, |MemoryError|fork: (retry: )?Resource"
    r"|heap out of memory|std::bad_alloc|runtime: out of memory"
    r"|memory allocation of \d+ bytes failed|failed to map segment from shared object"
    r"|Too many open files in system"
    r"|(?m:^make.*: \*\*\* .* Killed$)"
)
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


def shortage_since(kills_before: int | None) -> Shortage | None:
    """Return why programs failed, if the machine killed processes for lack of memory since then.

    `kills_before` is what `kills` returned at the beginning.
    """
    now = kills()
    if now is None or kills_before is None or now <= kills_before:
        return None
    why = f"this machine had no memory left, and killed processes: {now - kills_before}"
    return Shortage(WORD, why, HINT)


def named_in(text: str) -> str | None:
    """Return the word for the lack of space or memory that a program's output names."""
    import re

    if re.search(disk.SAID, text):
        return "disk_full"
    return WORD if re.search(SAID, text) else None
