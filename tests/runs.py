"""Run folders as a test wants them: `run.json` as JSON, without the rules that writing it has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from orchestrator.layout import Layout
from orchestrator.system import files


def record(layout: Layout, agent: str, run: str, **more: Any) -> dict[str, Any]:
    """Return the JSON of a run's record: that of a finished run without an outcome, and `more`."""
    found: dict[str, Any] = {"id": run, "agent": agent, "role": "implementer", "task": None}
    found |= {"created": 1000.0, "status": "finished", "steps": {}, "attempt": 1}
    found |= {"project": layout.root, "settings": {"name": agent, "role": "implementer"}}
    found["settings"]["position"] = 0
    return found | more


def lay_out(layout: Layout, agent: str, run: str, **more: Any) -> Path:
    """Make a run's folder with the record of that JSON; return the folder."""
    folder = layout.run(agent, run)
    os.makedirs(folder, exist_ok=True)
    files.write_json(os.path.join(folder, "run.json"), record(layout, agent, run, **more))
    return Path(folder)
