"""The shares of the account's usage windows, as the client reported them last.

`shared/usage.json`; only ticks write it, when they settle a run.
"""

from collections.abc import Mapping

from orchestrator.layout import Layout
from orchestrator.model.snapshot import UsageWindow
from orchestrator.system import files, records

#: Seconds after which a usage limit is tried again, whenever it is said to reset: longer than any
#: window of the service. A reset that is wrong, or that a wrong clock met, would stop everything.
LONGEST_LIMIT = 32 * 86400.0


def read(layout: Layout) -> dict[str, UsageWindow]:
    """Return the windows by name; those that cannot be read are left out."""
    found = files.read_json(layout.usage)
    pairs = found.items() if isinstance(found, Mapping) else ()
    built = {name: records.build(UsageWindow, value) for name, value in pairs}
    return {name: window for name, window in built.items() if window is not None}


def keep(layout: Layout, windows: Mapping[str, UsageWindow], now: float) -> None:
    """Keep what a run reported; a window that it did not report stays as it is. Raises OSError.

    `now` is epoch seconds: a window counts as reset `LONGEST_LIMIT` seconds later at the latest.
    """
    if windows:
        latest = now + LONGEST_LIMIT
        new = {n: w._replace(resets=min(w.resets, latest)) for n, w in windows.items()}
        files.write_json(layout.usage, records.plain({**read(layout), **new}))
