"""The shares of the account's usage windows, as the client reported them last.

`shared/usage.json`; only ticks write it, when they settle a run.
"""

from collections.abc import Mapping

from orchestrator.layout import Layout
from orchestrator.model.snapshot import UsageWindow
from orchestrator.system import files, records


def read(layout: Layout) -> dict[str, UsageWindow]:
    """Return the windows by name; those that cannot be read are left out."""
    found = files.read_json(layout.usage)
    pairs = found.items() if isinstance(found, Mapping) else ()
    built = {name: records.build(UsageWindow, value) for name, value in pairs}
    return {name: window for name, window in built.items() if window is not None}


def keep(layout: Layout, windows: Mapping[str, UsageWindow]) -> None:
    """Keep what a run reported; a window that it did not report stays as it is. Raises OSError."""
    if windows:
        files.write_json(layout.usage, records.plain({**read(layout), **windows}))
