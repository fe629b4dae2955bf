"""The project's events: what was done, one JSON line each, in the order it was done."""

from __future__ import annotations

import json

from orchestrator import files
from orchestrator.layout import Layout
from orchestrator.model import iso


def append(layout: Layout, at: float, word: str, **fields: object) -> None:
    """Append an event of the time `at` (seconds since the epoch); what is None is left out."""
    kept = {name: value for name, value in fields.items() if value is not None}
    line = json.dumps({"at": iso(at), "event": word, **kept}, ensure_ascii=False)
    # A lone surrogate (a file name that is not UTF-8, say) could not be written.
    files.append_line(layout.events, line.encode("utf-8", "replace").decode())
